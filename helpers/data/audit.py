"""The audit: read every recording once, set aside what cannot be used, and say why, row by row."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from helpers.base import CACHE, write_parquet
from helpers.base import progress as progress_bar
from helpers.probe import NOTHING, probe

COLUMNS = ["clip_id", "path", "reason", "detail", "advice"]

# A 16-bit recording moves in steps of -90 dB; what stays below -80 dB holds three of them.
SILENT_DB = -80.0
LOW_SR = 16_000
LONG_SECONDS = 30.0
CLIPPED_SHARE = 1e-3

# Raise it when `probe` judges differently, so that no old verdict is reused.
_VERSION = 2
_CHUNK = 512

ADVICE = {
    "missing": "Download or unpack the dataset again, or correct the path in its list.",
    "no label": "Give it a label, or use it as unlabelled data only.",
    "empty": "Download or record it again.",
    "header only": "The recording was never written; download or record it again.",
    "truncated": "The end is lost; download it again, or cut it on purpose and save it anew.",
    "not audio": "Remove it from the list, or convert it to WAV or FLAC (for instance with ffmpeg).",
    "too short": "Leave it out, or lower min_seconds if such clips matter.",
    "silent": "Leave it out; a silent clip teaches its label to silence.",
    "clipped": "Usable, but distorted; compare the scores of clipped and clean clips.",
    "stereo": "It is averaged to mono unless a notebook says otherwise.",
    "low sample rate": "Nothing above half its sample rate is there; a model may learn the rate, not the sound.",
    "very long": "Features see only its beginning; think of cutting it into several clips of one group.",
    "duplicate content": "Keep one of them, and never one in training and one in test.",
    "open-ended header": "Nothing tells its length: a cut could not be noticed, part may go unheard; save it anew.",
}


def audit(
    manifest: pd.DataFrame,
    min_seconds: float = 0.1,
    check_samples: bool = True,
    n_jobs: int = 2,
    progress: bool = True,
    cache_dir: str | os.PathLike = CACHE,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split a manifest into usable clips and a quarantine table with a reason per clip.

    Parameters
    ----------
    manifest : pandas.DataFrame
    min_seconds : float
        Clips shorter than this are set aside.
    check_samples : bool
        Decode every file from end to end (see `helpers.probe.probe` for what is missed without).
    n_jobs : int
        Threads. Decoding happens outside the interpreter's lock, so threads serve as well as processes.
    progress : bool
        Show a progress bar for what is not cached yet.
    cache_dir : path
        Where verdicts are kept. A file is read again only if its size, time of modification or time of change differ;
        an audit that was interrupted goes on where it stopped.

    Returns
    -------
    usable : pandas.DataFrame
        Rows of the manifest with `duration` filled, and `sr` (Hz), `channels`, `peak_db` and `rms_db` (dB of full
        scale; NaN without `check_samples`).
    quarantine : pandas.DataFrame
        One row per clip set aside: `clip_id`, `path`, `reason`, `detail`, `advice`. Every clip of the manifest is
        either here or in `usable`.
    remarks : pandas.DataFrame
        The same columns for what is usable but odd; a clip may have several rows, or none.

    Notes
    -----
    Used by notebooks 01 and 02 and, before features are made, by every other.
    """
    facts = _facts(manifest, check_samples, n_jobs, progress, Path(cache_dir))
    # A file that is missing is missing, labelled or not; otherwise a clip without a label is of no use as it is.
    no_label = manifest["label"].isna().to_numpy() & (facts["reason"] != "missing")
    facts.loc[no_label, ["reason", "detail"]] = ["no label", "the dataset gives none"]
    fine = facts["reason"].isna()
    short = fine & (facts["duration"] < min_seconds)
    facts.loc[short, "reason"] = "too short"
    facts.loc[short, "detail"] = [f"{seconds:.3f} s" for seconds in facts.loc[short, "duration"]]
    with np.errstate(divide="ignore"):
        facts["peak_db"] = 20 * np.log10(facts["peak"])
        facts["rms_db"] = 20 * np.log10(facts["rms"])
    silent = facts["reason"].isna() & (facts["peak_db"] < SILENT_DB)
    facts.loc[silent, "reason"] = "silent"
    facts.loc[silent, "detail"] = [f"peak {peak:.0f} dB" for peak in facts.loc[silent, "peak_db"]]

    good = facts["reason"].isna().to_numpy()
    usable = manifest[good].copy()
    for column in ("duration", "sr", "channels", "peak_db", "rms_db"):
        usable[column] = facts.loc[good, column].to_numpy()
    usable = usable.reset_index(drop=True)
    usable.attrs = dict(manifest.attrs)
    quarantine = manifest.loc[~good, ["clip_id", "path"]].assign(
        reason=facts.loc[~good, "reason"].to_numpy(), detail=facts.loc[~good, "detail"].to_numpy()
    )
    quarantine["advice"] = quarantine["reason"].map(ADVICE)
    return usable, quarantine.reset_index(drop=True)[COLUMNS], _remarks(usable, facts[good])


def _remarks(usable: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    rows = []
    first_of: dict[str, int] = {}
    clips = zip(usable["clip_id"], usable["path"], facts.itertuples(index=False), strict=True)
    for position, (clip_id, path, fact) in enumerate(clips):
        found = []
        if fact.clipped > CLIPPED_SHARE:
            found.append(("clipped", f"{fact.clipped:.1%} of the samples at full scale"))
        if fact.channels > 1:
            found.append(("stereo", f"{fact.channels} channels"))
        if fact.sr < LOW_SR:
            found.append(("low sample rate", f"{fact.sr:,} Hz"))
        if fact.duration > LONG_SECONDS:
            found.append(("very long", f"{fact.duration:.1f} s"))
        if fact.open_ended:
            found.append(("open-ended header", f"{fact.duration:.1f} s decoded"))
        if fact.digest and (first := first_of.setdefault(fact.digest, position)) != position:
            found.append(("duplicate content", _same_as(usable.iloc[first], usable.iloc[position])))
        rows += [(clip_id, path, reason, detail, ADVICE[reason]) for reason, detail in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def _same_as(first: pd.Series, clip: pd.Series) -> str:
    differ = [f"{name} {first[name]}" for name in ("label", "split", "fold") if _differ(first[name], clip[name])]
    return f"same samples as {first['clip_id']}" + (f", which has {' and '.join(differ)}" if differ else "")


def _differ(one: object, other: object) -> bool:
    return not (pd.isna(one) or pd.isna(other)) and one != other


def _facts(manifest: pd.DataFrame, check_samples: bool, n_jobs: int, progress: bool, cache_dir: Path) -> pd.DataFrame:
    """Give one row of facts per row of the manifest, from the cache where a file is unchanged."""
    paths = list(dict.fromkeys(manifest["path"]))
    # One file per set of folders, so that audits of different datasets do not overwrite each other.
    folders = sorted({os.path.dirname(path) for path in paths})
    name = hashlib.blake2b("\n".join(folders).encode(), digest_size=8).hexdigest()
    store = cache_dir / "audit" / f"{manifest.attrs.get('dataset', 'clips')}-{name}.parquet"
    known = _read_store(store)
    results: dict[str, dict] = {}
    for path in paths:
        entry = known.get(path)
        if entry and entry["signature"] == _signature(path) and (entry["samples_checked"] or not check_samples):
            results[path] = entry
    todo = [path for path in paths if path not in results]
    if todo:
        examined = _examine(todo, check_samples, n_jobs, progress)
        try:
            for done, entry in enumerate(examined, 1):
                results[entry["path"]] = known[entry["path"]] = entry
                if done % (8 * _CHUNK) == 0:
                    write_parquet(store, pd.DataFrame(known.values()))
        finally:
            write_parquet(store, pd.DataFrame(known.values()))
    columns = ["path", "signature", "samples_checked", *NOTHING]
    table = pd.DataFrame([results[path] for path in manifest["path"]], index=manifest.index, columns=columns)
    table["reason"] = table["reason"].astype(object).where(table["reason"].notna(), None)
    return table


def _examine(paths: list[str], check_samples: bool, n_jobs: int, progress: bool) -> Iterable[dict]:
    def one(path: str) -> dict:
        # The signature is taken first: a file that changes while it is read will be read again next time.
        signature = _signature(path)
        facts = probe(path, check_samples)
        return {"path": path, "signature": signature, "samples_checked": check_samples, **facts}

    bar = progress_bar(total=len(paths), desc="audit", disable=not progress)
    with ThreadPoolExecutor(max(1, n_jobs)) as pool, bar:
        for start in range(0, len(paths), _CHUNK):
            for entry in pool.map(one, paths[start : start + _CHUNK]):
                bar.update()
                yield entry


def _signature(path: str) -> str:
    decoder = f"{_VERSION} {soundfile.__libsndfile_version__}"
    try:
        state = os.stat(path)
    except OSError:
        return f"{decoder} missing"
    return f"{decoder} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def _read_store(store: Path) -> dict[str, dict]:
    try:
        return {entry["path"]: entry for entry in pd.read_parquet(store).to_dict("records")}
    except (FileNotFoundError, OSError, ValueError, KeyError):
        # No cache, or one that cannot be read: it is only a cache.
        return {}
