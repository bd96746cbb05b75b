"""One base with a fake clock, and on it an RPC server, a client pool and raw sockets."""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    BufferEvent,
    EventBase,
    FakeClock,
)
from evsvc.http import HttpConnection, HttpServer
from evsvc.rpc import RpcPool, RpcServer, websocket
from tests.rpc.adding import Caller

MOST_PASSES = 2000

CARRIERS = ("http", "websocket")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked over each way that carries calls, but for what is of HTTP alone."""
    marked = metafunc.definition.get_closest_marker
    if "carrier" in metafunc.fixturenames and marked("every_carrier"):
        carriers = CARRIERS[:1] if marked("http_alone") else CARRIERS
        metafunc.parametrize("carrier", carriers, indirect=True)


class Answer(NamedTuple):
    """An HTTP response as it came over the wire."""

    code: int
    headers: dict[str, str]
    body: bytes


class Loop:
    """Runs the base until something is true, and fails when that takes more than a fake hour."""

    def __init__(self, base: EventBase) -> None:
        self._base = base

    def until(self, condition: Callable[[], object]) -> None:
        guard = self._base.timer(lambda fd, what, arg: None)
        guard.add(3600.0)
        try:
            for _ in range(MOST_PASSES):
                if condition():
                    return
                assert guard.pending(), "it never came true"
                self._base.loop(EVLOOP_ONCE)
        finally:
            guard.close()
        raise AssertionError("the loop runs, and it never came true")

    def settle(self) -> None:
        """Do all that can be done without time passing."""
        for _ in range(30):
            self._base.loop(EVLOOP_NONBLOCK)


class RawPeer:
    """A client that sends any bytes, and reads responses with a Content-Length.

    It stands on the same base, because fake time may pass only when its bytes have moved, too.
    """

    def __init__(self, base: EventBase, loop: Loop, port: int) -> None:
        self._loop = loop
        self._bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        self._bev.connect(("127.0.0.1", port))
        self._bev.enable(EV_READ)

    def send(self, data: bytes) -> None:
        self._bev.write(data)

    def close(self) -> None:
        self._bev.close()

    def shutdown_write(self) -> None:
        self._bev.shutdown_write()

    def reset(self) -> None:
        """Leave so that the server notices at once; after a plain close it may still answer."""
        sock = self._bev.socket
        assert sock is not None
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def post(self, name: str, body: bytes, method: str = "POST") -> Answer:
        head = f"{method} /.rpc.{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
        self.send(head.encode() + body)
        return self.read()

    def read(self) -> Answer:
        received = self._bev.input
        self._loop.until(lambda: received.search(b"\r\n\r\n") >= 0)
        head = received.remove(received.search(b"\r\n\r\n")).decode("latin-1")
        received.drain(len(b"\r\n\r\n"))
        first, *lines = head.split("\r\n")
        fields = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in fields}
        assert len(headers) == len(lines), "a header came twice"
        length = int(headers["content-length"])
        self._loop.until(lambda: len(received) >= length)
        return Answer(int(first.split()[1]), headers, received.remove(length))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def base(clock: FakeClock) -> Iterator[EventBase]:
    with EventBase(clock=clock) as base:
        yield base


@pytest.fixture
def loop(base: EventBase) -> Loop:
    return Loop(base)


@pytest.fixture
def http_server(base: EventBase) -> Iterator[HttpServer]:
    server = HttpServer(base)
    yield server
    server.close()


@pytest.fixture
def port(http_server: HttpServer) -> int:
    port: int = http_server.bind_socket("127.0.0.1", 0).port
    return port


@pytest.fixture
def server(http_server: HttpServer) -> Iterator[RpcServer]:
    with RpcServer(http_server) as server:
        yield server


@pytest.fixture
def connect(base: EventBase, port: int) -> Iterator[Callable[[], HttpConnection]]:
    """Return a function that makes one more connection to the server; all are closed at the end."""
    made: list[HttpConnection] = []

    def make() -> HttpConnection:
        made.append(HttpConnection(base, None, "127.0.0.1", port))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def carrier(request: pytest.FixtureRequest) -> str:
    """Return what carries the pool's calls: "http", or a "websocket" that they share."""
    name: str = getattr(request, "param", CARRIERS[0])
    return name


@pytest.fixture
def pool(base: EventBase, carrier: str, request: pytest.FixtureRequest) -> Iterator[RpcPool]:
    """Return a pool of one connection, or one WebSocket, with five seconds for each call."""
    with RpcPool(base, timeout=5.0) as pool:
        if carrier == "http":
            pool.add_connection(request.getfixturevalue("connect")())
        else:
            websocket.serve(request.getfixturevalue("server"))
            port = request.getfixturevalue("port")
            websocket.add_endpoint(pool, f"ws://127.0.0.1:{port}{websocket.WEBSOCKET_PATH}")
        yield pool


@pytest.fixture
def make_peer(base: EventBase, loop: Loop, port: int) -> Iterator[Callable[[], RawPeer]]:
    """Return a function that connects one more raw client."""
    made: list[RawPeer] = []

    def make() -> RawPeer:
        made.append(RawPeer(base, loop, port))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@pytest.fixture
def peer(make_peer: Callable[[], RawPeer]) -> RawPeer:
    return make_peer()


@pytest.fixture
def caller(pool: RpcPool, loop: Loop) -> Caller:
    return Caller(pool, loop)


@contextmanager
def freed_by_themselves(*kinds: type) -> Iterator[None]:
    """Expect that no object of these kinds is left which was made meanwhile, without the cyclic
    collector."""
    gc.collect()
    known = [each for each in gc.get_objects() if isinstance(each, kinds)]  # other tests'
    gc.disable()
    try:
        yield
        alive = [each for each in gc.get_objects() if isinstance(each, kinds)]
    finally:
        gc.enable()
    assert [each for each in alive if not any(each is other for other in known)] == []
