"""Augmentation of spectrogram batches during training: each is a small callable whose settings print themselves.

Every one maps (batch [shape=(b, bands, frames), float32], labels [shape=(b, n_classes), float32], rng) to a new pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shift:
    """Move each spectrogram in time (around the end) and by a few bands (the edge band is repeated).

    Attributes
    ----------
    frames, bands : int
        Largest shift in either direction.

    Notes
    -----
    A shift in bands is nearly a shift in pitch, at no cost. Used by notebooks 03, 04 and 07.
    """

    frames: int
    bands: int

    def __call__(self, batch, labels, rng):
        """Return the shifted batch and the unchanged labels."""
        moved = np.empty_like(batch)
        top = batch.shape[1] - 1
        for clip, (time, band) in enumerate(zip(*self._draws(len(batch), rng), strict=True)):
            rows = np.clip(np.arange(top + 1) - band, 0, top)
            moved[clip] = np.roll(batch[clip, rows], time, axis=1)
        return moved, labels

    def _draws(self, n, rng):
        return (rng.integers(-most, most + 1, n) for most in (self.frames, self.bands))


@dataclass(frozen=True)
class Gain:
    """Make each spectrogram louder or softer.

    Attributes
    ----------
    most : float
        Largest change, in the units of the scaled spectrogram (0.05 of a range of 120 dB are 6 dB).

    Notes
    -----
    Used by notebooks 03, 04 and 07.
    """

    most: float

    def __call__(self, batch, labels, rng):
        """Return the louder or softer batch and the unchanged labels."""
        return batch + rng.uniform(-self.most, self.most, (len(batch), 1, 1)).astype(np.float32), labels


@dataclass(frozen=True)
class SpecAugment:
    """Hide one stretch of bands and one of frames in each spectrogram behind its mean.

    Attributes
    ----------
    bands, frames : int
        Longest stretch; the length is drawn evenly from 0 to this.

    Notes
    -----
    Park et al. 2019. Used by notebooks 03, 04 and 07.
    """

    bands: int
    frames: int

    def __call__(self, batch, labels, rng):
        """Return the masked batch and the unchanged labels."""
        masked = batch.copy()
        for clip in masked:
            filler = clip.mean()
            for axis, most in enumerate((self.bands, self.frames)):
                length = rng.integers(most + 1)
                start = rng.integers(clip.shape[axis] - length + 1)
                window = slice(start, start + length)
                clip[(window, slice(None)) if axis == 0 else (slice(None), window)] = filler
        return masked, labels


@dataclass(frozen=True)
class Mixup:
    """Blend each spectrogram (or waveform), and its label, with another one of the batch.

    Attributes
    ----------
    alpha : float
        The share of the other clip is drawn from Beta(alpha, alpha) and kept below one half.

    Notes
    -----
    Zhang et al. 2018. Used by notebooks 03 and 07.
    """

    alpha: float

    def __call__(self, batch, labels, rng):
        """Return the blended batch and the blended labels."""
        share = rng.beta(self.alpha, self.alpha, len(batch)).astype(np.float32)
        share = np.minimum(share, 1 - share)
        other = rng.permutation(len(batch))
        mixed = batch + share.reshape(-1, *[1] * (batch.ndim - 1)) * (batch[other] - batch)
        return mixed, labels + share[:, None] * (labels[other] - labels)
