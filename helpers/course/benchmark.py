"""How fast features are computed, and in how much memory, beside the plain loop of most courses."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from matplotlib import image
from threadpoolctl import threadpool_limits

from helpers.features import FeatureSpec, cache

SPEC = FeatureSpec("logmel")


def benchmark(manifest: pd.DataFrame, n_clips: int = 200, repeats: int = 5) -> pd.DataFrame:
    """Measure clips per second of the plain loop and of `helpers.cache`.

    Parameters
    ----------
    manifest : pandas.DataFrame
        Usable clips; repeated where there are fewer than `n_clips`.
    n_clips : int
        Clips per measurement.
    repeats : int
        Measurements of each way, taken in turn, so that other work on the machine falls on all of them.

    Returns
    -------
    pandas.DataFrame
        A row per way, with the median over the repeats: `clips_per_s`, `cpu_ms` (processor time per clip) and
        `times_plain` (the ratio of clips per second to the plain loop of the same turn).

    Notes
    -----
    Every way runs in a process of its own that has done some clips before (imports and compilation are not counted).
    Used by ``python -m helpers benchmark``.
    """
    clips = _repeat(manifest, n_clips)
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(_process()) for name in WAYS}
        for name, worker in workers.items():
            worker.submit(_timed, WAYS[name], clips[:20]).result()
        turns = [
            {name: worker.submit(_timed, WAYS[name], clips).result() for name, worker in workers.items()}
            for _ in range(repeats)
        ]
    plain = next(iter(WAYS))
    rows = []
    for name in WAYS:
        wall, cpu = np.median([turn[name] for turn in turns], axis=0)
        ratio = np.median([turn[plain][0] / turn[name][0] for turn in turns])
        rows.append({"way": name, "clips_per_s": n_clips / wall, "cpu_ms": 1000 * cpu / n_clips, "times_plain": ratio})
    return pd.DataFrame(rows)


def memory(manifest: pd.DataFrame, sizes: tuple[int, ...] = (400, 4000)) -> pd.DataFrame:
    """Measure the peak resident memory of a whole computation, in a fresh process each.

    Parameters
    ----------
    manifest : pandas.DataFrame
        Usable clips; repeated where there are fewer than asked for.
    sizes : tuple of int
        Numbers of clips.

    Returns
    -------
    pandas.DataFrame
        A row per way, a column per size, MB; `imports` is what the process needs before it does anything.

    Notes
    -----
    The plain loop keeps its spectrograms in a list, as such loops do. Used by ``python -m helpers benchmark``.
    """
    rows = []
    for name in list(WAYS)[1:]:
        row = {"way": name}
        for size in sizes:
            with _process() as worker:
                row["imports"] = worker.submit(_peak_mb).result()
                worker.submit(_timed, WAYS[name], _repeat(manifest, size)).result()
                row[f"{size:,} clips"] = worker.submit(_peak_mb).result()
        rows.append(row)
    return pd.DataFrame(rows)


def report(manifest: pd.DataFrame) -> None:
    """Print both tables for the usable clips of a manifest. Used by ``python -m helpers benchmark``."""
    from helpers.data.audit import audit

    usable, _, _ = audit(manifest)
    print(f"Log-mel spectrograms {SPEC.shape} of {manifest.attrs.get('dataset', 'clips')}, {os.cpu_count()} cores")
    print(benchmark(usable).round(1).to_string(index=False))
    print("\nPeak memory, MB")
    print(memory(usable).round(0).to_string(index=False))


def _plain(clips: pd.DataFrame, picture: Path | None) -> list[np.ndarray]:
    kept = []
    for path in clips["path"]:
        y, sr = librosa.load(path, sr=SPEC.sr, duration=SPEC.seconds)
        y = librosa.util.fix_length(y, size=SPEC.n_samples)
        mel = librosa.feature.melspectrogram(
            y=y, sr=sr, n_fft=SPEC.n_fft, hop_length=SPEC.hop_length, n_mels=SPEC.n_mels
        )
        db = librosa.power_to_db(mel)
        if picture:
            image.imsave(picture, db, cmap="magma", origin="lower")
            db = image.imread(picture)
        kept.append(db)
    return kept


def _plain_loop(clips: pd.DataFrame, folder: Path) -> None:
    _plain(clips, None)


def _plain_loop_png(clips: pd.DataFrame, folder: Path) -> None:
    # Without a figure around it: the quickest way matplotlib has. A figure per clip takes several times as long.
    _plain(clips, folder / "picture.png")


def _ours_1(clips: pd.DataFrame, folder: Path) -> None:
    cache.of(clips, SPEC, folder, n_jobs=1, progress=False)


def _ours_2(clips: pd.DataFrame, folder: Path) -> None:
    cache.of(clips, SPEC, folder, n_jobs=2, progress=False)


WAYS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "plain loop, PNG and back": _plain_loop_png,
    "plain loop": _plain_loop,
    "helpers.cache, 1 core": _ours_1,
    "helpers.cache, 2 cores": _ours_2,
}


def _timed(way: Callable, clips: pd.DataFrame) -> tuple[float, float]:
    """Wall and processor time, s. Numerical libraries are held to one thread, so that one core is one core."""
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        wall, cpu = time.perf_counter(), time.process_time()
        way(clips, Path(folder))
        return time.perf_counter() - wall, time.process_time() - cpu


def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def _repeat(manifest: pd.DataFrame, n: int) -> pd.DataFrame:
    rows = manifest[["clip_id", "path"]].iloc[np.arange(n) % len(manifest)].reset_index(drop=True)
    return rows.assign(clip_id=rows["clip_id"] + [f"-{i}" for i in range(n)])


def _peak_mb() -> float:
    """Largest resident memory this process has had, MB."""
    with contextlib.suppress(OSError):
        # getrusage would count the process that started this one.
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    import psutil

    usage = psutil.Process().memory_info()
    return getattr(usage, "peak_wset", usage.rss) / 2**20
