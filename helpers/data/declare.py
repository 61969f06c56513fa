"""What all loaders share: how a dataset declares itself, how its folder is found, how a part of it is drawn."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.base import CourseError, DataMissing

# Opus, AAC and the like cannot be decoded everywhere; they are listed all the same, so that the audit can say so.
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .m4a .mp4 .aac .wma .webm".split()
)


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Attributes
    ----------
    url : str
        Web address, or ``doi:10.5281/zenodo.NNN/name`` for a file of a Zenodo record.
    size : int or None
        Bytes, where known.
    hash : str or None
        ``sha256:...`` or ``md5:...``. None only for a DOI, whose record carries the checksum.
    unpack_to : str or None
        Folder inside the destination that receives the archive's content. None: the file is kept as it is.
    strip : int
        How many leading folders of the names inside the archive are dropped.
    parts : tuple of str
        Addresses of the earlier parts (``.z01``, ``.z02``, ...) when `url` is the last part of a split zip.
    """

    url: str
    size: int | None = None
    hash: str | None = None
    unpack_to: str | None = None
    strip: int = 0
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Info:
    """What a dataset declares about itself."""

    name: str
    title: str
    folder: str
    marker: str
    task: str
    licence: str
    citation: str
    homepage: str
    size_bytes: int = 0
    doi: str | None = None
    files: tuple[RemoteFile, ...] = ()


def gigabytes(size: int) -> str:
    """Say a number of bytes in words a reader can compare with the free space of a disk."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def find_root(data_dir: str | os.PathLike, info: Info, pattern: str | None = None) -> Path:
    """Find the published tree of a dataset in `data_dir` or one level below it.

    Parameters
    ----------
    data_dir : path
        The tree itself, or the folder into which it was unpacked.
    info : Info
        Declaration of the dataset; `info.marker` is a file that only the right folder has.
    pattern : str, optional
        Glob for other names of the top folder, such as an archive that carries a commit in its name.

    Returns
    -------
    pathlib.Path
        Absolute path of the tree.

    Raises
    ------
    DataMissing
        Nothing of the kind is there; the message says what was expected where and how to get it.

    Notes
    -----
    Used by every loader.
    """
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


def read_table(path: Path, **options: object) -> pd.DataFrame:
    """Read a CSV with every value as text, so that ids keep their zeros and a label "None" stays a word."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, **options)
    except FileNotFoundError as error:
        raise DataMissing(f"The dataset is incomplete: {path} is missing. Download it again.") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise CourseError(f"{path} cannot be read as a table ({error}). Download the dataset again.") from error


def ignored_files(folders: Iterable[Path], listed: Iterable[str]) -> dict[str, int]:
    """Count the files in `folders` that became no row of the manifest.

    Parameters
    ----------
    folders : iterable of pathlib.Path
        Folders that should hold recordings only (not searched further down; missing ones are skipped).
    listed : iterable of str
        Absolute paths of the manifest.

    Returns
    -------
    dict
        Counts under "not audio" and "recordings in no list"; empty when every file is accounted for.
    """
    listed = set(listed)
    counts: dict[str, int] = {}
    for folder in folders:
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir() or entry.path in listed:
                    continue
                audio = Path(entry.name).suffix.lower() in AUDIO_SUFFIXES
                kind = "recordings in no list" if audio else "not audio"
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def draw(manifest: pd.DataFrame, limit: int, seed: int = 0) -> pd.DataFrame:
    """Draw at most `limit` labelled clips, with every class and every split or fold among them.

    Each pair of class and split (or fold) gets its share of `limit`, at least one clip where `limit` allows. Whole
    groups are taken first; single clips then fill what is left, because a group may be larger than the share.

    Parameters
    ----------
    manifest : pandas.DataFrame
    limit : int
        Most clips to keep.
    seed : int
        Seed of the draw.

    Returns
    -------
    pandas.DataFrame
        Rows of `manifest` in their old order, with a fresh index.

    Raises
    ------
    CourseError
        `limit` is smaller than the number of classes or of splits.

    Notes
    -----
    Used by every notebook, through `helpers.datasets.load`.
    """
    labelled = manifest[manifest["label"].notna()] if manifest["label"].notna().any() else manifest
    part = labelled["fold"].astype(object).where(labelled["fold"].notna(), labelled["split"])
    strata = pd.Series(list(zip(labelled["label"], part.where(part.notna(), None), strict=True)), labelled.index)
    sizes = strata.value_counts(sort=False)
    classes = list(dict.fromkeys(key[0] for key in sizes.index))
    parts = list(dict.fromkeys(key[1] for key in sizes.index))
    if limit < max(len(classes), len(parts)):
        raise CourseError(
            f"limit={limit} is too small: {len(classes)} classes and {len(parts)} splits or folds must all stay; "
            f"use at least {max(len(classes), len(parts))}."
        )
    if limit >= len(labelled):
        return _keep(manifest, labelled.index)
    left = _shares(sizes, limit, classes, parts)
    rng = np.random.default_rng(seed)
    groups = labelled["group"].where(labelled["group"].notna(), "clip " + labelled["clip_id"])
    members = {name: list(rows) for name, rows in groups.groupby(groups, sort=True).groups.items()}
    names = sorted(members)
    chosen: list[int] = []
    stratum = dict(strata.items())
    for name in (names[i] for i in rng.permutation(len(names))):
        need = Counter(stratum[row] for row in members[name])
        if all(left[key] >= count for key, count in need.items()):
            chosen += members[name]
            for key, count in need.items():
                left[key] -= count
    rest = labelled.index.difference(chosen)
    for row in rest[rng.permutation(len(rest))]:
        if left[stratum[row]] > 0:
            left[stratum[row]] -= 1
            chosen.append(row)
    return _keep(manifest, sorted(chosen))


def _shares(sizes: pd.Series, limit: int, classes: list, parts: list) -> dict[tuple, int]:
    """Divide `limit` among the strata: what covers everything first, then in proportion to what there is."""
    share = dict.fromkeys(sizes.index, 0)
    covered_classes: set = set()
    covered_parts: set = set()
    # One clip from each class, each from the least used part, covers classes and, mostly, parts.
    for label in classes:
        own = [key for key in sizes.index if key[0] == label]
        key = min(own, key=lambda k: (k[1] in covered_parts, -sizes[k]))
        share[key] = 1
        covered_classes.add(label)
        covered_parts.add(key[1])
    for part in parts:
        if part not in covered_parts and sum(share.values()) < limit:
            share[next(key for key in sizes.index if key[1] == part)] = 1
    for key in sorted(sizes.index, key=lambda k: -sizes[k]):
        if share[key] == 0 and sum(share.values()) < limit:
            share[key] = 1
    wanted = sizes * (limit / sizes.sum())
    while sum(share.values()) < limit:
        open_keys = [key for key in sizes.index if share[key] < sizes[key]]
        key = max(open_keys, key=lambda k: wanted[k] - share[k])
        share[key] += 1
    return share


def _keep(manifest: pd.DataFrame, rows: Iterable[int]) -> pd.DataFrame:
    attrs = dict(manifest.attrs)
    kept = manifest.loc[list(rows)].reset_index(drop=True)
    kept.attrs = attrs
    return kept
