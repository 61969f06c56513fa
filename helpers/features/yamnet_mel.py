"""The spectrogram YAMNet reads."""

from __future__ import annotations

import functools

import numpy as np
import scipy.signal

SR = 16000
N_FFT = 512
WINDOW = 400  # samples: 25 ms
HOP_LENGTH = 160  # samples: 10 ms
N_MELS = 64
PATCH = 96  # frames the network sees at once
PATCH_HOP = 48  # frames from one patch to the next
PATCH_SAMPLES = WINDOW + (PATCH - 1) * HOP_LENGTH  # 15,600 samples, 0.975 s
PATCH_HOP_SAMPLES = PATCH_HOP * HOP_LENGTH


def n_patches(n_samples: int) -> int:
    """Patches of a clip of `n_samples` samples; the last one is filled up with zeros, so that nothing is left unheard.

    Used by `log_mel` and `helpers.yamnet`.
    """
    return 1 + max(0, -(-(n_samples - PATCH_SAMPLES) // PATCH_HOP_SAMPLES))


def n_frames(n_samples: int) -> int:
    """Frames of a clip of `n_samples` samples.

    Used by `helpers.features`.
    """
    return PATCH + (n_patches(n_samples) - 1) * PATCH_HOP


def pad(y: np.ndarray) -> np.ndarray:
    """Pad `y` [shape=(n,)] with zeros to a whole number of patches."""
    wanted = PATCH_SAMPLES + (n_patches(len(y)) - 1) * PATCH_HOP_SAMPLES
    return np.pad(y, (0, wanted - len(y)))


def log_mel(y: np.ndarray) -> np.ndarray:
    """Compute YAMNet's input.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Mono samples at 16 kHz, full scale at ±1.

    Returns
    -------
    np.ndarray [shape=(64, n_frames)], float32
        Natural logarithm of 0.001 plus the magnitude in 64 bands from 125 to 7,500 Hz; 96 + 48 k frames of 10 ms, for
        k + 1 patches.

    Notes
    -----
    Differs from librosa's log-mel in all respects: windows are not centred, magnitudes not squared, bands on the HTK
    scale and not normalised, no decibels. Defined by Plakal and Ellis with YAMNet (2019). Used by notebook 04 through
    `helpers.yamnet_model`.
    """
    frames = np.lib.stride_tricks.sliding_window_view(pad(y), WINDOW)[::HOP_LENGTH]
    spectrum = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", WINDOW), N_FFT))
    return np.log(spectrum @ mel_bands() + 0.001).T.astype(np.float32)


@functools.lru_cache(maxsize=1)
def mel_bands() -> np.ndarray:
    """Weights of the 64 bands: triangles on the HTK mel scale, 125 to 7,500 Hz, each with a peak of 1.

    Returns
    -------
    np.ndarray [shape=(257, 64)], float64

    Notes
    -----
    As TensorFlow's `linear_to_mel_weight_matrix`, whose triangles are straight in mel, where librosa's are straight in
    Hz. Used by `log_mel`.
    """
    mel = _mel(np.linspace(0, SR / 2, 1 + N_FFT // 2))[:, np.newaxis]
    edges = np.linspace(_mel(125.0), _mel(7500.0), N_MELS + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of the signal belongs to no band
    return weights


def _mel(hz):
    return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)
