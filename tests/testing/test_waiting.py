"""Waiting: no longer than is said, and with a complaint that tells what is pending."""

from __future__ import annotations

from typing import Any

import pytest

from evsvc.core import (
    EV_PERSIST,
    ArgumentError,
    ArgumentTypeError,
    Event,
    EventBase,
    FakeClock,
    StateError,
)
from evsvc.testing import DEFAULT_MAX_PASSES, NothingHappened, run_for, run_until


def test_what_happens_in_time_is_waited_for(event_base: EventBase, fake_clock: FakeClock) -> None:
    rung: list[float] = []
    event_base.timer(lambda fd, what, arg: rung.append(fake_clock.monotonic())).add(59.0)
    started = fake_clock.monotonic()
    run_until(event_base, lambda: rung)
    assert rung == [started + 59.0]


def test_what_is_later_than_the_limit_is_not(event_base: EventBase) -> None:
    def ring(fd: int, what: int, arg: object) -> None:
        rung.append(True)

    rung: list[bool] = []
    with event_base.timer(ring) as timer:
        timer.add(5.5)
        with pytest.raises(NothingHappened, match="the bell has not come within 5 s"):
            run_until(event_base, lambda: rung, what="the bell", wait_s=5.0)
        run_until(event_base, lambda: rung, wait_s=0.5)


def test_the_complaint_tells_what_is_pending(event_base: EventBase) -> None:
    with event_base.timer(lambda fd, what, arg: None) as timer:
        timer.add(1000.0)
        with pytest.raises(NothingHappened, match=r"(?s)Inserted events:\n.*Timeout="):
            run_until(event_base, lambda: False)


def test_what_is_so_already_runs_nothing(event_base: EventBase) -> None:
    rung: list[bool] = []
    event_base.timer(lambda fd, what, arg: rung.append(True)).active(0)
    run_until(event_base, lambda: True)
    assert not rung


def test_an_exception_of_a_callback_fails_the_test(event_base: EventBase) -> None:
    def fail(fd: int, what: int, arg: object) -> None:
        raise LookupError("nothing there")

    event_base.timer(fail).add(0)
    with pytest.raises(LookupError, match="nothing there"):
        run_until(event_base, lambda: False)


def test_nothing_is_left_behind(event_base: EventBase) -> None:
    run_until(event_base, lambda: True)
    assert event_base.dispatch() == 1


def test_a_limit_that_is_none_is_refused(event_base: EventBase) -> None:
    with pytest.raises(ArgumentError, match="-1"):
        run_until(event_base, lambda: False, wait_s=-1.0)


class Spinner:
    """Gives the loop something to do in every pass; `turns` counts them."""

    def __init__(self, base: EventBase) -> None:
        self.turns = 0
        self._base = base
        self.turn()

    def turn(self) -> None:
        self.turns += 1
        self._base.post(self.turn)


def test_a_loop_that_never_rests_is_told(event_base: EventBase) -> None:
    spinner = Spinner(event_base)
    with pytest.raises(NothingHappened, match="the end has not come in 100000 passes of a loop"):
        run_until(event_base, lambda: False, what="the end")
    assert spinner.turns > DEFAULT_MAX_PASSES


def test_as_many_passes_as_allowed_and_one_more(event_base: EventBase) -> None:
    spinner = Spinner(event_base)
    until = spinner.turns + 50
    run_until(event_base, lambda: spinner.turns == until, max_passes=50)
    until = spinner.turns + 51
    with pytest.raises(NothingHappened, match="in 50 passes"):
        run_until(event_base, lambda: spinner.turns == until, max_passes=50)


def test_passes_count_only_while_time_stands_still(event_base: EventBase) -> None:
    beats: list[int] = []
    with Event(event_base, -1, EV_PERSIST, lambda fd, what, arg: beats.append(1)) as timer:
        timer.add(0.5)
        run_until(event_base, lambda: len(beats) == 20, max_passes=2)


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ArgumentError), (-1, ArgumentError), (1.5, ArgumentTypeError)]
)
def test_a_number_of_passes_that_is_none_is_refused(
    event_base: EventBase, limit: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=str(limit)):
        run_until(event_base, lambda: True, max_passes=limit)


def test_waiting_inside_a_callback_is_refused(event_base: EventBase) -> None:
    event_base.post(run_until, event_base, lambda: False)
    with pytest.raises(StateError, match="running already"):
        run_until(event_base, lambda: False)


@pytest.mark.parametrize(("seconds", "beats"), [(0.0, 0), (9.5, 0), (10.0, 1), (30.0, 3)])
def test_what_is_due_in_the_time_happens(
    event_base: EventBase, fake_clock: FakeClock, seconds: float, beats: int
) -> None:
    heard: list[float] = []
    started = fake_clock.monotonic()

    def beat(fd: int, what: int, arg: object) -> None:
        heard.append(fake_clock.monotonic() - started)

    with Event(event_base, -1, EV_PERSIST, beat) as timer:
        timer.add(10.0)
        run_for(event_base, seconds)
    assert heard == [10.0 * (beat + 1) for beat in range(beats)]
    assert fake_clock.monotonic() - started == seconds


def test_a_time_that_never_comes_is_told(event_base: EventBase) -> None:
    Spinner(event_base)
    with pytest.raises(NothingHappened, match="the end of 5 s has not come in 10 passes"):
        run_for(event_base, 5.0, max_passes=10)


@pytest.mark.parametrize("seconds", [-1.0, float("inf")])
def test_a_time_that_is_none_is_refused(event_base: EventBase, seconds: float) -> None:
    with pytest.raises(ArgumentError, match=str(seconds)):
        run_for(event_base, seconds)
