"""Scores class by class, each with its spread, and the classes most often taken for each other."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact

from helpers import evaluation
from helpers.errors import CourseError

PARTS = ("precision", "recall", "f1")
_FEW_GROUPS = 12  # up to here every way to flip signs is tried, 4096 at most
_BLOCK = 500  # draws of signs in memory at once


def per_class(
    predictions: pd.DataFrame,
    group: np.ndarray | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Precision, recall and F1 of every class, each with a bootstrap interval.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As made by `helpers.evaluation.prediction_table`.
    group : np.ndarray [shape=(n,)], optional
        Source, speaker... of each row; whole groups are drawn, as in `helpers.evaluation.score`.
    n_boot : int
        Number of resamples.
    seed : int
    confidence : float
        Mass inside the interval.

    Returns
    -------
    pandas.DataFrame
        One row per class (the index), in alphabetical order: `n` clips that have the label, `predicted` clips that got
        it, and for each of precision, recall and f1 the columns `<name>`, `<name>_low`, `<name>_high` (0..1). A value
        without meaning (the precision of a class never predicted) is NaN; resamples without a value are left out of
        the interval.

    Notes
    -----
    Percentile bootstrap (Efron and Tibshirani 1993). Used by notebooks 01, 06 and 07.
    """
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    label, predicted = predictions["label"].to_numpy(object), predictions["predicted"].to_numpy(object)
    member = evaluation.members(group, len(label))

    is_label = label[:, None] == np.array(classes, dtype=object)
    is_predicted = predicted[:, None] == np.array(classes, dtype=object)
    counts = np.zeros((3, member.max() + 1, len(classes)))
    for table, flags in zip(counts, (is_label & is_predicted, is_predicted, is_label), strict=True):
        np.add.at(table, member, flags)

    draws = np.empty((n_boot, len(PARTS), len(classes)))
    for draw, times in enumerate(evaluation.group_draws(member, n_boot, seed)):
        draws[draw] = _parts(*(times @ table for table in counts))
    tail = (1 - confidence) / 2
    values = _parts(*counts.sum(axis=1))
    result = pd.DataFrame({"n": is_label.sum(axis=0), "predicted": is_predicted.sum(axis=0)}, index=classes)
    for part, name in enumerate(PARTS):
        result[name] = values[part]
        quantiles = [_quantiles(column, tail) for column in draws[:, part].T]
        result[f"{name}_low"], result[f"{name}_high"] = zip(*quantiles, strict=True)
    return result


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Write the scores of `per_class` as text, `87.5 % (71.4 to 96.0, n = 24)`.

    The n of a precision is the number of clips that got the class, that of recall and F1 the number that have it.

    Used by notebooks 01 and 07.
    """
    columns = {}
    for name in PARTS:
        n = "predicted" if name == "precision" else "n"
        rows = table[[name, f"{name}_low", f"{name}_high", n]].itertuples(index=False, name=None)
        columns[name] = [
            evaluation.shown(dict(value=value, low=low, high=high, n=int(count)))
            if value == value
            else f"- (n = {count})"
            for value, low, high, count in rows
        ]
    return pd.DataFrame(columns, index=table.index)


def confused_pairs(
    predictions: pd.DataFrame, group: np.ndarray | None = None, n_flips: int = 10_000, seed: int = 0
) -> pd.DataFrame:
    """Pairs of classes most often taken for each other, and whether one goes for the other more often than back.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As made by `helpers.evaluation.prediction_table`.
    group : np.ndarray [shape=(n,)], optional
        Speaker, source... of each row; a missing one is a group of its own. Without it every clip counts as an
        observation by itself, and `p` is too small if it is not.
    n_flips : int
        Random draws of the test with groups. Twelve groups or fewer need none: all flips are tried.
    seed : int

    Returns
    -------
    pandas.DataFrame
        One row per pair with at least one confusion, most confusions first: `one` and `other` (in alphabetical order),
        `one_as_other` (clips of `one` predicted `other`), `other_as_one`, `n_one`, `n_other` (clips that have the
        label), `total` (confusions both ways), `p` (two-sided; of equal rates one_as_other / n_one and other_as_one /
        n_other) and `p_holm` (corrected for the number of pairs). Where one of the labels has no clip there is no rate,
        and both are NaN.

    Raises
    ------
    CourseError
        `group` has another length than `predictions`, or `n_flips` is below 1.

    Notes
    -----
    Without groups, Fisher's exact test. With groups, the difference of the rates is a sum over groups: each clip adds
    its error (1 if confused, else 0, less the rate of both classes together), divided by the clips of its class and
    with a minus for `other`. If the rates are equal, each group's part is as likely above 0 as below, whatever its
    clips have in common; so the signs of whole groups are flipped, and the share of flips with a difference as large
    is the p of Hemerik, Goeman and Finos 2020 ("Robust testing in generalized linear models by sign flipping score
    contributions"). It is exact only for many groups: with rare confusions of classes of very different size it is too
    small, where Fisher's is not. The larger of the two is given; in simulations with equal rates and speakers who
    differ it was below 0.05 in at most 6 % of the cases (Fisher's alone in up to 37 %).

    If one speaker made all confusions, p is about 0.5 or more, however many there are. The correction is Holm's (1979).
    Used by notebook 07.
    """
    label, predicted = predictions["label"].to_numpy(object), predictions["predicted"].to_numpy(object)
    if group is not None and len(group) != len(label):
        raise CourseError(f"There are {len(label)} predictions but {len(group)} groups; give the group of each row.")
    if n_flips < 1:
        raise CourseError(f"n_flips must be at least 1, not {n_flips}.")
    names = ["one", "other", "one_as_other", "other_as_one", "n_one", "n_other"]
    n_label = pd.Series(label).value_counts()
    counts = pd.Series(list(zip(label, predicted, strict=True)), dtype=object).value_counts().to_dict()
    rows = [
        (*pair, *(int(counts.get(way, 0)) for way in (pair, pair[::-1])), *(int(n_label.get(c, 0)) for c in pair))
        for pair in sorted({tuple(sorted(way)) for way in counts if way[0] != way[1]})
    ]
    table = pd.DataFrame(rows, columns=names)
    table["total"] = table["one_as_other"] + table["other_as_one"]
    table = table.sort_values("total", ascending=False, kind="stable", ignore_index=True)
    known = (table[["n_one", "n_other"]] > 0).all(axis=1)
    pairs = list(table.loc[known, names].itertuples(index=False))
    table["p"] = table["p_holm"] = np.nan
    if pairs:
        squares = [
            ((r.one_as_other, r.n_one - r.one_as_other), (r.other_as_one, r.n_other - r.other_as_one)) for r in pairs
        ]
        p = np.array([fisher_exact(square).pvalue for square in squares])
        if group is not None:
            member = evaluation.members(group, len(label))
            p = np.maximum(p, _flip_test(pairs, label, predicted, member, n_flips, seed))
        table.loc[known, "p"], table.loc[known, "p_holm"] = p, _holm(p)
    return table


def _flip_test(pairs, label, predicted, member, n_flips, seed) -> np.ndarray:
    n_groups = member.max() + 1
    parts = np.zeros((n_groups, len(pairs)))  # what each group adds to the difference of the rates
    for column, r in enumerate(pairs):
        both = (r.one_as_other + r.other_as_one) / (r.n_one + r.n_other)
        for name, taken_for, n, sign in ((r.one, r.other, r.n_one, 1), (r.other, r.one, r.n_other, -1)):
            mine = label == name
            errors = (predicted[mine] == taken_for) - both
            parts[:, column] += sign * np.bincount(member[mine], weights=errors, minlength=n_groups) / n
    # Sums in another order differ in the last bits, which must not make equal differences unequal.
    reached = np.abs(parts.sum(axis=0)) - 1e-9 * np.abs(parts).sum(axis=0)
    if n_groups <= _FEW_GROUPS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n_groups)))
        return (np.abs(signs @ parts) >= reached).mean(axis=0)
    rng, as_large = np.random.default_rng(seed), 0
    for start in range(0, n_flips, _BLOCK):
        signs = rng.choice((1.0, -1.0), size=(min(_BLOCK, n_flips - start), n_groups))
        as_large = as_large + (np.abs(signs @ parts) >= reached).sum(axis=0)
    return (1 + as_large) / (1 + n_flips)  # what was seen is one of the flips


def _holm(p: np.ndarray) -> np.ndarray:
    """Smallest p times their number, the next times one less...; no p below that of a smaller one, none above 1."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def _parts(hits: np.ndarray, guessed: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([hits / guessed, hits / labelled, 2 * hits / (guessed + labelled)])


def _quantiles(column: np.ndarray, tail: float) -> tuple[float, float]:
    known = column[~np.isnan(column)]
    return tuple(np.quantile(known, [tail, 1 - tail])) if len(known) else (np.nan, np.nan)
