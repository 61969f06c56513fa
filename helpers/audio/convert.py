"""Recordings in codecs that libsndfile does not know, heard through ffmpeg where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from helpers.base import AudioError


def ffmpeg() -> str | None:
    """Give the path of the program, or None where it is not installed."""
    return shutil.which("ffmpeg")


class Converted:
    """What ffmpeg decodes, read like a soundfile.SoundFile from beginning to end; its `frames` are not known."""

    format = extra_info = ""
    subtype = "FLOAT"

    def __init__(self, path: Path):
        self._notes = tempfile.TemporaryFile()
        # A file, whatever its name; its first track of sound; samples with a header of 24 bytes or more, as in AU.
        how = ["-v", "error", "-nostdin", "-i", f"file:{path}", "-map", "0:a:0", "-f", "au", "-c:a", "pcm_f32be", "-"]
        self._ffmpeg = subprocess.Popen([ffmpeg(), *how], stdout=subprocess.PIPE, stderr=self._notes)
        header = self._ffmpeg.stdout.read(24)
        if len(header) < 24:
            self._ffmpeg.wait()
            with self:
                raise AudioError(self.said() or "ffmpeg gives no samples")
        at, _, _, self.samplerate, self.channels = (int.from_bytes(header[n : n + 4], "big") for n in range(4, 24, 4))
        self._ffmpeg.stdout.read(at - 24)

    def read(self, frames: int, dtype: str, always_2d: bool) -> np.ndarray:
        """Give the next samples [shape=(at most frames, channels)]; AudioError at the end if ffmpeg had to complain."""
        data = self._ffmpeg.stdout.read(4 * self.channels * frames)
        if not data and (self._ffmpeg.wait() or self.said()):
            raise AudioError(self.said() or "ffmpeg gives up")
        whole = len(data) - len(data) % (4 * self.channels)
        return np.frombuffer(data[:whole], ">f4").reshape(-1, self.channels).astype(dtype)

    def said(self) -> str:
        """Give the first line of what ffmpeg complained about, without its address."""
        self._notes.seek(0)
        line = self._notes.read(400).decode("utf-8", "replace").strip().partition("\n")[0]
        return line.partition("] ")[2] or line

    def __enter__(self) -> Converted:
        return self

    def __exit__(self, *error: object) -> None:
        self._ffmpeg.stdout.close()
        self._ffmpeg.kill()  # it may not be at its end
        self._ffmpeg.wait()
        self._notes.close()
