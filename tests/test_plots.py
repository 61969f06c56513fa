import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("n", [1, 3, 4, 6, 10])
def test_grid_has_one_panel_per_name_and_no_empty_ones(n):
    names = [f"class {i}" for i in range(n)]
    fig, axes = plots.grid(names, "time, s", "dB")
    assert list(axes) == names
    assert len(fig.axes) == n
    assert [ax.get_title() for ax in fig.axes] == names


def test_the_lowest_panel_of_every_column_shows_its_times():
    _, axes = plots.grid(list("abcdef"), "time, s", "dB")
    labelled = {name for name, ax in axes.items() if ax.xaxis.get_tick_params()["labelbottom"]}
    assert {"c", "d", "e", "f"} <= labelled


def test_hertz_axis_puts_a_frequency_in_the_middle_of_its_row():
    _, ax = plt.subplots()
    plots._hertz_axis(ax, np.arange(0, 11000, 10.0))  # row i holds 10·i Hz
    shown = {text.get_text(): tick for text, tick in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert shown["10"] == pytest.approx(1000.5)
    assert shown["4"] == pytest.approx(400.5)
    assert "16" not in shown
    assert np.diff(sorted(shown.values())).min() >= 0.14 * 1100


def test_gallery_draws_every_picture_on_one_scale():
    pictures = {"soft": np.full((8, 5), -60.0), "loud": np.linspace(-60, 0, 40).reshape(8, 5)}
    fig = plots.gallery(pictures, 2.5, "rows", "dB")
    images = [ax.images[0] for ax in fig.axes if ax.images]
    assert len(images) == 2
    assert images[0].get_clim() == images[1].get_clim()
    assert images[0].get_extent() == [0, 2.5, 0, 8]
    np.testing.assert_array_equal(images[1].get_array(), pictures["loud"])


def test_gallery_takes_pictures_of_different_heights_with_their_own_frequencies():
    rows = {"short": np.linspace(0, 11025, 129), "long": np.linspace(0, 11025, 1025)}
    fig = plots.gallery({name: np.zeros((len(f), 4)) for name, f in rows.items()}, 1.0, "kHz", "dB", rows)
    heights = [ax.get_ylim()[1] for ax in fig.axes if ax.images]
    assert heights == [129, 1025]


def test_markers_differ_in_shape_or_filling():
    looks = [(one["marker"], one["facecolor"]) for one in plots.markers(30)]
    assert len(set(looks)) == 30
