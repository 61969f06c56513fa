"""ESC-50: 2,000 environmental sounds of 5 s, 50 classes, 5 folds. ESC-10 is its ten-class part."""

from __future__ import annotations

import os

import pandas as pd

from helpers.data.declare import Info, RemoteFile, find_root
from helpers.data.tables import read_table, truths, whole_numbers

_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"

INFO = Info(
    name="esc50",
    title="ESC-50",
    folder="ESC-50-master",
    marker="meta/esc50.csv",
    licence="CC BY-NC 3.0 (the ESC-10 part: CC BY 3.0)",
    citation="K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015, "
    "doi:10.1145/2733373.2806390",
    homepage="https://github.com/karolpiczak/ESC-50",
    size_bytes=645_832_161,
    disk_bytes=1_600_000_000,
    # Pinned to a commit: the archive of a branch moves, and its checksum with it.
    files=(
        RemoteFile(
            url=f"https://github.com/karolpiczak/ESC-50/archive/{_COMMIT}.zip",
            hash="sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f",
            unpack_to="ESC-50-master",
            strip=1,
        ),
    ),
)


def load(data_dir: str | os.PathLike, esc10_only: bool = False) -> pd.DataFrame:
    """Load ESC-50: `fold` is the official fold, `group` the Freesound recording a clip was cut from."""
    root = find_root(data_dir, INFO, pattern="ESC-50-*")
    path = root / "meta" / "esc50.csv"
    table = read_table(path, ["filename", "fold", "category", "esc10", "src_file"])
    if esc10_only:
        table = table[truths(table["esc10"], path)]
    return pd.DataFrame(
        {
            "clip_id": table["filename"].str.removesuffix(".wav"),
            "path": [str(root / "audio" / name) for name in table["filename"]],
            "label": table["category"],
            "fold": whole_numbers(table["fold"], path),
            "group": table["src_file"],
        }
    )
