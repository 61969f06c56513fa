"""Weights of image networks: no test leaves this machine."""

import dataclasses
import hashlib
import http.server
import socket
import threading

import h5py
import keras
import numpy as np
import pytest

from helpers.base import CourseError, DataMissing
from helpers.data import download
from helpers.topics import transfer
from helpers.topics.transfer import _PUBLISHED as PUBLISHED
from helpers.topics.transfer import WeightsMissing, find_weights

NAME = "mobilenet_1_0_224_tf_no_top.h5"


def write_published(path, model):
    """Write weights in the layout of Keras's published files: a group per layer, named in the order of the layers."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0".encode() for weight in layer.weights]
            group.attrs["weight_names"] = names
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name.decode(), data=np.asarray(weight))


@pytest.fixture(scope="module")
def model():
    """MobileNet with random weights, the statistics of its batch normalisation included."""
    model = transfer._backbone("MobileNet", (32, 32, 3))
    rng = np.random.default_rng(0)
    model.set_weights([rng.random(weight.shape) for weight in model.weights])
    return model


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / NAME
    write_published(path, model)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and addresses that refuse."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for network, (url, md5) in PUBLISHED.items():
        monkeypatch.setitem(PUBLISHED, network, (f"http://127.0.0.1:9/{url.rpartition('/')[2]}", md5))
    folder = tmp_path / "keras" / "models"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Serve bytes as MobileNet's weights, announced with a length."""
    servers, ended = [], threading.Event()

    def start(body, announced=None, status=200, md5=None, stalls=False):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.send_header("Content-Length", str(announced or len(body)))
                self.end_headers()
                self.wfile.write(body)
                if stalls:
                    ended.wait()

            def log_message(self, *args):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{servers[-1].server_port}/{NAME}"
        monkeypatch.setitem(PUBLISHED, "MobileNet", (url, md5))

    yield start
    ended.set()
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_loads(weights, model):
    base = transfer._backbone("MobileNet", (64, 54, 3), weights)
    assert all(np.array_equal(one, two) for one, two in zip(base.weights, model.weights, strict=True))


def test_files_and_checksums_are_those_in_keras(monkeypatch):
    """What Keras itself would fetch, caught when it asks for it."""
    asked = {}

    def get_file(name, origin, cache_subdir, file_hash=None):
        asked[name] = (origin, cache_subdir, file_hash)
        raise InterruptedError

    from keras.src.applications import densenet, inception_v3, mobilenet, resnet

    for module, build in (
        (mobilenet, keras.applications.MobileNet),
        (resnet, keras.applications.ResNet50),
        (inception_v3, keras.applications.InceptionV3),
        (densenet, keras.applications.DenseNet121),
    ):
        monkeypatch.setattr(module.file_utils, "get_file", get_file)
        with pytest.raises(InterruptedError):
            build(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    monkeypatch.undo()  # also gives PUBLISHED its addresses back
    assert asked == {url.rpartition("/")[2]: (url, "models", md5) for url, md5 in PUBLISHED.values()}


def test_weights_in_a_folder_are_loaded_and_told_from_those_published(model, content, tmp_path):
    (tmp_path / NAME).write_bytes(content)
    weights = find_weights("MobileNet", tmp_path)
    assert (weights.network, weights.path) == ("MobileNet", tmp_path / NAME)
    assert hashlib.md5(content).hexdigest() in weights.source and "states no checksum" in weights.source
    assert_loads(weights, model)


@pytest.mark.parametrize("same", [True, False])
def test_the_source_says_whether_the_file_is_the_one_published(content, tmp_path, monkeypatch, same):
    (tmp_path / NAME).write_bytes(content)
    md5 = hashlib.md5(content).hexdigest() if same else "0" * 32
    monkeypatch.setitem(PUBLISHED, "MobileNet", (PUBLISHED["MobileNet"][0], md5))
    source = find_weights("MobileNet", tmp_path).source
    assert ("not the file Keras publishes" in source) is not same
    assert "the file Keras publishes" in source


@pytest.mark.parametrize("share", [0.0, 0.999])
def test_a_damaged_file_is_named_and_never_used(content, tmp_path, share):
    (tmp_path / NAME).write_bytes(content[: int(share * len(content))])
    with pytest.raises(CourseError, match=f"{NAME} cannot be read as weights of MobileNet"):
        transfer._backbone("MobileNet", (32, 32, 3), find_weights("MobileNet", tmp_path))


def test_weights_of_another_network_are_refused(content, tmp_path):
    (tmp_path / NAME).write_bytes(content)
    weights = find_weights("MobileNet", tmp_path)
    with pytest.raises(CourseError, match="weights of MobileNet, not of ResNet18"):
        transfer._backbone("ResNet18", (32, 32, 3), weights)
    with pytest.raises(CourseError, match=NAME):
        dataclasses.replace(weights, network="ResNet50").load(transfer._resnet18((32, 32, 3)))


def test_without_network_the_answer_is_that_they_are_missing(cache):
    with pytest.raises(DataMissing, match="MobileNet: no ImageNet weights .*127.0.0.1.*no connection") as missing:
        find_weights("MobileNet")
    assert isinstance(missing.value, WeightsMissing) and "weights_dir" in str(missing.value)
    assert not list(cache.iterdir())


def test_nobody_publishes_weights_of_resnet18():
    with pytest.raises(WeightsMissing, match="ResNet18: no ImageNet weights .Keras publishes none"):
        find_weights("ResNet18")


def test_a_folder_without_the_file_or_no_folder_is_said(tmp_path):
    with pytest.raises(WeightsMissing, match=f"holds no {NAME}"):
        find_weights("MobileNet", tmp_path)
    with pytest.raises(CourseError, match="no folder"):
        find_weights("MobileNet", tmp_path / "nowhere")


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", (0.3, 0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(PUBLISHED, "MobileNet", (f"http://127.0.0.1:{silent.getsockname()[1]}/{NAME}", None))
        with pytest.raises(WeightsMissing, match="no answer"):
            find_weights("MobileNet")


def test_a_download_that_stalls_is_given_up_and_not_kept(content, cache, serve, monkeypatch):
    monkeypatch.setattr(download, "_PATIENCE", (0.5, 0.5))
    serve(content[:1000], announced=len(content), stalls=True)
    with pytest.raises(WeightsMissing, match="no answer"):
        find_weights("MobileNet")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("checksum", [True, False])
def test_a_download_is_kept_and_used_again(model, content, cache, serve, checksum):
    serve(content, md5=hashlib.md5(content).hexdigest() if checksum else None)
    weights = find_weights("MobileNet")
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert weights.path == cache / NAME
    assert_loads(weights, model)
    serve(b"", status=500)  # now it must not be asked again
    assert find_weights("MobileNet").path == weights.path


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"status": 403}, "Forbidden"),
        ({"announced": 10**8}, "the connection was cut"),
        ({"md5": "0" * 32}, "not the published file"),
    ],
)
def test_a_download_that_is_not_what_was_published_is_not_kept(content, cache, serve, options, reason):
    serve(content, **options)
    with pytest.raises(WeightsMissing, match=reason):
        find_weights("MobileNet")
    assert not list(cache.iterdir())


def test_a_page_that_asks_for_a_password_is_not_taken_for_weights(cache, serve):
    serve(b"<html>Welcome to the hotel</html>")
    with pytest.raises(WeightsMissing, match="not the published file"):
        find_weights("MobileNet")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("checksum", [True, False])
def test_half_a_file_left_in_the_cache_is_fetched_again(model, content, cache, serve, checksum):
    (cache / NAME).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsMissing):
        find_weights("MobileNet")
    serve(content, md5=hashlib.md5(content).hexdigest() if checksum else None)
    assert_loads(find_weights("MobileNet"), model)
