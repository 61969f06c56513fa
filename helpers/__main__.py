"""Command line of the course: `python -m helpers --help`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from helpers.base import CACHE, ROOT, CourseError, resolve, short


def _sample(options: argparse.Namespace) -> None:
    from helpers import data

    data.make_sample()


def _download(options: argparse.Namespace) -> None:
    from helpers import data

    data.fetch(options.dataset, options.dest)


def _audit(options: argparse.Namespace) -> None:
    from helpers import data

    manifest = data.load(options.dataset, options.data_dir)
    print(data.about(manifest))
    counts = manifest["label"].value_counts().sort_index()
    print(f"{len(counts)} classes: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    usable, quarantine, remarks = data.examine(manifest)
    print(f"{len(usable)} of {len(manifest)} clips are usable, {len(quarantine)} are in quarantine.")
    for title, table in (("Quarantine", quarantine), ("Remarks on usable clips", remarks)):
        if len(table):
            print(f"\n{title}\n{table.drop(columns='path').to_string(index=False)}")


def _run(options: argparse.Namespace) -> None:
    from helpers.course import runner

    paths = runner.select(options.notebooks, template=options.refresh or "template" in options.notebooks)
    if options.refresh:
        runner.refresh(paths)
        return
    out = ROOT / options.out
    out = runner.RUNS if out.resolve() == runner.RUNS.resolve() else out  # also where runs/ is a link to another disk
    runner.run(paths, out, dict(options.parameters), options.force)
    beside = "<dataset>/<notebook>" if out == runner.RUNS else "<notebook>"
    run_dir = dict(options.parameters).get("run_dir") or f"{short(out)}/{beside}"
    print(f"Executed notebooks are in {short(out)}/, runs in {run_dir}, figures in {run_dir}/figures.")


def _sweep(options: argparse.Namespace) -> int:
    from helpers.course import sweep

    grid = Path(options.grid) if options.grid else None
    out = Path(options.out).expanduser().absolute() if options.out else ROOT / "runs" / (grid.stem if grid else "sweep")
    if options.only:
        planned = {run.name: run for run in sweep.read_plan(out)}
        if options.only not in planned:
            raise CourseError(f"The sweep in {short(out)} has no run {options.only!r}; `sweep --list` names them.")
        return sweep.make(planned[options.only])
    if options.collect:
        rows = sweep.collected(out)
    else:
        planned = sweep.read_grid(grid, options.notebooks, options.parameters, out)
        if options.list:
            sweep.write_plan(planned)
            print(sweep.listed(planned))
            return 0
        rows = sweep.sweep(planned, options.cluster, options.workers, options.limit)
    print(sweep.summary(rows, out))
    return int(any(row["status"] not in ("done", "kept") for row in rows))


def _predict(options: argparse.Namespace) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on this machine's processor
    from helpers import runs, serving

    out = serving.writable(options.out)
    run = runs.load(resolve(options.run).absolute())
    predictions, files = serving.predict(run, options.folder, options.hop, options.weights_dir, options.sure)
    written = serving.write(out, predictions, files)
    print(f"{(files['windows'] > 0).sum()} of {len(files)} files were heard, in {len(predictions)} windows.")
    reasons = files.loc[files["windows"] == 0, "flags"].str.replace(r" \((?!\.|no suffix).*", "", regex=True)
    for reason, n in reasons.value_counts().items():
        print(f"  not heard: {n} {reason}")
    listed = files if len(files) <= 20 else files[files["flags"] != ""].head(20)
    for file in listed.itertuples():
        said = f"{file.predicted} ({file.confidence:.2f})" if file.windows else "not heard"
        print(f"  {file.file}: {said}{'; ' if file.flags else ''}{file.flags}")
    if len(listed) < len(files):
        print(f"  (the first {len(listed)} with flags; the table has all)")
    print("Written:", ", ".join(short(path) for path in written))


def _leaderboard(options: argparse.Namespace) -> None:
    from helpers.runs import page

    print(page.write(options.root, options.where, options.sort))


def _compare(options: argparse.Namespace) -> None:
    from helpers import runs
    from helpers.runs import pairs

    print(pairs.compare(*(runs.load(resolve(path).absolute()) for path in (options.one, options.other))))


def _benchmark(options: argparse.Namespace) -> None:
    from helpers import data, runs
    from helpers.course import benchmark

    if options.run:
        benchmark.report_predict(runs.load(resolve(options.run).absolute()))
    else:
        benchmark.report(data.load(options.dataset, options.data_dir))


def _cache(options: argparse.Namespace) -> None:
    from helpers.features import cache

    table = cache.prune(CACHE) if options.prune else cache.folders(CACHE)
    if len(table):
        print(table.to_string(index=False))
    done = "removed" if options.prune else f"in {short(CACHE)}"
    print(f"{len(table)} folders of features, {table['MB'].sum():,.1f} MB, {done}.")


def _parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="python -m helpers", description="What the course can do without opening a notebook."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name, function, text):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(function=function)
        return command

    def add_dataset(command, default):
        names = "fsd50k, esc10, esc50, tut2017, fsdkaggle2018, speech_commands or folder"
        command.add_argument("--dataset", default=default, help=f"{names} (default: %(default)s)")
        where = "the published tree; without it, data/DATASET once downloaded, else the sample"
        command.add_argument("--data-dir", help=where)

    add("sample", _sample, "make the synthetic sample of all datasets")
    command = add("download", _download, "fetch a published dataset, checked and unpacked")
    command.add_argument("dataset")
    command.add_argument("dest", type=Path, help="folder to put it in")
    add_dataset(add("audit", _audit, "list the recordings that cannot be used, and why"), "fsd50k")
    command = add("run", _run, "execute notebooks with papermill, in order")
    command.add_argument("notebooks", nargs="*", help="numbers, such as 03 05 (default: all)")
    command.add_argument("--out", default="runs", help="folder for executed notebooks and runs (default: %(default)s)")
    command.add_argument(
        "-p", dest="parameters", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="a parameter"
    )
    command.add_argument("--force", action="store_true", help="execute even what is up to date")
    command.add_argument("--refresh", action="store_true", help="keep the outputs in the notebooks themselves")
    command = add("sweep", _sweep, "execute notebooks for all combinations of parameters, in parallel")
    command.add_argument(
        "grid", nargs="?", help="TOML: tables [[runs]] with notebooks, and a value or a list for a name"
    )
    command.add_argument("--notebooks", nargs="+", default=[], metavar="NB", help="numbers, in place of a grid file")
    command.add_argument(
        "-p", dest="parameters", nargs="+", action="append", default=[], metavar="NAME VALUE", help="name and value(s)"
    )
    command.add_argument("--out", help="folder of the sweep (default: runs/ and the name of the grid)")
    command.add_argument("--workers", type=int, help="runs at once on this machine (default: one per core)")
    command.add_argument("--cluster", metavar="ADDRESS", help="send the runs to this Dask scheduler, tcp://HOST:8786")
    command.add_argument("--limit", type=float, metavar="SECONDS", help="longest time that one run may take")
    command.add_argument("--list", action="store_true", help="run nothing: print one command per run")
    command.add_argument("--only", metavar="RUN", help="make one run of the sweep in --out, as --list says")
    command.add_argument("--collect", action="store_true", help="run nothing: say what lies in --out")
    command = add("predict", _predict, "let a recorded model hear recordings of your own")
    command.add_argument("folder", help="folder with recordings of any format and length, or a single one")
    command.add_argument("--run", required=True, help="folder of a recorded run")
    command.add_argument("--out", default="predictions.csv", help="table of windows (default: %(default)s)")
    command.add_argument("--weights-dir", help="folder with yamnet.tflite, for runs that need it")
    command.add_argument("--hop", type=float, help="seconds from window to window (default: half a window)")
    what = 'say "not sure" below the confidence from which on this share of the test clips was right'
    command.add_argument("--sure", type=float, metavar="SHARE", help=what)
    command = add("leaderboard", _leaderboard, "all recorded models in one table")
    command.add_argument("root", nargs="?", default="runs", help="folder of runs (default: %(default)s)")
    command.add_argument(
        "--where", metavar="CONDITION", help="of the table of runs, keep: dataset == 'esc10' and accuracy > 0.8"
    )
    command.add_argument("--sort", metavar="COLUMN", help="sort by a column; --sort=-accuracy for the largest first")
    command = add("compare", _compare, "what differs between two runs: parameters, environment, code, clips")
    command.add_argument("one", help="folder of a recorded run")
    command.add_argument("other", help="folder of another one")
    command = add("benchmark", _benchmark, "measure feature extraction, clips per second and memory; or `predict`")
    add_dataset(command, "esc50")
    command.add_argument("--run", help="folder of a recorded run: measure how long it takes to hear an hour")
    command = add("cache", _cache, "list the features in data/cache; what is removed there is only computed again")
    what = "remove those that other code or other versions of its libraries made, which are never used again"
    command.add_argument("--prune", action="store_true", help=what)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors a user can mend are printed without a traceback."""
    options = _parser().parse_args(arguments)
    try:
        return options.function(options) or 0
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. Start the same command again: it goes on where it was.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
