"""A limit on silence that costs one attribute store when there is none.

`last` is written at every sign of life.  The timer is not moved for it: when it fires early, it is
started again for what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..descriptors import HasFileno
    from ..reactor.event import Event, EventCallback

NewEvent = Callable[["int | HasFileno", int, "EventCallback"], "Event"]
"""Makes an event for a descriptor (or -1), flags and a callback, as the owner wants it."""


class Inactivity:
    """Calls `expired()` when `limit` seconds have passed since `last`, while it is running.

    It has the priority of what it watches: where both are due, the sign of life comes first.
    """

    __slots__ = ("_expired", "event", "last", "limit")

    def __init__(self, new_event: NewEvent, limit: float, expired: Callable[[], object]) -> None:
        self.limit = limit
        self.last = 0.0
        self._expired = expired
        self.event = new_event(-1, 0, self._on_timer)

    def run(self, now: float, wanted: bool) -> None:
        """Count from `now`, unless counting already; or stop."""
        if not wanted:
            self.event.delete()
        elif not self.event.timer_key:
            self.last = now
            self.event.add(self.limit)

    def close(self) -> None:
        """Stop for good."""
        self.event.close()

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        left = self.last + self.limit - self.event.base.now
        if left > 0:
            self.event.add(left)
        else:
            self._expired()
