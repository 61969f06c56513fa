"""Running the notebooks in batch: in order, with parameters, skipping what is up to date."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat

from helpers.base import ROOT, CourseError, digest, replace_with
from helpers.features.fingerprint import course_code, data_state, sha256
from helpers.runs import RUNS, folder

NOTEBOOKS = ROOT / "notebooks"
# Kernels that start side by side sometimes miss each other's ports; the next try finds free ones.
START_FAILURES = ("Kernel didn't respond", "Kernel died before replying", "Address already in use")


class NotebookFailed(CourseError):
    """A notebook stopped with an error; the message carries its last lines and names the log."""


def numbered() -> list[Path]:
    """Notebooks of the series, in reading order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def select(names: list[str], template: bool = False) -> list[Path]:
    """Notebooks whose file name starts with one of `names` ("03"); all when the list is empty.

    With `template`, the template counts as one of them.

    Raises
    ------
    CourseError
        A name matches no notebook.
    """
    known = [*numbered(), NOTEBOOKS / "template.ipynb"] if template else numbered()
    for name in names:
        if not any(path.name.startswith(name) for path in known):
            raise CourseError(f"No notebook starts with {name!r}; there are {', '.join(path.stem for path in known)}.")
    return [path for path in known if not names or any(path.name.startswith(name) for name in names)]


def source_digest(notebook: nbformat.NotebookNode) -> str:
    """Fingerprint of what a notebook says and does: the type, tags and source of every cell, not its outputs."""
    cells = [(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in notebook.cells]
    return digest(cells)


def check_parameters(path: Path, parameters: dict) -> None:
    """Refuse parameters that the notebook does not have (papermill alone would only log a warning).

    Raises
    ------
    CourseError
        Names the unknown parameter and the known ones.
    """
    known = _defaults(path)
    for name in parameters:
        if name not in known:
            raise CourseError(f"{path.name} has no parameter {name!r}; it has {', '.join(known)}.")


def run(paths: list[Path], out: Path = RUNS, parameters: dict | None = None, force: bool = False) -> list[Path]:
    """Execute notebooks one after the other, each in a process of its own, and say how far it is.

    A notebook is left as it is if its executed copy is there, made from the same source, helpers, parameters, data and
    needed runs, and the run it recorded is still what it was.

    Parameters
    ----------
    paths : list of Path
    out : Path
        Folder for the executed notebooks and the logs. Runs go where the notebooks' `run_dir` says; if `out` is not
        the default, to out/<notebook>.
    parameters : dict, optional
        Given to every notebook.
    force : bool
        Execute even what is up to date.

    Returns
    -------
    list of Path
        The executed notebooks.

    Raises
    ------
    CourseError
        A parameter is unknown or one `run_dir` is meant for several notebooks (before anything runs); one failed.

    Notes
    -----
    Used by `python -m helpers run`, which `make run` calls.
    """
    parameters = dict(parameters or {})
    if parameters.get("run_dir") and len(paths) > 1:
        raise CourseError("Several notebooks cannot record in one run_dir; name a folder for all of them with --out.")
    for path in paths:
        check_parameters(path, parameters)
    executed = []
    for number, path in enumerate(paths, start=1):
        given = dict(parameters)
        if out != RUNS:
            given.setdefault("run_dir", str(out / path.stem))
        settings = {**_defaults(path), **given}
        dataset, data_dir = settings.get("dataset"), settings.get("data_dir")
        run_dir = folder(settings.get("run_dir"), path.stem, dataset, data_dir)
        notebook = nbformat.read(path, as_version=4)
        needed, data = _needed(notebook, settings, run_dir), data_state(dataset, data_dir)
        key = digest(source_digest(notebook), course_code(), given, data, needed)
        target = out / path.name
        where = f"[{number}/{len(paths)}] {path.stem}"
        if not force and _made(target) == (key, _recorded(run_dir)):
            print(f"{where}: up to date, kept ({target})", flush=True)
        else:
            print(f"{where}: running ...", flush=True)
            started = time.perf_counter()
            _execute(path, target, given, key, run_dir)
            print(f"{where}: done in {time.perf_counter() - started:.0f} s", flush=True)
        executed.append(target)
    return executed


def refresh(paths: list[Path]) -> None:
    """Execute notebooks with their default parameters and keep the outputs in the notebooks themselves.

    The metadata then carry the fingerprint of the source that made the outputs; a test compares them. Figures that the
    README shows are renewed too.
    Used by `make notebooks`.
    """
    for path, target in zip(paths, run(paths, force=True), strict=True):
        source, outputs = nbformat.read(path, as_version=4), nbformat.read(target, as_version=4)
        made = [cell for cell in outputs.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
        for cell, result in zip(source.cells, made, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = result.outputs, result.execution_count
        source.metadata.setdefault("course", {})["outputs_of"] = source_digest(source)
        with replace_with(path) as temporary:
            nbformat.write(source, temporary)
        _keep_figures(path)


def _keep_figures(path: Path) -> None:
    """Copy those figures of a notebook's default run that the README shows, as figures/<notebook>_<name>.png."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for figure in (folder(None, path.stem, _defaults(path)["dataset"], None) / "figures").glob("*.png"):
        kept = ROOT / "figures" / f"{path.stem}_{figure.name}"
        if f"figures/{kept.name}" in readme:
            with replace_with(kept) as temporary:
                shutil.copyfile(figure, temporary)


def _execute(path: Path, target: Path, parameters: dict, key: str, run_dir: Path) -> None:
    log, failed = target.with_suffix(".log"), target.with_name(target.stem + ".failed.ipynb")
    failed.unlink(missing_ok=True)
    with replace_with(target) as temporary:
        command = [sys.executable, "-m", "papermill", str(path), str(temporary), "--progress-bar"]
        command += ["-k", "python3", "-y", json.dumps(parameters)]
        environment = {**os.environ, "COURSE_BATCH": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        for attempt in range(3):
            code = _watched(command, environment, log)
            said = log.read_text(encoding="utf-8", errors="replace")
            if code == 0 or attempt == 2 or not any(sign in said for sign in START_FAILURES):
                break
        if code:
            text = temporary.read_text(encoding="utf-8")
            if text:
                failed.write_text(text, encoding="utf-8")
            raise NotebookFailed(f"{path.name} stopped: {_reason(text, code)}\nSee {failed if text else log}.")
        notebook = nbformat.read(temporary, as_version=4)
        _tidy(notebook)
        notebook.metadata.setdefault("course", {}).update(made_from=key, recorded=_recorded(run_dir))
        nbformat.write(notebook, temporary)


def _tidy(notebook: nbformat.NotebookNode) -> None:
    """Take out what would differ in every run: TensorFlow's greeting, and the random ids of styled tables."""
    for number, cell in enumerate(notebook.cells):
        kept = []
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" and "absl::InitializeLog()" in output.text:
                continue  # printed when TensorFlow is imported; no setting keeps it from doing so
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = re.sub(r"T_[0-9a-f]{5}\b", f"T_{number:05d}", output.data["text/html"])
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept


def _watched(command: list[str], environment: dict, log: Path) -> int:
    """Run a command; its messages (papermill's progress bar among them) go to the terminal and to the log."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with log.open("wb") as stream:
        while chunk := process.stdout.read1(4096):
            stream.write(chunk)
            sys.stderr.write(chunk.decode(errors="replace"))
            sys.stderr.flush()
    return process.wait()


def _reason(text: str, code: int) -> str:
    if code in (137, 138, -9):
        return "its kernel was killed, perhaps for lack of memory"
    for cell in nbformat.reads(text, as_version=4).cells if text else []:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{output.ename}: {output.evalue}"
    return f"papermill ended with exit code {code}"


def _defaults(path: Path) -> dict:
    """Read the defaults of a notebook's parameters; one that is not a plain value stays text."""
    from papermill import inspect_notebook

    defaults = {name: parameter["default"] for name, parameter in inspect_notebook(str(path)).items()}
    for name, text in defaults.items():
        with contextlib.suppress(ValueError, SyntaxError):
            defaults[name] = ast.literal_eval(text)
    return defaults


def _made(target: Path) -> tuple[str | None, str | None]:
    course = nbformat.read(target, as_version=4).metadata.get("course", {}) if target.exists() else {}
    return course.get("made_from"), course.get("recorded")


def _recorded(run_dir: Path) -> str | None:
    return sha256(run_dir / "metrics.json") if (run_dir / "metrics.json").exists() else None


def _needed(notebook: nbformat.NotebookNode, settings: dict, run_dir: Path) -> list[str | None]:
    """Fingerprints of the runs a notebook reads: those it needs, and the one it is told to read (notebook 06)."""
    names = notebook.metadata.get("course", {}).get("needs", [])
    folder = ROOT / settings["runs_dir"] if settings.get("runs_dir") else run_dir.parent
    return [_recorded(folder / name) for name in [*names, settings.get("run")] if name]
