"""Progress bars, on where a person watches and off where a notebook's outputs are kept."""

from __future__ import annotations

import os
import sys

from tqdm.auto import tqdm


def in_batch() -> bool:
    """Whether notebooks run unattended (COURSE_BATCH=1): then no bars and no audio players go into their outputs."""
    return os.environ.get("COURSE_BATCH") == "1"


def progress(iterable=None, **options) -> tqdm:
    """Return a tqdm bar (same arguments), silent in batch runs. Used by everything that takes long."""
    # Where nobody watches (a log, a pipe), a line now and then is enough.
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    silent = options.pop("disable", False) or in_batch()
    return tqdm(iterable, disable=silent, mininterval=0.2 if watched else 30, **options)
