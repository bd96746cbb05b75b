"""How much of a pass runs before the loop looks for more urgent events."""

from __future__ import annotations

import pytest

from evsvc.core import (
    ArgumentError,
    Event,
    EventBase,
    EventConfig,
    FakeClock,
    PrepareWatcher,
)


def passes_of(config: EventConfig, events: int, priority: int, cost_s: float = 0.0) -> list[int]:
    """Return how many of `events` active events ran in each pass."""
    clock = FakeClock()
    with EventBase(config, clock=clock) as base:
        base.priority_init(4)
        ran = [0]

        def work(fd: int, what: int, arg: object) -> None:
            clock.advance(cost_s)
            ran[-1] += 1

        PrepareWatcher(base, lambda watcher, info, arg: ran.append(0))
        for _ in range(events):
            event = Event(base, -1, 0, work)
            event.priority = priority
            event.active(0)
        base.dispatch()
        return ran[1:]


def limited(interval: float | None, callbacks: int, priority: int) -> EventConfig:
    config = EventConfig()
    config.set_max_dispatch_interval(interval, callbacks, priority)
    return config


def test_without_limits_one_pass_runs_all() -> None:
    assert passes_of(EventConfig(), 10, 2) == [10]


def test_a_pass_ends_after_so_many_callbacks() -> None:
    assert passes_of(limited(None, 4, 1), 10, 2) == [4, 4, 2]


def test_a_pass_ends_after_so_much_time() -> None:
    assert passes_of(limited(0.25, -1, 1), 5, 2, cost_s=0.125) == [2, 2, 1]


@pytest.mark.parametrize(("interval", "callbacks"), [(None, 0), (0.0, -1), (None, 1)])
def test_at_least_one_callback_always_runs(interval: float | None, callbacks: int) -> None:
    assert passes_of(limited(interval, callbacks, 0), 3, 2) == [1, 1, 1]


def test_more_urgent_priorities_are_never_limited() -> None:
    assert passes_of(limited(None, 1, 2), 5, 1) == [5]


def test_a_negative_priority_is_the_most_urgent() -> None:
    assert passes_of(limited(None, 2, -5), 4, 0) == [2, 2]


def test_neither_limit_set_turns_the_feature_off() -> None:
    assert passes_of(limited(None, -1, 0), 5, 3) == [5]


def test_a_negative_interval_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"-1\.0"):
        EventConfig().set_max_dispatch_interval(-1.0, 5, 0)


def test_the_cpu_hint_has_no_effect() -> None:
    config = EventConfig()
    config.set_num_cpus_hint(64)
    with EventBase(config) as base:
        assert base.dispatch() == 1
