"""Recordings in and out of Python: reading, checking, resampling, cutting to length, listening."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from helpers.errors import AudioError

ADVICE = "Fetch it again or leave it out; helpers.audit.audit finds all such files of a manifest."
# A cut recording is read this much longer than asked for, so that the resampler's filter sees what comes after.
_MARGIN_SECONDS = 0.1
# MPEG decoders count their start-up differently; a difference of two frames is not a loss.
_SLACK_FRAMES = 2 * 1152


def read(
    path: str | os.PathLike, sr: int | None = None, mono: bool = True, seconds: float | None = None
) -> tuple[np.ndarray, int]:
    """Read a recording, or say exactly what is wrong with the file.

    Parameters
    ----------
    path : path
        WAV, FLAC, OGG, MP3, AIFF or whatever else libsndfile reads.
    sr : int, optional
        Sampling rate wanted, Hz. None keeps the file's own.
    mono : bool
        Mix the channels to one (their mean).
    seconds : float, optional
        Read at most this much from the start; a long recording then costs no more than a short one. What lies after
        it is not decoded, hence not checked either.

    Returns
    -------
    y : np.ndarray [shape=(n,) or, without `mono`, (n, channels)], float32
        Samples, full scale at ±1.
    sr : int
        Their sampling rate, Hz.

    Raises
    ------
    AudioError
        The file is missing, empty, not audio, a header without samples, truncated, or holds values that are no
        numbers. The word for it is in the error's attribute `reason`.

    Notes
    -----
    Decoded by libsndfile, resampled by soxr ("HQ", as librosa does). A WAV or OGG file cut in half decodes without
    complaint as half the sound, hence the explicit check of lengths. Used by notebook 02, and by all others through
    `helpers.cache`.
    """
    path = Path(path)
    _check_length(path)
    try:
        with sf.SoundFile(path) as sound:
            file_sr, frames = sound.samplerate, sound.frames
            if frames <= 0:
                raise _error(path, "header only", "holds a header but no samples")
            if seconds is not None:
                frames = min(frames, int(np.ceil((seconds + _MARGIN_SECONDS) * file_sr)))
            y = sound.read(frames, dtype="float32", always_2d=not mono)
    except (sf.LibsndfileError, OSError) as cause:
        text = getattr(cause, "error_string", cause)
        raise _error(path, "not audio", f"cannot be decoded as audio ({str(text).strip(' .')})") from cause
    if len(y) < frames - _SLACK_FRAMES or not len(y):
        raise _error(path, "truncated", f"is truncated: {frames} samples promised, {len(y)} found")
    if not np.isfinite(y).all():
        raise _error(path, "not finite", "contains samples that are infinite or not a number")
    if mono and y.ndim == 2:
        y = y.mean(axis=1)
    sr = int(sr or file_sr)
    y = resample(y, file_sr, sr)
    return (y if seconds is None else y[: round(seconds * sr)]), sr


def resample(y: np.ndarray, orig_sr: int, target_sr: int) -> np.ndarray:
    """Change the sampling rate of `y` [shape=(n,) or (n, channels)] with soxr's "HQ" filter (librosa's default)."""
    return y if orig_sr == target_sr else soxr.resample(y, orig_sr, target_sr, quality="HQ")


def fix_length(y: np.ndarray, n: int) -> np.ndarray:
    """Cut `y` [shape=(m,)] to its first `n` samples, or pad it with zeros at the end.

    Returns
    -------
    np.ndarray [shape=(n,)], dtype of `y`
    """
    return y[:n] if len(y) >= n else np.pad(y, (0, n - len(y)))


def play(path_or_y: str | os.PathLike | np.ndarray, sr: int | None = None):
    """Show a player for a file or for samples.

    Parameters
    ----------
    path_or_y : path or np.ndarray [shape=(n,)]
        What to listen to.
    sr : int, optional
        Sampling rate of the samples, Hz. A file brings its own.

    Returns
    -------
    IPython.display.Audio or None
        The widget. With the environment variable COURSE_NO_AUDIO=1 one line of text is printed instead, which keeps
        megabytes of sound out of saved notebooks.

    Raises
    ------
    AudioError
        The file cannot be read, or samples come without their sampling rate.

    Notes
    -----
    Used by notebooks 02 and 06.
    """
    if isinstance(path_or_y, np.ndarray):
        if sr is None:
            raise AudioError("Samples were given without their sampling rate; call play(y, sr).")
        y, name = path_or_y, "samples"
    else:
        y, sr = read(path_or_y, sr=sr)
        name = Path(path_or_y).name
    if os.environ.get("COURSE_NO_AUDIO") == "1":
        print(f"[audio: {name}, {len(y) / sr:.1f} s at {sr} Hz]")
        return None
    from IPython.display import Audio

    return Audio(y, rate=sr)


def _error(path: Path, reason: str, detail: str) -> AudioError:
    error = AudioError(f"{path} {detail}. {ADVICE}")
    error.reason = reason
    return error


def _check_length(path: Path) -> None:
    """Raise if the file is missing or empty, or a WAV or OGG file that ends before its header says so."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise _error(path, "empty", "is empty (0 bytes)")
        with open(path, "rb") as file:
            magic = file.read(12)
            if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
                end = _wav_data_end(file, size)
                if end > size:
                    raise _error(path, "truncated", f"is truncated: {end} bytes promised, {size} found")
            elif magic[:4] == b"OggS":
                # The last page of a complete stream carries the end-of-stream flag; a page has at most 65,307 bytes.
                file.seek(max(0, size - 65_307))
                tail = file.read()
                page = tail.rfind(b"OggS")
                if page < 0 or len(tail) <= page + 5 or not tail[page + 5] & 4:
                    raise _error(path, "truncated", "is truncated: its last page is missing")
    except FileNotFoundError:
        raise _error(path, "missing", "does not exist") from None
    except OSError as cause:
        raise _error(path, "not audio", f"cannot be opened ({cause.strerror})") from cause


def _wav_data_end(file, size: int) -> int:
    """Position at which the data chunk of an opened WAV file ends, by its own header; 0 where it does not say."""
    position = 12
    while position + 8 <= size:
        file.seek(position)
        name, length = (header := file.read(8))[:4], int.from_bytes(header[4:], "little")
        if name == b"data":
            # Programs that stream to a pipe cannot know the length and write 0 or the largest number.
            return 0 if length >= 0xFFFFFF00 else position + 8 + length
        position += 8 + length + length % 2
    return 0
