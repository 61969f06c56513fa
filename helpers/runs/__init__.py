"""Recorded runs: what was asked, what came out, and the model, in one folder that later notebooks read."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from helpers import data
from helpers.base import CACHE, ROOT, CourseError, DataMissing, quiet, replace_with, short, write_json, write_parquet
from helpers.runs import parameters

RUNS = ROOT / "runs"
_FORMAT = 1  # of a run; what is recorded without one has this one, too
_METRIC, _NAN = ("value", "low", "high", "n"), float("nan")
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "librosa", "scikit-learn", "numpy", "pandas")
# The types beyond skops's own list that our estimators contain; anything else in a file is refused. A forest's trees
# are read without bounds checks, so load forests only from people you trust.
_TRUSTED = [
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
]


_BEGUN: dict[Path, FileLock] = {}
_ASKED: dict[Path, dict] = {}  # what a notebook was asked for, by the folder of its run


@dataclass(frozen=True)
class Run:
    """A recorded run: `params` with the `environment` it ran in, `metrics` {name: {"value", "low", "high", "n"}}."""

    path: Path
    params: dict
    metrics: dict

    @property
    def predictions(self) -> pd.DataFrame:
        """Table of clip_id, label, predicted, fold, and p_<class> for every class."""
        with _whole(self.path / "predictions.parquet") as file:
            table = pd.read_parquet(file)
            if lacking := {"clip_id", "label", "predicted", "fold"} - {*table}:
                raise KeyError(f"it has no {', '.join(sorted(lacking))}")
            return table

    @property
    def classes(self) -> list[str]:
        """Names of the model's classes, in the order of its probabilities."""
        if "classes" not in self.params:
            raise DataMissing(f"The run {short(self.path)} does not name its classes; run its notebook again.")
        return self.params["classes"]

    @property
    def model_file(self) -> Path:
        """Where the model lies; DataMissing says that there is none."""
        for path in (self.path / "model.keras", self.path / "model.skops"):
            if path.exists():
                return path
        raise DataMissing(
            f"The run {short(self.path)} holds no model; its notebook keeps none. Choose a run of 03, 04, 05 or 07."
        )

    def model(self) -> Any:
        """Load the model: Keras, or a scikit-learn estimator read by skops (which runs no code from the file)."""
        if self.model_file.suffix == ".keras":
            with quiet():  # TensorFlow's greeting
                import keras

                with _whole(self.model_file) as file:
                    return keras.saving.load_model(file)
        import skops.io

        with _whole(self.model_file) as file:
            return skops.io.load(file, trusted=_TRUSTED)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Say which file of a run it is that cannot be read."""
    try:
        yield path
    except (ImportError, MemoryError):
        raise
    except PermissionError as error:
        raise CourseError(f"{short(path)} cannot be read: you may not.") from error
    except Exception as error:  # each library has its own for a damaged file
        raise CourseError(
            f"{short(path)} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:120]}). "
            "It is missing, damaged, or of another version: remove the folder of this run and run its notebook again."
        ) from error


def begin(notebook: str, namespace: dict) -> Path:
    """Read the parameters in a notebook's `globals()` as they are meant, and give the folder of its run.

    `data_dir` becomes where the recordings are at hand, and `full`, unless given, True for the real ESC-10.
    The folder is this process's until `record`. CourseError: a parameter that is none, a folder that cannot be written,
    another process that records there.
    """
    names = [name for name in parameters.defaults(ROOT / "notebooks" / f"{notebook}.ipynb") if name in namespace]
    for name in names:
        namespace[name] = parameters.read(name, namespace[name])
    dataset = namespace.get("dataset")
    data_dir = namespace["data_dir"] = data.at_hand(dataset, namespace.get("data_dir"))
    if "full" in namespace and namespace["full"] is None:
        namespace["full"] = dataset == "esc10" and data_dir is not None
    place = folder(namespace.get("run_dir"), notebook, dataset, data_dir)
    for needed, advice in ((place, "Give another run_dir."), (CACHE, "Copy the course to where you may write.")):
        try:
            needed.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=needed).close()
        except OSError as error:
            raise CourseError(f"Cannot write to {short(needed)}: {error.strerror}. {advice}") from error
    if place not in _BEGUN:
        lock = FileLock(place / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise CourseError(
                f"Another process is at work in {short(place)}. Wait for it, stop it (an open notebook's kernel "
                "counts), or give another run_dir."
            ) from None
        except (NotImplementedError, OSError):
            print(f"This file system has no locks: let no other process record in {short(place)} meanwhile.")
        _BEGUN[place] = lock
    asked = {name: namespace.get(name) for name in (*names, "dataset", "data_dir") if name != "run_dir"}
    _ASKED[place] = {"notebook": notebook, **asked}
    return place


def elsewhere(run_dir: str | os.PathLike, manifest: pd.DataFrame) -> Path:
    """Give the folder for what a notebook records on other clips than it was asked for, so that it says on which."""
    dataset = manifest.attrs["dataset"]
    place = Path(run_dir) / dataset
    _ASKED[place] = _ASKED.get(Path(run_dir), {}) | {"dataset": dataset, "data_dir": data.at_hand(dataset)}
    return place


def folder(run_dir: str | os.PathLike | None, notebook: str, dataset: str, data_dir: str | os.PathLike | None) -> Path:
    """Folder of a run: `run_dir` from the repository root, else runs/<dataset>[-sample]/<notebook>.

    So runs on the sample and on real recordings never overwrite each other. Empty texts count as None.
    """
    if run_dir:
        return ROOT / Path(run_dir).expanduser()
    return RUNS / (dataset if data.at_hand(dataset, data_dir) else f"{dataset}-sample") / notebook


def record(
    run_dir: str | os.PathLike, params: dict, metrics: dict, predictions: pd.DataFrame | None = None, model: Any = None
) -> Path:
    """Write a run: params.json, predictions.parquet, the model (or the path of one), and last of all metrics.json.

    A folder without metrics.json is never taken for a finished run. The names of the classes go into the params, so
    that a model can be used without the table of predictions; so do the parameters of the notebook that has begun.
    """
    for name, metric in metrics.items():
        if set(metric) != set(_METRIC):
            raise CourseError(f"Metric {name!r} must have value, low, high and n, not {sorted(metric)}.")
    run_dir = Path(run_dir)
    asked = next((_ASKED[place] for place in (run_dir, *run_dir.parents) if place in _ASKED), {})
    params = {"format": _FORMAT, "asked": [*asked], **asked, **params}
    for stale in ("metrics.json", "predictions.parquet", "model.keras", "model.skops"):
        (run_dir / stale).unlink(missing_ok=True)
    if predictions is not None:
        params = {"classes": [name[2:] for name in predictions if name.startswith("p_")], **params}
    write_json(run_dir / "params.json", {**params, "environment": _environment()})
    if predictions is not None:
        write_parquet(run_dir / "predictions.parquet", predictions)
    if isinstance(model, Path):
        with replace_with(run_dir / model.name) as temporary:
            shutil.copyfile(model, temporary)
    elif model is not None:
        save_model(run_dir, model)
    # JSON knows no NaN, which stands for what has no value, or for the ends of an interval that cannot be given.
    told = {name: {part: None if end != end else end for part, end in one.items()} for name, one in metrics.items()}
    write_json(run_dir / "metrics.json", told)
    if lock := _BEGUN.pop(run_dir, None):
        lock.release()
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
    """Read a recorded run; DataMissing says which notebook makes one, and names runs beside it."""
    path = ROOT / run_dir
    if not (path / "metrics.json").exists():
        finished = [found.parent for depth in ("*", "*/*") for found in path.parent.glob(f"{depth}/metrics.json")]
        names = ", ".join(sorted(other.relative_to(path.parent).as_posix() for other in finished)[:5])
        beside = (
            f" Or choose one of the runs in {short(path.parent)} ({names}) with the parameters `runs_dir` and `run` of "
            "notebooks 06 and 10, or give another path."
        )
        # A folder such as 07_raw_waveform says which notebook records there.
        number = next((part[:2] for part in reversed(path.parts) if re.match(r"\d\d_", part)), None)
        such = "" if number else ", such as 03, 05 or 07"
        raise DataMissing(
            f"No finished run in {short(path)}. Run the notebook that records it first{such} "
            f"(`python -m helpers run {number or '03'}`).{beside if names else ''}"
        )
    with _whole(path / "params.json") as file:
        params = {**json.loads(file.read_text(encoding="utf-8"))}
    if params.get("format", _FORMAT) != _FORMAT:
        raise CourseError(
            f"The run {short(path)} has format {params['format']}, and this course reads {_FORMAT}. Use the version of "
            "the course that made it, or run its notebook again."
        )
    with _whole(path / "metrics.json") as file:
        metrics = json.loads(file.read_text(encoding="utf-8"))
        metrics = {
            name: {part: _NAN if one[part] is None else one[part] for part in _METRIC} for name, one in metrics.items()
        }
    return Run(path, params, metrics)


def find(root: str | os.PathLike) -> list[Run]:
    """All finished runs below `root` that hold predictions of one model, sorted by path, each model once.

    One that cannot be read is said and left out.
    """
    # A notebook that compares models records each below its own folder, and in its own a copy of the one it chose.
    # A sweep makes its runs in folders whose names begin with a dot, until they are whole.
    root = ROOT / root
    folders = sorted(path.parent for path in root.rglob("metrics.json"))
    folders = [folder for folder in folders if not any(part[0] == "." for part in folder.relative_to(root).parts)]
    inner = {parent for folder in folders for parent in folder.parents}
    found = []
    for folder in folders:
        if folder not in inner and (folder / "predictions.parquet").exists():
            try:
                found.append(load(folder))
            except CourseError as error:
                print(f"Left out: {error}")
    return found


def comparison(recorded: dict[str, Run]) -> pd.DataFrame:
    """Put several runs of one notebook into a table for reading, best macro F1 first."""
    rows = []
    for name, run in sorted(recorded.items(), key=lambda item: -item[1].metrics["macro_f1"]["value"]):
        row = {"model": name, "parameters": f"{run.params['parameters']:,}" if "parameters" in run.params else "-"}
        for side in ("train", "validation"):
            seen = [detail[f"{side}_accuracy"] for detail in run.params["details"] if f"{side}_accuracy" in detail]
            row[f"{side} accuracy"] = f"{100 * sum(seen) / len(seen):.1f} %" if seen else "-"
        for metric, title in (("accuracy", "accuracy"), ("macro_f1", "macro F1")):
            row[title] = share(run.metrics[metric])
        parts = (100 * run.metrics[part]["value"] for part in ("macro_precision", "macro_recall"))
        row["macro P / R"] = "{:.1f} % / {:.1f} %".format(*parts)
        if "accuracy_per_fold" in run.metrics:
            middle, high = (100 * run.metrics["accuracy_per_fold"][part] for part in ("value", "high"))
            row["accuracy over rounds"] = f"{middle:.1f} ± {high - middle:.1f} %"
        row |= {"n": run.metrics["accuracy"]["n"], "training, s": f"{run.params['train_seconds']:.1f}"}
        rows.append(row)
    table = pd.DataFrame(rows)
    unused = "validation accuracy" in table and (table["validation accuracy"] == "-").all()
    return table.drop(columns="validation accuracy") if unused else table


def share(metric: dict) -> str:
    """Write a metric with its interval, but without its n, which has a column of its own."""
    from helpers import scores  # here only: its SciPy takes a second to import, in every process of a sweep

    return scores.shown({part: end for part, end in metric.items() if part != "n"})


def slug(name: str) -> str:
    """Turn a model's name into the name of its folder: "SVC, mean MFCC" becomes "svc_mean_mfcc"."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def versions() -> dict[str, str]:
    """Version of every package that results depend on."""
    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _environment() -> dict:
    git = ["git", "describe", "--always", "--dirty", "--exclude=*"]  # with a mark where files were changed since
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        # Of which results depend to the last digits: sums are divided among them.
        "threads": int(os.environ.get("TF_NUM_INTRAOP_THREADS") or os.cpu_count() or 1),
        "commit": commit.stdout.strip() or None,
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **versions(),
    }
