"""Animals that whistle, and things that move, drip or tick.

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
    ring,
    shaped,
    sparks,
    swell,
    tilt,
    times,
)


def _whistle(seconds: float, sr: float, f_from: float, f_to: float, bend: float, trill: float = 0.0) -> np.ndarray:
    x = np.linspace(0, 1, max(int(seconds * sr), 8))
    f = f_from * (f_to / f_from) ** x * (1 + bend * np.sin(np.pi * x)) * (1 + 0.06 * np.sin(2 * np.pi * trill * x))
    phase = 2 * np.pi * np.cumsum(f) / sr
    return (np.sin(phase) + 0.1 * np.sin(2 * phase)) * np.sin(np.pi * x) ** 0.7


def birdsong(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A motif of whistled notes, repeated with small changes, answered from further away."""
    y, base = np.zeros(n), log_uniform(who, 1700, 5200)
    motif = [
        (who.uniform(0.04, 0.22), base * 2 ** who.normal(0, 0.3), 2 ** who.normal(0, 0.35), who.normal(0, 0.15),
         who.uniform(0, 14) * (who.random() < 0.4))
        for _ in range(who.integers(2, 7))
    ]  # fmt: skip
    for t in times(n / sr, rng, who.uniform(0.7, 2.0), 0.4, 0.4):
        level, shift = rng.choice([1.0, 0.25], p=[0.75, 0.25]), 2 ** rng.normal(0, 0.04)
        for seconds, f, ratio, bend, trill in motif:
            high = min(f * shift, 0.3 * sr)
            add(y, level * _whistle(seconds, sr, high, min(high * ratio, 0.4 * sr), bend, trill), t, sr)
            t += seconds + rng.uniform(0.01, 0.07)
    return y


def cricket(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Short pulses of a steady high tone, in chirps of three or four; several insects at once."""
    y = np.zeros(n)
    for _ in range(who.integers(1, 4)):
        f, rate, pulses = log_uniform(who, 2600, min(6000, 0.4 * sr)), who.uniform(1.5, 4), who.integers(2, 5)
        pulse = np.sin(2 * np.pi * f * np.arange(int(0.02 * sr)) / sr) * np.hanning(int(0.02 * sr))
        level = who.uniform(0.2, 1)
        for t in times(n / sr, rng, 1 / rate, 0.05, 1.0):
            for i in range(pulses):
                add(y, level * pulse, t + 0.032 * i, sr)
    return y


def footsteps(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Heel and sole on wood, gravel or leaves, walking or running."""
    y, period = np.zeros(n), who.uniform(0.3, 0.75)
    thud, grit, centre = log_uniform(who, 70, 260), who.uniform(0.05, 1.4), log_uniform(who, 900, 5000)
    scrape = who.uniform(0.01, 0.02)
    for t in times(n / sr, rng, period, 0.06, 0.6):
        body = int(0.25 * sr)
        heel = ring(
            body, sr, thud * np.array([1, 1.7, 3.1]) * rng.uniform(0.9, 1.1, 3), [1, 0.6, 0.4], [0.03, 0.02, 0.012]
        )
        sole = noise(body, sr, rng, lambda f: bump(f, centre, 0.8)) * swell(body, sr, scrape, 0.05)
        for event, delay, level in ((heel, 0, 1), (sole, 0.02, grit), (0.5 * sole, 0.11, grit)):
            add(y, rng.uniform(0.6, 1) * level * event, t + delay, sr)
    return y


def door(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A door: latch, sometimes a creak, and a slam with the thump of the frame."""
    y, low = np.zeros(n), log_uniform(who, 50, 140)
    creaky, pitch = who.random() < 0.5, log_uniform(who, 250, 900)
    for t in times(n / sr, rng, who.uniform(0.9, 2.2), 0.3, 0.3):
        if creaky:
            length = int(rng.uniform(0.2, 0.6) * sr)
            rate = pitch / 6 * curve(length, sr, rng, 6, 0.5, 1.3)
            creak = shaped(harmonics(rate, sr), sr, lambda f: bump(f, 2.2 * pitch, 0.4) + 0.4 * bump(f, 5 * pitch, 0.3))
            add(y, 0.35 * creak * np.hanning(length), t, sr)
            t += length / sr
        size = int(0.6 * sr)
        modes = low * np.array([1, 1.6, 2.7, 4.4, 7.3, 11])
        slam = ring(size, sr, modes, rng.uniform(0.3, 1, 6), 0.11 / np.sqrt(modes / low))
        slam += 0.5 * noise(size, sr, rng, lambda f: tilt(f, -4)) * swell(size, sr, 0.001, 0.03)
        add(y, slam * rng.uniform(0.7, 1), t, sr)
        click = ring(size // 4, sr, [1900, 2900, 4300], [0.4, 0.3, 0.3], [0.01, 0.008, 0.006])
        add(y, click * rng.uniform(0.3, 1), t + rng.uniform(-0.06, 0.12), sr)
    return y


def keys(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A bunch of keys: flurries of small metal clinks."""
    y, modes = np.zeros(n), np.exp(who.uniform(np.log(2000), np.log(9500), 14))
    busy, decay = who.uniform(12, 45), who.uniform(0.015, 0.06)
    for t in times(n / sr, rng, 1 / busy, 0.8, 2.0):
        pick = rng.choice(14, 4, replace=False)
        clink = ring(int(6 * decay * sr), sr, modes[pick], rng.random(4), decay * rng.uniform(0.5, 1.2, 4))
        add(y, rng.random() ** 2 * clink, t, sr)
    return y * curve(n, sr, rng, 3, 0.1, 1)


def pass_by(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A vehicle going by: engine and tyres, louder and brighter when near, the pitch falling as it leaves."""
    seconds, middle, speed = n / sr, rng.uniform(0.3, 0.7), who.uniform(0.6, 2.5)
    t = (np.arange(n) / sr - middle * seconds) * speed / 0.8
    near = 1 / np.sqrt(1 + t**2)
    f0 = log_uniform(who, 35, 130) * (1 - 0.1 * np.tanh(t))
    slope = who.uniform(-8, -4)
    engine = shaped(harmonics(f0, sr), sr, lambda f: tilt(f, slope, 150))
    tyres = noise(n, sr, rng, lambda f: bump(f, 900, 1.3))
    hiss = noise(n, sr, rng, lambda f: bump(f, 3500, 1))
    mix = who.uniform(0.1, 1.0)
    return near**1.5 * (mix * engine / engine.std() + (1.2 - mix) * (tyres + 0.6 * near**2 * hiss))


def drip(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Drops into water: short tones that rise as the bubble closes."""
    y, f, decay = np.zeros(n), log_uniform(who, 500, 2200), who.uniform(0.015, 0.06)
    rise = who.uniform(2, 8)
    for t in times(n / sr, rng, who.uniform(0.15, 1.0), 0.3, 0.3):
        x = np.arange(int(7 * decay * sr)) / sr
        pitch = f * rng.uniform(0.8, 1.3) * (1 + rise * x)
        add(y, rng.uniform(0.4, 1) * np.sin(2 * np.pi * np.cumsum(pitch) / sr) * np.exp(-x / decay), t, sr)
    return y


def zap(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Sound effects of a synthesiser: sweeps up or down, with ring modulation."""
    y, high, span, length = np.zeros(n), log_uniform(who, 900, 5000), log_uniform(who, 3, 30), who.uniform(0.12, 0.9)
    ratio, depth, up = who.uniform(0.3, 3), who.uniform(0, 4), who.random() < 0.4
    for t in times(n / sr, rng, length * who.uniform(0.9, 2), 0.3, 0.2):
        x = np.linspace(0, 1, int(length * rng.uniform(0.7, 1.3) * sr))
        f = np.minimum(high * rng.uniform(0.8, 1.2) * span ** -(1 - x if up else x), 0.4 * sr)
        phase = 2 * np.pi * np.cumsum(f) / sr
        add(y, np.sin(phase + depth * np.sin(ratio * phase)) * np.minimum(1, np.minimum(x, 1 - x) * 30), t, sr)
    return y


def clock_tick(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A clock: tick and tock, as even as clockwork."""
    y, period = np.zeros(n), who.choice([0.25, 0.4, 0.5, 1.0]) * who.uniform(0.95, 1.05)
    f, decay, second = log_uniform(who, 900, 5500), who.uniform(0.002, 0.02), who.uniform(0.7, 1.1)
    for i, t in enumerate(np.arange(period * rng.random(), n / sr, period)):
        modes = f * (second if i % 2 else 1) * np.array([0.35, 1, 1.8, 2.7])
        tick = ring(int(10 * decay * sr), sr, modes, [0.5, 1, 0.7, 0.4], decay * np.array([2, 1, 0.8, 0.6]))
        add(y, rng.uniform(0.85, 1) * tick, t, sr)
        add(y, 0.3 * tick, t + 0.03 * second, sr)
    return y


def typing(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Fingers on a keyboard: clacks in bursts."""
    y, f, period = np.zeros(n), log_uniform(who, 700, 3000), who.uniform(0.09, 0.25)
    for t in times(n / sr, rng, period, 0.6, 1.0):
        length = int(0.06 * sr)
        clack = noise(length, sr, rng, lambda x: bump(x, f, 0.9)) * swell(length, sr, 0.001, 0.008)
        clack += ring(length, sr, [0.25 * f, f * rng.uniform(0.9, 1.1)], [0.5, 0.8], [0.012, 0.006])
        add(y, rng.uniform(0.3, 1) * clack, t, sr)
        add(y, 0.3 * clack, t + rng.uniform(0.05, 0.09), sr)
    return y


def glass(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Glasses and dishes touching."""
    y, f, decay = np.zeros(n), log_uniform(who, 1200, 4200), who.uniform(0.05, 0.5)
    ratios = np.array([1, 1.7, 2.32, 3.4]) * np.exp(0.05 * who.standard_normal(4))
    for t in times(n / sr, rng, who.uniform(0.15, 1.0), 0.6, 0.3):
        modes = f * rng.choice([1, 1.12, 0.87]) * ratios
        clink = ring(int(min(5 * decay, n / sr) * sr), sr, modes, rng.uniform(0.2, 1, 4), decay / ratios)
        add(y, rng.uniform(0.3, 1) * clink, t, sr)
        add(y, 0.4 * noise(int(0.004 * sr), sr, rng), t, sr)
    return y


def zipper(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A zipper pulled: teeth faster and faster, up and down again."""
    y, low, centre, length = np.zeros(n), who.uniform(40, 90), log_uniform(who, 1500, 5000), who.uniform(0.3, 0.9)
    for i, t in enumerate(times(n / sr, rng, length * who.uniform(1.2, 2), 0.2, 0.2)):
        x = np.linspace(0, 1, int(length * rng.uniform(0.8, 1.2) * sr))
        teeth = harmonics(low * 4 ** (x if i % 2 else 1 - x) * curve(len(x), sr, rng, 12, 0.85, 1.15), sr)
        pull = shaped(teeth, sr, lambda f: bump(f, centre, 0.9)) + 0.3 * noise(
            len(x), sr, rng, lambda f: bump(f, centre, 1)
        )
        add(y, pull * np.sin(np.pi * x) ** 0.4, t, sr)
    return y


def sawing(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A chainsaw: a two-stroke engine that idles and howls."""
    idle, top = log_uniform(who, 45, 80), log_uniform(who, 100, 210)
    f0 = idle + (top - idle) * np.clip(curve(n, sr, rng, who.uniform(0.4, 1.5), -0.4, 1.4), 0, 1)
    centre, slope = log_uniform(who, 900, 3000), who.uniform(-6, -2)
    y = harmonics(f0, sr) * (1 + 0.4 * noise(n, sr, rng, lambda f: f < 60))
    y = shaped(y, sr, lambda f: tilt(f, slope, 300) + 0.6 * bump(f, centre, 0.8))
    return y / y.std() + who.uniform(0.2, 0.9) * noise(n, sr, rng, lambda f: bump(f, centre, 1.2))


def helicopter(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Rotor blades chopping broadband noise, over a turbine."""
    rate, sharp = who.uniform(9, 26), who.uniform(1, 6)
    chop = np.cos(np.pi * (rate * np.arange(n) / sr + rng.random())) ** 2
    slope = who.uniform(-9, -4)
    y = chop ** (2 * sharp) * noise(n, sr, rng, lambda f: tilt(f, slope, 200) * passband(f, 40, 5000))
    whine = np.sin(2 * np.pi * log_uniform(who, 700, 2600) * np.arange(n) / sr)
    return (y + 0.2 * noise(n, sr, rng, lambda f: tilt(f, -4)) + who.uniform(0, 0.06) * whine) * curve(
        n, sr, rng, 0.4, 0.5, 1
    )


def crackle(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Crackling as of old records, bad cables or paper."""
    centre, octaves, rate = log_uniform(who, 700, 5000), who.uniform(0.5, 1.5), log_uniform(who, 8, 150)
    return shaped(sparks(n, sr, rng, rate, who.uniform(0.6, 1.5)), sr, lambda f: bump(f, centre, octaves))
