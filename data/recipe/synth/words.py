"""Spoken digits: ten words as sequences of phones, said by speakers who differ in voice, pace and room."""

from __future__ import annotations

import numpy as np

from recipe.synth.parts import Rng, log_uniform
from recipe.synth.voices import VOWELS, Tracks

# A phone is a vowel of VOWELS, a glide "a>b" from one vowel to another, or one of CONSONANTS.
WORDS = {
    "zero": ["z", "iy", "r", "ao>uw"],
    "one": ["w", "ah", "n"],
    "two": ["t", "uw"],
    "three": ["th", "r", "iy"],
    "four": ["f", "ao", "r"],
    "five": ["f", "aa>iy", "v"],
    "six": ["s", "ih", "k", "s"],
    "seven": ["s", "eh", "v", "uh", "n"],
    "eight": ["eh>iy", "t"],
    "nine": ["n", "aa>iy", "n"],
}

# Length in seconds, formants in Hz (None: those of the next vowel), voicing, breath, centre of the breath in Hz.
CONSONANTS = {
    "z": (0.08, (300, 1700, 2500), 0.25, 0.8, 5500), "w": (0.07, (320, 650, 2200), 0.6, 0.0, 2000),
    "n": (0.08, (260, 1350, 2400), 0.35, 0.0, 2000), "t": (0.05, None, 0.0, 2.2, 4500),
    "th": (0.08, None, 0.0, 0.5, 5000), "r": (0.07, (380, 1150, 1600), 0.7, 0.0, 2000),
    "f": (0.10, None, 0.0, 0.5, 6000), "v": (0.06, (300, 1100, 2300), 0.3, 0.3, 5000),
    "s": (0.12, None, 0.0, 1.4, 6000), "k": (0.05, None, 0.0, 1.8, 2200),
}  # fmt: skip


def say(word: str, n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Say one word, somewhere in `n` samples."""
    f0 = log_uniform(who, 85, 290)
    scale = 0.93 + 0.22 * np.log2(f0 / 85) / 1.7 + who.normal(0, 0.04)
    accent = dict(zip(VOWELS, 1 + 0.055 * who.standard_normal((len(VOWELS), 3)), strict=True))
    pace, tilt_db, breathy = who.uniform(0.75, 1.4), who.uniform(-12, -6), who.uniform(0.0, 0.35)
    falling, hissy = who.uniform(0.0, 0.3), who.uniform(0.5, 1.6)

    def formants(vowel: str) -> tuple[float, ...]:
        return tuple(scale * np.array(VOWELS[vowel]) * accent[vowel] * (1 + 0.05 * rng.standard_normal(3)))

    phones = WORDS[word]
    lengths = [CONSONANTS[p][0] if p in CONSONANTS else 0.13 + 0.05 * (">" in p) for p in phones]
    lengths = [length * pace * np.exp(0.15 * rng.standard_normal()) for length in lengths]
    # A long word is said faster, so that it fits; where it starts is up to the speaker's thumb.
    squeeze = min(1.0, 0.9 * n / sr / sum(lengths))
    lengths = [squeeze * length for length in lengths]
    t = rng.uniform(0.02, max(n / sr - sum(lengths), 0.03))
    pitch = f0 * 2 ** (0.12 * rng.standard_normal())
    vowels = [p.split(">")[0] for p in phones if p not in CONSONANTS]
    tracks = Tracks()
    tracks.point(t - 0.02, pitch, formants(vowels[0]), 0)
    for i, (phone, length) in enumerate(zip(phones, lengths, strict=True)):
        down = pitch * (1 - falling * i / len(phones))
        if phone in CONSONANTS:
            _, shape, voiced, breath, centre = CONSONANTS[phone]
            later = [p.split(">")[0] for p in phones[i:] if p not in CONSONANTS]
            shape = formants((later or vowels)[0]) if shape is None else tuple(scale * np.array(shape))
            if phone in "tk":  # closed first, then a burst
                tracks.point(t + 0.1 * length, down, shape, 0)
                tracks.point(t + 0.6 * length, down, shape, 0)
                tracks.point(t + 0.65 * length, down, shape, 0, hissy * breath, centre)
            else:
                tracks.point(t + 0.25 * length, down, shape, voiced, hissy * breath, centre * rng.uniform(0.9, 1.1))
                tracks.point(t + 0.8 * length, down, shape, voiced, hissy * breath, centre)
        else:
            first, last = phone.split(">")[0], phone.split(">")[-1]
            tracks.point(t + 0.2 * length, down, formants(first), 1, breathy, 2500)
            tracks.point(t + 0.85 * length, down * 0.97, formants(last), 0.9, breathy, 2500)
        t += length
    tracks.point(t + 0.04, 0.8 * pitch, formants(vowels[-1]), 0)
    return tracks.render(n, sr, rng, tilt_db, width=1.2)
