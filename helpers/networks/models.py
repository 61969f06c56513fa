"""Networks that more than one notebook builds. Every choice is an argument, so that a notebook can spell it out."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers, ops

from helpers.base import CourseError


def flatten_cnn(
    input_shape: tuple[int, int, int],
    n_classes: int,
    filters: list[int],
    pools: list[tuple[int, int]],
    dense: int,
    dropout: tuple[float, float] = (0.25, 0.5),
    dropout_before_norm: bool = False,
    initializer: str = "glorot_uniform",
    momentum: float = 0.99,
) -> keras.Model:
    """CNN whose last feature maps are flattened into a dense layer, as in the published household-sounds system.

    Parameters
    ----------
    input_shape : tuple of int
        (bands, frames, 1)
    n_classes : int
    filters : list of int
        Filters of each 3×3 convolution ("same" padding, ReLU).
    pools : list of (int, int)
        Max pooling after the first `len(pools)` convolutions, as (bands, frames).
    dense : int
        Units of the hidden dense layer.
    dropout : (float, float)
        Rates before flattening and after the dense layer.
    dropout_before_norm : bool
        Put another dropout before the batch normalisation.
    initializer : str
        Of the weights in front of a ReLU.
    momentum : float
        Of the running statistics of the batch normalisation.

    Returns
    -------
    keras.Model
        Softmax output [shape=(n, n_classes)], not compiled.

    Notes
    -----
    With (128, 216, 1), 8 classes, filters 16, 16, 32, 32, pools (1, 2), (2, 2), (2, 2), (2, 2) and 64 units it has
    443,064 parameters; with (32, 216, 1), filters 8, 8, 16, 16, 32, 32, pools (1, 2), (1, 2), (1, 2), (2, 2) and 128
    units 871,296. The publication names neither initialisation nor dropout rates. Used by notebook 03.
    """
    inputs = keras.Input(input_shape)
    x = inputs
    for number, width in enumerate(filters):
        x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer=initializer)(x)
        if number < len(pools):
            x = layers.MaxPooling2D(pools[number])(x)
    if dropout_before_norm:
        x = layers.Dropout(dropout[0])(x)
    x = layers.BatchNormalization(momentum=momentum)(x)
    x = layers.Dropout(dropout[0])(x)
    x = layers.Flatten()(x)
    x = layers.Dense(dense, activation="relu", kernel_initializer=initializer)(x)
    x = layers.Dropout(dropout[1])(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x), name="flatten_cnn")


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
    """CNN that reads the samples themselves: a stack of 1-D convolutions and poolings, then dense layers.

    Parameters
    ----------
    n_samples : int
        Length of a clip; the network reads (n_samples, 1).
    n_classes : int
    filters : sequence of int
        Filters of each convolution.
    kernel_size : int or sequence of int
        Samples (later: places) a filter spans, for all convolutions or for each.
    pool_size : int
        Places a maximum spans.
    pooled : sequence of int
        Which convolutions are followed by max pooling, counted from 0.
    stride : int
        Step of the first convolution, samples.
    same : bool
        Convolutions keep the length, and pooling leaves a rest out; otherwise convolutions shorten it, and pooling
        keeps the rest.
    dense : sequence of int
        Units of hidden dense layers.
    dropout : float
        Rate in front of every dense layer, the last included.
    batch_norm : bool
        Normalise after every convolution and hidden dense layer.
    norm_values : bool
        With `batch_norm`: normalise the flattened values, too.
    activation : str
    envelope : int
        Average what the first convolution and its ReLU put out over so many places, and take the logarithm (of the mean
        and 0.01): the level of each filter's output over time, as in a log-mel spectrogram. Needs `batch_norm`, which
        brings the outputs to the size of one, and normalises the logarithm, too. 0: do not.

    Returns
    -------
    keras.Model
        Softmax output [shape=(n, n_classes)], not compiled. The layer "values" is what a clip has been compressed to.

    Raises
    ------
    CourseError
        The clip is too short for the network, or an `envelope` is asked for without `batch_norm` or without ReLU.

    Notes
    -----
    Builds the seven published networks on spoken words (notebook 07 lists them and their parameters); where they put
    dropout, and batch normalisation relative to pooling, is not known. Here pooling comes first: normalisation and
    activation then work on a third of the places, and for a ReLU without normalisation the result is the same. A
    bank of learned filters, rectified, averaged and its logarithm taken: Sainath et al. 2015, "Learning the speech
    front-end with raw waveform CLDNNs". Used by notebook 07.
    """
    if envelope and not (batch_norm and activation == "relu"):
        raise CourseError("A network that takes the logarithm of an envelope needs batch normalisation and ReLU.")
    inputs = x = keras.Input((n_samples, 1))
    kernel_sizes = [kernel_size] * len(filters) if isinstance(kernel_size, int) else kernel_size
    padding = "same" if same else "valid"
    for number, (width, size) in enumerate(zip(filters, kernel_sizes, strict=True)):
        step = 1 if number else stride
        if not same and x.shape[1] < size:
            raise CourseError(f"A clip of {n_samples} samples is too short for the filters of layer {number + 1}.")
        x = layers.Conv1D(width, size, strides=step, padding=padding, name=f"conv{number + 1}")(x)
        if number in pooled and same and x.shape[1] < pool_size:
            raise CourseError(
                f"A clip of {n_samples} samples is too short for pooling {len(pooled)} times by {pool_size}; take "
                "longer clips, or pool less."
            )
        if number in pooled:
            x = layers.MaxPooling1D(pool_size, padding="valid" if same else "same")(x)
        if batch_norm:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation(activation, name=f"{activation}{number + 1}")(x)
        if envelope and not number:
            if x.shape[1] < envelope:
                raise CourseError(f"A clip of {n_samples} samples is too short to average over {envelope} places.")
            x = ops.log(layers.AveragePooling1D(envelope)(x) + 0.01)
            x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Flatten(name="flat" if norm_values and batch_norm else "values")(x)
    if norm_values and batch_norm:
        x = layers.BatchNormalization(momentum=0.9, name="values")(x)
    for width in dense:
        x = layers.Dropout(dropout)(x)
        x = layers.Dense(width)(x)
        if batch_norm:
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation(activation)(x)
    x = layers.Dropout(dropout)(x)
    # Probabilities in 32 bits, also where the rest computes in 16.
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax", dtype="float32")(x), name="raw_cnn")


def dense_net(n_features: int, n_classes: int, units: list[int], dropout: float = 0.2) -> keras.Model:
    """Plain dense network on one vector per clip.

    Parameters
    ----------
    n_features : int
    n_classes : int
    units : list of int
        Units of the hidden layers (ReLU, each followed by dropout).
    dropout : float

    Returns
    -------
    keras.Model
        Softmax output [shape=(n, n_classes)], not compiled.

    Notes
    -----
    32 features, 8 classes and units 32, 64, 128 give the 12,520 parameters of the published system. Used by
    notebook 05.
    """
    inputs = keras.Input((n_features,))
    x = inputs
    for width in units:
        x = layers.Dense(width, activation="relu")(x)
        x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x), name="dense_net")


def compact_cnn(
    input_shape: tuple[int, int, int], n_classes: int, filters: list[int], dropout: float = 0.3
) -> keras.Model:
    """CNN with batch normalisation after every convolution and global pooling instead of flattening.

    Global pooling makes the network indifferent to *when* a sound happens, and takes the hundreds of thousands of
    weights of a flattened layer away. The mean says what goes on all the time, the maximum what happened once.

    Parameters
    ----------
    input_shape : tuple of int
        (bands, frames, 1)
    n_classes : int
    filters : list of int
        Filters of each 3×3 convolution; all but the last are followed by 2×2 max pooling.
    dropout : float
        Rate before the output layer.

    Returns
    -------
    keras.Model
        Softmax output [shape=(n, n_classes)], not compiled.

    Notes
    -----
    Batch normalisation: Ioffe and Szegedy 2015; mean and maximum pooled together as in PANNs (Kong et al. 2020). Used
    by notebooks 03 and 07.
    """
    inputs = keras.Input(input_shape)
    x = inputs
    for number, width in enumerate(filters, start=1):
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)  # few steps per epoch: the default 0.99 would lag behind
        x = layers.ReLU()(x)
        if number < len(filters):
            x = layers.MaxPooling2D(2)(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.GlobalMaxPooling2D()(x)])
    x = layers.Dropout(dropout)(x)
    return keras.Model(inputs, layers.Dense(n_classes, activation="softmax")(x), name="compact_cnn")


def settings(part: keras.Layer | keras.Optimizer) -> dict:
    """Give the settings of a layer or an optimiser, free of the running number in its name.

    Used by notebook 03, which records them, and by `architecture`.
    """
    return {key: value for key, value in part.get_config().items() if key != "name"}


def architecture(model: keras.Model) -> list[str]:
    """Describe the layers of a network, and the operations between them, such as a logarithm.

    Returns
    -------
    list of str
        Kind and settings of each; equal for two networks built alike.

    Notes
    -----
    Recorded by notebooks 03 and 07, so that a changed network is not taken for one trained before (a constant inside an
    operation is not seen).
    """
    return [f"{type(part).__name__} {settings(part)}" for part in model.operations]
