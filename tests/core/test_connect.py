"""Connecting to an address, IP or Unix: refusal, order of callbacks, cancelling."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

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
    ArgumentError,
    BevEvent,
    BufferEvent,
    ConnListener,
    EventBase,
    FakeClock,
    StateError,
)
from tests.core.bevs import (
    LOOPBACK,
    Address,
    Client,
    greeting_listener,
    never,
)


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
    "address",
    [
        ("localhost", 80),
        (LOOPBACK,),
        (LOOPBACK, 65536),
        (LOOPBACK, -1),
        (LOOPBACK, "80"),
        (LOOPBACK, 80, "x"),
        ("::1", 80, -1, 0),
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


def test_a_unix_path_that_is_too_long_is_an_error_from_the_loop(base: EventBase) -> None:
    client = Client(base)
    client.bev.connect("/" + "x" * 200)
    assert client.events == []
    base.dispatch()
    assert client.events == [BEV_EVENT_ERROR]
    client.bev.close()


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
