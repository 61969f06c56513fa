"""Frequency responses against scipy; what the figures of an opened network show."""

import warnings

import librosa
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.signal

from helpers.topics.pictures import activation_plot, frequency_response, response_plot

matplotlib.use("agg")
RNG = np.random.default_rng(0)
SR = 16_000


def sines(*frequencies, taps=801):
    """Windowed sines of these frequencies, as a kernel."""
    times = np.arange(taps) / SR
    return np.stack([scipy.signal.get_window("hann", taps) * np.sin(2 * np.pi * f * times) for f in frequencies], -1)[
        :, None
    ]


@pytest.mark.parametrize(("taps", "n_points"), [(1, 512), (9, 512), (80, 100), (700, 512)])
def test_against_scipy(taps, n_points):
    kernel = RNG.normal(size=(taps, 1, 5))
    frequencies, magnitudes = frequency_response(kernel, SR, n_points)
    assert magnitudes.shape == (5, n_points)
    for i in range(5):
        wanted, response = scipy.signal.freqz(kernel[:, 0, i], worN=n_points, fs=SR, include_nyquist=True)
        np.testing.assert_allclose(frequencies, wanted)
        gain = np.abs(response)
        np.testing.assert_allclose(magnitudes[i], 20 * np.log10(np.maximum(gain, gain.max() * 1e-4)), atol=1e-6)


def test_levels_known_on_paper():
    """A single 1 lets all through as it is; the mean of two neighbours stops sr / 2; their difference stops 0 Hz."""
    kernel = np.array([[0, 0.5, 0.5, 0], [1, 0.5, -0.5, 0]]).reshape(2, 1, 4)
    frequencies, magnitudes = frequency_response(kernel, SR, 3)
    assert list(frequencies) == [0, SR / 4, SR / 2]
    third = 10 * np.log10(0.5)
    expected = [[0, 0, 0], [0, third, -80], [-80, third, 0], [-200, -200, -200]]
    np.testing.assert_allclose(magnitudes, expected, atol=1e-9)


def test_filters_are_sorted_beside_mel_bands():
    fig = response_plot(sines(3000, 500, 7000, 1500), SR)
    learned, mel, curves, bar = fig.axes
    values = learned.images[0].get_array()
    peaks = values.argmax(axis=0) / (len(values) - 1) * SR / 2
    np.testing.assert_allclose(peaks, [500, 1500, 3000, 7000], atol=20)
    np.testing.assert_allclose(values.max(axis=0), 0)
    solid, dashed = curves.lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    np.testing.assert_allclose(solid.get_ydata(), peaks / 1000)
    centres = librosa.mel_frequencies(6, fmin=0, fmax=SR / 2)[1:-1]
    np.testing.assert_allclose(dashed.get_ydata(), centres / 1000)
    assert list(solid.get_xdata()) == list(dashed.get_xdata()) == [12.5, 37.5, 62.5, 87.5]
    bands = mel.images[0].get_array()
    np.testing.assert_allclose(bands.argmax(axis=0) / (len(bands) - 1) * SR / 2, centres, atol=2)
    # Half of the weight, 3 dB less: a triangle is there halfway from its top to its foot.
    row = int(np.round((centres[1] + centres[2]) / 2 / (SR / 2) * (len(bands) - 1)))
    assert bands[row, 1] == pytest.approx(10 * np.log10(0.5), abs=0.02)
    assert learned.get_ylabel() == "frequency, kHz" and learned.get_ylim() == (0, 8) and "dB" in bar.get_ylabel()
    plt.close(fig)


def test_number_of_bands_and_filters_of_zeros():
    kernel = np.concatenate([sines(1000, 2000), np.zeros((801, 1, 1))], axis=2)
    fig = response_plot(kernel, SR)
    assert [ax.images[0].get_array().shape[1] for ax in fig.axes[:2]] == [2, 2]
    assert fig.axes[0].get_title() == "2 learned filters"
    plt.close(fig)


def test_layers_over_time():
    values = np.maximum(0, RNG.normal(size=(100, 8)))
    values[:, 3] = 0
    fig = activation_plot({"relu1": values, "relu2": np.zeros((5, 2))}, 1.5)
    first, second = fig.axes[:2]
    np.testing.assert_array_equal(first.images[0].get_array(), values.T)
    assert first.images[0].get_extent() == [0, 1.5, 0, 8]
    zeros = round(100 * np.count_nonzero(values == 0) / 800)
    assert first.get_title() == f"relu1: 100 places, 8 channels, {zeros} % zeros"
    assert second.get_title() == "relu2: 5 places, 2 channels, 100 % zeros"
    assert (second.get_xlabel(), first.get_ylabel()) == ("time, s", "channel")
    plt.close(fig)


def test_single_peaks_of_long_clips_are_drawn():
    values = np.zeros((16_001, 3))
    values[[0, 9_000, 16_000], [0, 1, 2]] = 1
    fig = activation_plot({"relu": values}, 1.0)
    drawn = np.asarray(fig.axes[0].images[0].get_array())
    assert drawn.shape == (3, 600) and (drawn.sum(axis=1) == 1).all()
    np.testing.assert_allclose(drawn.argmax(axis=1), [0, 9_000 / 16_001 * 600, 599], atol=1)
    assert fig.axes[0].get_title() == "relu: 16001 places, 3 channels, 100 % zeros"
    assert fig.axes[0].images[0].get_clim() == (0, 1)
    plt.close(fig)


@pytest.mark.parametrize(("channels", "rows", "columns"), [(3, 1, 3), (8, 1, 8), (11, 2, 8), (40, 2, 8)])
def test_channels_of_pictures_side_by_side(channels, rows, columns):
    """Low bands are at the foot of each tile, the first channel at the top left."""
    values = RNG.normal(size=(4, 6, channels))
    fig = activation_plot({"relu": values}, 5.0)
    tiles = fig.axes[0].images[0].get_array()
    assert tiles.shape == (rows * 4, columns * 6)
    for channel in range(min(channels, 16)):
        row, column = divmod(channel, 8)
        tile = tiles[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6]
        np.testing.assert_array_equal(tile[::-1], values[..., channel])
    assert np.isfinite(np.ma.filled(tiles, np.nan)).sum() == min(channels, 16) * 24
    assert fig.axes[0].get_title().startswith(f"relu: 4 × 6 places, {channels} channels")
    assert f"channels 1 to {min(channels, 16)}" in fig.axes[0].get_xlabel()
    plt.close(fig)


def test_figures_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for maps in (
            {"a": np.zeros((3, 1))},
            {"a": np.ones((2, 2, 1)), "b": -np.ones((4, 4)), "c": np.full((2, 2), 3.0)},
        ):
            fig = activation_plot(maps, 1.0)
            fig.canvas.draw()
            plt.close(fig)
        fig = response_plot(RNG.normal(size=(9, 1, 1)), 8000)
        fig.canvas.draw()
        plt.close(fig)
