"""TUT Acoustic Scenes 2017: 4,680 stereo segments of 10 s, 15 scenes, 4 folds by location, and an evaluation set."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from helpers.base import CourseError, DataMissing
from helpers.data.declare import Info, RemoteFile, find_root
from helpers.data.tables import read_list

_FOLDER, _EVALUATION = "TUT-acoustic-scenes-2017-development", "TUT-acoustic-scenes-2017-evaluation"
_DOI, _EVALUATION_DOI = "10.5281/zenodo.400515", "10.5281/zenodo.1040168"

INFO = Info(
    name="tut2017",
    title="TUT Acoustic Scenes 2017",
    folder=_FOLDER,
    marker="meta.txt",
    licence="free for non-commercial use (EULA.pdf beside the data)",
    citation="A. Mesaros, T. Heittola, T. Virtanen, TUT database for acoustic scene classification and sound event "
    "detection, EUSIPCO 2016",
    homepage="https://doi.org/10.5281/zenodo.400515",
    size_bytes=14_300_000_000,
    disk_bytes=17_100_000_000,
    files=tuple(
        RemoteFile(url=f"doi:{doi}/{folder}.{part}.zip", unpack_to=".")
        for doi, folder, parts in (
            (_DOI, _FOLDER, ["meta", "doc", "error", *(f"audio.{n}" for n in range(1, 11))]),
            (_EVALUATION_DOI, _EVALUATION, ["meta", "doc", *(f"audio.{n}" for n in range(1, 5))]),
        )
        for part in parts
    ),
)


def load(data_dir: str | os.PathLike, evaluation: bool = False) -> pd.DataFrame:
    """Load TUT Acoustic Scenes 2017: `fold` is the fold that evaluates a clip, `group` the location.

    With `evaluation`, its evaluation set beside it: that is the split "test", all else "train", and there are no folds.
    """
    root = find_root(data_dir, INFO)
    # Published as <recording>_<start>_<end>.wav, scene, location.
    meta = read_list(root / "meta.txt", ["file", "label", "location"])
    fold_of, warning = _folds(root, meta)
    manifest = _manifest(root, meta["file"], meta["label"], meta["location"])
    if evaluation:
        manifest = pd.concat([manifest.assign(split="train"), _evaluation(root.with_name(_EVALUATION))])
    else:
        manifest["fold"] = [fold_of[Path(file).name] for file in meta["file"]]
    if warning:
        manifest.attrs["warning"] = warning
    return manifest


def _manifest(root: Path, files: pd.Series, label: pd.Series, location: pd.Series) -> pd.DataFrame:
    """One row per clip; `errors` holds (start, end, what) of each stretch (s) that error.txt calls faulty."""
    stretches: dict[str, list[tuple[float, float, str]]] = {}
    if (root / "error.txt").exists():
        table = read_list(root / "error.txt", ["file", "start", "end", "what"])
        for file, start, end, what in table.itertuples(index=False):
            stretches.setdefault(Path(file).name, []).append((float(start), float(end), what))
    names = [Path(file).name for file in files]
    columns = {"clip_id": [Path(name).stem for name in names], "path": [str(root / "audio" / name) for name in names]}
    columns |= {"label": list(label), "group": list(location), "errors": [stretches.get(name, []) for name in names]}
    return pd.DataFrame(columns)


def _evaluation(root: Path) -> pd.DataFrame:
    """Clips of the evaluation set; their files are numbered, and map.txt, where there is one, tells their locations."""
    setup = root / "evaluation_setup"
    if not (setup / "evaluate.txt").exists():
        raise DataMissing(
            f"The evaluation set of {INFO.title} is not in {root}: there is no evaluation_setup/evaluate.txt. "
            "`python -m helpers download tut2017 DEST` fetches it, too; or leave `evaluation` out."
        )
    table = read_list(setup / "evaluate.txt", ["file", "label"])
    location = pd.Series([None] * len(table), table.index, dtype=object)
    if (setup / "map.txt").exists():
        told = read_list(setup / "map.txt", ["file", "original"])
        original = {Path(file).name: Path(name).name for file, name in told.itertuples(index=False)}
        location = table["file"].map(lambda file: original.get(Path(file).name, "").partition("_")[0] or None)
    return _manifest(root, table["file"], table["label"], location).assign(split="test")


def _folds(root: Path, meta: pd.DataFrame) -> tuple[dict[str, int], str]:
    """Read the four pairs of lists and check them against each other and against meta.txt."""
    location = {Path(file).name: place for file, place in zip(meta["file"], meta["location"], strict=True)}
    fold_of: dict[str, int] = {}
    leaks = []
    for fold in range(1, 5):
        lists = {}
        for role in ("train", "evaluate"):
            path = root / "evaluation_setup" / f"fold{fold}_{role}.txt"
            lists[role] = [Path(file).name for file in read_list(path, ["file", "label"])["file"]]
            unknown = [name for name in lists[role] if name not in location]
            if unknown:
                raise CourseError(f"{path}: {len(unknown)} clips are not in meta.txt, the first: {unknown[0]}.")
        twice = [name for name in lists["evaluate"] if name in fold_of]
        if twice:
            raise CourseError(
                f"{len(twice)} clips are evaluated in two folds, the first: {twice[0]} in folds "
                f"{fold_of[twice[0]]} and {fold}. Unpack the meta archive again."
            )
        fold_of.update(dict.fromkeys(lists["evaluate"], fold))
        both = {location[n] for n in lists["train"]} & {location[n] for n in lists["evaluate"]} - {""}
        leaks += [f"fold {fold}: {place}" for place in sorted(both)]
    never = [name for name in location if name not in fold_of]
    if never:
        raise CourseError(f"{len(never)} clips of meta.txt are evaluated in no fold, the first: {never[0]}.")
    warning = f"Some locations are both in training and in evaluation ({', '.join(leaks[:5])})." if leaks else ""
    return fold_of, warning
