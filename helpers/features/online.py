"""Asking whether something can be fetched, without waiting for minutes."""

from __future__ import annotations

import queue
import threading
import urllib.request

SECONDS = 15


def ask(url: str) -> None:
    """Ask for a file's size only, and wait for the answer no longer than 15 seconds.

    In a thread of its own, as a timeout of a socket counts anew for each of a server's many addresses, and does not
    count while its name is looked up: behind a firewall that drops packets that makes minutes.

    Raises
    ------
    OSError
        No answer, or a refusal; whatever `urllib` raises is one.

    Notes
    -----
    Used by `helpers.imagenet` and `helpers.yamnet`.
    """
    answers = queue.Queue()

    def request():
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=SECONDS):
                answers.put(None)
        except Exception as problem:
            answers.put(problem)

    threading.Thread(target=request, daemon=True).start()
    try:
        problem = answers.get(timeout=SECONDS)
    except queue.Empty:
        problem = TimeoutError(f"no answer within {SECONDS} s")
    if problem:
        raise problem
