"""Augmentations against what they promise, by hand."""

import numpy as np
import pytest

from helpers.networks import Delay, Gain, Mask, Mixup, Noise, Shift, SpecAugment, Speed, Volume

BATCH = np.random.default_rng(0).normal(size=(8, 16, 20)).astype(np.float32)
LABELS = np.eye(8, dtype=np.float32)
SR = 16_000
T = np.arange(SR) / SR
TONES = np.stack([np.sin(2 * np.pi * hz * T) for hz in (200, 400, 800, 1600)]).astype(np.float32)
WORDS = np.eye(4, dtype=np.float32)


@pytest.mark.parametrize(
    "augmentation",
    [
        *(Shift(5, 2), Gain(0.1), SpecAugment(4, 6), Mixup(0.3)),
        *(Delay(1600), Speed(0.1), Volume(6), Noise(-40, -15), Mask(1600, 0.2, SR)),
    ],
)
def test_same_seed_same_batch_and_the_input_stays(augmentation):
    spectrograms = isinstance(augmentation, Shift | Gain | SpecAugment | Mixup)
    batch, labels = (BATCH, LABELS) if spectrograms else (TONES, WORDS)
    before = batch.copy()
    one, two, other = (augmentation(batch, labels, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (batch == before).all()
    assert one.shape == batch.shape and one.dtype == np.float32
    assert (one == two).all() and (one != other).any()


def test_a_shift_in_time_only_turns_the_clip_round():
    moved, labels = Shift(frames=20, bands=0)(BATCH, LABELS, np.random.default_rng(0))
    for clip, original in zip(moved, BATCH, strict=True):
        assert any((np.roll(original, time, axis=1) == clip).all() for time in range(20))
    assert (labels == LABELS).all()


def test_a_shift_in_bands_repeats_the_edge():
    ramp = np.repeat(np.arange(16, dtype=np.float32)[None, :, None], 200, axis=0) * np.ones((1, 1, 20), np.float32)
    moved, _ = Shift(frames=0, bands=2)(ramp, np.zeros((200, 1)), np.random.default_rng(0))
    starts = {tuple(clip[:4, 0]) for clip in moved}
    assert starts == {(0, 0, 0, 1), (0, 0, 1, 2), (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}


def test_gain_adds_one_number_per_clip():
    change = Gain(0.1)(BATCH, LABELS, np.random.default_rng(0))[0] - BATCH
    assert np.ptp(change, axis=(1, 2)) == pytest.approx(0, abs=1e-6)
    assert 0 < np.abs(change).max() <= 0.1 + 1e-6


def test_masks_are_rectangles_of_the_mean_and_no_wider_than_asked():
    batch = np.repeat(BATCH, 50, axis=0)
    masked, _ = SpecAugment(bands=4, frames=6)(batch, np.zeros((400, 1)), np.random.default_rng(0))
    hidden = masked != batch
    full_bands, full_frames = hidden.all(axis=2).sum(axis=1), hidden.all(axis=1).sum(axis=1)
    assert full_bands.max() == 4 and full_bands.min() == 0
    assert full_frames.max() == 6 and full_frames.min() == 0
    assert hidden.sum() == (full_bands * 20 + full_frames * 16 - full_bands * full_frames).sum()
    clip = np.flatnonzero(full_bands)[0]
    assert masked[clip][hidden[clip]] == pytest.approx(batch[clip].mean(), abs=1e-6)


def test_mixup_blends_clips_and_labels_by_the_same_share():
    mixed, labels = Mixup(0.5)(BATCH, LABELS, np.random.default_rng(0))
    assert labels.sum(axis=1) == pytest.approx(1)
    assert mixed == pytest.approx(np.tensordot(labels, BATCH, axes=1), abs=1e-5)
    assert (labels.diagonal() >= 0.5).all() and (labels.diagonal() < 1).any()


def test_a_delay_moves_samples_and_lets_silence_in():
    ramp = np.tile(np.arange(1, 11, dtype=np.float32), (200, 1))
    moved, labels = Delay(3)(ramp, WORDS, np.random.default_rng(0))
    wanted = {tuple(np.concatenate([np.zeros(s), np.arange(1, 11 - s)])) for s in range(4)}
    wanted |= {tuple(np.concatenate([np.arange(1 + s, 11), np.zeros(s)])) for s in range(4)}
    assert {tuple(clip) for clip in moved} == wanted
    assert labels is WORDS


def test_a_delay_longer_than_the_clip_leaves_silence():
    moved, _ = Delay(15)(np.ones((500, 10), np.float32), WORDS, np.random.default_rng(0))
    assert set(moved.sum(axis=1)) == set(range(11))


def test_speed_changes_the_pitch_by_the_factor():
    played, _ = Speed(0.2)(np.repeat(TONES[1:2], 50, axis=0), WORDS, np.random.default_rng(0))
    middle = played[:, 4000:12000] * np.hanning(8000)  # where no clip has run out
    hz = np.abs(np.fft.rfft(middle, 80_000)).argmax(axis=1) * SR / 80_000
    assert 320 - 1 <= hz.min() < 340 and 460 < hz.max() <= 480 + 1
    for clip, tone in zip(played, hz, strict=True):  # the middle of the clip stays where it was
        expected = np.sin(2 * np.pi * 400 * ((SR - 1) / 2 + (np.arange(SR) - (SR - 1) / 2) * tone / 400) / SR)
        assert clip[7600:8400] == pytest.approx(expected[7600:8400], abs=0.02)


def test_no_change_of_speed_changes_nothing():
    assert Speed(0)(TONES, WORDS, np.random.default_rng(0))[0] == pytest.approx(TONES, abs=1e-6)


def test_volume_is_one_gain_per_clip_within_the_limit():
    louder, _ = Volume(6)(np.repeat(TONES, 50, axis=0), WORDS, np.random.default_rng(0))
    gain = np.linalg.norm(louder, axis=1) / np.linalg.norm(np.repeat(TONES, 50, axis=0), axis=1)
    decibels = 20 * np.log10(gain)
    assert -6.001 <= decibels.min() < -5 and 5 < decibels.max() <= 6.001
    np.testing.assert_allclose(louder, gain[:, None] * np.repeat(TONES, 50, axis=0), atol=1e-5)


def test_noise_has_the_level_asked_for_and_silence_stays_silent():
    batch = np.concatenate([0.1 * np.repeat(TONES, 20, axis=0), np.zeros((1, SR), np.float32)])
    noise = Noise(-40, -20)(batch, WORDS, np.random.default_rng(0))[0] - batch
    level = 20 * np.log10(noise[:-1].std(axis=1) / (0.1 / np.sqrt(2)))
    assert -40.2 < level.min() < -35 and -25 < level.max() < -19.8
    assert (noise[-1] == 0).all()


def test_mixup_blends_waveforms_too():
    mixed, labels = Mixup(0.5)(TONES, WORDS, np.random.default_rng(0))
    assert mixed == pytest.approx(labels @ TONES, abs=1e-5)


def test_a_mask_leaves_gaps_no_longer_than_asked_for_and_the_rest_alone():
    ones = np.ones((200, 1000), np.float32)
    masked, labels = Mask(100, 0, SR)(ones, WORDS, np.random.default_rng(0))
    assert masked[masked > 0.5] == pytest.approx(1, abs=1e-6)
    zeros = (masked == 0).sum(axis=1)
    assert zeros.min() < 30 and 150 < zeros.max() <= 200  # two of up to 100 each
    starts = (np.diff((masked == 0).astype(int), axis=1, prepend=0) == 1).sum(axis=1)
    assert set(starts) <= {0, 1, 2} and 2 in starts
    assert labels is WORDS


def test_a_mask_rejects_bands_no_wider_than_asked_for():
    click = np.zeros((300, SR), np.float32)
    click[:, SR // 2] = 1  # all frequencies alike
    masked, _ = Mask(0, 0.2, SR)(click, WORDS, np.random.default_rng(0))
    spectra = np.abs(np.fft.rfft(masked, axis=1))
    assert np.minimum(spectra, np.abs(spectra - 1)).max() < 1e-4  # a frequency is there or it is not
    mel = 2595 * np.log10(1 + np.arange(SR // 2 + 1) / 700)
    width = (np.gradient(mel) * (spectra < 0.5)).sum(axis=1) / mel[-1]
    assert width.min() < 0.1 and 0.3 < width.max() <= 0.4 + 0.01
    assert np.mean(width) == pytest.approx(0.2, abs=0.02)  # two of 0.1 each on average, where they do not overlap
