import json
import linecache
import os
import subprocess
import sys
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from helpers import data, runs, scores
from helpers.base import ROOT, CourseError, DataMissing
from helpers.networks import cross_validate
from helpers.runs import board, page, parameters

_PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def table(manifest):
    probabilities = np.tile([0.5, 0.3, 0.2], (len(manifest), 1))
    return scores.prediction_table(manifest, np.arange(len(manifest)), probabilities, ["a", "b", "c"], "split")


def test_a_recorded_run_reads_back(tmp_path, manifest, monkeypatch):
    predictions = table(manifest)
    metrics = scores.score(predictions)
    runs.record(tmp_path / "x", {"model": "m", "seed": 3}, metrics, predictions)
    run = runs.load(tmp_path / "x")
    assert run.metrics == metrics and run.classes == ["a", "b", "c"]
    assert run.params["seed"] == 3 and "python" in run.params["environment"]
    for threads, said in (("3", 3), ("", os.cpu_count())):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", threads)
        assert runs.load(runs.record(tmp_path / "y", {}, metrics)).params["environment"]["threads"] == said
    pd.testing.assert_frame_equal(run.predictions, predictions)
    with pytest.raises(CourseError, match="low"):
        runs.record(tmp_path / "x", {}, {"accuracy": {"value": 0.5}})


def test_a_run_of_another_format_is_refused_in_a_sentence_and_one_of_before_formats_is_read(tmp_path, manifest):
    for name, params in {"old": {}, "new": {"format": 7}}.items():
        runs.record(tmp_path / name, params, scores.score(table(manifest)), table(manifest))
    content = json.loads((tmp_path / "old" / "params.json").read_text())
    assert content.pop("format") == 1
    (tmp_path / "old" / "params.json").write_text(json.dumps(content))
    assert runs.load(tmp_path / "old").metrics
    with pytest.raises(CourseError, match=r"new has format 7, and this course reads 1\. Use the version"):
        runs.load(tmp_path / "new")


def test_a_run_that_was_killed_is_not_taken_for_finished(tmp_path, manifest, monkeypatch):
    runs.record(tmp_path / "x", {}, {}, table(manifest))
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)  # runs/ may lie on another disk
    assert [run.path for run in runs.find(tmp_path / "link")] == [tmp_path / "link" / "x"]
    monkeypatch.setattr(runs, "write_parquet", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        runs.record(tmp_path / "x", {}, {}, table(manifest))
    with pytest.raises(DataMissing, match="03"):
        runs.load(tmp_path / "x")
    assert runs.find(tmp_path) == []


def test_labels_that_look_like_something_else_stay_the_words_they_are(tmp_path, manifest):
    words = ["None", "nan", "NA", "1", "true", "a/b", "a, b", "-", "con", "😀"]
    clips = manifest.assign(label=[words[row % len(words)] for row in range(len(manifest))])
    predictions = scores.prediction_table(clips, np.arange(len(clips)), np.eye(10)[np.arange(60) % 10], words, "one")
    model = DummyClassifier().fit(np.zeros((60, 1)), clips["label"].to_numpy(str))
    run = runs.load(runs.record(tmp_path / "run", {}, scores.score(predictions), predictions, model))
    assert run.classes == words and run.predictions["label"].tolist() == clips["label"].tolist()
    assert run.predictions["predicted"].tolist() == clips["label"].tolist()
    assert sorted(run.model().classes_) == sorted(scores.per_class(run.predictions).index) == sorted(words)


def test_a_missing_run_names_those_that_are_there(tmp_path):
    with pytest.raises(DataMissing) as error:
        runs.load(tmp_path / "05")
    assert "runs_dir" not in str(error.value)
    for name in ("mine", "03/cnn", "a", "b", "c", "d"):
        runs.record(tmp_path / name, {}, {})
    with pytest.raises(DataMissing, match=r"\(03/cnn, a, b, c, d\).*`runs_dir` and `run`"):
        runs.load(tmp_path / "05")


def test_run_folders_of_sample_and_real_data_differ(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    sample = runs.RUNS / "esc50-sample" / "03"
    assert runs.folder(None, "03", "esc50", None) == runs.folder("", "03", "esc50", "") == sample
    assert runs.folder(None, "03", "esc50", "x") == runs.RUNS / "esc50" / "03"
    assert runs.folder("~/mine", "03", "esc50", None) == tmp_path / "mine"
    assert runs.folder("mine", "03", "esc50", None) == runs.ROOT / "mine"


def test_models_read_back_with_the_same_answers(tmp_path):
    import keras
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), np.repeat(np.array(["a", "b", "c"], dtype=object), 20)
    estimators = [
        DummyClassifier(strategy="prior"),
        RandomForestClassifier(n_estimators=5, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression(solver="saga", l1_ratio=0.5, max_iter=50)),
        CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC()), ensemble=False, cv=3),
    ]
    for number, estimator in enumerate(estimators):
        estimator.fit(X, y)
        runs.record(tmp_path / str(number), {}, {}, model=estimator)
        assert (runs.load(tmp_path / str(number)).model().predict_proba(X) == estimator.predict_proba(X)).all()
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    runs.record(tmp_path / "keras", {}, {}, model=network)
    again = runs.load(tmp_path / "keras").model()
    assert (np.asarray(again(X.astype("float32"))) == np.asarray(network(X.astype("float32")))).all()


def test_the_leaderboard_lists_each_model_once_and_best_first(tmp_path, manifest):
    nothing = board.table(tmp_path)
    bad, good = table(manifest), table(manifest).assign(predicted=manifest["label"])
    for place, params, predictions in [
        ("03/bad", {"model": "bad"}, bad),
        ("03/good", {"model": "good", "data_dir": ""}, good),
        ("03", {"model": "good"}, good),  # the notebook's choice
        ("01", {"model": "tags", "scored_on": "all usable clips"}, good),
    ]:
        runs.record(tmp_path / place, {"dataset": "esc50"} | params, scores.score(predictions), predictions)
    rows = board.table(tmp_path)
    assert rows["model"].tolist() == ["good", "bad"]
    assert rows["accuracy"].tolist() == [1.0, pytest.approx(1 / 3, abs=0.05)]
    assert set(rows["data"]) == {"sample"}
    assert list(nothing) == list(rows) and list(board.readable(nothing)) == list(board.readable(rows))
    text = page.write(tmp_path)
    assert "good" in text and "good" in (tmp_path / "leaderboard.html").read_text()


def test_runs_that_differ_in_their_seed_alone_are_grouped(tmp_path, manifest):
    wrong = table(manifest)
    for seed in range(3):
        one = wrong.assign(predicted=wrong["label"].where(np.arange(len(wrong)) >= 10 * seed, "a"))
        params = {
            "notebook": "03",
            "model": "cnn",
            "dataset": "esc50",
            "seed": seed,
            "epochs": 2,
            "asked": ["seed", "epochs"],
        }
        runs.record(tmp_path / f"seed{seed}", params, scores.score(one), one)
    runs.record(tmp_path / "other", params | {"epochs": 3}, scores.score(wrong), wrong)
    text = page.write(tmp_path)
    scored = pd.read_parquet(tmp_path / "leaderboard.parquet").query("metric == 'macro_f1'")
    assert len(scored) == 4 and scored["seed"].tolist().count(2) == 2
    same = scored[scored["asked"] == '{"epochs": 2}']["value"]
    assert len(same) == 3 and f"{same.mean():.1%} ± {same.std():.1%}" in text
    assert f"{same.min():.1%} to {same.max():.1%}" in text


def test_what_is_recorded_on_other_clips_says_on_which(tmp_path, manifest, monkeypatch):
    """A notebook asked for the real ESC-10 that also trains on the sample of FSD50K."""
    monkeypatch.setattr(runs, "_ASKED", {tmp_path: {"dataset": "esc10", "data_dir": "data/esc10", "seed": 5}})
    monkeypatch.setenv("COURSE_SAMPLE", "1")
    manifest.attrs["dataset"] = "fsd50k"
    predictions = table(manifest)
    for place in (tmp_path / "one", runs.elsewhere(tmp_path, manifest) / "other"):
        runs.record(place, {"model": place.name}, scores.score(predictions), predictions)
    rows = board.table(tmp_path).set_index("model")
    assert rows["dataset"].to_dict() == {"one": "esc10", "other": "fsd50k"}
    assert rows["data"].to_dict() == {"one": "real", "other": "sample"}
    assert runs.load(tmp_path / "fsd50k" / "other").params["seed"] == 5


def test_a_comparison_is_written_for_reading(tmp_path):
    metrics = {
        name: {"value": 0.5, "low": 0.25, "high": 0.75, "n": 60}
        for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall")
    } | {"accuracy_per_fold": {"value": 0.5, "low": 0.375, "high": 0.625, "n": 2}}
    params = {"parameters": 1234, "train_seconds": 2, "details": [{"train_accuracy": 1.0}, {"train_accuracy": 0.5}]}
    less = {name: metric | {"value": 0.4} for name, metric in metrics.items()}
    recorded = {
        "svc": runs.Run(tmp_path, {"train_seconds": 0.26, "details": [{}]}, less),
        "cnn": runs.Run(tmp_path, params, metrics),
    }
    compared = runs.comparison(recorded)
    share = "50.0 % (25.0 to 75.0)"
    assert compared.to_dict("split")["data"][0] == [
        *("cnn", "1,234", "75.0 %", share, share, "50.0 % / 50.0 %", "50.0 ± 12.5 %", 60, "2.0")
    ]
    assert compared["parameters"].tolist() == ["1,234", "-"] and compared["train accuracy"].tolist() == ["75.0 %", "-"]


class Counted:
    """Trains a model that learns nothing, notes each round, and may be killed before one."""

    def __init__(self, manifest, place):
        self.manifest, self.place, self.done, self.killed_in = manifest, place, [], None
        self.rounds = data.rounds(manifest)
        self.share, self.learn = 1 / 3, lambda share: share

    def train(self, n_rounds=None, **params):
        share, learn = self.share, self.learn

        def fit(round_):
            if round_.name == self.killed_in:
                raise KeyboardInterrupt
            self.done.append(round_.name)
            return np.full((len(round_.test), 3), learn(share)), DummyClassifier(), {"train_accuracy": 0.5}

        params = {"model": "dummy", **params}
        return cross_validate(self.place / "model", self.manifest, self.rounds[:n_rounds], fit, params)


def test_training_goes_on_with_the_round_it_was_killed_in_if_parameters_are_the_same(tmp_path, manifest):
    one = Counted(manifest, tmp_path)
    one.killed_in = "fold3"
    for epochs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            one.train(epochs=epochs)
    assert one.done == ["fold1", "fold2"] * 2 and runs.find(tmp_path) == []
    one.killed_in = None
    run = one.train(epochs=2)
    assert one.done[2:] == ["fold1", "fold2", "fold3", "fold4", "fold5"]  # the first two were not trained again
    assert sorted(run.predictions["clip_id"]) == sorted(manifest["clip_id"])
    assert [detail["round"] for detail in run.params["details"]] == one.done[2:]
    assert run.classes == ["a", "b", "c"] and isinstance(run.model(), DummyClassifier)
    assert not (tmp_path / "model" / "rounds").exists()


def test_a_training_is_kept_until_what_it_depends_on_changes(tmp_path, manifest, capsys):
    beside = [tmp_path / "of_another_notebook", tmp_path / "model" / "of_another_model"]
    for place in beside:
        runs.record(place, {}, {})
    manifest["path"] = str(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"old")
    one = Counted(manifest, tmp_path)

    def trainings(epochs=2):
        """Number of trainings up to now, this one asked for twice."""
        for _ in range(2):
            one.train(1, epochs=epochs)
            runs.record(tmp_path, {}, {})  # the notebook's last cell
        return len(one.done)

    assert trainings(epochs=1) == 1
    assert trainings() == 2
    os.utime(tmp_path / "a.wav", (1, 1))  # as long as before, but written anew
    assert trainings() == 3
    manifest["group"] += "_"
    assert trainings() == 4
    manifest.loc[0, "label"] = "b"
    assert trainings() == 5
    one.share = 0.3
    assert trainings() == 6
    one.learn, other = (lambda share: share / 2), (lambda share: share / 3)  # they share their line
    assert trainings() == 7
    one.learn = other
    assert trainings() == 8
    one.rounds.reverse()
    assert trainings() == 9
    assert capsys.readouterr().out.count("dummy: kept from") == 9
    assert all((place / "metrics.json").exists() for place in beside)


FIT = """
def fit(round_):
    done.append(round_.name)
    return np.full((len(round_.test), 3), learn(round_.train)), DummyClassifier(), {}
"""
LEARN = "def learn(rows):\n    return Net().share()"
NET = "class Base:\n    def share(self):\n        return share\nclass Net(Base): pass"
CELLS = (FIT, LEARN, NET, "share = 1 / 3")


def notebook(*cells, with_texts=True):
    """Run cells in a namespace of their own, with texts that can be looked up, as IPython does; give its `fit`."""
    names = {"__name__": "notebook", "done": (done := []), "data": data, "DummyClassifier": DummyClassifier, "np": np}
    for cell in cells:
        file = f"<cell {abs(hash((cell, with_texts)))}>"
        if with_texts:
            linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        exec(compile(cell, file, "exec"), names)
    return names["fit"], done


@pytest.mark.parametrize(
    ("cells", "anew"),
    [
        (CELLS, False),
        # Cells that come later, of which fit knows nothing: a notebook run twice in one kernel has them, too.
        ((*CELLS, "def curves(): return learn", "train = 3", "rows = 1"), False),
        ((FIT, LEARN + "  # of one", NET, "share = 1 / 3"), True),
        ((FIT, LEARN, NET, "share = 0.3"), True),
        ((FIT, LEARN, NET.replace("return share", "return 1 / 3"), "share = 1 / 3"), True),
    ],
)
def test_what_a_notebook_trains_with_decides(tmp_path, manifest, cells, anew):
    rounds = data.rounds(manifest, n_rounds=1)
    for used, trained in [(CELLS, 1), (cells, int(anew))]:
        fit, done = notebook(*used)
        cross_validate(tmp_path, manifest, rounds, fit, {})
        assert len(done) == trained


def test_functions_without_text_are_told_apart_too(tmp_path, manifest):
    for share, trained in [("1 / 3", 1), ("1 / 3", 0), ("0.3", 1)]:
        fit, done = notebook(FIT, LEARN, NET, f"share = {share}", with_texts=False)
        cross_validate(tmp_path, manifest, data.rounds(manifest, n_rounds=1), fit, {})
        assert len(done) == trained


def test_a_model_that_diverged_is_named_with_its_round(tmp_path, manifest):
    def fit(round_):
        return np.full((len(round_.test), 3), np.nan), DummyClassifier(), {}

    with pytest.raises(CourseError, match="SVC, round fold1: the probabilities of"):
        cross_validate(tmp_path / "run", manifest, data.rounds(manifest), fit, {"model": "SVC"})
    assert runs.find(tmp_path) == []


def test_two_processes_never_record_in_one_folder(tmp_path):
    """The second is refused until the first has recorded, or is killed."""
    begin = (
        "from helpers import runs; from helpers.runs import parameters\n"
        "cell = parameters.defaults(runs.ROOT / 'notebooks' / 'template.ipynb')\n"
        f"runs.begin('template', cell | {{'run_dir': {str(tmp_path)!r}}})\n"
    )
    first = subprocess.Popen([sys.executable, "-c", begin + "print(1, flush=True); input()"], text=True, **_PIPES)
    assert first.stdout.readline() == "1\n"
    second = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, check=False)
    assert f"Another process is at work in {tmp_path}" in second.stderr
    first.kill()
    first.wait()
    for end in ("", f"runs.record({str(tmp_path)!r}, {{}}, {{}}); runs._BEGUN == {{}} or exit(3)"):
        assert not subprocess.run([sys.executable, "-c", begin + end], check=False).returncode


@pytest.mark.parametrize("closed", ["run", "cache"])
def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path, monkeypatch, closed):
    (tmp_path / closed).write_text("a file where a folder is wanted")
    monkeypatch.setattr(runs, "CACHE", tmp_path / "cache")
    cell = parameters.defaults(ROOT / "notebooks" / "template.ipynb") | {"run_dir": str(tmp_path / "run")}
    with pytest.raises(CourseError, match=f"Cannot write to {tmp_path / closed}"):
        runs.begin("template", cell)


@pytest.mark.parametrize("name", ["params.json", "metrics.json", "predictions.parquet", "model.skops"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe\0"])
def test_a_damaged_file_is_named_and_never_ends_the_leaderboard(tmp_path, manifest, capsys, name, damage):
    predictions = table(manifest)
    model = DummyClassifier(strategy="prior").fit(np.zeros((3, 1)), ["a", "b", "c"])
    for place in ("good", "bad"):
        runs.record(tmp_path / place, {"dataset": "esc50"}, scores.score(predictions), predictions, model)
    (tmp_path / "bad" / name).write_bytes(damage)
    with pytest.raises(CourseError, match=f"{tmp_path / 'bad' / name} cannot be read"):
        run = runs.load(tmp_path / "bad")
        assert len(run.predictions) and run.model()
    shown = len(board.table(tmp_path))
    assert shown == (1 if name.endswith("json") else 2)
    assert (f"Left out: {tmp_path / 'bad' / name}" in capsys.readouterr().out) == name.endswith("json")


def test_an_interval_that_cannot_be_given_survives_the_file(tmp_path, manifest):
    predictions = table(manifest)
    two = scores.score(predictions, np.arange(len(predictions)) % 2)
    run = runs.load(runs.record(tmp_path / "run", {"dataset": "esc50"}, two, predictions))
    assert "NaN" not in (tmp_path / "run" / "metrics.json").read_text()
    assert np.isnan(run.metrics["accuracy"]["low"]) and scores.shown(run.metrics["accuracy"]) == scores.shown(
        two["accuracy"]
    )
    assert "too few groups" in board.readable(board.table(tmp_path))["accuracy"].item()


def test_where_there_are_no_locks_it_is_said(tmp_path, monkeypatch, capsys):
    """As flock answers on some network drives."""
    monkeypatch.setattr(runs.FileLock, "acquire", Mock(side_effect=OSError(37, "No locks available")))
    cell = parameters.defaults(ROOT / "notebooks" / "template.ipynb") | {"run_dir": str(tmp_path)}
    assert runs.begin("template", cell) == tmp_path
    assert f"no locks: let no other process record in {tmp_path}" in capsys.readouterr().out
    runs.record(tmp_path, {}, {})
