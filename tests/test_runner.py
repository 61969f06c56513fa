"""Running notebooks in batch: what is kept, what is made again, what is refused, and what a failure leaves."""

import itertools
import os
import shutil

import nbformat
import pandas as pd
import pytest

from helpers import __main__ as command_line
from helpers import runs
from helpers.base import CourseError, DataMissing
from helpers.course import runner


@pytest.fixture
def run(monkeypatch):
    """Run notebooks that record other metrics each time, without executing them; gives those that were not kept."""
    executed, number = [], itertools.count()

    def execute(path, target, parameters, **options):
        executed.append(path.name[:2])
        shutil.copyfile(path, target)
        runs.record(parameters["run_dir"], {}, {"accuracy": {"value": 1, "low": 1, "high": 1, "n": next(number)}})

    def run(names, out, force=False, **parameters):
        executed.clear()
        runner.run(runner.select(names), out, parameters, force)
        return executed.copy()

    monkeypatch.setattr(runner.papermill, "execute_notebook", execute)
    return run


def run_once(run, names, out, /, **parameters):
    """Whether these notebooks run, and are kept afterwards."""
    return run(names, out, **parameters) == names and run(names, out, **parameters) == []


def test_a_notebook_is_kept_until_its_parameters_or_its_run_change(run, tmp_path, capsys):
    assert run_once(run, ["02"], tmp_path) and "up to date, kept" in capsys.readouterr().out
    assert run_once(run, ["02"], tmp_path, seed=2)
    recorded = tmp_path / "02_exploring_sound" / "metrics.json"
    recorded.write_text("{}")
    assert run_once(run, ["02"], tmp_path, seed=2)
    shutil.rmtree(recorded.parent)
    assert run_once(run, ["02"], tmp_path, seed=2)


def test_a_new_run_of_a_needed_notebook_makes_its_reader_stale(run, tmp_path):
    assert run_once(run, ["05", "06"], tmp_path) and run(["06"], tmp_path) == []
    assert run(["05"], tmp_path, force=True) == ["05"]
    assert run_once(run, ["06"], tmp_path) and run(["05", "06"], tmp_path) == []


@pytest.mark.parametrize(
    ("name", "reading"),
    [
        ("06", {"run": "mine"}),
        ("10", {"run": "mine"}),
        ("10", {"picture_run": "mine"}),
        ("10", {"twin_runs": ["mine"]}),
    ],
)
def test_a_new_run_that_a_parameter_names_makes_its_reader_stale(run, tmp_path, name, reading):
    reading["runs_dir"] = str(tmp_path / "elsewhere")
    assert run_once(run, [name], tmp_path / "out", **reading)
    runs.record(tmp_path / "elsewhere" / "mine", {}, {})
    assert run_once(run, [name], tmp_path / "out", **reading)


@pytest.mark.parametrize("place", ["~/data", "~/data/list.csv"])
def test_changed_data_are_noticed_in_folders_and_lists(run, tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    far, csv = tmp_path / "far.wav", tmp_path / "data" / "list.csv"
    far.write_bytes(b"x")
    csv.parent.mkdir()
    csv.write_text(f"path,label\n{far},yes\n")
    for minutes, changed in enumerate((csv, far), start=1):  # time alone, of what is then the latest
        assert run_once(run, ["02"], tmp_path / "out", dataset="folder", data_dir=place)
        later = far.stat().st_mtime_ns + minutes * 60_000_000_000
        os.utime(changed, ns=(later, later))
    assert run_once(run, ["02"], tmp_path / "out", dataset="folder", data_dir=place)
    far.write_bytes(b"xx")  # size alone
    os.utime(far, ns=(later, later))
    assert run_once(run, ["02"], tmp_path / "out", dataset="folder", data_dir=place)


def test_a_second_run_leaves_what_others_recorded_beside_it(run, tmp_path):
    for name in ("03", "05"):
        runs.record(tmp_path / "all" / name, {}, {})
    for _ in range(2):
        run(["03"], tmp_path / "out", force=True, run_dir=str(tmp_path / "all"))
    assert all((tmp_path / "all" / name / "metrics.json").exists() for name in ("03", "05"))


@pytest.mark.parametrize(
    ("names", "parameters", "told"),
    [
        (["99"], {}, "'99'"),
        (["02"], {"epoch": 3}, "'epoch'.*epochs"),
        (["01", "02"], {"run_dir": "/x"}, "--out"),
    ],
)
def test_mistakes_are_told_before_anything_runs(run, tmp_path, names, parameters, told):
    with pytest.raises(CourseError, match=told):
        run(names, tmp_path, **parameters)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("last_cell", "told"),
    [
        ("raise RuntimeError('the microphone fell over')", "RuntimeError: the microphone fell over\nSee .*failed"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "its kernel died"),
    ],
)
def test_a_failing_notebook_leaves_its_error_and_no_result(tmp_path, last_cell, told):
    book = nbformat.read(runner.ROOT / "notebooks" / "template.ipynb", as_version=4)
    book.cells = [nbformat.v4.new_code_cell(source) for source in ("print('so far, so good')", last_cell)]
    nbformat.write(book, tmp_path / "broken.ipynb")
    with pytest.raises(CourseError, match=rf"broken.ipynb stopped: {told}"):
        runner.run([tmp_path / "broken.ipynb"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["broken.failed.ipynb"]
    assert "so far, so good\\n" in (tmp_path / "out" / "broken.failed.ipynb").read_text()


def test_parameters_that_are_none_are_told_on_the_command_line(capsys):
    assert command_line.main(["run", "02", "-p", "limit", "many"]) == 1
    assert "The parameter limit is 'many'; it must be a whole number, at least 1." in capsys.readouterr().err


def test_a_folder_is_found_from_where_the_command_is_given(run, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(runner, "execute", lambda path, target, parameters, *rest: given.append(parameters))
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "list.csv").write_text("path,label\nx.wav,x\n")
    monkeypatch.chdir(tmp_path)
    runner.run(runner.select(["02"]), tmp_path / "out", {"dataset": "folder", "data_dir": "sounds", "seed": "3"})
    assert given == [
        {"dataset": "folder", "data_dir": str(tmp_path / "sounds"), "seed": 3}
        | {"run_dir": str(tmp_path / "out" / "02_exploring_sound")}
    ]


def test_the_command_says_where_runs_are_and_knows_the_default_folder_on_another_disk(tmp_path, monkeypatch, capsys):
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    monkeypatch.setattr(runner, "RUNS", tmp_path / "runs")
    seen = []
    monkeypatch.setattr(runner, "run", lambda paths, out, *rest: seen.append(out))
    for out, place in (("runs", "runs/<dataset>"), ("disk", "runs/<dataset>"), ("elsewhere", "elsewhere")):
        assert command_line.main(["run", "02", "--out", str(tmp_path / out)]) == 0
        assert f"figures in {tmp_path / place}/<notebook>/figures." in capsys.readouterr().out
    assert seen == [tmp_path / "runs", tmp_path / "runs", tmp_path / "elsewhere"]


def test_what_differs_in_every_run_is_taken_out_of_the_outputs():
    """Two renderings of one styled table come out alike, and so do the greeting of a library and no greeting."""
    table, notebooks = pd.DataFrame({"score": [0.5]}).style, []
    greeting = nbformat.v4.new_output("stream", name="stderr", text="before absl::InitializeLog() is called\n")
    for greetings in ([], [greeting]):
        data = {"text/html": table._repr_html_(), "text/plain": repr(table)}
        shown = nbformat.v4.new_output("display_data", data=data)
        cell = nbformat.v4.new_code_cell("table", id="one", outputs=[*greetings, shown])
        notebooks.append(nbformat.v4.new_notebook(cells=[cell]))
        table = pd.DataFrame({"score": [0.5]}).style
    assert notebooks[0].cells[0].outputs != notebooks[1].cells[0].outputs[1:]
    for notebook in notebooks:
        runner._tidy(notebook)
    assert notebooks[0] == notebooks[1]


def test_greetings_of_kernels_are_kept_back_and_all_else_is_passed_on(tmp_path, capfd):
    """Written past the notebook, as compiled libraries do."""
    book = nbformat.read(runner.ROOT / "notebooks" / "template.ipynb", as_version=4)
    words = ("I0000 00:00:1 port.cc:153] oneDNN custom operations are on", "before absl::InitializeLog()", "a crash")
    source = f"import sys\nfor words in {words}:\n    print(words, file=sys.__stderr__, flush=True)"
    book.cells = [nbformat.v4.new_code_cell(source)]
    nbformat.write(book, tmp_path / "loud.ipynb")
    runner.run([tmp_path / "loud.ipynb"], tmp_path / "out")
    said = capfd.readouterr().err
    assert "a crash" in said and "oneDNN" not in said and "absl" not in said


def test_outputs_of_real_recordings_are_not_made_from_the_sample(monkeypatch):
    monkeypatch.setattr(runner, "run", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(DataMissing, match="03_spectrogram_cnns .*`make data`"):
        runner.refresh(runner.select(["01", "03"]))
