"""Every notebook follows the template, and its outputs belong to its source."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from helpers import notebooks
from helpers.files import ROOT

PATHS = [notebooks.NOTEBOOKS / "template.ipynb", *notebooks.numbered()]
PARAMETERS = ["dataset", "data_dir", "seed", "epochs", "limit", "run_dir"]


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


def test_the_series_is_there():
    assert [path.name[:2] for path in notebooks.numbered()][:2] == ["01", "02"]


def test_outputs_belong_to_the_source(notebook):
    course = notebook.metadata["course"]
    assert course.get("outputs_of") == notebooks.source_digest(notebook), "run `make notebooks`"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_a_changed_source_is_noticed():
    for change in ("source", "tags"):
        book = read(PATHS[0])
        before = notebooks.source_digest(book)
        book.cells[-1].outputs = []
        assert notebooks.source_digest(book) == before
        if change == "source":
            book.cells[-1].source += "\n"
        else:
            book.cells[-1].metadata["tags"] = []
        assert notebooks.source_digest(book) != before


def test_it_opens_and_closes_like_the_template(notebook):
    text = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert text[0].startswith("# ")
    assert "**What you will learn**" in text[0] and "**Time and data:**" in text[0]
    whole = "\n".join(text)
    places = [whole.find(f"\n## {title}") for title in ("What we have seen", "Exercises", "Record the run")]
    assert -1 not in places and places == sorted(places)
    assert "record" in notebook.cells[-1].metadata["tags"] and "runs.record(" in notebook.cells[-1].source


def test_it_takes_the_common_parameters(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    names = re.findall(r"^(\w+) = ", tagged[0].source, flags=re.MULTILINE)
    assert names[: len(PARAMETERS)] == PARAMETERS


def test_it_explains_and_keeps_cells_short(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    prose = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    assert len(prose) >= 0.6 * len(code)
    for cell in code:
        assert cell.source.count("\n") < 30, cell.source.splitlines()[0]


def test_outputs_are_small_clean_and_not_of_one_machine(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = json.dumps(output)
            assert output.output_type != "error"
            assert len(text) < 400_000
            assert "<audio" not in text and "audio/" not in output.get("data", {})
            assert output.get("name") != "stderr", output.text[:200]
            for place in (str(ROOT), str(Path.home()) + "/", "/tmp/"):
                assert place not in text


def test_the_readme_shows_figures_and_links_notebooks_that_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    assert any(link.startswith("figures/") for link in linked)
    for link in linked:
        assert (ROOT / link).exists(), link
    for path in notebooks.numbered():
        assert f"notebooks/{path.name}" in linked


def test_a_mistyped_parameter_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(notebooks.CourseError, match="'epoch'.*epochs"):
        notebooks.run([PATHS[0]], tmp_path, {"epoch": 3})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_notebook_is_refused_by_name():
    with pytest.raises(notebooks.CourseError, match="'99'"):
        notebooks.select(["99"])


def test_a_run_is_kept_until_something_changes(tmp_path, capsys):
    parameters = {"limit": 60, "seed": 1}
    (first,) = notebooks.run([PATHS[0]], tmp_path, parameters)
    made = first.stat().st_mtime_ns
    notebooks.run([PATHS[0]], tmp_path, parameters)
    assert first.stat().st_mtime_ns == made and "up to date" in capsys.readouterr().out
    notebooks.run([PATHS[0]], tmp_path, {**parameters, "seed": 2})
    assert first.stat().st_mtime_ns != made


def test_a_failing_notebook_leaves_its_error_and_no_result(tmp_path):
    book = read(PATHS[0])
    book.cells[2].source += "\nraise RuntimeError('the microphone fell over')"
    broken = tmp_path / "broken.ipynb"
    nbformat.write(book, broken)
    with pytest.raises(notebooks.NotebookFailed, match="the microphone fell over"):
        notebooks.run([broken], tmp_path / "out")
    assert not (tmp_path / "out" / "broken.ipynb").exists()
    assert (tmp_path / "out" / "broken.failed.ipynb").exists()
