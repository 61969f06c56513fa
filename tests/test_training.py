import keras
import numpy as np
import pytest

from helpers import data
from helpers.networks import training


def batches(**options):
    X = np.arange(10, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), dtype=np.float32)
    y = np.eye(10, dtype=np.float32)
    return training.Batches(X, y, np.arange(10), scale=lambda values: values / 2, batch_size=4, **options)


def test_every_row_once_scaled_with_its_label():
    loader = batches(seed=1)
    xs, ys = zip(*(loader[i] for i in range(len(loader))), strict=True)
    x, y = np.concatenate(xs), np.concatenate(ys)
    assert x.shape == (10, 2, 3, 1)
    assert sorted(x[:, 0, 0, 0] * 2) == list(range(10))
    assert (y.argmax(axis=1) == x[:, 0, 0, 0] * 2).all()


def test_a_new_epoch_has_a_new_order_and_a_rerun_the_same():
    one, two = batches(seed=1), batches(seed=1)
    first = one[0][1].argmax(axis=1).tolist()
    assert first == two[0][1].argmax(axis=1).tolist()
    one.on_epoch_end(), two.on_epoch_end()
    assert one[0][1].argmax(axis=1).tolist() == two[0][1].argmax(axis=1).tolist() != first


def test_without_shuffling_rows_keep_their_order():
    assert batches(shuffle=False)[1][1].argmax(axis=1).tolist() == [4, 5, 6, 7]


def test_the_rate_rises_for_a_tenth_and_falls_to_its_end():
    rate = [float(training.warm_cosine(2e-3, 100, start=1e-4, end=2e-6)(step)) for step in range(101)]
    assert rate[0] == pytest.approx(1e-4) and rate[100] == pytest.approx(2e-6)
    assert np.argmax(rate) == 10 and rate[10] == pytest.approx(2e-3)
    assert rate[55] == pytest.approx((2e-3 + 2e-6) / 2)  # the middle of half a cosine
    assert np.isfinite(float(training.warm_cosine(1e-3, 1, start=1e-4, end=1e-5)(0)))  # one batch, one epoch


def test_batches_made_ahead_by_threads_are_those_of_their_epoch():
    seen = {}

    class Watched(training.Batches):
        def __getitem__(self, index):
            batch, labels = super().__getitem__(index)
            seen.setdefault((self.epoch, index), []).append(labels.argmax(axis=1).tolist())
            return batch, labels

    X, y = np.zeros((10, 2, 3), dtype=np.float32), np.eye(10, dtype=np.float32)
    options = dict(X=X, y=y, rows=np.arange(10), scale=lambda values: values, batch_size=3, seed=5)
    model = keras.Sequential([keras.Input((2, 3, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(Watched(**options), epochs=3, verbose=0)
    fresh = training.Batches(**options)
    fresh.on_epoch_end()  # Keras ends an epoch before the first one, when it has looked at a few batches
    for epoch in range(1, 4):
        for index in range(4):
            expected = fresh[index][1].argmax(axis=1).tolist()
            assert seen[epoch, index] and all(labels == expected for labels in seen[epoch, index])
        fresh.on_epoch_end()


def test_an_epochs_time_is_that_of_its_training_alone(monkeypatch):
    ticks = iter([0.0, 5.0, 10.0, 17.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(ticks))
    bar = training.Progress(2, "name")
    bar.on_epoch_begin(0)
    bar.on_test_begin()  # validation is not waited for
    bar.on_epoch_end(0)
    bar.on_epoch_begin(1)
    bar.on_epoch_end(1)  # without validation
    assert bar.seconds == [5.0, 7.0]


def test_one_hot_leaves_unlabelled_rows_empty(manifest):
    manifest.loc[0, "label"] = None
    y = training.one_hot(manifest, ["a", "b", "c"])
    assert y[0].sum() == 0
    assert (y[1:].argmax(axis=1) == manifest["label"].iloc[1:].map({"a": 0, "b": 1, "c": 2})).all()


def test_classes_that_could_not_be_scored_are_said(manifest, capsys):
    label = manifest["label"].to_numpy()
    test = np.flatnonzero((label == "a") & (np.arange(60) < 30))
    train = np.flatnonzero(label == "b")
    training._say_unscored("cnn", manifest, [data.Round("one", train, train[:0], test, train[:0])])
    assert capsys.readouterr().out.splitlines() == [
        "cnn: not scored, as no test clip is of them: b, c",
        f"cnn: {len(test)} test clips of a were scored without a training clip of that class",
    ]
