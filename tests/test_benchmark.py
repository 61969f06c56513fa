"""The benchmark compares like with like, and its tables hold what they say."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from sklearn.linear_model import LogisticRegression

from helpers import features, runs
from helpers.__main__ import main
from helpers.course import benchmark


@pytest.fixture
def clips(tmp_path):
    for i in range(3):
        sf.write(tmp_path / f"{i}.wav", 0.1 * np.random.default_rng(i).standard_normal(3 * 44100), 44100)
    return pd.DataFrame({"path": [str(tmp_path / f"{i}.wav") for i in range(3)]})


def test_plain_loop_and_ours_compute_the_same(clips, tmp_path):
    plain = benchmark._plain(clips, benchmark._librosa_mel)
    np.testing.assert_allclose(features.of(clips, benchmark._SPEC, tmp_path / "cache"), plain, atol=0.001)
    picture = benchmark._plain(clips[:1], benchmark._librosa_mel, tmp_path / "picture.png")[0]
    assert picture.shape == (*benchmark._SPEC.shape, 4)


def test_speed_without_torch(clips, monkeypatch):
    """A row for torch.stft stands there only where PyTorch happens to be installed; here in one process, for speed."""
    monkeypatch.setattr(benchmark, "_process", lambda: contextlib.nullcontext(pool))
    monkeypatch.setattr(benchmark, "_WAYS", {name: (way, 4) for name, (way, _) in benchmark._WAYS.items()})
    monkeypatch.setattr(benchmark, "_REPEATS", 2)
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    with ThreadPoolExecutor(1) as pool:
        table = benchmark._speed(clips)
    assert table["way"].tolist() == [name for name in benchmark._WAYS if "torch" not in name]
    assert len(table) == 4 and table["times_plain"][0] == 1.0
    assert (table[["clips_per_s", "cpu_ms", "times_plain"]] > 0).all(axis=None)


def test_memory(clips, monkeypatch):
    monkeypatch.setattr(benchmark, "_WAYS", {"features.of, 1 core": benchmark._WAYS["features.of, 1 core"]})
    monkeypatch.setattr(benchmark, "_SIZES", (4,))
    peaks = benchmark._memory(clips)
    assert peaks.columns.tolist() == ["way", "imports", "4 clips"]
    assert (peaks["4 clips"] > peaks["imports"]).all() and (peaks["imports"] > 20).all()


def test_an_hour_is_heard_in_every_format(tmp_path, monkeypatch, capsys):
    """Here of seconds; a window every half second, whatever the format, and what has no length is said to have none."""
    monkeypatch.setattr(benchmark, "_LONG", (6, 20))
    model = LogisticRegression().fit([[0.0] * 4, [1.0] * 4], ["cat", "dog"])
    feature = {"kind": "mean_mfcc", "sr": 16000, "seconds": 1.0, "n_mfcc": 4}
    params = {"classes": ["cat", "dog"], "feature": feature, "scaled": False}
    runs.record(tmp_path, params, {}, model=model)
    assert main(["benchmark", "--run", str(tmp_path)]) == 0
    assert "without length.mp3" in capsys.readouterr().out
    table = benchmark._listening(runs.load(tmp_path))
    n = len(benchmark._FORMATS)
    assert list(table["recording"]) == 2 * list(benchmark._FORMATS)
    # Windows of a second, half a second apart, in 6 and in 20 s; an MP3 without length keeps its encoder's padding.
    assert table["windows"].between(n * [11] + n * [39], n * [12] + n * [40]).all()
    assert (table["flags"].str.contains("open-ended header") == (table["recording"] == "without length.mp3")).all()
