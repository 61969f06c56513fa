"""What all loaders share: how a dataset declares itself, how its folder is found, how a part of it is drawn."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers.base import CourseError, DataMissing

# Opus, AAC and the like cannot be decoded everywhere; they are listed all the same, so that the audit can say so.
AUDIO_SUFFIXES = frozenset(
    (
        ".wav .wave .flac .ogg .oga .opus .spx .mp3 .mp2 .mp1 .mpga .aif .aiff .aifc .au .snd .caf .w64 .rf64 .raw "
        ".voc .sf .gsm .m4a .mp4 .aac .wma .webm .mka .amr .3gp .ac3"
    ).split()
)


@dataclass(frozen=True)
class RemoteFile:
    """One archive to download, with its checksum, or with a list of those of the files in it."""

    url: str
    unpack_to: str
    hash: str | None = None
    listed: str | None = None  # a table of the repository, with `path` and `sha256`
    strip: int = 0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Info:
    """What a dataset declares about itself."""

    name: str
    title: str
    folder: str
    marker: str
    licence: str
    citation: str
    homepage: str
    size_bytes: int = 0  # of the download
    disk_bytes: int = 0  # at most needed, with what is unpacked beside it
    files: tuple[RemoteFile, ...] = ()


def gigabytes(size: int) -> str:
    """Say a number of bytes in words a reader can compare with the free space of a disk."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def find_root(data_dir: str | os.PathLike, info: Info, pattern: str | None = None) -> Path:
    """Find the published tree of a dataset in `data_dir` or one level below it."""
    data_dir = Path(data_dir).expanduser().absolute()
    candidates = [data_dir, data_dir / info.folder]
    if pattern and data_dir.is_dir():
        candidates += sorted(data_dir.glob(pattern))
    for candidate in candidates:
        if (candidate / info.marker).exists():
            return candidate
    state = "is there, but it holds no such file" if data_dir.is_dir() else "does not exist"
    raise DataMissing(
        f"{info.title}: expected the file {info.marker} in {data_dir} or in {data_dir / info.folder}; "
        f"{data_dir} {state}.\n"
        f"To download the dataset ({gigabytes(info.size_bytes)}): python -m helpers download {info.name} DEST\n"
        f"then use data_dir=DEST/{info.folder}; or leave data_dir empty to use the small sample of this course."
    )


def draw(manifest: pd.DataFrame, limit: int, seed: int = 0) -> pd.DataFrame:
    """Draw at most `limit` labelled clips, with every class and every split or fold among them, in their old order.

    CourseError: `limit` is smaller than the number of classes, or of splits or folds.
    """
    labelled = manifest[manifest["label"].notna()] if manifest["label"].notna().any() else manifest
    part = labelled["fold"].astype(object).where(labelled["fold"].notna(), labelled["split"]).fillna("none")
    strata = pd.DataFrame({"label": labelled["label"].fillna("none"), "part": part}).sample(frac=1, random_state=seed)
    least = max(strata["label"].nunique(), strata["part"].nunique())
    if limit < least:
        raise CourseError(f"limit={limit} is too small: all classes and all splits or folds must stay; use {least}.")
    first, seen = [], set()
    for new in (2, 1):  # clips that bring a class and a split come before those that bring one of them
        for row, *both in strata.itertuples(name=None):
            if len(set(enumerate(both)) - seen) >= new:
                first.append(row)
                seen.update(enumerate(both))
    stratum = strata.groupby(["label", "part"])["label"]
    share = ((stratum.cumcount() + 0.5) / stratum.transform("size")).drop(first).sort_values(kind="stable")
    kept = manifest.loc[sorted([*first, *share.index][:limit])].reset_index(drop=True)
    kept.attrs = dict(manifest.attrs)
    return kept
