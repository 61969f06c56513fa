"""Augmentation: new training clips out of old ones. For training clips only, never for validation or test."""

from __future__ import annotations

import librosa
import numpy as np

N_FFT = 2048


def noisy_pitched(
    y: np.ndarray, sr: int, rng: np.random.Generator, quarter_tones: float = 4.0, rms_over_noise: float = 25.0
) -> np.ndarray:
    """Shift the pitch of a clip by a random amount, then add faint Gaussian noise.

    The noise comes last, so that it stays white whatever the shift.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)], float
        Samples of one clip, full scale at ±1.
    sr : int
        Sampling rate, Hz.
    rng : np.random.Generator
        Draws the shift and the noise. The same seed gives the same copy; the global generators stay untouched.
    quarter_tones : float
        Largest shift up or down, in quarter tones (24 to the octave); the default is two semitones.
    rms_over_noise : float
        RMS of the clip divided by the standard deviation of the noise; the default lies 28 dB below the clip.

    Returns
    -------
    np.ndarray [shape=(n,)], float32
        May exceed ±1 a little where `y` reaches full scale.

    Notes
    -----
    Pitch shifting by phase vocoder and resampling (`librosa.effects.pitch_shift`); the duration stays. Used by
    notebook 01.
    """
    steps = rng.uniform(-quarter_tones, quarter_tones)
    noise = rng.standard_normal(len(y)) * np.sqrt(np.mean(np.square(y, dtype=np.float64))) / rms_over_noise
    # A clip shorter than one frame of the vocoder is lengthened with silence for the shift, and cut afterwards.
    padded = np.pad(y, (0, max(0, N_FFT - len(y))))
    shifted = librosa.effects.pitch_shift(padded, sr=sr, n_steps=steps, bins_per_octave=24, n_fft=N_FFT)[: len(y)]
    return (shifted + noise).astype(np.float32)
