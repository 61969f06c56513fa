import ast
import math

import keras
import nbformat
import numpy as np
import pytest

from helpers.base import CourseError
from helpers.course import runner
from helpers.networks import builders
from helpers.topics import transfer


def from_notebook(name, *functions):
    """Functions that a notebook defines in cells of its own."""
    (path,) = runner.select([name])
    found = {"keras": keras, "layers": keras.layers, "transfer": transfer, "weights": None}
    for cell in nbformat.read(path, as_version=4).cells:
        for node in ast.parse(cell.source).body if cell.cell_type == "code" else ():
            if isinstance(node, ast.FunctionDef) and node.name in functions:
                exec(ast.unparse(node), found)
    return [found[name] for name in functions]


def test_parameter_counts_are_those_published():
    logmel, mfcc, resnet = from_notebook("03", "logmel_cnn", "mfcc_cnn", "resnet_cnn")
    assert (logmel(8).count_params(), mfcc(8).count_params()) == (443_064, 871_296)
    model = resnet(8)
    assert model.count_params() == 27_299_656
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == 3_765_064
    (dense,) = from_notebook("05", "dense_net")
    assert dense(32, 8).count_params() == 12_520


def test_the_compact_network_that_a_notebook_writes_down_is_the_one_that_others_import():
    (written,) = from_notebook("03", "compact_cnn")
    built = builders.compact_cnn((64, 216, 1), 10, [16, 32, 64, 128, 128])

    def shapes(model):
        return [(type(layer).__name__, layer.output.shape) for layer in model.layers]

    assert sorted(shapes(written(10))) == sorted(shapes(built))
    assert written(10).count_params() == built.count_params()


def test_architectures_are_equal_if_built_alike_and_differ_by_a_dropout_rate():
    one, two, other = (builders.compact_cnn((64, 54, 1), 8, [4, 8], rate) for rate in (0.3, 0.3, 0.2))
    assert builders.architecture(one) == builders.architecture(two) != builders.architecture(other)


def test_the_compact_network_has_the_parameters_counted_by_hand():
    model = builders.compact_cnn((64, 216, 1), 10, [16, 32, 64, 128, 128])
    convolutions = 9 * (1 * 16 + 16 * 32 + 32 * 64 + 64 * 128 + 128 * 128)
    normalisations = 4 * (16 + 32 + 64 + 128 + 128)
    assert model.count_params() == convolutions + normalisations + 2 * 128 * 10 + 10


# The networks on raw samples, as published for 16,000 samples and 16 words. Two were counted with batch normalisation,
# without its running statistics.
RAW = {
    1_855_056: dict(filters=[8, 16, 32, 64, 128], kernel_size=25, pool_size=4, pooled=range(5), same=False,
                    dense=[1024, 512]),
    94_768: dict(filters=[32] * 4 + [64] * 4, kernel_size=5, pool_size=3, pooled=range(1, 8)),
    363_600: dict(filters=[64] * 4 + [128] * 4, kernel_size=5, pool_size=3, pooled=range(1, 8)),
    470_736: dict(filters=[64] * 8 + [128] * 8, kernel_size=3, pool_size=3, pooled=range(1, 14, 2)),
    2_071_184: dict(filters=[128] * 4 + [256] * 4 + [512], kernel_size=5, pool_size=3, pooled=range(1, 9),
                    batch_norm=True),
    91_712: dict(filters=[64] * 4 + [32] * 4 + [16], kernel_size=5, pool_size=3, pooled=range(1, 9), batch_norm=True,
                 norm_values=True),
    1_438_544: dict(filters=[256] * 4 + [128] * 4 + [64], kernel_size=5, pool_size=3, pooled=range(1, 9)),
}  # fmt: skip


@pytest.mark.parametrize("published", RAW)
def test_networks_on_raw_samples_have_the_published_parameters(published):
    model = builders.raw_cnn(16_000, 16, **RAW[published])
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == published


@pytest.mark.parametrize("published", [94_768, 1_855_056])
def test_a_clip_too_short_for_the_network_is_refused(published):
    with pytest.raises(CourseError, match="too short"):
        builders.raw_cnn(1_000, 16, **RAW[published])


def test_what_a_clip_is_compressed_to():
    sizes = [builders.raw_cnn(16_000, 16, **RAW[count]).get_layer("values").output.shape[1] for count in RAW]
    assert sizes == [8 * 128, 7 * 64, 7 * 128, 7 * 128, 2 * 512, 2 * 16, 2 * 64]


def test_pooling_before_relu_gives_what_pooling_after_it_gives():
    model = builders.raw_cnn(90, 3, filters=[4, 5], kernel_size=5, pool_size=3, pooled=[1])
    x = np.random.default_rng(0).normal(size=(2, 90, 1)).astype("float32")
    one, two, out = (layer.get_weights() for layer in model.layers if layer.weights)

    def convolved(x, kernel, bias):  # (b, n, c), "same"
        padded = np.pad(x, ((0, 0), (2, 2), (0, 0)))
        return sum(padded[:, k : k + x.shape[1]] @ kernel[k] for k in range(5)) + bias

    hidden = np.maximum(convolved(np.maximum(convolved(x, *one), 0), *two), 0)
    values = hidden.reshape(2, 30, 3, 5).max(axis=2).reshape(2, -1)
    logits = values @ out[0] + out[1]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.asarray(model(x)) == pytest.approx(expected, abs=1e-5)


BANK = dict(filters=[4], kernel_size=[8], pool_size=3, pooled=[], stride=8, envelope=5, batch_norm=True)


def test_a_learned_filter_bank_puts_out_the_logarithm_of_its_mean_envelope():
    model = builders.raw_cnn(80, 3, **BANK)
    x = np.random.default_rng(0).normal(size=(2, 80, 1)).astype("float32")
    (kernel, bias), _, _, out = (layer.get_weights() for layer in model.layers if layer.weights)
    frames = x.reshape(2, 10, 8)  # steps as long as the filters: no padding
    fresh = np.sqrt(1 + 1e-3)  # what a normalisation that has seen nothing divides by
    envelope = np.maximum((frames @ kernel[:, 0] + bias) / fresh, 0).reshape(2, 2, 5, 4).mean(axis=2)
    logits = (np.log(envelope + 0.01) / fresh).reshape(2, -1) @ out[0] + out[1]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.asarray(model(x)) == pytest.approx(expected, abs=1e-5)


def test_a_clip_too_short_to_average_over_is_refused():
    with pytest.raises(CourseError, match="16 samples is too short for layer 1"):
        builders.raw_cnn(16, 3, **BANK)


def test_the_logarithm_belongs_to_the_architecture():
    assert "Log" in [line.split()[0] for line in builders.architecture(builders.raw_cnn(80, 3, **BANK))]


def test_a_learned_filter_bank_is_the_same_after_loading(tmp_path):
    model = builders.raw_cnn(800, 3, **BANK | {"filters": [4, 5], "kernel_size": [8, 3], "pooled": [1]})
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 800, 1)).astype("float32")
    assert np.asarray(loaded(x)) == pytest.approx(np.asarray(model(x)), abs=1e-6)


def test_dropout_and_normalisation_are_where_they_were_asked_for():
    options = dict(n_samples=900, n_classes=3, kernel_size=[9, 5], pool_size=3, pooled=[1], stride=2, dense=[7])
    model = builders.raw_cnn(
        filters=[4, 6], dropout=0.3, batch_norm=True, norm_values=True, activation="tanh", **options
    )
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("BatchNormalization") == 2 + 1 + 1 and kinds.count("Dropout") == 2
    assert model.get_layer("conv1").output.shape == (None, 450, 4)
    assert model.get_layer("conv2").kernel.shape == (5, 4, 6)
    assert model.get_layer("tanh1").activation.__name__ == "tanh"
    plain = [type(layer).__name__ for layer in builders.raw_cnn(filters=[4, 6], **options).layers]
    assert "BatchNormalization" not in plain
