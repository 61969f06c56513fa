"""The audit: read every recording once, set aside what cannot be used, and say why, row by row."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from helpers import audio, base
from helpers.base import CourseError, progress, write_parquet

_COLUMNS = ["clip_id", "path", "reason", "detail", "advice"]
_MIN_SECONDS, _LOW_SR, _LONG_SECONDS, _CLIPPED_SHARE = 0.1, 16_000, 30.0, 1e-3
_OFFSET, _CANCEL, _BEYOND, _QUIET = 0.01, 0.1, 1.5, 10 ** (-45 / 20)  # of full scale; of the channels' level
_CHUNK = 512

# The one vocabulary of what ails a recording, here and in `helpers.serving`: why it cannot be used, or what is odd.
ADVICE = {
    "missing": "Download or unpack the dataset again, or correct the path in its list.",
    "no label": "Give it a label, or use it as unlabelled data only.",
    "empty": "Download or record it again.",
    "header only": "The recording was never written; download or record it again.",
    "unfinished header": "The recorder stopped too early. Repair it: ffmpeg -ignore_length 1 -i OLD -c copy NEW.wav",
    "truncated": "The end is lost; download it again, or cut it on purpose and save it anew.",
    "unknown codec": "Convert it, as with ffmpeg -i OLD NEW.wav, or install ffmpeg; then it is read as it is.",
    "not audio": "Download it again, or leave it out; samples without a header can be given one (ffmpeg).",
    "too short": "Leave it out; hardly anything is in it.",
    "silent": "Leave it out; a silent clip teaches its label to silence.",
    "clipped": "Usable, but distorted; compare the scores of clipped and clean clips.",
    "beyond full scale": "Usable, nothing is cut off; but integers stored as floats want dividing by their full scale.",
    "channels cancel": "One channel is the other turned over: their mean, which is heard, loses most. Keep one.",
    "constant offset": "Usable, but the microphone or its cable is faulty; a filter below 20 Hz takes it out.",
    "quiet": "Usable, but check the level: 24-bit samples written into 32-bit files, say, are 48 dB too quiet.",
    "stereo": "It is averaged to mono unless a notebook says otherwise.",
    "low sample rate": "Nothing above half its sample rate is there; a model may learn the rate, not the sound.",
    "very long": "Features see only its beginning; think of cutting it into several clips of one group.",
    "duplicate content": "Keep one of them, and never one in training and one in test.",
    "converted": "Usable; where there is no ffmpeg it is not: convert it, for instance with ffmpeg -i OLD NEW.wav",
    "open-ended header": "Nothing tells its length: a cut could not be noticed, part may go unheard; save it anew.",
}


def audit(manifest: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """As `examine`; CourseError, with the reasons counted, where no clip can be used."""
    usable, quarantine, remarks = examine(manifest)
    if usable.empty:
        first = quarantine.drop_duplicates("reason").set_index("reason")
        reasons = [
            f"{n} {reason}, such as {first['path'][reason]}"
            for reason, n in quarantine["reason"].value_counts().items()
        ]
        raise CourseError(
            f"None of the {len(manifest)} clips can be used ({'; '.join(reasons)}). What to do about each is listed by "
            "`python -m helpers audit`, with --dataset and --data-dir."
        )
    return usable, quarantine, remarks


def examine(manifest: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split a manifest into usable clips and a quarantine table with a reason per clip; give also remarks.

    usable: rows of the manifest with `duration` filled, and `sr` (Hz), `channels`, `peak_db` and `rms_db` (dB of full
    scale). quarantine: `clip_id`, `path`, `reason`, `detail`, `advice` of every other clip. remarks: the same columns
    for what is usable but odd. A file is read again only if its size or times have changed.
    """
    manifest = manifest.reset_index(drop=True)
    facts = _facts(manifest)
    # A file that is missing is missing, labelled or not; otherwise a clip without a label is of no use as it is.
    no_label = manifest["label"].isna() & (facts["reason"] != "missing")
    facts.loc[no_label, ["reason", "detail"]] = ["no label", "the dataset gives none"]
    short = facts["reason"].isna() & (facts["duration"] < _MIN_SECONDS)
    facts.loc[short, "reason"] = "too short"
    facts.loc[short, "detail"] = facts["duration"].map("{:.3f} s".format)
    with np.errstate(divide="ignore"):
        facts["peak_db"], facts["rms_db"] = 20 * np.log10(facts["peak"]), 20 * np.log10(facts["rms"])
    silent = facts["reason"].isna() & (facts["peak_db"] < audio.SILENT_DB)
    facts.loc[silent, "reason"] = "silent"
    facts.loc[silent, "detail"] = facts["peak_db"].map("peak {:.0f} dB".format) + facts.apply(_why_silent, axis=1)

    good = facts["reason"].isna()
    known = facts[["duration", "sr", "channels", "peak_db", "rms_db"]]
    usable = manifest.assign(**known)[good].reset_index(drop=True)
    usable.attrs = dict(manifest.attrs)
    told = facts[["reason", "detail"]].assign(advice=facts["reason"].map(ADVICE))
    quarantine = manifest[["clip_id", "path"]].assign(**told)[~good].reset_index(drop=True)
    return usable, quarantine, _remarks(usable, facts[good])


def _why_silent(facts: pd.Series) -> str:
    what = ", ".join(f"{word}: {detail}" for word, detail in oddities(facts))
    return f" ({what})" if what else ""


def oddities(facts: dict) -> list[tuple[str, str]]:
    """What is odd about the samples of a recording (`audio.probe`), as words of the vocabulary with a detail."""
    found = []
    if facts["clipped"] > _CLIPPED_SHARE:
        found.append(("clipped", f"{facts['clipped']:.1%} of the samples at full scale"))
    if facts["highest"] > _BEYOND:
        found.append(("beyond full scale", f"samples up to {facts['highest']:,.1f}, full scale is 1"))
    if facts["mixdown"] < _CANCEL:
        found.append(("channels cancel", f"their mean has {facts['mixdown']:.1%} of their level"))
    if abs(facts["offset"]) > _OFFSET:
        found.append(("constant offset", f"{facts['offset']:+.3f} of full scale"))
    if 10 ** (audio.SILENT_DB / 20) <= facts["peak"] < _QUIET:
        found.append(("quiet", f"peak {20 * np.log10(facts['peak']):.0f} dB"))
    if facts["converted"]:
        found.append(("converted", f"{facts['converted']}, read through ffmpeg"))
    if facts["open_ended"]:
        found.append(("open-ended header", f"{facts['duration']:.1f} s decoded"))
    return found


def _remarks(usable: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    rows, first_of = [], {}
    clips = zip(usable["clip_id"], usable["path"], facts.to_dict("records"), strict=True)
    for position, (clip_id, path, fact) in enumerate(clips):
        found = oddities(fact)
        if fact["channels"] > 1:
            found.append(("stereo", f"{fact['channels']} channels"))
        if fact["sr"] < _LOW_SR:
            found.append(("low sample rate", f"{fact['sr']:,} Hz"))
        if fact["duration"] > _LONG_SECONDS:
            found.append(("very long", f"{fact['duration']:.1f} s"))
        if (first := first_of.setdefault(fact["digest"], position)) != position:
            found.append(("duplicate content", _same_as(usable.iloc[first], usable.iloc[position])))
        rows += [(clip_id, path, reason, detail, ADVICE[reason]) for reason, detail in found]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _same_as(first: pd.Series, clip: pd.Series) -> str:
    known = [name for name in ("label", "split", "fold") if pd.notna(first[name]) and pd.notna(clip[name])]
    differ = [f"{name} {first[name]}" for name in known if first[name] != clip[name]]
    return f"same samples as {first['clip_id']}" + (f", which has {' and '.join(differ)}" if differ else "")


def _facts(manifest: pd.DataFrame) -> pd.DataFrame:
    """Give one row of facts per row of the manifest, from the cache where a file is unchanged."""
    paths = list(dict.fromkeys(manifest["path"]))
    # One file per set of folders, so that audits of different datasets do not overwrite each other.
    name = base.digest(sorted({os.path.dirname(path) for path in paths}))
    store = base.CACHE / "audit" / f"{manifest.attrs.get('dataset', 'clips')}-{name}.parquet"
    known = _read_store(store)
    todo = [path for path in paths if known.get(path, {}).get("signature") != _signature(path)]
    bar = progress(total=len(todo), desc="audit", disable=not todo)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding happens outside the interpreter's lock
        for start in range(0, len(todo), _CHUNK):
            try:
                for entry in pool.map(_examined, todo[start : start + _CHUNK]):
                    known[entry["path"]] = entry
                    bar.update()
            finally:
                write_parquet(store, pd.DataFrame(known.values()))
    columns = ["path", "signature", *audio.NOTHING]
    table = pd.DataFrame([known[path] for path in manifest["path"]], columns=columns)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    return table


def _examined(path: str) -> dict:
    # The signature is taken first: a file that changes while it is read will be read again next time.
    return {"path": path, "signature": _signature(path), **audio.probe(path)}


@functools.cache
def _judge() -> str:
    """Fingerprint of the code that judges, so that no old verdict is reused."""
    code = [file.read_text("utf-8") for file in sorted(Path(audio.__file__).parent.glob("*.py"))]
    return base.digest(code, soundfile.__libsndfile_version__)


def _signature(path: str) -> str:
    judge = f"{_judge()} {audio.convert.ffmpeg() or 'no ffmpeg'}"
    try:
        state = os.stat(path)
    except OSError:
        return f"{judge} missing"
    return f"{judge} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _read_store(store: Path) -> dict[str, dict]:
    try:
        return {entry["path"]: entry for entry in pd.read_parquet(store).to_dict("records")}
    except (OSError, ValueError, KeyError):
        return {}  # no cache, or one that cannot be read: it is only a cache
