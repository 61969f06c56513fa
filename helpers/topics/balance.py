"""Unequal classes: thinned to a long tail, drawn to equal sizes, and copies that differ in pitch and noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import librosa
import numpy as np
import pandas as pd
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from joblib import Parallel, delayed

from helpers import audio
from helpers.data import Round
from helpers.features import FeatureSpec


def long_tail(label: np.ndarray, rows: np.ndarray, ratio: float, seed: int = 0) -> np.ndarray:
    """Thin training rows, so that classes shrink by equal factors from the largest to a `ratio`-th of it.

    Which class is how large is drawn by `seed` alone, so that all rounds thin alike; two clips of each are kept.
    """
    classes = np.random.default_rng(seed).permutation(np.unique(label[rows]))
    most = max(Counter(label[rows]).values())
    shares = np.geomspace(1, 1 / ratio, len(classes))
    rng, kept = np.random.default_rng([seed, 1]), []
    for name, share in zip(classes, shares, strict=True):
        mine = rng.permutation(rows[label[rows] == name])
        kept.append(mine[: max(2, round(most * share))])
    return np.sort(np.concatenate(kept))


def under_sampled(label: np.ndarray, rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Drop rows at random until every class is as small as the smallest."""
    return np.sort(RandomUnderSampler(random_state=seed).fit_resample(rows[:, None], label[rows])[0][:, 0])


def over_sampled(label: np.ndarray, rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draw rows again at random until every class is as large as the largest."""
    return np.sort(RandomOverSampler(random_state=seed).fit_resample(rows[:, None], label[rows])[0][:, 0])


def _noisy_pitched(y: np.ndarray, sr: int, rng: np.random.Generator) -> np.ndarray:
    """Shift the pitch by up to four quarter tones, then add white noise 25 times weaker (28 dB) than the clip's RMS."""
    noise = rng.standard_normal(len(y)) * np.sqrt(np.mean(np.square(y, dtype=np.float64))) / 25
    long_enough = np.pad(y, (0, max(0, 2048 - len(y))))  # at least a frame of the vocoder
    shifted = librosa.effects.pitch_shift(long_enough, sr=sr, n_steps=rng.uniform(-4, 4), bins_per_octave=24)
    return (shifted[: len(y)] + noise).astype(np.float32)


def with_copies(
    manifest: pd.DataFrame, X: np.ndarray, spec: FeatureSpec, rounds: Sequence[Round], seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray, list[Round]]:
    """Replace each repetition of a training row by a copy with noise and pitch of its own.

    Gives manifest and features [shape=(n + copies, *spec.shape)] with a row per copy at their ends, and rounds that
    point there. A copy is drawn by `seed`, clip and number, so the same in all rounds.
    """
    place: dict[tuple[int, int], int] = {}
    pointing = []
    for round_ in rounds:
        times, train = Counter(), []
        for row in round_.train.tolist():
            train.append(place.setdefault((row, times[row]), len(manifest) + len(place)) if times[row] else row)
            times[row] += 1
        pointing.append(replace(round_, train=np.array(train)))
    if not place:
        return manifest, np.asarray(X), pointing
    made = Parallel(n_jobs=-1)(
        delayed(_copy)(manifest["path"].iloc[row], spec, (seed, row, number)) for row, number in place
    )
    copies = manifest.iloc[[row for row, _ in place]].copy()
    copies["clip_id"] = [f"{name} copy {number}" for name, (_, number) in zip(copies["clip_id"], place, strict=True)]
    return pd.concat([manifest, copies], ignore_index=True), np.concatenate([X, np.stack(made)]), pointing


def _copy(path: str, spec: FeatureSpec, seeds: tuple[int, int, int]) -> np.ndarray:
    y, sr = audio.read(path, sr=spec.sr, seconds=spec.seconds)
    return spec.extract(_noisy_pitched(y, sr, np.random.default_rng(seeds)), sr)
