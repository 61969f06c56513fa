"""Features of a whole manifest: computed once, on all cores, kept on disk, resumed after a kill, never stale.

The folder of an array is named after the spec, the code, and path, size and times of every recording: whatever changes,
another folder is made. In it, `array.npy` is called `partial.npy` until its last block is written, and `done/<row>`
holds the checksum of the block that begins with this row.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits

from helpers import audio, base
from helpers.base import AudioError, CourseError

_BLOCK = 64  # clips
# Other processes pay only if there is work for longer than they take to start.
_SECONDS_TO_START = 3.0
_LIBRARIES = ("ai-edge-litert", "librosa", "miniaudio", "noisereduce", "numpy", "scipy", "soundfile", "soxr")


def _code() -> str:
    files = [*sorted(Path(__file__).parent.glob("*.py")), *sorted(Path(audio.__file__).parent.glob("*.py"))]
    versions = [importlib.metadata.version(library) for library in _LIBRARIES]
    return base.digest([file.read_text("utf-8") for file in files], versions)


CODE = _code()  # read when the code itself is: it may be edited while a notebook runs


def of(clips: pd.DataFrame, spec, cache_dir: str | os.PathLike = base.CACHE, n_jobs: int | None = None):
    """Features of all clips [shape=(len(clips), *spec.shape), float32], memory-mapped: row i is row i of `clips`.

    A dict of specs gives a dict of arrays, for which a recording is decoded once per sampling rate, length and channel.
    `n_jobs` processes (all cores) change nothing about the values. A recording that cannot be read raises AudioError,
    which names it; finished blocks stay.
    """
    if not isinstance(spec, dict):
        return of(clips, {"": spec}, cache_dir, n_jobs)[""]
    if not len(clips):
        raise CourseError("The manifest has no clips, so there are no features to compute.")
    paths = [os.path.abspath(path) for path in clips["path"]]
    recordings = base.digest([(path, *_state(path)) for path in paths])
    arrays = {}
    for name, one in spec.items():
        folder = Path(cache_dir) / f"{one.kind}-{base.digest(CODE, asdict(one), recordings)}"
        arrays[name] = _Array(folder, one, len(paths))
    missing = _bring_up_to_date(sorted(set(arrays.values()), key=lambda array: array.folder), paths, n_jobs)
    for array in arrays.values():
        n_computed = sum(len(paths[start : start + _BLOCK]) for start in missing[array])
        parts = {"computed": n_computed, "from cache": len(paths) - n_computed}
        print(f"features {array.spec.kind}:", ", ".join(f"{n} clips {how}" for how, n in parts.items() if n))
    return {name: _opened(array.folder / "array.npy") for name, array in arrays.items()}


def folders(cache_dir: str | os.PathLike) -> pd.DataFrame:
    """One row per folder of features: what it holds, when it was used last, and whether today's code made it."""
    rows = []
    for folder in sorted(Path(cache_dir).glob("*-*")):
        if re.fullmatch(r"\w+-[0-9a-f]{16}", folder.name):
            about = {}
            with contextlib.suppress(OSError, ValueError):
                about = json.loads((folder / "about.json").read_text("utf-8"))
            files = [file.stat() for file in folder.rglob("*") if file.is_file()]
            used = pd.Timestamp(max((file.st_mtime for file in files), default=0), unit="s").floor("s")
            size = round(sum(file.st_size for file in files) / 1e6, 1)
            made_by = "this code" if about.get("code") == CODE else "other code"
            rows.append((folder.name, about.get("clips", "unknown"), size, used, made_by))
    return pd.DataFrame(rows, columns=["folder", "clips", "MB", "last used (UTC)", "made by"])


def prune(cache_dir: str | os.PathLike) -> pd.DataFrame:
    """Remove the folders that other code made, which `of` cannot find any more; give their rows of `folders`."""
    table = folders(cache_dir)
    removed = table[table["made by"] == "other code"]
    for name in removed["folder"]:
        shutil.rmtree(Path(cache_dir) / name)
    return removed


def _state(path: str) -> tuple[int, int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist; was it moved or deleted? Load the manifest anew.") from None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _opened(path: Path) -> np.memmap | None:
    """The array in a file, unless it is missing or cut."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        return np.load(path, mmap_mode="r")


@dataclass(frozen=True)
class _Array:
    """What is computed: `n` clips by one spec, in its folder."""

    folder: Path
    spec: object
    n: int

    def lock(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock")
        try:
            return lock.acquire(timeout=0)
        except Timeout:
            print(f"Another process is computing {self.folder.name}; waiting for it.")
            return lock.acquire()

    def missing(self) -> list[int]:
        """First rows of the blocks that are not there yet, or not as they were written."""
        if _opened(self.folder / "array.npy") is not None:
            return []  # another process was quicker
        (self.folder / "done").mkdir(exist_ok=True)
        if _opened(self.folder / "partial.npy") is None:
            about = {"spec": asdict(self.spec), "clips": self.n, "code": CODE}
            base.write_json(self.folder / "about.json", about)
            np.lib.format.open_memmap(self.folder / "partial.npy", "w+", np.float32, (self.n, *self.spec.shape))
        return [start for start in range(0, self.n, _BLOCK) if not self._is_done(start)]

    def _is_done(self, start: int) -> bool:
        # Should the machine itself go down, a checksum may reach the disk without its rows.
        with contextlib.suppress(FileNotFoundError):
            checksum = (self.folder / "done" / str(start)).read_text()
            with self.at(start) as file:
                return checksum == str(zlib.crc32(file.read(self._row * min(_BLOCK, self.n - start))))
        return False

    def at(self, start: int):
        """Open the array at a row; no memory map, whose pages would let the process grow with the data."""
        file = open(self.folder / "partial.npy", "rb+")
        file.seek((start - self.n) * self._row, os.SEEK_END)
        return file

    @property
    def _row(self) -> int:
        return 4 * int(np.prod(self.spec.shape))  # bytes

    def finish(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            with open(self.folder / "partial.npy", "rb+") as file:
                os.fsync(file.fileno())
            os.replace(self.folder / "partial.npy", self.folder / "array.npy")
            shutil.rmtree(self.folder / "done")


def _bring_up_to_date(arrays: list[_Array], paths: list[str], n_jobs: int | None) -> dict[_Array, list[int]]:
    """Compute the blocks that are missing; give their first rows."""
    missing = dict.fromkeys(arrays, ())
    with contextlib.ExitStack() as locks:
        for array in arrays:  # sorted, lest two processes wait for each other
            if _opened(array.folder / "array.npy") is None:
                locks.enter_context(array.lock())
                missing[array] = array.missing()
            with contextlib.suppress(OSError):  # a cache that may only be read
                os.utime(array.folder / "about.json")
        blocks = []
        for start in sorted(set().union(*missing.values())):
            blocks.append(
                (CODE, start, paths[start : start + _BLOCK], [one for one in arrays if start in missing[one]])
            )
        what = "features " + ", ".join(sorted({array.spec.kind for array in arrays}))
        total = sum(len(block[2]) for block in blocks)
        with base.progress(total=total, desc=what, unit=" clips", leave=False, delay=2) as bar:
            for n_clips in _run(blocks, n_jobs or os.cpu_count() or 1):
                bar.update(n_clips)
        for array in arrays:
            array.finish()
    return missing


def _run(blocks: list[tuple], n_jobs: int) -> Iterator[int]:
    """Compute blocks, in other processes if that pays; yield the number of clips of each as it is done.

    Not in threads: two of them bring a fifth, as they wait for each other wherever memory is mapped and unmapped.
    """
    yield from (_fill(*block) for block in blocks[:1])  # loads what is loaded at first use
    started = time.perf_counter()
    yield from (_fill(*block) for block in blocks[1:2])
    rest = blocks[2:]
    if n_jobs > 1 and (time.perf_counter() - started) * len(rest) > _SECONDS_TO_START:
        options = {"return_as": "generator_unordered", "batch_size": 1, "idle_worker_timeout": 60}
        yield from Parallel(n_jobs, **options)(delayed(_fill)(*block) for block in rest)
    else:
        yield from (_fill(*block) for block in rest)


def _fill(code: str, start: int, paths: list[str], arrays: list[_Array]) -> int:
    """Compute the rows of one block for all arrays, write them, and then their checksums."""
    if code != CODE:
        raise CourseError("The code of helpers/features has changed since it was imported: restart the kernel.")
    checksums = [0] * len(arrays)
    with threadpool_limits(1), contextlib.ExitStack() as stack:  # several threads change the last bits
        files = [stack.enter_context(array.at(start)) for array in arrays]
        for path in paths:
            sounds = {}
            for number, spec in enumerate(array.spec for array in arrays):
                how = spec.sr, spec.seconds, spec.channel
                if how not in sounds:
                    sounds[how] = audio.read(path, sr=spec.sr, seconds=spec.seconds, channel=spec.channel)
                values = spec.extract(*sounds[how]).astype(np.float32, copy=False).tobytes()
                files[number].write(values)
                checksums[number] = zlib.crc32(values, checksums[number])
    for array, checksum in zip(arrays, checksums, strict=True):
        (array.folder / "done" / str(start)).write_text(str(checksum))
    return len(paths)
