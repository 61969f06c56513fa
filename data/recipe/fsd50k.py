"""The plan of the sample's FSD50K: clips, uploaders, tags as people write them, ground truth and faults."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from recipe.plans import Clip, Plan, conditions, seconds_of, table_text
from recipe.synth.parts import generator

Rng = np.random.Generator


def plan_fsd50k(recipe: dict, seed: int) -> Plan:
    """FSD50K: dev (train and val) and eval clips of eight classes, with all its tables."""
    rng, plan = generator(seed, "fsd50k", "plan"), Plan()
    ids = [str(i) for i in rng.choice(np.arange(2000, 420_000), 4000, replace=False)]
    names = list(recipe["uploaders"])
    rng.shuffle(names)
    clips: list[dict] = []
    for split in ("dev", "eval"):
        drawn = _draw_clips(recipe, split, ids, rng)
        _assign_uploaders(drawn, names, recipe, rng, leak=split == "dev")
        _assign_faults(drawn, [f for f in recipe["faults"] if f["split"] == split], rng)
        for clip in drawn:
            clip.update(_describe(clip, recipe, rng))
        clips += drawn
    plan.clips = [_clip(clip, recipe) for clip in clips]
    _tables(plan, clips, recipe, rng)
    return plan


def _draw_clips(recipe: dict, split: str, ids: list[str], rng: Rng) -> list[dict]:
    clips = []
    for label, entry in recipe["classes"].items():
        for i in range(entry[split]):
            # Every kind once, so that none is missing; then not in equal shares, as the first come more often.
            kinds = entry["kinds"]
            share = np.linspace(2, 1, len(kinds))
            kind = kinds[i] if i < len(kinds) else str(rng.choice(kinds, p=share / share.sum()))
            clip = {"id": ids.pop(), "label": label, "kind": kind, "seconds": seconds_of(recipe, rng)}
            clips.append({**clip, "split": split, "fault": None})
    rng.shuffle(clips)
    return clips


def _assign_uploaders(clips: list[dict], names: list[str], recipe: dict, rng: Rng, leak: bool) -> None:
    """Give every clip an uploader, and whole uploaders to train or val; only the leak stands in both."""
    leaking = set(rng.choice(len(clips), recipe["leak_clips"], replace=False).tolist()) if leak else set()
    members: dict[str, list[dict]] = {}
    for i, clip in enumerate(clips):
        if i in leaking:
            clip["uploader"] = recipe["leak_uploader"]
            continue
        # People mostly record what they recorded before: join an uploader of this class, or come as a new one.
        same = [name for name, theirs in members.items() for other in theirs if other["label"] == clip["label"]]
        if same and rng.random() < recipe["uploaders_join"]:
            name = str(rng.choice(same))
        elif members and (not names or rng.random() < 0.1):
            name = str(rng.choice(list(members)))
        else:
            name = names.pop()
        members.setdefault(name, []).append(clip)
        clip["uploader"] = name
    if not leak:
        return
    for clip in clips:
        clip["part"] = "train"
    for j, i in enumerate(sorted(leaking)):
        clips[i]["part"] = "val" if j % 3 == 0 else "train"
    wanted = {label: recipe["validation_share"] * entry["dev"] for label, entry in recipe["classes"].items()}
    for name in rng.permutation(list(members)):
        counts: dict[str, int] = {}
        for clip in members[name]:
            counts[clip["label"]] = counts.get(clip["label"], 0) + 1
        if all(count <= np.ceil(wanted[label]) for label, count in counts.items()):
            for clip in members[name]:
                clip["part"] = "val"
                wanted[clip["label"]] -= 1


def _assign_faults(clips: list[dict], faults: list[dict], rng: Rng) -> None:
    """Give the declared faults to clips of the three big classes, so that no small class loses what it has."""
    sound = [clip for clip in clips if clip["label"] in ("music", "human", "animal") and clip["seconds"] > 0.8]
    rng.shuffle(sound)
    for fault in faults:
        for _ in range(fault.get("count", 1)):
            clip = sound.pop()
            clip.update(fault=fault["fault"], seconds=fault.get("seconds", clip["seconds"]), sr=fault.get("sr"))
            if fault["fault"] == "duplicate":
                twin = sound.pop()
                copied = {key: twin[key] for key in ("label", "kind", "seconds", "uploader", "part") if key in twin}
                clip.update(copied, twin=twin["id"])
            if fault["fault"] == "very_long":
                clip["kind"], clip["label"] = "guitar", "music"


def _clip(clip: dict, recipe: dict) -> Clip:
    folder = f"FSD50K.{clip['split']}_audio"
    common = conditions(recipe)
    made = Clip(
        path=f"{folder}/{clip['id']}.wav",
        kind=clip["kind"],
        seconds=clip["seconds"],
        source=clip.get("twin", clip["id"]),
        device=clip["uploader"],
        fault=clip["fault"],
        **common,
    )
    if clip.get("sr"):
        made = replace(made, sr=clip["sr"])
    return replace(made, key=f"{folder}/{clip['twin']}.wav") if "twin" in clip else made


def _typo(tag: str, rng: Rng) -> str:
    i = int(rng.integers(1, max(len(tag) - 1, 2)))
    how = rng.integers(3)
    return (tag[:i] + tag[i + 1 :], tag[:i] + tag[i] + tag[i:], tag[: i - 1] + tag[i] + tag[i - 1] + tag[i + 1 :])[how]


def _describe(clip: dict, recipe: dict, rng: Rng) -> dict:
    """Tags, title, description and licence as the uploader may have written them."""
    kinds, luck = recipe["kinds"], rng.random()
    told = clip["kind"]
    if luck < recipe["wrong_tags"]:
        others = [entry["kinds"] for label, entry in recipe["classes"].items() if label != clip["label"]]
        told = str(rng.choice(sum(others, [])))
    pool = kinds[told]["tags"]
    # The first tags of a kind are the usual ones.
    weight = np.linspace(2, 0.7, len(pool))
    count = min(int(rng.integers(2, 6)), len(pool))
    tags = [str(tag) for tag in rng.choice(pool, count, replace=False, p=weight / weight.sum())]
    if recipe["wrong_tags"] <= luck < recipe["wrong_tags"] + recipe["no_tags"]:
        tags = []
    noise = rng.choice(recipe["irrelevant_tags"], int(rng.integers(0, 5)) + (not tags), replace=False)
    tags += [str(tag) for tag in noise]
    tags = [_typo(tag, rng) if len(tag) > 3 and rng.random() < recipe["typo"] else tag for tag in tags]
    tags = [tag.upper() if rng.random() < recipe["upper"] else tag for tag in tags]
    rng.shuffle(tags)
    title = str(rng.choice(kinds[clip["kind"]]["titles"]))
    style, number = rng.integers(4), rng.integers(1, 40)
    named = (f"{title}.wav", f"{title.title()} {number:02d}", f"{title.replace(' ', '_')}_{number}.wav", title)[style]
    text = str(rng.choice(recipe["descriptions"])).format(title=title, tag=(tags or [title])[0].replace("-", " "))
    licence = str(rng.choice(recipe["licenses"], p=[0.45, 0.35, 0.15, 0.05]))
    return {"tags": tags, "title": named, "description": text, "license": licence}


def _tables(plan: Plan, clips: list[dict], recipe: dict, rng: Rng) -> None:
    mids = recipe["mids"]
    for split in ("dev", "eval"):
        rows = []
        for clip in (clip for clip in clips if clip["split"] == split):
            labels = recipe["kinds"][clip["kind"]]["labels"]
            row = [clip["id"], ",".join(labels), ",".join(mids[label] for label in labels)]
            rows.append(row + ([clip["part"]] if split == "dev" else []))
        header = ["fname", "labels", "mids"] + (["split"] if split == "dev" else [])
        plan.texts[f"FSD50K.ground_truth/{split}.csv"] = table_text(rows, header)
        info = {
            clip["id"]: {key: clip[key] for key in ("title", "description", "tags", "license", "uploader")}
            for clip in clips
            if clip["split"] == split
        }
        plan.texts[f"FSD50K.metadata/{split}_clips_info_FSD50K.json"] = json.dumps(info, indent=1)
    used = sorted({label for clip in clips for label in recipe["kinds"][clip["kind"]]["labels"]})
    vocabulary = [[i, label, mids[label]] for i, label in enumerate(used)]
    plan.texts["FSD50K.ground_truth/vocabulary.csv"] = table_text(vocabulary)
    examples: dict[str, list[str]] = {label: [] for label in used}
    ratings = {}
    for clip in clips:
        labels = recipe["kinds"][clip["kind"]]["labels"]
        for label in labels:
            examples[label].append(clip["id"])
        # Two raters per clip and most specific label: present and predominant (1), or present but not so (0.5).
        ratings[clip["id"]] = {mids[labels[0]]: [float(x) for x in rng.choice([1.0, 0.5], 2, p=[0.8, 0.2])]}
    classes = {
        label: {"faq": f"Clips in which {label.replace('_', ' ').lower()} can be heard.", "examples": found[:3],
                "verification_examples": found[:2]}
        for label, found in examples.items()
    }  # fmt: skip
    plan.texts["FSD50K.metadata/class_info_FSD50K.json"] = json.dumps(classes, indent=1)
    plan.texts["FSD50K.metadata/pp_pnp_ratings_FSD50K.json"] = json.dumps(ratings, indent=1)
