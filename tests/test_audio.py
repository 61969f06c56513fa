"""Reading recordings: right values, and a clear word for everything that can be wrong with a file."""

import numpy as np
import pytest
import soundfile as sf
import soxr

from helpers import audio
from helpers.base import AudioError


def noise(seconds=1.0, sr=44100, channels=1, seed=0):
    shape = (int(seconds * sr),) if channels == 1 else (int(seconds * sr), channels)
    return np.clip(0.1 * np.random.default_rng(seed).standard_normal(shape), -0.99, 0.99)


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_16", 4e-5),
        (".wav", "PCM_24", 1e-6),
        (".wav", "FLOAT", 1e-7),
        (".wav", "PCM_U8", 0.01),
        (".flac", "PCM_16", 4e-5),
        (".aiff", "PCM_16", 4e-5),
        (".w64", "PCM_16", 4e-5),
        (".rf64", "PCM_16", 4e-5),
        (".ogg", "VORBIS", None),
        (".mp3", "MPEG_LAYER_III", None),
    ],
)
def test_formats(tmp_path, suffix, subtype, tolerance):
    path = tmp_path / f"clip{suffix}"
    expected = noise(0.7)
    sf.write(path, expected, 44100, subtype=subtype)
    y, sr = audio.read(path)
    assert sr == 44100 and y.dtype == np.float32 and y.ndim == 1
    if tolerance:
        np.testing.assert_allclose(y, expected, atol=tolerance)
    else:
        assert abs(len(y) - len(expected)) <= 2 * 1152


def test_mix_and_channels(tmp_path):
    left, right = noise(seed=1), noise(seed=2)
    sf.write(tmp_path / "s.wav", np.stack([left, right], axis=1), 44100, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "s.wav")[0], (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("file_sr", [8000, 16000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(tmp_path, file_sr):
    t = np.arange(2 * file_sr) / file_sr
    sf.write(tmp_path / "t.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), file_sr, subtype="FLOAT")
    y, sr = audio.read(tmp_path / "t.wav", sr=22050)
    assert sr == 22050 and len(y) == 44100
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 22050)
    np.testing.assert_allclose(y[2000:-2000], expected[2000:-2000], atol=2e-4)


@pytest.mark.parametrize("file_sr", [8000, 44100, 48000])
def test_the_start_of_a_long_clip_is_what_the_whole_would_give(tmp_path, file_sr):
    sf.write(tmp_path / "long.wav", noise(4, file_sr), file_sr)
    whole, _ = audio.read(tmp_path / "long.wav", sr=22050)
    start, _ = audio.read(tmp_path / "long.wav", sr=22050, seconds=1.5)
    assert len(start) == round(1.5 * 22050)
    np.testing.assert_allclose(start, whole[: len(start)], atol=1e-6)


def test_the_start_is_decoded_and_resampled_with_what_follows_and_nothing_else(tmp_path):
    """To the last bit: features of a clip must not depend on how it came to be read."""
    sf.write(tmp_path / "a.wav", noise(2, 44100), 44100)
    decoded, _ = sf.read(tmp_path / "a.wav", frames=int(np.ceil(0.8 * 44100)), dtype="float32")
    expected = soxr.resample(decoded, 44100, 16000, quality="HQ")[:11200]
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", sr=16000, seconds=0.7)[0], expected)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated(tmp_path, suffix, share):
    path = tmp_path / f"clip{suffix}"
    sf.write(path, noise(5), 44100)
    audio.read(path)
    cut(path, share)
    with pytest.raises(AudioError, match="truncated") as caught:
        audio.read(path)
    assert str(path) in str(caught.value)


def test_last_samples_missing(tmp_path):
    sf.write(tmp_path / "a.wav", noise(), 44100)
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:-4])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(tmp_path / "a.wav", seconds=0.2)


def _write_header_only(path):
    sf.write(path, np.zeros(0), 44100)


def _write_nan(path):
    sf.write(path, np.array([0.1, np.nan, 0.2]), 44100, subtype="FLOAT")


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("missing", lambda path: None),
        ("empty", lambda path: path.write_bytes(b"")),
        ("not audio", lambda path: path.write_text("This is no recording, whatever its name says.\n" * 50)),
        ("header only", lambda path: path.write_bytes(b"RIFF\x00\x00\x00\x00WAVE")),
        ("missing", lambda path: path.mkdir()),
        ("not audio", lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000))),
        ("header only", _write_header_only),
        ("not audio", _write_nan),
    ],
)
def test_unusable_files_are_named_with_the_cause(tmp_path, reason, make):
    path = tmp_path / "clip.wav"
    make(path)
    with pytest.raises(AudioError) as caught:
        audio.read(path)
    assert caught.value.reason == reason
    assert str(path) in str(caught.value) and "audit" in str(caught.value)


def test_wav_of_unknown_length_is_not_called_truncated(tmp_path):
    """A program that writes to a pipe leaves the largest number as length."""
    path = tmp_path / "piped.wav"
    sf.write(path, noise(), 44100)
    content = bytearray(path.read_bytes())
    data = content.index(b"data")
    content[4:8] = content[data + 4 : data + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert len(audio.read(path)[0]) == 44100


def test_chunks_around_the_samples(tmp_path):
    path = tmp_path / "tagged.wav"
    sf.write(path, noise(), 44100)
    content = path.read_bytes()
    data = content.index(b"data")
    extra = b"LIST" + (5).to_bytes(4, "little") + b"INFO!" + b"\0"
    path.write_bytes(content[:data] + extra + content[data:] + extra)
    assert len(audio.read(path)[0]) == 44100
    path.write_bytes((content[:data] + extra + content[data:])[:-10])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(path)


def test_fix_length():
    np.testing.assert_array_equal(audio.fix_length(np.arange(3.0), 5), [0, 1, 2, 0, 0])
    np.testing.assert_array_equal(audio.fix_length(np.arange(5.0), 3), [0, 1, 2])
    assert audio.fix_length(np.zeros(4, np.float32), 9).dtype == np.float32


def test_play(tmp_path, monkeypatch, capsys):
    sf.write(tmp_path / "a.wav", noise(), 44100)
    monkeypatch.setenv("COURSE_BATCH", "1")
    assert audio.play(tmp_path / "a.wav") is None
    assert capsys.readouterr().out == "[audio: a.wav, 1.0 s at 44100 Hz]\n"
    monkeypatch.delenv("COURSE_BATCH")
    widget = audio.play(noise(0.1).astype(np.float32), 44100)
    assert widget.data[:4] == b"RIFF"


def test_raw_samples_are_no_traceback(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(AudioError, match="without a header"):
        audio.read(tmp_path / "a.raw")
    assert audio.probe(tmp_path / "a.raw")["reason"] == "not audio"
