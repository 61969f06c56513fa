"""Labels damaged on purpose, and the network of the notebooks that deal with them."""

import nbformat
import numpy as np
import pandas as pd
import pytest

from helpers import data
from helpers.course import runner
from helpers.topics import noisy


@pytest.fixture
def manifest():
    """A hundred recordings of four classes, two clips each."""
    recording = np.repeat(np.arange(100), 2)
    label = np.array(["cat", "cow", "dog", "hen"], object)[recording % 4]
    return pd.DataFrame({"clip_id": [f"c{i}" for i in range(200)], "label": label, "group": recording.astype(str)})


def test_of_what_nobody_verified_the_stated_share_is_wrong_and_recordings_err_as_a_whole(manifest):
    table = noisy.damaged(manifest, 0.4, 0.5, 0)
    wrong = table["given"] != table["label"]
    assert (table["label"] == manifest["label"]).all()
    assert table["verified"].mean() == pytest.approx(0.4) and not wrong[table["verified"]].any()
    assert wrong[~table["verified"]].mean() == pytest.approx(0.5)
    assert (table.groupby("group")[["given", "verified"]].nunique() == 1).all(axis=None)
    other = noisy.damaged(manifest, 0.4, 0.5, 1)
    assert (table["given"] != other["given"]).any() and table["given"].equals(
        noisy.damaged(manifest, 0.4, 0.5, 0).given
    )


def test_what_brings_its_truth_keeps_its_own_mistakes_and_what_nobody_knows_stays_out(manifest):
    sample = data.load("fsdkaggle2018")
    table = noisy.damaged(sample, 0.1, 0.9, 0)
    scored = sample[sample["label"].notna()]
    assert table["given"].tolist() == scored["label"].tolist() and table["label"].tolist() == scored["truth"].tolist()
    half = manifest.assign(verified=np.arange(200) < 100, split=["train"] * 190 + ["test"] * 10)
    assert len(noisy.damaged(half, 0.4, 0.5, 0)) == 110


def test_the_small_and_the_large_network_have_as_many_weights_as_by_hand():
    def by_hand(convolutions, dense, n_classes=10):
        n, before = 0, 1
        for filters in (8, 16, 32):
            for _ in range(convolutions):
                n, before = n + (9 * before + 1) * filters, filters
        return n + (4 * 3 * 32 + 1) * dense + (dense + 1) * n_classes  # 32 x 27, halved three times

    for size in ((2, 1024), (3, 4096)):
        assert noisy.vgg((32, 27, 1), 10, *size).count_params() == by_hand(*size)


def test_the_damage_is_that_of_notebook_09(manifest):
    (path,) = runner.select(["09"])
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    (lesson,) = [source for source in code if source.startswith("def damaged(")]
    classes, truth = np.unique(manifest["label"].astype(str), return_inverse=True)
    unit = pd.factorize(manifest["group"] + " " + manifest["label"].astype(str))[0]
    seen = {"np": np, "own": False, "unit": unit, "truth": truth, "classes": classes, "noise": "uniform"}
    seen |= {"share_verified": 0.4, "share_wrong": 0.5}
    exec(lesson, seen)
    given, verified = seen["damaged"](7)
    table = noisy.damaged(manifest, 0.4, 0.5, 7)
    assert (classes[given] == table["given"]).all() and (verified == table["verified"]).all()
