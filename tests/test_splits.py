import numpy as np
import pandas as pd
import pytest

from helpers.base import CourseError
from helpers.data import splits


def sides(round_):
    return [round_.train, round_.validation, round_.test]


def test_folds_are_drawn_where_none_are_published_and_every_clip_is_tested_once(manifest):
    rounds = splits.rounds(manifest)
    assert len(rounds) == 5
    assert sorted(np.concatenate([round_.test for round_ in rounds])) == list(range(60))
    for round_ in rounds:
        assert sorted(np.concatenate(sides(round_))) == list(range(60))
        for one, other in [(0, 1), (0, 2), (1, 2)]:
            assert splits.shared_groups(manifest, sides(round_)[one], sides(round_)[other]) == []


def test_official_folds_rotate_test_then_validation(manifest):
    manifest["fold"] = pd.array(np.arange(60) // 3 % 5 + 1, dtype="Int64")
    rounds = splits.rounds(manifest)
    assert [round_.name for round_ in rounds] == ["fold1", "fold2", "fold3", "fold4", "fold5"]
    assert set(manifest["fold"].iloc[rounds[4].test]) == {5}
    assert set(manifest["fold"].iloc[rounds[4].validation]) == {1}
    assert set(manifest["fold"].iloc[rounds[4].train]) == {2, 3, 4}
    assert [round_.name for round_ in splits.rounds(manifest, n_rounds=2)] == ["fold1", "fold2"]


def test_a_published_split_is_kept_and_a_leaking_group_set_aside(manifest):
    manifest["split"] = ["train"] * 36 + ["validation"] * 12 + ["test"] * 12
    manifest.loc[0, "group"] = manifest.loc[50, "group"]  # in train and in test
    manifest.loc[40, "group"] = manifest.loc[59, "group"]  # in validation and in test
    (round_,) = splits.rounds(manifest)
    assert round_.set_aside.tolist() == [0, 40]
    assert round_.test.tolist() == list(range(48, 60))
    assert set(round_.train) == set(range(1, 36))
    assert splits.shared_groups(manifest, round_.development, round_.test) == []


def test_a_missing_validation_set_is_drawn_from_training_groups(manifest):
    manifest["split"] = ["train"] * 45 + ["test"] * 15
    (round_,) = splits.rounds(manifest)
    assert 3 <= len(round_.validation) <= 15 and max(round_.validation) < 45
    assert splits.shared_groups(manifest, round_.train, round_.validation) == []


def test_one_side_alone_is_dealt_anew(manifest):
    manifest["split"] = "test"
    assert len(splits.rounds(manifest)) == 5


def test_unlabelled_clips_take_no_part_and_positions_stay_those_of_the_manifest(manifest):
    manifest.loc[[0, 7, 30], "label"] = None
    used = np.concatenate([np.concatenate(sides(round_)) for round_ in splits.rounds(manifest)])
    assert set(used) == set(range(60)) - {0, 7, 30}


def test_a_class_from_one_source_is_refused_by_name(manifest):
    manifest.loc[manifest["label"] == "b", "group"] = "one recorder"
    with pytest.raises(CourseError, match="'b'"):
        splits.rounds(manifest)


def test_inner_folds_keep_groups_whole_and_stay_inside(manifest):
    rows = splits.rounds(manifest)[0].development
    folds = splits.inner_folds(manifest, rows, n_folds=3)
    assert len(folds) == 3
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(rows)))
    for fitted, held_out in folds:
        assert splits.shared_groups(manifest, rows[fitted], rows[held_out]) == []


def test_the_draw_depends_on_the_seed_only(manifest):
    assert (splits.make_folds(manifest, seed=1) == splits.make_folds(manifest, seed=1)).all()
    assert (splits.make_folds(manifest, seed=1) != splits.make_folds(manifest, seed=2)).any()


@pytest.mark.parametrize("column", ["fold", "split"])
def test_a_blank_cell_is_an_error_that_names_the_clip(manifest, column):
    manifest[column] = [n % 5 + 1 for n in range(60)] if column == "fold" else (["train"] * 40 + ["test"] * 20)
    manifest.loc[7, column] = pd.NA if column == "fold" else None
    with pytest.raises(CourseError, match=rf"1 of 60 clips have no {column}, such as \['clip07'\]"):
        splits.rounds(manifest)
