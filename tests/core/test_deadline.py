"""The limit on silence: it costs no timer operation at a sign of life."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evsvc.core import Event, EventBase, FakeClock, StateError
from evsvc.core.bufferevent.timeouts import Deadline


class Watched:
    """Ten seconds of silence on `base`, and when they were over, counted from the start."""

    def __init__(self, base: EventBase, clock: FakeClock) -> None:
        start = clock.monotonic()
        self.expired: list[float] = []
        self.limit = Deadline(
            lambda fd, events, callback: Event(base, fd, events, callback),
            lambda: self.expired.append(clock.monotonic() - start),
        )
        self.limit.start(10)


@pytest.fixture
def watched(fake_base: EventBase, clock: FakeClock) -> Watched:
    return Watched(fake_base, clock)


def at(base: EventBase, seconds: float, do: Callable[[], object]) -> None:
    base.timer(lambda *_: do()).add(seconds)


def test_silence_ends_at_the_limit_after_the_last_sign_of_life(
    fake_base: EventBase, watched: Watched
) -> None:
    for seconds in (4, 8, 12):
        at(fake_base, seconds, watched.limit.touch)
    assert fake_base.dispatch() == 1
    assert watched.expired == [pytest.approx(22)]


def test_a_start_counts_anew(fake_base: EventBase, watched: Watched) -> None:
    at(fake_base, 9, lambda: watched.limit.start(3))
    fake_base.dispatch()
    assert watched.expired == [pytest.approx(12)]


def test_it_stands_still_when_it_has_expired(fake_base: EventBase, watched: Watched) -> None:
    fake_base.dispatch()
    assert not watched.limit.running
    assert watched.limit.remaining is None
    watched.limit.start(5)
    fake_base.dispatch()
    assert watched.expired == [pytest.approx(10), pytest.approx(15)]


@pytest.mark.parametrize("sign", ["start", "touch"])
def test_after_long_work_there_is_the_whole_time(
    fake_base: EventBase, clock: FakeClock, watched: Watched, sign: str
) -> None:
    """The loop's time is that of the pass: a callback that works for long must not count."""

    def work() -> None:
        clock.advance(8)
        if sign == "start":
            watched.limit.start(10)
        else:
            watched.limit.touch()

    at(fake_base, 1, work)
    fake_base.dispatch()
    assert watched.expired == [pytest.approx(19)]


def test_what_is_left_can_be_asked_for(clock: FakeClock, watched: Watched) -> None:
    clock.advance(4)
    assert watched.limit.remaining == pytest.approx(6)
    watched.limit.touch()
    assert watched.limit.remaining == pytest.approx(10)
    clock.advance(11)
    assert watched.limit.remaining == 0
    watched.limit.stop()
    assert watched.limit.remaining is None


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_stopped_never_expires(
    fake_base: EventBase, watched: Watched, closed: bool
) -> None:
    watched.limit.stop()
    if closed:
        watched.limit.close()
        watched.limit.close()
        with pytest.raises(StateError):
            watched.limit.start(1)
    assert fake_base.dispatch() == 1
    assert watched.expired == []


def test_a_base_is_all_that_it_needs(fake_base: EventBase) -> None:
    told: list[int] = []
    limit = Deadline(fake_base, lambda: told.append(1))
    limit.start(3)
    assert fake_base.dispatch() == 1
    assert told == [1]


def test_it_may_be_closed_by_its_own_callback(fake_base: EventBase) -> None:
    limit = Deadline(fake_base, lambda: limit.close())
    limit.start(3)
    assert fake_base.dispatch() == 1
    assert not limit.running
