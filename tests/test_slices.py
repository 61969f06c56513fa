"""Slices: planted faults are found, errors by chance are not taken for faults, intervals against known ones."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from helpers import evaluation, proportions
from helpers.base import DataMissing
from helpers.topics import slices


def metadata(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.choice(["low", "middle", "high"], n) for name in ("loudness", "duration", "rate")})


def planted(table, seed=1):
    """Errors in a tenth of the clips, but in nine of ten that are quiet and short."""
    bad = ((table["loudness"] == "low") & (table["duration"] == "low")).to_numpy()
    return np.random.default_rng(seed).random(len(table)) < np.where(bad, 0.9, 0.1), bad


def masks(table):
    return pd.concat([slices.by_value(table[name], name) for name in table], axis=1)


def test_the_search_finds_a_planted_slice():
    table = metadata()
    wrong, bad = planted(table)
    found = slices.find(table, wrong)
    assert (found["loudness: low & duration: low"] == bad).all()
    rates = [wrong[found[name]].mean() for name in found]
    assert max(rates) == wrong[bad].mean() > 0.8
    assert all(found.sum() >= 8)


def test_the_search_finds_nothing_where_nothing_or_everything_is_wrong():
    assert slices.find(metadata(), np.zeros(400, bool)).shape == (400, 0)
    assert slices.find(metadata(), np.ones(400, bool)).shape == (400, 0)


def test_one_slice_is_not_listed_under_two_names():
    table = metadata().assign(constant="always")
    wrong, _ = planted(table)
    found = slices.find(table, wrong, k=5)
    columns = [tuple(column) for column in found.to_numpy().T]
    assert len(columns) == len(set(columns)) == 5
    assert not any("constant" in name for name in found)


def test_a_planted_slice_looks_bad_and_the_others_do_not():
    table = metadata()
    wrong, bad = planted(table)
    candidates = masks(table).assign(planted=bad)
    measured, luck = slices.measure(wrong, candidates)
    assert measured["slice"].iloc[0] in ("planted", "loudness: low", "duration: low")
    row = measured.set_index("slice").loc["planted"]
    assert row["n"] == row["groups"] == bad.sum() and row["error"] == wrong[bad].mean()
    assert row["low"] > wrong.mean() and row["chance"] < 0.01
    assert luck["found"] == 3 and luck["slices"] == 10


def test_errors_at_random_look_bad_as_often_as_announced():
    counts, expected = [], []
    for seed in range(40):
        table = metadata(seed=seed)
        wrong = np.random.default_rng(1000 + seed).random(len(table)) < 0.3
        _, luck = slices.measure(wrong, masks(table), n_draws=200)
        counts.append(luck["found"])
        expected.append(luck["expected"])
    # 9 slices at 5 %: 0.45 a time, a little less because error rates of slices come in steps.
    assert 0.3 < np.mean(expected) <= 0.45
    assert np.mean(counts) == pytest.approx(np.mean(expected), abs=0.25)


def test_errors_that_come_in_groups_are_not_taken_for_a_bad_slice():
    # 40 groups of 10 alike clips; the slice is four groups, three of which happen to be wrong throughout.
    group = np.repeat(np.arange(40), 10)
    wrong = np.isin(group, [0, 1, 2, *range(10, 22)])
    slice_ = pd.DataFrame({"four groups": group < 4})
    alone, _ = slices.measure(wrong, slice_)
    together, _ = slices.measure(wrong, slice_, group)
    assert alone["chance"].iloc[0] < 0.01 < 0.05 < together["chance"].iloc[0]
    assert together["groups"].iloc[0] == 4
    assert together["low"].iloc[0] < wrong.mean() < alone["low"].iloc[0]


def test_dealing_keeps_the_number_of_errors_and_the_groups_together():
    group = np.repeat(list("abcdef"), 5)
    wrong = np.isin(group, ["b", "e"])
    rng = np.random.default_rng(0)
    dealt = [slices.deal(wrong, group, rng) for _ in range(100)]
    for errors in dealt:
        assert errors.sum() == 10
        assert set(errors.reshape(6, 5).mean(axis=1)) == {0.0, 1.0}
    assert np.mean(dealt, axis=0) == pytest.approx(np.full(30, 1 / 3), abs=0.2)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (3, 7), (50, 60), (9, 9)])
def test_wilson_is_that_of_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert proportions.wilson(hits, n) == pytest.approx((expected.low, expected.high))
    assert proportions.wilson(0, 0) == (0.0, 1.0)


def test_a_slice_of_one_group_says_next_to_nothing():
    low, high = proportions.interval(np.ones(50), np.zeros(50))
    assert (low, high) == pytest.approx(proportions.wilson(1, 1)) and low < 0.3


def test_bins_hold_about_as_many_clips_each():
    values = pd.Series(np.random.default_rng(0).exponential(size=200)).where(lambda v: v.index != 7)
    binned = slices.bins(values, 4, "s")
    assert binned.iloc[7] == "unknown" and binned.iloc[0].endswith(" s")
    assert sorted(binned[binned != "unknown"].value_counts()) == [49, 50, 50, 50]
    assert values.groupby(binned).max().drop("unknown").is_unique
    assert set(slices.bins(pd.Series([1.0] * 9), 4, "s")) == {"1.0 to 1.0 s"}


def test_slices_of_lists_and_of_values():
    tags = pd.Series([["dog", "bark"], ["dog"], [], ["dog", "dog", "cat"]], index=[4, 5, 6, 7])
    table = slices.by_value(tags, "tag", min_n=1)
    assert list(table) == ["tag: bark", "tag: cat", "tag: dog"] and list(table.index) == [4, 5, 6, 7]
    assert table["tag: dog"].tolist() == [True, True, False, True]
    assert list(slices.by_value(tags, "tag", min_n=2)) == ["tag: dog"]
    assert list(slices.by_value(pd.Series(["a", "b", "a"]), "label", min_n=2)) == ["label: a"]


def test_predictions_meet_their_metadata():
    manifest = pd.DataFrame(
        {"clip_id": list("123"), "label": list("aba"), "fold": 1, "group": ["g", None, "g"], "duration": [1.0, 2, 3]}
    )
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1]])
    predictions = evaluation.prediction_table(manifest, np.array([2, 1]), probabilities, ["a", "b"], "fold1")
    joined = slices.join(predictions, manifest)
    assert joined["duration"].tolist() == [3.0, 2.0] and joined["wrong"].tolist() == [True, True]
    assert joined["confidence"].tolist() == [0.8, 0.9] and joined["member"].tolist() == ["g", "clip 2"]
    with pytest.raises(DataMissing, match="1 of the 2 clips.*'3'"):
        slices.join(predictions, manifest.iloc[:2])
