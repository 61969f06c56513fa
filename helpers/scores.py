"""Scores with their spread: every interval is a 95 % interval over groups.

A *group* (speaker, source, uploader...) stands or falls together, so clips are never taken one by one. One rule for all
scores: leaving out one group after the other (the jackknife: Efron and Tibshirani 1993) says how uncertain a score is,
that is, how many independent clips it is worth. Wilson's interval (1927) is drawn for so many, as surveys do (Franco
and others 2019, PMC6690503), with Student's t for as many groups as there are. Below three groups there is none: both
ends are NaN. Notebook 06 tries it out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact, permutation_test
from scipy.stats import t as student

from helpers.base import CourseError

_METRICS = ("accuracy", "macro_f1", "macro_precision", "macro_recall")
_PARTS = ("precision", "recall", "f1")
_FEWEST = 3  # groups, below which no interval is given


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


def _interval(
    statistic: Callable, sums: np.ndarray, sizes: np.ndarray, share: bool = True, counted: bool = True
) -> tuple:
    """Value of a statistic of sums over groups, and both ends of its interval.

    `sums` [shape=(n_groups, ...)] is what each group adds; `statistic` maps a sum [shape=(..., ...)] to values. `sizes`
    [shape=(n_groups, ...)]: clips of each group that count for each value. `share`: values lie between 0 and 1;
    `counted`: they are shares of clips, which are never worth more than there are.
    """
    total = sums.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a class that nothing is left of
        value, without = (np.asarray(statistic(of), dtype=float) for of in (total, total - sums))
    variance, t, effective, few = _spread(value, without, sizes)
    if share:
        low, high = _wilson(value, variance, t, effective, sizes.sum(axis=0) if counted else np.inf)
    else:
        known = variance > 1e-24 * np.maximum(1, value**2)  # of values that are all the same nothing is
        half = np.where(known, t * np.sqrt(variance), np.nan)
        low, high = value - half, value + half
    return value, np.where(few, np.nan, low), np.where(few, np.nan, high)


def _spread(value: np.ndarray, without: np.ndarray, sizes: np.ndarray) -> tuple:
    """Variance of a value by the jackknife, t for its groups, their effective number, and whether they are too few.

    Groups of different sizes count as fewer of the same size (Kish 1965).
    """
    n_groups = np.broadcast_to((sizes > 0).sum(axis=0), value.shape)
    effective = sizes.sum(axis=0) ** 2 / np.maximum((sizes**2).sum(axis=0), 1e-12)
    change = np.nan_to_num(without - value)  # a class that is in one group only has no value without it
    variance = (change**2).sum(axis=0) * (n_groups - 1) / np.maximum(n_groups, 1)
    t = student.ppf(0.975, np.maximum(effective - 1, 1))
    return variance, t, effective, n_groups < _FEWEST


def _wilson(value, variance, t, effective, n) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of a share, worth as many independent clips as its variance says: at most `n`.

    All or nothing right has no variance; then the groups are the observations.
    """
    certain = (variance <= 1e-15) | (value <= 0) | (value >= 1)
    worth = np.where(certain, effective, value * (1 - value) / np.where(certain, 1, variance))
    worth = np.clip(worth, 1e-12, np.maximum(n, 1e-12))
    middle = (value + t**2 / (2 * worth)) / (1 + t**2 / worth)
    half = t / (1 + t**2 / worth) * np.sqrt(np.maximum(value * (1 - value), 0) / worth + t**2 / (4 * worth**2))
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def _members(group, n: int) -> np.ndarray:
    """Number of each row's group; a row without one is a group of its own."""
    if group is not None and len(group) != n:
        raise CourseError(f"There are {n} rows but {len(group)} groups; give the group of each row.")
    alone = pd.Series([f"row {row}" for row in range(n)])
    names = (
        alone if group is None else pd.Series(np.asarray(group, dtype=object)).where(lambda name: name.notna(), alone)
    )
    return np.unique(names.astype(str), return_inverse=True)[1]


def mean(values, group=None, share: bool = True) -> dict:
    """Mean of `values` [shape=(n, ...)] with its interval: a share (of values from 0 to 1) or (`share=False`) a level.

    Gives {"value", "low", "high", "n"}; the first three have the shape of a row.
    """
    values = np.asarray(values, dtype=float)
    if not len(values):
        raise CourseError("There is nothing to take a mean of.")
    member = _members(group, len(values))
    sums = np.zeros((member.max() + 1, values[0].size + 1))
    np.add.at(sums, member, np.column_stack([values.reshape(len(values), -1), np.ones(len(values))]))
    counted = bool(((values == 0) | (values == 1)).all())
    parts = _interval(lambda total: total[..., :-1] / total[..., -1:], sums, sums[:, -1:], share, counted)
    value, low, high = (np.reshape(part, values.shape[1:])[()] for part in parts)
    return {"value": value, "low": low, "high": high, "n": len(values)}


def _once(predictions: pd.DataFrame) -> None:
    """Refuse a table without clips, or one in which a clip stands twice."""
    if not len(predictions):
        raise CourseError("There are no predictions to score.")
    if "clip_id" in predictions and len(twice := predictions["clip_id"][predictions["clip_id"].duplicated()]):
        raise CourseError(
            f"{len(twice)} clips stand twice among the predictions, such as {twice.iloc[0]!r}; score them once."
        )


def _matrices(predictions: pd.DataFrame, group) -> tuple[list[str], np.ndarray]:
    """Classes, and the confusion matrix of every group [shape=(n_groups, n_classes, n_classes)], labels in rows."""
    _once(predictions)
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    true, guess = (pd.Categorical(predictions[column], classes).codes for column in ("label", "predicted"))
    member = _members(group, len(predictions))
    matrices = np.zeros((member.max() + 1, len(classes), len(classes)))
    np.add.at(matrices, (member, true, guess), 1)
    return classes, matrices


def _parts(matrix: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of every class [shape=(..., 3, n_classes)] of confusion matrices; NaN: no meaning."""
    hits, labelled, guessed = np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)
    return np.stack([hits / guessed, hits / labelled, 2 * hits / (guessed + labelled)], axis=-2)


def _macro(matrix: np.ndarray) -> np.ndarray:
    # A class without a labelled clip takes no part; one that is never predicted counts 0.
    present = matrix.sum(axis=-1, keepdims=True).swapaxes(-1, -2) > 0
    macro = np.where(present, np.nan_to_num(_parts(matrix)), 0).sum(axis=-1) / present.sum(axis=-1)
    precision, recall, f1 = np.moveaxis(macro, -1, 0)
    accuracy = np.trace(matrix, axis1=-2, axis2=-1) / matrix.sum(axis=(-2, -1))
    return np.stack([accuracy, f1, precision, recall], axis=-1)


def score(predictions: pd.DataFrame, group=None) -> dict[str, dict]:
    """Accuracy and macro F1, precision and recall: {name: {"value", "low", "high", "n"}}.

    `group` [shape=(n,)] is that of each row. With several rounds also `accuracy_per_fold`: mean over rounds, mean minus
    and plus one standard deviation (over rounds, ddof=1), number of rounds. Macro: over classes that occur as labels.
    """
    matrices = _matrices(predictions, group)[1]
    parts = _interval(_macro, matrices, matrices.sum(axis=(1, 2))[:, np.newaxis])
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
    hits = np.diagonal(matrices, axis1=1, axis2=2)
    table = pd.DataFrame({"n": whole.sum(axis=1), "predicted": whole.sum(axis=0)}, classes, dtype=int)
    value, low, high = _interval(_parts, matrices, np.stack([guessed, labelled, guessed + labelled - hits], axis=1))
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


def difference(one: pd.DataFrame, other: pd.DataFrame, group=None, metric: str = "accuracy") -> dict:
    """Accuracy, or another metric, of `one` minus that of `other` on the clips both saw; `group` maps clip_id to group.

    Two intervals that overlap say little about a difference; on the same clips the difference itself has a spread.
    Student's t is that of the groups on which the two differ: the others speak for neither.
    """
    for table in (one, other):
        _once(table)
    both = one.merge(other, on="clip_id", suffixes=("_one", "_other"))
    if not len(both):
        raise CourseError("The two tables of predictions have no clip in common.")
    member = _members(None if group is None else both["clip_id"].map(group), len(both))
    classes = pd.unique(both[["label_one", "predicted_one", "label_other", "predicted_other"]].to_numpy().ravel())
    matrices = np.zeros((member.max() + 1, 2, len(classes), len(classes)))
    for number, who in enumerate(("one", "other")):
        true, guess = (pd.Categorical(both[f"{what}_{who}"], classes).codes for what in ("label", "predicted"))
        np.add.at(matrices, (member, number, true, guess), 1)
    size, total, column = matrices[:, 0].sum(axis=(1, 2)), matrices.sum(axis=0), _METRICS.index(metric)
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing is left without the only group
        value, without = (np.subtract(*np.moveaxis(_macro(of)[..., column], -1, 0)) for of in (total, total - matrices))
    hits = np.trace(matrices, axis1=2, axis2=3)
    differ = hits[:, 0] != hits[:, 1] if metric == "accuracy" else (matrices[:, 0] != matrices[:, 1]).any(axis=(1, 2))
    variance, t_all, effective, few = _spread(value, without, size)
    _, t, _, _ = _spread(value, without, np.where(differ, size, 0))
    low, high = value - t * np.sqrt(variance), value + t * np.sqrt(variance)
    if variance <= 1e-15:  # they differ nowhere, or everywhere alike
        ends = _wilson(abs(value), variance, t_all, effective, len(both))
        low, high = sorted(np.sign(value) * np.array(ends)) if value else (-ends[1], ends[1])
    low, high = (np.nan, np.nan) if few else np.clip((low, high), -1, 1)
    return {"value": float(value), "low": float(low), "high": float(high), "n": len(both)}


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
    """Write a metric as `61.2 % (55.0 to 67.1, n = 240)`, a difference in "points" as `+6.0 points (+1.3 to ...`.

    Without an interval: `61.2 % (too few groups, n = 24)`. `n` is left out where the metric has none.
    """
    sign = "+" if unit == "points" else ""
    value, low, high = (f"{100 * metric[part]:{sign}.1f}" for part in ("value", "low", "high"))
    ends = f"{low} to {high}" if metric["low"] == metric["low"] else "too few groups"
    n = f", n = {metric['n']}" if "n" in metric else ""
    return f"{value} {unit} ({ends}{n})"


def precision_at(predictions: pd.DataFrame, k: int = 3) -> np.ndarray:
    """Average precision of each clip's `k` likeliest classes [shape=(n,)]: 1, 1/2, ... 1/k by the rank of its label.

    Their mean is the mAP@k of clips with one label each; 0 where the label is not among the `k`.
    """
    p = predictions.filter(regex="^p_")
    order = np.argsort(-p.to_numpy(), axis=1, kind="stable")
    ranked = p.columns.str[2:].to_numpy(object)[order] == predictions["label"].to_numpy(object)[:, np.newaxis]
    return (ranked[:, :k] / np.arange(1, min(k, p.shape[1]) + 1)).sum(axis=1)
