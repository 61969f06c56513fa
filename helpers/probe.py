"""What is the matter with one recording: everything the audit can find out from a single file.

Decoders are polite. A WAV or OGG cut in half decodes as half the samples without a word, and a cut MP3 still claims its
full length; so the file's own book-keeping is compared with what is there.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import numpy as np
import soundfile

from helpers import mpeg

# At most this many frames of a recording are in memory at a time.
_BLOCK = 65_536
# Programs that write to a pipe cannot know the length and put a huge number there.
_OPEN_ENDED = 0x7FFF_0000
# What is known of a recording before it is opened.
NOTHING = {"reason": None, "detail": "", "sr": 0, "channels": 0, "duration": np.nan, "open_ended": False}
NOTHING |= {"peak": np.nan, "rms": np.nan, "clipped": np.nan, "digest": ""}
_CONTAINERS = {b"OggS": "Ogg", b"fLaC": "FLAC", b"caff": "CAF"}


def probe(path: str | os.PathLike, check_samples: bool = True) -> dict:
    """Examine one recording without keeping its samples.

    Parameters
    ----------
    path : path
        The file.
    check_samples : bool
        Decode it from end to end. Without, only the header is read: silence, damage within the file, clipping and
        equal content stay unknown.

    Returns
    -------
    dict
        `reason` ("missing", "empty", "header only", "truncated", "not audio" or None) and `detail`; `sr` (Hz),
        `channels`, `duration` (s); with `check_samples` also `peak` and `rms` (full scale is 1), `clipped` (share of
        samples at full scale) and `digest` (of the decoded samples); `open_ended` when nothing tells the length: a WAV
        from a pipe, or an MP3 whose frames cannot all be counted, part of which may go unheard.

    Notes
    -----
    Not noticed: an MP3 without a length that is cut between two frames, what was appended to an MP3 with one, and cut
    AU or W64 files. Used by `helpers.audit`, `helpers.audio` and `helpers.serving`.
    """
    path = Path(path)
    facts = dict(NOTHING)
    try:
        if not path.is_file():
            kind = "there is a folder of this name" if path.is_dir() else "no such file"
            return facts | {"reason": "missing", "detail": kind}
        size = path.stat().st_size
        if size == 0:
            return facts | {"reason": "empty", "detail": "0 bytes"}
        with path.open("rb") as file:
            announced = _announced(file, size)
        facts["open_ended"] = announced is not None and announced[0] >= _OPEN_ENDED
        with mpeg.opened(path) as (sound, doubt):
            facts["open_ended"] |= doubt == "unknown"
            facts |= {"sr": sound.samplerate, "channels": sound.channels}
            facts["duration"] = sound.frames / sound.samplerate
            if sound.frames == 0:
                return facts | {"reason": "header only", "detail": f"no samples in {size:,} bytes"}
            if check_samples:
                facts |= _read_through(sound, facts["open_ended"])
    except soundfile.LibsndfileError as error:
        return facts | _undecodable(path, size, error)
    except OSError as error:
        return facts | {"reason": "not audio", "detail": f"cannot be read: {error.strerror or error}"}
    if announced is not None and not facts["open_ended"] and announced[0] - announced[1] > announced[2]:
        share = announced[1] / announced[0]
        detail = f"{announced[1]:,} of {announced[0]:,} bytes of samples are there ({share:.0%})"
        return facts | {"reason": "truncated", "detail": detail}
    if facts["reason"] is None and (problem := "the last frame is cut" if doubt == "cut" else _ogg_end(path, size)):
        return facts | {"reason": "truncated", "detail": problem}
    return facts


def _read_through(sound: soundfile.SoundFile, open_ended: bool) -> dict:
    """Decode block by block; keep only running figures."""
    announced, sr = sound.frames, sound.samplerate
    frames = clipped = 0
    peak = energy = 0.0
    digest = hashlib.blake2b(digest_size=16)
    buffer = np.empty((_BLOCK, sound.channels), dtype=np.float32)
    failure = ""
    while True:
        try:
            block = sound.read(out=buffer)
        except soundfile.LibsndfileError as error:
            failure = str(error).strip() or "the decoder gives up"
            break
        if len(block) == 0:
            break
        high, low = float(block.max()), float(block.min())
        if not (np.isfinite(high) and np.isfinite(low)):
            return {"reason": "not audio", "detail": "samples that are not numbers (NaN or infinite)"}
        frames += len(block)
        peak = max(peak, high, -low)
        if peak >= 0.9999:
            clipped += int(np.count_nonzero(np.abs(block) >= 0.9999))
        energy += float(np.vdot(block, block))
        digest.update(block)
    facts = {"digest": digest.hexdigest(), "duration": frames / sr, "peak": peak}
    samples = max(frames, 1) * sound.channels
    facts |= {"rms": (energy / samples) ** 0.5, "clipped": clipped / samples}
    # A decoder may trim the delay of an MP3 encoder, which is less than two of its packets of 1,152 frames.
    if failure or (announced - frames > 2 * 1152 and not open_ended):
        detail = f"decodes to {frames / sr:.2f} s of {announced / sr:.2f} s" + (f" ({failure})" if failure else "")
        facts |= {"reason": "truncated", "detail": detail}
    return facts


def _announced(file, size: int) -> tuple[int, int, int] | None:
    """Give (bytes of samples announced, bytes there, bytes per frame) of a WAV or AIFF; None for other formats."""
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        order, wanted = "<", b"data"
    elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        order, wanted = ">", b"SSND"
    else:
        return None
    position, frame = 12, 1
    while position + 8 <= size:
        file.seek(position)
        name, length = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"fmt " and len(form := file.read(14)) == 14:
            frame = max(1, struct.unpack("<H", form[12:])[0])
        if name == wanted:
            return length, size - position - 8, frame
        position += 8 + length + length % 2
    return None


def _ogg_end(path: Path, size: int) -> str:
    """Say what is wrong with the end of an Ogg file: its last page must be whole and marked as the last."""
    with path.open("rb") as file:
        if file.read(4) != b"OggS":
            return ""
        # A page has at most 65,307 bytes, so the last one begins within this stretch.
        file.seek(max(0, size - 131_072))
        tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:]
    if start < 0 or len(page) < 27 or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        return "the last Ogg page is cut"
    return "" if page[5] & 4 else "the stream ends without an end mark"


def _undecodable(path: Path, size: int, error: soundfile.LibsndfileError) -> dict:
    """Tell apart: text, a cut header, damaged audio, something else."""
    with path.open("rb") as file:
        head = file.read(256)
    if head[:4] == b"RIFF" and head[8:12] in (b"WAVE", b""):
        return {"reason": "header only", "detail": f"an incomplete WAV header in {size:,} bytes"}
    mp3 = head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0")
    if name := "MP3" if mp3 else _CONTAINERS.get(head[:4]):
        return {"reason": "truncated", "detail": f"begins as {name}, but cannot be decoded: cut or damaged"}
    text = head.decode("utf-8", errors="replace")
    if sum(c.isprintable() or c.isspace() for c in text) >= 0.95 * len(text) and "\ufffd" not in text[:-1]:
        return {"reason": "not audio", "detail": f"text: {' '.join(text.split())[:40]!r}"}
    message = str(getattr(error, "error_string", "") or error).strip()
    return {"reason": "not audio", "detail": f"{size:,} bytes that are no known audio format ({message})"}
