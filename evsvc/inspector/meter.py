"""LoopMeter: how fast the loop goes round, how much of it is work, and which callbacks are slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core import CallInfo, CallWatcher, CheckWatcher, PrepareWatcher
from ..core.closing import Closing
from .names import name_of

if TYPE_CHECKING:
    from ..core import EventBase

IDLE_S = 60.0
"""So long after the last time that anybody asked, a meter closes itself."""

OTHER = "(others)"
"""Stands for all callbacks beyond the most that are told apart."""


class CallFigures:
    """What the calls of one callback came to: how many, and seconds together and at the most."""

    __slots__ = ("calls", "longest_s", "total_s")

    def __init__(self) -> None:
        self.calls = 0
        self.total_s = self.longest_s = 0.0


class LoopFigures(NamedTuple):
    """What the loop did since it was asked before.

    seconds: for how long.  busy_s: of these not waiting.  longest_s: the longest work of one pass,
    which is how late an event could have been.
    """

    seconds: float
    passes: int
    callbacks: int
    busy_s: float
    longest_s: float


class LoopMeter(Closing):
    """Measures a loop from its making to `close`, or until nobody has asked for IDLE_S.

    calls: by name, since it was made, no more than `max_names` of them and OTHER.  closed: whether
    it measures no more.
    """

    __slots__ = (
        "_base",
        "_busy_s",
        "_callbacks",
        "_longest_s",
        "_max_names",
        "_passes",
        "_since",
        "_waited_at",
        "_watchers",
        "calls",
        "closed",
    )

    def __init__(self, base: EventBase, max_names: int) -> None:
        self._base = base
        self._max_names = max_names
        self.closed = False
        self.calls: dict[str, CallFigures] = {}
        self._waited_at: float | None = None  # when the last wait ended; None while it waits
        self._start(base.gettime_monotonic())
        self._watchers = (
            PrepareWatcher(base, self._before_wait),
            CheckWatcher(base, self._after_wait),
            CallWatcher(base, self._after_call),
        )

    def take(self) -> LoopFigures:
        """Return the figures since the last time, and begin anew."""
        now = self._base.gettime_monotonic()
        self._count_busy(now)
        figures = LoopFigures(
            now - self._since, self._passes, self._callbacks, self._busy_s, self._longest_s
        )
        if self._waited_at is not None:
            self._waited_at = now  # the pass under way is counted up to here
        self._start(now)
        return figures

    def close(self) -> None:
        """Measure no more.  Safe to repeat."""
        self.closed = True
        for watcher in self._watchers:
            watcher.close()

    def _start(self, now: float) -> None:
        self._since = now
        self._passes = self._callbacks = 0
        self._busy_s = self._longest_s = 0.0

    def _count_busy(self, now: float) -> None:
        if self._waited_at is not None:
            busy_s = now - self._waited_at
            self._busy_s += busy_s
            self._longest_s = max(self._longest_s, busy_s)

    def _before_wait(self, watcher: object, info: object, arg: object) -> None:
        now = self._base.gettime_monotonic()
        self._count_busy(now)
        self._waited_at = None
        if now - self._since > IDLE_S:
            self.close()

    def _after_wait(self, watcher: object, info: object, arg: object) -> None:
        self._waited_at = self._base.gettime_monotonic()
        self._passes += 1

    def _after_call(self, watcher: object, info: CallInfo, arg: object) -> None:
        self._callbacks += 1
        figures = self._figures_of(info.callback)
        figures.calls += 1
        figures.total_s += info.seconds
        figures.longest_s = max(figures.longest_s, info.seconds)

    def _figures_of(self, callback: Callable[..., Any]) -> CallFigures:
        name = name_of(callback)
        figures = self.calls.get(name)
        if figures is None:
            if len(self.calls) >= self._max_names:
                name = OTHER
            figures = self.calls.setdefault(name, CallFigures())
        return figures
