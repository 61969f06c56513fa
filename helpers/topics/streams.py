"""Long recordings of which is known what is said when: how to build them, and how to score what was found in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import chi2

from helpers import scores as group_scores
from helpers.base import CourseError

STRETCH = 10.0  # s; words and alarms in the same stretch are not taken for independent
_FLOOR = 1e-12  # mean square of digital silence, -120 dBFS


def stream(
    clips: Sequence[tuple[str, np.ndarray]],
    sr: int,
    seconds: float,
    gap: tuple[float, float],
    noise: np.ndarray | float,
    seed: int = 0,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Build a recording of which is known when each word was said.

    Parameters
    ----------
    clips : sequence of (label, y)
        Words [shape=(n,), float], each used at most once, in random order.
    sr : int
        Sampling rate of clips, noise and result (Hz).
    seconds : float
        Length of the recording. Clips that do not fit are left out; if there are too few, the rest is background.
    gap : (float, float)
        Shortest and longest pause before a word (s), uniformly distributed.
    noise : np.ndarray [shape=(m,)] or float
        Background: a recording, repeated forwards and backwards in turn (so that nothing clicks), or the level of white
        noise in dBFS.
    seed : int

    Returns
    -------
    y : np.ndarray [shape=(seconds * sr,), dtype=float32]
        Words and background added; made quieter as a whole if a sample would be above 1.
    truth : pandas.DataFrame
        `label`, `start` and `end` (s) of every clip, with any silence the clip has at its ends.

    Raises
    ------
    CourseError
        No clips, a clip or noise that is no row of numbers, or impossible times.

    Notes
    -----
    Used by notebook 07.
    """
    low, high = gap
    if not clips or not 0 <= low <= high < np.inf or not 1 / sr <= seconds < np.inf:
        raise CourseError(f"A stream needs clips, seconds above 0 and a gap 0 <= low <= high, not {seconds} and {gap}.")
    rng, n_samples = np.random.default_rng(seed), round(seconds * sr)
    if np.ndim(noise):
        background = _row(noise, "noise")
        y = np.pad(background, (0, max(0, n_samples - len(background))), mode="symmetric")[:n_samples]
    elif noise <= 0:
        y = 10 ** (noise / 20) * rng.standard_normal(n_samples)
    else:
        raise CourseError(f"White noise must have a level of 0 dBFS or less, not {noise}.")
    rows, position = [], 0
    for number in rng.permutation(len(clips)):
        label, clip = clips[number][0], _row(clips[number][1], "clip")
        start = position + round(rng.uniform(low, high) * sr)
        if start + len(clip) <= n_samples:
            position = start + len(clip)
            y[start:position] += clip
            rows.append((label, start / sr, position / sr))
    y = y / max(1.0, np.abs(y).max())
    return y.astype(np.float32), pd.DataFrame(rows, columns=["label", "start", "end"])


def levels(y: np.ndarray, sr: int, starts: Iterable[float], ends: Iterable[float]) -> np.ndarray:
    """Level of parts of a recording.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
    sr : int
    starts, ends : sequence of float
        Of each part (s), such as `predictions["start"]` and `predictions["end"]`.

    Returns
    -------
    np.ndarray [shape=(n_parts,), dtype=float64]
        Root mean square in dBFS, at least -120: 0 is a square wave at full scale, -3 a sine.

    Raises
    ------
    CourseError
        A part holds no sample of the recording.

    Notes
    -----
    Used by notebook 07.
    """
    parts = [y[round(start * sr) : round(end * sr)] for start, end in zip(starts, ends, strict=True)]
    if not all(map(len, parts)):
        raise CourseError(f"A part lies outside of the recording, which has {len(y) / sr:g} s.")
    return 10 * np.log10([max(_FLOOR, np.mean(np.square(part, dtype=np.float64))) for part in parts])


def match(detections: pd.DataFrame, truth: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Say which detection found which word.

    Parameters
    ----------
    detections : pandas.DataFrame
        `label` and `time` (s), as given by `helpers.spotting.spot`.
    truth : pandas.DataFrame
        `label`, `start` and `end` (s), as given by `stream`.
    tolerance : float
        How far before the start and after the end of a word its detection may lie (s).

    Returns
    -------
    pandas.DataFrame
        The detections in the order of time, with `word` (row number in `truth`, or -1) and `hit`. A detection finds at
        most one word, of its own label, and a word is found once; pairs are formed so that there are most hits. All
        others are false alarms: the wrong word, no word there, or a word found before.

    Raises
    ------
    CourseError
        `tolerance` is below 0.

    Notes
    -----
    Used by notebook 07.
    """
    if not tolerance >= 0:
        raise CourseError(f"The tolerance must be 0 s or more, not {tolerance}.")
    start, end = truth["start"].to_numpy() - tolerance - 1e-6, truth["end"].to_numpy() + tolerance + 1e-6
    free, label, words = np.ones(len(truth), dtype=bool), truth["label"].to_numpy(object), []
    detections = detections.sort_values("time", kind="stable", ignore_index=True)
    for said, time in zip(detections["label"], detections["time"], strict=True):
        fitting = np.flatnonzero(free & (label == said) & (start <= time) & (time <= end))
        # Of several words the one that ends first: the others can wait for later detections.
        words.append(fitting[end[fitting].argmin()] if len(fitting) else -1)
        free[fitting[end[fitting].argmin()] if len(fitting) else []] = False
    words = np.array(words, dtype=int)
    return detections.assign(word=words, hit=words >= 0)


def counts(matched: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Count `hits`, `misses` and `false_alarms` of what `match` gave; with `precision`, `recall` and `f1` (0..1).

    Precision without detections and recall without words mean nothing and are NaN.

    Used by notebook 07.
    """
    hits = int(matched["hit"].sum())
    result = {"hits": hits, "misses": len(truth) - hits, "false_alarms": len(matched) - hits}
    pairs = {"precision": (hits, len(matched)), "recall": (hits, len(truth))}
    pairs["f1"] = (2 * hits, len(matched) + len(truth))
    return result | {name: part / whole if whole else float("nan") for name, (part, whole) in pairs.items()}


def scores(matched: pd.DataFrame, truth: pd.DataFrame, seconds: float) -> dict[str, dict]:
    """Score what was found in a recording, each score with its 95 % interval and its n.

    Parameters
    ----------
    matched : pandas.DataFrame
        As given by `match`.
    truth : pandas.DataFrame
        All that was said.
    seconds : float
        Length of the recording.

    Returns
    -------
    dict
        {name: {"value", "low", "high", "n"}}: `recall` (n words), `precision` (n detections), `f1` (n words) and
        `false_alarms_per_minute` (n false alarms). What cannot be said (the recall without words) is NaN.

    Raises
    ------
    CourseError
        `seconds` is shorter than what was said and found.

    Notes
    -----
    Shares: bootstrap over stretches of ten seconds, and Wilson's interval where there are few of them or all or none
    are hits (`helpers.scores.mean`). F1 is a share too, of hits in words and detections together. False
    alarms: the exact interval of a Poisson rate (Garwood 1936), which takes them for independent.
    Used by notebook 07.
    """
    if not seconds > 0 or max([0.0, *truth["end"], *matched["time"]]) > seconds + 1e-6:
        raise CourseError(f"The recording is said to have {seconds} s, but something was said or found after them.")
    found = np.isin(np.arange(len(truth)), matched["word"])
    hits = {"recall": found, "precision": matched["hit"].to_numpy(bool)}
    when = {"recall": truth["start"].to_numpy(), "precision": matched["time"].to_numpy()}
    hits["f1"], when["f1"] = (np.concatenate([part["recall"], part["precision"]]) for part in (hits, when))
    values, result = counts(matched, truth), {}
    for name, n in (("recall", len(truth)), ("precision", len(matched)), ("f1", len(truth))):
        found_ = (
            group_scores.mean(hits[name], when[name] // STRETCH)
            if len(hits[name])
            else dict.fromkeys(("low", "high"), float("nan"))
        )
        result[name] = {"value": values[name], "low": found_["low"], "high": found_["high"], "n": n}
    minutes, n = seconds / 60, values["false_alarms"]
    low, high = (chi2.ppf(0.025, 2 * n) / 2 if n else 0.0), chi2.ppf(0.975, 2 * n + 2) / 2
    rate = {"value": n / minutes, "low": float(low / minutes), "high": float(high / minutes), "n": n}
    return result | {"false_alarms_per_minute": rate}


def _row(values: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise CourseError(f"A {name} must be one row of numbers, not of shape {values.shape} or with gaps.")
    return values
