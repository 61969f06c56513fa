"""The leaderboard as files: tables for other programs, text for the terminal, and a page that needs no network."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from helpers import plots, scores
from helpers.base import ROOT, CourseError, DataMissing, replace_with, short, write_parquet
from helpers.runs import RUNS, board, pairs

_MOST = 25  # methods in a figure
_FIRST = 10  # pairs in the terminal
_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Leaderboard</title>
<link rel="icon" href="data:,"><style>body{font-family:sans-serif;margin:2em} p{max-width:60em} img{max-width:100%}
</style><h1>Leaderboard</h1><p>Scores in % of test clips, with the ends of their 95 % intervals over groups (recordings,
speakers, ...). <em>sample</em>: synthesised recordings; <em>real</em>: published ones. Click the head of a column to
sort by it, with Shift by several; write above it to keep the rows that contain what you write.</p>"""
_PAIRS = """<h2>In pairs, on the same clips</h2><p>Accuracy of <em>one</em> minus that of <em>other</em>, averaged over
their seeds, in points, with its 95 % interval over groups; p by flipping the signs of whole groups, corrected for the
number of pairs (Holm); and how many of the seeds that both have <em>one</em> wins.</p>"""


def write(root: str | os.PathLike = RUNS, where: str | None = None, sort: str | None = None) -> str:
    """Write leaderboard.html, .csv and .parquet (a row per run and metric) into `root`; give it as text, too.

    `where` keeps the rows of the table of runs of which it is true, as "dataset == 'esc10' and accuracy > 0.8"; `sort`
    names a column, with a minus for the largest first. CourseError: nothing that is asked for, or no such column.
    """
    root = ROOT / root
    table = _chosen(board.table(root), where, sort)
    if not len(table):
        asked = f" of which {where!r} is true" if where else ""
        raise DataMissing(
            f"No recorded run below {root}{asked}. Run notebooks 03 and 05 first (`python -m helpers run 03 05`)."
        )
    scored, paired = board.metrics(root), pairs.table(root)
    seeds = board.over_seeds(scored)
    write_parquet(root / "leaderboard.parquet", scored)
    with replace_with(root / "leaderboard.csv") as temporary:
        table.to_csv(temporary, index=False)
    with replace_with(root / "leaderboard.html") as temporary:
        temporary.write_text("\n".join(_page(table, seeds, paired)), encoding="utf-8")
    text = [board.readable(table).to_string(index=False)]
    if len(seeds):
        text += ["Runs that differ in their seed alone", _readable_seeds(seeds).to_string(index=False)]
    if len(paired):
        first = paired.sort_values("difference", ascending=False).head(_FIRST)
        text += [f"The {len(first)} largest of {len(paired)} differences on the same clips, over all seeds"]
        text += [_readable_pairs(first).to_string(index=False)]
    return "\n\n".join([*text, f"To open: {short(root / 'leaderboard.html')}"])


def _chosen(table: pd.DataFrame, where: str | None, sort: str | None) -> pd.DataFrame:
    try:
        table = table.query(where).reset_index(drop=True) if where else table
        return table.sort_values(sort.lstrip("-"), ascending=sort[0] != "-", ignore_index=True) if sort else table
    except Exception as error:  # whatever pandas makes of what was asked
        columns = ", ".join(table)
        raise CourseError(f"This cannot be asked of the leaderboard: {error}. Its columns are {columns}.") from error


def _readable_seeds(seeds: pd.DataFrame) -> pd.DataFrame:
    texts = {
        "macro F1, mean ± sd over seeds": [f"{one.mean:.1%} ± {one.std:.1%}" for one in seeds.itertuples()],
        "lowest to highest": [f"{one.min:.1%} to {one.max:.1%}" for one in seeds.itertuples()],
    }
    return seeds[["model", "dataset", "data", "asked"]].assign(runs=seeds["count"], **texts)


def _readable_pairs(paired: pd.DataFrame) -> pd.DataFrame:
    told = paired[["difference", "low", "high", "n"]].set_axis(["value", "low", "high", "n"], axis=1)
    texts = {
        "difference": [scores.shown(one, "points") for one in told.to_dict("records")],
        "p": paired["p"].map("{:.3f}".format),
        "wins": [f"{one.wins} of {one.seeds} seeds" for one in paired.itertuples()],
    }
    return paired[["dataset", "data", "one", "other"]].assign(**texts)


def _page(table: pd.DataFrame, seeds: pd.DataFrame, paired: pd.DataFrame) -> Iterator[str]:
    from itables import options
    from itables.javascript import generate_init_offline_itables_html

    yield _HEAD + generate_init_offline_itables_html(options.dt_bundle)
    percent = [name for name in table if name.startswith(("macro_f1", "accuracy"))]
    shown = table.assign(**{name: (100 * table[name]).round(1) for name in percent})
    last = ["notebook", "run"]  # long, and seldom looked for
    yield _sortable(shown[[name for name in shown if name not in last] + last], "runs")
    for (dataset, data), one in table.groupby(["dataset", "data"], sort=False):
        title = f"{dataset} ({data})"
        yield f"<h2>{html.escape(title)}</h2>"
        yield _picture(_standings(one), f"Macro F1 of the models on {title}, the best on top, each seed a point.")
        if one["train_seconds"].notna().any():
            yield _picture(_costs(one), f"Accuracy of the models on {title} against the seconds of their training.")
    if len(seeds):
        yield "<h2>Runs that differ in their seed alone</h2>" + _sortable(_readable_seeds(seeds), "seeds")
    if len(paired):
        points = {name: (100 * paired[name]).round(1) for name in ("difference", "low", "high")}
        yield _PAIRS + _sortable(paired.assign(**points, p=paired["p"].round(4)), "pairs")


def _sortable(table: pd.DataFrame, name: str) -> str:
    from itables import to_html_datatable

    how = {"connected": False, "column_filters": "header", "table_id": name, "showIndex": False, "maxBytes": 0}
    return to_html_datatable(
        table.rename(columns=lambda of: of.replace("_", " ")),
        **how,
        paging=False,
        layout={"topEnd": "search", "bottomStart": "info"},
    )


def _picture(fig: Figure, alt: str) -> str:
    content = io.BytesIO()
    fig.savefig(content, dpi=90, metadata={"Software": None})
    plt.close(fig)
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}">'


def _standings(table: pd.DataFrame) -> Figure:
    """Macro F1 by model, the best on top: every run a point, with the interval of the best of them."""
    groups = table.groupby("model")["macro_f1"].mean().sort_values().tail(_MOST)
    fig, ax = plt.subplots(figsize=(8, 0.3 * len(groups) + 1.2), layout="constrained")
    for height, name in enumerate(groups.index):
        runs = table[table["model"] == name]
        middle = runs.iloc[(runs["macro_f1"] - groups[name]).abs().argmin()]
        ax.plot([100 * middle["macro_f1_low"], 100 * middle["macro_f1_high"]], [height] * 2, color="0.7", linewidth=4)
        ax.plot(100 * runs["macro_f1"], [height] * len(runs), "o", color=plots.COLOURS[0], markersize=4)
    ax.set_yticks(range(len(groups)), groups.index)
    ax.set(xlim=(0, 100), xlabel="macro F1, % (grey: 95 % interval of the run in the middle)")
    return fig


def _costs(table: pd.DataFrame) -> Figure:
    fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    known = table.dropna(subset=["train_seconds"]).drop_duplicates("model").head(14)
    for (_, row), style in zip(known.iterrows(), plots.markers(len(known)), strict=True):
        ax.scatter(max(row["train_seconds"], 0.01), 100 * row["accuracy"], s=50, label=row["model"], **style)
    ax.set(xscale="log", ylim=(0, 100), xlabel="training, s", ylabel="accuracy, %")
    for axis_formatter in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
        axis_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    return fig
