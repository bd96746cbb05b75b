"""Clocks that never go back, and dates in English."""

from __future__ import annotations

import calendar
import time
from itertools import pairwise

import pytest

from evsvc.core import (
    EV_MONOT_FALLBACK,
    EV_MONOT_PRECISE,
    ArgumentError,
    EventBase,
    MonotonicTimer,
)
from evsvc.core.util import date_rfc1123, gettimeofday

FLAGS = [0, EV_MONOT_PRECISE, EV_MONOT_FALLBACK, EV_MONOT_PRECISE | EV_MONOT_FALLBACK]

# The coarsest step that will do, without and with EV_MONOT_PRECISE.
COARSE_S, PRECISE_S = 0.025, 0.0005


class Source:
    """A clock that says what it is told to."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def distinct_readings(timer: MonotonicTimer, count: int) -> list[float]:
    readings = [timer.gettime()]
    while len(readings) < count:
        now = timer.gettime()
        if now != readings[-1]:
            readings.append(now)
    return readings


@pytest.mark.parametrize("flags", FLAGS)
def test_time_goes_forward_in_small_steps(flags: int) -> None:
    """Monotonic: strictly increasing over 10 distinct readings, steps under 25 ms or 0.5 ms."""
    readings = distinct_readings(MonotonicTimer(flags), 10)
    steps = [later - earlier for earlier, later in pairwise(readings)]
    assert min(steps) > 0
    # The least step is the clock's; the others may be a pause of this process.
    assert min(steps) < (PRECISE_S if flags & EV_MONOT_PRECISE else COARSE_S)


@pytest.mark.parametrize("flags", FLAGS)
def test_a_wait_is_measured_as_the_system_measures_it(flags: int) -> None:
    """Monotonic: ten 40 ms sleeps measure within 20 ms."""
    timer = MonotonicTimer(flags)
    with EventBase() as base:
        for _ in range(10):
            started, system_started = timer.gettime(), time.monotonic()
            base.timer(lambda fd, what, arg: None).add(0.04)
            base.dispatch()
            passed, system_passed = timer.gettime() - started, time.monotonic() - system_started
            assert abs(passed - system_passed) < 0.02
            assert passed > 0.02


@pytest.mark.parametrize("flags", FLAGS)
def test_a_short_wait_is_measured_precisely(flags: int) -> None:
    """Monotonic: 1 ms sleeps measure within 0.3 ms, when precise or falling back, and always."""
    timer = MonotonicTimer(flags)
    errors: list[float] = []
    with EventBase() as base:
        for _ in range(10):
            started, system_started = timer.gettime(), time.monotonic()
            base.timer(lambda fd, what, arg: None).add(0.001)
            base.dispatch()
            passed, system_passed = timer.gettime() - started, time.monotonic() - system_started
            assert passed > 0.0007
            errors.append(abs(passed - system_passed))
    # This process may be put aside between the readings of two clocks, but not each time.
    assert min(errors) < 0.0003


def test_a_clock_that_goes_back_stands_still_and_goes_on() -> None:
    """FALLBACK: wall clock with ratchet: never goes back, adjusts offset when the source does."""
    source = Source(1000.0)
    timer = MonotonicTimer(EV_MONOT_FALLBACK, source=source)
    assert timer.gettime() == 1000.0
    source.now = 1010.0
    assert timer.gettime() == 1010.0
    source.now = 500.0
    assert timer.gettime() == 1010.0
    source.now = 503.0
    assert timer.gettime() == 1013.0
    source.now = 502.0
    assert timer.gettime() == 1013.0
    source.now = 1000.0
    assert timer.gettime() == 1511.0


def test_fallback_is_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.5)
    assert MonotonicTimer(EV_MONOT_FALLBACK).gettime() == 1_700_000_000.5
    assert gettimeofday() == 1_700_000_000.5


def test_a_source_may_start_below_zero() -> None:
    source = Source(-5.0)
    timer = MonotonicTimer(source=source)
    assert timer.gettime() == -5.0
    source.now = -6.0
    assert timer.gettime() == -5.0


@pytest.mark.parametrize("flags", [4, -1, 7])
def test_unknown_flags_are_refused(flags: int) -> None:
    with pytest.raises(ArgumentError):
        MonotonicTimer(flags)


DATES = [
    (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
    (946684799, "Fri, 31 Dec 1999 23:59:59 GMT"),
    (951782400, "Tue, 29 Feb 2000 00:00:00 GMT"),
    (4294967296, "Sun, 07 Feb 2106 06:28:16 GMT"),
    (253402300799, "Fri, 31 Dec 9999 23:59:59 GMT"),
]


@pytest.mark.parametrize(("seconds", "text"), DATES)
def test_a_date_is_written_exactly(seconds: int, text: str) -> None:
    """Date: exact strings for epoch 0, 946684799, 4294967296, 253402300799, leap day."""
    assert date_rfc1123(seconds) == text
    assert date_rfc1123(seconds + 0.75 if seconds < 2**40 else seconds) == text
    assert date_rfc1123(time.gmtime(seconds)) == text


def test_a_date_can_be_cut() -> None:
    """Date: a buffer of 8 gives "Thu, 01"."""
    assert date_rfc1123(0)[: 8 - 1] == "Thu, 01"


def test_a_date_is_english_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    """English names whatever the locale: what goes by the locale is not asked."""
    monkeypatch.setattr(time, "strftime", lambda *args: pytest.fail("goes by the locale"))
    monkeypatch.setattr(calendar, "day_abbr", ["?"] * 7)
    monkeypatch.setattr(calendar, "month_abbr", ["?"] * 13)
    for seconds, text in DATES:
        assert date_rfc1123(seconds) == text


def test_without_time_the_date_is_now() -> None:
    """Missing time = now in UTC."""
    before = int(time.time())
    text = date_rfc1123()
    assert text in {date_rfc1123(second) for second in range(before, int(time.time()) + 1)}


@pytest.mark.parametrize("when", [253402300800, -62135596801, 1e30, float("nan"), float("inf")])
def test_a_time_that_no_date_can_say_is_refused(when: float) -> None:
    with pytest.raises(ArgumentError, match="years 1 to 9999"):
        date_rfc1123(when)
