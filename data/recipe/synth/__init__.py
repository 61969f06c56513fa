"""Sounds made from nothing: the sources of the embedded sample, and the way they are recorded.

`KINDS` names every source; `recording` adds room, background, microphone and level; `scene` mixes several sources in
stereo. All of it is computed in float64 from the generators given, with no recording of anyone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recipe.synth import parts, textures, things, tones, voices, words
from recipe.synth.parts import Rng

Source = Callable[[int, float, Rng, Rng], np.ndarray]

KINDS: dict[str, Source] = {
    function.__name__: function
    for function in (
        voices.speech, voices.laughter, voices.cough, voices.sneeze, voices.crying_baby, voices.applause,
        voices.bark, voices.meow, voices.rooster, things.birdsong, things.cricket,
        tones.guitar, tones.piano, tones.organ, tones.drums, tones.hihat,
        tones.siren, tones.beeps, tones.bell, tones.telephone,
        things.footsteps, things.door, things.keys, things.pass_by,
        things.drip, things.zap, things.clock_tick, things.typing, things.glass, things.zipper,
        things.sawing, things.helicopter, things.crackle,
        textures.hiss, textures.hum, textures.fan, textures.rumble,
        textures.rain, textures.wind, textures.waves, textures.stream, textures.fire,
    )
}  # fmt: skip

# What is heard behind a recording, and how often.
BACKGROUNDS = {"rumble": 0.3, "fan": 0.15, "wind": 0.15, "hiss": 0.15, "hum": 0.1, "speech": 0.08, "birdsong": 0.07}


def source(kind: str, n: int, sr: float, who: Rng, rng: Rng) -> np.ndarray:
    """Render one dry sound of unit loudness."""
    if kind.startswith("word:"):
        y = words.say(kind.removeprefix("word:"), n, sr, who, rng)
    else:
        y = KINDS[kind](n, sr, who, rng)
    return y / parts.loudness(y, sr)


def recording(
    dry: np.ndarray,
    sr: float,
    place: Rng,
    rng: Rng,
    snr: tuple[float, float],
    reverb: float,
    colour: float,
    level: float,
) -> np.ndarray:
    """Record a dry sound: room, background, microphone and level."""
    n = len(dry)
    microphone, seconds, wet = (
        parts.device(place, colour),
        parts.log_uniform(place, 0.15, 1.3),
        reverb * place.random() ** 2,
    )
    slope, floor, habit = place.uniform(-6, 1), place.uniform(-65, -40), place.random()
    y = parts.room(dry, sr, place, seconds, wet * rng.uniform(0.3, 1.5))
    behind = rng.choice(list(BACKGROUNDS), p=list(BACKGROUNDS.values()))
    distance = 10 ** (-rng.uniform(*snr) / 20)
    y = y + distance * source(str(behind), n, sr, rng, rng)
    y = parts.shaped(y, sr, microphone)
    y = y / parts.loudness(y, sr) + 10 ** (floor / 20) * parts.noise(n, sr, rng, lambda f: parts.tilt(f, slope))
    decibels = -1 - level * (0.6 * habit + 0.4 * rng.random())
    return y / np.abs(y).max() * 10 ** (decibels / 20)


def scene(layers: list[dict], n: int, sr: float, place: Rng, rng: Rng) -> np.ndarray:
    """Mix an acoustic scene of several layers in stereo."""
    y = np.zeros((n, 2))
    for layer in layers:
        own = np.random.default_rng(place.integers(2**62))
        present, offset, pan = place.random() < layer["share"], layer["spread"] * place.standard_normal(), rng.random()
        if not present:
            continue
        mono = source(layer["kind"], n, sr, own, rng)
        mono = mono * 10 ** ((layer["level"] + offset + rng.normal(0, 2)) / 20)
        late = parts.room(mono, sr, own, parts.log_uniform(own, 0.2, 1.5), own.uniform(0.05, 1))
        # Two ears: different levels, a delay of at most 0.6 ms, and a share of the room that only one of them hears.
        delay = int(abs(pan - 0.5) * 0.0012 * sr)
        near, far = (0, 1) if pan < 0.5 else (1, 0)
        y[:, near] += np.sqrt(0.5 + abs(pan - 0.5)) * mono + 0.4 * (late - mono)
        y[delay:, far] += (np.sqrt(0.5 - abs(pan - 0.5)) * late)[: n - delay]
    microphone, slope = parts.device(place), place.uniform(-6, 0)
    for side in range(2):
        y[:, side] = parts.shaped(y[:, side], sr, microphone)
        y[:, side] += 0.03 * y.std() * parts.noise(n, sr, rng, lambda f: parts.tilt(f, slope))
    return y / np.abs(y).max() * 10 ** (-(3 + 15 * place.random()) / 20)
