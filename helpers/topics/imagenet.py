"""ImageNet weights of the networks in `helpers.backbones`: found, fetched whole, or plainly missing."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

import keras

from helpers.base import CourseError, DataMissing, resolve, short
from helpers.features import online
from helpers.topics import backbones

_STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
# Where Keras publishes the weights (without the last layer), and the MD5 it states. It states none for MobileNet.
PUBLISHED = {
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

    Attributes
    ----------
    reason : str
        Why, in a few words.
    """

    def __init__(self, network: str, reason: str, advice: str = ""):
        super().__init__(f"{network}: no ImageNet weights ({reason}).{advice}")
        self.reason = reason


@dataclass(frozen=True)
class Weights:
    """A file with ImageNet weights.

    Attributes
    ----------
    network : str
        The network it belongs to.
    path : pathlib.Path
    source : str
        Name of the file, and whether it is the one Keras publishes; print and record it.
    """

    network: str
    path: Path
    source: str

    def load(self, base: keras.Model) -> None:
        """Put the weights into a network without its last layer.

        Raises
        ------
        CourseError
            The file is damaged, or holds something else.
        """
        try:
            base.load_weights(self.path)
        except Exception as problem:  # h5py and Keras raise whatever comes up
            text = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise CourseError(
                f"{short(self.path)} cannot be read as weights of {self.network} ({text}). Remove it, and fetch it "
                f"again from {PUBLISHED[self.network][0]}."
            ) from problem


def find_weights(network: str, weights_dir: str | os.PathLike | None = None) -> Weights:
    """Find the ImageNet weights of a network: in `weights_dir`, in Keras's cache, or at Keras's address.

    Parameters
    ----------
    network : str
        One of `backbones.NETWORKS`.
    weights_dir : path, optional
        Folder with files of weights under the names Keras publishes them by. Nothing is written to it.

    Returns
    -------
    Weights
        In `source`, whether the file is Keras's own. A file in `weights_dir` may be another; its `source` says so. In
        the cache and from the network, only the published file is taken, and only when it is complete.

    Raises
    ------
    WeightsMissing
        There are none, or they cannot be had: no network, refused, no answer within 15 s, not what was published.
    CourseError
        There is no such network, or no such folder.

    Notes
    -----
    A download is tried, in Keras's own cache (``~/.keras/models``, or ``KERAS_HOME``), once: in a folder of its own,
    and moved when complete, as what a killed download leaves must not be taken for whole. Used by notebook 04.
    """
    if network not in backbones.NETWORKS:
        raise CourseError(f"There is no network {network!r}; choose one of {', '.join(backbones.NETWORKS)}.")
    if network not in PUBLISHED:
        raise WeightsMissing(network, "Keras publishes none")
    url, md5 = PUBLISHED[network]
    name = url.rpartition("/")[2]
    advice = f" Fetch {url}, put it into a folder, and give that as `weights_dir`."
    if weights_dir:
        folder = resolve(weights_dir)
        if not folder.is_dir():
            raise CourseError(f"There is no folder {short(folder)}; `weights_dir` names a folder with weights.")
        if (folder / name).is_file():
            return _weights(network, folder / name)
        advice = f" {short(folder)} holds no {name}.{advice}"
    cache = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
    if not _whole(network, cache / name):
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as part:
                _download(url, md5, part)
                if not _whole(network, Path(part) / name):
                    raise ValueError("what arrived is not the published file")
                os.replace(Path(part) / name, cache / name)
        except Exception as problem:  # Keras raises plain Exception for what the network does
            reason = getattr(problem, "reason", None) or problem
            raise WeightsMissing(network, f"{urllib.parse.urlsplit(url).netloc}: {reason}", advice) from problem
    return _weights(network, cache / name)


def _weights(network: str, path: Path) -> Weights:
    stated, found = PUBLISHED[network][1], _md5(path)
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


def _whole(network: str, path: Path) -> bool:
    """Say whether a file is the published one, or, without a published checksum, at least weights that can be read."""
    md5 = PUBLISHED[network][1]
    if not path.is_file() or md5:
        return path.is_file() and _md5(path) == md5
    smallest = backbones.NETWORKS[network].smallest
    try:
        backbones.backbone(network, (smallest, smallest, 3), Weights(network, path, ""))
    except CourseError:
        return False
    return True


def _download(url: str, md5: str | None, folder: str) -> None:
    """Let Keras fetch a file into a folder; give up when nothing comes for some seconds."""
    online.ask(url)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(
        online.SECONDS
    )  # Keras sets none: a connection that went dead would hold the notebook forever
    try:
        keras.utils.get_file(url.rpartition("/")[2], url, cache_subdir=folder, file_hash=md5)
    finally:
        socket.setdefaulttimeout(before)
