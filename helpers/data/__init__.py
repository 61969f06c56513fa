"""From a published tree to one table, the manifest: one row per clip, whatever the dataset.

>>> from helpers import data
>>> manifest = data.load("esc50")                        # data/esc50 once downloaded, else the embedded sample
>>> manifest = data.load("esc50", "DEST/ESC-50-master")  # the real one, same code
>>> usable, quarantine, remarks = data.audit(manifest)
>>> rounds = data.rounds(usable)
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pandas as pd

from helpers import base
from helpers.base import CourseError, short
from helpers.data import esc10, esc50, folder, fsd50k, fsdkaggle2018, speech_commands, tut2017
from helpers.data.audit import audit, examine
from helpers.data.declare import draw
from helpers.data.splits import Round, groups, inner_folds, make_folds, rounds, shared_groups, untrained

_COLUMNS = ["clip_id", "path", "label", "split", "fold", "group", "duration"]
_SPLITS = ("train", "validation", "test")
_SAID = {"left_out": "Left out", "warning": "Note"}
_DATASETS: dict[str, ModuleType] = {
    "fsd50k": fsd50k,
    "esc50": esc50,
    "esc10": esc10,
    "tut2017": tut2017,
    "fsdkaggle2018": fsdkaggle2018,
    "speech_commands": speech_commands,
    "folder": folder,
}


def _validate(manifest: pd.DataFrame) -> pd.DataFrame:
    """Check a manifest and bring it into its standard form."""
    missing = [column for column in ("clip_id", "path") if column not in manifest]
    if missing:
        raise CourseError(f"The manifest lacks the column(s) {', '.join(missing)}; every clip needs an id and a path.")
    attrs = dict(manifest.attrs)
    rest = [column for column in manifest.columns if column not in _COLUMNS]
    manifest = manifest.reindex(columns=_COLUMNS + rest).reset_index(drop=True)
    repeated = manifest.loc[manifest["clip_id"].duplicated(keep=False), "clip_id"].unique()
    if len(repeated):
        raise CourseError(f"{len(repeated)} clip ids stand in more than one row, the first: {list(repeated[:3])}.")
    unknown = set(manifest["split"].dropna()) - set(_SPLITS)
    if unknown:
        rows = manifest.loc[manifest["split"].isin(unknown), "clip_id"].head(3).tolist()
        raise CourseError(
            f"Unknown split {sorted(unknown)} (clips {rows} ...); use one of {_SPLITS} or leave it empty."
        )
    for column in ("clip_id", "path", "label", "split", "group"):
        manifest[column] = manifest[column].astype(object).where(manifest[column].notna(), None)
    if note := _look_alike(manifest["label"].dropna().unique()):
        attrs["warning"] = " ".join(filter(None, (attrs.get("warning"), note)))
    manifest["fold"] = manifest["fold"].astype("Int64")
    manifest["duration"] = manifest["duration"].astype(float)
    manifest.attrs = attrs
    return manifest


def _look_alike(classes: Iterable[str]) -> str:
    """Say which classes differ only in case, spaces, or in how Unicode writes an accent."""
    alike = defaultdict(list)
    for name in classes:
        alike[" ".join(unicodedata.normalize("NFKC", str(name)).casefold().split())].append(name)
    pairs = [" and ".join(map(ascii, sorted(names))) for names in alike.values() if len(names) > 1]
    if not pairs:
        return ""
    return (
        f"Classes that look alike are taken for different ones: {'; '.join(pairs)}. If they are one, spell them alike."
    )


def load(
    dataset: str,
    data_dir: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    **options: object,
) -> pd.DataFrame:
    """Load the manifest of a dataset from its published tree, or the folder that contains it.

    Without `data_dir`, from where `at_hand` finds it, else from the embedded sample, made if need be. `limit` draws at
    most so many clips, with every class and every split or fold among them; `options` are the loader's (`words`,
    `group_pattern`, ...).
    `attrs` holds "dataset", "data_dir" and, where the reader should know something, "warning" and "left_out".
    """
    module = _module(dataset)
    data_dir = base.resolve(at_hand(dataset, data_dir) or _sample(dataset))
    manifest = _validate(module.load(data_dir, **options))
    manifest.attrs.update(dataset=dataset, data_dir=str(data_dir))
    return manifest if limit is None else draw(manifest, int(limit), seed)


def at_hand(dataset: str, data_dir: str | os.PathLike | None = None) -> str | None:
    """Where the recordings of a dataset lie: `data_dir`, else data/<dataset> once its download is complete.

    None stands for the embedded sample, which alone is used where COURSE_SAMPLE is 1 in the environment.
    """
    if data_dir is not None and str(data_dir):  # a batch run passes an empty text when it means no folder
        return str(data_dir)
    if os.environ.get("COURSE_SAMPLE") == "1" or dataset not in _DATASETS:
        return None
    from helpers.data import download

    place, files = base.DATA / dataset, _DATASETS[dataset].INFO.files
    return short(place) if files and all(download.is_complete(remote, place) for remote in files) else None


def about(manifest: pd.DataFrame) -> str:
    """Say what a manifest was loaded from, under which licence, whom to cite, and what the reader should know."""
    info, data_dir = _module(manifest.attrs["dataset"]).INFO, Path(manifest.attrs["data_dir"])
    lines = [f"{info.title}, {len(manifest)} clips in {short(data_dir)}"]
    if data_dir.is_relative_to(base.SAMPLE):
        lines = [f"The embedded sample: {len(manifest)} synthesised clips in the layout of {info.title}."]
        if info.name == "esc10":
            lines += ["`make data` fetches the 400 real recordings (41 MB), which are then used instead."]
    elif info.citation:
        lines += [f"Licence: {info.licence}.", f"Cite: {info.citation}."]
    lines += [f"{say}: {manifest.attrs[what]}" for what, say in _SAID.items() if what in manifest.attrs]
    return "\n".join(lines)


def fetch(dataset: str, dest: str | os.PathLike) -> Path:
    """Download and unpack a dataset, and give its tree; what is complete already is left alone."""
    from helpers.data import download

    info, dest = _module(dataset).INFO, Path(dest).expanduser().absolute()
    if not info.files:
        raise CourseError(f"{info.title}: these are your own recordings, there is nothing to download.")
    print(f"{info.title} ({info.homepage})\nLicence: {info.licence}.\nCite: {info.citation}.")
    missing = [remote for remote in info.files if not download.is_complete(remote, dest)]
    if len(missing) == len(info.files):  # later, each archive looks for the room that it needs
        download.check_space(dest, info.disk_bytes, info.title)
    for remote in info.files:
        download.fetch(remote, dest)
    return dest / info.folder


def make_sample() -> Path:
    """Make the embedded sample, unless it is there and current."""
    return _recipe().make()


def _recipe() -> ModuleType:
    if str(base.DATA) not in sys.path:
        sys.path.append(str(base.DATA))  # the recipe lies beside the data and is no part of the package
    import recipe

    return recipe


def _module(dataset: str) -> ModuleType:
    if dataset not in _DATASETS:
        raise CourseError(f"Unknown dataset {dataset!r}; there are: {', '.join(_DATASETS)}.")
    return _DATASETS[dataset]


def _sample(dataset: str) -> Path:
    if not _recipe().is_current(dataset):
        print(f"Making the sample recordings in {short(base.SAMPLE)} (once, under a minute) ...")
        make_sample()
    return base.SAMPLE / _DATASETS[dataset].INFO.folder
