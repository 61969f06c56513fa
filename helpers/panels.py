"""Many small pictures, one per class or clip, that can be compared: same scale, same axes, readable in grey."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

COLUMNS = 4
TICKS_HZ = (16000, 10000, 8000, 6000, 4000, 2000, 1000, 500, 250, 125)
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")


def grid(
    names: Sequence[str], xlabel: str, ylabel: str, height: float = 1.8, sharey: bool = True
) -> tuple[Figure, dict[str, plt.Axes]]:
    """Lay out one titled panel per name, four to a row.

    Parameters
    ----------
    names : sequence of str
        Titles of the panels.
    xlabel, ylabel : str
        Written once for all panels.
    height : float
        Of a panel, inches.
    sharey : bool
        One vertical scale for all panels.

    Returns
    -------
    fig : Figure
    axes : dict of str to Axes

    Notes
    -----
    Used by notebooks 02 and 07.
    """
    columns = min(COLUMNS, len(names))
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
    """Spectrogram-like pictures beside each other, on one colour scale.

    Parameters
    ----------
    pictures : mapping of str to np.ndarray [shape=(rows, frames)]
        One per panel; without `frequencies` all have the same number of rows.
    seconds : float
        Length of the time axis.
    rows : str
        What the rows are, with their unit.
    unit : str
        Of the values.
    frequencies : np.ndarray [shape=(rows,)], optional
        Frequency of each row, Hz, increasing, or one such array per picture; the rows are then labelled in kHz.

    Notes
    -----
    The scale spans the 5th to the 98th percentile of all values, so that neither silence nor a single row (such as
    the first MFCC) uses it up. Used by notebook 02.
    """
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
            hertz_axis(axes[name], frequencies[name] if isinstance(frequencies, Mapping) else frequencies)
    fig.colorbar(image, ax=list(axes.values()), label=unit, extend="both", shrink=0.9, pad=0.01)
    return fig


def hertz_axis(ax: plt.Axes, frequencies: np.ndarray) -> None:
    """Label the rows of a picture (row i drawn from i to i + 1) by their frequencies [shape=(rows,)], Hz, in kHz.

    Used by notebook 02, through `gallery`.
    """
    n = len(frequencies)
    ticks: list[tuple[float, int]] = []
    for hertz in TICKS_HZ:
        if frequencies[0] <= hertz <= frequencies[-1]:
            position = float(np.interp(hertz, frequencies, np.arange(n) + 0.5))
            if not ticks or ticks[-1][0] - position >= 0.14 * n:
                ticks.append((position, hertz))
    ax.set_yticks([position for position, _ in ticks], [f"{hertz / 1000:g}" for _, hertz in ticks])


def markers(n: int) -> list[dict]:
    """Give options of `Axes.scatter` for `n` classes that differ in shape and filling, so without any colour.

    Used by notebooks 02 and 07.
    """
    fills = ("white", "black", "0.65")
    return [
        {
            "marker": SHAPES[i % len(SHAPES)],
            "facecolor": fills[(i + i // len(SHAPES)) % len(fills)],
            "edgecolor": "black",
        }
        for i in range(n)
    ]
