"""Filters for the tests of filtering bufferevents."""

from __future__ import annotations

from typing import Any

from evsvc.core import (
    BEV_NEED_MORE,
    BEV_OK,
    EVLOOP_NONBLOCK,
    BufferEventFilterResult,
    EvBuffer,
    EventBase,
    FlushMode,
)

Result = BufferEventFilterResult


class Recorder:
    """A filter that passes everything on, and writes down how it was called."""

    def __init__(self, *results: Any) -> None:
        self.calls: list[tuple[int, int | None, FlushMode, Any]] = []
        self.results = list(results)  # said, with nothing done, before it begins to pass on

    def __call__(
        self, source: EvBuffer, target: EvBuffer, limit: int | None, mode: FlushMode, ctx: Any
    ) -> Result:
        self.calls.append((len(source), limit, mode, ctx))
        if self.results:
            result: Result = self.results.pop(0)
            return result
        return BEV_OK if source.remove_buffer(target, 1 << 30) else BEV_NEED_MORE


def double(source: EvBuffer, target: EvBuffer, limit: int | None, mode: int, ctx: object) -> Result:
    """Put an x before each byte."""
    data = source.remove()
    target.add(b"".join(b"x%c" % byte for byte in data))
    return BEV_OK if data else BEV_NEED_MORE


def halve(source: EvBuffer, target: EvBuffer, limit: int | None, mode: int, ctx: object) -> Result:
    """Undo `double`."""
    data = source.remove(len(source) // 2 * 2)
    target.add(data[1::2])
    return BEV_OK if data else BEV_NEED_MORE


def settle(base: EventBase) -> None:
    """Run until nothing is ready, without time going by."""
    base.loop(EVLOOP_NONBLOCK)
