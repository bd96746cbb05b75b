"""A base over a clock that may be set back: what it waits for comes after the same time."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import (
    EV_PERSIST,
    ArgumentError,
    ArgumentTypeError,
    Event,
    EventBase,
    RatchetClock,
)

HOUR_S = 3600.0


class Source:
    """A clock that can be set, over a true time that only passes."""

    def __init__(self) -> None:
        self.true_time = 0.0
        self.set_by = 1_700_000_000.0
        self.steps: list[tuple[float, float]] = []  # when, in true time, and how far

    def __call__(self) -> float:
        while self.steps and self.steps[0][0] <= self.true_time:
            self.set_by += self.steps.pop(0)[1]
        return self.true_time + self.set_by


class PretendedRatchet(RatchetClock):
    """A ratchet over a `Source` that passes when the loop would sleep."""

    jumps = True

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.source = source

    def advance(self, seconds: float) -> None:
        self.source.true_time += seconds


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def clock(source: Source) -> PretendedRatchet:
    """Return the clock of `fake_base`."""
    return PretendedRatchet(source)


def note_firings(base: EventBase, source: Source, *timeouts: float) -> list[float]:
    """Start timers on `base`, and return the list that gets the true time when one fires."""
    fired: list[float] = []
    for timeout in timeouts:
        base.timer(lambda *_: fired.append(source.true_time)).add(timeout)
    return fired


@pytest.mark.parametrize("step_s", [-HOUR_S, -0.001, -10 * 365 * 24 * HOUR_S])
def test_timers_fire_after_the_same_time_although_the_source_goes_back(
    fake_base: EventBase, source: Source, step_s: float
) -> None:
    """EV_MONOT_FALLBACK: the offset takes up the step, and no timer waits for it."""
    fired = note_firings(fake_base, source, 1, 10, 7200)
    common = fake_base.init_common_timeout(30)
    fake_base.timer(lambda *_: fired.append(source.true_time)).add(common)

    def set_back(*args: object) -> None:
        source.set_by += step_s

    fake_base.timer(set_back).add(4)
    assert fake_base.dispatch() == 1
    assert fired == pytest.approx([1, 10, 30, 7200])


def test_a_timer_added_after_the_step_waits_its_own_time(
    fake_base: EventBase, source: Source
) -> None:
    note_firings(fake_base, source, 5)
    fake_base.dispatch()
    source.set_by -= HOUR_S
    fired = note_firings(fake_base, source, 2, 3)
    fake_base.dispatch()
    assert fired == pytest.approx([7, 8])


def test_a_persistent_timer_keeps_its_beat_over_steps_back(
    fake_base: EventBase, source: Source
) -> None:
    beats: list[float] = []

    def beat(*args: object) -> None:
        beats.append(source.true_time)
        source.set_by -= HOUR_S

    Event(fake_base, -1, EV_PERSIST, beat).add(10)
    fake_base.loopexit(45)
    assert fake_base.dispatch() == 0
    assert beats == pytest.approx([10, 20, 30, 40])


def test_a_step_forwards_is_time_that_has_passed(fake_base: EventBase, source: Source) -> None:
    """What became due meanwhile fires at once, in its order; the missed beats are dropped."""
    ran: list[str] = []
    for name, timeout in (("minutes", 600), ("hours", 2 * HOUR_S)):
        fake_base.timer(lambda fd, what, name: ran.append(name), name).add(timeout)
    beat = Event(fake_base, -1, EV_PERSIST, lambda *_: ran.append("beat"))
    beat.add(700)

    def set_forward(*args: object) -> None:
        source.set_by += HOUR_S
        fake_base.update_cache_time()
        fake_base.loopexit(100)

    fake_base.timer(set_forward).add(4)
    assert fake_base.dispatch() == 0
    assert ran == ["minutes", "beat"]
    assert source.true_time == pytest.approx(104)


def test_a_step_back_in_a_wait_costs_that_wait_and_no_more(
    fake_base: EventBase, source: Source
) -> None:
    """How long the loop had waited when the source was set back, nobody can tell."""
    source.steps = [(6, -HOUR_S)]
    fired = note_firings(fake_base, source, 4, 10, 20)
    fake_base.dispatch()
    assert fired == pytest.approx([4, 16, 26])


def test_a_loop_that_really_sleeps_is_not_held_up_by_an_hour() -> None:
    set_by = [0.0]
    clock = RatchetClock(lambda: time.monotonic() + set_by[0])
    with EventBase(clock=clock) as sleeper:
        started = time.monotonic()
        late: list[float] = []
        sleeper.timer(lambda *_: set_by.append(set_by.pop() - HOUR_S)).add(0.005)
        sleeper.timer(lambda *_: late.append(time.monotonic() - started - 0.02)).add(0.02)
        assert sleeper.dispatch() == 1
    assert len(late) == 1
    assert 0 <= late[0] < 60


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(-5000, 1000)), max_size=50))
def test_readings_never_go_back_and_count_all_that_passes(moves: list[tuple[int, int]]) -> None:
    """Each move is time that passes, a reading, and a step, up to the next reading."""
    source = Source()
    source.set_by = 0.0
    clock = RatchetClock(source)
    readings = [clock.monotonic()]
    expected = [0.0]
    for passed, step in moves:
        source.true_time += passed
        readings.append(clock.monotonic())
        source.set_by += step
        readings.append(clock.monotonic())
        expected += [expected[-1] + passed, expected[-1] + passed + max(step, 0)]
    assert all(earlier <= later for earlier, later in pairwise(readings))
    assert readings == expected


def test_a_step_that_two_threads_find_is_taken_up_once() -> None:
    """The second reads the clock while the first waits for the source."""
    now = [5000.0]
    meanwhile: list[float] = []

    def read() -> float:
        reading = now[0]
        if reading == 1400.0 and not meanwhile:
            meanwhile.append(0.0)
            meanwhile.append(clock.monotonic())
        return reading

    clock = RatchetClock(read)
    assert clock.monotonic() == 5000.0
    now[0] = 1400.0
    assert clock.monotonic() == 5000.0
    assert meanwhile == [0.0, 5000.0]
    now[0] = 1401.0
    assert clock.monotonic() == 5001.0


def test_the_source_is_the_wall_clock_unless_given() -> None:
    assert RatchetClock().monotonic() == pytest.approx(time.time(), abs=60)


def test_the_source_must_be_callable_and_tells_the_time_alone() -> None:
    with pytest.raises(ArgumentTypeError, match="12"):
        RatchetClock(12)  # type: ignore[arg-type]  # the mistake under test
    clock = RatchetClock(lambda: 7.0)
    with pytest.raises(ArgumentError, match="60"):
        clock.advance(60)
    assert clock.monotonic() == 7.0
    assert not clock.jumps
