"""Two ways to hear as an ear does: bands of a gammatone filter bank, and steady noise turned down."""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
import scipy.signal

# The noise of a clip is what the quietest quarter of all blocks of 0.2 s sounds like.
_BLOCK_SECONDS, _QUIET_SHARE = 0.2, 0.25
# One step of 16 bits: what stays below is digital silence, padding rather than a recording's noise.
_SILENCE = 2.0**-15


@functools.lru_cache(maxsize=8)
def gammatone_bands(sr: int, n_fft: int, n_bands: int) -> np.ndarray:
    """Weights [shape=(n_bands, 1 + n_fft/2)] that turn a power spectrogram into the mean power behind each filter.

    Filters are spaced evenly on the ear's ERB scale (Glasberg and Moore 1990) between 50 Hz and sr/2; a full-scale
    sine in the middle of a band gives 0.5, to 0.3 dB. An approximation: below 200 Hz up to 0.6 dB less, as a filter's
    ringing is not carried into the next frames (D. Ellis, "Gammatone-like spectrograms", 2009), and above 0.9 of sr/2
    up to 3 dB less, as SciPy's filters are weaker there.
    """
    erb = np.linspace(*(21.4 * np.log10(1.0 + 0.00437 * np.array([50.0, sr / 2]))), n_bands + 2)[1:-1]
    centres = (10.0 ** (erb / 21.4) - 1.0) / 0.00437
    filters = [scipy.signal.gammatone(centre, "fir", numtaps=n_fft, fs=sr)[0] for centre in centres]
    response = np.abs(scipy.fft.rfft(np.stack(filters), axis=1)) ** 2
    window = scipy.signal.get_window("hann", n_fft)
    # Parseval: twice for the negative frequencies, over n_fft for the transform, over the energy of the window.
    return (response * (2.0 / (n_fft * np.sum(window**2)))).astype(np.float32)


def denoise(y: np.ndarray, sr: int) -> np.ndarray:
    """Turn the steady noise of mono samples `y` [shape=(n,)] down by up to 20 dB; float32.

    Stationary spectral gating (noisereduce, Sainburg 2019) against the noise of the clip's own quietest moments. A clip
    with less than 0.8 s of sound comes back as it is: that is too little to tell noise from sound.
    """
    noise = _quiet_parts(y, sr)
    if noise is None:
        return y.astype(np.float32)
    from noisereduce import reduce_noise  # not needed, so not loaded, unless a clip is denoised

    n_fft = 2 ** round(np.log2(0.046 * sr))
    denoised = reduce_noise(
        # Mirrored ends: beyond zeros the smoothed gate would fade every clip in and out.
        np.pad(y.astype(np.float64), 2 * n_fft, mode="reflect"),
        sr,
        stationary=True,
        y_noise=noise,
        prop_decrease=0.9,  # 20 dB and no more: a steady sound (rain, an engine) may be all there is in the clip
        n_std_thresh_stationary=2.25,  # standard deviations that a sound must rise above the noise, per frequency
        # Two of its frequencies (it rounds down): the library's 500 Hz would shut out the harmonics of a voice.
        freq_mask_smooth_hz=2.5 * sr / n_fft,
        time_mask_smooth_ms=50,
        n_fft=n_fft,
        chunk_size=None,  # in one piece: no temporary files, no workers
        padding=0,
    )
    return denoised[2 * n_fft : -2 * n_fft].astype(np.float32)


def _quiet_parts(y: np.ndarray, sr: int) -> np.ndarray | None:
    """The quietest quarter of the blocks that are not digital silence, one after another; None if there are too few."""
    parts = 10  # silence is looked for in tenths of a block: a block that is half padding is no noise either
    size = max(1, round(_BLOCK_SECONDS * sr / parts)) * parts
    blocks = y[: len(y) // size * size].astype(np.float64).reshape(-1, size)
    peaks = np.abs(blocks).reshape(len(blocks), parts, size // parts).max(axis=2)
    blocks = blocks[peaks.min(axis=1) > _SILENCE]
    n_quiet = int(_QUIET_SHARE * len(blocks))
    if not n_quiet:
        return None
    quietest = np.argsort(np.square(blocks).mean(axis=1), kind="stable")[:n_quiet]
    return blocks[np.sort(quietest)].ravel()
