"""FSDKaggle2018: 11,073 scored Freesound clips of 41 classes; only a part of the training labels is verified."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from helpers.data.declare import Info, RemoteFile, find_root
from helpers.data.tables import read_table, truths

_DOI = "10.5281/zenodo.2552860"

INFO = Info(
    name="fsdkaggle2018",
    title="FSDKaggle2018",
    folder="FSDKaggle2018",
    marker="FSDKaggle2018.meta/train_post_competition.csv",
    licence="Creative Commons, one licence per clip (column `license`)",
    citation="E. Fonseca et al., General-purpose tagging of Freesound audio with AudioSet labels, DCASE 2018, "
    "arXiv:1807.09902",
    homepage="https://doi.org/10.5281/zenodo.2552860",
    size_bytes=4_600_000_000,
    disk_bytes=10_000_000_000,
    files=tuple(
        RemoteFile(url=f"doi:{_DOI}/FSDKaggle2018.{part}.zip", unpack_to="FSDKaggle2018")
        for part in ("meta", "doc", "audio_train", "audio_test")
    ),
)


def load(data_dir: str | os.PathLike) -> pd.DataFrame:
    """Load FSDKaggle2018: `split` is train or test, `group` the Freesound recording.

    The archive on Zenodo lists the 1,600 test clips that were scored. In Kaggle's own list stand 7,800 more, which were
    ignored: they have no label (None); the audit sets them aside and says so. Where it is known what is heard in the
    training clips, in the sample's truth.csv, the manifest has a column `truth`.
    """
    root = find_root(data_dir, INFO)
    meta, columns = root / "FSDKaggle2018.meta", ["fname", "label", "freesound_id"]
    train = read_table(meta / "train_post_competition.csv", [*columns, "manually_verified"]).assign(split="train")
    published, kaggle = meta / "test_post_competition_scoring_clips.csv", meta / "test_post_competition.csv"
    test = read_table(published if published.exists() else kaggle, [*columns, "usage"]).assign(split="test")
    train["folder"], test["folder"] = "FSDKaggle2018.audio_train", "FSDKaggle2018.audio_test"
    train["verified"] = truths(train["manually_verified"], meta / "train_post_competition.csv")
    test["verified"] = test["usage"] != "Ignored"
    test["label"] = test["label"].where(test["verified"])
    table = pd.concat([train, test], ignore_index=True)
    truth = {"truth": _truth(root, table)} if (root / "truth.csv").exists() else {}
    return pd.DataFrame(
        {
            "clip_id": table["fname"].str.removesuffix(".wav"),
            "path": [str(root / folder / name) for folder, name in zip(table["folder"], table["fname"], strict=True)],
            "label": table["label"].where(table["label"] != ""),
            "split": table["split"],
            "group": table["freesound_id"],
            "verified": table["verified"],
            **truth,
        }
    )


def _truth(root: Path, table: pd.DataFrame) -> pd.Series:
    heard = read_table(root / "truth.csv", ["fname", "label"]).set_index("fname")["label"]
    return table["fname"].map(heard).fillna(table["label"])
