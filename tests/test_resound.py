"""Sounds made of two tones: keep the map of one, and the other is gone."""

import numpy as np
import pytest

from helpers.base import CourseError
from helpers.features import FeatureSpec
from helpers.topics import resound
from helpers.topics.resound import keep_bands, keep_times

SR = 16000
SECONDS = np.arange(SR) / SR
ONES = np.ones(SR)
SPECS = {
    kind: FeatureSpec(kind, sr=SR, seconds=1.0, n_fft=1024, hop_length=256, n_mels=64)
    for kind in ("logmel", "stft", "gammatone")
}
every_kind = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@pytest.fixture
def share(monkeypatch):
    """Set the share of places that is kept, and the fade."""

    def chosen(value, fade_seconds=0.01):
        monkeypatch.setattr(resound, "_SHARE", value)
        monkeypatch.setattr(resound, "_FADE_SECONDS", fade_seconds)

    return chosen


def tone(hz):
    return 0.3 * np.sin(2 * np.pi * hz * SECONDS)


def level(y, hz):
    """Level of one frequency, dB: the FFT's largest magnitude within 30 Hz."""
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y))))
    near = np.abs(np.fft.rfftfreq(len(y), 1 / SR) - hz) < 30
    return 20 * np.log10(spectrum[near].max() + 1e-12)


def band(spec, hz):
    """A map of ones where the spectrogram of a tone is within 20 dB of its largest value."""
    picture = spec.extract(tone(hz), SR)
    return (picture > picture.max() - 20).astype(float)


def noise():
    return np.random.default_rng(0).normal(0, 0.1, SR).astype(np.float32)


def test_two_tones_one_after_the_other(share):
    """Maps of any length; both ends."""
    share(0.4)
    y = np.where(SECONDS < 0.5, tone(500), tone(3000))
    for saliency in (np.repeat([1.0, 0.0], SR // 2), np.array([1.0, 0.0]), np.repeat([1.0, 0.0], 25)):
        kept = keep_times(y, SR, saliency)
        assert kept.shape == (SR,) and kept.dtype == np.float32
        assert level(kept, 500) - level(kept, 3000) > 30
        kept = keep_times(y, SR, saliency[::-1])
        assert level(kept, 3000) - level(kept, 500) > 30


def test_a_fifth_of_the_time_is_kept():
    """A map that rises: its last fifth is kept, and nothing before (but the fade of 10 ms)."""
    kept = keep_times(ONES, SR, np.linspace(0.1, 1, SR))
    edge, fade = round(0.8 * SR), round(0.01 * SR)
    assert not kept[: edge - fade].any()
    np.testing.assert_allclose(kept[edge + fade :], 1.0, atol=1e-6)
    assert kept.sum() == pytest.approx(0.2 * SR, rel=0.01)
    assert kept[edge] == pytest.approx(0.5, abs=0.02)


def test_of_equal_moments_the_earliest(share):
    """Also where the same value stands before and after something else: a running mean gives them other last bits."""
    share(0.25, fade_seconds=0)
    interrupted = np.full(SR, 0.1)
    interrupted[5000:8000] = np.random.default_rng(1).normal(-1, 0.1, 3000)
    for saliency in (ONES, ONES / 3, interrupted):
        kept = keep_times(ONES, SR, saliency)
        assert (kept[: SR // 4] == 1).all() and not kept[SR // 4 :].any()


def test_only_what_is_positive(share):
    share(1)
    saliency = -ONES
    assert not keep_times(noise(), SR, saliency).any() and not keep_times(noise(), SR, 0 * ONES).any()
    saliency[4000:8000] = 1.0
    kept = keep_times(ONES, SR, saliency)
    assert kept.sum() == pytest.approx(4000, rel=0.01) and kept[4200:7800].min() > 0.999
    np.testing.assert_allclose(keep_times(noise(), SR, np.ones(100)), noise(), atol=1e-7)


def test_contributions_add_up_over_20_ms(share):
    """Samples that flicker between +1.1 and -1 speak for the class a little; a steady 0.5 does so more."""
    share(0.5, fade_seconds=0)
    saliency = np.where(np.arange(SR) % 2, -1.0, 1.1)
    saliency[8000:] = 0.5
    kept = keep_times(ONES, SR, saliency)
    assert kept[8000:].mean() > 0.98 and kept[:7500].mean() < 0.02


def test_fades_are_raised_cosines_without_jumps(share):
    length = 0.02 * SR
    share(0.3, fade_seconds=0.02)
    kept = keep_times(ONES, SR, np.repeat(np.random.default_rng(1).uniform(size=50), SR // 50))
    assert np.abs(np.diff(kept)).max() <= np.pi / 2 / length * 1.02  # the steepest of a raised cosine of this length
    assert kept.min() >= 0 and kept.max() <= 1 + 1e-6
    share(0.5, fade_seconds=0.02)
    edge = keep_times(ONES, SR, np.repeat([0.0, 1.0], SR // 2))
    # The edge is where the averaged map lets half of the time in: half way between silence and sound.
    start, end = np.flatnonzero(edge > 1e-9)[0], np.flatnonzero(edge < 1 - 1e-6)[-1]
    middle = np.interp(0.5, edge[start : end + 1], np.arange(start, end + 1))
    expected = 0.5 - 0.5 * np.cos(np.pi * np.clip((np.arange(SR) - middle) / length + 0.5, 0, 1))
    np.testing.assert_allclose(edge, expected, atol=0.01)


@every_kind
def test_everything_transformed_and_back(spec, share):
    share(1)
    y = noise()
    kept = keep_bands(y, SR, np.ones(spec.shape), spec)
    assert kept.shape == (SR,) and kept.dtype == np.float32
    inner = slice(1024, -1024)
    assert np.linalg.norm(kept[inner] - y[inner]) / np.linalg.norm(y[inner]) < 1e-4
    np.testing.assert_array_equal(y, noise())  # the sound given is left alone
    assert not keep_bands(y, SR, -np.ones(spec.shape), spec).any()
    assert not keep_bands(0 * y, SR, np.ones(spec.shape), spec).any()


@every_kind
@pytest.mark.parametrize(("wanted", "other"), [(500, 3000), (3000, 500), (1000, 2000)])
def test_two_tones_in_different_bands(spec, wanted, other, share):
    """Marked all the time, then in the first half only."""
    share(1)
    y, saliency = tone(wanted) + tone(other), band(spec, wanted)
    kept = keep_bands(y, SR, saliency, spec)
    assert level(kept, wanted) == pytest.approx(level(y, wanted), abs=3)
    assert level(kept, wanted) - level(kept, other) > 30
    saliency[:, saliency.shape[1] // 2 :] = 0
    kept = keep_bands(y, SR, saliency, spec)
    assert level(kept[:7000], wanted) - level(kept[:7000], other) > 30
    assert np.abs(kept[9000:]).max() < 0.01


@every_kind
def test_small_maps_are_stretched(spec, share):
    """As Grad-CAM gives them: 4 × 5 cells over the whole picture; the lowest row holds the low tone."""
    share(0.25)
    saliency = np.zeros((4, 5))
    saliency[0] = 1.0
    kept = keep_bands(tone(150) + tone(6000), SR, saliency, spec)
    assert level(kept, 150) - level(kept, 6000) > 30
    assert level(kept, 150) == pytest.approx(level(tone(150), 150), abs=1)


def test_a_fifth_of_the_cells_is_kept():
    """Noise is even over an STFT: of its energy, the share of the cells remains, those with the largest saliency."""
    spec = SPECS["stft"]
    rising = np.linspace(0.1, 1, spec.shape[0])[:, None] * np.ones(spec.shape)
    kept = keep_bands(noise(), SR, rising, spec)
    assert np.square(kept).sum() / np.square(noise()).sum() == pytest.approx(0.2, abs=0.03)
    spectrum = np.abs(np.fft.rfft(kept)) ** 2
    assert spectrum[len(spectrum) * 4 // 5 + 100 :].sum() / spectrum.sum() > 0.9


def test_maps_over_other_features_are_told():
    with pytest.raises(CourseError, match="'mfcc' cannot be turned back into sound"):
        keep_bands(noise(), SR, np.ones((13, 32)), FeatureSpec("mfcc", sr=SR, seconds=1.0))
