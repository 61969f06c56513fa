"""Running the notebooks in batch: in order, with parameters, skipping what is up to date."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from unittest import mock

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from helpers.base import ROOT, CourseError, DataMissing, digest, in_batch, replace_with, resolve, short
from helpers.data import at_hand
from helpers.data import folder as own_folder
from helpers.runs import RUNS, folder, parameters

_NOTEBOOKS = ROOT / "notebooks"
# What a kernel is told: no bars and players in the outputs, no notes of TensorFlow on this machine's processor.
_ENVIRONMENT = {"COURSE_BATCH": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_QUIET = "--log-level=ERROR"  # else each kernel warns that it is reached over TCP, which on one machine it may be


def _numbered() -> list[Path]:
    """Notebooks of the series, in reading order."""
    return sorted(_NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def select(names: list[str], template: bool = False) -> list[Path]:
    """Notebooks whose file name starts with one of `names` ("03"); all when the list is empty."""
    known = [*_numbered(), _NOTEBOOKS / "template.ipynb"] if template else _numbered()
    for name in names:
        if not any(path.name.startswith(name) for path in known):
            raise CourseError(f"No notebook starts with {name!r}; there are {', '.join(path.stem for path in known)}.")
    return [path for path in known if not names or any(path.name.startswith(name) for name in names)]


def source_digest(notebook: nbformat.NotebookNode) -> str:
    """Fingerprint of what a notebook says and does: the type, tags and source of every cell, not its outputs."""
    return digest([(cell.cell_type, cell.metadata.get("tags", []), cell.source) for cell in notebook.cells])


def run(paths: list[Path], out: Path = RUNS, wanted: dict | None = None, force: bool = False) -> list[Path]:
    """Execute notebooks one after the other, each in a kernel of its own, and give the executed copies in `out`.

    A copy made from the same source, helpers, parameters, data and needed runs, whose run is still what it recorded, is
    kept, unless `force`. Runs go where the notebooks' `run_dir` says; if `out` is not the default, to out/<notebook>.
    CourseError before anything runs: an unknown parameter, a value that is none, one `run_dir` for several.
    """
    wanted = {name: seen_from_here(name, parameters.read(name, value)) for name, value in (wanted or {}).items()}
    if wanted.get("run_dir") and len(paths) > 1:
        raise CourseError("Several notebooks cannot record in one run_dir; name a folder for all of them with --out.")
    for path in paths:
        if unknown := set(wanted) - set(known := parameters.defaults(path)):
            raise CourseError(f"{path.name} has no parameter {sorted(unknown)[0]!r}; it has {', '.join(known)}.")
    executed = []
    for number, path in enumerate(paths, start=1):
        given = dict(wanted)
        if out != RUNS:
            given.setdefault("run_dir", str(out / path.stem))
        settings = {**parameters.defaults(path), **given}
        run_dir = folder(settings.get("run_dir"), path.stem, settings.get("dataset"), settings.get("data_dir"))
        key, target = key_of(path, settings, given, run_dir), out / path.name
        where = f"[{number}/{len(paths)}] {path.stem}"
        if not force and _made(target) == (key, recorded_by(run_dir)):
            print(f"{where}: up to date, kept ({target})", flush=True)
        else:
            print(f"{where}: running ...", flush=True)
            started = time.perf_counter()
            execute(path, target, given, key, run_dir)
            print(f"{where}: done in {time.perf_counter() - started:.0f} s", flush=True)
        executed.append(target)
    return executed


def seen_from_here(name: str, value: object) -> object:
    """Make a folder or file that lies below another place than the repository's root, where notebooks run, absolute."""
    if name in parameters.PATHS and value and Path.cwd() != ROOT and Path(value).expanduser().exists():
        return str(Path(value).expanduser().absolute())
    return value


def refresh(paths: list[Path]) -> None:
    """Execute notebooks with their default parameters and keep the outputs in the notebooks themselves.

    The metadata then carry the fingerprint of the source that made the outputs, which a test compares. Figures that the
    README shows are renewed, too. DataMissing: notebooks of ESC-10 show real recordings, and there are none.
    """
    wants = [path.stem for path in paths if parameters.defaults(path)["dataset"] == "esc10"]
    if wants and not at_hand("esc10"):
        raise DataMissing(
            f"The outputs of {', '.join(wants)} come from real recordings, ESC-10, which are not in data/esc10. "
            "Fetch them first (41 MB): `make data`, or `python -m helpers download esc10 data/esc10`."
        )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path, target in zip(paths, run(paths, force=True), strict=True):
        source, outputs = nbformat.read(path, as_version=4), nbformat.read(target, as_version=4)
        made = [cell for cell in outputs.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
        for cell, result in zip(source.cells, made, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = result.outputs, result.execution_count
        source.metadata.setdefault("course", {})["outputs_of"] = source_digest(source)
        with replace_with(path) as temporary:
            nbformat.write(source, temporary)
        run_dir = folder(None, path.stem, parameters.defaults(path)["dataset"], None)
        for figure in (run_dir / "figures").glob("*.png"):
            kept = ROOT / "figures" / f"{path.stem}_{figure.name}"
            if f"figures/{kept.name}" in readme:
                with replace_with(kept) as temporary:
                    shutil.copyfile(figure, temporary)


class KernelDied(CourseError):
    """The kernel of a notebook died or did not start; another attempt may go well."""


class _Manager(AsyncKernelManager):
    """Starts a kernel whose own words, past its notebook, go to a file."""

    async def start_kernel(self, **options: object) -> None:
        """Start it."""
        await super().start_kernel(**options, stderr=_WORDS.get(), stdout=_WORDS.get())


_WORDS: ContextVar = ContextVar("words", default=None)
_GREETINGS = re.compile(r"absl::InitializeLog|^I0000 |oneDNN|cpu_feature_guard|KeyboardInterrupt caught in kernel")


@contextlib.contextmanager
def _without_greetings() -> Iterator[None]:
    """Pass on what kernels write to the terminal when all is done, but for the greetings of TensorFlow."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as words:
        token = _WORDS.set(words)
        try:
            yield
        finally:
            _WORDS.reset(token)
            words.seek(0)
            sys.stderr.writelines(line for line in words if not _GREETINGS.search(line))


def execute(path: Path, target: Path, given: dict, key: str, run_dir: Path) -> None:
    """Execute a notebook into `target`; CourseError: a cell failed, and the notebook with its error lies beside it."""
    how = {"kernel_name": "python3", "cwd": ROOT, "progress_bar": not in_batch()}
    how |= {"extra_arguments": [_QUIET], "coalesce_streams": True, "kernel_manager_class": _Manager}
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    failed.unlink(missing_ok=True)
    with replace_with(target) as temporary:
        try:
            with mock.patch.dict(os.environ, _ENVIRONMENT), _without_greetings():
                for attempt in range(3):
                    with _started_late(attempt < 2):
                        papermill.execute_notebook(path, temporary, given, **how)
                        break
        except (PapermillExecutionError, DeadKernelError, RuntimeError) as error:
            if temporary.stat().st_size:
                shutil.copyfile(temporary, failed)
            kind, reason = KernelDied, "its kernel died, perhaps for lack of memory"
            if isinstance(error, PapermillExecutionError):
                kind, reason = CourseError, f"{error.ename}: {error.evalue}"
            elif not isinstance(error, DeadKernelError):
                reason = f"its kernel did not start ({error})"
            see = f"\nSee {short(failed)}." if failed.exists() else ""
            raise kind(f"{path.name} stopped: {reason}{see}") from error
        notebook = nbformat.read(temporary, as_version=4)
        _tidy(notebook)
        notebook.metadata.setdefault("course", {}).update(made_from=key, recorded=recorded_by(run_dir))
        nbformat.write(notebook, temporary)


@contextlib.contextmanager
def _started_late(again: bool) -> Iterator[None]:
    """Let a kernel that did not start be tried again: side by side they sometimes miss each other's ports."""
    try:
        yield
    except DeadKernelError:
        raise
    except RuntimeError as error:
        if not again or "Kernel" not in str(error):
            raise


def _tidy(notebook: nbformat.NotebookNode) -> None:
    """Take out what would differ in every run: TensorFlow's greeting, random ids of styled tables, and addresses."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            greeting = "absl::InitializeLog()"  # printed when TensorFlow is imported; no setting keeps it from doing so
            cell.outputs = [output for output in cell.outputs if greeting not in output.get("text", "")]
            for output in cell.outputs:
                for kind, text in output.get("data", {}).items():
                    if kind.startswith("text/"):
                        text = re.sub(r"\bT_[0-9a-f]{5}(?=_|\b)", f"T_{number:05d}", text)
                        output.data[kind] = re.sub(r" at 0x[0-9a-f]+>", ">", text)


def _made(target: Path) -> tuple[str | None, str | None]:
    course = nbformat.read(target, as_version=4).metadata.get("course", {}) if target.exists() else {}
    return course.get("made_from"), course.get("recorded")


def recorded_by(run_dir: Path) -> str | None:
    """Fingerprint of what a run recorded, or None."""
    path = run_dir / "metrics.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def key_of(path: Path, settings: dict, given: dict, run_dir: Path) -> str:
    """Fingerprint of all that an executed notebook depends on."""
    notebook = nbformat.read(path, as_version=4)
    # The runs that it needs, and those that its parameters name.
    place = resolve(settings["runs_dir"]) if settings.get("runs_dir") else run_dir.parent
    named = [settings.get("run"), settings.get("picture_run"), *(settings.get("twin_runs") or [])]
    named += notebook.metadata.get("course", {}).get("needs", [])
    needed = [recorded_by(place / name) for name in named if name]
    data = _data_state(settings.get("dataset"), at_hand(settings.get("dataset"), settings.get("data_dir")))
    return digest(source_digest(notebook), code(), given, data, needed)


def code() -> str:
    """Fingerprint of the helpers, of what makes the sample, and of the versions of all libraries."""
    found = hashlib.sha256()
    sources = ("helpers/**/*.py", "data/*.toml", "data/recipe/**/*.py", "data/recipe/*.toml", "requirements.lock")
    for file in sorted(file for pattern in sources for file in ROOT.glob(pattern)):
        found.update(file.read_bytes())
    return found.hexdigest()


def _data_state(dataset: str | None, data_dir: str | os.PathLike | None) -> list[int] | None:
    """Number, total size and latest change of a dataset's files, those that a user's own CSV names included."""
    if not data_dir:
        return None
    place = resolve(data_dir)
    found = {place, *place.rglob("*")}
    if dataset == "folder":
        found.update(map(Path, own_folder.load(place)["path"]))
    status = [path.stat() for path in found if path.is_file()]
    latest = max((file.st_mtime_ns for file in status), default=0)
    return [len(status), sum(file.st_size for file in status), latest]
