"""Scores per class against scikit-learn, and intervals against what is known of a proportion."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_fscore_support

from helpers import report


def predictions(n=300, seed=1):
    rng = np.random.default_rng(seed)
    label = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(n) < 0.7, label, rng.choice(["a", "b", "c", "d"], n))
    return pd.DataFrame({"label": label, "predicted": predicted})


def test_values_are_those_of_scikit_learn():
    table = predictions()
    expected = precision_recall_fscore_support(
        table["label"], table["predicted"], labels=["a", "b", "c", "d"], zero_division=np.nan
    )
    result = report.per_class(table, n_boot=10)
    for name, values in zip(report.PARTS, expected, strict=False):
        np.testing.assert_allclose(result[name], values)
    np.testing.assert_array_equal(result["n"], expected[3])
    # No clip has the label d: a recall of d means nothing, and is not shown as zero.
    assert np.isnan(result.loc["d", "recall"]) and report.readable(result).loc["d", "recall"] == "- (n = 0)"


def test_the_interval_of_a_recall_has_the_width_of_a_binomial_proportion():
    table = pd.DataFrame({"label": "a", "predicted": ["a"] * 140 + ["b"] * 60})
    row = report.per_class(table, n_boot=4000).loc["a"]
    half = 1.96 * np.sqrt(0.7 * 0.3 / 200)
    assert row["recall_low"] == pytest.approx(0.7 - half, abs=0.01)
    assert row["recall_high"] == pytest.approx(0.7 + half, abs=0.01)


def test_clips_of_one_group_count_as_one_observation():
    once = pd.DataFrame({"label": "a", "predicted": ["a"] * 14 + ["b"] * 6})
    ten_times = pd.concat([once] * 10, ignore_index=True)
    alone = report.per_class(once).loc["a", ["recall_low", "recall_high"]]
    grouped = report.per_class(ten_times, group=np.tile(np.arange(20), 10)).loc["a", ["recall_low", "recall_high"]]
    np.testing.assert_allclose(grouped.astype(float), alone.astype(float))
