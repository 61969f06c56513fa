"""FSD50K: 51,197 Freesound clips with free-text tags and 200 ground-truth labels; here eight classes from tags."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd

from helpers.base import CourseError
from helpers.data import wrangle
from helpers.data.declare import Info, RemoteFile, find_root
from helpers.data.tables import read_table, read_text

_DOI = "10.5281/zenodo.4060432"


def _remote(name: str, parts: int = 0) -> RemoteFile:
    earlier = tuple(f"doi:{_DOI}/{name}.z{n:02d}" for n in range(1, parts + 1))
    return RemoteFile(url=f"doi:{_DOI}/{name}.zip", unpack_to="FSD50K", parts=earlier)


INFO = Info(
    name="fsd50k",
    title="FSD50K",
    folder="FSD50K",
    marker="FSD50K.ground_truth/dev.csv",
    licence="Creative Commons, one licence per clip (column `license`); the collection CC BY 4.0",
    citation="E. Fonseca, X. Favory, J. Pons, F. Font, X. Serra, FSD50K: an Open Dataset of Human-Labeled Sound "
    "Events, IEEE/ACM TASLP 30, 2022, arXiv:2010.00475",
    homepage="https://doi.org/10.5281/zenodo.4060432",
    size_bytes=24_000_000_000,
    disk_bytes=53_000_000_000,
    files=(
        _remote("FSD50K.ground_truth"),
        _remote("FSD50K.metadata"),
        _remote("FSD50K.doc"),
        _remote("FSD50K.eval_audio", parts=1),
        _remote("FSD50K.dev_audio", parts=5),
    ),
)

_SPLITS = {"train": "train", "val": "validation"}


def load(
    data_dir: str | os.PathLike,
    tag_lists: str | os.PathLike | None = None,
    typos: bool = False,
) -> pd.DataFrame:
    """Load FSD50K: `label` is the class wrangled from the tags, `truth` the class of the ground-truth labels."""
    root = find_root(data_dir, INFO)
    path = root / "FSD50K.ground_truth" / "dev.csv"
    dev = read_table(path, ["fname", "labels", "split"]).assign(part="dev")
    test = read_table(path.with_name("eval.csv"), ["fname", "labels"]).assign(part="eval", split="test")
    unknown = dev["split"][~dev["split"].isin(_SPLITS)]
    if len(unknown):
        raise CourseError(f"{path}, line {unknown.index[0]}: the split {unknown.iloc[0]!r}; expected train or val.")
    dev["split"] = dev["split"].map(_SPLITS)
    table = pd.concat([dev, test], ignore_index=True)
    about = _clips_info(root, "dev") | _clips_info(root, "eval")
    clips = [about.get(name) or {} for name in table["fname"]]
    lists = wrangle.read_tag_lists(tag_lists) if tag_lists else wrangle.read_tag_lists()
    crosswalk = wrangle.read_crosswalk()
    truth_labels = [[name for name in text.split(",") if name] for text in table["labels"]]
    tags = [list(clip.get("tags", [])) for clip in clips]
    return pd.DataFrame(
        {
            "clip_id": table["fname"],
            "path": [
                str(root / f"FSD50K.{part}_audio" / f"{name}.wav")
                for part, name in zip(table["part"], table["fname"], strict=True)
            ],
            "label": [
                wrangle.wrangle(own, lists, typos=typos) if clip else None
                for own, clip in zip(tags, clips, strict=True)
            ],
            "split": table["split"],
            "group": [clip.get("uploader") for clip in clips],
            "tags": tags,
            "title": [clip.get("title") for clip in clips],
            "description": [clip.get("description") for clip in clips],
            "license": [clip.get("license") for clip in clips],
            "truth": [wrangle.truth_class(names, crosswalk) for names in truth_labels],
            "truth_labels": truth_labels,
        }
    )


def _clips_info(root: Path, part: str) -> dict[str, dict]:
    path = root / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise CourseError(f"{path} is damaged ({error}); unpack FSD50K.metadata.zip once more.") from error
