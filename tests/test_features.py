"""Feature values against librosa's own functions, step by step, and what a spec refuses."""

import librosa
import numpy as np
import pytest
import scipy.signal

from helpers.base import AudioError, CourseError
from helpers.features import FeatureSpec, extract, scale

SR = 22050


def signals(sr=SR):
    rng = np.random.default_rng(0)
    t = np.arange(5 * sr) / sr
    yield "noise", 0.2 * rng.standard_normal(len(t))
    yield "quiet noise", 1e-4 * rng.standard_normal(len(t))
    yield "loud sine", np.sin(2 * np.pi * 440 * t)
    yield "off-bin sine", 0.9 * np.sin(2 * np.pi * 1000.3 * t)
    yield "chirp", scipy.signal.chirp(t, 20, 5, sr / 2 - 100)
    yield "click", (np.arange(len(t)) == 5000) * 1.0
    yield "silence", np.zeros(len(t))
    yield "constant", np.full(len(t), 0.3)
    yield "one sample", np.ones(1)
    yield "long", 0.1 * rng.standard_normal(9 * sr)


def librosa_features(y, spec):
    """The same by librosa alone, as its documentation does it."""
    y = librosa.util.fix_length(y, size=round(spec.seconds * spec.sr))
    frames = {"n_fft": spec.n_fft, "hop_length": spec.hop_length}
    if spec.kind == "stft":
        return librosa.power_to_db(np.abs(librosa.stft(y, **frames)) ** 2)
    if spec.kind == "logmel":
        return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=spec.sr, n_mels=spec.n_mels, **frames))
    mfcc = librosa.feature.mfcc(y=y, sr=spec.sr, n_mfcc=spec.n_mfcc, n_mels=spec.n_mels, **frames)
    if spec.kind == "mfcc":
        return mfcc
    rows = {name: getattr(mfcc, name)(axis=1) for name in ("mean", "std", "min", "max")}
    rows["delta_std"] = (mfcc[:, 1:] - mfcc[:, :-1]).std(axis=1)
    return np.concatenate([rows[name] for name in spec.statistics])


SPECS = [
    FeatureSpec("logmel"),
    FeatureSpec("mfcc"),
    FeatureSpec("mean_mfcc"),
    FeatureSpec("mean_mfcc", n_mfcc=20, statistics=("delta_std", "max", "mean", "min", "std")),
    FeatureSpec("stft"),
    FeatureSpec("logmel", sr=16000, seconds=1, n_fft=512, hop_length=160, n_mels=40),
    FeatureSpec("mfcc", sr=8000, seconds=2.5, n_fft=1024, hop_length=333, n_mels=64, n_mfcc=13),
    FeatureSpec("stft", sr=44100, seconds=10, n_fft=4096, hop_length=1024),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_equal_to_librosa(spec):
    for name, y in signals():
        y = y.astype(np.float32)
        ours = extract(y, spec.sr, spec)
        assert ours.shape == spec.shape and ours.dtype == np.float32
        # A cepstral coefficient weighs n_mels decibels with a vector of length 1.
        np.testing.assert_allclose(ours, librosa_features(y, spec), rtol=0, atol=0.001, err_msg=name)


def test_other_sampling_rates_are_resampled_as_librosa_does():
    y = 0.1 * np.random.default_rng(1).standard_normal(44100 * 5).astype(np.float32)
    spec = FeatureSpec()
    expected = librosa_features(librosa.resample(y, orig_sr=44100, target_sr=SR), spec)
    np.testing.assert_allclose(extract(y, 44100, spec), expected, atol=0.001)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("logmel", (128, 216)),
        ("mfcc", (32, 216)),
        ("mean_mfcc", (32,)),
        ("stft", (1025, 216)),
        ("waveform", (110_250,)),
    ],
)
def test_default_shapes_and_silence(kind, shape):
    assert FeatureSpec(kind).shape == extract(np.zeros(9, np.float32), SR, FeatureSpec(kind)).shape == shape
    if kind == "stft":
        np.testing.assert_allclose(extract(np.zeros(9, np.float32), SR, FeatureSpec(kind)), -100.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "mel"}, "no feature kind 'mel'"),
        ({"n_mels": 0}, "n_mels"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"kind": "mfcc", "n_mels": 20}, "n_mfcc"),
        ({"statistics": ("mean", "std")}, "statistics"),
        ({"kind": "mean_mfcc", "statistics": ("median",)}, "median"),
        ({"kind": "yamnet"}, "yamnet_spec"),
        ({"channel": "middle"}, "no channel 'middle'; choose one of mean, left, right, side"),
    ],
)
def test_impossible_specs(values, message):
    with pytest.raises(CourseError, match=message):
        FeatureSpec(**values)


def test_equal_specs_are_one():
    """However a parameters cell or a file of JSON writes their numbers."""
    spec = FeatureSpec("mean_mfcc", seconds=5, n_fft=np.int64(2048), n_mfcc=32.0, statistics=["mean", "std"], denoise=0)
    assert repr(spec) == repr(FeatureSpec("mean_mfcc", statistics=("mean", "std")))


def test_a_waveform_is_its_samples_resampled_and_brought_to_length():
    spec = FeatureSpec("waveform", sr=16_000, seconds=1.0)
    y = np.random.default_rng(0).uniform(-1, 1, 12_000).astype(np.float32)
    found = extract(y, 16_000, spec)
    assert found.dtype == np.float32 and spec.shape == found.shape == (16_000,)
    np.testing.assert_array_equal(found, np.concatenate([y, np.zeros(4_000, np.float32)]))
    np.testing.assert_array_equal(extract(np.tile(y, 2), 16_000, spec), np.tile(y, 2)[:16_000])
    expected = librosa.resample(np.tile(y, 5), orig_sr=44_100, target_sr=16_000)[:16_000]
    np.testing.assert_allclose(extract(np.tile(y, 5), 44_100, spec), expected, atol=1e-6)
    np.testing.assert_array_equal(scale(found, spec), found)


@pytest.mark.parametrize("y", [np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.nan])])
def test_bad_samples(y):
    with pytest.raises(AudioError):
        extract(y, SR, FeatureSpec())


@pytest.mark.parametrize("kind", ["logmel", "mfcc", "stft", "gammatone"])
def test_scale(kind):
    spec = FeatureSpec(kind)
    images = np.stack([extract(y.astype(np.float32), SR, spec) for _, y in signals()])
    before = images.copy()
    scaled = scale(images, spec)
    assert scaled.shape == images.shape and scaled.dtype == np.float32
    assert scaled.min() >= 0 and scaled.max() <= 1
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(scale(images[0], spec), scaled[0])  # no statistic of the batch enters
    assert scaled[0].std() > 0.01
    with pytest.raises(CourseError, match="standardise"):
        scale(images, FeatureSpec("mean_mfcc"))
