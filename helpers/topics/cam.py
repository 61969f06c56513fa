"""Where in the clip a network found a class: class activation maps, and the exact share of each place in the logit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.base import CourseError
from helpers.topics.activations import all_layers, recording, stages
from helpers.topics.attribution import check_class

if TYPE_CHECKING:
    import keras


def class_activation_map(
    model: keras.Model, x: np.ndarray, class_index: int, layer: keras.Layer | None = None
) -> np.ndarray:
    """Compute what each place of a feature map contributes to the logit of a class: activation times gradient.

    Parameters
    ----------
    model : keras.Model
        Ends in a dense layer with softmax. Called with training=False.
    x : np.ndarray [shape=model.input_shape[1:]], float
        One input, without the batch axis.
    class_index : int
        The class explained.
    layer : keras.Layer
        Whose output is the feature map. None takes the last of `activations.stages`.

    Returns
    -------
    np.ndarray [shape=(time,) or (bands, frames)], float32
        Contributions in the unit of the logit, summed over channels. A model that cuts the clip into patches gives
        one map per patch, along a first axis.

    Raises
    ------
    CourseError
        x does not fit the model or is no numbers, there is no such class, the layer is not in the model or has no
        places, the model does not end in a dense softmax layer, or Keras runs on another backend than TensorFlow.

    Notes
    -----
    Explained is the logit, the input of the softmax: the probability's gradient vanishes where the network is sure.
    With flattening and one dense layer, or with any mix of global average and maximum pooling and one dense layer, the
    map adds up to the logit without its bias (HiResCAM: Draelos and Carin 2020). With average pooling alone it is the
    class activation map of Zhou et al. 2016, divided by the number of places. Where more layers with offsets or
    nonlinearities follow the feature map, it is a first-order estimate, and does not add up. Used by notebook 10.
    """
    activation, gradient = _at(model, x, class_index, layer)
    return (activation * gradient).sum(axis=-1)


def grad_cam(model: keras.Model, x: np.ndarray, class_index: int, layer: keras.Layer | None = None) -> np.ndarray:
    """Compute the Grad-CAM of a class: channels weighted by their mean gradient, negative places set to 0.

    Parameters
    ----------
    model, x, class_index, layer
        As for `class_activation_map`.

    Returns
    -------
    np.ndarray [shape=(time,) or (bands, frames)], float32
        0 or greater. Comparable within one map only.

    Raises
    ------
    CourseError
        As for `class_activation_map`.

    Notes
    -----
    Selvaraju et al. 2017. After global average pooling it is the positive part of `class_activation_map`. After
    flattening the two differ: a mean gradient forgets where a channel speaks for the class, and where against it. Used
    by notebook 10.
    """
    activation, gradient = _at(model, x, class_index, layer)
    weights = gradient.mean(axis=tuple(range(gradient.ndim - 1)))
    return np.maximum(activation @ weights, 0)


def stretched(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Bring a map to the size of the input, so that it can be laid over the picture or the waveform.

    Parameters
    ----------
    values : np.ndarray [shape=(time,) or (bands, frames)]
    shape : tuple of int
        (n_samples,) or (bands, frames): as many axes as `values`, without channels.

    Returns
    -------
    np.ndarray [shape=shape], float32

    Raises
    ------
    CourseError
        The two do not have the same number of axes, or one of them is empty.

    Notes
    -----
    Places are taken for equal parts of the input, their values for those in the middle of the parts; in between the
    interpolation is linear. Convolutions without padding, and inputs padded by the model, shift them a little. Values
    are kept, their sum is not. Used by notebook 10.
    """
    from scipy.ndimage import zoom

    values, shape = np.asarray(values, dtype=np.float64), tuple(shape)
    if values.ndim != len(shape) or not values.size or min(shape, default=0) < 1:
        raise CourseError(f"A map {values.shape} cannot be stretched to {shape}: leave out the axis of channels.")
    factors = np.divide(shape, values.shape)
    return zoom(values, factors, order=1, mode="nearest", grid_mode=True).astype(np.float32)


def _at(model, x, class_index, layer) -> tuple[np.ndarray, np.ndarray]:
    """Feature map of one input, and gradient of the class's logit there [shape=(places..., channels)], float32."""
    x, layer, last = _checked(model, x, class_index, layer)
    import tensorflow as tf

    batch = tf.constant(x[np.newaxis])
    with recording([layer, last]) as seen, tf.GradientTape() as tape:
        tape.watch(batch)  # a frozen network has no trainable weights that a tape would follow by itself
        model(batch, training=False)
        logit = (tf.cast(seen[last].input, tf.float32) @ tf.cast(last.kernel, tf.float32))[0, class_index]
        if last.use_bias:
            logit += tf.cast(last.bias[class_index], tf.float32)
    activation = seen[layer].output
    gradient = tape.gradient(logit, activation, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    both = [values.numpy().astype(np.float32) for values in (activation, gradient)]
    return tuple(values[0] if len(values) == 1 else values for values in both)  # more rows: patches of the clip


def _checked(model, x, class_index, layer) -> tuple[np.ndarray, keras.Layer, keras.Layer]:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise CourseError(f"Gradients are written for TensorFlow; Keras runs on {keras.backend.backend()}.")
    inside = all_layers(model)
    last = inside[-1]
    if not isinstance(last, keras.layers.Dense) or last.activation is not keras.activations.softmax:
        raise CourseError(f"The model {model.name!r} does not end in a dense layer with softmax, but in {last.name!r}.")
    layer = stages(model)[-1] if layer is None else layer
    if layer not in inside:
        raise CourseError(f"The layer {getattr(layer, 'name', layer)!r} is not in the model {model.name!r}.")
    if len(layer.output.shape) not in (3, 4):
        raise CourseError(f"The layer {layer.name!r} has no places, only channels; take one of activations.stages.")
    x, wanted = np.asarray(x, dtype=np.float32), tuple(model.input_shape[1:])
    if x.ndim != len(wanted) or any(n not in (None, m) for n, m in zip(wanted, x.shape, strict=True)):
        raise CourseError(f"The input has the shape {x.shape}, the model reads {wanted} (without batch axis).")
    if not np.isfinite(x).all():
        raise CourseError("The input contains values that are not a number or infinite.")
    check_class(model, class_index)
    return x, layer, last
