"""What is the same for every kind of bufferevent: how bytes move, and when they do not."""

from __future__ import annotations

import os

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_READING,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_FINISHED,
    BEV_FLUSH,
    BEV_NORMAL,
    EV_READ,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    AbstractBufferEvent,
    ArgumentError,
    BevEvent,
    EventBase,
    FakeClock,
    TlsBufferEvent,
)
from tests.core.bevs import Log, never
from tests.core.filters import settle
from tests.core.kinds import Ends, finish

# More than the kernel holds for a peer that does not read, with what is below a bufferevent.
MORE_THAN_FITS = 2 * 1024 * 1024


@pytest.fixture
def log() -> Log:
    return Log()


def times_out_again(bev: AbstractBufferEvent) -> bool:
    """Whether what times out is not disabled; see test_bufferevent_tls_timeouts.py."""
    return isinstance(bev, TlsBufferEvent) and bev.underlying is None


def test_a_fresh_one_writes_and_does_not_read(ends: Ends, fake_base: EventBase) -> None:
    """Enabled masks: fresh WRITE; after enabling READ, READ|WRITE; after disabling it, WRITE."""
    for bev in ends:
        assert bev.enabled == EV_WRITE
        bev.enable(EV_READ)
        assert bev.enabled == EV_READ | EV_WRITE
        bev.disable(EV_READ)
        assert bev.enabled == EV_WRITE
        assert bev.base is fake_base


@pytest.mark.parametrize("mode", [None, BEV_NORMAL, BEV_FLUSH, BEV_FINISHED])
def test_8333_bytes_cross(ends: Ends, fake_base: EventBase, log: Log, mode: int | None) -> None:
    """One write callback with an empty output, the receiver gets all, with any flush or none."""
    payload = os.urandom(8333)
    left: list[int] = []
    sender, receiver = ends
    sender.setcb(None, lambda bev, ctx: left.append(len(bev.output)), never)
    log.attach(receiver).enable(EV_READ)
    sender.write(payload)
    if mode is not None:
        sender.flush(EV_WRITE, mode)
    settle(fake_base)
    assert log.data == payload
    assert left == [0]


def test_bytes_go_both_ways_at_once(ends: Ends, fake_base: EventBase) -> None:
    logs = Log(), Log()
    payloads = os.urandom(50_000), os.urandom(70_000)
    for bev, log, payload in zip(ends, logs, payloads, strict=True):
        log.attach(bev).enable(EV_READ)
        bev.write(payload)
    settle(fake_base)
    assert (logs[1].data, logs[0].data) == payloads


def test_a_thousand_lines_are_answered_one_by_one(ends: Ends, fake_base: EventBase) -> None:
    client, server = ends
    answers: list[bytes] = []

    def answer(bev: AbstractBufferEvent, ctx: object) -> None:
        while (line := bev.input.readln()) is not None:
            bev.write(b"%d\n" % (int(line) * 2))

    def ask(bev: AbstractBufferEvent, ctx: object) -> None:
        while (line := bev.input.readln()) is not None:
            answers.append(line)
            if len(answers) < 1000:
                bev.write(b"%d\n" % len(answers))

    server.setcb(answer, None, never)
    client.setcb(ask, None, never)
    for bev in ends:
        bev.enable(EV_READ)
    client.write(b"0\n")
    settle(fake_base)
    assert answers == [b"%d" % (number * 2) for number in range(1000)]


def test_reads_pause_between_the_watermarks(ends: Ends, fake_base: EventBase) -> None:
    """10/20 on the receiver, 65000 bytes: every read callback sees 10..20 until all is read; with
    write low 100 the write callback never sees more than 100 left; nothing stays registered."""
    payload = os.urandom(65000)
    received, seen = bytearray(), []
    left: list[int] = []

    def readable(bev: AbstractBufferEvent, ctx: object) -> None:
        seen.append(len(bev.input))
        received.extend(bev.read())

    sender, receiver = ends
    sender.setcb(None, lambda bev, ctx: left.append(len(bev.output)), never)
    sender.setwatermark(EV_WRITE, 100, 0)
    receiver.setcb(readable, None, never)
    receiver.setwatermark(EV_READ, 10, 20)
    assert receiver.getwatermark(EV_READ) == (10, 20)
    assert sender.getwatermark(EV_WRITE) == (100, 0)
    receiver.enable(EV_READ)
    sender.write(payload)
    settle(fake_base)
    assert len(receiver.input) < 10  # what is left may be under the low mark
    assert received + receiver.read() == payload
    assert min(seen) >= 10
    assert max(seen) <= 20
    assert left
    assert max(left) <= 100
    receiver.disable(EV_READ)
    settle(fake_base)
    assert fake_base.num_events(EVENT_BASE_COUNT_ADDED) == 0


@pytest.mark.parametrize("events", [0, EV_READ | EV_WRITE])
def test_watermarks_are_asked_for_one_direction(ends: Ends, events: int) -> None:
    """getwatermark with READ|WRITE fails."""
    with pytest.raises(ArgumentError):
        ends[0].getwatermark(events)


@pytest.mark.parametrize(("size", "called"), [(9, False), (10, True)])
def test_below_the_low_watermark_bytes_wait(
    ends: Ends, fake_base: EventBase, size: int, called: bool
) -> None:
    """They are not lost: at the end of file they are still in the input."""
    sender, receiver = ends
    log = Log()
    receiver.setcb(lambda bev, ctx: log.calls.append("read"), None, log.event)
    receiver.setwatermark(EV_READ, 10, 0)
    receiver.enable(EV_READ)
    sender.write(bytes(size))
    settle(fake_base)
    assert log.calls == ["read"] * called
    finish(sender)
    settle(fake_base)
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    assert receiver.read() == bytes(size)


def test_a_drain_below_the_high_watermark_resumes_reading(ends: Ends, fake_base: EventBase) -> None:
    """What was held back comes without another byte from the sender."""
    sender, receiver = ends
    receiver.setwatermark(EV_READ, 0, 4)
    receiver.enable(EV_READ)
    sender.write(b"0123456789")
    settle(fake_base)
    assert receiver.read(1) == b"0"
    settle(fake_base)
    assert receiver.input.copyout() == b"1234"
    assert receiver.read() == b"1234"
    settle(fake_base)
    receiver.setwatermark(EV_READ, 0, 0)
    settle(fake_base)
    assert receiver.read() == b"56789"


def test_a_slow_reader_gets_a_mebibyte_whole(ends: Ends, fake_base: EventBase) -> None:
    """It takes 5000 bytes a second, and never has more than its high watermark."""
    payload = os.urandom(1024 * 1024)
    received = bytearray()
    sender, receiver = ends
    receiver.setwatermark(EV_READ, 0, 16_384)
    receiver.enable(EV_READ)
    for start in range(0, len(payload), 10_000):
        sender.write(payload[start : start + 10_000])

    def second(fd: int, what: int, arg: object) -> None:
        assert len(receiver.input) <= 16_384
        received.extend(receiver.read(5000))
        if len(received) < len(payload):
            timer.add(1)

    timer = fake_base.timer(second)
    timer.add(1)
    for _ in range(len(payload) // 5000 + 2):
        settle(fake_base)
        if timer.pending():
            fake_base.loopexit(1)
            fake_base.dispatch()
    assert received == payload


def test_a_reader_that_stops_holds_the_writer_back(ends: Ends, fake_base: EventBase) -> None:
    """One that writes more in each write callback stops when nothing is read, and goes on after."""
    log = Log()
    written = 0
    sender, receiver = ends

    def more(bev: AbstractBufferEvent, ctx: object) -> None:
        nonlocal written
        if written < MORE_THAN_FITS:
            bev.write(bytes(16_384))
            written += 16_384

    sender.setcb(None, more, never)
    log.attach(receiver)
    sender.trigger(EV_WRITE)
    settle(fake_base)
    assert written < MORE_THAN_FITS
    receiver.enable(EV_READ)
    settle(fake_base)
    assert written == MORE_THAN_FITS
    assert log.data == bytes(MORE_THAN_FITS)


def test_what_is_disabled_does_not_move(ends: Ends, fake_base: EventBase, log: Log) -> None:
    sender, receiver = ends
    log.attach(receiver)
    sender.write(b"one")
    settle(fake_base)
    assert log.data == b""
    sender.disable(EV_WRITE)
    receiver.enable(EV_READ)
    sender.write(b"two")
    settle(fake_base)
    assert b"two" not in log.data
    sender.enable(EV_WRITE)
    settle(fake_base)
    assert log.data == b"onetwo"
    receiver.disable(EV_READ)
    sender.write(b"three")
    settle(fake_base)
    assert log.data == b"onetwo"
    receiver.enable(EV_READ)
    settle(fake_base)
    assert log.data == b"onetwothree"


def test_silence_times_reading_out_once(
    ends: Ends, fake_base: EventBase, clock: FakeClock, log: Log
) -> None:
    """Each read restarts it; then READ is disabled, TIMEOUT|READING told, and no data callback."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    sender, receiver = ends
    receiver.setcb(
        log.read, never, lambda bev, what, ctx: told.append((clock.monotonic() - start, what))
    )
    receiver.set_timeouts(10, 5)
    receiver.enable(EV_READ)
    fake_base.timer(lambda *_: sender.write(b"x")).add(6)
    fake_base.loopexit(60)
    fake_base.dispatch()
    assert told[:1] == [(pytest.approx(16), BEV_EVENT_TIMEOUT | BEV_EVENT_READING)]
    if not times_out_again(receiver):
        assert len(told) == 1
        assert receiver.enabled == EV_WRITE
    receiver.enable(EV_READ)
    sender.write(b"y")
    settle(fake_base)
    assert log.data == b"xy"


def test_reading_that_is_disabled_or_paused_does_not_time_out(
    ends: Ends, fake_base: EventBase
) -> None:
    sender, receiver = ends
    for bev in ends:
        bev.setcb(None, None, never)
    receiver.set_timeouts(1, None)
    fake_base.loopexit(5)
    fake_base.dispatch()
    receiver.setwatermark(EV_READ, 0, 2)
    receiver.enable(EV_READ)
    sender.write(b"more")
    settle(fake_base)
    fake_base.loopexit(5)
    fake_base.dispatch()
    assert receiver.enabled == EV_READ | EV_WRITE


def test_a_peer_that_does_not_read_times_writing_out_once(
    ends: Ends, fake_base: EventBase, clock: FakeClock
) -> None:
    """Whatever is added meanwhile; then WRITE is disabled, and TIMEOUT|WRITING told."""
    start = clock.monotonic()
    told: list[tuple[float, BevEvent]] = []
    sender = ends[0]
    sender.setcb(
        never, never, lambda bev, what, ctx: told.append((clock.monotonic() - start, what))
    )
    sender.set_timeouts(None, 10)
    sender.write(bytes(MORE_THAN_FITS))
    for seconds in (4, 8, 12):
        fake_base.timer(lambda *_: sender.write(b"more")).add(seconds)
    fake_base.loopexit(60)
    fake_base.dispatch()
    assert told[:1] == [(pytest.approx(10), BEV_EVENT_TIMEOUT | BEV_EVENT_WRITING)]
    if not times_out_again(sender):
        assert len(told) == 1
        assert sender.enabled == 0


def test_what_is_taken_at_once_does_not_time_out(ends: Ends, fake_base: EventBase) -> None:
    sender, receiver = ends
    sender.setcb(None, None, never)
    sender.set_timeouts(None, 10)
    receiver.enable(EV_READ)
    sender.write(b"x")
    fake_base.loopexit(60)
    fake_base.dispatch()
    assert sender.enabled == EV_WRITE
    assert receiver.read() == b"x"


def test_bytes_come_before_the_end_of_file(ends: Ends, fake_base: EventBase, log: Log) -> None:
    """Then READ is disabled and READING|EOF told; writing goes on."""
    sender, receiver = ends
    log.attach(receiver).enable(EV_READ)
    sender.write(b"last words")
    settle(fake_base)
    finish(sender)
    settle(fake_base)
    assert log.calls == ["read", "event"]
    assert log.data == b"last words"
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    assert receiver.enabled == EV_WRITE


def test_the_end_of_file_waits_for_a_reader_that_takes_its_time(
    ends: Ends, fake_base: EventBase
) -> None:
    """What is above its high watermark comes first."""
    log = Log()
    sender, receiver = ends
    receiver.setcb(None, None, log.event)
    receiver.setwatermark(EV_READ, 0, 4)
    receiver.enable(EV_READ)
    sender.write(b"0123456789")
    settle(fake_base)
    finish(sender)
    received = b""
    while not log.events:
        settle(fake_base)
        received += receiver.read()
    assert received == b"0123456789"
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
