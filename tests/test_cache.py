"""The cache: right rows, never stale, resumed, shared between processes."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import kill_resume
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from helpers import audio
from helpers.base import AudioError, CourseError
from helpers.features import KINDS, FeatureSpec, cache, extract, fingerprint

SPEC = FeatureSpec("logmel", sr=8000, seconds=0.5, n_fft=256, hop_length=128, n_mels=16)


def write_clip(path, seed, seconds=0.3):
    rng = np.random.default_rng(seed)
    sf.write(path, 0.3 * rng.uniform(-1, 1, int(seconds * 8000)), 8000)


@pytest.fixture
def manifest(tmp_path):
    """150 clips (three shards) of varying length, written an hour ago."""
    (tmp_path / "clips").mkdir()
    rows = []
    for i in range(150):
        path = tmp_path / "clips" / f"{i:03d}.wav"
        write_clip(path, i, 0.1 + 0.005 * i)
        os.utime(path, (time.time() - 3600,) * 2)
        rows.append({"clip_id": f"c{i}", "path": str(path)})
    return pd.DataFrame(rows)


@pytest.fixture
def computed(monkeypatch):
    """Names of the files decoded, in order."""
    names = []
    read = audio.read

    def counting_read(path, *args, **kwargs):
        names.append(os.path.basename(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(cache.audio, "read", counting_read)
    return names


def settle(monkeypatch):
    """Let the clock be an hour ahead, so that files just written count as old."""
    now = time.time_ns
    monkeypatch.setattr(fingerprint.time, "time_ns", lambda: now() + 3600 * 10**9)


def direct(manifest, spec=SPEC):
    return np.stack([extract(*audio.read(path), spec) for path in manifest["path"]])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "yamnet"])  # see test_yamnet.py
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_rows_belong_to_the_manifest(manifest, tmp_path, kind, n_jobs):
    spec = FeatureSpec(kind, sr=8000, seconds=0.5, n_fft=256, hop_length=128, n_mels=16, n_mfcc=8)
    array = cache.of(manifest, spec, tmp_path / "cache", n_jobs=n_jobs)
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert array.shape == (150, *spec.shape) and array.dtype == np.float32
    np.testing.assert_allclose(array, direct(manifest, spec), atol=1e-4)


def test_second_call_decodes_nothing_and_says_so(manifest, tmp_path, computed, capsys):
    first = np.array(cache.of(manifest, SPEC, tmp_path / "cache"))
    assert len(computed) == 150
    assert capsys.readouterr().out == "features logmel: 150 clips computed\n"
    second = cache.of(manifest, SPEC, tmp_path / "cache")
    assert len(computed) == 150
    assert capsys.readouterr().out == "features logmel: 150 clips from cache\n"
    np.testing.assert_array_equal(first, second)
    cache.of(manifest, SPEC, tmp_path / "cache", progress=False)
    assert capsys.readouterr().out == ""


def test_changed_file_costs_one_shard_and_leaves_readers_alone(manifest, tmp_path, computed, capsys):
    before = cache.of(manifest, SPEC, tmp_path / "cache")
    copy = np.array(before)
    write_clip(manifest["path"][70], seed=999, seconds=0.1 + 0.005 * 70)  # same size
    computed.clear()
    after = cache.of(manifest, SPEC, tmp_path / "cache")
    assert sorted(computed) == [f"{i:03d}.wav" for i in range(64, 128)]
    assert "64 clips computed, 86 clips from cache" in capsys.readouterr().out
    np.testing.assert_array_equal(before, copy)
    assert np.flatnonzero((after != copy).any(axis=(1, 2))).tolist() == [70]
    np.testing.assert_allclose(after, direct(manifest), atol=1e-4)
    assert len(list(cache.folder(manifest, SPEC, tmp_path / "cache").glob("*/array.npy"))) == 1


def test_changed_content_with_the_old_times_is_noticed(manifest, tmp_path):
    """cp -p, rsync -t: size and modification time as before."""
    path = manifest["path"][3]
    cache.of(manifest, SPEC, tmp_path / "cache")
    times = (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns)
    write_clip(path, seed=999, seconds=0.1 + 0.005 * 3)
    os.utime(path, ns=times)
    np.testing.assert_allclose(cache.of(manifest, SPEC, tmp_path / "cache"), direct(manifest), atol=1e-4)


def test_touched_file_is_not_computed_again(manifest, tmp_path, computed, monkeypatch):
    settle(monkeypatch)
    cache.of(manifest, SPEC, tmp_path / "cache")
    computed.clear()
    os.utime(manifest["path"][5])
    cache.of(manifest, SPEC, tmp_path / "cache")
    assert computed == []
    monkeypatch.setattr(cache, "sha256", lambda path: pytest.fail("the new time stamp was not remembered"))
    cache.of(manifest, SPEC, tmp_path / "cache")


def test_fresh_file_is_compared_by_content(manifest, tmp_path, monkeypatch):
    """A file written within a tick of the clock keeps its time stamp when written again."""
    write_clip(manifest["path"][0], seed=1000)
    signature = cache.signature
    frozen = signature(manifest["path"][0])
    monkeypatch.setattr(
        cache, "signature", lambda path: frozen if str(path) == manifest["path"][0] else signature(path)
    )
    cache.of(manifest, SPEC, tmp_path / "cache")
    write_clip(manifest["path"][0], seed=1001)
    np.testing.assert_allclose(cache.of(manifest, SPEC, tmp_path / "cache"), direct(manifest), atol=1e-4)


def test_spec_clips_and_code_name_the_folder(manifest, tmp_path, monkeypatch):
    names = {cache.folder(manifest, SPEC)}
    names.add(cache.folder(manifest, FeatureSpec("logmel", sr=8000, seconds=0.5, n_fft=256, hop_length=64, n_mels=16)))
    names.add(cache.folder(manifest[::-1], SPEC))
    names.add(cache.folder(manifest[:149], SPEC))
    names.add(cache.folder(manifest.assign(clip_id=manifest["clip_id"] + "x"), SPEC))
    monkeypatch.setattr(cache, "code_version", lambda: b"another version")
    names.add(cache.folder(manifest, SPEC))
    assert len(names) == 6


def test_code_version_follows_the_source(tmp_path):
    version = fingerprint.code_version.__wrapped__
    here = Path(fingerprint.__file__).parent
    for source in here.glob("*.py"):
        shutil.copy(source, tmp_path)
    assert version(tmp_path) == version(here)
    for module in ("audio.py", "features.py", "gammatone.py"):
        content = (here / module).read_bytes()
        (tmp_path / module).write_bytes(content.replace(b"\n", b"\r\n"))
        assert version(tmp_path) == version(here)  # a checkout on Windows is the same code
        (tmp_path / module).write_bytes(content + b"\n_NEW = 1\n")
        assert version(tmp_path) != version(here)
        (tmp_path / module).write_bytes(content)


@pytest.mark.parametrize("break_it", [lambda path: os.remove(path), lambda path: open(path, "wb").close()])
def test_bad_file_is_named_and_what_was_finished_stays(manifest, tmp_path, computed, break_it):
    path = manifest["path"][140]
    good = open(path, "rb").read()
    break_it(path)
    with pytest.raises(AudioError, match="140.wav"):
        cache.of(manifest, SPEC, tmp_path / "cache", n_jobs=1)
    open(path, "wb").write(good)
    computed.clear()
    array = cache.of(manifest, SPEC, tmp_path / "cache")
    assert sorted(computed) == [f"{i:03d}.wav" for i in range(128, 150)]
    np.testing.assert_allclose(array, direct(manifest), atol=1e-4)


def test_recording_removed_later(manifest, tmp_path):
    cache.of(manifest, SPEC, tmp_path / "cache")
    os.remove(manifest["path"][0])
    with pytest.raises(AudioError, match="000.wav does not exist"):
        cache.of(manifest, SPEC, tmp_path / "cache")


def _interrupted(manifest, cache_dir, monkeypatch):
    """A cache whose first two shards are finished and whose third is not."""
    read = audio.read

    def failing_read(path, *args, **kwargs):
        if path.name == "149.wav":
            raise KeyboardInterrupt
        return read(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(cache.audio, "read", failing_read)
        with pytest.raises(KeyboardInterrupt):
            cache.of(manifest, SPEC, cache_dir, n_jobs=1)
    return cache.folder(manifest, SPEC, cache_dir) / "partial"


def test_interrupted_work_is_resumed(manifest, tmp_path, computed, monkeypatch):
    partial = _interrupted(manifest, tmp_path / "cache", monkeypatch)
    assert len(list(partial.glob("*.json"))) == 2
    computed.clear()
    array = cache.of(manifest, SPEC, tmp_path / "cache")
    assert len(computed) == 22
    np.testing.assert_allclose(array, direct(manifest), atol=1e-4)


def test_file_changed_between_interruption_and_resumption(manifest, tmp_path, computed, monkeypatch):
    _interrupted(manifest, tmp_path / "cache", monkeypatch)
    write_clip(manifest["path"][1], seed=999, seconds=0.105)
    computed.clear()
    array = cache.of(manifest, SPEC, tmp_path / "cache")
    assert len(computed) == 64 + 22
    np.testing.assert_allclose(array, direct(manifest), atol=1e-4)


def _lose_rows(partial):
    with open(partial / "array.npy", "rb+") as file:  # the index reached the disk, the rows did not
        file.seek(-1000 - 150 * 4 * int(np.prod(SPEC.shape)) // 2, os.SEEK_END)
        file.write(bytes(1000))


def _cut_array(partial):
    os.truncate(partial / "array.npy", 1000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda partial: (partial / "00001.json").write_text(""),
        lambda partial: (partial / "00000.json").write_text(json.dumps({"clips": []})),
        lambda partial: (partial / "00000.json").write_text("[]"),
        _cut_array,
        lambda partial: os.remove(partial / "array.npy"),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_power_failure(manifest, tmp_path, monkeypatch, damage, finished):
    """Whatever a crashed machine leaves in a cache folder, the rows given out are right."""
    where = _interrupted(manifest, tmp_path / "cache", monkeypatch)
    if finished:
        cache.of(manifest, SPEC, tmp_path / "cache")
        where = where.with_name("1")
    damage(where)
    np.testing.assert_allclose(cache.of(manifest, SPEC, tmp_path / "cache"), direct(manifest), atol=1e-4)


def test_power_failure_that_lost_rows(manifest, tmp_path, monkeypatch):
    """Before it gets its name a finished array is flushed to disk; an unfinished one is checked when it is resumed."""
    _lose_rows(_interrupted(manifest, tmp_path / "cache", monkeypatch))
    np.testing.assert_allclose(cache.of(manifest, SPEC, tmp_path / "cache"), direct(manifest), atol=1e-4)


def test_two_processes_at_once(manifest, tmp_path):
    manifest.to_pickle(tmp_path / "manifest.pkl")
    code = (
        "import sys, pandas as pd; from helpers import cache; from helpers.features import FeatureSpec\n"
        f"spec = {SPEC!r}\n"
        "array = cache.of(pd.read_pickle(sys.argv[1]), spec, sys.argv[2])\n"
        "print(float(array.sum(dtype=float)))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "manifest.pkl"), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum("150 clips computed" in output for output in outputs) == 1
    assert sum("150 clips from cache" in output for output in outputs) == 2
    expected = direct(manifest).sum(dtype=float)
    for output in outputs:
        assert float(output.splitlines()[-1]) == pytest.approx(expected, rel=1e-6)


def test_no_clips(tmp_path):
    with pytest.raises(CourseError, match="no clips"):
        cache.of(pd.DataFrame({"clip_id": [], "path": []}), SPEC, tmp_path)


def test_killed_at_random_moments(tmp_path):
    result = kill_resume.run(tmp_path, n_kills=20, seed=0)
    assert result.kills >= 20
    assert result.mid_computation >= 15
    assert result.identical
