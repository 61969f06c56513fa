import json

import pytest

from helpers import files


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "deep" / "table.json"
    files.write_json(path, {"value": 1})
    with pytest.raises(RuntimeError), files.replace_with(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError("the power went")
    assert json.loads(path.read_text()) == {"value": 1}
    assert [item.name for item in path.parent.iterdir()] == ["table.json"]
