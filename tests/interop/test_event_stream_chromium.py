"""Chromium's EventSource, as the client that event streams are made for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evsvc.core import EV_TIMEOUT, EventBase
from evsvc.http import (
    CompressionOptions,
    EventStream,
    EventStreamOptions,
    HttpServer,
    ServerRequest,
)
from evsvc.http.server.compression import DEFAULT_TYPES
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


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_browser_unpacks_replies_and_events_as_they_come(
    base: EventBase, browser: Browser, coding: str
) -> None:
    """Of a stream each event has to come through while the stream is open."""
    script = """
    async function read() {
      const reply = await fetch("/page.txt");
      const told = [reply.headers.get("content-encoding"), (await reply.text()).length];
      const source = new EventSource("/events");
      source.onmessage = event => {
        told.push(event.data);
        if (told.length == 3) fetch("/next");
        if (told.length == 4) { source.close(); report(told); }
      };
    }
    read();
    """
    streams: list[EventStream] = []

    def serve(got: ServerRequest, arg: object) -> None:
        streams.append(got.start_event_stream())
        streams[0].send("first")

    def send_next(got: ServerRequest, arg: object) -> None:
        streams[0].send("second")
        got.send_reply(204)

    with HttpServer(base) as server:
        types = (*DEFAULT_TYPES, "text/event-stream")
        server.set_compression(CompressionOptions(codings=(coding,), content_types=types))
        server.set_cb("/page.txt", lambda got, arg: got.send_reply(200, None, b"x" * 10_000))
        server.set_cb("/events", serve)
        server.set_cb("/next", send_next)
        told = browser.run(base, server, script)
    assert told == [coding, 10_000, "first", "second"]
