"""Pretrained networks: image networks on spectrograms, their ImageNet weights, and YAMNet as a Keras model."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
from keras import applications, layers, ops
from sklearn.pipeline import Pipeline

from helpers.base import CourseError, DataMissing, resolve, short
from helpers.data import download
from helpers.features import FeatureSpec, yamnet

_REGIMES = ("frozen", "batch norm", "full")


def _resnet18(input_shape: tuple[int, int, int], name: str = "resnet18") -> keras.Model:
    """ResNet with 18 layers, without the last one; random weights."""

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
class _Network:
    """An image network."""

    build: Callable[..., keras.Model]
    preprocess: Callable[[np.ndarray], np.ndarray]
    smallest: int = 32


def _bare(application: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    return functools.partial(application, include_top=False, weights=None)


NETWORKS = {
    "MobileNet": _Network(_bare(applications.MobileNet), applications.mobilenet.preprocess_input),
    # Keras has no ResNet18; its pictures are prepared as in torchvision.
    "ResNet18": _Network(_resnet18, functools.partial(applications.imagenet_utils.preprocess_input, mode="torch")),
    "ResNet50": _Network(_bare(applications.ResNet50), applications.resnet.preprocess_input),
    "InceptionV3": _Network(_bare(applications.InceptionV3), applications.inception_v3.preprocess_input, smallest=75),
    "DenseNet121": _Network(_bare(applications.DenseNet121), applications.densenet.preprocess_input),
}


def _backbone(network: str, input_shape: tuple[int, int, int], weights: Weights | None = None) -> keras.Model:
    """Build an image network without its last layer, named "base"."""
    if network not in NETWORKS:
        raise CourseError(f"There is no network {network!r}; choose one of {', '.join(NETWORKS)}.")
    if weights is not None and weights.network != network:
        raise CourseError(f"These are weights of {weights.network}, not of {network}.")
    base = NETWORKS[network].build(input_shape=input_shape, name="base")
    if weights is not None:
        weights.load(base)
    return base


def _preprocessing(network: str) -> keras.layers.Rescaling:
    """Give the layer that turns colour pictures of 0..1 into what a network expects, so that it is saved with it."""
    # Keras multiplies and shifts each colour; two pictures, one black, one white, tell by how much.
    black, white = (NETWORKS[network].preprocess(np.full((1, 1, 1, 3), value))[0, 0, 0] for value in (0.0, 255.0))
    return layers.Rescaling(scale=(white - black).tolist(), offset=black.tolist(), name="preprocess")


def _set_regime(model: keras.Model, regime: str) -> None:
    """Choose what of a classifier's base is trained; compile the model afterwards. Its head is always trained."""
    if regime not in _REGIMES:
        raise CourseError(f"There is no regime {regime!r}; choose one of {', '.join(_REGIMES)}.")
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
    regime: str = "frozen",
    weights: Weights | None = None,
    pool: tuple[int, int] = (1, 1),
) -> keras.Model:
    """Classifier of spectrogram pictures: an image network as the base, a dense network as the head."""
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
    base = _backbone(network, x.shape[1:], weights)
    x = base(_preprocessing(network)(x))
    x = layer(name="features")(x)

    head = keras.Sequential([keras.Input(x.shape[1:])], name="head")
    for width in units:
        head.add(layers.Dense(width, activation="relu", kernel_initializer="he_uniform"))
        if batch_norm:
            head.add(layers.BatchNormalization())
        head.add(layers.Dropout(0.2))
    head.add(layers.Dense(n_classes, activation="softmax"))

    for part in (*base.layers, *head.layers):
        if isinstance(part, layers.BatchNormalization):
            part.momentum = 0.9  # few steps per epoch: 0.99 would lag behind
    model = keras.Model(inputs, head(x), name=network)
    _set_regime(model, regime)
    return model


_STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
# Where Keras publishes the weights (without the last layer), and the MD5 it states. It states none for MobileNet.
_PUBLISHED = {
    "MobileNet": (f"{_STORE}/mobilenet/mobilenet_1_0_224_tf_no_top.h5", None),
    "ResNet50": (
        f"{_STORE}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "4d473c1dd8becc155b73f8504c6f6626",
    ),
    "InceptionV3": (
        f"{_STORE}/inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "bcbd6486424b2319ff4ef7d526e38f63",
    ),
    "DenseNet121": (
        f"{_STORE}/densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "30ee3e1110167f948a6b9946edeeb738",
    ),
}


class WeightsMissing(DataMissing):
    """There are no ImageNet weights for a network.

    A notebook that goes on with random weights prints this message, and calls nothing pretrained.
    """

    def __init__(self, network: str, reason: str, advice: str = ""):
        super().__init__(f"{network}: no ImageNet weights ({reason}).{advice}")


@dataclass(frozen=True)
class Weights:
    """A file with ImageNet weights."""

    network: str
    path: Path
    source: str

    def load(self, base: keras.Model) -> None:
        """Put the weights into a network without its last layer."""
        try:
            base.load_weights(self.path)
        except Exception as problem:  # h5py and Keras raise whatever comes up
            text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise CourseError(
                f"{short(self.path)} cannot be read as weights of {self.network} ({text}). Remove it, and fetch it "
                f"again from {_PUBLISHED[self.network][0]}."
            ) from problem


def find_weights(network: str, weights_dir: str | os.PathLike | None = None) -> Weights:
    """Find the ImageNet weights of a network: in `weights_dir`, in Keras's cache, or at Keras's address."""
    if network not in NETWORKS:
        raise CourseError(f"There is no network {network!r}; choose one of {', '.join(NETWORKS)}.")
    if network not in _PUBLISHED:
        raise WeightsMissing(network, "Keras publishes none")
    url, md5 = _PUBLISHED[network]
    name = url.rpartition("/")[2]
    advice = f" Fetch {url}, put it into a folder, and give that as `weights_dir`."
    if weights_dir:
        folder = resolve(weights_dir)
        if not folder.is_dir():
            raise CourseError(f"There is no folder {short(folder)}; `weights_dir` names a folder with weights.")
        if (folder / name).is_file():
            return _weights(network, folder / name)
        advice = f" {short(folder)} holds no {name}.{advice}"
    path = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models" / name
    if not _whole(path, md5):
        try:
            download.receive(url, path, lambda part: _whole(part, md5))
        except CourseError as problem:
            raise WeightsMissing(network, str(problem), advice) from problem
    return _weights(network, path)


def _weights(network: str, path: Path) -> Weights:
    stated, found = _PUBLISHED[network][1], _md5(path)
    if stated is None:
        remark = f"Keras states no checksum to compare its MD5 {found} with"
    elif stated == found:
        remark = "the file Keras publishes"
    else:
        remark = f"not the file Keras publishes: MD5 {found} instead of {stated}"
    return Weights(network, path, f"{path.name}, {remark}")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _whole(path: Path, md5: str | None) -> bool:
    """Say whether a file is the published one, or, without a published checksum, at least one that can be opened."""
    if not path.is_file() or md5:
        return path.is_file() and _md5(path) == md5
    try:
        h5py.File(path).close()
    except OSError:
        return False
    return True


# Channels and stride of the 13 pairs of a depthwise and a pointwise convolution: MobileNet v1 for pictures of 96 × 64.
_PAIRS = [
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
]


def yamnet_spec(seconds: float = 5.0, denoise: bool = False) -> FeatureSpec:
    """Name the features the network reads."""
    return FeatureSpec(
        "yamnet",
        sr=yamnet.SR,
        seconds=seconds,
        n_fft=yamnet.N_FFT,
        hop_length=yamnet.HOP_LENGTH,
        n_mels=yamnet.N_MELS,
        denoise=denoise,
    )


def yamnet_network(path: str | os.PathLike | bytes | None) -> keras.Model:
    """Build the network that turns one patch into an embedding and scores."""
    inputs = keras.Input((yamnet.PATCH, yamnet.N_MELS, 1))
    he, relu = "he_normal", {"padding": "same", "activation": "relu"}
    x = layers.Conv2D(32, 3, strides=2, kernel_initializer=he, name="conv_1", **relu)(inputs)
    for number, (channels, stride) in enumerate(_PAIRS, start=2):
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


def yamnet_classifier(base: keras.Model, n_frames: int, n_classes: int, hop: int = yamnet.PATCH_HOP) -> keras.Model:
    """Put YAMNet under a new output layer that says one thing about a whole clip.

    The clip is cut into patches, every patch gets its embedding, and the mean of the embeddings is classified.
    """
    inputs = keras.Input((yamnet.N_MELS, n_frames))
    frames = layers.Permute((2, 1))(inputs)
    starts = range(0, n_frames - yamnet.PATCH + 1, hop)
    patches = ops.stack([frames[:, start : start + yamnet.PATCH] for start in starts], axis=1)
    patches = ops.reshape(patches, (-1, yamnet.PATCH, yamnet.N_MELS, 1))
    embedder = keras.Model(base.input, base.get_layer("embedding").output, name="yamnet")
    embedding = ops.reshape(embedder(patches), (-1, len(starts), embedder.output.shape[-1]))
    pooled = layers.GlobalAveragePooling1D(name="clip_embedding")(embedding)
    outputs = layers.Dense(n_classes, activation="softmax", name="head")(pooled)
    return keras.Model(inputs, outputs, name="yamnet_classifier")


def with_hop(model: keras.Model, hop: int) -> keras.Model:
    """Give a `yamnet_classifier` with another distance of patches: it shares the network, and copies the head."""
    other = yamnet_classifier(model.get_layer("yamnet"), model.input.shape[-1], model.output.shape[-1], hop)
    other.get_layer("head").set_weights(model.get_layer("head").get_weights())
    return other


def yamnet_patches(mel: np.ndarray) -> np.ndarray:
    """Cut a spectrogram [shape=(64, n_frames)] into what `yamnet_network` reads [shape=(n_patches, 96, 64, 1)]."""
    starts = range(0, mel.shape[1] - yamnet.PATCH + 1, yamnet.PATCH_HOP)
    return np.stack([mel[:, start : start + yamnet.PATCH].T for start in starts])[..., np.newaxis]


def embeddings(model: keras.Model) -> keras.Model:
    """Give the part of a `yamnet_classifier` that computes the clip's embedding [shape=(n, 1024)]."""
    return keras.Model(model.input, model.get_layer("clip_embedding").output)


def set_head(model: keras.Model, probe: Pipeline, classes: list[str]) -> None:
    """Put a linear probe into the output layer of a classifier: fine-tuning then starts from what the probe knows."""
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
    found = yamnet.LiteRT(path).weights()
    first = next((n for n, (kernel, _) in enumerate(found) if kernel.shape == (32, 3, 3, 1)), len(found))
    found = found[
        first:
    ]  # before it comes the matrix of the mel bands, which `yamnet.log_mel` computes without rounding
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


def float_copy(path: str | os.PathLike, exact: np.ndarray) -> bytes:
    """Copy a LiteRT file with its eight-bit weights written out as 32-bit numbers.

    With eight-bit weights the runtime rounds the *signals* between layers to eight bits, too; with the copy it computes
    in 32 bits with the same weights. `exact` takes the place of weights of its shape, known without rounding.
    """
    from ai_edge_litert.tools import flatbuffer_utils as tools

    graph, kinds = tools.read_model(str(path)), tools.schema_fb.TensorType
    (main,) = graph.subgraphs
    for tensor in main.tensors:
        if tensor.type == kinds.INT8 and graph.buffers[tensor.buffer].data is not None:
            scale, along = np.asarray(tensor.quantization.scale, np.float32), [1] * len(tensor.shape)
            along[tensor.quantization.quantizedDimension] = -1
            kernel = np.frombuffer(bytes(graph.buffers[tensor.buffer].data), np.int8).reshape(tensor.shape)
            kernel = exact if exact.shape == kernel.shape else kernel.astype(np.float32) * scale.reshape(along)
            buffer = tools.schema_fb.BufferT()
            buffer.data = np.frombuffer(kernel.astype("<f4").tobytes(), np.uint8)
            graph.buffers.append(buffer)
            tensor.buffer, tensor.type, tensor.quantization = len(graph.buffers) - 1, kinds.FLOAT32, None
    return bytes(tools.convert_object_to_bytearray(graph))
