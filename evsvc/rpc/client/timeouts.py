"""How long calls may take: one timer for all that have the same number of seconds.

Such calls end in the order in which they began, so their row needs no sorting: a call that begins
or ends costs one store, and the timer is set again only when it fires.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...core import Event, EventBase
    from .call import RpcCall


class _Row:
    """The calls with one number of seconds, the oldest first."""

    __slots__ = ("calls", "seconds", "timer")

    def __init__(self, seconds: float, timer: Event) -> None:
        self.seconds = seconds
        self.timer = timer
        self.calls: dict[RpcCall[Any, Any], None] = {}


class CallTimeouts:
    """The calls that are limited in time; `expired(call)` is told of each that is over."""

    __slots__ = ("_base", "_expired", "_rows")

    def __init__(self, base: EventBase, expired: Callable[[RpcCall[Any, Any]], object]) -> None:
        self._base = base
        self._expired = expired
        self._rows: dict[float, _Row] = {}

    def add(self, call: RpcCall[Any, Any]) -> None:
        """Limit a call that has a `timeout_s`; sets its `ends_at`."""
        seconds = call.timeout_s
        assert seconds is not None
        row = self._rows.get(seconds)
        if row is None:
            row = self._rows[seconds] = _Row(seconds, self._base.timer(self._on_timer, seconds))
            row.timer.add(seconds)
        call.ends_at = self._base.now + seconds
        row.calls[call] = None

    def discard(self, call: RpcCall[Any, Any]) -> None:
        """Limit it no longer; safe to repeat."""
        if call.timeout_s is not None and (row := self._rows.get(call.timeout_s)) is not None:
            row.calls.pop(call, None)

    def close(self) -> None:
        """Forget all."""
        for row in self._rows.values():
            row.timer.close()
        self._rows.clear()

    def _on_timer(self, fd: int, what: int, seconds: float) -> None:
        row = self._rows[seconds]
        try:
            while row.calls:
                call = next(iter(row.calls))
                if call.ends_at > self._base.now:
                    break
                del row.calls[call]
                self._expired(call)
        finally:
            if self._rows.get(seconds) is row:
                self._go_on(row)

    def _go_on(self, row: _Row) -> None:
        if row.calls:
            first = next(iter(row.calls))
            row.timer.add(max(first.ends_at - self._base.now, 0.0))
        else:
            row.timer.close()
            del self._rows[row.seconds]
