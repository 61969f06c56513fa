"""By what a file, and the code that read it, are known again."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from importlib.metadata import version
from pathlib import Path

from helpers.base import ROOT, AudioError, resolve

# What feature values depend on, besides the spec and the recording.
_MODULES = (
    "__init__.py",
    "denoise.py",
    "gammatone.py",
    "litert.py",
    "yamnet.py",
    "yamnet_mel.py",
    "../audio.py",
    "../mpeg.py",
)
_LIBRARIES = ("ai-edge-litert", "librosa", "noisereduce", "numpy", "scipy", "soundfile", "soxr")
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
    Used by `helpers.cache`.
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


def course_code() -> str:
    """Digest of all that a notebook's results depend on besides itself and the data: helpers, recipes, packages.

    Used by `helpers.notebooks`.
    """
    content = hashlib.sha256()
    for path in sorted([*ROOT.glob("helpers/**/*.py"), *ROOT.glob("data/*.toml"), ROOT / "requirements.lock"]):
        content.update(path.read_bytes())
    return content.hexdigest()


def data_state(dataset: str | None, data_dir: str | os.PathLike | None) -> list[int] | None:
    """Number, total size and latest change of a dataset's files: while they stay, so do the data.

    Parameters
    ----------
    dataset : str, optional
    data_dir : path, optional
        A folder, or a file: the CSV of your own recordings, which count too, wherever they lie.

    Returns
    -------
    list of int, or None for the embedded sample

    Notes
    -----
    Used by `helpers.notebooks`.
    """
    if not data_dir:
        return None
    place = resolve(data_dir)
    found = {place, *place.rglob("*")}
    if dataset == "folder":
        from helpers.data import folder

        found.update(map(Path, folder.load(place)["path"]))
    status = [path.stat() for path in found if path.is_file()]
    latest = max((file.st_mtime_ns for file in status), default=0)
    return [len(status), sum(file.st_size for file in status), latest]
