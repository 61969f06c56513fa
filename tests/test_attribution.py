"""Integrated gradients against functions whose integrals are known on paper."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from helpers.topics import inside

RNG = np.random.default_rng(0)


def integrated_gradients(model, x, class_index, baseline=None, steps=128):
    """Attributions with the numbers that must agree; silence, zeros, as the baseline."""
    found = inside.integrated_gradients(
        model, x, class_index, np.zeros_like(x) if baseline is None else baseline, steps
    )
    total, difference = float(found.values.sum(dtype=np.float64)), found.output - found.baseline_output
    return SimpleNamespace(**vars(found), total=total, difference=difference, gap=abs(total - difference))


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


def picture(shape, low=0.0, high=1.0):
    return RNG.uniform(low, high, shape).astype(np.float32)


def cnn(dropout=0.5):
    """A small CNN with everything that behaves differently in training."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16, 20, 1)),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Dropout(dropout),
            layers.Conv2D(16, 3, activation="relu"),
            layers.GlobalMaxPooling2D(),
            layers.Dense(4, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=2.0)),
        ]
    )
    norm = model.layers[1]
    rng = np.random.default_rng(2)
    norm.set_weights([w + 0.3 * rng.uniform(size=w.shape).astype(np.float32) for w in norm.get_weights()])
    return model


@pytest.mark.parametrize("steps", [1, 7, 40])
def test_linear_model(steps):
    """w · (x - baseline), whatever the number of steps."""
    model = keras.Sequential([keras.Input((4, 5, 1)), layers.Flatten(), layers.Dense(3)])
    x, baseline = picture((4, 5, 1)), picture((4, 5, 1))
    for index in range(3):
        weights = model.get_weights()[0][:, index].reshape(4, 5, 1)
        found = integrated_gradients(model, x, index, baseline, steps)
        np.testing.assert_allclose(found.values, weights * (x - baseline), atol=1e-6)
        assert found.values.shape == x.shape and found.values.dtype == np.float32
        assert found.gap < 1e-5


def test_quadratic():
    """The integral of 2 a z along the way from b to x, times x - b, is a (x - b) (x + b)."""
    a = picture((6, 3), -1, 1)
    model = model_of(lambda z: ops.sum(a * z * z, axis=(1, 2))[:, None], (6, 3))
    x, b = picture((6, 3)), picture((6, 3))
    np.testing.assert_allclose(integrated_gradients(model, x, 0, b, 33).values, a * (x - b) * (x + b), atol=1e-5)
    np.testing.assert_allclose(integrated_gradients(model, x, 0).values, a * x * x, atol=1e-5)


def test_product_is_shared_equally():
    model = model_of(lambda z: (z[:, 0] * z[:, 1] * z[:, 2])[:, None], (3,))
    found = integrated_gradients(model, np.array([2.0, 3.0, 0.5]), 0, steps=200)
    np.testing.assert_allclose(found.values, [1.0, 1.0, 1.0], rtol=1e-4)


def test_saturated_softmax():
    """Two classes: p = sigmoid(w · z), whose integral is known; the plain gradient at x is nearly 0."""
    w = picture((4, 4), -1, 8)
    model = model_of(lambda z: ops.softmax(ops.stack([ops.sum(w * z, axis=(1, 2)), 0 * z[:, 0, 0]], axis=1)), (4, 4))
    x, b = np.full((4, 4), 0.5, np.float32), np.full((4, 4), -0.01, np.float32)
    logit, start = (float((w * z).sum(dtype=np.float64)) for z in (x, b))
    assert logit > 15
    rise = 1 / (1 + np.exp(-logit)) - 1 / (1 + np.exp(-start))
    found = integrated_gradients(model, x, 0, b, 500)
    np.testing.assert_allclose(found.values, w * (x - b) / (logit - start) * rise, rtol=0.01)
    assert found.difference == pytest.approx(rise, abs=1e-5)
    np.testing.assert_allclose(integrated_gradients(model, x, 1, b, 500).values, -found.values, atol=1e-5)


def test_saturated_relu():
    """The example of the paper: 1 - relu(1 - z) from 0 to 2. The gradient at 2 is 0, the attribution 1."""
    model = model_of(lambda z: 1 - ops.relu(1 - z), (1,))
    found = integrated_gradients(model, np.array([2.0]), 0)
    assert found.values == pytest.approx(1.0)
    assert (found.output, found.baseline_output) == (1.0, 0.0)


def test_same_function_same_attributions():
    """Two networks that compute the same, one of them through kinks."""
    w = picture((5,), -1, 1)
    plain = model_of(lambda z: ops.softmax(ops.stack([ops.sum(w * z, axis=1), z[:, 0]], axis=1)), (5,))
    detour = model_of(
        lambda z: ops.softmax(
            ops.stack(
                [ops.sum(w * (ops.relu(z) - ops.relu(-z)), axis=1), ops.relu(z[:, 0]) - ops.relu(-z[:, 0])], axis=1
            )
        ),
        (5,),
    )
    x = picture((5,), -1, 1)
    one, other = (integrated_gradients(model, x, 0).values for model in (plain, detour))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("baseline", [None, picture((16, 20, 1), 0, 0.2)], ids=["silence", "given"])
def test_complete_on_a_cnn(baseline):
    model = cnn()
    x = picture((16, 20, 1))
    start = np.zeros_like(x) if baseline is None else baseline
    p, p0 = model.predict(np.stack([x, start]), verbose=0)
    index = int(p.argmax())
    found = integrated_gradients(model, x, index, baseline)
    assert found.output == pytest.approx(p[index], abs=1e-5)
    assert found.baseline_output == pytest.approx(p0[index], abs=1e-5)
    assert abs(found.difference) > 0.1  # otherwise the next line says little
    assert abs(found.values.sum() - (p[index] - p0[index])) < 0.005
    coarse = integrated_gradients(model, x, index, baseline, steps=2)
    assert found.gap < coarse.gap


def test_inference_mode():
    """Neither does dropout make it random, nor does the call move the running statistics."""
    model = cnn()
    before = [w.copy() for w in model.get_weights()]
    x = picture((16, 20, 1))
    values = integrated_gradients(model, x, 0, steps=20).values
    without = cnn(dropout=0.0)
    without.set_weights(before)
    np.testing.assert_array_equal(values, integrated_gradients(without, x, 0, steps=20).values)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_influence_exactly_nothing():
    inputs = keras.Input((8, 10, 1))
    seen = layers.Conv2D(4, 3, activation="relu")(layers.Cropping2D(((0, 4), (0, 0)))(inputs))  # the lower rows only
    model = keras.Model(inputs, layers.Dense(2, activation="softmax")(layers.Flatten()(seen)))
    x = picture((8, 10, 1))
    x[0, 0] = 0  # as in the baseline
    values = integrated_gradients(model, x, 1, steps=10).values
    assert not values[4:].any() and values[0, 0, 0] == 0
    assert np.count_nonzero(values[:4]) > 30
    constant = model_of(lambda z: ops.ones((ops.shape(z)[0], 2)), (3,))
    assert not integrated_gradients(constant, np.ones(3), 0).values.any()


def test_batches_add_up():
    """50 steps come as batches of 16, 16, 16 and 2; here the same points one by one."""
    model = cnn()
    x = picture((16, 20, 1))
    import tensorflow as tf

    gradients = []
    for share in (np.arange(50) + 0.5) / 50:
        point = tf.Variable((share * x)[None].astype(np.float32))
        with tf.GradientTape() as tape:
            output = model(point, training=False)[0, 2]
        gradients.append(tape.gradient(output, point).numpy()[0])
    np.testing.assert_allclose(
        integrated_gradients(model, x, 2, steps=50).values, x * np.mean(gradients, axis=0), atol=1e-6
    )


def test_printed():
    found = inside.Attribution(np.array([0.5, 0.413], np.float32), 0.954, 0.04)
    assert str(found) == "sum of attributions 0.913, difference of outputs 0.914, gap 0.001"


def blob(sign, band, frame, shape=(64, 216)):
    bands, frames = np.mgrid[: shape[0], : shape[1]]
    return sign * np.exp(-(((bands - band) / 5) ** 2) - ((frames - frame) / 12) ** 2)


def outlines(ax):
    """Line style and corners (x, y) of each line drawn, hatching left out."""
    for lines in ax.collections:
        if not lines.filled:
            for path in lines.get_paths():
                yield lines.get_linestyle()[0][1], path.vertices.min(axis=0), path.vertices.max(axis=0)
