"""Augmented copies: pitch within the range, noise at the level asked for, nothing else touched."""

import warnings

import numpy as np
import pytest

from helpers.networks.augment import noisy_pitched

SR = 22_050
TONE = 1_000.0


def tone(seconds: float = 1.0, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * TONE * np.arange(round(seconds * SR)) / SR)).astype(np.float32)


def pitch(y: np.ndarray) -> float:
    """Frequency of the strongest partial, Hz, between the bins of a windowed spectrum."""
    spectrum = np.log(np.abs(np.fft.rfft(y * np.hanning(len(y)))))
    peak = int(spectrum.argmax())
    left, middle, right = spectrum[peak - 1 : peak + 2]
    return (peak + (left - right) / (2 * (left - 2 * middle + right))) * SR / len(y)


def test_the_pitch_moves_by_up_to_two_semitones_either_way():
    semitones = [
        12 * np.log2(pitch(noisy_pitched(tone(), SR, np.random.default_rng(seed))) / TONE) for seed in range(40)
    ]
    assert max(np.abs(semitones)) <= 2.02
    # Forty draws from the whole range reach its outer quarters on both sides (a chance of 1 in 10**4 to miss one).
    assert min(semitones) < -1 and max(semitones) > 1


def test_the_noise_is_white_and_25_times_below_the_clip():
    copy = noisy_pitched(tone(4.0), SR, np.random.default_rng(3))
    # The tone and what the vocoder smears around it stay below 3 kHz; white noise has equal power in every bin.
    power = np.abs(np.fft.rfft(copy)) ** 2 / len(copy)
    frequency = np.fft.rfftfreq(len(copy), 1 / SR)
    for low, high in ((4_000, 7_000), (7_000, 11_000)):
        deviation = np.sqrt(power[(frequency > low) & (frequency < high)].mean())
        assert 0.3 / np.sqrt(2) / deviation == pytest.approx(25, rel=0.05)


def test_one_seed_gives_one_copy_and_leaves_everything_else_alone():
    y = tone()
    before, state = y.copy(), np.random.get_state()[1].copy()
    first, again = (noisy_pitched(y, SR, np.random.default_rng(7)) for _ in range(2))
    other = noisy_pitched(y, SR, np.random.default_rng(8))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=0.05)
    assert first.shape == y.shape and first.dtype == np.float32
    np.testing.assert_array_equal(y, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("n", [1, 800, 2047, 2048])
def test_a_clip_shorter_than_a_frame_keeps_its_length_without_a_warning(n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = noisy_pitched(tone()[:n], SR, np.random.default_rng(0))
    assert copy.shape == (n,) and np.isfinite(copy).all()
