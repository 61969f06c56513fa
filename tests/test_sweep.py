"""Sweeps: what is planned, what is made, kept, retried and reported, and that nothing half-made is ever read."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest

from helpers import __main__ as command_line
from helpers import runs
from helpers.base import ROOT, CourseError
from helpers.course import runner, sweep

PARAMETERS = 'dataset = "esc50"\ndata_dir = None\nseed = 0\nepochs = 1\nlimit = None\nrun_dir = None'
RECORD = """
import json, os, pathlib, time
folder = pathlib.Path(run_dir)
for name, content in {"params.json": {"seed": seed, "run_dir": run_dir}, "metrics.json": {}}.items():
    folder.joinpath(name).write_text(json.dumps(content))
print("recorded in", run_dir)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Put notebooks of one cell, run before they record, where the series lies."""
    place = tmp_path / "notebooks"
    place.mkdir()
    monkeypatch.setattr(runner, "_NOTEBOOKS", place)

    def write(name, cell="", needs=()):
        book = nbformat.read(ROOT / "notebooks" / "template.ipynb", as_version=4)
        book.cells = [nbformat.v4.new_code_cell(source) for source in (PARAMETERS, cell, RECORD)]
        book.cells[0].metadata["tags"] = ["parameters"]
        book.metadata["course"] = {"needs": list(needs)}
        nbformat.write(book, place / f"{name}.ipynb")
        return place / f"{name}.ipynb"

    return write


@pytest.fixture
def inline(monkeypatch):
    """Run the tasks one after the other in this process, as a Dask cluster with one worker would."""

    class Future:
        def __init__(self, value):
            self.key, self.value, self.status = str(id(self)), value, "finished"

        def result(self):
            return self.value

    class Client:
        submit = staticmethod(
            lambda task, *parts, pure: Future(
                task(*parts[:-1], [one.value if isinstance(one, Future) else one for one in parts[-1]])
            )
        )

    from contextlib import nullcontext

    import dask.distributed

    monkeypatch.setattr(sweep, "_client", lambda cluster, workers: nullcontext(Client))
    monkeypatch.setattr(sweep, "_slots", lambda client: {})
    monkeypatch.setattr(dask.distributed, "as_completed", list)


def plan(out, *names, **given):
    return sweep.read_grid(None, list(names), [[name, *values] for name, values in given.items()], out)


def states(rows):
    return [row["status"] for row in rows]


def test_a_grid_becomes_every_combination_once(write, tmp_path, monkeypatch):
    write("01_a"), write("02_b", needs=["01_a"])
    grid = tmp_path / "grid.toml"
    grid.write_text('[[runs]]\nnotebooks = ["02", "01"]\nseed = [0, 1, "1"]\nlimit = "none"\n')
    planned = sweep.read_grid(grid, [], [["epochs", "2", "3"]], tmp_path / "out")
    assert [(run.notebook.stem, run.given["seed"], run.given["epochs"]) for run in planned] == [
        (name, seed, epochs) for name in ("01_a", "02_b") for seed in (0, 1) for epochs in (2, 3)
    ]
    assert {run.given["limit"] for run in planned} == {None}
    assert len({run.folder for run in planned}) == 8
    assert planned[4].needs == [planned[0].name]
    sweep.write_plan(planned)
    with monkeypatch.context() as patch:  # as on a worker that would take real recordings
        patch.setenv("COURSE_SAMPLE", "0")
        assert sweep.read_plan(tmp_path / "out") == planned and os.environ["COURSE_SAMPLE"] == "1"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[runs]]\nnotebooks = ['07']", "No notebook starts with '07'"),
        ("[[runs]]\nnotebooks = ['01']\nsede = 1", "01_a.ipynb has no parameter 'sede'; it has dataset"),
        ("[[runs]]\nnotebooks = ['01']\nseed = ['x']", "The parameter seed is 'x'; it must be a whole number"),
        ("[[runs]]\nnotebooks = ['01']\nseed = []", "The parameter seed has no values"),
        ("[[runs]]\nnotebooks = ['01']\nrun_dir = 'x'", "leave run_dir out"),
        ("[[runs]]\nseed = 1", "names no `notebooks`"),
        ("[runs]\nseed = 1", r"must consist of tables \[\[runs\]\]"),
        ("[[runs", "is no TOML"),
        (None, "cannot be read: No such file"),
    ],
)
def test_mistakes_are_told_before_anything_starts(write, tmp_path, capsys, text, told):
    write("01_a")
    grid = tmp_path / "grid.toml"
    if text is not None:
        grid.write_text(text)
    with pytest.raises(CourseError, match=told):
        sweep.read_grid(grid, [], [], tmp_path / "out")
    assert command_line.main(["sweep", str(grid), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists() and "Traceback" not in capsys.readouterr().err


def test_only_what_is_missing_failed_or_out_of_date_is_made(write, inline, tmp_path, monkeypatch):
    made, fails = [], {1}

    def follow(command, environment, limit):
        run = next(run for run in sweep.read_plan(tmp_path / "out") if run.name == command[-1])
        made.append((run.notebook.stem[:2], run.given["seed"]))
        if run.given["seed"] in fails and run.notebook.stem == "01_a":
            return 1, "01_a.ipynb stopped: ValueError: no"
        run.folder.mkdir(parents=True)
        (run.folder / "metrics.json").write_text("{}")
        (run.folder / "sweep.json").write_text(
            json.dumps({"format": 1, "key": run.key(), "recorded": runner.recorded_by(run.folder)})
        )
        return 0, ""

    monkeypatch.setattr(sweep, "_follow", follow)
    first = write("01_a")
    write("02_b", needs=["01_a"])
    planned = plan(tmp_path / "out", "01", "02", seed=[0, 1])
    rows = sweep.sweep(planned)
    assert states(rows) == ["done", "failed", "done", "failed"]  # seed 1 of 02 needs that of 01
    assert made == [("01", 0), ("01", 1), ("02", 0)]
    assert "it needs" in rows[3]["reason"] and "which failed" in sweep.summary(rows, tmp_path / "out")
    assert states(sweep.collected(tmp_path / "out")) == ["done", "failed", "done", "missing"]
    made.clear(), fails.clear()
    assert states(sweep.sweep(planned)) == ["kept", "done", "kept", "done"] and made == [("01", 1), ("02", 1)]
    made.clear()
    assert states(sweep.sweep(planned)) == ["kept"] * 4 and made == []
    write("02_b", "1", needs=["01_a"])
    for folder in [run.folder for run in planned if run.notebook.stem == "02_b"]:
        (folder / "metrics.json").unlink(), (folder / "sweep.json").unlink(), folder.rmdir()
    assert states(sweep.sweep(planned)) == ["kept", "kept", "done", "done"]
    assert first.exists() and made == [("02", 0), ("02", 1)]


@pytest.mark.parametrize(
    ("ends", "attempts", "status"),
    [([(75, "its kernel died")] * 2 + [(0, "")], 3, "done"), ([(75, "its kernel died")] * 3, 3, "failed"),
     ([(-9, "killed")] * 3, 3, "failed"), ([(1, "ValueError: no")], 1, "failed"), ([(None, "too long")], 1, "failed")],
)  # fmt: skip
def test_what_may_go_well_another_time_is_tried_again(write, inline, tmp_path, monkeypatch, ends, attempts, status):
    write("01_a")
    told = iter(ends)
    monkeypatch.setattr(sweep, "_follow", lambda *task: next(told))
    (row,) = sweep.sweep(plan(tmp_path / "out", "01"))
    assert (row["attempts"], row["status"]) == (attempts, status)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"_fingerprint": None}, "has another version of the course"),
        ({"write_plan": lambda planned: None}, "does not see the folder"),
    ],
)
def test_a_worker_that_cannot_make_the_run_says_why(write, inline, tmp_path, monkeypatch, change, told):
    write("01_a")
    answers = iter(["mine", "other"])
    if "_fingerprint" in change:
        change = {"_fingerprint": lambda run: next(answers)}
    for name, value in change.items():
        monkeypatch.setattr(sweep, name, value)
    (row,) = sweep.sweep(plan(tmp_path / "out", "01"))
    assert row["status"] == "failed" and told in row["reason"]


def test_a_worker_that_lacks_the_dataset_says_which_folder_is_missing_and_the_others_go_on(write, inline, tmp_path):
    write("01_a", "from helpers import data\nmanifest = data.load(dataset, data_dir)")
    here, lacking = tmp_path / "folder", tmp_path / "not on this machine"
    here.joinpath("dog").mkdir(parents=True)
    here.joinpath("dog", "a.wav").write_bytes(b"")
    rows = sweep.sweep(plan(tmp_path / "out", "01", dataset=["folder"], data_dir=[str(lacking), str(here)]))
    assert states(rows) == ["failed", "done"]
    assert "not on this machine" in rows[0]["reason"] and rows[0]["attempts"] == 1
    assert "not on this machine" in sweep.summary(rows, tmp_path / "out")


def test_features_and_random_searches_run_on_a_cluster_through_joblib(tmp_path, monkeypatch):
    """With Dask as joblib's backend, both give what they give without, to the last bit."""
    import joblib
    import pandas as pd
    import soundfile
    from dask.distributed import Client, LocalCluster
    from scipy.stats import loguniform
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RandomizedSearchCV

    from helpers.features import FeatureSpec, cache

    rng, paths = np.random.default_rng(0), [str(tmp_path / f"{number}.wav") for number in range(24)]
    for path in paths:
        soundfile.write(path, rng.normal(scale=0.1, size=8000), 16000)
    manifest, spec = pd.DataFrame({"path": paths}), FeatureSpec("mean_mfcc", seconds=0.5)
    alone = np.array(cache.of(manifest, spec, tmp_path / "alone", 1))
    y = np.arange(24) % 2

    def searched():
        found = RandomizedSearchCV(LogisticRegression(), {"C": loguniform(1e-3, 10)}, n_iter=4, cv=2, random_state=0)
        return found.set_params(n_jobs=2).fit(alone, y).cv_results_["mean_test_score"]

    expected = searched()
    quiet = {"dashboard_address": None, "silence_logs": 50, "processes": True, "threads_per_worker": 1}
    with LocalCluster(n_workers=2, **quiet) as cluster, Client(cluster) as client, joblib.parallel_config("dask"):
        monkeypatch.setattr(cache, "_SECONDS_TO_START", 0)  # so few clips would be computed here
        monkeypatch.setattr(cache, "_BLOCK", 4)
        assert np.array_equal(cache.of(manifest, spec, tmp_path / "cluster", 2), alone)
        assert np.array_equal(searched(), expected)
        loaded = client.run(lambda: {*__import__("sys").modules})
        assert {"helpers.audio", "sklearn.linear_model"} <= set().union(*loaded.values())  # they did the work


def test_progress_names_what_is_done_at_work_and_left(write, tmp_path):
    write("01_a")
    one, two, three = planned = plan(tmp_path / "out", "01", seed=[0, 1, 2])
    two.work.mkdir(parents=True)
    rows = {one.name: {"status": "failed", "reason": "ValueError: no", "seconds": 60.0}}
    told = sweep._told(rows, planned, one.name, 60.0)
    assert told.startswith(f"[1/3, 1 failed] {one.name}: failed: ValueError: no; 2 left, about 2 min")
    assert told.endswith(f"(at work: {two.name})") and three.name not in told


def test_a_second_sweep_in_the_same_folder_is_refused(write, inline, tmp_path):
    write("01_a")
    with (
        sweep._alone(tmp_path / "out" / ".lock", "it", 0),
        pytest.raises(CourseError, match="Another process is at wo"),
    ):
        sweep.sweep(plan(tmp_path / "out", "01"))


def test_an_older_format_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "plan.json").write_text('{"format": 0, "runs": {}}')
    with pytest.raises(CourseError, match="has format 0, and this course reads 1"):
        sweep.read_plan(tmp_path)
    with pytest.raises(CourseError, match="No sweep in"):
        sweep.read_plan(tmp_path / "nowhere")


def test_a_run_is_put_in_its_place_when_it_is_whole(write, tmp_path):
    write("01_a", "if seed: raise ValueError('no such seed')")
    good, bad = planned = plan(tmp_path / "out", "01", seed=[0, 1])
    sweep.write_plan(planned)
    for run, key in ((good, "of an older notebook"), (bad, bad.key())):
        begun = run.folder.with_name(".01_a")
        begun.mkdir(parents=True)
        (begun / "round.json").write_text("{}")
        (begun / "sweep.json").write_text(json.dumps({"key": key}))
    assert [sweep.make(run) for run in planned] == [0, 1]
    assert {path.name for path in good.folder.iterdir()} == {
        "metrics.json",
        "params.json",
        "notebook.ipynb",
        "sweep.json",
    }
    facts = json.loads((good.folder / "sweep.json").read_text())
    assert facts["parameters"] == {"seed": 0} and facts["seconds"] > 0 and facts["peak_memory_mb"] > 10
    # The executed notebook names the place where the run lies, not where it was made.
    assert f"recorded in {good.folder}" in (good.folder / "notebook.ipynb").read_text()
    assert not bad.folder.exists() and (bad.folder.with_name(".01_a") / "round.json").exists()  # to be gone on with
    assert "no such seed" in bad.failed("ipynb").read_text()
    assert [run.path for run in runs.find(tmp_path / "out")] == []  # nothing half-made is found
    before = (good.folder / "sweep.json").read_bytes()
    assert sweep.make(good) == 0 and (good.folder / "sweep.json").read_bytes() == before
    assert command_line.main(["sweep", "--out", str(tmp_path / "out"), "--collect"]) == 1
    assert command_line.main(["sweep", "--out", str(tmp_path / "out"), "--only", "nothing"]) == 1


def test_what_killed_attempts_had_half_written_does_not_stay(write, tmp_path):
    write("01_a")
    (run,) = plan(tmp_path / "out", "01")
    sweep.write_plan([run])
    for half in (".notebook-k3x9.ipynb", "inner/.model-0q.keras", "inner/weights.txt"):
        (run.work / half).parent.mkdir(parents=True, exist_ok=True)
        (run.work / half).write_text("half")
    (run.work / "sweep.json").write_text(json.dumps({"key": run.key()}))
    assert sweep.make(run) == 0
    assert [path.name for path in run.folder.rglob("*") if path.is_file() and "half" in path.read_text()] == [
        "weights.txt"
    ]


def test_a_full_disk_is_told_and_leaves_nothing_half_written(write, tmp_path, monkeypatch):
    write("01_a")
    (run,) = plan(tmp_path / "out", "01")
    sweep.write_plan([run])

    def full(*task):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner, "execute", full)
    with pytest.raises(CourseError, match="the disk of .* is full. Make room, and start again"):
        sweep.make(run)
    assert not run.folder.exists()


def test_a_killed_worker_costs_nothing_but_its_attempt(write, tmp_path):
    cell = f"from pathlib import Path\nhere = Path({str(tmp_path)!r})\nfirst = not here.joinpath('began').exists()\n"
    cell += "here.joinpath('began').touch()\nimport time\ntime.sleep(100 * (first and seed))"
    write("01_a", cell)
    planned = plan(tmp_path / "out", "01", seed=[0, 1])[::-1]
    killed = []

    def kill():
        while not (tmp_path / "began").exists():
            time.sleep(0.1)
        for process in psutil.process_iter(["cmdline"]):
            if planned[0].name in (process.info["cmdline"] or []):
                killed.append(process.pid)
                os.kill(process.ppid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    rows = sweep.sweep(planned, workers=1)
    assert killed and states(rows) == ["done", "done"]
    assert states(sweep.collected(tmp_path / "out")) == ["done", "done"]
    assert not psutil.pid_exists(killed[0])  # it does not work on unseen
    assert len(list((tmp_path / "out").rglob("sweep.json"))) == 2


def test_what_takes_too_long_is_ended_with_all_it_started(tmp_path):
    script = "import subprocess, time; child = subprocess.Popen(['sleep', '100']); "
    script += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid)); time.sleep(100)"
    ended = sweep._follow([sys.executable, "-c", script], dict(os.environ), 5)
    assert ended == (None, "it took longer than 5 s, the time limit")
    child = int((tmp_path / "pid").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(10)


def test_the_listed_commands_make_the_same_runs(write, tmp_path, capsys):
    write("01_a")
    arguments = ["sweep", "--notebooks", "01", "-p", "seed", "3", "--out", str(tmp_path / "out")]
    assert command_line.main([*arguments, "--list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    done = subprocess.run(line, shell=True, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert command_line.main(["sweep", "--out", str(tmp_path / "out"), "--collect"]) == 0
    assert "1 runs in" in capsys.readouterr().out and line.startswith(sys.executable)
    assert Path(json.loads((tmp_path / "out" / "plan.json").read_text())["runs"].popitem()[1]["notebook"]).exists()


def test_a_cluster_makes_the_same_runs_and_a_scheduler_that_starts_anew_is_found_again(write, tmp_path):
    """Started by Dask's own command lines; the scheduler is killed while a run is being made."""
    cell = f"from pathlib import Path\nPath({str(tmp_path)!r}, 'began').touch()\nimport time\ntime.sleep(3 * seed)"
    write("01_a", cell)
    planned = plan(tmp_path / "out", "01", seed=[1, 0])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = []

    def start(*words):
        command = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started.append(subprocess.Popen([*command, "--no-dashboard"], cwd=ROOT, **quiet))
        return started[-1]

    def restart():
        while not (tmp_path / "began").exists():
            time.sleep(0.1)
        scheduler.kill(), scheduler.wait()
        start("dask_scheduler", "--host", address)
        start("dask_worker", address, "--nthreads", "1")

    scheduler = start("dask_scheduler", "--host", address)
    try:
        start("dask_worker", address, "--nthreads", "1")
        thread = threading.Thread(target=restart)
        thread.start()
        rows = sweep.sweep(planned, cluster=address)
        thread.join()
    finally:
        for process in started:
            process.terminate()
    # The first may have come to its end while nobody scheduled; then it is found and kept.
    assert set(states(rows)) <= {"done", "kept"} and len(started) == 4
    assert states(sweep.collected(tmp_path / "out")) == ["done", "done"]


def test_no_cluster_is_told_in_a_sentence(write, tmp_path, monkeypatch):
    write("01_a")
    monkeypatch.setattr(sweep, "_PATIENCE", 1)
    with pytest.raises(CourseError, match="No cluster with a worker at tcp://127.0.0.1:9 .*Start it with `dask sched"):
        sweep.sweep(plan(tmp_path / "out", "01"), cluster="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("name", "n"), {"household": 6, "leaks": 3, "luck": 160, "quick": 40, "readme": 5, "words": 8}.items()
)
def test_the_grids_that_come_with_the_course_can_be_planned(name, n, tmp_path):
    grid = ROOT / "data" / "sweeps" / f"{name}.toml"
    assert len(sweep.read_grid(grid, [], [], tmp_path)) == n
    assert f"sweep {grid.relative_to(ROOT)}" in grid.read_text()
