"""Scores per class against scikit-learn, intervals and tests against what is known of proportions."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact
from sklearn.metrics import precision_recall_fscore_support

from helpers import report
from helpers.base import CourseError


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


def said(*rows):
    """A table from (label, predicted, clips), and the speaker of each clip if a row has a fourth part."""
    table = pd.DataFrame([row[:2] for row in rows for _ in range(row[2])], columns=["label", "predicted"])
    return table, np.array([row[3] for row in rows if len(row) > 3 for _ in range(row[2])])


def test_pairs_are_counted_by_hand():
    table, _ = said(
        ("go", "no", 7), ("no", "go", 1), ("go", "go", 93), ("no", "no", 49), ("up", "no", 2), ("up", "up", 8)
    )
    table = pd.concat([table, said(("up", "off", 3))[0]])  # no clip has the label "off"
    pairs = report.confused_pairs(table.sample(frac=1, random_state=0))
    columns = ["one", "other", "one_as_other", "other_as_one", "n_one", "n_other", "total"]
    assert pairs[columns].to_numpy().tolist() == [
        ["go", "no", 7, 1, 100, 50, 8],
        ["off", "up", 0, 3, 0, 13, 3],
        ["no", "up", 0, 2, 50, 13, 2],
    ]
    p_go, p_up = fisher_exact([[7, 93], [1, 49]]).pvalue, fisher_exact([[0, 50], [2, 11]]).pvalue
    np.testing.assert_allclose(pairs["p"], [p_go, np.nan, p_up])
    assert p_up < p_go
    np.testing.assert_allclose(pairs["p_holm"], [max(2 * p_up, p_go), np.nan, 2 * p_up])


def test_holm_by_hand():
    p = np.array([0.01, 0.04, 0.03, 0.005, 0.9])
    # In order: 5 x 0.005, 4 x 0.01, 3 x 0.03, 2 x 0.04 (below the one before it), 0.9.
    np.testing.assert_allclose(report._holm(p), [0.04, 0.09, 0.09, 0.025, 0.9])
    np.testing.assert_allclose(report._holm(np.array([0.5, 0.6])), [1, 1])


def balanced(confusions_of_speakers, n=10):
    """Each speaker says each of two words n times; so and so often `go` is heard as `no`, and the reverse."""
    rows = []
    for speaker, (there, back) in enumerate(confusions_of_speakers):
        rows += [("go", "no", there, speaker), ("go", "go", n - there, speaker)]
        rows += [("no", "go", back, speaker), ("no", "no", n - back, speaker)]
    return said(*rows)


def test_asymmetry_is_found_where_it_is():
    table, speaker = balanced([(3, 0)] * 20)
    assert report.confused_pairs(table)["p_holm"].item() < 1e-6
    # One of 10,001 flips is what was seen; that all other draws flip all 20 signs alike is next to impossible.
    assert report.confused_pairs(table, speaker)["p_holm"].item() == pytest.approx(1 / 10_001, abs=2e-4)
    table, speaker = balanced([(3, 3)] * 20)
    for group in (None, speaker):
        assert report.confused_pairs(table, group)["p"].item() == 1


def test_a_single_speaker_does_not_make_an_asymmetry():
    table, speaker = balanced([(10, 0)] + [(0, 0)] * 19)
    assert report.confused_pairs(table)["p"].item() < 0.01
    assert report.confused_pairs(table, speaker)["p"].item() > 0.4


def test_few_groups_try_every_flip():
    # Groups of the same size: their parts are proportional to the difference of their confusions.
    differences = np.array([4, 3, 5, 2, -1, 6])
    table, speaker = balanced([(max(d, 0), max(-d, 0)) for d in differences])
    flips = np.array(list(itertools.product([1, -1], repeat=6)))
    expected = np.mean(np.abs(flips @ differences) >= differences.sum())
    assert 0.01 < expected < 0.5
    assert report.confused_pairs(table, speaker)["p"].item() == pytest.approx(expected)
    # The same among more groups, by draws: the other speakers confuse nothing.
    table, speaker = balanced([(max(d, 0), max(-d, 0)) for d in differences] + [(0, 0)] * 10)
    assert report.confused_pairs(table, speaker)["p"].item() == pytest.approx(expected, abs=0.01)


def test_equal_rates_are_seldom_taken_for_unequal_ones():
    """Speakers differ, and one word is rarer: the share of false findings at 5 % stays near 5 %."""
    rng = np.random.default_rng(0)
    found = {"alone": 0, "grouped": 0}
    for _ in range(100):
        rows = []
        for speaker, (n_go, n_no) in enumerate(rng.poisson([5, 3], (40, 2))):
            for label, other, n in (("go", "no", n_go), ("no", "go", n_no)):
                taken = rng.binomial(n, rng.beta(0.1, 0.9))
                rows += [(label, other, taken, speaker), (label, label, n - taken, speaker)]
        table, speaker = said(*rows)
        found["alone"] += report.confused_pairs(table)["p"].item() < 0.05
        found["grouped"] += report.confused_pairs(table, speaker, n_flips=499)["p"].item() < 0.05
    assert found["grouped"] <= 11 < found["alone"]  # 12 of 100 or more at a rate of 5 %: once in 230 times


def test_pairs_of_nothing():
    table, _ = said(("go", "go", 5), ("no", "no", 5))
    assert len(report.confused_pairs(table)) == 0 and "p_holm" in report.confused_pairs(table, np.zeros(10))


@pytest.mark.parametrize(("arguments", "message"), [({"group": [1, 2]}, "2 groups"), ({"n_flips": 0}, "at least 1")])
def test_bad_input(arguments, message):
    with pytest.raises(CourseError, match=message):
        report.confused_pairs(predictions(), **arguments)
