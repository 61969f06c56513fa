"""Scores against scikit-learn, their intervals and tests against what is known of proportions."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact, t
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    label_ranking_average_precision_score,
    precision_recall_fscore_support,
)

from helpers import scores
from helpers.base import CourseError

_MACRO = {"average": "macro", "zero_division": 0}


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(300) < 0.7, label, rng.choice(["a", "b", "c", "d"], 300))
    fold = np.repeat(["fold1", "fold2", "fold3"], 100)
    return pd.DataFrame({"clip_id": np.arange(300).astype(str), "label": label, "predicted": predicted, "fold": fold})


def wilson(p, n, z):
    """Wilson 1927, written out."""
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
    assert scores.difference(predictions, shuffled)["value"] == 0


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
        assert ends(metric) == pytest.approx(wilson(right, 20, t.ppf(0.975, 19)))
    five = scores.score(table, np.arange(20) // 4)["accuracy"]
    assert ends(five) == pytest.approx(wilson(right, 5, t.ppf(0.975, 4)))  # groups are the observations
    recall = scores.per_class(table, np.arange(20) // 4).loc["a", ["recall_low", "recall_high"]]
    assert tuple(recall) == pytest.approx(wilson(right, 5, t.ppf(0.975, 4)))
    # Two models that are right about the same clips: how far apart they may be is Wilson's end of 0 of 5.
    alike = scores.difference(table, table, pd.Series(np.arange(20) // 4))
    far = wilson(0, 5, t.ppf(0.975, 4))[1]
    assert (alike["value"], *ends(alike)) == pytest.approx((0, -far, far))
    opposite = scores.difference(table, table.assign(predicted=predicted[::-1]), pd.Series(np.arange(20) // 4))
    assert abs(opposite["value"]) == 1 and 0 < opposite["high"] - opposite["low"] < 1


def test_the_interval_is_wilsons_for_as_many_clips_as_the_jackknife_says():
    rng = np.random.default_rng(3)
    group = np.repeat(np.arange(8), 6)
    hits = rng.random(48) < np.repeat(rng.beta(2, 1, 8), 6)
    p, left = hits.mean(), [hits[group != one].mean() for one in range(8)]
    variance = 7 / 8 * sum((np.array(left) - p) ** 2)  # Efron and Tibshirani 1993, 11.5, around the value itself
    worth = p * (1 - p) / variance
    assert 8 < worth < 48
    assert ends(scores.mean(hits, group)) == pytest.approx(wilson(p, worth, t.ppf(0.975, 7)))
    label = np.where(rng.random(48) < 0.5, "a", "b")
    table = pd.DataFrame({"label": label, "predicted": np.where(hits, label, "c"), "fold": 1})
    options = {"labels": ["a", "b"]} | _MACRO
    without = [f1_score(*table.loc[group != one, ["label", "predicted"]].to_numpy().T, **options) for one in range(8)]
    f1 = f1_score(table["label"], table["predicted"], **options)
    worth = f1 * (1 - f1) / (7 / 8 * sum((np.array(without) - f1) ** 2))
    assert ends(scores.score(table, group)["macro_f1"]) == pytest.approx(wilson(f1, min(48, worth), t.ppf(0.975, 7)))
    # Groups of 1, 1, 1 and 21 clips are hardly more than one (Kish 1965): 24² / 444 = 1.3.
    uneven = scores.mean(hits[:24], np.repeat([0, 1, 2, 3], [1, 1, 1, 21]))
    assert uneven["high"] - uneven["low"] > 0.9


def test_groups_that_are_too_few_get_no_interval():
    table = pd.DataFrame({"clip_id": range(8), "label": list("abab" * 2), "predicted": "a", "fold": "x"})
    two = np.arange(8) // 4
    accuracy, gain = scores.score(table, two)["accuracy"], scores.difference(table, table, pd.Series(two))
    assert scores.shown(accuracy) == "50.0 % (too few groups, n = 8)"
    assert scores.shown(gain, "points") == "+0.0 points (too few groups, n = 8)"
    assert np.isnan(ends(scores.mean(table["label"] == "a", two, share=False))).all()
    classes = scores.per_class(table.assign(label=list("aaaabbbb")), np.arange(8) // 2)  # of each class two groups
    assert classes[["recall_low", "recall_high"]].isna().all(axis=None) and classes["recall"].tolist() == [1, 0]
    assert scores.readable(classes).loc["a", "recall"] == "100.0 % (too few groups, n = 4)"


def test_a_mean_of_shares_may_be_surer_than_its_clips():
    """Of values that hardly differ, Wilson's interval comes close to Student's."""
    values = np.random.default_rng(0).normal(0.5, 0.02, size=200)
    found, half = scores.mean(values), t.ppf(0.975, 199) * values.std(ddof=1) / np.sqrt(200)
    np.testing.assert_allclose(ends(found), (values.mean() - half, values.mean() + half), rtol=1e-4)
    assert scores.mean(values > 0.5)["high"] - scores.mean(values > 0.5)["low"] > 0.1  # shares of clips are not


def test_a_level_is_no_share():
    for alike in (np.ones(5), np.full(10, 0.12), np.full(10, 2.44)):  # nothing is known of their spread
        assert np.isnan(ends(scores.mean(alike, share=False))).all()
    values = np.random.default_rng(0).normal(3, 2, size=(9, 4))
    found = scores.mean(values, share=False)
    half = t.ppf(0.975, 8) * values.std(axis=0, ddof=1) / 3
    np.testing.assert_allclose(ends(found), (values.mean(axis=0) - half, values.mean(axis=0) + half))


def test_what_cannot_be_scored_is_said(predictions):
    for table in (predictions[:0], predictions[:0].assign(p_a=0.5)):
        for how in (scores.score, scores.per_class, lambda empty: scores.difference(empty, predictions)):
            with pytest.raises(CourseError, match="no predictions"):
                how(table)
    twice = pd.concat([predictions, predictions[:2]])
    for how in (scores.score, scores.confused_pairs, lambda table: scores.difference(predictions, table)):
        with pytest.raises(CourseError, match="2 clips stand twice.*'0'"):
            how(twice)
    with pytest.raises(CourseError, match="no clip in common"):
        scores.difference(predictions, predictions.assign(clip_id="x" + predictions["clip_id"]))


def drawn(rng, n_groups, n, accuracy, alike, one_class, even):
    """Predictions of a model whose accuracy differs from group to group; `alike`: correlation inside a group."""
    weights = np.ones(n_groups) if even else rng.gamma(1.0, size=n_groups) + 0.05
    size = 1 + rng.multinomial(n - n_groups, weights / weights.sum())
    group = np.repeat(np.arange(n_groups), size)
    right = rng.beta(accuracy * (1 / alike - 1), (1 - accuracy) * (1 / alike - 1), n_groups)[group]
    label = (group if one_class else rng.integers(4, size=n)) % 4
    predicted = np.where(rng.random(n) < right, label, (label + rng.integers(1, 4, n)) % 4)
    return pd.DataFrame({"label": label, "predicted": predicted, "fold": 1}), group


_MODELS = list(itertools.product([0.6, 0.9], [0.01, 0.1, 0.3], [False, True], [False, True]))


@pytest.mark.parametrize(("n_groups", "n"), [(5, 10), (5, 300), (10, 30), (10, 300), (30, 30), (30, 300)])
def test_the_interval_covers_the_truth(n_groups, n):
    """Of 960 intervals, over 24 kinds of groups, at least 93 % hold the expected accuracy, which is known here."""
    rng = np.random.default_rng(n_groups * n)
    held = []
    for model in _MODELS * 40:
        table, group = drawn(rng, n_groups, n, *model)
        accuracy = scores.mean(table["label"] == table["predicted"], group)
        held.append(accuracy["low"] <= model[0] <= accuracy["high"])
    assert 0.93 <= np.mean(held) <= 0.999


def test_the_interval_of_macro_f1_covers_the_truth():
    rng = np.random.default_rng(0)
    held = {}
    for model in _MODELS:
        table, _ = drawn(rng, 20_000, 400_000, *model)
        truth = f1_score(table["label"], table["predicted"], **_MACRO)
        for n_groups, n in [(5, 30), (10, 300), (30, 100)]:
            for _ in range(6):
                macro_f1 = scores.score(*drawn(rng, n_groups, n, *model))["macro_f1"]
                held.setdefault(n_groups, []).append(macro_f1["low"] <= truth <= macro_f1["high"])
    assert min(map(np.mean, held.values())) >= 0.93


@pytest.mark.parametrize("n_groups", [4, 8, 20])
def test_two_models_that_are_equally_good_seldom_seem_different(n_groups):
    """Each group leans to one of them, in sizes and at rates of its own: at most 7 % of the intervals leave out 0."""
    rng, found = np.random.default_rng(n_groups), []
    for disagree, lean, even in list(itertools.product([0.05, 0.5], [0.02, 0.2, 0.6], [True, False])) * 40:
        size = np.full(n_groups, 20) if even else 1 + rng.poisson(20 * rng.gamma(0.7, 1 / 0.7, n_groups))
        group = np.repeat(np.arange(n_groups), size)
        better = rng.random(len(group)) < rng.beta(*[0.5 * (1 / lean - 1)] * 2, n_groups)[group]
        differ = rng.random(len(group)) < rng.beta(4 * disagree, 4 - 4 * disagree, n_groups)[group]
        one, other = (np.where(differ & (better == wins), "a", "b") for wins in (True, False))
        tables = [pd.DataFrame({"clip_id": range(len(group)), "label": "a", "predicted": who}) for who in (one, other)]
        gain = scores.difference(*tables, pd.Series(group))
        found.append(not gain["low"] <= 0 <= gain["high"])
    assert np.mean(found) <= 0.07


def test_only_groups_on_which_two_models_differ_speak_for_one_of_them():
    """Four of twenty for the one, none for the other: a flip of signs gives p = 2 / 16, and 0 lies in the interval."""
    table = pd.DataFrame({"clip_id": range(20), "label": "a", "predicted": ["a"] * 4 + ["b"] * 16})
    gain = scores.difference(table, table.assign(predicted="b"))
    half = t.ppf(0.975, 3) * np.std([1] * 4 + [0] * 16, ddof=1) / np.sqrt(20)
    assert (gain["value"], *ends(gain)) == pytest.approx((0.2, 0.2 - half, 0.2 + half)) and gain["low"] < 0


def test_a_difference_that_is_there_is_found():
    rng, found = np.random.default_rng(0), []
    for _ in range(100):
        label = np.full(200, "a")
        one, other = (np.where(rng.random(200) < right, "a", "b") for right in (0.9, 0.7))
        tables = [pd.DataFrame({"clip_id": range(200), "label": label, "predicted": who}) for who in (one, other)]
        gain = scores.difference(*tables, pd.Series(np.arange(200) // 10))
        found.append(gain["low"] > 0)
    assert np.mean(found) > 0.95


def test_metrics_are_written_with_their_unit():
    gain = {"value": -0.0123, "low": -0.05, "high": 0.004, "n": 12}
    assert scores.shown(gain, "points") == "-1.2 points (-5.0 to +0.4, n = 12)"
    assert scores.shown(gain | {"value": 0.5}) == "50.0 % (-5.0 to 0.4, n = 12)"


def test_a_difference_of_macro_f1_is_that_of_scikit_learn_and_jackknifed_over_groups():
    rng = np.random.default_rng(4)
    label = rng.choice(list("abc"), 90, p=[0.6, 0.3, 0.1])
    one, other = (np.where(rng.random(90) < share, label, rng.choice(list("abc"), 90)) for share in (0.8, 0.4))
    group = pd.Series(np.repeat(np.arange(18), 5), index=[f"c{n}" for n in range(90)])
    tables = [pd.DataFrame({"clip_id": group.index, "label": label, "predicted": said, "fold": "x"})
              for said in (one, other)]  # fmt: skip

    def gain(keep):
        return np.subtract(*(f1_score(label[keep], said[keep], average="macro") for said in (one, other)))

    found = scores.difference(*tables, group, "macro_f1")
    without = np.array([gain(group.to_numpy() != name) for name in range(18)])
    middle = gain(np.ones(90, bool))
    spread = np.sqrt(17 / 18 * ((without - middle) ** 2).sum())
    half = (found["high"] - found["low"]) / 2
    assert found["value"] == pytest.approx(middle)
    assert t.ppf(0.975, 17) * spread == pytest.approx(half, rel=0.02)  # one group may agree throughout


def test_precision_at_three_is_as_by_hand_and_as_scikit_learn_has_it_for_any_rank():
    table = pd.DataFrame(
        {
            "label": ["a", "b", "c", "d"],
            "p_a": [0.4, 0.4, 0.4, 0.4],
            "p_b": [0.3, 0.3, 0.3, 0.3],
            "p_c": [0.2, 0.2, 0.2, 0.2],
            "p_d": [0.1, 0.1, 0.1, 0.1],
        }
    )
    assert scores.precision_at(table) == pytest.approx([1, 1 / 2, 1 / 3, 0])
    assert scores.precision_at(table, 1).mean() == 0.25  # at 1, it is accuracy
    rng = np.random.default_rng(0)
    p, y = rng.random((200, 6)), rng.integers(0, 6, 200)
    many = pd.DataFrame(p, columns=[f"p_{k}" for k in range(6)]).assign(label=y.astype(str))
    ranked = label_ranking_average_precision_score(np.eye(6)[y], p)
    assert scores.precision_at(many, 6).mean() == pytest.approx(ranked)
