"""Runs beside each other: pairs of methods, two runs compared, and the page, in a real browser where there is one."""

import numpy as np
import pandas as pd
import pytest
from browser import BROWSER, ask
from scipy.stats import permutation_test, ttest_1samp

from helpers import __main__ as command_line
from helpers import data, runs, scores
from helpers.base import CourseError, DataMissing
from helpers.runs import page, pairs


@pytest.fixture
def known(manifest, monkeypatch):
    """The groups of the clips, as if their recordings were at hand."""
    groups = dict(zip(manifest["clip_id"], data.groups(manifest), strict=True))
    monkeypatch.setattr(pairs, "_groups_of", lambda run: groups)
    return groups


def record(place, manifest, right, model="m", **params):
    """Record a run that has some of the 60 clips right [shape=(60,), bool]."""
    table = scores.prediction_table(
        manifest, np.arange(60), np.eye(3)[np.arange(60) // 3 % 3], ["a", "b", "c"], "split"
    )
    table["predicted"] = np.where(right, table["label"], table["label"].map({"a": "b", "b": "c", "c": "a"}))
    asked = {"asked": [*params], "dataset": "esc50", "model": model, "notebook": "03", "train_seconds": 1.0}
    return runs.record(place, asked | params, scores.score(table, manifest["group"]), table)


def mask(*wrong):
    return ~np.isin(np.arange(60), wrong)


def test_methods_are_compared_on_the_same_clips_over_their_seeds(tmp_path, manifest, known):
    good = [mask(0, 1), mask(3), mask(0, 7)]
    bad = [mask(*range(0, 20)), mask(*range(5, 30)), mask(0, 7, 8)]
    for seed in range(3):
        record(tmp_path / f"good{seed}", manifest, good[seed], "good", seed=seed)
        record(tmp_path / f"bad{seed}", manifest, bad[seed], "bad", seed=seed)
    record(tmp_path / "other clips", manifest.assign(clip_id="x" + manifest["clip_id"]), mask(), "other", seed=0)
    (row,) = pairs.table(tmp_path).to_dict("records")
    gain = np.mean(good, axis=0) - np.mean(bad, axis=0)
    assert (row["one"], row["other"], row["n"], row["wins"], row["seeds"]) == ("good", "bad", 60, 3, 3)
    assert row["difference"] == pytest.approx(gain.mean())
    by_group = gain.reshape(20, 3).mean(axis=1)  # groups of three clips each, in a row
    interval = ttest_1samp(by_group, 0).confidence_interval()
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval), rel=1e-6)
    flips = permutation_test((by_group,), np.mean, permutation_type="samples", n_resamples=10_000)
    assert row["p"] == pytest.approx(flips.pvalue, abs=0.005)


def test_no_interval_of_a_difference_leaves_what_is_possible(tmp_path, manifest, known):
    record(tmp_path / "all", manifest, mask(), "all")
    record(tmp_path / "few", manifest, ~mask(0, 1, 2), "few")  # one group of twenty
    (row,) = pairs.table(tmp_path).to_dict("records")
    assert row["difference"] == pytest.approx(0.95) and row["high"] == 1 and row["low"] < 0.95


def test_p_is_corrected_for_the_number_of_pairs():
    assert pairs._holm(pd.Series([0.04, 0.01, 0.03])).tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert pairs._holm(pd.Series([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_what_was_asked_tells_methods_of_the_same_model_apart(tmp_path, manifest, known):
    for epochs in (2, 9):
        record(tmp_path / f"{epochs}", manifest, mask(*range(epochs)), epochs=epochs, limit=None)
    (row,) = pairs.table(tmp_path).to_dict("records")
    assert (row["one"], row["other"]) == ("m, epochs 2", "m, epochs 9") and row["seeds"] == 1


def test_two_runs_are_compared(tmp_path, manifest, known, capsys):
    record(tmp_path / "a", manifest, mask(0, 1, 2), seed=0, epochs=2)
    record(tmp_path / "b", manifest, mask(2, 3), seed=1, epochs=2)
    assert command_line.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    text = capsys.readouterr().out
    assert "  seed: 0 -> 1\n" in text and "epochs" not in text
    assert "3 clips are named differently: 1 only one has right, 2 only other" in text
    for line in ("clip00 (a): b -> a", "clip01 (a): b -> a", "clip03 (b): b -> c"):
        assert line in text
    assert "accuracy: 95.0 %" in text and "-> 96.7 %" in text and "+1.7 points" in text
    assert "not known: the executed notebook does not lie beside both" in text
    (tmp_path / "b" / "params.json").unlink()
    assert command_line.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "params.json cannot be read" in capsys.readouterr().err


def test_the_code_that_two_runs_executed_is_compared(tmp_path, manifest, known):
    import nbformat

    for name, line in {"a": "rate = 1", "b": "rate = 2"}.items():
        record(tmp_path / name, manifest, mask())
        cells = [nbformat.v4.new_code_cell("seed = 0\n" + line), nbformat.v4.new_code_cell(f"seed = {name!r}")]
        cells[1].metadata["tags"] = ["injected-parameters"]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / name / "notebook.ipynb")
    text = pairs.compare(runs.load(tmp_path / "a"), runs.load(tmp_path / "b"))
    assert "  -rate = 1\n  +rate = 2" in text and "seed = 'a'" not in text
    assert "What was asked\n  the same" in text and "0 clips are named differently" in text


def test_without_their_recordings_clips_count_for_themselves_and_that_is_said(tmp_path, manifest):
    record(tmp_path / "a", manifest, mask(0), data_dir=str(tmp_path / "gone"))
    record(tmp_path / "b", manifest, mask(1), data_dir=str(tmp_path / "gone"))
    assert "each clip counts for itself" in pairs.compare(*map(runs.load, (tmp_path / "a", tmp_path / "b")))
    assert len(pairs.table(tmp_path)) == 0  # they are one method


def test_the_groups_are_those_of_the_recordings(tmp_path, manifest):
    run = runs.load(record(tmp_path / "a", manifest, mask(), data_dir=None))
    clips = data.load("esc50")
    assert pairs._groups_of(run) == dict(zip(clips["clip_id"], data.groups(clips), strict=True))


@pytest.fixture
def board(tmp_path, manifest, known):
    record(tmp_path / "x", manifest, mask(*range(20)), "<b>bold</b>", seed=0)
    for seed in (0, 1):
        record(tmp_path / f"good{seed}", manifest, mask(seed), "good", seed=seed)
    record(tmp_path / "tut", manifest, mask(*range(50)), "weak", dataset="tut2017")
    return tmp_path


def test_the_leaderboard_is_filtered_and_sorted_as_asked(board, capsys):
    text = page.write(board, "dataset == 'esc50' and accuracy > 0.9", "-accuracy")
    assert "good" in text and "weak" not in text
    assert pd.read_csv(board / "leaderboard.csv")["model"].tolist() == ["good", "good"]
    page.write(board, sort="accuracy")
    assert pd.read_csv(board / "leaderboard.csv")["model"].tolist() == ["weak", "<b>bold</b>", "good", "good"]
    for how in ({"where": "acuracy > 1"}, {"where": "import os"}, {"sort": "nothing"}):
        with pytest.raises(CourseError, match="Its columns are .*accuracy"):
            page.write(board, **how)
    with pytest.raises(DataMissing, match="of which 'accuracy > 2' is true"):
        page.write(board, "accuracy > 2")


def test_the_page_says_what_the_table_says_and_shows_no_markup_of_names(board):
    page.write(board)
    text = (board / "leaderboard.html").read_text("utf-8")
    assert text.count("<img alt=") == 4 and "<b>bold</b></td>" not in text
    assert "Runs that differ in their seed alone" in text and "In pairs, on the same clips" in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
def test_in_a_browser_the_page_sorts_and_filters_and_asks_for_nothing(board):
    page.write(board)
    wait = "new Promise(done => setInterval(() => document.querySelector('#runs.dataTable tbody td') && done(1), 50))"
    column = "[...document.querySelectorAll('#runs tbody tr')].map(row => row.cells[{}].textContent)"
    names = "[...document.querySelectorAll('#runs thead input')].map(field => field.placeholder)"
    sort = (
        "document.querySelectorAll('#runs thead th')[{}].querySelector('.dt-column-order')"
        ".dispatchEvent(new MouseEvent('click', {{bubbles: true}}))"
    )
    write = (
        "(field => {{ field.value = '{1}'; for (const kind of ['input', 'keyup', 'change'])"
        " field.dispatchEvent(new Event(kind, {{bubbles: true}})) }})"
        "(document.querySelectorAll('#runs thead input')[{0}])"
    )
    table = pd.read_csv(board / "leaderboard.csv")
    (heads,), _ = ask(board / "leaderboard.html", [f"{wait}.then(() => {names})"])
    model, accuracy = heads.index("model"), heads.index("accuracy")
    shown, scored = column.format(model), column.format(accuracy)
    questions = [
        wait,
        shown,
        sort.format(accuracy),
        scored,
        sort.format(accuracy),
        scored,
        write.format(model, "goo"),
        shown,
    ]
    (_, first, _, up, _, down, _, kept), asked = ask(board / "leaderboard.html", questions)
    assert first == table["model"].tolist()
    assert list(map(float, up)) == sorted(100 * table["accuracy"].round(3)) and down == up[::-1]
    assert kept == ["good", "good"]
    assert asked and not [address for address in asked if address.split(":")[0] not in ("file", "data", "blob")]
