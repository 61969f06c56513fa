"""Speech Commands v0.02: 105,829 spoken words of 1 s at 16 kHz, 35 words, split by speaker."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from helpers.base import CourseError
from helpers.data.declare import AUDIO_SUFFIXES, Info, RemoteFile, find_root
from helpers.data.tables import read_text

INFO = Info(
    name="speech_commands",
    title="Speech Commands v0.02",
    folder="speech_commands_v0.02",
    marker="testing_list.txt",
    licence="CC BY 4.0",
    citation="P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, 2018, arXiv:1804.03209",
    homepage="https://arxiv.org/abs/1804.03209",
    size_bytes=2_300_000_000,
    disk_bytes=6_000_000_000,
    files=(
        RemoteFile(
            url="https://storage.googleapis.com/download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            hash="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
            unpack_to="speech_commands_v0.02",
        ),
    ),
)

_NAME = re.compile(r"(?P<speaker>[^_]+)_nohash_\d+")


def load(data_dir: str | os.PathLike, words: Sequence[str] | None = None) -> pd.DataFrame:
    """Load Speech Commands: `split` comes from the two published lists, `group` is the speaker."""
    root = find_root(data_dir, INFO)
    folders = sorted(f.name for f in os.scandir(root) if f.is_dir() and not f.name.startswith(("_", ".")))
    unknown = sorted(set(words or []) - set(folders))
    if unknown:
        raise CourseError(f"No folder for the word(s) {', '.join(unknown)} in {root}; there are: {', '.join(folders)}.")
    chosen = folders if words is None else sorted(set(words))
    split_of = _lists(root)
    # What a list names but the disk lacks stays a row, so that the audit can report it.
    names = {name for name in split_of if name.partition("/")[0] in chosen}
    for word in chosen:
        recordings = [name for name in os.listdir(root / word) if Path(name).suffix.lower() in AUDIO_SUFFIXES]
        # Hidden files beside recordings (such as macOS's ._name.wav) carry the suffix, not the sound.
        names.update(f"{word}/{name}" for name in recordings if not name.startswith("."))
    ordered = sorted(names)
    found = [_NAME.fullmatch(Path(name).stem) for name in ordered]
    manifest = pd.DataFrame(
        {
            "clip_id": [name.rpartition(".")[0] for name in ordered],
            "path": [str(root / name) for name in ordered],
            "label": [name.partition("/")[0] for name in ordered],
            "split": [split_of.get(name, "train") for name in ordered],
            "group": [match["speaker"] if match else None for match in found],
        }
    )
    manifest.attrs["background_noise"] = [str(path) for path in sorted(root.glob("_background_noise_/*.wav"))]
    return manifest


def _lists(root: Path) -> dict[str, str]:
    split_of = {}
    for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt")):
        split_of.update(dict.fromkeys(read_text(root / name).split(), split))
    return split_of
