"""Tiny trees in the published layouts, with every value known."""

import csv
import json
from pathlib import Path

import numpy as np
import soundfile


def tone(path, seconds=0.3, sr=8000, f=440.0, channels=1, level=0.3, **options):
    """Write a sine; different frequencies make different contents."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * sr)) / sr
    y = level * np.sin(2 * np.pi * f * t)
    soundfile.write(path, np.repeat(y[:, None], channels, axis=1), sr, **options)
    return path


def table(path, rows, delimiter=",", encoding="utf-8"):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)


def esc50(parent, name="ESC-50-master"):
    """Two classes, five folds, two clips per class and fold cut from one source."""
    root = Path(parent) / name
    rows = [("filename", "fold", "target", "category", "esc10", "src_file", "take")]
    for fold in range(1, 6):
        for target, category in ((0, "dog"), (11, "sea_waves"), (7, "cow")):
            for take in "AB":
                source = f"{fold}00{target}"
                file = f"{fold}-{source}-{take}-{target}.wav"
                rows.append((file, fold, target, category, category != "cow", source, take))
                tone(root / "audio" / file, f=200 + 40 * len(rows))
    table(root / "meta" / "esc50.csv", rows)
    return root


def esc10(parent, name="ESC-10"):
    """Two classes, five folds, two clips per class and fold cut from one recording; and a file about them."""
    root = Path(parent) / name
    for fold in range(1, 6):
        for number, folder in enumerate(("001 - Dog bark", "010 - Fire crackling")):
            for take in "AB":
                tone(root / folder / f"{fold}-{fold}00{number}-{take}.ogg", f=200 + 40 * fold + 400 * number)
    (root / "README.md").write_text("Whom to name for each clip")
    return root


def fsd50k(parent):
    root = Path(parent) / "FSD50K"
    dev = [
        ("fname", "labels", "mids", "split"),
        ("64760", "Electric_guitar,Guitar,Plucked_string_instrument,Musical_instrument,Music", "/m/02sgy", "train"),
        ("0021", "Doorbell,Door,Domestic_sounds_and_home_sounds", "/m/1,/m/2", "val"),
        ("77", "Walk_and_footsteps", "/m/3", "train"),
    ]
    test = [("fname", "labels", "mids"), ("37199", "Bark,Dog,Domestic_animals_and_pets,Animal", "/m/4")]
    table(root / "FSD50K.ground_truth" / "dev.csv", dev)
    table(root / "FSD50K.ground_truth" / "eval.csv", test)
    table(root / "FSD50K.ground_truth" / "vocabulary.csv", [("0", "Bark", "/m/4")])
    clips = {
        "64760": ("guitarras.wav", ["electric-guitar", "riff"], "casual"),
        "0021": ("bell", ["Door-Bell", "home"], "ann"),
    }
    about = {
        name: {"title": title, "description": "", "tags": tags, "license": "cc0", "uploader": uploader}
        for name, (title, tags, uploader) in clips.items()
    }
    folder = root / "FSD50K.metadata"
    folder.mkdir()
    (folder / "dev_clips_info_FSD50K.json").write_text(json.dumps(about))
    dog = {"title": "dog", "description": "d", "tags": ["unheard-of"], "license": "cc-by", "uploader": "bob"}
    (folder / "eval_clips_info_FSD50K.json").write_text(json.dumps({"37199": dog}))
    for n, name in enumerate(("64760", "0021")):
        tone(root / "FSD50K.dev_audio" / f"{name}.wav", f=300 + n)
    tone(root / "FSD50K.eval_audio" / "37199.wav")
    return root


def tut2017(parent):
    """Eight clips: two scenes, one location each per fold."""
    root = Path(parent) / "TUT-acoustic-scenes-2017-development"
    rows = [
        (f"audio/{scene[0]}{fold:03d}_{start}_{start + 10}.wav", scene, f"{scene[0]}{fold:03d}", fold)
        for fold in range(1, 5)
        for scene in ("beach", "cafe/restaurant")
        for start in (0, 10)
    ]
    table(root / "meta.txt", [row[:3] for row in rows], "\t")
    for fold in range(1, 5):
        setup = root / "evaluation_setup"
        table(setup / f"fold{fold}_train.txt", [r[:2] for r in rows if r[3] != fold], "\t")
        table(setup / f"fold{fold}_evaluate.txt", [r[:2] for r in rows if r[3] == fold], "\t")
        table(setup / f"fold{fold}_test.txt", [r[:1] for r in rows if r[3] == fold], "\t")
    table(root / "error.txt", [(rows[0][0], "0.5", "1.25", "microphone failure")], "\t")
    for n, row in enumerate(rows):
        tone(root / row[0], f=200 + 30 * n, channels=2)
    return root


def tut2017_evaluation(parent):
    """Four clips to evaluate on, at locations of their own; the map does not know the last one."""
    root = Path(parent) / "TUT-acoustic-scenes-2017-evaluation"
    scenes = ["beach", "cafe/restaurant", "beach", "cafe/restaurant"]
    rows = [(f"audio/{n}.wav", scene, f"audio/{scene[0]}90{n // 2 + 1}_0_10.wav") for n, scene in enumerate(scenes)]
    table(root / "meta.txt", [row[:2] for row in rows], "\t")
    table(root / "evaluation_setup" / "evaluate.txt", [row[:2] for row in rows], "\t")
    table(root / "evaluation_setup" / "map.txt", [(row[0], row[2]) for row in rows[:-1]], "\t")
    for n, row in enumerate(rows):
        tone(root / row[0], f=900 + 30 * n, channels=2)
    return root


KAGGLE = [
    ("fname", "label", "usage", "freesound_id", "license"),
    ("00063640.wav", "None", "Ignored", "88926", "Attribution"),
    ("00326aa9.wav", "Hi-hat", "Private", "333", "Creative Commons 0"),
    ("0038a046.wav", "Saxophone", "Public", "444", "Creative Commons 0"),
]


def fsdkaggle2018(parent):
    root = Path(parent) / "FSDKaggle2018"
    meta = root / "FSDKaggle2018.meta"
    table(
        meta / "train_post_competition.csv",
        [
            ("fname", "label", "manually_verified", "freesound_id", "license"),
            ("00044347.wav", "Hi-hat", "0", "28739", "Attribution"),
            ("001ca53d.wav", "Saxophone", "1", "358827", "Attribution"),
        ],
    )
    table(meta / "test_post_competition_scoring_clips.csv", [row for row in KAGGLE if row[2] != "Ignored"])
    for name in ("00044347", "001ca53d"):
        tone(root / "FSDKaggle2018.audio_train" / f"{name}.wav", f=int(name[-2:], 16) + 300)
    for n, name in enumerate(("00063640", "00326aa9", "0038a046")):
        tone(root / "FSDKaggle2018.audio_test" / f"{name}.wav", f=600 + n)
    return root


def speech_commands(parent):
    root = Path(parent) / "speech_commands_v0.02"
    names = ["bed/aa11_nohash_0.wav", "bed/aa11_nohash_1.wav", "bed/bb22_nohash_0.wav"]
    names += ["tree/aa11_nohash_0.wav", "tree/cc33_nohash_0.wav", "tree/dd44_nohash_2.wav"]
    for n, name in enumerate(names):
        tone(root / name, f=200 + 50 * n)
    tone(root / "_background_noise_" / "pink_noise.wav", seconds=1)
    (root / "_background_noise_" / "README.md").write_text("noise")
    (root / "validation_list.txt").write_text("bed/bb22_nohash_0.wav\n")
    # The last one is listed, but not there.
    (root / "testing_list.txt").write_text("tree/cc33_nohash_0.wav\ntree/ee55_nohash_0.wav\n")
    return root


TREES = {
    "esc10": esc10,
    "esc50": esc50,
    "fsd50k": fsd50k,
    "tut2017": tut2017,
    "fsdkaggle2018": fsdkaggle2018,
    "speech_commands": speech_commands,
}
