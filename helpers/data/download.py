"""Downloads that are complete or not there at all.

An archive is fetched into ``DEST/.downloads``, checked against its checksum, unpacked there, and only then moved to its
place. A list of what was unpacked is written last; with it, a second run skips what is complete.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import stat
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import pooch
import requests

from helpers.base import CourseError, write_json
from helpers.base import progress as progress_bar
from helpers.data.declare import RemoteFile, gigabytes

# pooch reads 1 KiB at a time unless told otherwise, which is three times slower.
_CHUNK = 2**20
_WORK = ".downloads"


def fetch(remote: RemoteFile, dest: str | os.PathLike, retries: int = 2) -> Path:
    """Download one file, check it, and unpack it if it is an archive."""
    dest = Path(dest).expanduser().absolute()
    name = _name(remote.url)
    target = dest / (remote.unpack_to if remote.unpack_to is not None else name)
    done = dest / _WORK / f"{name}.json"
    if is_complete(remote, dest):
        print(f"{name}: complete, nothing to do.")
        return target
    with _explained(name, dest):
        work = dest / _WORK
        work.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(work)
        parts = [_retrieve(url, None, work, retries) for url in remote.parts]
        parts.append(_retrieve(remote.url, remote.hash, work, retries))
        if remote.unpack_to is None:
            os.replace(parts[0], target)
            sizes = {"": target.stat().st_size}
        else:
            sizes = _unpack(parts, remote.strip, target, work / f"unpack-{name}")
        write_json(done, {"url": remote.url, "hash": remote.hash, "files": sizes})
        for part in parts:
            part.unlink(missing_ok=True)
    return target


def _name(url: str) -> str:
    return url.partition("?")[0].rstrip("/").rpartition("/")[2]


def is_complete(remote: RemoteFile, dest: Path) -> bool:
    """Say whether everything that was unpacked of a file is there, in full length."""
    target = dest / (remote.unpack_to if remote.unpack_to is not None else _name(remote.url))
    done = dest / _WORK / f"{_name(remote.url)}.json"
    try:
        record = json.loads(done.read_text(encoding="utf-8"))
        if (record["url"], record["hash"]) != (remote.url, remote.hash):
            return False
        return all(os.stat(target / name).st_size == size for name, size in record["files"].items())
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


def _retrieve(url: str, known_hash: str | None, work: Path, retries: int) -> Path:
    """Fetch one file into `work`; pooch moves it to its name only when its checksum is right."""
    name = _name(url)
    if url.startswith("doi:"):
        known_hash = _registry(url.rpartition("/")[0]).get(name)
        if known_hash is None:
            raise CourseError(f"The record {url.rpartition('/')[0]} holds no file {name}.")
        downloader = pooch.DOIDownloader(progressbar=True, chunk_size=_CHUNK, timeout=60)
    else:
        downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=_CHUNK, timeout=60)
    if known_hash is None:
        raise CourseError(f"{url} is declared without a checksum; what arrives could not be verified.")
    store = pooch.create(path=work, base_url="", registry={name: known_hash}, urls={name: url}, retry_if_failed=retries)
    return Path(store.fetch(name, downloader=downloader))


@lru_cache(maxsize=16)
def _registry(doi: str) -> dict[str, str]:
    """Ask the record for the checksums of its files."""
    store = pooch.create(path=pooch.os_cache("none"), base_url=f"{doi}/", registry=None)
    store.load_registry_from_doi()
    return dict(store.registry)


def _unpack(parts: list[Path], strip: int, target: Path, folder: Path) -> dict[str, int]:
    """Unpack into `folder`, then move everything to `target`; give the size of every file."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    sizes: dict[str, int] = {}
    try:
        with _members(parts) as members, progress_bar(desc="unpack", unit=" files") as bar:
            for name, size, open_member in members:
                inner = _inside(name, strip)
                if inner is None:
                    continue
                (folder / inner).parent.mkdir(parents=True, exist_ok=True)
                with open_member() as source, open(folder / inner, "wb") as file:
                    shutil.copyfileobj(source, file, _CHUNK)
                    if file.tell() != size:
                        raise zipfile.BadZipFile(f"{name} has {file.tell():,} of {size:,} bytes")
                sizes[inner.as_posix()] = size
                bar.update()
        if not sizes:
            raise zipfile.BadZipFile("the archive is empty")
        _move(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return sizes


@contextmanager
def _members(parts: list[Path]) -> Iterator[Iterator[tuple[str, int, Callable[[], BinaryIO]]]]:
    """Open an archive and go through its files: name, size, and a function that opens the content."""
    if parts[-1].suffix == ".zip":
        with _open_split(parts) if len(parts) > 1 else zipfile.ZipFile(parts[0]) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            check_space(parts[0].parent, sum(info.file_size for info in infos), f"What {parts[-1].name} holds")
            for info in infos:
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise CourseError(f"The archive holds a link ({info.filename}); it is not unpacked.")
            yield ((info.filename, info.file_size, lambda i=info: archive.open(i)) for info in infos)
    else:
        with tarfile.open(parts[0]) as archive:
            yield _tar_members(archive)


def _tar_members(archive: tarfile.TarFile) -> Iterator[tuple[str, int, Callable[[], BinaryIO]]]:
    for member in archive:
        if member.isdir():
            continue
        if not member.isreg():
            raise CourseError(f"The archive holds a link or a device ({member.name}); it is not unpacked.")
        yield member.name, member.size, lambda m=member: archive.extractfile(m)


def _inside(name: str, strip: int) -> PurePosixPath | None:
    """Give the place of a member inside its folder; refuse one that leads out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
        raise CourseError(f"The archive wants to write outside its folder ({name!r}); it is not unpacked.")
    parts = path.parts[strip:]
    return PurePosixPath(*parts) if parts else None


def _move(source: Path, target: Path) -> None:
    """Move a folder to its place; where a folder of that name exists already, add to it."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
        return
    for child in sorted(source.iterdir()):
        if child.is_dir():
            _move(child, target / child.name)
        else:
            os.replace(child, target / child.name)


@contextmanager
def _explained(name: str, dest: Path) -> Iterator[None]:
    """Turn what may go wrong into a CourseError that says what to do."""
    again = "Run the same command again: what is complete is kept."
    try:
        yield
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else "?"
        raise CourseError(
            f"{name}: the server answers {code} ({error}). After a 404 look at the dataset's homepage; else try later."
        ) from error
    except requests.RequestException as error:
        raise CourseError(f"{name}: the connection failed or was cut ({error}). {again}") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise CourseError(f"{name}: the archive is damaged ({error}). Nothing was unpacked. {again}") from error
    except ValueError as error:
        if isinstance(error, CourseError):
            raise
        what = f"what arrived is not what was published ({error})" if "hash" in str(error) else str(error)
        raise CourseError(f"{name}: {what}. {again} If it happens again, the file on the server changed.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CourseError(
                f"{name}: the disk with {dest} is full ({gigabytes(shutil.disk_usage(dest).free)} free). "
                f"Make room there, or choose another folder. {again}"
            ) from error
        raise CourseError(f"{name}: {error}. {again}") from error


@contextmanager
def _open_split(parts: list[Path]):
    """Open a split zip (.z01, .z02, ..., .zip), given all its parts in order, without a joined copy on the disk.

    Places are counted from the start of a part, whose number zipfile keeps as `ZipInfo.volume`.
    """
    sizes = [part.stat().st_size for part in parts]
    starts = [sum(sizes[:n]) for n in range(len(parts))]
    tail = parts[-1].read_bytes()[-66_000:]
    end = tail.rfind(b"PK\5\6")
    _, n_entries, size, _ = struct.unpack("<2H2I", tail[end + 8 : end + 20])
    if (wide := tail.rfind(b"PK\6\6", 0, end)) >= 0:
        end, (_, n_entries, size) = wide, struct.unpack("<3Q", tail[wide + 24 : wide + 48])
    # Behind the table of contents, an end record that knows of one part only.
    sizes[-1] -= len(tail) - end
    record = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, n_entries, n_entries, size, 0, 0)
    with ExitStack() as stack:
        files = [stack.enter_context(part.open("rb")) for part in parts]
        archive = stack.enter_context(zipfile.ZipFile(_Joined([*files, io.BytesIO(record)], [*sizes, len(record)])))
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

    def tell(self):
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
