"""One process at a time, on every system."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the block runs; wait for whoever holds it, and say so once.

    Parameters
    ----------
    path : path
        Lock file, in an existing folder. It stays afterwards, empty; only the lock on it counts.
    what : str
        What the other process is doing, for the message.

    Notes
    -----
    The system itself drops the lock when its holder dies, so there are no stale locks to detect. Used by
    `helpers.cache`.
    """
    with open(Path(path), "ab") as file:
        waiting = False
        while not _acquire(file):
            if not waiting:
                print(f"another process is {what}; waiting for it")
            waiting = True
            time.sleep(0.1)
        yield


def _acquire(file) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a network drive that knows no locks: better to go on than to refuse
    return True
