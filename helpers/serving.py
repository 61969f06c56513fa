"""A recorded run on recordings of your own: heard window by window, with a flag on every file that is not as it should.

Serving shares its code with training: the run says by which spec its features were made, `helpers.audio.read` and the
spec's own `extract` make them again, and `prepare` hands them to the model as training did.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from helpers import audio, features, plots, recordings, scores
from helpers.base import AudioError, CourseError, DataMissing, replace_with, short
from helpers.base import progress as progress_bar
from helpers.data.audit import SILENT_DB
from helpers.probe import NOTHING, probe
from helpers.recordings import find  # noqa: F401
from helpers.runs import Run

_BATCH = 32  # windows shown to the model at once
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s of sound [{elapsed}<{remaining}]"


def recipe(run: Run) -> tuple[Any, bool]:
    """Say how a run's model wants its features.

    Returns
    -------
    spec : FeatureSpec or EmbeddingSpec
        What to compute, rebuilt from what the run recorded.
    scaled : bool
        Whether the model reads images in 0..1 with a channel axis (`helpers.features.scale`) or the features as they
        are.

    Raises
    ------
    CourseError
        The run recorded neither (an older version did so), or a spec this version does not know.

    Notes
    -----
    Used by notebooks 04 and 10.
    """
    feature, scaled = run.params.get("feature"), run.params.get("scaled")
    if not isinstance(feature, dict) or not isinstance(scaled, bool):
        raise CourseError(
            f"The run {short(run.path)} does not say how its features are made (`feature` and `scaled` in its "
            "params.json); an older version recorded it. Run its notebook again."
        )
    try:
        if feature.get("kind") == "yamnet_embedding":
            from helpers.features.yamnet import EmbeddingSpec

            return EmbeddingSpec(**feature), scaled
        return features.FeatureSpec(**feature), scaled
    except (TypeError, CourseError) as error:
        raise CourseError(
            f"The features of the run {short(run.path)} cannot be made here: {error} "
            "If another version of the course recorded it, run its notebook again."
        ) from error


def prepare(batch: np.ndarray, spec: Any, scaled: bool) -> np.ndarray:
    """Turn features [shape=(b, *spec.shape)] into what the model reads: [shape=(b, *spec.shape, 1)] if `scaled`."""
    return features.scale(batch, spec)[..., np.newaxis] if scaled else batch


def predict(
    run: Run, folder: str | os.PathLike, hop_seconds: float | None = None, progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let a recorded model hear a folder of recordings of any format and length.

    Parameters
    ----------
    run : Run
        As given by `helpers.runs.load`.
    folder : path
        A folder, searched with its sub-folders, or a single recording.
    hop_seconds : float, optional
        Step from window to window; half a window if not given. The last window ends with the recording, so with steps
        up to a whole window nothing is left unheard.
    progress : bool
        Show a progress bar.

    Returns
    -------
    predictions : pandas.DataFrame
        One row per window: `file` (as seen from the folder), `start` and `end` (s), `predicted`, `confidence` (its
        probability), `silent` (no sample above -80 dB of full scale) and p_<class> for every class. A window is as
        long as a clip in training; a shorter recording is one window, filled up with zeros as in training.
    files : pandas.DataFrame
        One row for every file there is: `file`, `seconds`, `sr` (Hz), `channels`, `windows`, `predicted` and
        `confidence` of the mean over its windows (the silent ones left out, unless all are: no model learnt from
        silence), and `flags`, joined by "; ": **silent** (throughout, or in some windows), **clipped** (more than a
        thousandth of the samples at full scale), **length unknown** (part may be unheard), **too short** (less than
        half a window, so most of what the model hears is zeros), **resampled**, **unreadable** (with the reason, and
        what to do) and **ignored** (hidden, or not a recording by its name).

    Raises
    ------
    DataMissing
        There is no such folder, no recording in it, or no model in the run.
    CourseError
        The run does not say how its features are made, or its model has no probabilities of its classes.

    Notes
    -----
    One window is in memory at a time, and a batch of features; only the tables grow with the recordings. Used by
    notebooks 04 and 07 and by `python -m helpers predict`.
    """
    spec, scaled = recipe(run)
    hop_seconds = spec.seconds / 2 if hop_seconds is None else hop_seconds
    if not 1 / spec.sr <= hop_seconds < float("inf"):
        raise CourseError(f"hop_seconds must be above 0, not {hop_seconds}.")
    found = recordings.find(folder)
    classes, probabilities_of = _model(run, spec, scaled)
    rows, batch, probabilities, facts = [], [], [np.empty((0, len(classes)))], {}
    total = np.nansum([probe(path, check_samples=False)["duration"] for _, path, flag in found if not flag])
    bar = progress_bar(total=total, desc="listening", disable=not progress, bar_format=_BAR, leave=False)
    # One thread in numerical libraries, as in `helpers.cache`: with several, the last bits of a product differ.
    with bar, threadpool_limits(1):
        for name, path, flag in found:
            facts[name] = (NOTHING if flag else probe(path)) | {"flag": flag}
            if flag or facts[name]["reason"]:
                continue
            before = bar.n
            try:
                for start, end, y in _windows(path, facts[name], spec, hop_seconds):
                    batch.append(spec.extract(y, spec.sr))
                    rows.append((name, start, end, bool(np.abs(y).max() < 10 ** (SILENT_DB / 20))))
                    if len(batch) == _BATCH:
                        probabilities.append(probabilities_of(batch))
                        batch = []
                    bar.update(before + end - bar.n)
            except AudioError as error:  # the file was changed or removed while it was heard
                facts[name]["flag"] = f"unreadable while it was heard: {error}"
    if batch:
        probabilities.append(probabilities_of(batch))
    predictions = _table(rows, np.concatenate(probabilities).astype(np.float64), classes)
    return predictions, _files(facts, predictions, spec)


def write(out: str | os.PathLike, predictions: pd.DataFrame, files: pd.DataFrame) -> list[Path]:
    """Write what `predict` gave: out.csv (windows), out_files.csv (files) and out.png (the plot over time).

    Returns
    -------
    list of pathlib.Path

    Raises
    ------
    CourseError
        `out` does not end in .csv, or cannot be written.

    Notes
    -----
    Used by notebook 04 and by `python -m helpers predict`.
    """
    out = writable(out)
    paths = [out, out.with_name(f"{out.stem}_files.csv"), out.with_suffix(".png")]
    for path, table in zip(paths, (predictions, files), strict=False):
        with replace_with(path) as temporary:
            table.round(6).to_csv(temporary, index=False)
    fig = plots.timeline(predictions, files)
    with replace_with(paths[2]) as temporary:
        fig.savefig(temporary, dpi=100, bbox_inches="tight", metadata={"Software": None})
    plots.plt.close(fig)
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


def _windows(path: Path, facts: dict, spec: Any, hop_seconds: float) -> Iterator[tuple[float, float, np.ndarray]]:
    """Give start (s), end (s) and samples of one window after the other, each read by itself."""
    window, hop = round(spec.seconds * spec.sr), round(hop_seconds * spec.sr)
    n_samples = round(facts["duration"] * facts["sr"]) * spec.sr // facts["sr"]
    last = max(0, n_samples - window)
    for start in [*range(0, last, hop), last]:
        y, _ = audio.read(path, sr=spec.sr, seconds=spec.seconds, offset=start / spec.sr)
        yield start / spec.sr, min(start + window, n_samples) / spec.sr, y


def _model(run: Run, spec: Any, scaled: bool) -> tuple[list[str], Callable[[list[np.ndarray]], np.ndarray]]:
    """Classes of a run, and a function from a list of features to their probabilities [shape=(b, n_classes)]."""
    model = run.model()
    try:
        classes = [column[2:] for column in run.predictions.columns if column.startswith("p_")]
    except FileNotFoundError as error:
        raise DataMissing(f"The run {short(run.path)} holds no predictions, so its classes are unknown.") from error
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
        return result

    return classes, probabilities_of


def _table(rows: list[tuple], probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["file", "start", "end", "silent"]).astype({"silent": bool})
    table.insert(3, "predicted", np.asarray(classes, dtype=object)[probabilities.argmax(axis=1)])
    table.insert(4, "confidence", probabilities.max(axis=1))
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])], axis=1)


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
        flags = [fact["flag"]] if fact["flag"] else []
        if not flags or n:
            flags += recordings.flags(fact, spec.sr, spec.seconds, n, int(n_silent.get(name, 0)))
        rows.append(row | {"flags": "; ".join(flags)})
    return pd.DataFrame(rows).astype({"sr": "Int64", "channels": "Int64"})
