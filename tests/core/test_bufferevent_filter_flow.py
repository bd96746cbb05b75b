"""How much a filtering bufferevent moves, and when it tells: watermarks and back-pressure."""

from __future__ import annotations

import os

import pytest

from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_EVENT_READING,
    BEV_FINISHED,
    BEV_FLUSH,
    BEV_NEED_MORE,
    BEV_NORMAL,
    BEV_OK,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EV_WRITE,
    AbstractBufferEvent,
    BufferEvent,
    EvBuffer,
    EventBase,
    FilterBufferEvent,
    FlushMode,
)
from tests.core.bevs import Log, Pair, never
from tests.core.filters import Recorder, Result, double, halve, settle
from tests.core.kinds import Ends


@pytest.fixture
def log() -> Log:
    return Log()


def filtered(below: Ends, options: int = BEV_OPT_CLOSE_ON_FREE) -> Ends:
    one, other = (FilterBufferEvent(bev, halve, double, options) for bev in below)
    return one, other


def close(*bevs: AbstractBufferEvent) -> None:
    for bev in bevs:
        bev.close()


@pytest.mark.parametrize("limited", [False, True])
def test_a_filter_that_adds_a_header_at_the_high_watermark(
    base: EventBase, below: Ends, limited: bool
) -> None:
    """A 20 byte header, high watermark 4096 on all layers and 4096 bytes of payload: 4116 are read,
    and nothing is stuck, whether it minds its limit or not."""
    started: list[bool] = []
    received = bytearray()

    def incoming(
        source: EvBuffer, target: EvBuffer, limit: int | None, mode: int, ctx: object
    ) -> Result:
        assert limit is not None
        if not started:
            started.append(True)
            target.add(b"H" * 20)
            limit -= 20
        return BEV_OK if source.remove_buffer(target, limit if limited else 4096) else BEV_NEED_MORE

    bev = FilterBufferEvent(below[0], incoming, None, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(lambda bev, ctx: received.extend(bev.read()), None, never)
    for each in (*below, bev):
        each.setwatermark(EV_READ, 0, 4096)
    bev.enable(EV_READ)
    below[1].write(b"p" * 4096)
    settle(base)
    assert received == b"H" * 20 + b"p" * 4096
    bev.close()


@pytest.mark.parametrize(("mode", "read"), [(BEV_NORMAL, 4), (BEV_FLUSH, 6), (BEV_FINISHED, 6)])
def test_only_a_normal_flush_keeps_to_the_watermarks(
    base: EventBase, below: Ends, mode: FlushMode, read: int
) -> None:
    """limit None = no limit, else room to the high watermark."""
    bev = FilterBufferEvent(below[0], options=BEV_OPT_CLOSE_ON_FREE)
    bev.setwatermark(EV_READ, 0, 4)
    bev.enable(EV_READ)
    below[1].write(b"012345")
    settle(base)
    assert len(bev.input) == 4
    assert len(below[0].input) in (0, 2)  # a pair gives no more than the filter takes
    bev.flush(EV_READ, mode)
    settle(base)
    bev.flush(EV_READ, mode)
    assert len(bev.input) == read
    bev.close()


@pytest.mark.parametrize(("size", "below_size"), [(100, 100), (101, 100), (500, 100)])
def test_output_waits_at_the_high_watermark_of_writing_below(
    base: EventBase, pair: Pair, size: int, below_size: int
) -> None:
    """While the underlying output is below its write high; processing goes on when that has drained
    to its low mark."""
    inner = BufferEvent(base, pair[0])
    inner.setwatermark(EV_WRITE, 0, 100)
    outgoing = Recorder()
    limited: list[int | None] = []

    def keep_to_the_limit(
        source: EvBuffer, target: EvBuffer, limit: int | None, mode: FlushMode, ctx: object
    ) -> Result:
        assert limit is not None
        limited.append(limit)
        return BEV_OK if source.remove_buffer(target, limit) else BEV_NEED_MORE

    bev = FilterBufferEvent(inner, None, keep_to_the_limit)
    left: list[int] = []
    bev.setcb(None, lambda bev, ctx: left.append(len(bev.output)), never)
    bev.write(bytes(size))
    assert len(inner.output) == below_size
    assert len(bev.output) == size - below_size
    settle(base)
    assert len(pair[1].recv(999)) == size
    assert left == [0]
    assert max(limit for limit in limited if limit is not None) == 100
    assert outgoing.calls == []
    close(bev, inner)


def test_the_write_callback_comes_when_what_is_below_has_written(
    base: EventBase, below: Ends, log: Log
) -> None:
    """So a program may close in it, and nothing is lost."""
    payload = os.urandom(1_000_000)
    sender, receiver = filtered(below)
    sender.setcb(None, lambda bev, ctx: (bev.flush(EV_WRITE, BEV_FINISHED), bev.close()), never)
    log.attach(receiver)
    sender.write(payload)
    settle(base)
    assert not sender.closed
    receiver.enable(EV_READ)
    settle(base)
    assert sender.closed
    assert log.data == payload
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    receiver.close()


def test_output_that_a_filter_keeps_for_itself_counts_as_written(
    base: EventBase, below: Ends
) -> None:
    """A program that writes more in its write callback is not stalled by a filter that collects."""
    kept = bytearray()

    def collect(source: EvBuffer, *rest: object) -> Result:
        kept.extend(source.remove())
        return BEV_OK

    def more(bev: AbstractBufferEvent, ctx: object) -> None:
        if len(kept) < 5:
            bev.write(b"x")

    bev = FilterBufferEvent(below[0], None, collect, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(None, more, never)
    bev.write(b"x")
    settle(base)
    assert kept == b"xxxxx"
    bev.close()


def test_enabling_writing_gets_one_write_callback_over_a_socket(
    base: EventBase, pair: Pair, log: Log
) -> None:
    """Even with an empty output, as the socket itself does."""
    bev = FilterBufferEvent(BufferEvent(base, pair[0]), options=BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev)
    settle(base)
    assert log.calls == []
    bev.enable(EV_WRITE)
    settle(base)
    assert log.calls == ["write"]
    bev.close()


def test_nothing_is_read_below_before_the_filter_reads(base: EventBase, pair: Pair) -> None:
    """The underlying is enabled both ways but reading is held until the filter has READ enabled,
    and at the filter's high watermark again: a peer is held back through both."""
    inner = BufferEvent(base, pair[0])
    bev = FilterBufferEvent(inner)
    assert inner.enabled == EV_READ | EV_WRITE
    pair[1].send(b"0123456789")
    settle(base)
    assert len(inner.input) == 0
    bev.setwatermark(EV_READ, 0, 10)
    bev.enable(EV_READ)
    settle(base)
    assert len(bev.input) == 10
    pair[1].send(b"more")
    settle(base)
    assert len(inner.input) == 0
    bev.disable(EV_READ)
    bev.read()
    settle(base)
    assert len(inner.input) == 0
    bev.enable(EV_READ)
    settle(base)
    assert bev.read() == b"more"
    close(bev, inner)


def test_bytes_that_were_below_before_come_when_reading_is_enabled(
    base: EventBase, below: Ends, log: Log
) -> None:
    below[0].enable(EV_READ)
    below[1].write(b"early")
    settle(base)
    assert below[0].input.copyout() == b"early"
    bev = FilterBufferEvent(below[0], options=BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev)
    settle(base)
    assert log.calls == []
    bev.enable(EV_READ)
    assert log.calls == []
    settle(base)
    assert log.data == b"early"
    bev.close()
