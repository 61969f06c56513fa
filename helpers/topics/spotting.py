"""Words in a long recording: when which was said, from what a classifier of single words says window by window.

Recordings to try it on, and the scores, come from `helpers.streams`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.base import CourseError
from helpers.topics.streams import counts, match

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def smooth(
    predictions: pd.DataFrame, smooth_seconds: float = 0.3, level: np.ndarray | None = None, min_level: float = -np.inf
) -> pd.DataFrame:
    """Average the probabilities of windows over a short time.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Windows of one recording as given by `helpers.serving.predict`, with a short step such as 0.1 s.
    smooth_seconds : float
        Windows are averaged whose middles are at most half of this away.
    level : np.ndarray [shape=(n_windows,)], optional
        Level of each window (`levels`).
    min_level : float
        In silent windows and in those below this level every class has probability 0: a classifier of words names a
        word in any noise, since it knows nothing else.

    Returns
    -------
    pandas.DataFrame
        One row per window, one column per class; the index `time` is the middle of the window (s).

    Raises
    ------
    CourseError
        No windows, several recordings, disorder; `level` missing or of another length; `smooth_seconds` below 0.

    Notes
    -----
    Used by notebook 07, through `spot` and `spotting_plot`.
    """
    time = ((predictions["start"] + predictions["end"]) / 2).to_numpy()
    if not len(time) or (np.diff(time) <= 0).any() or predictions["file"].nunique() > 1:
        raise CourseError("Give the windows of one recording (one value of `file`), in the order of time.")
    if not smooth_seconds >= 0:
        raise CourseError(f"smooth_seconds must be 0 or more, not {smooth_seconds}.")
    heard = ~predictions["silent"].to_numpy(bool)
    if level is not None:
        if len(level) != len(time):
            raise CourseError(f"There are {len(time)} windows but {len(level)} levels.")
        heard &= np.asarray(level) >= min_level
    elif min_level > -np.inf:
        raise CourseError("min_level needs the level of each window; give `level` (see `levels`).")
    table = predictions.filter(regex="^p_").rename(columns=lambda name: name[2:])
    sums = np.cumsum(np.vstack([np.zeros(table.shape[1]), table.to_numpy() * heard[:, None]]), axis=0)
    half = smooth_seconds / 2 + 1e-6  # times are not exact to the last bit
    first, last = np.searchsorted(time, time - half), np.searchsorted(time, time + half)
    means = (sums[last] - sums[first]) / (last - first)[:, None]
    # Rounded, so that what is equal stays equal: `spot` takes the middle of a flat top.
    return pd.DataFrame(means.round(9), index=pd.Index(time, name="time"), columns=table.columns)


def spot(predictions: pd.DataFrame, threshold: float, min_gap: float = 0.5, **smoothing: Any) -> pd.DataFrame:
    """Say when which word was said: the peaks of the smoothed probabilities.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Windows of one recording as given by `helpers.serving.predict`.
    threshold : float
        Least height of a peak (above 0, up to 1).
    min_gap : float
        Of peaks nearer to each other than this (s), of whatever class, the highest is kept.
    **smoothing
        As in `smooth`: `smooth_seconds`, `level` and `min_level`.

    Returns
    -------
    pandas.DataFrame
        `label`, `time` (s; the middle of the window) and `confidence` (height of the peak), in the order of time.

    Raises
    ------
    CourseError
        As `smooth`, or `threshold` is out of range.

    Notes
    -----
    As Chen, Parada and Heigold 2014 ("Small-footprint keyword spotting using deep neural networks"), who average over
    the past only, as a device that listens must. Used by notebook 07.
    """
    from scipy.signal import find_peaks

    if not 0 < threshold <= 1:
        raise CourseError(f"The threshold must be above 0 and at most 1, not {threshold}.")
    smoothed = smooth(predictions, **smoothing)
    peaks = []
    for label, heights in smoothed.items():
        found, _ = find_peaks(np.pad(heights.to_numpy(), 1), height=threshold)  # zeros: so that ends can be peaks
        peaks += [(label, smoothed.index[at], heights.iloc[at]) for at in found - 1]
    kept: list[tuple] = []
    for peak in sorted(peaks, key=lambda peak: (-peak[2], peak[1])):
        if all(abs(peak[1] - other[1]) >= min_gap - 1e-6 for other in kept):
            kept.append(peak)
    table = pd.DataFrame(kept, columns=["label", "time", "confidence"]).astype({"time": float, "confidence": float})
    return table.sort_values("time", kind="stable", ignore_index=True)


def choose_threshold(
    predictions: pd.DataFrame, truth: pd.DataFrame, thresholds: Iterable[float], tolerance: float, **options: Any
) -> tuple[float, pd.DataFrame]:
    """Find the threshold with the best F1 on a recording kept for choosing: never on the one that is scored.

    Parameters
    ----------
    predictions, truth : pandas.DataFrame
        Windows of the validation recording (`helpers.serving.predict`), and what was said in it (`stream`).
    thresholds : iterable of float
    tolerance, **options
        As in `match` (s), and as in `spot`.

    Returns
    -------
    best : float
        Of equally good ones the highest, which lets fewest alarms through in noise that was not heard here.
    table : pandas.DataFrame
        One row per threshold: `threshold`, and the columns of `counts`.

    Raises
    ------
    CourseError
        No thresholds, no words in `truth`, or as `spot`.

    Notes
    -----
    Used by notebook 07.
    """
    thresholds = np.sort(np.asarray(list(thresholds), dtype=float))
    if not len(thresholds) or not len(truth):
        raise CourseError("To choose a threshold, give some to choose from, and a recording with words in it.")
    found = [match(spot(predictions, value, **options), truth, tolerance) for value in thresholds]
    table = pd.DataFrame([{"threshold": value} | counts(m, truth) for value, m in zip(thresholds, found, strict=True)])
    return float(thresholds[table["f1"] == table["f1"].max()][-1]), table


def spotting_plot(
    y: np.ndarray,
    sr: int,
    predictions: pd.DataFrame,
    matched: pd.DataFrame,
    truth: pd.DataFrame,
    threshold: float,
    span: tuple[float, float] | None = None,
    **smoothing: Any,
) -> Figure:
    """Draw the way from sound to words: the waveform, the smoothed probabilities and the detections.

    Parameters
    ----------
    y, sr : np.ndarray [shape=(n,)], int
        The recording.
    predictions, matched, truth : pandas.DataFrame
        Of the whole recording: windows (`helpers.serving.predict`), what `match` gave, what was said.
    threshold : float
        As given to `spot`.
    span : (float, float), optional
        From and to (s); 20 to 30 s can be read. None draws the whole recording.
    **smoothing
        As given to `spot`: `smooth_seconds`, `level` and `min_level`.

    Returns
    -------
    Figure

    Raises
    ------
    CourseError
        The span lies outside of the recording, or as `smooth`.

    Notes
    -----
    Grey bands are the words said; in the middle panel each is a box in the row of its class. Rows are the classes said
    or detected in the span; "any other" is the highest of the rest. Used by notebook 07.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Rectangle

    begin, end = span or (0.0, len(y) / sr)
    if not 0 <= begin < end <= len(y) / sr:
        raise CourseError(f"The span {span} does not lie in the recording, which has {len(y) / sr:g} s.")
    matched = matched[matched["time"].between(begin, end)]
    said = truth[(truth["end"] > begin) & (truth["start"] < end)]
    table = smooth(predictions, **smoothing)
    rows = sorted({*said["label"], *matched["label"]}) or list(table.columns[:1])
    others = table.drop(columns=rows, errors="ignore").max(axis=1)
    table = table.reindex(columns=rows, fill_value=0.0)
    table = table if others.isna().all() else table.assign(**{"any other": others})
    height = 0.17 * table.shape[1] + 0.3
    options = {"figsize": (9, height + 4.2), "height_ratios": (1.3, height, 1.3), "layout": "constrained"}
    fig, axes = plt.subplots(3, sharex=True, **options)
    step = max(1, round((end - begin) * sr / 2000))  # at most 2000 columns: lowest to highest sample of each
    at, heard = np.arange(round(begin * sr), round(end * sr), step), y[: round(end * sr)]
    axes[0].fill_between(at / sr, np.minimum.reduceat(heard, at), np.maximum.reduceat(heard, at), color="0.2")
    axes[0].set_ylabel("amplitude")
    grid = table.index, np.arange(table.shape[1]), table.T
    image = axes[1].pcolormesh(*grid, cmap="Greys", vmin=0, vmax=1, shading="nearest")
    axes[1].set_yticks(range(table.shape[1]), table.columns, fontsize=8, parse_math=False)
    axes[1].invert_yaxis()
    for word in said.itertuples():
        axes[0].axvspan(word.start, word.end, color="0.88", zorder=0)
        axes[2].axvspan(word.start, word.end, color="0.88", zorder=0)
        box = (word.start, rows.index(word.label) - 0.5), word.end - word.start, 1
        axes[1].add_patch(Rectangle(*box, fill=False, linewidth=1))
    for hit, face, name in ((True, "black", "hit"), (False, "white", "false alarm")):
        shown = matched[matched["hit"] == hit]
        axes[2].vlines(shown["time"], 0, shown["confidence"], color="black", linewidth=0.8)
        axes[2].plot(shown["time"], shown["confidence"], "o", color="black", markerfacecolor=face, label=name)
    axes[2].axhline(threshold, color="black", linestyle="--", linewidth=0.8, label=f"threshold {threshold:g}")
    axes[2].set(xlim=(begin, end), ylim=(0, 1.08), xlabel="time, s", ylabel="confidence")
    axes[2].plot([], [], "s", color="0.88", markersize=10, label="word said")
    middles = (said["start"].clip(lower=begin) + said["end"].clip(upper=end)) / 2
    _name(axes[0], middles, said["label"], end - begin)
    _name(axes[2], matched["time"], matched["label"], end - begin)
    fig.legend(*axes[2].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    fig.colorbar(image, ax=axes.tolist(), label="probability", shrink=0.5, pad=0.01)
    return fig


def _name(ax: Any, times: pd.Series, names: pd.Series, seconds: float) -> None:
    """Write names over a panel, each in the lowest row where it does not touch the one before it."""
    ends: list[float] = []
    for time, name in zip(times, names, strict=True):
        half = (0.5 * len(name) + 0.8) * seconds / 100  # about 100 letters are as wide as the panel
        row = next((row for row, taken in enumerate(ends) if taken < time - half), len(ends))
        ends[row : row + 1] = [time + half]
        place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
        ax.annotate(name, (time, 1), (0, 4 + 10 * row), fontsize=8, parse_math=False, **place)
