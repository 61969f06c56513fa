"""Feature values against librosa's own functions, and gammatone energies against filtering the samples themselves."""

import warnings

import librosa
import numpy as np
import pytest
import scipy.signal

from helpers.base import AudioError, CourseError
from helpers.features import KINDS, FeatureSpec, decibels, extract, power_spectrogram, scale
from helpers.features.gammatone import gammatone_bands

SR = 22050
TOLERANCE = 0.001  # dB


def signals(sr=SR):
    rng = np.random.default_rng(0)
    t = np.arange(5 * sr) / sr
    yield "noise", 0.2 * rng.standard_normal(len(t))
    yield "quiet noise", 1e-4 * rng.standard_normal(len(t))
    yield "loud sine", np.sin(2 * np.pi * 440 * t)
    yield "off-bin sine", 0.9 * np.sin(2 * np.pi * 1000.3 * t)
    yield "low sine", 0.5 * np.sin(2 * np.pi * 31 * t)
    yield "chirp", scipy.signal.chirp(t, 20, 5, sr / 2 - 100)
    yield "click", (np.arange(len(t)) == 5000) * 1.0
    yield "silence", np.zeros(len(t))
    yield "constant", np.full(len(t), 0.3)
    yield "short", 0.1 * rng.standard_normal(300)
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
    rows = {
        "mean": mfcc.mean(axis=1),
        "std": mfcc.std(axis=1),
        "min": mfcc.min(axis=1),
        "max": mfcc.max(axis=1),
        "delta_std": (mfcc[:, 1:] - mfcc[:, :-1]).std(axis=1),
    }
    return np.concatenate([rows[name] for name in spec.statistics])


SPECS = [
    FeatureSpec("logmel"),
    FeatureSpec("mfcc"),
    FeatureSpec("mean_mfcc"),
    FeatureSpec("mean_mfcc", statistics=("mean", "std", "min", "max", "delta_std")),
    FeatureSpec("mean_mfcc", n_mfcc=20, statistics=("delta_std", "max", "mean", "min", "std")),
    FeatureSpec("stft"),
    FeatureSpec("logmel", sr=16000, seconds=1, n_fft=512, hop_length=160, n_mels=40),
    FeatureSpec("mfcc", sr=8000, seconds=2.5, n_fft=1024, hop_length=333, n_mels=64, n_mfcc=13),
    FeatureSpec("stft", sr=44100, seconds=10, n_fft=4096, hop_length=1024),
    FeatureSpec("stft", sr=16000, seconds=1, n_fft=512, hop_length=128),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("name", "y"), list(signals()), ids=lambda value: value if isinstance(value, str) else "")
def test_equal_to_librosa(name, y, spec):
    y = y.astype(np.float32)
    ours = extract(y, spec.sr, spec)
    assert ours.shape == spec.shape and ours.dtype == np.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = librosa_features(y, spec)
    # A cepstral coefficient weighs n_mels decibels with a vector of length 1.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


def test_default_shapes():
    shapes = {kind: FeatureSpec(kind).shape for kind in KINDS if kind != "yamnet"}
    assert shapes == {
        "logmel": (128, 216),
        "mfcc": (32, 216),
        "mean_mfcc": (32,),
        "stft": (1025, 216),
        "gammatone": (128, 216),
        "waveform": (110_250,),
    }
    assert FeatureSpec("mean_mfcc", statistics=("mean", "std")).shape == (64,)


def test_other_sampling_rates_are_resampled_as_librosa_does():
    y = 0.1 * np.random.default_rng(1).standard_normal(44100 * 5).astype(np.float32)
    spec = FeatureSpec()
    expected = librosa_features(librosa.resample(y, orig_sr=44100, target_sr=SR), spec)
    np.testing.assert_allclose(extract(y, 44100, spec), expected, atol=TOLERANCE)


def centres(n_bands):
    """Centre frequencies evenly spaced on the ERB scale of Glasberg and Moore (1990), Hz."""
    erb = np.linspace(21.4 * np.log10(1 + 0.00437 * 50), 21.4 * np.log10(1 + 0.00437 * SR / 2), n_bands + 2)[1:-1]
    return (10 ** (erb / 21.4) - 1) / 0.00437


def test_gammatone_equals_filtering_the_samples():
    """Each band's energy beside that of the samples filtered by scipy in the time domain, on stationary noise."""
    spec = FeatureSpec("gammatone", n_mels=32)
    y = np.random.default_rng(2).standard_normal(5 * SR).astype(np.float32)
    mean_power = (gammatone_bands(SR, spec.n_fft, 32) @ power_spectrogram(y, spec.n_fft, spec.hop_length))[:, 4:-4]
    for band, centre in enumerate(centres(32)):
        b, _ = scipy.signal.gammatone(centre, "fir", numtaps=4096, fs=SR)
        filtered = scipy.signal.oaconvolve(y, b)[: len(y)][2048:-2048]
        difference = 10 * np.log10(mean_power[band].mean() / np.mean(filtered**2))
        assert abs(difference) < 0.3, f"band {band} at {centre:.0f} Hz is {difference:.2f} dB off"


@pytest.mark.parametrize("hz", [100.0, 440.0, 1000.0, 3000.0, 8000.0])
def test_gammatone_of_a_tone_peaks_in_its_band(hz):
    y = np.sin(2 * np.pi * hz * np.arange(5 * SR) / SR).astype(np.float32)
    bands = extract(y, SR, FeatureSpec("gammatone"))[:, 108]
    assert abs(bands.argmax() - np.abs(centres(128) - hz).argmin()) <= 1
    assert abs(bands.max() - 10 * np.log10(0.5)) < 0.7  # the mean power of a full-scale sine


def test_gammatone_tracks_the_filtered_signal_in_time():
    """Frame by frame beside direct filtering, on noise whose level jumps; the lowest bands are the coarsest."""
    t = np.arange(5 * SR) / SR
    y = (np.random.default_rng(3).standard_normal(len(t)) * (1.2 + scipy.signal.square(4 * np.pi * t))).astype("f4")
    n_fft, hop = 2048, 512
    ours = gammatone_bands(SR, n_fft, 16) @ power_spectrogram(y, n_fft, hop)
    window = scipy.signal.get_window("hann", n_fft) ** 2
    for band, centre in list(enumerate(centres(16)))[::3]:
        b, _ = scipy.signal.gammatone(centre, "fir", numtaps=4096, fs=SR)
        energy = np.pad(scipy.signal.oaconvolve(y, b)[: len(y)] ** 2, n_fft // 2)
        direct = np.lib.stride_tricks.sliding_window_view(energy, n_fft)[::hop] @ window / window.sum()
        error = np.abs(10 * np.log10(ours[band] / direct))[4:-4]
        typical, often = np.percentile(error, [50, 90])
        limits = (1.0, 3.0) if centre > 500 else (2.5, 8.0)
        assert typical < limits[0] and often < limits[1], f"{centre:.0f} Hz: {typical:.1f}, {often:.1f} dB"


def test_decibels_of_silence():
    np.testing.assert_allclose(decibels(np.zeros((3, 4), np.float32)), -100.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "mel"}, "no feature kind 'mel'"),
        ({"n_mels": 0}, "n_mels"),
        ({"n_mfcc": -1}, "n_mfcc"),
        ({"hop_length": 0}, "hop_length"),
        ({"sr": 22050.5}, "sr"),
        ({"n_fft": "2048"}, "n_fft"),
        ({"n_fft": 2047}, "even"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"kind": "mfcc", "n_mels": 20}, "n_mfcc"),
        ({"statistics": ("mean", "std")}, "statistics"),
        ({"kind": "mean_mfcc", "statistics": ("median",)}, "median"),
    ],
)
def test_impossible_specs(values, message):
    with pytest.raises(CourseError, match=message):
        FeatureSpec(**values)


def test_equal_specs_are_one():
    assert FeatureSpec(seconds=5, n_fft=np.int64(2048)) == FeatureSpec(seconds=5.0, n_fft=2048.0)
    assert repr(FeatureSpec(seconds=5, n_fft=np.int64(2048))) == repr(FeatureSpec())


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
