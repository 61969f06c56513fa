"""The user's own recordings: heard as in training, from end to end, and no file lost."""

import dataclasses
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from sklearn.linear_model import LogisticRegression

from helpers import audio, base, features, runs, serving
from helpers.__main__ import main
from helpers.base import CourseError
from helpers.features import FeatureSpec, cache

IMAGE = FeatureSpec("logmel", sr=16000, seconds=1.0, n_fft=512, hop_length=256, n_mels=16)
YAMNET = FeatureSpec("yamnet", sr=16000, seconds=1.0, n_fft=512, hop_length=160, n_mels=64)
VALUES = FeatureSpec("mean_mfcc", sr=16000, seconds=1.0, n_mels=32, n_mfcc=8, statistics=("mean", "std"))
CLASSES = ["cat", "dog", "rain"]
P_COLUMNS = ["p_cat", "p_dog", "p_rain"]


def sound(seconds, sr=16000, channels=1, seed=0):
    """A sweep in noise, louder and softer, so that every window differs."""
    t = np.arange(int(seconds * sr)) / sr
    noise = np.random.default_rng(seed).standard_normal((len(t), channels))
    y = 0.3 * np.sin(2 * np.pi * (300 + 200 * t) * t)[:, None] + 0.05 * noise
    return (y * (0.6 + 0.4 * np.sin(2 * np.pi * 0.7 * t + seed))[:, None]).astype(np.float32)


def record(run_dir, spec=IMAGE, scaled=True, model=None, **params):
    table = pd.DataFrame({"clip_id": ["x"], "label": ["cat"], "predicted": ["cat"], "fold": ["1"]})
    table = table.assign(**dict.fromkeys(P_COLUMNS, 1 / 3))
    params = {"feature": dataclasses.asdict(spec), "scaled": scaled} | params
    runs.record(run_dir, params, {"accuracy": {"value": 1.0, "low": 0.0, "high": 1.0, "n": 1}}, table, model)
    return runs.load(run_dir)


def as_read_by_the_model(X, spec, scaled):
    return features.scale(X, spec)[..., np.newaxis] if scaled else X


def by_hand(path, spec):
    """Features of every window of half a second's step; no resampling, so soundfile and slicing are the truth."""
    y, sr = sf.read(path, dtype="float32")
    assert sr == spec.sr
    starts = [*range(0, len(y) - sr, sr // 2), len(y) - sr]
    return np.stack([features.extract(y[start : start + sr], sr, spec) for start in starts])


class Listener:
    """Stands for a scikit-learn model; keeps what it is given."""

    classes_ = np.array(CLASSES)

    def __init__(self):
        self.batches = []

    def predict_proba(self, X):
        self.batches.append(X)
        return np.tile([0.2, 0.5, 0.3], (len(X), 1))


@pytest.fixture
def listener(monkeypatch):
    model = Listener()
    monkeypatch.setattr(runs.Run, "model", lambda run: model)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings of several formats and rates, as long as a window, shorter and longer; and a text."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "deep" / "er").mkdir(parents=True)
    kinds = {"a.wav": (44100, 1), "b.flac": (22050, 2), "c.ogg": (48000, 1), "d.mp3": (44100, 1), "e.wav": (16000, 1)}
    for name, (sr, channels) in kinds.items():
        for length, where in {0.4: "deep/er", 1.0: "deep", 3.3: "."}.items():
            sf.write(folder / where / name, sound(length, sr, channels, seed=len(name) + int(10 * length)), sr)
    (folder / "notes.txt").write_text("in the garden")
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
    predictions, _ = serving.predict(record(tmp_path / "run", spec, scaled), folder)
    heard = np.concatenate(listener.batches)
    first, later = predictions[predictions["start"] == 0], predictions[predictions["start"] > 0]
    assert len(first) == 15 and len(later) == 25 and len(heard) == 40
    manifest = pd.DataFrame({"clip_id": first["file"], "path": [str(folder / name) for name in first["file"]]})
    trained = as_read_by_the_model(cache.of(manifest, spec, cache_dir=tmp_path / "cache"), spec, scaled)
    assert heard.dtype == np.float32
    np.testing.assert_array_equal(heard[first.index], trained)
    for name, windows in later.groupby("file"):
        whole, _ = audio.read(folder / name, sr=spec.sr)
        for row, start in (windows["start"] * spec.sr).round().astype(int).items():
            expected = features.extract(whole[start : start + 16000], spec.sr, spec)
            # 2e-4 of the range is 0.024 dB; the samples agree to 1e-6 (the last digits of the resampler).
            tolerance = 2e-4 if scaled else 2e-2
            np.testing.assert_allclose(heard[row], as_read_by_the_model(expected, spec, scaled), atol=tolerance)


def test_windows_reach_from_end_to_end(tmp_path, folder, listener):
    run = record(tmp_path / "run")
    predictions, files = serving.predict(run, folder)
    by_file = predictions.groupby("file")
    assert list(by_file.get_group("e.wav")["start"]) == [0.0, 0.5, 1.0, 1.5, 2.0, pytest.approx(2.3)]
    assert list(by_file.get_group("deep/e.wav")["start"]) == [0.0]
    seconds = files.set_index("file")["seconds"]
    for name, windows in by_file:
        assert windows["start"].iloc[0] == 0 and windows["end"].iloc[-1] == pytest.approx(seconds[name], abs=1 / 16000)
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
    for name, y, sr in [
        ("fine.wav", sound(2), 16000),
        ("half.wav", sound(0.5), 16000),
        ("silent.wav", np.full(32000, 5e-5), 16000),
        ("opposed.wav", sound(1) * [[1, -1]], 16000),
        ("pause.wav", np.concatenate([sound(1), np.zeros((16000, 1))]), 16000),
        ("clipped.flac", np.clip(sound(1) * 8, -1, 1), 16000),
        ("sub/high.ogg", sound(1, 44100), 44100),
        ("low_short.wav", sound(0.2, 8000), 8000),
        ("cut.wav", sound(1), 16000),
    ]:
        sf.write(folder / name, y, sr)
    (folder / "cut.wav").write_bytes((folder / "cut.wav").read_bytes()[:9000])
    (folder / "talk.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(range(256)))
    for name in ("notes.txt", ".hidden.wav", "sub/.cache/x.wav"):
        (folder / name).write_bytes(b"x")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "link").symlink_to(folder / "sub")

    predictions, files = serving.predict(record(tmp_path / "run"), folder)
    clipped = np.mean(np.abs(sf.read(folder / "clipped.flac")[0]) >= 0.9999)
    heard = {
        "fine.wav": "",
        "half.wav": "",
        "silent.wav": "silent",
        "opposed.wav": "silent; channels cancel (their mean has 0.0% of their level)",
        "pause.wav": "silent in 1 of 3 windows",
        "clipped.flac": f"clipped ({clipped:.1%} of the samples at full scale)",
        "sub/high.ogg": "resampled (44100 to 16000 Hz)",
        "low_short.wav": "too short (0.20 s; the rest of the 1 s heard is zeros); "
        "resampled (8000 to 16000 Hz, nothing above 4000 Hz is there)",
    }
    ignored = {
        "notes.txt": "ignored: not a recording by its name (.txt)",
        "link": "ignored: a link to a folder",
        ".hidden.wav": "ignored: hidden",
        "sub/.cache/x.wav": "ignored: hidden",
    }
    unreadable = {
        "cut.wav": ("truncated", "download"),
        "talk.m4a": ("unknown codec", "Convert"),
        "gone.wav": ("missing", "path"),
    }
    assert sorted(files["file"]) == sorted([*heard, *ignored, *unreadable])
    files = files.set_index("file")
    assert files.loc[[*heard, *ignored], "flags"].to_dict() == heard | ignored
    for name, (reason, advice) in unreadable.items():
        flag = files.loc[name, "flags"]
        assert flag.startswith(f"unreadable: {reason}") and advice in flag
    windows = predictions["file"].value_counts()
    assert set(windows.index) == set(heard)
    assert files["windows"].to_dict() == windows.reindex(files.index, fill_value=0).to_dict()
    assert files.loc[[*ignored, *unreadable], "predicted"].isna().all()
    assert list(predictions.loc[predictions["silent"], "file"]) == ["opposed.wav", "pause.wav", *["silent.wav"] * 3]


def test_a_file_speaks_by_the_mean_of_its_windows_that_are_not_silent(tmp_path, monkeypatch, listener):
    growing = [[0.0, 0.0, 1.0], [0.2, 0.0, 0.8], [0.4, 0.0, 0.6], [0.6, 0.0, 0.4], [0.8, 0.0, 0.2]]
    monkeypatch.setattr(listener, "predict_proba", lambda X: np.array(growing[: len(X)]))
    run = record(tmp_path / "run")
    sf.write(tmp_path / "a.wav", np.concatenate([sound(2), np.zeros((16000, 1))]), 16000)
    predictions, files = serving.predict(run, tmp_path / "a.wav")
    assert list(predictions["silent"]) == [False] * 4 + [True]
    assert list(predictions["predicted"]) == ["rain", "rain", "rain", "cat", "cat"]
    assert list(predictions["confidence"]) == pytest.approx([1.0, 0.8, 0.6, 0.6, 0.8])
    assert files["predicted"].item() == "rain"
    assert files["confidence"].item() == pytest.approx((1.0 + 0.8 + 0.6 + 0.4) / 4)
    sf.write(tmp_path / "a.wav", np.zeros(32000), 16000)
    _, files = serving.predict(run, tmp_path / "a.wav")
    assert files["windows"].item() == 3 and files["confidence"].item() == pytest.approx((1.0 + 0.8 + 0.6) / 3)


def told(confidence, right):
    table = pd.DataFrame({"clip_id": range(len(right)), "label": "cat", "fold": "1"})
    table["predicted"] = np.where(right, "cat", "dog")
    p = np.asarray(confidence)
    return table.assign(p_cat=np.where(right, p, 0), p_dog=np.where(right, 0, p), p_rain=1 - p)


def test_the_threshold_is_the_lowest_from_which_enough_is_right(tmp_path):
    """By hand, most confident first: right 1/1, 2/2, then two at once 3/4, 4/5, 4/6."""
    confidence, right = [0.9, 0.8, 0.7, 0.7, 0.6, 0.55], [True, True, False, True, True, False]
    one = {"accuracy": {"value": 4 / 6, "low": 0.0, "high": 1.0, "n": 6}}
    runs.record(tmp_path, {}, one, told(confidence, right))
    run = runs.load(tmp_path)
    found = {sure: serving._threshold(run, sure) for sure in (1.0, 0.8, 0.75, 0.5)}
    assert found == {1.0: 0.8, 0.8: 0.6, 0.75: 0.6, 0.5: 0.55}
    runs.record(tmp_path, {}, one, told([0.9, 0.8], [False, True]))
    with pytest.raises(CourseError, match="most confident answers.*2 test clips.*95 %.*Ask for less"):
        serving._threshold(runs.load(tmp_path), 0.95)
    for wrong in (0, 95):
        with pytest.raises(CourseError, match="such as 0.95"):
            serving._threshold(run, wrong)


def test_not_sure(tmp_path, folder, listener):
    """The listener says dog with 0.5, always."""
    one = {"accuracy": {"value": 1.0, "low": 0.0, "high": 1.0, "n": 2}}
    for high, answer in ((0.5, "dog"), (0.51, serving._NOT_SURE)):
        params = {"feature": dataclasses.asdict(IMAGE), "scaled": True}
        runs.record(tmp_path, params, one, told([0.9, high], [True, True]))
        predictions, files = serving.predict(runs.load(tmp_path), folder, sure=0.95)
        assert set(predictions["predicted"]) == {answer} and set(files["predicted"].dropna()) == {answer}
        assert files.loc[files["windows"] == 0, "predicted"].isna().all() and (predictions["confidence"] == 0.5).all()


def test_a_keras_run(tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((*IMAGE.shape, 1)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    sf.write(tmp_path / "a.wav", sound(19), 16000)  # 37 windows: more than one batch
    predictions, _ = serving.predict(record(tmp_path / "run", model=model), tmp_path / "a.wav")
    images = as_read_by_the_model(by_hand(tmp_path / "a.wav", IMAGE), IMAGE, scaled=True)
    expected = model.predict(images, verbose=0)
    assert expected.std(axis=0).max() > 0.01
    np.testing.assert_allclose(predictions[P_COLUMNS], expected, atol=1e-6)


def test_memory_does_not_grow_with_a_recording(tmp_path, monkeypatch, listener):
    """At no time is more decoded than a window and its margins, or a block of the probe; and all is read once."""
    sf.write(tmp_path / "long.wav", sound(60, 44100), 44100)
    decoded = []
    read = sf.SoundFile.read

    def spy(self, *arguments, **options):
        result = read(self, *arguments, **options)
        decoded.append(len(result))
        return result

    monkeypatch.setattr(sf.SoundFile, "read", spy)
    predictions, _ = serving.predict(record(tmp_path / "run"), tmp_path / "long.wav")
    assert len(predictions) == 119 and sum(decoded) == 60 * 44100
    assert max(decoded) <= 65_536
    assert [len(batch) for batch in listener.batches] == [32, 32, 32, 23]


def test_names_that_are_no_text(tmp_path, listener):
    try:
        sf.write(tmp_path / "a.wav", sound(1), 16000)
        Path(tmp_path, "caf\udce9.wav").write_bytes(b"x")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes text only")
    _, files = serving.predict(record(tmp_path / "run"), tmp_path)
    assert "Rename" in files.loc[files["file"] == "caf\\xe9.wav", "flags"].item()


def test_a_file_damaged_inside_says_so_and_what_was_heard_stays(tmp_path, listener):
    sf.write(tmp_path / "a.flac", sound(20), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    (tmp_path / "a.flac").write_bytes(content)
    predictions, files = serving.predict(record(tmp_path / "run"), tmp_path / "a.flac")
    assert files["flags"][0].startswith("unreadable: truncated") and len(predictions) == files["windows"][0] > 0


def test_after_a_kill_only_what_was_not_heard_is_heard(tmp_path, monkeypatch, listener):
    """Whichever file it comes at; a file that has changed since is heard again, and the end leaves nothing behind."""
    monkeypatch.setattr(base, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(serving, "_SECONDS_TO_LOSE", 0.0)
    run = record(tmp_path / "run")
    (tmp_path / "own").mkdir()
    for number in range(6):
        sf.write(tmp_path / "own" / f"{number}.wav", sound(1 + number, seed=number), 16000)
    (tmp_path / "own" / "3.wav").write_bytes(b"")
    predictions, files = serving.predict(run, tmp_path / "own")
    read, opened, kill = audio.opened, [], {}

    def killed(path):
        opened.append(path.name)
        if path.name == kill.get("at"):
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(audio, "opened", killed)
    for kill["at"] in ("0.wav", "2.wav", "4.wav", "5.wav"):
        with pytest.raises(KeyboardInterrupt):
            serving.predict(run, tmp_path / "own")
    kill.clear()
    again = serving.predict(run, tmp_path / "own")
    assert opened == [f"{number}.wav" for number in (0, 0, 1, 2, 2, 3, 4, 4, 5, 5)]
    for found, expected in zip(again, (predictions, files), strict=True):
        pd.testing.assert_frame_equal(found, expected)
    assert not list((tmp_path / "cache" / "predict").iterdir())
    kill["at"] = "5.wav"
    with pytest.raises(KeyboardInterrupt):
        serving.predict(run, tmp_path / "own")
    sf.write(tmp_path / "own" / "1.wav", sound(9), 16000)
    kill.clear()
    opened.clear()
    changed, _ = serving.predict(run, tmp_path / "own")
    assert opened == ["1.wav", "5.wav"] and (changed["file"] == "1.wav").sum() == 17


def test_a_file_that_a_library_stumbles_over_costs_its_own_row_only(tmp_path, monkeypatch, listener):
    for name in ("a.wav", "b.wav"):
        sf.write(tmp_path / name, sound(1), 16000)
    read = audio.opened
    monkeypatch.setattr(audio, "opened", lambda path: 1 / 0 if path.name == "a.wav" else read(path))
    predictions, files = serving.predict(record(tmp_path / "run"), tmp_path)
    files = files.set_index("file")["flags"]
    assert files["a.wav"].startswith("unreadable: not audio (ZeroDivisionError: division by zero)")
    assert files["b.wav"] == "" and predictions["file"].tolist() == ["b.wav"]


def test_nothing_but_unreadable_files(tmp_path, listener):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.wav").write_bytes(b"")
    predictions, files = serving.predict(record(tmp_path / "run"), tmp_path / "own")
    assert len(predictions) == 0 and "p_cat" in predictions and len(files) == 1
    assert len(serving.write(tmp_path / "out.csv", predictions, files)) == 3
    assert len(pd.read_csv(tmp_path / "out.csv")) == 0


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"feature": "FeatureSpec(kind='logmel')"}, "older version"),
        ({"feature": None}, "older version"),
        ({"scaled": None}, "older version"),
        ({"feature": {"kind": "telepathy"}}, "cannot be made here"),
        ({"feature": {"kind": "logmel", "colour": 3}}, "cannot be made here"),
        ({"feature": {"kind": "logmel", "channel": "side"}}, "hears the side channel alone"),
    ],
)
def test_runs_whose_features_nobody_knows(tmp_path, recorded, message):
    with pytest.raises(CourseError, match=message):
        serving.recipe(record(tmp_path, **recorded))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), "gives no probabilities"),
        # Numbers instead of names, say: every window would get probability 0 of every class.
        (Mock(spec=Listener, classes_=np.array([0, 1, 2])), "other classes"),
        (
            Mock(spec=Listener, classes_=np.array(CLASSES), predict_proba=lambda X: np.full((len(X), 3), np.nan)),
            "model of the run .*run gives probabilities that are not numbers",
        ),
    ],
)
def test_a_model_that_does_not_fit_its_run(tmp_path, monkeypatch, model, message):
    sf.write(tmp_path / "a.wav", sound(1), 16000)
    monkeypatch.setattr(runs.Run, "model", lambda run: model)
    with pytest.raises(CourseError, match=message):
        serving.predict(record(tmp_path / "run"), tmp_path / "a.wav")


@pytest.fixture
def logistic_run(tmp_path, folder):
    """A run of scikit-learn that did not see every class, and lost its table of predictions."""
    X = by_hand(folder / "e.wav", VALUES)
    model = LogisticRegression(max_iter=1000).fit(X, np.array(["cat", "rain"] * 3, dtype=object))
    run = record(tmp_path / "run", VALUES, False, model)
    (run.path / "predictions.parquet").unlink()
    return run


def test_command_line(tmp_path, folder, logistic_run, capsys):
    out = tmp_path / "new" / "said.csv"
    assert main(["predict", "--run", str(logistic_run.path), str(folder), "--out", str(out)]) == 0
    assert {path.name for path in out.parent.iterdir()} == {"said.csv", "said_files.csv", "said.png"}
    windows, files = pd.read_csv(out), pd.read_csv(tmp_path / "new" / "said_files.csv")
    assert list(windows) == ["file", "start", "end", "predicted", "confidence", "silent", *P_COLUMNS]
    expected = logistic_run.model().predict_proba(by_hand(folder / "e.wav", VALUES))
    np.testing.assert_allclose(windows.loc[windows["file"] == "e.wav", ["p_cat", "p_rain"]], expected, atol=1e-6)
    assert (windows["p_dog"] == 0).all()
    assert len(files) == 16 and (tmp_path / "new" / "said.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    assert "  not heard: 1 ignored: not a recording by its name (.txt)\n" in printed
    assert "15 of 16 files were heard, in 40 windows" in printed and "notes.txt: not heard; ignored" in printed
    assert str(out) in printed


def test_command_line_errors(tmp_path, folder, logistic_run, capsys):
    record(tmp_path / "no_model", VALUES, False)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "file").write_bytes(b"")
    good = {"run": "run", "folder": folder, "out": "out.csv", "hop": "0.5"}
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
        options = good | changed
        run, heard, out = (str(tmp_path / options[name]) for name in ("run", "folder", "out"))
        assert main(["predict", "--run", run, heard, "--out", out, "--hop", options["hop"]]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()
