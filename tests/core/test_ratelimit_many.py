"""Thirty connections under rate limits, as libevent's test-ratelim has them, on a fake clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, pstdev

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    BufferEvent,
    Event,
    EventBase,
    RateLimitGroup,
    TokenBucketCfg,
)
from tests.core.bevs import Pair

CONNECTIONS = 30
SECONDS = 20
TICK_S = 0.1

CONNECTION_RATE = 1000  # bytes a second
GROUP_RATE = 30_000
DRAIN_RATE = 500

# What libevent's own run of it allows, in bytes a second.
GROUP_TOLERANCE = 1000
CONNECTION_TOLERANCE = 50
MOST_DEVIATION = 50
MOST_DEVIATION_IN_GROUP = 100

CHUNK = b"x" * 4096


@dataclass(frozen=True)
class Limits:
    """What is limited, and how much of the group's bucket is taken by hand each second."""

    connection: bool = False
    group: bool = False
    drain: int = 0


CASES = {
    "connection": Limits(connection=True),
    "group": Limits(group=True),
    "both": Limits(connection=True, group=True),
    "drained by hand": Limits(connection=True, group=True, drain=DRAIN_RATE),
    "group drained by hand": Limits(group=True, drain=DRAIN_RATE),
}


def per_tick(rate: int) -> TokenBucketCfg:
    size = int(rate * TICK_S)
    return TokenBucketCfg(size, size, size, size, TICK_S)


class Crowd:
    """Connections whose near ends are limited, and whose far ends are not."""

    def __init__(self, base: EventBase, pairs: list[Pair], limits: Limits) -> None:
        self.base = base
        self.moved = [0] * len(pairs)
        self.levels: list[int] = []
        self._limits = limits
        self._group = RateLimitGroup(base, per_tick(GROUP_RATE)) if limits.group else None
        self._near: list[BufferEvent] = []
        self._far: list[BufferEvent] = []
        for number, (near, far) in enumerate(pairs):
            self._near.append(self._limited(BufferEvent(base, near)))
            self._far.append(BufferEvent(base, far))
            self._far[-1].setcb(self._on_arrival, self._feed, None, number)

    def _limited(self, bev: BufferEvent) -> BufferEvent:
        if self._limits.connection:
            bev.set_rate_limit(per_tick(CONNECTION_RATE))
        if self._group is not None:
            bev.add_to_rate_limit_group(self._group)
        return bev

    def run(self, direction: str) -> None:
        """Let the limited ends write, or read, as much as they may."""
        for number, (near, far) in enumerate(zip(self._near, self._far, strict=True)):
            if direction == "writing":
                near.setcb(None, self._feed, None)
                self._feed(near)
                far.enable(EV_READ)
            else:
                near.setcb(self._on_arrival, None, None, number)
                near.enable(EV_READ)
                self._feed(far)
        watch = Event(self.base, -1, EV_PERSIST, self._on_watch)
        watch.add(TICK_S)
        self.base.loopexit(SECONDS - TICK_S / 2)
        self.base.dispatch()
        watch.close()

    def _feed(self, bev: BufferEvent, ctx: object = None) -> None:
        bev.write(CHUNK)

    def _on_arrival(self, bev: BufferEvent, number: int) -> None:
        self.moved[number] += len(bev.read())

    def _on_watch(self, fd: int, what: int, arg: object) -> None:
        if self._group is not None:
            self.levels += [self._group.read_limit, self._group.write_limit]
            if self._limits.drain:
                size = int(self._limits.drain * TICK_S)
                self._group.decrement_read(size)
                self._group.decrement_write(size)

    def close(self) -> None:
        for bev in (*self._near, *self._far):
            bev.close()
        if self._group is not None:
            self._group.close()


@pytest.fixture
def crowd(
    fake_base: EventBase, pairs: Callable[[], Pair], request: pytest.FixtureRequest
) -> Iterator[Crowd]:
    crowd = Crowd(fake_base, [pairs() for _ in range(CONNECTIONS)], CASES[request.param])
    yield crowd
    crowd.close()


@pytest.mark.parametrize("direction", ["writing", "reading"])
@pytest.mark.parametrize(("crowd", "case"), [(name, name) for name in CASES], indirect=["crowd"])
def test_rates_stay_within_tolerance(crowd: Crowd, case: str, direction: str) -> None:
    """Average total and per-connection rates and their deviation stay near what is configured;
    group levels never exceed the configured maximum."""
    limits = CASES[case]
    crowd.run(direction)
    rates = [moved / SECONDS for moved in crowd.moved]
    expected = math.inf
    if limits.group:
        expected = GROUP_RATE - limits.drain
        assert max(crowd.levels) <= GROUP_RATE * TICK_S
    if limits.connection:
        expected = min(expected, CONNECTION_RATE * CONNECTIONS)
    assert sum(rates) == pytest.approx(expected, abs=GROUP_TOLERANCE)
    assert fmean(rates) == pytest.approx(expected / CONNECTIONS, abs=CONNECTION_TOLERANCE)
    assert pstdev(rates) <= (MOST_DEVIATION if limits.connection else MOST_DEVIATION_IN_GROUP)
