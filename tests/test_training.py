import dataclasses

import keras
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from helpers import data
from helpers.features import FeatureSpec
from helpers.networks import augment, compact_cnn, training


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


def test_classes_weigh_alike_whatever_their_number_of_clips():
    Y = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 2, 2]]
    weights = training._weights(Y)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=Y.argmax(axis=1))
    assert [weights[k] for k in range(4)] == pytest.approx([*expected, 0])


def test_a_recipe_is_trained_in_every_round_scored_recorded_and_kept(manifest, tmp_path, capsys):
    spec = FeatureSpec("logmel", n_mels=4, seconds=0.05)
    bands = np.eye(4)[manifest["label"].map({"a": 0, "b": 1, "c": 2})]
    X = np.repeat(120 * bands[..., None] - 80, spec.n_frames, axis=2).astype(np.float32)
    built = []

    def build(n_classes):
        built.append(n_classes)
        parts = [keras.Input((*spec.shape, 1)), keras.layers.Flatten(), keras.layers.Dense(n_classes, "softmax")]
        return keras.Sequential(parts)

    recipe = training.Recipe(build, lambda steps: keras.optimizers.Adam(0.1), 12, spec, weighted=True)
    rounds = data.rounds(manifest, 2)
    run = training.train(tmp_path, "a Net", recipe, manifest, rounds, X, seed=3)
    assert run.path == tmp_path / "a_net" and len(run.predictions) == sum(len(round_.test) for round_ in rounds)
    assert run.metrics["accuracy"]["value"] == 1
    for detail in run.params["details"]:
        assert detail["train_accuracy"] == detail["validation_accuracy"] == 1
        assert {len(curve) for curve in detail["history"].values()} == {12}
    assert run.params["parameters"] == 3 * (np.prod(spec.shape) + 1) and run.params["seed"] == 3
    times = len(built)
    training.train(tmp_path, "a Net", recipe, manifest, rounds, X, seed=3)
    assert len(built) == times + 1 and "kept" in capsys.readouterr().out  # built once, to be compared
    merged = [dataclasses.replace(one, train=one.development, validation=one.train[:0]) for one in rounds]
    (detail, _) = training.train(tmp_path, "more", recipe, manifest, merged, X).params["details"]
    assert "validation_accuracy" not in detail and "val_loss" not in detail["history"]


def test_the_same_seed_trains_the_same_network_to_the_last_bit(manifest, tmp_path):
    """With dropout, augmentation, and threads that make batches ahead; no slower operations are needed for that."""
    spec = FeatureSpec("logmel", n_mels=32, seconds=0.5)
    X = np.random.default_rng(0).uniform(-80, 0, (len(manifest), *spec.shape)).astype(np.float32)
    steps = (augment.Shift(frames=4, bands=1), augment.SpecAugment(4, 4), augment.Mixup(0.3))
    told = {}
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        recipe = training.Recipe(
            lambda n_classes: compact_cnn((*spec.shape, 1), n_classes, [8, 16, 16]),
            lambda steps: keras.optimizers.AdamW(training.warm_cosine(2e-3, steps, 1e-4, 2e-6)),
            epochs=2, spec=spec, augmentations=steps,
        )  # fmt: skip
        run = training.train(tmp_path / name, "net", recipe, manifest, data.rounds(manifest, 1), X, seed)
        told[name] = run.predictions, run.params["details"][0]["history"], run.model().get_weights()
    for first, second in zip(told["one"][2], told["two"][2], strict=True):
        assert np.array_equal(first, second)
    assert told["one"][1] == told["two"][1] and told["one"][0].equals(told["two"][0])
    assert not told["one"][0].equals(told["other"][0])
