"""Your own recordings: one sub-folder per class, or a table with the columns path and label."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd

from helpers.base import CourseError, DataMissing
from helpers.data.declare import AUDIO_SUFFIXES, Info
from helpers.data.tables import column_names, folded, read_table, read_text, whole_numbers

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
    "Expected either one sub-folder per class with recordings in it (perhaps inside train, validation and test), or a "
    "table with the columns path and label (optional: group, split, fold; paths relative to the table). Pass the "
    "folder or the table as data_dir."
)
_NO_GROUP = (
    "No group is known for {count} of {total} clips. If one speaker, device or recording stands behind several of "
    "them, a random split puts it on both sides and scores may be inflated: spoken digits scored 97 % by random "
    "split and 49 % by speaker, with the same features and model. Name the source in a `group` column or by "
    "`group_pattern`."
)
# What the columns of a table, the sides of a division and the folders of folds are called elsewhere.
_COLUMNS = {
    "path": ("file", "filename", "file_name", "fname", "filepath", "file_path", "slice_file_name", "recording", "wav"),
    "label": ("class", "category", "class_name", "label_name", "target_name"),
}
_SPLITS = {"training": "train", "dev": "validation", "val": "validation", "valid": "validation", "testing": "test"}
_SPLITS |= {"eval": "test", "evaluation": "test"} | {name: name for name in ("train", "validation", "test")}
_FOLD = re.compile(r"fold[ _-]?(\d{1,3})", re.IGNORECASE)


def load(data_dir: str | os.PathLike, group_pattern: str | None = None) -> pd.DataFrame:
    """Load recordings from folders named after their class, or as a table lists them.

    `attrs` says in words where groups are unknown ("warning"), and which files were no recordings ("left_out").
    """
    root = Path(data_dir).expanduser().absolute()
    if not root.exists():
        raise DataMissing(f"{root} does not exist. {_LAYOUT}")
    place = root.parent if root.is_file() else root
    recordings, left_out = _recordings(place)
    by_name = defaultdict(list)
    for recording in recordings:
        by_name[recording.name].append(recording)
    table, near = (root, []) if root.is_file() else _tables(root, by_name)
    if near and len({path.relative_to(root).parts[0] for path in recordings if path.parent != root}) < 2:
        raise CourseError(f"{near[0][0]}: {near[0][1]}. {_LAYOUT}")
    manifest = _from_table(table, place, by_name) if table else _from_folders(root, recordings)
    notes = [f"{path} was not read: {lacks}. The folders give the labels." for path, lacks in near]
    if manifest.empty:
        raise DataMissing(f"No recording was found in {root} (left out: {_in_words(left_out)}). {_LAYOUT}")
    if table:
        left_out[table.suffix.lower()] -= 1
        left_out["recordings that the table does not list"] = len({*map(str, recordings)} - {*manifest["path"]})
    if group_pattern:
        found = _groups([Path(path).name for path in manifest["path"]], group_pattern)
        manifest["group"] = manifest["group"].where(manifest["group"].notna(), found) if "group" in manifest else found
    unknown = int(manifest["group"].isna().sum()) if "group" in manifest else len(manifest)
    if unknown:
        notes.append(_NO_GROUP.format(count=unknown, total=len(manifest)))
    if notes:
        manifest.attrs["warning"] = " ".join(notes)
    if text := _in_words(left_out):
        manifest.attrs["left_out"] = text
    return manifest


def _recordings(root: Path) -> tuple[list[Path], Counter]:
    """Recordings below a folder, those in linked folders too, and how many files of which kind are none."""
    found, left_out, seen = [], Counter(), set()
    for place, folders, files in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(place))
        left_out["hidden folders"] += sum(name.startswith(".") for name in folders)
        links = [name for name in folders if os.path.realpath(os.path.join(place, name)) in seen]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        left_out["links to a folder that was read already"] += len(links)
        for name in files:
            # Hidden files beside recordings (such as macOS's ._name.wav) carry the suffix, not the sound.
            if name.startswith("."):
                left_out["hidden files"] += 1
            elif not _is_text(os.path.join(place, name)):
                left_out["files whose name is not UTF-8"] += 1
            elif (suffix := Path(name).suffix.lower()) in AUDIO_SUFFIXES:
                found.append(Path(place, name))
            else:
                left_out[suffix or "files without suffix"] += 1
    return sorted(found), left_out


def _is_text(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _in_words(left_out: Counter) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()) if count > 0)


def _tables(root: Path, by_name: dict[str, list[Path]]) -> tuple[Path | None, list[tuple[Path, str]]]:
    """The table that lists the recordings of a folder, and those that name them but lack what a list needs."""
    lists, near = [], []
    for path in sorted({*root.glob("*"), *root.glob("*/*")}):
        if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file() or path.name.startswith("."):
            continue
        names = column_names(path)
        titles = set(map(folded, names))
        lacking = [name for name, others in _COLUMNS.items() if not {name, *others} & titles]
        if not lacking:
            lists.append(path)
        elif any(Path(cell).name in by_name for cell in re.split(r"[,;\t|\n\r\"\\]+", _text(path))):
            near.append((path, f"no column is called {' or '.join(lacking)} (there are {', '.join(names)})"))
    if len(lists) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in lists)
        raise DataMissing(f"{root} holds several tables with path and label ({names}); pass the one you mean.")
    return (lists[0], []) if lists else (None, near)


def _text(path: Path) -> str:
    with contextlib.suppress(CourseError):
        return read_text(path)
    return ""


def _from_table(path: Path, root: Path, by_name: dict[str, list[Path]]) -> pd.DataFrame:
    table = read_table(path, _COLUMNS, ["clip_id", "split", "fold", "group", "duration"], advice=_LAYOUT)
    if (table["path"] == "").any():
        raise CourseError(f"{path}, line {table.index[table['path'] == ''][0]}: the path is empty.")
    names = [name.strip("\"'").replace("\\", "/") for name in table["path"]]
    if "clip_id" not in table:
        table.insert(0, "clip_id", names)
    table["path"] = [_place(name, path.parent, root, by_name) for name in names]
    for column in table.columns.intersection(["label", "split", "group", "fold"]):
        table[column] = table[column].where(table[column] != "")
    if "split" in table:
        odd = table["split"][table["split"].notna() & ~table["split"].str.casefold().isin(_SPLITS)]
        if len(odd):
            raise CourseError(f"{path}, line {odd.index[0]}: the split {odd.iloc[0]!r}; use train, validation or test.")
        table["split"] = table["split"].str.casefold().map(_SPLITS)
    if "fold" in table:
        table["fold"] = whole_numbers(table["fold"].fillna(""), path)
    if "duration" in table:
        table["duration"] = pd.to_numeric(table["duration"], errors="coerce")  # the audit measures it anyway
    return table


def _place(name: str, beside: Path, root: Path, by_name: dict[str, list[Path]]) -> str:
    """Where a recording of a table lies: beside the table, below the folder, or wherever its name is the only one."""
    places = [Path(os.path.normpath(beside / name)), Path(os.path.normpath(root / name))]
    if not any(place.exists() for place in places) and len(by_name.get(Path(name).name, [])) == 1:
        return str(by_name[Path(name).name][0])
    return str(next((place for place in places if place.exists()), places[0]))


def _from_folders(root: Path, recordings: list[Path]) -> pd.DataFrame:
    names = [path.relative_to(root) for path in recordings]
    tops = {name.parts[0] for name in names if len(name.parts) > 1}
    split, fold = (bool(tops) and all(map(known, tops)) for known in (_is_split, _FOLD.fullmatch))
    at = int(split or fold)  # where in the path the class stands
    if not at and len(found := sorted(name for name in tops if _is_split(name))) > 1:
        raise CourseError(f"{root} holds {' and '.join(found)} beside {', '.join(sorted(tops - {*found}))}. {_LAYOUT}")
    labels = [name.parts[at] if len(name.parts) > at + 1 else None for name in names]
    if at and not any(labels):
        raise CourseError(f"The folders {', '.join(sorted(tops))} of {root} hold no folders of classes. {_LAYOUT}")
    below = sorted({name.parts[at + 1] for name in names if len(name.parts) > at + 2})
    if len({*labels} - {None}) == 1 and below:
        raise CourseError(
            f"All recordings of {root} would be of one class, {next(filter(None, labels))!r}, the only folder there. "
            f"If the classes are the folders in it ({', '.join(below[:5])}), pass that one as data_dir."
        )
    columns = {"clip_id": [name.as_posix() for name in names], "path": [str(path) for path in recordings]}
    columns["label"] = labels
    if split:
        columns["split"] = [_SPLITS[name.parts[0].casefold()] if len(name.parts) > 1 else None for name in names]
    if fold:
        columns["fold"] = [int(_FOLD.fullmatch(name.parts[0])[1]) if len(name.parts) > 1 else None for name in names]
    return pd.DataFrame(columns)


def _is_split(name: str) -> bool:
    return name.casefold() in _SPLITS


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
