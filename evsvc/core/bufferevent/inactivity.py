"""A limit on silence that costs one attribute store when there is none.

`last` is written at every sign of life.  The timer is not moved for it: when it fires early, it is
started again for what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..event import Event

if TYPE_CHECKING:
    from ..base import EventBase


class Inactivity:
    """Calls `expired()` when `limit` seconds have passed since `last`, while it is running."""

    __slots__ = ("_event", "_expired", "last", "limit")

    def __init__(self, base: EventBase, limit: float, expired: Callable[[], object]) -> None:
        self.limit = limit
        self.last = 0.0
        self._expired = expired
        self._event = Event(base, -1, 0, self._on_timer)

    def start(self, now: float) -> None:
        """Count from `now`, unless counting already."""
        if not self._event._timer_key:
            self.last = now
            self._event.add(self.limit)

    def stop(self) -> None:
        """Stop counting."""
        self._event.delete()

    def close(self) -> None:
        """Stop for good."""
        self._event.close()

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        left = self.last + self.limit - self._event.base.now
        if left > 0:
            self._event.add(left)
        else:
            self._expired()
