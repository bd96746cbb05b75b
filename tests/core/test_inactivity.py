"""The limit on silence: it costs no timer operation at a sign of life."""

from __future__ import annotations

import pytest

from evsvc.core import Event, EventBase, FakeClock
from evsvc.core.bufferevent.inactivity import Inactivity


class Watched:
    """Ten seconds of silence on `base`, and when they were over, counted from the start."""

    def __init__(self, base: EventBase, clock: FakeClock) -> None:
        start = clock.monotonic()
        self.expired: list[float] = []
        self.limit = Inactivity(
            lambda fd, events, callback: Event(base, fd, events, callback),
            10,
            lambda: self.expired.append(clock.monotonic() - start),
        )
        self.limit.run(start, wanted=True)


@pytest.fixture
def watched(fake_base: EventBase, clock: FakeClock) -> Watched:
    return Watched(fake_base, clock)


def test_silence_ends_at_the_limit_after_the_last_sign_of_life(
    fake_base: EventBase, watched: Watched
) -> None:
    def sign_of_life(*args: object) -> None:
        watched.limit.last = fake_base.now

    for seconds in (4, 8, 12):
        fake_base.timer(sign_of_life).add(seconds)
    assert fake_base.dispatch() == 1
    assert watched.expired == [pytest.approx(22)]


def test_starting_twice_does_not_count_anew(fake_base: EventBase, watched: Watched) -> None:
    fake_base.timer(lambda *_: watched.limit.run(fake_base.now, wanted=True)).add(9)
    fake_base.dispatch()
    assert watched.expired == [pytest.approx(10)]


@pytest.mark.parametrize("closed", [False, True])
def test_what_is_stopped_never_expires(
    fake_base: EventBase, watched: Watched, closed: bool
) -> None:
    watched.limit.run(fake_base.now, wanted=False)
    if closed:
        watched.limit.close()
    assert fake_base.dispatch() == 1
    assert watched.expired == []
