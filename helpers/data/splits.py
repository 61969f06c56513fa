"""Who trains, who validates, who tests: rounds in which no group stands on two sides."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.base import CourseError

_DRAWS = 50


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


def untrained(label: np.ndarray, round_: Round) -> Counter:
    """Classes that a round tests without a training clip, with their number of test clips."""
    known = {*label[round_.train]}
    return Counter(name for name in label[round_.test] if name not in known)


def make_folds(manifest: pd.DataFrame, n_folds: int = 5, seed: int = 0) -> np.ndarray:
    """Deal the clips to folds: classes evenly, every group whole.

    Outside every fold, two groups are left of each class that has three, wherever some of the draws tried allows it.
    """
    label, group = manifest["label"].to_numpy(object), groups(manifest)
    per_class = pd.Series(group).groupby(label).nunique()
    if per_class.min() < 2:
        what = "group" if manifest["group"].notna().any() else "clip"
        raise CourseError(
            f"All of class {per_class.idxmin()!r} comes from one {what}: it cannot stand in both training and test. "
            "Add recordings from another source, or leave the class out."
        )
    n_folds = int(min(n_folds, per_class.min()))
    first = fold = _deal(label, group, n_folds, seed)
    has, rng = pd.crosstab(group, label), np.random.default_rng(seed)
    for _ in range(_DRAWS):
        held = pd.crosstab(fold, label, group, aggfunc="nunique").reindex(columns=has.columns).fillna(0)
        if not ((per_class > 2) & (per_class - held < 2)).any(axis=None):
            return fold
        fold = pd.Series(_apart(has.to_numpy(), n_folds, rng), has.index)[group].to_numpy()
    return first  # no draw can do it, perhaps as the groups of several classes overlap


def _deal(label: np.ndarray, group: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    from sklearn.model_selection import StratifiedGroupKFold  # here only: it takes a second to import

    folds = np.zeros(len(label), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class may have fewer clips than there are folds
        for number, (_, rows) in enumerate(splitter.split(label, label, group), start=1):
            folds[rows] = number
    return folds


def _apart(has: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Folds of groups with so many clips of each class, one after the other to where its classes are least."""
    folds, held, load = np.zeros(len(has), dtype=np.int64), np.zeros((n_folds, has.shape[1])), np.zeros(n_folds)
    for one in rng.permutation(len(has)):
        to = np.lexsort((load, held @ (has[one] > 0)))[0]
        folds[one], held[to], load[to] = to + 1, held[to] + (has[one] > 0), load[to] + has[one].sum()
    return folds


def inner_folds(manifest: pd.DataFrame, rows: np.ndarray, seed: int = 0) -> list[tuple]:
    """Folds inside the development rows of a round, for choosing hyperparameters without touching the test rows.

    The dataset's own folds where it has some, else three.
    """
    part = manifest.iloc[rows].reset_index(drop=True)
    if part["fold"].notna().all():
        fold = part["fold"].to_numpy(np.int64)
    else:
        here, everywhere = (
            pd.Series(groups(of)).groupby(of["label"].to_numpy(object)).nunique() for of in (part, manifest)
        )
        if here.min() < 2:
            name = here.idxmin()
            raise CourseError(
                f"Of the {everywhere[name]} groups of class {name!r}, one is left outside the test clips: settings "
                "cannot be chosen on one and tried on another. Add recordings of it from elsewhere, or leave it out."
            )
        fold = make_folds(part, 3, seed)
    return [(np.flatnonzero(fold != name), np.flatnonzero(fold == name)) for name in np.unique(fold)]


def _hold_out(label: np.ndarray, group: np.ndarray, seed: int) -> np.ndarray:
    """Rows of about a fifth of the groups, none of which is the only one of a class."""
    if len(set(group)) < 2:
        raise CourseError("All training clips come from one group: none of them can validate. Name validation clips.")
    fold = _deal(label, group, min(5, len(set(group))), seed)
    left = [len(set(label[fold != number])) for number in range(1, fold.max() + 1)]
    rows = np.flatnonzero(fold == 1 + int(np.argmax(left)))
    owners = pd.Series(group).groupby(label).agg(set)
    only = {name for names in owners if len(names) == 1 for name in names}
    return rows[~np.isin(group[rows], list(only))]


def rounds(manifest: pd.DataFrame, n_rounds: int | None = None, seed: int = 0) -> list[Round]:
    """Divide a manifest the way its dataset asks for.

    A dataset with official folds rotates: fold k tests, the next fold validates, the others train. One with a
    published split keeps it; if no validation set was published, about a fifth of the training groups becomes one, but
    never the only group of a class. One with neither (or with one side only, as in an excerpt of a dataset) gets five
    folds of whole groups, or as many as the class with the fewest groups has. Where a group stands on two sides, the
    clips on the less protected side (train before validation before test) are set aside. A class that is tested, but
    not trained, is said.
    """
    labelled = np.flatnonzero(manifest["label"].notna())
    if not len(labelled):
        raise CourseError("No clip of this manifest has a label, so nothing can be learnt or scored.")
    table = manifest.iloc[labelled].reset_index(drop=True)
    if table["label"].nunique() == 1:
        name = table["label"].iloc[0]
        raise CourseError(f"All {len(table)} clips are of one class, {name!r}: there is nothing to tell apart.")
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
            split[inner[_hold_out(table["label"].to_numpy(object)[inner], groups(table)[inner], seed)]] = "validation"
        sides = [("split", *(np.flatnonzero(split == side) for side in ("train", "validation", "test")))]
    elif len(set(split) - {None}) > 1:
        there = ", ".join(f"{name} {(split == name).sum()}" for name in sorted(set(split)))
        raise CourseError(f"The column split names no {'train' if 'test' in split else 'test'} clips ({there}).")
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
    if unknown := sorted(untrained(table["label"].to_numpy(object), Round(name, train, validation, test, set_aside))):
        print(f"Note: round {name} tests {', '.join(unknown)} without a training clip.")
    return Round(name, positions[train], positions[validation], positions[test], np.sort(positions[set_aside]))
