"""Values of parameters, as command lines, papermill and people give them."""

import nbformat
import pytest

from helpers import data, runs
from helpers.base import ROOT, CourseError
from helpers.runs import parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("full", "false", False),
        ("full", "TRUE", True),
        ("full", 0, False),
        ("pretrained", "no", False),
        ("limit", "none", None),
        ("limit", "", None),
        ("limit", 20.0, 20),
        ("epochs", "1e0", 1),
        ("seed", "0", 0),
        ("n_rounds", None, None),
        ("data_dir", 2024, "2024"),
        ("data_dir", "", None),
        ("run_dir", 7, "7"),
        ("run_dir", ROOT, str(ROOT)),
        ("options", '{"esc10_only": true}', {"esc10_only": True}),
        ("options", "", {}),
        ("options", None, {}),
        ("networks", "conv5, values32", ["conv5", "values32"]),
        ("networks", '["conv5"]', ["conv5"]),
        ("seconds", "1", 1.0),
        ("clip", 100032, "100032"),
        ("regularise", "none", "none"),
        ("a name of your own", "false", "false"),
    ],
)
def test_values_are_read_as_they_are_meant(name, given, meant):
    found = parameters.read(name, given)
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("full", value) for value in ("maybe", 2, [])),
        *(("n_rounds", value) for value in (0, "0", 1.5, True, [1], "two")),
        *(("seed", value) for value in ("abc", -1, None, 2**32, float("nan"))),
        *(("options", value) for value in ("{a: 1}", "[1]", 3, [1])),
        *(("seconds", value) for value in (0, "inf", "short")),
        ("dataset", None),
        ("n_clips", 1),
        ("networks", 3),
        ("epochs", "1e400"),
    ],
)
def test_what_is_no_value_is_refused_with_the_name_of_the_parameter(name, given):
    with pytest.raises(CourseError, match=f"^The parameter {name} .*it must be "):
        parameters.read(name, given)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_of_the_notebooks_is_known_and_has_a_value_that_passes(notebook):
    found = parameters.defaults(notebook)
    assert list(found)[:2] == ["dataset", "data_dir"]
    for name, value in found.items():
        assert name in parameters._KINDS and parameters.read(name, value) == value
        assert type(parameters.read(name, value)) in (type(value), float)  # 8 stands for 8.0


def test_a_notebook_begins_with_its_parameters_read_in_place(tmp_path):
    cell = parameters.defaults(ROOT / "notebooks" / "03_spectrogram_cnns.ipynb")
    cell |= {"run_dir": str(tmp_path / "run"), "full": "false", "networks": parameters}  # a module of that name stays
    assert runs.begin("03_spectrogram_cnns", cell) == tmp_path / "run"
    assert cell["full"] is False and cell["networks"] is parameters
    assert runs.begin("03_spectrogram_cnns", cell) == tmp_path / "run"  # the cell is run again
    runs.record(tmp_path / "run", {}, {})
    with pytest.raises(CourseError, match="The parameter epochs is 'ten'"):
        runs.begin("03_spectrogram_cnns", cell | {"epochs": "ten"})


def test_parameters_may_be_annotated_and_computed(tmp_path):
    cell = nbformat.v4.new_code_cell(
        "limit: int = 3\nseed = 1 + 1\n%magic\nfull = pretrained = False\na, b = 1, 2\nd: int"
    )
    cell.metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "own.ipynb")
    assert parameters.defaults(tmp_path / "own.ipynb") == {
        **{"limit": 3, "seed": "1 + 1", "full": False, "pretrained": False}
    }


def test_full_unless_given_means_the_real_esc10_and_recordings_at_hand_are_taken(tmp_path, monkeypatch):
    cell = {"run_dir": str(tmp_path), "dataset": "esc10", "data_dir": "", "full": "none"}
    runs.begin("03_spectrogram_cnns", on_sample := dict(cell))
    assert (on_sample["data_dir"], on_sample["full"]) == (None, False)
    monkeypatch.setattr(data, "at_hand", lambda dataset, data_dir=None: data_dir or f"data/{dataset}")
    for change, (place, full) in {
        (): ("data/esc10", True),
        (("full", "no"),): ("data/esc10", False),
        (("dataset", "esc50"),): ("data/esc50", False),
        (("data_dir", "mine"),): ("mine", True),
    }.items():
        runs.begin("03_spectrogram_cnns", begun := cell | dict(change))
        assert (begun["data_dir"], begun["full"]) == (place, full)


def test_a_run_records_what_its_notebook_was_asked_for(tmp_path):
    cell = {"run_dir": str(tmp_path / "x"), "dataset": "folder", "seed": "7", "options": "{}", "other": 1}
    place = runs.begin("03_spectrogram_cnns", cell)
    runs.record(place / "cnn", {"model": "cnn", "seed": 8}, {})
    runs.record(place, {}, {})
    asked = {"notebook": "03_spectrogram_cnns", "dataset": "folder", "data_dir": None, "seed": 7, "options": {}}
    params = runs.load(place).params
    assert {name: params[name] for name in asked} == asked and "run_dir" not in params and "other" not in params
    assert runs.load(place / "cnn").params["seed"] == 8
