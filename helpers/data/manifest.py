"""The manifest: one table for every dataset, one row per clip.

Whatever comes after a loader reads these columns and never asks which dataset they came from.
"""

from __future__ import annotations

import pandas as pd

from helpers.base import CourseError

COLUMNS = ["clip_id", "path", "label", "split", "fold", "group", "duration"]
SPLITS = ("train", "validation", "test")


def validate(manifest: pd.DataFrame) -> pd.DataFrame:
    """Check a manifest and bring it into its standard form.

    Parameters
    ----------
    manifest : pandas.DataFrame
        One row per clip, with at least `clip_id` and `path`. Missing standard columns are added, empty.

            clip_id   str, unique
            path      str, absolute path of the recording
            label     str or None (unlabelled)
            split     "train", "validation", "test" or None
            fold      Int64 or NA: the round in which the clip is test data, where a dataset rotates
            group     str or None: what must never stand on two sides of a split (source, speaker, ...)
            duration  float, seconds; NaN until audited

    Returns
    -------
    pandas.DataFrame
        A copy with the standard columns first, in order, a fresh RangeIndex, and `attrs` kept.

    Raises
    ------
    CourseError
        Columns are missing, clip ids repeat, or a split has an unknown name; the rows are named.

    Notes
    -----
    Used by every notebook, through `helpers.datasets.load`.
    """
    missing = [column for column in ("clip_id", "path") if column not in manifest]
    if missing:
        raise CourseError(f"The manifest lacks the column(s) {', '.join(missing)}; every clip needs an id and a path.")
    attrs = dict(manifest.attrs)
    rest = [column for column in manifest.columns if column not in COLUMNS]
    manifest = manifest.reindex(columns=COLUMNS + rest).reset_index(drop=True)
    repeated = manifest.loc[manifest["clip_id"].duplicated(keep=False), "clip_id"].unique()
    if len(repeated):
        raise CourseError(f"{len(repeated)} clip ids stand in more than one row, the first: {list(repeated[:3])}.")
    unknown = set(manifest["split"].dropna()) - set(SPLITS)
    if unknown:
        rows = manifest.loc[manifest["split"].isin(unknown), "clip_id"].head(3).tolist()
        raise CourseError(f"Unknown split {sorted(unknown)} (clips {rows} ...); use one of {SPLITS} or leave it empty.")
    for column in ("clip_id", "path", "label", "split", "group"):
        manifest[column] = manifest[column].astype(object).where(manifest[column].notna(), None)
    manifest["fold"] = manifest["fold"].astype("Int64")
    manifest["duration"] = manifest["duration"].astype(float)
    manifest.attrs = attrs
    return manifest
