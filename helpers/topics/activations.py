"""Opening a network: its layers, what they put out for a recording, and which of their units are dead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from helpers.base import CourseError
from helpers.scores import mean

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Seen(NamedTuple):
    """What a layer read and put out, as `recording` remembers it. Used by notebook 10."""

    input: tf.Tensor
    output: tf.Tensor


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Give the layers of a model in the order they compute, those of nested models in the place of the nested model.

    Layers of parallel branches, which do not need each other, come in the order of `model.layers`. Raises CourseError
    if it is no Keras model. Used by notebook 10.
    """
    import keras

    if not isinstance(model, keras.Model):
        raise CourseError(f"This is a {type(model).__name__}, not a Keras model; only those have layers to look into.")
    parts = (all_layers(part) if isinstance(part, keras.Model) else [part] for part in model.layers)
    return list(dict.fromkeys(layer for part in parts for layer in part))  # each once, even if it is shared


def convolutions(model: keras.Model) -> list[keras.Layer]:
    """Give the convolution layers (1-D and 2-D; plain, depthwise or separable) in the order they compute.

    Raises CourseError if there are none. Used by notebook 10.
    """
    found = [layer for layer in all_layers(model) if _is_convolution(layer)]
    if not found:
        raise CourseError(f"The model {model.name!r} has no convolution layer.")
    return found


def stages(model: keras.Model) -> list[keras.Layer]:
    """Give the layers that put out feature maps right after a nonlinearity, in the order they compute.

    These are activation layers and convolutions with an activation of their own, as far as their output has the shape
    (n, time, channels) or (n, bands, frames, channels). Raises CourseError if there are none. Used by notebook 10.
    """
    from keras import activations as functions
    from keras import layers

    bends = layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU
    found = []
    for layer in all_layers(model):
        own = getattr(layer, "activation", functions.linear) is not functions.linear
        if isinstance(layer, bends) or (own and (_is_convolution(layer) or isinstance(layer, layers.Activation))):
            found.append(layer)
    found = [layer for layer in found if len(layer.output.shape) in (3, 4)]
    if not found:
        raise CourseError(f"The model {model.name!r} has no feature maps: no nonlinearity over time or bands.")
    return found


@contextmanager
def recording(layers: Iterable[keras.Layer]) -> Iterator[dict[keras.Layer, Seen]]:
    """Remember what layers read and put out while the model is called, ``model(X, training=False)``, nested or not.

    Yields
    ------
    dict of keras.Layer to Seen
        Filled by the call, in the order of computation; of a layer called several times it has the last call.

    Notes
    -----
    For as long as the context lasts, the layers' `call` is wrapped. Tensors stay what they are, so a gradient tape can
    be asked for gradients at them. `model.predict` would run a compiled graph instead. Used by notebook 10.
    """
    seen = {}

    def wrapped(layer, call):
        def remembering(*args, **kwargs):
            output = call(*args, **kwargs)
            seen.pop(layer, None)
            seen[layer] = Seen(args[0] if args else next(iter(kwargs.values())), output)
            return output

        return remembering

    # Written to the instance's dictionary: Keras would look for weights in what is set as an attribute.
    before = {layer: vars(layer).get("call") for layer in layers}
    try:
        for layer in before:
            vars(layer)["call"] = wrapped(layer, layer.call)
        yield seen
    finally:
        for layer, call in before.items():
            vars(layer).pop("call", None)
            if call is not None:
                vars(layer)["call"] = call


def activations(model: keras.Model, X: np.ndarray, layers: Iterable[keras.Layer]) -> dict[str, np.ndarray]:
    """Compute what layers put out for a small batch, in inference mode.

    Parameters
    ----------
    model : keras.Model
    X : np.ndarray [shape=(b, *model.input_shape[1:])], float
    layers : iterable of keras.Layer
        For instance `stages(model)`.

    Returns
    -------
    dict of str to np.ndarray [shape=(b, time, channels) or (b, bands, frames, channels)], float32
        By name of the layer, as ordered in `layers`; where nested models repeat a name, "conv", "conv (2)"... A model
        that cuts clips into patches has b times as many rows behind the cut.

    Raises
    ------
    CourseError
        X does not fit the model or holds values that are no numbers, or a layer takes no part in the model.

    Notes
    -----
    Used by notebook 10.
    """
    X, layers = np.asarray(X, dtype=np.float32), list(dict.fromkeys(layers))
    inside, wanted = all_layers(model), tuple(model.input_shape[1:])
    strangers = [layer.name for layer in layers if layer not in inside]
    if strangers:
        raise CourseError(f"Not in the model {model.name!r}: layer {', '.join(strangers)}.")
    fits = X.ndim == len(wanted) + 1 and all(n in (None, m) for n, m in zip(wanted, X.shape[1:], strict=True))
    if not fits or not len(X):
        raise CourseError(f"The batch has the shape {X.shape}, the model reads (clips, *{wanted}), at least one clip.")
    if not np.isfinite(X).all():
        raise CourseError("The batch contains values that are not a number or infinite.")
    with recording(layers) as seen:
        model(X, training=False)
    result = {}
    for layer in layers:
        name, number = layer.name, 1
        while name in result:
            number += 1
            name = f"{layer.name} ({number})"
        result[name] = np.asarray(seen[layer].output).astype(np.float32)  # some networks compute in 16 bits
    return result


def dead_units(model: keras.Model, batches: Iterable[np.ndarray], layers: Iterable[keras.Layer]) -> pd.DataFrame:
    """Find out how much of each layer says nothing.

    Parameters
    ----------
    model : keras.Model
    batches : iterable of np.ndarray [shape=(b, *model.input_shape[1:])]
        Read once, one at a time; kept are two numbers per channel and one per clip and layer.
    layers : iterable of keras.Layer
        For instance `stages(model)`.

    Returns
    -------
    pandas.DataFrame
        One row per layer: `layer`; `units`, its channels; `dead`, the share of channels whose output is the same
        (within 1e-6) at all places of all clips; `silent`, the share of outputs that are exactly 0, mean over clips,
        with its 95 % interval `silent_low` and `silent_high`; `n_clips`.

    Raises
    ------
    CourseError
        There are no batches, or as for `activations`.

    Notes
    -----
    A ReLU that never opens gets no gradient and cannot recover: Lu et al. 2020, "Dying ReLU and initialization".
    Interval: percentile bootstrap over clips. Used by notebook 10.
    """
    layers, low, high, shares = list(layers), {}, {}, []
    for X in batches:
        silent = []
        for name, values in activations(model, X, layers).items():
            values = values.reshape(len(X), -1, values.shape[-1])
            low[name] = np.minimum(low.get(name, np.inf), values.min(axis=(0, 1)))
            high[name] = np.maximum(high.get(name, -np.inf), values.max(axis=(0, 1)))
            silent.append((values == 0).mean(axis=(1, 2)))
        shares.append(silent)
    if not low:
        raise CourseError("Without batches and layers there are no units to look at.")
    silent = np.concatenate(shares, axis=1).T  # clips × layers
    spread = mean(silent)
    return pd.DataFrame(
        {
            "layer": list(low),
            "units": [len(values) for values in low.values()],
            "dead": [float(np.mean(high[name] - low[name] <= 1e-6)) for name in low],
            "silent": silent.mean(axis=0),
            "silent_low": spread["low"],
            "silent_high": spread["high"],
            "n_clips": len(silent),
        }
    )


def _is_convolution(layer: keras.Layer) -> bool:
    from keras import layers

    kinds = [getattr(layers, kind + n) for kind in ("Conv", "DepthwiseConv", "SeparableConv") for n in ("1D", "2D")]
    return isinstance(layer, tuple(kinds))
