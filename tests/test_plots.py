import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers import plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("n", [1, 4, 6, 10])
def test_grid_has_one_panel_per_name_and_times_below_every_column(n):
    names = list("abcdefghij"[:n])
    fig, axes = plots.grid(names, "time, s", "dB")
    assert list(axes) == names and [ax.get_title() for ax in fig.axes] == names
    labelled = {name for name, ax in axes.items() if ax.xaxis.get_tick_params()["labelbottom"]}
    assert labelled >= set(names[-4:])


def test_hertz_axis_puts_a_frequency_in_the_middle_of_its_row():
    _, ax = plt.subplots()
    plots._hertz_axis(ax, np.arange(0, 11000, 10.0))  # row i holds 10·i Hz
    shown = {text.get_text(): tick for text, tick in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)}
    assert shown["10"] == pytest.approx(1000.5)
    assert shown["4"] == pytest.approx(400.5)
    assert "16" not in shown
    assert np.diff(sorted(shown.values())).min() >= 0.14 * 1100


def test_gallery_draws_every_picture_on_one_scale_and_with_its_own_frequencies():
    pictures = {"soft": np.full((8, 5), -60.0), "loud": np.linspace(-60, 0, 60).reshape(12, 5)}
    rows = {name: np.linspace(0, 11025, len(values)) for name, values in pictures.items()}
    fig = plots.gallery(pictures, 2.5, "kHz", "dB", rows)
    soft, loud = (ax.images[0] for ax in fig.axes if ax.images)
    assert soft.get_clim() == loud.get_clim()
    assert soft.get_extent() == [0, 2.5, 0, 8] and soft.axes.get_ylim() == (0, 8) and loud.axes.get_ylim() == (0, 12)
    np.testing.assert_array_equal(loud.get_array(), pictures["loud"])


def test_markers_differ_in_shape_or_filling_and_in_colour_as_far_as_there_are_colours():
    looks = [(one["marker"], one["facecolor"]) for one in plots.markers(20)]
    assert len(set(looks)) == 20
    assert len({one["edgecolor"] for one in plots.markers(7)}) == 7


def test_a_figure_is_shown_with_its_words_and_saved_alike(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "display", shown.append)
    plots.show(plt.figure(), tmp_path, "empty", alt="nothing at all")
    (image,) = shown
    assert image.data == (tmp_path / "figures" / "empty.png").read_bytes() and not plt.get_fignums()
    assert image._repr_mimebundle_()[1]["image/png"]["alt"] == "nothing at all"


def test_confusion_counts_clips_and_shades_shares():
    table = pd.DataFrame({"label": list("aaab"), "predicted": list("aabb")})
    fig = plots.confusion(table, "net")
    (mesh,) = [part for part in fig.axes[0].collections if part.get_array() is not None]
    np.testing.assert_allclose(np.ravel(mesh.get_array()), [200 / 3, 100 / 3, 0, 100])
    assert [text.get_text() for text in fig.axes[0].texts] == ["2", "1", "", "1"]


def test_learning_curves_in_percent_with_the_level_of_chance():
    history = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5], "accuracy": [0.1, 0.4]}
    ax = plots.learning_curves({"net": history}, "accuracy", chance=0.125).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [10, 40])
    assert ax.lines[1].get_ydata()[0] == 12.5 and ax.get_ylabel() == "accuracy, %"
    loss = plots.learning_curves({"net": history}).axes[0]
    assert [list(line.get_ydata()) for line in loss.lines] == [[2, 1], [2.5, 1.5]]
    assert all(float(tick).is_integer() for tick in loss.get_xticks())


def test_timeline():
    """Fourteen recordings of five classes, their last window silent, and a file that was not heard."""
    names = [f"{n:02d}.wav" for n in range(14)]
    table = pd.DataFrame({"file": np.repeat(names, 3), "start": [0.0, 1.0, 2.0] * 14, "predicted": "b"})
    table = table.assign(end=table["start"] + 2, silent=table["start"] == 2)
    table = table.assign(p_a=0.1, p_b=0.6, p_c=0.05, p_d=0.2, p_e=0.05)
    files = pd.DataFrame({"file": [*names, "x.txt"], "predicted": "b", "confidence": 0.6, "flags": ""})
    files["windows"] = [3] * 14 + [0]
    fig = plots.timeline(table, files)
    panels = [ax for ax in fig.axes if ax.get_title(loc="left")]
    assert len(panels) == 12
    assert fig.get_suptitle() == "files: 12 drawn; 2 heard, not drawn; 1 not heard (hatched: silent)"
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["b", "d", "a", "all others"]
    mesh = panels[0].collections[0]
    np.testing.assert_allclose(mesh.get_array()[:, 0], [0.6, 0.2, 0.1, 0.1])
    assert mesh.get_array().mask[:, 2].all() and not mesh.get_array().mask[:, :2].any()
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [0.0, 1.5, 2.5, 4.0])
    assert panels[0].get_xlim() == (0, 4)
