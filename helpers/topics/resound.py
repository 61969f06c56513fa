"""Hear what a map marks: the fifth of a recording that it points at, turned back into sound."""

from __future__ import annotations

import librosa
import numpy as np
from scipy.ndimage import convolve1d, uniform_filter1d

from helpers.base import CourseError
from helpers.features import FeatureSpec
from helpers.features.bands import gammatone_bands
from helpers.topics.inside import stretched

_SHARE = 0.2  # of the places of a map that is kept
# Saliency of single samples flickers with the waveform; over 20 ms (50 Hz) its contributions add up.
_SMOOTH_SECONDS, _FADE_SECONDS = 0.02, 0.01


def keep_times(y: np.ndarray, sr: int, saliency: np.ndarray) -> np.ndarray:
    """Keep the moments of y [shape=(n,)] that a map of any length marks most strongly; the rest becomes silence.

    The map is averaged over 20 ms; what is not positive after that is never kept, and of equals the earliest. The edges
    are raised cosines of 10 ms.
    """
    size = round(_SMOOTH_SECONDS * sr)
    mask = _strongest(uniform_filter1d(stretched(saliency.astype(np.float64), y.shape), size, mode="reflect"))
    # A half sine slid over the edges of a mask makes them raised cosines.
    length = 2 * round(_FADE_SECONDS * sr / 2) + 1
    slope = np.sin(np.pi * (np.arange(length) + 0.5) / length)
    return (y * convolve1d(mask.astype(np.float64), slope / slope.sum(), mode="nearest")).astype(np.float32)


def keep_bands(y: np.ndarray, sr: int, saliency: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Keep the times and frequencies of y [shape=(spec.n_samples,)] that a map [shape=(bands, frames)] marks most.

    A mask on the short-time Fourier transform, the phases kept, and back (Griffin and Lim 1984). A frequency between
    bands is kept by the share of its filters' weights that belongs to bands kept. CourseError if the values of `spec`
    are no bands of a spectrogram.
    """
    if spec.kind not in ("logmel", "stft", "gammatone"):
        raise CourseError(
            f"A map over {spec.kind!r} cannot be turned back into sound: its places are not the times and bands of a "
            "spectrogram. Explain a network that reads logmel, stft or gammatone."
        )
    mask = _strongest(stretched(saliency.astype(np.float64), spec.shape))
    spectrum = librosa.stft(y, n_fft=spec.n_fft, hop_length=spec.hop_length)
    spectrum *= mask if spec.kind == "stft" else _spread(spec) @ mask
    return librosa.istft(spectrum, n_fft=spec.n_fft, hop_length=spec.hop_length, length=len(y)).astype(np.float32)


def _strongest(values: np.ndarray) -> np.ndarray:
    """Mask of the fifth of all places with the largest values, and only positive ones."""
    # Rounded, so that places meant to be equal do not differ by the last bits of their sums.
    flat = np.round(values.ravel() / (np.abs(values).max() or 1.0), 9)
    mask = np.zeros(flat.shape, dtype=bool)
    mask[np.argsort(-flat, kind="stable")[: round(_SHARE * flat.size)]] = True
    return (mask & (flat > 0)).reshape(values.shape)


def _spread(spec: FeatureSpec) -> np.ndarray:
    """What each band contributes to each frequency [shape=(1 + n_fft/2, bands)]; rows add up to 1."""
    if spec.kind == "logmel":
        filters = librosa.filters.mel(sr=spec.sr, n_fft=spec.n_fft, n_mels=spec.n_mels)
    else:
        filters = gammatone_bands(spec.sr, spec.n_fft, spec.n_mels)
    total = filters.sum(axis=0, dtype=np.float64)
    covered = np.flatnonzero(total > 0)
    nearest = covered[np.abs(np.arange(len(total))[:, None] - covered).argmin(axis=1)]  # outside all filters
    return (filters / np.where(total > 0, total, 1.0)).T[nearest]
