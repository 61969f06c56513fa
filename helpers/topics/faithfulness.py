"""Does a map over the input mean anything? Delete what it marks first, and see whether the network misses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.base import CourseError
from helpers.scores import mean
from helpers.topics.attribution import check_class

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

# Blocks per axis of a map: in time, or bands × frames. A single sample deleted is a click, a block is a pause.
_BLOCKS = {1: (50,), 2: (8, 12)}
_N_RANDOM = 5
HIGH, RANDOM, LOW = "most salient first", "random order", "least salient first"


def deletion(
    model: keras.Model,
    x: np.ndarray,
    saliency: np.ndarray,
    class_index: int,
    baseline: np.ndarray | None = None,
    steps: int = 20,
    order: str | np.random.Generator = "high",
) -> np.ndarray:
    """Follow the probability of a class while more and more of the input is replaced by the baseline.

    Parameters
    ----------
    model : keras.Model
        Outputs [shape=(n, n_classes)]. Called once, with training=False.
    x : np.ndarray [shape=model.input_shape[1:]], float
        One input: a waveform (n_samples, 1), or a picture (bands, frames) or (bands, frames, channels).
    saliency : np.ndarray [shape=(n_samples,) or (bands, frames)], float
        The map. It is summed within blocks: 50 in time, or 8 × 12 in a picture, equal to within one place.
    class_index : int
    baseline : np.ndarray [shape as x], optional
        What stands for "no sound"; None takes zeros (see `helpers.attribution.integrated_gradients`).
    steps : int
        At step i, the share i / steps of the blocks is deleted.
    order : str or np.random.Generator
        "high": the largest sums first; "low": the smallest first; a generator draws an order. Blocks of equal sums
        come in an order drawn once for all.

    Returns
    -------
    np.ndarray [shape=(steps + 1,), float32]
        From the probability of the whole input to that of the baseline.

    Raises
    ------
    CourseError
        Shapes that do not fit, values that are no numbers, no such class or order, fewer than 1 step.

    Notes
    -----
    Deletion curves: Petsiuk, Das and Saenko 2018; regions: Samek et al. 2017. Used by notebook 10.
    """
    x, saliency, baseline = _checked(model, x, saliency, class_index, baseline)
    if steps < 1:
        raise CourseError(f"steps must be at least 1, not {steps}.")
    blocks = _blocks(saliency.shape)
    sums = in_blocks(saliency)
    # Equal sums, such as the zeros of Grad-CAM, in a drawn order: in the order of time they would not be like chance.
    drawn = np.random.default_rng(0).permutation(len(sums))
    if isinstance(order, np.random.Generator):
        ranked = order.permutation(len(sums))
    elif order in ("high", "low"):
        ranked = np.lexsort((drawn, -sums if order == "high" else sums))
    else:
        raise CourseError(f"order must be 'high', 'low' or a numpy random generator, not {order!r}.")
    n_deleted = np.rint(np.linspace(0, len(sums), steps + 1))
    turn = np.argsort(ranked)[blocks]  # when it is the turn of each place
    deleted = turn < n_deleted.reshape(-1, *[1] * turn.ndim)
    deleted = deleted.reshape(*deleted.shape, *[1] * (x.ndim - turn.ndim))
    return np.asarray(model(np.where(deleted, baseline, x), training=False))[:, class_index]


def in_blocks(saliency: np.ndarray) -> np.ndarray:
    """Sum a map within the blocks that `deletion` deletes: 50 in time, or 8 × 12 in a picture, bands first.

    Parameters
    ----------
    saliency : np.ndarray [shape=(n_samples,) or (bands, frames)]

    Returns
    -------
    np.ndarray [shape=(n_blocks,), dtype=float64]

    Notes
    -----
    Used by notebook 10.
    """
    return np.bincount(_blocks(saliency.shape).ravel(), weights=saliency.ravel())


def deletion_curves(
    model: keras.Model,
    X: np.ndarray,
    maps: np.ndarray,
    class_indices: Sequence[int],
    baseline: np.ndarray | None = None,
    seed: int = 0,
    steps: int = 20,
) -> dict[str, np.ndarray]:
    """Deletion curves of several clips, in the three orders: `deletion_plot` draws them, `deletion_table` sums them up.

    Parameters
    ----------
    model : keras.Model
    X : np.ndarray [shape=(n, *model.input_shape[1:])]
    maps : np.ndarray [shape=(n, n_samples) or (n, bands, frames)]
    class_indices : sequence of int [length n]
        The class each map explains.
    baseline, steps
        As in `deletion`.
    seed : int
        Of the random orders.

    Returns
    -------
    dict of np.ndarray [shape=(n_clips, steps + 1)]
        "most salient first", "random order" (mean of 5 orders per clip) and "least salient first".

    Raises
    ------
    CourseError
        As in `deletion`, or the numbers of clips, maps and classes differ.

    Notes
    -----
    Used by notebook 10.
    """
    if not len(X) or not len(X) == len(maps) == len(class_indices):
        raise CourseError(f"There are {len(X)} clips, {len(maps)} maps and {len(class_indices)} classes.")
    curves = {HIGH: [], RANDOM: [], LOW: []}
    for number, clip in enumerate(zip(X, maps, class_indices, strict=True)):
        rng = np.random.default_rng([seed, number])
        curves[HIGH].append(deletion(model, *clip, baseline, steps, "high"))
        drawn = [deletion(model, *clip, baseline, steps, rng) for _ in range(_N_RANDOM)]
        curves[RANDOM].append(np.mean(drawn, axis=0))
        curves[LOW].append(deletion(model, *clip, baseline, steps, "low"))
    return {name: np.array(rows) for name, rows in curves.items()}


def deletion_table(
    curves: Mapping[str, np.ndarray], group: Sequence | None = None, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Test over several clips whether deleting what the maps mark lowers the probability faster than chance does.

    Parameters
    ----------
    curves : mapping of np.ndarray
        From `deletion_curves`.
    group : sequence [length n], optional
        Source of each clip; whole groups are drawn. Without, every clip is its own group.
    n_boot, seed : int
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        Columns value, low, high (95 % bootstrap interval over groups) and n (clips). Rows: the mean area under the
        deletion curve (0..1, trapezoidal rule) for "most salient first", "random order" (mean of 5 per clip) and
        "least salient first", and the mean of the clips' differences "most salient minus random".

    Raises
    ------
    CourseError
        The curves lack one of the three orders, or there are not as many groups as clips.

    Notes
    -----
    A difference whose interval lies below 0 says that the map finds what the network uses. It does not say that the
    network is right, and an input full of holes is none the network was trained on. Used by notebook 10.
    """
    if set(curves) != {HIGH, RANDOM, LOW}:
        raise CourseError(f"Give the curves of deletion_curves, not {', '.join(map(str, curves)) or 'nothing'}.")
    areas = {name: np.trapezoid(rows, dx=1 / (rows.shape[1] - 1), axis=1) for name, rows in curves.items()}
    areas["most salient minus random"] = areas[HIGH] - areas[RANDOM]
    table = {name: mean(values, group, n_boot, seed) for name, values in areas.items()}
    return pd.DataFrame(table).T.astype({"n": int})


def deletion_plot(curves: Mapping[str, np.ndarray], group: Sequence | None = None) -> Figure:
    """Draw the mean deletion curve of each order, and around it the 95 % bootstrap interval over clips or groups.

    Parameters
    ----------
    curves : mapping of np.ndarray [shape=(n_clips, steps + 1)]
        By name, as made by `deletion_curves`.
    group : sequence [length n_clips], optional

    Raises
    ------
    CourseError
        An array is not of that shape, or holds no clip.

    Notes
    -----
    Orders differ in line style and marker; their intervals have edges in the same style. Used by notebook 10.
    """
    import matplotlib.pyplot as plt

    from helpers.plots import LINES

    fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, (name, rows) in enumerate(curves.items()):
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[0] < 1 or rows.shape[1] < 2:
            plt.close(fig)
            raise CourseError(f"Curves have the shape (n_clips, steps + 1); {name!r} has {rows.shape}.")
        style, marker = LINES[number % len(LINES)]
        percent = np.linspace(0, 100, rows.shape[1])
        band = mean(rows, group, 1000, 0)
        line = {"linestyle": style, "color": f"C{number}"}
        ax.plot(percent, band["value"], marker=marker, markersize=4, label=f"{name} (n = {len(rows)})", **line)
        ax.plot(percent, np.stack([band["low"], band["high"]], axis=1), linewidth=0.6, **line)
        ax.fill_between(percent, band["low"], band["high"], color=f"C{number}", alpha=0.12, linewidth=0)
    ax.set(xlabel="share of the input deleted, %", ylabel="probability of the class", ylim=(0, None))
    ax.legend()
    return fig


def _blocks(shape: tuple[int, ...]) -> np.ndarray:
    """Number of the block that each place of a map belongs to."""
    counts = [min(size, most) for size, most in zip(shape, _BLOCKS[len(shape)], strict=True)]
    along = [np.arange(size) * count // size for size, count in zip(shape, counts, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*along, indexing="ij"), counts)


def _checked(model, x, saliency, class_index, baseline) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, saliency = np.asarray(x, dtype=np.float32), np.asarray(saliency, dtype=np.float64)
    baseline = np.zeros_like(x) if baseline is None else np.asarray(baseline, dtype=np.float32)
    wanted = tuple(model.input_shape[1:])
    if x.ndim != len(wanted) or any(n not in (None, m) for n, m in zip(wanted, x.shape, strict=True)):
        raise CourseError(f"The input has the shape {x.shape}, the model reads {wanted} (without batch axis).")
    if baseline.shape != x.shape:
        raise CourseError(f"The baseline has the shape {baseline.shape}, the input {x.shape}.")
    places = [shape for shape in (x.shape, x.shape[:-1]) if len(shape) in _BLOCKS and shape[-1:] != (1,)]
    if saliency.shape not in places:
        raise CourseError(
            f"The map has the shape {saliency.shape}, the input {x.shape}. A map has one value per place, "
            "(n_samples,) or (bands, frames): sum it over channels first, map.sum(axis=-1)."
        )
    for name, values in {"input": x, "map": saliency, "baseline": baseline}.items():
        if not np.isfinite(values).all():
            raise CourseError(f"The {name} contains values that are not a number or infinite.")
    check_class(model, class_index)
    return x, saliency, baseline
