"""Voices of people and animals: one formant synthesiser, driven by tracks of pitch, formants and breath.

Every sound is a function (n, sr, who, rng) -> y [shape=(n,)]: `who` draws the character that takes of one source
share (pitch, size of the throat, habits), `rng` draws this take.
"""

from __future__ import annotations

import numpy as np

from recipe.synth.parts import Rng, add, bump, harmonics, log_uniform, noise, painted, shaped, swell, times

# First three formants of an adult throat, Hz (rounded textbook values).
VOWELS = {
    "iy": (290, 2250, 2950), "ih": (400, 1950, 2550), "eh": (560, 1800, 2500), "ae": (680, 1700, 2450),
    "ah": (650, 1200, 2450), "aa": (740, 1120, 2500), "ao": (570, 850, 2450), "uh": (440, 1030, 2300),
    "uw": (320, 900, 2250), "er": (480, 1350, 1700),
}  # fmt: skip


class Tracks:
    """Breakpoints of a voice over time: pitch, three formants, voicing, breath and the breath's centre."""

    def __init__(self) -> None:
        self.t: list[float] = []
        self.rows: list[tuple[float, ...]] = []

    def point(self, t, f0, formants, voiced, breath=0.0, centre=3000.0) -> None:
        """Add one breakpoint at `t` seconds; between breakpoints everything moves in straight lines."""
        self.t.append(t)
        self.rows.append((f0, *formants, voiced, breath, centre))

    def render(self, n: int, sr: float, rng: Rng, tilt_db: float = -9.0, width: float = 1.0) -> np.ndarray:
        """Sing the tracks: a pulse train through the formants, and noise through them and a band of breath."""
        n_fft = 512
        hop = n_fft // 4
        frames = n // hop + 2
        at = np.arange(frames) * hop / sr
        f0, f1, f2, f3, voiced, breath, centre = (np.interp(at, self.t, c) for c in zip(*self.rows, strict=True))
        f = np.fft.rfftfreq(n_fft, 1 / sr)[None, :]
        body = np.zeros((frames, n_fft // 2 + 1))
        for formant, level, bandwidth in ((f1, 1.0, 70), (f2, 0.7, 90), (f3, 0.4, 140), (1.45 * f3, 0.2, 250)):
            body += level / (1 + ((f - formant[:, None]) / (width * (bandwidth + 0.04 * formant[:, None]))) ** 2)
        glottis = (np.maximum(f, 200.0) / 200.0) ** (tilt_db / 6.0206)
        pitch = np.interp(np.arange(n), np.arange(frames) * hop, f0)
        pitch *= 1 + 0.012 * shaped(rng.standard_normal(n), sr, lambda x: (x < 12) * np.sqrt(sr / 24))
        y = painted(harmonics(pitch, sr), body * glottis * voiced[:, None])
        hiss = bump(f, centre[:, None], 0.6) + 0.25 * body
        return y + painted(rng.standard_normal(n), 0.15 * hiss * breath[:, None])


def _vowel(name: str, scale: float, drift: Rng | None = None) -> tuple[float, ...]:
    wobble = 1 + 0.06 * drift.standard_normal(3) if drift else np.ones(3)
    return tuple(float(x * scale * w) for x, w in zip(VOWELS[name], wobble, strict=True))


def speech(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Babble with the rhythm, pitch and formants of speech, in no language."""
    f0 = log_uniform(who, 85, 280)
    scale = 0.95 + 0.25 * np.log2(f0 / 85) / 1.7 + who.normal(0, 0.03)
    pace, tilt_db, range_ = who.uniform(3.2, 6.5), who.uniform(-12, -6), who.uniform(0.05, 0.25)
    tracks, t, names = Tracks(), 0.0, list(VOWELS)
    while t < n / sr:
        if rng.random() < 0.12 and t > 0:  # a pause for breath
            tracks.point(t, f0, _vowel("uh", scale), 0)
            t += rng.uniform(0.15, 0.5)
            tracks.point(t, f0, _vowel("uh", scale), 0)
        length = rng.uniform(0.7, 1.3) / pace
        pitch = f0 * 2 ** (range_ * rng.standard_normal())
        start, end = (_vowel(names[rng.integers(len(names))], scale, rng) for _ in range(2))
        onset = rng.choice(["none", "stop", "hiss", "nasal"], p=[0.15, 0.3, 0.3, 0.25])
        if onset == "hiss":
            tracks.point(t, pitch, start, 0, 1.2, rng.uniform(2500, 7000))
            tracks.point(t + 0.3 * length, pitch, start, 0, 1.2, 4500)
        elif onset == "stop":
            tracks.point(t, pitch, start, 0)
            tracks.point(t + 0.2 * length, pitch, start, 0)
            tracks.point(t + 0.21 * length, pitch, start, 0, 2.5, rng.uniform(1000, 5000))
        elif onset == "nasal":
            tracks.point(t + 0.05 * length, pitch, (250, 1200, 2200), 0.3)
        tracks.point(t + 0.42 * length, pitch, start, 1)
        tracks.point(t + 0.85 * length, pitch * rng.uniform(0.88, 1.05), end, 0.8)
        t += length
    return tracks.render(n, sr, rng, tilt_db)


def laughter(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Ha-ha-ha: breathy vowels in a falling row, with gasps between the rows."""
    f0, scale, rate = log_uniform(who, 140, 420), who.uniform(0.95, 1.3), who.uniform(3.8, 6.5)
    vowel = who.choice(["ah", "aa", "eh", "ih"])
    tracks, t = Tracks(), rng.uniform(-0.2, 0)
    while t < n / sr:
        top, count = f0 * rng.uniform(0.9, 1.5), rng.integers(3, 9)
        for i in range(count):
            pitch, level = top * 0.94**i, 0.9**i
            tracks.point(t, pitch, _vowel(vowel, scale), 0, 0.9 * level, 1800)
            tracks.point(t + 0.35 / rate, pitch * 1.05, _vowel(vowel, scale, rng), level, 0.3 * level, 1800)
            tracks.point(t + 0.7 / rate, pitch * 0.9, _vowel(vowel, scale), 0.1 * level, 0.6 * level, 1800)
            t += rng.uniform(0.85, 1.15) / rate
        tracks.point(t, f0, _vowel("ah", scale), 0, 0.0, 2500)
        tracks.point(t + 0.15, f0, _vowel("ah", scale), 0, rng.uniform(0.1, 0.7), 2500)
        t += rng.uniform(0.25, 0.6)
    return tracks.render(n, sr, rng, width=1.5)


def cough(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A burst of breath through an open throat, a short voiced tail; once or in fits."""
    scale, depth, voice = who.uniform(0.9, 1.25), log_uniform(who, 100, 300), who.uniform(0.1, 0.8)
    tracks, last = Tracks(), -1.0
    tracks.point(0, depth, _vowel("uh", scale), 0)
    for t in times(n / sr, rng, who.uniform(0.35, 0.9), 0.3, 0.4):
        if t - last < 0.25:
            continue
        last, size = t, rng.uniform(0.6, 1)
        tracks.point(t, depth, _vowel("ah", scale), 0)
        tracks.point(t + 0.012, depth, _vowel("ah", scale, rng), 0.1, 4 * size, rng.uniform(900, 2200))
        tracks.point(t + 0.07, depth, _vowel("ah", scale, rng), 0.2 * voice, 2.0 * size, 1500)
        tracks.point(t + 0.11, 1.2 * depth, _vowel("uh", scale), voice * size, 0.8, 1500)
        tracks.point(t + rng.uniform(0.18, 0.24), 0.7 * depth, _vowel("uh", scale), 0, 0)
    return tracks.render(n, sr, rng, width=2.0)


def sneeze(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Ah... tshoo: a rising breath, a hiss like an explosion, a voiced tail."""
    f0, scale, lead, voice = log_uniform(who, 130, 400), who.uniform(0.9, 1.3), who.uniform(0.2, 0.7), who.uniform(0, 1)
    tracks, t = Tracks(), rng.uniform(0, 0.25)
    tracks.point(0, f0, _vowel("ah", scale), 0)
    while t < n / sr:
        tracks.point(t, f0, _vowel("ah", scale), 0)
        tracks.point(t + lead, 1.3 * f0, _vowel("eh", scale), 0.4 * voice, 0.5, 2500)
        t += lead + 0.06
        tracks.point(t, f0, _vowel("ih", scale), 0)
        tracks.point(t + 0.02, f0, _vowel("ih", scale), 0, 5.0, rng.uniform(3000, 6000))
        tracks.point(t + 0.14, f0, _vowel("uw", scale), 0.3, 2.5, rng.uniform(2000, 3500))
        tracks.point(t + 0.2, f0, _vowel("uw", scale), voice, 0.7, 1500)
        t += rng.uniform(0.3, 0.5)
        tracks.point(t, 0.7 * f0, _vowel("uw", scale), 0)
        t += rng.uniform(0.8, 2.0)
    return tracks.render(n, sr, rng, width=1.6)


def crying_baby(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Long wailing arcs of a high voice, with gasps between."""
    f0, scale, harsh = log_uniform(who, 320, 560), who.uniform(1.35, 1.7), who.uniform(0.1, 0.7)
    tracks, t = Tracks(), rng.uniform(-0.4, 0)
    while t < n / sr:
        length, top = rng.uniform(0.5, 1.3), rng.uniform(1.1, 1.45)
        tracks.point(t, f0, _vowel("ah", scale), 0)
        for part in np.linspace(0.08, 0.92, 9):
            bend = f0 * (1 + (top - 1) * np.sin(np.pi * part) + 0.03 * rng.standard_normal())
            tracks.point(t + part * length, bend, _vowel("ae", scale, rng), np.sin(np.pi * part) ** 0.5, harsh, 2500)
        tracks.point(t + length, 0.8 * f0, _vowel("ah", scale), 0)
        tracks.point(t + length + 0.12, f0, _vowel("ih", scale), 0, rng.uniform(0.2, 0.8), 2800)
        t += length + rng.uniform(0.2, 0.5)
        tracks.point(t - 0.02, f0, _vowel("ih", scale), 0)
    return tracks.render(n, sr, rng, tilt_db=-5, width=1.4)


def applause(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Hands clapping: from one pair to a hall."""
    y, people = np.zeros(n), int(log_uniform(who, 1, 25))
    for _ in range(people):
        centre, level = log_uniform(rng, 700, 2600), rng.uniform(0.3, 1)
        clap = noise(int(0.04 * sr), sr, rng, lambda f, c=centre: bump(f, c, 0.7))
        for t in times(n / sr, rng, rng.uniform(0.18, 0.32), 0.1, 1.0):
            add(y, level * rng.uniform(0.7, 1) * clap * swell(len(clap), sr, 0.001, 0.007), t, sr)
    return y


def bark(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Rough bursts with a falling pitch, singly, in pairs or in rows."""
    f0, scale, rough = log_uniform(who, 180, 750), log_uniform(who, 0.8, 1.7), who.uniform(0.3, 1.8)
    length, period = who.uniform(0.09, 0.24), who.uniform(0.35, 1.1)
    tracks, last = Tracks(), -1.0
    tracks.point(0, f0, _vowel("aa", scale), 0)
    for t in times(n / sr, rng, period, 0.35, 0.4):
        if t - last < 1.3 * length:
            continue
        last, size = t, rng.uniform(0.6, 1)
        tracks.point(t, 0.8 * f0, _vowel("uh", scale), 0)
        tracks.point(t + 0.15 * length, 1.25 * f0, _vowel("ae", scale, rng), size, rough * size, 1500 * scale)
        tracks.point(t + 0.6 * length, f0, _vowel("aa", scale, rng), 0.7 * size, rough * size, 1300 * scale)
        tracks.point(t + length, 0.6 * f0, _vowel("uh", scale), 0)
    return tracks.render(n, sr, rng, tilt_db=-5, width=1.8)


def meow(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """A pitch arc while the mouth opens and closes."""
    f0, scale, length = log_uniform(who, 350, 850), who.uniform(1.2, 1.7), who.uniform(0.4, 1.1)
    tracks = Tracks()
    tracks.point(0, f0, _vowel("iy", scale), 0)
    t = rng.uniform(0, 0.15)
    while t < n / sr:
        span, top = length * rng.uniform(0.8, 1.25), rng.uniform(1.1, 1.5)
        steps = (
            (0.0, 0.9, "iy", 0),
            (0.15, 1.0, "iy", 0.6),
            (0.45, top, "ae", 1),
            (0.8, 0.95, "ao", 0.7),
            (1, 0.8, "uw", 0),
        )
        for part, bend, vowel, level in steps:
            tracks.point(t + part * span, f0 * bend, _vowel(vowel, scale, rng), level, 0.15 * level, 3500)
        t += span + rng.uniform(0.2, 1.0)
        tracks.point(t - 0.01, f0, _vowel("iy", scale), 0)
    return tracks.render(n, sr, rng, tilt_db=-6)


def rooster(n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Four calls, the third long and high, the last one falling."""
    f0, scale, pace, rough = (
        log_uniform(who, 380, 800),
        who.uniform(1.2, 1.8),
        who.uniform(0.8, 1.3),
        who.uniform(0.1, 1),
    )
    tracks, t = Tracks(), rng.uniform(0, 0.3)
    tracks.point(0, f0, _vowel("ah", scale), 0)
    while t < n / sr:
        for bend, length in ((0.75, 0.16), (0.95, 0.14), (1.25, 0.4), (1.05, 0.75)):
            span, pitch = pace * length * rng.uniform(0.85, 1.15), f0 * bend * rng.uniform(0.95, 1.05)
            tracks.point(t, 0.9 * pitch, _vowel("uh", scale), 0)
            tracks.point(t + 0.2 * span, pitch, _vowel("ae", scale, rng), 1, rough, 3000)
            tracks.point(
                t + 0.75 * span, pitch * (0.95 if length < 0.7 else 0.75), _vowel("ah", scale, rng), 0.8, rough, 2500
            )
            tracks.point(t + 0.97 * span, 0.6 * pitch, _vowel("uh", scale), 0)
            t += span
        t += rng.uniform(1.5, 3.5)
        tracks.point(t - 0.02, f0, _vowel("ah", scale), 0)
    return tracks.render(n, sr, rng, tilt_db=-4, width=1.3)
