"""Networks that more than one notebook builds, with softmax outputs [shape=(n, n_classes)], not compiled.

Every choice is an argument, so that a notebook can spell it out.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from helpers.base import CourseError


def compact_cnn(
    input_shape: tuple[int, int, int], n_classes: int, filters: list[int], dropout: float = 0.3
) -> keras.Model:
    """CNN with batch normalisation after every 3 x 3 convolution and global pooling instead of flattening.

    Global pooling makes it indifferent to *when* a sound happens: the mean says what goes on all the time, the maximum
    what happened once (both as in PANNs, Kong et al. 2020). `input_shape` is (bands, frames, 1).
    """
    inputs = x = keras.Input(input_shape)
    for number, width in enumerate(filters, start=1):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))  # few steps per epoch: 0.99 would lag behind
        if number < len(filters):
            x = layers.MaxPooling2D(2)(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x), name="compact_cnn")


def raw_cnn(
    n_samples: int,
    n_classes: int,
    filters: Sequence[int],
    kernel_size: int | Sequence[int],
    pool_size: int,
    pooled: Sequence[int],
    stride: int = 1,
    same: bool = True,
    dense: Sequence[int] = (),
    dropout: float = 0.0,
    batch_norm: bool = False,
    norm_values: bool = False,
    activation: str = "relu",
    envelope: int = 0,
) -> keras.Model:
    """CNN that reads the samples themselves (n_samples, 1): 1-D convolutions and poolings, then dense layers.

    Max pooling follows the convolutions numbered in `pooled`, from 0; `stride` is that of the first. `same` keeps
    lengths, and pooling leaves a rest out; else convolutions shorten, and pooling keeps the rest. With `batch_norm`,
    `norm_values` normalises the flattened values, too. `envelope` averages what the first layer puts out over so many
    places and takes the logarithm, as a log-mel spectrogram does (Sainath et al. 2015); it needs `batch_norm` and ReLU.
    The layer "values" is what a clip has been compressed to. CourseError: the clip is too short for the network.
    """
    inputs = x = keras.Input((n_samples, 1))
    kernel_sizes = [kernel_size] * len(filters) if isinstance(kernel_size, int) else kernel_size
    padding = "same" if same else "valid"
    for number, (width, size) in enumerate(zip(filters, kernel_sizes, strict=True)):
        # Pooling comes before normalisation and activation, which then work on a third of the places.
        steps = [lambda x, w=width, s=size, n=number: layers.Conv1D(
            w, s, strides=1 if n else stride, padding=padding, name=f"conv{n + 1}")(x)]  # fmt: skip
        if number in pooled:
            steps.append(layers.MaxPooling1D(pool_size, padding="valid" if same else "same"))
        if batch_norm:
            steps.append(layers.BatchNormalization(momentum=0.9))
        steps.append(layers.Activation(activation, name=f"{activation}{number + 1}"))
        if envelope and not number:
            steps += [layers.AveragePooling1D(envelope), lambda x: ops.log(x + 0.01)]
            steps.append(layers.BatchNormalization(momentum=0.9))
        for step in steps:
            x = _longer_than_nothing(step, x, n_samples, number)
    x = layers.Flatten(name="flat" if norm_values and batch_norm else "values")(x)
    if norm_values and batch_norm:
        x = layers.BatchNormalization(momentum=0.9, name="values")(x)
    for width in dense:
        x = layers.Dense(width)(layers.Dropout(dropout)(x))
        if batch_norm:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation(activation)(x)
    x = layers.Dropout(dropout)(x)
    # Probabilities in 32 bits, also where the rest computes in 16.
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax", dtype="float32")(x), name="raw_cnn")


def _longer_than_nothing(step, x, n_samples: int, number: int):
    """Add a layer, or say that nothing of the clip is left for it."""
    try:
        x = step(x)
    except ValueError as error:
        if "negative" not in str(error).lower() and "must be > 0" not in str(error):
            raise
        x = None
    if x is None or x.shape[1] < 1:
        raise CourseError(
            f"A clip of {n_samples} samples is too short for layer {number + 1} of this network; take longer clips "
            "(`seconds`), or pool less."
        )
    return x


def settings(part: keras.Layer | keras.Optimizer) -> dict:
    """Give the settings of a layer or an optimiser, free of the running number in its name."""
    return {key: value for key, value in part.get_config().items() if key != "name"}


def architecture(model: keras.Model) -> list[str]:
    """Describe the layers of a network and the operations between them; equal for two networks built alike."""
    parts = getattr(model, "operations", model.layers)  # a Sequential has layers only
    return [f"{type(part).__name__} {settings(part)}" for part in parts]
