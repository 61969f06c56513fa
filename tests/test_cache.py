"""The cache: right rows, never stale, resumed, shared between processes."""

import os
from dataclasses import replace
from multiprocessing import get_context

import kill_resume
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from helpers import __main__, audio
from helpers.base import AudioError, CourseError
from helpers.features import FeatureSpec, cache, extract

FRAMES = dict(sr=8000, seconds=0.5, n_fft=256, hop_length=128)
SPEC = FeatureSpec("logmel", n_mels=16, **FRAMES)
MFCC = FeatureSpec("mfcc", n_mels=16, n_mfcc=8, **FRAMES)
SHORT = FeatureSpec("waveform", sr=4000, seconds=0.25)


def write_clip(path, seed, seconds):
    sf.write(path, 0.3 * np.random.default_rng(seed).uniform(-1, 1, int(seconds * 8000)), 8000)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """However long it takes."""
    monkeypatch.setattr(cache, "_SECONDS_TO_START", float("inf"))


@pytest.fixture
def manifest(tmp_path):
    """150 clips (three blocks) of varying length."""
    paths = [str(tmp_path / f"{i:03d}.wav") for i in range(150)]
    for i, path in enumerate(paths):
        write_clip(path, i, 0.1 + 0.005 * i)
    return pd.DataFrame({"path": paths})


@pytest.fixture
def computed(monkeypatch):
    """Names of the files decoded, in order."""
    names, read = [], audio.read

    def counting_read(path, **how):
        names.append(os.path.basename(path))
        return read(path, **how)

    monkeypatch.setattr(audio, "read", counting_read)
    return names


def direct(manifest, spec=SPEC):
    return np.stack([extract(*audio.read(path, sr=spec.sr, seconds=spec.seconds), spec) for path in manifest["path"]])


def test_rows_belong_to_the_manifest_and_the_second_call_decodes_nothing(manifest, tmp_path, computed, capsys):
    array = cache.of(manifest, SPEC, tmp_path / "cache")
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert array.shape == (150, *SPEC.shape) and array.dtype == np.float32
    assert len(computed) == 150 and capsys.readouterr().out == "features logmel: 150 clips computed\n"
    again = cache.of(manifest, SPEC, tmp_path / "cache")
    assert len(computed) == 150 and capsys.readouterr().out == "features logmel: 150 clips from cache\n"
    for one in (array, again):
        np.testing.assert_array_equal(one, direct(manifest))


def test_a_recording_is_decoded_once_for_all_specs_that_are_missing(manifest, tmp_path, computed, capsys):
    cache.of(manifest, MFCC, tmp_path / "cache")
    computed.clear()
    specs = {"a": SPEC, "b": FeatureSpec("stft", **FRAMES), "a again": SPEC, "mfcc": MFCC, "short": SHORT}
    arrays = cache.of(manifest, specs, tmp_path / "cache")
    assert len(computed) == 2 * 150  # once for a and b, once at the other rate
    assert "features mfcc: 150 clips from cache" in capsys.readouterr().out
    for name, spec in specs.items():
        np.testing.assert_array_equal(arrays[name], direct(manifest, spec), err_msg=name)


def test_each_channel_has_an_array_of_its_own(tmp_path):
    y = np.random.default_rng(0).uniform(-0.5, 0.5, (SPEC.n_samples, 2)).astype(np.float32)
    sf.write(tmp_path / "a.wav", y, SPEC.sr, subtype="FLOAT")
    specs = {channel: replace(SPEC, channel=channel) for channel in ("mean", "left", "side")}
    arrays = cache.of(pd.DataFrame({"path": [str(tmp_path / "a.wav")]}), specs, tmp_path / "cache")
    heard = {"mean": y.mean(axis=1), "left": y[:, 0], "side": (y[:, 0] - y[:, 1]) / 2}
    for channel, samples in heard.items():
        np.testing.assert_allclose(arrays[channel][0], extract(samples, SPEC.sr, SPEC), atol=1e-3)


@pytest.mark.parametrize("what", ["content", "clips", "code"])
def test_whatever_changes_is_computed_anew_and_readers_keep_what_they_have(manifest, tmp_path, monkeypatch, what):
    before = cache.of(manifest, SPEC, tmp_path / "cache")
    copy = np.array(before)
    if what == "content":  # cp -p, rsync -t: size and time of change as before
        status = os.stat(manifest["path"][3])
        write_clip(manifest["path"][3], seed=999, seconds=0.1 + 0.005 * 3)
        os.utime(manifest["path"][3], ns=(status.st_atime_ns, status.st_mtime_ns))
    elif what == "clips":
        manifest = manifest[::-1]
    else:
        monkeypatch.setattr(cache, "CODE", "another version")
    np.testing.assert_array_equal(cache.of(manifest, SPEC, tmp_path / "cache"), direct(manifest))
    np.testing.assert_array_equal(before, copy)
    assert len(cache.folders(tmp_path / "cache")) == 2


def test_other_processes_give_the_same_bytes_or_the_same_error(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_SECONDS_TO_START", 0)
    monkeypatch.setattr(cache, "_BLOCK", 16)
    one, two = (cache.of(manifest, {"a": SPEC, "b": SHORT}, tmp_path / str(n), n_jobs=n) for n in (1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    open(manifest["path"][140], "wb").close()
    with pytest.raises(AudioError, match="140.wav: empty"):
        cache.of(manifest, SPEC, tmp_path / "2", n_jobs=2)
    monkeypatch.setattr(cache, "CODE", "as it was before somebody edited it")
    with pytest.raises(CourseError, match="restart the kernel"):
        cache.of(manifest[:100], SPEC, tmp_path / "2", n_jobs=2)


def interrupted(manifest, cache_dir, monkeypatch, error=KeyboardInterrupt):
    """Folder of an array whose first two blocks are finished and whose third is not."""
    read = audio.read

    def failing_read(path, **how):
        if path.endswith("149.wav"):
            raise error
        return read(path, **how)

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(audio, "read", failing_read)
        cache.of(manifest, SPEC, cache_dir, n_jobs=1)
    return next(cache_dir.glob("*/partial.npy")).parent


@pytest.mark.parametrize("error", [KeyboardInterrupt, AudioError])
def test_interrupted_work_is_resumed(manifest, tmp_path, computed, monkeypatch, error, capsys):
    interrupted(manifest, tmp_path / "cache", monkeypatch, error)
    computed.clear()
    array = cache.of(manifest, SPEC, tmp_path / "cache", n_jobs=1)
    assert computed == [f"{i:03d}.wav" for i in range(128, 150)]
    assert capsys.readouterr().out == "features logmel: 22 clips computed, 128 clips from cache\n"
    np.testing.assert_array_equal(array, direct(manifest))


@pytest.mark.parametrize("damage", ["checksum", "rows", "length", "array", "finished"])
def test_whatever_a_crashed_machine_leaves_the_rows_are_right(manifest, tmp_path, monkeypatch, damage):
    folder = interrupted(manifest, tmp_path / "cache", monkeypatch)
    if damage == "checksum":
        (folder / "done" / "64").write_text("")
    elif damage == "rows":  # the checksum reached the disk, the rows did not
        np.load(folder / "partial.npy", mmap_mode="r+")[5] = 0
    elif damage == "length":
        os.truncate(folder / "partial.npy", 1000)
    elif damage == "array":
        (folder / "partial.npy").unlink()
    else:
        cache.of(manifest, SPEC, tmp_path / "cache")
        os.truncate(folder / "array.npy", 1000)
    np.testing.assert_array_equal(cache.of(manifest, SPEC, tmp_path / "cache"), direct(manifest))


def test_what_cannot_be_computed_is_told(manifest, tmp_path):
    with pytest.raises(CourseError, match="no clips"):
        cache.of(manifest[:0], SPEC, tmp_path / "cache")
    cache.of(manifest[:2], SPEC, tmp_path / "cache")
    os.remove(manifest["path"][0])
    with pytest.raises(AudioError, match="000.wav does not exist"):
        cache.of(manifest[:2], SPEC, tmp_path / "cache")


def compute_and_compare(barrier, manifest, cache_dir):
    barrier.wait(timeout=60)
    np.testing.assert_array_equal(cache.of(manifest, SPEC, cache_dir, n_jobs=1), direct(manifest))


def test_of_two_processes_at_once_one_computes_and_both_are_right(manifest, tmp_path, capfd):
    spawn = get_context("spawn")
    arguments = spawn.Barrier(2), manifest, tmp_path / "cache"
    processes = [spawn.Process(target=compute_and_compare, args=arguments, daemon=True) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0]
    said = capfd.readouterr().out
    assert said.count("150 clips computed") == said.count("150 clips from cache") == 1


def test_who_waits_says_so(manifest, tmp_path, monkeypatch, capsys):
    folder = interrupted(manifest, tmp_path / "cache", monkeypatch)
    lock = cache.FileLock(folder / "lock")
    lock.acquire()
    monkeypatch.setattr(cache, "print", lambda *text: (print(*text), lock.release()), raising=False)
    cache.of(manifest, SPEC, tmp_path / "cache")
    assert capsys.readouterr().out.startswith(f"Another process is computing {folder.name}; waiting for it.\n")


def test_what_other_code_made_is_listed_and_pruned(manifest, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "CACHE", tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "CODE", "older")
        cache.of(manifest[:3], SPEC, tmp_path / "cache")
    cache.of(manifest[:2], SPEC, tmp_path / "cache")
    for name in ("pretrained", "audit", "mfcc-0123456789abcdef"):  # the last by the course as it was before
        (tmp_path / "cache" / name).mkdir()
        (tmp_path / "cache" / name / "file").write_bytes(bytes(2_000_000))
    assert __main__.main(["cache"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("other code") == 2 and listed.count("this code") == 1
    assert "3 folders of features, 2.0 MB" in listed
    assert __main__.main(["cache", "--prune"]) == 0
    assert "2 folders of features, 2.0 MB, removed." in capsys.readouterr().out
    assert cache.folders(tmp_path / "cache")["clips"].tolist() == [2]
    assert all((tmp_path / "cache" / name / "file").exists() for name in ("pretrained", "audit"))


@pytest.mark.parametrize(("n_jobs", "n_kills", "at_work"), [(1, 20, 15), (2, 2, 1)])
def test_killed_at_random_moments(tmp_path, n_jobs, n_kills, at_work):
    result = kill_resume.run(tmp_path, n_kills, n_jobs=n_jobs)
    assert result.kills >= n_kills and result.mid_computation >= at_work
    assert result.identical
