"""A real browser, without a window: it opens a page of ours, and the page says what became of it.

A page ends with `report(value)`, which posts the value as JSON to `/result`; see `PAGE`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import EVLOOP_ONCE, EventBase
from evsvc.http import HttpServer, ServerRequest

# It starts slowly on a busy machine, and all of it once more where it finds no profile.
PATIENCE_S = 90.0

# Nothing of it may leave the machine: no updates, no lists, no look-ups.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

PAGE = """<!DOCTYPE html>
<title>test</title>
<script>
const report = value => fetch("/result", {method: "POST", body: JSON.stringify(value)});
window.onerror = (message, source, line) => report({error: `${line}: ${message}`});
window.onunhandledrejection = event => report({error: String(event.reason)});
%s
</script>
"""


class Browser:
    """Opens pages of a server on `base`, with the real clock; made by the fixture `browser`."""

    def __init__(self, program: str, profile: Path) -> None:
        self._program = program
        self._profile = profile

    def run(self, base: EventBase, server: HttpServer, script: str) -> Any:
        """Open a page with a script in it, and return what it reports.

        server: it gets the callbacks `/page` and `/result`; the rest of it is the test's.
        """
        results: list[Any] = []
        bound = server.bind_socket("127.0.0.1", 0)
        server.set_cb("/page", _send_page, PAGE % script)
        server.set_cb("/result", _take_result, results, methods=("POST",))
        server.set_cb("/favicon.ico", lambda got, arg: got.send_reply(204))
        try:
            self._open(base, f"http://127.0.0.1:{bound.port}/page", lambda: results)
        finally:
            for path in ("/page", "/result", "/favicon.ico"):
                server.del_cb(path)
            bound.close()
        return results[0]

    def _open(self, base: EventBase, url: str, is_done: Callable[[], object]) -> None:
        command = [self._program, *FLAGS, f"--user-data-dir={self._profile}", url]
        log = self._profile.with_suffix(".log")
        # A session of its own: it is a family of processes, and goes as one.
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as process,
            base.timer(lambda fd, what, arg: None) as tick,
        ):
            try:
                until = base.now + PATIENCE_S
                while not is_done():
                    if process.poll() is not None or base.now > until:
                        text = log.read_text(errors="replace")[-2000:]
                        pytest.fail(f"the page has reported nothing; chromium says: {text}")
                    tick.add(0.5)
                    base.loop(EVLOOP_ONCE)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def browser(program: Callable[[str], str], tmp_path: Path) -> Browser:
    """A Chromium with a fresh profile."""
    return Browser(program("chromium"), tmp_path / "profile")


def _send_page(request: ServerRequest, page: str) -> None:
    request.output_headers.add("Content-Type", "text/html; charset=utf-8")
    request.send_reply(200, None, page.encode())


def _take_result(request: ServerRequest, results: list[Any]) -> None:
    results.append(json.loads(bytes(request.input_buffer)))
    request.send_reply(204)
