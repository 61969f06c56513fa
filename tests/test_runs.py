import linecache
import os

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
    with pytest.raises(CourseError, match="low"):
        runs.record(tmp_path, {}, {"accuracy": {"value": 0.5}})


def test_a_run_that_was_killed_is_not_taken_for_finished(tmp_path, manifest):
    runs.record(tmp_path / "x", {}, {}, table(manifest))
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)  # runs/ may lie on another disk
    assert [run.path for run in runs.find(tmp_path / "link")] == [tmp_path / "link" / "x"]
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
    bad, good = table(manifest), table(manifest).assign(predicted=lambda t: t["label"])
    for name, predictions in (("bad", bad), ("good", good)):
        params = {"notebook": "03", "model": name, "dataset": "esc50", "data_dir": ""}
        runs.record(tmp_path / "03" / name, params, scores.score(predictions), predictions)
    runs.record(tmp_path / "03", {"model": "good", "dataset": "esc50"}, scores.score(good), good)  # its choice
    runs.record(tmp_path / "01", {"model": "tags", "scored_on": "all usable clips"}, scores.score(good), good)
    rows = board.table(tmp_path)
    assert rows["model"].tolist() == ["good", "bad"]
    assert rows["accuracy"].tolist() == [1.0, pytest.approx(1 / 3, abs=0.05)]
    assert set(rows["data"]) == {"sample"}
    assert list(nothing) == list(rows) and list(board.readable(nothing)) == list(board.readable(rows))
    text = board.write(tmp_path)
    assert "good" in text and "good" in (tmp_path / "leaderboard.html").read_text()


def test_a_comparison_is_written_for_reading(tmp_path, manifest):
    predictions = table(manifest).assign(fold=np.repeat(["fold1", "fold2"], 30))
    metrics = {
        name: {"value": 0.5, "low": 0.25, "high": 0.75, "n": 60}
        for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall")
    } | {"accuracy_per_fold": {"value": 0.5, "low": 0.375, "high": 0.625, "n": 2}}
    params = {"parameters": 1234, "train_seconds": 2, "details": [{"train_accuracy": 1.0}, {"train_accuracy": 0.5}]}
    runs.record(tmp_path / "cnn", params, metrics, predictions)
    less = {name: metric | {"value": 0.4} for name, metric in metrics.items()}
    runs.record(tmp_path / "svc", {"train_seconds": 0.26, "details": [{}]}, less, predictions)
    compared = board.comparison({name: runs.load(tmp_path / name) for name in ("svc", "cnn")})
    share = "50.0% (25.0% to 75.0%)"
    assert compared.to_dict("split")["data"][0] == [
        *("cnn", "1,234", "75.0 %", share, share, "50.0% / 50.0%", "50.0% ± 12.5%", 60, "2.0")
    ]
    assert compared["parameters"].tolist() == ["1,234", "-"] and compared["train accuracy"].tolist() == ["75.0 %", "-"]


class Counted:
    """Trains a model that learns nothing, counts how often, and may be killed before a round."""

    def __init__(self, manifest, place):
        self.manifest, self.place, self.done, self.killed_in = manifest, place, [], None

    def train(self, n_rounds=None, **params):
        def fit(round_):
            if round_.name == self.killed_in:
                raise KeyboardInterrupt
            self.done.append(round_.name)
            return np.full((len(round_.test), 3), 1 / 3), DummyClassifier(), {"train_accuracy": 0.5}

        rounds = data.rounds(self.manifest, n_rounds)
        return cross_validate(self.place / "model", self.manifest, rounds, fit, {"model": "dummy", **params})


def test_training_goes_on_with_the_round_it_was_killed_in(tmp_path, manifest):
    one = Counted(manifest, tmp_path)
    one.killed_in = "fold3"
    with pytest.raises(KeyboardInterrupt):
        one.train()
    assert runs.find(tmp_path) == []
    one.killed_in = None
    run = one.train()
    assert one.done == ["fold1", "fold2", "fold3", "fold4", "fold5"]  # the first two were not trained again
    assert sorted(run.predictions["clip_id"]) == sorted(manifest["clip_id"])
    assert [detail["round"] for detail in run.params["details"]] == one.done
    assert run.classes == ["a", "b", "c"] and isinstance(run.model(), DummyClassifier)
    assert not (tmp_path / "model" / "rounds").exists()


def test_other_parameters_never_reuse_a_round(tmp_path, manifest):
    one = Counted(manifest, tmp_path)
    one.killed_in = "fold3"
    for epochs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            one.train(epochs=epochs)
    assert one.done == ["fold1", "fold2", "fold1", "fold2"]


def test_what_is_the_same_is_kept_and_what_lies_beside_stays(tmp_path, manifest, capsys):
    for place in ("of_another_notebook", "model/of_another_model"):
        runs.record(tmp_path / place, {}, {})
    one = Counted(manifest, tmp_path)
    for epochs, trained in [(1, 1), (1, 1), (2, 2)]:
        one.train(1, epochs=epochs)
        assert len(one.done) == trained
        runs.record(tmp_path, {}, {})  # the notebook's last cell
    assert capsys.readouterr().out.count("dummy: kept from") == 1
    for place in ("of_another_notebook", "model/of_another_model"):
        assert (tmp_path / place / "metrics.json").exists()


def test_other_recordings_labels_or_groups_train_anew(tmp_path, manifest):
    manifest["path"] = str(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(b"old")
    one = Counted(manifest, tmp_path)
    one.train(1)
    os.utime(tmp_path / "a.wav", (1, 1))  # as long as before, but written anew
    one.train(1)
    manifest.loc[0, "group"] = "source1"
    one.train(1)
    one.train(1)
    assert len(one.done) == 3


def notebook(*cells):
    """Run cells in a namespace of their own, with texts that can be looked up, as IPython does; give its `fit`."""
    names = {"__name__": "notebook", "done": (done := []), "data": data, "DummyClassifier": DummyClassifier, "np": np}
    for cell in cells:
        file = f"<cell {abs(hash(cell))}>"
        linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        exec(compile(cell, file, "exec"), names)
    return names["fit"], done


FIT = """
def fit(round_):
    done.append(round_.name)
    return np.full((len(round_.test), 3), learn(round_.train)), DummyClassifier(), {}
"""
LEARN = "def learn(rows):\n    return Net().share()"
NET = "class Net:\n    def share(self):\n        return share"


@pytest.mark.parametrize(
    ("cells", "anew"),
    [
        ((FIT, LEARN, NET, "share = 1 / 3"), False),
        # Cells that come later, of which fit knows nothing: a notebook run twice in one kernel has them, too.
        ((FIT, LEARN, NET, "share = 1 / 3", "def curves(): return learn", "train = 3", "rows = 1"), False),
        ((FIT, LEARN + "  # of one", NET, "share = 1 / 3"), True),
        ((FIT, LEARN, NET, "share = 0.3"), True),
        ((FIT, LEARN, NET.replace("return share", "return 1 / 3"), "share = 1 / 3"), True),
        ((FIT, LEARN, "class Base:\n    def share(self):\n        return 1\nclass Net(Base): pass"), True),
    ],
)
def test_what_a_notebook_trains_with_decides(tmp_path, manifest, cells, anew):
    rounds = data.rounds(manifest, n_rounds=1)
    for number, used in enumerate([(FIT, LEARN, NET, "share = 1 / 3"), cells]):
        fit, done = notebook(*used)
        cross_validate(tmp_path, manifest, rounds, fit, {})
        assert len(done) == (1 if number == 0 else anew)


def test_a_function_without_text_trains_and_is_kept(tmp_path, manifest):
    names = {"__name__": "notebook", "DummyClassifier": DummyClassifier, "np": np, "done": []}
    exec(FIT.replace("learn(round_.train)", "1 / 3"), names)
    for _ in range(2):
        cross_validate(tmp_path, manifest, data.rounds(manifest, n_rounds=1), names["fit"], {})
    assert len(names["done"]) == 1


def test_another_value_that_a_function_was_made_with_trains_anew(tmp_path, manifest):
    rounds, done = data.rounds(manifest, n_rounds=1), []

    def trainer(rate, learn):
        def fit(round_):
            done.append(rate)
            return np.full((len(round_.test), 3), learn()), DummyClassifier(), {}

        return fit

    one, other = (lambda: 1 / 3), (lambda: 0.3)
    for rate, learn, trained in [(1, one, 1), (1, one, 1), (2, one, 2), (2, other, 3)]:
        cross_validate(tmp_path, manifest, rounds, trainer(rate, learn), {})
        assert len(done) == trained


def test_a_model_that_diverged_is_named_with_its_round(tmp_path, manifest):
    def fit(round_):
        return np.full((len(round_.test), 3), np.nan), DummyClassifier(), {}

    with pytest.raises(CourseError, match="SVC, round fold1: the probabilities of"):
        cross_validate(tmp_path / "run", manifest, data.rounds(manifest), fit, {"model": "SVC"})
    assert runs.find(tmp_path) == []
