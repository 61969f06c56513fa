"""What every room uses: errors a learner may meet, where things lie, files written whole or not at all, progress."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
SAMPLE = DATA / "sample"
CACHE = DATA / "cache"


class CourseError(ValueError):
    """Base of all errors raised on purpose: what is wrong, with which file, and what to do."""


class DataMissing(CourseError):
    """A dataset or an artefact of another notebook is not where it was expected."""


class AudioError(CourseError):
    """A file cannot be decoded as audio, or not completely."""


@contextlib.contextmanager
def replace_with(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it onto `path` when the block ends well.

    A reader sees the old file or the complete new one, and a process that is killed leaves `path` as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_UMASK)  # mkstemp makes private files
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


_UMASK = _umask()  # read once, as reading it means setting it, for all threads


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write `content` as indented JSON, atomically. Values JSON does not know are written as text."""
    with replace_with(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def write_parquet(path: str | os.PathLike, table: pd.DataFrame) -> None:
    """Write a table as parquet, atomically and without its index."""
    with replace_with(path) as temporary:
        table.to_parquet(temporary, index=False)


def resolve(path: str | os.PathLike) -> Path:
    """Find a path a user gave: as seen from here, or else from the repository root, where papermill runs."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


def short(path: str | os.PathLike) -> str:
    """Give a path as seen from the repository root, or whole if it lies elsewhere; for messages and tables."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def digest(*parts: object) -> str:
    """Short fingerprint of settings, equal for equal settings in any process."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def in_batch() -> bool:
    """Whether notebooks run unattended (COURSE_BATCH=1): then no bars and no audio players go into their outputs."""
    return os.environ.get("COURSE_BATCH") == "1"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what compiled libraries write to it past Python: notes on damaged files, greetings."""
    with _LOCK:  # several threads may be in here at the same time: the first closes, the last opens
        if not _QUIET:
            _QUIET.append(os.dup(2))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        _QUIET.append(None)
    try:
        yield
    finally:
        with _LOCK:
            _QUIET.pop()
            if len(_QUIET) == 1:
                os.dup2(_QUIET[0], 2)
                os.close(_QUIET.pop())


_LOCK, _QUIET = threading.Lock(), []


@functools.cache
def _terminal():
    """Where bars are drawn: where errors go, even while that is `quiet`."""
    return os.fdopen(os.dup(2), "w", buffering=1)


def progress(iterable=None, **options) -> tqdm:
    """Return a tqdm bar (same arguments), silent in batch runs."""
    # Where nobody watches (a log, a pipe), a line now and then is enough.
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    silent = options.pop("disable", False) or in_batch()
    with contextlib.suppress(OSError):  # a notebook's, or none
        if sys.stderr.fileno() == 2:
            options.setdefault("file", _terminal())
    return tqdm(iterable, disable=silent, mininterval=0.2 if watched else 30, **options)
