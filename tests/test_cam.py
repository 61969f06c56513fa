"""Class activation maps against products of weights and feature maps, multiplied by hand."""

import keras
import numpy as np
import pytest
from keras import layers

from helpers.networks.builders import compact_cnn
from helpers.topics import transfer
from helpers.topics.inside import activations, class_activation_map, convolutions, grad_cam, stages, stretched

RNG = np.random.default_rng(0)


def clip(model):
    return RNG.uniform(-1, 1, model.input_shape[1:]).astype(np.float32)


def spread(model):
    """Give batch normalisation and biases values as after training."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([w + RNG.uniform(0.1, 0.4, w.shape).astype(np.float32) for w in layer.get_weights()])
    return model


def raw(head, **options):
    """1-D, with the layers of `head` before the output."""
    keras.utils.set_random_seed(1)
    return spread(
        keras.Sequential(
            [
                keras.Input((60, 1)),
                layers.Conv1D(5, 7),
                layers.MaxPooling1D(2),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Conv1D(6, 3, padding="same"),
                layers.BatchNormalization(),
                layers.ReLU(),
                *head,
                layers.Dropout(0.5),
                layers.Dense(3, activation="softmax", bias_initializer="random_normal", **options),
            ]
        )
    )


def last_map(model, x):
    return next(iter(activations(model, x[None], stages(model)[-1:]).values()))[0]


def logits(model, x):
    """Up to a constant that all classes share."""
    return np.log(np.asarray(model(x[None], training=False))[0].astype(np.float64))


def test_flatten_and_dense():
    """The exact decomposition: every place times its own weights; all of them add up to the logit without its bias."""
    model = raw([layers.Flatten()])
    x = clip(model)
    values = last_map(model, x)
    kernel, bias = model.layers[-1].get_weights()
    kernel = kernel.reshape(27, 6, 3)
    sums = []
    for index in range(3):
        found = class_activation_map(model, x, index)
        np.testing.assert_allclose(found, (values * kernel[..., index]).sum(axis=1), atol=1e-5)
        assert found.shape == (27,) and found.dtype == np.float32
        sums.append(found.sum() + bias[index])
        mean = kernel[..., index].mean(axis=0)
        np.testing.assert_allclose(grad_cam(model, x, index), np.maximum(0, values @ mean), atol=1e-5)
    # Differences of logits are what the softmax lets one see from outside.
    np.testing.assert_allclose(np.diff(sums), np.diff(logits(model, x)), atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_global_average_and_dense(bias):
    """The map of Zhou et al., divided by the number of places."""
    model = raw([layers.GlobalAveragePooling1D()], **({} if bias else {"use_bias": False}))
    x = clip(model)
    values, kernel = last_map(model, x), model.layers[-1].get_weights()[0]
    found = class_activation_map(model, x, 2)
    np.testing.assert_allclose(found, values @ kernel[:, 2] / 27, atol=1e-6)
    np.testing.assert_allclose(grad_cam(model, x, 2), np.maximum(found, 0), atol=1e-6)


def test_average_and_maximum_in_two_dimensions():
    """The maximum gives its whole weight to one place per channel."""
    model = spread(compact_cnn((16, 24, 1), 4, [3, 5]))
    x = clip(model)
    values, (kernel, bias) = last_map(model, x), model.layers[-1].get_weights()
    sums = []
    for index in range(4):
        expected = values @ kernel[:5, index] / (8 * 12)
        for channel in range(5):
            place = np.unravel_index(values[..., channel].argmax(), (8, 12))
            expected[place] += values[(*place, channel)] * kernel[5 + channel, index]
        found = class_activation_map(model, x, index)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        sums.append(found.sum() + bias[index])
        weights = (kernel[:5, index] + kernel[5:, index]) / (8 * 12)
        np.testing.assert_allclose(grad_cam(model, x, index), np.maximum(0, values @ weights), atol=1e-5)
    np.testing.assert_allclose(np.diff(sums), np.diff(logits(model, x)), atol=1e-4)


@pytest.mark.parametrize("network", ["MobileNet", "ResNet18"])
def test_nested_base_and_head(network):
    """Frozen, so that the tape follows no weights by itself; the output layer sits in the head."""
    keras.utils.set_random_seed(2)
    model = transfer.classifier(network, (64, 96, 1), 3, [])
    x = np.abs(clip(model))
    values, kernel = last_map(model, x), model.get_layer("head").get_weights()[0]
    expected = values @ kernel[:, 1] / 6
    assert expected.shape == (2, 3) and np.abs(expected).max() > 0
    np.testing.assert_allclose(class_activation_map(model, x, 1), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(grad_cam(model, x, 1), np.maximum(expected, 0), rtol=1e-3, atol=1e-6)


def test_hidden_layer_and_earlier_map():
    """Behind the map comes a ReLU: the chain rule by hand. And a map that is not the last."""
    model = raw([layers.Flatten(), layers.Dense(7, activation="relu", name="hidden")])
    x = clip(model)
    values, outer = last_map(model, x), model.layers[-1].get_weights()[0]
    kernel, bias = model.get_layer("hidden").get_weights()
    gradient = (kernel * (values.ravel() @ kernel + bias > 0)) @ outer[:, 0]
    np.testing.assert_allclose(
        class_activation_map(model, x, 0), (values * gradient.reshape(27, 6)).sum(axis=1), atol=1e-5
    )
    first = convolutions(model)[0]
    assert class_activation_map(model, x, 0, first).shape == grad_cam(model, x, 0, first).shape == (54,)


def test_nested_sequential():
    inside = keras.Sequential([layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(2)], name="inside")
    head = keras.Sequential([layers.Flatten(), layers.Dense(2, activation="softmax", name="out")], name="head")
    model = keras.Sequential([keras.Input((8, 10, 1)), inside, head])
    x = clip(model)
    values, kernel = last_map(model, x), head.get_layer("out").get_weights()[0].reshape(3, 4, 4, 2)
    expected = np.zeros((6, 8))
    for row, column, channel in np.ndindex(3, 4, 4):  # the loudest of each square of 2 × 2 passes its weight on
        square = values[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        i, j = np.unravel_index(square.argmax(), (2, 2))
        expected[2 * row + i, 2 * column + j] += square[i, j] * kernel[row, column, channel, 1]
    np.testing.assert_allclose(class_activation_map(model, x, 1), expected, atol=1e-5)


def test_patches_have_a_map_each():
    model = transfer.yamnet_classifier(transfer.yamnet_network(None), 144, 3)  # two patches
    x = clip(model)
    values = next(iter(activations(model, x[None], stages(model)[-1:]).values()))
    expected = values @ model.get_layer("head").get_weights()[0][:, 0] / values[..., 0].size
    np.testing.assert_allclose(class_activation_map(model, x, 0), expected, rtol=1e-3, atol=1e-6)
    assert expected.shape == (2, 3, 2) == grad_cam(model, x, 0).shape


def test_networks_of_16_bits():
    inputs = keras.Input((9, 1))
    x = layers.Conv1D(2, 3, activation="relu", dtype="mixed_bfloat16")(inputs)
    x = layers.Flatten()(x)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", dtype="mixed_bfloat16")(x))
    x = clip(model)
    values, kernel = last_map(model, x), model.layers[-1].get_weights()[0].reshape(7, 2, 2)
    found = class_activation_map(model, x, 1)
    np.testing.assert_allclose(found, (values * kernel[..., 1]).sum(axis=1), atol=0.02)
    assert found.dtype == np.float32


def test_the_model_stays_as_it_was():
    model = raw([layers.Flatten()])
    x = clip(model)
    before, weights = logits(model, x), model.get_weights()
    one, other = (class_activation_map(model, x, 0) for _ in range(2))  # dropout would make them differ
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(logits(model, x), before)
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not any("call" in vars(layer) for layer in model.layers)


def test_a_ramp_stays_a_ramp():
    """Between the middles of the outer places it is straight, beyond them flat."""
    found = stretched(np.arange(5.0), (1000,))
    middles = (np.arange(1000) + 0.5) / 200 - 0.5
    np.testing.assert_allclose(found, np.clip(middles, 0, 4), atol=1e-6)
    assert found.dtype == np.float32
    rows, columns = np.mgrid[:3, :7]
    found = stretched(rows + 10.0 * columns, (64, 216))
    expected = [np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in ((64, 3), (216, 7))]
    np.testing.assert_allclose(found, expected[0][:, None] + 10 * expected[1], atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 49, 148, 333])
def test_sizes_come_out_as_asked(n):
    values = RNG.normal(size=n)
    middles, places = (np.arange(16_000) + 0.5) / 16_000, (np.arange(n) + 0.5) / n
    np.testing.assert_allclose(stretched(values, (16_000,)), np.interp(middles, places, values), atol=1e-5)
    np.testing.assert_allclose(stretched(values, (n,)), values, atol=1e-6)
