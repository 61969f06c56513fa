from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from helpers import data
from helpers.base import CourseError
from helpers.data import splits


def sides(round_):
    return [round_.train, round_.validation, round_.test]


def test_folds_are_drawn_where_none_are_published_and_every_clip_is_tested_once(manifest):
    unlabelled = [0, 7, 30]
    manifest.loc[unlabelled, "label"] = None  # they take no part, and positions stay those of the manifest
    expected = sorted(set(range(60)) - set(unlabelled))
    rounds = splits.rounds(manifest)
    assert len(rounds) == 5
    assert sorted(np.concatenate([round_.test for round_ in rounds])) == expected
    for round_ in rounds:
        assert sorted(np.concatenate(sides(round_))) == expected
        for one, other in combinations(sides(round_), 2):
            assert splits.shared_groups(manifest, one, other) == []
    manifest["split"] = "test"  # one side alone is dealt anew
    assert len(splits.rounds(manifest)) == 5


def test_official_folds_rotate_test_then_validation(manifest):
    manifest["fold"] = pd.array(np.arange(60) // 3 % 5 + 1, dtype="Int64")
    rounds = splits.rounds(manifest)
    assert [round_.name for round_ in rounds] == ["fold1", "fold2", "fold3", "fold4", "fold5"]
    assert [set(manifest["fold"].iloc[rows]) for rows in sides(rounds[4])] == [{2, 3, 4}, {1}, {5}]
    assert [round_.name for round_ in splits.rounds(manifest, n_rounds=2)] == ["fold1", "fold2"]


def test_a_published_split_is_kept_and_a_leaking_group_set_aside(manifest):
    manifest["split"] = ["train"] * 36 + ["validation"] * 12 + ["test"] * 12
    manifest.loc[0, "group"] = manifest.loc[50, "group"]  # in train and in test
    manifest.loc[3, "group"] = manifest.loc[45, "group"]  # in train and in validation
    manifest.loc[40, "group"] = manifest.loc[59, "group"]  # in validation and in test
    (round_,) = splits.rounds(manifest)
    assert round_.set_aside.tolist() == [0, 3, 40]
    assert round_.test.tolist() == list(range(48, 60))
    assert set(round_.train) == set(range(36)) - {0, 3}
    assert splits.shared_groups(manifest, round_.development, round_.test) == []


def test_a_missing_validation_set_is_drawn_from_training_groups(manifest):
    manifest["split"] = ["train"] * 45 + ["test"] * 15
    (round_,) = splits.rounds(manifest)
    assert 3 <= len(round_.validation) <= 15 and max(round_.validation) < 45
    assert splits.shared_groups(manifest, round_.train, round_.validation) == []


def test_inner_folds_keep_groups_whole_and_stay_inside(manifest):
    rows = splits.rounds(manifest)[0].development
    folds = splits.inner_folds(manifest, rows)
    assert len(folds) == 3
    assert sorted(np.concatenate([held_out for _, held_out in folds])) == list(range(len(rows)))
    for fitted, held_out in folds:
        assert splits.shared_groups(manifest, rows[fitted], rows[held_out]) == []
    manifest["fold"] = np.arange(60) // 15  # published ones are kept
    held_out = [set(manifest["fold"].iloc[held_out]) for _, held_out in splits.inner_folds(manifest, np.arange(45))]
    assert held_out == [{0}, {1}, {2}]


def test_a_clip_without_a_group_is_a_group_of_its_own(manifest):
    manifest.loc[[3, 4], "group"] = None
    assert splits.groups(manifest)[2:6].tolist() == ["source0", "clip clip03", "clip clip04", "source1"]


def test_the_draw_depends_on_the_seed_only(manifest):
    assert (splits.make_folds(manifest, seed=1) == splits.make_folds(manifest, seed=1)).all()
    assert (splits.make_folds(manifest, seed=1) != splits.make_folds(manifest, seed=2)).any()


def tables_of_three_groups(n):
    """Random tables of some classes with three groups each, which may overlap."""
    for seed in range(n):
        rng = np.random.default_rng(seed)
        n_groups = int(rng.integers(3, 12))
        owners = {f"c{number}": rng.choice(n_groups, 3, replace=False) for number in range(int(rng.integers(2, 7)))}
        rows = [
            (name, f"g{one}") for name, groups in owners.items() for one in groups for _ in range(rng.integers(1, 12))
        ]
        table = pd.DataFrame(rows, columns=["label", "group"])
        table["clip_id"] = [f"clip{number}" for number in range(len(table))]
        yield data._validate(table.assign(path=table["clip_id"])), list(owners.values())


def can_be_kept_apart(owners):
    """Whether groups can stand in three folds so that no class has two in one, by trying all."""
    used = sorted({one for groups in owners for one in groups})

    def deal(number, fold):
        if number == len(used):
            return True
        for choice in range(1 if number == 0 else 3):
            now = fold | {used[number]: choice}
            apart = all(len(own := [now[one] for one in groups if one in now]) == len(set(own)) for groups in owners)
            if apart and deal(number + 1, now):
                return True
        return False

    return deal(0, {})


def test_what_is_dealt_in_rounds_can_be_dealt_once_more_inside_wherever_that_is_possible():
    possible = 0
    for table, owners in tables_of_three_groups(60):
        rounds = splits.rounds(table)
        if can_be_kept_apart(owners):
            possible += 1
            for round_ in rounds:
                assert splits.inner_folds(table, round_.development)
        else:
            with pytest.raises(CourseError, match="Of the 3 groups of class .*, one is left outside the test clips"):
                [splits.inner_folds(table, round_.development) for round_ in rounds]
    assert 20 < possible < 50


def test_a_class_of_two_groups_does_not_make_half_of_training_validation(manifest):
    """A fifth of the groups validates, and never the only one of a class."""
    manifest["split"] = ["train"] * 45 + ["test"] * 15
    manifest.loc[:5, "label"] = "rare"  # two groups
    (round_,) = splits.rounds(manifest)
    assert 6 <= len(round_.validation) <= 12 and set(manifest["label"][round_.train]) >= {"rare"}
    manifest.loc[:44, "group"] = [f"only {label}" for label in manifest.loc[:44, "label"]]
    with pytest.raises(CourseError, match="no validation clips"):
        splits.rounds(manifest)


def test_a_published_split_without_test_clips_is_refused(manifest):
    manifest["split"] = ["train"] * 45 + ["validation"] * 15
    with pytest.raises(CourseError, match="names no test clips .train 45, validation 15"):
        splits.rounds(manifest)


def test_a_class_that_is_tested_but_not_trained_is_said(manifest, capsys):
    manifest["split"] = ["train"] * 36 + ["validation"] * 12 + ["test"] * 12
    manifest.loc[50, "label"] = "unheard"
    splits.rounds(manifest)
    assert "round split tests unheard without a training clip" in capsys.readouterr().out


def test_a_class_from_one_source_is_refused_by_name(manifest):
    manifest.loc[manifest["label"] == "b", "group"] = "one recorder"
    with pytest.raises(CourseError, match="'b'"):
        splits.rounds(manifest)


@pytest.mark.parametrize("column", ["fold", "split"])
def test_a_blank_cell_is_an_error_that_names_the_clip(manifest, column):
    manifest[column] = [n % 5 + 1 for n in range(60)] if column == "fold" else (["train"] * 40 + ["test"] * 20)
    manifest.loc[7, column] = pd.NA if column == "fold" else None
    with pytest.raises(CourseError, match=rf"1 of 60 clips have no {column}, such as \['clip07'\]"):
        splits.rounds(manifest)


def test_one_class_is_nothing_to_tell_apart(manifest):
    with pytest.raises(CourseError, match="All .* clips are of one class, 'dog'"):
        data.rounds(manifest.assign(label="dog"))
