"""ESC-10: 400 environmental sounds of some 5 s, ten classes, five folds, as first published (Ogg Vorbis)."""

from __future__ import annotations

import os
import re

import pandas as pd

from helpers.base import CourseError
from helpers.data.declare import Info, RemoteFile, find_root

_COMMIT = "553c8f1743b9dba6b282e1323c3ca8fa76923448"
_NAME = re.compile(r"(\d)-(\d+)-([A-Z])")  # fold, recording, take

INFO = Info(
    name="esc10",
    title="ESC-10",
    folder="ESC-10",
    marker="001 - Dog bark",
    licence="CC BY 3.0 (whom to name for each clip: README.md beside the clips)",
    citation="K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015, "
    "doi:10.1145/2733373.2806390",
    homepage="https://github.com/karolpiczak/ESC-10",
    size_bytes=41_000_000,
    disk_bytes=90_000_000,
    # The server packs the archive anew now and then, so that its checksum changes; those of the clips do not.
    files=(
        RemoteFile(
            url=f"https://github.com/karolpiczak/ESC-10/archive/{_COMMIT}.zip",
            listed="data/esc10_published.csv",
            unpack_to="ESC-10",
            strip=1,
        ),
    ),
)


def load(data_dir: str | os.PathLike) -> pd.DataFrame:
    """Load ESC-10: `fold` is the official fold, `group` the Freesound recording a clip was cut from.

    Labels are the names of the folders in small letters, such as "dog bark".
    """
    root = find_root(data_dir, INFO, pattern="ESC-10-*")
    rows = []
    for path in sorted(root.glob("[0-9][0-9][0-9] - */*.ogg")):
        name = _NAME.fullmatch(path.stem)
        if name is None:
            raise CourseError(f"{path}: the names of ESC-10 are fold-recording-take.ogg, as in 1-100032-A.ogg.")
        rows.append((path.stem, str(path), path.parent.name.partition(" - ")[2].lower(), int(name[1]), name[2]))
    return pd.DataFrame(rows, columns=["clip_id", "path", "label", "fold", "group"])
