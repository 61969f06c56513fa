"""Deletion curves against models whose output is a sum known on paper."""

import warnings
from unittest import mock

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import auc

from helpers.topics import sanity
from helpers.topics.pictures import deletion_plot
from helpers.topics.sanity import deletion_table, in_blocks

HIGH, RANDOM, LOW = "most salient first", "random order", "least salient first"


def additive(shape, weights, softmax=True):
    """p = sigmoid(sum of weights × input) for class 0, or the sum itself: exact attributions are weights × input."""
    weights = np.asarray(weights, np.float32).ravel()
    dense = layers.Dense(2, activation="softmax" if softmax else None)
    model = keras.Sequential([keras.Input(shape), layers.Flatten(), dense])
    dense.set_weights([np.stack([weights, 0 * weights], axis=1), np.zeros(2)])
    return model


def deletion(model, x, saliency, k, baseline=None, steps=20, order="high"):
    """One deletion curve, in any order and number of steps."""
    sums, ties = in_blocks(saliency), np.random.default_rng(0).permutation(len(in_blocks(saliency)))
    ranked = order.permutation(len(sums)) if isinstance(order, np.random.Generator) else None
    ranked = np.lexsort((ties, -sums if order == "high" else sums)) if ranked is None else ranked
    x = np.asarray(x, dtype=np.float32)
    with mock.patch.object(sanity, "_STEPS", steps):
        return sanity._curve(model, x, saliency.shape, ranked, k, np.zeros_like(x) if baseline is None else baseline)


def deletion_curves(model, X, maps, class_indices, baseline=None, seed=0):
    baseline = np.zeros_like(X[0]) if baseline is None else baseline
    return sanity.deletion_curves(model, X, {"map": maps}, class_indices, baseline, seed)["map"]


def test_methods_are_compared_with_the_same_random_orders():
    model, X, maps = clips(3, (40, 1))
    both = sanity.deletion_curves(model, X, {"one": maps, "other": -maps}, [0] * 3, np.zeros_like(X[0]))
    for method, own in (("one", maps), ("other", -maps)):
        for order, curves in deletion_curves(model, X, own, [0] * 3).items():
            np.testing.assert_array_equal(both[method][order], curves)
    np.testing.assert_array_equal(both["one"][RANDOM], both["other"][RANDOM])


def sigmoid(z):
    return 1 / (1 + np.exp(-np.asarray(z, dtype=np.float64)))


def clips(n, shape, seed=0):
    """Additive model, clips and their exact maps (without the channel axis)."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=shape) / np.sqrt(np.prod(shape)) * 3
    X = rng.uniform(0, 1, (n, *shape)).astype(np.float32)
    return additive(shape, weights), X, (X * weights)[..., 0]


def test_four_samples_by_hand():
    model = additive((4, 1), [1, 3, 2, 4])
    x, saliency = np.ones((4, 1)), np.array([1.0, 3.0, 2.0, 4.0])
    high = deletion(model, x, saliency, 0, steps=4)
    np.testing.assert_allclose(high, sigmoid([10, 6, 3, 1, 0]), rtol=1e-5)
    low = deletion(model, x, saliency, 0, steps=4, order="low")
    np.testing.assert_allclose(low, sigmoid([10, 9, 7, 4, 0]), rtol=1e-5)
    np.testing.assert_allclose(deletion(model, x, saliency, 1, steps=4), 1 - high, atol=1e-6)
    assert high.shape == (5,) and high.dtype == np.float32
    # Two steps: half of the blocks, then all.
    np.testing.assert_allclose(deletion(model, x, saliency, 0, steps=2), sigmoid([10, 3, 0]), rtol=1e-5)


def test_random_order_is_that_of_the_generator():
    model = additive((4, 1), [1, 10, 100, 1000], softmax=False)
    arguments = model, np.ones((4, 1)), np.zeros(4), 0
    one, again = (deletion(*arguments, steps=4, order=np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    np.testing.assert_allclose(sorted(-np.diff(one)), [1, 10, 100, 1000])  # each block once
    rng = np.random.default_rng(5)
    drawn = {tuple(np.rint(-np.diff(deletion(*arguments, steps=4, order=rng))).astype(int)) for _ in range(20)}
    assert len(drawn) > 5


def test_waveform_blocks():
    """200 samples are 50 blocks of 4; each is ranked by its sum, so one loud sample does not decide."""
    rng = np.random.default_rng(1)
    contributions = rng.normal(size=200) / 10
    contributions[0] = 2.0  # 2 + three samples of -1 make -1: the last block to be deleted
    contributions[1:4] = -1.0
    found = deletion(additive((200, 1), contributions), np.ones((200, 1)), contributions, 0, steps=50)
    blocks = contributions.reshape(50, 4).sum(axis=1)
    assert blocks.argmin() == 0
    left = blocks.sum() - np.concatenate([[0], np.cumsum(np.sort(blocks)[::-1])])
    np.testing.assert_allclose(found, sigmoid(left), atol=1e-5)


def test_picture_blocks():
    """32 × 60 pixels are 8 × 12 blocks of 4 × 5, whatever the number of channels."""
    contributions = np.random.default_rng(2).normal(size=(32, 60)) / 10
    blocks = contributions.reshape(8, 4, 12, 5).sum(axis=(1, 3)).ravel()
    left = blocks.sum() - np.concatenate([[0], np.cumsum(np.sort(blocks))])
    for shape, weights in (
        ((32, 60), contributions),
        ((32, 60, 1), contributions),
        ((32, 60, 3), np.repeat(contributions[..., None] / 3, 3, axis=2)),
    ):
        found = deletion(additive(shape, weights), np.ones(shape), contributions, 0, steps=96, order="low")
        np.testing.assert_allclose(found, sigmoid(left), atol=1e-5)


@pytest.mark.parametrize(("shape", "n_blocks"), [((103, 1), 50), ((50, 1), 50), ((7, 1), 7), ((19, 30, 1), 96)])
def test_blocks_are_equal_to_within_one_place(shape, n_blocks):
    """A model that counts what is left, and a constant map: from the first block to the last, each once."""
    model = additive(shape, np.ones(shape), softmax=False)
    left = deletion(model, np.ones(shape), np.full(shape[:-1], 0.1), 0, steps=n_blocks)
    sizes = -np.diff(left)
    assert left[0] == np.prod(shape) and left[-1] == 0
    per_axis = np.array(shape[:-1]) / ((50,) if len(shape) == 2 else (8, 12))
    assert sizes.min() >= max(1, np.prod(np.floor(per_axis)))
    assert sizes.max() <= np.prod(np.ceil(per_axis))


def test_blocks_of_a_constant_map_come_in_one_mixed_order_each_once():
    model = additive((100, 1), np.arange(100), softmax=False)
    sums = np.arange(100).reshape(50, 2).sum(axis=1)
    curves = [
        deletion(model, np.ones((100, 1)), np.full(100, 0.3), 0, steps=50, order=order) for order in ("high", "low")
    ]
    np.testing.assert_array_equal(*curves)
    lost = np.rint(-np.diff(curves[0])).astype(int)
    assert sorted(lost) == sorted(sums)  # every block once
    assert 0.3 < np.mean(lost[:25]) / np.mean(lost[25:]) < 3 and (np.diff(lost) < 0).sum() > 10  # not from start to end


def test_sums_in_blocks():
    saliency = np.arange(100.0)
    np.testing.assert_allclose(in_blocks(saliency), saliency.reshape(50, 2).sum(axis=1))
    picture = np.random.default_rng(0).normal(size=(16, 24))
    np.testing.assert_allclose(in_blocks(picture), picture.reshape(8, 2, 12, 2).sum(axis=(1, 3)).ravel())


@pytest.mark.parametrize("given", [False, True])
def test_ends_are_the_model_at_the_input_and_at_the_baseline(given):
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
    expected = model.predict(np.stack([x, baseline if given else np.zeros_like(x)]), verbose=0)[:, 2]
    for order in ("high", "low", np.random.default_rng(0)):
        found = deletion(model, x, rng.normal(size=(16, 24)), 2, baseline if given else None, steps=7, order=order)
        np.testing.assert_allclose(found[[0, -1]], expected, atol=1e-6)


def test_areas_and_their_order():
    model, X, maps = clips(12, (20, 36, 1))
    curves = deletion_curves(model, X, maps, [0] * 12)
    assert {name: rows.shape for name, rows in curves.items()} == {HIGH: (12, 21), RANDOM: (12, 21), LOW: (12, 21)}
    table = deletion_table(deletion_curves(model, X, maps, [0] * 12))
    share = np.linspace(0, 1, 21)
    areas = {name: np.array([auc(share, row) for row in rows]) for name, rows in curves.items()}
    assert (areas[LOW] >= areas[HIGH]).all()
    for name, values in areas.items():
        assert table.loc[name, "value"] == pytest.approx(values.mean(), abs=1e-6)
    difference = table.loc["most salient minus random"]
    assert difference["value"] == pytest.approx((areas[HIGH] - areas[RANDOM]).mean(), abs=1e-6)
    assert difference["high"] < 0  # exact attributions find what the model uses
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert list(table["n"]) == [12] * 4 and table["n"].dtype.kind == "i"


def test_wrong_maps_are_told():
    model, X, maps = clips(20, (100, 1))
    turned = deletion_table(deletion_curves(model, X, -maps, [0] * 20)).loc["most salient minus random"]
    assert turned["low"] > 0
    noise = np.random.default_rng(9).normal(size=maps.shape)
    exact, drawn = (
        deletion_table(deletion_curves(model, X, m, [0] * 20)).loc["most salient minus random"] for m in (maps, noise)
    )
    assert drawn["low"] < 0 < drawn["high"] and exact["high"] < drawn["low"]


def test_random_orders_depend_on_the_seed_only():
    model, X, maps = clips(4, (100, 1))
    one, again, other = (deletion_curves(model, X, maps, [0] * 4, seed=seed)[RANDOM] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()
    np.testing.assert_array_equal(deletion_curves(model, X[:2], maps[:2], [0] * 2)[RANDOM], one[:2])
    # The mean of five orders lies closer to that of other five than single orders lie to each other.
    single = [deletion(model, X[0], maps[0], 0, order=np.random.default_rng(n)) for n in range(40)]
    assert np.abs(one[0] - np.mean(single, axis=0)).max() < 4 * np.std(single, axis=0).max() / np.sqrt(5)


def test_table_draws_whole_groups():
    rows = np.random.default_rng(4).uniform(size=(30, 11))
    curves = {HIGH: rows, RANDOM: rows[::-1], LOW: rows}
    alone = deletion_table(curves).loc[HIGH]
    pairs = deletion_table({name: np.repeat(r, 2, axis=0) for name, r in curves.items()}, np.repeat(range(30), 2))
    assert pairs.loc[HIGH, "n"] == 60
    np.testing.assert_allclose(pairs.loc[HIGH, ["low", "high"]], alone[["low", "high"]], atol=1e-12)
    one = deletion_table(curves, ["a"] * 30)
    np.testing.assert_allclose(one["low"], one["high"])
    np.testing.assert_allclose(one.loc[HIGH, "low"], one.loc[HIGH, "value"])


def test_plot_tells_orders_apart_without_colour():
    matplotlib.use("agg")
    rng = np.random.default_rng(6)
    curves = {name: rng.uniform(size=(9, 11)) for name in (HIGH, RANDOM, LOW)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fig = deletion_plot(curves)
        fig.canvas.draw()
    (ax,) = fig.axes
    means = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in means] == [f"{name} (n = 9)" for name in curves]
    assert len({line.get_linestyle() for line in means}) == len({line.get_marker() for line in means}) == 3
    for line, rows in zip(means, curves.values(), strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.arange(0, 101, 10))
        np.testing.assert_allclose(line.get_ydata(), rows.mean(axis=0))
    assert ax.get_xlabel() == "share of the input deleted, %" and ax.get_ylabel() == "probability of the class"
    assert len(ax.collections) == 3
    plt.close(fig)
