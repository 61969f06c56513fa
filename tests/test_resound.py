"""Sounds made of two tones: keep the map of one, and the other is gone."""

from unittest import mock

import numpy as np
import pytest

from helpers.features import FeatureSpec
from helpers.topics import resound

SR = 16000
SECONDS = np.arange(SR) / SR
SPECS = {
    kind: FeatureSpec(kind, sr=SR, seconds=1.0, n_fft=1024, hop_length=256, n_mels=64)
    for kind in ("logmel", "stft", "gammatone")
}


def keep_times(y, sr, saliency, share=0.2, fade_seconds=0.01):
    """As in the notebook, for any share and fade."""
    with mock.patch.multiple(resound, _SHARE=share, _FADE_SECONDS=fade_seconds):
        return resound.keep_times(y, sr, saliency)


def keep_bands(y, sr, saliency, spec, share=0.2):
    with mock.patch.object(resound, "_SHARE", share):
        return resound.keep_bands(y, sr, saliency, spec)


def tone(hz):
    return 0.3 * np.sin(2 * np.pi * hz * SECONDS)


def level(y, hz):
    """Level of one frequency, dB: the FFT's largest magnitude within 30 Hz."""
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y))))
    near = np.abs(np.fft.rfftfreq(len(y), 1 / SR) - hz) < 30
    return 20 * np.log10(spectrum[near].max() + 1e-12)


def band(kind, hz):
    """A map of ones where the spectrogram of a tone is within 20 dB of its largest value."""
    picture = SPECS[kind].extract(tone(hz), SR)
    return (picture > picture.max() - 20).astype(float)


def noise(n=SR, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, n).astype(np.float32)


def test_two_tones_one_after_the_other():
    y = np.where(SECONDS < 0.5, tone(500), tone(3000))
    for saliency in ((SECONDS < 0.5).astype(float), np.array([1.0, 0.0]), np.repeat([1.0, 0.0], 25)):
        kept = keep_times(y, SR, saliency, share=0.4)
        assert kept.shape == (SR,) and kept.dtype == np.float32
        assert level(kept, 500) - level(kept, 3000) > 30
    kept = keep_times(y, SR, (SECONDS > 0.5).astype(float), share=0.4)
    assert level(kept, 3000) - level(kept, 500) > 30


def test_the_share_of_the_time_is_kept():
    """A map that rises: its last fifth is kept, and nothing before (but the fade)."""
    kept = keep_times(np.ones(SR), SR, np.linspace(0.1, 1, SR), share=0.2, fade_seconds=0.01)
    edge, fade = round(0.8 * SR), round(0.01 * SR)
    assert not kept[: edge - fade].any()
    np.testing.assert_allclose(kept[edge + fade :], 1.0, atol=1e-6)
    assert kept.sum() == pytest.approx(0.2 * SR, rel=0.01)
    assert kept[edge] == pytest.approx(0.5, abs=0.02)


def test_of_equal_moments_the_earliest():
    for value in (1.0, 0.1, 1 / 3):
        kept = keep_times(np.ones(SR), SR, np.full(SR, value), share=0.25, fade_seconds=0)
        assert (kept[: SR // 4] == 1).all() and not kept[SR // 4 :].any()


def test_rounding_does_not_choose():
    """The same value before and after something else; a running mean gives the two different last bits."""
    saliency = np.full(SR, 0.1)
    saliency[5000:8000] = np.random.default_rng(1).normal(-1, 0.1, 3000)
    kept = keep_times(np.ones(SR), SR, saliency, share=0.25, fade_seconds=0)
    assert (kept[: SR // 4] == 1).all() and not kept[SR // 4 :].any()


def test_only_what_is_positive():
    saliency = np.full(SR, -1.0)
    assert not keep_times(noise(), SR, saliency, share=1).any()
    saliency[4000:8000] = 1.0
    kept = keep_times(np.ones(SR), SR, saliency, share=1)
    assert kept.sum() == pytest.approx(4000, rel=0.01) and kept[4200:7800].min() > 0.999
    assert not keep_times(noise(), SR, np.zeros(SR)).any()


def test_contributions_add_up_over_20_ms():
    """Samples that flicker between +1.1 and -1 speak for the class a little; a steady 0.5 does so more."""
    saliency = np.where(np.arange(SR) % 2, -1.0, 1.1)
    saliency[8000:] = 0.5
    kept = keep_times(np.ones(SR), SR, saliency, share=0.5, fade_seconds=0)
    assert kept[8000:].mean() > 0.98 and kept[:7500].mean() < 0.02


def test_fades_are_raised_cosines_without_jumps():
    length = 0.02 * SR
    saliency = np.repeat(np.random.default_rng(1).uniform(size=50), SR // 50)
    kept = keep_times(np.ones(SR), SR, saliency, share=0.3, fade_seconds=0.02)
    # The steepest of a raised cosine of this length.
    assert np.abs(np.diff(kept)).max() <= np.pi / 2 / length * 1.02
    assert kept.min() >= 0 and kept.max() <= 1 + 1e-6
    edge = keep_times(np.ones(SR), SR, np.repeat([0.0, 1.0], SR // 2), share=0.5, fade_seconds=0.02)
    # The edge is where the averaged map lets half of the time in: half way between silence and sound.
    start, end = np.flatnonzero(edge > 1e-9)[0], np.flatnonzero(edge < 1 - 1e-6)[-1]
    middle = np.interp(0.5, edge[start : end + 1], np.arange(start, end + 1))
    expected = 0.5 - 0.5 * np.cos(np.pi * np.clip((np.arange(SR) - middle) / length + 0.5, 0, 1))
    np.testing.assert_allclose(edge, expected, atol=0.01)


def test_everything_kept():
    y = noise()
    np.testing.assert_allclose(keep_times(y, SR, np.ones(100), share=1), y, atol=1e-7)


@pytest.mark.parametrize("kind", list(SPECS))
def test_everything_transformed_and_back(kind):
    y = noise()
    kept = keep_bands(y, SR, np.ones(SPECS[kind].shape), SPECS[kind], share=1)
    assert kept.shape == (SR,) and kept.dtype == np.float32
    inner = slice(1024, -1024)
    assert np.linalg.norm(kept[inner] - y[inner]) / np.linalg.norm(y[inner]) < 1e-4
    np.testing.assert_array_equal(y, noise())  # the sound given is left alone


@pytest.mark.parametrize("kind", list(SPECS))
@pytest.mark.parametrize(("wanted", "other"), [(500, 3000), (3000, 500), (1000, 2000)])
def test_two_tones_in_different_bands(kind, wanted, other):
    y = tone(wanted) + tone(other)
    kept = keep_bands(y, SR, band(kind, wanted), SPECS[kind], share=1)
    assert level(kept, wanted) == pytest.approx(level(y, wanted), abs=3)
    assert level(kept, wanted) - level(kept, other) > 30


@pytest.mark.parametrize("kind", list(SPECS))
def test_bands_and_times(kind):
    """Both tones all the time; the map marks one of them in the first half."""
    saliency = band(kind, 500)
    saliency[:, saliency.shape[1] // 2 :] = 0
    kept = keep_bands(tone(500) + tone(3000), SR, saliency, SPECS[kind], share=1)
    assert level(kept[:7000], 500) - level(kept[:7000], 3000) > 30
    assert np.abs(kept[9000:]).max() < 0.01


@pytest.mark.parametrize("kind", list(SPECS))
def test_small_maps_are_stretched(kind):
    """As Grad-CAM gives them: 4 × 5 cells over the whole picture; the lowest row holds the low tone."""
    saliency = np.zeros((4, 5))
    saliency[0] = 1.0
    kept = keep_bands(tone(150) + tone(6000), SR, saliency, SPECS[kind], share=0.25)
    assert level(kept, 150) - level(kept, 6000) > 30
    assert level(kept, 150) == pytest.approx(level(tone(150), 150), abs=1)


def test_the_share_of_the_cells_is_kept():
    """Noise is even over an STFT: of its energy, the share of the cells remains, those with the largest saliency."""
    spec, y = SPECS["stft"], noise()
    rising = np.linspace(0.1, 1, spec.shape[0])[:, None] * np.ones(spec.shape)
    kept = keep_bands(y, SR, rising, spec, share=0.25)
    assert np.square(kept).sum() / np.square(y).sum() == pytest.approx(0.25, abs=0.03)
    spectrum = np.abs(np.fft.rfft(kept)) ** 2
    assert spectrum[len(spectrum) * 3 // 4 + 100 :].sum() / spectrum.sum() > 0.95


@pytest.mark.parametrize("kind", list(SPECS))
def test_silence(kind):
    spec = SPECS[kind]
    assert not keep_times(np.zeros(SR), SR, np.ones(SR)).any()
    assert not keep_bands(np.zeros(SR), SR, np.ones(spec.shape), spec, share=1).any()
    assert not keep_bands(noise(), SR, -np.ones(spec.shape), spec).any()
