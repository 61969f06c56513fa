"""Figures that more than one notebook draws: labelled, readable in grey, saved beside the run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import seaborn as sns
from IPython.display import Image, display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
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
# Okabe and Ito's colours, which colour-blind readers tell apart; the yellow is left out, too faint for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LARGE = 400_000  # bytes
_NAMES = {"macro_f1": "macro F1", "accuracy": "accuracy"}


def save(fig: Figure, run_dir: str | os.PathLike, name: str) -> Path:
    """Write a figure to run_dir/figures/<name>.png, atomically."""
    path = Path(run_dir) / "figures" / f"{name}.png"
    with replace_with(path) as temporary:
        fig.savefig(temporary, dpi=110, bbox_inches="tight", metadata={"Software": None})
        if temporary.stat().st_size > _LARGE:  # a gallery, of one colour map: a third of the size with as many colours
            image = PIL.Image.open(temporary).convert("RGB")
            image.quantize(256, PIL.Image.Quantize.MAXCOVERAGE).save(temporary, optimize=True)
    return path


def show(fig: Figure, run_dir: str | os.PathLike, name: str, alt: str) -> None:
    """Save a figure as `save` does and show the file; `alt` says in words what is seen, for those who do not see it."""
    display(Image(save(fig, run_dir, name).read_bytes(), alt=alt))
    plt.close(fig)


def spectrogram(
    values: np.ndarray,
    ax: plt.Axes,
    seconds: float,
    title: str,
    rows: str,
    unit: str = "dB",
    frequencies: np.ndarray | None = None,
    **limits: float,
) -> None:
    """Draw one spectrogram-like picture [shape=(rows, frames)], time in seconds, with its colour bar.

    `frequencies` (Hz, one per row) label the rows in kHz; `limits` are vmin and vmax, for panels that are compared.
    """
    extent = (0, seconds, 0, len(values))
    image = ax.imshow(values, origin="lower", aspect="auto", cmap="magma", extent=extent, **limits)
    ax.set(title=title, xlabel="time, s", ylabel=rows)
    if frequencies is not None:
        _hertz_axis(ax, frequencies)
    ax.figure.colorbar(image, ax=ax, label=unit)


def confusion(predictions: pd.DataFrame, title: str = "") -> Figure:
    """Confusion matrix: clips as numbers, the share of each label's clips as shade (so the diagonal is the recall)."""
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=classes)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    numbers = np.where(counts > 0, counts, "").astype(str) if len(classes) <= 15 else False
    size = max(4.0, 0.5 * len(classes) + 1.5)
    fig, ax = plt.subplots(figsize=(1.2 * size, size), layout="constrained")
    options = dict(cmap="Greys", vmin=0, vmax=100, square=True, xticklabels=classes, yticklabels=classes, fmt="s")
    sns.heatmap(shares, ax=ax, annot=numbers, cbar_kws={"label": "% of the clips in a row"}, **options)
    ax.set(title=f"{title}: clips (n = {len(predictions)})", xlabel="predicted", ylabel="label")
    ax.set_yticklabels(ax.get_yticklabels(), rotation=0)
    ax.set_xticklabels(ax.get_xticklabels(), rotation=45, ha="right")
    return fig


def intervals(recorded: Mapping, metric: str = "macro_f1", chance: float | None = None) -> Figure:
    """One metric of several runs in percent, as points with their intervals, best on top."""
    ordered = sorted(recorded, key=lambda name: recorded[name].metrics[metric]["value"])
    fig, ax = plt.subplots(figsize=(7.5, 0.45 * len(ordered) + 1.3), layout="constrained")
    for height, name in enumerate(ordered):
        value = recorded[name].metrics[metric]
        ends = [100 * value["low"], 100 * value["high"]]
        ax.plot(ends, [height, height], color="0.5", linewidth=3, solid_capstyle="butt")
        ax.plot(100 * value["value"], height, "o", color=COLOURS[0])
    if chance is not None:
        ax.axvline(100 * chance, color="black", linestyle=":", label="nothing learnt")
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)  # above the axes, clear of the points
    n = recorded[ordered[0]].metrics[metric]["n"]
    ax.set_yticks(range(len(ordered)), ordered)
    ax.set(xlim=(0, 100), xlabel=f"{_NAMES.get(metric, metric)}, % of {n} test clips (95 % interval)")
    return fig


def learning_curves(
    histories: Mapping[str, Mapping[str, list[float]]], quantity: str = "loss", chance: float | None = None
) -> Figure:
    """Loss, or another `quantity` that Keras recorded, in training and validation, of several models side by side.

    Of the loss, what lies far above that of an even guess (`chance`) is cut off.
    """
    columns = min(3, len(histories))
    rows = -(-len(histories) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 2.7 * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(histories) :]:
        ax.axis("off")
    percent = 1 if "loss" in quantity else 100
    for ax, (name, history) in zip(axes.flat, histories.items(), strict=False):
        epochs = np.arange(1, len(history[quantity]) + 1)
        ax.plot(epochs, percent * np.asarray(history[quantity]), "-", color=COLOURS[0], label="training")
        if f"val_{quantity}" in history:
            ax.plot(
                epochs, percent * np.asarray(history[f"val_{quantity}"]), "--", color=COLOURS[1], label="validation"
            )
        if chance is not None:
            ax.axhline(percent * chance, color="black", linestyle=":", linewidth=1, label="chance")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(title=name, xlabel="epoch")
    for ax in axes[:, 0]:
        ax.set_ylabel("loss (cross-entropy)" if quantity == "loss" else f"{quantity}, %")
        ax.set_ylim(0, 1.5 * chance if chance is not None and quantity == "loss" else None)  # shared by all panels
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
    names: Sequence[str],
    xlabel: str,
    ylabel: str,
    height: float = 1.8,
    sharey: bool = True,
    sharex: bool = True,
    columns: int = _COLUMNS,
) -> tuple[Figure, dict[str, plt.Axes]]:
    """Lay out one titled panel per name, so many to a row."""
    columns = min(columns, len(names))
    rows = -(-len(names) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(9.5, height * rows + 0.3), sharex=sharex, sharey=sharey, squeeze=False,
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
    seconds: float | Mapping[str, float],
    rows: str,
    unit: str = "",
    frequencies: np.ndarray | Mapping[str, np.ndarray] | None = None,
    cmap: str = "magma",
) -> Figure:
    """Spectrogram-like pictures beside each other, on one colour scale (around zero, where it has two sides)."""
    low, high = np.percentile(np.concatenate([values.ravel() for values in pictures.values()]), [5, 98])
    if cmap != "magma":
        low, high = -max(-low, high), max(-low, high)
    fig, axes = grid(
        list(pictures), "time, s", rows, height=2.0, sharey=not isinstance(frequencies, Mapping),
        sharex=not isinstance(seconds, Mapping), columns=2 if len(pictures) in (2, 4) else 3,
    )  # fmt: skip
    for name, values in pictures.items():
        extent = (0, seconds[name] if isinstance(seconds, Mapping) else seconds, 0, len(values))
        image = axes[name].imshow(values, origin="lower", aspect="auto", cmap=cmap, vmin=low, vmax=high, extent=extent)
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
    """Give options of `Axes.scatter` for `n` classes that differ in colour and in shape, so also without colour."""
    return [
        {
            "marker": _SHAPES[i % len(_SHAPES)],
            "facecolor": "white" if i // len(COLOURS) % 2 else COLOURS[i % len(COLOURS)],
            "edgecolor": COLOURS[i % len(COLOURS)],
        }
        for i in range(n)
    ]
