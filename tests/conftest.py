"""What several tests share."""

import os
import sys

import numpy as np
import pandas as pd
import pytest

from helpers.audio import convert
from helpers.base import DATA

sys.path.append(str(DATA))  # where the recipe of the sample lies
os.environ["COURSE_SAMPLE"] = "1"  # also where real recordings are at hand
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(autouse=True)
def without_ffmpeg(monkeypatch):
    """Tests go the same way on every machine; those of ffmpeg itself name one."""
    monkeypatch.setattr(convert, "ffmpeg", lambda: None)


@pytest.fixture
def manifest():
    """60 clips, 3 classes, 20 groups of 3 clips each; neither split nor fold."""
    number = np.arange(60)
    from helpers.data import _validate as validate

    return validate(
        pd.DataFrame(
            {
                "clip_id": [f"clip{n:02d}" for n in number],
                "path": [f"/nowhere/{n}.wav" for n in number],
                "label": [("a", "b", "c")[n // 3 % 3] for n in number],
                "group": [f"source{n // 3}" for n in number],
            }
        )
    )
