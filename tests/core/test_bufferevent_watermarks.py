"""Watermarks of a bufferevent: when it calls, and when it stops reading."""

from __future__ import annotations

import os

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_READING,
    EV_CLOSED,
    EV_READ,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    BufferEvent,
    EventBase,
)
from tests.core.bevs import Boom, Log, Pair, never

pytestmark = pytest.mark.every_backend


def settle(base: EventBase) -> None:
    for _ in range(5):
        base.loop(EVLOOP_NONBLOCK)


@pytest.fixture
def log() -> Log:
    return Log()


def test_reads_pause_between_the_watermarks(base: EventBase, pair: Pair) -> None:
    """10/20 on the receiver, 65000 bytes: each callback sees 10..20 until all is read."""
    payload = os.urandom(65000)
    received, seen = bytearray(), []
    sender_left: list[int] = []

    def readable(bev: BufferEvent, ctx: object) -> None:
        seen.append(len(bev.input))
        received.extend(bev.read())

    with BufferEvent(base, pair[0]) as sender, BufferEvent(base, pair[1]) as receiver:
        sender.setcb(None, lambda bev, ctx: sender_left.append(len(bev.output)), None)
        sender.setwatermark(EV_WRITE, 100, 0)
        receiver.setcb(readable, None, never)
        receiver.setwatermark(EV_READ, 10, 20)
        assert receiver.getwatermark(EV_READ) == (10, 20)
        assert sender.getwatermark(EV_WRITE) == (100, 0)
        receiver.enable(EV_READ)
        sender.write(payload)
        while len(received) < len(payload):
            base.loop(EVLOOP_ONCE)
        assert not sender._write_armed
    assert received == payload
    assert min(seen) >= 10
    assert max(seen) <= 20
    assert sender_left
    assert max(sender_left) <= 100


@pytest.mark.parametrize("events", [0, EV_READ | EV_WRITE])
def test_watermarks_are_asked_for_one_direction(base: EventBase, pair: Pair, events: int) -> None:
    with BufferEvent(base, pair[0]) as bev:
        with pytest.raises(ArgumentError):
            bev.getwatermark(events)
        with pytest.raises(ArgumentError, match="-1"):
            bev.setwatermark(EV_READ, 0, -1)


def test_a_program_that_takes_nothing_is_not_called_again(base: EventBase, pair: Pair) -> None:
    """While the input is full: the loop rests."""
    calls: list[int] = []
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(lambda bev, ctx: calls.append(len(bev.input)), None, never)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        assert base.dispatch() == 1  # reading pauses, and nothing else is there to wait for
        assert calls == [4]
        bev.setwatermark(EV_READ, 0, 0)
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"12345678"


@pytest.mark.parametrize("in_callback", [False, True])
def test_a_full_input_is_told_again_when_something_was_taken(
    base: EventBase, pair: Pair, in_callback: bool
) -> None:
    """A pass later each time, until it is below the mark, where only more input is told."""
    calls: list[int] = []

    def readable(bev: BufferEvent, ctx: object) -> None:
        calls.append(len(bev.input))
        if in_callback:
            bev.read(2)

    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(readable, None, never)
        bev.enable(EV_READ)
        pair[1].send(b"0123456789")
        base.loop(EVLOOP_NONBLOCK)
        calls.clear()
        bev.input.prepend(b"x" * bool(in_callback))
        bev.setwatermark(EV_READ, 0, 4)
        settle(base)
        assert calls == []
        bev.read(1)
        settle(base)
        if in_callback:
            assert calls == [8, 6, 4]
            assert len(bev.input) == 2
        else:
            assert calls == [9]
            bev.read(5)
            settle(base)
            assert calls == [9, 4]


@pytest.mark.parametrize("events", [EV_READ, EV_WRITE, EV_READ | EV_WRITE])
def test_a_low_watermark_above_the_high_one_is_refused(
    base: EventBase, pair: Pair, events: int
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setwatermark(events, 64, 64)
        with pytest.raises(ArgumentError, match="65"):
            bev.setwatermark(events, 65, 64)
        bev.setwatermark(events, 65, 0)


@pytest.mark.parametrize("events", [0, 64, EV_CLOSED, EV_READ | EV_CLOSED])
def test_watermarks_of_no_direction_are_refused(base: EventBase, pair: Pair, events: int) -> None:
    with BufferEvent(base, pair[0]) as bev, pytest.raises(ArgumentError):
        bev.setwatermark(events, 0, 64)


def test_data_put_back_over_the_high_watermark_is_no_end_of_file(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(None, None, log.event)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        bev.input.prepend(b"12345")
        pair[1].send(b"678")
        base.loop(EVLOOP_NONBLOCK)
        assert log.events == []
        assert bev.read(3) == b"123"
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"4567"


def test_below_the_low_watermark_data_waits_and_is_there_at_the_end(
    base: EventBase, pair: Pair, log: Log
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(never, None, log.event)
        bev.setwatermark(EV_READ, 10, 0)
        bev.enable(EV_READ)
        pair[1].send(b"short")
        pair[1].close()
        assert base.dispatch() == 1
        assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
        assert bev.read() == b"short"


def test_an_exception_over_the_high_watermark_does_not_stall(base: EventBase, pair: Pair) -> None:
    got: list[bytes] = []

    def readable(bev: BufferEvent, ctx: object) -> None:
        if not got:
            got.append(b"")
            raise Boom
        got.append(bev.read())

    with BufferEvent(base, pair[0]) as bev:
        base.exception_handler = lambda exc: None
        bev.setcb(readable, None, None)
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        base.loop(EVLOOP_NONBLOCK)
    assert got == [b"", b"1234", b"5678"]


@pytest.mark.parametrize(("low", "called"), [(5, True), (6, False)])
def test_the_read_callback_runs_from_the_low_watermark_on(
    base: EventBase, pair: Pair, low: int, called: bool
) -> None:
    calls: list[int] = []
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(lambda bev, ctx: calls.append(len(bev.input)), None, never)
        bev.setwatermark(EV_READ, low, 0)
        bev.enable(EV_READ)
        pair[1].send(b"12345")
        base.loop(EVLOOP_NONBLOCK)
        assert calls == [5] * called


@pytest.mark.parametrize("low", [0, 3, 9, 10])
def test_the_write_callback_runs_from_the_low_watermark_down(
    base: EventBase, pair: Pair, low: int
) -> None:
    """After progress, with no more than `low` bytes left; at 0 when all is sent."""
    left: list[int] = []
    with BufferEvent(base, pair[0]) as bev:
        bev.setcb(None, lambda bev, ctx: left.append(len(bev.output)), never)
        bev.setwatermark(EV_WRITE, low, 0)
        bev.max_single_write = 1
        bev.write(b"0123456789")
        assert base.dispatch() == 1
        assert left == list(range(min(low, 9), -1, -1))


def test_the_high_watermark_of_writing_bounds_nothing_on_a_socket(
    base: EventBase, pair: Pair
) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setwatermark(EV_WRITE, 0, 4)
        bev.write(b"0123456789")
        assert base.dispatch() == 1
        assert pair[1].recv(99) == b"0123456789"


def test_setting_a_watermark_runs_no_callback(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.enable(EV_READ)
        pair[1].send(b"12345")
        base.loop(EVLOOP_NONBLOCK)
        bev.setcb(never, never, never)
        for low, high in ((1, 0), (0, 3), (9, 9), (0, 0)):
            bev.setwatermark(EV_READ | EV_WRITE, low, high)
        bev.disable(EV_READ)
        assert base.dispatch() == 1


def test_reading_resumes_as_soon_as_a_drain_brings_the_input_below_the_high_watermark(
    base: EventBase, pair: Pair
) -> None:
    """Not at the mark, and without another pass of the loop."""
    with BufferEvent(base, pair[0]) as bev:
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        base.loop(EVLOOP_NONBLOCK)
        bev.input.prepend(b"ab")
        event = bev._read_event
        assert not event.pending(EV_READ)
        bev.read(2)
        assert not event.pending(EV_READ)
        bev.read(1)
        assert event.pending(EV_READ)
        base.loop(EVLOOP_NONBLOCK)
        assert bev.input.copyout() == b"2345"


@pytest.mark.parametrize("high", [0, 9])
def test_a_higher_mark_resumes_reading(base: EventBase, pair: Pair, high: int) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        base.loop(EVLOOP_NONBLOCK)
        assert len(bev.input) == 4
        bev.setwatermark(EV_READ, 0, high)
        base.loop(EVLOOP_NONBLOCK)
        assert len(bev.input) == 8


def test_at_the_high_watermark_enabling_again_reads_no_more(base: EventBase, pair: Pair) -> None:
    """Enabling does not lift what suspends; disabling and draining leave it disabled."""
    with BufferEvent(base, pair[0]) as bev:
        bev.setwatermark(EV_READ, 0, 4)
        bev.enable(EV_READ)
        pair[1].send(b"12345678")
        base.loop(EVLOOP_NONBLOCK)
        bev.disable(EV_READ)
        bev.enable(EV_READ)
        base.loop(EVLOOP_NONBLOCK)
        assert len(bev.input) == 4
        bev.disable(EV_READ)
        assert bev.read() == b"1234"
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b""
        bev.enable(EV_READ)
        base.loop(EVLOOP_NONBLOCK)
        assert bev.read() == b"5678"
