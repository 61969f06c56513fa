"""Denoising against signals whose noise and whose sound are known apart."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from helpers import audio
from helpers.features import FeatureSpec, extract
from helpers.features.bands import denoise

SR = 22050
BURST = slice(2 * SR, 3 * SR)
GAP = np.r_[int(0.2 * SR) : int(1.9 * SR), int(3.1 * SR) : int(4.8 * SR)]


def tone(sr=SR, seconds=5.0, hertz=1000.0):
    """A tone of 1 s in the middle of silence, its ends faded."""
    t = np.arange(int(seconds * sr)) / sr
    envelope = np.clip(50 * np.minimum(t - 2, 3 - t), 0, 1)
    return 0.3 * envelope * np.sin(2 * np.pi * hertz * t)


def noise(n, rms=0.03, seed=0):
    return rms * np.random.default_rng(seed).standard_normal(n)


def db(y):
    return 10 * np.log10(np.mean(np.square(y, dtype=np.float64)))


def test_noise_goes_and_the_tone_stays():
    sound = tone()
    noisy = (sound + noise(len(sound))).astype(np.float32)
    clean = denoise(noisy, SR)
    assert clean.shape == noisy.shape and clean.dtype == np.float32
    gap_before, gap_after = db(noisy[GAP]), db(clean[GAP])
    assert -21 < gap_after - gap_before < -15  # never more than the 20 dB promised, but for the spread of noise
    level = db(sound[BURST])
    assert abs(db(clean[BURST]) - level) < 1
    # Distance to the true sound, which we know here: what is left of the noise and what is lost of the tone.
    snr_before = level - db(noisy[BURST] - sound[BURST])
    snr_after = level - db(clean[BURST] - sound[BURST])
    assert snr_after > snr_before + 5
    assert db(clean - sound) < db(noisy - sound) - 8


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.0])
def test_a_long_sound_is_not_taken_for_noise(seconds):
    t = np.arange(5 * SR) / SR
    inside = np.abs(t - 2.5) < seconds / 2
    sound = inside * sum(0.1 / k * np.sin(2 * np.pi * 430 * k * t) for k in range(1, 8))
    clean = denoise((sound + noise(len(t), rms=0.03)).astype(np.float32), SR)
    assert abs(db(clean[inside]) - db(sound[inside])) < 2
    assert db(clean[~inside]) < -30.5 - 15


def test_steady_sounds_are_turned_down_but_keep_their_colour():
    rain = noise(5 * SR).astype(np.float32)
    ends = denoise(rain, SR)
    assert -21 < db(ends) - db(rain) < -15
    thirds = [db(part) for part in np.array_split(ends, 10)]
    assert max(thirds) - min(thirds) < 4  # neither faded nor louder at the ends
    spec = FeatureSpec()
    before, after = (extract(y, SR, spec).mean(axis=1) for y in (rain, ends))
    assert np.std(after - before) < 1.5


def test_half_a_clip_of_zeros_is_not_the_noise():
    """Padding as in published datasets: gating with the whole clip as its profile mutes the sound."""
    noisy = tone(seconds=3.2) + noise(int(3.2 * SR))
    padded = np.pad(noisy, (0, 4 * SR)).astype(np.float32)
    clean = denoise(padded, SR)
    assert abs(db(clean[BURST]) - db(tone()[BURST])) < 1
    assert db(clean[: int(1.9 * SR)]) < db(noisy[: int(1.9 * SR)]) - 15
    assert not clean[int(3.3 * SR) :].any()  # a window later: silence to the last bit


@pytest.mark.parametrize("n", [1, 2, 300, 5000, 5 * SR])
def test_silence_stays_silence(n):
    clean = denoise(np.zeros(n, np.float32), SR)
    assert clean.shape == (n,) and clean.dtype == np.float32 and not clean.any()


@pytest.mark.parametrize("n", [1, 100, 1023, SR // 2])
def test_too_short_to_tell(n):
    y = noise(n).astype(np.float32)
    np.testing.assert_array_equal(denoise(y, SR), y)


AWKWARD = {
    "constant": np.full(5 * SR, 0.3),
    "full scale": np.sign(np.sin(np.arange(5 * SR) / 7)),
    "click": (np.arange(5 * SR) == 50000) * 1.0,
    "16-bit steps": np.round(noise(5 * SR, rms=1e-4) * 2**15) / 2**15,
    "a blip in silence": np.pad(noise(SR), (2 * SR, 2 * SR)),
    "shortest": noise(round(0.81 * SR)),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_clips(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = denoise(AWKWARD[name].astype(np.float32), SR)
    assert clean.shape == AWKWARD[name].shape and np.isfinite(clean).all()
    assert np.abs(clean).max() < 1.5 * np.abs(AWKWARD[name]).max()


@pytest.mark.parametrize("sr", [8000, 11025, 16000, 32000, 44100, 48000])
def test_any_sampling_rate(sr):
    sound = tone(sr)
    noisy = (sound + noise(len(sound))).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = denoise(noisy, sr)
    gap, burst = slice(int(0.2 * sr), int(1.9 * sr)), slice(2 * sr, 3 * sr)
    assert db(clean[gap]) < db(noisy[gap]) - 15
    assert abs(db(clean[burst]) - db(sound[burst])) < 1


def test_threads_change_nothing(capsys):
    clips = [(tone(hertz=300 * (1 + i)) + noise(5 * SR, seed=i)).astype(np.float32) for i in range(6)]
    serial = [denoise(y, SR) for y in clips]
    with ThreadPoolExecutor(2) as pool:
        for one, other in zip(serial, pool.map(lambda y: denoise(y, SR), clips), strict=True):
            np.testing.assert_array_equal(one, other)
    assert capsys.readouterr() == ("", "")


def test_features_of_a_spec_that_denoises():
    """Resampled and cut first, padded last: each step by hand."""
    y = (tone(44100) + noise(5 * 44100)).astype(np.float32)
    spec = FeatureSpec(seconds=4, denoise=True)
    by_hand = extract(denoise(audio.resample(y, 44100, SR)[: 4 * SR], SR), SR, FeatureSpec(seconds=4))
    np.testing.assert_array_equal(extract(y, 44100, spec), by_hand)
    padded = extract(y[: 3 * 44100], 44100, spec)
    by_hand = np.pad(denoise(audio.resample(y[: 3 * 44100], 44100, SR), SR), (0, SR))
    np.testing.assert_array_equal(padded, extract(by_hand, SR, FeatureSpec(seconds=4)))


def test_importing_features_does_not_load_the_library():
    code = "import sys, helpers.features; sys.exit('noisereduce' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
