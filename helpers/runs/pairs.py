"""Methods, and single runs, beside each other on the same clips."""

from __future__ import annotations

import difflib
import functools
import itertools
import json
import os
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
from scipy.stats import permutation_test

from helpers import data, scores
from helpers.base import CourseError, short
from helpers.runs import Run, board, find

# What a run records besides the parameters it was asked for: what came of it, and what is compared on its own.
_FOUND = {"asked", "classes", "details", "environment", "key", "train_seconds"}
_SHOWN = 20  # clips, or lines of changed code, that a comparison lists
_COLUMNS = ["dataset", "data", "one", "other", "difference", "low", "high", "n", "p", "wins", "seeds"]


def _groups_of(run: Run) -> dict[str, str] | None:
    """Group of each clip of the run's dataset by clip_id; None where its recordings are no longer at hand."""
    options = json.dumps(run.params.get("options") or {}, sort_keys=True)
    return _groups(run.params.get("dataset"), run.params.get("data_dir"), options)


@functools.cache
def _groups(dataset: str | None, data_dir: str | None, options: str) -> dict[str, str] | None:
    on_sample = {} if data_dir else {"COURSE_SAMPLE": "1"}  # a run without data_dir was one of the sample
    try:
        with mock.patch.dict(os.environ, on_sample):
            manifest = data.load(dataset, data_dir, **json.loads(options))
    except CourseError:
        return None
    return dict(zip(manifest["clip_id"], data.groups(manifest), strict=True))


def table(root: str | os.PathLike) -> pd.DataFrame:
    """Compare all methods below `root` in pairs, the better first, on the same clips, averaged over their seeds.

    `difference` of accuracy with its interval over groups; `p` by flipping the signs of whole groups (Hemerik, Goeman
    and Finos 2020), corrected for the number of pairs (Holm 1979); `wins` of the first, over the seeds both have.
    """
    sets: dict[tuple, dict[tuple, dict]] = {}
    for run in find(root):
        if run.params.get("scored_on", "test clips") == "test clips":
            hit = run.predictions.set_index("clip_id").eval("label == predicted").sort_index()
            same = (run.params.get("dataset"), "real" if run.params.get("data_dir") else "sample", tuple(hit.index))
            method = str(run.params.get("model", run.path.name)), json.dumps(board.asked(run), sort_keys=True)
            sets.setdefault(same, {}).setdefault(method, {})[run.params.get("seed")] = (hit, run)
    rows = []
    for (dataset, where, _), methods in sets.items():
        models, asked = map(pd.Series, zip(*methods, strict=True))
        names = [", ".join(filter(None, pair)) for pair in zip(models, board.told_apart(models, asked), strict=True)]
        names = dict(zip(methods, names, strict=True))
        best_first = sorted(methods, key=lambda name: -np.mean([hit.mean() for hit, _ in methods[name].values()]))
        for one, other in itertools.combinations(best_first, 2):
            about = {"dataset": dataset, "data": where, "one": names[one], "other": names[other]}
            rows.append(about | _pair(methods[one], methods[other]))
    found = pd.DataFrame(rows, columns=_COLUMNS)
    found["p"] = found.groupby(["dataset", "data"], group_keys=False)["p"].transform(_holm)
    return found


def _pair(one: dict, other: dict) -> dict:
    (first, _), (_, run) = next(iter(one.values())), next(iter(other.values()))
    gain = np.mean([hit for hit, _ in one.values()], axis=0) - np.mean([hit for hit, _ in other.values()], axis=0)
    known = _groups_of(run)
    group = first.index.to_numpy() if known is None else first.index.map(known).to_numpy()
    told = scores.mean(gain, group, share=False)
    seeds = one.keys() & other.keys()
    won = sum(one[seed][0].mean() > other[seed][0].mean() for seed in seeds)
    sums = pd.Series(gain).groupby(group).sum().to_numpy()
    sums, p = sums[sums != 0], 1.0  # groups that add nothing cannot change the sum
    if len(sums) > 1:
        flips = dict(permutation_type="samples", n_resamples=10_000, rng=np.random.default_rng(0))
        p = float(permutation_test((sums,), np.sum, vectorized=True, **flips).pvalue)
    low, high = np.clip((told["low"], told["high"]), -1, 1)  # no two models differ by more than all clips
    told |= {"low": float(low), "high": float(high), "difference": told.pop("value")}
    return {**told, "p": p, "wins": won, "seeds": len(seeds)}


def _holm(p: pd.Series) -> pd.Series:
    ordered = p.sort_values()
    return (ordered * np.arange(len(p), 0, -1)).cummax().clip(upper=1).reindex(p.index)


def compare(one: Run, other: Run) -> str:
    """Say what differs between two runs: what was asked, environment, code, scores, and the clips that changed."""
    lines = [f"one:   {short(one.path)}", f"other: {short(other.path)}"]
    mine, theirs = ({name: it for name, it in run.params.items() if name not in _FOUND} for run in (one, other))
    lines += ["", "What was asked", *_differing(mine, theirs)]
    lines += ["", "Environment", *_differing(one.params.get("environment", {}), other.params.get("environment", {}))]
    lines += ["", "Code of the notebook", *_code(one, other)]
    return "\n".join([*lines, "", "Scores", *_clips(one, other)])


def _differing(one: dict, other: dict) -> list[str]:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name) and name != "recorded"]
    return [f"  {name}: {one.get(name)!r} -> {other.get(name)!r}" for name in names] or ["  the same"]


def _code(one: Run, other: Run) -> list[str]:
    cells = [_executed(run) for run in (one, other)]
    if None in cells:
        return ["  not known: the executed notebook does not lie beside both"]
    changed = [
        line
        for line in difflib.unified_diff(*cells, "one", "other", n=1, lineterm="")
        if not line.startswith(("---", "+++"))
    ]
    more = [f"  ... and {len(changed) - _SHOWN} lines more"] if len(changed) > _SHOWN else []
    return [f"  {line}" for line in changed[:_SHOWN]] + more or ["  the same"]


def _executed(run: Run) -> list[str] | None:
    """Lines of code of the executed notebook of a run, where it lies in its folder or above."""
    name = run.params.get("notebook")
    for folder in (run.path, *run.path.parents[:3]):
        for path in (folder / "notebook.ipynb", folder / f"{name}.ipynb"):
            if path.exists():
                notebook = nbformat.read(path, as_version=4)
                code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
                told = [cell.metadata.get("tags", []) for cell in notebook.cells if cell.cell_type == "code"]
                wanted = [source for source, tags in zip(code, told, strict=True) if "injected-parameters" not in tags]
                return "\n\n".join(wanted).splitlines()
    return None


def _clips(one: Run, other: Run) -> list[str]:
    group = _groups_of(one)
    lines = [
        f"  {name}: {scores.shown(one.metrics[name])} -> {scores.shown(other.metrics[name])}"
        for name in ("accuracy", "macro_f1")
        if name in one.metrics and name in other.metrics
    ]
    both = one.predictions.merge(other.predictions, on="clip_id", suffixes=("_one", "_other"))
    if not len(both):
        return [*lines, "  They were tested on different clips."]
    gain = scores.difference(other.predictions, one.predictions, group)
    lines.append(f"  other minus one, on the {len(both)} clips of both: {scores.shown(gain, 'points')}")
    if group is None:
        lines.append("  (The recordings are not at hand, so each clip counts for itself: the interval may be narrow.)")
    changed = both[both["predicted_one"] != both["predicted_other"]]
    right = [(changed[f"predicted_{who}"] == changed[f"label_{who}"]).sum() for who in ("one", "other")]
    lines.append(f"  {len(changed)} clips are named differently: {right[0]} only one has right, {right[1]} only other")
    for row in changed.head(_SHOWN).itertuples():
        lines.append(f"    {row.clip_id} ({row.label_one}): {row.predicted_one} -> {row.predicted_other}")
    return lines + ([f"    ... and {len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else [])
