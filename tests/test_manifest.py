import pandas as pd
import pytest

from helpers.base import CourseError
from helpers.data import _COLUMNS
from helpers.data import _validate as validate


def test_standard_columns_come_first_and_others_stay():
    table = validate(pd.DataFrame({"extra": [1, 2], "path": ["x", "y"], "clip_id": ["a", "b"]}, index=[7, 9]))
    assert list(table.columns) == [*_COLUMNS, "extra"]
    assert list(table.index) == [0, 1]
    assert table["label"].tolist() == [None, None]
    assert table["fold"].isna().all() and str(table["fold"].dtype) == "Int64"


def test_attributes_survive():
    table = pd.DataFrame({"clip_id": ["a"], "path": ["x"]})
    table.attrs["dataset"] = "folder"
    assert validate(table).attrs == {"dataset": "folder"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["x"]}, "clip_id"),
        ({"clip_id": ["a", "a"], "path": ["x", "y"]}, "'a'"),
        ({"clip_id": ["a"], "path": ["x"], "split": ["testing"]}, "testing"),
    ],
)
def test_broken_manifests_are_refused_with_the_reason(columns, message):
    with pytest.raises(CourseError, match=message):
        validate(pd.DataFrame(columns))
