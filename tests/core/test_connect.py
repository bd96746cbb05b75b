"""Connecting: by address, by name, over Unix sockets; refusal, order of callbacks, cancelling."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_THREADSAFE,
    BEV_OPT_UNLOCK_CALLBACKS,
    EV_READ,
    EV_WRITE,
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_CANCEL,
    EVUTIL_EAI_NODATA,
    EVUTIL_EAI_NONAME,
    LEV_OPT_CLOSE_ON_FREE,
    AddrInfo,
    AddrInfoHints,
    ArgumentError,
    BevEvent,
    BufferEvent,
    ConnListener,
    EventBase,
    FakeClock,
    ResolveCallback,
    StateError,
)

Address = tuple[str, int]
LOOPBACK = "127.0.0.1"


class Boom(Exception):
    """What a resolver of these tests raises."""


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.fixture
def greeter(base: EventBase) -> Iterator[Address]:
    """Return the address of a server that says `hello` and closes."""
    with greeting_listener(base) as listener:
        yield listener.address


def greeting_listener(base: EventBase, address: Any = (LOOPBACK, 0)) -> ConnListener:
    def greet(lev: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(None, lambda bev, ctx: bev.close(), None)
        bev.write(b"hello")

    return ConnListener.new_bind(base, greet, None, LEV_OPT_CLOSE_ON_FREE, -1, address)


@pytest.fixture
def closed_address() -> Iterator[Address]:
    """Return an address that is bound, and that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        yield sock.getsockname()


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


@pytest.mark.parametrize(
    "options",
    [
        0,
        BEV_OPT_DEFER_CALLBACKS,
        BEV_OPT_THREADSAFE,
        BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS,
        BEV_OPT_UNLOCK_CALLBACKS | BEV_OPT_DEFER_CALLBACKS,
    ],
)
def test_two_clients_connect_read_and_see_the_end(
    base: EventBase, greeter: Address, options: int
) -> None:
    """The greeting is still in the input when EOF is reported."""
    clients = [Client(base, options), Client(base, options)]
    for client in clients:
        client.bev.connect(greeter)
        assert client.events == []
    while not all(client.at_end for client in clients):
        base.dispatch()
    for client in clients:
        assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
        assert client.at_end == b"hello"
        client.bev.close()
    assert sum(client.reads for client in clients) >= 2


@pytest.mark.parametrize("options", [0, BEV_OPT_DEFER_CALLBACKS])
def test_a_refused_connect_is_one_error_from_the_loop(
    base: EventBase, closed_address: Address, options: int
) -> None:
    """Exactly one ERROR, no data callback, nothing before the loop runs; errno is there."""
    seen: list[tuple[BevEvent, int | None]] = []
    with BufferEvent(base, None, options) as bev:
        bev.setcb(
            never, never, lambda bev, what, ctx: seen.append((what, bev.error and bev.error.errno))
        )
        bev.enable(EV_READ | EV_WRITE)
        bev.set_timeouts(60, 60)
        bev.write(b"unsent")
        bev.connect(closed_address)
        assert seen == []
        assert base.dispatch() == 1
        assert seen == [(BEV_EVENT_ERROR, errno.ECONNREFUSED)]
        assert bev.fd == -1
        assert bev.read() == b""


def test_after_a_refusal_another_connect_can_succeed(
    base: EventBase, closed_address: Address, greeter: Address
) -> None:
    client = Client(base)
    client.bev.connect(closed_address)
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


@pytest.mark.parametrize("when", ["before", "after", "connected"])
def test_output_is_kept_until_the_connection_is_there(base: EventBase, when: str) -> None:
    """Written before connect, after it, or in the CONNECTED callback; which comes first."""
    received = bytearray()
    told: list[str] = []

    def accept(lev: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        server = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)

        def readable(bev: BufferEvent, ctx: object) -> None:
            received.extend(bev.read())
            bev.close()
            base.loopbreak()

        server.setcb(readable, None, None)
        server.enable(EV_READ)

    def on_event(bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        told.append("connected" if what == BEV_EVENT_CONNECTED else repr(what))
        if when == "connected":
            bev.write(b"data")

    with (
        ConnListener.new_bind(base, accept, None, 0, -1, (LOOPBACK, 0)) as listener,
        BufferEvent(base) as bev,
    ):
        bev.setcb(None, lambda *_: told.append("written"), on_event)
        if when == "before":
            bev.write(b"data")
        bev.connect(listener.address)
        if when == "after":
            bev.write(b"data")
        base.dispatch()
    assert received == b"data"
    assert told == ["connected", "written"]


def test_connected_alone_runs_no_write_callback(base: EventBase, greeter: Address) -> None:
    with BufferEvent(base) as bev:
        bev.enable(EV_WRITE)
        bev.setcb(None, never, lambda *_: base.loopexit(0.01))
        bev.connect(greeter)
        base.dispatch()
        assert base.got_exit()


def test_disabling_writing_keeps_the_connect_alive(base: EventBase, greeter: Address) -> None:
    client = Client(base)
    client.bev.connect(greeter)
    client.bev.disable(EV_WRITE)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


@pytest.mark.parametrize("outcome", ["connected", "refused"])
def test_closing_in_the_outcomes_callback(
    base: EventBase, greeter: Address, closed_address: Address, outcome: str
) -> None:
    seen: list[BevEvent] = []
    bev = BufferEvent(base)
    bev.setcb(never, never, lambda bev, what, ctx: (seen.append(what), bev.close()))
    bev.enable(EV_READ)
    bev.write(b"x")
    bev.connect(greeter if outcome == "connected" else closed_address)
    base.loopexit(0.02)
    base.dispatch()
    assert seen == [BEV_EVENT_CONNECTED if outcome == "connected" else BEV_EVENT_ERROR]
    assert bev.fd == -1


def test_closing_before_the_outcome_means_no_callback(base: EventBase, greeter: Address) -> None:
    bev = BufferEvent(base)
    bev.setcb(never, never, never)
    bev.connect(greeter)
    bev.close()
    base.loopexit(0.02)
    base.dispatch()


def test_a_connect_that_nobody_answers_times_out(fake_base: EventBase, clock: FakeClock) -> None:
    """The write time-out counts while connecting: a full queue leaves the connect in the air."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        held = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
            held.append(sock)
        with BufferEvent(fake_base) as bev:
            bev.setcb(
                None, None, lambda bev, what, ctx: told.append((clock.monotonic() - start, what))
            )
            bev.set_timeouts(None, 7)
            bev.connect(listener.getsockname())
            fake_base.loopexit(8)
            fake_base.dispatch()
        for sock in held:
            sock.close()
    assert told == [(pytest.approx(7), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING)]


def test_the_programs_own_socket_is_connected(base: EventBase, greeter: Address) -> None:
    """A bound one keeps its address; without CLOSE_ON_FREE it stays open."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        own_address = sock.getsockname()
        client = Client(base, 0, sock)
        client.bev.connect(greeter)
        base.dispatch()
        assert client.at_end == b"hello"
        assert sock.getsockname() == own_address
        client.bev.close()
        assert sock.fileno() != -1


def test_what_is_connected_or_connecting_cannot_connect(
    base: EventBase, greeter: Address, pair: tuple[socket.socket, socket.socket]
) -> None:
    with BufferEvent(base, pair[0]) as bev, pytest.raises(StateError, match="open"):
        bev.connect(greeter)
    with BufferEvent(base) as bev:
        bev.connect(greeter)
        with pytest.raises(StateError, match="connecting"):
            bev.connect(greeter)
        with pytest.raises(StateError, match="connecting"):
            bev.connect_hostname(None, socket.AF_UNSPEC, LOOPBACK, 80)


@pytest.mark.parametrize(
    "address",
    [
        ("localhost", 80),
        (LOOPBACK,),
        (LOOPBACK, 65536),
        (LOOPBACK, -1),
        (LOOPBACK, "80"),
        (1, 80),
        None,
        80,
    ],
)
def test_what_is_no_address_is_refused_at_once(base: EventBase, address: object) -> None:
    with BufferEvent(base) as bev:
        with pytest.raises(ArgumentError):
            bev.connect(address)
        assert bev.fd == -1
    assert base.dispatch() == 1


def test_unix_sockets(base: EventBase, tmp_path: Path) -> None:
    path = str(tmp_path / "greeter")
    with greeting_listener(base, path):
        client = Client(base)
        client.bev.connect(path)
        base.dispatch()
        assert client.at_end == b"hello"
        client.bev.close()
    gone = Client(base)
    gone.bev.connect(str(tmp_path / "nobody"))
    assert gone.events == []
    base.dispatch()
    assert gone.events == [BEV_EVENT_ERROR]
    assert isinstance(gone.bev.error, FileNotFoundError)
    assert gone.bev.error.__traceback__ is None
    gone.bev.close()


def test_a_full_unix_queue_is_an_error_and_no_connection(base: EventBase, tmp_path: Path) -> None:
    """connect(2) answers EAGAIN: nothing is under way."""
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        clients = []
        while not clients or not clients[-1].events:
            clients.append(Client(base))
            clients[-1].bev.connect(path)
            base.loopexit(0.005)
            base.dispatch()
            assert len(clients) < 9
            if clients[-1].events == [BEV_EVENT_CONNECTED]:
                clients[-1].events.clear()
        assert clients[-1].events == [BEV_EVENT_ERROR]
        assert clients[-1].bev.error is not None
        assert clients[-1].bev.error.errno == errno.EAGAIN
        for client in clients:
            client.bev.close()


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


@pytest.mark.parametrize("at_once", [True, False])
def test_a_name_is_looked_up_and_connected_to(
    base: EventBase, greeter: Address, at_once: bool
) -> None:
    resolver = DictResolver(base, {"greeter": [(socket.AF_INET, greeter)]}, at_once)
    client = Client(base)
    client.bev.connect_hostname(resolver, socket.AF_INET, "greeter", greeter[1])
    assert client.events == []
    base.dispatch()
    assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
    assert client.bev.dns_error == 0
    assert resolver.hints == [AddrInfoHints(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)]
    client.bev.close()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("found", "code"), [(int(EVUTIL_EAI_NONAME), EVUTIL_EAI_NONAME), ([], EVUTIL_EAI_NODATA)]
)
def test_a_failed_lookup_is_an_error_with_its_code(
    base: EventBase, at_once: bool, found: Any, code: int
) -> None:
    resolver = DictResolver(base, {"nowhere": found}, at_once)
    client = Client(base)
    client.bev.enable(EV_READ)
    client.bev.set_timeouts(60, 60)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "nowhere", 80)
    assert client.events == []
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert client.bev.dns_error == code
    assert isinstance(client.bev.error, socket.gaierror)
    assert "nowhere" in str(client.bev.error)
    assert base.dispatch() == 1  # no time-out runs on
    client.bev.close()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("first", ["refused", "no such family"])
def test_when_the_first_address_fails_the_second_is_tried(
    base: EventBase, greeter: Address, closed_address: Address, at_once: bool, first: str
) -> None:
    bad = (socket.AF_INET, closed_address) if first == "refused" else (99, ("x", 1))
    resolver = DictResolver(base, {"two": [bad, (socket.AF_INET, greeter)]}, at_once)
    client = Client(base)
    client.bev.write(b"kept")
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "two", 80)
    base.dispatch()
    assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
    assert client.bev.dns_error == 0
    client.bev.close()


def test_when_every_address_fails_the_last_error_is_told(
    base: EventBase, closed_address: Address
) -> None:
    for table, code in (
        ([(socket.AF_INET, closed_address)] * 2, errno.ECONNREFUSED),
        ([(99, ("x", 1))], errno.EAFNOSUPPORT),
    ):
        resolver = DictResolver(base, {"bad": table})
        client = Client(base)
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "bad", 80)
        base.dispatch()
        assert client.events == [BEV_EVENT_ERROR]
        assert client.bev.error is not None
        assert client.bev.error.errno == code
        assert client.bev.dns_error == 0
        client.bev.close()


def test_closing_cancels_the_lookup(base: EventBase) -> None:
    resolver = DictResolver(base, {"greeter": [(socket.AF_INET, (LOOPBACK, 1))]}, at_once=False)
    bev = BufferEvent(base)
    bev.setcb(never, never, never)
    bev.connect_hostname(resolver, socket.AF_UNSPEC, "greeter", 80)
    with pytest.raises(StateError, match="resolving"):
        bev.connect((LOOPBACK, 80))
    bev.close()
    assert resolver.cancelled == 1
    assert base.dispatch() == 1


def test_no_time_out_runs_during_the_lookup(fake_base: EventBase, clock: FakeClock) -> None:
    resolver = DictResolver(fake_base, {"slow": int(EVUTIL_EAI_NONAME)}, at_once=False)
    resolver.base = SlowPosts(fake_base)  # type: ignore[assignment]
    client = Client(fake_base)
    client.bev.enable(EV_READ | EV_WRITE)
    client.bev.set_timeouts(1, 1)
    client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "slow", 80)
    fake_base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    client.bev.close()


class SlowPosts:
    """A base whose posted calls run a minute later."""

    def __init__(self, base: EventBase) -> None:
        self.base = base

    def post(self, fn: Callable[..., object], *args: object) -> None:
        self.base.timer(lambda *_: fn(*args)).add(60)


def test_a_numeric_host_needs_no_resolver(base: EventBase, greeter: Address) -> None:
    client = Client(base)
    client.bev.connect_hostname(None, socket.AF_UNSPEC, *greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


def test_a_numeric_host_of_another_family_is_a_failed_lookup(base: EventBase) -> None:
    client = Client(base)
    client.bev.connect_hostname(None, socket.AF_INET6, LOOPBACK, 80)
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert client.bev.dns_error == EVUTIL_EAI_ADDRFAMILY
    client.bev.close()


@pytest.mark.parametrize(
    ("family", "host", "port"),
    [
        (socket.AF_UNIX, "host", 80),
        (socket.AF_INET, "", 80),
        (socket.AF_INET, "host", 0),
        (socket.AF_INET, "host", 65536),
        (socket.AF_INET, "host", 80),
    ],
)
def test_bad_arguments_raise_at_once_and_leave_it_unconnected(
    base: EventBase, greeter: Address, family: int, host: str, port: int
) -> None:
    """The last is a name without a resolver."""
    client = Client(base)
    with pytest.raises(ArgumentError):
        client.bev.connect_hostname(None, family, host, port)
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()


def test_a_resolver_that_raises_leaves_it_unconnected(base: EventBase, greeter: Address) -> None:
    class Broken:
        def getaddrinfo(self, *args: object) -> None:
            raise Boom

    client = Client(base)
    with pytest.raises(Boom):
        client.bev.connect_hostname(Broken(), socket.AF_UNSPEC, "host", 80)
    client.bev.connect(greeter)
    base.dispatch()
    assert client.at_end == b"hello"
    client.bev.close()
