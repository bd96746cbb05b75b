"""Waits: until when each question waits for a reply.  Does no I/O, reads no clock.

Nearly all waits are of the same length, so the order of their beginning is that of their end, and
one timer does for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .flight import Flight


class Waits:
    """Questions by the moment, in monotonic seconds, at which they have waited long enough."""

    __slots__ = ("_due", "_latest")

    def __init__(self) -> None:
        self._due: dict[Flight, float] = {}
        self._latest = 0.0

    def start(self, flight: Flight, due_at: float) -> None:
        """Have a question wait until `due_at`, and no longer until an earlier one."""
        due = self._due
        due.pop(flight, None)
        due[flight] = due_at
        if due_at >= self._latest:
            self._latest = due_at
        else:  # waits have become shorter meanwhile
            self._due = dict(sorted(due.items(), key=_due_at))

    def stop(self, flight: Flight) -> bool:
        """Have a question wait no more, if it does; tell whether none waits now."""
        self._due.pop(flight, None)
        return not self._due

    def next_due(self) -> float | None:
        """Return the moment at which the first is due, None when nobody waits."""
        return next(iter(self._due.values()), None)

    def pop_due(self, now: float) -> Flight | None:
        """Take the first out if it is due, else return None."""
        for flight, due_at in self._due.items():
            if due_at <= now:
                del self._due[flight]
                return flight
            break
        return None


def _due_at(item: tuple[Flight, float]) -> float:
    return item[1]
