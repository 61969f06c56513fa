import numpy as np
import pytest

from helpers import models


def test_parameter_counts_are_those_published():
    logmel = models.flatten_cnn((128, 216, 1), 8, [16, 16, 32, 32], [(1, 2), (2, 2), (2, 2), (2, 2)], dense=64)
    mfcc = models.flatten_cnn(
        (32, 216, 1), 8, [8, 8, 16, 16, 32, 32], [(1, 2), (1, 2), (1, 2), (2, 2)], dense=128, dropout_before_norm=True
    )
    assert logmel.count_params() == 443_064
    assert mfcc.count_params() == 871_296
    assert models.dense_net(32, 8, [32, 64, 128]).count_params() == 12_520


@pytest.mark.parametrize("shape", [(128, 216, 1), (32, 216, 1)])
def test_outputs_are_probabilities(shape):
    model = models.flatten_cnn(shape, 5, [4, 4], [(2, 2), (2, 2)], dense=8)
    output = np.asarray(model(np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")))
    assert output.shape == (3, 5)
    assert output.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_architectures_are_equal_if_built_alike_and_differ_by_a_dropout_rate():
    one, two, other = (models.compact_cnn((64, 54, 1), 8, [4, 8], rate) for rate in (0.3, 0.3, 0.2))
    assert models.architecture(one) == models.architecture(two) != models.architecture(other)


def test_the_compact_network_has_the_parameters_counted_by_hand():
    model = models.compact_cnn((64, 216, 1), 10, [16, 32, 64, 128, 128])
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 128 + 128 * 128)
    normalisations = 4 * (16 + 32 + 64 + 128 + 128)
    assert model.count_params() == convolutions + normalisations + 2 * 128 * 10 + 10
