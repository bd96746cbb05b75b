"""What all kinds of bufferevents have in common, shown with a kind that has no descriptor."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_FINISHED,
    BEV_FLUSH,
    BEV_NORMAL,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    AbstractBufferEvent,
    ArgumentError,
    BevEvent,
    BufferEvent,
    EvBuffer,
    EventBase,
    FakeClock,
    StateError,
)
from evsvc.core.bufferevent.flow import (
    SUSPENDED_BANDWIDTH,
    SUSPENDED_FILTER,
    SUSPENDED_GROUP,
    SUSPENDED_LOOKUP,
    SUSPENDED_WATERMARK,
)
from tests.core.bevs import Log, Pair, count_sends, never

REASONS = (
    SUSPENDED_WATERMARK,
    SUSPENDED_BANDWIDTH,
    SUSPENDED_GROUP,
    SUSPENDED_LOOKUP,
    SUSPENDED_FILTER,
)


class Store(AbstractBufferEvent):
    """A kind whose bytes come from one buffer and go to another, while it wants them."""

    def __init__(self, base: EventBase, options: int = 0) -> None:
        super().__init__(base, options)
        self.source = EvBuffer()
        self.sent = bytearray()
        self.ends = 0

    def supply(self, data: bytes) -> None:
        self.source.add(data)
        self._update_reading()

    def _update_reading(self) -> None:
        room = self._room_to_read()
        if self.flow.wanted & EV_READ and room and self.input.take_from(self.source, room):
            self._bytes_came(defer=True)

    def _update_writing(self) -> None:
        size = len(self.output)
        if self.flow.wanted & EV_WRITE and size:
            self.sent += self.output.copyout()
            self.output.drop(size)
            self._bytes_left(defer=True)
        self._update_timers()

    def _on_close(self) -> None:
        self.ends += 1


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("other", REASONS)
def test_bytes_move_only_when_no_reason_to_suspend_is_left(
    base: EventBase, reason: int, other: int
) -> None:
    """Suspension is a set of reasons; io resumes when all are gone and the direction is enabled."""
    with Store(base) as bev:
        bev.enable(EV_READ)
        for each in (reason, other):
            bev.flow.suspend_reading(each)
            bev.flow.suspend_writing(each)
        bev.supply(b"in")
        bev.write(b"out")
        bev.flow.resume_reading(reason)
        bev.flow.resume_writing(reason)
        assert (bev.read(), bytes(bev.sent)) == ((b"in", b"out") if reason == other else (b"", b""))
        bev.flow.resume_reading(other)
        bev.flow.resume_writing(other)
        assert bev.sent == b"out"
        assert len(bev.source) == 0


def test_what_is_enabled_or_disabled_while_suspended_counts_at_the_end(base: EventBase) -> None:
    """A suspended direction is recorded, and starts when it is resumed."""
    with Store(base) as bev:
        bev.flow.suspend_reading(SUSPENDED_BANDWIDTH)
        bev.flow.suspend_writing(SUSPENDED_BANDWIDTH)
        bev.enable(EV_READ)
        bev.disable(EV_WRITE)
        assert bev.enabled == EV_READ
        bev.supply(b"in")
        bev.write(b"out")
        bev.flow.resume_reading(SUSPENDED_BANDWIDTH)
        bev.flow.resume_writing(SUSPENDED_BANDWIDTH)
        assert bev.read() == b"in"
        assert bev.sent == b""


def test_resuming_what_is_not_suspended_changes_nothing(base: EventBase) -> None:
    with Store(base) as bev:
        bev.source.add(b"in")
        bev.flow.resume_reading(SUSPENDED_GROUP)
        bev.flow.resume_writing(SUSPENDED_GROUP)
        assert bev.read() == b""
        assert bev.enabled == EV_WRITE


def test_callbacks_told_from_inside_a_drain_do_not_run_inside_themselves(base: EventBase) -> None:
    """A drain below the high watermark resumes at once; the callback for it comes later."""
    depth = 0
    seen: list[int] = []

    def readable(bev: Store, ctx: object) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1
        seen.append(len(bev.input))
        bev.read()
        depth -= 1

    with Store(base) as bev:
        bev.setcb(readable, None, never)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        bev.supply(b"0123456789")
        assert seen == []
        assert base.dispatch() == 1
        assert seen == [4, 4, 2]


def test_bytes_are_taken_in_past_frozen_ends_which_stay_frozen(base: EventBase) -> None:
    with Store(base) as bev, Store(base) as other:
        other.disable(EV_WRITE)
        other.write(b"abcdef")
        assert bev.input.take_from(other.output, 4) == 4
        assert bev.input.copyout() == b"abcd"
        with pytest.raises(StateError):
            other.output.drain(1)
        with pytest.raises(StateError):
            bev.input.add(b"x")
        plain = EvBuffer(b"gh")
        assert bev.input.take_from(plain, 99) == 2
        plain.add(b"i")
        plain.drain(1)


def test_time_outs_run_while_something_is_wanted(fake_base: EventBase, clock: FakeClock) -> None:
    """Reading counts while it is not suspended, writing while there is output; each io restarts."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []

    def at(seconds: float, do: object, *args: object) -> None:
        fake_base.timer(lambda *_: do(*args)).add(seconds)  # type: ignore[operator]

    with Store(fake_base) as bev:
        bev.setcb(None, None, lambda bev, what, ctx: told.append((clock.monotonic() - start, what)))
        bev.set_timeouts(10, 3)
        bev.enable(EV_READ)
        at(2, bev.flow.suspend_writing, SUSPENDED_BANDWIDTH)
        at(4, bev.write, b"waits")
        at(5, bev.flow.resume_writing, SUSPENDED_BANDWIDTH)
        at(6, bev.supply, b"sign of life")
        at(8, bev.flow.suspend_reading, SUSPENDED_GROUP)
        at(30, bev.flow.resume_reading, SUSPENDED_GROUP)
        assert fake_base.dispatch() == 1
        assert told == [(pytest.approx(40), BEV_EVENT_TIMEOUT | BEV_EVENT_READING)]
        assert bev.sent == b"waits"
        bev.flow.suspend_writing(SUSPENDED_FILTER)
        bev.write(b"never")
        assert fake_base.dispatch() == 1
        assert len(told) == 1


def test_the_end_and_errors_disable_and_tell(base: EventBase, log: Log) -> None:
    with Store(base) as bev:
        bev.setcb(None, None, log.event)
        bev.enable(EV_READ)
        bev._ended(BEV_EVENT_READING)
        assert bev.enabled == EV_WRITE
        error = ConnectionResetError(104, "reset")
        bev._failed(EV_WRITE, error)
        assert bev.enabled == 0
        assert bev.error is error
        assert log.events == [
            BEV_EVENT_READING | BEV_EVENT_EOF,
            BEV_EVENT_WRITING | BEV_EVENT_ERROR,
        ]


def test_a_kind_has_no_descriptor_unless_it_says_so(base: EventBase, pair: Pair) -> None:
    """Descriptor -1, no setting of it, no priority, no other base, nothing below, no flush."""
    with Store(base) as bev, EventBase() as other:
        assert bev.fd == -1
        assert bev.underlying is None
        with pytest.raises(StateError, match="Store"):
            bev.setfd(pair[0])
        with pytest.raises(StateError, match="Store"):
            bev.priority = 0
        with pytest.raises(StateError, match="Store"):
            bev.base = other
        for mode in (BEV_NORMAL, BEV_FLUSH, BEV_FINISHED):
            assert bev.flush(EV_READ | EV_WRITE, mode) is False
        with pytest.raises(ArgumentError, match="7"):
            bev.flush(EV_WRITE, 7)


def test_the_kind_hears_once_that_it_is_over(base: EventBase) -> None:
    bev = Store(base)
    bev.incref()
    bev.close()
    assert bev.ends == 0
    bev.decref()
    bev.close()
    assert bev.ends == 1


class Allowance:
    """A limiter that lets so many bytes pass in each direction, and then suspends."""

    def __init__(self, bev: BufferEvent, size: int) -> None:
        self.bev = bev
        self.read_left = self.write_left = size
        self.closed = 0
        bev._set_limiter(self)

    def max_to_read(self, most: int) -> int:
        return min(most, self.read_left)

    def max_to_write(self, most: int) -> int:
        return min(most, self.write_left)

    def note_read(self, size: int) -> None:
        self.read_left -= size
        if not self.read_left:
            self.bev.flow.suspend_reading(SUSPENDED_BANDWIDTH)

    def note_written(self, size: int) -> None:
        self.write_left -= size
        if not self.write_left:
            self.bev.flow.suspend_writing(SUSPENDED_BANDWIDTH)

    def refill(self, size: int) -> None:
        self.read_left = self.write_left = size
        self.bev.flow.resume_reading(SUSPENDED_BANDWIDTH)
        self.bev.flow.resume_writing(SUSPENDED_BANDWIDTH)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(("size", "then"), [(5, 1), (6, 0)])
def test_a_limiter_says_how_much_moves_and_hears_how_much_did(
    base: EventBase, pair: Pair, log: Log, size: int, then: int
) -> None:
    """At its limit the direction is suspended, and what is left moves when it resumes."""
    with log.attach(BufferEvent(base, pair[0])) as bev:
        limiter = Allowance(bev, size)
        bev.enable(EV_READ)
        bev.write(b"output")
        pair[1].send(b"inputs")
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"inputs"[:size]
        assert pair[1].recv(99) == b"output"[:size]
        assert (limiter.read_left, limiter.write_left) == (0, 0)
        limiter.refill(9)
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"inputs"
        assert (limiter.read_left, limiter.write_left) == (9 - then, 9 - then)
        pair[1].setblocking(False)
        if then:
            assert pair[1].recv(99) == b"t"
    assert limiter.closed == 1


def test_what_a_limiter_has_suspended_costs_no_system_call(
    base: EventBase, pair: Pair, log: Log
) -> None:
    """Nothing is read or sent, whatever is written meanwhile; without it all moves again."""
    with log.attach(BufferEvent(base, pair[0])) as bev:
        limiter = Allowance(bev, 1)
        sends = count_sends(bev)
        bev.enable(EV_READ)
        bev.write(b"o")
        pair[1].send(b"in")
        base.loop(EVLOOP_NONBLOCK)
        bev.write(b"ut")
        base.loop(EVLOOP_NONBLOCK)
        assert sends == [1]
        assert log.data == b"i"
        bev._set_limiter(None)
        bev.flow.resume_reading(SUSPENDED_BANDWIDTH)
        bev.flow.resume_writing(SUSPENDED_BANDWIDTH)
        base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"in"
        assert pair[1].recv(9) == b"out"
    assert limiter.closed == 0


def test_a_limiter_and_a_high_watermark_both_hold(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        limiter = Allowance(bev, 5)
        bev.setwatermark(EV_READ, 0, 3)
        bev.enable(EV_READ)
        pair[1].send(b"0123456789")
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"012"
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"34"
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b""
        assert limiter.read_left == 0


def test_a_socket_is_what_setfd_takes_in_the_kind_that_has_one(base: EventBase) -> None:
    """The kind over a descriptor overrides what this one refuses."""
    with socket.socket() as sock, BufferEvent(base) as bev:
        bev.setfd(sock)
        assert bev.fd == sock.fileno()
        bev.setfd(None)
        assert bev.fd == -1
