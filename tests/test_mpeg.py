"""MP3s without a length: all that was written is heard, and what cannot be known is said."""

from unittest import mock

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from helpers import audio, base
from helpers.data import _validate as validate
from helpers.data.audit import audit

# An encoder's own delay and its last frame, filled up: what an MP3 is longer than what was written.
PADDING = 3 * 1152
CLICK = 0.1
ID3 = b"ID3\x03\0\0\0\0\x01\x05" + bytes(128 + 5)


def frame_size(header):
    """Size of a frame by ISO/IEC 11172-3, 2.4.2.3 and 13818-3, 2.4.2.3."""
    mpeg_1 = header[1] & 0x08
    if mpeg_1:
        kbits = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]
    else:
        kbits = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
    sr = [44100, 48000, 32000][header[2] >> 2 & 3] // (1 if mpeg_1 else 2 if header[1] & 0x10 else 4)
    return (144 if mpeg_1 else 72) * kbits[header[2] >> 4] * 1000 // sr + (header[2] >> 1 & 1)


def write(path, seconds=4.0, sr=44100, channels=1, mode="CONSTANT", loud="first"):
    """Write an MP3 of noise with a click shortly before its end; give its first frame, the others and n samples."""
    n = int(seconds * sr)
    y = 0.05 * np.random.default_rng(0).standard_normal((n, channels))
    y[n // 2 :] *= 0.001 if loud == "first" else 1
    y[: n // 2] *= 0.001 if loud == "last" else 1
    y[n - int(CLICK * sr)] = 0.9
    sf.write(path, y, sr, format="MP3", bitrate_mode=mode, compression_level=0.4)
    content = path.read_bytes()
    size = frame_size(content)
    assert b"Xing" in content[:size] or b"Info" in content[:size]
    path.write_bytes(content[size:])
    return content[:size], content[size:], n


def judge(path, tmp_path):
    with mock.patch.object(base, "CACHE", tmp_path / "cache"):
        manifest = validate(pd.DataFrame({"clip_id": ["a"], "path": [str(path)], "label": ["x"]}))
        usable, quarantine, remarks = audit(manifest)
    assert len(usable) + len(quarantine) == 1
    return list(usable["duration"]), list(quarantine["reason"]), [r for r in remarks["reason"] if r != "stereo"]


@pytest.mark.parametrize(("sr", "channels"), [(44100, 1), (48000, 2), (22050, 2), (24000, 1), (8000, 1)])
@pytest.mark.parametrize(("mode", "loud"), [("CONSTANT", "first"), ("VARIABLE", "first"), ("VARIABLE", "last")])
def test_all_that_was_written_is_heard(tmp_path, sr, channels, mode, loud):
    """And where libsndfile would have stopped early, it is said that nothing tells the length."""
    _, _, n = write(tmp_path / "a.mp3", 4.0, sr, channels, mode, loud)
    (duration,), reasons, remarks = judge(tmp_path / "a.mp3", tmp_path)
    assert reasons == [] and n - 1152 <= round(duration * sr) <= n + PADDING
    y, _ = audio.read(tmp_path / "a.mp3")
    assert len(y) == round(duration * sr)
    click = n - int(CLICK * sr)
    assert abs(np.abs(y[-sr // 2 :]).argmax() + len(y) - sr // 2 - click) <= 1152
    if len(sf.read(tmp_path / "a.mp3")[0]) < n - PADDING:
        assert "open-ended header" in remarks


@pytest.mark.parametrize("before", [b"", ID3])
def test_with_a_length_it_is_left_to_libsndfile(tmp_path, before):
    first, others, n = write(tmp_path / "a.mp3", channels=2, mode="VARIABLE")
    (tmp_path / "a.mp3").write_bytes(before + first + others)
    with audio.opened(tmp_path / "a.mp3") as recording:
        y = recording.read(2 * n)
    assert y.shape == (n, 2) and not recording.facts["open_ended"]
    np.testing.assert_array_equal(y, sf.read(tmp_path / "a.mp3", dtype="float32")[0])


def test_damage_behind_a_length(tmp_path):
    first, others, _ = write(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").write_bytes(first + b"\x11" * 3000 + others[3000:])
    assert judge(tmp_path / "a.mp3", tmp_path)[1] == ["truncated"]
