"""Tables as people save them, in any of the usual encodings and separators; what is wrong is told with its line."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from helpers.base import CourseError, DataMissing

_SEPARATORS = ",;\t|"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_WORDS = {"true": True, "1": True, "1.0": True, "yes": True, "false": False, "0": False, "0.0": False, "no": False}


def read_text(path: Path) -> str:
    """Read a file as UTF-8 or UTF-16, with or without a mark at its start, or else as the Latin letters of Windows."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataMissing(f"The dataset is incomplete: {path} is missing.") from error
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror or error}.") from error
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:2]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    for name in (encoding, "cp1252"):
        try:
            if "\0" not in (text := content.decode(name)):
                return text
        except UnicodeDecodeError:
            continue
    raise CourseError(f"{path} is no text; save it as UTF-8.")


def read_table(
    path: Path, columns: Sequence[str] | Mapping[str, Sequence[str]], optional: Sequence[str] = (), advice: str = ""
) -> pd.DataFrame:
    """Read a table with every value as text, without the spaces around it; the index holds the line of each row.

    `columns` must be there, and `optional` ones may, in any order and spelling of capitals, beside others; a mapping
    gives other names of each. CourseError names the file, and the line or the column, with `advice`.
    """
    names = dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, ())
    first = _first_line(text := read_text(path))
    rows = _rows(text, max(_SEPARATORS, key=lambda mark: len(_found(_cells(first, mark), names))), path, advice)
    titles = next(iter(rows.values()))
    if twice := [title for number, title in enumerate(titles) if folded(title) in map(folded, titles[:number])]:
        raise _error(path, f"two columns are called {twice[0]!r}", advice)
    found = _found(titles, names | dict.fromkeys(optional, ()))
    if lacking := [name for name in names if name not in found.values()]:
        raise _error(path, f"no column is called {lacking[0]!r}; there are {', '.join(titles)}", advice)
    index = list(rows)[1:]
    table = pd.DataFrame([rows[line] for line in index], index, [found.get(title, title) for title in titles], object)
    return table.drop(columns="", errors="ignore")  # the index of a table that pandas wrote


def read_list(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table without a header, as `read_table`; columns that it lacks at its end are empty."""
    first = _first_line(text := read_text(path))
    rows = _rows(text, next((mark for mark in "\t;," if mark in first), "\t"), path, "")
    table = pd.DataFrame(rows.values(), list(rows), columns[: len(next(iter(rows.values())))], object)
    return table.reindex(columns=columns, fill_value="")


def _rows(text: str, separator: str, path: Path, advice: str) -> dict[int, list[str]]:
    """Cells of every line that has any, as many as the first has; spreadsheets end their lines with empty ones."""
    rows, width = {}, 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1] and (not width or len(cells) > width):
                cells.pop()
            width = width or len(cells)
            if any(cells):
                rows[reader.line_num] = cells
                if len(cells) != width:
                    what = f"line {reader.line_num}: {len(cells)} values for {width} columns"
                    raise _error(path, what, advice)
    except csv.Error as error:
        raise _error(path, f"line {reader.line_num}: {error}", advice) from error
    if not rows:
        raise _error(path, "nothing is in it", advice)
    return rows


def _error(path: Path, what: str, advice: str) -> CourseError:
    return CourseError(f"{path}, {what}. {advice}".rstrip())


def column_names(path: Path) -> list[str]:
    """Titles of a table, by the separator that gives most of them; none if it cannot be read."""
    try:
        first = _first_line(read_text(path))
    except CourseError:
        return []
    return max((_cells(first, mark) for mark in _SEPARATORS), key=len)


def _first_line(text: str) -> str:
    return next((line for line in io.StringIO(text, newline="") if line.strip()), "")


def _cells(line: str, separator: str) -> list[str]:
    cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [cell.strip() for cell in cells]


def _found(titles: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Standard name of each title that has one; the standard name itself comes before the others."""
    found, spelt = {}, {folded(title): title for title in reversed(titles)}
    for name, others in names.items():
        title = next((spelt[one] for one in (folded(name), *others) if one in spelt), None)
        if title is not None:
            found[title] = name
    return found


def folded(title: str) -> str:
    """Write the title of a column without capitals and spaces, as titles are compared."""
    return title.casefold().replace(" ", "_")


def whole_numbers(values: pd.Series, path: Path) -> pd.Series:
    """Read a column of `read_table` as whole numbers (Int64); an empty value stays empty."""
    number = pd.to_numeric(values.where(values != ""), errors="coerce")
    odd = values[(values != "") & ~((number % 1 == 0) & (number.abs() < 1e6))]
    if len(odd):
        raise _error(path, f"line {odd.index[0]}, column {values.name}: {odd.iloc[0]!r} is no whole number", "")
    return number.astype("Int64")


def truths(values: pd.Series, path: Path) -> pd.Series:
    """Read a column of `read_table` as True and False, however they are spelt."""
    truth = values.str.casefold().map(_WORDS)
    if truth.isna().any():
        line = truth.index[truth.isna()][0]
        raise _error(path, f"line {line}, column {values.name}: {values[line]!r} is neither true nor false", "")
    return truth.astype(bool)
