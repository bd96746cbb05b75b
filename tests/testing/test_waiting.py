"""Waiting: no longer than is said, and with a complaint that tells what is pending."""

from __future__ import annotations

import pytest

from evsvc.core import ArgumentError, EventBase, FakeClock
from evsvc.testing import NothingHappened, run_until


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
