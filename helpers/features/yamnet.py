"""YAMNet as Google publishes it: the spectrogram it reads, and its LiteRT file found, run and read."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
import zipfile
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import scipy.signal

from helpers import audio, base
from helpers.base import CourseError, DataMissing
from helpers.data import download

SR = 16000
N_FFT = 512
_WINDOW = 400  # samples: 25 ms
HOP_LENGTH = 160  # samples: 10 ms
N_MELS = 64
PATCH = 96  # frames the network sees at once
PATCH_HOP = 48  # frames from one patch to the next
_PATCH_SAMPLES = _WINDOW + (PATCH - 1) * HOP_LENGTH  # 15,600 samples, 0.975 s
_PATCH_HOP_SAMPLES = PATCH_HOP * HOP_LENGTH
_URL = "https://storage.googleapis.com/mediapipe-models/audio_classifier/yamnet/float32/1/yamnet.tflite"
_SHA256 = "4d8b4a53282dc83ef04e3e7dbc4fbc98082e34e44ed798e16c3a0cdd4c584faf"
_CACHE = base.CACHE / "pretrained"
_N_SCORES, _N_EMBEDDING = 521, 1024


def _n_patches(n_samples: int) -> int:
    """Patches of a clip of `n_samples`; the last one is filled up with zeros, so that nothing is left unheard."""
    return 1 + max(0, -(-(n_samples - _PATCH_SAMPLES) // _PATCH_HOP_SAMPLES))


def n_frames(n_samples: int) -> int:
    """Frames of a clip of `n_samples` samples."""
    return PATCH + (_n_patches(n_samples) - 1) * PATCH_HOP


def _pad(y: np.ndarray) -> np.ndarray:
    """Pad `y` [shape=(n,)] with zeros to a whole number of patches."""
    wanted = _PATCH_SAMPLES + (_n_patches(len(y)) - 1) * _PATCH_HOP_SAMPLES
    return np.pad(y, (0, wanted - len(y)))


def log_mel(y: np.ndarray) -> np.ndarray:
    """Compute YAMNet's input."""
    frames = np.lib.stride_tricks.sliding_window_view(_pad(y), _WINDOW)[::HOP_LENGTH]
    spectrum = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", _WINDOW), N_FFT))
    return np.log(spectrum @ mel_bands() + 0.001).T.astype(np.float32)


@functools.lru_cache(maxsize=1)
def mel_bands() -> np.ndarray:
    """Weights of the 64 bands: triangles on the HTK mel scale, 125 to 7,500 Hz, each with a peak of 1."""
    mel = _mel(np.linspace(0, SR / 2, 1 + N_FFT // 2))[:, np.newaxis]
    edges = np.linspace(_mel(125.0), _mel(7500.0), N_MELS + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the constant part of the signal belongs to no band
    return weights


def _mel(hz):
    return 1127.0 * np.log(1.0 + np.asarray(hz) / 700.0)


def find(weights_dir: str | os.PathLike | None = None) -> Path:
    """Find YAMNet's file: in the folder the user names, in the cache, or by download into the cache."""
    folder = base.resolve(weights_dir).resolve() if weights_dir else None
    if folder and not folder.is_dir():
        raise CourseError(f"There is no folder {base.short(folder)}; `weights_dir` names a folder with yamnet.tflite.")
    for place in (folder, _CACHE):
        if place is not None and (place / "yamnet.tflite").is_file():
            return place / "yamnet.tflite"
    try:
        download.receive(_URL, _CACHE / "yamnet.tflite", lambda part: _sha256(part) == _SHA256)
    except CourseError as error:
        raise DataMissing(
            f"YAMNet's weights cannot be had ({error}). Fetch {_URL}, put it into a folder, and give that as "
            "`weights_dir`."
        ) from error
    return _CACHE / "yamnet.tflite"


def build(path: str | os.PathLike) -> str:
    """Say which build of YAMNet a file is: the published one, or another."""
    digest = _sha256(path)
    if digest == _SHA256:
        return "yamnet.tflite, the published file"
    return f"yamnet.tflite, another build than the published one: SHA-256 {digest[:8]}..."


class LiteRT:
    """YAMNet in the LiteRT runtime, from a file or its content: samples in, scores and embeddings out.

    CourseError: it is no LiteRT file, or has not the input, the scores and the embedding of YAMNet.
    """

    def __init__(self, model: str | os.PathLike | bytes):
        # Loaded when it is needed, as it takes a moment.
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        name = "these bytes" if isinstance(model, bytes) else base.short(model)
        content = model if isinstance(model, bytes) else Path(model).read_bytes()
        # Without the default delegate, which reports itself on the error stream and is no faster here.
        how = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, "num_threads": 1}
        try:
            # The embedding is inside the network: all tensors are kept, so that it can be read.
            self._runner = Interpreter(model_content=content, experimental_preserve_all_tensors=True, **how)
            self._runner.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0][:80]
            raise CourseError(f"{name} is no LiteRT (TFLite) file, or damaged ({reason}). Fetch it again.") from error
        # By shape, not by number: builds differ in their order, and in an extra axis at the input.
        sizes = {tensor["index"]: int(np.prod(tensor["shape"])) for tensor in self._runner.get_tensor_details()}
        pooled = [
            op["outputs"][0] for op in self._runner._get_ops_details() if op["op_name"] in ("MEAN", "AVERAGE_POOL_2D")
        ]
        pooled = [int(n) for n in pooled if sizes[int(n)] == _N_EMBEDDING]
        scores = [out["index"] for out in self._runner.get_output_details() if sizes[out["index"]] == _N_SCORES]
        samples = [one for one in self._runner.get_input_details() if sizes[one["index"]] == _PATCH_SAMPLES]
        if not (len(pooled) == len(scores) == len(samples) == 1):
            raise CourseError(
                f"{name} is not YAMNet, which has one input of 15,600 samples, one output of 521 scores and one pooled "
                f"tensor of 1,024 values; found were {len(samples)}, {len(scores)} and {len(pooled)}."
            )
        self._input, self._scores, self._embedding = samples[0], scores[0], pooled[0]

    def __call__(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores [shape=(n_patches, 521)] and embeddings [shape=(n_patches, 1024)] of mono samples at 16 kHz.

        A patch is 0.975 s, every 0.48 s, the last one filled up with zeros. Scores are probabilities of the AudioSet
        classes; a sound may belong to several.
        """
        scores, embedding = [], []
        windows = np.lib.stride_tricks.sliding_window_view(_pad(y), _PATCH_SAMPLES)
        for window in windows[::_PATCH_HOP_SAMPLES]:
            self._runner.set_tensor(self._input["index"], window.reshape(self._input["shape"]).astype(np.float32))
            self._runner.invoke()
            scores.append(self._runner.get_tensor(self._scores).ravel())
            embedding.append(self._runner.get_tensor(self._embedding).ravel())
        return np.array(scores), np.array(embedding)

    def weights(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Kernel and bias of every convolution and dense layer in the order of computation, float32.

        Kernels as LiteRT has them: (out, rows, columns, in), depthwise (1, rows, columns, channels), dense (out, in).
        Eight-bit weights are multiplied by their scale.
        """
        self(np.zeros(_PATCH_SAMPLES, np.float32))  # 16-bit builds widen their weights while they run
        tensors = {tensor["index"]: tensor for tensor in self._runner.get_tensor_details()}
        found = []
        for op in self._runner._get_ops_details():
            if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                kernel, *bias = (self._value(tensors[int(n)]) for n in op["inputs"][1:] if n >= 0)
                n_out = kernel.shape[-1] if op["op_name"] == "DEPTHWISE_CONV_2D" else kernel.shape[0]
                found.append((kernel, bias[0] if bias else np.zeros(n_out, np.float32)))
        return found

    def _value(self, tensor: dict) -> np.ndarray:
        value, how = self._runner.get_tensor(tensor["index"]).astype(np.float32), tensor["quantization_parameters"]
        if not len(how["scales"]) or tensor["dtype"] == np.float32:
            return value
        along = [1] * value.ndim
        along[how["quantized_dimension"]] = -1
        zero = how["zero_points"].astype(np.float32)
        return (value - (zero.reshape(along) if len(zero) == len(how["scales"]) else zero)) * how["scales"].reshape(
            along
        )


def class_names(path: str | os.PathLike) -> list[str]:
    """Names of the 521 AudioSet classes: from inside the file, or from yamnet_class_map.csv beside it.

    Where neither has them, the classes are called by their numbers ("AudioSet class 0"): not every build brings names.
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
    return names if len(names) == _N_SCORES else [f"AudioSet class {number}" for number in range(_N_SCORES)]


@dataclass(frozen=True)
class EmbeddingSpec:
    """The mean embedding of a clip of so many seconds, by the build of YAMNet whose SHA-256 is `digest`.

    The file is looked for in `weights_dir`, then in the cache; DataMissing names the build that is wanted. No path is
    part of the spec, so that what was recorded on one machine can be served on another.
    """

    digest: str
    seconds: float = 5.0
    kind: str = "yamnet_embedding"
    sr: int = SR
    channel: ClassVar[str] = "mean"
    weights_dir: InitVar[str | os.PathLike | None] = None

    def __post_init__(self, weights_dir):
        for folder in (weights_dir, _CACHE, _FOLDERS.get(self.digest)):
            path = Path(base.resolve(folder), "yamnet.tflite") if folder else None
            if path is not None and path.is_file() and _sha256(path) == self.digest:
                _FOLDERS[self.digest] = path.parent
                object.__setattr__(self, "_path", path)  # no field: it goes to other processes, but into no record
                return
        raise DataMissing(
            f"YAMNet's file with the SHA-256 {self.digest[:12]}..., by which the features were made, is missing. Give "
            "the folder with that yamnet.tflite as `weights_dir` (`--weights-dir`), or run the notebook again."
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the features of one clip."""
        return (_N_EMBEDDING,)

    def extract(self, y: np.ndarray, sr: int) -> np.ndarray:
        """Give the mean embedding [shape=(1024,), float32] of samples `y` [shape=(n,)]."""
        y = audio.fix_length(audio.resample(y, sr, self.sr), round(self.seconds * self.sr))
        return _runner(self._path, self.digest, threading.get_ident())(y)[1].mean(axis=0)


def embedding_spec(path: str | os.PathLike, seconds: float) -> EmbeddingSpec:
    """Name the mean embedding by a file of YAMNet."""
    return EmbeddingSpec(_sha256(path), seconds, weights_dir=Path(path).parent)


_FOLDERS: dict[str, Path] = {}  # where a build has been found in this process


@functools.lru_cache(maxsize=64)
def _runner(path: Path, digest: str, thread: int) -> LiteRT:
    return LiteRT(path)  # one for each thread: an interpreter serves one at a time


def _sha256(path: str | os.PathLike) -> str:
    """Digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
