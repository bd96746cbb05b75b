"""Where an event base takes its time from: the monotonic clock, or a fake one in tests."""

from __future__ import annotations

import time
from typing import Protocol

from .errors import ArgumentError


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


class FakeClock:
    """A clock for tests: it stands still until the loop would sleep, and then jumps.

    A base made with `EventBase(clock=FakeClock())` runs hours of timers in milliseconds, and I/O
    on sockets of the same process keeps its place before the timers: time moves only when nothing
    is ready.  Not for tests that wait for another process.
    """

    __slots__ = ("_now",)

    jumps = True

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start

    def monotonic(self) -> float:
        """Return the fake time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move time on by `seconds`.  Raises ArgumentError when negative."""
        if not seconds >= 0:
            raise ArgumentError(f"time cannot go back: {seconds!r} s")
        self._now += seconds
