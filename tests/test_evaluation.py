import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from helpers import evaluation


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    predicted = np.where(rng.random(300) < 0.7, label, rng.choice(["a", "b", "c", "d"], 300))
    fold = np.repeat(["fold1", "fold2", "fold3"], 100)
    return pd.DataFrame({"clip_id": np.arange(300).astype(str), "label": label, "predicted": predicted, "fold": fold})


def test_scores_equal_scikit_learns(predictions):
    result = evaluation.score(predictions)
    true, guess = predictions["label"], predictions["predicted"]
    options = dict(labels=["a", "b", "c"], average="macro", zero_division=0)  # "d" occurs in no label
    assert result["accuracy"]["value"] == pytest.approx(accuracy_score(true, guess))
    assert result["macro_f1"]["value"] == pytest.approx(f1_score(true, guess, **options))
    assert result["macro_precision"]["value"] == pytest.approx(precision_score(true, guess, **options))
    assert result["macro_recall"]["value"] == pytest.approx(recall_score(true, guess, **options))
    assert result["accuracy"]["n"] == 300


def test_confusion_equals_scikit_learns(predictions):
    classes = ["a", "b", "c", "d"]
    true, guess = predictions["label"], predictions["predicted"]
    assert (evaluation.confusion(true, guess, classes) == confusion_matrix(true, guess, labels=classes)).all()


def test_the_interval_of_accuracy_is_the_binomial_one(predictions):
    accuracy = evaluation.score(predictions, n_boot=4000)["accuracy"]
    error = 1.96 * np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 300)
    assert accuracy["low"] == pytest.approx(accuracy["value"] - error, abs=0.01)
    assert accuracy["high"] == pytest.approx(accuracy["value"] + error, abs=0.01)


def test_clips_that_stand_or_fall_together_widen_the_interval():
    hit = np.repeat(np.random.default_rng(1).random(30) < 0.5, 10)  # 30 sources of 10 equal clips
    table = pd.DataFrame(
        {"clip_id": np.arange(300), "label": "a", "predicted": np.where(hit, "a", "b"), "fold": "split"}
    )
    alone, grouped = evaluation.score(table), evaluation.score(table, np.repeat(np.arange(30), 10))
    width = [score["accuracy"]["high"] - score["accuracy"]["low"] for score in (alone, grouped)]
    assert width[1] == pytest.approx(width[0] * np.sqrt(10), rel=0.25)


def test_rows_without_a_group_are_groups_of_their_own(predictions):
    alone = evaluation.score(predictions)["accuracy"]
    for missing in (None, np.nan):
        nobody = evaluation.score(predictions, np.array([missing] * 300, dtype=object))["accuracy"]
        assert nobody["high"] - nobody["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.2)
    assert evaluation.members(np.array(["a", None, "a", None], dtype=object), 4).tolist() in (
        [0, 1, 0, 2],
        [0, 2, 0, 1],
    )


def test_spread_over_folds(predictions):
    hits = (predictions["label"] == predictions["predicted"]).to_numpy().reshape(3, 100).mean(axis=1)
    result = evaluation.score(predictions)["accuracy_per_fold"]
    assert result["value"] == pytest.approx(hits.mean())
    assert result["high"] - result["value"] == pytest.approx(hits.std(ddof=1))
    assert result["n"] == 3


def test_paired_difference_of_a_table_with_itself_is_zero(predictions):
    result = evaluation.paired_difference(predictions, predictions)
    assert (result["value"], result["low"], result["high"], result["n"]) == (0, 0, 0, 300)


def test_paired_difference_counts_matched_clips(predictions):
    perfect = predictions.assign(predicted=predictions["label"]).sample(frac=1, random_state=0)
    result = evaluation.paired_difference(perfect, predictions)
    assert result["value"] == pytest.approx((predictions["label"] != predictions["predicted"]).mean())
    assert 0 < result["low"] < result["value"] < result["high"]


def test_a_difference_is_written_with_its_signs():
    gain = {"value": -0.0123, "low": -0.05, "high": 0.004, "n": 12}
    assert evaluation.points(gain) == "-1.2 points (-5.0 to +0.4, n = 12)"


def test_prediction_table_names_the_largest_column(manifest):
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    table = evaluation.prediction_table(manifest, np.array([3, 5]), probabilities, ["a", "b", "c"], "fold1")
    assert table["clip_id"].tolist() == ["clip03", "clip05"]
    assert table["predicted"].tolist() == ["b", "a"]
    assert list(table.columns) == ["clip_id", "label", "predicted", "fold", "p_a", "p_b", "p_c"]


def test_columns_of_a_model_that_missed_a_class_are_put_in_place():
    spread = evaluation.in_columns(np.array([[0.25, 0.75]]), ["c", "a"], ["a", "b", "c"])
    assert spread.tolist() == [[0.75, 0.0, 0.25]]
