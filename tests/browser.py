"""A real browser without a window, driven over its own debugging protocol: open a page, ask it, see what it fetches."""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tornado.websocket import websocket_connect

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run")


def ask(page: Path, questions: list[str]) -> tuple[list, list[str]]:
    """Open a file and evaluate JavaScript in it, one after the other: the answers, and every address it asked for."""
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            [BROWSER, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile) / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                address = next(one["webSocketDebuggerUrl"] for one in json.load(answer) if one["type"] == "page")
            return asyncio.run(_talk(address, page.as_uri(), questions))
        finally:
            process.kill()
            process.wait()
            time.sleep(0.5)  # its children let go of the profile


def _port(file: Path) -> str:
    for _ in range(300):
        with contextlib.suppress(OSError, IndexError):
            return file.read_text().splitlines()[0]
        time.sleep(0.1)
    raise TimeoutError("The browser did not start.")


async def _talk(address: str, page: str, questions: list[str]) -> tuple[list, list[str]]:
    socket, numbers, asked = await websocket_connect(address, max_message_size=2**26), itertools.count(1), []

    async def call(method: str, **params: object) -> dict:
        number = next(numbers)
        await socket.write_message(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(await asyncio.wait_for(socket.read_message(), 60))
            if message.get("method") == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                return message["result"]

    await call("Network.enable")
    await call("Page.enable")
    await call("Page.navigate", url=page)
    answers = []
    for question in questions:
        result = await call("Runtime.evaluate", expression=question, awaitPromise=True, returnByValue=True)
        answers.append(result["result"].get("value", result.get("exceptionDetails")))
    socket.close()
    return answers, asked
