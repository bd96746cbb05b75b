"""One event made into another: `assign`, the base that an event is on, `assignment`."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EV_ET,
    EV_FEATURE_ET,
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    ArgumentTypeError,
    Event,
    EventBase,
    EventFlag,
    StateError,
    event_self_cbarg,
)

Pair = tuple[socket.socket, socket.socket]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def nothing(fd: int, what: int, arg: object) -> None:
    """Do nothing."""


@pytest.fixture
def other() -> Iterator[EventBase]:
    """Return a second base, with three priorities."""
    with EventBase() as other:
        other.priority_init(3)
        yield other


def make_pending(event: Event) -> None:
    event.add(60)


def make_active(event: Event) -> None:
    event.active(EV_READ)


def test_an_assigned_event_is_another_one(base: EventBase, pair: Pair, other: EventBase) -> None:
    ran: list[tuple[int, EventFlag, str]] = []
    event = Event(base, pair[0], EV_READ | EV_PERSIST, never, "before")
    event.add(60)
    event.delete()
    event.assign(other, pair[1], EV_WRITE, lambda *call: ran.append(call), "after")
    assert event.priority == 1
    event.add()
    assert other.dispatch() == 1
    assert ran == [(pair[1].fileno(), EV_WRITE, "after")]
    assert base.dispatch() == 1


def test_assigning_forgets_the_priority_and_the_interval(base: EventBase) -> None:
    base.priority_init(5)
    event = Event(base, -1, EV_PERSIST, nothing)
    event.priority = 4
    event.assign(base, -1, EV_READ | EV_PERSIST, nothing)
    assert event.priority == 2
    event.active(EV_READ)
    base.loop(EVLOOP_NONBLOCK)
    assert event.deadline is None


@pytest.mark.parametrize("busy", [make_pending, make_active])
def test_a_busy_event_is_neither_assigned_nor_moved(
    base: EventBase, other: EventBase, busy: Callable[[Event], None]
) -> None:
    ran: list[EventFlag] = []
    event = Event(base, -1, EV_READ, lambda fd, what, arg: ran.append(what), "arg")
    busy(event)
    before = event.assignment
    with pytest.raises(StateError, match="pending or active"):
        event.assign(other, -1, EV_WRITE, never)
    with pytest.raises(StateError, match="pending or active"):
        event.base = other
    assert event.assignment == before
    event.active(EV_READ)
    base.dispatch()
    assert ran == [EV_READ]


def test_a_refused_assignment_changes_nothing(base: EventBase, other: EventBase) -> None:
    event = Event(base, -1, EV_READ | EV_PERSIST, never, "arg")
    before = event.assignment
    with pytest.raises(ArgumentError):
        event.assign(other, -1, EV_SIGNAL | EV_READ, nothing)
    with pytest.raises(ArgumentTypeError):
        event.assign(other, -1, EV_READ, None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError):
        event.assign(other, "7", EV_READ, nothing)  # type: ignore[arg-type]
    other.close()
    with pytest.raises(StateError):
        event.assign(other, -1, EV_READ, nothing)
    with pytest.raises(StateError):
        event.base = other
    assert event.assignment == before


def test_a_closed_event_is_neither_assigned_nor_moved(base: EventBase) -> None:
    event = Event(base, -1, EV_READ, never)
    event.close()
    with pytest.raises(StateError, match="closed"):
        event.assign(base, -1, EV_READ, never)
    with pytest.raises(StateError, match="closed"):
        event.base = base
    with pytest.raises(StateError, match="closed"):
        event.assignment  # noqa: B018


def test_an_event_assigns_itself_in_its_callback(base: EventBase) -> None:
    """A one-shot event is idle by then, and may be added again as what it became."""
    ran: list[str] = []

    def first(fd: int, what: int, event: Event) -> None:
        ran.append("first")
        event.assign(base, -1, 0, lambda fd, what, arg: ran.append(arg), "second")
        event.add(0)

    base.timer(first, event_self_cbarg).add(0)
    assert base.dispatch() == 1
    assert ran == ["first", "second"]


def test_what_a_deleted_activation_left_behind_does_not_follow(
    base: EventBase, other: EventBase
) -> None:
    ran: list[str] = []
    moved, assigned = base.timer(lambda *_: ran.append("moved")), base.timer(never)
    for event in (moved, assigned):
        event.active(EV_TIMEOUT)
        event.delete()
    moved.base = other
    assigned.assign(other, -1, 0, lambda *_: ran.append("assigned"))
    moved.active(EV_TIMEOUT)
    assigned.active(EV_TIMEOUT)
    base.timer(lambda *_: ran.append("stayed")).active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == ["stayed"]
    assert other.dispatch() == 1
    assert ran == ["stayed", "moved", "assigned"]


@pytest.mark.every_backend
def test_a_moved_event_works_on_its_new_base_alone(
    base: EventBase, other: EventBase, pair: Pair
) -> None:
    """With the middle priority, and the interests that the new base's backend understands."""
    calls: list[EventFlag] = []
    event = Event(
        other, pair[0], EV_WRITE | EV_ET | EV_PERSIST, lambda fd, what, arg: calls.append(what)
    )
    other.priority_init(9)
    event.priority = 8
    event.base = base
    assert event.base is base
    assert event.priority == 0
    event.add()
    assert other.dispatch() == 1
    base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE)
    edge = EV_ET if base.features & EV_FEATURE_ET else 0
    assert calls == [EV_WRITE | edge]
    event.delete()
    event.base = other
    assert event.priority == 4


@pytest.mark.parametrize("how", ["assign", "move"])
def test_repeat_calls_of_a_signal_end_with_the_event_that_had_them(
    base: EventBase, other: EventBase, how: str
) -> None:
    ran: list[str] = []

    def caught(fd: int, what: int, event: Event) -> None:
        ran.append("caught")
        if how == "assign":
            event.assign(base, signal.SIGUSR1, EV_SIGNAL, never)
        else:
            event.base = other

    event = Event(base, signal.SIGUSR1, EV_SIGNAL, caught, event_self_cbarg)
    event.add()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert base.dispatch() == 1
    event.active(EV_SIGNAL, 0)
    event.base.dispatch()
    assert ran == ["caught"]


def test_the_assignment_tells_all_at_once(base: EventBase, pair: Pair) -> None:
    event = Event(base, pair[0], EV_READ | EV_PERSIST | EV_TIMEOUT, nothing, event_self_cbarg)
    assert event.assignment.fd == pair[0].fileno()
    assert event.assignment.callback is nothing
    assert event.assignment == (base, pair[0].fileno(), EV_READ | EV_PERSIST, nothing, event)
