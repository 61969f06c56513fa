"""Recorded runs side by side: the leaderboard, and the comparison table of one notebook."""

from __future__ import annotations

import os

import pandas as pd

from helpers.base import ROOT, DataMissing, replace_with, short
from helpers.runs import RUNS, Run, find

# In the order of a row; so that a table without rows has them too.
COLUMNS = [
    *("run", "notebook", "model", "dataset", "data", "n"),
    *("macro_f1", "macro_f1_low", "macro_f1_high", "accuracy", "accuracy_low", "accuracy_high"),
    *("rounds", "accuracy_mean", "accuracy_sd", "parameters", "train_seconds"),
]


def table(root: str | os.PathLike = RUNS) -> pd.DataFrame:
    """All recorded models in one table, best macro F1 first within each dataset.

    Returns
    -------
    pandas.DataFrame
        run, notebook, model, dataset, data (sample or real), n, macro_f1, macro_f1_low, macro_f1_high, accuracy,
        accuracy_low, accuracy_high, rounds, accuracy_mean and accuracy_sd (over rounds), parameters, train_seconds.

    Notes
    -----
    Used by notebook 06 and by `python -m helpers leaderboard`.
    """
    rows = []
    for run in find(root):
        params, metrics = run.params, run.metrics
        # Notebook 01 scores its tag lists on all clips; beside models scored on test clips that would mislead.
        if "macro_f1" not in metrics or params.get("scored_on", "test clips") != "test clips":
            continue
        row = {"run": short(run.path)}
        row |= {key: params.get(key) for key in ("notebook", "model", "dataset")}
        row["data"] = "real" if params.get("data_dir") else "sample"
        row["n"] = metrics["macro_f1"]["n"]
        for name in ("macro_f1", "accuracy"):
            row |= {
                name: metrics[name]["value"],
                f"{name}_low": metrics[name]["low"],
                f"{name}_high": metrics[name]["high"],
            }
        over_rounds = metrics.get("accuracy_per_fold", {"value": None, "high": None, "n": 1})
        row["rounds"], row["accuracy_mean"] = over_rounds["n"], over_rounds["value"]
        row["accuracy_sd"] = over_rounds["high"] - over_rounds["value"] if over_rounds["n"] > 1 else None
        row |= {"parameters": params.get("parameters"), "train_seconds": params.get("train_seconds")}
        rows.append(row)
    board = pd.DataFrame(rows, columns=COLUMNS).astype({"dataset": "str", "data": "str"})
    return board.sort_values(["dataset", "data", "macro_f1"], ascending=[True, True, False], ignore_index=True)


def write(root: str | os.PathLike = RUNS) -> str:
    """Write the leaderboard as leaderboard.html and leaderboard.csv into `root`, and return it as text.

    Used by `python -m helpers leaderboard`.
    """
    root = ROOT / root
    board = table(root)
    if not len(board):
        raise DataMissing(
            f"No recorded run below {root}. Run notebooks 03 and 05 first (`python -m helpers run 03 05`)."
        )
    with replace_with(root / "leaderboard.csv") as temporary:
        board.to_csv(temporary, index=False)
    shown = readable(board)
    page = (
        "<!doctype html><meta charset='utf-8'><title>Leaderboard</title><style>body{font-family:sans-serif;margin:2em}"
        "table{border-collapse:collapse}td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right}</style>"
        "<h1>Leaderboard</h1><p>Test clips only. In brackets: 95 % bootstrap interval over groups. <em>sample</em>: "
        "synthesised recordings; <em>real</em>: published recordings.</p>"
    )
    with replace_with(root / "leaderboard.html") as temporary:
        temporary.write_text(page + shown.to_html(index=False), encoding="utf-8")
    return f"{shown.to_string(index=False)}\n\nTo open: {short(root / 'leaderboard.html')}"


def readable(board: pd.DataFrame) -> pd.DataFrame:
    """Give a leaderboard its short form for reading: one column per metric, with the interval in brackets.

    Used by notebook 06 and `write`.
    """

    def spread(name):
        return [
            f"{value:.1%} ({low:.1%} to {high:.1%})"
            for value, low, high in zip(board[name], board[f"{name}_low"], board[f"{name}_high"], strict=True)
        ]

    return pd.DataFrame(
        {
            "model": board["model"],
            "dataset": board["dataset"] + " (" + board["data"] + ")",
            "macro F1": spread("macro_f1"),
            "accuracy": spread("accuracy"),
            "n": board["n"],
            "rounds": board["rounds"],
            "accuracy, mean ± sd over rounds": [
                f"{mean:.1%} ± {sd:.1%}" if pd.notna(sd) else "-"
                for mean, sd in zip(board["accuracy_mean"], board["accuracy_sd"], strict=True)
            ],
            "parameters": [f"{value:,.0f}" if pd.notna(value) else "-" for value in board["parameters"]],
            "training, s": [f"{value:.1f}" if pd.notna(value) else "-" for value in board["train_seconds"]],
        }
    )


def comparison(recorded: dict[str, Run]) -> pd.DataFrame:
    """Put several runs of one notebook into a table for reading, best macro F1 first.

    Parameters
    ----------
    recorded : dict of str to Run

    Returns
    -------
    pandas.DataFrame
        model, parameters, train accuracy, accuracy and macro F1 (with their 95 % intervals), macro P / R, accuracy over
        rounds (mean ± standard deviation, where there are several), n, training in seconds.

    Notes
    -----
    Used by notebooks 03, 04, 05 and 07.
    """
    rows = []
    for name, run in sorted(recorded.items(), key=lambda item: -item[1].metrics["macro_f1"]["value"]):
        fits = [detail["train_accuracy"] for detail in run.params["details"] if "train_accuracy" in detail]
        row = {"model": name, "parameters": f"{run.params['parameters']:,}" if "parameters" in run.params else "-"}
        row["train accuracy"] = f"{100 * sum(fits) / len(fits):.1f} %" if fits else "-"
        for metric, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
            row[title] = "{value:.1%} ({low:.1%} to {high:.1%})".format(**run.metrics[metric])
        row["macro P / R"] = " / ".join(
            f"{run.metrics[part]['value']:.1%}" for part in ("macro_precision", "macro_recall")
        )
        if "accuracy_per_fold" in run.metrics:
            spread = run.metrics["accuracy_per_fold"]
            row["accuracy over rounds"] = f"{spread['value']:.1%} ± {spread['high'] - spread['value']:.1%}"
        row |= {"n": run.metrics["accuracy"]["n"], "training, s": f"{run.params['train_seconds']:.1f}"}
        rows.append(row)
    return pd.DataFrame(rows)
