"""What an event is while its callback runs, and what a delete takes back before it does."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    EventFlag,
    FakeClock,
    event_self_cbarg,
)

pytestmark = pytest.mark.every_backend

Pair = tuple[socket.socket, socket.socket]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.mark.parametrize("timeout", [None, 0, 60])
def test_a_one_shot_event_is_idle_in_its_callback(
    base: EventBase, pair: Pair, timeout: float | None
) -> None:
    """Deleted in full: the descriptor and the timeout; it may be closed there, too."""
    ran: list[EventFlag] = []

    def work(fd: int, what: int, event: Event) -> None:
        ran.append(event.pending())
        assert event.deadline is None
        event.add(timeout)
        assert event.pending(EV_WRITE) == EV_WRITE
        event.close()

    Event(base, pair[0], EV_WRITE, work, event_self_cbarg).add(timeout)
    assert base.dispatch() == 1
    assert ran == [EventFlag(0)]
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0


def test_a_one_shot_event_activated_by_hand_is_deleted_before_its_callback(
    base: EventBase, pair: Pair
) -> None:
    """Descriptor and timeout both, though neither made it active."""
    ran: list[EventFlag] = []
    event = Event(base, pair[0], EV_READ, lambda fd, what, arg: ran.append(what))
    event.add(60)
    event.active(EV_WRITE)
    assert base.dispatch() == 1
    assert ran == [EV_WRITE]
    assert not event.pending()


def test_a_persistent_event_is_pending_in_its_callback_with_its_timeout_anew(
    fake_base: EventBase, clock: FakeClock, pair: Pair
) -> None:
    """From the last deadline when that has passed, from now on when the descriptor was ready."""
    start = clock.monotonic()
    seen: list[tuple[float, EventFlag, EventFlag, float]] = []

    def work(fd: int, what: EventFlag, event: Event) -> None:
        if what & EV_READ:
            pair[0].recv(9)
        assert event.deadline is not None
        seen.append((clock.monotonic() - start, what, event.pending(), event.deadline - start))
        if len(seen) == 3:
            event.delete()

    Event(fake_base, pair[0], EV_READ | EV_PERSIST, work, event_self_cbarg).add(2)
    fake_base.timer(lambda *_: pair[1].send(b"x")).add(3)
    assert fake_base.dispatch() == 1
    both = EV_READ | EV_TIMEOUT
    assert seen == [(2, EV_TIMEOUT, both, 4), (3, EV_READ, both, 5), (5, EV_TIMEOUT, both, 7)]


def test_a_persistent_timeout_that_was_missed_starts_anew_from_now(
    fake_base: EventBase, clock: FakeClock
) -> None:
    start = clock.monotonic()
    seen: list[float] = []

    def work(fd: int, what: int, event: Event) -> None:
        assert event.deadline is not None
        seen.append(event.deadline - start)

    Event(fake_base, -1, EV_PERSIST, work, event_self_cbarg).add(1)
    clock.advance(3.5)
    fake_base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    assert seen == [4.5]


def test_a_persistent_event_without_timeout_gets_none_by_running(
    base: EventBase, pair: Pair
) -> None:
    event = Event(base, pair[0], EV_WRITE | EV_PERSIST, lambda *_: None)
    event.add()
    base.loop(EVLOOP_ONCE)
    assert event.pending() == EV_WRITE
    assert event.deadline is None


def test_a_persistent_event_that_was_only_activated_is_not_added_by_running(
    base: EventBase, pair: Pair
) -> None:
    ran: list[EventFlag] = []
    event = Event(
        base, pair[0], EV_WRITE | EV_PERSIST, lambda fd, what, arg: ran.append(event.pending())
    )
    event.active(EV_READ)
    assert base.dispatch() == 1
    assert ran == [EventFlag(0)]


@pytest.mark.parametrize("how", ["delete", "close"])
@pytest.mark.parametrize("cause", [EV_WRITE, EV_TIMEOUT])
def test_a_persistent_event_that_ends_in_its_callback_does_not_come_back(
    fake_base: EventBase, pair: Pair, how: str, cause: EventFlag
) -> None:
    ran: list[EventFlag] = []

    def work(fd: int, what: EventFlag, event: Event) -> None:
        ran.append(what)
        getattr(event, how)()

    sock = pair[0] if cause == EV_WRITE else -1
    event = Event(fake_base, sock, EV_WRITE | EV_PERSIST, work, event_self_cbarg)
    event.add(1)
    assert fake_base.dispatch() == 1
    assert ran == [cause]
    assert not event.pending()


def test_a_deleted_persistent_event_forgets_its_interval(fake_base: EventBase, pair: Pair) -> None:
    event = Event(fake_base, pair[0], EV_WRITE | EV_PERSIST, lambda *_: None)
    event.add(1)
    event.delete()
    event.add()
    fake_base.loop(EVLOOP_ONCE)
    assert event.deadline is None


def due_timers(base: EventBase, callback: Callable[[int, int, int], object]) -> list[Event]:
    events = [base.timer(callback, index) for index in range(2)]
    for event in events:
        event.add(0)
    return events


def active_events(base: EventBase, callback: Callable[[int, int, int], object]) -> list[Event]:
    events = [base.timer(callback, index) for index in range(2)]
    for event in events:
        event.active(EV_READ)
    return events


def persistent_timers(base: EventBase, callback: Callable[[int, int, int], object]) -> list[Event]:
    events = [Event(base, -1, EV_PERSIST, callback, index) for index in range(2)]
    for event in events:
        event.add(0)
    return events


def signal_events(base: EventBase, callback: Callable[[int, int, int], object]) -> list[Event]:
    events = [
        Event(base, signal.SIGUSR1, EV_SIGNAL | EV_PERSIST, callback, index) for index in range(2)
    ]
    for event in events:
        event.add()
    os.kill(os.getpid(), signal.SIGUSR1)
    return events


@pytest.mark.parametrize("make", [due_timers, persistent_timers, active_events, signal_events])
@pytest.mark.parametrize("how", ["delete", "close"])
def test_what_a_callback_ends_in_its_batch_does_not_run(
    base: EventBase,
    make: Callable[[EventBase, Callable[[int, int, int], object]], list[Event]],
    how: str,
) -> None:
    """Whatever made the two active; the first to run ends both."""
    ran: list[int] = []

    def work(fd: int, what: int, index: int) -> None:
        ran.append(index)
        for event in events:
            getattr(event, how)()

    events = make(base, work)
    assert base.dispatch() == 1
    assert len(ran) == 1


def test_an_activation_deleted_and_made_again_runs_once(base: EventBase) -> None:
    ran: list[EventFlag] = []
    event = base.timer(lambda fd, what, arg: ran.append(what))

    def again(*args: object) -> None:
        event.delete()
        event.active(EV_WRITE)

    base.timer(again).active(0)
    event.active(EV_READ)
    assert base.dispatch() == 1
    assert ran == [EV_WRITE]


def test_an_expired_one_shot_event_has_left_its_descriptor_before_its_callback(
    fake_base: EventBase, clock: FakeClock, pair: Pair
) -> None:
    """What arrives between the expiry and the callback is not merged into it."""
    fake_base.priority_init(2)
    ran: list[EventFlag] = []
    late = Event(fake_base, pair[0], EV_READ, lambda fd, what, arg: ran.append(what))
    late.priority = 1
    late.add(1)

    def urgent(*args: object) -> None:
        assert late.pending() == EV_TIMEOUT
        late.add()  # active, so this does not insert it
        pair[1].send(b"x")
        again.active(0)

    again = fake_base.timer(lambda *_: None)
    first = fake_base.timer(urgent)
    for event in (again, first):
        event.priority = 0
    first.add(1)
    assert fake_base.dispatch() == 1
    assert ran == [EV_TIMEOUT]


def test_an_expired_timeout_of_an_active_event_is_added_to_what_happened(
    fake_base: EventBase, clock: FakeClock, pair: Pair
) -> None:
    """Of a persistent one, too; it stays on its descriptor, and its beat goes on."""
    start = clock.monotonic()
    ran: list[EventFlag] = []
    event = Event(fake_base, pair[0], EV_READ | EV_PERSIST, lambda fd, what, arg: ran.append(what))
    event.add(1)
    clock.advance(1)
    event.active(EV_READ)
    fake_base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    assert ran == [EV_READ | EV_TIMEOUT]
    assert event.pending() == EV_READ | EV_TIMEOUT
    assert event.deadline == start + 2


def test_a_persistent_event_without_descriptor_and_timeout_is_in_no_place(
    base: EventBase,
) -> None:
    event = Event(base, -1, EV_PERSIST, never)
    event.add()
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0
    assert not event.pending()
    Event(base, -1, EV_READ, never).add()
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 1
