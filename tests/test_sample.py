"""The embedded sample: same samples everywhere, in the published layouts, with the faults the recipe declares."""

import copy
import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recipe as sample
import soundfile as sf
from recipe.synth import KINDS, source
from recipe.synth.parts import generator

from helpers import audio, base, data
from helpers.base import DATA, write_json
from helpers.data.wrangle import read_crosswalk, read_tag_lists, truth_class, wrangle

RECIPE = sample.read(sample.RECIPE)

# sha256 of the int16 samples of these clips, seed 0. Made with `PYTHONPATH=data python tests/test_sample.py` on Linux
# x86-64 with numpy 2.4.6 and scipy 1.17.1; to be renewed only when the recipe or its synthesis changed on purpose.
CHECKSUMS = Path(__file__).parent / "sample_checksums.json"


def chosen_clips(dataset):
    """Some six clips of a dataset, spread over its plan."""
    clips = [clip for clip in plan(dataset).clips if clip.seconds <= 10]
    return clips[:: max(len(clips) // 6, 1)]


def plan(dataset, seed=0):
    """What the recipe as published makes of a dataset."""
    return sample.PLANS[dataset](RECIPE[dataset], seed)


def csv_rows(text):
    return list(csv.DictReader(text.splitlines()))


def checksum(clip, dataset):
    return hashlib.sha256(sample.render(clip, dataset, 0).astype("<i2").tobytes()).hexdigest()


@pytest.fixture(scope="module")
def small_recipe(tmp_path_factory):
    """The recipe with a few short clips each, and every fault."""
    recipe = copy.deepcopy(RECIPE)
    fsd = recipe["fsd50k"]
    fsd.update(median_seconds=0.9, min_seconds=0.85, max_seconds=1.0, leak_clips=6)
    for label, entry in fsd["classes"].items():
        entry.update(dev=36 if label == "music" else 4, eval=12 if label == "music" else 2)
    for fault in fsd["faults"]:
        fault["seconds"] = min(fault.get("seconds", 0.9), 3.0)
    for name in ("esc50", "esc10"):
        recipe[name].update(seconds=0.5, clips_per_fold=1, short=[])
    recipe["tut2017"].update(seconds=0.5, locations=4, dropout={"file": 5, "start": 0.1, "end": 0.2})
    recipe["tut2017_evaluation"].update(seconds=0.5)
    recipe["fsdkaggle2018"].update(train=12, test=8, max_seconds=0.5)
    recipe["speech_commands"].update(speakers=4, clips_per_speaker=3, validation_speakers=1, testing_speakers=1)
    recipe["speech_commands"]["background_seconds"] = 0.5
    recipe["folder"].update(clips_per_class=6)
    path = tmp_path_factory.mktemp("recipe") / "sample.toml"
    path.write_text(to_toml(recipe), encoding="utf-8")
    return path


def to_toml(recipe):
    def value(x):
        if isinstance(x, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {value(v)}" for k, v in x.items()) + "}"
        return "[" + ", ".join(map(value, x)) + "]" if isinstance(x, list) else json.dumps(x)

    return "".join(f"{json.dumps(name)} = {value(entry)}\n" for name, entry in recipe.items())


@pytest.fixture(scope="module")
def small(small_recipe, tmp_path_factory):
    return sample.make(tmp_path_factory.mktemp("sample"), recipe=small_recipe)


def contents(folder):
    """Relative path and content of every file (decoded samples for OGG, whose stream carries a random number)."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            name = path.relative_to(folder).as_posix()
            found[name] = sf.read(path)[0].tobytes() if path.suffix == ".ogg" else path.read_bytes()
    return found


@pytest.mark.parametrize("dataset", list(RECIPE))
def test_samples_have_the_recorded_checksums(dataset):
    recorded = json.loads(CHECKSUMS.read_text())[dataset]
    assert {clip.path: checksum(clip, dataset) for clip in chosen_clips(dataset)} == recorded


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize(("n", "sr"), [(400, 8000), (12000, 8000), (72000, 48000)])
def test_every_kind_sounds_at_any_rate_and_length(kind, n, sr):
    y = source(kind, n, sr, generator(kind, "who"), generator(kind, "take"))
    assert y.shape == (n,)
    assert np.isfinite(y).all()
    # A clip of 50 ms may fall into the pause before the first event; one of 1.5 s may not.
    assert n == 400 or np.abs(y).max() > 0


def test_takes_and_seeds_differ_and_share_nothing_global():
    np.random.seed(1)
    first = source("bark", 22050, 22050, generator("a"), generator("b"))
    np.random.seed(2)
    assert np.array_equal(first, source("bark", 22050, 22050, generator("a"), generator("b")))
    assert not np.array_equal(first, source("bark", 22050, 22050, generator("a"), generator("c")))
    paths = [{clip.path for clip in plan("speech_commands", seed).clips} for seed in (0, 1)]
    assert paths[0] != paths[1]


def test_no_group_stands_on_two_sides_but_the_declared_leak(small):
    for dataset, side in (
        ("esc50", "fold"),
        ("esc10", "fold"),
        ("tut2017", "fold"),
        ("speech_commands", "split"),
        ("fsd50k", "split"),
    ):
        manifest = data.load(dataset, small)
        sides = manifest.groupby("group")[side].nunique()
        leaks = [RECIPE["fsd50k"]["leak_uploader"]] if dataset == "fsd50k" else []
        assert sides[sides > 1].index.tolist() == leaks and "warning" not in manifest.attrs


def test_fsd50k_layout(small):
    root = small / "FSD50K"
    vocabulary = pd.read_csv(root / "FSD50K.ground_truth/vocabulary.csv", header=None, names=["i", "label", "mid"])
    mids = dict(zip(vocabulary["label"], vocabulary["mid"], strict=True))
    for part, columns in (("dev", ["fname", "labels", "mids", "split"]), ("eval", ["fname", "labels", "mids"])):
        table = pd.read_csv(root / f"FSD50K.ground_truth/{part}.csv", dtype=str)
        assert list(table.columns) == columns
        for labels, ids in zip(table["labels"], table["mids"], strict=True):
            assert [mids[label] for label in labels.split(",")] == ids.split(",")
        info = json.loads((root / f"FSD50K.metadata/{part}_clips_info_FSD50K.json").read_text())
        assert set(info) == set(table["fname"])
        assert all(set(entry) == set("title description tags license uploader".split()) for entry in info.values())
    for name in ("class_info", "pp_pnp_ratings"):
        assert json.loads((root / f"FSD50K.metadata/{name}_FSD50K.json").read_text())


def test_declared_faults_are_there(small, small_recipe):
    recipe = tomllib.loads(small_recipe.read_text())["fsd50k"]
    reasons = {"missing": "missing", "empty": "empty", "text": "not audio", "header_only": "header only"}
    reasons["truncated"] = "truncated"
    root, seen = small / "FSD50K", Counter()
    for clip in sample.plan_fsd50k(recipe, 0).clips:
        seen[clip.fault] += 1
        facts = audio.probe(root / clip.path)
        assert facts["reason"] == reasons.get(clip.fault), clip
        if not facts["reason"]:
            assert facts["sr"] == {"sr_8000": 8000, "sr_48000": 48000}.get(clip.fault, 22050)
            assert facts["channels"] == (2 if clip.fault == "stereo" else 1)
            seconds = 0.05 if clip.fault == "very_short" else clip.seconds
            assert facts["duration"] == round(seconds * facts["sr"]) / facts["sr"]
            assert (facts["peak"] == 0) == (clip.fault == "silent")
            assert (facts["clipped"] > 0.002) == (clip.fault == "clipped")
        if clip.fault == "duplicate":
            assert clip.key != clip.path and audio.probe(root / clip.key)["digest"] == facts["digest"]
    declared = Counter()
    for fault in recipe["faults"]:
        declared[fault["fault"]] += fault.get("count", 1)
    assert {fault: n for fault, n in seen.items() if fault} == declared


def test_recipe_as_published_is_unbalanced_and_names_what_it_uses():
    fsd = RECIPE["fsd50k"]
    dev = [entry["dev"] for entry in fsd["classes"].values()]
    assert sum(dev) == 240 and max(dev) == 8 * min(dev)
    assert min(entry["eval"] for entry in fsd["classes"].values()) >= 6
    assert {kind for entry in fsd["classes"].values() for kind in entry["kinds"]} <= set(fsd["kinds"]) & set(KINDS)
    assert {label for kind in fsd["kinds"].values() for label in kind["labels"]} <= set(fsd["mids"])
    assert any(clip.seconds == 30 for clip in plan("fsd50k").clips)


def test_wrangled_tags_mostly_agree_with_ground_truth():
    tag_lists, crosswalk, texts = read_tag_lists(), read_crosswalk(), plan("fsd50k").texts
    agree = []
    for part in ("dev", "eval"):
        info = json.loads(texts[f"FSD50K.metadata/{part}_clips_info_FSD50K.json"])
        for row in csv_rows(texts[f"FSD50K.ground_truth/{part}.csv"]):
            truth = truth_class(row["labels"].split(","), crosswalk)
            agree.append(wrangle(info[row["fname"]]["tags"], tag_lists) == truth)
    assert 0.82 < np.mean(agree) < 0.95


def test_esc50_layout(small):
    table = pd.read_csv(small / "ESC-50-master/meta/esc50.csv")
    assert list(table.columns) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    for row in table.itertuples():
        assert row.filename == f"{row.fold}-{row.src_file}-{row.take}-{row.target}.wav"
        assert (small / "ESC-50-master/audio" / row.filename).exists()
    targets = {"dog": 0, "rooster": 1, "rain": 10, "sea_waves": 11, "crackling_fire": 12, "crying_baby": 20}
    targets |= {"sneezing": 21, "clock_tick": 38, "helicopter": 40, "chainsaw": 41}
    assert dict(zip(table["category"], table["target"], strict=True)) == targets


def test_esc50_sources_have_several_takes_and_clips_are_padded():
    assert max(Counter(row["src_file"] for row in csv_rows(plan("esc50").texts["meta/esc50.csv"])).values()) > 1
    assert all(clip.pad_to == 5.0 for clip in plan("esc50").clips)


def test_tut2017_layout(small):
    manifest = data.load("tut2017", small)
    assert (manifest["label"].nunique(), manifest["group"].nunique()) == (6, 24)
    assert (manifest["group"] == manifest["clip_id"].str.extract(r"^(\w\d{3})_\d+_\d+$")[0]).all()
    setup = small / "TUT-acoustic-scenes-2017-development" / "evaluation_setup"
    for fold in range(1, 5):
        train, evaluate, test = (
            [line.split("\t")[0] for line in (setup / f"fold{fold}_{part}.txt").read_text().splitlines()]
            for part in ("train", "evaluate", "test")
        )
        assert evaluate == test and len({*train, *test}) == len(train) + len(test) == len(manifest)
    (clip,) = manifest[manifest["errors"].map(len) > 0].itertuples()
    ((start, end, _),) = clip.errors
    y, sr = sf.read(clip.path)
    assert y.shape[1] == 2 and sr == 16000
    assert not y[int(start * sr) : int(end * sr)].any()
    both = data.load("tut2017", small, evaluation=True)
    new = both[both["split"] == "test"]
    assert len(new) == 6 * 2 and new["label"].value_counts().eq(2).all() and new["group"].nunique() == 12
    assert not set(new["group"]) & set(manifest["group"]) and new["clip_id"].str.fullmatch(r"\d+").all()


def test_fsdkaggle2018_layout(small):
    root = small / "FSDKaggle2018"
    train = pd.read_csv(root / "FSDKaggle2018.meta/train_post_competition.csv", keep_default_na=False)
    test = pd.read_csv(root / "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv", keep_default_na=False)
    assert list(train.columns) == ["fname", "label", "manually_verified", "freesound_id", "license"]
    assert list(test.columns) == ["fname", "label", "usage", "freesound_id", "license"]
    assert set(test["usage"]) <= {"Public", "Private"} and (test["label"] != "None").all()
    for folder, table in (("train", train), ("test", test)):
        assert sorted(p.name for p in (root / f"FSDKaggle2018.audio_{folder}").iterdir()) == sorted(table["fname"])


def test_fsdkaggle2018_verified_labels_are_right_and_many_others_wrong():
    planned = plan("fsdkaggle2018")
    kinds = {clip.path.split("/")[1]: clip.kind for clip in planned.clips}
    rows = pd.DataFrame(csv_rows(planned.texts["FSDKaggle2018.meta/train_post_competition.csv"]))
    wrong = rows["label"].map(RECIPE["fsdkaggle2018"]["classes"]) != rows["fname"].map(kinds)
    assert not wrong[rows["manually_verified"] == "1"].any()
    assert 0.15 < wrong[rows["manually_verified"] == "0"].mean() < 0.45
    assert rows["freesound_id"].duplicated().any()
    assert (rows.groupby("freesound_id")[["label", "manually_verified"]].nunique() == 1).all(axis=None)
    truth = pd.DataFrame(csv_rows(planned.texts["truth.csv"]))
    assert truth["fname"].tolist() == rows["fname"].tolist()
    assert (truth["label"].map(RECIPE["fsdkaggle2018"]["classes"]) == truth["fname"].map(kinds)).all()


def test_speech_commands_layout(small):
    manifest = data.load("speech_commands", small)
    assert manifest["clip_id"].str.fullmatch(r"[a-z]+/[0-9a-f]{8}_nohash_\d+").all()
    assert set(manifest["split"]) == {"train", "validation", "test"}
    assert all(Path(path).exists() for path in manifest["path"])
    assert len(manifest.attrs["background_noise"]) == 2


def test_folder_has_mixed_formats_recorders_and_a_table(small):
    root = small / "folder"
    table = pd.read_csv(root / "labels.csv")
    assert list(table.columns) == ["path", "label", "group"]
    for row in table.itertuples():
        assert (root / row.path).exists()
        assert re.match(rf"{row.label}/{row.group}_", row.path)
    assert {Path(path).suffix for path in table["path"]} == {".wav", ".flac", ".ogg"}
    assert (root / table["path"].iloc[-2]).stat().st_size == 0


@pytest.fixture
def copied(small, tmp_path):
    return Path(shutil.copytree(small, tmp_path / "copied"))


def test_only_what_changed_or_lacks_files_is_made_again(copied, small_recipe, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*.*") if path.name != ".lock"}
    sample.make(copied, recipe=small_recipe)
    assert "complete and current" in capsys.readouterr().out
    recipe = tomllib.loads(small_recipe.read_text())
    recipe["folder"]["clips_per_class"] = 3
    (tmp_path / "changed.toml").write_text(to_toml(recipe))
    tut2017 = copied / "TUT-acoustic-scenes-2017-development"
    next((tut2017 / "audio").iterdir()).unlink()
    sample.make(copied, recipe=tmp_path / "changed.toml")
    assert len(list((copied / "folder").glob("*/*"))) == 4 * 3 + 2
    assert len(list((tut2017 / "audio").iterdir())) == 6 * 4 * 2
    made = {path for path, time in before.items() if not path.exists() or path.stat().st_mtime_ns != time}
    assert {path.relative_to(copied).parts[0] for path in made} == {"folder", tut2017.name, "SAMPLE.json"}


def test_a_killed_call_is_finished_whatever_the_number_of_processes(small, small_recipe, tmp_path, monkeypatch):
    dest = tmp_path / "s"
    code = "import sys; sys.path.append(sys.argv[3]); import recipe; recipe.make(sys.argv[1], recipe=sys.argv[2])"
    process = subprocess.Popen([sys.executable, "-c", code, str(dest), str(small_recipe), str(DATA)])
    # Kill it while it builds: as soon as some recording of a dataset lies in its temporary folder.
    while process.poll() is None and not any(dest.glob(".building-*/*/*.wav")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert list(dest.glob(".building-*")), "it ended before it could be killed"
    monkeypatch.setattr(sample.os, "cpu_count", lambda: 1)
    sample.make(dest, recipe=small_recipe)
    assert not list(dest.glob(".building-*"))
    assert contents(dest) == contents(small)


def test_an_outdated_sample_is_made_anew(copied, small_recipe, monkeypatch, capsys):
    for module, name, value in [(sample, "RECIPE", small_recipe), (sample, "SAMPLE", copied), (base, "SAMPLE", copied)]:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sample.make, "__defaults__", (copied, 0, small_recipe))
    before = data.load("esc50")
    assert "Making" not in capsys.readouterr().out
    stamp = json.loads((copied / "SAMPLE.json").read_text())
    stamp["datasets"]["esc50"]["digest"] = "of older code"
    write_json(copied / "SAMPLE.json", stamp)
    (copied / "ESC-50-master" / "meta" / "esc50.csv").write_text("older")
    assert data.load("esc50").equals(before) and "Making the sample" in capsys.readouterr().out
    (copied / "SAMPLE.json").unlink()
    assert data.load("esc50").equals(before) and "Making the sample" in capsys.readouterr().out


if __name__ == "__main__":
    made = {name: {clip.path: checksum(clip, name) for clip in chosen_clips(name)} for name in RECIPE}
    CHECKSUMS.write_text(json.dumps(made, indent=1) + "\n")
