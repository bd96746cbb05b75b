"""Closing destroys nothing that was sent, and works in any order."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BEV_TRIG_DEFER_CALLBACKS,
    EV_PERSIST,
    EV_READ,
    EVENT_BASE_COUNT_ADDED,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    BufferEvent,
    CheckWatcher,
    ConnListener,
    Event,
    EventBase,
    FakeClock,
    PrepareWatcher,
    RateLimitGroup,
    StateError,
    TokenBucketCfg,
)
from evsvc.core.bufferevent import lingering
from evsvc.core.bufferevent.lingering import CLOSE_LINGER_S
from tests.core.bevs import LOOPBACK, Log, Pair
from tests.core.kinds import KINDS

SIZE = 4_000_000


@pytest.fixture
def tcp() -> Iterator[Pair]:
    """Return two connected TCP sockets; the second reads little at a time."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def take(sock: socket.socket) -> int:
    """Take what there is; return -1 at the end."""
    total = 0
    while True:
        try:
            data = sock.recv(1 << 20)
        except BlockingIOError:
            return total
        if not data:
            return total or -1
        total += len(data)


def written(base: EventBase, bev: BufferEvent, peer: socket.socket, size: int) -> int:
    """Write until the kernel has all; return how much the peer has taken meanwhile."""
    taken = 0
    bev.write(bytes(size))
    while len(bev.output):
        base.loop(EVLOOP_NONBLOCK)
        if len(bev.output):
            taken += max(take(peer), 0)
    return taken


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_what_the_peer_says_does_not_reset_what_was_sent(
    base: EventBase, tcp: Pair, when: str
) -> None:
    """Unread at the close, or arriving after it: all that was sent comes, and then the end."""
    ours, theirs = tcp
    bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
    if when != "after":
        theirs.send(b"a greeting that nobody reads")
    taken = written(base, bev, theirs, SIZE)
    bev.close()
    if when != "before":
        theirs.send(b"something else")
    while True:
        base.loop(EVLOOP_NONBLOCK)
        size = take(theirs)
        if size < 0:
            break
        taken += size
    assert taken == SIZE
    assert base.dispatch() == 1


def test_a_socket_lingers_for_so_long_and_is_closed(
    fake_base: EventBase, clock: FakeClock, tcp: Pair
) -> None:
    """Though the peer takes nothing; the loop stays for it."""
    ours, _ = tcp
    bev = BufferEvent(fake_base, ours, BEV_OPT_CLOSE_ON_FREE)
    bev.write(bytes(SIZE))
    fake_base.loop(EVLOOP_NONBLOCK)
    number = ours.fileno()
    start = clock.monotonic()
    bev.close()
    os.fstat(number)
    assert fake_base.dispatch() == 1
    assert clock.monotonic() - start == pytest.approx(CLOSE_LINGER_S, abs=0.2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_what_has_arrived_is_read_up_to_a_limit(
    base: EventBase, tcp: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "CLOSE_DRAIN_BYTES", 10)
    ours, theirs = tcp
    theirs.send(bytes(10))
    bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
    bev.close()
    assert take(theirs) == -1


def test_beyond_the_limit_a_close_is_a_reset(
    base: EventBase, tcp: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "CLOSE_DRAIN_BYTES", 10)
    ours, theirs = tcp
    theirs.send(bytes(11))
    bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
    bev.close()
    with pytest.raises(ConnectionResetError):
        take(theirs)


def test_nothing_lingers_when_all_is_confirmed(base: EventBase, tcp: Pair) -> None:
    ours, theirs = tcp
    bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
    bev.write(b"x")
    base.loop(EVLOOP_NONBLOCK)
    assert theirs.recv(9) == b"x"
    bev.close()
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0
    assert take(theirs) == -1


def test_a_socket_that_is_to_be_reset_does_not_linger(base: EventBase, tcp: Pair) -> None:
    ours, _ = tcp
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
    bev.write(bytes(SIZE))
    base.loop(EVLOOP_NONBLOCK)
    bev.close()
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0
    assert ours.fileno() == -1


def test_a_socket_of_the_program_is_left_alone(base: EventBase, tcp: Pair) -> None:
    ours, theirs = tcp
    theirs.send(b"for the program")
    with BufferEvent(base, ours) as bev:
        bev.write(bytes(SIZE))
        base.loop(EVLOOP_NONBLOCK)
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0
    assert ours.recv(99) == b"for the program"


def test_what_lingers_is_closed_with_its_base(tcp: Pair) -> None:
    ours, _ = tcp
    with EventBase() as base:
        bev = BufferEvent(base, ours, BEV_OPT_CLOSE_ON_FREE)
        bev.write(bytes(SIZE))
        base.loop(EVLOOP_NONBLOCK)
        bev.close()
        assert ours.fileno() != -1
    assert ours.fileno() == -1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")
@pytest.mark.parametrize("who", ["parent", "child"])
def test_after_a_fork_a_close_takes_nothing_from_the_other_process(tcp: Pair, who: str) -> None:
    """Neither its unread input nor its end of the connection."""
    ours, theirs = tcp
    theirs.send(b"for the other")
    with EventBase() as base:
        bev = BufferEvent(base, ours.dup(), BEV_OPT_CLOSE_ON_FREE)
        bev.write(bytes(SIZE))
        base.loop(EVLOOP_NONBLOCK)
        child = os.fork()
        if not child:
            if who == "child":
                bev.close()
            os._exit(0)
        os.waitpid(child, 0)
        if who == "parent":
            bev.close()
            assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0
        assert ours.recv(99) == b"for the other"
        while take(theirs):
            pass
        assert ours.send(b"still open") == 10
        assert theirs.recv(99) == b"still open"
        bev.close()


def loaded(base: EventBase, bev: BufferEvent) -> None:
    """Have everything going on that a bufferevent can have."""
    bev.setcb(lambda *_: None, lambda *_: None, lambda *_: None)
    bev.set_timeouts(5, 5)
    bev.set_rate_limit(TokenBucketCfg(10, 10, 10, 10, 0.05))
    bev.setwatermark(EV_READ, 0, 100)
    bev.enable(EV_READ)
    bev.write(bytes(100_000))
    base.loop(EVLOOP_NONBLOCK)
    bev.write(b"more")
    bev.trigger(EV_READ, BEV_TRIG_DEFER_CALLBACKS)


@pytest.mark.parametrize("options", ["idle", "loaded", "finishing"])
@pytest.mark.parametrize("kind", KINDS)
def test_bufferevents_and_groups_close_after_their_base(kind: str, options: str) -> None:
    base = EventBase()
    one, other = KINDS[kind](base, 0)
    for _ in range(3):
        base.loop(EVLOOP_NONBLOCK)
    group = RateLimitGroup(base, TokenBucketCfg(10, 10, 10, 10, 0.05))
    if options != "idle":
        for bev in (one, other):
            loaded(base, bev)  # type: ignore[arg-type]
            if kind != "pair":
                bev.add_to_rate_limit_group(group)
    if options == "finishing":
        one.finish()
    base.close()
    for closed in (one, other, group):
        closed.close()
        closed.close()
    assert one._references == other._references == 0


def test_everything_else_closes_after_its_base(tcp: Pair) -> None:
    base = EventBase()
    made: list[Callable[[], object]] = []
    with ExitStack() as stack:
        stack.enter_context(base)
        listener = ConnListener.new_bind(base, lambda *_: None, None, 0, -1, (LOOPBACK, 0))
        connecting = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        connecting.connect(listener.address)
        event = Event(base, tcp[0], EV_READ | EV_PERSIST, lambda *_: None)
        event.add(5)
        made = [
            listener.close,
            connecting.close,
            event.close,
            PrepareWatcher(base, lambda *_: None).close,
            CheckWatcher(base, lambda *_: None).close,
        ]
    for close in made:
        close()


def test_after_the_base_only_what_needs_it_is_refused(base: EventBase, tcp: Pair) -> None:
    with EventBase() as other:
        bev = BufferEvent(other, tcp[0])
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        tcp[1].send(b"123456")
        other.loop(EVLOOP_ONCE)
    assert bev.read() == b"1234"
    bev.disable(EV_READ)
    with pytest.raises(StateError, match="closed"):
        bev.enable(EV_READ)
    assert not bev.enabled & EV_READ
    bev.close()


def test_no_callback_comes_after_the_base(tcp: Pair) -> None:
    log = Log()
    with EventBase() as base:
        bev = log.attach(BufferEvent(base, tcp[0]))
        bev.trigger(EV_READ, BEV_TRIG_DEFER_CALLBACKS)
    bev.close()
    assert log.calls == []
