"""Pictures of an opened network: what its layers put out, what its filters listen to, what its maps mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import librosa
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from helpers import scores
from helpers.plots import LINES

# Filters may be narrow: the response is drawn at so many frequencies, so that no mel band falls between two of them.
_N_POINTS = 4097
# A panel is about as many pixels wide. Matplotlib would blur neighbouring channels when it makes more places fit.
_COLUMNS = 600


def activation_plot(maps: Mapping[str, np.ndarray], seconds: float) -> Figure:
    """Draw what layers put out for one clip, a panel each: the greater, the darker.

    `maps` as from `inside.activations`, of one clip [shape=(time, channels) or (bands, frames, channels)]; of the
    latter the first 16 channels are drawn, side by side. Black is the 99.5th percentile, so that peaks hide nothing.
    """
    fig, axes = plt.subplots(len(maps), figsize=(8, 1.9 * len(maps) + 0.4), squeeze=False, layout="constrained")
    for ax, (name, values) in zip(axes.flat, maps.items(), strict=True):
        *places, channels = values.shape
        size, zeros = " × ".join(map(str, places)), 100 * np.mean(values == 0)
        low, high = min(0, values.min()), np.percentile(values, 99.5)
        options = {"vmin": low, "vmax": high if high > low else max(values.max(), low + 1e-6), "cmap": "Greys"}
        if values.ndim == 2:
            # Of more places than the panel has columns, neighbours are drawn as one, the greatest of them.
            starts = np.linspace(0, len(values), min(len(values), _COLUMNS), endpoint=False).astype(int)
            values, options["interpolation"] = np.maximum.reduceat(values, starts), "nearest"
            image = ax.imshow(values.T, origin="lower", aspect="auto", extent=(0, seconds, 0, channels), **options)
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
    """Frequencies (Hz, from 0 to sr / 2), and how much a first layer's filters let through of each.

    `kernel` [shape=(taps, 1, n_filters)] are the weights of a Conv1D that reads the waveform; gains
    [shape=(n_filters, n_points)] in dB, no lower than 80 dB below the filter's own peak, and -200 dB for a filter of
    zeros. Strides are left out: with them, what lies above the new sr / 2 comes through at another place (aliasing).
    """
    frequencies = np.linspace(0, sr / 2, n_points)
    waves = np.exp(-2j * np.pi / sr * np.outer(frequencies, np.arange(len(kernel))))
    gain = np.abs(waves @ kernel[:, 0].astype(np.float64)).T
    floor = np.maximum(1e-4 * gain.max(axis=1, keepdims=True), 1e-10)
    return frequencies, 20 * np.log10(np.maximum(gain, floor))


def response_plot(kernel: np.ndarray, sr: float) -> Figure:
    """Draw what a first layer (`kernel` as above) listens to, sorted by peak frequency, beside as many mel bands.

    Every filter is drawn relative to its own peak, down to -40 dB; filters of zeros are left out.
    """
    frequencies, learned = frequency_response(kernel, sr, _N_POINTS)
    learned = learned[learned.max(axis=1) > -200]
    learned = learned[np.argsort(learned.argmax(axis=1), kind="stable")]
    bands = librosa.filters.mel(sr=sr, n_fft=2 * (_N_POINTS - 1), n_mels=len(learned))
    mel = 10 * np.log10(np.maximum(bands, 1e-10))  # mel bands weigh power
    fig, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
    for ax, magnitudes, title in ((axes[0], learned, "learned filters"), (axes[1], mel, "mel bands")):
        relative = magnitudes - magnitudes.max(axis=1, keepdims=True)
        extent = (0.5, len(relative) + 0.5, 0, sr / 2000)
        options = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": "Greys"}
        image = ax.imshow(relative.T, vmin=-40, vmax=0, extent=extent, **options)
        ax.set(title=f"{len(relative)} {title}", xlabel="number, by frequency")
    fig.colorbar(image, ax=axes[1], label="gain re peak, dB", extend="min")
    share = 100 * (np.arange(len(learned)) + 0.5) / len(learned)
    axes[2].plot(share, frequencies[learned.argmax(axis=1)] / 1000, "k-", label="learned, peak")
    axes[2].plot(share, librosa.mel_frequencies(len(mel) + 2, fmax=sr / 2)[1:-1] / 1000, "k--", label="mel, centre")
    axes[2].set(title="centre frequencies", xlabel="filters below it, %")
    axes[2].legend(fontsize="small")
    axes[0].set_ylabel("frequency, kHz")
    return fig


def attribution_plot(picture: np.ndarray, values: np.ndarray, seconds: float, title: str, unit: str) -> Figure:
    """Draw a picture, and below it what spoke for the class (dark) and against it (light), in one symmetric grey.

    Both [shape=(bands, frames)]; `values` from `inside.integrated_gradients`. Attributions of single pixels flicker, so
    they are drawn averaged over their neighbours (a Gaussian; their sum stays).
    """
    smooth = gaussian_filter(values.astype(np.float64), np.maximum(1, np.array(values.shape) / 64))
    most = np.percentile(np.abs(smooth), 99.5) or 1.0
    fig, axes = plt.subplots(2, figsize=(8, 6), sharex=True, sharey=True, layout="constrained")
    options = {"origin": "lower", "aspect": "auto", "extent": (0, seconds, 0, len(values)), "cmap": "Greys"}
    fig.colorbar(axes[0].imshow(picture, **options), ax=axes[0], label=unit)
    image = axes[1].imshow(smooth, vmin=-most, vmax=most, **options)
    bar = fig.colorbar(image, ax=axes[1], label="probability per pixel", extend="both")
    bar.formatter.set_powerlimits((-2, 2))
    axes[0].set(title=title, ylabel="mel band")
    axes[1].set(xlabel="time, s", ylabel="mel band")
    axes[1].set_title("darker than the grey around: speaks for it; lighter: against it", fontsize="medium")
    return fig


def deletion_plot(curves: Mapping[str, np.ndarray], group: Sequence | None = None) -> Figure:
    """Draw the mean of each order's `sanity.deletion_curves`, and around it the 95 % interval over clips or groups."""
    fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, (name, rows) in enumerate(curves.items()):
        style, marker = LINES[number]
        percent = np.linspace(0, 100, rows.shape[1])
        band = scores.mean(rows, group, share=False)
        line = {"linestyle": style, "color": f"C{number}"}
        ax.plot(percent, band["value"], marker=marker, markersize=4, label=f"{name} (n = {len(rows)})", **line)
        ax.plot(percent, np.stack([band["low"], band["high"]], axis=1), linewidth=0.6, **line)
        ax.fill_between(percent, band["low"], band["high"], color=f"C{number}", alpha=0.12, linewidth=0)
    ax.set(xlabel="share of the input deleted, %", ylabel="probability of the class", ylim=(0, None))
    ax.legend()
    return fig
