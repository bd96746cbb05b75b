"""Timeouts of events: what they count from, their beat, and what takes them back."""

from __future__ import annotations

import socket
from decimal import Decimal

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EVLOOP_ONCE,
    Error,
    Event,
    EventBase,
    EventFlag,
    FakeClock,
    event_self_cbarg,
)

pytestmark = pytest.mark.every_backend

Pair = tuple[socket.socket, socket.socket]
Call = tuple[float, EventFlag]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def test_activation_and_an_elapsed_timeout_are_one_call(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """A one-shot event with READ pending activation and an elapsed timeout: READ|TIMEOUT."""
    ran: list[EventFlag] = []
    event = Event(fake_base, -1, EV_READ, lambda fd, what, arg: ran.append(what))
    event.add(0.1)
    clock.advance(0.2)
    event.active(EV_READ)
    fake_base.dispatch()
    assert ran == [EV_READ | EV_TIMEOUT]


def test_a_new_timeout_cancels_an_activation_by_the_old(fake_base: EventBase) -> None:
    """event_add of an event that is active because of its timeout: the activation is cancelled,
    with the READ that was merged into it."""
    ran: list[Call] = []
    start = fake_base.now
    late = Event(
        fake_base, -1, EV_READ, lambda fd, what, arg: ran.append((fake_base.now - start, what))
    )

    def restart(*args: object) -> None:
        late.active(EV_READ)
        late.add(5)

    fake_base.timer(restart).add(1)
    late.add(1)
    fake_base.dispatch()
    assert ran == [(pytest.approx(6), EV_TIMEOUT)]


def test_add_without_a_timeout_keeps_the_one_that_runs(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """event_add with no timeout keeps an existing one; a timeout given replaces it."""
    fired: list[float] = []
    event = fake_base.timer(lambda *_: fired.append(clock.monotonic()))
    start = clock.monotonic()
    event.add(2)
    event.add()
    assert event.deadline == start + 2
    event.add(1)
    fake_base.dispatch()
    assert fired == [start + 1]
    assert event.deadline is None


def test_a_timeout_given_in_a_callback_counts_from_the_call(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """A timer added after 50 ms of work in a callback has its whole time from there on."""
    start = clock.monotonic()
    event = fake_base.timer(lambda *_: None)

    def busy(*args: object) -> None:
        clock.advance(0.05)
        event.add(1)

    fake_base.timer(busy).add(0)
    fake_base.loop(EVLOOP_ONCE)
    assert event.deadline == start + 1.05


def test_every_timeout_that_is_given_in_a_callback_counts_from_the_call(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """In `once` and `loopexit`, with a common timeout, and again for a persistent event."""
    start = clock.monotonic()
    fired: dict[str, float] = {}
    common = fake_base.init_common_timeout(1)
    silent = Event(fake_base, -1, EV_READ | EV_PERSIST, lambda *_: fired.setdefault("again", 0))

    def note(fd: int, what: int, name: str) -> None:
        fired[name] = clock.monotonic() - start

    def busy(*args: object) -> None:
        clock.advance(5)
        fake_base.once(-1, EV_TIMEOUT, note, "once", 1)
        Event(fake_base, -1, 0, note, "common").add(common)
        fake_base.loopexit(2)

    silent.add(10)
    fake_base.timer(busy).active(EV_TIMEOUT)
    silent.active(EV_READ)  # it runs after `busy`, and its timeout begins anew then
    assert fake_base.dispatch() == 0
    assert fired == {"once": 6, "common": 6, "again": 0}
    assert clock.monotonic() - start == 7
    assert silent.deadline == start + 15
    silent.close()


def test_a_persistent_timer_repeats_until_deleted(fake_base: EventBase, clock: FakeClock) -> None:
    """A persistent 10 ms timer fires repeatedly."""
    start = clock.monotonic()
    fired: list[float] = []

    def tick(fd: int, what: int, event: Event) -> None:
        fired.append(round(clock.monotonic() - start, 6))
        if len(fired) == 4:
            event.delete()

    Event(fake_base, -1, EV_PERSIST, tick, event_self_cbarg).add(0.01)
    assert fake_base.dispatch() == 1
    assert fired == [0.01, 0.02, 0.03, 0.04]


def test_missed_beats_are_dropped(fake_base: EventBase, clock: FakeClock) -> None:
    """A persistent 100 ms timer, the loop entered 300 ms late, exit at +50 ms: exactly one call."""
    ran: list[EventFlag] = []
    event = Event(fake_base, -1, EV_PERSIST, lambda fd, what, arg: ran.append(what))
    event.add(0.1)
    clock.advance(0.3)
    fake_base.loopexit(0.05)
    assert fake_base.dispatch() == 0
    assert ran == [EV_TIMEOUT]


def test_an_activation_moves_the_beat(fake_base: EventBase, clock: FakeClock) -> None:
    """A persistent 200 ms timer activated with READ at 100 ms: called at 100 with READ, at 300 and
    at 500 with TIMEOUT."""
    start = clock.monotonic()
    ran: list[tuple[float, EventFlag]] = []
    event = Event(
        fake_base,
        -1,
        EV_PERSIST,
        lambda fd, what, arg: ran.append((round(clock.monotonic() - start, 6), what)),
    )
    event.add(0.2)
    fake_base.timer(lambda *_: event.active(EV_READ)).add(0.1)
    fake_base.loopexit(0.55)
    fake_base.dispatch()
    assert ran == [(0.1, EV_READ), (0.3, EV_TIMEOUT), (0.5, EV_TIMEOUT)]


def test_remove_timer_leaves_only_reads(fake_base: EventBase, pair: Pair) -> None:
    """event_remove_timer on a persistent READ event with a 75 ms timeout: only READ callbacks; the
    timer does not come back after a read."""
    ran: list[EventFlag] = []

    def readable(fd: int, what: EventFlag, arg: object) -> None:
        ran.append(what)
        pair[0].recv(9)

    event = Event(fake_base, pair[0], EV_READ | EV_PERSIST, readable)
    event.add(0.075)
    event.remove_timer()
    fake_base.timer(lambda *_: pair[1].send(b"x")).add(0.2)
    fake_base.timer(lambda *_: pair[1].send(b"x")).add(0.4)
    fake_base.loopexit(1)
    fake_base.dispatch()
    assert ran == [EV_READ, EV_READ]
    assert event.pending() == EV_READ


def test_a_removed_pure_timer_never_fires(fake_base: EventBase) -> None:
    event = fake_base.timer(never)
    event.add(0.1)
    event.remove_timer()
    event.remove_timer()
    assert fake_base.dispatch() == 1


def test_remove_timer_without_a_running_timeout_keeps_the_interval(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """event_remove_timer of a persistent event that has just timed out: its beat goes on."""
    start = clock.monotonic()
    beats: list[float] = []
    events: list[Event] = []

    def beat(fd: int, what: int, index: int) -> None:
        beats.append(clock.monotonic() - start)
        events[1 - index].remove_timer()

    for index in (0, 1):
        events.append(Event(fake_base, -1, EV_PERSIST, beat, index))
        events[index].add(1)
    fake_base.loopexit(2.5)
    fake_base.dispatch()
    # The first to run finds the second active without a timeout, and the second the first with one.
    assert beats == [1, 1, 2]


def test_timers_with_one_deadline_fire_in_the_order_of_their_adds(fake_base: EventBase) -> None:
    """All are FIFO, not common timeouts and immediate events alone."""
    fired: list[int] = []
    for number in range(100):
        fake_base.timer(lambda fd, what, number: fired.append(number), number).add(5)
    fake_base.dispatch()
    assert fired == list(range(100))


def test_a_persistent_timeout_of_0_comes_once(fake_base: EventBase) -> None:
    """A zero interval is not started anew: it would come in every pass."""
    ran: list[int] = []
    Event(fake_base, -1, EV_PERSIST, lambda *_: ran.append(1)).add(0)
    fake_base.loopexit(1)
    fake_base.dispatch()
    assert ran == [1]


@pytest.mark.parametrize("timeout", [10**400, Decimal(1)])
def test_a_refused_timeout_changes_nothing(base: EventBase, pair: Pair, timeout: object) -> None:
    event = Event(base, pair[0], EV_READ | EV_PERSIST, lambda *_: None)
    with pytest.raises(Error):
        event.add(timeout)  # type: ignore[arg-type]  # what is tested
    assert not event.pending()
