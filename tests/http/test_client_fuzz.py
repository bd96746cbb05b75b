"""Whatever a server sends and callbacks do: each request ends once, and the loop lives."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evsvc.core import (
    EVLOOP_NONBLOCK,
    BufferEvent,
    EventBase,
    FakeClock,
)
from evsvc.http import ClientOptions, HttpConnection, HttpError, HttpRequest, Leniency
from evsvc.http.wire.limits import ReaderLimits

pytestmark = pytest.mark.no_cover

EXAMPLES = settings(
    max_examples=600 if os.environ.get("CI") else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

PIECES = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 417 No\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", b"HTTP/1.1 304 \r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"Content-Length: 5\r\n", b"\r\n",
    b"Transfer-Encoding: chunked\r\n", b"hello", b"\n", b"\0", b"H", b"100\r\n", b"X: y\r\n z\r\n",
]  # fmt: skip
ACTS = ["none", "none", "none", "cancel", "close", "raise", "pause", "more", "negative"]
PLACES = ["chunk", "header", "interim", "done", "error", "produce", "upgrade", "closed", "idle"]
STEPS = st.one_of(
    st.sampled_from(PIECES),
    st.sampled_from(PIECES),
    st.sampled_from(["end", "reset", "wait", "resume", "read"]),
)
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "CONNECT"]),
        "body": st.sampled_from(["", "", "bytes", "held", "stream", "held stream", "large"]),
        "places": st.dictionaries(st.sampled_from(PLACES), st.sampled_from(ACTS), max_size=4),
    }
)


class Trial:
    """One connection to a server of the test's, and everything that happens to it."""

    def __init__(self, options: ClientOptions) -> None:
        self.clock = FakeClock()
        self.base = EventBase(clock=self.clock)
        self.raised: list[Exception] = []
        self.base.exception_handler = self.raised.append
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listening.setblocking(False)
        port = self.listening.getsockname()[1]
        self.connection = HttpConnection(self.base, None, "127.0.0.1", port, options)
        self.server: socket.socket | None = None
        self.ends: dict[int, list[Any]] = {}
        self.taken: list[BufferEvent] = []
        self.requests: list[HttpRequest] = []
        self.made_more = 0

    def act(self, act: str, request: HttpRequest) -> int:
        if act == "cancel":
            request.cancel()
        elif act == "close":
            self.connection.close()
        elif act == "raise":
            raise ValueError("a callback's")
        elif act == "pause":
            request.pause()
        elif act == "more" and self.made_more < 5 and not self.connection.is_closed:
            self.made_more += 1
            self.make({"method": "GET", "body": "", "places": {}})
        return -1 if act == "negative" else 0

    def make(self, plan: dict[str, Any]) -> None:
        number = len(self.requests)
        places, method, body = plan["places"], plan["method"], plan["body"]
        self.ends[number] = []

        def done(got: HttpRequest | None, arg: object) -> None:
            self.ends[number].append(got)
            self.act(places.get("done", "none"), request)

        request = HttpRequest(done)
        self.requests.append(request)
        if "chunk" in places:
            request.set_chunked_cb(lambda got, arg: self.act(places["chunk"], got))
        if "header" in places:
            request.set_header_cb(lambda got, arg: self.act(places["header"], got))
        if "interim" in places:
            request.set_interim_cb(lambda got, *more: self.act(places["interim"], got))
        if "error" in places:
            request.set_error_cb(lambda code, arg: self.act(places["error"], request))
        if "upgrade" in places:
            request.set_upgrade_cb(lambda *got: self.upgraded(number, places["upgrade"], *got))
            request.output_headers.add("Upgrade", "x")
        if method == "CONNECT":
            body = ""
        left = [b"piece", b"", b"piece"]

        def produce(got: HttpRequest, arg: object) -> bytes | None:
            self.act(places.get("produce", "none"), got)
            return left.pop() if left else None

        if "stream" in body:
            request.stream_body(produce)
        elif body == "large":
            request.output_buffer.add(b"x" * 3_000_000)
        elif body:
            request.set_body(b"body")
        if "held" in body:
            request.output_headers.add("Expect", "100-continue")
        target = "h:1" if method == "CONNECT" else "/"
        if self.connection.can_take(request):
            self.connection.make_request(request, method, target)

    def upgraded(self, number: int, act: str, request: Any, bev: Any, rest: Any, arg: Any) -> None:
        self.ends[number].append("upgraded")
        self.taken.append(bev)
        self.act(act, request)

    def settle(self) -> None:
        for _ in range(6):
            self.base.loop(EVLOOP_NONBLOCK)
            self.accept()

    def accept(self) -> None:
        try:
            sock, _ = self.listening.accept()
        except BlockingIOError:
            return
        if self.server is not None:
            self.server.close()
        sock.setblocking(False)
        self.server = sock

    def step(self, step: bytes | str) -> None:
        if step == "wait":
            self.clock.advance(2.0)
        elif step == "resume":
            for request in self.requests:
                request.resume()
                request.resume_body()
        elif self.server is not None:
            try:
                if isinstance(step, bytes):
                    self.server.send(step)
                elif step == "read":
                    self.server.recv(1_000_000)
                else:
                    self.server.close()
                    self.server = None
            except OSError:
                pass
        self.settle()

    def close(self) -> None:
        self.connection.close()
        for each in self.taken:
            each.close()
        if self.server is not None:
            self.server.close()
        self.listening.close()
        self.base.close()


@EXAMPLES
@given(
    st.lists(REQUESTS, min_size=1, max_size=5),
    st.lists(STEPS, max_size=14),
    st.sampled_from(["none", "none", "close", "more", "raise"]),
    st.booleans(),
    st.sampled_from([1, 2, 4]),
)
def test_each_request_ends_once(
    plans: list[dict[str, Any]], steps: list[bytes | str], act: str, lenient: bool, pipelined: int
) -> None:
    trial = Trial(
        ClientOptions(
            limits=ReaderLimits(max_body_bytes=200),
            read_s=5.0,
            write_s=5.0,
            connect_s=5.0,
            idle_s=9.0,
            exchange_s=60.0,
            max_interim=3,
            max_pipelined=pipelined,
            pipelines_all=pipelined > 2,
            leniency=~Leniency.NONE if lenient else Leniency.NONE,
        )
    )
    try:
        trial.connection.set_closecb(lambda connection, arg: trial.act(act, trial.requests[0]))
        trial.connection.set_idle_cb(lambda connection, arg: trial.act(act, trial.requests[0]))
        for plan in plans:
            trial.make(plan)
        trial.settle()
        for step in steps:
            trial.step(step)
        trial.settle()
        for _ in range(60):  # until every limit is over
            trial.clock.advance(2.0)
            trial.settle()
        assert all(isinstance(exc, ValueError) for exc in trial.raised), trial.raised
        assert trial.connection.pending_requests == 0
        for number, request in enumerate(trial.requests):
            assert len(trial.ends[number]) <= 1
            assert request.connection is None
            assert request.error is None or isinstance(request.error, HttpError)
        if not trial.connection.is_closed:
            assert trial.connection.is_available
    finally:
        trial.close()


def test_the_trial_itself_ends_a_good_request() -> None:
    trial = Trial(ClientOptions())
    trial.make({"method": "GET", "body": "", "places": {}})
    trial.settle()
    trial.step(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert trial.ends == {0: [trial.requests[0]]}
    trial.close()
