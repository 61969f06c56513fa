"""Downloads that are complete or not there at all.

An archive is fetched into ``DEST/.downloads``, checked against its checksum, unpacked there, and only then moved to its
place. A list of what was unpacked is written last; with it, a second run skips what is complete.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import stat
import struct
import tarfile
import time
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pandas as pd
import pooch
import requests

from helpers.base import ROOT, CourseError, in_batch, replace_with, write_json
from helpers.base import progress as progress_bar
from helpers.data.declare import RemoteFile, gigabytes

# pooch reads 1 KiB at a time unless told otherwise, which is three times slower.
_CHUNK = 2**20
_RETRIES = 2
_PATIENCE = 5, 15  # s for a connection and for an answer, where a notebook waits


def fetch(remote: RemoteFile, dest: str | os.PathLike) -> Path:
    """Download one archive, check it, and unpack it."""
    dest = Path(dest).expanduser().absolute()
    name, target, done = _places(remote, dest)
    if is_complete(remote, dest):
        print(f"{name}: complete, nothing to do.")
        return target
    with _explained(name, dest):
        work = done.parent
        work.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(work)
        parts = [_retrieve(url, remote, work) for url in (*remote.parts, remote.url)]
        try:
            sizes = _unpack(parts, remote, target, work / f"unpack-{name}")
        except BaseException:
            for part in parts if remote.listed else ():  # nothing would tell that it must be fetched again
                part.unlink(missing_ok=True)
            raise
        write_json(done, {"url": remote.url, "hash": remote.hash, "files": sizes})
        for part in parts:
            part.unlink(missing_ok=True)
    return target


def receive(url: str, path: Path, is_right: Callable[[Path], bool]) -> None:
    """Fetch one file that a notebook waits for, to `path`; CourseError says in a few words why it cannot be had."""
    reason = "what arrived is not the published file"
    with replace_with(path) as part:
        try:
            how = {"progressbar": not in_batch(), "chunk_size": _CHUNK, "timeout": _PATIENCE}
            pooch.HTTPDownloader(**how)(url, str(part), None)
            if is_right(part):
                return
        except (OSError, ValueError) as error:  # those of requests are OSErrors
            reason = str(error)
            if "timed out" in reason:
                reason = "no answer"
            elif isinstance(error, requests.ConnectionError):
                reason = "no connection"
            elif isinstance(error, requests.exceptions.ChunkedEncodingError):
                reason = "the connection was cut"
        raise CourseError(f"{urllib.parse.urlsplit(url).netloc}: {reason}")


def _places(remote: RemoteFile, dest: Path) -> tuple[str, Path, Path]:
    """Name of a file, place of what comes of it, and of the list that says it is complete."""
    name = remote.url.rpartition("/")[2]
    return name, dest / remote.unpack_to, dest / ".downloads" / f"{name}.json"


def is_complete(remote: RemoteFile, dest: Path) -> bool:
    """Say whether everything that was unpacked of a file is there, in full length."""
    _, target, done = _places(remote, dest)
    try:
        record = json.loads(done.read_text(encoding="utf-8"))
        sizes = record["files"].items()
        same = (record["url"], record["hash"]) == (remote.url, remote.hash)
        return same and all(os.stat(target / name).st_size == size for name, size in sizes)
    except (OSError, ValueError, KeyError):
        return False


def _remove_leftovers(work: Path) -> None:
    """Remove what a killed run left: pooch's temporary files, untouched for an hour."""
    for path in work.glob("tmp*"):
        if path.is_file() and time.time() - path.stat().st_mtime > 3600:
            path.unlink(missing_ok=True)


def check_space(dest: Path, needed: int, name: str) -> None:
    """Raise CourseError unless so many bytes are free where `dest` is, or will be."""
    free = shutil.disk_usage(next(place for place in (dest, *dest.parents) if place.exists())).free
    if needed > free:
        raise CourseError(
            f"{name} needs about {gigabytes(needed)} in {dest}, but {gigabytes(free)} are free. "
            "Make room there, or choose another folder."
        )


def _retrieve(url: str, remote: RemoteFile, work: Path) -> Path:
    """Fetch one file into `work`; pooch moves it to its name only when its checksum is right."""
    place, _, name = url.rpartition("/")
    kind, known_hash = pooch.HTTPDownloader, remote.hash
    if url.startswith("doi:"):
        kind, known_hash = pooch.DOIDownloader, _registry(place).get(name)
        if known_hash is None:
            raise CourseError(f"The record {place} holds no file {name}.")
    if known_hash is None and remote.listed is None:
        raise CourseError(f"{url} is declared without a checksum; what arrives could not be verified.")
    known, urls = {name: known_hash}, {name: url}
    store = pooch.create(path=work, base_url="", registry=known, urls=urls, retry_if_failed=_RETRIES)
    return Path(store.fetch(name, downloader=kind(progressbar=True, chunk_size=_CHUNK, timeout=60)))


@lru_cache(maxsize=16)
def _registry(doi: str) -> dict[str, str]:
    """Ask the record for the checksums of its files."""
    store = pooch.create(path=pooch.os_cache("none"), base_url=f"{doi}/", registry=None)
    store.load_registry_from_doi()
    return store.registry


def _unpack(parts: list[Path], remote: RemoteFile, target: Path, folder: Path) -> dict[str, int]:
    """Unpack into `folder`, check, then move everything to `target`; give the size of every file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sizes: dict[str, int] = {}
    try:
        with closing(_members(parts)) as members, progress_bar(desc="unpack", unit=" files") as bar:
            for name, content in members:
                inner = _inside(name, remote.strip)
                if inner.name:  # else it lies where folders are stripped
                    (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                    with content, open(folder / inner, "wb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
                        sizes[inner.as_posix()] = file.tell()
                    bar.update()
        if not sizes:
            raise zipfile.BadZipFile("the archive is empty")
        if remote.listed:
            _check_listed(folder, ROOT / remote.listed)
        _move(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return sizes


def _check_listed(folder: Path, table: Path) -> None:
    """Hold the files of a folder against the checksums that are published for them."""
    wrong = []
    for path, checksum in pd.read_csv(table, dtype=str)[["path", "sha256"]].itertuples(index=False):
        file = folder / path
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
            wrong.append(f"{path} is {'another file' if file.is_file() else 'missing'}")
    if wrong:
        raise CourseError(
            f"{len(wrong)} files are not those that were published: {wrong[0]}. Nothing was kept. Run the same command "
            "again; if it happens again, the files on the server changed."
        )


def _members(parts: list[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """Go through the files of an archive: name, and the content to read."""
    if parts[-1].suffix == ".zip":
        with _open_split(parts) if len(parts) > 1 else zipfile.ZipFile(parts[0]) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            check_space(parts[0].parent, sum(info.file_size for info in infos), f"What {parts[-1].name} holds")
            for info in infos:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise CourseError(f"The archive holds a link ({info.filename}); it is not unpacked.")
                yield info.filename, archive.open(info)
    else:
        with tarfile.open(parts[0]) as archive:
            for member in archive:
                if not (member.isreg() or member.isdir()):
                    raise CourseError(f"The archive holds a link or a device ({member.name}); it is not unpacked.")
                if member.isreg():
                    yield member.name, archive.extractfile(member)


def _inside(name: str, strip: int) -> PurePosixPath:
    """Give the place of a member inside its folder; refuse one that leads out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise CourseError(f"The archive wants to write outside its folder ({name!r}); it is not unpacked.")
    return PurePosixPath(*path.parts[strip:])


def _move(source: Path, target: Path) -> None:
    """Move a file or a folder to its place; where a folder of that name exists already, add to it."""
    if source.is_dir() and target.exists():
        for child in source.iterdir():
            _move(child, target / child.name)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


@contextmanager
def _explained(name: str, dest: Path) -> Iterator[None]:
    """Turn what may go wrong into a CourseError that says what to do."""
    again = "Run the same command again: what is complete is kept."
    try:
        yield
    except CourseError:
        raise
    except Exception as error:
        match error:
            case requests.HTTPError():
                what = f"the server answers {error.response.status_code} ({error}). "
                what += "After a 404 look at the dataset's homepage; else try later."
            case requests.RequestException():
                what = f"the connection failed or was cut ({error}). {again}"
            case zipfile.BadZipFile() | tarfile.TarError() | zlib.error() | EOFError():
                what = f"the archive is damaged ({error}). Nothing was unpacked. {again}"
            case ValueError():
                what = f"what arrived is not what was published ({error})" if "hash" in str(error) else str(error)
                what += f". {again} If it happens again, the file on the server changed."
            case OSError(errno=errno.ENOSPC | errno.EDQUOT):
                free = gigabytes(shutil.disk_usage(dest).free)
                what = f"the disk with {dest} is full ({free} free). Make room there, or choose another folder. {again}"
            case OSError():
                what = f"{error}. {again}"
            case _:
                raise
        raise CourseError(f"{name}: {what}") from error


@contextmanager
def _open_split(parts: list[Path]):
    """Open a split zip (.z01, .z02, ..., .zip), given all its parts in order, without a joined copy on the disk.

    Places are counted from the start of a part, whose number zipfile keeps as `ZipInfo.volume`.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in parts]
        sizes = [part.stat().st_size for part in parts]
        starts = [sum(sizes[:n]) for n in range(len(parts))]
        sizes[-1] = files[-1].seek(max(0, sizes[-1] - 66_000))
        tail = files[-1].read()
        end = tail.rfind(b"PK\5\6")
        n_entries, size = struct.unpack("<HI", tail[end + 10 : end + 16])
        if (wide := tail.rfind(b"PK\6\6", 0, end)) >= 0:
            end, (n_entries, size) = wide, struct.unpack("<2Q", tail[wide + 32 : wide + 48])
        # Behind the table of contents, an end record that knows of one part only.
        record = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n_entries, n_entries, size, 0, 0)
        joined = _Joined([*files, io.BytesIO(record)], [*sizes[:-1], sizes[-1] + end, len(record)])
        archive = stack.enter_context(zipfile.ZipFile(joined))
        if any(info.volume >= len(parts) for info in archive.infolist()):
            raise zipfile.BadZipFile("a part is missing")
        for info in archive.infolist():  # zipfile has added where the table begins, as if all lay in its part
            info.header_offset += starts[info.volume] - archive.start_dir
        yield archive


class _Joined(io.RawIOBase):
    """Several files read as one."""

    def __init__(self, files, sizes):
        self.files, self.sizes, self.position = files, sizes, 0

    def seekable(self):
        return True

    def seek(self, offset, whence=0):
        self.position = offset + (0, self.position, sum(self.sizes))[whence]
        return self.position

    def read(self, n=-1):
        found, start, stop = b"", 0, sum(self.sizes) if n is None or n < 0 else self.position + n
        for file, size in zip(self.files, self.sizes, strict=True):
            if start <= self.position < min(stop, start + size):
                file.seek(self.position - start)
                found += file.read(min(stop, start + size) - self.position)
                self.position = min(stop, start + size)
            start += size
        return found
