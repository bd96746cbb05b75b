"""`wsgi.input`: what a client sends, as the application reads it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.http import Headers, LocalProtocolError
from evsvc.wsgi import ClientGone
from evsvc.wsgi.body_input import BodyInput
from tests.hosted import PATIENCE_S, read_to_end, send_until_full
from tests.wsgi.gateway import Gateway

Serve = Callable[..., Gateway]
TEXT = [("Content-Type", "text/plain")]


class Streamed:
    """A request whose body comes in pieces, each when it is asked for: all in one thread."""

    streams_body = True
    input_headers = Headers()

    def __init__(self, pieces: list[bytes], is_whole: bool = True) -> None:
        self._pieces = pieces
        self._is_whole = is_whole
        self._callbacks: Any = None
        self.is_paused = False

    def set_body_cbs(self, datacb: Any, endcb: Any) -> None:
        self._callbacks = (datacb, endcb)
        self._go_on()

    def pause_body(self) -> None:
        self.is_paused = True

    def resume_body(self) -> None:
        self.is_paused = False
        self._go_on()

    def _go_on(self) -> None:
        datacb, endcb = self._callbacks
        while self._pieces and not self.is_paused:
            datacb(self, self._pieces.pop(0), None)
        if not self._pieces and not self.is_paused:
            endcb(self, self._is_whole, None)


class Turns:
    """What is posted to the loop runs as soon as the thread waits, in the same thread."""

    def __init__(self) -> None:
        self.broken = 0

    def post(self, fn: Callable[[], object]) -> None:
        fn()

    def on_broken(self) -> None:
        self.broken += 1


def body_of(pieces: list[bytes], most: int = 8, is_whole: bool = True) -> tuple[BodyInput, Turns]:
    turns = Turns()
    request: Any = Streamed(list(pieces), is_whole)
    made = BodyInput(request, most, turns.post, turns.on_broken)
    return made, turns


CALLS = st.one_of(
    st.tuples(st.just("read"), st.one_of(st.just(()), st.tuples(st.integers(-1, 12)))),
    st.tuples(st.just("readline"), st.one_of(st.just(()), st.tuples(st.integers(-1, 12)))),
    st.tuples(st.just("readlines"), st.one_of(st.just(()), st.tuples(st.integers(-1, 12)))),
)


@given(st.lists(st.sampled_from([b"a", b"bc\n", b"\n", b"defgh", b"i\nj\n"])), st.lists(CALLS))
def test_reading_is_that_of_a_file(pieces: list[bytes], calls: list[tuple[str, Any]]) -> None:
    body, _ = body_of(pieces)
    model = io.BytesIO(b"".join(pieces))
    for name, args in calls:
        assert getattr(body, name)(*args) == getattr(model, name)(*args)
    assert list(body) == list(model)
    assert body.read() == body.read(5) == body.readline() == b""


def test_a_broken_body_can_be_read_as_far_as_it_came() -> None:
    body, turns = body_of([b"ab", b"cd"], is_whole=False)
    assert body.read(4) == b"abcd"
    with pytest.raises(ClientGone):
        body.read(1)
    with pytest.raises(OSError, match="does not come"):
        body.readline()
    assert turns.broken == 1


def test_a_body_that_has_ended_before_it_is_asked_for_is_broken() -> None:
    class Ended:
        streams_body = True

        def set_body_cbs(self, datacb: Any, endcb: Any) -> None:
            raise LocalProtocolError("the body is taken already, or has ended")

    turns = Turns()
    request: Any = Ended()
    with pytest.raises(ClientGone):
        BodyInput(request, 8, turns.post, turns.on_broken).read()
    assert turns.broken == 1


@pytest.mark.parametrize(("most", "taken"), [(7, 3), (6, 2)])
def test_a_client_is_held_back_at_the_limit(most: int, taken: int) -> None:
    """Twice: what has come is taken, and then more comes, which waits."""
    pieces = [b"abc"] * 20
    turns = Turns()
    request: Any = Streamed(pieces)
    body = BodyInput(request, most, turns.post, turns.on_broken)
    assert body.read(1) == b"a"
    assert len(pieces) == 20 - 2 * taken
    assert body.read() == b"bc" + b"abc" * 19


@pytest.mark.parametrize(
    ("pieces", "is_whole", "left"),
    [([b"abc"], True, 0), ([b"abc"] * 5, True, 2), ([b"a"], False, 0)],
)
def test_it_is_ready_when_all_or_enough_has_come_or_no_more_comes(
    pieces: list[bytes], is_whole: bool, left: int
) -> None:
    ready: list[int] = []
    request: Any = Streamed(pieces, is_whole)
    turns = Turns()
    body = BodyInput(request, 8, turns.post, turns.on_broken)
    body.when_ready(lambda: ready.append(1))
    assert (ready, len(pieces), turns.broken) == ([1], left, not is_whole)
    assert body.read(1) == b"a"
    assert ready == [1]


def echo(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    return [environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH", 100)))]


def test_a_body_with_a_length(serve: Serve) -> None:
    assert serve(echo).ask(method="POST", body=b"0123").body == b"0123"


def test_no_body_is_the_end_of_it(serve: Serve) -> None:
    assert serve(echo).ask().body == b""


def test_a_chunked_body_ends_by_itself(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        assert environ["wsgi.input_terminated"]
        start_response("200 OK", TEXT)
        return [b"|".join(environ["wsgi.input"])]

    answer = serve(application).ask(method="POST", body=[b"a\nb", b"c\n", b"d"])
    assert answer.body == b"a\n|bc\n|d"


def test_the_next_request_follows_a_body_that_nobody_reads(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return [environ["PATH_INFO"].encode()]

    gateway = serve(application, is_validated=False)
    data = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n01234"
    data += b"GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    received = gateway.exchange(data)
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.endswith(b"/b")


def test_a_client_is_told_to_go_on_when_its_body_is_asked_for(serve: Serve) -> None:
    asked = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        assert asked.wait(PATIENCE_S)
        return echo(environ, start_response)

    gateway = serve(application)
    sock = gateway.connect()
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    sock.sendall(head + b"Connection: close\r\n\r\n")
    while not gateway.in_loop(lambda: gateway.handler.held):
        pass
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    sock.settimeout(PATIENCE_S)
    asked.set()
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"ok")
    assert read_to_end(sock).endswith(b"2\r\nok\r\n0\r\n\r\n")


def test_a_client_that_is_refused_need_not_send_its_body(serve: Serve) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("413 Too Much", TEXT)
        return [b"no"]

    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200\r\nExpect: 100-continue\r\n\r\n"
    received = serve(application).exchange(head)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_the_memory_for_a_body_is_bounded(serve: Serve) -> None:
    """What the server holds of it is the limit, and one read on top of it."""
    may_read = threading.Event()
    size, most = 20_000_000, 100_000

    def application(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"]
        count = len(body.read(1))
        assert may_read.wait(PATIENCE_S)
        while piece := body.read(65536):
            count += len(piece)
        start_response("200 OK", TEXT)
        return [str(count).encode()]

    gateway = serve(application, max_input_bytes=most)
    sock = gateway.connect()
    sock.sendall(
        b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    )
    data = b"x" * 65536
    sent = send_until_full(gateway, sock, data)
    assert sent < size
    metrics = gateway.in_loop(lambda: gateway.server.metrics)
    assert gateway.in_loop(lambda: metrics.holdings).received_bytes < most + 300_000
    may_read.set()
    while sent < size:
        sent += sock.send(data[: size - sent])
    assert str(size).encode() in read_to_end(sock)


@pytest.mark.parametrize("has_begun", [True, False])
def test_no_thread_waits_for_a_client_that_is_slow_with_a_small_body(
    serve: Serve, has_begun: bool
) -> None:
    gateway = serve(echo, threads=1, max_queued=0, max_input_bytes=6)
    slow = gateway.connect()
    slow.sendall(b"POST / HTTP/1.0\r\nContent-Length: 6\r\n\r\n" + b"01234" * has_begun)
    while not gateway.in_loop(lambda: gateway.server.metrics.holdings.in_flight):
        pass
    for _ in range(3):
        assert gateway.ask(method="POST", body=b"fast").body == b"fast"
        while gateway.in_loop(lambda: gateway.handler.held):
            pass
    slow.sendall(b"5" if has_begun else b"012345")
    assert read_to_end(slow).endswith(b"012345")


def test_one_who_comes_so_slowly_that_there_is_no_thread_left_is_503(serve: Serve) -> None:
    entered, let_go = threading.Event(), threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        entered.set()
        assert let_go.wait(PATIENCE_S)
        return echo(environ, start_response)

    gateway = serve(application, threads=1, max_queued=0)
    slow, fast = gateway.connect(), gateway.connect()
    slow.sendall(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\n0")
    while not gateway.in_loop(lambda: gateway.server.metrics.holdings.in_flight):
        pass
    fast.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert entered.wait(PATIENCE_S)
    slow.sendall(b"1")
    assert b" 503 " in read_to_end(slow)
    let_go.set()
    assert b" 200 " in read_to_end(fast)


def test_one_that_leaves_before_its_body_is_here_is_no_call(serve: Serve) -> None:
    called: list[str] = []

    def application(environ: Any, start_response: Any) -> Any:
        called.append(environ["PATH_INFO"])
        return echo(environ, start_response)

    gateway = serve(application)
    sock = gateway.connect()
    sock.sendall(b"POST /left HTTP/1.0\r\nContent-Length: 2\r\n\r\n0")
    sock.close()
    while gateway.in_loop(lambda: gateway.server.connection_count):
        pass
    gateway.ask("/next")
    assert called == ["/next"]


def test_reading_raises_when_the_client_goes_within_its_body(serve: Serve) -> None:
    raised: list[BaseException] = []
    over = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        try:
            return echo(environ, start_response)
        except ClientGone as exc:
            raised.append(exc)
            over.set()
            raise

    gateway = serve(application, max_input_bytes=5)
    sock = gateway.connect()
    sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456")
    sock.close()
    assert over.wait(PATIENCE_S)
    assert len(raised) == 1


@pytest.mark.parametrize(
    ("how", "body", "status"),
    [
        ({}, b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdefg\r\n", b"400"),
        ({"max_stream_bytes": 4}, b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", b"413"),
        ({"body_s": 0.05, "body_grace_s": 0.05}, b"Content-Length: 5\r\n\r\nab", b"408"),
    ],
)
def test_a_body_that_is_refused_is_answered_once(
    serve: Serve, how: Any, body: bytes, status: bytes
) -> None:
    """The server has answered; whatever the application says to its failed read is not sent."""

    def application(environ: Any, start_response: Any) -> Any:
        try:
            environ["wsgi.input"].read(100)
        except ClientGone:
            start_response("200 OK", TEXT)
            return [b"a second answer"]
        raise AssertionError("it was read")

    received = serve(application, **how).exchange(b"POST / HTTP/1.1\r\nHost: h\r\n" + body)
    assert received.count(b"HTTP/1.1") == 1
    assert received.startswith(b"HTTP/1.1 " + status)


def test_one_who_waits_for_a_body_hears_that_the_server_stops(serve: Serve) -> None:
    reading = threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        reading.set()
        return echo(environ, start_response)

    gateway = serve(application, max_input_bytes=5)
    sock = gateway.connect()
    sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n01234")
    assert reading.wait(PATIENCE_S)
    gateway.stop()
    assert read_to_end(sock) == b""
