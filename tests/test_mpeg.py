"""MP3s without a length: all that was written is heard, and what cannot be known is said."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from helpers import audio, mpeg, recordings
from helpers.base import AudioError
from helpers.data.audit import audit
from helpers.data.manifest import validate
from helpers.probe import probe

# An encoder's own delay and its last frame, filled up: what an MP3 is longer than what was written.
PADDING = 3 * 1152
CLICK = 0.1


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
    manifest = validate(pd.DataFrame({"clip_id": ["a"], "path": [str(path)], "label": ["x"]}))
    usable, quarantine, remarks = audit(manifest, progress=False, cache_dir=tmp_path / "cache")
    assert len(usable) + len(quarantine) == 1
    return list(usable["duration"]), list(quarantine["reason"]), [r for r in remarks["reason"] if r != "stereo"]


def check_all_is_heard(path, tmp_path, sr, n):
    (duration,), reasons, remarks = judge(path, tmp_path)
    assert reasons == [] and set(remarks) <= {"low sample rate", "very long"}
    assert n <= round(duration * sr) <= n + PADDING
    assert probe(path, check_samples=False)["duration"] == duration
    y, _ = audio.read(path)
    assert len(y) == round(duration * sr)
    click = n - int(CLICK * sr)
    assert click <= np.abs(y[-sr // 2 :]).argmax() + len(y) - sr // 2 <= click + 1152
    part, _ = audio.read(path, offset=n / sr - 0.5, seconds=0.4)
    start = round((n / sr - 0.5) * sr)
    np.testing.assert_allclose(part, y[start : start + len(part)], atol=1e-6)


@pytest.mark.parametrize(("sr", "channels"), [(44100, 1), (48000, 2), (22050, 2), (24000, 1), (8000, 1)])
@pytest.mark.parametrize(("mode", "loud"), [("CONSTANT", "first"), ("VARIABLE", "first"), ("VARIABLE", "last")])
def test_all_that_was_written_is_heard(tmp_path, sr, channels, mode, loud):
    _, _, n = write(tmp_path / "a.mp3", 4.0, sr, channels, mode, loud)
    check_all_is_heard(tmp_path / "a.mp3", tmp_path, sr, n)


def test_a_long_one_of_constant_bit_rate(tmp_path):
    _, _, n = write(tmp_path / "a.mp3", 150, 22050)
    check_all_is_heard(tmp_path / "a.mp3", tmp_path, 22050, n)


def test_one_with_a_length_is_left_to_libsndfile(tmp_path):
    first, others, n = write(tmp_path / "a.mp3", channels=2, mode="VARIABLE")
    (tmp_path / "a.mp3").write_bytes(first + others)
    with mpeg.opened(tmp_path / "a.mp3") as (sound, doubt):
        y = sound.read()
    assert doubt == "" and y.shape == (n, 2)
    np.testing.assert_array_equal(y, sf.read(tmp_path / "a.mp3")[0])


def test_damage_behind_a_length(tmp_path):
    first, others, _ = write(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").write_bytes(first + b"\x11" * 3000 + others[3000:])
    assert judge(tmp_path / "a.mp3", tmp_path)[1] == ["truncated"]


ID3 = b"ID3\x03\0\0\0\0\x01\x05" + bytes(128 + 5)


@pytest.mark.parametrize(
    ("before", "after"),
    [(ID3, b""), (ID3 + ID3, b""), (b"", b"TAG".ljust(128, b"x")), (ID3, b"APETAGEX" + bytes(99)), (b"", bytes(200))],
    ids=["id3", "two tags", "id3v1", "ape", "zeros"],
)
def test_tags_are_no_sound(tmp_path, before, after):
    _, content, n = write(tmp_path / "a.mp3", mode="VARIABLE")
    (tmp_path / "a.mp3").write_bytes(before + content + after)
    check_all_is_heard(tmp_path / "a.mp3", tmp_path, 44100, n)


@pytest.mark.parametrize("kind", [b"VBRI", b"Xing"])
def test_a_first_frame_from_which_the_length_cannot_be_read(tmp_path, kind):
    """VBRI, which libsndfile does not know, and Xing without the number of frames."""
    first, content, n = write(tmp_path / "a.mp3", channels=2, mode="VARIABLE")
    first = (first[:4] + bytes(32) + kind).ljust(len(first), b"\0")
    (tmp_path / "a.mp3").write_bytes(first + content)
    check_all_is_heard(tmp_path / "a.mp3", tmp_path, 44100, n)


def test_a_gap_between_frames(tmp_path):
    _, content, n = write(tmp_path / "a.mp3", mode="VARIABLE")
    at = 0
    while at < len(content) // 3:
        at += frame_size(content[at:])
    (tmp_path / "a.mp3").write_bytes(content[:at] + b"\xff\x11" * 150 + content[at:])
    check_all_is_heard(tmp_path / "a.mp3", tmp_path, 44100, n)


@pytest.mark.parametrize("missing", [1, 50, "all but 3"])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_a_cut_in_a_frame(tmp_path, mode, missing):
    _, content, _ = write(tmp_path / "a.mp3", mode=mode)
    at = 0
    while at + frame_size(content[at:]) < len(content):
        at += frame_size(content[at:])
    (tmp_path / "a.mp3").write_bytes(content[: at + 3] if missing == "all but 3" else content[:-missing])
    assert judge(tmp_path / "a.mp3", tmp_path) == ([], ["truncated"], [])
    assert probe(tmp_path / "a.mp3", check_samples=False)["reason"] == "truncated"
    with pytest.raises(AudioError, match="last frame is cut"):
        audio.read(tmp_path / "a.mp3", seconds=0.1)


def check_the_doubt_is_told(path, tmp_path):
    _, reasons, remarks = judge(path, tmp_path)
    assert reasons == [] and "open-ended header" in remarks
    flags = recordings.flags(probe(path), 44100, 1.0, 2, 0)
    assert len(flags) == 1 and flags[0].startswith("length unknown")
    assert len(audio.read(path)[0]) > 0


@pytest.mark.parametrize("after", [b"something else " * 20, bytes(50_000)], ids=["text", "never filled"])
def test_what_follows_is_no_mp3(tmp_path, after):
    _, content, n = write(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").write_bytes(content + after)
    check_the_doubt_is_told(tmp_path / "a.mp3", tmp_path)
    assert n <= len(audio.read(tmp_path / "a.mp3")[0]) <= n + PADDING


@pytest.mark.parametrize("kbits", [[8] * 4000, [3] * 300 + [12] * 300, [12] * 300 + [3] * 300])
def test_layer_2_has_no_length(tmp_path, kbits):
    """Frames of layer II that allocate no bits, at 44,100 Hz: the longer the frames, the fewer libsndfile guesses."""
    rates = {3: 56, 8: 128, 12: 256}
    frames = [bytes([0xFF, 0xFD, k << 4, 0xC0]).ljust(144_000 * rates[k] // 44_100, b"\0") for k in kbits]
    (tmp_path / "a.mp3").write_bytes(b"".join(frames))
    facts = probe(tmp_path / "a.mp3")
    assert facts["reason"] is None and facts["open_ended"] and facts["peak"] == 0
    assert any(flag.startswith("length unknown") for flag in recordings.flags(facts, 44100, 1.0, 2, 0))
