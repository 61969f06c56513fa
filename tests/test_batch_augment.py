import numpy as np
import pytest

from helpers.networks.batch_augment import Gain, Mixup, Shift, SpecAugment

BATCH = np.random.default_rng(0).normal(size=(8, 16, 20)).astype(np.float32)
LABELS = np.eye(8, dtype=np.float32)


@pytest.mark.parametrize("augmentation", [Shift(5, 2), Gain(0.1), SpecAugment(4, 6), Mixup(0.3)])
def test_same_seed_same_batch_and_the_input_stays(augmentation):
    before = BATCH.copy()
    one, two, other = (augmentation(BATCH, LABELS, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (BATCH == before).all()
    assert one.shape == BATCH.shape and one.dtype == np.float32
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
