"""Slices: planted faults are found, and errors by chance are not taken for faults."""

import numpy as np
import pandas as pd
import pytest

from helpers import scores
from helpers.base import DataMissing
from helpers.topics import slices


def metadata(seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({name: rng.choice(["low", "middle", "high"], 400) for name in ("loudness", "duration", "rate")})


def planted(table):
    """Errors in a tenth of the clips, but in nine of ten that are quiet and short."""
    bad = ((table["loudness"] == "low") & (table["duration"] == "low")).to_numpy()
    return np.random.default_rng(1).random(len(table)) < np.where(bad, 0.9, 0.1), bad


def masks(table):
    return pd.concat([slices.by_value(table[name], name, 5) for name in table], axis=1)


def test_the_search_finds_a_planted_slice_and_gives_it_one_name():
    table = metadata().assign(constant="always")
    wrong, bad = planted(table)
    found = slices.find(table, wrong, k=5, min_n=8)
    assert (found["loudness: low & duration: low"] == bad).all()
    assert max(wrong[found[name]].mean() for name in found) == wrong[bad].mean() > 0.8
    assert all(found.sum() >= 8) and not any("constant" in name for name in found)
    assert len({tuple(column) for column in found.to_numpy().T}) == 5
    for even in (np.zeros(400, bool), np.ones(400, bool)):
        assert slices.find(table, even, k=5, min_n=8).shape == (400, 0)


def test_a_planted_slice_looks_bad_and_the_others_do_not():
    table = metadata()
    wrong, bad = planted(table)
    measured, luck = slices.measure(wrong, masks(table).assign(planted=bad))
    assert measured["slice"].iloc[0] in ("planted", "loudness: low", "duration: low")
    row = measured.set_index("slice").loc["planted"]
    assert row["n"] == row["groups"] == bad.sum() and row["error"] == wrong[bad].mean()
    assert row["low"] > wrong.mean() and row["chance"] < 0.01
    assert luck["found"] == 3 and luck["slices"] == 10


def test_errors_at_random_look_bad_as_often_as_announced():
    lucks = []
    for seed in range(15):
        wrong = np.random.default_rng(1000 + seed).random(400) < 0.3
        lucks.append(slices.measure(wrong, masks(metadata(seed)))[1])
    found, expected = (np.mean([luck[name] for luck in lucks]) for name in ("found", "expected"))
    # 9 slices at 5 %: 0.45 a time, a little less because error rates of slices come in steps.
    assert 0.3 < expected <= 0.45 and found == pytest.approx(expected, abs=0.3)


def test_errors_that_come_in_groups_are_not_taken_for_a_bad_slice():
    # 40 groups of 10 alike clips; the slice is four groups, three of which happen to be wrong throughout.
    group = np.repeat(np.arange(40), 10)
    wrong = np.isin(group, [0, 1, 2, *range(10, 22)])
    slice_ = pd.DataFrame({"four groups": group < 4})
    alone, together = (slices.measure(wrong, slice_, *given)[0].iloc[0] for given in ((), (group,)))
    assert alone["chance"] < 0.01 < 0.05 < together["chance"]
    assert together["groups"] == 4 and together["low"] < wrong.mean() < alone["low"]


def test_dealing_keeps_the_number_of_errors_and_the_groups_together():
    group = np.repeat(list("abcdef"), 5)
    wrong, rng = np.isin(group, ["b", "e"]), np.random.default_rng(0)
    dealt = [slices.deal(wrong, group, rng) for _ in range(100)]
    assert all(set(errors.reshape(6, 5).mean(axis=1)) == {0, 1} and errors.sum() == 10 for errors in dealt)
    assert np.mean(dealt, axis=0) == pytest.approx(np.full(30, 1 / 3), abs=0.2)


def test_bins_hold_about_as_many_clips_each():
    values = pd.Series(np.random.default_rng(0).exponential(size=200)).where(lambda v: v.index != 7)
    binned = slices.bins(values, 4, "s")
    assert binned.iloc[7] == "unknown" and binned.iloc[0].endswith(" s")
    assert sorted(binned[binned != "unknown"].value_counts()) == [49, 50, 50, 50]
    assert values.groupby(binned).max().drop("unknown").is_unique
    assert set(slices.bins(pd.Series([1.0] * 9), 4, "s")) == {"1.0 to 1.0 s"}


def test_slices_of_lists_and_of_values():
    tags = pd.Series([["dog", "bark"], ["dog"], [], ["dog", "dog", "cat"]], index=[4, 5, 6, 7])
    table = slices.by_value(tags, "tag", 1)
    assert list(table) == ["tag: bark", "tag: cat", "tag: dog"] and list(table.index) == [4, 5, 6, 7]
    assert table["tag: dog"].tolist() == [True, True, False, True]
    assert list(slices.by_value(pd.Series(["a", "b", "a"]), "label", 2)) == ["label: a"]


def test_predictions_meet_their_metadata():
    manifest = pd.DataFrame(
        {"clip_id": list("123"), "label": list("aba"), "fold": 1, "group": ["g", None, "g"], "duration": [1.0, 2, 3]}
    )
    predictions = scores.prediction_table(manifest, [2, 1], [[0.2, 0.8], [0.9, 0.1]], ["a", "b"], "fold1")
    joined = slices.join(predictions, manifest)
    assert joined["duration"].tolist() == [3.0, 2.0] and joined["wrong"].tolist() == [True, True]
    assert joined["confidence"].tolist() == [0.8, 0.9] and joined["member"].tolist() == ["g", "clip 2"]
    with pytest.raises(DataMissing, match="1 of the 2 clips.*'3'"):
        slices.join(predictions, manifest.iloc[:2])
