"""Scores against scikit-learn, their intervals and tests against what is known of proportions."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact, norm
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from helpers import scores
from helpers.base import CourseError


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(300) < 0.7, label, rng.choice(["a", "b", "c", "d"], 300))
    fold = np.repeat(["fold1", "fold2", "fold3"], 100)
    return pd.DataFrame({"clip_id": np.arange(300).astype(str), "label": label, "predicted": predicted, "fold": fold})


def wilson(k, n):
    """Wilson 1927, written out."""
    z, p = norm.ppf(0.975), k / n
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)


def ends(metric):
    return metric["low"], metric["high"]


def test_scores_equal_scikit_learns(predictions):
    result = scores.score(predictions)
    true, guess = predictions["label"], predictions["predicted"]
    options = dict(labels=["a", "b", "c"], average="macro", zero_division=0)  # "d" occurs in no label
    precision, recall, f1, _ = precision_recall_fscore_support(true, guess, **options)
    expected = {"accuracy": accuracy_score(true, guess), "macro_f1": f1}
    expected |= {"macro_precision": precision, "macro_recall": recall}
    assert {name: result[name]["value"] for name in expected} == pytest.approx(expected)
    assert result["accuracy"]["n"] == 300
    hits = (true == guess).to_numpy().reshape(3, 100).mean(axis=1)
    spread = {"value": hits.mean(), "low": hits.mean() - hits.std(ddof=1), "high": hits.mean() + hits.std(ddof=1)}
    assert result["accuracy_per_fold"] == pytest.approx(spread | {"n": 3})


def test_classes_have_the_values_of_scikit_learn(predictions):
    expected = precision_recall_fscore_support(
        predictions["label"], predictions["predicted"], labels=["a", "b", "c", "d"], zero_division=np.nan
    )
    result = scores.per_class(predictions)
    for name, values in zip(("precision", "recall", "f1", "n"), expected, strict=True):
        np.testing.assert_allclose(result[name], values)
    # No clip has the label d: a recall of d means nothing, and is not shown as zero.
    assert np.isnan(result.loc["d", "recall"]) and scores.readable(result).loc["d", "recall"] == "- (n = 0)"
    assert f"n = {(predictions['predicted'] == 'd').sum()})" in scores.readable(result).loc["d", "precision"]


def test_the_interval_of_accuracy_is_the_binomial_one(predictions):
    accuracy = scores.score(predictions)["accuracy"]
    error = 1.96 * np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 300)
    assert accuracy["low"] == pytest.approx(accuracy["value"] - error, abs=0.01)
    assert accuracy["high"] == pytest.approx(accuracy["value"] + error, abs=0.01)


def test_clips_that_stand_or_fall_together_widen_the_interval():
    hit = np.repeat(np.random.default_rng(1).random(30) < 0.5, 10)  # 30 sources of 10 equal clips
    group = np.repeat(np.arange(30), 10)
    table = pd.DataFrame(
        {"clip_id": np.arange(300), "label": "a", "predicted": np.where(hit, "a", "b"), "fold": "split"}
    )
    wrong = table.assign(predicted="b")
    for alone, grouped in [
        (scores.score(table)["accuracy"], scores.score(table, group)["accuracy"]),
        (scores.difference(table, wrong), scores.difference(table, wrong, pd.Series(group))),
    ]:
        width = [metric["high"] - metric["low"] for metric in (alone, grouped)]
        assert width[1] == pytest.approx(width[0] * np.sqrt(10), rel=0.25)


def test_rows_without_a_group_are_groups_of_their_own(predictions):
    alone = scores.score(predictions)["accuracy"]
    for missing in (None, np.nan):
        nobody = scores.score(predictions, np.array([missing] * 300, dtype=object))["accuracy"]
        assert nobody["high"] - nobody["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.2)
    assert len(set(scores._members(np.array(["a", None, "a", None], dtype=object), 4))) == 3
    with pytest.raises(CourseError, match="2 groups"):
        scores.score(predictions, [1, 2])


def test_paired_difference_counts_matched_clips(predictions):
    result = scores.difference(predictions.assign(predicted=predictions["label"]), predictions)
    assert result["value"] == pytest.approx((predictions["label"] != predictions["predicted"]).mean())
    assert 0 < result["low"] < result["value"] < result["high"]
    shuffled = predictions.sample(frac=1, random_state=0, ignore_index=True)
    assert scores.difference(predictions, shuffled) == {"value": 0, "low": 0, "high": 0, "n": 300}


def test_prediction_table_names_the_largest_column_and_scores_nothing_that_is_no_number(manifest):
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    table = scores.prediction_table(manifest, np.array([3, 5]), probabilities, ["a", "b", "c"], "fold1")
    assert table["clip_id"].tolist() == ["clip03", "clip05"]
    assert table["predicted"].tolist() == ["b", "a"]
    assert list(table.columns) == ["clip_id", "label", "predicted", "fold", "p_a", "p_b", "p_c"]
    probabilities[1] = np.nan
    with pytest.raises(CourseError, match="round fold3: the probabilities of 1 of 2 clips are not numbers"):
        scores.prediction_table(manifest, [3, 5], probabilities, ["a", "b", "c"], "fold3")


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
        ("go", "no", 12), ("no", "go", 1), ("go", "go", 88), ("no", "no", 49), ("up", "no", 2), ("up", "up", 8)
    )
    table = pd.concat([table, said(("up", "off", 3))[0]])  # no clip has the label "off"
    pairs = scores.confused_pairs(table.sample(frac=1, random_state=0))
    columns = ["one", "other", "one_as_other", "other_as_one", "n_one", "n_other", "total"]
    assert pairs[columns].to_numpy().tolist() == [
        ["go", "no", 12, 1, 100, 50, 13],
        ["off", "up", 0, 3, 0, 13, 3],
        ["no", "up", 0, 2, 50, 13, 2],
    ]
    p_go, p_up = fisher_exact([[12, 88], [1, 49]]).pvalue, fisher_exact([[0, 50], [2, 11]]).pvalue
    np.testing.assert_allclose(pairs["p"], [p_go, np.nan, p_up])
    assert p_up < p_go < 2 * p_up
    np.testing.assert_allclose(pairs["p_holm"], [2 * p_up, np.nan, 2 * p_up])
    table, speaker = said(("go", "go", 5, "x"), ("no", "no", 5, "y"))
    for group in (None, speaker):
        nothing = scores.confused_pairs(table, group)
        assert len(nothing) == 0 and list(nothing) == list(pairs)


def balanced(confusions_of_speakers, n=10):
    """Each speaker says each of two words n times; so and so often `go` is heard as `no`, and the reverse."""
    rows = []
    for speaker, (there, back) in enumerate(confusions_of_speakers):
        rows += [("go", "no", there, speaker), ("go", "go", n - there, speaker)]
        rows += [("no", "go", back, speaker), ("no", "no", n - back, speaker)]
    return said(*rows)


def test_asymmetry_is_found_where_it_is_and_not_in_a_single_speaker():
    table, speaker = balanced([(3, 0)] * 20)
    assert scores.confused_pairs(table)["p_holm"].item() < 1e-6
    # One of 10,001 flips is what was seen; that all other draws flip all 20 signs alike is next to impossible.
    assert scores.confused_pairs(table, speaker)["p_holm"].item() == pytest.approx(1 / 10_001, abs=2e-4)
    table, speaker = balanced([(3, 3)] * 20)
    for group in (None, speaker):
        assert scores.confused_pairs(table, group)["p"].item() == 1
    table, speaker = balanced([(10, 0)] + [(0, 0)] * 19)
    assert scores.confused_pairs(table)["p"].item() < 0.01
    assert scores.confused_pairs(table, speaker)["p"].item() > 0.4
    # All ten speakers err alike, but the other word was said twice: flips alone would find 2 in 1,024.
    rare = [("go", "no", 1, speaker) for speaker in range(10)] + [("go", "go", 9, speaker) for speaker in range(10)]
    table, speaker = said(*rare, ("no", "no", 2, 0))
    assert scores.confused_pairs(table, speaker)["p"].item() == fisher_exact([[10, 90], [0, 2]]).pvalue


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
    assert ends(scores.mean(np.ones(5), share=False)) == (1, 1)
    values = np.random.default_rng(0).normal(3, 2, size=(500, 4))
    found, half = scores.mean(values), 1.96 * values.std(axis=0, ddof=1) / np.sqrt(500)
    np.testing.assert_allclose(found["high"] - found["value"], half, rtol=0.15)
    np.testing.assert_allclose(found["value"] - found["low"], half, rtol=0.15)


def test_metrics_are_written_with_their_unit():
    gain = {"value": -0.0123, "low": -0.05, "high": 0.004, "n": 12}
    assert scores.shown(gain, "points") == "-1.2 points (-5.0 to +0.4, n = 12)"
    assert scores.shown(gain | {"value": 0.5}) == "50.0 % (-5.0 to 0.4, n = 12)"
