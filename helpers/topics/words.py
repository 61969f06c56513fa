"""Words in long recordings: build one of which is known what is said when, spot the words, score what was found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.signal import find_peaks
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.stats import chi2

from helpers import scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STRETCH = 10.0  # s; words and alarms in the same stretch are not taken for independent
_SMOOTH = 0.3  # s; the probabilities of windows whose middles lie within are averaged
_FLOOR = 1e-12  # mean square of digital silence, -120 dBFS
_EXACT = 1e-6  # s; times are not exact to the last bit


def stream(
    clips: Sequence[tuple[str, np.ndarray]],
    sr: int,
    seconds: float,
    gap: tuple[float, float],
    noise: np.ndarray | float,
    seed: int,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Build a recording, and the table of what is said in it: `label`, `start` and `end` (s) of every clip.

    Each clip (label, samples) is used at most once, in random order, after a pause of `gap` (shortest and longest, s);
    those that do not fit are left out. `noise` is a recording, repeated forwards and backwards in turn (so that nothing
    clicks), or the level of white noise in dBFS. All is made quieter if a sample would be above 1.
    """
    rng, n_samples = np.random.default_rng(seed), round(seconds * sr)
    if np.ndim(noise):
        y = np.pad(np.asarray(noise, float), (0, max(0, n_samples - len(noise))), mode="symmetric")[:n_samples]
    else:
        y = 10 ** (noise / 20) * rng.standard_normal(n_samples)
    rows, position = [], 0
    for number in rng.permutation(len(clips)):
        label, clip = clips[number]
        start = position + round(rng.uniform(*gap) * sr)
        if start + len(clip) <= n_samples:
            position = start + len(clip)
            y[start:position] += clip
            rows.append((label, start / sr, position / sr))
    y = y / max(1.0, np.abs(y).max())
    return y.astype(np.float32), pd.DataFrame(rows, columns=["label", "start", "end"])


def levels(y: np.ndarray, sr: int, starts: Iterable[float], ends: Iterable[float]) -> np.ndarray:
    """Root mean square of parts of a recording (s) in dBFS, at least -120: 0 is a square wave at full scale."""
    parts = [y[round(start * sr) : round(end * sr)] for start, end in zip(starts, ends, strict=True)]
    return 10 * np.log10([max(_FLOOR, np.mean(np.square(part, dtype=np.float64))) for part in parts])


def _smooth(predictions: pd.DataFrame, level: np.ndarray, min_level: float) -> pd.DataFrame:
    """Average the probabilities over a short time: a row per window (index: its middle, s), a column per class.

    Silent and quiet windows have 0 of every class: a classifier of words knows nothing else and names one in any noise.
    """
    time = ((predictions["start"] + predictions["end"]) / 2).to_numpy()
    heard = ~predictions["silent"].to_numpy(bool) & (np.asarray(level) >= min_level)
    table = predictions.filter(regex="^p_").rename(columns=lambda name: name[2:])
    sums = np.cumsum(np.vstack([np.zeros(table.shape[1]), table.to_numpy() * heard[:, None]]), axis=0)
    half = _SMOOTH / 2 + _EXACT
    first, last = np.searchsorted(time, time - half), np.searchsorted(time, time + half)
    means = (sums[last] - sums[first]) / (last - first)[:, None]
    # Rounded, so that what is equal stays equal: `spot` takes the middle of a flat top.
    return pd.DataFrame(means.round(9), index=pd.Index(time, name="time"), columns=table.columns)


def spot(
    predictions: pd.DataFrame, threshold: float, min_gap: float, level: np.ndarray, min_level: float
) -> pd.DataFrame:
    """Say when which word was said, by `label`, `time` (s) and `confidence`: the peaks of the smoothed probabilities.

    `predictions` are windows of one recording (`helpers.serving.predict`, with a step of 0.1 s or so), `level` is that
    of each; nothing is heard in windows below `min_level`. Of peaks nearer to each other than `min_gap` (s), of
    whatever class, the highest is kept. As Chen, Parada and Heigold 2014 ("Small-footprint keyword spotting using deep
    neural networks"), who average over the past only, as a device that listens must.
    """
    smoothed = _smooth(predictions, level, min_level)
    peaks, kept = [], []
    for label, heights in smoothed.items():
        found, _ = find_peaks(np.pad(heights, 1), height=threshold)  # zeros: so that ends can be peaks
        peaks += [(label, smoothed.index[at], heights.iloc[at]) for at in found - 1]
    for peak in sorted(peaks, key=lambda peak: (-peak[2], peak[1])):
        if all(abs(peak[1] - other[1]) >= min_gap - _EXACT for other in kept):
            kept.append(peak)
    table = pd.DataFrame(kept, columns=["label", "time", "confidence"]).astype({"time": float, "confidence": float})
    return table.sort_values("time", kind="stable", ignore_index=True)


def match(detections: pd.DataFrame, truth: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Say which `word` (row of `truth`, or -1) each detection found, and whether it is a `hit`; in the order of time.

    A detection finds at most one word, of its own label and at most `tolerance` (s) outside of it; a word is found
    once; hits are as many as can be. All others are false alarms.
    """
    detections = detections.sort_values("time", kind="stable", ignore_index=True)
    label, time = (detections[name].to_numpy()[:, None] for name in ("label", "time"))
    early, late = truth["start"].to_numpy() - tolerance - _EXACT, truth["end"].to_numpy() + tolerance + _EXACT
    fits = (label == truth["label"].to_numpy()) & (early <= time) & (time <= late)
    word = maximum_bipartite_matching(csr_array(fits), perm_type="column")
    return detections.assign(word=word, hit=word >= 0)


def choose_threshold(
    predictions: pd.DataFrame, truth: pd.DataFrame, thresholds: Iterable[float], tolerance: float, **spotting: Any
) -> tuple[float, pd.DataFrame]:
    """Find the threshold with the best F1 on a recording kept for choosing: never on the one that is scored.

    Of equals the highest. Also gives `precision` (NaN without detections), `recall` and `f1` at each `threshold`;
    `spotting` is what `spot` is given besides.
    """
    rows = []
    for threshold in sorted(thresholds):
        matched = match(spot(predictions, threshold, **spotting), truth, tolerance)
        hits, n = matched["hit"].sum(), len(matched)
        rows.append((threshold, hits / (n or np.nan), hits / len(truth), 2 * hits / (n + len(truth))))
    table = pd.DataFrame(rows, columns=["threshold", "precision", "recall", "f1"])
    return float(table["threshold"][table["f1"] == table["f1"].max()].max()), table


def score(matched: pd.DataFrame, truth: pd.DataFrame, seconds: float) -> dict[str, dict]:
    """Score what `match` gave for a recording of so many seconds: {name: {"value", "low", "high", "n"}}.

    `recall` (n words), `precision` (n detections) and `f1` (n words) are shares, of words, of detections and of both
    together, and drawn by stretches of ten seconds; NaN where there are none. `false_alarms_per_minute` (n alarms) has
    the exact interval of a Poisson rate (Garwood 1936), which takes them for independent.
    """
    found, hit = np.isin(np.arange(len(truth)), matched["word"]), matched["hit"].to_numpy(bool)
    said_in, heard_in = truth["start"].to_numpy() // _STRETCH, matched["time"].to_numpy() // _STRETCH
    shares = {"recall": (found, said_in), "precision": (hit, heard_in)}
    shares["f1"] = np.concatenate([found, hit]), np.concatenate([said_in, heard_in])
    nothing = dict.fromkeys(("value", "low", "high"), float("nan")) | {"n": 0}
    result = {name: scores.mean(*share) if len(share[0]) else nothing for name, share in shares.items()}
    result["f1"] = result["f1"] | {"n": len(truth)}
    minutes, n = seconds / 60, int((~hit).sum())
    low, high = (chi2.ppf(0.025, 2 * n) / 2 if n else 0.0), chi2.ppf(0.975, 2 * n + 2) / 2
    rate = {"value": n / minutes, "low": float(low / minutes), "high": float(high / minutes), "n": n}
    return result | {"false_alarms_per_minute": rate}


def spotting_plot(
    y: np.ndarray,
    sr: int,
    predictions: pd.DataFrame,
    matched: pd.DataFrame,
    truth: pd.DataFrame,
    threshold: float,
    span: tuple[float, float],
    level: np.ndarray,
    min_level: float,
) -> Figure:
    """Draw the way from sound to words from and to (s): the waveform, the smoothed probabilities and the detections.

    Grey bands are the words said; in the middle panel each is a box in the row of its class. Rows are the classes said
    or detected in the span (20 to 30 s can be read); "any other" is the highest of the rest.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    begin, end = span
    matched = matched[matched["time"].between(begin, end)]
    said = truth[(truth["end"] > begin) & (truth["start"] < end)]
    table = _smooth(predictions, level, min_level)
    rows = sorted({*said["label"], *matched["label"]}) or list(table.columns[:1])
    others = table.drop(columns=rows, errors="ignore").max(axis=1)
    table = table.reindex(columns=rows, fill_value=0.0)
    table = table if others.isna().all() else table.assign(**{"any other": others})
    height = 0.17 * table.shape[1] + 0.3
    options = {"figsize": (9, height + 4.2), "height_ratios": (1.3, height, 1.3), "layout": "constrained"}
    fig, (wave, classes, points) = plt.subplots(3, sharex=True, **options)
    step = max(1, round((end - begin) * sr / 2000))  # at most 2000 columns: lowest to highest sample of each
    at, heard = np.arange(round(begin * sr), round(end * sr), step), y[: round(end * sr)]
    wave.fill_between(at / sr, np.minimum.reduceat(heard, at), np.maximum.reduceat(heard, at), color="0.2")
    wave.set_ylabel("amplitude")
    grid = table.index, np.arange(table.shape[1]), table.T
    image = classes.pcolormesh(*grid, cmap="Greys", vmin=0, vmax=1, shading="nearest")
    classes.set_yticks(range(table.shape[1]), table.columns, fontsize=8, parse_math=False)
    classes.invert_yaxis()
    for word in said.itertuples():
        wave.axvspan(word.start, word.end, color="0.88", zorder=0)
        points.axvspan(word.start, word.end, color="0.88", zorder=0)
        box = (word.start, rows.index(word.label) - 0.5), word.end - word.start, 1
        classes.add_patch(Rectangle(*box, fill=False, linewidth=1))
    for hit, face, name in ((True, "black", "hit"), (False, "white", "false alarm")):
        shown = matched[matched["hit"] == hit]
        points.vlines(shown["time"], 0, shown["confidence"], color="black", linewidth=0.8)
        points.plot(shown["time"], shown["confidence"], "o", color="black", markerfacecolor=face, label=name)
    points.axhline(threshold, color="black", linestyle="--", linewidth=0.8, label=f"threshold {threshold:g}")
    points.set(xlim=span, ylim=(0, 1.08), xlabel="time, s", ylabel="confidence")
    points.plot([], [], "s", color="0.88", markersize=10, label="word said")
    _name(wave, (said["start"].clip(lower=begin) + said["end"].clip(upper=end)) / 2, said["label"])
    _name(points, matched["time"], matched["label"])
    fig.legend(*points.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    fig.colorbar(image, ax=[wave, classes, points], label="probability", shrink=0.5, pad=0.01)
    return fig


def _name(ax: Axes, times: pd.Series, names: pd.Series) -> None:
    """Write names over a panel, aslant, as words half a second apart would else be written over each other."""
    for time, name in zip(times, names, strict=True):
        place = {"transform": ax.get_xaxis_transform(), "rotation": 45, "rotation_mode": "anchor"}
        ax.text(time, 1.04, name, fontsize=8, parse_math=False, **place)
