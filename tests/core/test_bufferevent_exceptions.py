"""What a buffer's callback raises, or a descriptor that is gone, leaves nothing half done."""

from __future__ import annotations

import os
import socket

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EVLOOP_NONBLOCK,
    BufferEvent,
    ChangeInfo,
    EvBuffer,
    EventBase,
    FilterBufferEvent,
    TokenBucketCfg,
)
from tests.core.bevs import Boom, Log, Pair, boom, never

PAYLOAD_BYTES = 1_000_000


class RaisesOnce:
    """A buffer callback that raises when bytes first come, or first leave."""

    def __init__(self, *, on_drain: bool) -> None:
        self.on_drain = on_drain
        self.raised = 0

    def __call__(self, buffer: EvBuffer, info: ChangeInfo, arg: object) -> None:
        if (info.n_deleted if self.on_drain else info.n_added) and not self.raised:
            self.raised += 1
            raise Boom


def drain(base: EventBase, sock: socket.socket, size: int) -> int:
    """Take `size` bytes out of a socket while the loop sends; how many there were."""
    total = 0
    for _ in range(size):
        base.loop(EVLOOP_NONBLOCK)
        try:
            total += len(sock.recv(1 << 20))
        except BlockingIOError:
            continue
        if total >= size:
            break
    return total


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("size", [5, PAYLOAD_BYTES])
def test_the_rest_is_sent_after_an_output_callback_has_raised(
    base: EventBase, pair: Pair, size: int, handled: bool
) -> None:
    """And the write callback comes; with an exception handler as without."""
    told: list[Exception] = []
    log = Log()
    callback = RaisesOnce(on_drain=True)
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.write(b"x" * size)
        bev.output.add_cb(callback)
        if handled:
            base.exception_handler = told.append
            base.loop(EVLOOP_NONBLOCK)
        else:
            with pytest.raises(Boom):
                base.loop(EVLOOP_NONBLOCK)
        assert callback.raised == 1
        assert drain(base, pair[1], size) == size
        base.loop(EVLOOP_NONBLOCK)
        assert log.calls == ["write"]
    assert len(told) == handled


def test_the_rest_is_sent_after_a_cleanup_has_raised(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        bev.output.add_reference(b"abc", boom)
        bev.write(b"x" * PAYLOAD_BYTES)
        with pytest.raises(Boom):
            base.loop(EVLOOP_NONBLOCK)
        assert drain(base, pair[1], PAYLOAD_BYTES + 3) == PAYLOAD_BYTES + 3


def test_a_limiter_is_charged_though_an_output_callback_raises(
    fake_base: EventBase, pair: Pair
) -> None:
    with BufferEvent(fake_base, pair[0]) as bev:
        bev.set_rate_limit(TokenBucketCfg(100, 100, 100, 100))
        bev.write(b"x" * 150)
        bev.output.add_cb(RaisesOnce(on_drain=True))
        with pytest.raises(Boom):
            fake_base.loop(EVLOOP_NONBLOCK)
        fake_base.loop(EVLOOP_NONBLOCK)
        assert len(pair[1].recv(1000)) == 100
        fake_base.dispatch()
        assert len(pair[1].recv(1000)) == 50


@pytest.mark.parametrize("high", [0, 3])
def test_the_read_callback_comes_after_an_input_callback_has_raised(
    base: EventBase, pair: Pair, high: int
) -> None:
    """At a high watermark, too, where nothing else would come any more."""
    log = Log()
    with log.attach(BufferEvent(base, pair[0])) as bev:
        bev.setwatermark(EV_READ, 0, high)
        bev.input.add_cb(RaisesOnce(on_drain=False))
        bev.enable(EV_READ)
        pair[1].send(b"abcdef")
        with pytest.raises(Boom):
            base.loop(EVLOOP_NONBLOCK)
        for _ in range(5):
            base.loop(EVLOOP_NONBLOCK)
        assert log.data == b"abcdef"


def test_close_is_whole_though_the_descriptor_is_gone(base: EventBase, pair: Pair) -> None:
    released: list[object] = []
    bev = BufferEvent(base, os.dup(pair[0].fileno()), BEV_OPT_CLOSE_ON_FREE)
    bev.enable(EV_READ)
    bev.output.add_reference(b"abc", lambda *_: released.append(1))
    os.close(bev.fd)
    bev.close()
    assert bev.closed
    assert released == [1]


@pytest.mark.parametrize("options", [0, BEV_OPT_CLOSE_ON_FREE])
def test_closing_a_filter_is_whole_though_the_descriptor_below_is_gone(
    base: EventBase, pair: Pair, options: int
) -> None:
    """Its context is freed; without CLOSE_ON_FREE the one below stays, unable to read."""
    freed: list[object] = []
    below = BufferEvent(base, os.dup(pair[0].fileno()), BEV_OPT_CLOSE_ON_FREE)
    upper = FilterBufferEvent(below, None, None, options, freed.append, "context")
    os.close(below.fd)
    upper.close()
    assert freed == ["context"]
    assert below.closed == bool(options)
    below.close()
    assert below.fd == -1


def test_close_goes_through_all_steps_though_a_cleanup_raises(base: EventBase, pair: Pair) -> None:
    freed: list[object] = []
    below = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    upper = FilterBufferEvent(below, None, None, BEV_OPT_CLOSE_ON_FREE, freed.append, "context")
    upper.disable(EV_READ)
    below.setcb(never, None, None)
    upper.input.unfreeze(at_front=False)
    upper.input.add_reference(b"abc", boom)
    upper.output.add_cb(boom)
    with pytest.raises(Boom):
        upper.close()
    assert freed == ["context"]
    assert below.closed
    assert pair[0].fileno() == -1
