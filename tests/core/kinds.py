"""The kinds of bufferevents that can be each other's peer, for tests that hold for all of them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from evsvc.core import (
    BEV_FINISHED,
    BEV_NEED_MORE,
    BEV_OK,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    EV_WRITE,
    AbstractBufferEvent,
    BufferEvent,
    BufferEventFilterResult,
    EvBuffer,
    EventBase,
    FilterBufferEvent,
    FlushMode,
    PairBufferEvent,
    TlsBufferEvent,
)
from tests.core.tls_ends import open_ends_over, open_ends_over_a_pair, open_ends_over_sockets

Ends = tuple[AbstractBufferEvent, AbstractBufferEvent]
EndsMaker = Callable[[EventBase, int], Ends]
"""Called as `make(base, options)`: two that are connected, and own what is below them."""

FLIPPED = bytes(255 - byte for byte in range(256))


def flip(
    source: EvBuffer, destination: EvBuffer, limit: int | None, mode: FlushMode, ctx: object
) -> BufferEventFilterResult:
    """Be a filter that turns every bit over, which undoes itself."""
    data = source.remove(-1 if limit is None else limit)
    destination.add(data.translate(FLIPPED))
    return BEV_OK if data else BEV_NEED_MORE


def socket_ends(base: EventBase, options: int) -> Ends:
    one, other = socket.socketpair()
    options |= BEV_OPT_CLOSE_ON_FREE
    return BufferEvent(base, one, options), BufferEvent(base, other, options)


def pair_ends(base: EventBase, options: int) -> Ends:
    return PairBufferEvent.new(base, options)


def filter_ends_over(make_below: EndsMaker) -> EndsMaker:
    def make(base: EventBase, options: int) -> Ends:
        one, other = (
            FilterBufferEvent(below, flip, flip, options | BEV_OPT_CLOSE_ON_FREE)
            for below in make_below(base, 0)
        )
        return one, other

    return make


def tls_ends_over_filter(base: EventBase, options: int) -> Ends:
    return open_ends_over(filter_ends_over(socket_ends)(base, 0), options)


KINDS: dict[str, EndsMaker] = {
    "socket": socket_ends,
    "pair": pair_ends,
    "filter over socket": filter_ends_over(socket_ends),
    "filter over pair": filter_ends_over(pair_ends),
    "filter over filter over socket": filter_ends_over(filter_ends_over(socket_ends)),
    "tls": open_ends_over_sockets,
    "tls over pair": open_ends_over_a_pair,
    "tls over filter over socket": tls_ends_over_filter,
    "filter over tls": filter_ends_over(open_ends_over_sockets),
}

ALWAYS_DEFERRED = frozenset({"pair"})


def kinds_and_options() -> dict[str, tuple[EndsMaker, int]]:
    """Return each kind, with its callbacks at once and deferred where it has both, by name."""
    deferred = {
        f"{name}, deferred": (make, int(BEV_OPT_DEFER_CALLBACKS))
        for name, make in KINDS.items()
        if name not in ALWAYS_DEFERRED
    }
    return {name: (make, 0) for name, make in KINDS.items()} | deferred


def finish(bev: AbstractBufferEvent) -> None:
    """End what one side sends, in the way that all kinds understand, and close it."""
    bev.flush(EV_WRITE, BEV_FINISHED)
    secured = next((each for each in layers(bev) if isinstance(each, TlsBufferEvent)), None)
    if secured is None:
        bev.close()
        return
    bev.setcb(None, None, None)
    # A pass later, what is below has sent it.
    close_later = bev.base.timer(lambda *args: bev.close())
    secured.setcb(None, lambda *args: close_later.add(0), None)
    secured.shutdown()


def layers(bev: AbstractBufferEvent) -> Iterator[AbstractBufferEvent]:
    """Yield a bufferevent, and all that are below it."""
    layer: AbstractBufferEvent | None = bev
    while layer is not None:
        yield layer
        layer = layer.underlying
