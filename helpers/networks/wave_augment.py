"""Augmentation of waveforms during training: each is a small callable whose settings print themselves.

Every one maps (batch [shape=(b, n_samples), float32], labels [shape=(b, n_classes), float32], rng) to a new pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import numpy as np

from helpers.base import CourseError


@dataclass(frozen=True)
class Delay:
    """Move each clip in time; what leaves at one end is lost, silence enters at the other.

    Attributes
    ----------
    samples : int
        Largest shift in either direction.

    Raises
    ------
    CourseError
        It is below 0.

    Notes
    -----
    Used by notebook 07.
    """

    samples: int

    def __post_init__(self):
        if self.samples < 0:
            raise CourseError(f"Delay takes the largest shift in samples, at least 0, not {self.samples!r}.")

    def __call__(self, batch, labels, rng):
        """Return the shifted batch and the unchanged labels."""
        moved = np.zeros_like(batch)
        n = batch.shape[1]
        for clip, shift in enumerate(rng.integers(-self.samples, self.samples + 1, len(batch))):
            shift = int(np.clip(shift, -n, n))
            moved[clip, max(0, shift) : n + min(0, shift)] = batch[clip, max(0, -shift) : n - max(0, shift)]
        return moved, labels


@dataclass(frozen=True)
class Speed:
    """Play each clip a little faster or slower around its middle: pitch and length change together.

    Attributes
    ----------
    most : float
        Largest change; 0.1 draws a factor from 0.9 to 1.1.

    Raises
    ------
    CourseError
        `most` is not between 0 and 1.

    Notes
    -----
    Ko et al. 2015, "Audio augmentation for speech recognition". Between samples by straight lines, which is good
    enough here: played faster by 10 %, the top tenth of the band folds back, where speech has next to nothing. Used
    by notebook 07.
    """

    most: float

    def __post_init__(self):
        if not 0 <= self.most < 1:
            raise CourseError(f"Speed takes the largest change, at least 0 and below 1, not {self.most!r}.")

    def __call__(self, batch, labels, rng):
        """Return the faster or slower batch and the unchanged labels."""
        n = batch.shape[1]
        place, middle = np.arange(n, dtype=np.float64), (n - 1) / 2
        changed = np.empty_like(batch)
        for clip, factor in enumerate(rng.uniform(1 - self.most, 1 + self.most, len(batch))):
            changed[clip] = np.interp(middle + (place - middle) * factor, place, batch[clip], left=0.0, right=0.0)
        return changed, labels


@dataclass(frozen=True)
class Volume:
    """Make each clip louder or softer.

    Attributes
    ----------
    decibels : float
        Largest change in either direction.

    Notes
    -----
    Used by notebook 07.
    """

    decibels: float

    def __call__(self, batch, labels, rng):
        """Return the louder or softer batch and the unchanged labels."""
        gain = 10 ** (rng.uniform(-self.decibels, self.decibels, (len(batch), 1)) / 20)
        return batch * gain.astype(np.float32), labels


@dataclass(frozen=True)
class Noise:
    """Add white noise, softer than each clip by a random number of decibels.

    Attributes
    ----------
    quietest, loudest : float
        Level of the noise relative to the clip's own (RMS), dB: -40 to -15, say.

    Raises
    ------
    CourseError
        They are the wrong way round.

    Notes
    -----
    Used by notebook 07.
    """

    quietest: float
    loudest: float

    def __post_init__(self):
        if self.quietest > self.loudest:
            raise CourseError(f"Noise takes the lower level first, not {self.quietest!r} and {self.loudest!r}.")

    def __call__(self, batch, labels, rng):
        """Return the noisy batch and the unchanged labels."""
        rms = np.sqrt(np.mean(np.square(batch, dtype=np.float64), axis=1, keepdims=True))
        level = rms * 10 ** (rng.uniform(self.quietest, self.loudest, (len(batch), 1)) / 20)
        return batch + rng.standard_normal(batch.shape, dtype=np.float32) * level.astype(np.float32), labels


@dataclass(frozen=True)
class Mask:
    """Silence two stretches of time and two bands of frequencies in each clip.

    Attributes
    ----------
    samples : int
        Longest stretch of time; the length is drawn evenly from 0 to this.
    share : float
        Widest band, as a share of the mel scale up to half the sampling rate; drawn in the same way.
    sr : int
        Sampling rate, Hz.

    Raises
    ------
    CourseError
        `samples` is below 0, or `share` not between 0 and 1.

    Notes
    -----
    SpecAugment (Park et al. 2019) for samples; bands are rejected as by Kharitonov et al. 2021, "Data augmenting
    contrastive learning of speech representations in the time domain". Used by notebook 07.
    """

    samples: int
    share: float
    sr: int

    def __post_init__(self):
        if self.samples < 0 or not 0 <= self.share <= 1:
            raise CourseError(
                f"Mask takes samples of at least 0 and a share from 0 to 1, not {self.samples!r} and {self.share!r}."
            )

    def __call__(self, batch, labels, rng):
        """Return the masked batch and the unchanged labels."""
        n = batch.shape[1]
        mel = librosa.hz_to_mel(np.fft.rfftfreq(n, 1 / self.sr), htk=True)
        spectra = np.fft.rfft(batch, axis=1)
        for spectrum in spectra:
            for width in rng.uniform(0, self.share * mel[-1], 2):
                low = rng.uniform(0, mel[-1] - width)
                spectrum[(mel >= low) & (mel < low + width)] = 0
        masked = np.fft.irfft(spectra, n, axis=1).astype(np.float32)
        for clip in masked:
            for length in rng.integers(min(self.samples, n) + 1, size=2):
                start = rng.integers(n - length + 1)
                clip[start : start + length] = 0
        return masked, labels
