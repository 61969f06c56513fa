"""The user's own recordings: heard as in training, from end to end, and no file lost."""

import dataclasses
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from sklearn.linear_model import LogisticRegression

from helpers import audio, features, plots, runs, serving
from helpers.__main__ import main
from helpers.base import CourseError
from helpers.features import FeatureSpec, cache

IMAGE = FeatureSpec("logmel", sr=16000, seconds=1.0, n_fft=512, hop_length=256, n_mels=16)
YAMNET = FeatureSpec("yamnet", sr=16000, seconds=1.0, n_fft=512, hop_length=160, n_mels=64)
VALUES = FeatureSpec("mean_mfcc", sr=16000, seconds=1.0, n_mels=32, n_mfcc=8, statistics=("mean", "std"))
CLASSES = ["cat", "dog", "rain"]


def sound(seconds, sr, channels=1, seed=0):
    """A sweep in noise, louder and softer, so that every window differs."""
    t = np.arange(int(seconds * sr)) / sr
    noise = np.random.default_rng(seed).standard_normal((len(t), channels))
    y = 0.3 * np.sin(2 * np.pi * (300 + 200 * t) * t)[:, None] + 0.05 * noise
    return (y * (0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * t + seed))[:, None]).astype(np.float32)


class Listener:
    """Stands for a scikit-learn model; keeps what it is given."""

    classes_ = np.array(CLASSES)

    def __init__(self):
        self.batches = []

    def predict_proba(self, X):
        self.batches.append(X)
        return np.tile([0.2, 0.5, 0.3], (len(X), 1))

    @property
    def heard(self):
        return np.concatenate(self.batches)


def record(run_dir, spec=IMAGE, scaled=True, model=None, **params):
    table = pd.DataFrame({"clip_id": ["x"], "label": ["cat"], "predicted": ["cat"], "fold": ["1"]})
    table = table.assign(**{f"p_{name}": [1 / 3] for name in CLASSES})
    params = {"feature": dataclasses.asdict(spec), "scaled": scaled} | params
    runs.record(run_dir, params, {"accuracy": {"value": 1.0, "low": 0.0, "high": 1.0, "n": 1}}, table, model)
    return runs.load(run_dir)


@pytest.fixture
def listener(monkeypatch):
    model = Listener()
    monkeypatch.setattr(runs.Run, "model", lambda run: model)
    return model


@pytest.fixture
def folder(tmp_path):
    """Recordings of several formats and rates, as long as a window, shorter and longer."""
    folder = tmp_path / "own"
    (folder / "deep" / "er").mkdir(parents=True)
    kinds = {"a.wav": (44100, 1), "b.flac": (22050, 2), "c.ogg": (48000, 1), "d.mp3": (44100, 1), "e.wav": (16000, 1)}
    for name, (sr, channels) in kinds.items():
        for length, where in {0.4: "deep/er", 1.0: "deep", 3.3: "."}.items():
            sf.write(folder / where / name, sound(length, sr, channels, seed=len(name) + int(10 * length)), sr)
    return folder


@pytest.mark.parametrize(
    ("spec", "scaled"),
    [
        pytest.param(IMAGE, True, id="logmel scaled"),
        pytest.param(VALUES, False, id="mean_mfcc raw"),
        # Large enough for a product with several threads, whose last bits depend on their number.
        pytest.param(FeatureSpec("gammatone", sr=16000, seconds=1.0, hop_length=64), True, id="gammatone scaled"),
        pytest.param(YAMNET, False, id="yamnet raw"),
        pytest.param(dataclasses.replace(YAMNET, denoise=True), False, id="yamnet denoised raw"),
    ],
)
def test_serving_features_equal_training_features(tmp_path, folder, listener, spec, scaled):
    """To the last bit at the start of a recording; later ones agree with the recording read as a whole."""
    predictions, files = serving.predict(record(tmp_path / "run", spec, scaled), folder)
    assert len(files) == 15 and len(listener.heard) == len(predictions)
    manifest = pd.DataFrame({"clip_id": files["file"], "path": [str(folder / name) for name in files["file"]]})
    trained = cache.of(manifest, spec, cache_dir=tmp_path / "cache")
    if scaled:
        trained = features.scale(trained, spec)[..., np.newaxis]
    first = listener.heard[predictions.index[predictions["start"] == 0]]
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, trained)

    n_later = 0
    for name, windows in predictions.groupby("file"):
        whole, _ = audio.read(folder / name, sr=spec.sr)
        for row, window in windows[windows["start"] > 0].iterrows():
            start = round(window["start"] * spec.sr)
            expected = features.extract(whole[start : start + 16000], spec.sr, spec)
            if scaled:
                expected = features.scale(expected, spec)[..., np.newaxis]
            # 2e-4 of the range is 0.024 dB; the samples agree to 1e-6 (the last digits of the resampler).
            np.testing.assert_allclose(listener.heard[row], expected, atol=2e-4 if scaled else 2e-2)
            n_later += 1
    assert n_later == 25


def test_windows_reach_from_end_to_end(tmp_path, folder, listener):
    run = record(tmp_path / "run")
    predictions, files = serving.predict(run, folder)
    by_file = predictions.groupby("file")
    assert list(by_file.get_group("e.wav")["start"]) == [0.0, 0.5, 1.0, 1.5, 2.0, pytest.approx(2.3)]
    assert list(by_file.get_group("deep/e.wav")["start"]) == [0.0]
    for name, seconds in zip(files["file"], files["seconds"], strict=True):
        windows = by_file.get_group(name)
        assert windows["start"].iloc[0] == 0 and windows["end"].iloc[-1] == pytest.approx(seconds, abs=1 / 16000)
        assert (windows["start"].to_numpy()[1:] <= windows["end"].to_numpy()[:-1]).all()
        assert (windows["end"] - windows["start"] <= 1.0 + 1e-9).all()
    wide, _ = serving.predict(run, folder / "e.wav", hop_seconds=2.0)
    assert list(wide["file"].unique()) == ["e.wav"] and list(wide["start"]) == [0.0, 2.0, pytest.approx(2.3)]
    for hop in (0, -1, float("nan"), float("inf")):
        with pytest.raises(CourseError, match="hop_seconds"):
            serving.predict(run, folder, hop_seconds=hop)


def test_every_file_has_its_row_and_its_flags(tmp_path, listener):
    folder = tmp_path / "own"
    (folder / "sub" / ".cache").mkdir(parents=True)

    def write(name, y, sr=16000):
        sf.write(folder / name, y, sr)

    write("fine.wav", sound(2, 16000))
    write("silent.wav", np.full(32000, 5e-5))
    write("opposed.wav", sound(1, 16000) * [[1, -1]])
    write("pause.wav", np.concatenate([sound(1, 16000), np.zeros((16000, 1))]))
    write("clipped.flac", np.clip(sound(1, 16000) * 8, -1, 1))
    write("short.wav", sound(0.3, 16000))
    write("half.wav", sound(0.5, 16000))
    write("sub/high.ogg", sound(1, 44100), 44100)
    write("sub/low.wav", sound(1, 8000), 8000)
    write("low_short.wav", sound(0.2, 8000), 8000)
    write("cut.wav", sound(1, 16000))
    (folder / "cut.wav").write_bytes((folder / "cut.wav").read_bytes()[:9000])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_text("no sound\n" * 99)
    (folder / "talk.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(range(256)))
    (folder / "notes.txt").write_text("in the garden")
    (folder / ".hidden.wav").write_bytes(b"x")
    (folder / "sub/.cache/x.wav").write_bytes(b"x")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "link").symlink_to(folder / "sub")

    predictions, files = serving.predict(record(tmp_path / "run"), folder)
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    assert set(files["file"]) == on_disk and files["file"].is_unique
    flags = files.set_index("file")["flags"]
    assert (
        flags.to_dict()
        | {
            "fine.wav": "",
            "silent.wav": "silent",
            "opposed.wav": "silent",
            "pause.wav": "silent in 1 of 3 windows",
            "short.wav": "too short (0.30 s; the rest of the 1 s heard is zeros)",
            "half.wav": "",
            "sub/high.ogg": "resampled (44100 to 16000 Hz)",
            "sub/low.wav": "resampled (8000 to 16000 Hz, nothing above 4000 Hz is there)",
            "notes.txt": "ignored: not a recording by its name (.txt)",
            "link": "ignored: a link to a folder",
            ".hidden.wav": "ignored: hidden",
            "sub/.cache/x.wav": "ignored: hidden",
        }
        == flags.to_dict()
    )
    clipped = np.mean(np.abs(sf.read(folder / "clipped.flac")[0]) >= 0.9999)
    assert flags["clipped.flac"] == f"clipped ({clipped:.1%} of the samples at full scale)"
    assert flags["low_short.wav"].split("; ")[0].startswith("too short") and "resampled" in flags["low_short.wav"]
    for name, reason, advice in [
        ("cut.wav", "truncated", "download"),
        ("empty.wav", "empty", "again"),
        ("text.mp3", "not audio", "convert"),
        ("talk.m4a", "not audio", "convert"),
        ("gone.wav", "missing", "path"),
    ]:
        assert flags[name].startswith(f"unreadable: {reason}") and advice in flags[name]

    heard = files.set_index("file")["windows"]
    assert set(heard.index[heard > 0]) == set(predictions["file"])
    assert heard.sum() == len(predictions)
    assert files.set_index("file").loc[heard == 0, "predicted"].isna().all()
    assert list(predictions.loc[predictions["silent"], "file"]) == ["opposed.wav", "pause.wav", *["silent.wav"] * 3]


def test_a_file_speaks_by_the_mean_of_its_windows_that_are_not_silent(tmp_path, monkeypatch):
    class Growing(Listener):
        def predict_proba(self, X):
            return np.array([[0.2 * n, 0.0, 1 - 0.2 * n] for n in range(len(X))])

    monkeypatch.setattr(runs.Run, "model", lambda run: Growing())
    sf.write(tmp_path / "a.wav", np.concatenate([sound(2, 16000), np.zeros((16000, 1))]), 16000)
    predictions, files = serving.predict(record(tmp_path / "run"), tmp_path / "a.wav")
    assert list(predictions["silent"]) == [False] * 4 + [True]
    assert list(predictions["predicted"]) == ["rain", "rain", "rain", "cat", "cat"]
    assert list(predictions["confidence"]) == pytest.approx([1.0, 0.8, 0.6, 0.6, 0.8])
    assert files["predicted"].item() == "rain"
    assert files["confidence"].item() == pytest.approx((1.0 + 0.8 + 0.6 + 0.4) / 4)
    sf.write(tmp_path / "a.wav", np.zeros(32000), 16000)
    _, files = serving.predict(runs.load(tmp_path / "run"), tmp_path / "a.wav")
    assert files["windows"].item() == 3 and files["confidence"].item() == pytest.approx((1.0 + 0.8 + 0.6) / 3)


def by_hand(path, spec):
    """Features of every window of half a second's step; no resampling, so soundfile and slicing are the truth."""
    y, sr = sf.read(path, dtype="float32")
    assert sr == spec.sr
    starts = [*range(0, len(y) - sr, sr // 2), len(y) - sr]
    return np.stack([features.extract(y[start : start + sr], sr, spec) for start in starts])


def test_a_keras_run(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((*IMAGE.shape, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    (tmp_path / "own").mkdir()
    sf.write(tmp_path / "own" / "a.wav", sound(19, 16000), 16000)  # 37 windows: more than one batch
    predictions, files = serving.predict(record(tmp_path / "run", model=model), tmp_path / "own")
    images = features.scale(by_hand(tmp_path / "own" / "a.wav", IMAGE), IMAGE)[..., np.newaxis]
    expected = model.predict(images, verbose=0)
    assert expected.std(axis=0).max() > 0.01
    np.testing.assert_allclose(predictions[[f"p_{name}" for name in CLASSES]], expected, atol=1e-6)
    assert list(predictions["predicted"]) == [CLASSES[k] for k in expected.argmax(axis=1)]
    np.testing.assert_allclose(predictions["confidence"], expected.max(axis=1), atol=1e-6)
    assert files["predicted"].item() == CLASSES[expected.mean(axis=0).argmax()]
    assert files["confidence"].item() == pytest.approx(expected.mean(axis=0).max(), abs=1e-6)


def test_a_scikit_learn_run_that_did_not_see_every_class(tmp_path):
    sf.write(tmp_path / "a.wav", sound(5, 16000), 16000)
    X = by_hand(tmp_path / "a.wav", VALUES)
    model = LogisticRegression().fit(X, np.array(["cat", "rain"], dtype=object)[np.arange(len(X)) % 2])
    run = record(tmp_path / "run", VALUES, False, model)
    predictions, _ = serving.predict(run, tmp_path / "a.wav")
    np.testing.assert_allclose(predictions[["p_cat", "p_rain"]], model.predict_proba(X), atol=1e-6)
    assert (predictions["p_dog"] == 0).all()


def test_memory_does_not_grow_with_a_recording(tmp_path, monkeypatch, listener):
    """At no time is more decoded than a window and its margins, or a block of the probe."""
    sf.write(tmp_path / "long.wav", sound(60, 44100), 44100)
    decoded = []
    read = sf.SoundFile.read

    def spy(self, *arguments, **options):
        result = read(self, *arguments, **options)
        decoded.append(len(result))
        return result

    monkeypatch.setattr(sf.SoundFile, "read", spy)
    opened, start = [], sf.SoundFile.__init__
    monkeypatch.setattr(sf.SoundFile, "__init__", lambda self, *a, **k: (opened.append(a), start(self, *a, **k))[1])
    predictions, _ = serving.predict(record(tmp_path / "run"), tmp_path / "long.wav")
    assert len(predictions) == 119 and sum(decoded) == 60 * 44100
    assert max(decoded) <= 65_536 and len(opened) == 1  # and it is opened once
    assert [len(batch) for batch in listener.batches] == [32, 32, 32, 23]


def test_names_that_are_no_text(tmp_path, listener):
    try:
        sf.write(tmp_path / "a.wav", sound(1, 16000), 16000)
        Path(tmp_path, "caf\udce9.wav").write_bytes(b"x")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes text only")
    _, files = serving.predict(record(tmp_path / "run"), tmp_path)
    row = files[files["file"] == "caf\\xe9.wav"]
    assert "Rename" in row["flags"].item()


@pytest.mark.parametrize("recorded", [{"feature": "FeatureSpec(kind='logmel')"}, {"scaled": None}, {"feature": None}])
def test_runs_of_older_versions(tmp_path, recorded):
    with pytest.raises(CourseError, match="older version"):
        serving.recipe(record(tmp_path, **recorded))


@pytest.mark.parametrize("feature", [{"kind": "telepathy"}, {"kind": "logmel", "colour": 3}])
def test_specs_nobody_knows(tmp_path, feature):
    with pytest.raises(CourseError, match="cannot be made here"):
        serving.recipe(record(tmp_path, feature=feature))


def test_a_model_that_does_not_fit_its_run(tmp_path, monkeypatch):
    sf.write(tmp_path / "a.wav", sound(1, 16000), 16000)
    run = record(tmp_path / "run")
    monkeypatch.setattr(runs.Run, "model", lambda run: object())
    with pytest.raises(CourseError, match="no probabilities"):
        serving.predict(run, tmp_path / "a.wav")


def test_command_line(tmp_path, folder, capsys):
    X = np.random.default_rng(0).standard_normal((6, VALUES.shape[0]))
    record(tmp_path / "run", VALUES, False, LogisticRegression().fit(X, np.array(CLASSES * 2, dtype=object)))
    (folder / "notes.txt").write_text("in the garden")
    out = tmp_path / "new" / "said.csv"
    assert main(["predict", "--run", str(tmp_path / "run"), str(folder), "--out", str(out)]) == 0
    assert {path.name for path in out.parent.iterdir()} == {"said.csv", "said_files.csv", "said.png"}
    windows, files = pd.read_csv(out), pd.read_csv(tmp_path / "new" / "said_files.csv")
    expected, _ = serving.predict(runs.load(tmp_path / "run"), folder)
    columns = ["file", "start", "end", "predicted", "confidence", "silent", *(f"p_{name}" for name in CLASSES)]
    assert list(windows.columns) == columns and list(windows["file"]) == list(expected["file"])
    np.testing.assert_allclose(windows[columns[-3:]], expected[columns[-3:]], atol=1e-6)
    assert len(files) == 16 and (tmp_path / "new" / "said.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert "15 of 16 files were heard, in 40 windows" in printed and "notes.txt: not heard; ignored" in printed
    assert str(out) in printed


def test_command_line_errors(tmp_path, folder, capsys):
    X = np.random.default_rng(0).standard_normal((6, VALUES.shape[0]))
    record(tmp_path / "run", VALUES, False, LogisticRegression().fit(X, np.array(CLASSES * 2, dtype=object)))
    record(tmp_path / "no_model", VALUES, False)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "file").write_bytes(b"")
    good = {"run": "run", "folder": "own", "out": "out.csv", "hop": "0.5"}
    for changed, message in [
        ({"folder": "not here"}, "does not exist"),
        ({"folder": "nothing"}, "No recording was found"),
        ({"folder": "papers"}, "a.pdf (ignored"),
        ({"run": "not here"}, "No finished run"),
        ({"run": "no_model"}, "holds no model"),
        ({"out": "file/out.csv"}, "Cannot write"),
        ({"out": "out.png"}, ".csv"),
        ({"hop": "0"}, "above 0"),
    ]:
        where = {name: value if name == "hop" else str(tmp_path / value) for name, value in (good | changed).items()}
        command = ["predict", "--run", where["run"], where["folder"], "--out", where["out"], "--hop", where["hop"]]
        assert main(command) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_nothing_but_unreadable_files(tmp_path, listener):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.wav").write_bytes(b"")
    predictions, files = serving.predict(record(tmp_path / "run"), tmp_path / "own")
    assert len(predictions) == 0 and "p_cat" in predictions and len(files) == 1
    assert len(serving.write(tmp_path / "out.csv", predictions, files)) == 3
    assert len(pd.read_csv(tmp_path / "out.csv")) == 0


def test_timeline():
    rows = [
        (f"{n:02d}.wav", start, start + 2.0, "b", 0.6, start == 2.0) for n in range(14) for start in (0.0, 1.0, 2.0)
    ]
    table = pd.DataFrame(rows, columns=["file", "start", "end", "predicted", "confidence", "silent"])
    for name, p in zip("abcde", (0.1, 0.6, 0.05, 0.2, 0.05), strict=True):
        table[f"p_{name}"] = p
    files = pd.DataFrame({"file": [*table["file"].unique(), "x.txt"], "predicted": "b", "confidence": 0.6, "flags": ""})
    files["windows"] = [3] * 14 + [0]
    fig = plots.timeline(table, files)
    panels = [ax for ax in fig.axes if ax.get_title(loc="left")]
    assert len(panels) == 12
    assert fig.get_suptitle() == "files: 12 drawn; 2 heard, not drawn; 1 not heard (hatched: silent)"
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["b", "d", "a", "all others"]
    mesh = panels[0].collections[0]
    np.testing.assert_allclose(mesh.get_array()[:, 0], [0.6, 0.2, 0.1, 0.1])
    assert mesh.get_array().mask[:, 2].all() and not mesh.get_array().mask[:, :2].any()
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [0.0, 1.5, 2.5, 4.0])
    assert panels[0].get_xlim() == (0, 4)
    plt.close(fig)


def test_a_model_of_other_classes_is_refused(tmp_path, folder, listener):
    """Numbers instead of names, say: every window would get probability 0 of every class."""
    listener.classes_ = np.array([0, 1, 2])
    with pytest.raises(CourseError, match="other classes"):
        serving.predict(record(tmp_path / "run"), folder)


def test_a_run_speaks_without_its_table_of_predictions(tmp_path):
    sf.write(tmp_path / "a.wav", sound(2, 16000), 16000)
    X = by_hand(tmp_path / "a.wav", VALUES)
    model = LogisticRegression().fit(X, np.array(CLASSES, dtype=object)[np.arange(len(X)) % 3])
    run = record(tmp_path / "run", VALUES, False, model)
    (run.path / "predictions.parquet").unlink()
    predictions, _ = serving.predict(runs.load(tmp_path / "run"), tmp_path / "a.wav")
    assert [name for name in predictions if name.startswith("p_")] == [f"p_{name}" for name in CLASSES]


def test_a_model_that_gives_no_numbers_is_named(tmp_path, monkeypatch, listener):
    monkeypatch.setattr(Listener, "predict_proba", lambda self, X: np.full((len(X), 3), np.nan))
    sf.write(tmp_path / "a.wav", sound(1, 16000), 16000)
    with pytest.raises(CourseError, match="model of the run .*run gives probabilities that are not numbers"):
        serving.predict(record(tmp_path / "run"), tmp_path / "a.wav")


def test_a_file_damaged_inside_says_so_and_what_was_heard_stays(tmp_path, listener):
    sf.write(tmp_path / "a.flac", sound(20, 16000), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    (tmp_path / "a.flac").write_bytes(content)
    predictions, files = serving.predict(record(tmp_path / "run"), tmp_path / "a.flac")
    assert files["flags"][0].startswith("unreadable: truncated") and len(predictions) == files["windows"][0]
