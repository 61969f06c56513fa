"""Scores class by class, each with its spread."""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers import evaluation

PARTS = ("precision", "recall", "f1")


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
    Percentile bootstrap (Efron and Tibshirani 1993). Used by notebooks 01 and 06.
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

    Used by notebook 01.
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


def _parts(hits: np.ndarray, guessed: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([hits / guessed, hits / labelled, 2 * hits / (guessed + labelled)])


def _quantiles(column: np.ndarray, tail: float) -> tuple[float, float]:
    known = column[~np.isnan(column)]
    return tuple(np.quantile(known, [tail, 1 - tail])) if len(known) else (np.nan, np.nan)
