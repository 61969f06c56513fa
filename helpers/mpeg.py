"""MP3s that do not say how long they are.

An MP3 is a row of frames, each with a header of four bytes. Encoders put one more in front that holds no sound but the
number of frames ("Xing" or "Info"); streamed, recorded and cut MP3s often lack it. libsndfile (mpg123) then guesses the
length from the size of the file and never reads beyond its guess: of a variable bit rate, most may go unheard. So the
frames are counted here, and libsndfile is given the file with such a frame in front.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

import soundfile as sf

# The second byte of a header tells version, layer (here III) and, in its last bit, whether there is no checksum.
_HEADER = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
# A frame that says the length; the lowest bit of the group is set if the number of frames follows.
_LENGTH = re.compile(_HEADER.pattern + rb".{11,38}?(?:Xing|Info)...(.)", re.DOTALL)
# Bit rates (kbit/s) of MPEG-1 and of its extensions to low sampling rates, by the first four bits of the third byte.
_KBITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
# Sampling rates (Hz) of MPEG-1 by the next two bits, and what they are divided by in each version.
_SR = (44_100, 48_000, 32_000, 0)
_DIVISOR = {3: 1, 2: 2, 0: 4}
# Sound begins within this many bytes, or the decoder gives up.
_SEARCHED = 65_536
# More zeros than this at the end are no padding, but a file that was never filled.
_PADDING = 4096
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[tuple[sf.SoundFile, str]]:
    """Open a recording of any format; an MP3 without a length gets one, so that all of it can be read.

    Parameters
    ----------
    path : path
        The file.

    Yields
    ------
    sound : soundfile.SoundFile
        The recording.
    doubt : str
        About an MP3 without a length: "cut" if its last frame is incomplete; "unknown" if `sound.frames` stays a guess
        of libsndfile, or if frames of another kind follow, so that part of it may go unheard. Otherwise "".

    Raises
    ------
    soundfile.LibsndfileError, OSError
        The file cannot be opened.

    Notes
    -----
    A cut exactly between two frames leaves no trace. An MP3 without a length is in memory as a whole while it is open,
    encoded as it is. Headers of frames: ISO/IEC 11172-3 and 13818-3. Used by `helpers.audio` and `helpers.probe`.
    """
    with sf.SoundFile(path) as sound:
        content, doubt = None, ""
        if sound.format == "MP3":
            with open(path, "rb") as file:
                content, doubt = _with_length(file)
        if content is None:
            yield sound, doubt
            return
    with sf.SoundFile(io.BytesIO(content)) as sound:
        yield sound, doubt


def _with_length(file: BinaryIO) -> tuple[bytes | None, str]:
    """Give an MP3 behind a frame that says its length, or None if it has one or cannot get one; and the doubt."""
    _skip_tags(file)
    content = file.read(_SEARCHED)
    start, length = _next_frame(content), _LENGTH.search(content)
    # What follows such a frame need not be whole: libsndfile then delivers less than it promised.
    if length and length[1][0] & 1 and (start is None or length.start() <= start):
        return None, ""
    if start is None:
        return None, "unknown"
    header = content[start : start + 4]
    sizes = _frame_sizes(header)
    # VBRI is another way to say the length, which libsndfile does not know.
    if re.search(rb"Xing|Info|VBRI", content[start + 4 : start + 44]):
        start += sizes[header[2]]
    content = content[start:] + file.read()
    n_frames, end = _count(content, header, sizes)
    # Like the others, but without a checksum and of a bit rate that leaves room for the number at any sampling rate.
    third = 0x90 | header[2] & 0x0C
    first = bytes([0xFF, header[1] | 1, third, header[3]]) + bytes(_side_info(header))
    first += b"Info" + struct.pack(">II", 1, n_frames)
    return first.ljust(sizes[third], b"\0") + content, _doubt(content[end:], header, sizes)


def _skip_tags(file: BinaryIO) -> None:
    """Go behind ID3 tags, whose length is written in four times seven bits."""
    start = 0
    while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
        start += 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        start += 10 if tag[5] & 0x10 else 0
        file.seek(start)
    file.seek(start)


def _frame_sizes(header: bytes) -> list[int]:
    """Sizes in bytes of frames of this version and sampling rate by the third byte of a header; 0: no such frame."""
    version = header[1] >> 3 & 3
    sr = _SR[header[2] >> 2 & 3] // _DIVISOR[version]
    kbits, bytes_per_kbit = (_KBITS[0], 144_000) if version == 3 else (_KBITS[1], 72_000)
    fits = [sr and (byte ^ header[2]) & 0x0C == 0 and kbits[byte >> 4] for byte in range(256)]
    return [rate and rate * bytes_per_kbit // sr + (byte >> 1 & 1) for byte, rate in enumerate(fits)]


def _side_info(header: bytes) -> int:
    """Bytes between the header of a frame and the mark of its length: fewer for low sampling rates and for mono."""
    low, mono = header[1] >> 3 & 3 != 3, header[3] >> 6 == 3
    return (9 if mono else 17) if low else (17 if mono else 32)


def _next_frame(content: bytes, start: int = 0, like: bytes | None = None) -> int | None:
    """Find a frame, `like` another's header if given, that ends where the next one begins or the content ends."""
    for match in _HEADER.finditer(content, start):
        position = match.start()
        header = content[position : position + 4]
        if len(header) < 4 or like and ((header[1] ^ like[1]) & 0xFE or (header[2] ^ like[2]) & 0x0C):
            continue
        sizes = _frame_sizes(header)
        end = position + sizes[header[2]]
        if end > position and (end == len(content) or _is_frame(content, end, header, sizes)):
            return position
    return None


def _is_frame(content: bytes, at: int, like: bytes, sizes: list[int]) -> bool:
    """Say whether the bytes, as many of the first three as there are, can be the header of a frame of this kind."""
    header = content[at : at + 3]
    fits = [byte == 0xFF for byte in header[:1]] + [byte | 1 == like[1] | 1 for byte in header[1:2]]
    return bool(header) and all(fits) and (len(header) < 3 or sizes[header[2]] > 0)


def _count(content: bytes, like: bytes, sizes: list[int]) -> tuple[int, int]:
    """Count whole frames, over damage and tags between them; give also where the last one ends."""
    n_frames, position, kind = 0, 0, like[1] | 1
    following: int | None = 0
    while following is not None:
        position = following
        while position + 2 < len(content) and content[position] == 0xFF and content[position + 1] | 1 == kind:
            size = sizes[content[position + 2]]
            if not size or position + size > len(content):
                break
            position += size
            n_frames += 1
        following = _next_frame(content, position, like)
    return n_frames, position


def _doubt(rest: bytes, like: bytes, sizes: list[int]) -> str:
    """Judge what stands behind the last whole frame: the beginning of one, a tag or a few zeros, something else."""
    if _is_frame(rest, 0, like, sizes):
        return "cut"
    rest = rest[:_PADDING].lstrip(b"\0") + rest[_PADDING:]
    return "unknown" if rest and not rest.startswith(_TAGS) else ""
