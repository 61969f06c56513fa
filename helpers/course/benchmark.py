"""How fast features are computed, in how much memory, beside the plain loops of most courses; how fast `predict` is."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import psutil
import soundfile as sf
from joblib.externals.loky import get_reusable_executor
from matplotlib import image
from threadpoolctl import threadpool_limits

from helpers import features, serving
from helpers.audio import convert
from helpers.features import FeatureSpec
from helpers.runs import Run

_SPEC = FeatureSpec("logmel")
_REPEATS = 5
_SIZES = (400, 4000)  # clips of the measurements of memory
_LONG = (600, 3600)  # s of the recordings that a run hears
_SR = 16_000  # Hz, theirs
_FORMATS = ("a.wav", "gsm.wav", "a.flac", "a.ogg", "a.mp3", "without length.mp3", "a.au", "a.caf")


def report(manifest: pd.DataFrame) -> None:
    """Print speed and memory for the usable clips of a manifest, repeated as often as needed."""
    from helpers.data.audit import audit

    usable, _, _ = audit(manifest)
    print(f"Log-mel spectrograms {_SPEC.shape} of {manifest.attrs.get('dataset', 'clips')}, {os.cpu_count()} cores")
    print(_speed(usable).round(1).to_string(index=False))
    print("\nPeak memory of all processes, MB")
    print(_memory(usable).round(0).to_string(index=False))


def report_predict(run: Run) -> None:
    """Print how long a recorded run takes to hear ten minutes, and an hour, of noise at 16 kHz in several formats."""
    print(f"predict with {run.params.get('model', run.path.name)}, mono at {_SR:,} Hz, {os.cpu_count()} cores")
    print(_listening(run).to_string(index=False))


def _listening(run: Run) -> pd.DataFrame:
    """Seconds that `predict` takes, windows heard and flags, for recordings of each format and length."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        serving.predict(run, _noise(Path(folder, "first.wav"), 10))  # imports are not counted
        for seconds in _LONG:
            for path in map(Path(folder).joinpath, _FORMATS + ("a.m4a",) * bool(convert.ffmpeg())):
                _noise(path, seconds)
                began = time.perf_counter()
                predictions, files = serving.predict(run, path)
                row = {"recording": path.name, "minutes": seconds / 60, "seconds": time.perf_counter() - began}
                flags = [flag.partition(" (")[0] for flag in files["flags"][0].split("; ")]
                rows.append(row | {"windows": len(predictions), "flags": ", ".join(flags)})
    return pd.DataFrame(rows).round(1)


def _noise(path: Path, seconds: float) -> Path:
    """Write noise; an MP3 "without length" is the one beside it but for its first frame, as it comes from a stream.

    M4A is what ffmpeg makes of the WAV beside it.
    """
    if path.suffix == ".m4a":
        subprocess.run([convert.ffmpeg(), "-v", "error", "-y", "-i", path.with_suffix(".wav"), path], check=True)
        return path
    if path.stem == "without length":
        content = path.with_name("a.mp3").read_bytes()
        path.write_bytes(content[content.index(content[:2], 4) :])
        return path
    rng = np.random.default_rng(0)
    with sf.SoundFile(path, "w", _SR, 1, subtype="GSM610" if path.stem == "gsm" else None) as file:
        for start in range(0, int(seconds * _SR), _SR):
            file.write(0.1 * rng.standard_normal(min(_SR, int(seconds * _SR) - start)))
    return path


def _speed(manifest: pd.DataFrame) -> pd.DataFrame:
    """Median clips per second, processor time per clip (ms) and ratio of speed to the plain loop of the same turn.

    Ways are measured in turn, so that other work on the machine falls on all of them, each in a process of its own that
    has done some clips before: imports are not counted, nor is the start of further processes, but in the first turn.
    """
    missing = "torch" if importlib.util.find_spec("torch") is None else "nothing"
    ways = {name: way for name, way in _WAYS.items() if missing not in name}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(_process()) for name in ways}
        for name, (way, _) in ways.items():
            workers[name].submit(_timed, way, _repeat(manifest, 20)).result()
        turns = []
        for _ in range(_REPEATS):
            measured = {}
            for name, (way, n) in ways.items():
                measured[name] = np.array(workers[name].submit(_timed, way, _repeat(manifest, n)).result()) / n
            turns.append(measured)
    rows, plain = [], next(iter(ways))
    for name in ways:
        wall, cpu = np.median([turn[name] for turn in turns], axis=0)
        ratio = np.median([turn[plain][0] / turn[name][0] for turn in turns])
        rows.append({"way": name, "clips_per_s": 1 / wall, "cpu_ms": 1000 * cpu, "times_plain": ratio})
    return pd.DataFrame(rows)


def _memory(manifest: pd.DataFrame) -> pd.DataFrame:
    """Peak resident memory of whole computations (MB), each in a fresh process and with the processes it starts.

    `imports` is what the process needs before it does anything. The plain loop keeps its spectrograms in a list.
    """
    rows = []
    for name in (name for name in _WAYS if "PNG" not in name and "torch" not in name):
        row = {"way": name}
        for size in _SIZES:
            with _process() as worker:
                row["imports"] = worker.submit(_peak_mb).result()
                worker.submit(_timed, _WAYS[name][0], _repeat(manifest, size)).result()
                row[f"{size:,} clips"] = worker.submit(_peak_mb).result()
        rows.append(row)
    return pd.DataFrame(rows)


def _plain(clips: pd.DataFrame, spectrogram: Callable, picture: Path | None = None) -> list[np.ndarray]:
    kept = []
    for path in clips["path"]:
        y, _ = librosa.load(path, sr=_SPEC.sr, duration=_SPEC.seconds)
        db = librosa.power_to_db(spectrogram(librosa.util.fix_length(y, size=_SPEC.n_samples)))
        if picture:
            # Without a figure around it, which would take several times as long: the quickest way matplotlib has.
            image.imsave(picture, db, cmap="magma", origin="lower")
            db = image.imread(picture)
        kept.append(db)
    return kept


def _librosa_mel(y: np.ndarray) -> np.ndarray:
    frames = {"n_fft": _SPEC.n_fft, "hop_length": _SPEC.hop_length}
    return librosa.feature.melspectrogram(y=y, sr=_SPEC.sr, n_mels=_SPEC.n_mels, **frames)


def _torch_loop(clips: pd.DataFrame, folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    window = torch.hann_window(_SPEC.n_fft)
    bands = torch.from_numpy(librosa.filters.mel(sr=_SPEC.sr, n_fft=_SPEC.n_fft, n_mels=_SPEC.n_mels))

    def mel(y):
        how = {"window": window, "pad_mode": "constant", "return_complex": True}
        return (bands @ torch.stft(torch.from_numpy(y), _SPEC.n_fft, _SPEC.hop_length, **how).abs() ** 2).numpy()

    _plain(clips, mel)


def _plain_loop(clips: pd.DataFrame, folder: Path) -> None:
    _plain(clips, _librosa_mel)


def _plain_loop_png(clips: pd.DataFrame, folder: Path) -> None:
    _plain(clips, _librosa_mel, folder / "picture.png")


def _ours(clips: pd.DataFrame, folder: Path, n_jobs: int = 1) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        features.of(clips, _SPEC, folder, n_jobs)


def _ours_2(clips: pd.DataFrame, folder: Path) -> None:
    _ours(clips, folder, n_jobs=2)


# Name: what to do, and with how many clips: of few, ours would leave a second core alone.
_WAYS: dict[str, tuple[Callable[[pd.DataFrame, Path], None], int]] = {
    "plain loop, PNG and back": (_plain_loop_png, 200),
    "plain loop": (_plain_loop, 200),
    "plain loop, torch.stft": (_torch_loop, 200),
    "features.of, 1 core": (_ours, 3000),
    "features.of, 2 cores": (_ours_2, 3000),
}


def _timed(way: Callable, clips: pd.DataFrame) -> tuple[float, float]:
    """Wall and processor time, s. Numerical libraries are held to one thread, so that one core is one core."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        wall, cpu = time.perf_counter(), _cpu()
        way(clips, Path(folder))
        return time.perf_counter() - wall, _cpu() - cpu


@contextlib.contextmanager
def _process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        yield worker
        worker.submit(_stop).result()


def _stop() -> None:
    # A process that was spawned would wait until joblib's workers have been idle for a minute.
    get_reusable_executor().shutdown()


def _repeat(manifest: pd.DataFrame, n: int) -> pd.DataFrame:
    return manifest[["path"]].iloc[np.arange(n) % len(manifest)].reset_index(drop=True)


def _family() -> list[psutil.Process]:
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def _cpu() -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _family())


def _peak_mb() -> float:
    """Largest resident memory that this process and those it started have had, MB."""
    peaks = []
    for process in _family():
        usage = process.memory_info()
        peaks.append(getattr(usage, "peak_wset", usage.rss) / 2**20)
        with contextlib.suppress(OSError):  # Linux
            peaks[-1] = int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
    return sum(peaks)
