"""The loaders, on tiny trees whose content is known, and on real ones where REAL_DATA points to them."""

import os
from pathlib import Path

import pandas as pd
import pytest
import trees

from helpers import data
from helpers.base import CourseError, DataMissing

ESC10 = {"esc10_only": True}


def by_id(manifest):
    return manifest.set_index("clip_id")


# ---- what all share ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", trees.TREES)
def test_the_tree_or_its_parent_will_do_and_what_is_missing_is_told(name, tmp_path):
    root = trees.TREES[name](tmp_path)
    manifest = data.load(name, root)
    assert list(manifest.columns[: len(data._COLUMNS)]) == data._COLUMNS
    assert manifest.attrs["dataset"] == name
    assert data.load(name, tmp_path).equals(manifest)
    assert all(Path(path).is_absolute() for path in manifest["path"])
    with pytest.raises(DataMissing) as error:
        data.load(name, tmp_path / "nowhere")
    marker = data._DATASETS[name].INFO.marker
    for part in (marker, str(tmp_path / "nowhere"), f"python -m helpers download {name} DEST", "B)", "data_dir"):
        assert part in str(error.value)


def test_what_datasets_there_are():
    for name, module in data._DATASETS.items():
        assert module.INFO.name == name
        for remote in module.INFO.files:
            # A file that comes without a checksum of its own must come from a record that has one.
            assert remote.hash or remote.url.startswith("doi:10.5281/zenodo.")
            assert (remote.hash or "sha256:").startswith("sha256:")
    assert len(data.fsd50k.INFO.files[-1].parts) == 5
    assert len(data.tut2017.INFO.files) == 13
    with pytest.raises(CourseError, match="'esc-50'.*fsd50k, esc50.*speech_commands"):
        data.load("esc-50")


def test_what_a_manifest_is_from_is_said(tmp_path):
    text = data.about(data.load("esc50", trees.esc50(tmp_path)))
    assert "ESC-50, 30 clips in" in text and "Licence: CC BY-NC 3.0" in text and "Cite: K. J. Piczak" in text
    sample = data.about(data.load("esc50"))
    assert sample == "The embedded sample: 100 synthesised clips in the layout of ESC-50."


def test_a_manifest_in_standard_form():
    table = pd.DataFrame({"extra": [1, 2], "path": ["x", "y"], "clip_id": ["a", "b"]}, index=[7, 9])
    table.attrs["dataset"] = "folder"
    table = data._validate(table)
    assert list(table.columns) == [*data._COLUMNS, "extra"]
    assert list(table.index) == [0, 1] and table.attrs == {"dataset": "folder"}
    assert table["label"].tolist() == [None, None]
    assert table["fold"].isna().all() and str(table["fold"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["x"]}, "clip_id"),
        ({"clip_id": ["a", "a"], "path": ["x", "y"]}, "'a'"),
        ({"clip_id": ["a"], "path": ["x"], "split": ["testing"]}, "testing"),
    ],
)
def test_broken_manifests_are_refused_with_the_reason(columns, message):
    with pytest.raises(CourseError, match=message):
        data._validate(pd.DataFrame(columns))


# ---- one by one -------------------------------------------------------------------------------------------------


def test_esc50(tmp_path):
    root = trees.esc50(tmp_path, name="ESC-50-33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6")
    (root / "audio" / "1-1000-A-0.wav").unlink()  # its row stays, for the audit to report
    manifest = data.load("esc50", tmp_path)
    assert len(manifest) == 30 and manifest["split"].isna().all()
    assert by_id(manifest).loc["3-3000-B-0", ["label", "fold", "group"]].tolist() == ["dog", 3, "3000"]
    ten = data.load("esc50", tmp_path, **ESC10)
    assert set(ten["label"]) == {"dog", "sea_waves"} and len(ten) == 20


def test_fsd50k(tmp_path):
    root = trees.fsd50k(tmp_path)
    manifest = by_id(data.load("fsd50k", root))
    assert manifest["split"].to_dict() == {"64760": "train", "0021": "validation", "77": "train", "37199": "test"}
    assert manifest["label"].to_dict() == {"64760": "music", "0021": "alarm", "77": None, "37199": "other"}
    assert manifest["truth"].to_dict() == {"64760": "music", "0021": "alarm", "77": "movement", "37199": "animal"}
    assert manifest.loc["0021", "tags"] == ["Door-Bell", "home"]
    assert manifest.loc["0021", "truth_labels"][0] == "Doorbell"
    assert manifest.loc["64760", "group"] == "casual"
    assert manifest.loc["37199", "path"].endswith("FSD50K.eval_audio/37199.wav")
    own = tmp_path / "own.toml"
    own.write_text('[classes]\nanimal = ["unheard of"]\n')
    assert by_id(data.load("fsd50k", root, tag_lists=own))["label"].tolist() == ["other", "other", None, "animal"]


def test_tut2017(tmp_path):
    root = trees.tut2017(tmp_path)
    manifest = by_id(data.load("tut2017", root))
    assert manifest["fold"].value_counts().to_dict() == {1: 4, 2: 4, 3: 4, 4: 4}
    assert manifest.loc["c003_10_20", ["label", "fold", "group"]].tolist() == ["cafe/restaurant", 3, "c003"]
    assert manifest.loc["b001_0_10", "errors"] == [(0.5, 1.25, "microphone failure")]
    assert manifest.loc["b001_10_20", "errors"] == []
    assert "warning" not in manifest.attrs
    _append(root / "evaluation_setup" / "fold2_train.txt", "audio/b002_0_10.wav\tbeach\n")
    assert "fold 2: b002" in data.load("tut2017", root).attrs["warning"]


def _append(path, line):
    path.write_text(path.read_text() + line)


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("evaluation_setup/fold2_evaluate.txt", "audio/b001_0_10.wav\tbeach\n", "two folds.*b001_0_10.wav.*1 and 2"),
        ("evaluation_setup/fold2_train.txt", "audio/x9_0_10.wav\tbeach\n", "fold2_train.*not in meta.*x9_0_10"),
        ("meta.txt", "audio/b9_0_10.wav\tbeach\tb9\n", "no fold.*b9_0_10"),
    ],
)
def test_tut2017_lists_that_contradict(tmp_path, file, line, message):
    root = trees.tut2017(tmp_path)
    _append(root / file, line)
    with pytest.raises(CourseError, match=message):
        data.load("tut2017", root)


def test_fsdkaggle2018(tmp_path):
    root = trees.fsdkaggle2018(tmp_path)
    manifest = by_id(data.load("fsdkaggle2018", root))
    assert manifest["split"].tolist() == ["train"] * 2 + ["test"] * 3
    assert manifest["label"].tolist() == ["Hi-hat", "Saxophone", None, "Hi-hat", "Saxophone"]
    assert manifest["verified"].tolist() == [False, True, False, True, True]
    assert manifest.loc["001ca53d", "group"] == "358827"
    part = data.load("fsdkaggle2018", root, limit=4)
    assert len(part) == 4 and part["label"].notna().all()  # only labelled clips are drawn


def test_speech_commands(tmp_path):
    root = trees.speech_commands(tmp_path)
    (root / "bed" / "._x.wav").write_bytes(b"what macOS leaves beside recordings")
    manifest = data.load("speech_commands", root)
    assert manifest["clip_id"].tolist()[::3] == ["bed/aa11_nohash_0", "tree/aa11_nohash_0", "tree/ee55_nohash_0"]
    assert manifest["split"].tolist() == ["train", "train", "validation", "train", "test", "train", "test"]
    assert manifest["group"].tolist() == ["aa11", "aa11", "bb22", "aa11", "cc33", "dd44", "ee55"]
    assert [Path(path).name for path in manifest.attrs["background_noise"]] == ["pink_noise.wav"]
    assert set(data.load("speech_commands", root, words=["tree"])["label"]) == {"tree"}
    with pytest.raises(CourseError, match="house.*bed, tree"):
        data.load("speech_commands", root, words=["house"])


def _real(name):
    root = Path(os.environ.get("REAL_DATA", "/none")) / name
    if not root.is_dir():
        pytest.skip(f"set REAL_DATA to a folder with {name} to check the real recordings")
    return root


@pytest.mark.parametrize(("name", "column", "options"), [("esc50", "fold", ESC10), ("speech_commands", "split", {})])
def test_real_recordings_are_there_and_every_group_on_one_side(name, column, options):
    manifest = data.load(name, _real(data._DATASETS[name].INFO.folder), **options)
    assert all(Path(path).exists() for path in manifest["path"])
    assert (manifest.groupby("group")[column].nunique() == 1).all()
    if options == ESC10:
        assert (manifest.groupby(["fold", "label"]).size() == 8).all() and len(manifest) == 400


def test_real_fsdkaggle2018_has_the_figures_the_publishers_give():
    manifest = data.load("fsdkaggle2018", _real("FSDKaggle2018"))
    train, test = (manifest[manifest["split"] == split] for split in ("train", "test"))
    assert (len(train), train["verified"].sum(), train["label"].nunique()) == (9473, 3710, 41)
    assert (len(test), test["label"].notna().sum(), test["verified"].sum()) == (9400, 1600, 1600)


# ---- your own recordings ----------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    for name in ("yes/ann_1.wav", "yes/ann_2.wav", "no/bob_1.flac", "no/deep/bob_2.wav", "loose.wav"):
        trees.tone(tmp_path / "own" / name)
    (tmp_path / "own" / "yes" / "readme.txt").write_text("x")
    (tmp_path / "own" / "yes" / "._ann_1.wav").write_bytes(b"x")
    return tmp_path / "own"


def test_folder(own):
    manifest = data.load("folder", own)
    names = ["loose.wav", "no/bob_1.flac", "no/deep/bob_2.wav", "yes/ann_1.wav", "yes/ann_2.wav"]
    assert manifest["clip_id"].tolist() == names
    assert manifest["label"].tolist() == [None, "no", "no", "yes", "yes"]
    assert "inflated" in manifest.attrs["warning"] and "97 %" in manifest.attrs["warning"]


def test_folder_with_groups_in_file_names(own):
    manifest = by_id(data.load("folder", own, group_pattern=r"^([a-z]+)_\d"))
    assert manifest.loc["no/deep/bob_2.wav", "group"] == "bob"
    assert manifest.attrs["warning"].startswith("No group is known for 1 of 5 clips")
    (own / "loose.wav").unlink()
    assert "warning" not in data.load("folder", own, group_pattern=r"^([a-z]+)_\d").attrs
    for pattern in ("(", "^[a-z]+", "^(zzz)"):
        with pytest.raises(CourseError, match="group_pattern"):
            data.load("folder", own, group_pattern=pattern)


def test_folder_with_a_csv(own):
    (own / "none.csv").write_text("")  # no list of recordings
    rows = [("path", "label", "group", "split", "mood"), ("yes/ann_1.wav", "yes", "ann", "train", "glad")]
    rows += [("no/bob_1.flac", "no", "bob", "test", ""), ("gone.wav", "", "", "train", "")]
    trees.table(own / "list.csv", rows)
    for data_dir in (own / "list.csv", own):
        manifest = by_id(data.load("folder", data_dir))
        assert manifest["split"].tolist() == ["train", "test", "train"]
        assert manifest["group"].tolist() == ["ann", "bob", None]
        assert manifest["label"].tolist() == ["yes", "no", None]
        assert manifest.loc["yes/ann_1.wav", "path"] == str(own / "yes" / "ann_1.wav")
        assert manifest["mood"].tolist() == ["glad", "", ""]
    trees.table(own / "second.csv", rows)
    with pytest.raises(DataMissing, match="several CSV"):
        data.load("folder", own)


def test_folds_of_a_csv_are_whole_numbers(own):
    text = '"path","label","fold"\n"yes/ann_1.wav","yes","1"\n"no/bob_1.flac","no",""\n'
    (own / "list.csv").write_text(text)
    assert data.load("folder", own)["fold"].fillna(-1).tolist() == [1, -1]
    for wrong in ("1.5", "first", "nan"):
        (own / "list.csv").write_text(text.replace('"1"', f'"{wrong}"'))
        with pytest.raises(CourseError, match=f"'{wrong}'.*fold"):
            data.load("folder", own)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path;label\na.wav;yes\n", "parts its columns with semicolons.*commas"),
        ("path,label\na.wav,Käse\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_a_list_of_your_own_that_cannot_be_read_is_never_to_be_downloaded(tmp_path, content, message):
    trees.tone(tmp_path / "a.wav")
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(CourseError, match=message) as error:
        data.load("folder", tmp_path)
    assert "list.csv" in str(error.value) and "ownload" not in str(error.value)


def test_folder_without_recordings(tmp_path):
    with pytest.raises(DataMissing, match="sub-folder per class"):
        data.load("folder", tmp_path)
    with pytest.raises(DataMissing, match="does not exist"):
        data.load("folder", tmp_path / "none")


# ---- a part of it -----------------------------------------------------------------------------------------------


def test_limit_keeps_classes_splits_and_the_order():
    rows = [
        (f"{c}-{i}", "/x", f"class {c}", "test" if i // 2 % 5 == 0 else "train")
        for c in range(6)
        for i in range(max(4, 40 // 2**c))  # a class has 40, the next 20, ...
    ]
    full = data._validate(pd.DataFrame(rows, columns=["clip_id", "path", "label", "split"]))
    part = data.draw(full, 30, seed=1)
    assert list(part.index) == list(range(30))
    assert set(zip(part["label"], part["split"], strict=True)) == set(zip(full["label"], full["split"], strict=True))
    assert part["label"].value_counts().idxmax() == "class 0"  # proportional: the largest stays the largest
    assert part["clip_id"].map({clip: i for i, clip in enumerate(full["clip_id"])}).is_monotonic_increasing
    assert data.draw(full, 30, seed=1).equals(part) and not data.draw(full, 30, seed=2).equals(part)
    assert data.draw(full, len(full) + 5).equals(full)
    for seed in range(5):
        least = data.draw(full, 6, seed)
        assert set(least["label"]) == set(full["label"]) and set(least["split"]) == {"train", "test"}
    with pytest.raises(CourseError, match="limit=5 is too small.*use 6"):
        data.draw(full, 5)


def test_limit_keeps_every_fold(tmp_path):
    part = data.load("esc50", trees.esc50(tmp_path), limit=15)
    assert len(part) == len(part.groupby(["label", "fold"])) == 15
    assert part.attrs["dataset"] == "esc50"
