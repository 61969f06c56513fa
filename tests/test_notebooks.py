"""Every notebook follows the template, its outputs belong to its source, and nothing committed is of one machine."""

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from test_lessons import numbers, prose, text_of

from helpers.base import ROOT
from helpers.course import runner
from helpers.runs import parameters

TEMPLATE = ROOT / "notebooks" / "template.ipynb"
PARAMETERS = ["dataset", "data_dir", "seed", "epochs", "limit", "run_dir"]


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(scope="module", params=[TEMPLATE, *runner._numbered()], ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def test_outputs_belong_to_the_source(notebook):
    assert notebook.metadata["course"].get("outputs_of") == runner.source_digest(notebook), "run `make notebooks`"
    code = cells(notebook, "code")
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_a_changed_source_is_noticed_and_a_changed_output_is_not():
    before = runner.source_digest(read(TEMPLATE))
    for change in ({"source": "1"}, {"metadata": {"tags": []}}, {"cell_type": "raw"}, {"outputs": [], "id": "1"}):
        book = read(TEMPLATE)
        book.cells[-1].update(change)
        assert (runner.source_digest(book) == before) == ("outputs" in change), change


def test_it_opens_and_closes_like_the_template(notebook):
    text = [cell.source for cell in cells(notebook, "markdown")]
    assert text[0].startswith("# ")
    assert "**What you will learn**" in text[0] and "**Time and data:**" in text[0]
    whole = "\n".join(text)
    places = [whole.find(f"\n## {title}") for title in ("What we have seen", "Exercises", "Record the run")]
    assert -1 not in places and places == sorted(places)
    assert "record" in notebook.cells[-1].metadata["tags"] and "runs.record(" in notebook.cells[-1].source


def test_it_takes_the_common_parameters(notebook):
    (tagged,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert re.findall(r"^(\w+) = ", tagged.source, flags=re.MULTILINE)[: len(PARAMETERS)] == PARAMETERS


def test_what_each_parameter_means_is_known(notebook):
    """Else a value from the command line would reach the notebook as text."""
    (tagged,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert not {*re.findall(r"^(\w+) = ", tagged.source, flags=re.MULTILINE)} - {*parameters._KINDS}


def test_it_explains_and_keeps_cells_short(notebook):
    code = cells(notebook, "code")
    assert len(cells(notebook, "markdown")) >= 0.6 * len(code)
    assert not [cell.source for cell in code if cell.source.count("\n") >= 30]


def test_outputs_are_small_clean_and_not_of_one_machine(notebook):
    for output in (output for cell in cells(notebook, "code") for output in cell.outputs):
        text = json.dumps(output)
        assert len(text) < 600_000
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text[:200]
        assert "<audio" not in text and "audio/" not in output.get("data", {})
        for place in (str(ROOT), str(Path.home()) + "/", "/tmp/"):
            assert place not in text


def test_no_file_names_a_folder_of_one_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    for path in map(ROOT.joinpath, listed.stdout.split("\0")):
        content = path.read_bytes() if path.is_file() and path.name != "requirements.lock" else b""
        if b"\0" not in content:  # text
            found = re.search(rb"/(home|root|work|Users)/\w.*", content)
            assert not found, f"{path}: {found[0][:80]}"


def test_the_readme_shows_figures_and_links_all_notebooks():
    linked = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert any(link.startswith("figures/") for link in linked)
    assert not [link for link in linked if not (ROOT / link).exists()]
    series = {f"notebooks/{path.name}" for path in runner._numbered()}
    assert series == {link for link in linked if re.match(r"notebooks/\d", link)}


def test_cleaning_keeps_runs_and_downloaded_weights():
    recipe = (ROOT / "Makefile").read_text().split("\nclean:")[1].split("\n\n")[0]
    assert "rm -rf" in recipe and "runs" not in recipe.split("\n", 1)[1]
    assert "! -name pretrained" in recipe


def test_the_results_in_the_readme_are_those_of_the_committed_notebooks():
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Results")[2].partition("\n## ")[0]
    parts = [part.partition("\n### ")[0] for part in re.split(r"^#### ", section, flags=re.MULTILINE)]
    shown = {path.name[:2]: [number for cell in read(path).cells for number in numbers(text_of(cell))]
             for path in runner._numbered()}  # fmt: skip
    n_rows = 0
    for part in parts[1:]:
        (name,) = re.findall(r"notebook (\d\d)", part.splitlines()[0])
        whole = " ".join(" ".join(text_of(cell) for cell in read(runner.select([name])[0]).cells).split())
        for row in re.findall(r"^\| (.+) \|$", part, flags=re.MULTILINE):
            for cell in row.split(" | "):
                assert cell in whole or not re.search(r"\d", cell), (name, cell)
            n_rows += 1
        assert not {*numbers(prose(part.split("\n", 1)[1]))} - {*shown[name]}, part[:60]
    assert n_rows > 20
    assert not {*numbers(prose(parts[0]))} - {number for of in shown.values() for number in of}
