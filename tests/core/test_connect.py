"""Connecting to an address, IP or Unix: refusal, order of callbacks, cancelling."""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import socket
from collections.abc import Iterator
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
    EVLOOP_ONCE,
    ArgumentError,
    ArgumentTypeError,
    BevEvent,
    BufferEvent,
    ConnectOptions,
    ConnListener,
    EventBase,
    FakeClock,
    SocketError,
    StateError,
)
from evsvc.core.bufferevent.connect import (
    ATTEMPT_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    UNIX_QUEUE_RETRY_S,
)
from evsvc.core.util.addresses import MAX_UNIX_PATH_BYTES
from tests.core.bevs import (
    LOOPBACK,
    Address,
    Client,
    DictResolver,
    greeting_listener,
    never,
)

NEEDS_IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


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
        assert isinstance(bev.error, ConnectionRefusedError)
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
        assert base.got_exit


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
    pipe = os.pipe()
    for fd in pipe:
        with (
            BufferEvent(base, fd, BEV_OPT_CLOSE_ON_FREE) as bev,
            pytest.raises(StateError, match="open"),
        ):
            bev.connect(greeter)
    with BufferEvent(base) as bev:
        bev.connect(greeter)
        with pytest.raises(StateError, match="connecting"):
            bev.connect(greeter)
        with pytest.raises(StateError, match="connecting"):
            bev.connect_hostname(None, socket.AF_UNSPEC, LOOPBACK, 80)


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (("localhost", 80), ArgumentError),
        ((LOOPBACK,), ArgumentError),
        ((LOOPBACK, 65536), ArgumentError),
        ((LOOPBACK, -1), ArgumentError),
        ((LOOPBACK, "80"), ArgumentTypeError),
        ((LOOPBACK, 80, "x"), ArgumentError),
        (("::1", 80, -1, 0), ArgumentError),
        ((1, 80), ArgumentTypeError),
        (None, ArgumentError),
        (80, ArgumentTypeError),
        (LOOPBACK, ArgumentError),
    ],
)
def test_what_is_no_address_is_refused_at_once(
    base: EventBase, address: object, error: type[Exception]
) -> None:
    """A wrong type is named as a type."""
    with BufferEvent(base) as bev:
        with pytest.raises(error):
            bev.connect(address)
        assert bev.fd == -1
    assert base.dispatch() == 1


def test_a_unix_path_that_is_too_long_is_refused_at_once(base: EventBase) -> None:
    with BufferEvent(base) as bev:
        with pytest.raises(ArgumentError, match="too long"):
            bev.connect("/" + "x" * MAX_UNIX_PATH_BYTES)
        bev.connect("/" + "x" * (MAX_UNIX_PATH_BYTES - 1))


@pytest.mark.parametrize("path", ["", "/tmp/a\0b"])
def test_a_path_that_the_kernel_would_take_for_another_is_refused(
    base: EventBase, path: str
) -> None:
    with BufferEvent(base) as bev:
        with pytest.raises(ArgumentError, match="path"):
            bev.connect(path)
        assert bev.socket is None


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


@pytest.fixture
def full(tmp_path: Path) -> Iterator[socket.socket]:
    """Return a Unix listener whose queue has no room: connect(2) answers EAGAIN."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        listener.setblocking(False)
        code = 0
        while not code:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.setblocking(False)
            code = sock.connect_ex(listener.getsockname())
        assert code == errno.EAGAIN
        yield listener


def empty(listener: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        (None, ATTEMPT_TIMEOUT_S),
        (ConnectOptions(attempt_s=3), 3),
        (ConnectOptions(attempt_s=None), ATTEMPT_TIMEOUT_S),
        (ConnectOptions(attempt_s=math.inf), CONNECT_TIMEOUT_S),
    ],
)
def test_a_unix_queue_that_stays_full_is_an_error_in_the_end(
    fake_base: EventBase,
    clock: FakeClock,
    full: socket.socket,
    options: ConnectOptions | None,
    limit: float,
) -> None:
    """Nothing is under way meanwhile, and nothing else is waited for."""
    start = clock.monotonic()
    client = Client(fake_base)
    client.bev.connect(full.getsockname(), options)
    fake_base.loopexit(limit - UNIX_QUEUE_RETRY_S)
    fake_base.dispatch()
    assert client.events == []
    fake_base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert clock.monotonic() - start == pytest.approx(limit)
    assert client.bev.error is not None
    assert client.bev.error.errno == errno.EAGAIN
    assert full.getsockname() in str(client.bev.error)
    assert client.bev.fd == -1
    client.bev.close()


def test_a_full_unix_queue_is_tried_again(
    fake_base: EventBase, clock: FakeClock, full: socket.socket
) -> None:
    client = Client(fake_base)
    client.bev.connect(full.getsockname())
    timer = fake_base.timer(lambda *_: empty(full))
    timer.add(UNIX_QUEUE_RETRY_S * 2.5)
    start = clock.monotonic()
    fake_base.loopexit(1)
    fake_base.dispatch()
    assert client.events[0] == BEV_EVENT_CONNECTED
    assert client.bev.socket is not None
    assert client.bev.socket.getpeername() == full.getsockname()
    assert clock.monotonic() - start <= 1
    client.bev.close()


def test_the_write_time_out_counts_while_a_unix_queue_is_full(
    fake_base: EventBase, clock: FakeClock, full: socket.socket
) -> None:
    client = Client(fake_base)
    client.bev.set_timeouts(None, 2)
    start = clock.monotonic()
    client.bev.connect(full.getsockname())
    fake_base.dispatch()
    assert client.events == [BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING]
    assert clock.monotonic() - start == pytest.approx(2)
    client.bev.close()


def test_closing_ends_the_tries_at_a_full_unix_queue(
    fake_base: EventBase, full: socket.socket
) -> None:
    with BufferEvent(fake_base) as bev:
        bev.setcb(never, never, never)
        bev.connect(full.getsockname())
        fake_base.loopexit(UNIX_QUEUE_RETRY_S * 1.5)
        fake_base.dispatch()
    assert fake_base.dispatch() == 1


@pytest.mark.parametrize("address", [b"@", "path", "str"])
def test_a_path_may_be_bytes_or_a_path_object(
    base: EventBase, tmp_path: Path, address: str | bytes
) -> None:
    path = tmp_path / "s"
    given = {"path": path, "str": str(path)}.get(str(address), os.fsencode(path))
    with greeting_listener(base, given):
        client = Client(base)
        client.bev.connect(given)
        base.dispatch()
        assert client.at_end == b"hello"
        client.bev.close()


@pytest.mark.parametrize("address", [b"s", Path("s"), "./s"])
def test_where_a_listener_is_can_be_connected_to(
    base: EventBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | bytes | Path
) -> None:
    """A path in the working directory, too: what the kernel returns has a slash."""
    monkeypatch.chdir(tmp_path)
    with greeting_listener(base, address) as listener:
        client = Client(base)
        client.bev.connect(listener.address)
        base.dispatch()
        assert client.at_end == b"hello"
        client.bev.close()


LOOPBACKS = [LOOPBACK, pytest.param("::1", marks=NEEDS_IPV6)]


@pytest.mark.parametrize("host", LOOPBACKS)
@pytest.mark.parametrize("options", [None, ConnectOptions(), ConnectOptions(nodelay=False)])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_small_writes_are_sent_at_once_unless_asked_otherwise(
    base: EventBase, host: str, options: ConnectOptions | None, by_name: bool, own: bool
) -> None:
    """TCP_NODELAY, on both sides of a connection."""
    accepted: list[socket.socket] = []

    def accept(lev: ConnListener, sock: socket.socket, address: object, arg: object) -> None:
        accepted.append(sock)

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    nodelay = options is None or options.nodelay
    with (
        ConnListener.new_bind(base, accept, address=(host, 0), nodelay=nodelay) as listener,
        socket.socket(family) as sock,
        BufferEvent(base, sock if own else None) as bev,
    ):
        port = listener.address[1]
        if by_name:
            bev.connect_hostname(None, family, host, port, options)
        else:
            bev.connect((host, port), options)
        while not accepted or bev.socket is None:
            base.loop(EVLOOP_ONCE)
        for one in (bev.socket, accepted[0]):
            with one:
                assert bool(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == nodelay


def test_what_the_program_connects_itself_is_left_as_it_is(
    base: EventBase, greeter: Address
) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(greeter)
        with BufferEvent(base, sock) as bev:
            bev.connect()
            assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@NEEDS_IPV6
@pytest.mark.parametrize(
    ("how", "by_name"),
    [
        *itertools.product(["zone", "number", "scope id"], ["no", "resolver"]),
        ("zone", "numeric"),
        ("number", "numeric"),
    ],
)
def test_the_zone_reaches_the_kernel(base: EventBase, how: str, by_name: str) -> None:
    """Loopback has no link-local address: without a zone it is EINVAL, with it there is no way."""
    index, name = next(each for each in socket.if_nameindex() if each[1].startswith("lo"))
    with socket.socket(socket.AF_INET6) as sock:
        sock.setblocking(False)
        expected = sock.connect_ex(("fe80::1", 9, 0, index))
    assert expected != errno.EINVAL
    host = {"zone": f"fe80::1%{name}", "number": f"fe80::1%{index}"}.get(how, "fe80::1")
    address: tuple[Any, ...] = (host, 9) if "%" in host else (host, 9, 0, index)
    client = Client(base)
    if by_name == "no":
        client.bev.connect(address)
    elif by_name == "resolver":
        resolver = DictResolver(base, {"name": [(socket.AF_INET6, address)]})
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "name", 9)
    else:
        client.bev.connect_hostname(None, socket.AF_INET6, host, 9)
    base.loopexit(1)
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    assert client.bev.error is not None
    assert client.bev.error.errno == expected
    client.bev.close()


@pytest.mark.parametrize("outcome", ["refused", "gone", "no such family"])
def test_every_error_has_an_errno_and_names_the_address(
    base: EventBase, closed_address: Address, tmp_path: Path, outcome: str
) -> None:
    address: Any = closed_address if outcome == "refused" else str(tmp_path / "gone")
    client = Client(base)
    if outcome == "no such family":
        resolver = DictResolver(base, {"host": [(99, closed_address)]})
        client.bev.connect_hostname(resolver, socket.AF_UNSPEC, "host", 80)
        address = closed_address
    else:
        client.bev.connect(address)
    base.dispatch()
    assert client.bev.error is not None
    assert client.bev.error.errno
    assert (address if isinstance(address, str) else str(address[1])) in str(client.bev.error)
    client.bev.close()


def test_without_descriptors_connect_raises_with_the_errno(
    base: EventBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EMFILE, "too many")

    with BufferEvent(base) as bev:
        monkeypatch.setattr(socket, "socket", refuse)
        with pytest.raises(SocketError) as caught:
            bev.connect((LOOPBACK, 80))
        monkeypatch.undo()
        assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize("options", [5, "x", {"nodelay": False}])
def test_options_are_connect_options(base: EventBase, options: Any) -> None:
    with BufferEvent(base) as bev:
        with pytest.raises(ArgumentTypeError, match="ConnectOptions"):
            bev.connect((LOOPBACK, 80), options)
        with pytest.raises(ArgumentTypeError, match="ConnectOptions"):
            bev.connect_hostname(None, socket.AF_INET, LOOPBACK, 80, options)
        assert bev.fd == -1
    assert base.dispatch() == 1


def test_without_an_address_the_socket_is_connecting_already(
    base: EventBase, greeter: Address
) -> None:
    """The program has called connect(2) itself; the outcome is reported as for any other."""
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(greeter) == errno.EINPROGRESS
        client = Client(base, 0, sock)
        client.bev.write(b"kept until then")
        client.bev.connect()
        assert client.events == []
        with pytest.raises(StateError, match="connecting"):
            client.bev.connect()
        base.dispatch()
        assert client.events == [BEV_EVENT_CONNECTED, BEV_EVENT_READING | BEV_EVENT_EOF]
        assert client.at_end == b"hello"
        client.bev.close()


def test_without_an_address_a_refusal_is_told_as_well(
    base: EventBase, closed_address: Address
) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(closed_address)
        client = Client(base, 0, sock)
        client.bev.connect()
        base.dispatch()
        assert client.events == [BEV_EVENT_ERROR]
        assert client.bev.error is not None
        assert client.bev.error.errno == errno.ECONNREFUSED
        client.bev.close()


def test_without_an_address_there_must_be_a_socket(base: EventBase) -> None:
    with BufferEvent(base) as bev, pytest.raises(ArgumentError, match="address"):
        bev.connect()
    with pytest.raises(StateError, match="closed"):
        bev.connect()


def test_a_socket_of_another_family_is_refused_at_once(base: EventBase, greeter: Address) -> None:
    with socket.socket(socket.AF_UNIX) as sock, BufferEvent(base, sock) as bev:
        with pytest.raises(ArgumentError, match=LOOPBACK):
            bev.connect(greeter)
        assert bev.fd == sock.fileno()


@pytest.mark.parametrize("how", ["setfd", "replacefd"])
def test_another_descriptor_ends_the_connect(
    base: EventBase, greeter: Address, pair: tuple[socket.socket, socket.socket], how: str
) -> None:
    """No outcome is told; the socket of `connect` is the program's with setfd."""
    with BufferEvent(base) as bev:
        bev.setcb(never, None, never)
        bev.connect(greeter)
        sock = bev.socket
        assert sock is not None
        getattr(bev, how)(pair[0])
        assert (sock.fileno() == -1) == (how == "replacefd")
        bev.write(b"x")
        base.loopexit(0.02)
        base.dispatch()
        assert pair[1].recv(9) == b"x"
        sock.close()


def test_while_connecting_there_is_no_moving_to_another_base(
    base: EventBase, greeter: Address
) -> None:
    with EventBase() as other, BufferEvent(base) as bev:
        bev.connect(greeter)
        with pytest.raises(StateError, match="connecting"):
            bev.base = other


@pytest.mark.parametrize("priority", [0, 2])
def test_the_outcome_has_the_priority_of_the_bufferevent(
    base: EventBase, closed_address: Address, priority: int
) -> None:
    base.priority_init(3)
    order: list[str] = []
    with BufferEvent(base) as bev:
        bev.priority = priority
        bev.setcb(None, None, lambda *_: order.append("bev"))
        bev.connect(closed_address)
        base.post(lambda: order.append("other"))
        assert base.dispatch() == 1
    assert order == (["bev", "other"] if priority == 0 else ["other", "bev"])
