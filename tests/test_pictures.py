"""Frequency responses against scipy and librosa; what the figures of an opened network show."""

import librosa
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.signal

from helpers.topics.pictures import activation_plot, attribution_plot, deletion_plot, frequency_response, response_plot

matplotlib.use("agg")
pytestmark = pytest.mark.filterwarnings("error")  # from matplotlib and numpy
RNG = np.random.default_rng(0)
SR = 16_000


@pytest.fixture(autouse=True)
def drawn():
    """Figures of a test are drawn, without a warning, and closed."""
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


@pytest.mark.parametrize(("taps", "n_points"), [(1, 512), (80, 100), (700, 512)])
def test_responses_against_scipy(taps, n_points):
    kernel = RNG.normal(size=(taps, 1, 2))
    frequencies, magnitudes = frequency_response(kernel, SR, n_points)
    assert magnitudes.shape == (2, n_points)
    for i in range(2):
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


def test_filters_are_sorted_beside_as_many_mel_bands():
    """Windowed sines as filters; one of zeros is left out."""
    times, sines = np.arange(801) / SR, np.array([3000, 500, 0, 7000, 1500])
    kernel = scipy.signal.get_window("hann", 801)[:, None] * np.sin(2 * np.pi * sines * times[:, None])
    learned, mel, curves, bar = response_plot(kernel[:, None], SR).axes
    assert learned.get_title() == "4 learned filters"
    values = learned.images[0].get_array()
    peaks = values.argmax(axis=0) / (len(values) - 1) * SR / 2
    np.testing.assert_allclose(peaks, [500, 1500, 3000, 7000], atol=20)
    np.testing.assert_allclose(values.max(axis=0), 0)
    solid, dashed = curves.lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    centres = librosa.mel_frequencies(6, fmin=0, fmax=SR / 2)[1:-1]
    np.testing.assert_allclose(solid.get_xydata(), np.c_[[12.5, 37.5, 62.5, 87.5], peaks / 1000])
    np.testing.assert_allclose(dashed.get_xydata(), np.c_[[12.5, 37.5, 62.5, 87.5], centres / 1000])
    bands = mel.images[0].get_array()
    np.testing.assert_allclose(bands.argmax(axis=0) / (len(bands) - 1) * SR / 2, centres, atol=2)
    # Half of the weight, 3 dB less: a triangle is there halfway from its top to its foot.
    row = int(np.round((centres[1] + centres[2]) / 2 / (SR / 2) * (len(bands) - 1)))
    assert bands[row, 1] == pytest.approx(10 * np.log10(0.5), abs=0.02)
    assert learned.get_ylabel() == "frequency, kHz" and learned.get_ylim() == (0, 8) and "dB" in bar.get_ylabel()


def test_layers_over_time():
    values = np.maximum(0, RNG.normal(size=(100, 8)))
    values[:, 3] = 0
    first, second, third = activation_plot({"a": values, "b": np.zeros((5, 2)), "c": -np.ones((3, 1))}, 1.5).axes[:3]
    np.testing.assert_array_equal(first.images[0].get_array(), values.T)
    assert first.images[0].get_extent() == [0, 1.5, 0, 8]
    zeros = round(100 * np.count_nonzero(values == 0) / 800)
    assert first.get_title() == f"a: 100 places, 8 channels, {zeros} % zeros"
    assert second.get_title() == "b: 5 places, 2 channels, 100 % zeros"
    assert (third.get_xlabel(), first.get_ylabel()) == ("time, s", "channel")


def test_single_peaks_of_long_clips_are_drawn():
    values = np.zeros((16_001, 3))
    values[[0, 9_000, 16_000], [0, 1, 2]] = 1
    ax = activation_plot({"relu": values}, 1.0).axes[0]
    drawn = np.asarray(ax.images[0].get_array())
    assert drawn.shape == (3, 600) and (drawn.sum(axis=1) == 1).all()
    np.testing.assert_allclose(drawn.argmax(axis=1), [0, 9_000 / 16_001 * 600, 599], atol=1)
    assert ax.get_title() == "relu: 16001 places, 3 channels, 100 % zeros"
    assert ax.images[0].get_clim() == (0, 1)


@pytest.mark.parametrize(("channels", "rows", "columns"), [(1, 1, 1), (8, 1, 8), (11, 2, 8), (40, 2, 8)])
def test_channels_of_pictures_side_by_side(channels, rows, columns):
    """Low bands are at the foot of each tile, the first channel at the top left, places without one empty."""
    values, shown = RNG.normal(size=(4, 6, channels)), min(channels, 16)
    ax = activation_plot({"relu": values}, 5.0).axes[0]
    tiles = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert tiles.shape == (rows * 4, columns * 6) and np.isfinite(tiles).sum() == shown * 24
    for channel in range(shown):
        row, column = divmod(channel, 8)
        tile = tiles[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6]
        np.testing.assert_array_equal(tile[::-1], values[..., channel])
    assert ax.get_title().startswith(f"relu: 4 × 6 places, {channels} channels")
    assert f"channels 1 to {shown}" in ax.get_xlabel()


def test_orders_of_deletion_are_told_apart_without_colour():
    curves = {name: RNG.uniform(size=(9, 11)) for name in ("most", "random", "least")}
    (ax,) = deletion_plot(curves).axes
    means = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in means] == [f"{name} (n = 9)" for name in curves]
    assert len({line.get_linestyle() for line in means}) == len({line.get_marker() for line in means}) == 3
    for line, rows in zip(means, curves.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.c_[np.arange(0, 101, 10), rows.mean(axis=0)])
    assert ax.get_xlabel() == "share of the input deleted, %" and ax.get_ylabel() == "probability of the class"
    assert len(ax.collections) == 3


def test_attributions_keep_their_sum_and_their_zero_is_grey():
    values = np.zeros((64, 128))
    values[30:34, 60:64], values[10:12, 100:102] = 0.02, -0.01
    fig = attribution_plot(RNG.random((64, 128)), values, 2.0, "a clip", unit="dB")
    picture, shown = (ax.images[0] for ax in fig.axes[:2])
    assert picture.get_array().shape == shown.get_array().shape == (64, 128)
    assert shown.get_array().sum() == pytest.approx(values.sum())
    low, high = shown.get_clim()
    assert low == -high and shown.get_extent() == [0, 2.0, 0, 64]
    assert shown.get_array()[31, 61] > 0.01 and shown.get_array()[10, 100] < -0.002
