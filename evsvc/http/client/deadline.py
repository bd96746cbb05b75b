"""When a connection's present phase is over, and a timer that is set as seldom as can be."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ...core import EventBase

# Two readings of one moment may differ by this much.
_TICK_S: Final = 1e-6


class Deadline:
    """A moment that is moved all the time, and mostly back.

    `expired(now)` is called by the timer, which may be early: `rearm` follows, with whatever else
    it is to fire for.  due: the moment, by the base's clock; inf for never.

    Invariant: the timer fires at `_armed`, which is never later than `due` and what `also` was
    given.  So a moment that moves back costs one store, and a request no timer operation.
    """

    __slots__ = ("_armed", "_clock", "_expired", "_timer", "due")

    def __init__(self, base: EventBase, expired: Callable[[float], object]) -> None:
        self._clock = base.gettime_monotonic
        self._expired = expired
        self._timer = base.timer(self._on_timer)
        self.due = self._armed = inf

    def begin(self, seconds: float) -> None:
        """Be due in so many seconds."""
        due = self.due = self._clock() + seconds
        if due < self._armed:
            self._arm(due)

    def also(self, moment: float) -> None:
        """Have the timer fire then, too."""
        if moment < self._armed:
            self._arm(moment)

    def rearm(self, moment: float) -> None:
        """Have the timer fire when it is due, or then; for `expired`."""
        self.also(min(moment, self.due))

    def is_over(self) -> bool:
        """Whether the moment is past."""
        return self.due < inf and self._clock() >= self.due

    def clear(self) -> None:
        """Be due never, and set no timer."""
        self.due = self._armed = inf
        self._timer.delete()

    def close(self) -> None:
        """End the timer, and let go of who is told."""
        self._timer.close()
        self._expired = _nobody

    def _arm(self, moment: float) -> None:
        self._armed = moment
        self._timer.add(max(moment - self._clock(), 0.0))

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        self._armed = inf
        self._expired(self._clock() + _TICK_S)


def _nobody(now: float) -> None:
    """Stand in after the end."""
