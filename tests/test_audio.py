"""Reading recordings: right values, and a clear word for everything that can be wrong with a file."""

import shutil
import struct
import subprocess
import sys

import mutate
import numpy as np
import pytest
import soundfile as sf
import soxr
import trees

from helpers import audio, base
from helpers.audio import convert, headers
from helpers.base import AudioError
from helpers.data.audit import ADVICE


def noise(seconds=1.0, sr=44100, channels=1, seed=0):
    shape = (int(seconds * sr),) if channels == 1 else (int(seconds * sr), channels)
    return np.clip(0.1 * np.random.default_rng(seed).standard_normal(shape), -0.99, 0.99)


# ---- values -----------------------------------------------------------------------------------------------------


TOLERANCE = {"PCM_16": 4e-5, "PCM_24": 1e-6, "FLOAT": 1e-7, "PCM_U8": 0.01}


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [("wav", subtype) for subtype in TOLERANCE]
    + [(suffix, "PCM_16") for suffix in ("flac", "aiff", "w64", "rf64")]
    + [("ogg", "VORBIS"), ("mp3", "MPEG_LAYER_III")],
)
def test_formats(tmp_path, suffix, subtype):
    expected = noise(0.7)
    sf.write(tmp_path / f"a.{suffix}", expected, 44100, subtype=subtype)
    y, sr = audio.read(tmp_path / f"a.{suffix}")
    assert sr == 44100 and y.dtype == np.float32 and y.ndim == 1
    if subtype in TOLERANCE:
        np.testing.assert_allclose(y, expected, atol=TOLERANCE[subtype])
    else:
        assert abs(len(y) - len(expected)) <= 2 * 1152


def test_channels_are_averaged(tmp_path):
    y = noise(channels=2)
    sf.write(tmp_path / "a.wav", y, 44100, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav")[0], y.mean(axis=1), atol=1e-7)


@pytest.mark.parametrize("channels", [1, 2])
def test_one_ear_or_what_differs_between_the_two(tmp_path, channels):
    y = noise(channels=channels)
    sf.write(tmp_path / "a.wav", y, 44100, subtype="FLOAT")
    left, right = (y[:, 0], y[:, 1]) if channels == 2 else (y, y)
    for channel, expected in {"left": left, "right": right, "side": 0.5 * left - 0.5 * right}.items():
        np.testing.assert_allclose(audio.read(tmp_path / "a.wav", channel=channel)[0], expected, atol=1e-7)


@pytest.mark.parametrize("file_sr", [8000, 16000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(tmp_path, file_sr):
    t = np.arange(2 * file_sr) / file_sr
    sf.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * t), file_sr, subtype="FLOAT")
    y, sr = audio.read(tmp_path / "a.wav", sr=22050)
    assert sr == 22050 and len(y) == 44100
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(44100) / 22050)
    np.testing.assert_allclose(y[2000:-2000], expected[2000:-2000], atol=2e-4)


@pytest.mark.parametrize("file_sr", [8000, 44100, 48000])
def test_the_start_of_a_long_clip_is_what_the_whole_would_give(tmp_path, file_sr):
    sf.write(tmp_path / "a.wav", noise(4, file_sr), file_sr)
    whole, _ = audio.read(tmp_path / "a.wav", sr=22050)
    start, _ = audio.read(tmp_path / "a.wav", sr=22050, seconds=1.5)
    assert len(start) == round(1.5 * 22050)
    np.testing.assert_allclose(start, whole[: len(start)], atol=1e-6)


def test_the_start_is_decoded_and_resampled_with_what_follows_and_nothing_else(tmp_path):
    """To the last bit: features of a clip must not depend on how it came to be read."""
    sf.write(tmp_path / "a.wav", noise(2, 44100), 44100)
    decoded, _ = sf.read(tmp_path / "a.wav", frames=int(np.ceil(0.8 * 44100)), dtype="float32")
    expected = soxr.resample(decoded, 44100, 16000, quality="HQ")[:11200]
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", sr=16000, seconds=0.7)[0], expected)


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
    assert audio.play(noise(0.1).astype(np.float32), 44100).data[:4] == b"RIFF"


# ---- faults -----------------------------------------------------------------------------------------------------


def nan(path):
    sf.write(path, np.array([0.1, np.nan, 0.2]), 44100, subtype="FLOAT")


@pytest.mark.parametrize(
    ("name", "make", "reason", "detail"),
    [
        ("a.wav", lambda path: None, "missing", ""),
        ("a.wav", lambda path: path.mkdir(), "missing", ""),
        ("a.wav", lambda path: path.write_bytes(b""), "empty", ""),
        ("a.wav", lambda path: path.write_text("This is no recording.\n" * 50), "not audio", "This is no recording"),
        ("a.mp3", lambda path: path.write_text("<!DOCTYPE html>" * 50), "not audio", "text"),
        ("a.wav", lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "not audio", "no known"),
        ("a.raw", lambda path: path.write_bytes(bytes(1000)), "not audio", "without a header"),
        ("a.wav", nan, "not audio", "NaN"),
        ("a.wav", lambda path: sf.write(path, np.zeros(0), 44100), "header only", "no samples"),
        ("a.wav", lambda path: path.write_bytes(b"RIFF\0\0\0\0WAVE"), "header only", "incomplete"),
        ("a.wav", lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0"), "header only", "incomplete"),
    ],
)
def test_unusable_files_are_named_with_the_cause(tmp_path, name, make, reason, detail):
    make(tmp_path / name)
    with pytest.raises(AudioError, match="audit") as caught:
        audio.read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    for facts in (vars(caught.value), audio.probe(tmp_path / name)):
        assert facts["reason"] == reason and detail in facts["detail"] and facts["detail"]


@pytest.mark.parametrize("suffix", "wav aiff ogg flac mp3 opus au w64 rf64 caf".split())
def test_files_that_were_cut(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    sr, options = (48000, {"format": "OGG", "subtype": "OPUS"}) if suffix == "opus" else (22050, {})
    sf.write(path, noise(3, sr), sr, **options)
    content, facts = path.read_bytes(), audio.probe(path)
    assert facts["reason"] is None and facts["duration"] == pytest.approx(3, abs=0.01)
    for share in (0.9, 0.5, 0.05):
        path.write_bytes(content[: int(len(content) * share)])
        assert audio.probe(path)["reason"] == "truncated", share
        with pytest.raises(AudioError, match="truncated"):
            audio.read(path)


def test_files_that_lack_their_last_samples_or_their_last_page(tmp_path):
    for name, last in (("a.wav", lambda content: len(content) - 4), ("a.ogg", lambda content: content.rfind(b"OggS"))):
        sf.write(tmp_path / name, noise(20), 44100)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: last(content)])
        with pytest.raises(AudioError, match="truncated"):
            audio.read(tmp_path / name, seconds=0.2)


def test_wav_of_unknown_length_is_not_called_truncated(tmp_path):
    """A program that writes to a pipe leaves the largest number as length."""
    sf.write(tmp_path / "a.wav", noise(), 44100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    data = content.index(b"data")
    content[4:8] = content[data + 4 : data + 8] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert len(audio.read(tmp_path / "a.wav")[0]) == 44100
    assert audio.probe(tmp_path / "a.wav")["open_ended"]


def flac(path, bits=None, total=None):
    """A FLAC of 0.6 s whose first block of metadata says other bits per sample, or another number of samples."""
    content = bytearray(trees.tone(path, seconds=0.6, sr=16000).read_bytes())
    if bits:  # behind 20 bits of the rate and 3 of the channels: 5 bits, less one
        content[20], content[21] = content[20] & 0xFE | (bits - 1) >> 4, content[21] & 0x0F | (bits - 1 & 15) << 4
    if total is not None:  # 36 bits
        content[21:26] = (content[21] >> 4 << 36 | total).to_bytes(5, "big")
    path.write_bytes(content)
    return path


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    """As an encoder leaves it that writes to a pipe."""
    path = flac(tmp_path / "piped.flac", total=0)
    whole, _ = audio.read(flac(tmp_path / "whole.flac"))
    assert len(whole) == 9600 and np.array_equal(audio.read(path)[0], whole)
    assert np.array_equal(audio.read(path, seconds=0.25)[0], whole[:4000])
    facts = audio.probe(path)
    assert (facts["reason"], facts["duration"], facts["open_ended"]) == (None, 0.6, True)
    with audio.opened(path) as recording:
        assert [end for _, end, _ in audio.windows(recording, 16000, 0.25, 0.125)] == [0.25, 0.375, 0.5, 0.6]


def wav(tag, bits, content=bytes(400)):
    """A WAV in a codec of this number."""
    layout = struct.pack("<HHIIHH", tag, 1, 8000, 8000, 1, bits)
    return b"RIFF" + struct.pack("<I", 36 + len(content)) + b"WAVEfmt \x10\0\0\0" + layout + b"data" + content


@pytest.mark.parametrize(
    ("name", "content", "codec"),
    [
        ("a.m4a", b"\0\0\0\x20ftypM4A " + bytes(400), "MPEG-4"),
        ("a.webm", b"\x1aE\xdf\xa3" + bytes(400), "WebM"),
        ("a.wma", bytes.fromhex("3026b2758e66cf11a6d9") + bytes(400), "Windows Media"),
        ("a.amr", b"#!AMR\n" + bytes(400), "AMR"),
        ("a.aac", b"\xff\xf1\x60\x40" + bytes(400), "AAC"),
        ("a.oga", b"OggS" + bytes(24) + b"\x7fFLAC" + bytes(400), "FLAC in Ogg"),
        ("a.spx", b"OggS" + bytes(24) + b"Speex   " + bytes(400), "Speex in Ogg"),
        ("a.caf", b"caff\0\1\0\0desc" + bytes(16) + b"paac" + bytes(400), "paac in CAF"),
        ("a.wav", wav(0x45, 4), "G.726 in WAV"),
        ("b.wav", wav(0x50, 16), "MPEG layer II in WAV"),
        ("c.wav", wav(1, 64), "64-bit samples in WAV"),
        ("e.wav", wav(0xFFFE, 64, bytes(4) + b"\1\0" + bytes(400)), "64-bit samples in WAV"),
        ("a.ac3", b"\x0b\x77" + bytes(400), "AC-3"),
        ("d.wav", wav(0x1234, 16), "codec 0x1234 in WAV"),
        ("a.flac", 12, "FLAC of 12 bits"),
        ("b.flac", 32, "FLAC of 32 bits"),
    ],
)
def test_a_codec_that_cannot_be_decoded_is_named(tmp_path, name, content, codec):
    if isinstance(content, int):
        flac(tmp_path / name, bits=content)
    else:
        (tmp_path / name).write_bytes(content)
    facts = audio.probe(tmp_path / name)
    assert facts["reason"] == "unknown codec" and facts["detail"].startswith(codec)


STAND_IN = """#!{python}
import struct, sys
if sys.argv[sys.argv.index("-i") + 1].endswith("hopeless.m4a"):
    sys.exit("[mov @ 0x5581] moov atom not found")
out = sys.stdout.buffer
out.write(b".snd" + struct.pack(">5I", 28, 0xFFFFFFFF, 6, 8000, 2) + bytes(4))
out.write(struct.pack(">16000f", *[0.25, 0.75] * 8000))
out.flush()
if sys.argv[sys.argv.index("-i") + 1].endswith("cut.m4a"):
    print("[mov @ 0x5581] stream 0: partial file", file=sys.stderr)
"""


def test_what_ffmpeg_decodes_is_heard_and_what_it_says_is_told(tmp_path, monkeypatch):
    """By a program that answers as ffmpeg does; a test below asks ffmpeg itself, where it is installed."""
    (tmp_path / "ffmpeg").write_text(STAND_IN.format(python=sys.executable))
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setattr(convert, "ffmpeg", lambda: str(tmp_path / "ffmpeg"))
    for name in ("phone", "cut", "hopeless"):
        (tmp_path / f"{name}.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(400))
    y, sr = audio.read(tmp_path / "phone.m4a")
    assert sr == 8000 and y.tolist() == [0.5] * 8000
    facts = audio.probe(tmp_path / "phone.m4a")
    assert (facts["reason"], facts["duration"], facts["channels"], facts["open_ended"]) == (None, 1.0, 2, False)
    assert facts["converted"].startswith("MPEG-4")
    assert audio.read(tmp_path / "phone.m4a", seconds=0.25)[0].tolist() == [0.5] * 2000  # and the program is ended
    facts = audio.probe(tmp_path / "cut.m4a")
    assert (facts["reason"], facts["detail"]) == ("truncated", "decodes to 1.00 s (stream 0: partial file)")
    facts = audio.probe(tmp_path / "hopeless.m4a")
    assert facts["reason"] == "truncated" and facts["detail"].endswith("ffmpeg says: moov atom not found")


def ffmpeg(*arguments):
    return subprocess.run(
        [shutil.which("ffmpeg"), "-v", "error", "-y", *map(str, arguments)], check=True, stdout=-1
    ).stdout


needs_ffmpeg = pytest.mark.skipif(not shutil.which("ffmpeg"), reason="install ffmpeg to hear what it decodes")


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "how"),
    [
        *((f"a.{suffix}", "") for suffix in "m4a aac wma ac3 voc".split()),
        *(("a.webm", f"-c:a {codec}") for codec in ("libopus", "libvorbis")),
        *(("a.wav", f"-c:a {codec}") for codec in ("mp2", "pcm_s64le", "g726 -ar 8000")),
        *(("a.caf", f"-c:a {codec}") for codec in ("alac", "adpcm_ima_qt")),
        ("a.oga", "-c:a flac"),
    ],
)
def test_a_clip_read_through_ffmpeg_has_its_samples(tmp_path, monkeypatch, name, how):
    monkeypatch.setattr(convert, "ffmpeg", lambda: shutil.which("ffmpeg"))
    sf.write(tmp_path / "source.wav", noise(2, 16000), 16000)
    ffmpeg("-i", tmp_path / "source.wav", "-ac", 1, *how.split(), tmp_path / name)
    expected = np.frombuffer(ffmpeg("-i", tmp_path / name, "-f", "f32le", "-"), np.float32)
    y, _ = audio.read(tmp_path / name)
    assert np.array_equal(y, expected) and len(y) > 15_000
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    facts = audio.probe(tmp_path / name)
    assert facts["reason"] == "truncated" or name == "a.ac3"  # of which nothing tells the length


@needs_ffmpeg
@pytest.mark.parametrize("suffix", "caf wav flac".split())
def test_what_ffmpeg_writes_to_a_pipe_is_read_to_its_end(tmp_path, suffix):
    sf.write(tmp_path / "source.wav", noise(2, 16000), 16000, subtype="PCM_16")
    (tmp_path / f"piped.{suffix}").write_bytes(ffmpeg("-i", tmp_path / "source.wav", "-f", suffix, "-"))
    expected, _ = audio.read(tmp_path / "source.wav")
    assert np.array_equal(audio.read(tmp_path / f"piped.{suffix}")[0], expected)


@needs_ffmpeg
def test_the_command_that_the_audit_names_repairs_a_header(tmp_path):
    expected = noise(1, 16000)
    sf.write(tmp_path / "OLD", expected, 16000, format="WAV")
    content = bytearray((tmp_path / "OLD").read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    (tmp_path / "OLD").write_bytes(content)
    facts = audio.probe(tmp_path / "OLD")
    assert facts["reason"] == "unfinished header"
    command = ADVICE[facts["reason"]].partition("ffmpeg ")[2].split()
    ffmpeg(*(tmp_path / word if word in ("OLD", "NEW.wav") else word for word in command))
    np.testing.assert_allclose(audio.read(tmp_path / "NEW.wav")[0], expected, atol=4e-5)


def caf(path, told=None, keep=1.0):
    """A CAF of 0.5 s whose chunk of samples tells another size, or that is cut."""
    sf.write(path, noise(0.5, 16000), 16000, format="CAF", subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    if told is not None:
        content[at : at + 8] = told.to_bytes(8, "big", signed=True)
    path.write_bytes(content[: int(keep * len(content))])
    return path


def test_caf_from_a_pipe_is_read_and_a_cut_one_says_how_much_is_there(tmp_path):
    whole, _ = audio.read(caf(tmp_path / "whole.caf"))
    assert len(whole) == 8000
    assert np.array_equal(audio.read(caf(tmp_path / "piped.caf", told=-1))[0], whole)
    facts = audio.probe(caf(tmp_path / "cut.caf", keep=0.6))
    assert facts["reason"] == "truncated" and "bytes are there (" in facts["detail"]


def test_words_in_the_tags_of_a_caf_are_no_samples(tmp_path):
    content = caf(tmp_path / "a.caf").read_bytes()
    at = content.index(b"data")
    tag = b"\0\0\0\1about\0data, all of it\0"
    (tmp_path / "a.caf").write_bytes(content[:at] + b"info" + len(tag).to_bytes(8, "big") + tag + content[at:])
    facts = audio.probe(tmp_path / "a.caf")
    assert (facts["reason"], facts["duration"]) == (None, 0.5)


def test_flac_that_goes_on_behind_its_announced_end_is_read_whole(tmp_path):
    whole, _ = audio.read(flac(tmp_path / "whole.flac"))
    few = flac(tmp_path / "few.flac", total=4000)
    assert np.array_equal(audio.read(few)[0], whole) and audio.probe(few)["open_ended"]
    assert not audio.probe(tmp_path / "whole.flac")["open_ended"]
    # Written with blocks of other sizes, and long: the number of a block takes up to three bytes.
    for level in (0.0, 0.5, 1.0):
        sf.write(tmp_path / "long.flac", noise(60, 44100), 44100, compression_level=level)
        n = headers._samples_of_flac(
            tmp_path / "long.flac", int.from_bytes((tmp_path / "long.flac").read_bytes()[8:10], "big")
        )
        assert 60 * 44100 - 5000 < n < 60 * 44100
    assert not audio.probe(tmp_path / "long.flac")["open_ended"]


def test_damage_behind_the_end_is_none(tmp_path):
    path = flac(tmp_path / "a.flac")
    whole, _ = audio.read(path)
    path.write_bytes(path.read_bytes() + bytes(range(256)) * 8)
    facts = audio.probe(path)
    assert (facts["reason"], facts["duration"]) == (None, 0.6) and np.array_equal(audio.read(path)[0], whole)


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
def test_a_cut_voc_is_noticed_and_one_of_several_segments_is_not_read_as_one(tmp_path, subtype):
    sf.write(tmp_path / "a.voc", noise(1, 16000), 16000, subtype=subtype)
    whole = (tmp_path / "a.voc").read_bytes()
    assert audio.probe(tmp_path / "a.voc")["duration"] == pytest.approx(1, abs=1e-3)
    (tmp_path / "cut.voc").write_bytes(whole[: len(whole) // 2])
    assert audio.probe(tmp_path / "cut.voc")["reason"] == "truncated"
    (tmp_path / "two.voc").write_bytes(whole[:-1] + b"\x02\x64\0\0" + bytes(100) + b"\0")
    facts = audio.probe(tmp_path / "two.voc")
    assert facts["reason"] == "unknown codec" and "VOC in several segments" in facts["detail"]


@pytest.mark.parametrize("seconds", [2.5, 2.9, 2.99])
def test_the_last_page_of_a_vorbis_file_holds_what_the_whole_holds(tmp_path, seconds):
    sf.write(tmp_path / "a.ogg", noise(3, 44100), 44100)
    whole, _ = audio.read(tmp_path / "a.ogg")
    assert np.array_equal(audio.read(tmp_path / "a.ogg", seconds=seconds)[0], whole[: round(seconds * 44100)])


@pytest.mark.parametrize("sr", [1, 100, 3_000_000_000])
def test_a_sampling_rate_that_nothing_has_is_damage(tmp_path, sr):
    sf.write(tmp_path / "a.wav", noise(0.1), 44100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[24:28] = sr.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert audio.probe(tmp_path / "a.wav")["reason"] == "not audio"


def test_chunks_around_the_samples_are_no_damage(tmp_path):
    sf.write(tmp_path / "a.wav", noise(), 44100)
    content = (tmp_path / "a.wav").read_bytes()
    data = content.index(b"data")
    extra = b"LIST" + (5).to_bytes(4, "little") + b"INFO!" + b"\0"  # of odd length, filled up
    tagged = content[:data] + extra + content[data:] + extra
    for size in (content[4:8], (len(tagged) - 8).to_bytes(4, "little")):
        (tmp_path / "a.wav").write_bytes(content[:4] + size + tagged[8:])
        assert len(audio.read(tmp_path / "a.wav")[0]) == 44100
    (tmp_path / "a.wav").write_bytes(tagged[: -len(extra) - 10])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(tmp_path / "a.wav")


# ---- MP3s without a length: all that was written is heard, and what cannot be known is said ------------------------

# An encoder's own delay and its last frame, filled up: what an MP3 is longer than what was written.
PADDING = 3 * 1152
CLICK = 0.1
ID3 = b"ID3\x03\0\0\0\0\x01\x05" + bytes(128 + 5)


def mp3(path, sr=44100, channels=1, mode="CONSTANT", loud="first"):
    """Write an MP3 without its first frame, which says its length; give that frame, the others and n samples.

    It holds 4 s of noise, louder in the first or the last half, with a click shortly before the end.
    """
    n = 4 * sr
    y = 0.05 * np.random.default_rng(0).standard_normal((n, channels))
    y[n // 2 :] *= 0.001 if loud == "first" else 1
    y[: n // 2] *= 0.001 if loud == "last" else 1
    y[n - int(CLICK * sr)] = 0.9
    sf.write(path, y, sr, format="MP3", bitrate_mode=mode, compression_level=0.4)
    content = path.read_bytes()
    size = content.index(content[:2], 4)  # where the second frame begins, with the same two bytes
    assert b"Xing" in content[:size] or b"Info" in content[:size]
    path.write_bytes(content[size:])
    return content[:size], content[size:], n


@pytest.mark.parametrize(("sr", "channels"), [(44100, 1), (48000, 2), (22050, 2), (24000, 1), (8000, 1)])
@pytest.mark.parametrize(("mode", "loud"), [("CONSTANT", "first"), ("VARIABLE", "first"), ("VARIABLE", "last")])
def test_all_of_an_mp3_is_heard(tmp_path, sr, channels, mode, loud):
    """And where libsndfile would have stopped early, it is said that nothing tells the length."""
    _, _, n = mp3(tmp_path / "a.mp3", sr, channels, mode, loud)
    y, _ = audio.read(tmp_path / "a.mp3")
    facts = audio.probe(tmp_path / "a.mp3")
    assert facts["reason"] is None and len(y) == round(facts["duration"] * sr)
    assert n - 1152 <= len(y) <= n + PADDING
    click = n - int(CLICK * sr)
    assert abs(np.abs(y[-sr // 2 :]).argmax() + len(y) - sr // 2 - click) <= 1152
    assert facts["open_ended"] or len(sf.read(tmp_path / "a.mp3")[0]) >= n - PADDING


def test_windows_of_an_mp3_without_length_are_pieces_of_what_is_read(tmp_path):
    mp3(tmp_path / "a.mp3", mode="VARIABLE", loud="last")
    y, sr = audio.read(tmp_path / "a.mp3")
    with audio.opened(tmp_path / "a.mp3") as recording:
        assert recording.facts["open_ended"]
        found = list(audio.windows(recording, sr, 0.5, 0.25))
    assert found[-1][1] == len(y) / sr and len(found) == np.ceil((len(y) / sr - 0.5) / 0.25) + 1
    for start, end, window in found:
        np.testing.assert_array_equal(window, y[round(start * sr) : round(end * sr)])


@pytest.mark.parametrize("before", [b"", ID3])
def test_an_mp3_with_a_length_is_left_to_libsndfile(tmp_path, before):
    first, others, n = mp3(tmp_path / "a.mp3", channels=2, mode="VARIABLE")
    (tmp_path / "a.mp3").write_bytes(before + first + others)
    with audio.opened(tmp_path / "a.mp3") as recording:
        y = np.concatenate([recording.read(10_000) for _ in range(0, n, 10_000)])
    assert y.shape == (n, 2) and not recording.facts["open_ended"]
    np.testing.assert_array_equal(y, sf.read(tmp_path / "a.mp3", dtype="float32")[0])


def test_damage_behind_the_length_of_an_mp3(tmp_path):
    first, others, _ = mp3(tmp_path / "a.mp3")
    (tmp_path / "a.mp3").write_bytes(first + b"\x11" * 3000 + others[3000:])
    assert audio.probe(tmp_path / "a.mp3")["reason"] == "truncated"


def test_damaged_recordings_are_usable_or_set_aside_with_a_reason(tmp_path, monkeypatch):
    """A few of those that `tests/mutate.py` makes without end."""
    monkeypatch.setattr(base, "CACHE", tmp_path / "cache")
    mutate.make(tmp_path, range(220), seed=1, through_ffmpeg=False)
    ended = mutate.check(tmp_path)
    assert ended.total() == 220 and min(ended["usable"], ended["truncated"], ended["not audio"]) > 5


def test_notes_of_decoders_do_not_reach_the_terminal(tmp_path, capfd):
    """mpg123 has something to say of every MP3 that lost a piece; through a bar of progress it would be noise."""
    sf.write(tmp_path / "a.mp3", noise(3), 44100)
    content = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content[:9000] + content[9777:])
    audio.probe(tmp_path / "a.mp3")
    assert capfd.readouterr().err == ""
    with sf.SoundFile(tmp_path / "a.mp3") as sound:
        sound.read()
    assert "resync" in capfd.readouterr().err  # it does speak
