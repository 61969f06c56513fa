"""The audit, on files made faulty one by one."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import trees

from helpers import audio, base
from helpers.data import _validate as validate
from helpers.data.audit import audit


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Audit files and give usable, quarantine and remarks, with the last two by clip."""

    monkeypatch.setattr(base, "CACHE", tmp_path / "cache")

    def run(paths, labels=None):
        rows = {"clip_id": [os.path.basename(p) for p in paths], "path": [str(p) for p in paths]}
        manifest = validate(pd.DataFrame(rows).assign(label=labels or ["x"] * len(paths)))
        usable, quarantine, remarks = audit(manifest)
        # Nothing is lost and nothing is counted twice.
        assert sorted([*usable["clip_id"], *quarantine["clip_id"]]) == sorted(manifest["clip_id"])
        assert list(quarantine.columns) == list(remarks.columns) == ["clip_id", "path", "reason", "detail", "advice"]
        for table in (quarantine, remarks):
            assert table["detail"].str.len().gt(0).all() and table["advice"].str.len().gt(10).all()
        return usable, quarantine.set_index("clip_id"), remarks.set_index("clip_id")

    return run


def _cut(path, share=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def _noise(path, sr=22050, seconds=3.0, **options):
    rng = np.random.default_rng(0)
    soundfile.write(path, 0.2 * rng.standard_normal(int(sr * seconds)), sr, **options)
    return path


def test_a_good_clip(tmp_path, check):
    usable, quarantine, remarks = check([trees.tone(tmp_path / "a.wav", seconds=0.5, sr=16000, level=0.5)])
    assert len(quarantine) == len(remarks) == 0
    row = usable.iloc[0]
    assert (row["duration"], row["sr"], row["channels"]) == (0.5, 16000, 1)
    # A sine of amplitude 0.5 peaks at -6.02 dB and has an RMS 3.01 dB below.
    assert row["peak_db"] == pytest.approx(-6.02, abs=0.02)
    assert row["rms_db"] == pytest.approx(-9.03, abs=0.02)


def test_what_is_no_recording(tmp_path, check):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not a sound\n" * 20)
    (tmp_path / "page.mp3").write_text("<!DOCTYPE html><title>404</title>" * 20)
    (tmp_path / "bytes.wav").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "folder.wav").mkdir()
    header = trees.tone(tmp_path / "header.wav").read_bytes()[:44]
    (tmp_path / "header.wav").write_bytes(header)
    (tmp_path / "stub.wav").write_bytes(header[:20])
    names = ["empty.wav", "text.wav", "page.mp3", "bytes.wav", "folder.wav", "header.wav", "stub.wav", "gone.wav"]
    usable, quarantine, _ = check([tmp_path / name for name in names])
    assert len(usable) == 0
    reasons = ["empty", "not audio", "not audio", "not audio", "missing", "header only", "header only", "missing"]
    assert quarantine["reason"].to_dict() == dict(zip(names, reasons, strict=True))
    assert "this is not a sound" in quarantine.loc["text.wav", "detail"]


@pytest.mark.parametrize("share", [0.9, 0.5, 0.05])
@pytest.mark.parametrize(
    "name", ["a.wav", "a.aiff", "a.ogg", "a.flac", "a.mp3", "a.opus", "a.au", "a.w64", "a.rf64", "a.caf"]
)
def test_cut_files(tmp_path, check, name, share):
    options = {"format": "OGG", "subtype": "OPUS", "sr": 48000} if name == "a.opus" else {}
    path = _noise(tmp_path / name, **options)
    usable, _, _ = check([path])
    assert len(usable) == 1 and usable["duration"][0] == pytest.approx(3.0, abs=0.01)
    _, quarantine, _ = check([_cut(path, share)])
    assert quarantine["reason"].tolist() == ["truncated"]


def test_ogg_cut_between_two_pages(tmp_path, check):
    path = _noise(tmp_path / "a.ogg", seconds=20)
    content = path.read_bytes()
    path.write_bytes(content[: content.rfind(b"OggS")])
    _, quarantine, _ = check([path])
    assert quarantine.loc["a.ogg", ["reason", "detail"]].tolist() == [
        "truncated",
        "the stream ends without an end mark",
    ]


def test_wav_with_other_chunks(tmp_path, check):
    """A chunk before the samples, of odd length, and one after them are no damage."""
    plain = trees.tone(tmp_path / "a.wav").read_bytes()
    extra = b"LIST" + (3).to_bytes(4, "little") + b"abc\0"
    content = plain[:36] + extra + plain[36:] + b"LIST" + (2).to_bytes(4, "little") + b"ab"
    (tmp_path / "a.wav").write_bytes(plain[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    usable, _, remarks = check([tmp_path / "a.wav"])
    assert len(usable) == 1 and usable["duration"][0] == pytest.approx(0.3)
    assert "truncated" not in set(remarks["reason"])


def test_wav_from_a_pipe_does_not_know_its_length(tmp_path, check):
    content = bytearray(trees.tone(tmp_path / "a.wav", sr=16000).read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    usable, _, remarks = check([tmp_path / "a.wav"])
    assert usable["duration"].tolist() == [pytest.approx(0.3)]
    assert remarks["reason"].tolist() == ["open-ended header"]


def test_silent_short_and_unlabelled(tmp_path, check):
    soundfile.write(tmp_path / "zeros.wav", np.zeros(16000), 16000)
    trees.tone(tmp_path / "whisper.wav", sr=16000, level=0.00005)
    trees.tone(tmp_path / "quiet.wav", sr=16000, level=0.01)
    trees.tone(tmp_path / "click.wav", sr=16000, seconds=0.05)
    trees.tone(tmp_path / "whose.wav", sr=16000)
    names = ["zeros.wav", "whisper.wav", "quiet.wav", "click.wav", "whose.wav", "lost.wav"]
    paths, labels = [tmp_path / name for name in names], ["x"] * 4 + [None, None]
    usable, quarantine, _ = check(paths, labels)
    assert usable["clip_id"].tolist() == ["quiet.wav"]
    reasons = ["silent", "silent", "too short", "no label", "missing"]
    assert quarantine["reason"].to_dict() == dict(zip([n for n in names if n != "quiet.wav"], reasons, strict=True))


def test_samples_that_are_no_numbers(tmp_path, check):
    y = np.ones(8000, dtype=np.float32)
    y[500] = np.nan
    soundfile.write(tmp_path / "a.wav", y, 16000, subtype="FLOAT")
    _, quarantine, _ = check([tmp_path / "a.wav"])
    assert quarantine["reason"].tolist() == ["not audio"] and "NaN" in quarantine["detail"].iloc[0]


def test_remarks(tmp_path, check):
    t = np.arange(16000) / 16000
    soundfile.write(tmp_path / "clipped.wav", np.clip(3 * np.sin(2000 * t), -1, 1), 16000)
    trees.tone(tmp_path / "full.wav", sr=16000, level=0.99, f=441)
    trees.tone(tmp_path / "stereo.wav", sr=16000, channels=2)
    trees.tone(tmp_path / "low.wav", sr=8000)
    trees.tone(tmp_path / "long.wav", sr=16000, seconds=31)
    trees.tone(tmp_path / "twin.wav", sr=16000, seconds=31)
    names = ["clipped.wav", "full.wav", "stereo.wav", "low.wav", "long.wav", "twin.wav"]
    usable, quarantine, remarks = check([tmp_path / name for name in names], list("abcdef"))
    assert len(usable) == 6 and len(quarantine) == 0
    found = remarks.groupby(level=0)["reason"].apply(list).to_dict()
    assert found == {
        "clipped.wav": ["clipped"],
        "stereo.wav": ["stereo"],
        "low.wav": ["low sample rate"],
        "long.wav": ["very long"],
        "twin.wav": ["very long", "duplicate content"],
    }
    detail = remarks[remarks["reason"] == "duplicate content"]["detail"].iloc[0]
    assert detail == "same samples as long.wav, which has label e"


@pytest.fixture
def read_paths(monkeypatch):
    """Record which files are really read."""
    seen = []

    def spy(path):
        seen.append(os.path.basename(path))
        return probe(path)

    probe = audio.probe
    monkeypatch.setattr(audio, "probe", spy)
    return seen


def test_only_changed_files_are_read_again(tmp_path, check, read_paths):
    paths = [trees.tone(tmp_path / f"{n}.wav", f=300 + n) for n in range(4)]
    first = check(paths)
    assert sorted(read_paths) == ["0.wav", "1.wav", "2.wav", "3.wav"]
    again = check(paths)
    assert len(read_paths) == 4
    assert all(one.equals(other) for one, other in zip(first, again, strict=True))
    # Same length and same time of modification, other content: the time of change tells.
    state = paths[1].stat()
    trees.tone(paths[1], f=777)
    os.utime(paths[1], ns=(state.st_atime_ns, state.st_mtime_ns))
    paths[2].unlink()
    _, quarantine, _ = check(paths)
    assert sorted(read_paths[4:]) == ["1.wav", "2.wav"]
    assert quarantine["reason"].to_dict() == {"2.wav": "missing"}


def test_an_interrupted_audit_goes_on_where_it_stopped(tmp_path, check, read_paths, monkeypatch):
    monkeypatch.setattr(sys.modules["helpers.data.audit"], "_CHUNK", 2)
    paths = [trees.tone(tmp_path / f"{n}.wav", f=300 + n) for n in range(6)]
    spy = audio.probe

    def interrupted(path):
        if path.endswith("4.wav"):
            raise KeyboardInterrupt
        return spy(path)

    monkeypatch.setattr(audio, "probe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(paths)
    monkeypatch.setattr(audio, "probe", spy)
    read_paths.clear()
    usable, _, _ = check(paths)
    assert len(usable) == 6
    assert set(read_paths) == {"4.wav", "5.wav"}


def test_a_damaged_cache_is_only_a_cache(tmp_path, check, read_paths):
    paths = [trees.tone(tmp_path / "a.wav")]
    check(paths)
    for store in (tmp_path / "cache" / "audit").iterdir():
        store.write_bytes(b"PAR1 no more")
    usable, _, _ = check(paths)
    assert len(usable) == 1 and len(read_paths) == 2


def test_an_empty_manifest(check):
    usable, quarantine, remarks = check([])
    assert len(usable) == len(quarantine) == len(remarks) == 0
