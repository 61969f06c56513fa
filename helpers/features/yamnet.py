"""YAMNet as Google publishes it: finding its LiteRT file, running it, and reading its weights."""

from __future__ import annotations

import functools
import os
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from helpers import audio, base
from helpers.base import CourseError, DataMissing
from helpers.data import download
from helpers.data.declare import RemoteFile
from helpers.features import litert, online, yamnet_mel
from helpers.features.fingerprint import sha256
from helpers.features.yamnet_mel import mel_bands  # noqa: F401

PUBLISHED = RemoteFile(
    "https://storage.googleapis.com/mediapipe-models/audio_classifier/yamnet/float32/1/yamnet.tflite",
    size=4_126_810,
    hash="sha256:4d8b4a53282dc83ef04e3e7dbc4fbc98082e34e44ed798e16c3a0cdd4c584faf",
)
CACHE = base.CACHE / "pretrained"
N_SCORES, N_EMBEDDING = 521, 1024


def find(weights_dir: str | os.PathLike | None = None) -> Path:
    """Find YAMNet's file: in the folder the user names, in the cache, or by download into the cache.

    Parameters
    ----------
    weights_dir : path, optional
        Folder with a file `yamnet.tflite` of your own.

    Returns
    -------
    pathlib.Path
        Absolute.

    Raises
    ------
    DataMissing
        It is in none of these places; the message says why it could not be fetched, and where to put it.
    CourseError
        There is no such folder.

    Notes
    -----
    A file in the folder or in the cache may be another build of YAMNet: weights are found by their shapes and order
    (see `build`). A download is checked against its SHA-256. Used by notebook 04.
    """
    folder = base.resolve(weights_dir).resolve() if weights_dir else None
    if folder and not folder.is_dir():
        raise CourseError(f"There is no folder {base.short(folder)}; `weights_dir` names a folder with yamnet.tflite.")
    for place in (folder, CACHE):
        if place is not None and (place / "yamnet.tflite").is_file():
            return place / "yamnet.tflite"
    try:
        online.ask(PUBLISHED.url)
        return download.fetch(PUBLISHED, CACHE, retries=0)
    except (CourseError, OSError) as error:
        raise DataMissing(
            f"YAMNet's weights cannot be had ({getattr(error, 'reason', error)}). Fetch {PUBLISHED.url}, put it into "
            "a folder, and give that as `weights_dir`."
        ) from error


def build(path: str | os.PathLike) -> str:
    """Say which build of YAMNet a file is: the published one, or another.

    Used by notebook 04.
    """
    digest = sha256(path)
    if f"sha256:{digest}" == PUBLISHED.hash:
        return "yamnet.tflite, the published file"
    return f"yamnet.tflite, another build than the published one: SHA-256 {digest[:8]}..."


class LiteRT:
    """YAMNet in the LiteRT runtime: samples in, scores and embeddings out.

    Parameters
    ----------
    model : path or bytes
        The file, or its content.

    Raises
    ------
    CourseError
        It is no LiteRT file, or has not the input, the scores and the embedding of YAMNet.

    Notes
    -----
    Used by notebook 04.
    """

    def __init__(self, model: str | os.PathLike | bytes):
        name = "these bytes" if isinstance(model, bytes) else base.short(model)
        graph = litert.read_graph(model)
        (main,) = graph.subgraphs
        # By shape, not by number: builds differ in their order, and in an extra axis at the input.
        pooled = [n for n, tensor in enumerate(main.tensors) if _size(tensor) == N_EMBEDDING and _is_pooled(main, n)]
        scores = [n for n in main.outputs if _size(main.tensors[n]) == N_SCORES]
        samples = [n for n in main.inputs if _size(main.tensors[n]) == yamnet_mel.PATCH_SAMPLES]
        if not (len(pooled) == len(scores) == len(samples) == 1):
            raise CourseError(
                f"{name} is not YAMNet, which has one input of 15,600 samples, one output of 521 scores and one pooled "
                f"tensor of 1,024 values; found were {len(samples)}, {len(scores)} and {len(pooled)}."
            )
        main.outputs = [scores[0], pooled[0]]  # the embedding is inside the network; now it comes out, too
        graph.signatureDefs = []  # they would still name the old outputs
        # Without the default delegate, which reports itself on the error stream and is no faster here.
        resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        content = litert.packed(graph)
        self._runner = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
        self._runner.allocate_tensors()
        self._input = self._runner.get_input_details()[0]
        by_size = {int(np.prod(detail["shape"])): detail["index"] for detail in self._runner.get_output_details()}
        self._scores, self._embedding = by_size[N_SCORES], by_size[N_EMBEDDING]

    def __call__(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Score every patch of a clip: 0.975 s every 0.48 s, the last one filled up with zeros.

        Parameters
        ----------
        y : np.ndarray [shape=(n,)]
            Mono samples at 16 kHz, full scale at ±1.

        Returns
        -------
        scores : np.ndarray [shape=(n_patches, 521)], float32
            Probability of each AudioSet class; a sound may belong to several.
        embedding : np.ndarray [shape=(n_patches, 1024)], float32
            Output of the network's global average pooling.
        """
        scores, embedding = [], []
        windows = np.lib.stride_tricks.sliding_window_view(yamnet_mel.pad(y), yamnet_mel.PATCH_SAMPLES)
        for window in windows[:: yamnet_mel.PATCH_HOP_SAMPLES]:
            self._runner.set_tensor(self._input["index"], window.reshape(self._input["shape"]).astype(np.float32))
            self._runner.invoke()
            scores.append(self._runner.get_tensor(self._scores).ravel())
            embedding.append(self._runner.get_tensor(self._embedding).ravel())
        return np.array(scores), np.array(embedding)


def class_names(path: str | os.PathLike) -> list[str]:
    """Names of the 521 AudioSet classes: from inside the file, or from yamnet_class_map.csv beside it.

    Where neither has them, the classes are called by their numbers ("AudioSet class 0"): not every build brings names.

    Used by notebook 04.
    """
    path, names = Path(path), []
    if zipfile.is_zipfile(path):  # metadata are appended to a LiteRT file as a zip archive
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(".txt") and not names:
                    names = archive.read(member).decode("utf-8").split("\n")
    if not names and (beside := path.with_name("yamnet_class_map.csv")).is_file():
        names = pd.read_csv(beside)["display_name"].tolist()
    names = [name.strip() for name in names if name.strip()]
    return names if len(names) == N_SCORES else [f"AudioSet class {number}" for number in range(N_SCORES)]


@dataclass(frozen=True)
class EmbeddingSpec:
    """The mean embedding of a clip, for `helpers.cache` and `helpers.serving`.

    Attributes
    ----------
    path : str
        YAMNet's LiteRT file.
    seconds : float
        Length. Longer clips are cut, shorter ones padded with zeros at the end.
    digest : str
        SHA-256 of the file; found by itself.
    kind, sr :
        Fixed.

    Notes
    -----
    Used by notebook 04.
    """

    path: str
    seconds: float = 5.0
    digest: str = ""
    kind: str = field(default="yamnet_embedding")
    sr: int = yamnet_mel.SR

    def __post_init__(self):
        found = sha256(self.path) if Path(self.path).is_file() else None
        if found is None or self.digest not in ("", found):
            what = "is missing" if found is None else "is another build than the one the features were made with"
            raise DataMissing(f"YAMNet's file {base.short(self.path)} {what}. Put it back, or run the notebook again.")
        object.__setattr__(self, "digest", found)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of one clip."""
        return (N_EMBEDDING,)

    def extract(self, y: np.ndarray, sr: int) -> np.ndarray:
        """Give the mean embedding [shape=(1024,), float32] of samples `y` [shape=(n,)]."""
        y = audio.fix_length(audio.resample(y, sr, self.sr), round(self.seconds * self.sr))
        return _runner(self.path, self.digest, threading.get_ident())(y)[1].mean(axis=0)


@functools.lru_cache(maxsize=8)
def _runner(path: str, digest: str, thread: int) -> LiteRT:
    return LiteRT(path)  # one for each thread: an interpreter serves one at a time


def _is_pooled(main: schema.SubGraphT, number: int) -> bool:
    """Whether a tensor is computed from a picture with as many channels."""
    makers = [operator for operator in main.operators if number in operator.outputs]
    sources = [main.tensors[n] for operator in makers for n in operator.inputs if n >= 0]
    return any(len(source.shape) == 4 and source.shape[-1] == N_EMBEDDING for source in sources)


def _size(tensor: schema.TensorT) -> int:
    return int(np.prod(tensor.shape))
