"""Scores with their spread, from one table of predictions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

METRICS = ("accuracy", "macro_f1", "macro_precision", "macro_recall")


def prediction_table(
    manifest: pd.DataFrame, rows: np.ndarray, probabilities: np.ndarray, classes: list[str], fold: str
) -> pd.DataFrame:
    """Put what a model said about some clips into the table every run keeps.

    Parameters
    ----------
    manifest : pandas.DataFrame
    rows : np.ndarray [shape=(n,)]
        Positions in the manifest of the clips that were scored.
    probabilities : np.ndarray [shape=(n, n_classes)]
    classes : list of str
        Names of the columns of `probabilities`.
    fold : str
        Name of the round in which these clips were test data.

    Returns
    -------
    pandas.DataFrame
        clip_id, label, predicted, fold, and p_<class> for every class.

    Notes
    -----
    Used by notebooks 01, 02, 06 and 07, and by 03, 04 and 05 through `helpers.training`.
    """
    clips = manifest.iloc[rows]
    table = pd.DataFrame(
        {
            "clip_id": clips["clip_id"].to_numpy(),
            "label": clips["label"].to_numpy(),
            "predicted": np.asarray(classes, dtype=object)[probabilities.argmax(axis=1)],
            "fold": fold,
        }
    )
    columns = pd.DataFrame(np.asarray(probabilities, dtype=np.float64), columns=[f"p_{name}" for name in classes])
    return pd.concat([table, columns], axis=1)


def in_columns(probabilities: np.ndarray, present: list[str], classes: list[str]) -> np.ndarray:
    """Spread the columns of a model that saw only some classes over all classes; the others get probability 0.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n, n_present)]
    present : list of str
        Class of each column, such as a scikit-learn model's `classes_`.
    classes : list of str
        All classes, in the order wanted.

    Returns
    -------
    np.ndarray [shape=(n, n_classes)]

    Notes
    -----
    Used by notebooks 02, 04, 05 and 06.
    """
    return pd.DataFrame(probabilities, columns=list(present)).reindex(columns=classes, fill_value=0.0).to_numpy()


def confusion(label: np.ndarray, predicted: np.ndarray, classes: list[str]) -> np.ndarray:
    """Count how often each class (row) was predicted as each class (column).

    Returns
    -------
    np.ndarray [shape=(n_classes, n_classes), dtype=float64]

    Notes
    -----
    Equal to `sklearn.metrics.confusion_matrix`. Used by notebooks 01, 03, 04, 05, 06 and 07
    through `helpers.plots.confusion`.
    """
    number = {name: position for position, name in enumerate(classes)}
    true = np.array([number[name] for name in label])
    guess = np.array([number[name] for name in predicted])
    return _count(true * len(classes) + guess, len(classes))


def score(
    predictions: pd.DataFrame,
    group: np.ndarray | None = None,
    n_boot: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict]:
    """Accuracy and macro precision, recall and F1, each with a bootstrap interval and its n.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As made by `prediction_table`; the rows of all rounds together.
    group : np.ndarray [shape=(n,)], optional
        Source, speaker... of each row; a missing one is a group of its own. Whole groups are drawn, since clips of
        one source stand or fall together and drawing them one by one would make the interval too narrow.
    n_boot : int
        Number of resamples.
    seed : int
    confidence : float
        Mass inside the interval.

    Returns
    -------
    dict
        {name: {"value", "low", "high", "n"}}. With several rounds, `accuracy_per_fold` has the mean over rounds as
        value, mean minus and plus one standard deviation (over rounds, ddof=1) as low and high, and the rounds as n.

    Notes
    -----
    Percentile bootstrap (Efron and Tibshirani 1993). Macro averages are taken over the classes that occur among the
    labels; a class never predicted counts 0. Used by every notebook.
    """
    classes = sorted(set(predictions["label"]) | set(predictions["predicted"]))
    number = {name: position for position, name in enumerate(classes)}
    true = predictions["label"].map(number).to_numpy()
    guess = predictions["predicted"].map(number).to_numpy()
    cell = true * len(classes) + guess
    values = _metrics(_count(cell, len(classes)))

    member = members(group, len(true))
    draws = np.empty((n_boot, len(METRICS)))
    for draw, times in enumerate(group_draws(member, n_boot, seed)):
        draws[draw] = _metrics(_count(cell, len(classes), times[member].astype(float)))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    result = {
        name: {"value": float(values[i]), "low": float(low[i]), "high": float(high[i]), "n": len(true)}
        for i, name in enumerate(METRICS)
    }
    folds = (predictions["label"] == predictions["predicted"]).groupby(predictions["fold"]).mean()
    if len(folds) > 1:
        mean, deviation = float(folds.mean()), float(folds.std(ddof=1))
        result["accuracy_per_fold"] = {
            "value": mean,
            "low": mean - deviation,
            "high": mean + deviation,
            "n": len(folds),
        }
    return result


def members(group: np.ndarray | None, n: int) -> np.ndarray:
    """Number the groups of `n` rows; rows without a group are groups of their own.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=int64]

    Notes
    -----
    Used by `score` and `helpers.report`.
    """
    names = pd.Series(np.arange(n) if group is None else np.asarray(group, dtype=object))
    alone = names.isna()
    names = names.where(~alone, "row " + pd.Series(np.arange(n)).astype(str))
    return np.unique(names.astype(str), return_inverse=True)[1]


def group_draws(member: np.ndarray, n_boot: int, seed: int) -> Iterator[np.ndarray]:
    """Draw whole groups with replacement, `n_boot` times.

    Yields
    ------
    np.ndarray [shape=(n_groups,), dtype=int64]
        How many times each group was drawn.

    Notes
    -----
    Used by `score` and `helpers.report`.
    """
    n_groups = member.max() + 1
    rng = np.random.default_rng(seed)
    for _ in range(n_boot):
        yield np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)


def paired_difference(
    one: pd.DataFrame, other: pd.DataFrame, group: pd.Series | dict | None = None, n_boot: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Accuracy of `one` minus that of `other` on the clips both have seen, with a 95 % bootstrap interval.

    Two intervals that overlap say little about a difference; on the same clips the difference itself can be resampled.

    Parameters
    ----------
    one, other : pandas.DataFrame
        Prediction tables; rows are matched by clip_id.
    group : pandas.Series or dict, optional
        Group by clip_id; whole groups are drawn.
    n_boot, seed : int

    Returns
    -------
    dict
        {"value", "low", "high", "n"} in accuracy (0..1).

    Notes
    -----
    Used by notebooks 01, 02, 03, 04, 05, 06, 07 and 10.
    """
    both = one.merge(other, on="clip_id", suffixes=("_one", "_other"))
    gain = (both["predicted_one"] == both["label_one"]).astype(float) - (both["predicted_other"] == both["label_other"])
    names = both["clip_id"] if group is None else both["clip_id"].map(group).fillna(both["clip_id"])
    per_group = gain.groupby(names.to_numpy()).agg(["sum", "count"]).to_numpy()
    drawn = np.random.default_rng(seed).integers(len(per_group), size=(n_boot, len(per_group)))
    sums = per_group[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return {"value": float(gain.mean()), "low": float(low), "high": float(high), "n": len(both)}


def shown(metric: dict) -> str:
    """Write a metric as text: `61.2 % (55.0 to 67.1, n = 240)`."""
    value, low, high = (f"{100 * metric[part]:.1f}" for part in ("value", "low", "high"))
    return f"{value} % ({low} to {high}, n = {metric['n']})"


def points(gain: dict) -> str:
    """Write a difference of accuracies as text: `+6.0 points (+1.3 to +10.6, n = 400)`.

    Used by notebooks 03, 04, 06, 07 and 10.
    """
    value, low, high = (f"{100 * gain[part]:+.1f}" for part in ("value", "low", "high"))
    return f"{value} points ({low} to {high}, n = {gain['n']})"


def _count(cell: np.ndarray, n_classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    return np.bincount(cell, weights=weights, minlength=n_classes**2).reshape(n_classes, n_classes).astype(float)


def _metrics(matrix: np.ndarray) -> tuple[float, float, float, float]:
    # A class without a labelled clip (in a bootstrap draw, say) takes no part: it has no recall to average.
    hits, labelled, guessed = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    present = labelled > 0
    precision = (hits / np.maximum(guessed, 1))[present]
    recall = (hits / np.maximum(labelled, 1))[present]
    f1 = (2 * hits / np.maximum(labelled + guessed, 1))[present]
    return hits.sum() / matrix.sum(), f1.mean(), precision.mean(), recall.mean()
