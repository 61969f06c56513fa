import keras
import numpy as np
import pytest
from keras import layers

from helpers import runs
from helpers.base import CourseError
from helpers.topics import transfer
from helpers.topics.transfer import NETWORKS, classifier
from helpers.topics.transfer import _resnet18 as resnet18


def size(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def counts(model):
    return size(model.weights), size(model.trainable_weights)


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def test_resnet18_has_the_parameters_published():
    model = resnet18((224, 224, 3))
    top = 512 * 1000 + 1000
    assert size(model.trainable_weights) + top == 11_689_512
    assert size(model.non_trainable_weights) == 9_600  # mean and variance of 4,800 feature maps
    assert model.output_shape == (None, 7, 7, 512)


def test_resnet18_has_blocks_of_two_convolutions_with_shortcuts():
    model = resnet18((64, 64, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    sizes = [layer.kernel_size[0] for layer in convolutions]
    assert (sizes.count(7), sizes.count(3), sizes.count(1)) == (1, 16, 3)
    # A block whose convolutions give nothing passes on its input: the shortcut is there, before the last ReLU.
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.gamma.assign(layer.gamma * 0)
    stem = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)][0]
    stem.gamma.assign(stem.gamma + 1)
    first, pooled = [layer for layer in model.layers if isinstance(layer, layers.Add)][1], model.layers[4]
    assert isinstance(pooled, layers.MaxPooling2D)
    before, after = keras.Model(model.input, [pooled.output, first.output])(pictures(2, 64, 64, 3))
    assert np.asarray(before).std() > 0
    assert np.allclose(before, after)


# Published totals with the layer for 1000 classes (Keras's documentation), and the features that layer reads.
@pytest.mark.parametrize(
    ("network", "published", "features"), [("MobileNet", 4_253_864, 1024), ("DenseNet121", 8_062_504, 1024)]
)
def test_networks_have_the_parameters_published(network, published, features):
    base = transfer._backbone(network, (75, 80, 3))
    assert base.count_params() + features * 1000 + 1000 == published
    assert base.output_shape[-1] == features


def test_resnet50_with_its_batch_normalisation_unfrozen_has_the_parameters_published():
    model = classifier("ResNet50", (32, 216, 1), 8, [256, 128, 64], "flatten", regime="batch norm")
    assert model.get_layer("features").output.shape == (None, 14_336)
    assert counts(model) == (27_299_656, 3_765_064)
    transfer._set_regime(model, "frozen")
    assert counts(model) == (27_299_656, 14_336 * 256 + 256 + 256 * 128 + 128 + 128 * 64 + 64 + 64 * 8 + 8)


@pytest.mark.parametrize(
    ("network", "published"), [("ResNet50", (24_646_543, 24_592_399)), ("InceptionV3", (22_861_615, 22_826_159))]
)
def test_fully_trained_networks_have_the_parameters_published(network, published):
    model = classifier(network, (256, 256, 1), 15, [512], batch_norm=True, regime="full")
    assert counts(model) == published
    kinds = [type(layer).__name__ for layer in model.get_layer("head").layers]
    assert kinds == ["Dense", "BatchNormalization", "Dropout", "Dense"]
    norms = [layer for layer in model.get_layer("base").layers if isinstance(layer, layers.BatchNormalization)]
    assert norms and {layer.momentum for layer in norms} == {0.9}


PREPROCESS = {
    "MobileNet": keras.applications.mobilenet.preprocess_input,
    "ResNet50": keras.applications.resnet.preprocess_input,
    "InceptionV3": keras.applications.inception_v3.preprocess_input,
    "DenseNet121": keras.applications.densenet.preprocess_input,
    # torchvision: mean and deviation of ImageNet's red, green and blue
    "ResNet18": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_pictures_are_prepared_as_the_network_expects(network):
    grey = pictures(2, 5, 6, 1)
    coloured = np.repeat(grey, 3, axis=-1)
    prepared = np.asarray(transfer._preprocessing(network)(coloured))
    assert prepared == pytest.approx(PREPROCESS[network](255 * coloured), abs=1e-3 if network == "ResNet50" else 1e-5)


def prepared(model, x):
    return np.asarray(keras.Model(model.input, model.get_layer("preprocess").output)(x))


def test_a_picture_reaches_the_network_unstretched_in_three_equal_channels():
    model = classifier("ResNet50", (40, 50, 1), 3, [])
    grey = pictures(1, 40, 50, 1)
    expected = PREPROCESS["ResNet50"](255 * np.repeat(grey, 3, axis=-1))
    assert prepared(model, grey) == pytest.approx(expected, abs=1e-3)
    assert not [layer for layer in model.layers if layer.name in ("pool", "pad")]


def test_small_pictures_are_padded_with_the_floor_of_the_scale():
    model = classifier("InceptionV3", (64, 100, 1), 3, [])
    grey = pictures(1, 64, 100, 1)
    result = prepared(model, grey)
    assert result.shape == (1, 75, 100, 3)
    assert result[:, :64] == pytest.approx(np.repeat(2 * grey - 1, 3, axis=-1), abs=1e-5)
    assert (result[:, 64:] == -1).all()


def test_a_tall_picture_is_averaged_band_by_band():
    model = classifier("MobileNet", (1025, 40, 1), 3, [], pool=(16, 1))
    grey = pictures(1, 1025, 40, 1)
    result = prepared(model, grey)
    assert result.shape == (1, 64, 40, 3)
    bands = grey[:, :1024].reshape(1, 64, 16, 40).mean(axis=2)
    assert result[..., 1] == pytest.approx(2 * bands - 1, abs=1e-5)


def changes(model, before, after):
    """For each kind of weight of the base and of the head: whether all, some or none of them differ."""
    base, found = {id(weight) for weight in model.get_layer("base").weights}, {}
    for weight, old, new in zip(model.weights, before, after, strict=True):
        name = weight.path.rpartition("/")[2]
        kind = "norm" if name in ("gamma", "beta") else "statistics" if name.startswith("moving") else "other"
        found.setdefault(("base" if id(weight) in base else "head", kind), []).append(not np.array_equal(old, new))
    return {kind: "all" if all(values) else "some" if any(values) else "none" for kind, values in found.items()}


@pytest.mark.parametrize(
    ("regime", "convolutions", "norm"),
    [("frozen", "none", "none"), ("batch norm", "none", "all"), ("full", "all", "all")],
)
def test_a_step_of_training_changes_what_the_regime_says(regime, convolutions, norm):
    keras.utils.set_random_seed(0)
    model = classifier("ResNet18", (32, 32, 1), 3, [16], batch_norm=True, regime=regime)
    model.compile("adam", "categorical_crossentropy", run_eagerly=True)
    before = model.get_weights()
    model.train_on_batch(pictures(8, 32, 32, 1), np.eye(3, dtype=np.float32)[np.arange(8) % 3])
    assert changes(model, before, model.get_weights()) == {
        ("base", "other"): convolutions,
        ("base", "norm"): norm,
        ("base", "statistics"): norm,
        ("head", "other"): "all",
        ("head", "norm"): "all",
        ("head", "statistics"): "all",
    }


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return classifier("MobileNet", (32, 40, 1), 3, [8], "flatten")


def test_the_head_trained_on_features_is_the_head_of_the_whole(small):
    x, y = pictures(8, 32, 40, 1), np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    features = np.asarray(keras.Model(small.input, small.get_layer("features").output)(x))
    head = small.get_layer("head")
    before = np.asarray(small(x))
    assert np.asarray(head(features)) == pytest.approx(before, abs=1e-5)
    head.compile("adam", "categorical_crossentropy", run_eagerly=True)
    head.train_on_batch(features, y)
    after = np.asarray(small(x))
    assert np.asarray(head(features)) == pytest.approx(after, abs=1e-5)
    assert np.abs(after - before).max() > 1e-4


def test_a_frozen_base_is_the_same_in_training(small):
    x = pictures(4, 32, 40, 1)
    features = keras.Model(small.input, small.get_layer("features").output)
    assert np.asarray(features(x, training=True)) == pytest.approx(np.asarray(features(x)), abs=1e-5)


@pytest.mark.parametrize("regime", transfer._REGIMES)
def test_a_saved_model_loads_without_this_package_and_gives_the_same(small, tmp_path, regime):
    transfer._set_regime(small, regime)
    loaded = keras.saving.load_model(runs.save_model(tmp_path, small), custom_objects={})
    x = pictures(3, 32, 40, 1)
    assert np.asarray(loaded(x)) == pytest.approx(np.asarray(small(x)), abs=1e-6)
    assert counts(loaded) == counts(small)
    transfer._set_regime(small, "frozen")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "VGG"}, "MobileNet, ResNet18"),
        ({"regime": "half"}, "batch norm"),
        ({"features": "max"}, "flatten"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(options, said):
    with pytest.raises(CourseError, match=said):
        classifier(**{"network": "MobileNet", "input_shape": (32, 32, 1), "n_classes": 2, "units": [], **options})
