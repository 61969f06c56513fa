"""Gammatone bands beside samples filtered by SciPy, and tones of known power."""

import librosa
import numpy as np
import pytest
import scipy.signal

from helpers.features import FeatureSpec, extract
from helpers.features.bands import gammatone_bands

SR = 22050


def centres(n_bands):
    """Centre frequencies evenly spaced on the ERB scale of Glasberg and Moore (1990), Hz."""
    erb = np.linspace(21.4 * np.log10(1 + 0.00437 * 50), 21.4 * np.log10(1 + 0.00437 * SR / 2), n_bands + 2)[1:-1]
    return (10 ** (erb / 21.4) - 1) / 0.00437


def test_gammatone_equals_filtering_the_samples():
    y = np.random.default_rng(2).standard_normal(5 * SR).astype(np.float32)
    power = np.abs(librosa.stft(y, n_fft=2048, hop_length=512)) ** 2
    for found, centre in zip((gammatone_bands(SR, 2048, 32) @ power)[:, 4:-4].mean(axis=1), centres(32), strict=True):
        b, _ = scipy.signal.gammatone(centre, "fir", numtaps=4096, fs=SR)
        filtered = scipy.signal.oaconvolve(y, b)[: len(y)][2048:-2048]
        difference = 10 * np.log10(found / np.mean(filtered**2))
        assert abs(difference) < 0.3, f"the band at {centre:.0f} Hz is {difference:.2f} dB off"


@pytest.mark.parametrize("hz", [100.0, 1000.0, 8000.0])
def test_gammatone_of_a_tone_peaks_in_its_band(hz):
    y = np.sin(2 * np.pi * hz * np.arange(5 * SR) / SR).astype(np.float32)
    bands = extract(y, SR, FeatureSpec("gammatone"))[:, 108]
    assert abs(bands.argmax() - np.abs(centres(128) - hz).argmin()) <= 1
    assert abs(bands.max() - 10 * np.log10(0.5)) < 0.7  # the mean power of a full-scale sine


@pytest.mark.parametrize("n_bands", [32, 64, 128])
def test_the_level_of_every_band_is_the_documented_one(n_bands):
    bands, off = gammatone_bands(SR, 2048, n_bands), []
    for band, hz in zip(bands, centres(n_bands), strict=True):
        power = np.abs(librosa.stft(np.sin(2 * np.pi * hz * np.arange(SR) / SR), n_fft=2048)) ** 2
        off.append(10 * np.log10((band @ power)[4:-4].mean() / 0.5))
    low, high = centres(n_bands) < 200, centres(n_bands) > 0.9 * SR / 2
    for part, least in ((low, -0.6), (~low & ~high, -0.3), (high, -3.0)):
        assert ((np.array(off)[part] >= least) & (np.array(off)[part] <= 0.3)).all()
