"""Deletion curves of models whose output is a sum known on paper; networks drawn anew, and how alike maps are."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from scipy.stats import spearmanr
from sklearn.metrics import auc

from helpers.topics import sanity
from helpers.topics.sanity import _randomised as randomised
from helpers.topics.sanity import deletion_table, in_blocks, randomisation_test
from helpers.topics.transfer import classifier

HIGH, RANDOM, LOW = "most salient first", "random order", "least salient first"
DIFFERENCE = "most salient minus random"


def additive(shape, weights, softmax=True):
    """p = sigmoid(sum of weights × input) for class 0, or the sum itself: exact attributions are weights × input."""
    weights = np.asarray(weights, np.float32).ravel()
    dense = layers.Dense(2, activation="softmax" if softmax else None)
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), dense])
    dense.set_weights([np.stack([weights, 0 * weights], axis=1), np.zeros(2)])
    return model


def deletion_curves(model, X, maps, class_indices, baseline, seed=0):
    """Of one method."""
    return sanity.deletion_curves(model, X, {"map": np.asarray(maps)}, class_indices, baseline, seed)["map"]


def curves(model, x, saliency, k=0, baseline=0.0, seed=0):
    """The three curves of one clip."""
    x = np.asarray(x, dtype=np.float32)
    found = deletion_curves(model, x[None], [saliency], [k], baseline + np.zeros_like(x), seed)
    return {name: rows[0] for name, rows in found.items()}


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, dtype=np.float64)))


@pytest.fixture(scope="module")
def clips():
    """Additive model, twenty clips and their exact maps."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(20, 36, 1)) / 9
    X = rng.uniform(0, 1, (20, 20, 36, 1)).astype(np.float32)
    return additive((20, 36, 1), weights), X, (X * weights)[..., 0]


def test_four_samples_by_hand(monkeypatch):
    model, x, saliency = additive((4, 1), [1, 3, 2, 4]), np.ones((4, 1)), np.array([1.0, 3.0, 2.0, 4.0])
    monkeypatch.setattr(sanity, "_STEPS", 4)
    found = curves(model, x, saliency)
    np.testing.assert_allclose(found[HIGH], sigmoid([10, 6, 3, 1, 0]), rtol=1e-5)
    np.testing.assert_allclose(found[LOW], sigmoid([10, 9, 7, 4, 0]), rtol=1e-5)
    np.testing.assert_allclose(curves(model, x, saliency, k=1)[HIGH], 1 - found[HIGH], atol=1e-6)
    monkeypatch.setattr(sanity, "_STEPS", 2)  # half of the blocks, then all
    np.testing.assert_allclose(curves(model, x, saliency)[HIGH], sigmoid([10, 3, 0]), rtol=1e-5)


def test_waveform_blocks(monkeypatch):
    """200 samples are 50 blocks of 4; each is ranked by its sum, so one loud sample does not decide."""
    monkeypatch.setattr(sanity, "_STEPS", 50)
    contributions = np.random.default_rng(1).normal(size=200) / 10
    contributions[:4] = 2.0, -1.0, -1.0, -1.0  # together -1: the last block to be deleted
    blocks = contributions.reshape(50, 4).sum(axis=1)
    assert blocks.argmin() == 0
    np.testing.assert_allclose(in_blocks(contributions), blocks)
    left = blocks.sum() - np.concatenate([[0], np.cumsum(np.sort(blocks)[::-1])])
    found = curves(additive((200, 1), contributions), np.ones((200, 1)), contributions)
    np.testing.assert_allclose(found[HIGH], sigmoid(left), atol=1e-5)


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_picture_blocks(channels, monkeypatch):
    """32 × 60 pixels are 8 × 12 blocks of 4 × 5, whatever the number of channels."""
    monkeypatch.setattr(sanity, "_STEPS", 96)
    contributions = np.random.default_rng(2).normal(size=(32, 60)) / 10
    blocks = contributions.reshape(8, 4, 12, 5).sum(axis=(1, 3)).ravel()
    np.testing.assert_allclose(in_blocks(contributions), blocks)
    weights = np.repeat(contributions[..., None] / channels, channels, axis=2) if channels else contributions
    left = blocks.sum() - np.concatenate([[0], np.cumsum(np.sort(blocks))])
    found = curves(additive(weights.shape, weights), np.ones(weights.shape), contributions)
    np.testing.assert_allclose(found[LOW], sigmoid(left), atol=1e-5)


@pytest.mark.parametrize(("shape", "n_blocks"), [((103, 1), 50), ((50, 1), 50), ((7, 1), 7), ((19, 30, 1), 96)])
def test_blocks_are_equal_to_within_one_place(shape, n_blocks, monkeypatch):
    """A model that counts what is left, and a constant map: from the first block to the last, each once."""
    monkeypatch.setattr(sanity, "_STEPS", n_blocks)
    left = curves(additive(shape, np.ones(shape), softmax=False), np.ones(shape), np.full(shape[:-1], 0.1))[HIGH]
    sizes = -np.diff(left)
    assert left[0] == np.prod(shape) and left[-1] == 0
    per_axis = np.array(shape[:-1]) / ((50,) if len(shape) == 2 else (8, 12))
    assert sizes.min() >= max(1, np.prod(np.floor(per_axis)))
    assert sizes.max() <= np.prod(np.ceil(per_axis))


def test_blocks_of_a_constant_map_come_in_one_mixed_order_each_once(monkeypatch):
    monkeypatch.setattr(sanity, "_STEPS", 50)
    model = additive((100, 1), np.arange(100), softmax=False)
    found = curves(model, np.ones((100, 1)), np.full(100, 0.3))
    np.testing.assert_array_equal(found[HIGH], found[LOW])
    lost = np.rint(-np.diff(found[HIGH])).astype(int)
    assert sorted(lost) == sorted(np.arange(100).reshape(50, 2).sum(axis=1))  # every block once
    assert 0.3 < np.mean(lost[:25]) / np.mean(lost[25:]) < 3 and (np.diff(lost) < 0).sum() > 10  # not from start to end


def test_ends_are_the_model_at_the_input_and_at_the_baseline():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16, 24, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(3)
    x, baseline = rng.uniform(size=(2, 16, 24, 1)).astype(np.float32) * 3
    expected = model.predict(np.stack([x, baseline]), verbose=0)[:, 2]
    for curve in curves(model, x, rng.normal(size=(16, 24)), 2, baseline).values():
        np.testing.assert_allclose(curve[[0, -1]], expected, atol=1e-6)


def test_areas_and_their_order(clips):
    model, X, maps = clips
    found = deletion_curves(model, X, maps, [0] * 20, 0 * X[0])
    assert {name: rows.shape for name, rows in found.items()} == {HIGH: (20, 21), RANDOM: (20, 21), LOW: (20, 21)}
    table = deletion_table(found)
    areas = {name: np.array([auc(np.linspace(0, 1, 21), row) for row in rows]) for name, rows in found.items()}
    assert (areas[LOW] >= areas[HIGH]).all()
    expected = [areas[HIGH].mean(), areas[RANDOM].mean(), areas[LOW].mean(), (areas[HIGH] - areas[RANDOM]).mean()]
    np.testing.assert_allclose(table.loc[[HIGH, RANDOM, LOW, DIFFERENCE], "value"], expected, atol=1e-6)
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert list(table["n"]) == [20] * 4 and table["n"].dtype.kind == "i"
    # Exact attributions find what the model uses; turned round they find what it does not use, and noise finds nothing.
    noise = np.random.default_rng(9).normal(size=maps.shape)
    turned, drawn = (
        deletion_table(deletion_curves(model, X, wrong, [0] * 20, 0 * X[0])).loc[DIFFERENCE] for wrong in (-maps, noise)
    )
    assert table.loc[DIFFERENCE, "high"] < min(0, drawn["low"])
    assert turned["low"] > 0 and drawn["low"] < 0 < drawn["high"]


def test_methods_are_compared_with_the_same_random_orders(clips):
    model, X, maps = clips[0], clips[1][:3], clips[2][:3]
    both = sanity.deletion_curves(model, X, {"one": maps, "other": -maps}, [0] * 3, 0 * X[0])
    for method, own in (("one", maps), ("other", -maps)):
        for order, rows in deletion_curves(model, X, own, [0] * 3, 0 * X[0]).items():
            np.testing.assert_array_equal(both[method][order], rows)
    np.testing.assert_array_equal(both["one"][RANDOM], both["other"][RANDOM])


def test_random_orders_depend_on_the_seed_only(clips):
    model, X, maps = clips[0], clips[1][:4], clips[2][:4]
    one, again, other = (deletion_curves(model, X, maps, [0] * 4, 0 * X[0], seed)[RANDOM] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any() and not np.allclose(one[0], one[1])
    np.testing.assert_array_equal(deletion_curves(model, X[:2], maps[:2], [0] * 2, 0 * X[0])[RANDOM], one[:2])


def test_five_random_orders_delete_each_block_once(monkeypatch):
    """Blocks worth 1, 10, 100 and 1000: digits of five times the mean count the orders that delete a block now."""
    monkeypatch.setattr(sanity, "_STEPS", 4)
    model, worth = additive((4, 1), [1, 10, 100, 1000], softmax=False), np.array([1, 10, 100, 1000])
    lost = -np.diff([curves(model, np.ones((4, 1)), np.zeros(4), seed=seed)[RANDOM] for seed in range(20)])
    counts = np.rint(5 * lost).astype(int)[..., None] // worth % 10
    assert (counts.sum(axis=2) == 5).all() and (counts.sum(axis=1) == 5).all()
    assert len(np.unique(counts, axis=0)) > 10


def test_the_table_draws_whole_groups():
    rows = np.random.default_rng(4).uniform(size=(30, 11))
    found = {HIGH: rows, RANDOM: rows[::-1], LOW: rows}
    alone = deletion_table(found).loc[HIGH]
    twice = {name: np.repeat(rows, 2, axis=0) for name, rows in found.items()}
    pairs = deletion_table(twice, np.repeat(range(30), 2)).loc[HIGH]
    assert pairs["n"] == 60
    np.testing.assert_allclose(pairs[["low", "high"]].astype(float), alone[["low", "high"]].astype(float), atol=1e-12)
    assert deletion_table(found, ["a", "b"] * 15).loc[HIGH, ["low", "high"]].isna().all()  # too few


class Scale(layers.Layer):
    """A weight without a word about its initialiser."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), name="factor")

    def call(self, x):
        return x * self.factor


ORDER = ["output", "hidden", "last", "depth", "norm", "first"]


@pytest.fixture(scope="module")
def trained():
    """Six layers with weights, all of them away from where training starts; a model in a model."""
    head = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="hidden"), layers.Dropout(0.5)], name="head")
    head.add(layers.Dense(3, activation="softmax", name="output"))
    inputs = keras.Input((12, 10, 1))
    x = layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=7), name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=1, depthwise_initializer="ones", name="depth")(layers.ReLU()(x))
    x = layers.Conv2D(6, 3, use_bias=False, name="last")(x)
    model = keras.Model(inputs, head(layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def weights_of(model, name):
    part = model.get_layer("head") if name in ("hidden", "output") else model
    return part.get_layer(name).get_weights()


@pytest.mark.parametrize("depth", [*range(7), None])
def test_the_last_layers_are_drawn_and_no_others(trained, depth):
    """The model itself stays; None is all."""
    before, copy = trained.get_weights(), randomised(trained, depth)
    for old, new in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for position, name in enumerate(ORDER):
        for old, new in zip(weights_of(trained, name), weights_of(copy, name), strict=True):
            assert (old != new).all() if depth is None or position < depth else (old == new).all()


def test_initialisers_of_the_layers(trained):
    copy = randomised(trained, None, seed=3)
    for found, expected in zip(weights_of(copy, "norm"), (1, 0, 0, 1), strict=True):  # gamma, beta, mean, variance
        assert (found == expected).all()
    assert (weights_of(copy, "depth")[0] == 1).all()  # "ones", under a name of its own
    kernel = weights_of(copy, "last")[0]
    limit = np.sqrt(6 / (9 * 4 + 9 * 6))  # Glorot and Bengio 2010
    assert np.abs(kernel).max() <= limit and kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.15)
    assert (weights_of(copy, "output")[1] == 0).all()
    # Where there is none, weights are shuffled.
    model = keras.Sequential([keras.Input((40,)), Scale()])
    model.set_weights([np.arange(40.0)])
    shuffled = randomised(model, 1).get_weights()[0]
    assert sorted(shuffled) == list(range(40)) and (shuffled != np.arange(40)).sum() > 30


def test_seeds(trained):
    one, again, other = (randomised(trained, None, seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one.get_weights(), again.get_weights(), strict=True))
    first, elsewhere = (weights_of(model, "first")[0] for model in (one, other))
    start = keras.initializers.GlorotUniform(seed=7)(first.shape)
    assert (first != elsewhere).all() and (first != np.asarray(start)).all()  # its own fixed seed is not used again
    # More layers: what was drawn for fewer stays.
    few = randomised(trained, 2)
    for name in ("output", "hidden"):
        np.testing.assert_array_equal(weights_of(few, name)[0], weights_of(one, name)[0])


def test_a_base_inside():
    """The classifiers of notebook 04 have a network inside, in front of the head, and batch norm that is frozen."""
    model = classifier("MobileNet", (32, 40, 1), 3, [4])
    base = [part.name for part in model.get_layer("base").layers if part.weights]

    def changed(copy, part, name):
        pair = (m.get_layer(part).get_layer(name).get_weights()[0] for m in (model, copy))
        return np.not_equal(*pair).mean()

    copy, deeper = (randomised(model, depth, 1) for depth in (3, 4))
    # Two dense layers, and the last batch norm of the base: untrained statistics are those it is reset to.
    assert not any(changed(copy, "base", name) for name in base)
    # Nearly all differ: of a million numbers drawn twice, one may come out the same.
    assert changed(copy, "head", model.get_layer("head").layers[0].name) > 0.99
    assert changed(deeper, "base", base[-2]) > 0.99 and not any(changed(deeper, "base", name) for name in base[:-2])


def test_layer_by_layer(trained):
    """The map is the first kernel: it stays until the first layer is reached, then it is that of `randomised`."""

    def kernel(model, x, class_index):
        return weights_of(model, "first")[0]

    table = randomisation_test(trained, kernel, np.zeros((2, 12, 10, 1)), [0, 1], [*range(6), None], seed=4)
    np.testing.assert_allclose(table.loc[:5, "value"], 1.0)
    one, other = (kernel(model, None, 0).ravel() for model in (trained, randomised(trained, None, 4)))
    assert table["value"][6] == pytest.approx(abs(spearmanr(one, other).statistic))
    assert list(table["layer"]) == ["none", *ORDER] and list(table["depth"]) == list(range(7))
    assert list(table["n"]) == [2] * 7


@pytest.mark.parametrize("sign", [1, -1])
def test_rank_correlation_by_hand(sign):
    """1 - 6 Σd² / (n (n² - 1)): ranks 1 2 3 4 5 and 2 1 4 5 3 differ by 1 1 1 1 2; the sign is kept."""
    one, other = np.array([10.0, 20, 30, 40, 500]), np.array([2.0, 1, 40, 50, 3])
    assert sanity.spearman(one, sign * other) == pytest.approx(sign * (1 - 6 * (1 + 1 + 1 + 1 + 4) / (5 * 24)))


def test_interval_over_clips(trained):
    """Maps that stay, or are turned upside down, count 1, maps that turn constant 0, without a word; half of each."""
    X = np.arange(40.0).reshape(40, 1, 1, 1) * np.ones((12, 10, 1))

    def method(model, x, index):
        return np.arange(6.0) * (1 if model is trained else (0, -1, 0, 1)[int(x.flat[0]) % 4])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = randomisation_test(trained, method, X, [0] * 40, [1])
        grouped = randomisation_test(trained, method, X, [0] * 40, [1], group=np.arange(40) // 2)
    assert table["value"][0] == 0.5
    # Of a mean of 40 zeros and ones: 0.5 ± 1.96 · 0.5 / √40.
    assert table["low"][0] == pytest.approx(0.345, abs=0.03) and table["high"][0] == pytest.approx(0.655, abs=0.03)
    # Every group has one of each, so nothing varies; that of 20 groups, as observations, is what can be said.
    assert grouped["value"][0] == 0.5 and 0.25 < grouped["low"][0] < 0.3
