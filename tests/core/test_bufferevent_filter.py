"""FilterBufferEvent: how filters are called, and how much they are given and may give."""

from __future__ import annotations

import logging
import os
import socket
import zlib
from typing import Any

import pytest

from evsvc.core import (
    BEV_ERROR,
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
    ArgumentError,
    BufferEvent,
    EvBuffer,
    EventBase,
    FilterBufferEvent,
    FlushMode,
    PairBufferEvent,
)
from tests.core.bevs import Boom, Log, Pair, boom, never
from tests.core.filters import Recorder, Result, double, halve, settle
from tests.core.kinds import Ends, finish


@pytest.fixture
def log() -> Log:
    return Log()


def filtered(below: Ends, options: int = BEV_OPT_CLOSE_ON_FREE) -> Ends:
    one, other = (FilterBufferEvent(bev, halve, double, options) for bev in below)
    return one, other


def close(*bevs: AbstractBufferEvent) -> None:
    for bev in bevs:
        bev.close()


def test_bytes_arrive_through_a_filter_that_doubles_them(
    base: EventBase, below: Ends, log: Log
) -> None:
    """Over socket and over pair: 8333 bytes arrive intact."""
    payload = os.urandom(8333)
    sender, receiver = filtered(below)
    log.attach(receiver).enable(EV_READ)
    sender.write(payload)
    settle(base)
    assert log.data == payload
    close(sender, receiver)


def test_the_output_filter_is_called_once_for_one_write(base: EventBase, below: Ends) -> None:
    """Synchronously, inside the write."""
    outgoing = Recorder()
    bev = FilterBufferEvent(below[0], None, outgoing, BEV_OPT_CLOSE_ON_FREE, None, "ctx")
    bev.write(b"x" * 8333)
    assert outgoing.calls == [(8333, None, BEV_NORMAL, "ctx")]
    settle(base)
    assert len(outgoing.calls) == 1
    bev.close()


def test_a_write_from_inside_the_output_filter_does_not_enter_it_again(
    base: EventBase, below: Ends
) -> None:
    """The call under way is followed by another; and a filter that returns ERROR afterwards
    produces no error callback."""
    depth = 0
    seen: list[bytes] = []

    def outgoing(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        nonlocal depth
        assert depth == 0
        depth += 1
        seen.append(source.remove())
        if len(seen) == 1:
            bev.write(b"inner")
            assert bev.flush(EV_WRITE, BEV_FLUSH) is False
        depth -= 1
        return BEV_OK if len(seen) == 1 else BEV_ERROR

    bev = FilterBufferEvent(below[0], None, outgoing, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(never, None, never)
    bev.write(b"outer")
    assert seen == [b"outer", b"inner"]
    settle(base)
    bev.close()


@pytest.mark.parametrize("way", ["input", "output"])
def test_an_error_of_a_filter_is_logged_and_told_nobody(
    base: EventBase, below: Ends, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """ERROR simply stops and raises no event; the bytes stay, and come again with the next."""
    failing = Recorder(BEV_ERROR, BEV_ERROR)
    filters = (failing, None) if way == "input" else (None, failing)
    bev = FilterBufferEvent(below[0], *filters, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(never, never, never)
    below[1].enable(EV_READ)
    bev.enable(EV_READ)
    with caplog.at_level(logging.WARNING, "evsvc.core"):
        for _ in range(2):
            (below[1] if way == "input" else bev).write(b"bad")
            settle(base)
    assert [call[0] for call in failing.calls] == [3, 6]
    assert [record.getMessage().partition(" says ")[2] for record in caplog.records] == [
        "BEV_ERROR to 3 bytes",
        "BEV_ERROR to 6 bytes",
    ]
    bev.setcb(None, None, never)
    (below[1] if way == "input" else bev).write(b"!")
    settle(base)
    assert (bev if way == "input" else below[1]).read() == b"badbad!"
    bev.close()


def test_the_filter_reports_what_is_below_it(base: EventBase, pair: Pair, pairs: Any) -> None:
    """get_underlying and getfd of the filter report the inner one; so do setfd and replacefd."""
    inner = BufferEvent(base, pair[0])
    bev = FilterBufferEvent(inner)
    top = FilterBufferEvent(bev, options=BEV_OPT_CLOSE_ON_FREE)
    assert bev.underlying is inner
    assert top.underlying is bev
    assert inner.underlying is None
    assert bev.fd == top.fd == pair[0].fileno()
    top.setfd(pair[1])
    assert inner.fd == pair[1].fileno()
    mine, peer = pairs()
    top.replacefd(mine)
    assert top.fd == mine.fileno()
    assert pair[1].fileno() == -1
    assert pair[0].fileno() != -1
    top.write(b"over the new one")
    settle(base)
    assert peer.recv(99) == b"over the new one"
    close(top, bev)
    assert not inner.closed
    inner.close()
    half, other = PairBufferEvent.new(base)
    with half, other, FilterBufferEvent(half) as filtered_half:
        assert filtered_half.fd == -1


def deflate(
    source: EvBuffer, target: EvBuffer, limit: int | None, mode: FlushMode, ctx: list[Any]
) -> Result:
    packed = ctx[0].compress(source.remove())
    if mode == BEV_FINISHED:
        packed += ctx[0].flush()
    target.add(packed)
    return BEV_OK if packed else BEV_NEED_MORE


def inflate(
    source: EvBuffer, target: EvBuffer, limit: int | None, mode: FlushMode, ctx: list[Any]
) -> Result:
    data = ctx[1].decompress(source.remove())
    target.add(data)
    return BEV_OK if data else BEV_NEED_MORE


def test_a_compressing_pair_of_filters(base: EventBase, below: Ends, log: Log) -> None:
    """The input filter says NEED_MORE to short data, the FINISHED flush closes the stream, all
    plain bytes arrive, and both contexts are freed."""
    payload = b"to be compressed " * 2000
    freed: list[object] = []
    contexts = [[zlib.compressobj(), zlib.decompressobj()] for _ in range(2)]
    sender, receiver = (
        FilterBufferEvent(bev, inflate, deflate, BEV_OPT_CLOSE_ON_FREE, freed.append, context)
        for bev, context in zip(below, contexts, strict=True)
    )
    log.attach(receiver).enable(EV_READ)
    for start in range(0, len(payload), 1000):
        sender.write(payload[start : start + 1000])
    settle(base)
    assert len(log.data) < len(payload)
    assert sender.flush(EV_WRITE, BEV_FINISHED) is True
    settle(base)
    assert log.data == payload
    assert contexts[1][1].eof
    assert freed == []
    close(sender, receiver)
    assert freed == contexts


@pytest.mark.parametrize("mode", [BEV_NORMAL, BEV_FLUSH, BEV_FINISHED])
def test_a_flush_runs_the_filters_even_when_empty_and_disabled(
    base: EventBase, below: Ends, mode: FlushMode
) -> None:
    """In the asked directions, with the asked mode; it returns whether a filter said OK."""
    incoming, outgoing = Recorder(BEV_OK, BEV_NEED_MORE), Recorder(BEV_NEED_MORE, BEV_OK)
    bev = FilterBufferEvent(below[0], incoming, outgoing, BEV_OPT_CLOSE_ON_FREE)
    bev.disable(EV_READ | EV_WRITE)
    assert bev.flush(EV_READ, mode) is True
    assert bev.flush(EV_WRITE, mode) is False
    assert bev.flush(EV_READ | EV_WRITE, mode) is True
    assert incoming.calls == outgoing.calls == [(0, None, mode, None)] * 2
    bev.close()


def test_an_end_of_file_does_not_finish_the_input_filter(
    base: EventBase, below: Ends, log: Log
) -> None:
    """Half-decoded bytes stay unless the user flushes."""
    incoming = Recorder(BEV_NEED_MORE)
    bev = FilterBufferEvent(below[0], incoming, None, BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev).enable(EV_READ)
    below[1].write(b"half")
    settle(base)
    finish(below[1])
    settle(base)
    assert log.events == [BEV_EVENT_READING | BEV_EVENT_EOF]
    assert {call[2] for call in incoming.calls} == {BEV_NORMAL}
    assert log.data == b""
    assert below[0].input.copyout() == b"half"
    if isinstance(below[0], BufferEvent):
        assert bev.flush(EV_READ, BEV_FINISHED) is True
        settle(base)
        assert log.data == b"half"
    bev.close()


def test_no_filter_is_one_that_changes_nothing(base: EventBase, below: Ends) -> None:
    bev = FilterBufferEvent(below[0], options=BEV_OPT_CLOSE_ON_FREE)
    bev.enable(EV_READ)
    below[1].enable(EV_READ)
    bev.write(b"out")
    below[1].write(b"in")
    settle(base)
    assert (below[1].read(), bev.read()) == (b"out", b"in")
    bev.close()


@pytest.mark.parametrize("way", ["input", "output"])
def test_a_filter_that_says_ok_and_does_nothing_is_not_called_for_ever(
    base: EventBase, below: Ends, way: str
) -> None:
    """It is asked again when there is more, as after NEED_MORE."""
    idle = Recorder(BEV_OK, BEV_OK)
    filters = (idle, None) if way == "input" else (None, idle)
    bev = FilterBufferEvent(below[0], *filters, BEV_OPT_CLOSE_ON_FREE)
    bev.enable(EV_READ)
    for _ in range(3):
        (below[1] if way == "input" else bev).write(b"x")
        settle(base)
    assert [call[0] for call in idle.calls] == [1, 2, 3]
    bev.close()


def test_an_input_filter_that_takes_a_little_is_called_until_all_is_taken(
    base: EventBase, below: Ends, log: Log
) -> None:
    """Repeatedly while it returns OK; one read callback follows."""

    def incoming(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        if len(source) < 3:
            return BEV_NEED_MORE
        target.add(source.remove(3))
        return BEV_OK

    bev = FilterBufferEvent(below[0], incoming, None, BEV_OPT_CLOSE_ON_FREE)
    log.attach(bev).enable(EV_READ)
    below[1].write(b"0123456789")
    settle(base)
    assert log.data == b"012345678"
    assert log.calls == ["read"]
    bev.close()


def test_a_read_callback_follows_only_after_ok(base: EventBase, below: Ends) -> None:
    """What was added with NEED_MORE is told with the next that is OK; taking without adding is
    no news."""
    told: list[bytes] = []

    def incoming(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        data = source.remove()
        if data != b"swallow":
            target.add(data)
        return BEV_NEED_MORE if data == b"wait" else BEV_OK

    bev = FilterBufferEvent(below[0], incoming, None, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(lambda bev, ctx: told.append(bev.read()), None, never)
    bev.enable(EV_READ)
    for data in (b"swallow", b"wait", b"go"):
        below[1].write(data)
        settle(base)
    assert told == [b"waitgo"]
    bev.close()


@pytest.mark.parametrize("result", [None, 3, "ok"])
def test_a_result_that_is_none_comes_out_of_the_loop(
    base: EventBase, below: Ends, result: object
) -> None:
    bev = FilterBufferEvent(below[0], None, Recorder(result), BEV_OPT_CLOSE_ON_FREE)
    bev.write(b"x")
    with pytest.raises(ArgumentError, match=repr(result)):
        settle(base)
    bev.close()


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("way", ["input", "output"])
def test_what_a_filter_raises_comes_out_of_the_loop_and_no_byte_is_lost(
    base: EventBase, below: Ends, way: str, handled: bool
) -> None:
    caught: list[Exception] = []
    calls = 0

    def raising(source: EvBuffer, target: EvBuffer, *rest: object) -> Result:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Boom
        target.add(source.remove(2))
        return BEV_OK

    filters = (raising, None) if way == "input" else (None, raising)
    bev = FilterBufferEvent(below[0], *filters, BEV_OPT_CLOSE_ON_FREE)
    receiver, sender = (bev, below[1]) if way == "input" else (below[1], bev)
    log = Log()
    log.attach(receiver).enable(EV_READ)
    if handled:
        base.exception_handler = caught.append
    sender.write(b"012345")
    if handled:
        settle(base)
        assert [type(exc) for exc in caught] == [Boom]
    else:
        with pytest.raises(Boom):
            settle(base)
    settle(base)
    # What was written of the output has the filter asked again.
    assert log.data == (b"01" if way == "input" else b"012345")
    sender.write(b"67")
    settle(base)
    assert log.data == b"01234567"
    bev.close()


@pytest.mark.parametrize("events", [EV_READ, EV_WRITE])
def test_what_a_filter_raises_in_a_flush_comes_out_of_the_loop(
    base: EventBase, below: Ends, events: int
) -> None:
    bev = FilterBufferEvent(below[0], boom, boom, BEV_OPT_CLOSE_ON_FREE)
    assert bev.flush(events, BEV_FLUSH) is False
    with pytest.raises(Boom):
        settle(base)
    bev.close()


def test_a_drain_inside_the_input_filter_does_not_enter_it_again(
    base: EventBase, below: Ends
) -> None:
    """A buffer callback that takes what the filter adds; all bytes come, in order."""
    taken = bytearray()
    depth = 0

    def incoming(
        source: EvBuffer, target: EvBuffer, limit: int | None, mode: FlushMode, ctx: object
    ) -> Result:
        nonlocal depth
        assert depth == 0
        depth += 1
        data = source.remove(3)
        target.add(data)
        assert bev.flush(EV_READ, BEV_FLUSH) is False
        depth -= 1
        return BEV_OK if data else BEV_NEED_MORE

    bev = FilterBufferEvent(below[0], incoming, None, BEV_OPT_CLOSE_ON_FREE)
    bev.setwatermark(EV_READ, 0, 3)
    bev.input.add_cb(lambda buffer, info, arg: info.n_added and taken.extend(bev.read()))
    bev.enable(EV_READ)
    below[1].write(b"0123456789")
    settle(base)
    assert taken == b"0123456789"
    bev.close()


def test_both_ends_may_be_sockets_of_different_kinds(base: EventBase, log: Log) -> None:
    """A filter knows nothing of what is below: TCP here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        bev = FilterBufferEvent(client, halve, double, BEV_OPT_CLOSE_ON_FREE)
        log.attach(bev)
        client.connect(server.getsockname())
        bev.write(b"early")
        settle(base)
        accepted, _ = server.accept()
        settle(base)
        assert accepted.recv(99) == b"xexaxrxlxy"
        assert log.calls[0] == "event"
        accepted.close()
        bev.close()
