"""The embedded sample: same samples everywhere, in the published layouts, with the faults the recipe declares."""

import copy
import csv
import hashlib
import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recipe as sample
import soundfile as sf
from recipe.synth import KINDS, source
from recipe.synth.parts import generator

from helpers import base, data
from helpers.base import DATA, write_json

RECIPE = tomllib.loads(sample.RECIPE.read_text(encoding="utf-8"))

# sha256 of the int16 samples of these clips, seed 0. Made with `python tests/test_sample.py` on Linux x86-64 with
# numpy 2.4.6 and scipy 1.17.1; to be renewed only when the recipe or its synthesis changed on purpose.
CHECKSUMS = Path(__file__).parent / "sample_checksums.json"


def chosen_clips(dataset):
    """Some six clips of a dataset, spread over its plan."""
    clips = [clip for clip in sample.PLANS[dataset](RECIPE[dataset], 0).clips if clip.seconds <= 10]
    return clips[:: max(len(clips) // 6, 1)]


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
    recipe["esc50"].update(seconds=0.5, clips_per_fold=1, padded=[])
    recipe["tut2017"].update(seconds=0.5, dropout={"file": 5, "start": 0.1, "end": 0.2})
    recipe["fsdkaggle2018"].update(train=12, test=8, ignored=2, max_seconds=0.5)
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

    return "".join(
        f"[{name}]\n" + "".join(f"{json.dumps(k)} = {value(v)}\n" for k, v in entry.items())
        for name, entry in recipe.items()
    )


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


def test_takes_of_a_source_differ_and_share_nothing_global():
    np.random.seed(1)
    first = source("bark", 22050, 22050, generator("a"), generator("b"))
    np.random.seed(2)
    assert np.array_equal(first, source("bark", 22050, 22050, generator("a"), generator("b")))
    assert not np.array_equal(first, source("bark", 22050, 22050, generator("a"), generator("c")))


def test_number_of_processes_does_not_show(small, small_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(sample.os, "cpu_count", lambda: 1)
    other = sample.make(tmp_path, recipe=small_recipe)
    assert contents(other) == contents(small)


def test_another_seed_gives_other_sounds(small, small_recipe, tmp_path):
    recipe = tomllib.loads(small_recipe.read_text())
    plans = [sample.plan_speech_commands(recipe["speech_commands"], seed) for seed in (0, 1)]
    assert {clip.path for clip in plans[0].clips} != {clip.path for clip in plans[1].clips}


def test_fsd50k_layout(small):
    root = small / "FSD50K"
    dev = pd.read_csv(root / "FSD50K.ground_truth/dev.csv", dtype=str)
    evaluation = pd.read_csv(root / "FSD50K.ground_truth/eval.csv", dtype=str)
    assert list(dev.columns) == ["fname", "labels", "mids", "split"]
    assert list(evaluation.columns) == ["fname", "labels", "mids"]
    vocabulary = pd.read_csv(root / "FSD50K.ground_truth/vocabulary.csv", header=None, names=["i", "label", "mid"])
    mids = dict(zip(vocabulary["label"], vocabulary["mid"], strict=True))
    for table in (dev, evaluation):
        for labels, ids in zip(table["labels"], table["mids"], strict=True):
            assert [mids[label] for label in labels.split(",")] == ids.split(",")
    for part, table in (("dev", dev), ("eval", evaluation)):
        info = json.loads((root / f"FSD50K.metadata/{part}_clips_info_FSD50K.json").read_text())
        assert set(info) == set(table["fname"])
        assert {frozenset(entry) for entry in info.values()} == {
            frozenset(["title", "description", "tags", "license", "uploader"])
        }
    for name in ("class_info", "pp_pnp_ratings"):
        assert json.loads((root / f"FSD50K.metadata/{name}_FSD50K.json").read_text())
    assert not set(dev["fname"]) & set(evaluation["fname"])


def test_only_the_leak_uploader_stands_in_train_and_val(small):
    root = small / "FSD50K"
    dev = pd.read_csv(root / "FSD50K.ground_truth/dev.csv", dtype=str).set_index("fname")
    dev_info, eval_info = (
        json.loads((root / f"FSD50K.metadata/{part}_clips_info_FSD50K.json").read_text()) for part in ("dev", "eval")
    )
    parts = dev["split"].groupby({name: entry["uploader"] for name, entry in dev_info.items()}).agg(set)
    assert parts[parts.map(len) > 1].index.tolist() == [RECIPE["fsd50k"]["leak_uploader"]]
    uploaders = [{entry["uploader"] for entry in info.values()} for info in (dev_info, eval_info)]
    assert not uploaders[0] & uploaders[1]


def test_declared_faults_are_there(small, small_recipe):
    recipe = tomllib.loads(small_recipe.read_text())["fsd50k"]
    plan = sample.plan_fsd50k(recipe, 0)
    root, seen = small / "FSD50K", {}
    for clip in plan.clips:
        path = root / clip.path
        if not clip.fault:
            info = sf.info(path)
            assert (info.samplerate, info.channels) == (22050, 1)
            assert info.frames == round(clip.seconds * 22050)
            continue
        seen[clip.fault] = seen.get(clip.fault, 0) + 1
        if clip.fault == "missing":
            assert not path.exists()
            continue
        raw = path.read_bytes()
        if clip.fault == "empty":
            assert raw == b""
        elif clip.fault == "text":
            assert raw.startswith(b"<html>")
        elif clip.fault == "header_only":
            assert raw[:4] == b"RIFF" and sf.info(path).frames == 0
        elif clip.fault == "truncated":
            # The data chunk claims the full length, the file holds half.
            assert int.from_bytes(raw[40:44], "little") == 2 * round(clip.seconds * 22050) > len(raw)
        else:
            y, sr = sf.read(path)
            assert np.abs(y).max() == 0 if clip.fault == "silent" else np.abs(y).max() > 0
            assert sr == {"sr_8000": 8000, "sr_48000": 48000}.get(clip.fault, 22050)
            assert y.ndim == (2 if clip.fault == "stereo" else 1)
            if clip.fault == "clipped":
                assert np.mean(np.abs(y) > 0.999) > 0.002
            if clip.fault == "very_short":
                assert len(y) == round(0.05 * sr)
            if clip.fault == "duplicate":
                assert (root / f"{clip.key}").read_bytes() == raw and clip.key != clip.path
    declared = {}
    for fault in recipe["faults"]:
        declared[fault["fault"]] = declared.get(fault["fault"], 0) + fault.get("count", 1)
    assert seen == declared


def test_recipe_as_published_is_unbalanced_and_names_what_it_uses():
    fsd = RECIPE["fsd50k"]
    dev = [entry["dev"] for entry in fsd["classes"].values()]
    assert sum(dev) == 240 and max(dev) == 8 * min(dev)
    assert min(entry["eval"] for entry in fsd["classes"].values()) >= 6
    assert {kind for entry in fsd["classes"].values() for kind in entry["kinds"]} <= set(fsd["kinds"]) & set(KINDS)
    assert {label for kind in fsd["kinds"].values() for label in kind["labels"]} <= set(fsd["mids"])
    assert any(clip.seconds == 30 for clip in sample.plan_fsd50k(fsd, 0).clips)


def test_wrangled_tags_mostly_agree_with_ground_truth():
    from helpers.data.wrangle import read_crosswalk, read_tag_lists, truth_class, wrangle

    tag_lists, crosswalk = read_tag_lists(), read_crosswalk()
    plan = sample.plan_fsd50k(RECIPE["fsd50k"], 0)
    agree = []
    for part in ("dev", "eval"):
        info = json.loads(plan.texts[f"FSD50K.metadata/{part}_clips_info_FSD50K.json"])
        rows = csv.DictReader(plan.texts[f"FSD50K.ground_truth/{part}.csv"].splitlines())
        truth = {row["fname"]: truth_class(row["labels"].split(","), crosswalk) for row in rows}
        agree += [wrangle(info[name]["tags"], tag_lists) == label for name, label in truth.items()]
    assert 0.82 < np.mean(agree) < 0.95


def test_esc50_layout(small):
    table = pd.read_csv(small / "ESC-50-master/meta/esc50.csv")
    assert list(table.columns) == ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    for row in table.itertuples():
        assert row.filename == f"{row.fold}-{row.src_file}-{row.take}-{row.target}.wav"
        assert (small / "ESC-50-master/audio" / row.filename).exists()
    real = {
        "dog": 0,
        "rooster": 1,
        "rain": 10,
        "sea_waves": 11,
        "crackling_fire": 12,
        "crying_baby": 20,
        "sneezing": 21,
    }
    real |= {"clock_tick": 38, "helicopter": 40, "chainsaw": 41}
    assert dict(zip(table["category"], table["target"], strict=True)) == real


def test_esc50_sources_have_several_takes_and_one_fold():
    plan = sample.plan_esc50(RECIPE["esc50"], 0)
    rows = [line.split(",") for line in plan.texts["meta/esc50.csv"].splitlines()[1:]]
    folds = {}
    for row in rows:
        folds.setdefault(row[5], []).append(row[1])
    assert all(len(set(found)) == 1 for found in folds.values())
    assert any(len(found) > 1 for found in folds.values())
    assert all(clip.pad_to == 5.0 for clip in plan.clips)


def test_tut2017_layout(small):
    root = small / "TUT-acoustic-scenes-2017-development"
    meta = pd.read_csv(root / "meta.txt", sep="\t", names=["file", "scene", "location"])
    assert meta["scene"].nunique() == 4 and meta["location"].nunique() == 16
    assert (meta["location"] == meta["file"].str.extract(r"audio/(\w\d{3})_\d+_\d+\.wav")[0]).all()
    location = dict(zip(meta["file"], meta["location"], strict=True))
    tested = []
    for fold in range(1, 5):
        train, evaluate, test = (
            pd.read_csv(root / f"evaluation_setup/fold{fold}_{part}.txt", sep="\t", header=None)
            for part in ("train", "evaluate", "test")
        )
        assert evaluate[0].tolist() == test[0].tolist()
        assert not set(train[0].map(location)) & set(test[0].map(location))
        assert sorted([*train[0], *test[0]]) == sorted(meta["file"])
        tested += test[0].tolist()
    assert sorted(tested) == sorted(meta["file"])
    file, start, end = (root / "error.txt").read_text().split("\t")[:3]
    y, sr = sf.read(root / file)
    assert y.shape[1] == 2 and sr == 16000
    assert not y[int(float(start) * sr) : int(float(end) * sr)].any()


def test_fsdkaggle2018_layout(small):
    root = small / "FSDKaggle2018"
    train = pd.read_csv(root / "FSDKaggle2018.meta/train_post_competition.csv", keep_default_na=False)
    test = pd.read_csv(root / "FSDKaggle2018.meta/test_post_competition.csv", keep_default_na=False)
    assert list(train.columns) == ["fname", "label", "manually_verified", "freesound_id", "license"]
    assert list(test.columns) == ["fname", "label", "usage", "freesound_id", "license"]
    assert (test["label"] == "None").equals(test["usage"] == "Ignored")
    for folder, table in (("train", train), ("test", test)):
        assert sorted(p.name for p in (root / f"FSDKaggle2018.audio_{folder}").iterdir()) == sorted(table["fname"])


def test_fsdkaggle2018_verified_labels_are_right_and_many_others_wrong():
    recipe = RECIPE["fsdkaggle2018"]
    plan = sample.plan_fsdkaggle2018(recipe, 0)
    kinds = {clip.path.split("/")[1]: clip.kind for clip in plan.clips}
    rows = [x.split(",") for x in plan.texts["FSDKaggle2018.meta/train_post_competition.csv"].splitlines()[1:]]
    wrong = {"0": [], "1": []}
    for fname, label, verified, *_ in rows:
        wrong[verified].append(recipe["classes"][label] != kinds[fname])
    assert not any(wrong["1"])
    assert 0.15 < np.mean(wrong["0"]) < 0.45
    ids = [row[3] for row in rows]
    assert len(set(ids)) < len(ids)


def test_speech_commands_layout(small):
    root = small / "speech_commands_v0.02"
    names = {path.relative_to(root).as_posix() for path in root.glob("*/*.wav")}
    words = {name for name in names if not name.startswith("_background_noise_/")}
    assert len(names - words) == 2
    assert all(re.fullmatch(r"[a-z]+/[0-9a-f]{8}_nohash_\d+\.wav", name) for name in words)
    lists = [set((root / f"{part}_list.txt").read_text().split()) for part in ("validation", "testing")]
    speakers = [{name.split("/")[1][:8] for name in part} for part in (*lists, words - lists[0] - lists[1])]
    assert all(lists) and lists[0] | lists[1] < words
    assert not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])


def test_folder_has_mixed_formats_recorders_and_a_table(small):
    root = small / "folder"
    table = pd.read_csv(root / "labels.csv")
    assert list(table.columns) == ["path", "label", "group"]
    for row in table.itertuples():
        assert (root / row.path).exists()
        assert re.match(rf"{row.label}/{row.group}_", row.path)
    assert {Path(path).suffix for path in table["path"]} == {".wav", ".flac", ".ogg"}
    assert (root / table["path"].iloc[-2]).stat().st_size == 0


def test_a_complete_sample_is_left_alone(small, small_recipe, capsys):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*.*") if path.name != ".lock"}
    sample.make(small, recipe=small_recipe)
    assert "complete and current" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in small.rglob("*.*") if path.name != ".lock"}


def test_only_what_changed_or_lacks_files_is_made_again(small, small_recipe, tmp_path):
    recipe = tomllib.loads(small_recipe.read_text())
    recipe = {name: recipe[name] for name in ("esc50", "tut2017", "folder")}
    path = tmp_path / "sample.toml"
    path.write_text(to_toml(recipe))
    dest = sample.make(tmp_path / "s", recipe=path)
    kept = (dest / "ESC-50-master/meta/esc50.csv").stat().st_mtime_ns
    recipe["folder"]["clips_per_class"] = 3
    path.write_text(to_toml(recipe))
    next((dest / "TUT-acoustic-scenes-2017-development/audio").iterdir()).unlink()
    sample.make(dest, recipe=path)
    assert (dest / "ESC-50-master/meta/esc50.csv").stat().st_mtime_ns == kept
    assert len(list((dest / "folder").glob("*/*"))) == 4 * 3 + 2
    assert len(list((dest / "TUT-acoustic-scenes-2017-development/audio").iterdir())) == 32


def test_a_killed_call_is_cleared_and_finished(small, small_recipe, tmp_path):
    dest = tmp_path / "s"
    code = "import sys; sys.path.append(sys.argv[3]); import recipe; recipe.make(sys.argv[1], recipe=sys.argv[2])"
    process = subprocess.Popen([sys.executable, "-c", code, str(dest), str(small_recipe), str(DATA)])
    # Kill it while it builds: as soon as some recording of a dataset lies in its temporary folder.
    while process.poll() is None and not any(dest.glob(".building-*/*/*.wav")):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert list(dest.glob(".building-*")), "it ended before it could be killed"
    sample.make(dest, recipe=small_recipe)
    assert not list(dest.glob(".building-*"))
    assert contents(dest) == contents(small)


def test_an_outdated_sample_is_made_anew(small, small_recipe, tmp_path, monkeypatch, capsys):
    for module, name, value in (
        (sample, "RECIPE", small_recipe),
        (sample, "SAMPLE", tmp_path),
        (base, "SAMPLE", tmp_path),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sample.make, "__defaults__", (tmp_path, 0, small_recipe))
    before = data.load("esc50")
    assert "Making the sample" in capsys.readouterr().out
    data.load("esc50")
    assert "Making" not in capsys.readouterr().out
    stamp = json.loads((tmp_path / "SAMPLE.json").read_text())
    stamp["datasets"]["esc50"]["digest"] = "of older code"
    write_json(tmp_path / "SAMPLE.json", stamp)
    (tmp_path / "ESC-50-master" / "meta" / "esc50.csv").write_text("older")
    assert data.load("esc50").equals(before) and "Making the sample" in capsys.readouterr().out


if __name__ == "__main__":
    made = {name: {clip.path: checksum(clip, name) for clip in chosen_clips(name)} for name in RECIPE}
    CHECKSUMS.write_text(json.dumps(made, indent=1) + "\n")
