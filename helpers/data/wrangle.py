"""From free-text tags to eight classes, and from FSD50K's own labels to the same eight.

The rule fits in three sentences. A tag votes for the class whose list holds it; if no list holds the whole tag, each of
its words votes. The class with most votes wins; a tie goes to the class that stands first in the file of lists. A clip
without a vote is "other".
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from helpers.base import DATA, CourseError, DataMissing

_CLASSES = ["human", "noise", "animal", "music", "ambient", "alarm", "movement", "other"]


@lru_cache(maxsize=2**16)
def normalise(tag: str) -> str:
    """Bring a tag into the form in which the lists are searched."""
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
    """Read and check the lists of tags."""
    content = _read_classes(Path(path))
    lists = {name: [normalise(tag) for tag in tags] for name, tags in content["classes"].items()}
    faults = _find_faults(lists, [normalise(word) for word in content.get("compounds", [])])
    if faults:
        raise CourseError(f"{path}: {len(faults)} faults. " + " ".join(faults[:5]))
    return lists


def _find_faults(tag_lists: Mapping[str, list[str]], compounds: Iterable[str] = ()) -> list[str]:
    """Find what a slip of the keyboard does to lists: a tag listed twice, two tags fused by a forgotten comma.

    Python joins ``"dog" "bark"`` into ``"dogbark"`` without a word, and both tags are lost. An entry that consists of
    two other entries is therefore a fault, unless `compounds` declares it.
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


def read_crosswalk() -> dict[str, str]:
    """Read which class each ground-truth label of FSD50K belongs to."""
    path, crosswalk = DATA / "fsd50k_crosswalk.toml", {}
    for name, labels in _read_classes(path)["classes"].items():
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
    unknown = set(content.get("classes", {})) - set(_CLASSES)
    if unknown or not content.get("classes"):
        raise CourseError(f"{path}: expected a table [classes] with {', '.join(_CLASSES)}; unknown: {sorted(unknown)}.")
    return content


_CUTOFF = 0.85
_SHORTEST = 5


def votes(tags: Iterable[str], tag_lists: Mapping[str, list[str]], typos: bool = False) -> dict[str, list[str]]:
    """Say which tags of a clip speak for which class: the evidence behind `wrangle`."""
    home, by_letter = _index(tuple((name, tuple(listed)) for name, listed in tag_lists.items()))
    evidence: dict[str, list[str]] = {name: [] for name in tag_lists}
    for tag in dict.fromkeys(tags):
        whole = normalise(tag)
        found = {home[whole]} if whole in home else {home[word] for word in whole.split() if word in home}
        if not found and typos:
            found = {home[near] for near in map(lambda word: _nearest(word, by_letter), whole.split()) if near}
        for name in found:
            evidence[name].append(tag)
    return {name: found for name, found in evidence.items() if found}


def wrangle(tags: Iterable[str], tag_lists: Mapping[str, list[str]], typos: bool = False) -> str:
    """Choose the class of a clip from its tags: most votes, ties to the class listed first, none to "other"."""
    evidence = votes(tags, tag_lists, typos)
    return max(tag_lists, key=lambda name: len(evidence.get(name, []))) if evidence else "other"


def truth_class(labels: Iterable[str], crosswalk: Mapping[str, str]) -> str | None:
    """Map the ground-truth labels of a clip to one class."""
    labels = list(labels)
    unknown = [label for label in labels if label not in crosswalk]
    if unknown:
        raise CourseError(f"No class is known for the label(s) {unknown}; add them to data/fsd50k_crosswalk.toml.")
    found = {crosswalk[label] for label in labels}
    return next((name for name in crosswalk.values() if name in found), None)


@lru_cache(maxsize=8)
def _index(lists: tuple) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    home = {tag: name for name, tags in lists for tag in tags}
    by_letter: dict[str, list[str]] = {}
    for tag in home:
        if len(tag) >= _SHORTEST and " " not in tag:
            by_letter.setdefault(tag[0], []).append(tag)
    return home, {letter: tuple(tags) for letter, tags in by_letter.items()}


def _nearest(word: str, by_letter: Mapping[str, tuple[str, ...]]) -> str | None:
    # People rarely mistype the first letter; trying only those words keeps 20,000 tags a matter of seconds.
    if len(word) < _SHORTEST:
        return None
    candidates = [tag for tag in by_letter.get(word[0], ()) if abs(len(tag) - len(word)) <= 1]
    close = difflib.get_close_matches(word, candidates, n=1, cutoff=_CUTOFF)
    return close[0] if close else None
