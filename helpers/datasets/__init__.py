"""Datasets: one loader each, one table for all.

>>> from helpers import datasets
>>> manifest = datasets.load("esc50")                      # the embedded sample
>>> manifest = datasets.load("esc50", "DEST/ESC-50-master")  # the real one, same code
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pandas as pd

from helpers import files
from helpers.datasets import esc50, folder, fsd50k, fsdkaggle2018, speech_commands, tut2017
from helpers.datasets.base import Info, draw
from helpers.errors import CourseError, DownloadError
from helpers.manifest import validate

DATASETS: dict[str, ModuleType] = {
    "fsd50k": fsd50k,
    "esc50": esc50,
    "tut2017": tut2017,
    "fsdkaggle2018": fsdkaggle2018,
    "speech_commands": speech_commands,
    "folder": folder,
}
SAMPLE_DIRS = {name: module.INFO.folder for name, module in DATASETS.items()}


def load(
    dataset: str,
    data_dir: str | os.PathLike | None = None,
    limit: int | None = None,
    seed: int = 0,
    **options: object,
) -> pd.DataFrame:
    """Load the manifest of a dataset.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    data_dir : path, optional
        The published tree, or the folder that contains it. None: the embedded sample, made if it is not there yet.
    limit : int, optional
        At most this many clips, with every class and every split or fold among them.
    seed : int
        Seed of that draw.
    **options
        Passed on to the loader (`words` of speech_commands, `group_pattern` of folder, ...).

    Returns
    -------
    pandas.DataFrame
        A manifest (see `helpers.manifest.validate`). `attrs` holds "dataset", "data_dir", "ignored" (what lay in the
        folders and became no row, counted) and, where the reader should know something, "warning".

    Raises
    ------
    CourseError
        The name is unknown.
    DataMissing
        The data are not there; the message says how to get them.

    Notes
    -----
    Used by every notebook.
    """
    module = _module(dataset)
    # An empty string is what a batch run passes when it means "no folder".
    if data_dir is None or str(data_dir) == "":
        data_dir = _sample(dataset)
    data_dir = files.resolve(data_dir)
    manifest = validate(module.load(data_dir, **options))
    manifest.attrs.update(dataset=dataset, data_dir=str(data_dir))
    manifest.attrs.setdefault("ignored", {})
    return manifest if limit is None else draw(manifest, int(limit), seed)


def info(dataset: str) -> Info:
    """Give the declaration of a dataset: addresses, checksums, licence, citation, size.

    Raises
    ------
    CourseError
        The name is unknown.

    Notes
    -----
    Used by the README and `python -m helpers download`.
    """
    return _module(dataset).INFO


def download(dataset: str, dest: str | os.PathLike, progress: bool = True) -> Path:
    """Download and unpack a dataset; what is complete already is left alone.

    Parameters
    ----------
    dataset : str
        One of `DATASETS`.
    dest : path
        Folder that will contain the published tree.
    progress : bool
        Show progress bars.

    Returns
    -------
    pathlib.Path
        The published tree, to be used as `data_dir`.

    Raises
    ------
    DownloadError
        Something went wrong; the message says what, and what to do.

    Notes
    -----
    Used by `python -m helpers download DATASET DEST`.
    """
    from helpers.download import fetch

    about = info(dataset)
    if not about.files:
        raise DownloadError(f"{about.title}: these are your own recordings, there is nothing to download.")
    for remote in about.files:
        fetch(remote, dest, progress=progress)
    return Path(dest).expanduser().absolute() / about.folder


def _module(dataset: str) -> ModuleType:
    if dataset not in DATASETS:
        raise CourseError(f"Unknown dataset {dataset!r}; there are: {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def _sample(dataset: str) -> Path:
    tree = files.SAMPLE / SAMPLE_DIRS[dataset]
    if not tree.is_dir():
        from helpers import sample

        print(f"Making the sample recordings in {files.SAMPLE} (once, under a minute) ...")
        sample.make()
    return tree
