"""Denoising by spectral gating: what does not rise above the noise of the clip's own quiet moments is turned down."""

from __future__ import annotations

import numpy as np

from helpers.base import AudioError

# Window of the gate, seconds (rounded to a power of two of samples); steps are a quarter of it.
WINDOW_SECONDS = 0.046
# The noise is what the quietest quarter of all blocks of 0.2 s sounds like.
BLOCK_SECONDS, QUIET_SHARE = 0.2, 0.25
# Amplitude left of what counts as noise, -20 dB: a steady sound (rain, an engine) may be all there is in the clip.
FLOOR = 0.1
# Standard deviations (in dB, per frequency) that a sound must rise above the mean level of the noise.
N_STD = 2.25
# The gate is smoothed over this many of its frequencies; the library's 500 Hz would shut out the harmonics of a voice.
SMOOTH_BINS, SMOOTH_MS = 2, 50
# One step of 16 bits: what stays below is digital silence, padding rather than a recording's noise.
_SILENCE = 2.0**-15


def denoise(y: np.ndarray, sr: int) -> np.ndarray:
    """Turn the steady noise of one clip down by up to 20 dB.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)], float
        Mono samples, full scale at ±1.
    sr : int
        Their sampling rate, Hz.

    Returns
    -------
    np.ndarray [shape=(n,)], float32
        The same for the same samples, whatever else runs. A clip with less than 0.8 s of sound comes back as it is:
        that is too little to tell noise from sound, and silence stays silence.

    Raises
    ------
    AudioError
        More than one channel, or values that are no numbers.

    Notes
    -----
    Stationary gating of the package noisereduce (Sainburg 2019), with a noise profile of our own. Nobody tells us what
    the noise of a clip sounds like, so it is looked for where the clip is quietest, digital silence left out. Measured
    on harmonic and hissing sounds of 0.1 to 3 s in 5 s of white, pink or brown noise 10 dB below, that keeps the sounds
    within 3 dB and takes 17 to 21 dB from the pauses. The two ways of the package lose 10 to 20 dB of a sound of 3 s:
    non-stationary gating (above a running mean over 2 s) and stationary gating with the whole clip as its profile both
    take the sound itself for noise. The price: noise that swells within the clip is reduced less (7 to 13 dB where it
    grows by 12 dB). Used by notebook 04, through `helpers.features`.
    """
    if y.ndim != 1 or not np.isfinite(y).all():
        raise AudioError(f"denoise wants mono samples of shape (n,), all of them numbers, not {y.dtype} {y.shape}.")
    noise = _quiet_parts(y, sr)
    if noise is None:
        return y.astype(np.float32)
    from noisereduce import reduce_noise  # not needed, so not loaded, unless a clip is denoised

    n_fft = 2 ** round(np.log2(WINDOW_SECONDS * sr))
    # Mirrored ends: beyond zeros the smoothed gate would fade every clip in and out.
    padded = np.pad(y.astype(np.float64), 2 * n_fft, mode="reflect")
    denoised = reduce_noise(
        padded,
        sr,
        stationary=True,
        y_noise=noise,
        prop_decrease=1.0 - FLOOR,
        n_std_thresh_stationary=N_STD,
        freq_mask_smooth_hz=(SMOOTH_BINS + 0.5) * sr / n_fft,  # it rounds down
        time_mask_smooth_ms=SMOOTH_MS,
        n_fft=n_fft,
        chunk_size=None,  # in one piece: no temporary files, no workers
        padding=0,
    )
    return denoised[2 * n_fft : -2 * n_fft].astype(np.float32)


def _quiet_parts(y: np.ndarray, sr: int) -> np.ndarray | None:
    """The quietest quarter of the blocks that are not digital silence, one after another; None if there are too few."""
    parts = 10  # silence is looked for in tenths of a block: a block that is half padding is no noise either
    size = max(1, round(BLOCK_SECONDS * sr / parts)) * parts
    n_blocks = len(y) // size
    blocks = y[: n_blocks * size].astype(np.float64).reshape(n_blocks, size)
    peaks = np.abs(blocks).reshape(n_blocks, parts, size // parts).max(axis=2)
    blocks = blocks[peaks.min(axis=1) > _SILENCE]
    n_quiet = int(QUIET_SHARE * len(blocks))
    if not n_quiet:
        return None
    quietest = np.argsort(np.square(blocks).mean(axis=1), kind="stable")[:n_quiet]
    return blocks[np.sort(quietest)].ravel()
