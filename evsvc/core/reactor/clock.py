"""Where an event base takes its time from: the monotonic clock, one kept from going back, or a
fake one in tests."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from ..checks import check_timeout, require_callable
from ..errors import ArgumentError


class Clock(Protocol):
    """A source of monotonic seconds.

    jumps: True when waiting is pretended: the loop then polls without blocking, and where nothing
    is ready it calls `advance` with the time that it would have slept.
    """

    jumps: bool

    def monotonic(self) -> float:
        """Return seconds that never go back."""

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once; only called when `jumps` is True."""


class MonotonicClock:
    """The system's monotonic clock (evutil_gettime_monotonic)."""

    __slots__ = ()

    jumps = False
    monotonic = staticmethod(time.monotonic)

    def advance(self, seconds: float) -> None:
        """Refuse: real time cannot be moved.  Raises ArgumentError."""
        raise ArgumentError(f"the real clock cannot be advanced by {seconds!r} s")


class RatchetClock:
    """A clock over a source that may be set back: it never goes back itself (EV_MONOT_FALLBACK).

    source: called for seconds, by default the wall clock.  Where it goes back, time stands still
    for that reading, and then goes on from there as the source does: however far the step went, a
    timer waits only for what is left of its timeout.  What had passed between the reading before
    the step and the one that finds it cannot be known, and is not counted.  A step forwards is
    time that has passed.  Raises ArgumentTypeError for a source that cannot be called.
    Source: evutil_configure_monotonic_time.
    """

    __slots__ = ("_last", "_offset", "_source")

    jumps = False

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        require_callable(source, "the source of a clock")
        self._source = source
        self._offset = 0.0
        self._last = -math.inf

    def monotonic(self) -> float:
        """Return seconds that mean something only beside each other, and never go back."""
        # All is read before the source is asked, and the offset is set, not added to: of two
        # threads that find one step, the second changes nothing that the first has done.
        offset, last = self._offset, self._last
        reading = self._source()
        now = reading + offset
        if now < last:
            self._offset = last - reading
            return last
        self._last = now
        return now

    def advance(self, seconds: float) -> None:
        """Refuse: the source's time is not this clock's to move.  Raises ArgumentError."""
        raise ArgumentError(f"the clock cannot be advanced by {seconds!r} s: its source says when")


class FakeClock:
    """A clock for tests: it stands still until the loop would sleep, and then jumps.

    A base made with `EventBase(clock=FakeClock())` runs hours of timers in milliseconds, and I/O
    on sockets of the same process keeps its place before the timers: time moves only when nothing
    is ready.  Not for tests that wait for another process.
    """

    __slots__ = ("_now",)

    jumps = True

    def __init__(self, start: float = 1000.0) -> None:
        check_timeout(start)
        self._now = start

    def monotonic(self) -> float:
        """Return the fake time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time on by `seconds`.

        Raises ArgumentError when they are negative or no end of them, ArgumentTypeError for what is
        no number.
        """
        check_timeout(seconds)
        self._now += seconds
