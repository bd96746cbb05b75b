"""What a bufferevent stands on: sockets, pipes, numbers, bases."""

from __future__ import annotations

import errno
import os
import pty
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_TRIG_DEFER_CALLBACKS,
    EV_CLOSED,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    EventBase,
    SocketError,
    StateError,
)
from tests.core.bevs import Log, Pair, close_bev, never

pytestmark = pytest.mark.every_backend


@pytest.fixture
def log() -> Log:
    return Log()


def test_pipes_by_descriptor_number(base: EventBase, log: Log) -> None:
    read_fd, write_fd = os.pipe()
    payload = os.urandom(200_000)
    with (
        BufferEvent(base, write_fd, BEV_OPT_CLOSE_ON_FREE) as sender,
        log.attach(BufferEvent(base, read_fd, BEV_OPT_CLOSE_ON_FREE)) as receiver,
    ):
        assert sender.socket is None
        assert sender.fd == write_fd
        sender.setcb(None, close_bev, never)
        sender.write(payload)
        receiver.enable(EV_READ)
        assert base.dispatch() == 1
    assert log.data == payload
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    for fd in (read_fd, write_fd):
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


@pytest.mark.parametrize("kind", ["number", "socket"])
def test_without_close_on_free_the_descriptor_stays_open(
    base: EventBase, pair: Pair, kind: str
) -> None:
    with BufferEvent(base, pair[0] if kind == "socket" else pair[0].fileno()) as bev:
        assert isinstance(bev.socket, socket.socket)
        bev.write(b"x")
        base.dispatch()
    pair[0].send(b"y")
    assert pair[1].recv(9) == b"xy"


def test_what_is_no_descriptor_is_refused(base: EventBase) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    os.close(write_fd)
    with pytest.raises(SocketError, match=str(read_fd)):
        BufferEvent(base, read_fd)
    with pytest.raises(ArgumentError, match="-7"):
        BufferEvent(base, -7)
    with pytest.raises(ArgumentTypeError, match="str"):
        BufferEvent(base, "1")  # type: ignore[arg-type]
    assert BufferEvent(base, -1).fd == -1


def test_setfd_goes_on_over_the_new_descriptor(
    base: EventBase, pairs: Callable[[], Pair], log: Log
) -> None:
    """What is enabled and what is unsent move over; the old one stays open, and is let alone."""
    (old, old_peer), (new, new_peer) = pairs(), pairs()
    with log.attach(BufferEvent(base, old, BEV_OPT_CLOSE_ON_FREE)) as bev:
        bev.enable(EV_READ)
        base.loop(EVLOOP_NONBLOCK)
        bev.write(b"output")
        bev.setfd(new)
        assert bev.fd == new.fileno()
        assert bev.socket is new
        old_peer.send(b"not ours")
        new_peer.send(b"input")
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"input"
        assert new_peer.recv(99) == b"output"
        assert old.recv(99) == b"not ours"
        assert bev.enabled == EV_READ | EV_WRITE
    assert new.fileno() == -1
    old.send(b"still open")


def test_setfd_of_nothing_leaves_it_waiting_for_another(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.enable(EV_READ)
        for nothing in (None, -1):
            bev.setfd(nothing)
            assert bev.fd == -1
            assert bev.socket is None
        bev.write(b"kept")
        assert base.dispatch() == 1
        bev.setfd(pair[0])
        base.loop(EVLOOP_NONBLOCK)
        assert pair[1].recv(99) == b"kept"
        pair[1].send(b"heard")
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"heard"


@pytest.mark.parametrize("enabled", [EV_WRITE, 0])
def test_setfd_registers_the_enabled_directions_anew(
    base: EventBase, pairs: Callable[[], Pair], log: Log, enabled: int
) -> None:
    """So that writing gets one callback even with an empty output."""
    (old, _), (new, _) = pairs(), pairs()
    with log.attach(BufferEvent(base, old)) as bev:
        bev.disable(EV_READ | EV_WRITE)
        bev.enable(enabled)
        bev.setfd(new)
        assert base.dispatch() == 1
        assert log.calls == ["write"] * bool(enabled)


@pytest.mark.parametrize("how", ["setfd", "replacefd"])
def test_what_is_no_descriptor_changes_nothing(
    base: EventBase, pair: Pair, log: Log, how: str
) -> None:
    with log.attach(BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)) as bev:
        bev.enable(EV_READ)
        with pytest.raises(ArgumentTypeError, match="str"):
            getattr(bev, how)("fd")
        with pytest.raises(SocketError):
            getattr(bev, how)(2**20)
        assert bev.socket is pair[0]
        pair[1].send(b"x")
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"x"
        bev.close()
        with pytest.raises(StateError, match="closed"):
            getattr(bev, how)(pair[1])


@pytest.mark.parametrize("options", [0, BEV_OPT_CLOSE_ON_FREE])
def test_replacefd_closes_the_old_descriptor(
    base: EventBase, pairs: Callable[[], Pair], options: int
) -> None:
    """Whether it would have been closed in the end or not."""
    (old, old_peer), (new, new_peer) = pairs(), pairs()
    with BufferEvent(base, old, options) as bev:
        bev.replacefd(new)
        assert old.fileno() == -1
        assert old_peer.recv(9) == b""
        bev.write(b"x")
        assert base.dispatch() == 1
        assert new_peer.recv(9) == b"x"
        bev.replacefd(None)
        assert new.fileno() == -1


def test_descriptor_numbers_can_be_exchanged_for_each_other(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    (old, old_peer), (new, new_peer) = pairs(), pairs()
    with BufferEvent(base, old.fileno()) as bev:
        bev.setfd(new.fileno())
        old.send(b"still open")
        bev.write(b"x")
        assert base.dispatch() == 1
    assert new_peer.recv(9) == b"x"
    assert old_peer.recv(99) == b"still open"
    new.send(b"still open")


def test_a_callback_may_exchange_the_descriptor_under_itself(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    (old, old_peer), (new, new_peer) = pairs(), pairs()
    got: list[bytes] = []

    def readable(bev: BufferEvent, ctx: object) -> None:
        got.append(bev.read())
        if bev.socket is old:
            bev.setfd(new)

    with BufferEvent(base, old) as bev:
        bev.setcb(readable, None, never)
        bev.enable(EV_READ)
        old_peer.send(b"old")
        new_peer.send(b"new")
        base.loop(EVLOOP_NONBLOCK)
    assert got == [b"old", b"new"]


def test_an_output_callback_may_take_the_descriptor_away_in_the_middle_of_a_send(
    base: EventBase, pair: Pair
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.write(b"sent")
        bev.output.add_cb(lambda buffer, info, arg: bev.setfd(None) if info.n_deleted else None)
        assert base.dispatch() == 1
        assert bev.fd == -1
        assert pair[1].recv(9) == b"sent"


def test_an_idle_one_moves_to_another_base(base: EventBase, pair: Pair, log: Log) -> None:
    """With the new base's middle priority."""
    with EventBase() as other, log.attach(BufferEvent(base, pair[0])) as bev:
        other.priority_init(5)
        bev.set_timeouts(60, 60)
        bev.trigger(EV_READ, BEV_TRIG_DEFER_CALLBACKS)
        base.loop(EVLOOP_NONBLOCK)
        log.calls.clear()
        bev.base = other
        assert bev.base is other
        assert bev.priority == 2
        bev.enable(EV_READ)
        bev.write(b"out")
        pair[1].send(b"in")
        assert base.dispatch() == 1
        assert log.calls == []
        other.loop(EVLOOP_NONBLOCK)
        assert sorted(log.calls) == ["read", "write"]
        assert pair[1].recv(9) == b"out"
        bev.close()


@pytest.mark.parametrize("busy", ["reading", "writing", "to send", "timing", "due"])
def test_one_that_is_not_idle_stays_on_its_base(
    fake_base: EventBase, pair: Pair, log: Log, busy: str
) -> None:
    with EventBase() as other, log.attach(BufferEvent(fake_base, pair[0])) as bev:
        if busy == "reading":
            bev.enable(EV_READ)
        elif busy == "writing":
            bev.enable(EV_WRITE)
        elif busy == "to send":
            bev.write(b"x")
        elif busy == "due":
            bev.trigger(EV_READ, BEV_TRIG_DEFER_CALLBACKS)
        else:
            bev.setfd(None)
            bev.set_timeouts(60, None)
            bev.enable(EV_READ)
        with pytest.raises(StateError, match="idle"):
            bev.base = other
        assert bev.base is fake_base


def test_no_move_to_or_of_what_is_closed(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        closed = EventBase()
        closed.close()
        with pytest.raises(StateError):
            bev.base = closed
        assert bev.base is base
    with pytest.raises(StateError):
        bev.base = base


# What a borrowed descriptor is when it is given back.


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Return a pseudo-terminal: the program's side, and the terminal."""
    ends = pty.openpty()
    yield ends
    for fd in ends:
        with suppress(OSError):
            os.close(fd)


@pytest.mark.parametrize("how", ["close", "base first", "setfd", "replacefd"])
@pytest.mark.parametrize("blocks", [True, False])
def test_a_borrowed_number_gets_its_blocking_mode_back(
    terminal: tuple[int, int], how: str, blocks: bool
) -> None:
    master, slave = terminal
    shared = os.dup(slave)  # the mode is the file's, not the number's
    os.set_blocking(slave, blocks)
    base = EventBase()
    bev = BufferEvent(base, slave)
    bev.enable(EV_READ)
    assert not os.get_blocking(slave)
    if how == "base first":
        base.close()
    elif how != "close":
        getattr(bev, how)(master)
    if how in ("close", "base first"):
        bev.close()
    assert os.get_blocking(shared) == blocks
    bev.close()
    base.close()
    os.close(shared)


@pytest.mark.parametrize("timeout", [None, 2.5, 0.0])
def test_a_borrowed_socket_gets_its_timeout_back(
    base: EventBase, pair: Pair, timeout: float | None
) -> None:
    pair[0].settimeout(timeout)
    with BufferEvent(base, pair[0]) as bev:
        assert pair[0].gettimeout() == 0.0
        bev.setfd(pair[0])
        assert pair[0].gettimeout() == 0.0
    assert pair[0].gettimeout() == timeout


def test_a_number_that_is_another_file_by_now_is_left_alone(base: EventBase) -> None:
    reader, writer = os.pipe()
    others, other = os.pipe()
    os.set_blocking(other, False)
    bev = BufferEvent(base, reader)
    os.dup2(other, reader)
    bev.close()
    assert not os.get_blocking(reader)
    for fd in (reader, writer, others, other):
        os.close(fd)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")
def test_a_forked_child_leaves_the_blocking_mode_to_its_parent(
    base: EventBase, terminal: tuple[int, int]
) -> None:
    with BufferEvent(base, terminal[1]) as bev:
        child = os.fork()
        if not child:
            bev.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert not os.get_blocking(terminal[1])
    assert os.get_blocking(terminal[1])


def test_the_hangup_of_a_pseudo_terminal_is_an_end_of_file(
    base: EventBase, terminal: tuple[int, int], log: Log
) -> None:
    """Linux says EIO to who reads the other side."""
    master, slave = terminal
    with log.attach(BufferEvent(base, master)) as bev:
        bev.enable(EV_READ)
        os.write(slave, b"last line")
        os.close(slave)
        while not log.events:
            base.loop(EVLOOP_ONCE)
    assert log.data == b"last line"
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]


def test_what_enable_is_refused_is_not_enabled(base: EventBase, pair: Pair) -> None:
    """What was enabled before stays so."""
    bev = BufferEvent(base, os.dup(pair[0].fileno()))
    os.close(bev.fd)
    with pytest.raises(SocketError):
        bev.enable(EV_READ | EV_WRITE)
    assert bev.enabled == EV_WRITE
    bev.close()


@pytest.mark.parametrize("events", [EV_CLOSED, EV_READ | EV_CLOSED, EV_TIMEOUT, 64])
@pytest.mark.parametrize("how", ["enable", "disable"])
def test_only_directions_are_enabled(base: EventBase, pair: Pair, events: int, how: str) -> None:
    with BufferEvent(base, pair[0]) as bev:
        with pytest.raises(ArgumentError):
            getattr(bev, how)(events)
        with pytest.raises(ArgumentTypeError):
            getattr(bev, how)("2")
        assert bev.enabled == EV_WRITE


def test_what_cannot_be_watched_later_is_an_event(base: EventBase, pair: Pair, log: Log) -> None:
    """When reading resumes from inside the loop, or a call that is not about it."""
    bev = log.attach(BufferEvent(base, os.dup(pair[0].fileno())))
    bev.setcb(None, None, log.event)
    bev.setwatermark(EV_READ, 0, 4)
    bev.enable(EV_READ)
    pair[1].send(b"12345678")
    base.loop(EVLOOP_ONCE)
    os.close(bev.fd)
    assert bev.read() == b"1234"
    base.loop(EVLOOP_NONBLOCK)
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_ERROR]
    assert bev.error is not None
    assert bev.error.errno == errno.EBADF
    bev.close()
