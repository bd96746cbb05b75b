"""Chromium's EventSource, as the client that event streams are made for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evsvc.core import EV_TIMEOUT, EventBase
from evsvc.http import EventStreamOptions, HttpServer, ServerRequest
from tests.interop.chromium import Browser, browser

__all__ = ["browser"]  # the fixture

pytestmark = pytest.mark.interop

SCRIPT = """
const told = [];
const source = new EventSource("/events");
const note = event => told.push([event.type, event.data, event.lastEventId]);
source.onmessage = note;
source.addEventListener("tick", note);
source.addEventListener("stop", event => { note(event); source.close(); report(told); });
source.onerror = () => told.push(["error", source.readyState]);
"""


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase() as made:
        yield made


def test_events_come_and_a_lost_stream_is_taken_up_again(base: EventBase, browser: Browser) -> None:
    """The first stream ends, the second breaks off, and the server stops within the third."""
    had: list[str | None] = []

    def serve(got: ServerRequest, arg: object) -> None:
        stream = got.start_event_stream(EventStreamOptions(retry_ms=10, heartbeat_s=0.05))
        had.append(stream.last_event_id)
        if len(had) == 1:
            stream.send("one\r\n two\n\nh\xe9llo \U0001f40c\n", id="first \u20ac")
            stream.comment("nobody sees this")
            stream.send("", event="tick")
            stream.close()
        elif len(had) == 2:
            stream.send("x" * 100_000, event="tick", id="2")
            base.once(-1, EV_TIMEOUT, lambda fd, what, arg: got.connection.close(), timeout=0.2)
        else:
            stream.shutdown(1001)

    with HttpServer(base) as server:
        server.set_cb("/events", serve)
        told = browser.run(base, server, SCRIPT)
    assert told == [
        ["message", "one\n two\n\nh\xe9llo \U0001f40c\n", "first \u20ac"],
        ["tick", "", "first \u20ac"],
        ["error", 0],
        ["tick", "x" * 100_000, "2"],
        ["error", 0],
        ["stop", "", "2"],
    ]
    assert had == [None, "first \u20ac", "2"]
