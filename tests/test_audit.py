"""The audit, on files made faulty one by one; what ails a single file, test_audio asks."""

import os
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import trees

from helpers import audio, base, data


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Audit files and give usable, quarantine and remarks, with the last two by clip."""
    monkeypatch.setattr(base, "CACHE", tmp_path / "cache")

    def run(paths, labels=None):
        rows = {"clip_id": [os.path.basename(p) for p in paths], "path": [str(p) for p in paths]}
        manifest = data._validate(pd.DataFrame(rows).assign(label=labels or ["x"] * len(paths)))
        usable, quarantine, remarks = data.examine(manifest.set_axis(manifest.index + 7))  # as a part of a larger one
        # Nothing is lost and nothing is counted twice.
        assert sorted([*usable["clip_id"], *quarantine["clip_id"]]) == sorted(manifest["clip_id"])
        for table in (quarantine, remarks):
            assert list(table.columns) == ["clip_id", "path", "reason", "detail", "advice"]
            assert table["detail"].str.len().gt(0).all() and table["advice"].str.len().gt(10).all()
        return usable, quarantine.set_index("clip_id"), remarks.set_index("clip_id")

    return run


def test_a_good_clip(tmp_path, check):
    usable, quarantine, remarks = check([trees.tone(tmp_path / "a.wav", seconds=0.5, sr=16000, level=0.5)])
    assert len(quarantine) == len(remarks) == 0
    row = usable.iloc[0]
    assert (row["duration"], row["sr"], row["channels"]) == (0.5, 16000, 1)
    # A sine of amplitude 0.5 peaks at -6.02 dB and has an RMS 3.01 dB below.
    assert row["peak_db"] == pytest.approx(-6.02, abs=0.02)
    assert row["rms_db"] == pytest.approx(-9.03, abs=0.02)


def test_quarantine(tmp_path, check):
    soundfile.write(tmp_path / "zeros.wav", np.zeros(16000), 16000)
    trees.tone(tmp_path / "whisper.wav", sr=16000, level=0.00005)
    trees.tone(tmp_path / "quiet.wav", sr=16000, level=0.01)
    trees.tone(tmp_path / "click.wav", sr=16000, seconds=0.05)
    trees.tone(tmp_path / "whose.wav", sr=16000)
    content = trees.tone(tmp_path / "cut.wav", sr=16000).read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[:2000])
    (tmp_path / "text.wav").write_text("this is not a sound\n" * 20)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "header.wav").write_bytes(content[:44])
    (tmp_path / "power.wav").write_bytes(content[:4] + bytes(4) + content[8:40] + bytes(4) + content[44:])
    chunk = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0" + b"some software."
    (tmp_path / "notes.wav").write_bytes(content[:4] + bytes(4) + content[8:40] + bytes(4) + chunk)
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "against.wav", np.stack([noise, -noise], axis=1), 16000)
    soundfile.write(tmp_path / "dead.wav", np.full(8000, 0.3), 16000)
    soundfile.write(tmp_path / "huge.wav", np.append(noise, 3e20), 16000, subtype="FLOAT")
    expected = {
        "zeros.wav": "silent",
        "whisper.wav": "silent",
        "click.wav": "too short",
        "whose.wav": "no label",
        "lost.wav": "missing",  # labelled or not
        "cut.wav": "truncated",
        "text.wav": "not audio",
        "empty.wav": "empty",
        "header.wav": "header only",
        "notes.wav": "header only",
        "power.wav": "unfinished header",
        "against.wav": "silent",
        "dead.wav": "silent",
        "huge.wav": "not audio",
    }
    names = [*expected, "quiet.wav"]
    labels = [None if name in ("whose.wav", "lost.wav") else "x" for name in names]
    usable, quarantine, _ = check([tmp_path / name for name in names], labels)
    assert usable["clip_id"].tolist() == ["quiet.wav"]
    assert quarantine["reason"].to_dict() == expected
    # 0.00005 of full scale are 1.6 steps of 16 bits, cut to whole steps from -2 to 1: 1.5 steps from their mean.
    assert quarantine.loc[["click.wav", "whisper.wav"], "detail"].tolist() == ["0.050 s", "peak -87 dB"]
    assert f"{len(content) - 44:,} bytes" in quarantine.loc["power.wav", "detail"]
    assert "channels cancel" in quarantine.loc["against.wav", "detail"]
    assert "constant offset: +0.300" in quarantine.loc["dead.wav", "detail"]
    assert "3e+20" in quarantine.loc["huge.wav", "detail"]


def test_levels_are_those_of_what_is_heard(tmp_path, check):
    """The mean of the channels without its constant part; a sine of 0.5 has an RMS of 0.3536."""
    sine = 0.5 * np.sin(2 * np.pi * 500 * np.arange(16000) / 16000)
    sounds = {
        "shifted.wav": (sine + 0.25, "PCM_16"),
        "half.wav": (np.stack([sine, 0 * sine], axis=1), "PCM_16"),
        "against.wav": (np.stack([sine, -0.9 * sine], axis=1), "PCM_16"),
        "loud.wav": (4 * sine, "FLOAT"),
        "integers.wav": (65536 * sine, "FLOAT"),
        "24 in 32.wav": (sine / 256, "PCM_32"),
    }
    for name, (y, subtype) in sounds.items():
        soundfile.write(tmp_path / name, y, 16000, subtype=subtype)
    usable, _, remarks = check([tmp_path / name for name in sounds])
    level = usable.set_index("clip_id")[["peak_db", "rms_db"]]
    for name, factor in (("shifted.wav", 1), ("half.wav", 0.5), ("against.wav", 0.05), ("loud.wav", 4)):
        expected = 20 * np.log10([0.5 * factor, 0.3536 * factor])
        assert level.loc[name].to_numpy() == pytest.approx(expected, abs=0.05), name
    found = remarks[remarks["reason"] != "stereo"].groupby(level=0)["reason"].apply(list).to_dict()
    assert found == {
        "shifted.wav": ["constant offset"],
        "against.wav": ["channels cancel"],
        "loud.wav": ["beyond full scale"],
        "integers.wav": ["beyond full scale"],
        "24 in 32.wav": ["quiet"],
    }


def test_remarks(tmp_path, check):
    t = np.arange(16000) / 16000
    soundfile.write(tmp_path / "clipped.wav", np.clip(3 * np.sin(2000 * t), -1, 1), 16000)
    trees.tone(tmp_path / "full.wav", sr=16000, level=0.99, f=441)
    trees.tone(tmp_path / "stereo.wav", sr=16000, channels=2)
    trees.tone(tmp_path / "low.wav", sr=8000)
    trees.tone(tmp_path / "copy.wav", sr=8000)
    trees.tone(tmp_path / "long.wav", sr=16000, seconds=31)
    trees.tone(tmp_path / "twin.wav", sr=16000, seconds=31)
    content = bytearray(trees.tone(tmp_path / "piped.wav", sr=16000, f=500).read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(content)
    names = ["clipped.wav", "full.wav", "stereo.wav", "low.wav", "long.wav", "twin.wav", "piped.wav", "copy.wav"]
    usable, quarantine, remarks = check([tmp_path / name for name in names], list("abcdefgd"))
    assert len(usable) == 8 and len(quarantine) == 0
    assert remarks.groupby(level=0)["reason"].apply(list).to_dict() == {
        "clipped.wav": ["clipped"],
        "stereo.wav": ["stereo"],
        "low.wav": ["low sample rate"],
        "long.wav": ["very long"],
        "twin.wav": ["very long", "duplicate content"],
        "piped.wav": ["open-ended header"],
        "copy.wav": ["low sample rate", "duplicate content"],
    }
    details = remarks[remarks["reason"] == "duplicate content"]["detail"].tolist()
    assert details == ["same samples as long.wav, which has label e", "same samples as low.wav"]


@pytest.fixture
def read_paths(monkeypatch):
    """Record which files are really read."""
    seen, probe = [], audio.probe

    def spy(path):
        seen.append(os.path.basename(path))
        return probe(path)

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
    # What was remembered is only a cache; when it is damaged, all is read anew.
    for store in (tmp_path / "cache" / "audit").iterdir():
        store.write_bytes(b"PAR1 no more")
    assert len(check(paths)[0]) == 3 and len(read_paths) == 10


def test_an_interrupted_audit_goes_on_where_it_stopped(tmp_path, check, read_paths, monkeypatch):
    monkeypatch.setattr(sys.modules["helpers.data.audit"], "_CHUNK", 2)
    paths = [trees.tone(tmp_path / f"{n}.wav", f=300 + n) for n in range(6)]
    spy = audio.probe

    def interrupted(path):
        if path.endswith("4.wav"):
            raise KeyboardInterrupt
        return spy(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(audio, "probe", interrupted)
        check(paths)
    read_paths.clear()
    assert len(check(paths)[0]) == 6
    assert set(read_paths) == {"4.wav", "5.wav"}


def test_nothing_usable_is_said_with_its_reasons(check, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"")
    paths = [str(tmp_path / name) for name in ("a.wav", "b.wav", "gone.wav")]
    usable, quarantine, _ = check(paths)
    assert usable.empty and quarantine["reason"].tolist() == ["empty", "empty", "missing"]
    manifest = data._validate(pd.DataFrame({"clip_id": paths, "path": paths, "label": "x"}))
    with pytest.raises(base.CourseError, match=r"None of the 3 clips .*2 empty, such as .*a\.wav; 1 missing.*gone"):
        data.audit(manifest)
    with pytest.raises(base.CourseError, match="None of the 0 clips"):
        data.audit(manifest[:0])
