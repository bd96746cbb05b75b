"""What the HTTP tests share: a base whose time is fake, a server on it, and raw peers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest

from evsvc.core import EventBase, FakeClock
from evsvc.http import (
    HttpConnection,
    HttpServer,
    ServerOptions,
    ServerRequest,
)
from evsvc.http.wire.limits import ReaderLimits
from tests.http.outcomes import Outcomes
from tests.http.peers import Origin, Peer, request


class Site:
    """A server on port 0 of the loopback, its requests as they come, and clients for it.

    `answer` is its general callback; without one every request waits in `requests`.
    """

    def __init__(self, base: EventBase, options: ServerOptions) -> None:
        self.base = base
        self.server = HttpServer(base, options)
        self.bound = self.server.bind_socket("127.0.0.1", 0)
        self.requests: list[ServerRequest] = []
        self.peers: list[Peer] = []
        self.server.set_gencb(lambda request, arg: self.requests.append(request))

    def connect(self, receive_bytes: int | None = None) -> Peer:
        """A new client; the server has accepted it.

        receive_bytes: how little the kernel may hold for a client that does not read.
        """
        peer = self.peer_over(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        if receive_bytes is not None:
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        # A second small piece must not wait for the kernel to acknowledge the first.
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sock.setblocking(True)
        peer.sock.connect((self.bound.address, self.bound.port))
        peer.sock.setblocking(False)
        peer.settle()
        return peer

    def peer_over(self, sock: socket.socket) -> Peer:
        """A client on a socket of the test's own."""
        self.peers.append(Peer(self.base, sock))
        return self.peers[-1]

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.server.close()


def echo(request: ServerRequest, arg: object) -> None:
    """Answer with what the request was."""
    body = bytes(request.input_buffer)
    text = f"{request.method} {request.uri} {request.minor} {len(body)} "
    request.send_reply(200, None, text.encode() + body)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def base(clock: FakeClock) -> Iterator[EventBase]:
    with EventBase(clock=clock) as made:
        yield made


@pytest.fixture
def serve(base: EventBase) -> Iterator[Callable[..., Site]]:
    """Return `serve(cb=None, **options)`: options of ServerOptions and ReaderLimits alike."""
    made: list[Site] = []
    limit_names = {field.name for field in fields(ReaderLimits)}

    def start(cb: Callable[[Any, Any], object] | None = None, **options: Any) -> Site:
        limits = {name: options.pop(name) for name in limit_names & set(options)}
        site = Site(base, ServerOptions(limits=ReaderLimits(**limits), **options))
        made.append(site)
        if cb is not None:
            site.server.set_gencb(cb)
        return site

    yield start
    for site in made:
        site.close()


@pytest.fixture
def site(serve: Callable[..., Site]) -> Site:
    """A server that answers every request with what it was."""
    return serve(echo)


@pytest.fixture
def peer(site: Site) -> Peer:
    """A client of `site`."""
    return site.connect()


@pytest.fixture
def origin(base: EventBase) -> Iterator[Origin]:
    made = Origin(base)
    yield made
    made.close()


@pytest.fixture
def make_origin(base: EventBase) -> Iterator[Callable[[str], Origin]]:
    made: list[Origin] = []

    def make(host: str) -> Origin:
        made.append(Origin(base, host))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def connect(base: EventBase, origin: Origin) -> Iterator[Callable[..., HttpConnection]]:
    """Return `connect(address=None, resolver=None, options=None)`: a client for `origin`."""
    made: list[HttpConnection] = []

    def make(
        address: str = "127.0.0.1", resolver: Any = None, options: Any = None, port: int = 0
    ) -> HttpConnection:
        made.append(HttpConnection(base, resolver, address, port or origin.port, options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def client(connect: Callable[..., HttpConnection]) -> Outcomes:
    """A client connection to `origin` that records its outcomes."""
    return Outcomes(connect())


@pytest.fixture
def ask(serve):
    """Return `ask(cb, *lines, **how)`: have `cb(request)` answer one request; its response."""

    def answer(cb, *lines, method="GET", version="1.1", has_body=True, to_end=False):
        peer = serve(lambda got, arg: cb(got)).connect()
        peer.send(request("/", *lines, method=method, version=version))
        reply = peer.read_message(has_body=has_body, to_end=to_end)
        peer.settle()
        peer.take()
        assert peer.received == b""
        return reply

    return answer
