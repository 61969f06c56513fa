"""Recorded runs: what was asked, what came out, and the model, in one folder that later notebooks read."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.errors import DataMissing
from helpers.files import ROOT, replace_with, write_json, write_parquet

RUNS = ROOT / "runs"
PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "librosa", "scikit-learn", "numpy", "pandas")


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes
    ----------
    path : pathlib.Path
    params : dict
        Parameters and, under `environment`, what they ran in.
    metrics : dict
        {name: {"value", "low", "high", "n"}}
    """

    path: Path
    params: dict
    metrics: dict

    @property
    def predictions(self) -> pd.DataFrame:
        """Table of clip_id, label, predicted, fold, and p_<class> for every class."""
        return pd.read_parquet(self.path / "predictions.parquet")

    def model(self) -> Any:
        """Load the model: Keras, or a scikit-learn estimator read by skops (which runs no code from the file)."""
        if (self.path / "model.keras").exists():
            import keras

            return keras.saving.load_model(self.path / "model.keras")
        if (self.path / "model.skops").exists():
            import skops.io

            return skops.io.load(self.path / "model.skops", trusted=TRUSTED)
        raise DataMissing(f"The run {self.path} holds no model.")


# The types beyond skops's own list that our estimators contain; anything else in a file is refused. A forest's trees
# are read without bounds checks, so load forests only from people you trust.
TRUSTED = [
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]


def run_folder(
    run_dir: str | os.PathLike | None, notebook: str, dataset: str, data_dir: str | os.PathLike | None
) -> Path:
    """Folder of a run: `run_dir`, read from the repository root if it is relative.

    None means runs/<dataset>-sample/<notebook>, or runs/<dataset>/<notebook> on real data, so that runs on the
    sample and on real recordings never overwrite each other.

    Used by every notebook.
    """
    if run_dir is not None:
        return ROOT / run_dir
    return RUNS / (dataset if data_dir is not None else f"{dataset}-sample") / notebook


def environment() -> dict:
    """Describe what a run ran in: Python, packages, machine, commit, time (UTC)."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "commit": commit.stdout.strip() or None,
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **versions,
    }


def record(
    run_dir: str | os.PathLike, params: dict, metrics: dict, predictions: pd.DataFrame | None = None, model: Any = None
) -> Path:
    """Write a run: params.json, predictions.parquet, the model, and last of all metrics.json.

    A folder without metrics.json is therefore never taken for a finished run.

    Parameters
    ----------
    run_dir : path
    params : dict
        What a rerun needs; `environment()` is added.
    metrics : dict
        {name: {"value", "low", "high", "n"}}
    predictions : pandas.DataFrame, optional
        As made by `helpers.evaluation.prediction_table`.
    model : keras.Model, sklearn estimator or path, optional
        A path names a model already saved elsewhere by `save_model`; it is copied.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ValueError
        A metric lacks one of its four parts.

    Notes
    -----
    Used by every notebook's last cell.
    """
    for name, metric in metrics.items():
        if set(metric) != {"value", "low", "high", "n"}:
            raise ValueError(f"Metric {name!r} must have value, low, high and n, not {sorted(metric)}.")
    run_dir = Path(run_dir)
    for stale in ("metrics.json", "predictions.parquet", "model.keras", "model.skops"):
        (run_dir / stale).unlink(missing_ok=True)
    write_json(run_dir / "params.json", {**params, "environment": environment()})
    if predictions is not None:
        write_parquet(run_dir / "predictions.parquet", predictions)
    if isinstance(model, Path):
        with replace_with(run_dir / model.name) as temporary:
            shutil.copyfile(model, temporary)
    elif model is not None:
        save_model(run_dir, model)
    write_json(run_dir / "metrics.json", metrics)
    return run_dir


def save_model(run_dir: str | os.PathLike, model: Any) -> Path:
    """Write a Keras model as model.keras, or an estimator as model.skops."""
    keras_model = hasattr(model, "count_params")
    path = Path(run_dir) / ("model.keras" if keras_model else "model.skops")
    with replace_with(path) as temporary:
        if keras_model:
            model.save(temporary)
        else:
            import skops.io

            skops.io.dump(model, temporary)
    return path


def load(run_dir: str | os.PathLike) -> Run:
    """Read a recorded run.

    Raises
    ------
    DataMissing
        The folder holds no finished run; the message says which notebook makes one.
    """
    path = ROOT / run_dir
    if not (path / "metrics.json").exists():
        raise DataMissing(f"No finished run in {path}. Run notebook 03 or 05 first (`python -m helpers run 03 05`).")
    params, metrics = (
        json.loads((path / name).read_text(encoding="utf-8")) for name in ("params.json", "metrics.json")
    )
    return Run(path, params, metrics)


def find(root: str | os.PathLike = RUNS) -> list[Run]:
    """All finished runs below `root` that hold predictions of one model, sorted by path.

    A notebook that compares models records each of them in a folder below its own, and in its own the one it chose;
    that copy is left out here, so that no model is listed twice.
    """
    root = ROOT / root
    folders = sorted(path.parent for path in root.rglob("metrics.json"))
    inner = {parent for folder in folders for parent in folder.parents}
    return [load(folder) for folder in folders if folder not in inner and (folder / "predictions.parquet").exists()]


def leaderboard(root: str | os.PathLike = RUNS) -> pd.DataFrame:
    """All recorded models in one table, best macro F1 first within each dataset.

    Returns
    -------
    pandas.DataFrame
        run, notebook, model, dataset, data (sample or real), n, macro_f1, macro_f1_low, macro_f1_high, accuracy,
        accuracy_low, accuracy_high, rounds, parameters, train_seconds.

    Notes
    -----
    Used by notebook 06 and by `python -m helpers leaderboard`.
    """
    rows = []
    for run in find(root):
        params, metrics = run.params, run.metrics
        if "macro_f1" not in metrics:
            continue
        row = {"run": str(run.path.relative_to(ROOT) if run.path.is_relative_to(ROOT) else run.path)}
        row |= {key: params.get(key) for key in ("notebook", "model", "dataset")}
        row["data"] = "sample" if params.get("data_dir") is None else "real"
        row["n"] = metrics["macro_f1"]["n"]
        for name in ("macro_f1", "accuracy"):
            row |= {
                name: metrics[name]["value"],
                f"{name}_low": metrics[name]["low"],
                f"{name}_high": metrics[name]["high"],
            }
        row["rounds"] = metrics.get("accuracy_per_fold", {"n": 1})["n"]
        row |= {"parameters": params.get("parameters"), "train_seconds": params.get("train_seconds")}
        rows.append(row)
    if not rows:
        return pd.DataFrame(columns=["run", "notebook", "model", "dataset", "data", "n", "macro_f1", "accuracy"])
    return pd.DataFrame(rows).sort_values(
        ["dataset", "data", "macro_f1"], ascending=[True, True, False], ignore_index=True
    )


def write_leaderboard(root: str | os.PathLike = RUNS) -> str:
    """Write the leaderboard as leaderboard.html and leaderboard.csv into `root`, and return it as text.

    Used by `python -m helpers leaderboard`.
    """
    root = ROOT / root
    table = leaderboard(root)
    if not len(table):
        raise DataMissing(
            f"No recorded run below {root}. Run notebooks 03 and 05 first (`python -m helpers run 03 05`)."
        )
    with replace_with(root / "leaderboard.csv") as temporary:
        table.to_csv(temporary, index=False)
    shown = readable(table)
    page = (
        "<!doctype html><meta charset='utf-8'><title>Leaderboard</title><style>body{font-family:sans-serif;margin:2em}"
        "table{border-collapse:collapse}td,th{padding:.3em .8em;border-bottom:1px solid #ccc;text-align:right}</style>"
        "<h1>Leaderboard</h1><p>Test clips only. In brackets: 95 % bootstrap interval over groups. <em>sample</em>: "
        "synthesised recordings; <em>real</em>: published recordings.</p>"
    )
    with replace_with(root / "leaderboard.html") as temporary:
        temporary.write_text(page + shown.to_html(index=False), encoding="utf-8")
    return f"{shown.to_string(index=False)}\n\nTo open: {root / 'leaderboard.html'}"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Give a leaderboard its short form for reading: one column per metric, with the interval in brackets.

    Used by notebook 06 and `write_leaderboard`.
    """

    def spread(name):
        return [
            f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            for value, low, high in zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        ]

    return pd.DataFrame(
        {
            "model": table["model"],
            "dataset": table["dataset"] + " (" + table["data"] + ")",
            "macro F1": spread("macro_f1"),
            "accuracy": spread("accuracy"),
            "n": table["n"],
            "rounds": table["rounds"],
            "parameters": [f"{value:,.0f}" if pd.notna(value) else "-" for value in table["parameters"]],
            "training, s": [f"{value:.1f}" if pd.notna(value) else "-" for value in table["train_seconds"]],
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
        model, parameters, train accuracy, accuracy, macro F1, macro P, macro R (each with its 95 % interval), over
        rounds (mean ± standard deviation of the accuracy, where there are several), n, training in seconds.

    Notes
    -----
    Used by notebooks 03 and 05.
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


def slug(name: str) -> str:
    """Turn a model's name into the name of its folder: "SVC, mean MFCC" becomes "svc_mean_mfcc"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def digest(*parts: object) -> str:
    """Short fingerprint of settings, equal for equal settings in any process."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
