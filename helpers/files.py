"""Where things lie, and how files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
SAMPLE = DATA / "sample"
CACHE = DATA / "cache"


@contextlib.contextmanager
def replace_with(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it onto `path` when the block ends well.

    A reader therefore sees the old file or the complete new one, never a half-written one, and a process that is
    killed leaves `path` as it was.

    Parameters
    ----------
    path : path
        File to be written. Its folder is created if needed.

    Yields
    ------
    pathlib.Path
        Temporary file in the same folder (so that the move is atomic), with the same suffix.

    Notes
    -----
    Used by every module that writes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give what is kept the permissions an ordinary open() would.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write `content` as indented JSON, atomically. Values JSON does not know are written as text."""
    with replace_with(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def write_parquet(path: str | os.PathLike, frame: pd.DataFrame) -> None:
    """Write a table as parquet, atomically and without its index."""
    with replace_with(path) as temporary:
        frame.to_parquet(temporary, index=False)


def resolve(path: str | os.PathLike) -> Path:
    """Find a path a user gave: as seen from here, or else from the repository root.

    A notebook runs in notebooks/ under JupyterLab and in the repository root under papermill; the same relative path
    shall work in both.
    """
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else ROOT / path


def short(path: str | os.PathLike) -> str:
    """Give a path as seen from the repository root, or whole if it lies elsewhere; for messages and tables."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
