"""Feeding a network from memory-mapped features, and training it once per round with resume."""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import math
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from helpers import data, features, runs, scores
from helpers.base import CourseError, digest, progress, short, write_json, write_parquet
from helpers.networks.builders import architecture, settings

# What every training depends on, read together with the code itself, which may be edited while a notebook runs.
_HELPERS = Path(__file__).parents[1]
_CODE = [
    path.read_text(encoding="utf-8")
    for pattern in ("networks/*.py", "features/*.py", "audio/*.py", "scores.py")
    for path in sorted(_HELPERS.glob(pattern))
]


class Batches(keras.utils.PyDataset):
    """Batches of features for `model.fit`; a batch reads from disk only its own rows.

    `X` [shape=(n, ...)] and one-hot `y` [shape=(n, n_classes)] are those of the whole manifest, `rows` are drawn from;
    `scale` maps a batch of features to what the network reads, `augmentations` are those of `helpers.networks.augment`.
    Order and augmentation depend on (seed, epoch, batch) only. `channel` adds the axis of the one channel.
    """

    def __init__(self, X, y, rows, scale, batch_size=32, augmentations=(), shuffle=True, seed=0, channel=True):
        # Threads of our own: else Keras hands the work to a tf.data pipeline that tunes itself, and waits for its end.
        # Keras waits a tenth of a second for them to end, in which a pass over few batches is over.
        super().__init__(workers=2 if len(rows) > 8 * batch_size else 1, max_queue_size=4)
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
    """One progress bar per training; `seconds` holds how long each epoch trained, without validation.

    In the first epoch TensorFlow prepares itself.
    """

    def __init__(self, epochs: int, name: str):
        super().__init__()
        self.bar = progress(total=epochs, desc=name, unit="epoch", leave=False)
        self.seconds = []

    def on_train_begin(self, logs=None):
        """Make the optimiser's variables; made while the first step is traced, they would cost seconds per network."""
        self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.began, self.trained = time.perf_counter(), None

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
    """Labels as rows of zeros and a one [shape=(n, n_classes), float32]; a clip without label gets zeros only."""
    return (manifest["label"].to_numpy(object)[:, np.newaxis] == np.asarray(classes, dtype=object)).astype(np.float32)


def warm_cosine(peak: float, steps: int, start: float, end: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Learning rate that rises for the first tenth of the steps, then falls along half a cosine.

    Loshchilov and Hutter 2017.
    """
    warm = max(1, int(0.1 * steps))
    return keras.optimizers.schedules.CosineDecay(
        start, decay_steps=max(1, int(0.9 * steps)), alpha=end / peak, warmup_target=peak, warmup_steps=warm
    )


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on beside its clips."""

    build: Callable[[int], keras.Model]  # from the number of classes
    optimizer: Callable[[int], keras.Optimizer]  # from the number of steps
    epochs: int
    spec: features.FeatureSpec
    batch_size: int = 16
    augmentations: tuple = ()  # those of `helpers.networks.augment`, in this order
    weighted: bool = False  # classes count alike in the loss, however many clips they have


def train(
    run_dir: str | os.PathLike,
    name: str,
    recipe: Recipe,
    manifest: pd.DataFrame,
    rounds: Sequence[data.Round],
    X: np.ndarray,
    seed: int = 0,
) -> runs.Run:
    """Train a network by a recipe in every round, score it, and record the run in run_dir/<name>.

    Learns from the rows `train` of features `X` [shape=(n, *spec.shape)]; follows `validation`, which chooses nothing;
    the weights of the last epoch are scored. `details` hold curves and accuracies by round.
    """
    classes = sorted(manifest["label"].dropna().unique())
    Y = one_hot(manifest, classes)

    def batches(rows, **options):
        return Batches(X, Y, rows, lambda batch: features.scale(batch, recipe.spec), **options)

    def fit(round_):
        keras.utils.set_random_seed(seed)
        feed = batches(round_.train, batch_size=recipe.batch_size, augmentations=recipe.augmentations, seed=seed)
        model = recipe.build(len(classes))
        optimizer = recipe.optimizer(len(feed) * recipe.epochs)
        model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
        history = model.fit(
            feed,
            validation_data=batches(round_.validation, shuffle=False) if len(round_.validation) else None,
            epochs=recipe.epochs,
            class_weight=_weights(Y[round_.train]) if recipe.weighted else None,
            callbacks=[Progress(recipe.epochs, round_.name)],
            verbose=0,
        ).history
        details = {"history": history}
        for side in ("train", "validation"):
            if len(rows := getattr(round_, side)):
                scored = model.evaluate(batches(rows, shuffle=False), verbose=0, return_dict=True)
                details[f"{side}_accuracy"] = scored["accuracy"]
        return model.predict(batches(round_.test, shuffle=False), verbose=0), model, details

    keras.utils.clear_session()  # layers are numbered from 1 again: in a network within a network, names tell it apart
    network = recipe.build(len(classes))
    params = {"model": name, "feature": asdict(recipe.spec), "scaled": True, "seed": seed, "epochs": recipe.epochs}
    params |= {"batch_size": recipe.batch_size, "augment": [repr(step) for step in recipe.augmentations]}
    params |= {"optimizer": settings(recipe.optimizer(1000)), "weighted": recipe.weighted}
    params |= {"parameters": network.count_params(), "architecture": digest(architecture(network))}
    return cross_validate(Path(run_dir) / runs.slug(name), manifest, rounds, fit, params)


def _weights(Y: np.ndarray) -> dict[int, float]:
    """Weight of each class in the loss, so that all that have clips [Y: shape=(n, n_classes)] count alike."""
    n = Y.sum(axis=0)
    return {k: len(Y) / ((n > 0).sum() * of) if of else 0.0 for k, of in enumerate(n.tolist())}


def cross_validate(
    run_dir: str | os.PathLike,
    manifest: pd.DataFrame,
    rounds: Sequence[data.Round],
    fit: Callable[[data.Round], tuple[np.ndarray, object, dict]],
    params: dict,
) -> runs.Run:
    """Train and score one model in every round, and record the run, with the model of the first round.

    `fit` takes a Round and returns the probabilities of its test rows [shape=(n_test, n_classes)] with classes in
    alphabetical order, the trained model, and details worth keeping. A run or a round is kept as long as `params`, the
    notebook's functions that `fit` comes to, recordings, labels, rounds and the code of this package are the same.
    """
    # One prediction function per model is what we want; TensorFlow takes it for a mistake and would say so each time.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # It rewrites each new network's graph for seconds, and networks as small as ours compute no faster afterwards.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    run_dir, name = Path(run_dir), str(params.get("model", "model"))
    classes = sorted(manifest["label"].dropna().unique())
    key = _key(manifest, rounds, fit, params)
    if (run_dir / "metrics.json").exists() and runs.load(run_dir).params.get("key") == key:
        print(f"{name}: kept from {short(run_dir)} (same clips, settings and code; remove the folder to train anew)")
        return runs.load(run_dir)
    parts = run_dir / "rounds" / key
    for position, round_ in enumerate(progress(rounds, desc=name, unit="round")):
        if (parts / f"{round_.name}.parquet").exists():
            continue
        keras.utils.clear_session()  # frees the networks of earlier rounds
        started = time.perf_counter()
        probabilities, model, details = fit(round_)
        details = {"round": round_.name, "seconds": round(time.perf_counter() - started, 2), **details}
        try:
            table = scores.prediction_table(manifest, round_.test, probabilities, classes, round_.name)
        except CourseError as error:
            raise CourseError(f"{name}, {error}") from error
        if position == 0:
            runs.save_model(parts, model)
        write_json(parts / f"{round_.name}.json", details)
        write_parquet(parts / f"{round_.name}.parquet", table)  # last: its presence marks the round as done
    predictions = pd.concat([pd.read_parquet(parts / f"{round_.name}.parquet") for round_ in rounds], ignore_index=True)
    details = [json.loads((parts / f"{round_.name}.json").read_text(encoding="utf-8")) for round_ in rounds]
    group = dict(zip(manifest["clip_id"], data.groups(manifest), strict=True))
    metrics = scores.score(predictions, predictions["clip_id"].map(group).to_numpy())
    _say_unscored(name, manifest, rounds)
    seconds = sum(detail["seconds"] for detail in details)
    params = {**params, "key": key, "train_seconds": round(seconds, 1), "details": details}
    runs.record(run_dir, params, metrics, predictions, next(parts.glob("model.*")))
    shutil.rmtree(run_dir / "rounds")
    return runs.load(run_dir)


def _say_unscored(name: str, manifest: pd.DataFrame, rounds: Sequence[data.Round]) -> None:
    """Say which classes were not scored, and which were scored without a training clip."""
    label = manifest["label"].to_numpy(object)
    if unscored := sorted({*label} - {None}.union(*(label[round_.test] for round_ in rounds))):
        print(f"{name}: not scored, as no test clip is of them: {', '.join(unscored)}")
    for of, n in sorted(sum((data.untrained(label, round_) for round_ in rounds), Counter()).items()):
        print(f"{name}: {n} test clips of {of} were scored without a training clip of that class")


def _key(manifest: pd.DataFrame, rounds: Sequence[data.Round], fit: Callable, params: dict) -> str:
    """Fingerprint of all that a training depends on."""
    clips = manifest[["clip_id", "label", "group"]].astype(str).to_numpy().tolist()
    recordings = [_size_and_time(path) for path in manifest["path"]]
    sides = [[getattr(round_, side).tolist() for side in ("train", "validation", "test")] for round_ in rounds]
    return digest(params, sorted(_recipe(fit, {}).values()), clips, recordings, sides, _CODE, runs.versions())


def _size_and_time(path: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        return os.stat(path).st_size, os.stat(path).st_mtime_ns


def _recipe(thing: Callable, found: dict) -> dict:
    """Text of a function, of those of its notebook and helper modules it names, and the plain values they read."""
    if thing.__module__ == __name__:  # whose text is in _CODE, and whose caller's choices are in the params
        return found
    if inspect.isclass(thing):  # speaks through its methods: a class written in a notebook has no text
        outside = names = {name: getattr(value, "__func__", value) for name, value in vars(thing).items()}
        outside |= {base.__name__: base for base in thing.__bases__}
        found[thing] = thing.__name__
    else:
        code, text = thing.__code__, ""
        with contextlib.suppress(OSError):  # made by exec
            text = inspect.getsource(thing)
        constants = [value for value in code.co_consts if _is_plain(value)]
        found[thing] = f"{text} {code.co_code.hex()} {code.co_names} {constants}"  # two lambdas may share their line
        outside = thing.__globals__ | inspect.getclosurevars(thing).nonlocals
        names = {*(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text) or code.co_names)} - {*code.co_varnames}
    for name in outside.keys() & names:
        value = outside[name]
        if _is_plain(value):
            found[thing, name] = f"{thing.__qualname__}: {name} = {value!r}"
        elif inspect.ismodule(value) and value.__name__.startswith("helpers."):
            found[value] = Path(value.__file__).read_text(encoding="utf-8")
        elif inspect.isfunction(value) or inspect.isclass(value):
            if value.__module__ == thing.__module__ and value not in found:
                _recipe(value, found)
    return found


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str | tuple | Path | None) and " at 0x" not in repr(value)
