"""Activation by hand, and the queues that active events wait in."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from evsvc.core import (
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentError,
    Event,
    EventBase,
    EventFlag,
    StateError,
)

Pair = tuple[socket.socket, socket.socket]


def test_an_active_event_that_is_not_pending_is_not_inserted_by_add(
    base: EventBase, pair: Pair
) -> None:
    """event_add of an event that is active but not inserted does not insert it."""
    ran: list[EventFlag] = []
    event = Event(base, pair[0], EV_READ, lambda fd, what, arg: ran.append(what))
    event.active(EV_READ)
    event.add()
    assert base.dispatch() == 1
    assert ran == [EV_READ]


def test_manual_activation_adds_flags_up_and_runs_once(base: EventBase) -> None:
    """event_active, never added: event_pending shows exactly the flags given, and 0 when asked
    for none."""
    ran: list[EventFlag] = []
    event = Event(base, -1, EV_READ, lambda fd, what, arg: ran.append(what))
    event.active(EV_WRITE)
    event.active(EV_READ)
    assert event.pending() == EV_READ | EV_WRITE
    assert event.pending(EV_WRITE) == EV_WRITE
    assert event.pending(0) == 0
    base.dispatch()
    assert ran == [EV_READ | EV_WRITE]


def test_a_user_event_is_called_with_no_flags(base: EventBase) -> None:
    """evuser_trigger is an activation with flags 0."""
    ran: list[int] = []
    event = base.timer(lambda fd, what, arg: ran.append(int(what)))
    event.active(0)
    assert base.dispatch() == 1
    assert ran == [0]


def test_calls_of_a_signal_add_up_until_its_callback_has_run(base: EventBase) -> None:
    """Those that came, and those that are asked for by hand, in whatever order."""
    ran: list[EventFlag] = []
    event = base.signal(signal.SIGUSR1, lambda fd, what, arg: ran.append(what))
    event.add()
    event.active(EV_SIGNAL, 2)
    os.kill(os.getpid(), signal.SIGUSR1)
    event.active(EV_SIGNAL, 0)
    base.active_by_signal(signal.SIGUSR1)
    while base.loop(EVLOOP_NONBLOCK | EVLOOP_ONCE) == 0 and len(ran) < 4:
        pass
    assert ran == [EV_SIGNAL] * 4
    base.loop(EVLOOP_NONBLOCK)
    assert len(ran) == 4
    event.close()


def test_stale_entries_run_nothing_and_follow_no_priority(base: EventBase) -> None:
    base.priority_init(3)
    ran: list[str] = []
    event = base.timer(lambda *_: ran.append("event"))
    for _ in range(3):
        event.active(EV_TIMEOUT)
        event.delete()
    event.priority = 0
    event.active(EV_TIMEOUT)
    other = base.timer(lambda *_: ran.append("other"))
    other.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == ["event", "other"]


def test_a_deleted_deferred_activation_does_not_eat_a_new_one(base: EventBase) -> None:
    ran: list[int] = []
    event = base.timer(lambda *_: ran.append(1))
    base.reactor.active.activate_later(event, EV_TIMEOUT)
    event.delete()
    event.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ran == [1]


def test_the_priority_of_an_active_event_is_fixed(base: EventBase) -> None:
    """event_priority_set is for events that are not active, and for priorities that there are."""
    base.priority_init(2)
    event = base.timer(lambda *_: None)
    event.add(60)
    event.priority = 0
    event.active(EV_TIMEOUT)
    with pytest.raises(StateError):
        event.priority = 1
    event.delete()
    for priority in (-1, 2):
        with pytest.raises(ArgumentError, match=str(priority)):
            event.priority = priority
    assert event.priority == 0
