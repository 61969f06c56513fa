"""Augmentation of batches during training: small callables whose settings print themselves.

Each maps (batch, labels [shape=(b, n_classes)], rng) to a new pair. Shift, Gain and SpecAugment take spectrograms
[shape=(b, bands, frames), float32]; Delay, Speed, Volume, Noise and Mask waveforms [shape=(b, n_samples), float32];
Mixup either.
"""

from __future__ import annotations

from dataclasses import dataclass

import librosa
import numpy as np


@dataclass(frozen=True)
class Shift:
    """Move each spectrogram by up to so many frames (around the end) and bands (the edge band is repeated)."""

    frames: int
    bands: int

    def __call__(self, batch, labels, rng):
        moved, top = np.empty_like(batch), batch.shape[1] - 1
        draws = [rng.integers(-most, most + 1, len(batch)) for most in (self.frames, self.bands)]
        for clip, (time, band) in enumerate(zip(*draws, strict=True)):
            rows = np.clip(np.arange(top + 1) - band, 0, top)
            moved[clip] = np.roll(batch[clip, rows], time, axis=1)
        return moved, labels


@dataclass(frozen=True)
class Gain:
    """Make each spectrogram louder or softer, in the units of the scaled one (0.05 of a range of 120 dB are 6 dB)."""

    most: float

    def __call__(self, batch, labels, rng):
        return batch + rng.uniform(-self.most, self.most, (len(batch), 1, 1)).astype(np.float32), labels


@dataclass(frozen=True)
class SpecAugment:
    """Hide one stretch of up to so many bands and one of frames behind the spectrogram's mean (Park et al. 2019)."""

    bands: int
    frames: int

    def __call__(self, batch, labels, rng):
        masked = batch.copy()
        for clip in masked:
            filler = clip.mean()
            for axis, most in enumerate((self.bands, self.frames)):
                length = rng.integers(most + 1)
                start = rng.integers(clip.shape[axis] - length + 1)
                clip.swapaxes(0, axis)[start : start + length] = filler
        return masked, labels


@dataclass(frozen=True)
class Mixup:
    """Blend each clip, and its label, with another of the batch by a share below one half (Zhang et al. 2018).

    The share is drawn from Beta(alpha, alpha).
    """

    alpha: float

    def __call__(self, batch, labels, rng):
        share = rng.beta(self.alpha, self.alpha, len(batch)).astype(np.float32)
        share = np.minimum(share, 1 - share)
        other = rng.permutation(len(batch))
        mixed = batch + share.reshape(-1, *[1] * (batch.ndim - 1)) * (batch[other] - batch)
        return mixed, labels + share[:, None] * (labels[other] - labels)


@dataclass(frozen=True)
class Delay:
    """Move each clip by up to so many samples; what leaves at one end is lost, silence enters at the other."""

    samples: int

    def __call__(self, batch, labels, rng):
        moved, n = np.zeros_like(batch), batch.shape[1]
        for clip, shift in enumerate(rng.integers(-self.samples, self.samples + 1, len(batch))):
            shift = int(np.clip(shift, -n, n))
            moved[clip, max(0, shift) : n + min(0, shift)] = batch[clip, max(0, -shift) : n - max(0, shift)]
        return moved, labels


@dataclass(frozen=True)
class Speed:
    """Play each clip a little faster or slower around its middle, pitch and length together (Ko et al. 2015).

    0.1 draws a factor from 0.9 to 1.1. Between samples by straight lines.
    """

    most: float

    def __call__(self, batch, labels, rng):
        n = batch.shape[1]
        place, middle = np.arange(n, dtype=np.float64), (n - 1) / 2
        changed = np.empty_like(batch)
        for clip, factor in enumerate(rng.uniform(1 - self.most, 1 + self.most, len(batch))):
            changed[clip] = np.interp(middle + (place - middle) * factor, place, batch[clip], left=0.0, right=0.0)
        return changed, labels


@dataclass(frozen=True)
class Volume:
    """Make each clip louder or softer by up to so many decibels."""

    decibels: float

    def __call__(self, batch, labels, rng):
        gain = 10 ** (rng.uniform(-self.decibels, self.decibels, (len(batch), 1)) / 20)
        return batch * gain.astype(np.float32), labels


@dataclass(frozen=True)
class Noise:
    """Add white noise at a level relative to the clip's own (RMS), between the two in dB: -40 to -15, say."""

    quietest: float
    loudest: float

    def __call__(self, batch, labels, rng):
        rms = np.sqrt(np.mean(np.square(batch, dtype=np.float64), axis=1, keepdims=True))
        level = rms * 10 ** (rng.uniform(self.quietest, self.loudest, (len(batch), 1)) / 20)
        return batch + rng.standard_normal(batch.shape, dtype=np.float32) * level.astype(np.float32), labels


@dataclass(frozen=True)
class Mask:
    """Silence two stretches of up to so many samples and two bands of up to a share of the mel scale.

    SpecAugment for samples; bands are rejected as by Kharitonov et al. 2021.
    """

    samples: int
    share: float
    sr: int

    def __call__(self, batch, labels, rng):
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
