import json

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from helpers import data, runs, scores
from helpers.base import CourseError, DataMissing
from helpers.networks import cross_validate
from helpers.runs import board


def table(manifest):
    probabilities = np.tile([0.5, 0.3, 0.2], (len(manifest), 1))
    return scores.prediction_table(manifest, np.arange(len(manifest)), probabilities, ["a", "b", "c"], "split")


def test_a_recorded_run_reads_back(tmp_path, manifest):
    predictions = table(manifest)
    metrics = scores.score(predictions)
    runs.record(tmp_path / "x", {"model": "m", "seed": 3}, metrics, predictions)
    run = runs.load(tmp_path / "x")
    assert run.metrics == metrics
    assert run.params["seed"] == 3 and "python" in run.params["environment"]
    pd.testing.assert_frame_equal(run.predictions, predictions)


def test_metrics_without_spread_are_refused(tmp_path):
    with pytest.raises(ValueError, match="low"):
        runs.record(tmp_path, {}, {"accuracy": {"value": 0.5}})


def test_a_run_that_was_killed_is_not_taken_for_finished(tmp_path, manifest):
    runs.record(tmp_path / "x", {}, {}, table(manifest))
    (tmp_path / "x" / "metrics.json").unlink()
    with pytest.raises(DataMissing, match="03"):
        runs.load(tmp_path / "x")
    assert runs.find(tmp_path) == []


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


def test_a_leaderboard_without_runs_can_be_shown(tmp_path, manifest):
    rows = board.table(tmp_path)
    assert len(board.readable(rows)) == 0
    predictions = table(manifest)
    runs.record(
        tmp_path / "x", {"model": "m", "dataset": "esc50", "data_dir": ""}, scores.score(predictions), predictions
    )
    filled = board.table(tmp_path)
    assert list(rows) == list(filled) and filled["data"].tolist() == ["sample"]
    assert list(board.readable(rows)) == list(board.readable(filled))


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
    good = table(manifest).assign(predicted=lambda t: t["label"])
    for name, predictions in (("bad", table(manifest)), ("good", good)):
        params = {"notebook": "03", "model": name, "dataset": "esc50", "data_dir": None}
        runs.record(tmp_path / "03" / name, params, scores.score(predictions), predictions)
    runs.record(tmp_path / "03", {"model": "good", "dataset": "esc50"}, scores.score(good), good)  # its choice
    runs.record(tmp_path / "01", {"model": "tags", "scored_on": "all usable clips"}, scores.score(good), good)
    rows = board.table(tmp_path)
    assert rows["model"].tolist() == ["good", "bad"]
    assert rows["accuracy"].tolist() == [1.0, pytest.approx(1 / 3, abs=0.05)]
    assert set(rows["data"]) == {"sample"}
    text = board.write(tmp_path)
    assert "good" in text and "good" in (tmp_path / "leaderboard.html").read_text()


def test_training_goes_on_with_the_round_it_was_killed_in(tmp_path, manifest):
    rounds, done = data.rounds(manifest), []
    fail_at = {"round": "fold3"}

    def fit(round_):
        if round_.name == fail_at["round"]:
            raise KeyboardInterrupt
        done.append(round_.name)
        labels = manifest["label"].to_numpy(object)
        model = DummyClassifier(strategy="prior").fit(np.zeros((len(round_.train), 1)), labels[round_.train])
        return model.predict_proba(np.zeros((len(round_.test), 1))), model, {"train_accuracy": 0.5}

    with pytest.raises(KeyboardInterrupt):
        cross_validate(tmp_path / "run", manifest, rounds, fit, {"model": "dummy"})
    assert runs.find(tmp_path) == []
    fail_at["round"] = None
    run = cross_validate(tmp_path / "run", manifest, rounds, fit, {"model": "dummy"})
    assert done == ["fold1", "fold2", "fold3", "fold4", "fold5"]  # the first two were not trained again
    assert sorted(run.predictions["clip_id"]) == sorted(manifest["clip_id"])
    assert json.loads((tmp_path / "run" / "params.json").read_text())["details"][4]["round"] == "fold5"
    assert not (tmp_path / "run" / "rounds").exists()
    assert run.model().classes_.tolist() == ["a", "b", "c"]


def test_what_is_the_same_is_kept_and_what_lies_beside_stays(tmp_path, manifest):
    rounds, done = data.rounds(manifest, n_rounds=1), []
    runs.record(tmp_path / "of_another_notebook", {}, {})

    def fit(round_):
        done.append(round_.name)
        return np.full((len(round_.test), 3), 1 / 3), DummyClassifier(), {}

    def notebook(epochs):
        run = cross_validate(tmp_path / "model", manifest, rounds, fit, {"model": "m", "epochs": epochs})
        runs.record(tmp_path, {}, {})  # the notebook's last cell
        return run

    assert notebook(1).classes == ["a", "b", "c"]
    notebook(1)
    assert len(done) == 1
    notebook(2)  # another setting is another model
    assert len(done) == 2
    assert (tmp_path / "of_another_notebook" / "metrics.json").exists()


def test_a_model_that_diverged_is_named_with_its_round(tmp_path, manifest):
    def fit(round_):
        return np.full((len(round_.test), 3), np.nan), DummyClassifier(), {}

    with pytest.raises(CourseError, match="SVC, round fold1: the probabilities of"):
        cross_validate(tmp_path / "run", manifest, data.rounds(manifest), fit, {"model": "SVC"})
    assert runs.find(tmp_path) == []


def test_other_parameters_never_reuse_a_round(tmp_path, manifest):
    rounds, seen = data.rounds(manifest), []

    def fit(round_):
        if len(seen) == 2:
            seen.append("stop")
            raise KeyboardInterrupt
        seen.append(round_.name)
        labels = manifest["label"].to_numpy(object)
        model = DummyClassifier(strategy="prior").fit(np.zeros((len(round_.train), 1)), labels[round_.train])
        return model.predict_proba(np.zeros((len(round_.test), 1))), model, {}

    with pytest.raises(KeyboardInterrupt):
        cross_validate(tmp_path, manifest, rounds, fit, {"model": "dummy", "epochs": 1})
    cross_validate(tmp_path, manifest, rounds, fit, {"model": "dummy", "epochs": 2})
    assert seen[3:] == ["fold1", "fold2", "fold3", "fold4", "fold5"]


def test_another_helper_function_or_value_never_reuses_a_round(tmp_path, manifest):
    rounds, done = data.rounds(manifest, n_rounds=1), []

    def most_frequent(rows):
        return DummyClassifier(strategy="most_frequent").fit(np.zeros((len(rows), 1)), manifest["label"].iloc[rows])

    def prior(rows):
        return DummyClassifier(strategy="prior").fit(np.zeros((len(rows), 1)), manifest["label"].iloc[rows])

    def train(learn, rate):
        def fit(round_):
            done.append(rate)
            model = learn(round_.train)
            return model.predict_proba(np.zeros((len(round_.test), 1))), model, {}

        return cross_validate(tmp_path, manifest, rounds, fit, {"model": "m"})

    for learn, rate, trained in [(prior, 1, 1), (prior, 1, 1), (most_frequent, 1, 2), (most_frequent, 2, 3)]:
        train(learn, rate)
        assert len(done) == trained
