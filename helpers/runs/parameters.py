"""The parameters of the notebooks: what each of them means, and values from anywhere read as that, or refused.

Papermill's command line hands on `false` and `1e3` as text, and `2024` as a number. A name means the same in all
notebooks, so it is said here, once.
"""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

from helpers.base import CourseError

_SWITCH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_NOTHING = ("", "none", "null")


def _whole(least: int):
    def read(value: object) -> int:
        number = float(value)
        if isinstance(value, bool) or not number.is_integer() or not least <= number < 2**32:
            raise ValueError
        return int(number)

    return read, f"a whole number, at least {least}"


def _above_zero(value: object) -> float:
    if not 0 < float(value) < float("inf"):
        raise ValueError
    return float(value)


def _share(value: object) -> float:
    if not 0 < float(value) <= 1:
        raise ValueError
    return float(value)


def _options(value: object) -> dict:
    value = json.loads(value) if isinstance(value, str) else value
    return {**value}


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
    return [str(name).strip() for name in value]


# Folders and files, given as seen from where a command is given, which need not be where a notebook runs.
PATHS = ("data_dir", "run_dir", "runs_dir", "tag_lists", "weights_dir", "recordings", "sweep", "tables")
_MAY_BE_NONE = (*PATHS, "run", "clip", "limit", "n_rounds", "n_blocks", "full")
_NONE_IS_A_NAME = ("regularise",)  # "none" is one of its choices
_TEXTS = (
    *PATHS,
    "dataset",
    "run",
    "picture_run",
    "clip",
    "network",
    "regularise",
    "method",
    "folds",
    "picture",
    "channels",
    "augment",
    "noise",
)
_KINDS = dict.fromkeys(_TEXTS, (str, "text"))
_KINDS |= {"seed": _whole(0), "size": _whole(16)} | dict.fromkeys(("n_clips", "n_points"), _whole(2))
_KINDS |= dict.fromkeys(
    ("epochs", "limit", "n_rounds", "n_shown", "n_iter", "n_fit", "n_seeds", "n_blocks", "n_draws"), _whole(1)
)
_KINDS |= {"code_size": _whole(2)}
_KINDS |= dict.fromkeys(("full", "pretrained"), (lambda value: _SWITCH[str(value).strip().casefold()], "True or False"))
_KINDS |= dict.fromkeys(("networks", "twin_runs"), (_names, 'a list of names, such as ["one", "two"]'))
_KINDS |= dict.fromkeys(("seconds", "imbalance"), (_above_zero, "a number above 0")) | {"precision": (str, "text")}
_SHARES = ("sure", "share_verified", "share_wrong")
_KINDS |= dict.fromkeys(_SHARES, (_share, "a share above 0 and at most 1, such as 0.95"))
_KINDS |= {"options": (_options, 'a dictionary, or one in JSON, such as {"esc10_only": true}')}


def read(name: str, value: object) -> object:
    """Read the value of a parameter as what its name means; names that are not known keep theirs.

    CourseError names the parameter.
    """
    if name not in _KINDS:
        return value
    kind, means = _KINDS[name]
    nothing = ("",) if name in _NONE_IS_A_NAME else _NOTHING
    if value is None or (isinstance(value, str) and value.strip().casefold() in nothing):
        if name in _MAY_BE_NONE or name == "options":
            return {} if name == "options" else None
        raise CourseError(f"The parameter {name} has no value; it must be {means}.")
    try:
        return kind(os.fspath(value) if isinstance(value, os.PathLike) else value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CourseError(f"The parameter {name} is {value!r}; it must be {means}.") from error


def defaults(notebook: str | os.PathLike) -> dict:
    """Names and defaults of a notebook's parameters, from the cell that is tagged so; no plain value stays text."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    tagged = ["".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    found, lines = {}, [line for source in tagged for line in source.splitlines() if not line.startswith(("%", "!"))]
    try:
        statements = ast.parse("\n".join(lines)).body
    except SyntaxError as error:
        raise CourseError(f"{notebook}: the cell of parameters is no Python ({error}).") from error
    for line in statements:
        if isinstance(line, ast.Assign | ast.AnnAssign) and line.value is not None:
            for target in getattr(line, "targets", None) or [line.target]:
                if isinstance(target, ast.Name):
                    try:
                        found[target.id] = ast.literal_eval(line.value)
                    except (ValueError, TypeError):
                        found[target.id] = ast.unparse(line.value)
    return found
