"""Does a map mean anything? Delete what it marks, and see whether the network misses it; draw the weights anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from helpers import scores
from helpers.topics.inside import all_layers, checked

_HIGH, _RANDOM, _LOW = "most salient first", "random order", "least salient first"
# Blocks per axis of a map: in time, or bands × frames. A single sample deleted is a click, a block is a pause.
_BLOCKS = {1: (50,), 2: (8, 12)}
_STEPS, _N_RANDOM = 20, 5


def in_blocks(saliency: np.ndarray) -> np.ndarray:
    """Sums of a map [shape=(n_samples,) or (bands, frames)] within the blocks that are deleted, bands first."""
    return np.bincount(_blocks(saliency.shape).ravel(), weights=saliency.ravel())


def deletion_curves(
    model, X, maps: dict[str, np.ndarray], class_indices, baseline: np.ndarray, seed: int = 0
) -> dict[str, dict[str, np.ndarray]]:
    """Probability of each clip's class while more and more of it is replaced by the baseline, in three orders.

    `maps` {method: [shape=(n, n_samples) or (n, bands, frames)]} say which blocks go first; the random order is the
    mean of five, the same for all methods. Gives {method: {order: curves [shape=(n, 21)]}}. Petsiuk, Das and Saenko
    2018; regions: Samek et al. 2017.
    """
    X, curves = checked(model, X, class_indices), {method: {_HIGH: [], _RANDOM: [], _LOW: []} for method in maps}
    for number, (x, k) in enumerate(zip(X, class_indices, strict=True)):
        shape = next(iter(maps.values()))[number].shape
        rng, n_blocks = np.random.default_rng([seed, number]), _blocks(shape).max() + 1
        drawn = [_curve(model, x, shape, rng.permutation(n_blocks), k, baseline) for _ in range(_N_RANDOM)]
        # Equal sums, such as the zeros of Grad-CAM, in a drawn order: in that of time they would not be like chance.
        ties = np.random.default_rng(0).permutation(n_blocks)
        for method, saliencies in maps.items():
            sums = in_blocks(saliencies[number])
            for name, sign in ((_HIGH, -1), (_LOW, 1)):
                order = np.lexsort((ties, sign * sums))
                curves[method][name].append(_curve(model, x, shape, order, k, baseline))
            curves[method][_RANDOM].append(np.mean(drawn, axis=0))
    return {method: {name: np.array(rows) for name, rows in found.items()} for method, found in curves.items()}


def deletion_table(curves: dict[str, np.ndarray], group: Sequence | None = None) -> pd.DataFrame:
    """Mean area under the curves of each order, and of the clips' differences "most salient minus random".

    `group` [shape=(n,)] is the source of each clip, for the interval. A difference whose interval lies below 0 says
    that the maps find what the network uses.
    """
    areas = {name: np.trapezoid(rows, dx=1 / (rows.shape[1] - 1), axis=1) for name, rows in curves.items()}
    areas["most salient minus random"] = areas[_HIGH] - areas[_RANDOM]
    table = {name: scores.mean(values, group, share=False) for name, values in areas.items()}
    return pd.DataFrame(table).T.astype({"n": int})


def _randomised(model: keras.Model, layers: int | None, seed: int = 0) -> keras.Model:
    """Copy a model and draw the weights of its last layers with weights (all, if None) anew, as before training.

    Each array is drawn by the layer's own initialiser, or shuffled if it names none. Batch normalisation counts as a
    layer. More layers leave the weights drawn for fewer as they were. Adebayo et al. 2018.
    """
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for position, layer in enumerate(_weighted(copy)[::-1][:layers]):
        for number, weight in enumerate(layer.weights):
            weight.assign(_drawn(layer, weight, np.random.default_rng([seed, position, number])))
    return copy


def randomisation_test(
    model: keras.Model,
    method: Callable[[keras.Model, np.ndarray, int], np.ndarray],
    X: np.ndarray,
    class_indices: Sequence[int],
    depths: Sequence[int | None],
    seed: int = 0,
    group: Sequence | None = None,
) -> pd.DataFrame:
    """Compare maps of a trained network with those of networks whose last layers are drawn anew (see `_randomised`).

    `method` maps (model, x, class_index) to a map. A row per depth: `layer` is the last one drawn anew, `value` the
    mean over clips of the absolute rank correlation with the trained map. The interval is over groups of clips, for one
    draw of the weights. A map that stays does not depend on what was learnt. Adebayo et al. 2018.
    """
    X, names, rows = checked(model, X, class_indices), [layer.name for layer in _weighted(model)], []
    learnt = [method(model, *clip) for clip in zip(X, class_indices, strict=True)]
    for depth in depths:
        drawn = learnt
        if depth != 0:
            network, depth = _randomised(model, depth, seed), len(names) if depth is None else depth
            drawn = [method(network, *clip) for clip in zip(X, class_indices, strict=True)]
        alike = [abs(spearman(*pair)) for pair in zip(learnt, drawn, strict=True)]
        row = {"depth": depth, "layer": names[-depth] if depth else "none"}
        spread = {} if depth else {"low": np.nan, "high": np.nan}  # nothing is drawn that could come out otherwise
        rows.append(row | scores.mean(alike, group) | spread)
    return pd.DataFrame(rows)


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of two maps of one shape (Spearman 1904); 0 if one of them is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one, other, axis=None).statistic)


def _curve(model, x, shape, order, k, baseline) -> np.ndarray:
    n_deleted = np.rint(np.linspace(0, len(order), _STEPS + 1))
    turn = np.argsort(order)[_blocks(shape)]  # when it is the turn of each place
    deleted = turn < n_deleted.reshape(-1, *[1] * turn.ndim)
    deleted = deleted.reshape(*deleted.shape, *[1] * (x.ndim - turn.ndim))
    return np.asarray(model(np.where(deleted, baseline, x), training=False))[:, k]


def _blocks(shape: tuple[int, ...]) -> np.ndarray:
    """Number of the block that each place of a map belongs to."""
    counts = [min(size, most) for size, most in zip(shape, _BLOCKS[len(shape)], strict=True)]
    along = [np.arange(size) * count // size for size, count in zip(shape, counts, strict=True)]
    return np.ravel_multi_index(np.meshgrid(*along, indexing="ij"), counts)


def _weighted(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in all_layers(model) if layer.weights]


def _drawn(layer: keras.Layer, weight: keras.Variable, rng: np.random.Generator) -> np.ndarray:
    """New values of one array of weights."""
    # Keras names initialisers after the weights, but those of separable and depthwise convolutions lose "kernel".
    names = [weight.name, weight.name.removesuffix("_kernel"), *(["depthwise"] if weight.name == "kernel" else [])]
    own = next(filter(None, (getattr(layer, f"{name}_initializer", None) for name in names)), None)
    if own is None:
        return rng.permutation(np.asarray(weight).ravel()).reshape(weight.shape)
    settings = own.get_config()
    if "seed" in settings:  # an initialiser with its seed would draw what it drew before training
        own = type(own).from_config(settings | {"seed": int(rng.integers(2**31))})
    return np.asarray(own(weight.shape, dtype=weight.dtype))
