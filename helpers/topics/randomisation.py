"""Does a map show what was learnt? Draw the weights anew, layer by layer from the output, and compare the maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.base import CourseError
from helpers.scores import mean

if TYPE_CHECKING:
    import keras


def randomised(model: keras.Model, layers: int | None, seed: int = 0) -> keras.Model:
    """Copy a model and draw the weights of its last layers anew.

    Parameters
    ----------
    model : keras.Model
        Functional or sequential; models inside it are opened. It stays as it is.
    layers : int or None
        How many layers with weights, counted from the output; None takes all. Batch normalisation counts as a layer.
    seed : int
        Equal seeds give equal weights; more layers leave the weights drawn for fewer as they were.

    Returns
    -------
    keras.Model
        Its layers have the same names. Not compiled.

    Raises
    ------
    CourseError
        The model cannot be copied, or does not have so many layers with weights.

    Notes
    -----
    Cascading randomisation: Adebayo et al. 2018, "Sanity checks for saliency maps". Each array of weights is drawn by
    the layer's own initialiser, as before training: biases become 0, batch normalisation gets gamma 1, beta 0, mean 0
    and variance 1. Where a layer names no initialiser, the array is shuffled. Batch normalisation without the
    statistics of its data no longer keeps a signal's size: in deep networks it may fade, or saturate the softmax, and
    maps become constant. Used by notebook 10.
    """
    import keras

    try:
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError) as error:
        raise CourseError(f"This model cannot be copied; build it from layers Keras knows. {error}") from error
    weighted = _weighted(copy)
    layers = len(weighted) if layers is None else layers
    if not isinstance(layers, int | np.integer) or isinstance(layers, bool) or not 0 <= layers <= len(weighted):
        raise CourseError(f"layers must be 0 to {len(weighted)} (the layers with weights) or None, not {layers!r}.")
    for position, layer in enumerate(weighted[::-1][:layers]):
        for number, weight in enumerate(layer.weights):
            rng = np.random.default_rng([seed, position, number])
            weight.assign(_drawn(layer, weight, rng))
    return copy


def randomisation_test(
    model: keras.Model,
    method: Callable[[keras.Model, np.ndarray, int], np.ndarray],
    X: np.ndarray,
    class_indices: Sequence[int],
    depths: Sequence[int | None],
    seed: int = 0,
    n_boot: int = 1000,
    group: Sequence | None = None,
) -> pd.DataFrame:
    """Compare the maps of a trained network with those of networks whose last layers are drawn anew.

    Parameters
    ----------
    model : keras.Model
    method : callable
        (model, x, class_index) -> map.
    X : np.ndarray [shape=(n, *model.input_shape[1:])]
    class_indices : sequence of int [length n]
    depths : sequence of int or None
        Numbers of layers drawn anew, see `randomised`; 0 is the trained network, None all layers.
    seed, n_boot, group
        As in `helpers.faithfulness.deletion_table`; the seed draws the weights, too.

    Returns
    -------
    pandas.DataFrame
        One row per depth: depth, layer (the one farthest from the output that was drawn anew), value (mean over clips
        of the absolute Spearman rank correlation of the two maps), low, high (95 % bootstrap interval), n (clips).

    Raises
    ------
    CourseError
        As in `randomised`; numbers of clips, classes and groups differ; a map is empty or holds values that are no
        numbers, or its shape changes.

    Notes
    -----
    A map that stays the same when the network is random does not depend on what was learnt. A correlation with a
    constant map counts as 0. Two unrelated maps do not give quite 0: smooth maps have few independent places; and maps
    that are multiplied by the input share it. The interval is over clips, for one draw of the weights. Source: Adebayo
    et al. 2018. Used by notebook 10.
    """
    if not len(X) or len(X) != len(class_indices):
        raise CourseError(f"There are {len(X)} clips and {len(class_indices)} classes.")
    learnt = [_map(method, model, *clip) for clip in zip(X, class_indices, strict=True)]
    names, rows = [layer.name for layer in _weighted(model)], []
    for depth in depths:
        network = randomised(model, depth, seed)
        depth = len(names) if depth is None else int(depth)
        drawn = [_map(method, network, *clip) for clip in zip(X, class_indices, strict=True)]
        similar = np.array([abs(spearman(*pair)) for pair in zip(learnt, drawn, strict=True)])
        row = {"depth": depth, "layer": names[-depth] if depth else "none"}
        rows.append(row | mean(similar, group, n_boot, seed))
    return pd.DataFrame(rows)


def _weighted(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights, from input to output; models inside the model are opened."""
    import keras

    found = {}
    for layer in model.layers:
        inner = _weighted(layer) if isinstance(layer, keras.Model) else [layer] if layer.weights else []
        found |= {id(part): part for part in inner}
    return list(found.values())


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


def _map(method, model, x, class_index) -> np.ndarray:
    values = np.asarray(method(model, x, class_index), dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise CourseError(f"The method gave a map of shape {values.shape} that is empty or holds no numbers.")
    return values


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation of two maps of one shape (Spearman 1904); 0 if one of them is constant.

    Used by notebook 10.
    """
    from scipy.stats import spearmanr

    if one.shape != other.shape:
        raise CourseError(f"The method gave maps of the shapes {one.shape} and {other.shape} for one clip.")
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(spearmanr(one.ravel(), other.ravel()).statistic)
