"""Who trains, who validates, who tests: rounds in which no group stands on two sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from helpers.base import CourseError


@dataclass(frozen=True)
class Round:
    """One division of a manifest; every array holds row positions."""

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    set_aside: np.ndarray

    @property
    def development(self) -> np.ndarray:
        """Rows of train and validation together: all that may be learnt from once every choice is made."""
        return np.sort(np.concatenate([self.train, self.validation]))


def groups(manifest: pd.DataFrame) -> np.ndarray:
    """Group of every clip; a clip without one is a group of its own."""
    return manifest["group"].fillna("clip " + manifest["clip_id"].astype(str)).to_numpy(object)


def shared_groups(manifest: pd.DataFrame, one: np.ndarray, other: np.ndarray) -> list[str]:
    """Groups that have clips among both sets of rows (an empty list is what a split should give)."""
    group = groups(manifest)
    return sorted(set(group[one]) & set(group[other]))


def make_folds(manifest: pd.DataFrame, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Deal the clips to folds: classes evenly, every group whole."""
    label, group = manifest["label"].to_numpy(object), groups(manifest)
    per_class = pd.Series(group).groupby(label).nunique()
    if per_class.min() < 2:
        what = "group" if manifest["group"].notna().any() else "clip"
        raise CourseError(
            f"All of class {per_class.idxmin()!r} comes from one {what}: it cannot stand in both training and test. "
            "Add recordings from another source, or leave the class out."
        )
    folds = np.zeros(len(manifest), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=int(min(n_folds, per_class.min())), shuffle=True, random_state=seed)
    for number, (_, rows) in enumerate(splitter.split(label, label, group), start=1):
        folds[rows] = number
    return folds


def inner_folds(manifest: pd.DataFrame, rows: np.ndarray, n_folds: int = 3, seed: int = 0) -> list[tuple]:
    """Folds inside the development rows of a round, for choosing hyperparameters without touching the test rows."""
    part = manifest.iloc[rows].reset_index(drop=True)
    official = part["fold"].notna().all()
    fold = part["fold"].to_numpy(np.int64) if official else make_folds(part, n_folds, seed)
    return [(np.flatnonzero(fold != name), np.flatnonzero(fold == name)) for name in np.unique(fold)]


def rounds(manifest: pd.DataFrame, n_rounds: int | None = None, seed: int = 0) -> list[Round]:
    """Divide a manifest the way its dataset asks for.

    A dataset with official folds rotates: fold k tests, the next fold validates, the others train. One with a
    published split keeps it; if no validation set was published, a fifth of the training groups becomes one. One with
    neither (or with one side only, as in an excerpt of a dataset) gets five folds of whole groups.
    Where a group stands on two sides, the clips on the less protected side (train before validation before test) are
    set aside.
    """
    labelled = np.flatnonzero(manifest["label"].notna())
    if not len(labelled):
        raise CourseError("No clip of this manifest has a label, so nothing can be learnt or scored.")
    table = manifest.iloc[labelled].reset_index(drop=True)
    split = table["split"].to_numpy(object, copy=True)
    for column in ("fold", "split"):
        blank = table[column].isna()
        if blank.any() and not blank.all() and not (column == "split" and table["fold"].notna().all()):
            raise CourseError(
                f"{blank.sum()} of {len(table)} clips have no {column}, such as {list(table['clip_id'][blank][:3])}. "
                f"Give every clip a {column}, or leave the whole column empty."
            )
    if table["fold"].notna().all():
        sides = _rotate(table["fold"].to_numpy(np.int64))
    elif {"train", "test"} <= set(split):
        if "validation" not in split:
            inner = np.flatnonzero(split == "train")
            fold = make_folds(table.iloc[inner], 5, seed)
            split[inner[fold == 1]] = "validation"
        sides = [("split", *(np.flatnonzero(split == side) for side in ("train", "validation", "test")))]
    else:
        sides = _rotate(make_folds(table, 5, seed))
    return [_clean(table, labelled, *side) for side in sides[:n_rounds]]


def _rotate(fold: np.ndarray) -> list[tuple]:
    names = np.unique(fold)
    if len(names) < 3:
        raise CourseError(
            f"{len(names)} fold(s) are too few to train, validate and test: every class needs at least three groups "
            "(sources, speakers...), or the dataset at least three folds."
        )
    sides = []
    for position, name in enumerate(names):
        following = names[(position + 1) % len(names)]
        train = np.flatnonzero((fold != name) & (fold != following))
        sides.append((f"fold{name}", train, np.flatnonzero(fold == following), np.flatnonzero(fold == name)))
    return sides


def _clean(table: pd.DataFrame, positions: np.ndarray, name: str, train, validation, test) -> Round:
    group = groups(table)
    leaking_validation = np.isin(group[validation], group[test])
    leaking_train = np.isin(group[train], np.concatenate([group[test], group[validation]]))
    set_aside = np.concatenate([train[leaking_train], validation[leaking_validation]])
    train, validation = train[~leaking_train], validation[~leaking_validation]
    for side, rows in (("train", train), ("validation", validation), ("test", test)):
        if not len(rows):
            raise CourseError(
                f"Round {name} has no {side} clips once groups are kept apart; use more clips or a larger `limit`."
            )
    return Round(name, positions[train], positions[validation], positions[test], np.sort(positions[set_aside]))
