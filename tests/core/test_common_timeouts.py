"""Common timeouts: the tokens, the queues behind them, and their order beside other timers."""

from __future__ import annotations

import random

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EVENT_BASE_COUNT_ADDED,
    EVLOOP_ONCE,
    ArgumentError,
    CommonTimeout,
    Event,
    EventBase,
    EventFlag,
    FakeClock,
    StateError,
    event_self_cbarg,
)
from evsvc.core.reactor.timers import MAX_COMMON_TIMEOUTS, SLACK


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def heap_size(base: EventBase) -> int:
    return len(base.reactor.timers._heap)


def test_the_same_duration_gives_the_same_token(base: EventBase) -> None:
    token = base.init_common_timeout(5)
    assert token == 5.0
    assert isinstance(token, CommonTimeout)
    assert base.init_common_timeout(5.0) is token
    assert base.init_common_timeout(token) is token
    assert base.init_common_timeout(5.000001) is not token


@pytest.mark.parametrize(("one", "other"), [(0.1 + 0.2, 0.3), (5, 5.0), (2.9999999, 3)])
def test_the_same_microseconds_give_the_same_token(
    base: EventBase, one: float, other: float
) -> None:
    """As in libevent, where 5,000,000 us are 5 s."""
    token = base.init_common_timeout(one)
    assert base.init_common_timeout(other) is token
    assert token == other
    assert base.init_common_timeout(other + 0.000001) is not token


def test_a_token_of_another_base_counts_as_the_number(
    fake_base: EventBase, clock: FakeClock
) -> None:
    with EventBase() as other:
        foreign = other.init_common_timeout(5)
    token = fake_base.init_common_timeout(foreign)
    assert token is not foreign
    assert token == foreign
    fired: list[float] = []
    start = clock.monotonic()
    for timeout in (foreign, CommonTimeout(3)):
        fake_base.timer(lambda *_: fired.append(clock.monotonic() - start)).add(timeout)
        assert len(foreign.waiting.entries) == len(token.waiting.entries) == 0
    fake_base.dispatch()
    assert fired == [3, 5]


def test_a_base_has_256_common_timeouts_and_no_more(base: EventBase) -> None:
    assert MAX_COMMON_TIMEOUTS == 256
    tokens = [base.init_common_timeout(seconds) for seconds in range(256)]
    with pytest.raises(StateError, match="999"):
        base.init_common_timeout(999)
    assert base.init_common_timeout(255) is tokens[255]


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
def test_what_is_no_duration_is_refused(base: EventBase, seconds: float) -> None:
    with pytest.raises(ArgumentError, match=str(seconds)):
        base.init_common_timeout(seconds)


def test_a_closed_base_gives_no_tokens(base: EventBase) -> None:
    base.close()
    with pytest.raises(StateError):
        base.init_common_timeout(1)


def test_only_the_head_of_a_queue_is_in_the_heap(fake_base: EventBase) -> None:
    token = fake_base.init_common_timeout(10)
    events = [fake_base.timer(lambda *_: None) for _ in range(1000)]
    for event in events:
        event.add(token)
    assert heap_size(fake_base) == 1
    assert fake_base.num_events(EVENT_BASE_COUNT_ADDED) == 1000
    seen: list[Event] = []
    fake_base.foreach_event(lambda base, event, arg: arg.append(event), seen)
    assert set(map(id, events)) <= set(map(id, seen))
    assert fake_base.dispatch() == 1
    assert heap_size(fake_base) == len(token.waiting.entries) == 0


def test_equal_deadlines_come_in_the_order_of_the_adds(fake_base: EventBase) -> None:
    """Whichever way they were added."""
    token, twin = fake_base.init_common_timeout(2), fake_base.init_common_timeout(1)
    order: list[int] = []
    timers = [fake_base.timer(lambda fd, what, n: order.append(n), n) for n in range(60)]

    def add_the_rest(*args: object) -> None:
        for timer in timers[30:]:
            timer.add(twin)

    fake_base.timer(add_the_rest).add(1)
    for number, timer in enumerate(timers[:30]):
        timer.add(token if number % 3 else 2)
    fake_base.dispatch()
    assert order == list(range(60))


def test_order_against_heap_timers(fake_base: EventBase, clock: FakeClock) -> None:
    """Adds, moves and deletes at random, against a sorted list."""
    chance = random.Random(11)
    tokens = [fake_base.init_common_timeout(seconds) for seconds in (1, 2.5, 7)]
    fired: list[int] = []
    timers = [fake_base.timer(lambda fd, what, n: fired.append(n), n) for n in range(300)]
    due: dict[int, tuple[float, int]] = {}
    for turn in range(3000):
        number = chance.randrange(300)
        if chance.random() < 0.3:
            timers[number].delete()
            due.pop(number, None)
        else:
            timeout = chance.choice([*tokens, 1.0, 2.5, 4.0])
            timers[number].add(timeout)
            due[number] = (clock.monotonic() + timeout, turn)
        if turn % 50 == 0:
            clock.advance(0.001)
    assert fake_base.num_events(EVENT_BASE_COUNT_ADDED) == len(due)
    assert fake_base.dispatch() == 1
    assert fired == sorted(due, key=due.__getitem__)
    assert fake_base.reactor.timers._waiting == 0


def test_churn_keeps_queue_and_heap_small(fake_base: EventBase, clock: FakeClock) -> None:
    token = fake_base.init_common_timeout(30)
    events = [fake_base.timer(never) for _ in range(3)]
    for event in events:
        event.add(token)
    most_queued = most_heaped = 0
    for turn in range(100_000):
        event = events[turn % 7 % 3]
        event.delete()
        if turn % 5 == 0:
            clock.advance(0.0001)
        event.add(token)
        most_queued = max(most_queued, len(token.waiting.entries))
        most_heaped = max(most_heaped, heap_size(fake_base))
    assert most_queued <= 2 * len(events) + SLACK + 1
    assert most_heaped <= 2 * len(events) + SLACK + 1
    for event in events:
        event.delete()
    assert fake_base.dispatch() == 1


def test_dead_entries_behind_a_head_are_bounded(fake_base: EventBase) -> None:
    """The head stays, and what is added behind it is deleted again."""
    token = fake_base.init_common_timeout(30)
    fake_base.timer(lambda *_: None).add(token)
    event = fake_base.timer(never)
    for _ in range(10_000):
        event.add(token)
        assert len(token.waiting.entries) <= 2 * 2 + SLACK
        event.delete()
    assert fake_base.dispatch() == 1


def test_deleting_the_head_lets_the_next_live_one_come(
    fake_base: EventBase, clock: FakeClock
) -> None:
    token = fake_base.init_common_timeout(1)
    fired: list[int] = []
    timers = [fake_base.timer(lambda fd, what, n: fired.append(n), n) for n in range(5)]
    for timer in timers:
        timer.add(token)
        clock.advance(0.1)
    timers[1].delete()
    timers[2].remove_timer()
    timers[0].delete()
    assert timers[3].deadline == fake_base.reactor.timers.next_deadline()
    fake_base.dispatch()
    assert fired == [3, 4]


def test_an_event_moves_between_a_queue_and_the_heap(
    fake_base: EventBase, clock: FakeClock
) -> None:
    token = fake_base.init_common_timeout(5)
    start = clock.monotonic()
    fired: list[float] = []
    event = fake_base.timer(lambda *_: fired.append(clock.monotonic() - start))
    for timeout in (token, 1, token, 2):
        event.add(timeout)
    assert event.deadline == start + 2
    fake_base.dispatch()
    assert fired == [2]
    event.add(3)
    event.add(token)
    fake_base.dispatch()
    assert fired == [2, 7]


def test_a_persistent_event_starts_anew_in_its_queue(
    fake_base: EventBase, clock: FakeClock
) -> None:
    token = fake_base.init_common_timeout(0.5)
    start = clock.monotonic()
    fired: list[tuple[str, float]] = []

    def tick(fd: int, what: EventFlag, name: str) -> None:
        assert what == EV_TIMEOUT
        fired.append((name, clock.monotonic() - start))
        assert heap_size(fake_base) <= 2  # the loop's exit, and the head of the queue

    for name in ("first", "second"):
        Event(fake_base, -1, EV_PERSIST, tick, name).add(token)
    fake_base.loopexit(1.25)
    fake_base.dispatch()
    assert fired == [("first", 0.5), ("second", 0.5), ("first", 1.0), ("second", 1.0)]
    assert len(token.waiting.entries) == 2


def test_a_persistent_event_keeps_its_beat_behind_a_later_add(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """Its deadline comes before the queue's last, and is kept all the same."""
    token = fake_base.init_common_timeout(1)
    start = clock.monotonic()
    beats: list[float] = []
    late: list[float] = []
    other = fake_base.timer(lambda *_: late.append(clock.monotonic() - start))

    def tick(fd: int, what: int, event: Event) -> None:
        beats.append(clock.monotonic() - start)
        if len(beats) == 4:
            event.delete()

    def add_late(*args: object) -> None:
        clock.advance(0.25)
        fake_base.update_cache_time()
        other.add(token)

    fake_base.timer(add_late).add(1)
    Event(fake_base, -1, EV_PERSIST, tick, event_self_cbarg).add(token)
    assert fake_base.dispatch() == 1
    assert beats == [1.25, 2, 3, 4]
    assert late == [2.25]


def test_an_event_of_a_queue_may_do_anything_to_it_in_its_callback(fake_base: EventBase) -> None:
    token = fake_base.init_common_timeout(1)
    ran: list[str] = []
    victim = fake_base.timer(never)

    def first(fd: int, what: int, event: Event) -> None:
        ran.append("first")
        victim.close()
        if len(ran) < 3:
            event.add(token)

    fake_base.timer(first, event_self_cbarg).add(token)
    victim.add(token)
    assert fake_base.dispatch() == 1
    assert ran == ["first"] * 3


def test_closing_the_base_empties_its_queues(fake_base: EventBase) -> None:
    token = fake_base.init_common_timeout(1)
    events = [Event(fake_base, -1, EV_READ, never) for _ in range(5)]
    for event in events:
        event.add(token)
    events[2].delete()
    fake_base.close()
    assert len(token.waiting.entries) == 0
    assert not any(event.pending() for event in events)


def test_activation_by_the_old_timeout_is_cancelled_by_a_token(fake_base: EventBase) -> None:
    token = fake_base.init_common_timeout(5)
    ran: list[float] = []
    start = fake_base.now
    late = fake_base.timer(lambda *_: ran.append(fake_base.now - start))
    fake_base.timer(lambda *_: late.add(token)).add(token)
    late.add(token)
    fake_base.loop(EVLOOP_ONCE)
    assert ran == []
    fake_base.dispatch()
    assert ran == [10]
