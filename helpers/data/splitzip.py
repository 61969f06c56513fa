"""Zip archives in several parts (.z01, .z02, ..., .zip), opened as one without a joined copy on the disk.

Such an archive gives places as "part 3, byte 1,000". Putting the parts end to end is not enough: every place in the
table of contents has to be rewritten as well. `zipfile` opens a mere concatenation without complaint and then reads the
wrong bytes.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_NOT_HERE = 0xFFFF_FFFF


@contextlib.contextmanager
def open_split(parts: Sequence[str | os.PathLike]) -> Iterator[zipfile.ZipFile]:
    """Open a split zip.

    Parameters
    ----------
    parts : sequence of path
        All parts in order: ``.z01``, ``.z02``, ..., and ``.zip`` last.

    Yields
    ------
    zipfile.ZipFile
        Opened for reading; checksums are verified as members are read.

    Raises
    ------
    zipfile.BadZipFile
        A part is missing or damaged.

    Notes
    -----
    Follows PKWARE's APPNOTE 6.3, sections 4.3 and 4.5. Used by `helpers.download` for FSD50K.
    """
    sizes = [Path(part).stat().st_size for part in parts]
    starts = [sum(sizes[:n]) for n in range(len(parts))]
    with contextlib.closing(_Chain([open(part, "rb") for part in parts], sizes)) as chain:
        try:
            _repair(chain, starts, starts[-1] + sizes[-1])
        except (struct.error, IndexError) as error:
            raise zipfile.BadZipFile("the table of contents is damaged") from error
        with zipfile.ZipFile(io.BufferedReader(chain, 2**20)) as archive:
            yield archive


def _repair(chain: _Chain, starts: list[int], size: int) -> None:
    """Put a table of contents at the end of the chain that fits the joined bytes."""
    # The end record may be followed by a comment of up to 65,535 bytes.
    chain.seek(max(0, size - _END.size - 0xFFFF - _LOCATOR.size))
    start, length, entries = _table_of_contents(chain, chain.read(), starts)
    chain.seek(start)
    contents = _rewritten(chain.read(length), starts)
    end = start + len(contents)
    contents += _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, entries, entries, len(contents), start)
    contents += _LOCATOR.pack(b"PK\6\7", 0, end, 1)
    contents += _END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, _NOT_HERE, _NOT_HERE, 0)
    chain.replace_from(start, contents)


def _table_of_contents(chain: _Chain, tail: bytes, starts: list[int]) -> tuple[int, int, int]:
    """Find where the table of contents begins in the joined bytes, its length and its number of entries."""
    position = tail.rfind(b"PK\5\6")
    if position < 0:
        raise zipfile.BadZipFile("the last part has no end record")
    _, disk, contents_disk, _, entries, length, offset, _ = _END.unpack_from(tail, position)
    at_locator = position - _LOCATOR.size
    if at_locator >= 0 and tail[at_locator : at_locator + 4] == b"PK\6\7":
        _, end64_disk, end64_offset, _ = _LOCATOR.unpack_from(tail, at_locator)
        chain.seek(starts[end64_disk] + end64_offset)
        _, _, _, _, disk, contents_disk, _, entries, length, offset = _END64.unpack(chain.read(_END64.size))
    if disk + 1 != len(starts):
        raise zipfile.BadZipFile(f"the archive has {disk + 1} parts, {len(starts)} are there")
    return starts[contents_disk] + offset, length, entries


def _rewritten(contents: bytes, starts: list[int]) -> bytes:
    """Give every entry its place in the joined bytes, as a zip64 field, which holds places beyond 4 GB."""
    rewritten, position = [], 0
    while position < len(contents):
        fields = list(_ENTRY.unpack_from(contents, position))
        if fields[0] != b"PK\1\2":
            raise zipfile.BadZipFile("the table of contents is damaged")
        name_end = position + _ENTRY.size + fields[10]
        extra_end = name_end + fields[11]
        next_entry = extra_end + fields[12]
        rest, wide = _extra(contents[name_end:extra_end])
        # The zip64 field holds, in this order, those values that did not fit into the entry.
        packed, stored = fields[8], fields[9]
        stored = int.from_bytes(wide.read(8), "little") if stored == _NOT_HERE else stored
        packed = int.from_bytes(wide.read(8), "little") if packed == _NOT_HERE else packed
        offset = int.from_bytes(wide.read(8), "little") if fields[16] == _NOT_HERE else fields[16]
        disk = int.from_bytes(wide.read(4), "little") if fields[13] == 0xFFFF else fields[13]
        rest += struct.pack("<2H3Q", 1, 24, stored, packed, starts[disk] + offset)
        fields[8] = fields[9] = fields[16] = _NOT_HERE
        fields[11], fields[13] = len(rest), 0
        rewritten += [_ENTRY.pack(*fields), contents[position + _ENTRY.size : name_end], rest]
        rewritten.append(contents[extra_end:next_entry])
        position = next_entry
    return b"".join(rewritten)


def _extra(extra: bytes) -> tuple[bytes, io.BytesIO]:
    """Part the extra fields of an entry into the zip64 field and the others."""
    rest, wide, position = b"", b"", 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        field = extra[position : position + 4 + length]
        if kind == 1:
            wide = field[4:]
        else:
            rest += field
        position += 4 + length
    return rest, io.BytesIO(wide)


class _Chain(io.RawIOBase):
    """Several files read as one; the end can be replaced by bytes in memory."""

    def __init__(self, files: list[io.BufferedReader], sizes: list[int]) -> None:
        self._pieces = list(zip(files, sizes, strict=True))
        self._files = files
        self._position = 0

    def replace_from(self, position: int, end: bytes) -> None:
        kept, start = [], 0
        for file, size in self._pieces:
            if start < position:
                kept.append((file, min(size, position - start)))
            start += size
        self._pieces = [*kept, (io.BytesIO(end), len(end))]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence, sum(size for _, size in self._pieces))
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        filled = start = 0
        for file, size in self._pieces:
            wanted = min(len(buffer) - filled, start + size - self._position)
            if self._position >= start and wanted > 0:
                file.seek(self._position - start)
                piece = file.read(wanted)
                buffer[filled : filled + len(piece)] = piece
                filled += len(piece)
                self._position += len(piece)
            start += size
        return filled

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()
