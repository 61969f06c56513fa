"""Feeding a network from memory-mapped features, and training it once per round with resume."""

from __future__ import annotations

import dis
import inspect
import json
import logging
import math
import os
import shutil
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers import runs, scores
from helpers.base import digest, progress, short, write_json, write_parquet
from helpers.data import splits

Augmentation = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


class Batches(keras.utils.PyDataset):
    """Batches of features for `model.fit`; a batch reads from disk only its own rows.

    Parameters
    ----------
    X : np.ndarray or np.memmap [shape=(n, bands, frames) or (n, n_samples), dtype=float32]
        Features of the whole manifest.
    y : np.ndarray [shape=(n, n_classes), dtype=float32]
        One-hot labels of the whole manifest.
    rows : np.ndarray [shape=(m,)]
        The rows to draw from.
    scale : callable
        Maps a batch of features to what the network reads (for example dB to 0..1).
    batch_size : int
    augmentations : sequence of callables
        Each maps (batch [shape=(b, ...) as X], labels [shape=(b, n_classes)], rng) to a new pair; see
        `helpers.batch_augment` and `helpers.wave_augment`. Leave empty for validation and test data.
    shuffle : bool
        Draw the rows in a new order every epoch.
    seed : int
        Order and augmentation depend on (seed, epoch, batch) only, so a rerun sees the same batches.
    channel : bool
        Give pictures or waveforms the axis of their one channel: (b, bands, frames, 1), (b, n_samples, 1).

    Notes
    -----
    Two threads make batches while the network learns. Without them Keras hands the work to a tf.data pipeline that
    tunes itself, whose end is waited for: up to as long as the whole training took (TensorFlow 2.21). Used by notebooks
    03, 04 and 07.
    """

    def __init__(self, X, y, rows, scale, batch_size=32, augmentations=(), shuffle=True, seed=0, channel=True):
        super().__init__(workers=2, max_queue_size=4)
        self.channel = channel
        self.X, self.y, self.rows, self.scale = X, y, np.asarray(rows), scale
        self.batch_size, self.augmentations, self.shuffle, self.seed = batch_size, augmentations, shuffle, seed
        self.epoch = -1
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        batch, labels = self.scale(np.asarray(self.X[rows])), self.y[rows]
        rng = np.random.default_rng([self.seed, self.epoch, index])
        for augmentation in self.augmentations:
            batch, labels = augmentation(batch, labels, rng)
        return (batch[..., np.newaxis] if self.channel else batch), labels

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self.epoch += 1
        rng = np.random.default_rng([self.seed, self.epoch])
        self.order = rng.permutation(self.rows) if self.shuffle else self.rows


class Progress(keras.callbacks.Callback):
    """One progress bar per training instead of one line per epoch, and the time each epoch took.

    Parameters
    ----------
    epochs : int
    name : str
        Shown before the bar.

    Attributes
    ----------
    seconds : list of float
        How long each epoch trained, without validation. In the first TensorFlow prepares itself.

    Notes
    -----
    Used by notebooks 03, 04 and 07.
    """

    def __init__(self, epochs: int, name: str):
        super().__init__()
        self.bar = progress(total=epochs, desc=name, unit="epoch", leave=False)
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.began = time.perf_counter()
        self.trained = None

    def on_test_begin(self, logs=None):
        """Stop the clock: from here on it is validation."""
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Advance by an epoch and show the losses."""
        self.seconds.append((self.trained or time.perf_counter()) - self.began)
        self.bar.update()
        self.bar.set_postfix({name: f"{value:.3f}" for name, value in (logs or {}).items() if "loss" in name})

    def on_train_end(self, logs=None):
        """Close the bar."""
        self.bar.close()


def one_hot(manifest: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """Labels as one row of zeros and a one per clip; a clip without label gets zeros only.

    Returns
    -------
    np.ndarray [shape=(n, n_classes), dtype=float32]
    """
    return (manifest["label"].to_numpy(object)[:, np.newaxis] == np.asarray(classes, dtype=object)).astype(np.float32)


def warm_cosine(peak: float, steps: int, start: float, end: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate that rises for the first tenth of the steps and then falls along half a cosine.

    Parameters
    ----------
    peak, start, end : float
        Highest rate, and those of the first and the last step.
    steps : int
        Batches of the whole training.

    Notes
    -----
    Loshchilov and Hutter 2017. Used by notebooks 03, 04 and 07.
    """
    warm = max(1, int(0.1 * steps))
    return keras.optimizers.schedules.CosineDecay(
        start, decay_steps=max(1, int(0.9 * steps)), alpha=end / peak, warmup_target=peak, warmup_steps=warm
    )


def cross_validate(
    run_dir: str | os.PathLike,
    manifest: pd.DataFrame,
    rounds: Sequence[splits.Round],
    fit: Callable[[splits.Round], tuple[np.ndarray, object, dict]],
    params: dict,
) -> runs.Run:
    """Train and score one model in every round, and record the run.

    Each finished round is kept on disk, so a notebook that was killed goes on where it stopped, provided that
    `params`, the text of `fit` and of the notebook's functions it calls, the clips, their labels and the rounds are
    the same. A notebook that came to its end trains again when it is run again (see `helpers.runs.start`).

    Parameters
    ----------
    run_dir : path
        Folder of the run; `params["model"]` names it in tables.
    manifest : pandas.DataFrame
    rounds : sequence of Round
    fit : callable
        Takes a Round; returns the probabilities of its test rows [shape=(n_test, n_classes)] with classes in
        alphabetical order, the trained model, and a dict of details worth keeping (history, train_accuracy...).
    params : dict
        Everything that determines the result, the architecture included; recorded, and compared before anything is
        reused.

    Returns
    -------
    Run
        Metrics over the test clips of all rounds, intervals by bootstrap over groups. The model is that of the first
        round. `params["details"]` has one entry per round, with `seconds` of training.

    Notes
    -----
    Used by notebooks 03, 04, 05 and 07.
    """
    # One prediction function per model is what we want; TensorFlow takes it for a mistake and would say so each time.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    run_dir = Path(run_dir)
    classes = sorted(manifest["label"].dropna().unique())
    sides = [[round_.train.tolist(), round_.validation.tolist(), round_.test.tolist()] for round_ in rounds]
    clips = manifest[["clip_id", "label", "group"]].astype(str).to_numpy().tolist()
    key = digest(params, _recipe(fit), clips, sides)
    if (run_dir / "metrics.json").exists() and runs.load(run_dir).params.get("key") == key:
        print(f"{params.get('model', 'model')}: kept from the interrupted run in {short(run_dir)}")
        return runs.load(run_dir)
    parts = run_dir / "rounds" / key
    for position, round_ in enumerate(progress(rounds, desc=str(params.get("model", "model")), unit="round")):
        if (parts / f"{round_.name}.parquet").exists():
            continue
        keras.utils.clear_session()  # frees the networks of earlier rounds
        started = time.perf_counter()
        probabilities, model, details = fit(round_)
        details = {"round": round_.name, "seconds": round(time.perf_counter() - started, 2), **details}
        if position == 0:
            runs.save_model(parts, model)
        write_json(parts / f"{round_.name}.json", details)
        table = scores.prediction_table(manifest, round_.test, probabilities, classes, round_.name)
        write_parquet(parts / f"{round_.name}.parquet", table)  # last: its presence marks the round as done
    predictions = pd.concat([pd.read_parquet(parts / f"{round_.name}.parquet") for round_ in rounds], ignore_index=True)
    details = [json.loads((parts / f"{round_.name}.json").read_text(encoding="utf-8")) for round_ in rounds]
    group = dict(zip(manifest["clip_id"], splits.groups(manifest), strict=True))
    metrics = scores.score(predictions, predictions["clip_id"].map(group).to_numpy())
    seconds = sum(detail["seconds"] for detail in details)
    params = {**params, "key": key, "train_seconds": round(seconds, 1), "details": details}
    runs.record(run_dir, params, metrics, predictions, next(parts.glob("model.*")))
    shutil.rmtree(run_dir / "rounds")
    return runs.load(run_dir)


def _recipe(function: Callable, seen: frozenset = frozenset()) -> list:
    """Text of a function and of the notebook's functions it calls, with the plain values they take from outside."""
    used = dict(inspect.getclosurevars(function).nonlocals)
    for name in _globals(function.__code__):
        if name in function.__globals__:
            used[name] = function.__globals__[name]
    parts = [inspect.getsource(function)]
    for name, value in sorted(used.items()):
        if inspect.isfunction(value) and value.__module__ == function.__module__ and value not in seen:
            parts.append([name, _recipe(value, seen | {function, value})])
        elif isinstance(value, bool | int | float | str | tuple | Path | None) and " at 0x" not in repr(value):
            parts.append([name, repr(value)])
    return parts


def _globals(code: types.CodeType) -> set[str]:
    """Names that a function and those inside it read from their module (not names of attributes that look the same)."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return found.union(*(_globals(inner) for inner in code.co_consts if inspect.iscode(inner)))
