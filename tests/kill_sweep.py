"""Kill processes of sweeps at random moments (SIGKILL), start again, and compare every run with an undisturbed one.

It takes about ten seconds per kill on two cores::

    python tests/kill_sweep.py --kills 50
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from helpers import runs
from helpers.base import ROOT
from helpers.course import sweep

GRID = "--notebooks template -p dataset esc50 -p limit 60 -p seed 0 1 2 -p method".split() + [
    "extra trees",
    "dense net",
]
N_RUNS = 6


def start(out: Path) -> psutil.Popen:
    """Start the sweep in a process of its own."""
    words = [sys.executable, "-m", "helpers", "sweep", *GRID, "--workers", "2", "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return psutil.Popen(words, cwd=ROOT, env=os.environ | {"COURSE_BATCH": "1"}, **quiet)


def found(out: Path) -> dict[str, pd.DataFrame]:
    """Predictions of every run that can be read."""
    return {run.path.parent.name: run.predictions for run in runs.find(out)} if out.exists() else {}


def kind(process: psutil.Process) -> str:
    """What of a sweep a process is."""
    words = " ".join(process.cmdline())
    named = {"ipykernel": "kernel", "--only": "run", "helpers sweep": "sweep"}
    return next((name for part, name in named.items() if part in words), "Dask")


def main(folder: Path, n_kills: int, seed: int) -> tuple[Counter, int, int, bool]:
    """Give the kills by what was killed, how often a sweep was started, how many came to their end, and: all equal?"""
    start(folder / "undisturbed").wait()
    expected = found(folder / "undisturbed")
    assert len(expected) == N_RUNS, "the undisturbed sweep did not come to its end"
    rng, kills, starts, sweeps, equal = np.random.default_rng(seed), Counter(), 0, 0, True
    while kills.total() < n_kills or sweeps == 0:
        out = folder / str(sweeps)
        process, starts = start(out), starts + 1
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(rng.uniform(1, 12))
            with contextlib.suppress(psutil.NoSuchProcess):
                victims = [process, *process.children(recursive=True)]
                if kills.total() < n_kills and process.is_running():
                    victim = victims[rng.integers(len(victims))]
                    what = kind(victim)
                    victim.kill()
                    kills[what] += 1
            for name, table in found(out).items():  # whatever can be read at any moment is whole
                equal &= table.equals(expected[name])
        process.wait()
        if out.joinpath("plan.json").exists() and all(row["status"] == "done" for row in sweep.collected(out)):
            equal &= found(out).keys() == expected.keys()
            sweeps += 1
    return kills, starts, sweeps, equal


if __name__ == "__main__":
    os.environ["COURSE_SAMPLE"] = "1"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options, began = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(dir=ROOT / "runs") as scratch:
        killed, started, ended, same = main(Path(scratch), options.kills, options.seed)
    print(
        f"{killed.total()} kills ({', '.join(f'{n} {what}' for what, n in killed.items())}); {ended} sweeps of {N_RUNS}"
    )
    print(
        f"runs came to their end in {started} starts, {time.monotonic() - began:.0f} s; every run that was ever found"
    )
    print("equals the undisturbed one" if same else "does NOT equal the undisturbed one")
    raise SystemExit(not same)
