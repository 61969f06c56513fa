"""Figures that more than one notebook draws: labelled, readable in grey, saved beside the run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from helpers.base import replace_with

# Distinguishable without colour: every series gets its own line style and marker.
LINES = [
    ("-", "o"),
    ("--", "s"),
    (":", "^"),
    ("-.", "D"),
    ((0, (5, 1)), "v"),
    ((0, (1, 3)), "x"),
    ((0, (3, 1, 1, 1)), "P"),
]
_NAMES = {"macro_f1": "macro F1", "accuracy": "accuracy"}


def save(fig: Figure, run_dir: str | os.PathLike, name: str) -> Path:
    """Write a figure to run_dir/figures/<name>.png, atomically."""
    path = Path(run_dir) / "figures" / f"{name}.png"
    with replace_with(path) as temporary:
        fig.savefig(temporary, dpi=100, bbox_inches="tight", metadata={"Software": None})
    return path


def spectrogram(values: np.ndarray, ax: plt.Axes, seconds: float, title: str, rows: str, unit: str = "dB") -> None:
    """Draw one spectrogram-like picture [shape=(rows, frames)], time in seconds, with its colour bar."""
    image = ax.imshow(values, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(values)))
    ax.set(title=title, xlabel="time, s", ylabel=rows)
    ax.figure.colorbar(image, ax=ax, label=unit)


def confusion(predictions: pd.DataFrame, title: str = "") -> Figure:
    """Confusion matrix twice: counts, and each row divided by its sum (so the diagonal is the recall)."""
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    numbers = len(classes) <= 15
    size = max(3.6, 0.42 * len(classes) + 1.5)
    fig, axes = plt.subplots(1, 2, figsize=(2.1 * size, size), sharey=True, layout="constrained")
    options = dict(cmap="Greys", square=True, xticklabels=classes, yticklabels=classes, cbar=False, annot=numbers)
    sns.heatmap(counts, ax=axes[0], fmt="d", **options)
    sns.heatmap(shares, ax=axes[1], fmt=".2f", vmin=0, vmax=1, annot_kws={"size": 8}, **options)
    axes[0].set(title=f"{title}: clips (n = {len(predictions)})", xlabel="predicted", ylabel="label")
    axes[1].set(title="share of the label's clips", xlabel="predicted", ylabel="")
    return fig


def intervals(recorded: Mapping, metric: str = "macro_f1", chance: float | None = None) -> Figure:
    """One metric of several runs as points with their intervals, best on top."""
    ordered = sorted(recorded, key=lambda name: recorded[name].metrics[metric]["value"])
    fig, ax = plt.subplots(figsize=(7.5, 0.45 * len(ordered) + 1.3), layout="constrained")
    for height, name in enumerate(ordered):
        value = recorded[name].metrics[metric]
        ax.plot([value["low"], value["high"]], [height, height], color="0.5", linewidth=3, solid_capstyle="butt")
        ax.plot(value["value"], height, "o", color="black")
    if chance is not None:
        ax.axvline(chance, color="black", linestyle=":", label="nothing learnt")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)  # above the axes, clear of the points
    n = recorded[ordered[0]].metrics[metric]["n"]
    ax.set_yticks(range(len(ordered)), ordered)
    ax.set(xlim=(0, 1), xlabel=f"{_NAMES.get(metric, metric)} on {n} test clips (95 % interval)")
    return fig


def learning_curves(histories: Mapping[str, Mapping[str, list[float]]]) -> Figure:
    """Loss in training and validation, epoch by epoch, of several models side by side."""
    columns = min(3, len(histories))
    rows = -(-len(histories) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.7 * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(histories) :]:
        ax.axis("off")
    for ax, (name, history) in zip(axes.flat, histories.items(), strict=False):
        epochs = np.arange(1, len(history["loss"]) + 1)
        ax.plot(epochs, history["loss"], "-", color="black", label="training")
        if "val_loss" in history:
            ax.plot(epochs, history["val_loss"], "--", color="0.45", label="validation")
        ax.set(title=name, xlabel="epoch")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss (cross-entropy)")
    axes[0, 0].legend()
    return fig


def timeline(predictions: pd.DataFrame, files: pd.DataFrame) -> Figure:
    """What a model heard over time: one panel per recording, in it one row of grey per class."""
    heard = files[files["windows"] > 0]
    drawn = heard.head(12)
    pictures = [_over_time(predictions[predictions["file"] == name]) for name in drawn["file"]]
    heights = [0.2 * len(table) + 0.6 for table, *_ in pictures] or [0.3]
    fig, axes = plt.subplots(
        len(heights), figsize=(9, sum(heights) + 0.5), height_ratios=heights, squeeze=False, layout="constrained"
    )
    counts = {"drawn": len(drawn), "heard, not drawn": len(heard) - len(drawn), "not heard": len(files) - len(heard)}
    title = "files: " + "; ".join(f"{n} {what}" for what, n in counts.items() if n)
    fig.suptitle(f"{title} (hatched: silent)" if predictions["silent"].any() else title, fontsize=10)
    for ax, (table, edges, silent), file in zip(axes[:, 0], pictures, drawn.itertuples(), strict=False):
        image = ax.pcolormesh(edges, np.arange(len(table) + 1), table, cmap="Greys", vmin=0, vmax=1)
        for window in silent:
            ax.axvspan(*edges[window : window + 2], fill=False, hatch="////", edgecolor="0.5", linewidth=0)
        ax.set_yticks(
            np.arange(len(table)) + 0.5, [_cut(name, 24) for name in table.index], fontsize=8, parse_math=False
        )
        ax.invert_yaxis()
        ax.tick_params(axis="x", labelsize=8)
        name = file.file if len(file.file) <= 50 else f"…{file.file[-49:]}"
        text = f"{name}: {file.predicted} ({file.confidence:.2f})   {file.flags}"
        ax.set_title(_cut(text, 125), fontsize=8, loc="left", parse_math=False)
    if not pictures:
        axes[0, 0].axis("off")
        return fig
    axes[-1, 0].set_xlabel("time, s")
    fig.colorbar(image, ax=axes[:, 0].tolist(), label="probability", shrink=min(1.0, 2.5 / sum(heights)), pad=0.01)
    return fig


def _over_time(windows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Probabilities (classes by windows), edges of the windows (s), and which windows are silent."""
    table = windows.filter(regex="^p_").rename(columns=lambda name: name[2:])
    often = windows.loc[~windows["silent"], "predicted"].value_counts().reindex(table.columns, fill_value=0)
    ranks = pd.DataFrame({"often": often, "mean": table.mean()}).sort_values(["often", "mean"], ascending=False)
    shown = list(ranks.index[: int(np.clip((often > 0).sum(), 3, 7))])
    if len(shown) < len(table.columns):
        shown.append("all others")
        table["all others"] = table.drop(columns=shown[:-1]).sum(axis=1)
    middles = ((windows["start"] + windows["end"]) / 2).to_numpy()
    edges = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, windows["end"].iloc[-1:]])
    return table[shown].mask(windows["silent"]).T, edges, np.flatnonzero(windows["silent"])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


_COLUMNS = 4
_TICKS_HZ = (16000, 10000, 8000, 6000, 4000, 2000, 1000, 500, 250, 125)
_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def grid(
    names: Sequence[str], xlabel: str, ylabel: str, height: float = 1.8, sharey: bool = True
) -> tuple[Figure, dict[str, plt.Axes]]:
    """Lay out one titled panel per name, four to a row."""
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(8.5, height * rows + 0.3), sharex=True, sharey=sharey, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[len(names) :]:
        ax.remove()
    # Shared axes put their tick labels on the bottom row only; where that panel is missing, the one above gets them.
    for position in range(max(0, len(names) - columns), len(names)):
        axes.flat[position].tick_params(labelbottom=True)
    fig.supxlabel(xlabel, fontsize="medium")
    fig.supylabel(ylabel, fontsize="medium")
    result = dict(zip(names, axes.flat, strict=False))
    for name, ax in result.items():
        ax.set_title(name, fontsize=10)
    return fig, result


def gallery(
    pictures: Mapping[str, np.ndarray],
    seconds: float,
    rows: str,
    unit: str = "",
    frequencies: np.ndarray | Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Spectrogram-like pictures beside each other, on one colour scale."""
    low, high = np.percentile(np.concatenate([values.ravel() for values in pictures.values()]), [5, 98])
    # Few shades and few pixels: no eye tells more apart in a panel this small, and the saved notebook is half as large.
    colours = plt.get_cmap("magma", 12)
    fig, axes = grid(list(pictures), "time, s", rows, height=1.5, sharey=not isinstance(frequencies, Mapping))
    fig.set_dpi(80)
    for name, values in pictures.items():
        extent = (0, seconds, 0, len(values))
        image = axes[name].imshow(
            values, origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high, extent=extent
        )
        if frequencies is not None:
            _hertz_axis(axes[name], frequencies[name] if isinstance(frequencies, Mapping) else frequencies)
    fig.colorbar(image, ax=list(axes.values()), label=unit, extend="both", shrink=0.9, pad=0.01)
    return fig


def _hertz_axis(ax: plt.Axes, frequencies: np.ndarray) -> None:
    """Label the rows of a picture (row i drawn from i to i + 1) by their frequencies [shape=(rows,)], Hz, in kHz."""
    n = len(frequencies)
    ticks: list[tuple[float, int]] = []
    for hertz in _TICKS_HZ:
        if frequencies[0] <= hertz <= frequencies[-1]:
            position = float(np.interp(hertz, frequencies, np.arange(n) + 0.5))
            if not ticks or ticks[-1][0] - position >= 0.14 * n:
                ticks.append((position, hertz))
    ax.set_yticks([position for position, _ in ticks], [f"{hertz / 1000:g}" for _, hertz in ticks])


def markers(n: int) -> list[dict]:
    """Give options of `Axes.scatter` for `n` classes that differ in shape and filling, so without any colour."""
    fills = ("white", "black", "0.65")
    return [
        {
            "marker": _SHAPES[i % len(_SHAPES)],
            "facecolor": fills[(i + i // len(_SHAPES)) % len(fills)],
            "edgecolor": "black",
        }
        for i in range(n)
    ]
