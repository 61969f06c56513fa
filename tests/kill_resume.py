"""Kill the feature computation at random moments, resume it, and compare the result byte by byte.

Run it alone for more kills than the test suite affords::

    python tests/kill_resume.py --kills 100 --n-jobs 1
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import soundfile as sf
from joblib.externals.loky import get_reusable_executor

from helpers.features import FeatureSpec, cache, extract

SPEC = FeatureSpec("logmel", seconds=2.0)
N_CLIPS = 200


@dataclass
class Result:
    """What happened; `identical`: each array that came to its end equals the undisturbed one, byte by byte."""

    kills: int = 0
    mid_computation: int = 0  # kills after which a half-finished array lay there
    resumed: int = 0  # blocks that were finished at a kill, summed over the kills
    computations: int = 0  # arrays brought to their end
    identical: bool = True


def make_clips(folder: Path) -> pd.DataFrame:
    """Write clips of noise and tones, 2 s at 44,100 Hz, and give their manifest."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    t = np.arange(2 * 44100) / 44100
    paths = [folder / f"{i:03d}.wav" for i in range(N_CLIPS)]
    for path in paths:
        y = 0.3 * np.sin(2 * np.pi * rng.uniform(50, 5000) * t) + 0.1 * rng.standard_normal(len(t))
        sf.write(path, y, 44100)
    return pd.DataFrame({"path": [str(path) for path in paths]})


def run(folder: Path, n_kills: int = 20, seed: int = 0, n_jobs: int = 1) -> Result:
    """Kill at least `n_kills` computations; each time the cache is finished, compare it and begin a new one."""
    # A forked child needs no seconds for imports, so that kills fall into the work itself. What forks must have no
    # threads of its own, hence a fresh process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, folder, n_kills, seed, n_jobs).result()


def _work(manifest: pd.DataFrame, cache_dir: Path, n_jobs: int, ready) -> None:
    ready.set()
    cache.of(manifest, SPEC, cache_dir, n_jobs)
    get_reusable_executor().shutdown()  # a process that was forked would wait until joblib's workers have idled


def _run(folder: Path, n_kills: int, seed: int, n_jobs: int) -> Result:
    cache._BLOCK, cache._SECONDS_TO_START = 16, 0
    extract(np.ones(1), SPEC.sr, SPEC)  # loads what is loaded at first use
    manifest = make_clips(folder / "clips")
    fork = get_context("fork")
    orphans = []

    def start():
        ready = fork.Event()
        process = fork.Process(target=_work, args=(manifest, folder / str(result.computations), n_jobs, ready))
        process.start()
        ready.wait()
        return process

    def content():
        (array,) = (folder / str(result.computations)).glob("*/array.npy")
        return array.read_bytes()

    result, rng = Result(), np.random.default_rng(seed)
    begin = time.monotonic()
    start().join()
    duration = time.monotonic() - begin
    expected = content()
    result.computations = 1
    while True:
        process = start()
        if result.kills < n_kills:
            process.join(timeout=rng.uniform(0, 0.6 * duration))
            orphans += psutil.Process(process.pid).children() if process.is_alive() else []
            process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            result.kills += 1
            result.mid_computation += any((folder / str(result.computations)).glob("*/partial.npy"))
            result.resumed += len(list((folder / str(result.computations)).glob("*/done/*")))
            continue
        result.identical &= process.exitcode == 0 and content() == expected
        result.computations += 1
        if result.kills >= n_kills:
            break
    for orphan in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run(Path(scratch), options.kills, options.seed, options.n_jobs)
    print(
        f"{outcome.kills} kills, {outcome.mid_computation} of them in the middle of a computation; "
        f"{outcome.resumed} finished blocks reused; {outcome.computations} arrays of {N_CLIPS} clips, "
        + ("all byte-identical to the undisturbed one" if outcome.identical else "NOT ALL EQUAL to the undisturbed one")
    )
    raise SystemExit(not outcome.identical)
