"""A moment that is moved, and the timer behind it."""

from __future__ import annotations

from math import inf

import pytest

from evsvc.core import EVLOOP_NONBLOCK
from evsvc.http.client.deadline import Deadline


@pytest.fixture
def fired():
    return []


@pytest.fixture
def deadline(base, clock, fired):
    began = clock.monotonic()

    def expired(now):
        fired.append((round(now - began, 3), made.is_over()))
        if made.is_over():
            made.due = inf
        made.rearm(inf)

    made = Deadline(base, expired)
    yield made
    made.close()


@pytest.fixture
def advance(base, clock):
    def run(seconds):
        clock.advance(seconds)
        base.loop(EVLOOP_NONBLOCK)

    return run


def test_it_fires_when_it_is_due(deadline, fired, advance) -> None:
    deadline.begin(2.0)
    advance(1.9)
    assert fired == []
    assert not deadline.is_over()
    advance(0.1)
    assert fired == [(2.0, True)]


def test_one_that_moves_back_fires_early_and_then_in_time(deadline, fired, advance) -> None:
    deadline.begin(2.0)
    advance(1.0)
    deadline.begin(2.0)
    advance(1.0)
    assert fired == [(2.0, False)], "the timer was not set anew"
    advance(1.0)
    assert fired[1:] == [(3.0, True)]


def test_one_that_moves_forward_fires_in_time(deadline, fired, advance) -> None:
    deadline.begin(5.0)
    deadline.begin(1.0)
    advance(1.0)
    assert fired == [(1.0, True)]


def test_it_fires_for_another_moment_too(deadline, fired, advance, clock) -> None:
    deadline.begin(5.0)
    deadline.also(clock.monotonic() + 1.0)
    deadline.also(clock.monotonic() + 3.0)  # whoever is told of the first says it again
    advance(1.0)
    assert fired == [(1.0, False)]
    advance(4.0)
    assert fired[1:] == [(5.0, True)]


def test_what_is_cleared_never_fires(base, deadline, fired, advance, clock) -> None:
    deadline.begin(1.0)
    deadline.clear()
    advance(9.0)
    assert fired == []
    assert deadline.due == inf
    assert not deadline.is_over()
    assert base.dispatch() == 1
