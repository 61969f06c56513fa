"""Recordings in and out of Python: the only place that opens them.

Decoders are polite: a WAV or OGG cut in half decodes as half the samples without a word. But libsndfile's log says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import miniaudio
import numpy as np
import soundfile as sf
import soxr

from helpers.audio import convert, headers
from helpers.base import AudioError, in_batch, quiet

_BLOCK = 65_536  # at most this many frames of a recording are in memory at a time
CHANNELS = "mean", "left", "right", "side"  # what is heard of stereo; the side is half of left minus right
SILENT_DB = -80.0  # a 16-bit recording moves in steps of -90 dB; what stays below -80 dB holds three of them
# What is known of a recording before it is opened.
NOTHING = {"reason": None, "detail": "", "sr": 0, "channels": 0, "duration": np.nan, "open_ended": False}
NOTHING |= {"peak": np.nan, "rms": np.nan, "clipped": np.nan, "highest": np.nan, "offset": np.nan, "mixdown": np.nan}
NOTHING |= {"digest": "", "converted": ""}
_UNKNOWN = 2**48  # frames; more than any recording has
_HIGHEST = 1e6  # samples beyond are no sound (full scale is 1), and their squares no numbers in 32 bits
_RATES = 500, 2_000_000  # Hz; outside, a header is damaged
_SLACK = 2 * 1152  # frames by which a decoder may trim an MP3
_NO_END = "the stream ends without an end mark"
_MARGIN_SECONDS = 0.1  # read beyond what is wanted, so that the resampler's filter sees what is there


class _Sequential(sf.SoundFile):
    """A file that is read from its beginning to its end: soundfile would seek after every block, wrongly in an MP3."""

    def seekable(self) -> bool:
        """Say no."""
        return False


class Recording:
    """A recording that is open: `sr` (Hz), `channels`, `frames` announced, and `facts` gathered while it is read.

    `facts` are those of `probe`; they are complete when all has been read.
    """

    def __init__(self, path: Path, sound: sf.SoundFile | convert.Converted, cut: str = "", codec: str = ""):
        self.path, self.sr, self.channels = path, sound.samplerate, sound.channels
        self.frames = _UNKNOWN if codec else sound.frames
        self._sound, self._stream, self._read = sound, None, 0
        self._rest = np.empty((0, sound.channels), np.float32)  # of a stream's last block
        # Of all channels: largest sample, energy, and samples at full scale; of their mean: sum, energy, both ends.
        self._highest = self._energy = self._clipped = self._sum = self._mono_energy = 0.0
        self._ends = np.inf, -np.inf
        self._floats = sound.subtype in ("FLOAT", "DOUBLE")  # may go beyond full scale unharmed
        log = sound.extra_info
        sizes, open_ended = headers.sizes(log)
        if self.frames > _UNKNOWN:  # what libsndfile says of a FLAC from a pipe
            self.frames, open_ended = _UNKNOWN, True
        if sound.format == "MP3":
            self._count_frames()
            open_ended |= self._stream is not None
        self.facts = NOTHING | {"sr": self.sr, "channels": self.channels, "open_ended": open_ended, "converted": codec}
        self.facts["duration"] = self.frames / self.sr if self.frames < _UNKNOWN else np.nan
        if not _RATES[0] <= self.sr <= _RATES[1]:
            self._fail("not audio", f"a sampling rate of {self.sr:,} Hz")
        if cut:
            self._fail("truncated", cut)
        if not self.frames and (unsaid := headers.bytes_unsaid(path)):
            self._fail("unfinished header", f"it says 0 samples, but {unsaid:,} bytes of them follow")
        elif not self.frames:
            self._fail("header only", f"no samples in {path.stat().st_size:,} bytes")
        for told, there in () if open_ended else sizes:
            if told - there > self.channels:  # one byte may be padding
                self._fail("truncated", f"{there:,} of {told:,} bytes are there ({there / told:.0%})")
        if "truncated file" in log:  # of VOC
            self._fail("truncated", "fewer samples are there than its header tells")
        if "lacks an end-of-stream" in log or (sound.subtype == "OPUS" and not headers.has_end_mark(path)):
            self._fail("truncated", _NO_END)

    def _count_frames(self) -> None:
        """Read an MP3 that does not say its length by another decoder: libsndfile guesses, and may stop early."""
        try:
            with quiet():
                counted = miniaudio.mp3_get_file_info(str(self.path)).num_frames
        except miniaudio.MiniaudioError:
            counted = 0
        if (
            counted
            and abs(counted - self.frames) > _SLACK
            and (counted > self.frames or not headers.says_length(self.path))
        ):
            self.frames = counted
            wanted = miniaudio.SampleFormat.FLOAT32, self.channels, self.sr, _BLOCK
            self._stream = miniaudio.stream_file(str(self.path), *wanted)

    def _fail(self, reason: str, detail: str) -> None:
        if not self.facts["reason"]:
            self.facts |= {"reason": reason, "detail": detail}

    def read(self, n: int = _BLOCK) -> np.ndarray:
        """Give the next samples [shape=(at most n, channels), float32]; none at the end, or if the decoder gives up."""
        failure, n = "", min(n, _BLOCK) if self.frames == _UNKNOWN else n
        if not self.facts["open_ended"]:  # what follows the end may be damaged, and is nobody's
            n = min(n, self.frames - self._read)
        try:
            with quiet():
                block = self._decoded(n)
        except (sf.LibsndfileError, miniaudio.MiniaudioError, AudioError) as error:
            block, failure = np.empty((0, self.channels), np.float32), str(error).strip() or "the decoder gives up"
        low, high = (float(end(block, initial=0.0)) for end in (np.min, np.max))
        if not max(high, -low) <= _HIGHEST:
            wrong = "not numbers (NaN or infinite)" if not np.isfinite(high - low) else f"up to {max(high, -low):.0e}"
            self._fail("not audio", f"samples that are {wrong}")
            block = block[:0]
        self._read += len(block)
        if not len(block):
            self._end(failure)
        else:
            self._measure(block, max(high, -low))
        return block

    def _decoded(self, n: int) -> np.ndarray:
        if n < 1:
            return np.empty((0, self.channels), np.float32)
        if self._stream is None:
            return self._sound.read(n, dtype="float32", always_2d=True)
        if not len(self._rest):
            self._rest = np.frombuffer(next(self._stream, b""), np.float32).reshape(-1, self.channels)
        block, self._rest = self._rest[:n], self._rest[n:]
        return block

    def _measure(self, block: np.ndarray, highest: float) -> None:
        y, energy = _mixed(block), float(np.vdot(block, block))
        self._highest, self._energy = max(self._highest, highest), self._energy + energy
        if highest >= 0.9999:
            level = np.abs(block)
            self._clipped += int(np.count_nonzero((level >= 0.9999) & ((level <= 1.0001) | (not self._floats))))
        self._sum += float(y.sum())
        self._mono_energy += energy if self.channels == 1 else float(np.vdot(y, y))
        self._ends = min(self._ends[0], float(y.min())), max(self._ends[1], float(y.max()))

    def _end(self, failure: str) -> None:
        seconds, promised = self._read / self.sr, self.frames / self.sr
        if failure or (self.frames - self._read > _SLACK and self.frames < _UNKNOWN and not self.facts["open_ended"]):
            of = f" of {promised:.2f} s" if self.frames < _UNKNOWN else ""
            self._fail("truncated", f"decodes to {seconds:.2f} s{of}" + f" ({failure})" * bool(failure))
        elif not self._read:
            self._fail("header only", f"no samples in {self.path.stat().st_size:,} bytes")
        n = max(self._read, 1)
        offset, level = self._sum / n, (self._energy / (n * self.channels)) ** 0.5
        rms = max(0.0, self._mono_energy / n - offset**2) ** 0.5
        peak = max(0.0, self._ends[1] - offset, offset - self._ends[0])
        self.facts |= {"duration": seconds, "peak": peak, "rms": rms, "highest": self._highest, "offset": offset}
        mixdown = (self._mono_energy / n) ** 0.5 / level if level else 1.0
        self.facts |= {"clipped": self._clipped / (n * self.channels), "mixdown": mixdown}


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Recording]:
    """Open a recording, or raise AudioError: missing, empty, header only, unknown codec... (`error.reason`)."""
    path = Path(path)
    try:
        if not path.is_file():
            raise _error(path, "missing", "there is a folder of this name" if path.is_dir() else "no such file")
        if not path.stat().st_size:
            raise _error(path, "empty", "0 bytes")
        if path.suffix.lower() == ".raw":
            raise _error(path, "not audio", "samples without a header: nothing tells their rate and kind")
        with _source(path) as (sound, *about):
            yield Recording(path, sound, *about)
    except OSError as error:
        raise _error(path, "not audio", f"cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def _source(path: Path) -> Iterator[tuple]:
    """Open what gives the samples of a file; with it, what is known to be missing, and the codec if ffmpeg decodes."""
    at, others, cut = headers.length_to_mend(path)
    with contextlib.ExitStack() as opened_files:
        file = opened_files.enter_context(headers.Mended(path, at, others)) if others else path
        try:
            with quiet():
                sound = opened_files.enter_context(_Sequential(file))
            # libsndfile plays the heads of the segments, as clicks.
            codec = "VOC in several segments" if "multi-segment" in sound.extra_info else ""
        except sf.LibsndfileError as error:
            reason, codec = headers.undecodable(path, error)
            if reason != "unknown codec":
                raise _error(path, reason, codec) from error
        if codec and not convert.ffmpeg():
            raise _error(path, "unknown codec", f"{codec}, which libsndfile cannot decode")
        if codec:
            try:
                sound = opened_files.enter_context(convert.Converted(path))
            except AudioError as error:
                reason = "unknown codec" if "codec" in str(error).lower() else "truncated"
                reason = "not audio" if "matches no streams" in str(error) else reason  # a film without sound
                raise _error(path, reason, f"{codec}; ffmpeg says: {error}") from error
        if codec.endswith("in Ogg") and not headers.has_end_mark(path):
            cut = _NO_END
        elif codec.endswith("in WAV"):
            cut = headers.cut_wav(path)
        yield sound, cut, codec


def probe(path: str | os.PathLike) -> dict:
    """Examine one recording from end to end without keeping its samples.

    Gives `reason` it cannot be used (a word of `helpers.data.audit.ADVICE`, or None) with `detail`; `sr`
    (Hz), `channels`, `duration` (s), `peak` and `rms` of what is heard: the mean of the channels without its constant
    part, the `offset` (full scale is 1); `mixdown`, the level of that mean beside that of the channels (0 where they
    cancel); `highest` sample of all, `clipped` (share of samples at full scale), `digest` (of the samples), `converted`
    (the codec, if ffmpeg decodes it), and `open_ended`: nothing tells its length, a cut could not be noticed.
    """
    try:
        with opened(path) as recording:
            digest = hashlib.blake2b(digest_size=16)  # here only: it costs as much as decoding
            while not recording.facts["reason"] and len(block := recording.read()):
                digest.update(np.ascontiguousarray(block))
            return recording.facts | {"digest": digest.hexdigest()}
    except AudioError as error:
        return NOTHING | {"reason": error.reason, "detail": error.detail}


def read(
    path: str | os.PathLike, sr: int | None = None, seconds: float | None = None, channel: str = "mean"
) -> tuple[np.ndarray, int]:
    """Read a recording, or its first `seconds`, as mono samples [shape=(n,), float32, full scale at ±1], with its rate.

    `sr` (Hz) is the rate wanted, None the file's own; `channel` one of CHANNELS. AudioError names the file and what is
    wrong with it; what lies after `seconds` is not decoded, hence not checked. Decoded by libsndfile, resampled by soxr
    ("HQ", as in librosa).
    """
    with opened(path) as recording:
        y = _mono(recording, seconds, channel)
        if recording.facts["reason"]:
            raise _error(Path(path), recording.facts["reason"], recording.facts["detail"])
        return _head(y, recording.sr, sr or recording.sr, seconds), int(sr or recording.sr)


def _mono(recording: Recording, seconds: float | None, channel: str = "mean") -> np.ndarray:
    """The first seconds and a margin, or everything."""
    n = recording.frames if seconds is None else int(np.ceil((seconds + _MARGIN_SECONDS) * recording.sr))
    blocks, missing = [np.empty((0, recording.channels), np.float32)], n
    while missing > 0 and not recording.facts["reason"] and len(block := recording.read(missing)):
        blocks.append(block)
        missing -= len(block)
    return _mixed(np.concatenate(blocks), channel)


def _mixed(block: np.ndarray, channel: str = "mean") -> np.ndarray:
    """One of CHANNELS [shape=(n,)] of samples [shape=(n, channels)]; in mono, left and right are the same."""
    left, right = block[:, 0], block[:, min(1, block.shape[1] - 1)]
    if channel != "mean":
        return {"left": left, "right": right, "side": (left - right) / 2}[channel]
    return left if block.shape[1] == 1 else block.mean(axis=1)


def _head(y: np.ndarray, orig_sr: int, sr: int, seconds: float | None) -> np.ndarray:
    """Resample the beginning of a recording, read with a margin, and cut it to `seconds`."""
    y = resample(y, orig_sr, sr)
    return y if seconds is None else y[: round(seconds * sr)]


def windows(
    recording: Recording, sr: int, seconds: float, hop_seconds: float
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Go through a recording window by window: start (s), end (s) and mono samples at rate `sr` of each.

    The last window ends with the recording; a shorter recording is one window. Each file is read once, and no more than
    a window and a block is in memory.
    """
    size, hop = round(seconds * sr), round(hop_seconds * sr)
    first = _mono(recording, seconds)
    # The first window is exactly what training reads of a clip; the others come from one resampler that goes on.
    if not len(now := _head(first, recording.sr, sr, seconds)):
        return
    yield 0.0, min(size, len(now)) / sr, now
    stream = None if sr == recording.sr else soxr.ResampleStream(recording.sr, sr, 1, "float32", "HQ")
    kept, at, start, block = np.empty(0, np.float32), 0, hop, first
    while True:
        last = not len(block)
        kept = np.concatenate([kept, block if stream is None else stream.resample_chunk(block, last=last)])
        while start + size < at + len(kept):
            yield start / sr, (start + size) / sr, kept[start - at : start - at + size]
            start += hop
        if last:
            break
        # What the next window needs, or the last one, which may begin before it.
        done = max(0, min(start, at + len(kept) - size) - at)
        kept, at = kept[done:], at + done
        block = _mixed(recording.read())
    n = at + len(kept)
    if n > size:
        yield (n - size) / sr, n / sr, kept[-size:]


def resample(y: np.ndarray, orig_sr: int, target_sr: int) -> np.ndarray:
    """Change the sampling rate of `y` [shape=(n,)] with soxr's "HQ" filter (librosa's default)."""
    return y if orig_sr == target_sr else soxr.resample(y, orig_sr, target_sr, quality="HQ")


def fix_length(y: np.ndarray, n: int) -> np.ndarray:
    """Cut `y` to its first `n` samples, or pad it with zeros at the end."""
    return y[:n] if len(y) >= n else np.pad(y, (0, n - len(y)))


def play(path_or_y: str | os.PathLike | np.ndarray, sr: int | None = None):
    """Show a player for a file, or for samples with their rate; in batch runs one line of text instead."""
    if isinstance(path_or_y, np.ndarray):
        y, name = path_or_y, "samples"
    else:
        (y, sr), name = read(path_or_y, sr=sr), Path(path_or_y).name
    if in_batch():  # keeps megabytes of sound out of saved notebooks
        print(f"[audio: {name}, {len(y) / sr:.1f} s at {sr} Hz]")
        return None
    from IPython.display import Audio

    return Audio(y, rate=sr)


def _error(path: Path, reason: str, detail: str) -> AudioError:
    advice = "Fetch it again or leave it out; data.audit finds all such files of a manifest."
    error = AudioError(f"{path}: {reason} ({detail}). {advice}")
    error.reason, error.detail = reason, detail
    return error
