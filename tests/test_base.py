import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers import base


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "deep" / "table.json"
    base.write_json(path, {"value": 1})
    with pytest.raises(RuntimeError), base.replace_with(path) as temporary:
        temporary.write_text("half of")
        raise RuntimeError("the power went")
    assert json.loads(path.read_text()) == {"value": 1}
    assert [item.name for item in path.parent.iterdir()] == ["table.json"]


def test_relative_paths_work_from_the_notebooks_and_from_the_root(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "ROOT", tmp_path / "repository")
    (tmp_path / "here" / "near").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert base.resolve("near").resolve() == tmp_path / "here" / "near"
    assert base.resolve("far") == tmp_path / "repository" / "far"
    assert base.resolve("/abs") == Path("/abs")


def test_what_libraries_write_past_python_is_kept_from_the_terminal_while_it_is_quiet(capfd):
    def say(text):
        os.write(2, text)

    with base.quiet():
        say(b"one")
        with base.quiet():
            say(b"two")
        say(b"three")
    say(b"four ")
    with ThreadPoolExecutor(8) as pool:  # whoever comes last opens again

        def work(number):
            with base.quiet():
                say(b"five")

        list(pool.map(work, range(500)))
    say(b"six")
    assert capfd.readouterr().err == "four six"
