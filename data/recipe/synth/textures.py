"""Sounds without a beginning: weather, water, fire, hum and hiss.

Every sound is a function (n, sr, who, rng) -> y [shape=(n,)], see `helpers.synth.voices`.
"""

from __future__ import annotations

import numpy as np

from recipe.synth.parts import (
    Rng,
    add,
    bump,
    curve,
    harmonics,
    log_uniform,
    noise,
    passband,
    shaped,
    sparks,
    tilt,
    unit,
)


def hiss(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Steady broadband noise: gas, steam, an empty radio channel."""
    slope, centre, octaves = who.uniform(-4, 3), log_uniform(who, 1500, 8000), who.uniform(0.6, 3)
    y = noise(n, sr, rng, lambda f: tilt(f, slope) * bump(f, centre, octaves))
    return y * curve(n, sr, rng, 2, who.uniform(0.4, 1), 1)


def hum(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Mains hum and buzz, with its harmonics."""
    base, slope, dirt = (
        who.choice([50, 60, 100, 120]) * who.uniform(0.98, 1.02),
        who.uniform(-10, -2),
        who.uniform(0, 0.6),
    )
    odd = who.random(40) ** 2
    f0 = base * (1 + 0.002 * curve(n, sr, rng, 1, -1, 1))
    comb = lambda f: tilt(f, slope, 200) * odd[np.minimum(np.rint(f / base).astype(int), 39)]  # noqa: E731
    return unit(shaped(harmonics(f0, sr), sr, comb)) + dirt * noise(n, sr, rng, lambda f: tilt(f, -4))


def fan(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A fan, ventilation or vacuum cleaner: rushing air and the tone of its blades."""
    blade, slope, tone = log_uniform(who, 70, 420), who.uniform(-6, -2), who.uniform(0.05, 0.8)
    air = noise(n, sr, rng, lambda f: tilt(f, slope) * passband(f, 60, who.uniform(3000, 9000)))
    f0 = blade * curve(n, sr, rng, 0.5, 0.97, 1.03)
    return air + tone * unit(shaped(harmonics(f0, sr), sr, lambda f: tilt(f, -8, 200)))


def rumble(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Low noise of traffic, ships or machines far away."""
    corner, slope = log_uniform(who, 120, 700), who.uniform(-9, -5)
    y = noise(n, sr, rng, lambda f: tilt(f, slope, corner) * passband(f, 30, 6 * corner))
    return y * curve(n, sr, rng, 1, 0.5, 1)


def rain(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A wash of small drops, with single large ones on a roof or a leaf."""
    heavy, centre, roof = who.uniform(0.3, 1), log_uniform(who, 1800, 7000), log_uniform(who, 400, 2500)
    wash = noise(n, sr, rng, lambda f: bump(f, centre, 1.4)) * curve(n, sr, rng, 1, 0.8, 1)
    drops = shaped(sparks(n, sr, rng, log_uniform(who, 15, 250), 1.0), sr, lambda f: bump(f, roof, 0.9))
    fine = shaped(sparks(n, sr, rng, 900, 0.8), sr, lambda f: bump(f, centre, 1.0))
    return heavy * wash + who.uniform(0.2, 1.1) * unit(drops) + 0.6 * unit(fine)


def wind(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Gusts: low noise that swells, with a whistle that moves with the strength."""
    gust = curve(n, sr, rng, who.uniform(0.5, 2), 0, 1) ** 1.5
    low = noise(n, sr, rng, lambda f: tilt(f, who.uniform(-8, -5), 200) * passband(f, 30, 2500))
    centre = log_uniform(who, 350, 1200)
    whistle = noise(n, sr, rng, lambda f: bump(f, centre, 0.18))
    upper = noise(n, sr, rng, lambda f: bump(f, 1.5 * centre, 0.25))
    leaves = noise(n, sr, rng, lambda f: bump(f, 4000, 1))
    level = who.uniform(0, 0.7)
    body = (0.25 + gust) * low + level * gust * ((1 - gust) * whistle + gust * upper)
    return body + who.uniform(0, 0.35) * gust**2 * leaves


def waves(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Surf: noise that rises, breaks and runs out in hiss, every few seconds."""
    period, sharp = who.uniform(2.5, 7), who.uniform(1, 3)
    x = (np.arange(n) / sr / period + rng.random() + 0.15 * curve(n, sr, rng, 0.5)) % 1
    swell = np.where(x < 0.35, (x / 0.35) ** sharp, np.exp(-3.2 * (x - 0.35)))
    deep = noise(n, sr, rng, lambda f: tilt(f, -5, 300) * passband(f, 40, 3000))
    foam = noise(n, sr, rng, lambda f: bump(f, who.uniform(2500, 5000), 1.1))
    late = np.where(x < 0.3, 0.05, np.minimum((x - 0.3) / 0.15, 1) * np.exp(-2.5 * (x - 0.3)))
    swell, late = (np.abs(shaped(part, sr, lambda f: np.exp(-f / 2))) for part in (swell, late))
    return (0.15 + swell) * deep + who.uniform(0.3, 1) * (0.06 + late) * foam


def stream(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Running water: many short rising bubbles over a soft rush."""
    base, busy = log_uniform(who, 350, 1100), who.uniform(25, 70)
    rush = noise(n, sr, rng, lambda f: bump(f, 3 * base, 1.2))
    y = np.zeros(n)
    for at in rng.random(rng.poisson(busy * n / sr) + 3) * n / sr:
        f, decay = base * 2 ** rng.normal(0.3, 0.6), rng.uniform(0.008, 0.035)
        x = np.arange(int(5 * decay * sr)) / sr
        bubble = np.sin(2 * np.pi * np.cumsum(f * (1 + 4 * x)) / sr) * np.exp(-x / decay)
        add(y, rng.random() ** 2 * bubble, at, sr)
    return unit(y) + who.uniform(0.15, 0.8) * rush * curve(n, sr, rng, 3, 0.6, 1)


def fire(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A wood fire: snaps of all sizes over a soft roar."""
    roar = noise(n, sr, rng, lambda f: tilt(f, -6, 300) * passband(f, 40, 2000)) * curve(n, sr, rng, 3, 0.4, 1)
    centre = log_uniform(who, 1200, 5000)
    snaps = shaped(sparks(n, sr, rng, log_uniform(who, 5, 40), 1.3), sr, lambda f: bump(f, centre, 1.2))
    fine = shaped(sparks(n, sr, rng, 120, 0.7), sr, lambda f: bump(f, 1.6 * centre, 0.8))
    return who.uniform(0.1, 0.8) * roar + 1.2 * unit(snaps) + 0.4 * unit(fine)
