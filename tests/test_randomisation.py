"""Networks drawn anew: what changes, what does not, and how alike maps are."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from scipy.stats import spearmanr

from helpers.topics.sanity import _randomised as randomised
from helpers.topics.sanity import randomisation_test
from helpers.topics.transfer import classifier


class Scale(layers.Layer):
    """A weight without a word about its initialiser."""

    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), name="factor")

    def call(self, x):
        return x * self.factor


def trained(seed=0):
    """Five layers with weights, all of them away from where training starts; a model in a model."""
    head = keras.Sequential([keras.Input((6,)), layers.Dense(5, name="hidden"), layers.Dropout(0.5)], name="head")
    head.add(layers.Dense(3, activation="softmax", name="output"))
    inputs = keras.Input((12, 10, 1))
    x = layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=7), name="first")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=1, depthwise_initializer="ones", name="depth")(layers.ReLU()(x))
    x = layers.Conv2D(6, 3, use_bias=False, name="last")(x)
    model = keras.Model(inputs, head(layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


ORDER = ["output", "hidden", "last", "depth", "norm", "first"]


def layer(model, name):
    return model.get_layer("head").get_layer(name) if name in ("hidden", "output") else model.get_layer(name)


def kernels(model, x, class_index):
    """A "map" that is nothing but the first kernel, and so independent of all other layers."""
    return model.get_layer("first").get_weights()[0]


@pytest.mark.parametrize("depth", range(7))
def test_the_last_layers_are_drawn_and_no_others(depth):
    model = trained()
    before = [w.copy() for w in model.get_weights()]
    copy = randomised(model, depth)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    for position, name in enumerate(ORDER):
        pairs = zip(layer(model, name).get_weights(), layer(copy, name).get_weights(), strict=True)
        for old, new in pairs:
            assert (old != new).all() if position < depth else (old == new).all()


def test_none_is_all():
    for one, other in zip(
        randomised(trained(), None).get_weights(), randomised(trained(), 6).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_the_copy_computes_the_same():
    model = trained()
    x = np.random.default_rng(1).uniform(size=(3, 12, 10, 1)).astype(np.float32)
    np.testing.assert_array_equal(model(x, training=False), randomised(model, 0)(x, training=False))


def test_initialisers_of_the_layers():
    copy = randomised(trained(), None, seed=3)
    gamma, beta, mean, variance = copy.get_layer("norm").get_weights()
    assert (gamma == 1).all() and (beta == 0).all() and (mean == 0).all() and (variance == 1).all()
    assert (copy.get_layer("depth").get_weights()[0] == 1).all()  # "ones", under a name of its own
    kernel = copy.get_layer("last").get_weights()[0]
    limit = np.sqrt(6 / (9 * 4 + 9 * 6))  # Glorot and Bengio 2010
    assert np.abs(kernel).max() <= limit and kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.15)
    assert (layer(copy, "output").get_weights()[1] == 0).all()


def test_seeds():
    model = trained()
    one, again, other = (randomised(model, None, seed).get_weights() for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    first, elsewhere = one[0], other[0]
    start = keras.initializers.GlorotUniform(seed=7)(first.shape)
    assert (first != elsewhere).all() and (first != np.asarray(start)).all()  # its own fixed seed is not used again
    # More layers: what was drawn for fewer stays.
    few = randomised(model, 2)
    np.testing.assert_array_equal(layer(few, "output").get_weights()[0], one[-2])
    np.testing.assert_array_equal(layer(few, "hidden").get_weights()[0], one[-4])


def test_without_initialiser_shuffled():
    model = keras.Sequential([keras.Input((40,)), Scale()])
    model.set_weights([np.arange(40.0)])
    found = randomised(model, 1).get_weights()[0]
    assert sorted(found) == list(range(40)) and (found != np.arange(40)).sum() > 30


def test_a_base_inside():
    """The classifiers of notebook 04 have a network inside, in front of the head, and batch norm that is frozen."""
    model = classifier("MobileNet", (32, 40, 1), 3, [4])
    base, head = model.get_layer("base"), model.get_layer("head")
    copy = randomised(model, 3, 1)  # two dense layers, and the last batch norm of the base
    weighted = [part for part in base.layers if part.weights]
    assert isinstance(weighted[-1], layers.BatchNormalization)
    for part in weighted:
        for old, new in zip(part.get_weights(), copy.get_layer("base").get_layer(part.name).get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)  # as untrained statistics are those it is reset to
    # Nearly all differ: of a million numbers drawn twice, one may come out the same.
    assert (copy.get_layer("head").layers[0].get_weights()[0] != head.layers[0].get_weights()[0]).mean() > 0.99
    deeper = randomised(model, 4, 1)
    old, new = (m.get_layer("base").get_layer(weighted[-2].name).get_weights()[0] for m in (model, deeper))
    assert (old != new).mean() > 0.99


def test_a_map_of_the_input_never_changes():
    X = np.random.default_rng(2).uniform(size=(4, 12, 10, 1))
    table = randomisation_test(trained(), lambda model, x, index: x[..., 0], X, [0] * 4, [0, 1, None])
    np.testing.assert_allclose(table[["value", "low", "high"]], 1.0)
    assert list(table["depth"]) == [0, 1, 6] and list(table["layer"]) == ["none", "output", "first"]
    assert list(table["n"]) == [4] * 3


def test_layer_by_layer():
    """The map is the first kernel: it stays until the first layer is reached, then it is that of `randomised`."""
    model, X = trained(), np.zeros((2, 12, 10, 1))
    table = randomisation_test(model, kernels, X, [0, 1], range(7), seed=4)
    np.testing.assert_allclose(table["value"][:6], 1.0)
    one, other = (m.get_layer("first").get_weights()[0].ravel() for m in (model, randomised(model, None, 4)))
    assert table["value"][6] == pytest.approx(abs(spearmanr(one, other).statistic))
    assert list(table["layer"]) == ["none", *ORDER]


def test_rank_correlation_by_hand():
    """1 - 6 Σd² / (n (n² - 1)): ranks 1 2 3 4 5 and 2 1 4 5 3 differ by 1 1 1 1 2; then their negative."""
    model = trained()
    maps = {True: np.array([10.0, 20, 30, 40, 500]), False: np.array([2.0, 1, 40, 50, 3])}
    expected = 1 - 6 * (1 + 1 + 1 + 1 + 4) / (5 * 24)
    for sign in (1, -1):
        table = randomisation_test(
            model,
            lambda m, x, index, sign=sign: sign ** (m is model) * maps[m is model],
            np.zeros((1, 12, 10, 1)),
            [0],
            [1],
        )
        assert table["value"][0] == pytest.approx(expected)


def test_interval_over_clips():
    """Clips whose maps stay and clips whose maps turn constant: half of the correlations are 1, half 0."""
    model = trained()
    X = np.arange(40.0).reshape(40, 1, 1, 1) * np.ones((12, 10, 1))

    def method(m, x, index):
        return np.arange(6.0) * (m is model or x.flat[0] % 2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # constant maps count as 0, without a word
        table = randomisation_test(model, method, X, [0] * 40, [1])
        grouped = randomisation_test(model, method, X, [0] * 40, [1], group=np.arange(40) // 2)
    assert table["value"][0] == 0.5
    # Of a mean of 40 zeros and ones: 0.5 ± 1.96 · 0.5 / √40.
    assert table["low"][0] == pytest.approx(0.345, abs=0.03) and table["high"][0] == pytest.approx(0.655, abs=0.03)
    assert grouped["low"][0] == grouped["high"][0] == 0.5  # every group has one of each
