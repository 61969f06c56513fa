"""Classes thinned and drawn to size, and copies with noise and pitch."""

from collections import Counter
from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile

from helpers import data, features
from helpers.data import Round
from helpers.topics import balance

LABEL = np.repeat(np.array(["a", "b", "c"], dtype=object), 24)
ROWS = np.arange(72)


def test_a_long_tail_falls_by_equal_factors_and_alike_in_every_round():
    kept = balance.long_tail(LABEL, ROWS, ratio=4, seed=3)
    assert sorted(Counter(LABEL[kept]).values()) == [6, 12, 24]
    half = balance.long_tail(LABEL, ROWS[ROWS % 2 == 0], ratio=4, seed=3)
    assert [Counter(LABEL[half])[name] * 2 for name in "abc"] == [Counter(LABEL[kept])[name] for name in "abc"]
    assert set(kept) <= set(ROWS) and len(set(kept)) == len(kept)
    assert min(Counter(LABEL[balance.long_tail(LABEL, ROWS, ratio=100)]).values()) == 2


def test_drawn_to_size():
    tail = balance.long_tail(LABEL, ROWS, ratio=4)
    under, over = (draw(LABEL, tail) for draw in (balance.under_sampled, balance.over_sampled))
    assert [*Counter(LABEL[under]).values()] == [6, 6, 6] and len(set(under)) == 18
    assert [*Counter(LABEL[over]).values()] == [24, 24, 24] and set(over) == set(tail)


def test_noise_lies_28_db_below_the_clip_and_the_pitch_moves_by_a_tone_at_most():
    sr = 22050
    y = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(sr) / sr).astype(np.float32)
    drawn = np.random.default_rng(5)
    drawn.standard_normal(len(y))
    hertz = 1000 * 2 ** (drawn.uniform(-4, 4) / 24)
    copy = balance._noisy_pitched(y, sr, np.random.default_rng(5))
    spectrum = np.abs(np.fft.rfft(copy * np.hanning(len(copy))))
    assert np.argmax(spectrum) == pytest.approx(hertz, abs=3)
    silent = balance._noisy_pitched(np.zeros(500, np.float32), sr, drawn)
    assert len(silent) == 500 and not silent.any()
    noise = copy - librosa.effects.pitch_shift(y, sr=sr, n_steps=np.log2(hertz / 1000) * 24, bins_per_octave=24)
    assert 20 * np.log10(np.std(noise) / np.std(y)) == pytest.approx(-27.96, abs=0.1)


def test_repetitions_become_copies_of_their_own(manifest, tmp_path):
    for row in range(6):
        soundfile.write(tmp_path / f"{row}.wav", np.random.default_rng(row).standard_normal(4000) / 9, 8000)
    clips = manifest.head(6).assign(path=[str(tmp_path / f"{row}.wav") for row in range(6)])
    spec = features.FeatureSpec("mean_mfcc", sr=8000, seconds=0.5, n_mels=40)
    X = np.stack([spec.extract(*soundfile.read(path, dtype="float32")) for path in clips["path"]])
    none = np.array([], dtype=int)
    rounds = [Round("one", np.array([0, 0, 0, 1]), none, np.array([4]), none)]
    rounds.append(replace(rounds[0], name="two", train=np.array([0, 0, 2])))
    everything, X_all, pointing = balance.with_copies(clips, X, spec, rounds)
    assert [round_.train.tolist() for round_ in pointing] == [[0, 6, 7, 1], [0, 6, 2]]
    assert everything["clip_id"].tolist()[6:] == ["clip00 copy 1", "clip00 copy 2"] and everything["clip_id"].is_unique
    assert everything["label"].tolist()[6:] == [clips["label"].iloc[0]] * 2
    y, sr = soundfile.read(clips["path"].iloc[0], dtype="float32")
    np.testing.assert_allclose(
        X_all[7],
        spec.extract(balance._noisy_pitched(y, sr, np.random.default_rng((0, 0, 2))), sr),
        rtol=1e-4,
        atol=1e-3,
    )
    np.testing.assert_array_equal(X_all[:6], X)
    assert data.groups(everything)[6] == data.groups(clips)[0]
    assert balance.with_copies(clips, X, spec, [replace(rounds[0], train=np.array([0, 1]))])[1].shape == X.shape
