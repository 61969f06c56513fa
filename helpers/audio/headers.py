"""What the first and the last bytes of a recording say, where its decoder is silent or wrong."""

from __future__ import annotations

import io
import re
from pathlib import Path

import soundfile as sf

_HEAD, _TAIL = 65_536, 131_072  # bytes looked at; a page of Ogg has at most 65,307
_OPEN_ENDED = 0x7FFF_0000  # programs that write to a pipe cannot know the length and put a huge number there
_SIZES = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_CODECS = [
    (4, b"ftyp", "MPEG-4 (M4A, MP4, 3GP)"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (0, b"#!AMR", "AMR"),
    (0, b"\x0bw", "AC-3"),
]
_IN_OGG = {b"\x7fFLAC": "FLAC", b"Speex": "Speex", b"theora": "Theora"}
_IN_WAV = {0x45: "G.726", 0x64: "G.726", 0x50: "MPEG layer II", 0x55: "MP3", 0x161: "Windows Media", 0xFF: "AAC"}
_CONTAINERS = {b"OggS": "Ogg", b"fLaC": "FLAC", b"caff": "CAF", b"Crea": "VOC"}


class Mended(io.FileIO):
    """A file in which a few bytes, from `at` on, are read as others."""

    def __init__(self, path: Path, at: int, others: bytes):
        super().__init__(path)
        self._at, self._others = at, others

    def readinto(self, buffer) -> int:
        """Read as a file does."""
        start = self.tell()
        n = super().readinto(buffer)
        for place in range(max(start, self._at), min(start + n, self._at + len(self._others))):
            buffer[place - start : place - start + 1] = self._others[place - self._at : place - self._at + 1]
        return n


def length_to_mend(path: Path) -> tuple[int, bytes, str]:
    """Where a file says a length that its decoder must not believe, what to read there, and what is missing, or "".

    So it is with a CAF from a pipe, or cut, which libsndfile would refuse, and a FLAC that goes on behind the number of
    samples it announces. Nothing is to be mended where the bytes are none.
    """
    with path.open("rb") as file:
        start = file.read(4)
        if start not in (b"caff", b"fLaC"):
            return 0, b"", ""
        start += file.read(_HEAD - 4)
    size = path.stat().st_size
    if start[:4] == b"caff" and (at := _chunk(start, b"data")) > 0:
        told, there = int.from_bytes(start[at + 4 : at + 12], "big", signed=True), size - at - 12
        cut = _cut(told, there)
        return at + 4, (there.to_bytes(8, "big") if told < 0 or cut else b""), cut
    told = int.from_bytes(start[21:26], "big") % 2**36
    if start[:4] == b"fLaC" and 0 < told < _samples_of_flac(path, int.from_bytes(start[8:10], "big")):
        return 21, bytes([start[21] & 0xF0, 0, 0, 0, 0]), ""  # "unknown"
    return 0, b"", ""


def cut_wav(path: Path) -> str:
    """What is missing of the samples of a WAV, or ""; for codecs that libsndfile does not know."""
    with path.open("rb") as file:
        start = file.read(_HEAD)
    at = _chunk(start, b"data")
    told, there = int.from_bytes(start[at + 4 : at + 8], "little"), path.stat().st_size - at - 8
    return _cut(told, there + 1) if at and told < _OPEN_ENDED else ""  # one byte may be padding


def _chunk(start: bytes, name: bytes) -> int:
    """Where a chunk of a WAV or a CAF begins; 0 if it does not begin here."""
    at, width, order = (8, 8, "big") if start[:4] == b"caff" else (12, 4, "little")
    while at + 4 + width <= len(start):
        if start[at : at + 4] == name:
            return at
        size = int.from_bytes(start[at + 4 : at + 4 + width], order)
        at += 4 + width + size + (size % 2 if width == 4 else 0)
    return 0


def _cut(told: int, there: int) -> str:
    return f"{there:,} of {told:,} bytes are there ({there / told:.0%})" if told > there else ""


def _samples_of_flac(path: Path, block_size: int) -> int:
    """First sample of the last block of a FLAC (RFC 9639, section 9.1); 0 if no header of a block is found."""
    with path.open("rb") as file:
        at, last = 4, False
        while not last:  # blocks of metadata, up to the first of sound
            file.seek(at)
            head = file.read(4)
            at, last = at + 4 + int.from_bytes(head[1:], "big"), len(head) < 4 or bool(head[0] & 0x80)
        file.seek(at)
        first = file.read(4)
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    if len(first) < 4:
        return 0
    alike, at = (first[1], first[2] & 15, first[3] & 15), len(tail)
    while (at := max(tail.rfind(b"\xff\xf8", 0, at), tail.rfind(b"\xff\xf9", 0, at))) >= 0:
        block = tail[at : at + 16]
        longer = next((bit for bit in range(8) if not block[4] & (0x80 >> bit)), 8) if len(block) == 16 else 8
        # As in the first block: kind of numbers, rate, size of a sample.
        if longer < 8 and longer != 1 and (block[1], block[2] & 15, block[3] & 15) == alike:
            number = block[4] & (0x7F >> longer)
            for byte in block[5 : 4 + max(1, longer)]:
                number = number << 6 | byte & 0x3F
            end = 4 + max(1, longer) + {6: 1, 7: 2}.get(block[2] >> 4, 0) + {12: 1, 13: 2, 14: 2}.get(block[2] & 15, 0)
            if _crc8(block[:end]) == block[end]:
                return number if block[1] & 1 else number * block_size
    return 0


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc


def sizes(log: str) -> tuple[list[tuple[int, int]], bool]:
    """Sizes in bytes that headers tell and those that are there, from libsndfile's log; whether they were left open."""
    found = [(int(told), int(there)) for told, there in _SIZES.findall(log)]
    return found, any(told >= _OPEN_ENDED or told == 0 < there for told, there in found)


def bytes_unsaid(path: Path) -> int:
    """Bytes behind a WAV header whose size fields are 0, as a recorder leaves that lost its power; else 0."""
    with path.open("rb") as file:
        start = file.read(_HEAD)
    at = _chunk(start, b"data") if start[:4] == b"RIFF" else 0
    following = start[at + 8 : at + 12]
    if not at or any(start[at + 4 : at + 8]) or (following.isalpha() and following.isascii()):  # name of a next chunk
        return 0
    return path.stat().st_size - at - 8


def says_length(path: Path) -> bool:
    """Whether the first frame of an MP3 holds its length."""
    with path.open("rb") as file:
        return re.search(rb"Xing|Info|VBRI", file.read(_HEAD)) is not None


def has_end_mark(path: Path) -> bool:
    """Whether the last page of an Ogg file is marked as the last; of Opus, libsndfile's log does not tell."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        page = (tail := file.read())[tail.rfind(b"OggS") :]
    return len(page) > 27 and bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


def undecodable(path: Path, error: sf.LibsndfileError) -> tuple[str, str]:
    """Why libsndfile cannot open a file, as a reason and a detail: text, a codec, a cut header, damage..."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
    if codec := _codec(start):
        return "unknown codec", codec
    message = str(getattr(error, "error_string", "") or error).strip()
    if start[8:12] == b"WAVE" and _chunk(start, b"data"):
        return "not audio", f"a damaged WAV header ({message})"
    if start[:4] == b"RIFF" and start[8:12] in (b"WAVE", b""):
        return "header only", f"an incomplete WAV header in {size:,} bytes"
    mp3 = start[:3] == b"ID3" or (start[:1] == b"\xff" and start[1:2] >= b"\xe0")
    if name := "MP3" if mp3 else _CONTAINERS.get(start[:4]):
        return "truncated", f"begins as {name}, but cannot be decoded: cut or damaged"
    start = start[:256]
    text = start.decode("utf-8", errors="replace")
    if sum(c.isprintable() or c.isspace() for c in text) >= 0.95 * len(text) and "\ufffd" not in text[:-1]:
        return "not audio", f"text: {' '.join(text.split())[:40]!r}"
    return "not audio", f"{size:,} bytes that are no known audio format ({message})"


def _codec(start: bytes) -> str:
    """Name of the codec that the beginning of a file announces, if it is one that is known, but not decoded here."""
    for at, mark, name in _CODECS:
        if start[at : at + len(mark)] == mark:
            return name
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0:
        return "AAC (ADTS)"
    if start[:4] == b"OggS":
        return next((f"{name} in Ogg" for mark, name in _IN_OGG.items() if mark in start[:256]), "")
    if start[:4] == b"caff":
        return f"{start[28:32].decode('latin-1').strip()} in CAF" if start[28:32] not in (b"lpcm", b"") else ""
    if start[:4] == b"fLaC" and len(start) > 22:
        bits = ((start[20] & 1) << 4 | start[21] >> 4) + 1  # of a sample, in the first block of metadata
        return "" if bits in (8, 16, 24) else f"FLAC of {bits} bits"
    if start[8:12] == b"WAVE" and (at := _chunk(start, b"fmt ")) and _chunk(start, b"data"):
        tag, bits, kind = (int.from_bytes(start[at + place : at + place + 2], "little") for place in (8, 22, 32))
        tag = kind if tag == 0xFFFE else tag  # "extensible": its kind stands further on
        if (tag, bits) in [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)]:
            return ""
        return f"{bits}-bit samples in WAV" if tag in (1, 3) else f"{_IN_WAV.get(tag, f'codec 0x{tag:04x}')} in WAV"
    return ""
