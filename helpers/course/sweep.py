"""Sweeps: notebooks times parameters, each run in a folder of its own, on this machine or on a Dask cluster.

OUT/plan.json lists the runs. OUT/<combination>/<notebook> is a finished run: what its notebook recorded, the executed
notebook, and sweep.json (format, key, seconds, memory). Until then it lies in OUT/<combination>/.<notebook>, where a
second attempt goes on. A run that failed leaves <notebook>.failed.json and .failed.ipynb, the notebook with its error.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from filelock import FileLock, Timeout

from helpers.base import ROOT, CourseError, digest, progress, resolve, short, write_json
from helpers.course import runner
from helpers.runs import parameters, slug

_FORMAT = 1
_AGAIN = 75  # exit status of a run that may go well another time: its kernel died or did not start
_ATTEMPTS = 3
_PATIENCE = 60.0  # s for what an attempt that was killed has left running, and for a scheduler that starts anew
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


@dataclass(frozen=True)
class Planned:
    """A run to be made: `notebook` (path), `given` (parameters), and its folder OUT/<combination>/<notebook>."""

    out: Path
    combination: str
    notebook: Path
    given: dict

    @property
    def name(self) -> str:
        """What the run is called, in messages and after --only."""
        return f"{self.combination}/{self.notebook.stem}"

    @property
    def folder(self) -> Path:
        return self.out / self.name

    @property
    def work(self) -> Path:
        """Where it lies until it is whole."""
        return self.folder.with_name(f".{self.notebook.stem}")

    @property
    def needs(self) -> list[str]:
        """Names of the runs beside it that its notebook reads."""
        course = nbformat.read(self.notebook, as_version=4).metadata.get("course", {})
        return [f"{self.combination}/{stem}" for stem in course.get("needs", [])]

    def failed(self, suffix: str) -> Path:
        """Where the record of its failure lies (json), or the notebook with the error in it (ipynb)."""
        return self.folder.with_name(f"{self.notebook.stem}.failed.{suffix}")

    def key(self) -> str:
        """Fingerprint of all it depends on."""
        settings = {**parameters.defaults(self.notebook), **self.given}
        return runner.key_of(self.notebook, settings, self.given, self.folder)

    def is_made(self) -> bool:
        """Whether a finished run lies there that the notebook, helpers, parameters and data of today would make."""
        made = _read(self.folder / "sweep.json")
        return bool(made) and (made.get("key"), made.get("recorded")) == (self.key(), runner.recorded_by(self.folder))


def read_grid(path: str | os.PathLike | None, notebooks: list[str], given: list[list[str]], out: Path) -> list[Planned]:
    """List the runs of a grid file, or of `notebooks` and `given` ([name, value, value...]), all combinations of each.

    A grid is TOML: tables [[runs]] with `notebooks` and any parameters; a list of values stands for one run each.
    CourseError: no such notebook, an unknown parameter, a value that is none.
    """
    blocks = [{"notebooks": notebooks, **{name: values for name, *values in given}}] if notebooks else []
    if path is not None:
        path = resolve(path)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CourseError(f"The grid {path} cannot be read: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CourseError(f"The grid {path} is no TOML: {error}.") from error
        if {*content} - {"runs"} or not isinstance(content.get("runs"), list):
            raise CourseError(f"The grid {path} must consist of tables [[runs]], with `notebooks` and parameters.")
        # What the command line gives, stands in for what the file says.
        blocks = [block | {name: values for name, *values in given} for block in content["runs"]]
    planned = {}
    for block in blocks:
        wanted = block.pop("notebooks", [])
        wanted = [wanted] if isinstance(wanted, str) else list(map(str, wanted))
        if not wanted:
            raise CourseError("A table [[runs]] of the grid names no `notebooks`, such as notebooks = ['03', '05'].")
        choices = {name: values if isinstance(values, list) else [values] for name, values in block.items()}
        for notebook in runner.select(wanted, template=True):
            _check(notebook, choices)
            for values in itertools.product(*choices.values()):
                read = {name: parameters.read(name, value) for name, value in zip(choices, values, strict=True)}
                read = {name: runner.seen_from_here(name, value) for name, value in read.items()}
                run = Planned(out, _combination(read), notebook, read)
                planned[run.name] = run
    if not planned:
        raise CourseError("Nothing to run: give a grid file, or --notebooks 03 05 and -p NAME VALUE VALUE ...")
    order = {path: number for number, path in enumerate(runner.select([]))}  # what is needed comes first
    return sorted(planned.values(), key=lambda run: order.get(run.notebook, len(order)))


def _check(notebook: Path, choices: dict[str, list]) -> None:
    known = parameters.defaults(notebook)
    for name, values in choices.items():
        if name == "run_dir":
            raise CourseError("A sweep gives each run its own folder; leave run_dir out, and name a folder with --out.")
        if name not in known:
            raise CourseError(f"{notebook.name} has no parameter {name!r}; it has {', '.join(known)}.")
        if not values:
            raise CourseError(f"The parameter {name} has no values.")


def _combination(given: dict) -> str:
    words = [slug(f"{name} {value}") for name, value in given.items() if name not in parameters.PATHS]
    return f"{'-'.join(words)[:60].rstrip('-_') or 'defaults'}-{digest(given)[:6]}"


def write_plan(planned: list[Planned]) -> None:
    """Write down what belongs to a sweep, for the processes that make its runs."""
    names = {run.name: {"notebook": short(run.notebook), "given": run.given} for run in planned}
    write_json(
        planned[0].out / "plan.json",
        {"format": _FORMAT, "sample": os.environ.get("COURSE_SAMPLE") == "1", "runs": names},
    )


def read_plan(out: Path) -> list[Planned]:
    """Read the runs of a sweep; CourseError: there is none, or one of a format that this course does not know."""
    plan = _read(out / "plan.json")
    if not plan:
        raise CourseError(f"No sweep in {short(out)}: there is no plan.json. Start one with a grid, or with --list.")
    if plan.get("format") != _FORMAT:
        raise CourseError(
            f"The sweep in {short(out)} has format {plan.get('format')}, and this course reads {_FORMAT}. "
            "Use the version of the course that made it, or name another folder with --out."
        )
    # Whoever makes or collects its runs takes the recordings that it was planned for.
    os.environ["COURSE_SAMPLE"] = str(int(plan["sample"]))
    return [
        Planned(out, name.partition("/")[0], ROOT / run["notebook"], run["given"]) for name, run in plan["runs"].items()
    ]


def _read(path: Path) -> dict:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return {}


def _command(run: Planned) -> list[str]:
    """Give the plain command that makes one run, as for a SLURM array."""
    return [sys.executable, "-m", "helpers", "sweep", "--out", str(run.out), "--only", run.name]


def listed(planned: list[Planned]) -> str:
    """Give one such command per line; what is needed stands before what needs it."""
    return "\n".join(shlex.join(_command(run)) for run in planned)


def make(run: Planned) -> int:
    """Make one run here and put it in its place when it is whole; exit status 75 says that it may be tried again."""
    _end_with_parent()
    try:
        with _alone(run.folder.with_name(f".{run.notebook.stem}.lock"), f"the run {run.name}", _PATIENCE):
            if run.is_made():
                print(f"{run.name}: up to date, kept")
                return 0
            return _make(run)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CourseError(f"{run.name}: the disk of {short(run.out)} is full. Make room, and start again.") from error


def _make(run: Planned) -> int:
    work, key, started = run.work, run.key(), time.perf_counter()
    with _alone(work / ".lock", f"the run {run.name}", _PATIENCE):
        pass  # a kernel that an attempt left behind has ended
    if _read(work / "sweep.json").get("key") != key:  # what another notebook or helper has begun, is not gone on with
        shutil.rmtree(work)
    write_json(work / "sweep.json", {"key": key})
    for stale in ("json", "ipynb"):
        run.failed(stale).unlink(missing_ok=True)
    target = work / "notebook.ipynb"
    try:
        runner.execute(run.notebook, target, {**run.given, "run_dir": str(work)}, key, work)
        if not (work / "metrics.json").exists():
            raise CourseError(f"{run.notebook.name} recorded no run (it must call runs.record).")
    except CourseError as error:
        stopped = target.with_name("notebook.failed.ipynb")
        if stopped.exists():
            _rewrite(stopped, work, run.folder)
            os.replace(stopped, run.failed("ipynb"))
        print(" ".join(str(error).split("\nSee ")[0].split()), file=sys.stderr)
        return _AGAIN if isinstance(error, runner.KernelDied) else 1
    _rewrite(target, work, run.folder)
    facts = {"format": _FORMAT, "key": key, "recorded": runner.recorded_by(work), "notebook": run.notebook.stem}
    facts |= {"parameters": run.given, "seconds": round(time.perf_counter() - started, 2), "host": socket.gethostname()}
    write_json(work / "sweep.json", facts | {"peak_memory_mb": _peak_memory()})
    (work / ".lock").unlink(missing_ok=True)
    for half in work.rglob(".*-*"):  # what attempts were writing when they were killed
        half.unlink()
    with tempfile.TemporaryDirectory(dir=run.folder.parent, prefix=".old-") as old:
        if run.folder.exists():
            os.replace(run.folder, Path(old) / "run")
        os.replace(work, run.folder)
    return 0


def _peak_memory() -> int | None:
    """MiB that the largest of the processes took which this one started, where the system tells."""
    with contextlib.suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
    return None


def _rewrite(notebook: Path, work: Path, final: Path) -> None:
    """Name the place where the run will lie instead of the one where it was made."""
    text = notebook.read_text(encoding="utf-8")
    for before, after in ((str(work), str(final)), (short(work), short(final))):
        text = text.replace(json.dumps(before)[1:-1], json.dumps(after)[1:-1])
    notebook.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _alone(lock: Path, what: str, patience: float) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=patience)
    except Timeout:
        raise CourseError(f"Another process is at work on {what}. Wait for it, or stop it.") from None
    except (NotImplementedError, OSError):
        print(f"This file system has no locks: let no other process work on {what} meanwhile.")
    try:
        yield
    finally:
        held.release()


def _end_with_parent() -> None:
    """End this process and its kernel when the worker that started it is killed, instead of working on unseen."""
    parent = os.environ.get("COURSE_SWEEP_WORKER")
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_worker(
    out: str, name: str, limit: float | None, course: str, slots: dict[str, int], needed: list[dict]
) -> dict:
    """Make a run from a Dask worker, as a process of its own, and say how it went."""
    started, host = time.perf_counter(), socket.gethostname()
    told = {"name": name, "host": host, "attempts": 0, "seconds": 0.0}
    if lacking := [one["name"] for one in needed if one["status"] == "failed"]:
        return told | {"status": "failed", "reason": f"it needs {', '.join(lacking)}, which failed"}
    if not (Path(out) / "plan.json").exists():
        return told | {"status": "failed", "reason": f"the worker on {host} does not see the folder {out}"}
    run = next(one for one in read_plan(Path(out)) if one.name == name)
    if not run.notebook.exists() or course != _fingerprint(run):
        return told | {"status": "failed", "reason": f"the worker on {host} has another version of the course"}
    threads = str(max(1, (os.cpu_count() or 1) // max(1, slots.get(host, 1))))
    environment = os.environ | dict.fromkeys(_THREADS, threads)
    environment |= {"COURSE_SWEEP_WORKER": str(os.getpid()), "COURSE_BATCH": "1"}
    # Dask has its workers give memory back at once, which cost notebook 02 some 8 %; a run ends soon anyway.
    environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    for attempt in range(1, _ATTEMPTS + 1):
        status, said = _follow(_command(run), environment, limit)
        told |= {"attempts": attempt, "seconds": round(time.perf_counter() - started, 1)}
        if status == 0:
            return told | {"status": "kept" if said.endswith("kept") else "done"}
        if status in (None, 1):
            break
    reason = said or f"its process ended with status {status}"
    write_json(run.failed("json"), told | {"reason": reason})
    return told | {"status": "failed", "reason": reason}


def _follow(words: list[str], environment: dict, limit: float | None) -> tuple[int | None, str]:
    """Run a command, at most so many seconds; give its status (None: it took too long) and the last line it wrote."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = psutil.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            status = process.wait(limit)
        except psutil.TimeoutExpired:
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            process.wait()
            return None, f"it took longer than {limit:g} s, the time limit"
        output.seek(0)
        lines = [line.strip() for line in output if line.strip()]
        last = lines[-1].removeprefix("error: ") if lines else ""
        if status < 0:
            last = f"its process was killed ({signal.Signals(-status).name}), perhaps for lack of memory"
        return status, last


def _fingerprint(run: Planned) -> str:
    """What a worker must have in common with the one who starts a sweep: the helpers, the notebook, Python."""
    return digest(_code(), runner.source_digest(nbformat.read(run.notebook, as_version=4)), sys.version_info[:2])


_code = functools.cache(runner.code)


def sweep(
    planned: list[Planned], cluster: str | None = None, workers: int | None = None, limit: float | None = None
) -> list[dict]:
    """Make all runs that are missing, on local workers or on those of a cluster; give one row per run.

    A run that fails does not stop the others. What is up to date is kept.
    """
    out = planned[0].out
    with _alone(out / ".lock", f"a sweep in {short(out)}", 0):
        write_plan(planned)
        rows, stale = {}, set()
        for run in planned:
            if run.is_made() and not stale.intersection(run.needs):
                rows[run.name] = {"name": run.name, "status": "kept", "attempts": 0, "seconds": 0.0}
            else:
                stale.add(run.name)
        missing = [run for run in planned if run.name in stale]
        if missing:
            _dispatch(missing, rows, cluster, workers, limit)
        return [rows[run.name] for run in planned]


def _dispatch(
    missing: list[Planned], rows: dict, cluster: str | None, workers: int | None, limit: float | None
) -> None:
    from dask.distributed import as_completed

    # Where nobody watches, the lines of the runs are enough.
    bar = progress(total=len(missing), desc="sweep", unit="run", disable=not sys.stderr.isatty())
    started = time.perf_counter()
    while left := [run for run in missing if run.name not in rows]:
        with _client(cluster, min(workers or _room(), len(left))) as client:
            slots = _slots(client)
            futures = {}
            for run in left:
                needed = [futures[name] for name in run.needs if name in futures]
                needed += [rows[name] for name in run.needs if name in rows]
                task = (str(run.out), run.name, limit, _fingerprint(run), slots, needed)
                futures[run.name] = client.submit(_on_worker, *task, pure=False)
            names = {future.key: name for name, future in futures.items()}
            for future in as_completed(futures.values()):
                name = names[future.key]
                if future.status in ("cancelled", "lost"):
                    break  # the scheduler is gone, with what it knew; what is done lies on the disk
                if future.status == "error":  # the worker was killed again and again
                    rows[name] = {"name": name, "status": "failed", "attempts": _ATTEMPTS, "seconds": 0.0}
                    rows[name]["reason"] = " ".join(str(future.exception()).split())[:200]
                else:
                    rows[name] = future.result()
                bar.update()
                bar.write(_told(rows, missing, name, time.perf_counter() - started))
    bar.close()


def _told(rows: dict, missing: list[Planned], name: str, seconds: float) -> str:
    ended = [rows[run.name] for run in missing if run.name in rows]
    failed = sum(row["status"] == "failed" for row in ended)
    row, left = rows[name], len(missing) - len(ended)
    how = f"failed: {row['reason']}" if row["status"] == "failed" else f"{row['status']} in {row['seconds']:.0f} s"
    rest = f"; {left} left, about {seconds / len(ended) * left / 60:.0f} min" if left else ""
    begun = [run.name for run in missing if run.name not in rows and run.work.exists()]
    rest += f" (at work: {', '.join(begun[:4])}{', ...' if len(begun) > 4 else ''})" if begun else ""
    return f"[{len(ended)}/{len(missing)}, {failed} failed] {name}: {how}{rest}"


def _room() -> int:
    """How many runs fit here at once: one per core, and 2 GiB of memory each."""
    return max(1, min(os.cpu_count() or 1, int(psutil.virtual_memory().available / 2**31)))


@contextlib.contextmanager
def _client(cluster: str | None, workers: int):
    """Connect to a cluster, or start workers here, one run at a time on each."""
    from dask.distributed import Client, LocalCluster

    if cluster is None:
        # The runs are processes of their own, which the workers' limits of memory do not see.
        quiet = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None, "silence_logs": 50}
        with (
            LocalCluster(n_workers=workers, **quiet) as here,
            Client(here) as client,
        ):
            yield client
        return
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            client = Client(cluster, timeout=min(10, _PATIENCE))
            client.wait_for_workers(1, timeout=_PATIENCE)
            break
        except (OSError, TimeoutError, ValueError) as error:
            if time.monotonic() > deadline:
                raise CourseError(
                    f"No cluster with a worker at {cluster} ({' '.join(str(error).split())[:100]}). Start it with "
                    "`dask scheduler` and `dask worker`, as the README shows."
                ) from error
            time.sleep(1)
    with client:
        yield client


def _slots(client) -> dict[str, int]:
    """How many runs may be at work on each machine at once: the threads of its workers."""
    names = client.run(socket.gethostname)
    slots: dict[str, int] = {}
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        host = names.get(address, "")
        slots[host] = slots.get(host, 0) + worker["nthreads"]
    return slots


def collected(out: Path) -> list[dict]:
    """One row per planned run: is it made, by whomever, did it fail, or is it missing."""
    rows = []
    for run in read_plan(out):
        facts, failure = _read(run.folder / "sweep.json"), _read(run.failed("json"))
        row = {"name": run.name, "seconds": facts.get("seconds", failure.get("seconds", 0.0))}
        if run.is_made():
            row["status"] = "done"
        elif failure or run.failed("ipynb").exists():
            row |= {"status": "failed", "reason": failure.get("reason", f"see {short(run.failed('ipynb'))}")}
        else:
            row["status"] = "out of date" if facts else "missing"
        rows.append(row)
    return rows


def summary(rows: list[dict], out: Path) -> str:
    """Say how many runs are in which state, and name those that failed, with their reason."""
    states = [row["status"] for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines = [f"{len(rows)} runs in {short(out)}: {counts}."]
    for row in rows:
        if row["status"] == "failed":
            notebook = out / f"{row['name']}.failed.ipynb"
            lines.append(
                f"  {row['name']}: {row['reason']}" + (f" (see {short(notebook)})" if notebook.exists() else "")
            )
    return "\n".join(lines)
