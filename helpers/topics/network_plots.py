"""Pictures of an opened network: what its layers put out for a clip, and what its first filters listen to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from helpers.base import CourseError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Filters may be narrow: the response is drawn at so many frequencies, so that no mel band falls between two of them.
_N_POINTS = 4097
# A panel is about as many pixels wide. Matplotlib would blur neighbouring channels when it makes more places fit.
_COLUMNS = 600


def activation_plot(maps: Mapping[str, np.ndarray], seconds: float) -> Figure:
    """Draw what layers put out for one clip, a panel each: the greater, the darker.

    Parameters
    ----------
    maps : mapping of str to np.ndarray [shape=(time, channels) or (bands, frames, channels)]
        From `activations.activations`, without the batch axis. Of (bands, frames) the first 16 channels are drawn,
        side by side.
    seconds : float
        Length of the clip.

    Returns
    -------
    Figure

    Raises
    ------
    CourseError
        There is no map, or one has another number of axes.

    Notes
    -----
    Black stands for the 99.5th percentile of a layer, so that single peaks do not hide the rest. Of more than 600
    places in time, neighbours are drawn as one, with the greatest of their values. Used by notebook 10.
    """
    import matplotlib.pyplot as plt

    if not maps or any(values.ndim not in (2, 3) or not values.size for values in maps.values()):
        shapes = ", ".join(str(np.shape(values)) for values in maps.values()) or "nothing"
        raise CourseError(f"Wanted are maps (time, channels) or (bands, frames, channels) of one clip, not {shapes}.")
    fig, axes = plt.subplots(len(maps), figsize=(8, 1.9 * len(maps) + 0.4), squeeze=False, layout="constrained")
    for ax, (name, values) in zip(axes.flat, maps.items(), strict=True):
        *places, channels = values.shape
        size, zeros = " × ".join(map(str, places)), 100 * np.mean(values == 0)
        low, high = min(0, values.min()), np.percentile(values, 99.5)
        options = {"vmin": low, "vmax": high if high > low else max(values.max(), low + 1e-6), "cmap": "Greys"}
        if values.ndim == 2:
            extent = (0, seconds, 0, channels)
            starts = np.linspace(0, len(values), min(len(values), _COLUMNS), endpoint=False).astype(int)
            values = np.maximum.reduceat(values, starts)
            options |= {"origin": "lower", "interpolation": "nearest"}
            image = ax.imshow(values.T, aspect="auto", extent=extent, **options)
            ax.set(xlabel="time, s", ylabel="channel")
            ax.label_outer()
        else:
            shown = min(channels, 16)
            columns = min(shown, 8)
            rows = -(-shown // columns)
            tiles = np.full((*places, rows * columns), np.nan)
            tiles[..., :shown] = values[::-1, :, :shown]  # pictures have their first row on top
            tiles = tiles.reshape(*places, rows, columns).transpose(2, 0, 3, 1).reshape(rows * places[0], -1)
            image = ax.imshow(tiles, aspect="auto", extent=(0, columns, rows, 0), **options)
            ax.set(xticks=range(1, columns), yticks=range(1, rows), ylabel="bands, low to high")
            ax.set_xlabel(f"channels 1 to {shown}, row by row; each from 0 to {seconds:g} s")
            ax.tick_params(length=0, labelbottom=False, labelleft=False)
            ax.grid(color="black", linewidth=0.8)
        ax.set_title(f"{name}: {size} places, {channels} channels, {zeros:.0f} % zeros", fontsize="medium")
        fig.colorbar(image, ax=ax, label="activation")
    return fig


def frequency_response(kernel: np.ndarray, sr: float, n_points: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """Compute how much a first layer's filters let through of each frequency.

    Parameters
    ----------
    kernel : np.ndarray [shape=(taps, 1, n_filters)]
        Weights of a Conv1D that reads the waveform.
    sr : float
        Sampling rate of the waveform, Hz.
    n_points : int
        Number of frequencies, at equal distances from 0 to sr / 2 inclusive.

    Returns
    -------
    frequencies : np.ndarray [shape=(n_points,)], float64
        Hz
    magnitudes : np.ndarray [shape=(n_filters, n_points)], float64
        dB; 0 dB is gain 1. No lower than 80 dB below the filter's own peak, and -200 dB for a filter of zeros.

    Raises
    ------
    CourseError
        The kernel has another shape or holds values that are no numbers, sr is not positive, or n_points is below 2.

    Notes
    -----
    Magnitude of the Fourier transform of the weights, as `scipy.signal.freqz`. Keras's convolution does not reverse
    its kernel; that changes the phase only. Strides are left out: with them, what lies above the new sr / 2 comes
    through as well, at another place (aliasing). Used by notebook 10.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    if kernel.ndim != 3 or kernel.shape[1] != 1 or not kernel.size:
        raise CourseError(f"A kernel (taps, 1, filters) of a Conv1D on the waveform is wanted, not {kernel.shape}.")
    if not np.isfinite(kernel).all():
        raise CourseError("The kernel contains values that are not a number or infinite.")
    if not sr > 0 or n_points < 2:
        raise CourseError(f"sr must be positive and n_points at least 2, not {sr!r} and {n_points!r}.")
    frequencies = np.linspace(0, sr / 2, n_points)
    waves = np.exp(-2j * np.pi / sr * np.outer(frequencies, np.arange(len(kernel))))
    gain = np.abs(waves @ kernel[:, 0]).T
    floor = np.maximum(1e-4 * gain.max(axis=1, keepdims=True), 1e-10)
    return frequencies, 20 * np.log10(np.maximum(gain, floor))


def response_plot(kernel: np.ndarray, sr: float, n_mels: int | None = None) -> Figure:
    """Draw what a first layer listens to, its filters sorted by peak frequency, beside a mel filter bank.

    Parameters
    ----------
    kernel : np.ndarray [shape=(taps, 1, n_filters)]
    sr : float
        Hz
    n_mels : int, optional
        Bands of the mel filter bank. None takes as many as there are filters.

    Returns
    -------
    Figure

    Raises
    ------
    CourseError
        As `frequency_response`, or n_mels is below 1.

    Notes
    -----
    Every filter is drawn relative to its own peak, down to -40 dB; filters of zeros are left out. Mel bands weigh
    power, so 10 log10 of the weight is their gain in dB. Bands as in librosa. Used by notebook 10.
    """
    import librosa
    import matplotlib.pyplot as plt

    frequencies, learned = frequency_response(kernel, sr, _N_POINTS)
    learned = learned[learned.max(axis=1) > -200]
    if not len(learned):
        raise CourseError("All filters are zero; there is nothing to draw.")
    learned = learned[np.argsort(learned.argmax(axis=1), kind="stable")]
    n_mels = len(learned) if n_mels is None else n_mels
    if n_mels < 1:
        raise CourseError(f"n_mels must be at least 1, not {n_mels}.")
    bands = librosa.filters.mel(sr=sr, n_fft=2 * (_N_POINTS - 1), n_mels=n_mels)
    mel = 10 * np.log10(np.maximum(bands, 1e-10))
    centres = librosa.mel_frequencies(n_mels + 2, fmin=0, fmax=sr / 2)[1:-1]

    fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
    for ax, magnitudes, title in ((axes[0], learned, "learned filters"), (axes[1], mel, "mel bands")):
        relative = magnitudes - magnitudes.max(axis=1, keepdims=True)
        extent = (0.5, len(relative) + 0.5, 0, sr / 2000)
        options = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": "Greys"}
        image = ax.imshow(relative.T, vmin=-40, vmax=0, extent=extent, **options)
        ax.set(title=f"{len(relative)} {title}", xlabel="number, by frequency")
    fig.colorbar(image, ax=axes[1], label="gain re peak, dB", extend="min")
    peaks = frequencies[learned.argmax(axis=1)]
    for heights, line, label in ((peaks, "k-", "learned, peak"), (centres, "k--", "mel, centre")):
        share = (np.arange(len(heights)) + 0.5) / len(heights)  # comparable where the numbers are not
        axes[2].plot(100 * share, heights / 1000, line, label=label)
    axes[2].set(title="centre frequencies", xlabel="filters below it, %")
    axes[2].legend(fontsize="small")
    axes[0].set_ylabel("frequency, kHz")
    return fig
