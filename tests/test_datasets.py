"""The loaders, on tiny trees whose content is known, and on real ones where REAL_DATA points to them."""

import dataclasses
import os
from pathlib import Path

import pandas as pd
import pytest
import trees

from helpers import base, data
from helpers.base import CourseError, DataMissing
from helpers.data import esc10
from helpers.data.declare import RemoteFile

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
            # A file that comes without a checksum of its own must come from a record, or beside a list, that has one.
            assert remote.hash or remote.listed or remote.url.startswith("doi:10.5281/zenodo.")
            assert (remote.hash or "sha256:").startswith("sha256:")
    assert len(data.fsd50k.INFO.files[-1].parts) == 5
    assert len(data.tut2017.INFO.files) == 13 + 6
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


def test_esc10(tmp_path):
    root = trees.esc10(tmp_path, name="ESC-10-553c8f1743b9dba6b282e1323c3ca8fa76923448")
    manifest = data.load("esc10", tmp_path)
    assert len(manifest) == 20 and manifest["split"].isna().all()
    one = by_id(manifest).loc["3-3001-B"]
    assert one[["label", "fold", "group"]].tolist() == ["fire crackling", 3, "3001"]
    assert one["path"] == str(root / "010 - Fire crackling" / "3-3001-B.ogg")
    trees.tone(root / "001 - Dog bark" / "mine.ogg")
    with pytest.raises(CourseError, match=r"mine\.ogg: the names of ESC-10 are fold-recording-take"):
        data.load("esc10", root)


def test_fsd50k(tmp_path):
    root = trees.fsd50k(tmp_path)
    manifest = by_id(data.load("fsd50k", root))
    assert manifest["split"].to_dict() == {"64760": "train", "0021": "validation", "77": "train", "37199": "test"}
    assert manifest["label"].to_dict() == {"64760": "music", "0021": "alarm", "77": None, "37199": "other"}
    assert manifest["truth"].to_dict() == {"64760": "music", "0021": "alarm", "77": "movement", "37199": "animal"}
    assert manifest.loc["0021", "tags"] == ["Door-Bell", "home"]
    assert manifest.loc["0021", "truth_labels"][0] == "Doorbell"
    assert manifest.loc["64760", "group"] == "casual" and manifest.loc["64760", "license"] == "cc0"
    assert (manifest["description"] == "").any()
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


def test_tut2017_with_its_evaluation_set(tmp_path):
    """Its files are numbered; map.txt tells where each was recorded, and one clip of this map is missing."""
    root = trees.tut2017(tmp_path)
    with pytest.raises(DataMissing, match="evaluation set.*leave `evaluation` out"):
        data.load("tut2017", root, evaluation=True)
    trees.tut2017_evaluation(tmp_path)
    manifest = by_id(data.load("tut2017", root, evaluation=True))
    assert manifest["split"].value_counts().to_dict() == {"train": 16, "test": 4} and manifest["fold"].isna().all()
    assert manifest.loc["0", ["label", "group"]].tolist() == ["beach", "b901"] and manifest.loc["3", "group"] is None
    assert manifest.loc["b001_0_10", "errors"] == [(0.5, 1.25, "microphone failure")]
    assert all(Path(path).exists() for path in manifest["path"])
    (round_,) = data.rounds(manifest.reset_index())
    assert set(manifest.iloc[round_.test].index) == {*"0123"} and not len(round_.set_aside)
    assert len(data.load("tut2017", root)) == 16
    (tmp_path / "TUT-acoustic-scenes-2017-evaluation/evaluation_setup/map.txt").unlink()
    alone = by_id(data.load("tut2017", root, evaluation=True))
    assert alone.loc[[*"0123"], "group"].isna().all()


def test_speech_commands_without_one_of_its_lists(tmp_path):
    root = trees.speech_commands(tmp_path)
    (root / "validation_list.txt").unlink()
    with pytest.raises(DataMissing, match="validation_list.txt is missing"):
        data.load("speech_commands", root)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("name", trees.TREES)
def test_published_tables_that_were_saved_anew_are_read_as_they_were(tmp_path, name, encoding, ends):
    root = trees.TREES[name](tmp_path)
    as_published = data.load(name, root)
    for path in (path for suffix in ("csv", "txt") for path in root.rglob(f"*.{suffix}")):
        text = path.read_text(encoding="utf-8").replace("True", "TRUE")
        if path.suffix == ".csv" and '"' not in text:
            text = text.replace(",", " ; ")
        path.write_bytes(text.replace("\n", ends).encode(encoding))
    assert data.load(name, root).equals(as_published)
    if name == "esc50":
        assert len(data.load(name, root, **ESC10)) == 20


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("meta/esc50.csv", ",fold,", ",Falte,", "esc50.csv, no column is called 'fold'; there are filename, Falte"),
        ("meta/esc50.csv", "A-0.wav,2,", "A-0.wav,two,", "esc50.csv, line 8, column fold: 'two' is no whole number"),
        ("meta/esc50.csv", "2,0,dog", "2,0", "esc50.csv, line 8: 6 values for 7 columns"),
        ("meta/esc50.csv", "dog,True,2", "dog,maybe,2", "esc50.csv, line 8, column esc10: 'maybe'"),
    ],
)
def test_what_is_wrong_with_a_published_table_is_said_with_its_line(tmp_path, file, old, new, message):
    path = trees.esc50(tmp_path) / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CourseError, match=message):
        data.load("esc50", tmp_path, **ESC10)


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
    """By the list of the archive on Zenodo, and by that of Kaggle, which has rows that were never scored."""
    root = trees.fsdkaggle2018(tmp_path)
    published = data.load("fsdkaggle2018", root)
    assert published["split"].tolist() == ["train"] * 2 + ["test"] * 2 and published["label"].notna().all()
    meta = root / "FSDKaggle2018.meta"
    (meta / "test_post_competition_scoring_clips.csv").unlink()
    trees.table(meta / "test_post_competition.csv", trees.KAGGLE)
    manifest = by_id(data.load("fsdkaggle2018", root))
    assert manifest["split"].tolist() == ["train"] * 2 + ["test"] * 3
    assert manifest["label"].tolist() == ["Hi-hat", "Saxophone", None, "Hi-hat", "Saxophone"]
    assert manifest["verified"].tolist() == [False, True, False, True, True]
    assert manifest.loc["001ca53d", "group"] == "358827"
    part = data.load("fsdkaggle2018", root, limit=4)
    assert len(part) == 4 and part["label"].notna().all()  # only labelled clips are drawn
    assert "truth" not in manifest
    trees.table(root / "truth.csv", [("fname", "label"), ("00044347.wav", "Saxophone"), ("001ca53d.wav", "Saxophone")])
    manifest = data.load("fsdkaggle2018", root)
    assert manifest["truth"].tolist()[:2] == ["Saxophone"] * 2 and manifest["label"][0] == "Hi-hat"
    assert manifest["truth"].dropna().tolist()[2:] == manifest["label"].dropna().tolist()[2:]


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
        said = manifest.attrs["left_out"]
        assert said == "1 .csv, 1 .txt, 1 hidden files, 3 recordings that the table does not list"
        assert f"Left out: {said}" in data.about(data.load("folder", data_dir))
    trees.table(own / "second.csv", rows)
    with pytest.raises(DataMissing, match="list.csv, second.csv"):
        data.load("folder", own)


def test_a_manifest_that_was_written_is_read_again(own):
    manifest = data.load("folder", own, group_pattern=r"^([a-z]+)_\d").assign(fold=pd.array([1, 2, 2, 3, 3], "Int64"))
    manifest["duration"] = [0.3, None, "0:01", "", 1]
    for index in (True, False):
        manifest.to_csv(own / "manifest.csv", index=index)
        again = data.load("folder", own)
        pd.testing.assert_frame_equal(again[data._COLUMNS[:-1]], manifest[data._COLUMNS[:-1]])


LIST = [("path", "label", "split"), ("yes/ann_1.wav", "1", "train"), ("no/bob_1.flac", "None", "test")]
WORDS = dict(zip(["yes/ann_1.wav", "no/bob_1.flac"], ["1", "None"], strict=True))


@pytest.mark.parametrize("name", ["list.csv", "LABELS.CSV", "meta/own.tsv"])
@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("path,label,split", {"delimiter": ";"}),
        ("Path, Label ,SPLIT", {}),
        ("filename,Category,split", {"delimiter": "\t", "encoding": "utf-16"}),
        ("File Name,class,split", {"delimiter": "|", "encoding": "utf-8-sig"}),
    ],
)
def test_a_list_is_a_list_however_it_is_written(own, name, header, options):
    trees.table(own / name, [header.split(","), *LIST[1:]], **options)
    manifest = by_id(data.load("folder", own))
    assert manifest["label"].to_dict() == WORDS and manifest["split"].tolist() == ["train", "test"]
    assert [Path(path).exists() for path in manifest["path"]] == [True, True]


@pytest.mark.parametrize("spelt", ["yes\\ann_1.wav", "'yes/ann_1.wav'", "./yes/../yes/ann_1.wav", "ann_1.wav", "{}"])
def test_a_recording_is_found_however_its_path_is_spelt(own, spelt):
    place = own / "yes" / "ann_1.wav"
    trees.table(own / "list.csv", [("path", "label"), (spelt.format(place), "yes")])
    assert data.load("folder", own)["path"].tolist() == [str(place)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\nyes/ann_1.wav,yes\nyes/ann_2.wav\n", "list.csv, line 3: 1 values for 2 columns"),
        (b"path,label\nyes/ann_1.wav,yes,\nno, no.wav,no\n", "list.csv, line 3: 3 values for 2 columns"),
        (b"path,label,split\nyes/ann_1.wav,yes,later\n", "list.csv, line 2: the split 'later'"),
        (b"path,label\n,yes\n", "list.csv, line 2: the path is empty"),
        (b"path,label,Label\na.wav,yes,no\n", "two columns are called 'Label'"),
        (b"path,label,fold\nyes/ann_1.wav,yes,1\n\nno/bob_1.flac,no,1.5\n", "line 4, column fold: '1.5'"),
        (b"path,label,fold\nyes/ann_1.wav,yes,1e300\n", "line 2, column fold: '1e300'"),
        (b"path,label,fold\nyes/ann_1.wav,yes,nan\n", "line 2, column fold: 'nan'"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_its_line(own, content, message):
    (own / "list.csv").write_bytes(content)
    with pytest.raises(CourseError, match=message) as error:
        data.load("folder", own)
    assert "ownload" not in str(error.value)


def test_a_table_that_names_the_recordings_but_is_no_list_is_said(own):
    """Where the folders give classes, beside them; where not, in place of them: a label is never wrong in silence."""
    (own / "list.csv").write_text("datei;klasse\nyes\\ann_1.wav;ja\n")
    note = data.load("folder", own).attrs["warning"]
    assert "list.csv was not read: no column is called path or label (there are datei, klasse)" in note
    (own / "no").rename(own / "yes" / "no")
    with pytest.raises(CourseError, match="list.csv: no column is called path or label"):
        data.load("folder", own)
    (own / "list.csv").write_text("name,licence\nsomebody,CC0\n")  # about something else
    (own / "yes" / "no").rename(own / "no")
    assert "list.csv" not in data.load("folder", own).attrs["warning"]


def test_folders_of_sides_and_folds_are_no_classes(tmp_path):
    for split in ("Train", "val", "test"):
        for label in ("yes", "no"):
            trees.tone(tmp_path / "split" / split / label / "a.wav")
            trees.tone(tmp_path / "fold" / f"fold{len(split)}" / label / f"{split}.wav")
    manifest = data.load("folder", tmp_path / "split")
    assert manifest["label"].tolist() == ["no", "yes"] * 3
    assert manifest["split"].tolist() == ["train"] * 2 + ["test"] * 2 + ["validation"] * 2
    manifest = data.load("folder", tmp_path / "fold")
    assert manifest["label"].tolist() == ["no", "yes", "no", "no", "yes", "yes"] or set(manifest["label"]) == {
        "no",
        "yes",
    }
    assert set(manifest["fold"]) == {3, 4, 5}
    trees.tone(tmp_path / "split" / "noise" / "a.wav")
    with pytest.raises(CourseError, match="Train and test and val beside noise"):
        data.load("folder", tmp_path / "split")
    with pytest.raises(CourseError, match="of one class, 'fold', .*fold3"):
        (tmp_path / "split").rename(tmp_path / ".split")
        data.load("folder", tmp_path)


def test_urbansound8k_is_read_by_its_table(tmp_path):
    rows = [("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")]
    for fold in (1, 2, 10):
        trees.tone(tmp_path / "audio" / f"fold{fold}" / f"{fold}00-3-0-0.wav")
        rows.append((f"{fold}00-3-0-0.wav", f"{fold}00", "0.0", "0.3", "1", fold, "3", "dog_bark"))
    trees.table(tmp_path / "metadata" / "UrbanSound8K.csv", rows)
    manifest = data.load("folder", tmp_path)
    assert manifest["fold"].tolist() == [1, 2, 10] and set(manifest["label"]) == {"dog_bark"}
    assert all(Path(path).exists() for path in manifest["path"])
    with pytest.raises(CourseError, match="fold1, fold10, fold2 .*hold no folders of classes"):
        data.load("folder", tmp_path / "audio")


def test_no_recording_vanishes(own):
    """Whatever is below the folder is read, or counted."""
    (own / "elsewhere").mkdir()
    (own / "elsewhere").rename(own.parent / "elsewhere")
    trees.tone(own.parent / "elsewhere" / "far.wav")
    (own / "linked").symlink_to(own.parent / "elsewhere")
    (own / "yes" / "again").symlink_to(own)
    (own / ".cache").mkdir()
    for name in ("old.WAVE", "phone.amr", "clip.3gp", "cast.mpga", "at 10\u202fAM.wav", "notes", "cover.jpg"):
        (own / "yes" / name).write_bytes(b"x")
    with open(os.fsencode(own / "yes") + b"/caf\xe9.wav", "wb"):
        pass
    manifest = data.load("folder", own)
    names = {"linked/far.wav", *(f"yes/{name}" for name in ("phone.amr", "clip.3gp", "cast.mpga", "at 10\u202fAM.wav"))}
    assert {*names, "yes/old.WAVE"} < {*manifest["clip_id"]}
    assert manifest.attrs["left_out"].split(", ") == [
        "1 .jpg",
        "1 .txt",
        "1 files whose name is not UTF-8",
        "1 files without suffix",
        "1 hidden files",
        "1 hidden folders",
        "1 links to a folder that was read already",
    ]


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


def test_classes_that_look_alike_are_said(tmp_path):
    for name in ("Dog", "dog ", "Caf\u00e9", "Cafe\u0301", "cow"):
        (tmp_path / name).mkdir()
        trees.tone(tmp_path / name / "a.wav")
    manifest = data.load("folder", tmp_path)
    assert manifest["label"].nunique() == 5
    assert r"'Cafe\u0301' and 'Caf\xe9'; 'Dog' and 'dog '. If they are one" in data.about(manifest)


def test_recordings_at_hand_are_those_whose_download_is_complete(tmp_path, monkeypatch):
    remote = RemoteFile("https://nowhere.org/x.zip", "ESC-10", hash="sha256:0")
    monkeypatch.setattr(esc10, "INFO", dataclasses.replace(esc10.INFO, files=(remote,)))
    monkeypatch.setattr(base, "DATA", tmp_path)
    assert data.at_hand("esc10", "mine") == "mine" and data.at_hand("esc10", "") is None
    monkeypatch.delenv("COURSE_SAMPLE")
    clip = tmp_path / "esc10" / "ESC-10" / "a.ogg"
    clip.parent.mkdir(parents=True)
    clip.write_bytes(b"12")
    assert data.at_hand("esc10") is None
    done = tmp_path / "esc10" / ".downloads" / "x.zip.json"
    base.write_json(done, {"url": remote.url, "hash": remote.hash, "files": {"a.ogg": 2}})
    assert Path(data.at_hand("esc10")) == tmp_path / "esc10"
    clip.write_bytes(b"1")  # cut by someone
    assert data.at_hand("esc10") is None and data.at_hand("folder") is None
    clip.write_bytes(b"12")
    monkeypatch.setenv("COURSE_SAMPLE", "1")
    assert data.at_hand("esc10") is None
