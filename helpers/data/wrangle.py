"""From free-text tags to eight classes, and from FSD50K's own labels to the same eight.

The rule fits in three sentences. A tag votes for the class whose list holds it; if no list holds the whole tag, each of
its words votes. The class with most votes wins; a tie goes to the class that stands first in the file of lists. A clip
without a vote is "other".
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from helpers.base import CourseError
from helpers.data.taglists import CLASSES, find_faults, normalise, read_crosswalk, read_tag_lists

__all__ = [
    "CLASSES",
    "find_faults",
    "normalise",
    "read_crosswalk",
    "read_tag_lists",
    "truth_class",
    "votes",
    "wrangle",
]

_CUTOFF = 0.85
_SHORTEST = 5


def votes(tags: Iterable[str], tag_lists: Mapping[str, list[str]], typos: bool = False) -> dict[str, list[str]]:
    """Say which tags of a clip speak for which class: the evidence behind `wrangle`.

    Parameters
    ----------
    tags : iterable of str
        Free-text tags of one clip.
    tag_lists : mapping
        Class to list of normalised tags, from `read_tag_lists`.
    typos : bool
        Accept a word of five letters or more that starts like a listed one and differs from it by a slip
        ("barkign"). It finds more and errs more; notebook 01 measures both.

    Returns
    -------
    dict
        Class to the tags, as typed, that voted for it; classes without a vote are left out.

    Notes
    -----
    Used by notebook 01.
    """
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
    """Choose the class of a clip from its tags: most votes, ties to the class listed first, none to "other".

    Parameters
    ----------
    tags : iterable of str
        Free-text tags of one clip.
    tag_lists : mapping
        Class to list of normalised tags, from `read_tag_lists`.
    typos : bool
        See `votes`.

    Returns
    -------
    str
        One of `CLASSES`.

    Notes
    -----
    Used by notebook 01 and by the loader of FSD50K.
    """
    evidence = votes(tags, tag_lists, typos)
    return max(tag_lists, key=lambda name: len(evidence.get(name, []))) if evidence else "other"


def truth_class(labels: Iterable[str], crosswalk: Mapping[str, str]) -> str | None:
    """Map the ground-truth labels of a clip to one class.

    Parameters
    ----------
    labels : iterable of str
        Labels as in FSD50K's ``dev.csv``, such as ``["Doorbell", "Door", "Domestic_sounds_and_home_sounds"]``.
    crosswalk : mapping
        Label to class, from `read_crosswalk`.

    Returns
    -------
    str or None
        The class among those of the labels that stands first in the crosswalk; None without labels.

    Raises
    ------
    CourseError
        A label is not in the crosswalk.

    Notes
    -----
    Used by the loader of FSD50K.
    """
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
