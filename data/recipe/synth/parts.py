"""Building blocks of the synthesised sounds: noise, partials, spectral shaping, rooms, devices.

Everything is float64 and draws only from the generators it is given, so that a clip depends on its own seed and on
nothing else. `y` is always mono, shape=(n,). Gain curves are functions of frequency in Hz.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

Gain = Callable[[np.ndarray], np.ndarray]
Rng = np.random.Generator


def generator(*names: object) -> Rng:
    """Give the random generator that belongs to a row of names and numbers: the same names, the same draws."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Draw one value between `low` and `high`, uniform on a logarithmic scale (as pitches and times are)."""
    return float(low * (high / low) ** rng.random())


def shaped(y: np.ndarray, sr: float, gain: Gain) -> np.ndarray:
    """Multiply the spectrum of `y` by a gain curve (zero phase)."""
    size = next_fast_len(len(y), real=True)
    return irfft(rfft(y, size) * gain(rfftfreq(size, 1 / sr)), size)[: len(y)]


def bump(f: np.ndarray, centre: float, octaves: float) -> np.ndarray:
    """Gain curve: a bell around `centre` Hz, falling to exp(-1/2) at `octaves` above and below."""
    return np.exp(-0.5 * (np.log2(np.maximum(f, 1.0) / centre) / octaves) ** 2)


def tilt(f: np.ndarray, db_per_octave: float, pivot: float = 1000.0) -> np.ndarray:
    """Gain curve: a straight line on logarithmic axes through 1 at `pivot` Hz (flat below 30 Hz)."""
    return (np.maximum(f, 30.0) / pivot) ** (db_per_octave / 6.0206)


def passband(f: np.ndarray, low: float, high: float, order: int = 2) -> np.ndarray:
    """Gain curve: Butterworth-like band from `low` to `high` Hz."""
    f = np.maximum(f, 1e-3)
    return 1 / np.sqrt((1 + (low / f) ** (2 * order)) * (1 + (f / high) ** (2 * order)))


def noise(n: int, sr: float, rng: Rng, gain: Gain | None = None) -> np.ndarray:
    """Gaussian noise of `n` samples with unit RMS, optionally shaped by a gain curve."""
    y = rng.standard_normal(n)
    return y if gain is None else unit(shaped(y, sr, gain))


def unit(y: np.ndarray) -> np.ndarray:
    """Scale to unit RMS (silence stays silence)."""
    return y / max(np.sqrt(np.mean(y * y)), 1e-9)


def curve(n: int, sr: float, rng: Rng, rate: float, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """A slowly wandering curve between `low` and `high` that changes about `rate` times a second."""
    points = max(int(np.ceil(n / sr * rate)) + 2, 3)
    x = np.arange(points) / rate * sr - rng.random() * sr / rate
    t = np.arange(n)
    left = np.clip(np.searchsorted(x, t, side="right") - 1, 0, points - 2)
    part = np.clip((t - x[left]) / (x[1] - x[0]), 0, 1)
    values = rng.uniform(low, high, points)
    return values[left] + (values[left + 1] - values[left]) * (0.5 - 0.5 * np.cos(np.pi * part))


def ring(n: int, sr: float, freqs, amps, decays) -> np.ndarray:
    """Sum of decaying partials, as a struck or plucked body gives."""
    y = np.zeros(n)
    for freq, amp, decay in zip(freqs, amps, decays, strict=True):
        if freq < 0.47 * sr:
            length = min(n, int(6 * decay * sr) + 1)
            # A damped sine is the powers of one complex number; in blocks of 256 that is one product per sample.
            turn = 2j * np.pi * freq / sr - 1 / (decay * sr)
            blocks = np.exp(turn * 256 * np.arange(length // 256 + 1))
            y[:length] += amp * np.outer(blocks, np.exp(turn * np.arange(256))).ravel()[:length].imag
    return y


def swell(n: int, sr: float, attack: float, decay: float) -> np.ndarray:
    """Envelope: linear attack of `attack` seconds, then exponential decay (`decay` seconds to 1/e)."""
    t = np.arange(n) / sr
    return np.minimum(t / max(attack, 1e-4), 1) * np.exp(-np.maximum(t - attack, 0) / decay)


def add(y: np.ndarray, event: np.ndarray, at: float, sr: float) -> None:
    """Add `event` into `y` in place from `at` seconds on; what hangs over either end is dropped."""
    start = int(at * sr)
    if start < 0:
        event, start = event[-start:], 0
    length = min(len(event), len(y) - start)
    if length > 0:
        y[start : start + length] += event[:length]


def times(seconds: float, rng: Rng, period: float, jitter: float = 0.2, first: float = 0.3) -> np.ndarray:
    """Onset times of a repeated event, in seconds: roughly every `period`, the first within `first` periods."""
    count = int(seconds / period * (1 + 2 * jitter)) + 2
    steps = period * np.exp(jitter * rng.standard_normal(count))
    steps[0] = period * first * rng.random()
    onsets = np.cumsum(steps)
    kept = onsets[onsets < seconds - 0.04]
    return kept if len(kept) else np.array([0.0])


def sparks(n: int, sr: float, rng: Rng, rate: float, spread: float = 1.0) -> np.ndarray:
    """Impulses at random times, `rate` a second on average, with log-normal strengths of either sign."""
    y = np.zeros(n)
    count = rng.poisson(rate * n / sr) + 1
    strength = np.exp(spread * rng.standard_normal(count)) * np.sign(rng.standard_normal(count))
    np.add.at(y, rng.integers(0, n, count), strength)
    return y


def harmonics(f0: np.ndarray, sr: float) -> np.ndarray:
    """Band-limited pulse train following a pitch curve."""
    count = max(int(0.45 * sr / f0.max()), 1)
    half = np.pi * np.cumsum(f0) / sr
    below = np.sin(half)
    above = np.sin((2 * count + 1) * half)
    near = np.abs(below) < 1e-6
    pulse = np.where(near, 2 * count + 1, above / np.where(near, 1, below))
    return (pulse - 1) / np.sqrt(2 * count)


def painted(y: np.ndarray, gains: np.ndarray, n_fft: int = 512) -> np.ndarray:
    """Filter `y` with a gain curve that changes over time (short-time spectra, overlap-add)."""
    hop, window = n_fft // 4, np.hanning(n_fft + 1)[:-1]
    frames = len(gains)
    padded = np.zeros((frames + 3) * hop)
    padded[2 * hop : 2 * hop + len(y)] = y[: len(padded) - 2 * hop]
    blocks = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop][:frames]
    blocks = irfft(rfft(blocks * window, axis=1) * gains, n_fft, axis=1) * window / 1.5
    out = np.zeros((frames + 3, hop))
    for part in range(4):
        out[part : part + frames] += blocks[:, part * hop : (part + 1) * hop]
    return out.ravel()[2 * hop : 2 * hop + len(y)]


def loudness(y: np.ndarray, sr: float) -> float:
    """RMS of the loud parts: the 90th percentile of 50 ms RMS values, so that pauses do not count."""
    block = max(int(0.05 * sr), 1)
    count = max(len(y) // block, 1)
    powers = np.mean(np.resize(y, count * block).reshape(count, block) ** 2, axis=1)
    return float(np.sqrt(np.percentile(powers, 90))) + 1e-9


def convolved(y: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve by FFT and keep the length of `y`."""
    size = next_fast_len(len(y) + len(response), real=True)
    return irfft(rfft(y, size) * rfft(response, size), size)[: len(y)]


def room(y: np.ndarray, sr: float, who: Rng, seconds: float, wet: float) -> np.ndarray:
    """Put a dry sound into a room."""
    length = max(int(min(seconds, 2.0) * sr), 8)
    t = np.arange(length) / sr
    tail = who.standard_normal(length) * np.exp(-6.9 * t / seconds) * (t > 0.004 + 0.01 * who.random())
    tail = shaped(tail, sr, lambda f: 1 / (1 + f / who.uniform(2000, 7000)))
    tail *= np.sqrt(wet) / max(np.sqrt(np.sum(tail**2)), 1e-9)
    return y + convolved(y, tail)


def device(who: Rng, colour: float = 1.0) -> Gain:
    """Frequency response of one recorder and microphone: low cut, high cut, tilt and three resonances."""
    low, high = log_uniform(who, 20, 150), log_uniform(who, 5000, 14000)
    slope = colour * who.normal(0, 1.5)
    bumps = [(log_uniform(who, 150, 7000), colour * who.normal(0, 4.0), who.uniform(0.2, 0.7)) for _ in range(3)]

    def gain(f: np.ndarray) -> np.ndarray:
        g = passband(f, low, high) * tilt(f, slope)
        for centre, decibels, octaves in bumps:
            g = g * 10 ** (decibels / 20 * bump(f, centre, octaves))
        return g

    return gain


def to_int16(y: np.ndarray) -> np.ndarray:
    """Round -1..1 to 16-bit integers, clipping what lies beyond."""
    return np.clip(np.rint(y * 32767), -32768, 32767).astype(np.int16)
