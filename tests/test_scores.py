"""Scores against scikit-learn, their intervals and tests against what is known of proportions."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact, norm
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
)

from helpers import scores
from helpers.base import CourseError


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(300) < 0.7, label, rng.choice(["a", "b", "c", "d"], 300))
    fold = np.repeat(["fold1", "fold2", "fold3"], 100)
    return pd.DataFrame({"clip_id": np.arange(300).astype(str), "label": label, "predicted": predicted, "fold": fold})


def test_scores_equal_scikit_learns(predictions):
    result = scores.score(predictions)
    true, guess = predictions["label"], predictions["predicted"]
    options = dict(labels=["a", "b", "c"], average="macro", zero_division=0)  # "d" occurs in no label
    assert result["accuracy"]["value"] == pytest.approx(accuracy_score(true, guess))
    assert result["macro_f1"]["value"] == pytest.approx(f1_score(true, guess, **options))
    assert result["macro_precision"]["value"] == pytest.approx(precision_score(true, guess, **options))
    assert result["macro_recall"]["value"] == pytest.approx(recall_score(true, guess, **options))
    assert result["accuracy"]["n"] == 300


def test_the_interval_of_accuracy_is_the_binomial_one(predictions):
    accuracy = scores.score(predictions)["accuracy"]
    error = 1.96 * np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 300)
    assert accuracy["low"] == pytest.approx(accuracy["value"] - error, abs=0.01)
    assert accuracy["high"] == pytest.approx(accuracy["value"] + error, abs=0.01)


def test_clips_that_stand_or_fall_together_widen_the_interval():
    hit = np.repeat(np.random.default_rng(1).random(30) < 0.5, 10)  # 30 sources of 10 equal clips
    table = pd.DataFrame(
        {"clip_id": np.arange(300), "label": "a", "predicted": np.where(hit, "a", "b"), "fold": "split"}
    )
    alone, grouped = scores.score(table), scores.score(table, np.repeat(np.arange(30), 10))
    width = [score["accuracy"]["high"] - score["accuracy"]["low"] for score in (alone, grouped)]
    assert width[1] == pytest.approx(width[0] * np.sqrt(10), rel=0.25)


def test_rows_without_a_group_are_groups_of_their_own(predictions):
    alone = scores.score(predictions)["accuracy"]
    for missing in (None, np.nan):
        nobody = scores.score(predictions, np.array([missing] * 300, dtype=object))["accuracy"]
        assert nobody["high"] - nobody["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.2)
    assert scores._members(np.array(["a", None, "a", None], dtype=object), 4).tolist() in (
        [0, 1, 0, 2],
        [0, 2, 0, 1],
    )


def test_spread_over_folds(predictions):
    hits = (predictions["label"] == predictions["predicted"]).to_numpy().reshape(3, 100).mean(axis=1)
    result = scores.score(predictions)["accuracy_per_fold"]
    assert result["value"] == pytest.approx(hits.mean())
    assert result["high"] - result["value"] == pytest.approx(hits.std(ddof=1))
    assert result["n"] == 3


def test_paired_difference_of_a_table_with_itself_is_zero(predictions):
    result = scores.difference(predictions, predictions)
    assert (result["value"], result["low"], result["high"], result["n"]) == (0, 0, 0, 300)


def test_paired_difference_counts_matched_clips(predictions):
    perfect = predictions.assign(predicted=predictions["label"]).sample(frac=1, random_state=0)
    result = scores.difference(perfect, predictions)
    assert result["value"] == pytest.approx((predictions["label"] != predictions["predicted"]).mean())
    assert 0 < result["low"] < result["value"] < result["high"]


def test_prediction_table_names_the_largest_column(manifest):
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    table = scores.prediction_table(manifest, np.array([3, 5]), probabilities, ["a", "b", "c"], "fold1")
    assert table["clip_id"].tolist() == ["clip03", "clip05"]
    assert table["predicted"].tolist() == ["b", "a"]
    assert list(table.columns) == ["clip_id", "label", "predicted", "fold", "p_a", "p_b", "p_c"]


def test_columns_of_a_model_that_missed_a_class_are_put_in_place():
    spread = scores.in_columns(np.array([[0.25, 0.75]]), ["c", "a"], ["a", "b", "c"])
    assert spread.tolist() == [[0.75, 0.0, 0.25]]


def test_clips_of_one_group_count_as_one_observation():
    once = pd.DataFrame({"label": "a", "predicted": ["a"] * 14 + ["b"] * 6})
    ten_times = pd.concat([once] * 10, ignore_index=True)
    alone = scores.per_class(once).loc["a", ["recall_low", "recall_high"]]
    grouped = scores.per_class(ten_times, group=np.tile(np.arange(20), 10)).loc["a", ["recall_low", "recall_high"]]
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
    pairs = scores.confused_pairs(table.sample(frac=1, random_state=0))
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


def balanced(confusions_of_speakers, n=10):
    """Each speaker says each of two words n times; so and so often `go` is heard as `no`, and the reverse."""
    rows = []
    for speaker, (there, back) in enumerate(confusions_of_speakers):
        rows += [("go", "no", there, speaker), ("go", "go", n - there, speaker)]
        rows += [("no", "go", back, speaker), ("no", "no", n - back, speaker)]
    return said(*rows)


def test_asymmetry_is_found_where_it_is():
    table, speaker = balanced([(3, 0)] * 20)
    assert scores.confused_pairs(table)["p_holm"].item() < 1e-6
    # One of 10,001 flips is what was seen; that all other draws flip all 20 signs alike is next to impossible.
    assert scores.confused_pairs(table, speaker)["p_holm"].item() == pytest.approx(1 / 10_001, abs=2e-4)
    table, speaker = balanced([(3, 3)] * 20)
    for group in (None, speaker):
        assert scores.confused_pairs(table, group)["p"].item() == 1


def test_a_single_speaker_does_not_make_an_asymmetry():
    table, speaker = balanced([(10, 0)] + [(0, 0)] * 19)
    assert scores.confused_pairs(table)["p"].item() < 0.01
    assert scores.confused_pairs(table, speaker)["p"].item() > 0.4


def test_few_groups_try_every_flip():
    # Groups of the same size: their parts are proportional to the difference of their confusions.
    differences = np.array([4, 3, 5, 2, -1, 6])
    table, speaker = balanced([(max(d, 0), max(-d, 0)) for d in differences])
    flips = np.array(list(itertools.product([1, -1], repeat=6)))
    expected = np.mean(np.abs(flips @ differences) >= differences.sum())
    assert 0.01 < expected < 0.5
    assert scores.confused_pairs(table, speaker)["p"].item() == pytest.approx(expected)
    # The same among more groups, by draws: the other speakers confuse nothing.
    table, speaker = balanced([(max(d, 0), max(-d, 0)) for d in differences] + [(0, 0)] * 10)
    assert scores.confused_pairs(table, speaker)["p"].item() == pytest.approx(expected, abs=0.01)


def test_equal_rates_are_seldom_taken_for_unequal_ones():
    """Speakers differ, and one word is rarer: the share of false findings at 5 % stays near 5 %."""
    rng = np.random.default_rng(0)
    found = {"alone": 0, "grouped": 0}
    for _ in range(40):
        rows = []
        for speaker, (n_go, n_no) in enumerate(rng.poisson([5, 3], (40, 2))):
            for label, other, n in (("go", "no", n_go), ("no", "go", n_no)):
                taken = rng.binomial(n, rng.beta(0.1, 0.9))
                rows += [(label, other, taken, speaker), (label, label, n - taken, speaker)]
        table, speaker = said(*rows)
        found["alone"] += scores.confused_pairs(table)["p"].item() < 0.05
        found["grouped"] += scores.confused_pairs(table, speaker)["p"].item() < 0.05
    assert found["grouped"] <= 6 < found["alone"]  # 7 of 40 or more at a rate of 5 %: once in 300 times


def test_pairs_of_nothing():
    table, _ = said(("go", "go", 5), ("no", "no", 5))
    assert len(scores.confused_pairs(table)) == 0 and "p_holm" in scores.confused_pairs(table, np.zeros(10))


def wilson(k, n):
    """Wilson 1927, written out."""
    z, p = norm.ppf(0.975), k / n
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def ends(metric):
    return metric["low"], metric["high"]


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_still_has_a_width(right):
    label = np.array(["a", "b"] * 10)
    predicted = label if right else np.array(["b", "a"] * 10)
    table = pd.DataFrame({"clip_id": range(20), "label": label, "predicted": predicted, "fold": "x"})
    for metric in scores.score(table).values():  # as a notebook prints it, and never "100.0 to 100.0"
        assert ends(metric) == pytest.approx(wilson(20 * right, 20))
    five = scores.score(table, np.arange(20) // 4)["accuracy"]
    assert ends(five) == pytest.approx(wilson(5 * right, 5))  # groups are the observations
    recall = scores.per_class(table, np.arange(20) // 4).loc["a", ["recall_low", "recall_high"]]
    assert tuple(recall) == pytest.approx(wilson(5 * right, 5))
    assert ends(scores.mean(label == predicted)) == pytest.approx(wilson(20 * right, 20))


def test_few_groups_get_wilsons_interval_rounded_outwards():
    hits = np.array([1, 1, 0, 1, 0, 0, 1, 0, 1])  # groups 0, 1, 2: 5 of 9, so 1.67 of 3 groups
    found = scores.mean(hits, np.repeat([0, 1, 2], 3))
    assert ends(found) == pytest.approx((wilson(1, 3)[0], wilson(2, 3)[1]))
    assert found["low"] < found["value"] < found["high"]


def test_a_difference_and_a_level_are_no_shares():
    assert ends(scores.mean(np.ones(10) * 3.5)) == (3.5, 3.5)
    values = np.random.default_rng(0).normal(3, 2, size=(500, 4))
    found, half = scores.mean(values), 1.96 * values.std(axis=0, ddof=1) / np.sqrt(500)
    np.testing.assert_allclose(found["high"] - found["value"], half, rtol=0.15)
    np.testing.assert_allclose(found["value"] - found["low"], half, rtol=0.15)


def test_probabilities_that_are_no_numbers_are_never_scored(manifest):
    with pytest.raises(CourseError, match="round fold3: the probabilities of 1 of 2 clips are not numbers"):
        scores.prediction_table(manifest, [0, 1], np.array([[0.5, 0.5], [np.nan, np.nan]]), ["a", "b"], "fold3")


def test_classes_have_the_values_of_scikit_learn(predictions):
    expected = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=["a", "b", "c", "d"], zero_division=np.nan
    )
    result = scores.per_class(predictions)
    for name, values in zip(scores._PARTS, expected, strict=False):
        np.testing.assert_allclose(result[name], values)
    np.testing.assert_array_equal(result["n"], expected[3])
    # No clip has the label d: a recall of d means nothing, and is not shown as zero.
    assert np.isnan(result.loc["d", "recall"]) and scores.readable(result).loc["d", "recall"] == "- (n = 0)"


def test_metrics_are_written_with_their_unit():
    gain = {"value": -0.0123, "low": -0.05, "high": 0.004, "n": 12}
    assert scores.shown(gain, "points") == "-1.2 points (-5.0 to +0.4, n = 12)"
    assert scores.shown(gain | {"value": 0.5}) == "50.0 % (-5.0 to 0.4, n = 12)"


def test_as_many_groups_as_rows(predictions):
    with pytest.raises(CourseError, match="2 groups"):
        scores.score(predictions, [1, 2])
