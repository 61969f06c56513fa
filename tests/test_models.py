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
