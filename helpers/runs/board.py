"""Recorded runs side by side: the leaderboard."""

from __future__ import annotations

import json
import os

import pandas as pd

from helpers.base import short
from helpers.runs import RUNS, Run, find, parameters, share

_COLUMNS = [
    *("run", "notebook", "model", "dataset", "data", "n"),
    *("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "accuracy_low", "accuracy_high"),
    *("rounds", "accuracy_mean", "accuracy_sd", "parameters", "train_seconds"),
]


_FACTS = ["run", "notebook", "model", "dataset", "data", "seed", "asked"]


def table(root: str | os.PathLike = RUNS) -> pd.DataFrame:
    """All recorded models in one table, a row each, best macro F1 first within each dataset."""
    rows = []
    for run in find(root):
        # Notebook 01 scores its tag lists on all clips; beside models scored on test clips that would mislead.
        if "macro_f1" not in run.metrics or run.params.get("scored_on", "test clips") != "test clips":
            continue
        row = {"run": short(run.path), "data": "real" if run.params.get("data_dir") else "sample"}
        row |= {key: run.params.get(key) for key in ("notebook", "model", "dataset", "parameters", "train_seconds")}
        for name in ("macro_f1", "accuracy"):
            value, low, high, row["n"] = (run.metrics[name][part] for part in ("value", "low", "high", "n"))
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        spread = run.metrics.get("accuracy_per_fold", {"value": None, "n": 1})
        row |= {"rounds": spread["n"], "accuracy_mean": spread["value"]}
        row["accuracy_sd"] = spread["high"] - spread["value"] if "high" in spread else None
        rows.append(row)
    board = pd.DataFrame(rows, columns=_COLUMNS).astype({"dataset": "str", "data": "str"})
    return board.sort_values(["dataset", "data", "macro_f1"], ascending=[True, True, False], ignore_index=True)


def metrics(root: str | os.PathLike) -> pd.DataFrame:
    """All that recorded models scored: one row per run and metric, with what its notebook was asked for as JSON."""
    rows = []
    for run in find(root):
        row = {key: run.params.get(key) for key in ("notebook", "model", "dataset", "seed")}
        row |= {"run": short(run.path), "data": "real" if run.params.get("data_dir") else "sample"}
        row["asked"] = json.dumps(asked(run), sort_keys=True)
        rows += [row | {"metric": name, **metric} for name, metric in run.metrics.items()]
    return pd.DataFrame(rows, columns=[*_FACTS, "metric", "value", "low", "high", "n"])


def asked(run: Run) -> dict:
    """Parameters that the notebook of a run was asked for, but for those with a column of their own, and places."""
    apart = {"dataset", "notebook", "seed", *parameters.PATHS}
    return {name: run.params[name] for name in run.params.get("asked", []) if name not in apart}


def told_apart(models: pd.Series, asked: pd.Series) -> list[str]:
    """Of what runs were asked (JSON), what tells those of the same model apart, as text."""
    read, texts = asked.map(json.loads), []
    for model, mine in zip(models, read, strict=True):
        others = read[models == model]
        telling = [name for name in mine if any(one.get(name) != mine[name] for one in others)]
        texts.append(", ".join(f"{name} {mine[name]}" for name in telling))
    return texts


def over_seeds(scored: pd.DataFrame) -> pd.DataFrame:
    """Group runs that differ in their seed alone: how many, mean, standard deviation, lowest and highest macro F1."""
    scored = scored[scored["metric"] == "macro_f1"]
    keys = [name for name in _FACTS if name not in ("run", "seed")]
    groups = scored.groupby(keys, dropna=False)["value"].agg(["count", "mean", "std", "min", "max"])
    groups = groups[groups["count"] > 1].sort_values("mean", ascending=False).reset_index()
    return groups.assign(asked=told_apart(groups["model"], groups["asked"]))


def _text(template: str, *columns: pd.Series) -> list[str]:
    """Write one text per row, "-" where the first value is missing."""
    rows = zip(*columns, strict=True)
    return [template.format(*row) if pd.notna(row[0]) else "-" for row in rows]


def readable(board: pd.DataFrame) -> pd.DataFrame:
    """Give a leaderboard its short form for reading: one column per metric, with the interval in brackets."""
    columns = {"model": board["model"], "dataset": board["dataset"] + " (" + board["data"] + ")"}
    for name, title in (("macro_f1", "macro F1"), ("accuracy", "accuracy")):
        ends = board[[name, f"{name}_low", f"{name}_high"]].set_axis(["value", "low", "high"], axis=1)
        columns[title] = [share(metric) for metric in ends.to_dict("records")]
    columns |= {"n": board["n"], "rounds": board["rounds"]}
    over_rounds = board["accuracy_mean"].where(board["accuracy_sd"].notna())
    columns["accuracy, mean ± sd over rounds"] = _text("{:.1%} ± {:.1%}", over_rounds, board["accuracy_sd"])
    columns["parameters"] = _text("{:,.0f}", board["parameters"])
    columns["training, s"] = _text("{:.1f}", board["train_seconds"])
    return pd.DataFrame(columns)
