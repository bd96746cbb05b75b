"""The timer heap, and the clocks."""

from __future__ import annotations

import random

import pytest

from evsvc.core import (
    ArgumentError,
    Event,
    EventBase,
    FakeClock,
    MonotonicClock,
)
from evsvc.core.reactor.record import EventRecord
from evsvc.core.reactor.timers import SLACK, TimerHeap

pytestmark = pytest.mark.every_backend


@pytest.fixture
def events(clock: FakeClock) -> list[Event]:
    with EventBase(clock=clock) as base:
        return [base.timer(lambda *_: None) for _ in range(500)]


def drain(heap: TimerHeap, now: float) -> list[EventRecord]:
    due: list[EventRecord] = []
    heap.expire(now, lambda event, what: due.append(event), lambda event: None)
    return due


def test_events_come_out_by_deadline_and_equal_ones_in_order(events: list[Event]) -> None:
    heap = TimerHeap()
    deadlines = [random.Random(7).randrange(5) for _ in events]
    for event, deadline in zip(events, deadlines, strict=True):
        heap.push(event, deadline)
    by_deadline = sorted(range(len(events)), key=deadlines.__getitem__)
    assert drain(heap, 5) == [events[index] for index in by_deadline]
    assert len(heap) == 0


def test_only_what_is_due_comes_out(events: list[Event]) -> None:
    heap = TimerHeap()
    heap.push(events[0], 1.0)
    heap.push(events[1], 2.0)
    assert drain(heap, 0.999) == []
    assert drain(heap, 1.0) == [events[0]]
    assert heap.next_deadline() == 2.0


def test_a_moved_event_fires_at_its_new_deadline_only(events: list[Event]) -> None:
    heap = TimerHeap()
    heap.push(events[0], 1.0)
    heap.push(events[0], 3.0)
    heap.push(events[1], 2.0)
    assert len(heap) == 2
    assert list(heap) == [events[1], events[0]] or list(heap) == [events[0], events[1]]
    assert drain(heap, 2.5) == [events[1]]
    assert drain(heap, 3.0) == [events[0]]


def test_removing_twice_is_fine(events: list[Event]) -> None:
    heap = TimerHeap()
    heap.push(events[0], 1.0)
    heap.remove(events[0])
    heap.remove(events[0])
    assert len(heap) == 0
    assert heap.next_deadline() is None


def test_adding_and_removing_for_ever_does_not_grow_the_heap(events: list[Event]) -> None:
    heap = TimerHeap()
    for turn in range(10_000):
        heap.push(events[turn % 3], 1000.0 + turn)
        assert len(heap._heap) <= 2 * len(heap) + SLACK + 1
        if turn % 2:
            heap.remove(events[turn % 3])


def test_a_fake_clock_moves_only_forward(clock: FakeClock) -> None:
    before = clock.monotonic()
    clock.advance(0)
    clock.advance(1.5)
    assert clock.monotonic() == before + 1.5
    for seconds in (-0.001, float("nan")):
        with pytest.raises(ArgumentError, match=str(seconds)):
            clock.advance(seconds)


def test_the_real_clock_cannot_be_moved() -> None:
    clock = MonotonicClock()
    assert clock.monotonic() <= clock.monotonic()
    with pytest.raises(ArgumentError):
        clock.advance(1)


def test_hours_of_timers_pass_at_once(fake_base: EventBase, clock: FakeClock) -> None:
    start = clock.monotonic()
    fired: list[float] = []
    for hours in (30, 1, 7):
        fake_base.timer(lambda *_: fired.append(clock.monotonic() - start)).add(hours * 3600)
    assert fake_base.dispatch() == 1
    assert fired == pytest.approx([3600, 7 * 3600, 30 * 3600])


def test_real_timers_never_fire_early(base: EventBase) -> None:
    """Waits are rounded up to what the kernel counts in, never down."""
    late: list[float] = []
    for delay in (0.0004, 0.0011, 0.003):
        due = base.now + delay
        base.timer(lambda fd, what, due: late.append(base.now - due), due).add(delay)
    base.dispatch()
    assert len(late) == 3
    assert min(late) >= 0
