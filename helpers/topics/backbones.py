"""Spectrograms as pictures for image networks: the networks, what they expect of a picture, a classifier on top."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import applications, layers

from helpers.base import CourseError

if TYPE_CHECKING:
    from helpers.topics.imagenet import Weights

REGIMES = ("frozen", "batch norm", "full")


def resnet18(input_shape: tuple[int, int, int], name: str = "resnet18") -> keras.Model:
    """ResNet with 18 layers, without the last one; random weights.

    Parameters
    ----------
    input_shape : tuple of int
        (rows, columns, 3)
    name : str

    Returns
    -------
    keras.Model
        Output [shape=(n, rows / 32, columns / 32, 512)], rounded up; not compiled.

    Notes
    -----
    He et al. 2016, first version: a shortcut has a convolution only where the size changes. 11,176,512 parameters are
    trained; the published 11,689,512 count a last layer for 1000 classes. Initialisation as in the paper, momentum and
    epsilon of the batch normalisation as in torchvision. Used by notebook 04.
    """

    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)

    inputs = keras.Input(input_shape)
    x = layers.ReLU()(convolution(inputs, 64, 7, strides=2))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for filters, strides in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        shortcut = x if strides == 1 else convolution(x, filters, 1, strides)
        x = layers.ReLU()(convolution(x, filters, 3, strides))
        x = layers.ReLU()(layers.Add()([convolution(x, filters, 3), shortcut]))
    return keras.Model(inputs, x, name=name)


@dataclass(frozen=True)
class Network:
    """An image network.

    Attributes
    ----------
    build : callable
        Takes `input_shape` and `name`; gives the network without its last layer, with random weights.
    preprocess : callable
        What the network expects to be done to pictures of 0..255 (it changes an array in place).
    smallest : int
        Fewest rows and columns of a picture.
    """

    build: Callable[..., keras.Model]
    preprocess: Callable[[np.ndarray], np.ndarray]
    smallest: int = 32


def _bare(application: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    return functools.partial(application, include_top=False, weights=None)


NETWORKS = {
    "MobileNet": Network(_bare(applications.MobileNet), applications.mobilenet.preprocess_input),
    # Keras has no ResNet18; its pictures are prepared as in torchvision.
    "ResNet18": Network(resnet18, functools.partial(applications.imagenet_utils.preprocess_input, mode="torch")),
    "ResNet50": Network(_bare(applications.ResNet50), applications.resnet.preprocess_input),
    "InceptionV3": Network(_bare(applications.InceptionV3), applications.inception_v3.preprocess_input, smallest=75),
    "DenseNet121": Network(_bare(applications.DenseNet121), applications.densenet.preprocess_input),
}


def backbone(network: str, input_shape: tuple[int, int, int], weights: Weights | None = None) -> keras.Model:
    """Build an image network without its last layer, named "base".

    Parameters
    ----------
    network : str
        One of NETWORKS.
    input_shape : tuple of int
        (rows, columns, 3)
    weights : Weights, optional
        From `imagenet.find_weights`; without, the network's weights are random.

    Raises
    ------
    CourseError
        There is no such network, or the weights are another network's, or their file is damaged.

    Notes
    -----
    MobileNet: Howard et al. 2017. ResNet: He et al. 2016. InceptionV3: Szegedy et al. 2016. DenseNet: Huang et al.
    2017. Used by notebook 04 through `backbones.classifier`.
    """
    if network not in NETWORKS:
        raise CourseError(f"There is no network {network!r}; choose one of {', '.join(NETWORKS)}.")
    if weights is not None and weights.network != network:
        raise CourseError(f"These are weights of {weights.network}, not of {network}.")
    base = NETWORKS[network].build(input_shape=input_shape, name="base")
    if weights is not None:
        weights.load(base)
    return base


def preprocessing(network: str) -> keras.layers.Rescaling:
    """Give the layer that turns colour pictures of 0..1 into what a network expects, so that it is saved with it.

    Keras's function for that multiplies and shifts each colour; two pictures, one black, one white, tell by how much.

    Used by notebook 04 through `backbones.classifier`.
    """
    black, white = (NETWORKS[network].preprocess(np.full((1, 1, 1, 3), value))[0, 0, 0] for value in (0.0, 255.0))
    return layers.Rescaling(scale=(white - black).tolist(), offset=black.tolist(), name="preprocess")


def set_regime(model: keras.Model, regime: str) -> None:
    """Choose what of a classifier's base is trained; compile the model afterwards. Its head is always trained.

    Parameters
    ----------
    model : keras.Model
        Made by `classifier`.
    regime : str
        "frozen": nothing, and the running statistics of its batch normalisation stay as they are. "batch norm": scale
        and offset of its batch normalisation, whose statistics adapt. "full": everything.

    Raises
    ------
    CourseError
        There is no such regime.

    Notes
    -----
    Used by notebook 04.
    """
    if regime not in REGIMES:
        raise CourseError(f"There is no regime {regime!r}; choose one of {', '.join(REGIMES)}.")
    base = model.get_layer("base")
    base.trainable = regime != "frozen"  # in Keras, batch normalisation that is not trainable does not adapt either
    if regime == "batch norm":
        for layer in base.layers:
            layer.trainable = isinstance(layer, layers.BatchNormalization)


def classifier(
    network: str,
    input_shape: tuple[int, int, int],
    n_classes: int,
    units: list[int],
    features: str = "average",
    batch_norm: bool = False,
    dropout: float = 0.2,
    regime: str = "frozen",
    weights: Weights | None = None,
    pool: tuple[int, int] = (1, 1),
    momentum: float = 0.9,
) -> keras.Model:
    """Classifier of spectrogram pictures: an image network as the base, a dense network as the head.

    Parameters
    ----------
    network : str
        One of NETWORKS.
    input_shape : tuple of int
        (bands, frames, 1). Pictures are never stretched; one too small for the network is padded with 0, the floor of
        the scale, beyond its highest band and its last frame.
    n_classes : int
    units : list of int
        Units of the head's hidden layers (ReLU), each followed by dropout, with `batch_norm` in between.
    features : str
        How feature maps become features: "average" over each map, or "flatten".
    batch_norm : bool
    dropout : float
    regime : str
        What of the base is trained: see `set_regime`.
    weights : Weights, optional
        From `imagenet.find_weights`; without, the base's weights are random.
    pool : (int, int)
        Average so many bands and frames of the picture into one, leaving out a rest: (16, 1) makes 64 bands of the
        1025 of a short-time Fourier transform.
    momentum : float
        Of the running statistics of all batch normalisation. Keras's 0.99 lags behind when there are few steps.

    Returns
    -------
    keras.Model
        Pictures of 0..1 to softmax [shape=(n, n_classes)], not compiled. Its layers "preprocess", "base", "features"
        and "head" can be got by name: a frozen base gives the same features in every epoch, so compute them once and
        train "head" on them, which trains this model's head.

    Raises
    ------
    CourseError
        There is no such network, regime or kind of features, or the weights do not fit.

    Notes
    -----
    ResNet50 on (32, 216, 1), 8 classes, units 256, 128, 64, "flatten" and "batch norm": the published 27,299,656
    parameters, 3,765,064 of them trained. ResNet50 or InceptionV3 on (256, 256, 1), 15 classes, units 512, batch_norm
    and "full": the published 24,646,543 and 22,861,615. XLA is slow on CPUs: compile with ``jit_compile=False``. Used
    by notebook 04.
    """
    layer = {"average": layers.GlobalAveragePooling2D, "flatten": layers.Flatten}.get(features)
    if layer is None:
        raise CourseError(f"features must be 'average' or 'flatten', not {features!r}.")
    inputs = x = keras.Input(input_shape)
    if tuple(pool) != (1, 1):
        x = layers.AveragePooling2D(pool, name="pool")(x)
    smallest = NETWORKS[network].smallest if network in NETWORKS else 0
    missing = [max(0, smallest - size) for size in x.shape[1:3]]
    if any(missing):
        x = layers.ZeroPadding2D(tuple((0, size) for size in missing), name="pad")(x)
    x = layers.Concatenate(name="grey_to_rgb")([x, x, x])
    base = backbone(network, x.shape[1:], weights)
    x = base(preprocessing(network)(x))
    x = layer(name="features")(x)

    head = keras.Sequential([keras.Input(x.shape[1:])], name="head")
    for width in units:
        head.add(layers.Dense(width, activation="relu", kernel_initializer="he_uniform"))
        if batch_norm:
            head.add(layers.BatchNormalization())
        head.add(layers.Dropout(dropout))
    head.add(layers.Dense(n_classes, activation="softmax"))

    for part in (*base.layers, *head.layers):
        if isinstance(part, layers.BatchNormalization):
            part.momentum = momentum
    model = keras.Model(inputs, head(x), name=network)
    set_regime(model, regime)
    return model
