"""The times that a base tells: its own clock, and the wall clock as the loop sees it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from evsvc.core import (
    EVENT_BASE_FLAG_NO_CACHE_TIME,
    EventBase,
    EventConfig,
    FakeClock,
)

# The fake wall clock is this far ahead of the fake monotonic one.
AHEAD_S = 1_700_000_000.0


class WallClock:
    """A wall clock that goes with the fake clock, and can be set."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.ahead = AHEAD_S

    def __call__(self) -> float:
        return self.clock.monotonic() + self.ahead


@pytest.fixture
def wall(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> WallClock:
    wall = WallClock(clock)
    monkeypatch.setattr("evsvc.core.reactor.base.time", wall)
    return wall


def times_of_three_callbacks(
    base: EventBase, clock: FakeClock, first: Callable[[], object] = lambda: None
) -> list[float]:
    """Run three callbacks in one pass that take 30 ms each; return what each saw at its start."""
    seen: list[float] = []

    def work(*args: object) -> None:
        first()
        seen.append(base.gettimeofday_cached())
        clock.advance(0.03)

    for _ in range(3):
        base.timer(work).active(0)
    base.dispatch()
    return [moment - AHEAD_S for moment in seen]


def test_callbacks_of_one_pass_see_one_wall_time(
    fake_base: EventBase, clock: FakeClock, wall: WallClock
) -> None:
    """event_base_gettimeofday_cached: three callbacks of 30 ms in one pass, identical times."""
    start = clock.monotonic()
    assert times_of_three_callbacks(fake_base, clock) == [start] * 3


def test_refreshing_the_cache_shows_the_time_that_passed(
    fake_base: EventBase, clock: FakeClock, wall: WallClock
) -> None:
    """event_base_gettimeofday_cached with the cache refreshed in each callback."""
    start = clock.monotonic()
    seen = times_of_three_callbacks(fake_base, clock, fake_base.update_cache_time)
    assert seen == pytest.approx([start, start + 0.03, start + 0.06])


def test_without_a_cache_each_callback_sees_the_present(clock: FakeClock, wall: WallClock) -> None:
    """EVENT_BASE_FLAG_NO_CACHE_TIME; event_base_update_cache_time has no effect with it."""
    config = EventConfig()
    config.set_flag(EVENT_BASE_FLAG_NO_CACHE_TIME)
    start = clock.monotonic()
    with EventBase(config, clock=clock) as base:
        seen = times_of_three_callbacks(base, clock, base.update_cache_time)
    assert seen == pytest.approx([start, start + 0.03, start + 0.06])


def test_outside_the_loop_it_is_the_plain_wall_clock(
    fake_base: EventBase, clock: FakeClock, wall: WallClock
) -> None:
    times_of_three_callbacks(fake_base, clock)
    clock.advance(7)
    fake_base.update_cache_time()  # without effect here
    assert fake_base.gettimeofday_cached() == wall()
    wall.ahead += 3600
    assert fake_base.gettimeofday_cached() == wall()


def test_the_distance_of_the_clocks_is_measured_once(
    fake_base: EventBase, clock: FakeClock, wall: WallClock
) -> None:
    """In the loop, setting the wall clock moves nothing."""
    times_of_three_callbacks(fake_base, clock)
    wall.ahead += 3600
    now = clock.monotonic()
    assert times_of_three_callbacks(fake_base, clock) == pytest.approx([now] * 3)


def test_the_real_wall_clock_is_told_inside_and_outside_the_loop(base: EventBase) -> None:
    seen: list[float] = []
    base.timer(lambda *_: seen.append(base.gettimeofday_cached())).add(0)
    base.dispatch()
    seen.append(base.gettimeofday_cached())
    assert seen == pytest.approx([time.time()] * 2, abs=5)


def test_the_monotonic_time_is_fresh(fake_base: EventBase, clock: FakeClock) -> None:
    """event_gettime_monotonic is a fresh reading, and not the cached time."""
    seen: list[float] = []

    def work(*args: object) -> None:
        before = fake_base.now
        clock.advance(0.25)
        assert fake_base.now == before
        seen.append(fake_base.gettime_monotonic() - before)

    fake_base.timer(work).add(1)
    fake_base.dispatch()
    assert seen == [0.25]
    assert fake_base.gettime_monotonic() == clock.monotonic()


def test_signals_come_by_the_plain_mechanism(base: EventBase) -> None:
    assert base.signal_method == "signal"
