"""Opened networks: layers, what they put out, dead units, maps and attributions, against numpy and values on paper."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from scipy.stats import t

from helpers.base import CourseError
from helpers.networks.builders import compact_cnn
from helpers.topics import inside, transfer

RNG = np.random.default_rng(0)


def batch(model, n=1, low=-1.0):
    return RNG.uniform(low, 1, (n, *model.input_shape[1:])).astype(np.float32)


def names(found):
    return [layer.name for layer in found]


def last_map(model, x):
    """What the last stage puts out, and the weights of the output layer."""
    (values,) = inside.activations(model, x[None], inside.stages(model)[-1:]).values()
    return values[0], inside.all_layers(model)[-1].get_weights()[0]


def spread(model):
    """Give batch normalisation values as after training."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([w + RNG.uniform(0.1, 0.5, w.shape).astype(np.float32) for w in layer.get_weights()])
    return model


def raw(*head, **options):
    """1-D, with the layers of `head` before the output."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((40, 1)),
            layers.Conv1D(4, 5, padding="same", name="c1"),
            layers.MaxPooling1D(2),
            layers.BatchNormalization(name="n1"),
            layers.ReLU(name="r1"),
            layers.Conv1D(6, 3, activation="leaky_relu", name="c2"),
            *head,
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax", bias_initializer="random_normal", **options),
        ]
    )
    return spread(model)


@pytest.fixture(scope="module")
def flat():
    return raw(layers.Flatten())


@pytest.fixture(scope="module")
def compact():
    """2-D, with outputs far enough from even that explanations have something to explain."""
    keras.utils.set_random_seed(3)
    model = compact_cnn((16, 24, 1), 4, [3, 5])
    spread(model)
    model.layers[-1].set_weights([4 * weights for weights in model.layers[-1].get_weights()])
    return model


@pytest.fixture(scope="module")
def networks():
    """Image networks with a base and a head inside, frozen: a tape follows none of their weights by itself."""
    keras.utils.set_random_seed(2)
    found = {name: transfer.classifier(name, (64, 96, 1), 3, []) for name in ("MobileNet", "ResNet18")}
    return found | {"without bias": raw(layers.GlobalAveragePooling1D(), use_bias=False)}


@pytest.fixture(scope="module")
def yamnet():
    """Cuts its input into three patches."""
    return transfer.yamnet_classifier(transfer.yamnet_network(None), 192, 3)


@pytest.mark.parametrize(("network", "n", "depthwise", "bent"), [("MobileNet", 27, 13, 27), ("ResNet18", 20, 0, 17)])
def test_layers_of_published_networks(networks, network, n, depthwise, bent):
    """Howard et al. 2017, He et al. 2015; every layer after those it needs, although ResNet has branches."""
    model = networks[network]
    found = inside.convolutions(model)
    assert len(found) == n and len(inside.stages(model)) == bent
    assert sum(isinstance(layer, layers.DepthwiseConv2D) for layer in found) == depthwise
    position = {layer: number for number, layer in enumerate(inside.all_layers(model))}
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
    assert names(inside.convolutions(model)) == ["plain", "yes2", "yes3", "depth", "separable"]
    assert names(inside.stages(model)) == ["yes1", "yes2", "yes3", "yes4", "yes5"]


def test_networks_and_inputs_that_cannot_be_explained_are_told(flat):
    dense = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="relu")], name="dense")
    with pytest.raises(CourseError, match="'dense' has no convolution"):
        inside.convolutions(dense)
    with pytest.raises(CourseError, match="'dense' has no feature maps"):
        inside.stages(dense)
    with pytest.raises(CourseError, match=r"reads \(40, 1\) for each clip, not \(30, 1\)"):
        inside.activations(flat, np.zeros((2, 30, 1)), flat.layers)
    with pytest.raises(CourseError, match="classes 0 to 2, not 3"):
        inside.integrated_gradients(flat, np.zeros((40, 1)), 3, np.zeros((40, 1)), 2)


def test_activations_in_one_dimension(flat):
    """Correlation with "same" padding as a sum of shifted products, and so on."""

    def in_numpy(x, kernel, bias):
        taps = len(kernel)
        padded = np.pad(x, (((taps - 1) // 2, taps // 2), (0, 0)))
        return sum(padded[t : t + len(x)] @ kernel[t] for t in range(taps)) + bias

    X = batch(flat, 3)
    found = inside.activations(flat, X, inside.convolutions(flat) + inside.stages(flat))
    assert list(found) == ["c1", "c2", "r1"] and found["r1"].dtype == np.float32  # each layer once
    c1, c2, (gamma, beta, mean, variance) = (flat.get_layer(name).get_weights() for name in ("c1", "c2", "n1"))
    for i, x in enumerate(X):
        first = in_numpy(x, *c1)
        np.testing.assert_allclose(found["c1"][i], first, atol=1e-5)
        pooled = first.reshape(20, 2, 4).max(axis=1)
        bent = np.maximum(0, gamma * (pooled - mean) / np.sqrt(variance + 1e-3) + beta)
        np.testing.assert_allclose(found["r1"][i], bent, atol=1e-5)
        second = in_numpy(bent, *c2)[1:-1]  # without padding
        np.testing.assert_allclose(found["c2"][i], np.where(second > 0, second, 0.2 * second), atol=1e-5)


def test_activations_in_nested_models():
    """Layers of the same names stay apart, and one called twice gives its second output."""

    def part(width):
        bend = layers.Activation("relu", name="bend")
        return keras.Sequential([layers.Conv2D(width, 3, padding="same", name="conv"), bend])

    inputs, one, other = keras.Input((6, 8, 1)), part(1), part(4)
    x = layers.GlobalAveragePooling2D()(other(one(one(inputs))))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    assert names(inside.convolutions(model)) == ["conv", "conv"]
    assert inside.stages(model) == [one.get_layer("bend"), other.get_layer("bend")]
    X = batch(model, 2)
    found = inside.activations(model, X, inside.stages(model))
    assert list(found) == ["bend", "bend (2)"]
    np.testing.assert_allclose(found["bend"], one(one(X)), atol=1e-6)
    np.testing.assert_allclose(found["bend (2)"], other(one(one(X))), atol=1e-6)


def test_recording_in_recording(flat):
    """Both see the same, and an error inside ends it."""
    layer, x = flat.get_layer("c1"), batch(flat)
    before = layer.call
    with inside.recording([layer, layer]) as outer, inside.recording([layer]) as inner:
        flat(x, training=False)
    assert outer[layer].output is inner[layer].output
    np.testing.assert_array_equal(outer[layer].input, x)
    with pytest.raises(ZeroDivisionError), inside.recording([layer]):
        raise ZeroDivisionError
    assert "call" not in vars(layer) and layer.call == before


@pytest.fixture
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


def test_dead_units(half_dead):
    X, stages = batch(half_dead, 50), inside.stages(half_dead)
    found = inside.dead_units(half_dead, (X[start : start + 16] for start in range(0, 50, 16)), stages)
    assert list(found["layer"]) == ["first", "second"]
    assert list(found["units"]) == [4, 1] and list(found["dead"]) == [0.5, 0.0] and list(found["n_clips"]) == [50, 50]
    # Channels 1 and 4 take turns, channel 2 is always silent, channel 3 never: half of all, in every single clip.
    silent, low, high = found.loc[0, ["silent", "silent_low", "silent_high"]]
    assert silent == 0.5 and 0.3 < low < 0.5 < high < 0.7  # without a spread, Wilson's for the clips
    assert found.loc[1, "silent"] == 0
    # Channels that differ only between batches are not dead: here the first.
    batches = [np.full((2, 10, 1), value) for value in (1.0, 2.0)]
    assert inside.dead_units(half_dead, batches, stages)["dead"][0] == 0.75


def test_silent_has_the_interval_of_a_mean_over_clips(half_dead):
    """Against the standard error; however the clips come in batches."""
    n = 400
    half_dead.get_layer("first").set_weights([np.ones((1, 1, 4), np.float32), np.zeros(4, np.float32)])
    negative = RNG.integers(0, 11, n)
    X = np.where(np.arange(10) < negative[:, None], -1.0, 1.0)[..., None]
    first = inside.stages(half_dead)[:1]
    found, whole = (inside.dead_units(half_dead, batches, first).iloc[0] for batches in (np.split(X, 8), [X]))
    assert whole.to_dict() == pytest.approx(found.to_dict())
    shares = negative / 10
    half = t.ppf(0.975, n - 1) * shares.std(ddof=1) / np.sqrt(n)
    assert found["silent"] == pytest.approx(shares.mean())
    assert [found["silent_low"], found["silent_high"]] == pytest.approx(
        [shares.mean() - half, shares.mean() + half], abs=0.03 * half
    )


def test_patches_are_counted_as_parts_of_their_clip(yamnet):
    X, layer = batch(yamnet, 3), inside.stages(yamnet)[0]
    values = inside.activations(yamnet, X, [layer])["conv_1"]
    assert len(values) == 9
    found = inside.dead_units(yamnet, [X], [layer]).iloc[0]
    assert found["n_clips"] == 3 and found["units"] == 32
    assert found["silent"] == pytest.approx((values == 0).mean())
    half = t.ppf(0.975, 2) * np.std([(part == 0).mean() for part in np.split(values, 3)], ddof=1) / np.sqrt(3)
    assert found["silent_high"] - found["silent"] == pytest.approx(half, rel=0.03)


def logits(model, x):
    """Up to a constant that all classes share: what the softmax lets one see from outside."""
    return np.log(np.asarray(model(x[None], training=False))[0].astype(np.float64))


def test_map_before_flattening(flat):
    """The exact decomposition: every place times its own weights; all of them add up to the logit without its bias."""
    (x,) = batch(flat)
    values, kernel = last_map(flat, x)
    kernel, sums = kernel.reshape(18, 6, 3), flat.layers[-1].get_weights()[1].copy()
    for index in range(3):
        found = inside.class_activation_map(flat, x, index)
        np.testing.assert_allclose(found, (values * kernel[..., index]).sum(axis=1), atol=1e-5)
        assert found.shape == (18,) and found.dtype == np.float32
        sums[index] += found.sum()
        mean = kernel[..., index].mean(axis=0)
        np.testing.assert_allclose(inside.grad_cam(flat, x, index), np.maximum(0, values @ mean), atol=1e-5)
    np.testing.assert_allclose(np.diff(sums), np.diff(logits(flat, x)), atol=1e-4)


def test_map_before_average_and_maximum(compact):
    """The maximum gives its whole weight to one place per channel."""
    (x,) = batch(compact)
    values, kernel = last_map(compact, x)
    sums = compact.layers[-1].get_weights()[1].copy()
    for index in range(4):
        expected = values @ kernel[:5, index] / (8 * 12)
        for channel in range(5):
            place = np.unravel_index(values[..., channel].argmax(), (8, 12))
            expected[place] += values[(*place, channel)] * kernel[5 + channel, index]
        found = inside.class_activation_map(compact, x, index)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        sums[index] += found.sum()
        weights = (kernel[:5, index] + kernel[5:, index]) / (8 * 12)
        grad = inside.grad_cam(compact, x, index)
        np.testing.assert_allclose(grad, np.maximum(0, values @ weights), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.diff(sums), np.diff(logits(compact, x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["MobileNet", "ResNet18", "without bias"])
def test_map_before_a_global_average(networks, network):
    """The map of Zhou et al., divided by the number of places; the output layer may sit in a model inside."""
    model = networks[network]
    (x,) = batch(model, low=0)
    values, kernel = last_map(model, x)
    expected = values @ kernel[:, 1] / values[..., 0].size
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(inside.class_activation_map(model, x, 1), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(inside.grad_cam(model, x, 1), np.maximum(expected, 0), rtol=1e-3, atol=1e-6)


def test_map_before_a_hidden_layer():
    """Behind the map comes a ReLU: the chain rule by hand. And a map that is not the last."""
    model = raw(layers.Flatten(), layers.Dense(7, activation="relu", name="hidden"))
    (x,) = batch(model)
    (values, outer), (kernel, bias) = last_map(model, x), model.get_layer("hidden").get_weights()
    gradient = (kernel * (values.ravel() @ kernel + bias > 0)) @ outer[:, 0]
    expected = (values * gradient.reshape(18, 6)).sum(axis=1)
    np.testing.assert_allclose(inside.class_activation_map(model, x, 0), expected, atol=1e-5)
    first = inside.convolutions(model)[0]
    for method in (inside.class_activation_map, inside.grad_cam):
        assert method(model, x, 0, first).shape == (40,)


def test_patches_have_a_map_each(yamnet):
    X = batch(yamnet)
    (values,) = inside.activations(yamnet, X, inside.stages(yamnet)[-1:]).values()
    expected = values @ yamnet.get_layer("head").get_weights()[0][:, 0] / values[..., 0].size
    np.testing.assert_allclose(inside.class_activation_map(yamnet, X[0], 0), expected, rtol=1e-3, atol=1e-6)
    assert expected.shape == (3, 3, 2) == inside.grad_cam(yamnet, X[0], 0).shape


def test_networks_of_16_bits_give_32():
    inputs = keras.Input((9, 1))
    x = layers.Flatten()(layers.Conv1D(2, 3, activation="relu", dtype="mixed_bfloat16")(inputs))
    model = keras.Model(inputs, layers.Dense(2, activation="softmax", dtype="mixed_bfloat16")(x))
    (x,) = batch(model)
    values, kernel = last_map(model, x)
    found = inside.class_activation_map(model, x, 1)
    assert values.dtype == found.dtype == np.float32
    np.testing.assert_allclose(found, (values * kernel.reshape(7, 2, 2)[..., 1]).sum(axis=1), atol=0.02)


@pytest.mark.parametrize("method", ["class_activation_map", "grad_cam", "integrated"])
def test_the_model_computes_as_in_inference_and_stays_as_it_was(flat, method):
    """Dropout would make two maps differ, and batch normalisation would adapt."""
    (x,), weights = batch(flat), flat.get_weights()
    if method == "integrated":
        one, other = (inside.integrated_gradients(flat, x, 0, 0 * x, 20).values for _ in range(2))
    else:
        one, other = (getattr(inside, method)(flat, x, 0) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert all((old == new).all() for old, new in zip(weights, flat.get_weights(), strict=True))
    assert not any("call" in vars(layer) for layer in flat.layers)


class Function(layers.Layer):
    """A function of a batch, as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def model_of(function, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, Function(function)(inputs))


def two_classes(logit, shape):
    return model_of(lambda z: ops.softmax(ops.stack([logit(z), ops.zeros(ops.shape(z)[0])], axis=1)), shape)


@pytest.mark.parametrize("steps", [1, 40])
def test_integrated_linear(steps):
    """w · (x - baseline), whatever the number of steps."""
    model = keras.Sequential([keras.Input((4, 5, 1)), layers.Flatten(), layers.Dense(3)])
    x, baseline = batch(model, 2)
    found = inside.integrated_gradients(model, x, 2, baseline, steps)
    np.testing.assert_allclose(found.values, model.get_weights()[0][:, 2].reshape(x.shape) * (x - baseline), atol=1e-6)
    assert found.values.dtype == np.float32
    assert found.values.sum() == pytest.approx(found.output - found.baseline_output, abs=1e-5)


def test_integrated_quadratic_and_product():
    """The integral of 2 a z along the way from b to x, times x - b, is a (x - b) (x + b); factors share equally."""
    a = RNG.uniform(-1, 1, (6, 3)).astype(np.float32)
    model = model_of(lambda z: ops.sum(a * z * z, axis=(1, 2))[:, None], (6, 3))
    x, b = batch(model, 2)
    np.testing.assert_allclose(inside.integrated_gradients(model, x, 0, b, 33).values, a * (x**2 - b**2), atol=1e-5)
    model, x = model_of(lambda z: (z[:, 0] * z[:, 1] * z[:, 2])[:, None], (3,)), np.array([2.0, 3.0, 0.5])
    np.testing.assert_allclose(inside.integrated_gradients(model, x, 0, 0 * x, 200).values, [1, 1, 1], rtol=1e-4)


def test_integrated_where_the_gradient_says_nothing():
    """The example of the paper, 1 - relu(1 - z) from 0 to 2; and a softmax far in its saturation, as in the sigmoid."""
    model = model_of(lambda z: 1 - ops.relu(1 - z), (1,))
    found = inside.integrated_gradients(model, np.array([2.0]), 0, np.zeros(1), 128)
    assert (found.values, found.output, found.baseline_output) == (pytest.approx(1.0), 1.0, 0.0)

    w = RNG.uniform(-1, 8, (4, 4)).astype(np.float32)
    model = two_classes(lambda z: ops.sum(w * z, axis=(1, 2)), (4, 4))
    x, b = np.full((4, 4), 0.5, np.float32), np.full((4, 4), -0.01, np.float32)
    logit, start = (float((w * z).sum(dtype=np.float64)) for z in (x, b))
    assert logit > 15
    rise = 1 / (1 + np.exp(-logit)) - 1 / (1 + np.exp(-start))
    found, other = (inside.integrated_gradients(model, x, index, b, 500) for index in (0, 1))
    np.testing.assert_allclose(found.values, w * (x - b) / (logit - start) * rise, rtol=0.01)
    assert found.output - found.baseline_output == pytest.approx(rise, abs=1e-5)
    np.testing.assert_allclose(other.values, -found.values, atol=1e-5)


def test_integrated_on_a_cnn_is_the_mean_of_gradients_and_complete(compact):
    """50 steps come as batches of 16, 16, 16 and 2; here the same points one by one."""
    x, baseline = batch(compact, 2, low=0) * np.float32([[[[1]]], [[[0.2]]]])
    p, p0 = compact.predict(np.stack([x, baseline]), verbose=0)
    index = int(np.abs(p - p0).argmax())
    assert abs(p[index] - p0[index]) > 0.1  # otherwise what follows says little
    found = inside.integrated_gradients(compact, x, index, baseline, 50)
    gradients = []
    for share in (np.arange(50) + 0.5) / 50:
        point = tf.Variable((baseline + share * (x - baseline))[None].astype(np.float32))
        with tf.GradientTape() as tape:
            output = compact(point, training=False)[0, index]
        gradients.append(tape.gradient(output, point).numpy()[0])
    np.testing.assert_allclose(found.values, (x - baseline) * np.mean(gradients, axis=0), atol=1e-6)
    assert (found.output, found.baseline_output) == pytest.approx((p[index], p0[index]), abs=1e-5)
    gap = abs(found.values.sum() - (p[index] - p0[index]))
    assert gap < 0.005
    assert gap < abs(inside.integrated_gradients(compact, x, index, baseline, 2).values.sum() - (p[index] - p0[index]))


def test_without_influence_exactly_nothing():
    inputs = keras.Input((8, 10, 1))
    seen = layers.Conv2D(4, 3, activation="relu")(layers.Cropping2D(((0, 4), (0, 0)))(inputs))  # the lower rows only
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Flatten()(seen)))
    (x,) = batch(model)
    x[0, 0] = 0  # as in the baseline
    values = inside.integrated_gradients(model, x, 1, 0 * x, 10).values
    assert not values[4:].any() and values[0, 0, 0] == 0 and np.count_nonzero(values[:4]) > 30
    constant = model_of(lambda z: ops.ones((ops.shape(z)[0], 2)), (3,))
    assert not inside.integrated_gradients(constant, np.ones(3), 0, np.zeros(3), 10).values.any()


def test_an_attribution_is_printed_with_its_gap():
    found = inside.Attribution(np.array([0.5, 0.413], np.float32), 0.954, 0.04)
    assert str(found) == "sum of attributions 0.913, difference of outputs 0.914, gap 0.001"


@pytest.mark.parametrize("n", [1, 2, 7, 148, 333])
def test_stretched_along_time(n):
    values = RNG.normal(size=n)
    middles, places = (np.arange(16_000) + 0.5) / 16_000, (np.arange(n) + 0.5) / n
    found = inside.stretched(values, (16_000,))
    np.testing.assert_allclose(found, np.interp(middles, places, values), atol=1e-5)
    assert found.dtype == np.float32


def test_a_ramp_in_two_dimensions_stays_a_ramp():
    """Between the middles of the outer places it is straight, beyond them flat."""
    rows, columns = np.mgrid[:3, :7]
    expected = [np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1) for n, m in ((64, 3), (216, 7))]
    found = inside.stretched(rows + 10.0 * columns, (64, 216))
    np.testing.assert_allclose(found, expected[0][:, None] + 10 * expected[1], atol=1e-4)
