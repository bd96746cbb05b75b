"""Stand-alone clocks: wall time, its text for Internet messages, and time that never goes back."""

from __future__ import annotations

import calendar
import enum
import time
from collections.abc import Callable
from email.utils import formatdate

from ..errors import ArgumentError
from ..reactor.clock import RatchetClock


class MonotonicFlag(enum.IntFlag):
    """How a `MonotonicTimer` takes its time.

    PRECISE:  as precisely as the system can; this is so without the flag, too.
    FALLBACK: from wall time, kept from going back.
    """

    EV_MONOT_PRECISE = 1
    EV_MONOT_FALLBACK = 2


EV_MONOT_PRECISE = MonotonicFlag.EV_MONOT_PRECISE
EV_MONOT_FALLBACK = MonotonicFlag.EV_MONOT_FALLBACK

_FLAGS = int(EV_MONOT_PRECISE | EV_MONOT_FALLBACK)


class MonotonicTimer:
    """A clock that never goes back (struct evutil_monotonic_timer).

    flags: EV_MONOT_PRECISE, EV_MONOT_FALLBACK.  source: seconds from elsewhere, which may go
    back: they are kept from it.  Raises ArgumentError for unknown flags.
    Source: evutil_configure_monotonic_time.
    """

    __slots__ = ("_gettime",)

    def __init__(self, flags: int = 0, *, source: Callable[[], float] | None = None) -> None:
        if int(flags) & ~_FLAGS:
            raise ArgumentError(f"unknown flags of a monotonic timer: {int(flags):#x}")
        self._gettime: Callable[[], float] = time.monotonic
        if source is not None or flags & EV_MONOT_FALLBACK:
            self._gettime = RatchetClock(source or time.time).monotonic

    def gettime(self) -> float:
        """Return seconds that mean something only beside each other (evutil_gettime_monotonic).

        Where the source goes back, time stands still for this reading, and then goes on from
        there as the source does.
        """
        return self._gettime()


def gettimeofday() -> float:
    """Return wall time in seconds since 1970 (evutil_gettimeofday)."""
    return time.time()


def date_rfc1123(when: float | time.struct_time | None = None) -> str:
    """Return a time as "Thu, 01 Jan 1970 00:00:00 GMT", in English whatever the locale.

    when: seconds since 1970, or a broken-down time in UTC; None is now.  Raises ArgumentError for
    a time outside the years 1 to 9999.  Source: evutil_date_rfc1123, RFC 9110 section 5.6.7.
    """
    try:
        seconds = calendar.timegm(when) if isinstance(when, time.struct_time) else when
        return formatdate(seconds, usegmt=True)
    except (ValueError, OverflowError, OSError) as exc:
        raise ArgumentError(f"a time of the years 1 to 9999 is wanted: {when!r}") from exc
