"""Features of a whole manifest: computed once, in parallel, kept on disk, resumed after a crash, never stale.

A cache folder is named after the spec, the clips and the code (`folder`). Inside::

    lock                 held while a process computes; released by the system when it dies
    partial/             work in progress: array.npy and one NNNNN.json for each finished shard (64 clips)
    1/                   the finished work: the same files, renamed in one step

When a recording has changed, the finished folder is copied to `partial`, the changed shards are computed again, and the
result becomes `2/`; whoever has the array of `1/` open keeps reading it undisturbed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from helpers import audio, base
from helpers.base import CourseError
from helpers.base import progress as progress_bar
from helpers.features.fingerprint import code_version, settled, sha256, signature
from helpers.locking import locked

SHARD = 64


def of(
    manifest: pd.DataFrame,
    spec,
    cache_dir: str | os.PathLike = base.CACHE,
    n_jobs: int = 2,
    progress: bool = True,
) -> np.memmap:
    """Give the features of all clips, from the cache or computed now.

    Parameters
    ----------
    manifest : pandas.DataFrame
        Needs `clip_id` and `path`.
    spec : FeatureSpec
        What to compute.
    cache_dir : path
        Folder of all caches.
    n_jobs : int
        Threads; -1 for one per core. The result does not depend on it.
    progress : bool
        Show a progress bar (when it takes longer than a moment) and say in one line what was done.

    Returns
    -------
    np.memmap [shape=(len(manifest), *spec.shape)], float32, read-only
        Row i belongs to row i of the manifest. Only the rows you index are read from disk.

    Raises
    ------
    AudioError
        A recording is missing or cannot be decoded; the message names it. What was finished stays.
    CourseError
        The manifest is empty.

    Notes
    -----
    A row is reused only if its recording's size and times are unchanged, or else its content is. Killed at any
    moment, the next call goes on with the first unfinished shard. Used by notebooks 02, 03, 04, 05, 06, 07
    and 10.
    """
    if not len(manifest):
        raise CourseError("The manifest has no clips, so there are no features to compute.")
    work = _Work(folder(manifest, spec, cache_dir), spec, [Path(path) for path in manifest["path"]])
    work.folder.mkdir(parents=True, exist_ok=True)
    with locked(work.folder / "lock", f"computing {work.folder.name}"):
        n_computed = work.bring_up_to_date(n_jobs, progress)
        array = np.load(work.finished() / "array.npy", mmap_mode="r")
    if progress:
        parts = {"computed": n_computed, "from cache": len(manifest) - n_computed}
        print(f"features {spec.kind}:", ", ".join(f"{n} clips {how}" for how, n in parts.items() if n))
    return array


def folder(manifest: pd.DataFrame, spec, cache_dir: str | os.PathLike = base.CACHE) -> Path:
    """Give the cache folder of these clips, this spec and this version of the code (it need not exist yet)."""
    name = hashlib.sha256(code_version())
    name.update(json.dumps(dataclasses.asdict(spec), sort_keys=True).encode())
    for clip in zip(manifest["clip_id"], manifest["path"], strict=True):
        name.update(json.dumps([str(text) for text in clip]).encode())
    return Path(cache_dir) / f"{spec.kind}-{name.hexdigest()[:16]}"


class _Work:
    """One cache folder and what has to be done in it."""

    def __init__(self, where: Path, spec, paths: list[Path]):
        self.folder, self.spec, self.paths = where, spec, paths
        self.partial = where / "partial"
        self.shards = [range(start, min(start + SHARD, len(paths))) for start in range(0, len(paths), SHARD)]
        header = io.BytesIO()
        shape = (len(paths), *spec.shape)
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        self.header = header.getvalue()
        self.row_bytes = 4 * int(np.prod(spec.shape))

    def finished(self) -> Path | None:
        """The newest finished folder, if any. Older ones are remains: a kill or an open file kept them."""
        found = sorted((path for path in self.folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
        for path in found[:-1]:
            shutil.rmtree(path, ignore_errors=True)
        return found[-1] if found else None

    def bring_up_to_date(self, n_jobs: int, progress: bool) -> int:
        """Compute what is missing or stale; return for how many clips."""
        old = self.finished()
        for where in (self.partial, old):
            if where and where.exists() and not self._is_whole(where):
                shutil.rmtree(where)
        old = self.finished()
        where = self.partial if self.partial.exists() else old
        everything = range(len(self.shards))
        done = [shard for shard in everything if where and self._is_current(where, shard)]
        if where == old and len(done) == len(everything):
            return 0
        if where != self.partial:
            self._start_partial(old, done)
        pending = sorted(set(everything) - set(done))
        self._compute(pending, n_jobs, progress)
        with open(self.partial / "array.npy", "rb+") as file:
            os.fsync(file.fileno())
        os.rename(self.partial, self.folder / str(int(old.name) + 1 if old else 1))
        return sum(len(self.shards[shard]) for shard in pending)

    def _start_partial(self, old: Path | None, keep: list[int]) -> None:
        draft = self.folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        if old:
            shutil.copyfile(old / "array.npy", draft / "array.npy")
            for shard in keep:
                shutil.copyfile(_index(old, shard), _index(draft, shard))
        else:
            with open(draft / "array.npy", "wb") as file:
                file.write(self.header)
                file.truncate(self._offset(len(self.paths)))
        os.rename(draft, self.partial)

    def _is_current(self, where: Path, shard: int) -> bool:
        """Whether a shard was finished and its recordings are still the same."""
        rows = self.shards[shard]
        try:
            index = json.loads(_index(where, shard).read_text())
            if len(index["clips"]) != len(rows):
                return False
            # Should the machine itself go down, an index may reach the disk without its rows.
            if where == self.partial and index["crc32"] != self._checksum(where, rows):
                return False
        except (OSError, ValueError, KeyError, TypeError):
            return False
        touched = False
        for clip, row in zip(index["clips"], rows, strict=True):
            now = signature(self.paths[row])
            if clip["signature"] != now:
                if clip["sha256"] != sha256(self.paths[row]):
                    return False
                clip["signature"], touched = settled(now), True
        if touched:  # same content, new time stamp: remember it, so that it is not read again next time
            base.write_json(_index(where, shard), index)
        return True

    def _compute(self, pending: list[int], n_jobs: int, progress: bool) -> None:
        workers = n_jobs if n_jobs > 0 else os.cpu_count() or 1
        total = sum(len(self.shards[shard]) for shard in pending)
        options = {"total": total, "desc": f"features {self.spec.kind}", "unit": " clips", "leave": False, "delay": 2}
        bar = progress_bar(**options) if progress else tqdm(disable=True)
        # Numerical libraries must not start threads of their own within ours.
        with bar, threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(self._compute_shard, shard, bar) for shard in pending]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # shards under way still finish
                raise

    def _compute_shard(self, shard: int, bar: tqdm) -> None:
        rows = self.shards[shard]
        clips, crc32 = [], 0
        # Plain writes, not a memory map: pages of a map would count as ours and let the process grow with the data.
        with open(self.partial / "array.npy", "rb+") as file:
            file.seek(self._offset(rows.start))
            for row in rows:
                path = self.paths[row]
                # In this order: should the file change meanwhile, the signature is the old one, and it shows.
                clip = {"signature": settled(signature(path)), "sha256": sha256(path)}
                values = self._features(path)
                file.write(values)
                crc32 = zlib.crc32(values, crc32)
                clips.append(clip)
                bar.update()
        base.write_json(_index(self.partial, shard), {"crc32": crc32, "clips": clips})

    def _features(self, path: Path) -> bytes:
        y, sr = audio.read(path, sr=self.spec.sr, seconds=self.spec.seconds)
        return self.spec.extract(y, sr).astype(np.float32, copy=False).tobytes()

    def _offset(self, row: int) -> int:
        return len(self.header) + row * self.row_bytes

    def _is_whole(self, where: Path) -> bool:
        array = where / "array.npy"
        return array.exists() and array.stat().st_size == self._offset(len(self.paths))

    def _checksum(self, where: Path, rows: range) -> int:
        crc32 = 0
        with open(where / "array.npy", "rb") as file:
            file.seek(self._offset(rows.start))
            for _ in rows:
                crc32 = zlib.crc32(file.read(self.row_bytes), crc32)
        return crc32


def _index(where: Path, shard: int) -> Path:
    return where / f"{shard:05d}.json"
