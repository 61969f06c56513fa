"""Kill the feature computation at random moments, resume it, and compare the result byte by byte.

Run it alone for more kills than the test suite affords::

    python tests/kill_resume.py --kills 100
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from helpers.features import FeatureSpec, cache, extract

SPEC = FeatureSpec("logmel", seconds=2.0)
N_CLIPS = 300


@dataclass
class Result:
    """What happened.

    Attributes
    ----------
    kills, mid_computation : int
        Kills in all, and those after which a half-finished array lay there.
    resumed : int
        Shards that were finished at a kill, summed over the kills: what resuming saved.
    computations : int
        How many arrays were brought to their end.
    identical : bool
        Whether each of them equals, byte by byte, the one of an undisturbed computation.
    """

    kills: int = 0
    mid_computation: int = 0
    resumed: int = 0
    computations: int = 0
    identical: bool = True


def make_clips(folder: Path, n: int = N_CLIPS) -> pd.DataFrame:
    """Write `n` clips of noise and tones, 2 s at 44,100 Hz, and give their manifest."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    t = np.arange(2 * 44100) / 44100
    paths = [folder / f"{i:03d}.wav" for i in range(n)]
    for path in paths:
        y = 0.3 * np.sin(2 * np.pi * rng.uniform(50, 5000) * t) + 0.1 * rng.standard_normal(len(t))
        sf.write(path, y, 44100)
    return pd.DataFrame({"clip_id": [path.stem for path in paths], "path": [str(path) for path in paths]})


def _work(manifest: pd.DataFrame, cache_dir: Path, ready) -> None:
    ready.set()
    cache.of(manifest, SPEC, cache_dir, progress=False)


def run(folder: Path, n_kills: int = 20, seed: int = 0) -> Result:
    """Kill at least `n_kills` computations; each time the cache is finished, compare it and begin a new one.

    Returns
    -------
    Result
    """
    # A forked child needs no seconds for imports, so that kills fall into the work itself. What forks must have no
    # threads of its own, hence a fresh process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, folder, n_kills, seed).result()


def _run(folder: Path, n_kills: int, seed: int) -> Result:
    cache.SHARD = 16
    extract(np.ones(1), SPEC.sr, SPEC)  # loads what is loaded at first use
    manifest = make_clips(folder / "clips")
    fork = get_context("fork")

    def start(cache_dir):
        ready = fork.Event()
        process = fork.Process(target=_work, args=(manifest, cache_dir, ready))
        process.start()
        ready.wait()
        return process

    def is_right(process, cache_dir):
        return process.exitcode == 0 and _content(manifest, cache_dir) == expected

    begin = time.monotonic()
    start(folder / "undisturbed").join()
    duration = time.monotonic() - begin
    expected = _content(manifest, folder / "undisturbed")

    rng = np.random.default_rng(seed)
    result = Result()
    while result.kills < n_kills:
        cache_dir = folder / f"disturbed{result.computations}"
        process = start(cache_dir)
        process.join(timeout=rng.uniform(0, 0.6 * duration))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            partial = cache.folder(manifest, SPEC, cache_dir) / "partial"
            result.kills += 1
            result.mid_computation += partial.exists()
            result.resumed += len(list(partial.glob("*.json")))
        else:
            result.identical &= is_right(process, cache_dir)
            result.computations += 1
    cache_dir = folder / f"disturbed{result.computations}"
    process = start(cache_dir)
    process.join()
    result.identical &= is_right(process, cache_dir)
    result.computations += 1
    return result


def _content(manifest: pd.DataFrame, cache_dir: Path) -> bytes:
    (array,) = cache.folder(manifest, SPEC, cache_dir).glob("*/array.npy")
    return array.read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcome = run(Path(scratch), options.kills, options.seed)
    print(
        f"{outcome.kills} kills, {outcome.mid_computation} of them in the middle of a computation; "
        f"{outcome.resumed} finished shards reused; {outcome.computations} arrays of {N_CLIPS} clips, "
        + ("all byte-identical to the undisturbed one" if outcome.identical else "NOT ALL EQUAL to the undisturbed one")
    )
    raise SystemExit(not outcome.identical)
