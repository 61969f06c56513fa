"""Hear what a map marks: the part of a recording it points at, turned back into sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.base import CourseError
from helpers.features.gammatone import gammatone_bands

if TYPE_CHECKING:
    from helpers.features import FeatureSpec

# Saliency of single samples flickers with the waveform; over 20 ms (50 Hz) its contributions add up.
SMOOTH_SECONDS = 0.02
_NO_SOUND = {
    "mfcc": "each coefficient is a sum over all bands, so a place in the map is no place in the sound",
    "mean_mfcc": "each value is a mean over the clip, so a place in the map is no place in the sound",
    "yamnet": "YAMNet's frames and bands are its own; explain a network that reads a log-mel spectrogram instead",
    "waveform": "a waveform has no bands; use keep_times",
}


def keep_times(
    y: np.ndarray, sr: int, saliency: np.ndarray, share: float = 0.2, fade_seconds: float = 0.01
) -> np.ndarray:
    """Keep the moments of a recording that a map marks most strongly; the rest becomes silence.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)], float
        Mono samples, full scale at ±1.
    sr : int
        Their sampling rate, Hz.
    saliency : np.ndarray [shape=(m,)], float
        The map over the whole of `y`; stretched to n by linear interpolation, then averaged over 20 ms. What is not
        positive after that is never kept.
    share : float
        Share of the time kept, above 0 and up to 1; less if the map is positive for less. Of equals the earliest.
    fade_seconds : float
        Length of the fades (raised cosine, centred on the edges, s). What is shorter than a fade gets quieter.

    Returns
    -------
    np.ndarray [shape=(n,), float32]

    Raises
    ------
    CourseError
        Sound or map have the wrong shape or hold values that are no numbers, or a number is out of its range.

    Notes
    -----
    Used by notebook 10.
    """
    from scipy.ndimage import convolve1d, uniform_filter1d

    y, saliency = _checked(y, sr, saliency, share, 1)
    if not 0 <= fade_seconds < float("inf"):
        raise CourseError(f"fade_seconds must be 0 or more, not {fade_seconds!r}.")
    size = max(1, round(SMOOTH_SECONDS * sr))
    smooth = uniform_filter1d(_stretched(saliency, len(y)), size, mode="reflect")
    # A half sine slid over the edges of a mask makes them raised cosines.
    length = 2 * round(fade_seconds * sr / 2) + 1
    slope = np.sin(np.pi * (np.arange(length) + 0.5) / length)
    gain = convolve1d(_strongest(smooth, share).astype(np.float64), slope / slope.sum(), mode="nearest")
    return (y * gain).astype(np.float32)


def keep_bands(y: np.ndarray, sr: int, saliency: np.ndarray, spec: FeatureSpec, share: float = 0.2) -> np.ndarray:
    """Keep the times and frequencies of a recording that a map over its spectrogram marks most strongly.

    Parameters
    ----------
    y : np.ndarray [shape=(spec.n_samples,)], float
        Mono samples, full scale at ±1.
    sr : int
        Their sampling rate, Hz: spec.sr.
    saliency : np.ndarray [shape=(bands, frames)], float
        The map, stretched to spec.shape by linear interpolation. What is not positive is never kept.
    spec : FeatureSpec
        What the spectrogram was made by: kind "logmel", "stft" or "gammatone".
    share : float
        Share of the map's cells kept, above 0 and up to 1; less if fewer are positive. Of equals the lowest bands.

    Returns
    -------
    np.ndarray [shape=(spec.n_samples,), float32]

    Raises
    ------
    CourseError
        Sound or map have the wrong shape or hold values that are no numbers, `share` is out of its range, the sampling
        rate or length is not the spec's, or its kind or steps do not lead back to sound.

    Notes
    -----
    A mask on the short-time Fourier transform, the phases kept, and back (Griffin and Lim 1984). A frequency between
    bands is kept by the share of its filters' weights that belongs to bands kept; frequencies outside all filters do
    as their nearest neighbour. Used by notebook 10.
    """
    import librosa

    y, saliency = _checked(y, sr, saliency, share, 2)
    if spec.kind not in ("logmel", "stft", "gammatone"):
        why = _NO_SOUND.get(spec.kind, "its values are no bands of a spectrogram")
        raise CourseError(f"A map over {spec.kind!r} cannot be turned back into sound: {why}.")
    if sr != spec.sr or len(y) != spec.n_samples:
        raise CourseError(
            f"The map belongs to {spec.n_samples} samples at {spec.sr} Hz, the sound has {len(y)} at {sr} Hz. "
            "Use helpers.audio.resample and helpers.audio.fix_length first."
        )
    if spec.hop_length > spec.n_fft // 2:
        raise CourseError(
            f"Steps of {spec.hop_length} samples leave gaps between windows of {spec.n_fft}: no way back to sound. "
            "Take a hop_length of at most half of n_fft."
        )
    mask = _strongest(_stretched(_stretched(saliency, spec.shape[1]).T, spec.shape[0]).T, share)
    spectrum = librosa.stft(y, n_fft=spec.n_fft, hop_length=spec.hop_length)
    spectrum *= mask if spec.kind == "stft" else _spread(spec) @ mask
    kept = librosa.istft(spectrum, n_fft=spec.n_fft, hop_length=spec.hop_length, length=len(y))
    return kept.astype(np.float32)


def _checked(y, sr, saliency, share, ndim) -> tuple[np.ndarray, np.ndarray]:
    y, saliency = np.asarray(y), np.asarray(saliency, dtype=np.float64)
    if y.ndim != 1 or not y.size or not np.issubdtype(y.dtype, np.floating):
        raise CourseError(f"The sound must be mono samples of shape (n,), full scale at ±1, not {y.dtype} {y.shape}.")
    if saliency.ndim != ndim or not saliency.size:
        wanted = "(n,)" if ndim == 1 else "(bands, frames)"
        raise CourseError(f"The map must have the shape {wanted}, not {saliency.shape}.")
    for name, values in (("sound", y), ("map", saliency)):
        if not np.isfinite(values).all():
            raise CourseError(f"The {name} contains values that are not a number or infinite.")
    if not sr > 0:
        raise CourseError(f"sr must be above 0, not {sr!r}.")
    if not 0 < share <= 1:
        raise CourseError(f"share must be above 0 and at most 1, not {share!r}.")
    return y.astype(np.float64), saliency


def _stretched(values: np.ndarray, n: int) -> np.ndarray:
    """Stretch the last axis to n places: both cover the same length, and values stand in the middle of their places."""
    last = values.shape[-1] - 1
    position = np.clip((np.arange(n) + 0.5) * (last + 1) / n - 0.5, 0, last)
    left = position.astype(np.int64)
    weight = position - left
    return values[..., left] * (1 - weight) + values[..., np.minimum(left + 1, last)] * weight


def _strongest(values: np.ndarray, share: float) -> np.ndarray:
    """Mask of the given share of places, those with the largest values, and only positive ones."""
    # Rounded, so that places meant to be equal do not differ by the last bits of their sums.
    flat = np.round(values.ravel() / (np.abs(values).max() or 1.0), 9)
    mask = np.zeros(flat.shape, dtype=bool)
    mask[np.argsort(-flat, kind="stable")[: max(1, round(share * flat.size))]] = True
    return (mask & (flat > 0)).reshape(values.shape)


def _spread(spec: FeatureSpec) -> np.ndarray:
    """What each band contributes to each frequency [shape=(1 + n_fft/2, bands)]; rows add up to 1."""
    import librosa

    if spec.kind == "logmel":
        filters = librosa.filters.mel(sr=spec.sr, n_fft=spec.n_fft, n_mels=spec.n_mels)
    else:
        filters = gammatone_bands(spec.sr, spec.n_fft, spec.n_mels)
    total = filters.sum(axis=0, dtype=np.float64)
    covered = np.flatnonzero(total > 0)
    nearest = covered[np.abs(np.arange(len(total))[:, None] - covered).argmin(axis=1)]
    return (filters / np.where(total > 0, total, 1.0)).T[nearest]
