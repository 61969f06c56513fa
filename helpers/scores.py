"""Scores with their spread: every interval is a 95 % percentile bootstrap that draws whole groups.

A *group* (speaker, source, uploader...) stands or falls together, so clips are never drawn one by one. One rule for all
scores: where the bootstrap would be too narrow or have no width, with fewer than eight groups or with all or nothing
right, the interval is Wilson's, with the groups as n.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact, permutation_test

from helpers.base import CourseError

_METRICS = ("accuracy", "macro_f1", "macro_precision", "macro_recall")
_PARTS = ("precision", "recall", "f1")
_FEW_GROUPS = 8


def prediction_table(manifest: pd.DataFrame, rows, probabilities, classes: list[str], fold: str) -> pd.DataFrame:
    """Put what a model said (`probabilities` [shape=(n, n_classes)]) about rows of a manifest into the common table.

    Columns: clip_id, label, predicted, fold (the round), and p_<class> for every class. Raises CourseError where
    probabilities are no numbers.
    """
    clips, p = manifest.iloc[rows].reset_index(drop=True), np.asarray(probabilities, dtype=np.float64)
    if not np.isfinite(p).all():
        bad = int((~np.isfinite(p)).any(axis=1).sum())
        raise CourseError(
            f"round {fold}: the probabilities of {bad} of {len(p)} clips are not numbers: the training has diverged. "
            "Lower its learning rate, or look for features that are not numbers."
        )
    predicted = np.asarray(classes, dtype=object)[p.argmax(axis=1)]
    columns = {"clip_id": clips["clip_id"].to_numpy(), "label": clips["label"].to_numpy(), "predicted": predicted}
    table = pd.DataFrame(columns).assign(fold=fold)
    return pd.concat([table, pd.DataFrame(p, columns=[f"p_{name}" for name in classes])], axis=1)


def in_columns(probabilities, present, classes: list[str]) -> np.ndarray:
    """Spread the columns of a model that saw only the classes `present` over all classes; the others get 0."""
    return pd.DataFrame(probabilities, columns=list(present)).reindex(columns=classes, fill_value=0.0).to_numpy()


def _bootstrap(statistic: Callable, sums: np.ndarray, n_boot: int = 1000, seed: int = 0) -> tuple:
    """Value of a statistic of sums over groups, and both ends of its interval (Efron and Tibshirani 1993).

    `sums` [shape=(n_groups, ...)] is what each group adds; `statistic` maps a sum [shape=(..., ...)] to values. Draws
    without a value (NaN) are left out.
    """
    drawn = np.random.default_rng(seed).integers(len(sums), size=(n_boot, len(sums)))
    times = np.stack([np.bincount(row, minlength=len(sums)) for row in drawn])
    draws = statistic(np.tensordot(times, sums, axes=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class that no draw has: its ends are NaN, too
        low, high = np.nanquantile(draws, [0.025, 0.975], axis=0)
    return statistic(sums.sum(axis=0)), low, high


def _by_the_rule(value, low, high, n_groups) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends of intervals of shares: those of the bootstrap, or Wilson's on groups where they would be too narrow."""
    value, low, high, n_groups = np.broadcast_arrays(*map(np.asarray, (value, low, high, n_groups)))
    low, high = low.astype(float), high.astype(float)
    for at in np.argwhere((n_groups > 0) & ((n_groups < _FEW_GROUPS) | (value == 0) | (value == 1)) & (value == value)):
        at, n = tuple(at), int(n_groups[tuple(at)])
        # Groups that are half right are no whole number of successes: the ends are those of both numbers beside it.
        few, many = (int(rounded(round(value[at] * n, 9))) for rounded in (np.floor, np.ceil))
        low[at] = binomtest(few, n).proportion_ci(method="wilson").low
        high[at] = binomtest(many, n).proportion_ci(method="wilson").high
    return value, low, high


def _members(group, n: int) -> np.ndarray:
    """Number of each row's group; a row without one is a group of its own."""
    if group is not None and len(group) != n:
        raise CourseError(f"There are {n} rows but {len(group)} groups; give the group of each row.")
    alone = pd.Series([f"row {row}" for row in range(n)])
    names = (
        alone if group is None else pd.Series(np.asarray(group, dtype=object)).where(lambda name: name.notna(), alone)
    )
    return np.unique(names.astype(str), return_inverse=True)[1]


def mean(values, group=None, seed: int = 0, share: bool = True) -> dict:
    """Mean of `values` [shape=(n, ...)] with its interval: a share, of zeros and ones, or (`share=False`) a level.

    Gives {"value", "low", "high", "n"}; the first three have the shape of a row.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise CourseError("There is nothing to take a mean of.")
    member = _members(group, len(values))
    sums = np.zeros((member.max() + 1, values[0].size + 1))
    np.add.at(sums, member, np.column_stack([values.reshape(len(values), -1), np.ones(len(values))]))
    parts = _bootstrap(lambda total: total[..., :-1] / total[..., -1:], sums, seed=seed)
    if share:
        parts = _by_the_rule(*parts, len(sums))
    value, low, high = (np.reshape(part, values.shape[1:])[()] for part in parts)
    return {"value": value, "low": low, "high": high, "n": len(values)}


def _matrices(predictions: pd.DataFrame, group) -> tuple[list[str], np.ndarray]:
    """Classes, and the confusion matrix of every group [shape=(n_groups, n_classes, n_classes)], labels in rows."""
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    true, guess = (pd.Categorical(predictions[column], classes).codes for column in ("label", "predicted"))
    member = _members(group, len(predictions))
    matrices = np.zeros((member.max() + 1, len(classes), len(classes)))
    np.add.at(matrices, (member, true, guess), 1)
    return classes, matrices


def _parts(matrix: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of every class [shape=(..., 3, n_classes)] of confusion matrices; NaN: no meaning."""
    hits, labelled, guessed = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([hits / guessed, hits / labelled, 2 * hits / (guessed + labelled)], axis=-2)


def _macro(matrix: np.ndarray) -> np.ndarray:
    # A class without a labelled clip (in a bootstrap draw, say) takes no part; one that is never predicted counts 0.
    present = matrix.sum(axis=-1, keepdims=True).swapaxes(-1, -2) > 0
    precision, recall, f1 = np.moveaxis(np.nanmean(np.where(present, np.nan_to_num(_parts(matrix)), np.nan), -1), -1, 0)
    accuracy = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1))
    return np.stack([accuracy, f1, precision, recall], axis=-1)


def score(predictions: pd.DataFrame, group=None, seed: int = 0) -> dict[str, dict]:
    """Accuracy and macro F1, precision and recall: {name: {"value", "low", "high", "n"}}.

    `group` [shape=(n,)] is that of each row. With several rounds also `accuracy_per_fold`: mean over rounds, mean minus
    and plus one standard deviation (over rounds, ddof=1), number of rounds. Macro: over classes that occur as labels.
    """
    matrices = _matrices(predictions, group)[1]
    parts = _by_the_rule(*_bootstrap(_macro, matrices, seed=seed), len(matrices))
    ends = [dict(zip(("value", "low", "high"), map(float, row), strict=True)) for row in zip(*parts, strict=True)]
    result = {name: end | {"n": len(predictions)} for name, end in zip(_METRICS, ends, strict=True)}
    folds = (predictions["label"] == predictions["predicted"]).groupby(predictions["fold"]).mean()
    if len(folds) > 1:
        middle, spread = float(folds.mean()), float(folds.std())
        result["accuracy_per_fold"] = {
            "value": middle,
            "low": middle - spread,
            "high": middle + spread,
            "n": len(folds),
        }
    return result


def per_class(predictions: pd.DataFrame, group=None) -> pd.DataFrame:
    """Precision, recall and F1 of every class (a row each), with `<name>_low` and `<name>_high`, `n` and `predicted`.

    NaN: a value without meaning, such as the precision of a class that is never predicted.
    """
    classes, matrices = _matrices(predictions, group)
    whole, labelled, guessed = matrices.sum(axis=0), matrices.sum(axis=2), matrices.sum(axis=1)
    n_groups = [(count > 0).sum(axis=0) for count in (guessed, labelled, guessed + labelled)]
    table = pd.DataFrame({"n": whole.sum(axis=1), "predicted": whole.sum(axis=0)}, classes, dtype=int)
    value, low, high = _by_the_rule(*_bootstrap(_parts, matrices), np.array(n_groups))
    for row, name in enumerate(_PARTS):
        table[name], table[f"{name}_low"], table[f"{name}_high"] = value[row], low[row], high[row]
    return table


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Write the scores of `per_class` as text; the n of a precision is the number of clips that got the class."""

    def text(row, name):
        metric = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
        metric["n"] = int(row["predicted" if name == "precision" else "n"])
        return shown(metric) if row[name] == row[name] else f"- (n = {metric['n']})"

    return pd.DataFrame({name: [text(row, name) for _, row in table.iterrows()] for name in _PARTS}, table.index)


def difference(one: pd.DataFrame, other: pd.DataFrame, group=None, seed: int = 0) -> dict:
    """Accuracy of `one` minus that of `other` on the clips both have seen; `group` maps clip_id to group.

    Two intervals that overlap say little about a difference; on the same clips the difference itself can be resampled.
    """
    both = one.merge(other, on="clip_id", suffixes=("_one", "_other"))
    hit_one, hit_other = (both[f"predicted_{who}"] == both[f"label_{who}"] for who in ("one", "other"))
    gain = hit_one.astype(float) - hit_other
    member = _members(None if group is None else both["clip_id"].map(group), len(both))
    sums = np.zeros((member.max() + 1, 2))
    np.add.at(sums, member, np.column_stack([gain, np.ones(len(gain))]))
    value, low, high = map(float, _bootstrap(lambda total: total[..., 0] / total[..., 1], sums, 2000, seed))
    return {"value": value, "low": low, "high": high, "n": len(both)}


def confused_pairs(predictions: pd.DataFrame, group=None) -> pd.DataFrame:
    """Pairs of classes taken for each other, most confusions first, and whether one goes for the other more often.

    `p` is Fisher's exact test of equal rates one_as_other / n_one and other_as_one / n_other or, if larger, a flip of
    the signs of whole groups (Hemerik, Goeman and Finos 2020), as one speaker who errs often must not decide; `p_holm`
    is corrected for the number of pairs (Holm 1979). Both are NaN where one of the labels has no clip.
    """
    classes, matrices = _matrices(predictions, group)
    counts, n = matrices.sum(axis=0), matrices.sum(axis=(0, 2))
    rows = []
    for i, j in zip(*np.triu_indices(len(classes), 1), strict=True):
        total, p = counts[i, j] + counts[j, i], np.nan
        if total and n[i] and n[j]:
            p = fisher_exact([[counts[i, j], n[i] - counts[i, j]], [counts[j, i], n[j] - counts[j, i]]]).pvalue
            if group is not None:
                rate = total / (n[i] + n[j])
                own = [(matrices[:, a, b] - rate * matrices[:, a].sum(axis=-1)) / n[a] for a, b in ((i, j), (j, i))]
                parts = (own[0] - own[1])[own[0] != own[1]]  # groups that add nothing cannot change the sum
                flips = dict(permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(0))
                p = max(p, permutation_test((parts,), np.sum, **flips).pvalue if len(parts) > 1 else 1.0)
        if total:
            rows.append((classes[i], classes[j], counts[i, j], counts[j, i], n[i], n[j], total, min(p, 1.0)))
    names = ["one", "other", "one_as_other", "other_as_one", "n_one", "n_other", "total", "p"]
    table = pd.DataFrame(rows, columns=names).astype(dict.fromkeys(names[2:7], int))
    ranked = table["p"].dropna().sort_values(kind="stable")
    table["p_holm"] = (ranked * np.arange(len(ranked), 0, -1)).cummax().clip(upper=1)
    return table.sort_values("total", ascending=False, kind="stable", ignore_index=True)


def shown(metric: dict, unit: str = "%") -> str:
    """Write a metric as `61.2 % (55.0 to 67.1, n = 240)`, a difference in "points" as `+6.0 points (+1.3 to ...`."""
    sign = "+" if unit == "points" else ""
    value, low, high = (f"{100 * metric[part]:{sign}.1f}" for part in ("value", "low", "high"))
    return f"{value} {unit} ({low} to {high}, n = {metric['n']})"
