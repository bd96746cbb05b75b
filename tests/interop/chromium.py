"""A real browser, without a window: it opens a page of ours, and the page says what became of it.

A page ends with `report(value)`, which posts the value as JSON to `/result`; see `PAGE`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import EVLOOP_ONCE, EventBase
from evsvc.http import ClientResponse, HttpClient, HttpServer, ServerRequest
from evsvc.http.websocket import Opening, WebSocketOptions, connect

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

    def watch(self, base: EventBase, url: str, done: str) -> tuple[Any, bytes]:
        """Open a page as it is, and wait until the expression `done` is true in it.

        Returns its value, and a picture of the page (PNG).
        """
        with HttpClient(base) as client:
            tools = DevTools(base, client, self._profile, done)
            flags = ("--remote-debugging-port=0", "--window-size=1280,1000")
            try:
                self._open(base, url, tools.is_done, *flags)
            finally:
                tools.close()
        return tools.value, tools.picture

    def _open(self, base: EventBase, url: str, is_done: Callable[[], object], *flags: str) -> None:
        command = [self._program, *FLAGS, *flags, f"--user-data-dir={self._profile}", url]
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


class DevTools:
    """Asks the one page of a browser over its debugging protocol; `is_done` is asked again and
    again, and begins what can be begun."""

    def __init__(self, base: EventBase, client: HttpClient, profile: Path, done: str) -> None:
        self.value: Any = None
        self.picture = b""
        self._base = base
        self._client = client
        self._port_file = profile / "DevToolsActivePort"
        self._done = done
        self._opening: Opening | None = None
        self._is_asking = False
        self._asked = 0
        self._answered = 0

    def is_done(self) -> bool:
        """Whether value and picture are there."""
        if not self._is_asking and self._port_file.exists():
            port = self._port_file.read_text().split("\n")[0]
            if port:
                self._is_asking = True
                self._client.get(f"http://127.0.0.1:{port}/json/list", self._on_list)
        elif self._opening is not None and self._opening.session is not None and self._is_next:
            self._ask("Runtime.evaluate", expression=self._done, returnByValue=True)
        return bool(self.picture)

    @property
    def _is_next(self) -> bool:
        """Whether to ask for the value: one question at a time."""
        return not self.value and self._asked == self._answered

    def close(self) -> None:
        if self._opening is not None:
            if self._opening.session is not None:
                self._opening.session.close()
            self._opening.close()

    def _on_list(self, response: ClientResponse, arg: object) -> None:
        pages = [each for each in response.json() if each["type"] == "page"]
        options = WebSocketOptions(max_message_bytes=16 << 20)
        url = pages[0]["webSocketDebuggerUrl"]
        self._opening = connect(self._base, url, self._on_answer, lambda *_: None, None, options)

    def _ask(self, method: str, **parameters: Any) -> None:
        assert self._opening is not None
        assert self._opening.session is not None
        self._asked += 1
        message = {"id": self._asked, "method": method, "params": parameters}
        self._opening.session.send_text(json.dumps(message))

    def _on_answer(self, ws: object, kind: object, text: Any, arg: object) -> None:
        self._answered += 1
        result = json.loads(text)["result"]
        if "data" in result:
            self.picture = b64decode(result["data"])
        elif not self.value and result["result"].get("value"):
            self.value = result["result"]["value"]
            self._ask("Page.captureScreenshot", format="png")


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
