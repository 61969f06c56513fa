"""Opening a network: what its layers put out for a recording, which units are dead, and where it found a class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers as kinds
from scipy.ndimage import zoom

from helpers import scores
from helpers.base import CourseError
from helpers.features.yamnet import PATCH, PATCH_HOP

_CONVOLUTIONS = tuple(getattr(kinds, f"{kind}Conv{n}D") for kind in ("", "Depthwise", "Separable") for n in (1, 2))
_BENDS = kinds.ReLU, kinds.LeakyReLU, kinds.PReLU, kinds.ELU
_BATCH = 16  # points on the way of integrated gradients that are computed at once


class Seen(NamedTuple):
    """What a layer read and put out."""

    input: tf.Tensor
    output: tf.Tensor


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """Layers in the order in which they compute, those of nested models in the place of the nested model."""
    parts = (all_layers(part) if isinstance(part, keras.Model) else [part] for part in model.layers)
    return list(dict.fromkeys(layer for part in parts for layer in part))  # each once, even if it is shared


def convolutions(model: keras.Model) -> list[keras.Layer]:
    """Convolution layers (1-D and 2-D; plain, depthwise or separable); CourseError if there are none."""
    found = [layer for layer in all_layers(model) if isinstance(layer, _CONVOLUTIONS)]
    if not found:
        raise CourseError(f"The model {model.name!r} has no convolution layer.")
    return found


def stages(model: keras.Model) -> list[keras.Layer]:
    """Layers that put out feature maps right after a nonlinearity; CourseError if there are none.

    These are activation layers, and convolutions with an activation of their own, as far as their output has the shape
    (n, time, channels) or (n, bands, frames, channels).
    """

    def bends(layer):
        own = getattr(layer, "activation", keras.activations.linear) is not keras.activations.linear
        return isinstance(layer, _BENDS) or (own and isinstance(layer, (*_CONVOLUTIONS, kinds.Activation)))

    found = [layer for layer in all_layers(model) if bends(layer) and len(layer.output.shape) in (3, 4)]
    if not found:
        raise CourseError(f"The model {model.name!r} has no feature maps: no nonlinearity over time or bands.")
    return found


@contextmanager
def recording(layers: Iterable[keras.Layer]) -> Iterator[dict[keras.Layer, Seen]]:
    """Remember what layers read and put out while the model is called, ``model(X, training=False)``, nested or not.

    The call fills the dictionary; of a layer called several times it has the last call. Tensors stay what they are, so
    that a gradient tape can be asked for gradients at them.
    """
    layers, seen = set(layers), {}

    def wrapped(layer, call):
        def remembering(x, *args, **kwargs):
            output = call(x, *args, **kwargs)
            seen[layer] = Seen(x, output)
            return output

        return remembering

    before = {layer: vars(layer).get("call") for layer in layers}
    for layer in layers:
        # Written to the instance's dictionary: Keras would look for weights in what is set as an attribute.
        vars(layer)["call"] = wrapped(layer, layer.call)
    try:
        yield seen
    finally:
        for layer, call in before.items():
            del vars(layer)["call"]
            if call is not None:
                vars(layer)["call"] = call


def checked(model: keras.Model, X, class_indices=()) -> np.ndarray:
    """Give X [shape=(n, *model.input_shape[1:])] as float32; CourseError if the model has no such input or class."""
    X, wanted, n_classes = np.asarray(X, dtype=np.float32), model.input_shape[1:], model.output_shape[-1]
    if X.ndim != len(wanted) + 1 or any(n not in (None, m) for n, m in zip(wanted, X.shape[1:], strict=True)):
        raise CourseError(f"The model {model.name!r} reads {wanted} for each clip, not {X.shape[1:]}.")
    strange = [k for k in class_indices if not 0 <= k < n_classes]
    if strange:
        raise CourseError(f"The model {model.name!r} has the classes 0 to {n_classes - 1}, not {strange[0]}.")
    return X


def activations(model: keras.Model, X: np.ndarray, layers: Iterable[keras.Layer]) -> dict[str, np.ndarray]:
    """What layers put out for a small batch [shape=(b, time, channels) or (b, bands, frames, channels)], float32.

    By name of the layer; where nested models repeat a name, "conv", "conv (2)"... A model that cuts clips into patches
    has several times as many rows behind the cut.
    """
    layers, result = list(dict.fromkeys(layers)), {}
    with recording(layers) as seen:
        model(checked(model, X), training=False)
    for layer in layers:
        name, number = layer.name, 1
        while name in result:
            number += 1
            name = f"{layer.name} ({number})"
        result[name] = np.asarray(seen[layer].output).astype(np.float32)  # some networks compute in 16 bits
    return result


def dead_units(model: keras.Model, batches: Iterable[np.ndarray], layers: list[keras.Layer]) -> pd.DataFrame:
    """Find out how much of each layer (a row each) says nothing.

    `dead` is the share of its units, the channels, whose output is the same (within 1e-6) at all places of all clips;
    `silent` the share of outputs that are exactly 0, mean over clips, with its 95 % interval over clips. A ReLU that
    never opens gets no gradient and cannot recover: Lu et al. 2020, "Dying ReLU and initialization".
    """
    low, high, shares = {}, {}, []
    for X in batches:
        found = {name: v.reshape(len(X), -1, v.shape[-1]) for name, v in activations(model, X, layers).items()}
        for name, values in found.items():
            low[name] = np.minimum(low.get(name, np.inf), values.min(axis=(0, 1)))
            high[name] = np.maximum(high.get(name, -np.inf), values.max(axis=(0, 1)))
        shares.append([(values == 0).mean(axis=(1, 2)) for values in found.values()])
    silent = scores.mean(np.concatenate(shares, axis=1).T)
    dead = [np.mean(high[name] - low[name] <= 1e-6) for name in low]
    table = pd.DataFrame({"layer": list(low), "units": [len(values) for values in low.values()], "dead": dead})
    spread = {"silent": silent["value"], "silent_low": silent["low"], "silent_high": silent["high"]}
    return table.assign(**spread, n_clips=silent["n"])


def class_activation_map(model, x, class_index: int, layer: keras.Layer | None = None) -> np.ndarray:
    """Contribution of each place of a feature map to the logit of a class: activation times gradient, for one input x.

    A map [shape=(time,) or (bands, frames)] at the last of `stages`, or at `layer`; one per patch if the model cuts the
    clip into patches. Where only flattening or pooling and one dense layer follow, it adds up to the logit without its
    bias (HiResCAM: Draelos and Carin 2020); else it is a first-order estimate. The model must end in a dense layer.
    """
    activation, gradient = _at(model, x, class_index, layer)
    return (activation * gradient).sum(axis=-1)


def grad_cam(model, x, class_index: int, layer: keras.Layer | None = None) -> np.ndarray:
    """As `class_activation_map`, but channels weighted by their mean gradient, and what is below 0 set to 0.

    Selvaraju et al. 2017. A mean gradient forgets where a channel speaks for the class, and where against it.
    """
    activation, gradient = _at(model, x, class_index, layer)
    return np.maximum(activation @ gradient.mean(axis=tuple(range(gradient.ndim - 1))), 0)


def _at(model, x, class_index, layer) -> tuple[np.ndarray, np.ndarray]:
    """Feature map of one input, and gradient of the class's logit there [shape=(places..., channels)], float32."""
    batch = tf.constant(checked(model, np.asarray(x)[np.newaxis], [class_index]))
    layer, last = stages(model)[-1] if layer is None else layer, all_layers(model)[-1]
    with recording([layer, last]) as seen, tf.GradientTape() as tape:
        tape.watch(batch)  # else a network without a weight that the tape follows would give zeros in silence
        model(batch, training=False)
        logit = (tf.cast(seen[last].input, tf.float32) @ tf.cast(last.kernel, tf.float32))[0, class_index]
    gradient = tape.gradient(logit, seen[layer].output, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    both = [values.numpy().astype(np.float32) for values in (seen[layer].output, gradient)]
    return tuple(values[0] if len(values) == 1 else values for values in both)  # more rows: patches of the clip


@dataclass(frozen=True, eq=False)
class Attribution:
    """Attributions [shape as the input] in the unit of the output, and the outputs whose difference they add up to."""

    values: np.ndarray
    output: float
    baseline_output: float

    def __str__(self) -> str:
        total, difference = self.values.sum(dtype=np.float64), self.output - self.baseline_output
        gap = abs(total - difference)
        return f"sum of attributions {total:.3f}, difference of outputs {difference:.3f}, gap {gap:.3f}"


def integrated_gradients(model, x, class_index: int, baseline: np.ndarray, steps: int) -> Attribution:
    """Attribute the model's output for one class, a probability, to the places of one input x.

    The mean gradient at `steps` points on the straight way from the baseline ("no sound") to x, in the middles of equal
    parts, times how far each place has moved. Sundararajan, Taly and Yan 2017.
    """
    x, baseline = checked(model, [x, baseline], [class_index])
    way, total = x.astype(np.float64) - baseline, np.zeros(x.shape)
    for start in range(0, steps, _BATCH):
        share = (np.arange(start, min(start + _BATCH, steps)) + 0.5) / steps
        points = tf.constant((baseline + np.multiply.outer(share, way)).astype(np.float32))
        with tf.GradientTape() as tape:
            tape.watch(points)
            # Clips of a batch do not see each other in inference: the gradient of the sum is that of each output.
            output = tf.reduce_sum(model(points, training=False)[:, class_index])
        gradients = tape.gradient(output, points, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        total += gradients.numpy().sum(axis=0, dtype=np.float64) / steps
    ends = model(tf.constant(np.stack([x, baseline])), training=False)[:, class_index].numpy()
    return Attribution((total * way).astype(np.float32), *map(float, ends))


def stretched(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring a map to the size of the input, `shape` without channels, by linear interpolation.

    Places are taken for equal parts of the input, their values for those in the middle of the parts. Values are kept,
    their sum is not.
    """
    return zoom(values, np.divide(shape, values.shape), order=1, mode="nearest", grid_mode=True).astype(np.float32)


def over_time(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lay maps of YAMNet's patches [shape=(n_patches, frames, bands)] over their clip; where they overlap, their mean.

    `shape` is that of the clip's spectrogram, (64, n_frames). Patches lie a multiple of 48 frames apart.
    """
    hop = (shape[1] - PATCH) // max(1, len(maps) - 1) // PATCH_HOP * PATCH_HOP
    total, count = np.zeros((shape[1], shape[0]), dtype=np.float32), np.zeros((shape[1], 1), dtype=np.float32)
    for number, values in enumerate(maps):
        total[number * hop : number * hop + PATCH] += stretched(values, (PATCH, shape[0]))
        count[number * hop : number * hop + PATCH] += 1
    return (total / np.maximum(count, 1)).T
