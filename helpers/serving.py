"""A recorded run on recordings of your own: heard window by window, with a flag on every file that is not as it should.

Serving shares its code with training: the run says by which spec its features were made, `audio` and the spec's own
`extract` make them again, and `prepare` hands them to the model as training did.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from helpers import audio, base, features, plots, scores
from helpers.base import (
    AudioError,
    CourseError,
    DataMissing,
    progress,
    replace_with,
    resolve,
    short,
    write_json,
    write_parquet,
)
from helpers.data.audit import ADVICE, oddities
from helpers.data.declare import AUDIO_SUFFIXES
from helpers.features import yamnet
from helpers.features.cache import CODE
from helpers.runs import Run

_NOT_SURE = "not sure"
_BATCH = 32  # windows shown to the model at once
_SECONDS_TO_LOSE = 20.0  # of work by a kill, and a file's


def find(folder: str | os.PathLike) -> list[tuple[str, Path, str]]:
    """List every file of a folder and its sub-folders, or a single recording: name, path and why it is not read, or "".

    DataMissing: there is no such folder, or no recording in it.
    """
    root = resolve(folder)
    if root.is_file():
        return [(_printable(root.name), root, "")]
    if not root.is_dir():
        raise DataMissing(f"{root} does not exist. Name a folder with recordings, or a single recording.")
    closed: list[OSError] = []
    walk = list(os.walk(root, onerror=closed.append))
    paths = [Path(parent, name) for parent, folders, names in walk for name in names + folders]
    paths = [path for path in paths if path.is_symlink() or not path.is_dir()]
    found = [(_printable(path.relative_to(root).as_posix()), path, _not_read(path, root)) for path in paths]
    for error in closed:
        path = Path(error.filename)
        found.append((_printable(f"{path.relative_to(root).as_posix()}/"), path, f"unreadable: {error.strerror}"))
    if all(flag for _, _, flag in found):
        others = ", ".join(f"{name} ({flag})" for name, _, flag in sorted(found)[:3])
        raise DataMissing(
            f"No recording was found in {root}{f' but {len(found)} other files: ' if found else '.'}{others} "
            f"Recordings are known by their names: {', '.join(sorted(AUDIO_SUFFIXES))}."
        )
    return sorted(found)


def recipe(run: Run, weights_dir: str | os.PathLike | None = None) -> tuple[Any, bool]:
    """Say how a run's model wants its features: the spec, and whether it reads them scaled, with a channel axis.

    `weights_dir` is where YAMNet's file lies, for runs that need it. CourseError: the run does not say, or says
    what this version does not know.
    """
    feature, scaled = run.params.get("feature"), run.params.get("scaled")
    if not isinstance(feature, dict) or not isinstance(scaled, bool):
        raise CourseError(
            f"The run {short(run.path)} does not say how its features are made (`feature` and `scaled` in its "
            "params.json). Its notebook keeps no model (03, 04, 05 and 07 do), or an older version recorded it."
        )
    try:
        if feature.get("kind") == "yamnet_embedding":
            return yamnet.EmbeddingSpec(**feature, weights_dir=weights_dir), scaled
        spec = features.FeatureSpec(**feature)
    except (TypeError, CourseError) as error:
        raise CourseError(
            f"The features of the run {short(run.path)} cannot be made here: {error} "
            "If another version of the course recorded it, run its notebook again."
        ) from error
    if spec.channel != "mean":
        raise CourseError(
            f"The run {short(run.path)} hears the {spec.channel} channel alone; predict hears their mean."
        )
    return spec, scaled


def prepare(batch: np.ndarray, spec: Any, scaled: bool) -> np.ndarray:
    """Turn features [shape=(b, *spec.shape)] into what the model reads: [shape=(b, *spec.shape, 1)] if `scaled`."""
    return features.scale(batch, spec)[..., np.newaxis] if scaled else batch


def predict(
    run: Run,
    folder: str | os.PathLike,
    hop_seconds: float | None = None,
    weights_dir: str | os.PathLike | None = None,
    sure: float | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let a recorded model hear a folder of recordings, or a single one, of any format and length.

    Windows are as long as a clip in training, `hop_seconds` apart (half a window if not given); each file is opened and
    decoded once. predictions: a row per window with `file`, `start` and `end` (s), `predicted`, `confidence`, `silent`
    and p_<class> for every class. files: a row for every file there is, with what its windows say on average (silent
    ones left out, unless all are), and `flags` in the words of the audit, besides "resampled", "unreadable", "ignored".
    With `sure`, "not sure" stands where the confidence is below the threshold. After a kill, files that have been heard
    are not heard again.
    """
    limit = 0.0 if sure is None else _threshold(run, sure)
    spec, scaled = recipe(run, weights_dir)
    hop_seconds = spec.seconds / 2 if hop_seconds is None else hop_seconds
    if not 1 / spec.sr <= hop_seconds < float("inf"):
        raise CourseError(f"hop_seconds must be above 0, not {hop_seconds}.")
    found = find(folder)
    probabilities_of = _model(run, spec, scaled)
    done = _Done(base.CACHE / "predict" / _key(run, spec, hop_seconds, folder))
    states = {name: [_state(path), flag] for name, path, flag in found}
    heard, facts = done.read(states)
    if facts:
        print(f"{len(facts)} files were heard before this was stopped, and are not heard again.")
    rows, batch, probabilities, new = [], [], [], {}

    def keep() -> None:
        """Score what waits, and put away what is whole."""
        if batch:
            probabilities.append(probabilities_of(batch))
        heard.append(_table(rows, np.concatenate([np.empty((0, len(run.classes))), *probabilities]), run.classes))
        facts.update(new)
        done.write(heard[-1], new)
        for gathered in (rows, batch, probabilities, new):
            gathered.clear()

    sizes = {name: path.stat().st_size for name, path, flag in found if not flag and path.is_file()}
    bar = progress(total=sum(sizes.values()), desc="listening", unit="B", unit_scale=True, leave=False)
    kept = time.perf_counter()
    # One thread in numerical libraries, as in the cache of features: with several, the last bits of a product differ.
    with bar, threadpool_limits(1):
        for name, path, flag in found:
            before = bar.n
            if name not in facts:
                new[name] = audio.NOTHING | {"flag": flag, "state": states[name]}
                for start, end, silent, values in () if flag else _windows(path, spec, hop_seconds, new[name]):
                    rows.append((name, start, end, silent))
                    batch.append(values)
                    if len(batch) == _BATCH:
                        probabilities.append(probabilities_of(batch))
                        batch.clear()
                    if new[name]["duration"] > 0:
                        bar.update(before + sizes[name] * min(1, end / new[name]["duration"]) - bar.n)
                if time.perf_counter() - kept > _SECONDS_TO_LOSE:
                    keep()
                    kept = time.perf_counter()
            bar.update(before + sizes.get(name, 0) - bar.n)
        keep()
    done.remove()
    order = {name: number for number, name in enumerate(states)}
    predictions = pd.concat([table for table in heard if len(table)] or heard[:1], ignore_index=True)
    predictions = predictions.sort_values("file", key=lambda file: file.map(order), kind="stable", ignore_index=True)
    files = _files({name: facts[name] for name in order}, predictions, spec)
    for table in (predictions, files):
        table.loc[table["confidence"] < limit, "predicted"] = _NOT_SURE
    return predictions, files


def _threshold(run: Run, sure: float) -> float:
    """Give the lowest confidence from which on a share `sure` of a run's answers to its test clips is right.

    CourseError: `sure` is no share, or not even the most confident answers reach it.
    """
    if not 0 < sure <= 1:
        raise CourseError(f"sure must be a share above 0 and at most 1, such as 0.95, not {sure}.")
    told = run.predictions
    confidence = told[[f"p_{name}" for name in run.classes]].max(axis=1)
    right = (told["label"] == told["predicted"]).groupby(confidence).agg(["sum", "size"]).iloc[::-1].cumsum()
    enough = right.index[right["sum"] / right["size"] >= sure]
    if not len(enough):
        raise CourseError(
            f"Not even the most confident answers of the run {short(run.path)} to its {len(told)} test clips are right "
            f"in {100 * sure:g} %. Ask for less, or take a better model."
        )
    return float(enough[-1])


def _windows(path: Path, spec: Any, hop_seconds: float, facts: dict) -> Iterator[tuple]:
    """Start and end (s), silence and features of each window of a recording; what is found out goes into `facts`."""
    try:
        with audio.opened(path) as recording:
            facts |= recording.facts
            if not facts["reason"]:
                for start, end, y in audio.windows(recording, spec.sr, spec.seconds, hop_seconds):
                    silent = bool(np.abs(y - y.mean()).max() < 10 ** (audio.SILENT_DB / 20))
                    yield start, end, silent, spec.extract(y, spec.sr)
                facts |= recording.facts
    except AudioError as error:
        facts |= {"reason": getattr(error, "reason", "not audio"), "detail": getattr(error, "detail", error)}
    except (CourseError, ImportError, MemoryError):
        raise  # no fault of this file
    except Exception as error:  # whatever a library says of one file, the others are heard
        facts |= {"reason": "not audio", "detail": f"{type(error).__name__}: {error}"}


@dataclass(frozen=True)
class _Done:
    """What was heard before a kill: in each part, the windows of some files and what is known of these files."""

    folder: Path

    def read(self, states: dict) -> tuple[list[pd.DataFrame], dict]:
        """Give the tables of windows, and the facts, of files that are as they were."""
        tables, facts = [], {}
        for part in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError):
                table, found = pd.read_parquet(part.with_suffix(".parquet")), json.loads(part.read_text("utf-8"))
                current = {name for name, fact in found.items() if fact["state"] == states.get(name, "gone")}
                current -= {*facts}  # two processes may have heard it
                tables.append(table[table["file"].isin(current)])
                facts |= {name: found[name] for name in current}
        return tables, facts

    def write(self, table: pd.DataFrame, facts: dict) -> None:
        """Add a part."""
        own = os.getpid()  # another process may hear the same folder
        part = self.folder / f"{own}-{len([*self.folder.glob(f'{own}-*.json')]):06d}.json"
        with contextlib.suppress(OSError):  # where nothing can be kept, a kill costs all
            write_parquet(part.with_suffix(".parquet"), table)
            write_json(part, facts)  # last: its presence marks the part as whole

    def remove(self) -> None:
        """Nothing is left to be done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _key(run: Run, spec: Any, hop_seconds: float, folder: str | os.PathLike) -> str:
    files = [_state(path) for path in sorted(run.path.glob("*.*"))]
    how = dataclasses.asdict(spec), hop_seconds, CODE, audio.convert.ffmpeg()
    return base.digest(str(run.path), files, str(resolve(folder)), how)


def _state(path: Path) -> list[int] | None:
    with contextlib.suppress(OSError):
        return [path.stat().st_size, path.stat().st_mtime_ns]


def write(out: str | os.PathLike, predictions: pd.DataFrame, files: pd.DataFrame) -> list[Path]:
    """Write what `predict` gave: out.csv (windows), out_files.csv (files) and out.png (the plot over time)."""
    out = writable(out)
    paths = [out, out.with_name(f"{out.stem}_files.csv"), out.with_suffix(".png")]
    for path, table in zip(paths, (predictions, files), strict=False):
        with replace_with(path) as temporary:
            table.round(6).to_csv(temporary, index=False)
    fig = plots.timeline(predictions, files)
    with replace_with(paths[2]) as temporary:
        fig.savefig(temporary, dpi=100, bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    return paths


def writable(out: str | os.PathLike) -> Path:
    """Check that a CSV can be written here, before hours are spent on what to write; raises CourseError."""
    out = Path(out).expanduser()
    if out.suffix.lower() != ".csv" or out.is_dir():
        raise CourseError(f"{out} is no name for a table; give one that ends in .csv.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise CourseError(f"Cannot write to {out.parent}: {error.strerror}. Choose another place.") from error
    return out


def _not_read(path: Path, root: Path) -> str:
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        return "ignored: hidden"
    if path.is_dir():
        return "ignored: a link to a folder"
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        return f"ignored: not a recording by its name ({_printable(path.suffix) or 'no suffix'})"
    if _printable(str(path)) != str(path):
        return "unreadable: its name is not text in UTF-8. Rename it."
    return ""


def _printable(name: str) -> str:
    # File systems allow bytes that are no text; tables and terminals do not.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _model(run: Run, spec: Any, scaled: bool) -> Callable[[list[np.ndarray]], np.ndarray]:
    """Give a function from a list of features to the probabilities of the run's classes [shape=(b, n_classes)]."""
    model, classes = run.model(), run.classes
    is_keras = hasattr(model, "count_params")
    if not is_keras and not hasattr(model, "predict_proba"):
        raise CourseError(f"The model of the run {short(run.path)} gives no probabilities.")
    if not is_keras and set(model.classes_) - set(classes):
        raise CourseError(f"The model of the run {short(run.path)} has other classes than its predictions.")

    def probabilities_of(batch: list[np.ndarray]) -> np.ndarray:
        X = prepare(np.stack(batch).astype(np.float32, copy=False), spec, scaled)
        if is_keras:
            result = np.asarray(model.predict_on_batch(X))
        else:
            result = scores.in_columns(model.predict_proba(X), model.classes_, classes)
        if result.shape != (len(batch), len(classes)):
            raise CourseError(f"The run {short(run.path)} has {len(classes)} classes, its model {result.shape[-1]}.")
        if not np.isfinite(result).all():
            raise CourseError(f"The model of the run {short(run.path)} gives probabilities that are not numbers.")
        return result

    return probabilities_of


def _table(rows: list[tuple], probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    probabilities = np.asarray(probabilities, dtype=np.float64)
    table = pd.DataFrame(rows, columns=["file", "start", "end", "silent"]).astype({"silent": bool})
    table.insert(3, "predicted", np.asarray(classes, dtype=object)[probabilities.argmax(axis=1)])
    table.insert(4, "confidence", probabilities.max(axis=1))
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])], axis=1)


def _flags(fact: dict, spec: Any, n_windows: int, n_silent: int) -> list[str]:
    """Say what is odd about a recording, as heard by a model."""
    if fact["flag"]:
        return [fact["flag"]]
    if fact["reason"]:
        return [f"unreadable: {fact['reason']} ({fact['detail']}). {ADVICE[fact['reason']]}"]
    found = []
    if n_silent:
        found.append("silent" if n_silent == n_windows else f"silent in {n_silent} of {n_windows} windows")
    found += [f"{word} ({detail})" for word, detail in oddities(fact)]
    if fact["duration"] < spec.seconds / 2:
        found.append(f"too short ({fact['duration']:.2f} s; the rest of the {spec.seconds:g} s heard is zeros)")
    if fact["sr"] != spec.sr:
        missing = f", nothing above {fact['sr'] // 2} Hz is there" if fact["sr"] < spec.sr else ""
        found.append(f"resampled ({fact['sr']} to {spec.sr} Hz{missing})")
    return found


def _files(facts: dict[str, dict], predictions: pd.DataFrame, spec: Any) -> pd.DataFrame:
    silent = predictions.groupby("file")["silent"]
    n_windows, n_silent = silent.size(), silent.sum()
    heard = predictions[~predictions["silent"] | predictions["file"].isin(n_windows.index[n_silent == n_windows])]
    mean = heard.groupby("file")[[column for column in predictions if column.startswith("p_")]].mean()
    rows = []
    for name, fact in facts.items():
        n = int(n_windows.get(name, 0))
        row = {"file": name, "seconds": fact["duration"]} | {key: fact[key] or None for key in ("sr", "channels")}
        row |= {"windows": n, "predicted": None, "confidence": np.nan}
        if n:
            row |= {"predicted": mean.loc[name].idxmax()[2:], "confidence": mean.loc[name].max()}
        rows.append(row | {"flags": "; ".join(_flags(fact, spec, n, int(n_silent.get(name, 0))))})
    return pd.DataFrame(rows).astype({"sr": "Int64", "channels": "Int64"})
