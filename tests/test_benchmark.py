"""The benchmark compares like with like, and its tables hold what they say."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from helpers.course import benchmark
from helpers.features import cache


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        sf.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(3 * 44100), 44100)
    return pd.DataFrame({"clip_id": ["a", "b", "c"], "path": [str(tmp_path / f"{i}.wav") for i in range(3)]})


def test_both_compute_the_same(clips, tmp_path):
    plain = benchmark._plain(clips, None)
    np.testing.assert_allclose(cache.of(clips, benchmark.SPEC, tmp_path / "cache"), plain, atol=0.001)


def test_picture_has_every_value(clips, tmp_path):
    picture = benchmark._plain(clips[:1], tmp_path / "picture.png")[0]
    assert picture.shape == (*benchmark.SPEC.shape, 4)


def test_rows_are_repeated_under_new_ids(clips):
    eight = benchmark._repeat(clips, 8)
    assert len(eight) == 8 and eight["clip_id"].is_unique
    assert eight["path"].tolist() == (clips["path"].tolist() * 3)[:8]


def test_tables(clips, monkeypatch):
    names = ["plain loop", "helpers.cache, 1 core"]
    monkeypatch.setattr(benchmark, "WAYS", {name: benchmark.WAYS[name] for name in names})
    table = benchmark.benchmark(clips, n_clips=4, repeats=2)
    assert table["way"].tolist() == names
    assert table["times_plain"][0] == 1.0
    assert (table[["clips_per_s", "cpu_ms", "times_plain"]] > 0).all(axis=None)
    peaks = benchmark.memory(clips, sizes=(4,))
    assert peaks.columns.tolist() == ["way", "imports", "4 clips"]
    assert (peaks["4 clips"] > peaks["imports"]).all() and (peaks["imports"] > 20).all()
