"""Damaged recordings without end: each is usable, or set aside with a reason, and none takes the process with it.

    python tests/mutate.py --n 5000 --seed 0

makes recordings of all formats (through ffmpeg, too, where it is installed), damages them one by one (cut, bits turned
over, numbers of the header replaced, a piece lost, doubled or zeroed), and lets audit, features and `predict` read
each. What is done to a recording depends on its number and the seed only. `make test` does it with a few.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import json
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import soundfile as sf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers import audio, base, data, serving
from helpers.audio import convert
from helpers.base import AudioError, CourseError
from helpers.data.audit import ADVICE
from helpers.features import FeatureSpec, cache

SPEC = FeatureSpec("logmel", sr=8000, seconds=0.5, n_fft=256, hop_length=128, n_mels=16)
CLASSES = ["a", "b"]
SECONDS = 20  # a file of a second that takes longer is a fault
BY_SOUNDFILE = {
    "wav": ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "MS_ADPCM", "IMA_ADPCM", "GSM610"],
    "aiff": ["PCM_16", "FLOAT"],
    "au": ["PCM_16", "ALAW"],
    "caf": ["PCM_16", "FLOAT"],
    "flac": ["PCM_16", "PCM_24"],
    "mp3": ["MPEG_LAYER_III"],
    "ogg": ["VORBIS"],
    "opus": ["OPUS"],
    "rf64": ["PCM_16"],
    "sf": ["PCM_16"],
    "voc": ["PCM_16", "ULAW"],
    "w64": ["PCM_16"],
}
BY_FFMPEG = {"m4a": "", "webm": "-c:a libopus", "wma": "", "aac": "", "oga": "-c:a flac", "mp2": "", "ac3": ""}


class Listener:
    """Stands for a model."""

    classes_ = np.array(CLASSES)

    def predict_proba(self, X):
        return np.tile([0.25, 0.75], (len(X), 1))


def sources(folder: Path, through_ffmpeg: bool) -> list[Path]:
    """A second of sound in every format, mono and stereo in turn."""
    rng, made = np.random.default_rng(0), []
    for suffix, subtypes in BY_SOUNDFILE.items():
        for subtype in subtypes:
            sr, channels = (8000, 1) if subtype == "GSM610" else (16000, 1 + len(made) % 2)
            path = folder / f"{subtype.lower()}.{suffix}"
            kind = {"sf": "IRCAM", "opus": "OGG"}.get(suffix)
            sf.write(path, 0.1 * rng.standard_normal((sr, channels)), sr, subtype=subtype, format=kind)
            made.append(path)
    for suffix, how in BY_FFMPEG.items() if through_ffmpeg else ():
        path = folder / f"ffmpeg.{suffix}"
        command = ["ffmpeg", "-v", "error", "-i", folder / "pcm_16.wav", *how.split(), path]
        subprocess.run(command, check=True)
        made.append(path)
    return made


def damaged(content: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """One damage, and its name."""
    how = ["cut", "bits", "header", "number", "lost", "doubled", "zeroed"][rng.integers(7)]
    at, size = int(rng.integers(len(content))), int(rng.integers(1, 2000))
    if how == "cut":
        return content[:at], how
    if how in ("lost", "doubled", "zeroed"):
        piece = {"lost": b"", "doubled": content[at : at + size] * 2, "zeroed": bytes(size)}[how]
        return content[:at] + piece + content[at + size :], how
    changed = bytearray(content)
    if how == "number":  # four bytes of the header, such as a length or a rate
        at = int(rng.integers(min(200, len(content) - 4)))
        numbers = [0, 1, 2**31 - 1, 2**32 - 1, int(rng.integers(2**32)), len(content)]
        changed[at : at + 4] = numbers[rng.integers(6)].to_bytes(4, ("little", "big")[rng.integers(2)])
    else:
        for _ in range(int(rng.integers(1, 9))):
            place = int(rng.integers(min(200, len(content)))) if how == "header" else int(rng.integers(len(content)))
            changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed), how


def make(folder: Path, numbers: range, seed: int, through_ffmpeg: bool) -> dict[str, str]:
    """Write damaged recordings; gives what was done to each."""
    (folder / "sound").mkdir(parents=True)
    (folder / "whole").mkdir()
    whole, done = sources(folder / "whole", through_ffmpeg), {}
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        source = whole[number % len(whole)]
        content, how = damaged(source.read_bytes(), rng)
        name = f"{number:05d}{source.suffix}"
        (folder / "sound" / name).write_bytes(content)
        done[name] = f"{source.name} {how}"
    return done


class TooLong(BaseException):
    """No error that the code under test could take for one of its own."""


def _too_long(*_: object) -> None:
    raise TooLong(f"more than {SECONDS} s for one file")


def check(folder: Path) -> collections.Counter:
    """Let audit, features and `predict` read all recordings of a folder; gives how many ended how.

    AssertionError names what is neither usable nor set aside with a reason, or is judged differently by two of them.
    """
    signal.signal(signal.SIGALRM, _too_long)
    paths = sorted((folder / "sound").iterdir())
    facts = {}
    for path in paths:
        signal.alarm(SECONDS)
        facts[path.name] = fact = audio.probe(path)
        assert (fact["reason"] is None) != (fact["reason"] in ADVICE and len(str(fact["detail"])) > 0), (path, fact)
        signal.alarm(SECONDS)
        try:
            y, sr = audio.read(path, SPEC.sr)
            values = SPEC.extract(y, sr) if len(y) else None
            assert sr == SPEC.sr and np.isfinite(y).all() and np.abs(y).max(initial=0) <= 2e6, path
            assert fact["reason"] is None and np.isfinite(fact["duration"]), (path, fact)
            assert values is None or np.isfinite(values).all(), path
        except AudioError as error:
            assert fact["reason"] == error.reason, (path, fact, error)
    signal.alarm(0)
    names = [path.name for path in paths]
    manifest = pd.DataFrame({"clip_id": names, "path": [str(path) for path in paths], "label": "x"})
    manifest = manifest.assign(split=None, fold=None, group=None, duration=np.nan)
    usable, quarantine, _ = data.examine(manifest)
    assert sorted([*usable["clip_id"], *quarantine["clip_id"]]) == sorted(names)
    assert quarantine["advice"].str.len().gt(10).all()
    if len(usable):
        X = cache.of(usable, SPEC, cache_dir=folder / "cache", n_jobs=1)
        assert np.isfinite(X).all()
    params = {"feature": asdict(SPEC), "scaled": False}
    run = SimpleNamespace(path=folder, params=params, classes=CLASSES, model=Listener)
    predictions, files = serving.predict(run, folder / "sound")
    assert files["file"].tolist() == names and np.isfinite(predictions[["start", "end", "p_a", "p_b"]]).all(axis=None)
    for file in files.itertuples():
        assert file.windows or file.flags, file
        assert ("unreadable" in file.flags) == (facts[file.file]["reason"] is not None), (file, facts[file.file])
    return collections.Counter(str(fact["reason"] or "usable") for fact in facts.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        faulthandler.enable()
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(base, "CACHE", Path(folder) / "cache"):
            done = make(Path(folder), range(*options.part), options.seed, bool(convert.ffmpeg()))
            try:
                print(json.dumps(check(Path(folder))), flush=True)
            except (AssertionError, CourseError, TooLong):
                print(done, file=sys.stderr)
                raise
        return
    total, size, failed = collections.Counter(), 250, []
    for start in range(0, options.n, size):  # in processes of their own, which may die
        part = ["--part", str(start), str(min(start + size, options.n)), "--seed", str(options.seed)]
        command = [sys.executable, __file__, *part]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100 * SECONDS)
        if done.returncode:
            failed.append(start)
            print(f"from {start}: exit status {done.returncode}\n{done.stderr[-3000:]}", flush=True)
        else:
            total.update(json.loads(done.stdout.strip().splitlines()[-1]))
    there = "with" if convert.ffmpeg() else "without"
    print(f"{total.total()} recordings, {there} ffmpeg: {dict(total)}; failed from: {failed or 'nowhere'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
