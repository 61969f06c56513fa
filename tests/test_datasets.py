"""The loaders, on tiny trees whose content is known, and on real ones where REAL_DATA points to them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import trees

from helpers import data as datasets
from helpers.base import CourseError, DataMissing
from helpers.data import _COLUMNS as COLUMNS
from helpers.data import _validate as validate
from helpers.data.declare import draw


def by_id(manifest):
    return manifest.set_index("clip_id")


@pytest.mark.parametrize("name", trees.TREES)
def test_the_tree_or_its_parent_will_do(name, tmp_path):
    root = trees.TREES[name](tmp_path)
    manifest = datasets.load(name, root)
    assert list(manifest.columns[: len(COLUMNS)]) == COLUMNS
    assert manifest.attrs["dataset"] == name
    assert datasets.load(name, tmp_path).equals(manifest)
    assert all(Path(path).is_absolute() for path in manifest["path"])


@pytest.mark.parametrize("name", trees.TREES)
def test_missing_data_say_what_to_do(name, tmp_path):
    with pytest.raises(DataMissing) as error:
        datasets.load(name, tmp_path / "nowhere")
    info = datasets._DATASETS[name].INFO
    for part in (info.marker, str(tmp_path / "nowhere"), f"python -m helpers download {name} DEST", "GB", "data_dir"):
        assert part.replace("GB", "B") in str(error.value)


def test_unknown_name_lists_the_known():
    with pytest.raises(CourseError, match="esc50.*speech_commands"):
        datasets.load("esc-50")
    with pytest.raises(CourseError, match="fsd50k"):
        datasets.load("urbansound")


def test_declarations():
    for name, module in datasets._DATASETS.items():
        assert module.INFO.name == name
        for remote in module.INFO.files:
            # A file that comes without a checksum of its own must come from a record that has one.
            assert remote.hash or remote.url.startswith("doi:10.5281/zenodo.")
            assert (remote.hash or "sha256:").startswith("sha256:")
    assert len(datasets.fsd50k.INFO.files[-1].parts) == 5
    assert len(datasets.tut2017.INFO.files) == 13


def test_esc50(tmp_path):
    trees.esc50(tmp_path, name="ESC-50-33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6")
    manifest = datasets.load("esc50", tmp_path)
    assert len(manifest) == 30 and manifest["split"].isna().all()
    row = by_id(manifest).loc["3-3000-B-0"]
    assert (row["label"], row["fold"], row["group"]) == ("dog", 3, "3000")
    assert (manifest.groupby("group")["fold"].nunique() == 1).all()
    ten = datasets.load("esc50", tmp_path, esc10_only=True)
    assert set(ten["label"]) == {"dog", "sea_waves"} and len(ten) == 20


def test_fsd50k(tmp_path):
    manifest = by_id(datasets.load("fsd50k", trees.fsd50k(tmp_path)))
    assert manifest["split"].to_dict() == {"64760": "train", "0021": "validation", "77": "train", "37199": "test"}
    assert manifest["label"].to_dict() == {"64760": "music", "0021": "alarm", "77": None, "37199": "other"}
    assert manifest["truth"].to_dict() == {"64760": "music", "0021": "alarm", "77": "movement", "37199": "animal"}
    assert manifest.loc["0021", "tags"] == ["Door-Bell", "home"]
    assert manifest.loc["0021", "truth_labels"][0] == "Doorbell"
    assert manifest.loc["64760", "group"] == "casual"
    assert manifest.loc["37199", "path"].endswith("FSD50K.eval_audio/37199.wav")


def test_fsd50k_with_your_own_lists(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('[classes]\nanimal = ["unheard of"]\n')
    manifest = by_id(datasets.load("fsd50k", trees.fsd50k(tmp_path), tag_lists=own))
    assert manifest.loc["37199", "label"] == "animal" and manifest.loc["64760", "label"] == "other"


def test_tut2017(tmp_path):
    manifest = by_id(datasets.load("tut2017", trees.tut2017(tmp_path)))
    assert manifest["fold"].value_counts().to_dict() == {1: 4, 2: 4, 3: 4, 4: 4}
    assert manifest.loc["c003_10_20", ["label", "fold", "group"]].tolist() == ["cafe/restaurant", 3, "c003"]
    assert manifest.loc["b001_0_10", "errors"] == [(0.5, 1.25, "microphone failure")]
    assert manifest.loc["b001_10_20", "errors"] == []
    assert "warning" not in manifest.attrs


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
        datasets.load("tut2017", root)


def test_tut2017_location_on_both_sides(tmp_path):
    root = trees.tut2017(tmp_path)
    _append(root / "evaluation_setup" / "fold2_train.txt", "audio/b002_0_10.wav\tbeach\n")
    assert "fold 2: b002" in datasets.load("tut2017", root).attrs["warning"]


def test_fsdkaggle2018(tmp_path):
    manifest = by_id(datasets.load("fsdkaggle2018", trees.fsdkaggle2018(tmp_path)))
    assert manifest["split"].tolist() == ["train"] * 2 + ["test"] * 3
    assert manifest["label"].tolist() == ["Hi-hat", "Saxophone", None, "Hi-hat", "Saxophone"]
    assert manifest["verified"].tolist() == [False, True, False, True, True]
    assert manifest.loc["001ca53d", "group"] == "358827"


def test_speech_commands(tmp_path):
    root = trees.speech_commands(tmp_path)
    (root / "bed" / "._x.wav").write_bytes(b"what macOS leaves beside recordings")
    manifest = datasets.load("speech_commands", root)
    assert by_id(manifest)["split"].to_dict() == {
        "bed/aa11_nohash_0": "train",
        "bed/aa11_nohash_1": "train",
        "bed/bb22_nohash_0": "validation",
        "tree/aa11_nohash_0": "train",
        "tree/cc33_nohash_0": "test",
        "tree/dd44_nohash_2": "train",
        "tree/ee55_nohash_0": "test",
    }
    assert manifest["group"].tolist() == ["aa11", "aa11", "bb22", "aa11", "cc33", "dd44", "ee55"]
    assert [Path(path).name for path in manifest.attrs["background_noise"]] == ["pink_noise.wav"]
    assert set(datasets.load("speech_commands", root, words=["tree"])["label"]) == {"tree"}
    with pytest.raises(CourseError, match="house.*bed, tree"):
        datasets.load("speech_commands", root, words=["house"])


def test_a_row_whose_file_is_missing_stays(tmp_path):
    root = trees.esc50(tmp_path)
    (root / "audio" / "1-1000-A-0.wav").unlink()
    assert "1-1000-A-0" in set(datasets.load("esc50", root)["clip_id"])


@pytest.fixture
def own(tmp_path):
    for name in ("yes/ann_1.wav", "yes/ann_2.wav", "no/bob_1.flac", "no/deep/bob_2.wav", "loose.wav"):
        trees.tone(tmp_path / "own" / name)
    (tmp_path / "own" / "yes" / "readme.txt").write_text("x")
    (tmp_path / "own" / "yes" / "._ann_1.wav").write_bytes(b"x")
    return tmp_path / "own"


def test_folder(own):
    manifest = by_id(datasets.load("folder", own))
    assert manifest["label"].to_dict() == {
        "loose.wav": None,
        "no/bob_1.flac": "no",
        "no/deep/bob_2.wav": "no",
        "yes/ann_1.wav": "yes",
        "yes/ann_2.wav": "yes",
    }
    assert "inflated" in manifest.attrs["warning"] and "97 %" in manifest.attrs["warning"]


def test_folder_with_groups_in_file_names(own):
    manifest = by_id(datasets.load("folder", own, group_pattern=r"^([a-z]+)_\d"))
    assert manifest.loc["no/deep/bob_2.wav", "group"] == "bob"
    assert manifest.attrs["warning"].startswith("No group is known for 1 of 5 clips")
    (own / "loose.wav").unlink()
    assert "warning" not in datasets.load("folder", own, group_pattern=r"^([a-z]+)_\d").attrs
    for pattern in ("(", "^[a-z]+", "^(zzz)"):
        with pytest.raises(CourseError, match="group_pattern"):
            datasets.load("folder", own, group_pattern=pattern)


def test_folder_with_a_csv(own):
    rows = [("path", "label", "group", "split", "mood"), ("yes/ann_1.wav", "yes", "ann", "train", "glad")]
    rows += [("no/bob_1.flac", "no", "bob", "test", ""), ("gone.wav", "", "", "train", "")]
    trees.table(own / "list.csv", rows)
    for data_dir in (own / "list.csv", own):
        manifest = by_id(datasets.load("folder", data_dir))
        assert manifest["split"].tolist() == ["train", "test", "train"]
        assert manifest["group"].tolist() == ["ann", "bob", None]
        assert manifest["label"].tolist() == ["yes", "no", None]
        assert manifest.loc["yes/ann_1.wav", "path"] == str(own / "yes" / "ann_1.wav")
        assert manifest["mood"].tolist() == ["glad", "", ""]


def test_folder_with_a_csv_of_quoted_headers_and_folds(own):
    (own / "none.csv").write_text("")  # no list of recordings
    text = '"path","label","fold"\n"yes/ann_1.wav","yes","1"\n"no/bob_1.flac","no",""\n'
    (own / "list.csv").write_text(text)
    manifest = by_id(datasets.load("folder", own))
    assert manifest["label"].tolist() == ["yes", "no"]
    assert manifest["fold"].fillna(-1).tolist() == [1, -1]
    for wrong in ("1.5", "first", "nan"):
        (own / "list.csv").write_text(text.replace('"1"', f'"{wrong}"'))
        with pytest.raises(CourseError, match=f"'{wrong}'.*fold"):
            datasets.load("folder", own)


def test_folder_without_recordings(tmp_path):
    with pytest.raises(DataMissing, match="sub-folder per class"):
        datasets.load("folder", tmp_path)
    with pytest.raises(DataMissing, match="does not exist"):
        datasets.load("folder", tmp_path / "none")


def _manifest(rows):
    return validate(pd.DataFrame(rows, columns=["clip_id", "path", "label", "split", "group"]))


def _many(classes=6, per_class=40):
    """A class has 40, the next 20, ...; two clips per group; a fifth is test."""
    rows = []
    for c in range(classes):
        for i in range(max(4, per_class // 2**c)):
            split = "test" if i // 2 % 5 == 0 else "train"
            rows.append((f"{c}-{i}", f"/x/{c}-{i}.wav", f"class {c}", split, f"g{c}-{i // 2}"))
    return _manifest(rows)


def test_limit_keeps_classes_splits_and_groups():
    full = _many()
    part = draw(full, 30, seed=1)
    assert len(part) == 30
    assert set(part["label"]) == set(full["label"])
    pairs = ["label", "split"]
    assert set(map(tuple, part[pairs].to_numpy())) == set(map(tuple, full[pairs].to_numpy()))
    # Proportional: the largest class stays the largest.
    assert part["label"].value_counts().idxmax() == "class 0"
    assert list(part.index) == list(range(30))
    assert draw(full, 30, seed=1).equals(part)
    assert not draw(full, 30, seed=2).equals(part)
    order = {clip: i for i, clip in enumerate(full["clip_id"])}
    assert part["clip_id"].map(order).is_monotonic_increasing


def test_limit_smallest_and_largest():
    full = _many()
    assert draw(full, len(full) + 5).equals(full)
    small = draw(full, 6)
    assert set(small["label"]) == set(full["label"]) and set(small["split"]) == {"train", "test"}
    with pytest.raises(CourseError, match="limit=5 is too small.*use 6"):
        draw(full, 5)


def test_limit_draws_labelled_clips_only(tmp_path):
    part = datasets.load("fsdkaggle2018", trees.fsdkaggle2018(tmp_path), limit=4)
    assert len(part) == 4 and part["label"].notna().all()


def test_limit_keeps_every_fold(tmp_path):
    part = datasets.load("esc50", trees.esc50(tmp_path), limit=15)
    assert len(part) == 15
    assert len(part.groupby(["label", "fold"])) == 15
    assert part.attrs["dataset"] == "esc50"


def test_importing_is_light():
    code = "import sys, helpers.data, helpers.data.wrangle; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _real(name):
    root = Path(os.environ.get("REAL_DATA", "/none")) / name
    if not root.is_dir():
        pytest.skip(f"set REAL_DATA to a folder with {name} to check the real recordings")
    return root


def test_real_esc10():
    manifest = datasets.load("esc50", _real("ESC-50-master"), esc10_only=True)
    assert len(manifest) == 400
    assert (manifest.groupby(["fold", "label"]).size() == 8).all()
    assert (manifest.groupby("group")["fold"].nunique() == 1).all()


def test_real_speech_commands():
    manifest = datasets.load("speech_commands", _real("speech_commands_v0.02"))
    assert (manifest.groupby("group")["split"].nunique() == 1).all()
    assert all(Path(path).exists() for path in manifest["path"])


def test_real_fsdkaggle2018():
    manifest = datasets.load("fsdkaggle2018", _real("FSDKaggle2018"))
    train = manifest[manifest["split"] == "train"]
    # The figures the publishers give.
    assert (len(train), int(train["verified"].sum()), train["label"].nunique()) == (9473, 3710, 41)
    test = manifest[manifest["split"] == "test"]
    assert test["usage"].value_counts().to_dict() == {"Ignored": 7800, "Private": 1299, "Public": 301}
    assert test["label"].notna().sum() == 1600
    assert np.array_equal(test["label"].isna(), test["usage"] == "Ignored")


def test_what_a_manifest_is_from_is_said(tmp_path):
    text = datasets.about(datasets.load("esc50", trees.esc50(tmp_path)))
    assert "ESC-50, 30 clips in" in text and "Licence: CC BY-NC 3.0" in text and "Cite: K. J. Piczak" in text
    sample = datasets.about(datasets.load("esc50"))
    assert sample == "The embedded sample: 100 synthesised clips in the layout of ESC-50."


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
        datasets.load("folder", tmp_path)
    assert "list.csv" in str(error.value) and "ownload" not in str(error.value)
