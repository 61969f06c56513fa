"""What the sample consists of: from the recipe to a list of clips and the tables that go with them, per dataset.

A plan is drawn before anything is rendered, so that every clip can then be rendered alone, in any order.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from recipe.synth.parts import generator


@dataclass(frozen=True)
class Clip:
    """One file of the sample.

    `source` names who or what sounds, `device` who records where: clips that share a name share the character. `key`
    seeds the take (a duplicate has the key of its twin).
    """

    path: str
    kind: str
    seconds: float
    sr: int
    source: str
    device: str
    key: str = ""
    snr: tuple[float, float] = (5.0, 30.0)
    reverb: float = 1.0
    colour: float = 1.0
    level: float = 20.0
    pad_to: float | None = None
    fault: str | None = None
    layers: tuple[dict, ...] = ()
    dropout: tuple[float, float] | None = None


@dataclass
class Plan:
    """The clips of a dataset, and its text files by relative path."""

    clips: list[Clip] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def table_text(rows: list[list], header: list[str] | None = None) -> str:
    """Write rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(([header] if header else []) + rows)
    return text.getvalue()


def conditions(recipe: dict) -> dict:
    """Pick what the recipe says of recording: background, room, microphone, level and rate."""
    picked = {name: recipe[name] for name in ("reverb", "colour", "level", "sr") if name in recipe}
    return {"snr": tuple(recipe["snr"]), **picked}


def seconds_of(recipe: dict, rng: np.random.Generator) -> float:
    """Draw the length of a clip, in seconds: log-normal, most clips short and a few long."""
    drawn = recipe["median_seconds"] * np.exp(recipe["spread_seconds"] * rng.standard_normal())
    return round(float(np.clip(drawn, recipe["min_seconds"], recipe["max_seconds"])), 2)


def _takes(recipe: dict, rng: np.random.Generator) -> Iterator[tuple]:
    """Fold, class, source, take and seconds of each clip: several takes of one source, no source in two folds."""
    for fold in range(1, recipe["folds"] + 1):
        for entry in recipe["classes"]:
            source, take = 0, "A"
            for i in range(recipe["clips_per_fold"]):
                if i and take < "C" and rng.random() < recipe["two_takes"]:
                    take = chr(ord(take) + 1)
                else:
                    source, take = int(rng.integers(10_000, 260_000)), "A"
                seconds = recipe["seconds"]
                if entry["kind"] in recipe["short"]:
                    seconds = round(float(rng.uniform(0.6, 4.0)), 2)
                yield fold, entry, str(source), take, seconds


def plan_esc50(recipe: dict, seed: int) -> Plan:
    """ESC-50: folds of 5 s clips, the short ones padded, and one table."""
    rng, plan, rows, common = generator(seed, "esc50", "plan"), Plan(), [], conditions(recipe)
    for fold, entry, source, take, seconds in _takes(recipe, rng):
        name, common["pad_to"] = f"{fold}-{source}-{take}-{entry['target']}.wav", recipe["seconds"]
        plan.clips.append(Clip(f"audio/{name}", entry["kind"], seconds, source=source, device=source, **common))
        rows.append([name, fold, entry["target"], entry["name"], True, source, take])
    header = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    plan.texts["meta/esc50.csv"] = table_text(sorted(rows), header)
    return plan


def plan_esc10(recipe: dict, seed: int) -> Plan:
    """ESC-10: a folder per class, clips of up to 5 s as Ogg Vorbis, all said by their names."""
    rng, plan, common = generator(seed, "esc10", "plan"), Plan(), conditions(recipe)
    for fold, entry, source, take, seconds in _takes(recipe, rng):
        path = f"{entry['name']}/{fold}-{source}-{take}.ogg"
        plan.clips.append(Clip(path, entry["kind"], seconds, source=source, device=source, **common))
    plan.texts["README.md"] = "Synthesised, in the layout of ESC-10; nobody is to be named.\n"
    return plan


def plan_tut2017(recipe: dict, seed: int) -> Plan:
    """TUT Acoustic Scenes 2017: segments of recordings, in four folds of whole locations."""
    plan, rows = Plan(), []
    for scene, location, number, start in _segments(recipe, seed):
        path = f"audio/{location}_{start}_{start + 10}.wav"
        plan.clips.append(_scene_clip(recipe, path, scene, location))
        rows.append((path, scene, location, 1 + number % 4))
    lost = recipe["dropout"]
    damaged = replace(plan.clips[lost["file"]], dropout=(lost["start"], lost["end"]))
    plan.clips[lost["file"]] = damaged
    lines = {"meta.txt": [row[:3] for row in rows]}
    lines["error.txt"] = [(damaged.path, lost["start"], lost["end"], "dropout")]
    for fold in range(1, 5):
        test = [row for row in rows if row[3] == fold]
        lines[f"evaluation_setup/fold{fold}_train.txt"] = [row[:2] for row in rows if row[3] != fold]
        lines[f"evaluation_setup/fold{fold}_evaluate.txt"] = [row[:2] for row in test]
        lines[f"evaluation_setup/fold{fold}_test.txt"] = [row[:1] for row in test]
    plan.texts = _tabbed(lines)
    return plan


def plan_tut2017_evaluation(recipe: dict, seed: int) -> Plan:
    """Its evaluation set: numbered segments of other locations, the scenes in a table, the locations in a map."""
    planned = [*_segments(recipe, seed, first=200)]
    order, plan, rows = generator(seed, "tut2017", "evaluation").permutation(len(planned)), Plan(), []
    for number, which in enumerate(order):
        scene, location, _, start = planned[which]
        path = f"audio/{number}.wav"
        plan.clips.append(_scene_clip(recipe, path, scene, location))
        rows.append((path, scene, f"audio/{location}_{start}_{start + 10}.wav"))
    lines = {"meta.txt": [row[:2] for row in rows], "evaluation_setup/evaluate.txt": [row[:2] for row in rows]}
    lines["evaluation_setup/test.txt"] = [row[:1] for row in rows]
    lines["evaluation_setup/map.txt"] = [(path, original) for path, _, original in rows]
    plan.texts = _tabbed(lines)
    return plan


def _segments(recipe: dict, seed: int, first: int = 1) -> Iterator[tuple[str, str, int, int]]:
    """Draw scene, location, its number within the scene, and start (s) of every segment."""
    rng = generator(seed, "tut2017", "plan", str(first))
    for scene, entry in recipe["scenes"].items():
        numbers = np.sort(rng.choice(np.arange(first, first + 199), recipe["locations"], replace=False))
        for position, number in enumerate(rng.permutation(numbers)):
            for start in np.sort(rng.choice(18, recipe["segments"], replace=False)) * 10:
                yield scene, f"{entry['letter']}{number:03d}", position, int(start)


def _scene_clip(recipe: dict, path: str, scene: str, location: str) -> Clip:
    layers = tuple(recipe["scenes"][scene]["layers"])
    return Clip(path, f"scene:{scene}", recipe["seconds"], recipe["sr"], location, location, layers=layers)


def _tabbed(tables: dict[str, list]) -> dict[str, str]:
    return {name: "".join("\t".join(map(str, row)) + "\n" for row in rows) for name, rows in tables.items()}


def plan_fsdkaggle2018(recipe: dict, seed: int) -> Plan:
    """FSDKaggle2018: verified and unverified training rows, and the test rows that were scored."""
    rng, plan, common = generator(seed, "fsdkaggle2018", "plan"), Plan(), conditions(recipe)
    names, used = list(recipe["classes"]), set()
    previous: dict[str, tuple[int, str]] = {}
    fate: dict[int, tuple[int, str]] = {}  # whoever mislabels a recording mislabels all clips cut from it
    tables: dict[str, list] = {"train": [], "test": []}
    truth: list[list] = []
    for split, count in (("train", recipe["train"]), ("test", recipe["test"])):
        previous.clear()
        for i in range(count):
            true = names[i % len(names)] if i < 5 * len(names) else str(rng.choice(names))
            if true in previous and rng.random() < recipe["same_source"]:
                freesound_id, licence = previous[true]
            else:
                freesound_id, licence = int(rng.integers(10_000, 420_000)), str(rng.choice(recipe["licenses"]))
                previous[true] = (freesound_id, licence)
            fname = _unused(used, lambda: f"{rng.integers(16**8):08x}.wav")
            folder = f"FSDKaggle2018.audio_{split}"
            plan.clips.append(
                Clip(f"{folder}/{fname}", recipe["classes"][true], seconds_of(recipe, rng), source=str(freesound_id),
                     device=str(freesound_id), **common)
            )  # fmt: skip
            if split == "train":
                verified = int(rng.random() < recipe["verified_share"])
                wrong = not verified and rng.random() < recipe["wrong_labels"][true]
                label = str(rng.choice([name for name in names if name != true])) if wrong else true
                verified, label = fate.setdefault(freesound_id, (verified, label))
                tables[split].append([fname, label, verified, freesound_id, licence])
                truth.append([fname, true])
            else:
                usage = "Public" if rng.random() < recipe["public_share"] else "Private"
                tables[split].append([fname, true, usage, freesound_id, licence])
    plan.texts["truth.csv"] = table_text(sorted(truth), ["fname", "label"])
    meta = "FSDKaggle2018.meta"
    plan.texts[f"{meta}/train_post_competition.csv"] = table_text(
        sorted(tables["train"]), ["fname", "label", "manually_verified", "freesound_id", "license"]
    )
    plan.texts[f"{meta}/test_post_competition_scoring_clips.csv"] = table_text(
        sorted(tables["test"]), ["fname", "label", "usage", "freesound_id", "license"]
    )
    return plan


def _unused(used: set, draw: Callable[[], str]) -> str:
    name = draw()
    while name in used:
        name = draw()
    used.add(name)
    return name


def plan_speech_commands(recipe: dict, seed: int) -> Plan:
    """Speech Commands: speakers who say words, and two lists that name the speakers held back."""
    rng, plan, common, used = generator(seed, "speech_commands", "plan"), Plan(), conditions(recipe), set()
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for i in range(recipe["speakers"]):
        speaker = _unused(used, lambda: f"{rng.integers(16**8):08x}")
        words = list(recipe["words"])
        count = recipe["clips_per_speaker"]
        said = words[:count] + [str(word) for word in rng.choice(words, max(count - len(words), 0))]
        for j, word in enumerate(said):
            path = f"{word}/{speaker}_nohash_{said[:j].count(word)}.wav"
            seconds = recipe["seconds"]
            if rng.random() < recipe["shorter_share"]:
                seconds = round(float(rng.uniform(0.75, 0.98)), 3)
            plan.clips.append(Clip(path, f"word:{word}", seconds, source=speaker, device=speaker, **common))
            if i < recipe["validation_speakers"]:
                lists["validation_list.txt"].append(path)
            elif i < recipe["validation_speakers"] + recipe["testing_speakers"]:
                lists["testing_list.txt"].append(path)
    for name, kind in recipe["background"].items():
        path = f"_background_noise_/{name}.wav"
        plan.clips.append(Clip(path, kind, recipe["background_seconds"], source=name, device=name, **common))
    plan.texts = {name: "".join(f"{path}\n" for path in sorted(paths)) for name, paths in lists.items()}
    return plan


def plan_folder(recipe: dict, seed: int) -> Plan:
    """A learner's own folder: one sub-folder per class and a table, mixed formats, two useless files."""
    rng, plan, rows = generator(seed, "folder", "plan"), Plan(), []
    common = conditions(recipe)
    for label, kind in recipe["classes"].items():
        for i in range(recipe["clips_per_class"]):
            recorder = recipe["recorders"][i % len(recipe["recorders"])]
            suffix, sr = str(rng.choice(recipe["formats"])), int(rng.choice(recipe["rates"]))
            path = f"{label}/{recorder}_{label}_{i:02d}.{suffix}"
            seconds = round(float(rng.uniform(*recipe["seconds"])), 2)
            plan.clips.append(Clip(path, kind, seconds, sr=sr, source=f"{recorder}-{label}", device=recorder, **common))
            rows.append([path, label, recorder])
    for fault, (label, kind) in zip(recipe["faults"], recipe["classes"].items(), strict=False):
        path = f"{label}/{recipe['recorders'][0]}_{label}_{fault}.wav"
        plan.clips.append(Clip(path, kind, 1.0, 16000, label, recipe["recorders"][0], fault=fault, **common))
        rows.append([path, label, recipe["recorders"][0]])
    plan.texts["labels.csv"] = table_text(rows, ["path", "label", "group"])
    return plan
