"""What the tests of bufferevents share: callbacks that write down, resolvers, listeners."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EVUTIL_EAI_CANCEL,
    LEV_OPT_CLOSE_ON_FREE,
    AddrInfo,
    AddrInfoHints,
    BevEvent,
    BufferEvent,
    ConnListener,
    EventBase,
    ResolveCallback,
)

Pair = tuple[socket.socket, socket.socket]
Address = tuple[str, int]
LOOPBACK = "127.0.0.1"


class Boom(Exception):
    """What a callback of these tests raises."""


def boom(*args: object) -> None:
    raise Boom


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def close_bev(bev: BufferEvent, *args: object) -> None:
    bev.close()


class Log:
    """Callbacks that write down what they were told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.events: list[BevEvent] = []
        self.data = bytearray()

    def attach(self, bev: BufferEvent) -> BufferEvent:
        bev.setcb(self.read, self.write, self.event)
        return bev

    def read(self, bev: BufferEvent, ctx: object) -> None:
        self.calls.append("read")
        self.data += bev.read()

    def write(self, bev: BufferEvent, ctx: object) -> None:
        self.calls.append("write")

    def event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        self.calls.append("event")
        self.events.append(what)


class CountingStream:
    """A socket that counts the system calls which send."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sends: list[int] = []

    def send(self, data: bytes) -> int:
        self.sends.append(len(data))
        return self.sock.send(data)

    def sendmsg(self, views: list[memoryview]) -> int:
        self.sends.append(sum(map(len, views)))
        return self.sock.sendmsg(views)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)


def count_sends(bev: BufferEvent) -> list[int]:
    stream = CountingStream(bev.socket)  # type: ignore[arg-type]
    bev._stream = stream  # type: ignore[assignment]
    return stream.sends


def greeting_listener(base: EventBase, address: Any = (LOOPBACK, 0)) -> ConnListener:
    def greet(lev: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(None, lambda bev, ctx: bev.close(), None)
        bev.write(b"hello")

    return ConnListener.new_bind(base, greet, None, LEV_OPT_CLOSE_ON_FREE, -1, address)


class Client:
    """A bufferevent whose events stop the loop at EOF or ERROR."""

    def __init__(
        self, base: EventBase, options: int = 0, sock: socket.socket | None = None
    ) -> None:
        self.base = base
        self.events: list[BevEvent] = []
        self.reads = 0
        self.at_end = b""
        self.bev = BufferEvent(base, sock, options)
        self.bev.setcb(self.on_read, None, self.on_event)

    def on_read(self, bev: BufferEvent, ctx: object) -> None:
        self.reads += 1

    def on_event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        self.events.append(what)
        if what & BEV_EVENT_CONNECTED:
            bev.enable(EV_READ)
        else:
            self.at_end = bev.input.copyout()
            self.base.loopbreak()


class DictResolver:
    """A resolver over a dictionary, answering at once or from the loop."""

    def __init__(
        self, base: EventBase, table: dict[str, list[tuple[int, Any]] | int], at_once: bool = True
    ) -> None:
        self.base = base
        self.table = table
        self.at_once = at_once
        self.hints: list[AddrInfoHints | None] = []
        self.cancelled = 0

    def getaddrinfo(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        arg: object = None,
    ) -> DictLookup | None:
        self.hints.append(hints)
        found = self.table[str(host)]
        result = found if isinstance(found, int) else 0
        addresses = [
            AddrInfo(family, socket.SOCK_STREAM, 0, "", sockaddr)
            for family, sockaddr in ([] if isinstance(found, int) else found)
        ]
        if self.at_once:
            cb(result, addresses, arg)
            return None
        lookup = DictLookup(self, lambda: cb(result, addresses, arg), cb)
        self.base.post(lookup.answer)
        return lookup


class DictLookup:
    """A lookup whose answer was posted to the loop."""

    def __init__(
        self, resolver: DictResolver, deliver: Callable[[], object], cb: ResolveCallback
    ) -> None:
        self.resolver = resolver
        self.deliver: Callable[[], object] | None = deliver
        self.cb = cb

    def answer(self) -> None:
        if self.deliver is not None:
            self.deliver()

    def cancel(self) -> None:
        self.deliver = None
        self.resolver.cancelled += 1
        self.resolver.base.post(self.cb, EVUTIL_EAI_CANCEL, [], None)


class SlowPosts:
    """A base whose posted calls run a minute later."""

    def __init__(self, base: EventBase) -> None:
        self.base = base

    def post(self, fn: Callable[..., object], *args: object) -> None:
        self.base.timer(lambda *_: fn(*args)).add(60)
