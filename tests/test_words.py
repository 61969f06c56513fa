"""Words in long recordings: against recordings put together by hand, brute force and known intervals."""

from itertools import permutations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import poisson

from helpers.topics import words

SR = 1000
CLIPS = [(name, np.full(100 + 10 * n, 0.1 * (n + 1))) for n, name in enumerate(("go", "no", "up", "off"))]
matplotlib.use("Agg")


def windows(silent=(), **probabilities):
    """Windows of 1 s, every 0.1 s, with these probabilities of the classes."""
    n = len(next(iter(probabilities.values())))
    start = np.arange(n) * 0.1
    table = pd.DataFrame({"file": "a.wav", "start": start, "end": start + 1, "silent": np.isin(np.arange(n), silent)})
    return table.assign(**{f"p_{name}": values for name, values in probabilities.items()})


def all_heard(table):
    return dict(level=np.zeros(len(table)), min_level=-100)


def spot(table, threshold, min_gap):
    return words.spot(table, threshold, min_gap, **all_heard(table))


def said(*rows):
    return pd.DataFrame(rows, columns=["label", "start", "end"])


def found(*rows):
    return pd.DataFrame(rows, columns=["label", "time"]).assign(confidence=0.9)


def test_a_stream_holds_every_clip_where_the_truth_says():
    y, truth = words.stream(CLIPS, SR, 5, (0.2, 0.6), np.zeros(7), seed=3)
    assert y.shape == (5000,) and y.dtype == np.float32 and sorted(truth["label"]) == ["go", "no", "off", "up"]
    rest = y.copy()
    for row in truth.itertuples():
        part = slice(round(row.start * SR), round(row.end * SR))
        np.testing.assert_allclose(y[part], dict(CLIPS)[row.label], rtol=1e-6)
        rest[part] = 0
    assert not rest.any()
    pauses = truth["start"].to_numpy() - np.r_[0, truth["end"].to_numpy()[:-1]]
    assert pauses.min() >= 0.199 and pauses.max() <= 0.601 and pauses.std() > 0
    y, truth = words.stream(CLIPS, SR, 0.25, (0, 0), -200.0, 0)
    assert len(truth) == 2 and truth["end"].max() <= 0.25  # what does not fit is left out
    assert np.count_nonzero(np.abs(y) > 0.01) == round((truth["end"] - truth["start"]).sum() * SR)


def test_backgrounds():
    noise, silence = np.array([0.1, 0.2, 0.4]), [("go", np.zeros(2))]
    y, _ = words.stream(silence, SR, 0.008, (0, 0), noise, 0)
    np.testing.assert_allclose(y, [0.1, 0.2, 0.4, 0.4, 0.2, 0.1, 0.1, 0.2], rtol=1e-6)
    y, _ = words.stream(silence, SR, 100, (0, 0), -40.0, 0)
    assert 20 * np.log10(y.std()) == pytest.approx(-40, abs=0.1)
    noise = np.full(9, 0.8)
    y, _ = words.stream([("go", noise[:2])], SR, 0.002, (0, 0), noise, 0)
    np.testing.assert_allclose(y, 1)
    assert (noise == 0.8).all()  # the recording given is left alone


def test_levels():
    sine = np.sin(2 * np.pi * 50 * np.arange(4 * SR) / SR + 0.1)
    y = np.concatenate([sine, 0.1 * np.sign(sine), np.zeros(SR)])
    expected = [20 * np.log10(1 / np.sqrt(2)), -20, -120, 10 * np.log10((0.5 + 0.01) / 2)]
    np.testing.assert_allclose(words.levels(y, SR, [0, 5, 8, 3], [1, 6, 9, 5]), expected, atol=1e-6)


def test_peaks_of_a_mean_over_three_neighbours():
    p = np.random.default_rng(0).random(60)
    mean = np.r_[p[:2].mean(), np.convolve(p, np.ones(3) / 3, mode="valid"), p[-2:].mean()]
    around = np.r_[0, mean, 0]
    (peaks,) = np.nonzero((mean > 0.55) & (mean > around[:-2]) & (mean > around[2:]))
    spotted = spot(windows(go=p), 0.55, min_gap=0)
    assert len(peaks) > 5
    np.testing.assert_allclose(spotted["time"], 0.5 + 0.1 * peaks)
    np.testing.assert_allclose(spotted["confidence"], mean[peaks], atol=1e-8)


def test_silent_and_quiet_windows_say_nothing():
    table = windows(silent=range(10), go=np.full(40, 0.9))
    level = np.r_[np.full(30, -20.0), np.full(10, -60.0)]
    spotted = words.spot(table, 0.5, min_gap=0.3, level=level, min_level=-40)
    # What is left, windows 10 to 29, is one flat top; it counts once, in its middle.
    assert spotted["time"].tolist() == pytest.approx([0.5 + 0.1 * 19]) and spotted["confidence"].tolist() == [0.9]


def test_of_near_peaks_the_highest_is_kept():
    go, no = np.zeros(60), np.zeros(60)
    go[9:12], go[30:35], go[44:47], go[59] = 0.9, 0.8, 0.3, 0.6
    no[12:15], no[49:52] = 0.7, 0.5
    table = windows(go=go, no=no)
    # 0.7 at 1.8 s is too near to 0.9 at 1.5 s, 0.3 and 0.6 / 2 are too low.
    spotted = spot(table, 0.45, min_gap=0.4)
    assert list(spotted["label"]) == ["go", "go", "no"]
    np.testing.assert_allclose(spotted["time"], [1.5, 3.7, 5.5])
    np.testing.assert_allclose(spotted["confidence"], [0.9, 0.8, 0.5])
    assert len(spot(table, 0.45, min_gap=0.3)) == 4
    nothing = spot(table, 1.0, min_gap=0.3)
    assert list(nothing.columns) == ["label", "time", "confidence"] and len(nothing) == 0


def test_matching_by_hand():
    truth = said(("go", 1, 2), ("no", 3, 4), ("up", 6, 7), ("go", 8, 9))
    detections = found(("go", 8.5), ("go", 0.9), ("go", 1.5), ("up", 3.5), ("no", 4.3), ("up", 5.0))
    matched = words.match(detections, truth, tolerance=0.2)
    assert list(matched["time"]) == [0.9, 1.5, 3.5, 4.3, 5.0, 8.5]
    # The second "go" in one word, the wrong word, one that is late, and one where nothing was said.
    assert list(matched["word"]) == [0, -1, -1, -1, -1, 3]
    assert list(matched["hit"]) == [True, False, False, False, False, True]
    assert list(words.match(detections, truth, tolerance=0.3)["word"]) == [0, -1, -1, 1, -1, 3]


def test_matching_finds_the_most_hits():
    """Against all ways to give five words one of seven detections each."""
    rng = np.random.default_rng(0)
    orders = np.array(list(permutations(range(7), 5)))
    for _ in range(40):
        start = rng.uniform(0, 5, 5)
        truth = pd.DataFrame({"label": rng.choice(["a", "b"], 5), "start": start, "end": start + rng.uniform(0, 3, 5)})
        matched = words.match(found(*zip(rng.choice(["a", "b"], 7), rng.uniform(0, 8, 7), strict=True)), truth, 0.1)
        label, time = (matched[name].to_numpy()[:, None] for name in ("label", "time"))
        fits = (label == truth["label"].to_numpy()) & (time >= start - 0.1) & (time <= truth["end"].to_numpy() + 0.1)
        hits = matched[matched["hit"]]
        assert len(hits) == fits[orders, np.arange(5)].sum(axis=1).max() and hits["word"].is_unique
        assert fits[hits.index, hits["word"]].all()


def test_scores_and_their_intervals():
    # A word every 10 s, so that each is a stretch by itself; 70 of 100 found, 5 alarms where nothing is said.
    start = 10.0 * np.arange(100) + 1
    truth = pd.DataFrame({"label": "go", "start": start, "end": start + 1})
    hit = np.random.default_rng(0).permutation(100)[:70]
    detections = found(*[("go", time) for time in start[hit] + 0.5], *[("go", 200.0 * n + 5) for n in range(5)])
    result = words.score(words.match(detections, truth, 0), truth, 1000)
    n = {"recall": 100, "precision": 75, "f1": 100, "false_alarms_per_minute": 5}
    assert {name: metric["n"] for name, metric in result.items()} == n
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


def test_words_of_one_stretch_stand_or_fall_together():
    # Ten stretches of ten words, all of which are found, or none: as ten throws, not as a hundred.
    truth = said(*[("go", second, second + 0.5) for second in range(100)])
    result = words.score(words.match(found(*[("go", second) for second in range(50)]), truth, 0), truth, 100)
    assert result["recall"]["value"] == 0.5 and result["recall"]["high"] - result["recall"]["low"] > 0.5


def test_scores_of_nothing():
    truth = said(("go", 1, 2))
    result = words.score(words.match(found(), truth, 0.2), truth, 120)
    assert np.isnan(result["precision"]["value"]) and result["recall"]["value"] == result["f1"]["value"] == 0
    assert result["false_alarms_per_minute"]["value"] == 0
    # No alarm in two minutes: with a rate above this one, that would happen less than once in forty times.
    assert result["false_alarms_per_minute"]["high"] == pytest.approx(-np.log(0.025) / 2)
    alone = words.score(words.match(found(("go", 1)), said(), 0.2), said(), 60)
    assert np.isnan(alone["recall"]["value"]) and alone["false_alarms_per_minute"]["value"] == 1


def recording():
    """Three words in 8 s: "go" for sure, "no" less so, "up" taken for "no"; and a murmur taken for "go"."""
    go, no = np.zeros(71), np.zeros(71)
    go[9:12], no[29:32], no[49:52], go[59:62] = 0.9, 0.6, 0.5, 0.4
    return windows(go=go, no=no, off=np.full(71, 0.1)), said(("go", 1, 2), ("no", 3, 4), ("up", 5, 6))


def test_the_best_threshold():
    table, truth = recording()
    thresholds = [0.7, 0.3, 0.55, 0.6, 0.45]
    best, curve = words.choose_threshold(table, truth, thresholds, 0.2, min_gap=0.5, **all_heard(table))
    assert list(curve["threshold"]) == [0.3, 0.45, 0.55, 0.6, 0.7] and best == 0.6
    np.testing.assert_allclose(curve["f1"], [4 / 7, 4 / 6, 4 / 5, 4 / 5, 2 / 4])
    np.testing.assert_allclose(curve["precision"], [2 / 4, 2 / 3, 1, 1, 1])


def test_the_plot_shows_hits_and_alarms():
    def texts(ax):
        return [text.get_text() for text in ax.texts]

    table, truth = recording()
    matched = words.match(spot(table, 0.45, 0.5), truth, 0.2)
    y = np.sin(np.arange(8 * SR))
    fig = words.spotting_plot(y, SR, table, matched, truth, 0.45, (0, 8), **all_heard(table))
    wave, picture, points = fig.axes[:3]
    assert texts(wave) == ["go", "no", "up"] and texts(points) == ["go", "no", "no"]
    assert [label.get_text() for label in picture.get_yticklabels()] == ["go", "no", "up", "any other"]
    shown = picture.collections[0].get_array()
    assert shown[0, 10] == 0.9 and shown[1, 30] == 0.6 and not shown[2].any() and shown[3, 5] == 0.1
    lines = {line.get_label(): line.get_xydata() for line in points.lines}
    np.testing.assert_allclose(lines["hit"], [[1.5, 0.9], [3.5, 0.6]])
    np.testing.assert_allclose(lines["false alarm"], [[5.5, 0.5]])
    fig = words.spotting_plot(y, SR, table, matched, truth, 0.45, (2.5, 4.5), **all_heard(table))
    assert texts(fig.axes[0]) == texts(fig.axes[2]) == ["no"]
    # Of almost nothing there is a picture, too.
    table, nothing = windows(go=np.zeros(1)), words.match(found(), said(), 0)
    fig = words.spotting_plot(np.zeros(SR), SR, table, nothing, said(), 0.5, (0, 1), **all_heard(table))
    fig.canvas.draw()
    plt.close("all")
