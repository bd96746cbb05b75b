"""How long requests may take: one timer for all that have the same number of seconds.

Such requests end in the order in which they began, so their row needs no sorting: one that begins
or ends costs one store, and the timer is set again only when it fires.  A row without any has no
timer, which would keep the loop running: who makes one request after the other does best to discard
the old one when the new one is there.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from ...core import Event, EventBase

Item = TypeVar("Item", bound=Hashable)


class _Row(Generic[Item]):
    """When each of those with one number of seconds ends, the first at the front."""

    __slots__ = ("ends", "seconds", "timer")

    def __init__(self, seconds: float, timer: Event) -> None:
        self.seconds = seconds
        self.timer = timer
        self.ends: dict[Item, float] = {}


class Timeouts(Generic[Item]):
    """What is limited in time; `expired(item)` is told of each whose time is over."""

    __slots__ = ("_base", "_expired", "_rows")

    def __init__(self, base: EventBase, expired: Callable[[Item], object]) -> None:
        self._base = base
        self._expired = expired
        self._rows: dict[float, _Row[Item]] = {}

    def add(self, item: Item, seconds: float) -> float:
        """Limit an item, and return when its time is over, on the base's clock."""
        row = self._rows.get(seconds)
        if row is None:
            row = self._rows[seconds] = _Row(seconds, self._base.timer(self._on_timer, seconds))
            row.timer.add(seconds)
        ends_at = row.ends[item] = self._base.now + seconds
        return ends_at

    def renew(self, item: Item, seconds: float) -> None:
        """Have the time of one begin anew, or begin, which has so many seconds."""
        row = self._rows.get(seconds)
        if row is not None:
            row.ends.pop(item, None)  # it is the last one from now on
        self.add(item, seconds)

    def discard(self, item: Item, seconds: float) -> None:
        """Limit it no longer, which had so many seconds; safe to repeat."""
        row = self._rows.get(seconds)
        if row is not None:
            row.ends.pop(item, None)
            if not row.ends:
                self._close(row)

    def close(self) -> None:
        """Forget all."""
        for row in self._rows.values():
            row.timer.close()
        self._rows.clear()

    def _on_timer(self, fd: int, what: int, seconds: float) -> None:
        row = self._rows[seconds]
        try:
            while row.ends:
                item, ends_at = next(iter(row.ends.items()))
                if ends_at > self._base.now:
                    break
                del row.ends[item]
                self._expired(item)
        finally:
            if self._rows.get(seconds) is row:
                self._go_on(row)

    def _go_on(self, row: _Row[Item]) -> None:
        if row.ends:
            row.timer.add(max(next(iter(row.ends.values())) - self._base.now, 0.0))
        else:
            self._close(row)

    def _close(self, row: _Row[Item]) -> None:
        row.timer.close()
        del self._rows[row.seconds]
