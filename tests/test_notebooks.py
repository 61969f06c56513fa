"""Every notebook follows the template, and its outputs belong to its source."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from helpers import __main__ as command_line
from helpers import runs
from helpers.base import ROOT
from helpers.course import runner as notebooks

PATHS = [notebooks._NOTEBOOKS / "template.ipynb", *notebooks._numbered()]
PARAMETERS = ["dataset", "data_dir", "seed", "epochs", "limit", "run_dir"]


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


def test_the_series_is_there():
    assert [path.name[:2] for path in notebooks._numbered()][:2] == ["01", "02"]


def test_outputs_belong_to_the_source(notebook):
    course = notebook.metadata["course"]
    assert course.get("outputs_of") == notebooks._source_digest(notebook), "run `make notebooks`"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))


def test_a_changed_source_is_noticed():
    for change in ("source", "tags"):
        book = read(PATHS[0])
        before = notebooks._source_digest(book)
        book.cells[-1].outputs = []
        assert notebooks._source_digest(book) == before
        if change == "source":
            book.cells[-1].source += "\n"
        else:
            book.cells[-1].metadata["tags"] = []
        assert notebooks._source_digest(book) != before


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
    for path in notebooks._numbered():
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


@pytest.fixture
def recording(monkeypatch):
    """Notebooks record a run, and say so, without being executed; returns how to run them, and the metrics."""
    metrics, executed = {"n": 1}, []

    def execute(path, target, parameters, **options):
        executed.append(path.name[:2])
        shutil.copyfile(path, target)
        accuracy = {"value": 0.5, "low": 0.4, "high": 0.6, "n": metrics["n"]}
        runs.record(parameters["run_dir"], {}, {"accuracy": accuracy})

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", execute)

    def run(names, out, force=False, **parameters):
        executed.clear()
        notebooks.run(notebooks.select(names), out, parameters, force)
        return executed.copy()

    return run, metrics


def test_a_run_that_is_gone_or_changed_is_made_again(recording, tmp_path):
    run, _ = recording
    recorded = tmp_path / "02_exploring_sound" / "metrics.json"
    assert run(["02"], tmp_path) == ["02"] and run(["02"], tmp_path) == []
    recorded.write_text("{}")
    assert run(["02"], tmp_path) == ["02"] and run(["02"], tmp_path) == []
    shutil.rmtree(recorded.parent)
    assert run(["02"], tmp_path) == ["02"] and run(["02"], tmp_path) == []


def test_a_new_run_of_a_needed_notebook_makes_its_reader_stale(recording, tmp_path):
    run, metrics = recording
    assert run(["05", "06"], tmp_path) == ["05", "06"] and run(["06"], tmp_path) == []
    metrics["n"] = 2
    assert run(["05"], tmp_path, force=True) == ["05"]
    assert run(["06"], tmp_path) == ["06"] and run(["05", "06"], tmp_path) == []
    elsewhere = tmp_path / "elsewhere"
    reading = {"runs_dir": str(elsewhere), "run": "mine"}
    assert run(["06"], tmp_path, **reading) == ["06"] and run(["06"], tmp_path, **reading) == []
    runs.record(elsewhere / "mine", {}, {})
    assert run(["06"], tmp_path, **reading) == ["06"] and run(["06"], tmp_path, **reading) == []


def test_changed_data_are_noticed_in_folders_and_lists(recording, tmp_path, monkeypatch):
    run, _ = recording
    monkeypatch.setenv("HOME", str(tmp_path))
    far, data = tmp_path / "far.wav", tmp_path / "data"
    far.write_bytes(b"x")
    data.mkdir()
    (data / "list.csv").write_text(f"path,label\n{far},yes\n")
    for place in ("~/data", "~/data/list.csv"):
        given = {"dataset": "folder", "data_dir": place}
        for changed in (data / "list.csv", far):
            assert run(["02"], tmp_path / "out", **given) == ["02"] and run(["02"], tmp_path / "out", **given) == []
            now = changed.stat().st_mtime_ns
            os.utime(changed, ns=(now, now + 60_000_000_000 * (1 + (changed == far))))
        assert run(["02"], tmp_path / "out", **given) == ["02"]
        far.write_bytes(far.read_bytes() + b"x")


def test_one_run_dir_for_several_notebooks_is_refused(tmp_path):
    with pytest.raises(notebooks.CourseError, match="--out"):
        notebooks.run(PATHS[1:3], tmp_path, {"run_dir": str(tmp_path / "x")})
    assert list(tmp_path.iterdir()) == []


def test_parameters_on_the_command_line(capsys):
    texts = ["3", "1e-3", "None", "03x", '{"esc10_only": true}', '["a", 1]']
    assert [command_line._value(text) for text in texts] == [3, 0.001, None, "03x", {"esc10_only": True}, ["a", 1]]
    assert command_line.main(["run", "02", "-p", "limit", "{'a': 1}"]) == 1
    assert "{'a': 1} is not valid JSON" in capsys.readouterr().err


def test_the_command_says_where_everything_is(recording, tmp_path, capsys):
    assert command_line.main(["run", "02", "--out", str(tmp_path)]) == 0
    assert f"figures in {tmp_path}/<notebook>/figures." in capsys.readouterr().out


def test_no_file_names_a_folder_of_one_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    for path in map(ROOT.joinpath, listed.stdout.split("\0")):
        if not path.is_file() or path.name == "requirements.lock":
            continue
        content = path.read_bytes()
        if b"\0" not in content:  # text
            found = re.search(rb"/(home|root|work|Users)/\w.*", content)
            assert not found, f"{path}: {found[0][:80]}"


def test_a_failing_notebook_leaves_its_error_and_no_result(tmp_path):
    book = read(PATHS[0])
    book.cells[2].source += "\nraise RuntimeError('the microphone fell over')"
    broken = tmp_path / "broken.ipynb"
    nbformat.write(book, broken)
    with pytest.raises(notebooks.CourseError, match="the microphone fell over"):
        notebooks.run([broken], tmp_path / "out")
    assert not (tmp_path / "out" / "broken.ipynb").exists()
    assert (tmp_path / "out" / "broken.failed.ipynb").exists()


def test_a_dead_kernel_is_told(tmp_path):
    book = read(PATHS[0])
    book.cells[2].source += "\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    broken = tmp_path / "broken.ipynb"
    nbformat.write(book, broken)
    with pytest.raises(notebooks.CourseError, match="broken.ipynb stopped: its kernel died"):
        notebooks.run([broken], tmp_path / "out")
    assert not (tmp_path / "out" / "broken.ipynb").exists()


def test_runs_on_another_disk_are_those_of_the_default_folder(recording, tmp_path, monkeypatch, capsys):
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    for module in (notebooks, runs):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    seen = []
    monkeypatch.setattr(notebooks, "run", lambda paths, out, *rest: seen.append(out))
    for out in (tmp_path / "runs", tmp_path / "disk", tmp_path / "elsewhere"):
        assert command_line.main(["run", "02", "--out", str(out)]) == 0
    assert seen == [tmp_path / "runs", tmp_path / "runs", tmp_path / "elsewhere"]


@pytest.mark.parametrize("parameter", ["run", "twin_runs", "picture_run"])
def test_every_run_that_notebook_10_reads_is_in_its_key(recording, tmp_path, parameter):
    run, _ = recording
    reading = {"runs_dir": str(tmp_path / "elsewhere"), parameter: ["mine"] if parameter == "twin_runs" else "mine"}
    assert run(["10"], tmp_path / "out", **reading) == ["10"] and run(["10"], tmp_path / "out", **reading) == []
    runs.record(tmp_path / "elsewhere" / "mine", {}, {})
    assert run(["10"], tmp_path / "out", **reading) == ["10"] and run(["10"], tmp_path / "out", **reading) == []


def test_a_second_run_leaves_what_others_recorded_beside_it(recording, tmp_path):
    run, _ = recording
    for name in ("03", "05"):
        runs.record(tmp_path / "all" / name, {}, {})
    for _ in range(2):
        run(["03"], tmp_path / "out", force=True, run_dir=str(tmp_path / "all"))
    assert [(tmp_path / "all" / name / "metrics.json").exists() for name in ("03", "05")] == [True, True]


def test_cleaning_keeps_runs_and_downloaded_weights():
    recipe = (ROOT / "Makefile").read_text().split("\nclean:")[1].split("\n\n")[0]
    assert "rm -rf" in recipe and "runs" not in recipe.split("\n", 1)[1]
    assert "! -name pretrained" in recipe
