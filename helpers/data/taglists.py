"""The lists behind the eight classes: which tag, and which label of FSD50K, belongs to which class."""

from __future__ import annotations

import os
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from helpers.base import DATA, CourseError, DataMissing

CLASSES = ["human", "noise", "animal", "music", "ambient", "alarm", "movement", "other"]


@lru_cache(maxsize=2**16)
def normalise(tag: str) -> str:
    """Bring a tag into the form in which the lists are searched.

    Parameters
    ----------
    tag : str
        As a person typed it: ``"Dog-Barking"``, ``"FOOTSTEPS"``, ``"café"``.

    Returns
    -------
    str
        Lower case, without accents, words parted by one space and in the singular: ``"dog barking"``, ``"footstep"``,
        ``"cafe"``.

    Notes
    -----
    The singular follows spelling, not a dictionary. Used by notebook 01, through `helpers.wrangle`.
    """
    text = unicodedata.normalize("NFKD", tag).encode("ascii", "ignore").decode().lower()
    return " ".join(_singular(word) for word in re.findall(r"[a-z0-9]+", text))


def _singular(word: str) -> str:
    if len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1]


def read_tag_lists(path: str | os.PathLike = DATA / "tag_lists.toml") -> dict[str, list[str]]:
    """Read and check the lists of tags.

    Parameters
    ----------
    path : path
        TOML file like ``data/tag_lists.toml``: a table ``[classes]`` with one list per class, and an optional list
        ``compounds`` of words that may look like two listed words run together.

    Returns
    -------
    dict
        Class to list of normalised tags, in the order of the file, which is the order that decides ties.

    Raises
    ------
    DataMissing
        There is no such file.
    CourseError
        It is not TOML, names a class that does not exist, or `find_faults` finds something.

    Notes
    -----
    Used by notebook 01, through `helpers.wrangle`, and by the loader of FSD50K.
    """
    content = _read_classes(Path(path))
    lists = {name: [normalise(tag) for tag in tags] for name, tags in content["classes"].items()}
    faults = find_faults(lists, [normalise(word) for word in content.get("compounds", [])])
    if faults:
        raise CourseError(f"{path}: {len(faults)} faults. " + " ".join(faults[:5]))
    return lists


def find_faults(tag_lists: Mapping[str, list[str]], compounds: Iterable[str] = ()) -> list[str]:
    """Find what a slip of the keyboard does to lists: a tag listed twice, two tags fused by a forgotten comma.

    Python joins ``"dog" "bark"`` into ``"dogbark"`` without a word, and both tags are lost. An entry that consists of
    two other entries is therefore a fault, unless `compounds` declares it.

    Parameters
    ----------
    tag_lists : mapping
        Class to list of normalised tags.
    compounds : iterable of str
        Words such as "doorbell" that are meant so.

    Returns
    -------
    list of str
        One sentence per fault; empty when there is none.

    Notes
    -----
    Used by notebook 01, through `helpers.wrangle.read_tag_lists`.
    """
    faults, home = [], {}
    for name, tags in tag_lists.items():
        for tag in tags:
            if not tag:
                faults.append(f"An entry of {name} is empty.")
            elif tag in home:
                faults.append(f"{tag!r} stands in {home[tag]} and in {name}; keep one.")
            home.setdefault(tag, name)
    allowed = set(compounds)
    for tag, name in home.items():
        if tag in allowed:
            continue
        for cut in range(2, len(tag) - 1):
            first, second = tag[:cut], tag[cut:]
            if first in home and second in home:
                faults.append(f"{tag!r} in {name} is {first!r} and {second!r} run together: a forgotten comma?")
                break
    return faults


def read_crosswalk(path: str | os.PathLike = DATA / "fsd50k_crosswalk.toml") -> dict[str, str]:
    """Read which class each ground-truth label of FSD50K belongs to.

    Parameters
    ----------
    path : path
        TOML file with a table ``[classes]``: one list of labels per class, special classes first.

    Returns
    -------
    dict
        Label to class, in the order of the file, which decides when the labels of a clip disagree.

    Raises
    ------
    DataMissing
        There is no such file.
    CourseError
        It is not TOML, or a label stands in two classes.

    Notes
    -----
    Used by the loader of FSD50K.
    """
    crosswalk: dict[str, str] = {}
    for name, labels in _read_classes(Path(path))["classes"].items():
        for label in labels:
            if label in crosswalk:
                raise CourseError(f"{path}: {label!r} stands in {crosswalk[label]} and in {name}; keep one.")
            crosswalk[label] = name
    return crosswalk


def _read_classes(path: Path) -> dict:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataMissing(f"There is no list of classes at {path}.") from error
    except tomllib.TOMLDecodeError as error:
        raise CourseError(f"{path} cannot be read: {error}. Is a comma or a quotation mark missing there?") from error
    unknown = set(content.get("classes", {})) - set(CLASSES)
    if unknown or not content.get("classes"):
        raise CourseError(f"{path}: expected a table [classes] with {', '.join(CLASSES)}; unknown: {sorted(unknown)}.")
    return content
