"""The recordings a user brings: which files a folder holds, and what is the matter with each of them."""

from __future__ import annotations

import os
from pathlib import Path

from helpers.base import DataMissing, resolve
from helpers.data.audit import ADVICE, CLIPPED_SHARE
from helpers.data.declare import AUDIO_SUFFIXES


def find(folder: str | os.PathLike) -> list[tuple[str, Path, str]]:
    """List every file of a folder and its sub-folders, or a single recording.

    Returns
    -------
    list of (name, path, flag)
        The name is as seen from the folder. The flag says why a file is not to be read: hidden, no recording by its
        name, a link to a folder, a folder that cannot be opened, or a name that is no text; else it is "".

    Raises
    ------
    DataMissing
        There is no such folder, or no recording in it.
    """
    root = resolve(folder)
    if root.is_file():
        return [(_printable(root.name), root, "")]
    if not root.is_dir():
        raise DataMissing(f"{root} does not exist. Name a folder with recordings, or a single recording.")
    closed: list[OSError] = []
    paths = []
    for parent, folders, names in os.walk(root, onerror=closed.append):
        paths += [Path(parent, name) for name in names]
        paths += [Path(parent, name) for name in folders if Path(parent, name).is_symlink()]
    found = [(_printable(path.relative_to(root).as_posix()), path, _not_read(path, root)) for path in paths]
    for error in closed:
        path = Path(error.filename)
        found.append((_printable(f"{path.relative_to(root).as_posix()}/"), path, f"unreadable: {error.strerror}"))
    if all(flag for _, _, flag in found):
        others = ", ".join(f"{name} ({flag})" for name, _, flag in sorted(found)[:3])
        raise DataMissing(
            f"No recording was found in {root}{f' but {len(found)} other files: ' if found else '.'}{others} "
            f"Recordings are known by their names: {', '.join(sorted(AUDIO_SUFFIXES))}."
        )
    return sorted(found)


def flags(facts: dict, sr: int, seconds: float, n_windows: int, n_silent: int) -> list[str]:
    """Say what is odd about a recording, as heard by a model.

    Parameters
    ----------
    facts : dict
        As given by `helpers.probe.probe`.
    sr : int
        Sampling rate the model wants, Hz.
    seconds : float
        Length of what the model hears at once.
    n_windows, n_silent : int
        In how many windows it was heard, and how many of them were silent.

    Returns
    -------
    list of str
        Each begins with "unreadable", "silent", "clipped", "length unknown", "too short" or "resampled".
    """
    if facts["reason"]:
        return [f"unreadable: {facts['reason']} ({facts['detail']}). {ADVICE[facts['reason']]}"]
    found = []
    if n_silent:
        found.append("silent" if n_silent == n_windows else f"silent in {n_silent} of {n_windows} windows")
    if facts["clipped"] > CLIPPED_SHARE:
        found.append(f"clipped ({facts['clipped']:.1%} of the samples at full scale)")
    if facts["open_ended"]:
        found.append(f"length unknown ({facts['duration']:.2f} s decoded; part may be missing or unheard)")
    if facts["duration"] < seconds / 2:
        found.append(f"too short ({facts['duration']:.2f} s; the rest of the {seconds:g} s heard is zeros)")
    if facts["sr"] != sr:
        missing = f", nothing above {facts['sr'] // 2} Hz is there" if facts["sr"] < sr else ""
        found.append(f"resampled ({facts['sr']} to {sr} Hz{missing})")
    return found


def _not_read(path: Path, root: Path) -> str:
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        return "ignored: hidden"
    if path.is_dir():
        return "ignored: a link to a folder"
    if path.suffix.lower() not in AUDIO_SUFFIXES:
        return f"ignored: not a recording by its name ({_printable(path.suffix) or 'no suffix'})"
    if _printable(str(path)) != str(path):
        return "unreadable: its name is not text in UTF-8. Rename it."
    return ""


def _printable(name: str) -> str:
    # File systems allow bytes that are no text; tables and terminals do not.
    return os.fsencode(name).decode("utf-8", "backslashreplace")
