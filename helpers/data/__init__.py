"""From a published tree to one table, the manifest: one row per clip, whatever the dataset.

>>> from helpers import data
>>> manifest = data.load("esc50")                        # the embedded sample
>>> manifest = data.load("esc50", "DEST/ESC-50-master")  # the real one, same code
>>> usable, quarantine, remarks = data.audit(manifest)
>>> rounds = data.rounds(usable)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd

from helpers import base
from helpers.base import CourseError
from helpers.data import esc50, folder, fsd50k, fsdkaggle2018, speech_commands, tut2017
from helpers.data.audit import audit
from helpers.data.declare import draw
from helpers.data.manifest import COLUMNS, SPLITS, validate
from helpers.data.splits import Round, groups, inner_folds, make_folds, rounds, shared_groups

DATASETS: dict[str, ModuleType] = {
    "fsd50k": fsd50k,
    "esc50": esc50,
    "tut2017": tut2017,
    "fsdkaggle2018": fsdkaggle2018,
    "speech_commands": speech_commands,
    "folder": folder,
}


def load(
    dataset: str,
    data_dir: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    **options: object,
) -> pd.DataFrame:
    """Load the manifest of a dataset from its published tree, or the folder that contains it.

    Without `data_dir`, from the embedded sample, made if it is not there yet. `limit` draws at most so many clips, with
    every class and every split or fold among them; `options` are the loader's (`words`, `group_pattern`, ...).
    `attrs` holds "dataset", "data_dir" and, where the reader should know something, "warning".
    """
    module = _module(dataset)
    # An empty string is what a batch run passes when it means "no folder".
    if data_dir is None or str(data_dir) == "":
        data_dir = _sample(dataset)
    data_dir = base.resolve(data_dir)
    manifest = validate(module.load(data_dir, **options))
    manifest.attrs.update(dataset=dataset, data_dir=str(data_dir))
    return manifest if limit is None else draw(manifest, int(limit), seed)


def download(dataset: str, dest: str | os.PathLike) -> Path:
    """Download and unpack a dataset, and give its tree; what is complete already is left alone."""
    from helpers.data.download import fetch

    about = _module(dataset).INFO
    if not about.files:
        raise CourseError(f"{about.title}: these are your own recordings, there is nothing to download.")
    for remote in about.files:
        fetch(remote, dest)
    return Path(dest).expanduser().absolute() / about.folder


def make_sample(**options: object) -> Path:
    """Make the embedded sample, unless it is there and current."""
    if str(base.DATA) not in sys.path:
        sys.path.append(str(base.DATA))  # the recipe lies beside the data and is no part of the package
    import recipe

    return recipe.make(**options)


def _module(dataset: str) -> ModuleType:
    if dataset not in DATASETS:
        raise CourseError(f"Unknown dataset {dataset!r}; there are: {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def _sample(dataset: str) -> Path:
    tree = base.SAMPLE / DATASETS[dataset].INFO.folder
    if not tree.is_dir():
        print(f"Making the sample recordings in {base.SAMPLE} (once, under a minute) ...")
        make_sample()
    return tree
