"""By what a file, and the code that read it, are known again."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from importlib.metadata import version
from pathlib import Path

from helpers.errors import AudioError

# What feature values depend on, besides the spec and the recording.
_MODULES = ("audio.py", "features.py", "gammatone.py")
_LIBRARIES = ("librosa", "scipy", "soundfile", "soxr")
# Clocks of file systems tick every 2 s at worst.
_TICK_NS = 2_000_000_000


def signature(path: str | os.PathLike) -> list[int]:
    """Size and times of a file: while they stay, so does its content.

    Returns
    -------
    list of int
        Size in bytes, times of the last change of the content and of the file's entry (ns).

    Raises
    ------
    AudioError
        There is no such file.

    Notes
    -----
    Used by `helpers.cache`, like everything here.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist; was it moved or deleted? Load the manifest anew.") from None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def settled(now: list[int]) -> list[int] | None:
    """Give the signature if it can be relied on: not while the file may change again within a tick of the clock."""
    return now if abs(time.time_ns() - max(now[1:])) > _TICK_NS else None


def sha256(path: str | os.PathLike) -> str:
    """Digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache
def code_version(folder: Path = Path(__file__).parent) -> bytes:
    """Digest of the code that computes features. (A version number kept by hand would be forgotten one day.)

    Parameters
    ----------
    folder : path
        Where the modules lie.

    Returns
    -------
    bytes
    """
    digest = hashlib.sha256()
    for module in _MODULES:
        digest.update((folder / module).read_bytes().replace(b"\r\n", b"\n"))
    for library in _LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    return digest.digest()
