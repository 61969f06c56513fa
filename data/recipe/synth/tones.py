"""Instruments and alarms: whatever is meant to be heard.

Every sound is a function (n, sr, who, rng) -> y [shape=(n,)], see `helpers.synth.voices`.
"""

from __future__ import annotations

import numpy as np

from recipe.synth.parts import (
    Rng,
    add,
    bump,
    convolved,
    curve,
    harmonics,
    log_uniform,
    noise,
    passband,
    ring,
    shaped,
    swell,
    tilt,
    times,
)

SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12, 14, 16])


def _note(seconds: float, sr: float, f: float, bright: float, decay: float, stiff: float, rng: Rng) -> np.ndarray:
    k = np.arange(1, min(18, int(0.45 * sr / f)) + 1)
    freqs = f * k * np.sqrt(1 + stiff * k**2)
    amps = k ** (-bright) * np.abs(np.sin(np.pi * k * rng.uniform(0.12, 0.3))) * rng.uniform(0.7, 1, len(k))
    return ring(int(seconds * sr), sr, freqs, amps, decay / (1 + 0.25 * k))


def guitar(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Plucked strings: arpeggios or strummed chords."""
    y, root, tempo = np.zeros(n), log_uniform(who, 82, 200), who.uniform(0.14, 0.5)
    bright, decay, strum = who.uniform(0.6, 1.6), who.uniform(0.3, 1.4), who.random() < 0.35
    for t in times(n / sr, rng, tempo * (2.5 if strum else 1), 0.05, 0.5):
        degrees = rng.choice(SCALE, rng.integers(3, 6) if strum else 1, replace=False)
        for i, degree in enumerate(np.sort(degrees)):
            f = root * 2 ** ((degree + 12 * (rng.random() < 0.3)) / 12)
            note = _note(min(4 * decay, n / sr), sr, f, bright, decay, 2e-5, rng)
            add(y, rng.uniform(0.5, 1) * note, t + 0.02 * i, sr)
            add(y, 0.1 * noise(int(0.01 * sr), sr, rng), t + 0.02 * i, sr)
    return y


def piano(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Struck stiff strings: a melody over slow chords."""
    y, root, tempo = np.zeros(n), log_uniform(who, 120, 420), who.uniform(0.18, 0.6)
    bright, decay = who.uniform(1.0, 2.0), who.uniform(0.5, 1.8)
    for i, t in enumerate(times(n / sr, rng, tempo, 0.08, 0.5)):
        notes = [root * 2 ** (rng.choice(SCALE) / 12)]
        if i % 4 == 0:
            notes += [root / 2 * 2 ** (x / 12) for x in rng.choice([[0, 4, 7], [5, 9, 12], [7, 11, 14], [9, 12, 16]])]
        for f in notes:
            add(y, rng.uniform(0.5, 1) * _note(min(3.5 * decay, n / sr), sr, f, bright, decay, 4e-4, rng), t, sr)
            add(y, 0.15 * noise(int(0.02 * sr), sr, rng, lambda x: bump(x, 300, 1)), t, sr)
    return y


def organ(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Sustained chords with a fixed row of harmonics, and a slow tremolo: organ, accordion or synthesiser pad."""
    y, root, tempo = np.zeros(n), log_uniform(who, 90, 330), who.uniform(0.5, 1.8)
    stops, speed, depth = who.random(8) ** 2, who.uniform(3, 7), who.uniform(0, 0.3)
    for t in np.arange(0, n / sr, tempo):
        length = int(min(tempo * 1.1, n / sr) * sr)
        x = np.arange(length) / sr
        edge = np.minimum(1, np.minimum(x / 0.05, (length / sr - x) / 0.08))
        for step in rng.choice([[0, 4, 7], [5, 9, 12], [7, 11, 14], [-3, 0, 4]]):
            f = root * 2 ** (step / 12)
            wave = sum(a * np.sin(2 * np.pi * f * k * x) for k, a in enumerate(stops, 1) if f * k < 0.45 * sr)
            add(y, edge * (1 + depth * np.sin(2 * np.pi * speed * x)) * wave, t, sr)
    return y


def _drum(sr: float, rng: Rng, name: str, tune: float) -> np.ndarray:
    if name == "kick":
        x = np.arange(int(0.35 * sr)) / sr
        return 1.6 * np.sin(2 * np.pi * np.cumsum(tune * (50 + 120 * np.exp(-x / 0.03))) / sr) * np.exp(-x / 0.1)
    n = int(0.25 * sr)
    if name == "snare":
        rattle = noise(n, sr, rng, lambda f: passband(f, 900 * tune, 9000)) * swell(n, sr, 0.001, 0.06)
        return 0.5 * rattle + ring(n, sr, [185 * tune, 330 * tune], [0.6, 0.4], [0.05, 0.04])
    hat = noise(n, sr, rng, lambda f: passband(f, 5500 * tune, 16000, 4))
    return 0.4 * hat * swell(n, sr, 0.001, 0.1 if rng.random() < 0.15 else 0.025)


def drums(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A drum loop of bass drum, snare drum and hi-hat."""
    y, step, tune = np.zeros(n), 15 / who.uniform(75, 170), who.uniform(0.75, 1.35)
    patterns = {name: who.random(16) < p for name, p in (("kick", 0.25), ("snare", 0.12), ("hat", 0.6))}
    patterns["kick"][0] = patterns["snare"][[4, 12]] = True
    for i, t in enumerate(np.arange(0, n / sr, step)):
        for name, pattern in patterns.items():
            if pattern[i % 16]:
                add(y, rng.uniform(0.6, 1) * _drum(sr, rng, name, tune), t + rng.normal(0, 0.004), sr)
    return y


def hihat(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A hi-hat alone: single strokes or a steady row."""
    y, tune, level = np.zeros(n), who.uniform(0.6, 1.3), who.uniform(0.02, 0.2)
    for t in times(n / sr, rng, who.choice([0.15, 0.3, 0.8]), 0.04, 0.2):
        stroke = noise(int(0.5 * sr), sr, rng, lambda f: passband(f, 4500 * tune, 16000, 3))
        add(y, rng.uniform(0.5, 1) * stroke * swell(len(stroke), sr, 0.001, level), t, sr)
    return y


def siren(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A wailing, yelping or two-tone siren, passing or standing."""
    low, span = log_uniform(who, 380, 800), who.uniform(1.5, 2.3)
    speed = who.choice([0.25, 0.6, 3.5])
    x = (np.arange(n) / sr * speed + rng.random()) % 1
    wave = np.where(x < 0.5, 0.0, 1.0) if who.random() < 0.35 else 0.5 - 0.5 * np.cos(2 * np.pi * x)
    f0 = low * span**wave * np.linspace(1.02, rng.uniform(0.95, 1.02), n)
    slope = who.uniform(-9, -3)
    return shaped(harmonics(f0, sr), sr, lambda f: tilt(f, slope)) * curve(n, sr, rng, 0.7, 0.4, 1)


def beeps(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Electronic beeps in a fixed rhythm: alarm clock, smoke alarm, microwave, reversing truck."""
    f, count, on = log_uniform(who, 600, 3400), who.integers(1, 5), who.uniform(0.05, 0.35)
    pause, odd = who.uniform(0.25, 1.0), who.uniform(0, 0.5)
    x = np.arange(int(on * sr)) / sr
    tone = sum(odd ** (k // 2) * np.sin(2 * np.pi * k * f * x) for k in (1, 3, 5) if k * f < 0.45 * sr)
    tone = tone * np.minimum(1, np.minimum(x, on - x) / 0.004)
    y, t = np.zeros(n), rng.uniform(0, 0.2)
    while t < n / sr:
        for _ in range(count):
            add(y, tone, t, sr)
            t += 1.5 * on
        t += pause
    return y


def bell(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A struck bell: church bell, door chime or hand bell, by size and rhythm."""
    y, f = np.zeros(n), log_uniform(who, 250, 1500)
    ratios = np.array([0.5, 1, 1.19, 1.5, 2, 2.52, 3.01, 4.2]) * np.exp(0.01 * who.standard_normal(8))
    decay = who.uniform(0.4, 2.5) * (600 / f) ** 0.5
    amps, two_notes = who.uniform(0.2, 1, 8), who.random() < 0.4
    for i, t in enumerate(times(n / sr, rng, who.uniform(0.4, 1.8), 0.04, 0.2)):
        pitch = f * (0.8 if two_notes and i % 2 else 1)
        add(y, ring(int(min(n / sr, 5 * decay) * sr), sr, pitch * ratios, amps, decay / ratios**0.7), t, sr)
    return y


def telephone(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A ringing telephone: a mechanical bell, or two trilling tones."""
    f, trill, on, off = log_uniform(who, 500, 1900), who.uniform(13, 28), who.uniform(0.4, 1.6), who.uniform(0.3, 1.2)
    t = np.arange(n) / sr + rng.uniform(0, 0.3)
    gate = shaped((t % (on + off) < on).astype(float), sr, lambda x: x < 40)
    swap = np.sin(2 * np.pi * trill * t) > 0
    if who.random() < 0.5:
        return gate * np.sin(2 * np.pi * np.cumsum(np.where(swap, f, 1.25 * f)) / sr)
    hits = np.zeros(n)
    hits[1:] = np.diff(swap.astype(float))
    ratios = np.array([1, 2.7, 4.1]) * f
    return gate * convolved(hits, ring(int(0.12 * sr), sr, ratios, [1, 0.6, 0.3], [0.05, 0.03, 0.02]))
