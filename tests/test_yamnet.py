"""YAMNet: its spectrogram, its LiteRT file, and the Keras model with the same weights.

Nobody's weights are part of this repository. A stand-in is made here: the published architecture with random weights,
written by TensorFlow's own converter with the spectrogram in front, once in 32 bits and once with eight-bit weights, as
the published file has them. With REAL_DATA, the same is asked of the real file and of real recordings.
"""

import dataclasses
import os
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from helpers import audio, features, runs, scores, serving
from helpers.base import CourseError, DataMissing
from helpers.features import yamnet
from helpers.topics import inside, transfer

SR = 16000
needs_real_data = pytest.mark.skipif(
    "REAL_DATA" not in os.environ, reason="REAL_DATA names no folder with YAMNet and ESC-50-master"
)


def sound(seconds, seed=0):
    rng = np.random.default_rng(seed)
    n = round(seconds * SR)
    tone = np.sin(2 * np.pi * np.cumsum(rng.uniform(200, 3000)) * np.arange(n) / SR)
    return (0.3 * tone + 0.05 * rng.standard_normal(n)).astype(np.float32)


def reference_mel(y):
    """TensorFlow's own signal functions, as YAMNet's publication uses them."""
    spectrum = tf.abs(tf.signal.stft(y, 400, 160, 512))
    bands = tf.signal.linear_to_mel_weight_matrix(64, 257, SR, 125.0, 7500.0)
    return tf.math.log(tf.matmul(spectrum, bands) + 0.001)


@pytest.fixture(scope="module")
def twin():
    """The Keras network whose random weights the stand-ins hold."""
    keras.utils.set_random_seed(1)
    return transfer.yamnet_network(None)


@pytest.fixture(scope="module")
def stand_ins(twin, tmp_path_factory):
    """Paths of the stand-ins: {32: ..., 8: ...} (bits of the weights)."""

    @tf.function(input_signature=[tf.TensorSpec([15600], tf.float32)])
    def published(waveform):
        frames = tf.signal.frame(waveform, 400, 160) * tf.signal.hann_window(400)
        spectrum = tf.abs(tf.signal.rfft(frames, [512]))
        mel = tf.math.log(tf.matmul(spectrum, tf.constant(yamnet.mel_bands(), tf.float32)) + 0.001)
        return twin(tf.reshape(mel, (1, 96, 64, 1)))[1]

    frozen = convert_variables_to_constants_v2(published.get_concrete_function())
    folder, paths = tmp_path_factory.mktemp("weights"), {}
    for bits in (32, 8):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        converter.optimizations = [tf.lite.Optimize.DEFAULT] if bits == 8 else []
        paths[bits] = folder / str(bits) / "yamnet.tflite"
        paths[bits].parent.mkdir()
        paths[bits].write_bytes(converter.convert())
    return paths


def in_keras(model, y):
    embedding, scores = model.predict(transfer.yamnet_patches(yamnet.log_mel(y)), verbose=0)
    return scores, embedding


def test_the_spectrogram_is_tensorflows():
    y = sound(0.975 + 0.48)
    assert yamnet.log_mel(y).T == pytest.approx(reference_mel(y).numpy(), abs=2e-4)
    assert yamnet.mel_bands() == pytest.approx(
        tf.signal.linear_to_mel_weight_matrix(64, 257, SR, 125.0, 7500.0).numpy(), abs=1e-5
    )


@pytest.mark.parametrize(("seconds", "patches"), [(0.1, 1), (0.975, 1), (0.98, 2), (1.455, 2), (5.0, 10)])
def test_a_clip_is_filled_up_to_whole_patches(seconds, patches):
    y = sound(seconds)
    mel = yamnet.log_mel(y)
    assert yamnet._n_patches(len(y)) == patches
    assert mel.shape == (64, 96 + 48 * (patches - 1)) == transfer.yamnet_spec(seconds).shape
    # What was filled up is silence: log(0.001).
    assert mel[:, (len(y) // 160) + 1 :] == pytest.approx(np.log(0.001), abs=1e-6)


def test_the_features_are_the_spectrogram():
    y = sound(2.0)
    spec = transfer.yamnet_spec(1.5)
    assert np.array_equal(features.extract(y, SR, spec), yamnet.log_mel(y[:24000]))
    with pytest.raises(CourseError, match="must not be scaled"):
        features.scale(features.extract(y, SR, spec), spec)
    with pytest.raises(CourseError, match="yamnet_spec"):
        features.FeatureSpec("yamnet")


def test_the_network_has_the_published_size():
    # 3.7 million weights (model card): convolutions of MobileNet v1 with one input channel, their batch normalisation
    # folded into a bias each, and 521 outputs.
    convolutions = 32 * 9 + sum(9 * before + before * after for before, after in CHANNELS)
    biases = 32 + sum(before + after for before, after in CHANNELS)
    assert transfer.yamnet_network(None).count_params() == convolutions + biases + 1024 * 521 + 521 == 3_729_481


WIDTHS = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
CHANNELS = list(zip(WIDTHS, WIDTHS[1:], strict=False))


def test_random_weights_let_the_signal_through(twin):
    scores, embedding = in_keras(twin, sound(3.0))
    assert 0.1 < embedding.std() < 100
    assert scores.std() > 0.01  # else the comparisons below would compare nothing


def test_the_runtime_finds_scores_and_embedding(twin, stand_ins):
    y = sound(3.0)
    scores, embedding = yamnet.LiteRT(stand_ins[32])(y)
    wanted_scores, wanted_embedding = in_keras(twin, y)
    assert scores.shape == (6, 521) and embedding.shape == (6, 1024)
    assert scores == pytest.approx(wanted_scores, abs=1e-4)
    assert embedding == pytest.approx(wanted_embedding, abs=1e-3 * float(np.abs(wanted_embedding).max()))


def test_weights_of_32_bits_are_read_exactly(twin, stand_ins):
    read = transfer.yamnet_network(stand_ins[32])
    for one, other in zip(read.weights, twin.weights, strict=True):
        assert np.abs(one.numpy() - other.numpy()).max() < 1e-6, one.path


def test_eight_bit_weights_are_read_to_half_a_step(twin, stand_ins):
    read = transfer.yamnet_network(stand_ins[8])
    kinds = {tensor["dtype"] for tensor in yamnet.LiteRT(stand_ins[8])._runner.get_tensor_details()}
    assert np.int8 in kinds  # else this test would see nothing
    for one, other in zip(read.weights, twin.weights, strict=True):
        step = 2 * np.abs(other.numpy()).max() / 255
        assert np.abs(one.numpy() - other.numpy()).max() <= 0.51 * step, one.path


def in_32_bits(path):
    return yamnet.LiteRT(transfer.float_copy(path, yamnet.mel_bands().T))


def test_parity_with_the_runtime(stand_ins):
    model, y = transfer.yamnet_network(stand_ins[8]), sound(3.0)
    scores, embedding = in_32_bits(stand_ins[8])(y)
    native_scores, native_embedding = in_keras(model, y)
    assert native_scores == pytest.approx(scores, abs=1e-4)
    assert native_embedding == pytest.approx(embedding, abs=1e-3 * float(np.abs(embedding).max()))
    assert (native_scores.argmax(axis=1) == scores.argmax(axis=1)).all()
    # With the mel bands of the file, which are rounded to eight bits, it is not quite the same.
    rounded, _ = yamnet.LiteRT(transfer.float_copy(stand_ins[8], np.zeros(0)))(y)
    assert 1e-4 < np.abs(native_scores - rounded).max() < 0.02


@needs_real_data
def test_parity_on_real_clips():
    folder = Path(os.environ["REAL_DATA"])
    path = yamnet.find(folder / "yamnet")
    model, runner, as_it_is = transfer.yamnet_network(path), in_32_bits(path), yamnet.LiteRT(path)
    gaps = []
    for clip in sorted((folder / "ESC-50-master/audio").glob("*.wav"))[::10]:
        y, _ = audio.read(clip, sr=SR)
        scores, native_scores = runner(y)[0], in_keras(model, y)[0]
        assert np.abs(native_scores - scores).max() < 0.001, clip.name
        first, second = np.sort(scores, axis=1)[:, [-1, -2]].T
        sure = first - second > 0.001  # elsewhere two classes are as good as equal
        assert (native_scores.argmax(axis=1) == scores.argmax(axis=1))[sure].all(), clip.name
        gaps.extend(np.abs(as_it_is(y)[0] - native_scores).max(axis=1))
    # The runtime's own rounding to eight bits is what is left; it is far larger.
    assert 0.001 < np.median(gaps) < 0.2


def test_the_classifier_averages_patches(twin):
    n_frames = transfer.yamnet_spec(2.0).n_frames
    model = transfer.yamnet_classifier(twin, n_frames, 3)
    y = sound(2.0)
    embedding = transfer.embeddings(model).predict(yamnet.log_mel(y)[np.newaxis], verbose=0)[0]
    wanted = in_keras(twin, y)[1].mean(axis=0)
    assert embedding == pytest.approx(wanted, abs=1e-4 * float(np.abs(wanted).max()))


@pytest.mark.parametrize("met", [[0, 1, 2], [0, 2]])  # scikit-learn keeps one row of coefficients for two classes
def test_a_probe_becomes_the_head_and_survives_saving(twin, tmp_path, met):
    n_frames = transfer.yamnet_spec(1.0).n_frames
    model = transfer.yamnet_classifier(twin, n_frames, 3)
    X = np.stack([yamnet.log_mel(sound(1.0, seed)) for seed in range(12)])
    embedded = transfer.embeddings(model).predict(X, verbose=0)
    probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(
        embedded, np.array(["a", "b", "c"])[np.resize(met, 12)]
    )
    transfer.set_head(model, probe, ["a", "b", "c"])
    wanted = np.zeros((12, 3))
    wanted[:, met] = probe.predict_proba(embedded)
    assert model.predict(X, verbose=0) == pytest.approx(wanted, abs=1e-3)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.predict(X, verbose=0) == pytest.approx(wanted, abs=1e-3)


def test_patches_twice_as_far_apart_share_the_weights(twin):
    n_frames = transfer.yamnet_spec(5.0).n_frames
    near = transfer.yamnet_classifier(twin, n_frames, 2)
    far = transfer.with_hop(near, 96)
    mel = yamnet.log_mel(sound(5.0))
    every = in_keras(twin, sound(5.0))[1]
    embedded = transfer.embeddings(far).predict(mel[np.newaxis], verbose=0)[0]
    assert embedded == pytest.approx(every[::2].mean(axis=0), abs=1e-3 * float(np.abs(every).max()))
    for one, other in zip(near.weights, far.weights, strict=True):
        assert (one.numpy() == other.numpy()).all()


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and an empty cache."""

    def refuse(*arguments, **options):
        raise CourseError("no network here.")

    monkeypatch.setattr(yamnet.download, "receive", refuse)
    monkeypatch.setattr(yamnet, "_CACHE", tmp_path / "cache")
    return tmp_path


def test_it_is_found_where_the_user_says_or_in_the_cache(offline):
    with pytest.raises(DataMissing, match="weights_dir"):
        yamnet.find()
    with pytest.raises(CourseError, match="no folder"):
        yamnet.find(offline / "mine")
    (offline / "mine").mkdir()
    for folder in ("cache", "mine"):
        (offline / folder).mkdir(exist_ok=True)
        (offline / folder / "yamnet.tflite").write_bytes(b"x")
        assert yamnet.find(offline / "mine").parent.name == folder
    assert "another build" in yamnet.build(offline / "mine" / "yamnet.tflite")


def test_a_relative_folder_is_found_from_anywhere(offline, monkeypatch):
    (offline / "mine").mkdir()
    (offline / "mine" / "yamnet.tflite").write_bytes(b"x")
    monkeypatch.chdir(offline)
    assert yamnet.find("mine") == offline / "mine" / "yamnet.tflite"


def test_a_download_is_checked(monkeypatch, tmp_path):
    """What a server sends instead of YAMNet is not kept."""
    import http.server
    import threading

    class Impostor(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>not YAMNet</html>")

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Impostor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/yamnet.tflite"
    monkeypatch.setattr(yamnet, "_URL", address)
    monkeypatch.setattr(yamnet, "_CACHE", tmp_path)
    with pytest.raises(DataMissing, match="127.0.0.1:.*not the published file"):
        yamnet.find()
    assert not (tmp_path / "yamnet.tflite").exists()
    server.shutdown()


def test_other_files_are_refused(stand_ins, tmp_path):
    for content in (b"", b"RIFF0000WAVE", stand_ins[8].read_bytes()[:300]):
        path = tmp_path / "yamnet.tflite"
        path.write_bytes(content)
        with pytest.raises(CourseError, match="LiteRT"):
            yamnet.LiteRT(path)
    small = keras.Sequential([keras.Input((8,)), keras.layers.Dense(521)])
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(small).convert())
    with pytest.raises(CourseError, match="not YAMNet"):
        yamnet.LiteRT(path)
    with pytest.raises(CourseError, match="not YAMNet"):
        transfer.yamnet_network(path)


def test_embeddings_are_cached_by_file(stand_ins, tmp_path, monkeypatch):
    y = sound(2.0)
    soundfile.write(tmp_path / "a.wav", y, SR, subtype="FLOAT")
    manifest = pd.DataFrame({"clip_id": ["a"], "path": [str(tmp_path / "a.wav")]})
    folders = set()
    for bits in (8, 32):
        spec = yamnet.embedding_spec(stand_ins[bits], 2.0)
        found = features.of(manifest, spec, tmp_path / "cache")
        assert found.shape == (1, 1024)
        assert found[0] == pytest.approx(yamnet.LiteRT(stand_ins[bits])(y)[1].mean(axis=0), rel=1e-5)
        folders.add(spec.digest)
    assert len(folders) == 2 and len(list((tmp_path / "cache").glob("*/array.npy"))) == 2
    recorded = dataclasses.asdict(spec)
    assert str(tmp_path.parent) not in str(recorded)  # so that the run can be served on another machine
    monkeypatch.setattr(yamnet, "_FOLDERS", {})
    with pytest.raises(DataMissing, match="weights-dir"):
        yamnet.EmbeddingSpec(**recorded)
    assert yamnet.EmbeddingSpec(**recorded, weights_dir=stand_ins[32].parent) == spec


def test_a_probe_on_embeddings_is_served_as_trained(stand_ins, tmp_path):
    spec = yamnet.embedding_spec(stand_ins[8], 2.0)
    clips = [tmp_path / "clips" / f"{number}.wav" for number in range(6)]
    clips[0].parent.mkdir()
    for number, clip in enumerate(clips):
        soundfile.write(clip, sound(2.0, number), SR, subtype="FLOAT")
    manifest = pd.DataFrame({"clip_id": [clip.stem for clip in clips], "path": [str(clip) for clip in clips]})
    manifest["label"] = ["a", "b"] * 3
    E = features.of(manifest, spec, tmp_path / "cache")
    probe = make_pipeline(StandardScaler(), LogisticRegression()).fit(E, manifest["label"])
    table = scores.prediction_table(manifest, np.arange(6), probe.predict_proba(E), ["a", "b"], "fold1")
    params = {"feature": dataclasses.asdict(spec), "scaled": False}
    run = runs.record(tmp_path / "run", params, scores.score(table), table, probe)
    heard, _ = serving.predict(runs.load(run), clips[0].parent)
    assert heard[["p_a", "p_b"]].to_numpy() == pytest.approx(probe.predict_proba(E), abs=1e-6)


def test_names_of_the_classes(stand_ins, tmp_path):
    import shutil
    import zipfile

    names = [f"Sound {number}" for number in range(521)]
    path = tmp_path / "yamnet.tflite"
    shutil.copy(stand_ins[32], path)
    assert yamnet.class_names(path)[::520] == ["AudioSet class 0", "AudioSet class 520"]
    lines = "index,mid,display_name\n" + "".join(f"{n},/m/{n},{name}\n" for n, name in enumerate(names))
    (tmp_path / "yamnet_class_map.csv").write_text(lines)
    assert yamnet.class_names(path) == names
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "\n".join(reversed(names)))
    assert yamnet.class_names(path) == names[::-1]
    assert yamnet.LiteRT(path)(sound(1.0))[0].shape == (2, 521)


def test_maps_of_patches_are_laid_over_the_clip():
    maps = np.zeros((4, 12, 8), dtype=np.float32)
    maps[1] = 1.0  # the second patch: frames 48 to 143
    laid = inside.over_time(maps, (64, 250))
    expected = np.zeros(250)
    expected[48:144] = 0.5  # every frame of it belongs to a neighbour, too
    assert laid.shape == (64, 250)
    np.testing.assert_allclose(laid, np.tile(expected, (64, 1)), atol=1e-6)
    np.testing.assert_allclose(inside.over_time(np.ones((1, 12, 8)), (64, 96)), 1, atol=1e-6)
