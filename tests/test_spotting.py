"""Words in long recordings: against recordings put together by hand, scipy's matching and known intervals."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.stats import poisson

from helpers.base import CourseError
from helpers.topics import spotting, streams

SR = 1000
matplotlib.use("Agg")


def windows(silent=(), **probabilities):
    """Windows of 1 s, every 0.1 s, with these probabilities of the classes."""
    n = len(next(iter(probabilities.values())))
    start = np.arange(n) * 0.1
    table = pd.DataFrame({"file": "a.wav", "start": start, "end": start + 1, "predicted": "", "confidence": 0.0})
    table["silent"] = np.isin(np.arange(n), silent)
    return table.assign(**{f"p_{name}": values for name, values in probabilities.items()})


def said(*rows):
    return pd.DataFrame(rows, columns=["label", "start", "end"])


def found(*rows):
    return pd.DataFrame(rows, columns=["label", "time"]).assign(confidence=0.9)


CLIPS = [(name, np.full(100 + 10 * n, 0.1 * (n + 1))) for n, name in enumerate(("go", "no", "up", "off"))]


def test_a_stream_holds_every_clip_where_the_truth_says():
    y, truth = streams.stream(CLIPS, SR, 5, (0.2, 0.6), np.zeros(7), seed=3)
    assert y.shape == (5000,) and y.dtype == np.float32 and sorted(truth["label"]) == ["go", "no", "off", "up"]
    rest = y.copy()
    for row in truth.itertuples():
        part = slice(round(row.start * SR), round(row.end * SR))
        np.testing.assert_allclose(y[part], dict(CLIPS)[row.label], rtol=1e-6)
        rest[part] = 0
    assert not rest.any()
    pauses = truth["start"].to_numpy() - np.r_[0, truth["end"].to_numpy()[:-1]]
    assert pauses.min() >= 0.199 and pauses.max() <= 0.601 and pauses.std() > 0
    again, other = (streams.stream(CLIPS, SR, 5, (0.2, 0.6), np.zeros(7), seed=seed)[0] for seed in (3, 4))
    assert (again == y).all() and (other != y).any()


def test_a_stream_leaves_out_what_does_not_fit():
    y, truth = streams.stream(CLIPS, SR, 0.25, (0, 0), -200.0)
    assert len(truth) == 2 and truth["end"].max() <= 0.25
    assert np.count_nonzero(np.abs(y) > 0.01) == round((truth["end"] - truth["start"]).sum() * SR)


def test_backgrounds():
    noise = np.array([0.1, 0.2, 0.4])
    y, truth = streams.stream([("go", np.zeros(2))], SR, 0.008, (0, 0), noise)
    np.testing.assert_allclose(y, [0.1, 0.2, 0.4, 0.4, 0.2, 0.1, 0.1, 0.2], rtol=1e-6)
    y, _ = streams.stream([("go", np.zeros(2))], SR, 100, (0, 0), -40.0)
    assert 20 * np.log10(y.std()) == pytest.approx(-40, abs=0.1)
    y, _ = streams.stream([("go", np.full(2, 0.8))], SR, 0.002, (0, 0), np.full(9, 0.8))
    np.testing.assert_allclose(y, 1)
    y, _ = streams.stream([("go", np.full(2, 0.5))], SR, 0.002, (0, 0), noise)
    assert list(noise) == [0.1, 0.2, 0.4]


@pytest.mark.parametrize(
    "changed",
    [
        {"clips": []},
        {"clips": [("go", np.zeros((2, 2)))]},
        {"clips": [("go", np.array([np.nan]))]},
        {"clips": [("go", np.zeros(0))]},
        {"seconds": 0},
        {"gap": (1, 0.5)},
        {"gap": (-1, 0.5)},
        {"noise": np.zeros((2, 9))},
        {"noise": 3.0},
    ],
)
def test_impossible_streams(changed):
    good = {"clips": CLIPS, "sr": SR, "seconds": 2, "gap": (0, 1), "noise": -60.0}
    with pytest.raises(CourseError):
        streams.stream(**good | changed)


def test_levels():
    time = np.arange(4 * SR) / SR
    y = np.concatenate(
        [np.sin(2 * np.pi * 50 * time), 0.1 * np.sign(np.sin(2 * np.pi * 50 * time + 0.1)), np.zeros(SR)]
    )
    expected = [20 * np.log10(1 / np.sqrt(2)), -20, -120, 10 * np.log10((0.5 + 0.01) / 2)]
    np.testing.assert_allclose(streams.levels(y, SR, [0, 5, 8, 3], [1, 6, 9, 5]), expected, atol=1e-6)
    with pytest.raises(CourseError, match="outside"):
        streams.levels(y, SR, [9.5], [10.0])


def test_smoothing_is_a_mean_over_neighbours():
    p = np.random.default_rng(0).random(30)
    table = spotting.smooth(windows(go=p, no=1 - p), smooth_seconds=0.3)
    inner = np.convolve(p, np.ones(3) / 3, mode="valid")
    np.testing.assert_allclose(table["go"], [(p[0] + p[1]) / 2, *inner, (p[-2] + p[-1]) / 2], atol=1e-8)
    np.testing.assert_allclose(table.index, 0.5 + 0.1 * np.arange(30))
    np.testing.assert_allclose(spotting.smooth(windows(go=p), smooth_seconds=0)["go"], p, atol=1e-8)


def test_silent_and_quiet_windows_say_nothing():
    p = np.full(9, 0.9)
    level = np.r_[np.full(6, -20.0), np.full(3, -60.0)]
    table = spotting.smooth(windows(silent=[1], go=p), 0, level=level, min_level=-40)
    np.testing.assert_allclose(table["go"], [0.9, 0, 0.9, 0.9, 0.9, 0.9, 0, 0, 0])


def test_peaks():
    go, no = np.zeros(60), np.zeros(60)
    go[10], go[30:35], go[45], go[59] = 0.9, 0.8, 0.3, 0.6
    no[12], no[50] = 0.7, 0.5
    table = spotting.spot(windows(go=go, no=no), 0.5, min_gap=0.3, smooth_seconds=0)
    # 0.7 at 1.7 s is too near to 0.9 at 1.5 s; 0.3 is too low; the flat top counts once, in its middle.
    assert list(table["label"]) == ["go", "go", "no", "go"]
    np.testing.assert_allclose(table["time"], [1.5, 3.7, 5.5, 6.4])
    np.testing.assert_allclose(table["confidence"], [0.9, 0.8, 0.5, 0.6])
    assert len(spotting.spot(windows(go=go, no=no), 0.5, min_gap=0.2, smooth_seconds=0)) == 5
    nothing = spotting.spot(windows(go=go, no=no), 1.0)
    assert list(nothing.columns) == ["label", "time", "confidence"] and len(nothing) == 0


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (windows(go=np.ones(3)), {"threshold": 0}, "threshold"),
        (windows(go=np.ones(3)), {"threshold": 50}, "threshold"),
        (windows(go=np.ones(3)), {"smooth_seconds": -1}, "smooth_seconds"),
        (windows(go=np.ones(3)), {"min_level": -40}, "needs the level"),
        (windows(go=np.ones(3)), {"level": np.zeros(2)}, "2 levels"),
        (windows(go=np.ones(3))[::-1], {}, "one recording"),
        (windows(go=np.ones(3))[:0], {}, "one recording"),
        (windows(go=np.ones(3)).assign(file=["a", "b", "b"]), {}, "one recording"),
    ],
)
def test_windows_that_cannot_be_used(table, options, message):
    with pytest.raises(CourseError, match=message):
        spotting.spot(table, **{"threshold": 0.5} | options)


def test_matching_by_hand():
    truth = said(("go", 1, 2), ("no", 3, 4), ("up", 6, 7), ("go", 8, 9))
    detections = found(("go", 8.5), ("go", 0.9), ("go", 1.5), ("up", 3.5), ("no", 4.3), ("up", 5.0))
    matched = streams.match(detections, truth, tolerance=0.2)
    assert list(matched["time"]) == [0.9, 1.5, 3.5, 4.3, 5.0, 8.5]
    # The second "go" in one word, the wrong word, one that is late, and one where nothing was said.
    assert list(matched["word"]) == [0, -1, -1, -1, -1, 3]
    assert list(matched["hit"]) == [True, False, False, False, False, True]
    result = streams.counts(matched, truth)
    assert result == {"hits": 2, "misses": 2, "false_alarms": 4, "precision": 2 / 6, "recall": 2 / 4, "f1": 4 / 10}
    assert list(streams.match(detections, truth, tolerance=0.3)["word"]) == [0, -1, -1, 1, -1, 3]


def test_matching_finds_the_most_hits():
    rng = np.random.default_rng(0)
    for _ in range(50):
        start = rng.uniform(0, 10, 15)
        truth = pd.DataFrame(
            {"label": rng.choice(["a", "b"], 15), "start": start, "end": start + rng.uniform(0, 3, 15)}
        )
        detections = found(*zip(rng.choice(["a", "b"], 20), rng.uniform(0, 12, 20), strict=True))
        fits = (detections["label"].to_numpy()[:, None] == truth["label"].to_numpy()) & (
            (detections["time"].to_numpy()[:, None] >= truth["start"].to_numpy() - 0.1)
            & (detections["time"].to_numpy()[:, None] <= truth["end"].to_numpy() + 0.1)
        )
        best = (maximum_bipartite_matching(csr_matrix(fits)) >= 0).sum()
        matched = streams.match(detections, truth, 0.1)
        hits = matched[matched["hit"]]
        assert len(hits) == best and hits["word"].is_unique
        assert (truth["label"].to_numpy()[hits["word"]] == hits["label"]).all()


def test_a_negative_tolerance_is_refused():
    with pytest.raises(CourseError, match="tolerance"):
        streams.match(found(("go", 1)), said(("go", 0, 1)), -0.1)


def test_scores_and_their_intervals():
    # A word every 10 s, so that each is a stretch by itself; 70 of 100 found, 5 alarms where nothing is said.
    start = 10.0 * np.arange(100) + 1
    truth = pd.DataFrame({"label": "go", "start": start, "end": start + 1})
    hit = np.random.default_rng(0).permutation(100)[:70]
    detections = found(*[("go", time) for time in start[hit] + 0.5], *[("go", 200.0 * n + 5) for n in range(5)])
    result = streams.scores(streams.match(detections, truth, 0), truth, 1000)
    assert {name: metric["n"] for name, metric in result.items()} == {
        "recall": 100,
        "precision": 75,
        "f1": 100,
        "false_alarms_per_minute": 5,
    }
    assert result["recall"]["value"] == 0.7 and result["precision"]["value"] == 70 / 75
    assert result["f1"]["value"] == pytest.approx(2 * 0.7 * (70 / 75) / (0.7 + 70 / 75))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 100)
    assert result["recall"]["low"] == pytest.approx(0.7 - half, abs=0.02)
    assert result["recall"]["high"] == pytest.approx(0.7 + half, abs=0.02)
    assert all(metric["low"] < metric["value"] < metric["high"] for metric in result.values())
    # At the ends of the exact interval, 5 or more (and 5 or fewer) alarms have a chance of 2.5 %.
    rate, minutes = result["false_alarms_per_minute"], 1000 / 60
    assert rate["value"] == pytest.approx(5 / minutes)
    assert poisson.sf(4, rate["low"] * minutes) == pytest.approx(0.025)
    assert poisson.cdf(5, rate["high"] * minutes) == pytest.approx(0.025)


def test_scores_of_nothing():
    truth = said(("go", 1, 2))
    nothing = streams.match(found(), truth, 0.2)
    result = streams.scores(nothing, truth, 120)
    assert np.isnan(result["precision"]["value"]) and result["recall"]["value"] == result["f1"]["value"] == 0
    assert result["false_alarms_per_minute"]["value"] == 0
    # No alarm in two minutes: with a rate above this one, that would happen less than once in forty times.
    assert result["false_alarms_per_minute"]["high"] == pytest.approx(-np.log(0.025) / 2)
    alone = streams.scores(streams.match(found(("go", 1)), said(), 0.2), said(), 60)
    assert np.isnan(alone["recall"]["value"]) and alone["false_alarms_per_minute"]["value"] == 1
    with pytest.raises(CourseError, match="after them"):
        streams.scores(nothing, truth, 1.5)


def recording():
    """Three words in 8 s: "go" for sure, "no" less so, "up" taken for "no"; and a murmur taken for "go"."""
    go, no = np.zeros(71), np.zeros(71)
    go[10], no[30], no[50], go[60] = 0.9, 0.6, 0.5, 0.4
    truth = said(("go", 1, 2), ("no", 3, 4), ("up", 5, 6))
    return windows(go=go, no=no, off=np.full(71, 0.1)), truth


def test_the_best_threshold():
    table, truth = recording()
    best, curve = spotting.choose_threshold(table, truth, [0.7, 0.3, 0.55, 0.6, 0.45], 0.2, smooth_seconds=0)
    assert list(curve["threshold"]) == [0.3, 0.45, 0.55, 0.6, 0.7] and best == 0.6
    np.testing.assert_allclose(curve["f1"], [4 / 7, 4 / 6, 4 / 5, 4 / 5, 2 / 4])
    assert list(curve["false_alarms"]) == [2, 1, 0, 0, 0]
    for thresholds, words in (([], truth), ([0.5], truth[:0])):
        with pytest.raises(CourseError, match="To choose"):
            spotting.choose_threshold(table, words, thresholds, 0.2)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_plot_shows_hits_and_alarms():
    table, truth = recording()
    matched = streams.match(spotting.spot(table, 0.45, smooth_seconds=0), truth, 0.2)
    y = np.sin(np.arange(8 * SR))
    fig = spotting.spotting_plot(y, SR, table, matched, truth, 0.45, smooth_seconds=0)
    wave, picture, points = fig.axes[:3]
    assert texts(wave) == ["go", "no", "up"] and texts(points) == ["go", "no", "no"]
    assert [label.get_text() for label in picture.get_yticklabels()] == ["go", "no", "up", "any other"]
    shown = picture.collections[0].get_array()
    np.testing.assert_allclose(shown, [table["p_go"], table["p_no"], np.zeros(71), table["p_off"]])
    lines = {line.get_label(): line for line in points.lines}
    np.testing.assert_allclose(lines["hit"].get_xydata(), [[1.5, 0.9], [3.5, 0.6]])
    np.testing.assert_allclose(lines["false alarm"].get_xydata(), [[5.5, 0.5]])
    assert lines["false alarm"].get_markerfacecolor() == "white" != lines["hit"].get_markerfacecolor()
    plt.close(fig)

    fig = spotting.spotting_plot(y, SR, table, matched, truth, 0.45, span=(2.5, 4.5), smooth_seconds=0)
    assert texts(fig.axes[0]) == texts(fig.axes[2]) == ["no"] and fig.axes[0].get_xlim() == (2.5, 4.5)
    plt.close(fig)
    for span in ((3, 3), (-1, 4), (4, 9)):
        with pytest.raises(CourseError, match="span"):
            spotting.spotting_plot(y, SR, table, matched, truth, 0.45, span=span)


def test_names_in_the_plot_do_not_touch():
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(0, 28, 40))
    truth = pd.DataFrame(
        {"label": rng.choice(["go", "backward", "MMMMM", "$_x"], 40), "start": start, "end": start + 1}
    )
    table = windows(go=np.zeros(291), no=np.zeros(291))
    matched = streams.match(found(*zip(truth["label"], truth["start"] + 0.5, strict=True)), truth, 0.2)
    fig = spotting.spotting_plot(np.zeros(30 * SR), SR, table, matched, truth, 0.5)
    fig.canvas.draw()
    for ax in fig.axes[:3:2]:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) == 40
        assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[:n])
    plt.close(fig)


def test_a_plot_of_almost_nothing():
    fig = spotting.spotting_plot(
        np.zeros(SR), SR, windows(go=np.zeros(1)), streams.match(found(), said(), 0), said(), 0.5
    )
    fig.canvas.draw()
    plt.close(fig)
