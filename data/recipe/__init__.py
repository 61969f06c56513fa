"""The embedded sample: small datasets of synthesised sounds in the published layouts, so that all runs offline.

`make` renders what `data/sample.toml` declares. Every clip is drawn from its own seed, computed in float64 and rounded
to 16 bit, so neither the order of rendering nor the number of processes shows in the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import soundfile as sf
from filelock import FileLock
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from helpers.base import DATA, SAMPLE, in_batch, short, write_json
from recipe.fsd50k import plan_fsd50k
from recipe.plans import (
    Clip,
    Plan,
    plan_esc10,
    plan_esc50,
    plan_folder,
    plan_fsdkaggle2018,
    plan_speech_commands,
    plan_tut2017,
    plan_tut2017_evaluation,
)
from recipe.synth import recording, scene, source
from recipe.synth.parts import generator, to_int16

RECIPE = DATA / "recipe" / "sample.toml"
STAMP = "SAMPLE.json"
PLANS: dict[str, Callable[[dict, int], Plan]] = {
    "fsd50k": plan_fsd50k,
    "esc50": plan_esc50,
    "esc10": plan_esc10,
    "tut2017": plan_tut2017,
    "tut2017_evaluation": plan_tut2017_evaluation,
    "fsdkaggle2018": plan_fsdkaggle2018,
    "speech_commands": plan_speech_commands,
    "folder": plan_folder,
}


def make(
    dest: str | os.PathLike = SAMPLE,
    seed: int = 0,
    recipe: str | os.PathLike = RECIPE,
) -> Path:
    """Make the sample, unless it is there already.

    Each dataset is built in a folder of its own beside `dest`'s datasets and renamed when it is whole; a call that was
    killed leaves the finished datasets, and the next call clears the rest and goes on.
    """
    dest = Path(dest)
    dest.mkdir(parents=True, exist_ok=True)
    recipes = read(recipe)
    with FileLock(dest / ".lock"):
        stamp = _read_stamp(dest)
        todo = {name: _digest(entry, seed) for name, entry in recipes.items()}
        done = [name for name in todo if _is_current(dest / recipes[name]["folder"], stamp.get(name), todo[name])]
        todo = {name: digest for name, digest in todo.items() if name not in done}
        if not todo:
            print(f"The sample in {short(dest)} is complete and current.")
            return dest
        _clear(dest)
        plans = {name: PLANS[name](recipes[name], seed) for name in todo}
        total = sum(len(plan.clips) for plan in plans.values())
        with (
            tqdm(total=total, desc="sample", unit="clip", disable=in_batch()) as bar,
            Parallel(n_jobs=os.cpu_count(), return_as="generator_unordered") as parallel,
        ):
            for name, plan in plans.items():
                stamp.pop(name, None)
                _write_stamp(dest, stamp, seed)
                counts = _build(dest, recipes[name]["folder"], name, plan, seed, parallel, bar)
                stamp[name] = {"digest": todo[name], **counts}
                _write_stamp(dest, stamp, seed)
        _clear(dest)  # the processes of a call that was killed may have written for a moment longer
        size = sum(entry["bytes"] for entry in stamp.values()) / 1e6
        print(f"Rendered {total} clips of {', '.join(todo)}; the sample in {short(dest)} takes {size:.0f} MB.")
    return dest


def read(recipe: str | os.PathLike) -> dict[str, dict]:
    """Read a recipe: one table per dataset, completed by that of the dataset it is `like`."""
    recipes = tomllib.loads(Path(recipe).read_text(encoding="utf-8"))
    return {name: recipes.get(entry.get("like"), {}) | entry for name, entry in recipes.items()}


def _clear(dest: Path) -> None:
    for left_over in dest.glob(".building-*"):
        shutil.rmtree(left_over, ignore_errors=True)


def is_current(dataset: str) -> bool:
    """Whether the sample of a dataset is there, made by this recipe and this code (its files are not looked at)."""
    recipe, entry = read(RECIPE)[dataset], _read_stamp(SAMPLE).get(dataset)
    return bool(entry) and entry["digest"] == _digest(recipe, 0) and (SAMPLE / recipe["folder"]).is_dir()


def render(clip: Clip, dataset: str, seed: int = 0) -> np.ndarray:
    """Render one clip of a plan."""
    n = int(round(clip.seconds * clip.sr))
    take = generator(seed, dataset, "take", clip.key or clip.path)
    place = generator(seed, dataset, "device", clip.device)
    if clip.layers:
        y = scene(list(clip.layers), n, clip.sr, place, take)
    else:
        dry = source(clip.kind, n, clip.sr, generator(seed, dataset, "source", clip.source), take)
        y = recording(dry, clip.sr, place, take, clip.snr, clip.reverb, clip.colour, clip.level)
    if clip.fault == "clipped":
        y = y / np.abs(y).max() * 6
    if clip.fault == "stereo":
        y = np.stack([y, 0.8 * np.roll(y, int(0.0004 * clip.sr))], axis=1)
    if clip.fault == "silent":
        y = np.zeros(n)
    if clip.dropout:
        y[int(clip.dropout[0] * clip.sr) : int(clip.dropout[1] * clip.sr)] = 0
    if clip.pad_to:
        y = np.pad(y, (0, int(round(clip.pad_to * clip.sr)) - n))
    return to_int16(y)


def _write(clip: Clip, folder: Path, dataset: str, seed: int) -> None:
    path = folder / clip.path
    if clip.fault == "missing":
        return
    if clip.fault == "empty":
        path.touch()
    elif clip.fault == "text":
        path.write_text("<html><body><h1>404 Not Found</h1></body></html>\n")
    elif clip.fault == "header_only":
        sf.write(path, np.zeros(0, np.int16), clip.sr)
    else:
        sf.write(path, render(clip, dataset, seed), clip.sr)
    if clip.fault == "truncated":
        os.truncate(path, path.stat().st_size // 2)


def _build(dest: Path, name: str, dataset: str, plan: Plan, seed: int, parallel: Parallel, bar: tqdm) -> dict[str, int]:
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=dest))
    building.chmod(0o755)
    for folder in {(building / clip.path).parent for clip in plan.clips}:
        folder.mkdir(parents=True, exist_ok=True)
    for path, text in plan.texts.items():
        (building / path).parent.mkdir(parents=True, exist_ok=True)
        (building / path).write_text(text, encoding="utf-8")
    for _ in parallel(delayed(_write)(clip, building, dataset, seed) for clip in plan.clips):
        bar.update()
    counts = _count(building)
    shutil.rmtree(dest / name, ignore_errors=True)
    os.replace(building, dest / name)
    return counts


def _count(folder: Path) -> dict[str, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _digest(recipe: dict, seed: int) -> str:
    here = Path(__file__).parent
    code = sorted(here.rglob("*.py"))
    digest = hashlib.sha256(json.dumps([seed, recipe], sort_keys=True).encode())
    for path in code:
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()


def _is_current(folder: Path, entry: dict | None, digest: str) -> bool:
    return bool(entry) and entry["digest"] == digest and _count(folder).items() <= entry.items()


def _read_stamp(dest: Path) -> dict[str, dict]:
    try:
        return json.loads((dest / STAMP).read_text(encoding="utf-8"))["datasets"]
    except (FileNotFoundError, ValueError, KeyError):
        return {}


def _write_stamp(dest: Path, datasets: dict[str, dict], seed: int) -> None:
    try:
        package = version("audio-classification-course")
    except PackageNotFoundError:
        package = "not installed"
    write_json(dest / STAMP, {"seed": seed, "package": package, "datasets": datasets})
