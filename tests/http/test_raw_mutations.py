"""Raw requests, broken at random: the server answers in HTTP, or not at all, and lives on."""

from __future__ import annotations

import os
import socket

import h11
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from evsvc.core import EVLOOP_NONBLOCK, EventBase, FakeClock
from evsvc.http import HttpServer, ServerOptions
from evsvc.http.wire.limits import ReaderLimits
from tests.http.test_law import mutated, mutations
from tests.http.test_raw_requests import LIMITS, METHODS, ROWS, answer

pytestmark = pytest.mark.no_cover

WHOLE = [row.data for row in ROWS if b"@ETAG@" not in row.data]
cuts = st.lists(st.integers(0, 600), max_size=3)


def replies_of(server: HttpServer, port: int, data: bytes, edges: list[int]) -> tuple[bytes, bool]:
    """What comes back for data that is sent in these pieces; whether the connection has ended."""
    base = server.base
    with socket.create_connection(("127.0.0.1", port)) as sock:
        for start, end in zip([0, *edges], [*edges, len(data)], strict=True):
            try:
                sock.sendall(data[start:end])
            except ConnectionError:  # the client asked for the end, and sends on
                break
            for _ in range(6):
                base.loop(EVLOOP_NONBLOCK)
        sock.setblocking(False)
        found = b""
        for _ in range(12):
            base.loop(EVLOOP_NONBLOCK)
            try:
                while piece := sock.recv(65536):
                    found += piece
            except BlockingIOError:
                continue
            except ConnectionError:
                pass
            return found, True
    return found, False


def statuses(data: bytes, ended: bool) -> list[int]:
    """Read replies as any client would; they are to be good HTTP to the last byte."""
    found: list[int] = []
    method = "GET"
    while data:
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
        reader.send(h11.EndOfMessage())
        reader.receive_data(data)
        while type(reply := reader.next_event()) is not h11.EndOfMessage:
            if reply is h11.NEED_DATA:
                assert ended, f"it is not whole: {data[:200]!r}"
                reader.receive_data(b"")
            if isinstance(reply, h11.Response):
                found.append(reply.status_code)
        data = reader.trailing_data[0]
    return found


@settings(max_examples=2000 if os.environ.get("CI") else 400, deadline=None)
@given(st.lists(st.sampled_from(WHOLE), min_size=1, max_size=3), mutations, cuts)
def test_whatever_comes_the_server_answers_in_http_and_lives_on(
    requests: list[bytes], changes: list[tuple[str, int, bytes]], cuts: list[int]
) -> None:
    data = mutated(b"".join(requests), changes).replace(b"HEAD ", b"PUT ")
    edges = sorted({cut % (len(data) + 1) for cut in cuts})
    options = ServerOptions(limits=ReaderLimits(**LIMITS), allowed_methods=METHODS)
    with EventBase(clock=FakeClock()) as base, HttpServer(base, options) as server:
        server.set_gencb(answer)
        port = server.bind_socket("127.0.0.1", 0).port
        raw, ended = replies_of(server, port, data, edges)
        found = statuses(raw, ended)
        refused = [status for status in found if status in (400, 413, 414, 417, 431, 505)]
        event(f"{len(found)} replies, {refused or 'none'} refused")
        assert len(refused) <= 1, "nothing is read behind a refusal"
        if refused:
            assert refused == found[-1:]
            assert ended
        after, _ = replies_of(server, port, b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n", [])
        assert after.endswith(b"GET /after ")
