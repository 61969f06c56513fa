"""YAMNet as a Keras model that can be trained further, with the weights of the LiteRT file."""

from __future__ import annotations

import os

import keras
import numpy as np
from keras import layers, ops
from sklearn.pipeline import Pipeline

from helpers.base import CourseError
from helpers.features import FeatureSpec, litert
from helpers.features.yamnet_mel import HOP_LENGTH, N_FFT, N_MELS, PATCH, PATCH_HOP, SR

# Channels and stride of the 13 pairs of a depthwise and a pointwise convolution: MobileNet v1 for pictures of 96 × 64.
PAIRS = [
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
]


def spec(seconds: float = 5.0, denoise: bool = False) -> FeatureSpec:
    """Name the features the network reads.

    Used by notebook 04.
    """
    return FeatureSpec(
        "yamnet", sr=SR, seconds=seconds, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=N_MELS, denoise=denoise
    )


def network(path: str | os.PathLike | bytes | None) -> keras.Model:
    """Build the network that turns one patch into an embedding and scores.

    Parameters
    ----------
    path : path, bytes or None
        LiteRT file (or its content) to take the weights from. None: random weights (He), for a control.

    Returns
    -------
    keras.Model
        Input [shape=(n, 96, 64, 1)]: patches of `helpers.yamnet_mel.log_mel`, frames × bands. Outputs: embedding
        [shape=(n, 1024)] and scores [shape=(n, 521)].

    Raises
    ------
    CourseError
        The file does not hold YAMNet's layers.

    Notes
    -----
    MobileNet v1 (Howard et al. 2017) trained on AudioSet by Plakal and Ellis (2019). Batch normalisation is part of the
    convolutions' weights in the file, and stays so here: there are no statistics that training on few clips could
    spoil. Used by notebook 04.
    """
    inputs = keras.Input((PATCH, N_MELS, 1))
    he, relu = "he_normal", {"padding": "same", "activation": "relu"}
    x = layers.Conv2D(32, 3, strides=2, kernel_initializer=he, name="conv_1", **relu)(inputs)
    for number, (channels, stride) in enumerate(PAIRS, start=2):
        # Keras counts all channels as inputs of a depthwise kernel, which has one: He's rule needs as many times more.
        spread = keras.initializers.VarianceScaling(2.0 * x.shape[-1], "fan_in")
        x = layers.DepthwiseConv2D(3, stride, depthwise_initializer=spread, name=f"depth_{number}", **relu)(x)
        x = layers.Conv2D(channels, 1, kernel_initializer=he, name=f"conv_{number}", **relu)(x)
    embedding = layers.GlobalAveragePooling2D(name="embedding")(x)
    scores = layers.Dense(521, activation="sigmoid", name="scores")(embedding)
    model = keras.Model(inputs, [embedding, scores], name="yamnet")
    if path is not None:
        _load(model, path)
    return model


def classifier(base: keras.Model, n_frames: int, n_classes: int, hop: int = PATCH_HOP) -> keras.Model:
    """Put YAMNet under a new output layer that says one thing about a whole clip.

    The clip is cut into patches, every patch gets its embedding, and the mean of the embeddings is classified.

    Parameters
    ----------
    base : keras.Model
        As made by `network`; its weights are shared, not copied.
    n_frames : int
        Frames of the clip, from `spec(...).shape`.
    n_classes : int
    hop : int
        Frames from one patch to the next: 48 as published; 96 takes half the time, good enough while training.

    Returns
    -------
    keras.Model
        Input [shape=(n, 64, n_frames)], softmax output [shape=(n, n_classes)], not compiled.

    Notes
    -----
    Used by notebook 04.
    """
    inputs = keras.Input((N_MELS, n_frames))
    frames = layers.Permute((2, 1))(inputs)
    starts = range(0, n_frames - PATCH + 1, hop)
    patches = ops.stack([frames[:, start : start + PATCH] for start in starts], axis=1)
    patches = ops.reshape(patches, (-1, PATCH, N_MELS, 1))
    embedder = keras.Model(base.input, base.get_layer("embedding").output, name="yamnet")
    embedding = ops.reshape(embedder(patches), (-1, len(starts), embedder.output.shape[-1]))
    pooled = layers.GlobalAveragePooling1D(name="clip_embedding")(embedding)
    outputs = layers.Dense(n_classes, activation="softmax", name="head")(pooled)
    return keras.Model(inputs, outputs, name="yamnet_classifier")


def with_hop(model: keras.Model, hop: int) -> keras.Model:
    """Give a `classifier` with another distance of patches; it shares the network, and has a copy of the head.

    Used by notebook 04.
    """
    other = classifier(model.get_layer("yamnet"), model.input.shape[-1], model.output.shape[-1], hop)
    other.get_layer("head").set_weights(model.get_layer("head").get_weights())
    return other


def patches(mel: np.ndarray) -> np.ndarray:
    """Cut a spectrogram [shape=(64, n_frames)] into what `network` reads [shape=(n_patches, 96, 64, 1)].

    Used by notebook 04.
    """
    starts = range(0, mel.shape[1] - PATCH + 1, PATCH_HOP)
    return np.stack([mel[:, start : start + PATCH].T for start in starts])[..., np.newaxis]


def over_time(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Lay maps of a `classifier`'s patches over the clip they were cut from; where patches overlap, their mean.

    Parameters
    ----------
    maps : np.ndarray [shape=(n_patches, frames, bands)]
        Of any resolution, such as `helpers.cam` gives them.
    shape : (int, int)
        Of the clip's spectrogram: (64, n_frames). The patches are taken to lie a multiple of 48 frames apart, as far
        as they fit; frames that no patch reaches get 0.

    Returns
    -------
    np.ndarray [shape=shape], float32

    Notes
    -----
    Used by notebook 10.
    """
    from helpers.topics.cam import stretched

    hop = (shape[1] - PATCH) // max(1, len(maps) - 1) // PATCH_HOP * PATCH_HOP
    total, count = np.zeros((shape[1], shape[0]), dtype=np.float32), np.zeros((shape[1], 1), dtype=np.float32)
    for number, values in enumerate(maps):
        total[number * hop : number * hop + PATCH] += stretched(values, (PATCH, shape[0]))
        count[number * hop : number * hop + PATCH] += 1
    return (total / np.maximum(count, 1)).T


def embeddings(model: keras.Model) -> keras.Model:
    """Give the part of a `classifier` that computes the clip's embedding [shape=(n, 1024)].

    Used by notebook 04.
    """
    return keras.Model(model.input, model.get_layer("clip_embedding").output)


def set_head(model: keras.Model, probe: Pipeline, classes: list[str]) -> None:
    """Put a linear probe into the output layer of a classifier: fine-tuning then starts from what the probe knows.

    Parameters
    ----------
    model : keras.Model
        Whose layer "head" is one dense layer with softmax: a `classifier`, or one of `helpers.backbones` without
        hidden units.
    probe : sklearn.pipeline.Pipeline
        A StandardScaler and a LogisticRegression, fitted on the model's embeddings.
    classes : list of str
        The model's classes. One the probe has not met gets a probability of practically 0.

    Notes
    -----
    The model's output then equals the probe's probabilities. Linear probing first, then fine-tuning: Kumar et al. 2022.
    Used by notebook 04.
    """
    scaler, regression = probe[0], probe[-1]
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn then keeps the difference of the two only
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercept = np.array([0.0, intercept[0]])
    met = [classes.index(name) for name in regression.classes_]
    kernel, bias = np.zeros((len(classes), scaler.n_features_in_)), np.full(len(classes), -30.0)
    kernel[met] = coefficients / scaler.scale_
    bias[met] = intercept - kernel[met] @ scaler.mean_
    model.get_layer("head").set_weights([kernel.T.astype(np.float32), bias.astype(np.float32)])


def _load(model: keras.Model, path: str | os.PathLike | bytes) -> None:
    found = litert.weights(path)
    first = next((n for n, (kernel, _) in enumerate(found) if kernel.shape == (32, 3, 3, 1)), len(found))
    found = found[first:]  # before it comes the matrix of the mel bands, which yamnet_mel computes without rounding
    wanted = [layer for layer in model.layers if layer.weights]
    if len(found) != len(wanted):
        raise CourseError(
            f"The file holds {len(found)} layers from the first convolution on; YAMNet has {len(wanted)}."
        )
    for layer, (kernel, bias) in zip(wanted, found, strict=True):
        dense = isinstance(layer, layers.Dense)
        kernel = kernel.reshape(len(kernel), -1).T if dense else kernel.transpose(1, 2, 3, 0)
        if [kernel.shape, bias.shape] != [tuple(weight.shape) for weight in layer.weights]:
            raise CourseError(
                f"Layer {layer.name} of YAMNet has weights {layer.kernel.shape}; the file has {kernel.shape}."
            )
        layer.set_weights([kernel, bias])
