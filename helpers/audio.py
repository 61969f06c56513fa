"""Recordings in and out of Python: reading, checking, resampling, cutting to length, listening."""

from __future__ import annotations

import collections
import math
import os
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from helpers import mpeg
from helpers.base import AudioError, in_batch
from helpers.probe import probe

ADVICE = "Fetch it again or leave it out; helpers.audit.audit finds all such files of a manifest."
# A part of a recording is read with this much around it, so that the resampler's filter sees what is there.
_MARGIN_SECONDS = 0.1
# MPEG decoders count their start-up differently; a difference of two frames is not a loss.
_SLACK_FRAMES = 2 * 1152
_BLOCK_FRAMES = 65_536


def read(
    path: str | os.PathLike,
    sr: int | None = None,
    mono: bool = True,
    seconds: float | None = None,
    offset: float = 0.0,
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
        Read at most this much; a long recording then costs no more than a short one. What lies after it is not
        decoded, hence not checked either.
    offset : float
        Begin this many seconds after the start, at the nearest sample of `sr`.

    Returns
    -------
    y : np.ndarray [shape=(n,) or, without `mono`, (n, channels)], float32
        Samples, full scale at ±1.
    sr : int
        Their sampling rate, Hz.

    Raises
    ------
    AudioError
        The file is missing, empty, header only, truncated or not audio, in the words of `helpers.probe`; the word is
        in the error's attribute `reason`.

    Notes
    -----
    Decoded by libsndfile, resampled by soxr ("HQ", as librosa does). Used by notebooks 01, 02, 04, 06, 07 and 10,
    and by 03 and 05 through `helpers.cache`.
    """
    path = Path(path)
    facts = probe(path, check_samples=False)
    if facts["reason"]:
        raise _error(path, facts["reason"], facts["detail"])
    try:
        with mpeg.opened(path) as (sound, _):
            file_sr, stop = sound.samplerate, sound.frames
            sr = int(sr or file_sr)
            if not 0 <= offset < stop / file_sr:
                raise _error(path, "too short", f"nothing at {offset:g} s of {stop / file_sr:g} s")
            start = round(offset * sr)
            # Both rates have a sample at this frame, so the resampler's samples fall where those of the whole do.
            period = file_sr // math.gcd(file_sr, sr)
            first = max(0, int((start / sr - _MARGIN_SECONDS) * file_sr)) // period * period
            if seconds is not None:
                stop = min(stop, int(np.ceil((offset + seconds + _MARGIN_SECONDS) * file_sr)))
            frames = stop - first
            if first:
                _skip(sound, first)
            y = sound.read(frames, dtype="float32", always_2d=not mono)
    except (sf.LibsndfileError, OSError) as cause:
        raise _error(path, "truncated", f"the decoder gives up: {cause}") from cause
    if not len(y) or (len(y) < frames - _SLACK_FRAMES and not facts["open_ended"]):
        raise _error(path, "truncated", f"{frames} samples promised, {len(y)} found")
    if not np.isfinite(y).all():
        raise _error(path, "not audio", "samples that are not numbers (NaN or infinite)")
    if mono and y.ndim == 2:
        y = y.mean(axis=1)
    y = resample(y, file_sr, sr)[start - first * sr // file_sr :]
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
        The widget. In batch runs (COURSE_BATCH=1) one line of text is printed instead, which keeps
        megabytes of sound out of saved notebooks.

    Raises
    ------
    AudioError
        The file cannot be read, or samples come without their sampling rate.

    Notes
    -----
    Used by notebooks 01, 02, 06, 07 and 10.
    """
    if isinstance(path_or_y, np.ndarray):
        if sr is None:
            raise AudioError("Samples were given without their sampling rate; call play(y, sr).")
        y, name = path_or_y, "samples"
    else:
        y, sr = read(path_or_y, sr=sr)
        name = Path(path_or_y).name
    if in_batch():
        print(f"[audio: {name}, {len(y) / sr:.1f} s at {sr} Hz]")
        return None
    from IPython.display import Audio

    return Audio(y, rate=sr)


def _skip(sound: sf.SoundFile, frames: int) -> None:
    """Go to a frame; telephone codecs such as GSM cannot jump, and are decoded from the start."""
    if sound.seekable():
        sound.seek(frames)
    else:
        collections.deque(sound.blocks(_BLOCK_FRAMES, frames=frames), maxlen=0)


def _error(path: Path, reason: str, detail: str) -> AudioError:
    error = AudioError(f"{path}: {reason} ({detail}). {ADVICE}")
    error.reason = reason
    return error
