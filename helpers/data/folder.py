"""Your own recordings: one sub-folder per class, or a CSV with the columns path and label."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd

from helpers.base import CourseError, DataMissing
from helpers.data.declare import AUDIO_SUFFIXES, Info, read_table

INFO = Info(
    name="folder",
    title="Your own recordings",
    folder="folder",
    marker="",
    licence="",
    citation="",
    homepage="",
)

_LAYOUT = (
    "Expected either one sub-folder per class with recordings in it, or a CSV with the columns path and label "
    "(optional: group, split, fold; paths relative to the CSV). Pass the folder or the CSV as data_dir."
)
_NO_GROUP = (
    "No group is known for {count} of {total} clips. If one speaker, device or recording stands behind several of "
    "them, a random split puts it on both sides and scores may be inflated: spoken digits scored 97 % by random "
    "split and 49 % by speaker, with the same features and model. Name the source in a `group` column or by "
    "`group_pattern`."
)


def load(data_dir: str | os.PathLike, group_pattern: str | None = None) -> pd.DataFrame:
    """Load recordings from folders named after their class, or as a CSV lists them."""
    root = Path(data_dir).expanduser().absolute()
    table_path = _table(root)
    manifest = _from_table(table_path) if table_path else _from_folders(root)
    if manifest.empty:
        raise DataMissing(f"No recording was found in {root}. {_LAYOUT}")
    if group_pattern:
        found = _groups([Path(path).name for path in manifest["path"]], group_pattern)
        manifest["group"] = manifest["group"].where(manifest["group"].notna(), found) if "group" in manifest else found
    unknown = int(manifest["group"].isna().sum()) if "group" in manifest else len(manifest)
    if unknown:
        manifest.attrs["warning"] = _NO_GROUP.format(count=unknown, total=len(manifest))
    return manifest


def _table(root: Path) -> Path | None:
    if root.is_file():
        return root
    if not root.is_dir():
        raise DataMissing(f"{root} does not exist. {_LAYOUT}")
    headers = {path: _header(path) for path in sorted(root.glob("*.csv"))}
    tables = [path for path, names in headers.items() if {"path", "label"} <= set(names)]
    for path, names in headers.items():
        if any({"path", "label"} <= set(name.split(";")) for name in names):
            raise CourseError(f"{path} parts its columns with semicolons. Save it as CSV with commas. {_LAYOUT}")
    if len(tables) > 1:
        raise DataMissing(f"{root} holds several CSV with path and label; pass the one you mean as data_dir.")
    return tables[0] if tables else None


def _header(path: Path) -> list[str]:
    try:
        return list(pd.read_csv(path, nrows=0, encoding="utf-8-sig", encoding_errors="replace"))
    except (pd.errors.ParserError, pd.errors.EmptyDataError):
        return []


def _from_table(path: Path) -> pd.DataFrame:
    table = read_table(path, f"Save it as CSV with commas, in UTF-8. {_LAYOUT}", encoding="utf-8-sig")
    if not {"path", "label"} <= set(table.columns):
        raise CourseError(f"{path} has the columns {list(table.columns)}. {_LAYOUT}")
    table.insert(0, "clip_id", [Path(name).as_posix() for name in table["path"]])
    table["path"] = [os.path.normpath(path.parent / name) for name in table["path"]]
    for column in table.columns.intersection(["label", "split", "group", "fold"]):
        table[column] = table[column].str.strip()
        table[column] = table[column].where(table[column] != "")
    if "fold" in table:
        number = pd.to_numeric(table["fold"], errors="coerce")
        odd = table["fold"][table["fold"].notna() & (number % 1 != 0)]
        if len(odd):
            raise CourseError(f"{path} has {odd.iloc[0]!r} in the column fold; folds are whole numbers, or empty.")
        table["fold"] = number.astype("Int64")
    return table


def _from_folders(root: Path) -> pd.DataFrame:
    rows = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        # Hidden files beside recordings (such as macOS's ._name.wav) carry the suffix, not the sound.
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix.lower() in AUDIO_SUFFIXES and not hidden and not path.is_dir():
            label = name.parts[0] if len(name.parts) > 1 else None
            rows.append({"clip_id": name.as_posix(), "path": str(path), "label": label})
    return pd.DataFrame(rows, columns=["clip_id", "path", "label"])


def _groups(names: list[str], pattern: str) -> list[str | None]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise CourseError(f"group_pattern {pattern!r} is not a regular expression: {error}.") from error
    if expression.groups != 1:
        raise CourseError(f"group_pattern {pattern!r} needs exactly one group in brackets, as in '^([^_]+)_'.")
    found = [match[1] if (match := expression.search(name)) else None for name in names]
    if not any(found):
        raise CourseError(f"group_pattern {pattern!r} fits no file name; the first one is {names[0]!r}.")
    return found
