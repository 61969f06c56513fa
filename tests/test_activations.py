"""Opened networks: layers in order, activations against numpy, dead units against a network killed on purpose."""

import keras
import numpy as np
import pytest
from keras import layers

from helpers.networks.builders import compact_cnn
from helpers.topics import transfer
from helpers.topics.inside import activations, all_layers, convolutions, dead_units, recording, stages

RNG = np.random.default_rng(0)


def batch(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def names(found):
    return [layer.name for layer in found]


def raw():
    """1-D: batch normalisation that does something, flattened."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((40, 1)),
            layers.Conv1D(4, 5, padding="same", name="c1"),
            layers.MaxPooling1D(2),
            layers.BatchNormalization(name="n1"),
            layers.ReLU(name="r1"),
            layers.Conv1D(6, 3, activation="leaky_relu", name="c2"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    norm = model.get_layer("n1")
    norm.set_weights([w + RNG.uniform(0.1, 0.5, w.shape).astype(np.float32) for w in norm.get_weights()])
    return model


def nested():
    """Two parts that have layers of the same names, one of them called twice."""

    def part(width):
        return keras.Sequential(
            [layers.Conv2D(width, 3, padding="same", name="conv"), layers.Activation("relu", name="bend")],
            name=f"part{width}",
        )

    inputs = keras.Input((6, 8, 1))
    one, other = part(1), part(4)
    x = other(one(one(inputs)))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


def in_numpy(x, kernel, bias):
    """Correlation with "same" padding [shape=(time, channels)], as a sum of shifted products."""
    taps = len(kernel)
    padded = np.pad(x, (((taps - 1) // 2, taps // 2), (0, 0)))
    return sum(padded[t : t + len(x)] @ kernel[t] for t in range(taps)) + bias


def test_layers_of_flat_networks():
    assert names(convolutions(raw())) == ["c1", "c2"]
    assert names(stages(raw())) == ["r1", "c2"]
    model = compact_cnn((8, 12, 1), 3, [4, 6])
    assert [type(layer) for layer in convolutions(model)] == [layers.Conv2D] * 2
    assert [type(layer) for layer in stages(model)] == [layers.ReLU] * 2


def test_layers_of_nested_networks():
    model = nested()
    assert names(convolutions(model)) == ["conv", "conv"] and names(stages(model)) == ["bend", "bend"]
    assert stages(model)[0] is model.get_layer("part1").get_layer("bend")


def test_layers_of_mobilenet():
    """One convolution and 13 pairs, each with a ReLU (Howard et al. 2017), in the order in which they are called."""
    model = transfer.classifier("MobileNet", (32, 32, 1), 3, [8])
    found, bent = convolutions(model), stages(model)
    assert len(found) == len(bent) == 1 + 2 * 13
    assert sum(isinstance(layer, layers.DepthwiseConv2D) for layer in found) == 13
    with recording(found + bent) as seen:
        model(batch(1, 32, 32, 1), training=False)
    assert [layer for layer in seen if layer in found] == found
    assert [layer for layer in seen if layer in bent] == bent
    assert bent[-1].output.shape[-1] == 1024


def test_every_layer_comes_after_those_it_needs():
    """ResNet has branches."""
    model = transfer.classifier("ResNet18", (32, 32, 1), 2, [])
    assert len(convolutions(model)) == 20 and len(stages(model)) == 17
    position = {layer: number for number, layer in enumerate(all_layers(model))}
    for layer in model.get_layer("base").layers:
        for node in layer._inbound_nodes[:1]:
            assert all(position[parent.operation] < position[layer] for parent in node.parent_nodes)


def test_kinds_of_convolutions_and_nonlinearities():
    kinds = [
        layers.Conv2D(2, 1, name="plain"),
        layers.PReLU(name="yes1"),
        layers.SeparableConv2D(2, 1, activation="elu", name="yes2"),
        layers.Activation("linear"),
        layers.DepthwiseConv2D(1, activation="tanh", name="yes3"),
        layers.LeakyReLU(name="yes4"),
        layers.Reshape((12, 2)),
        layers.DepthwiseConv1D(3, name="depth"),
        layers.SeparableConv1D(3, 3, name="separable"),
        layers.ELU(name="yes5"),
        layers.Dense(4, activation="relu"),
        layers.Flatten(),
        layers.ReLU(),
    ]
    model = keras.Sequential([keras.Input((3, 4, 1)), *kinds])
    assert names(convolutions(model)) == ["plain", "yes2", "yes3", "depth", "separable"]
    assert names(stages(model)) == ["yes1", "yes2", "yes3", "yes4", "yes5"]


def test_activations_in_one_dimension():
    model, X = raw(), batch(3, 40, 1)
    found = activations(model, X, convolutions(model) + stages(model))
    assert list(found) == ["c1", "c2", "r1"]  # each layer once
    c1, n1 = (model.get_layer(name).get_weights() for name in ("c1", "n1"))
    for i, x in enumerate(X):
        first = in_numpy(x, *c1)
        np.testing.assert_allclose(found["c1"][i], first, atol=1e-5)
        pooled = first.reshape(20, 2, 4).max(axis=1)
        gamma, beta, mean, variance = n1
        bent = np.maximum(0, gamma * (pooled - mean) / np.sqrt(variance + 1e-3) + beta)
        np.testing.assert_allclose(found["r1"][i], bent, atol=1e-5)
        second = in_numpy(bent, *model.get_layer("c2").get_weights())[1:-1]  # without padding
        np.testing.assert_allclose(found["c2"][i], np.where(second > 0, second, 0.2 * second), atol=1e-5)
    assert found["r1"].dtype == np.float32


def test_activations_in_nested_models():
    """Names stay apart, and a layer called twice gives its second output."""
    model, X = nested(), batch(2, 6, 8, 1)
    found = activations(model, X, stages(model))
    assert {name: values.shape for name, values in found.items()} == {
        "bend": (2, 6, 8, 1),
        "bend (2)": (2, 6, 8, 4),
    }
    twice = model.get_layer("part1")(model.get_layer("part1")(X))
    np.testing.assert_allclose(found["bend"], np.asarray(twice), atol=1e-6)
    np.testing.assert_allclose(found["bend (2)"], np.asarray(model.get_layer("part4")(twice)), atol=1e-6)


def test_activations_agree_with_a_cut_model():
    model = transfer.classifier("MobileNet", (32, 32, 1), 2, [])
    X = batch(2, 32, 32, 1)
    base, layer = model.get_layer("base"), stages(model)[4]
    cut = keras.Model(base.input, layer.output)
    inputs = keras.Model(model.input, model.get_layer("preprocess").output)(X)
    np.testing.assert_allclose(activations(model, X, [layer])[layer.name], np.asarray(cut(inputs)), atol=1e-5)


def test_networks_of_16_bits_give_32():
    inputs = keras.Input((9, 1))
    x = layers.Conv1D(2, 3, activation="relu", name="half", dtype="mixed_bfloat16")(inputs)
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Flatten()(x)))
    assert activations(model, batch(1, 9, 1), stages(model))["half"].dtype == np.float32


def test_recording_leaves_nothing_behind():
    model, X = raw(), batch(2, 40, 1)
    layer = model.get_layer("c1")
    before = np.asarray(model(X, training=False)), layer.call
    with recording([layer, layer]) as outer, recording([layer]) as inner:
        model(X, training=False)
    assert outer[layer].output is inner[layer].output
    np.testing.assert_array_equal(outer[layer].input, X)
    with pytest.raises(ZeroDivisionError), recording([layer]):
        raise ZeroDivisionError
    assert "call" not in vars(layer) and layer.call == before[1]
    seen = dict(outer)
    np.testing.assert_array_equal(np.asarray(model(X, training=False)), before[0])
    assert outer == seen


def half_dead():
    """Of four channels, one follows the input, one is off, one is on but never changes, one sees the negative half."""
    model = keras.Sequential(
        [
            keras.Input((10, 1)),
            layers.Conv1D(4, 1, activation="relu", name="first"),
            layers.Conv1D(1, 1, activation="leaky_relu", name="second"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    kernel = np.array([1.0, 1.0, 0.0, -1.0], np.float32).reshape(1, 1, 4)
    model.get_layer("first").set_weights([kernel, np.array([0, -100, 3, 0], np.float32)])
    return model


def test_dead_units():
    model, X = half_dead(), batch(50, 10, 1)
    found = dead_units(model, (X[start : start + 16] for start in range(0, 50, 16)), stages(model))
    assert list(found["layer"]) == ["first", "second"]
    assert list(found["units"]) == [4, 1] and list(found["dead"]) == [0.5, 0.0] and list(found["n_clips"]) == [50, 50]
    # Channels 1 and 4 take turns, channel 2 is always silent, channel 3 never: half of all, in every single clip.
    first, second = found.to_dict("records")
    assert first["silent"] == first["silent_low"] == first["silent_high"] == 0.5
    assert second["silent"] == 0


def test_silent_has_the_interval_of_a_mean_over_clips():
    """Against the standard error, which percentiles of a bootstrap approach."""
    model, n = half_dead(), 400
    model.get_layer("first").set_weights([np.ones((1, 1, 4), np.float32), np.zeros(4, np.float32)])
    negative = RNG.integers(0, 11, n)
    X = np.where(np.arange(10) < negative[:, None], -1.0, 1.0)[..., None]
    found = dead_units(model, np.split(X, 8), stages(model)[:1]).iloc[0]
    shares = negative / 10
    assert found["silent"] == pytest.approx(shares.mean())
    half = 1.96 * shares.std() / np.sqrt(n)
    assert found["silent_low"] == pytest.approx(shares.mean() - half, abs=0.15 * half)
    assert found["silent_high"] == pytest.approx(shares.mean() + half, abs=0.15 * half)
    whole = dead_units(model, [X], stages(model)[:1]).iloc[0]
    assert whole.to_dict() == pytest.approx(found.to_dict())


def test_a_channel_that_differs_only_between_batches_is_not_dead():
    model = half_dead()
    found = dead_units(model, [np.full((2, 10, 1), 1.0), np.full((2, 10, 1), 2.0)], stages(model)[:1]).iloc[0]
    assert found["dead"] == 0.75  # all but the first channel


def test_patches_are_counted_as_parts_of_their_clip():
    model = transfer.yamnet_classifier(transfer.yamnet_network(None), 192, 2)  # three patches
    X, layer = batch(2, 64, 192), stages(model)[0]
    values = activations(model, X, [layer])["conv_1"]
    assert len(values) == 6
    found = dead_units(model, [X], [layer]).iloc[0]
    assert found["n_clips"] == 2 and found["units"] == 32
    assert found["silent"] == pytest.approx((values == 0).mean())
    one, other = ((part == 0).mean() for part in (values[:3], values[3:]))
    assert [found["silent_low"], found["silent_high"]] == pytest.approx(sorted([one, other]))
