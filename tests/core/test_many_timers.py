"""A million timers: they can wait all at once, and adding and deleting them leaves nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

from evsvc.core import EVENT_BASE_COUNT_ADDED, EventBase, FakeClock
from evsvc.core.reactor.timers import SLACK

# All of them where there is time for it, and elsewhere enough to see a cost that is not linear.
MANY = 1_000_000 if os.environ.get("CI") else 200_000

# A prime, so that the deadlines come in no order and no two are equal.
STRIDE = 7919


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.fixture
def timer_base() -> Iterator[EventBase]:
    """Return a base whose time is fake; timers are the same over every backend.

    The collector is off: it would look at each timer again and again.
    """
    gc.disable()
    try:
        with EventBase(clock=FakeClock()) as base:
            yield base
    finally:
        gc.enable()


@pytest.mark.no_cover
def test_a_million_timers_wait_at_once(timer_base: EventBase) -> None:
    """Added in no order, the earliest thousand fire in order, and the rest goes with the base."""
    fired: list[int] = []
    timers = [
        timer_base.timer(lambda fd, what, due: fired.append(due), number * STRIDE % MANY)
        for number in range(MANY)
    ]
    for timer in timers:
        timer.add(timer.callback_arg + 1)
    assert timer_base.num_events(EVENT_BASE_COUNT_ADDED) == MANY
    timer_base.loopexit(1000.5)
    assert timer_base.dispatch() == 0
    assert fired == list(range(1000))
    assert timer_base.num_events(EVENT_BASE_COUNT_ADDED) == MANY - 1000
    timer_base.close()
    assert not any(timer.pending() for timer in timers[::1000])


@pytest.mark.no_cover
def test_a_million_adds_and_deletes_leave_the_heap_small(timer_base: EventBase) -> None:
    """Of a few timers that come and go, among others that stay."""
    staying, moving = 10, 3
    for _ in range(staying):
        timer_base.timer(never).add(3600)
    timers = [timer_base.timer(never) for _ in range(moving)]
    most = 0
    for turn in range(MANY):
        timer = timers[turn % moving]
        timer.add(60 + turn % 7)
        if turn % 5:
            timer.delete()
        most = max(most, len(timer_base.reactor.timers._heap))
    assert most <= 2 * (staying + moving) + SLACK + 1
