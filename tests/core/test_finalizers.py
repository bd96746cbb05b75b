"""Finalisation: the last callback of an event, from the loop or from the closing of the base."""

from __future__ import annotations

import gc
import os
import signal
import socket
import weakref
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ACTIVE,
    ArgumentTypeError,
    Event,
    EventBase,
    StateError,
    event_self_cbarg,
)

Pair = tuple[socket.socket, socket.socket]


class Boom(Exception):
    """What a finalizer of these tests raises."""


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


class Log:
    """The finalizers that ran, by the argument of their event."""

    def __init__(self) -> None:
        self.ended: list[object] = []

    def end(self, event: Event, arg: object) -> None:
        self.ended.append(arg)


@pytest.fixture
def log() -> Log:
    return Log()


def leave(event: Event) -> None:
    """Leave the event idle."""


def make_active(event: Event) -> None:
    event.active(EV_READ)


def make_pending(event: Event) -> None:
    event.add(60)


def make_both(event: Event) -> None:
    event.add(60)
    event.active(EV_READ)


@pytest.mark.parametrize("before", [leave, make_active, make_pending, make_both])
@pytest.mark.parametrize("frees", [False, True])
def test_only_the_finalizer_runs_and_the_loop_ends(
    base: EventBase, pair: Pair, log: Log, before: Callable[[Event], None], frees: bool
) -> None:
    event = Event(base, pair[0], EV_READ | EV_WRITE | EV_PERSIST, never, "arg")
    before(event)
    if frees:
        event.free_finalize(log.end)
    else:
        event.finalize(log.end)
    assert not event.pending()
    assert base.num_events(EVENT_BASE_COUNT_ACTIVE) == 1
    assert log.ended == []
    assert base.dispatch() == 1
    assert log.ended == ["arg"]
    assert event.initialized is not frees
    assert base.dispatch() == 1
    assert log.ended == ["arg"]


def test_a_finalized_event_cannot_be_added_and_stays_idle(
    base: EventBase, pair: Pair, log: Log
) -> None:
    """Before the finalizer ran and after it: add raises, delete and active do nothing."""
    event = Event(base, pair[0], EV_WRITE, never, "arg")
    event.finalize(log.end)
    for _ in range(2):
        for timeout in (None, 0, 1):
            with pytest.raises(StateError, match="finalized"):
                event.add(timeout)
        event.delete()
        event.remove_timer()
        event.active(EV_WRITE)
        with pytest.raises(StateError, match="finalized"):
            event.finalize(never)
        with pytest.raises(StateError, match="finalized"):
            event.free_finalize(never)
        with pytest.raises(StateError, match="finalized"):
            event.assign(base, -1, EV_READ, never)
        with pytest.raises(StateError, match="finalized"):
            event.base = base
        assert not event.pending()
        assert base.dispatch() == 1
    assert log.ended == ["arg"]


def test_an_event_that_finalizes_itself_and_its_sibling(
    base: EventBase, pair: Pair, log: Log
) -> None:
    """The sibling's callback does not run, both finalizers do."""
    events: list[Event] = []
    ran: list[int] = []

    def ready(fd: int, what: int, index: int) -> None:
        ran.append(index)
        for event in events:
            event.finalize(log.end)

    for index, sock in enumerate(pair):
        events.append(Event(base, sock, EV_WRITE | EV_PERSIST, ready, index))
        events[index].add(60)
    assert base.dispatch() == 1
    assert len(ran) == 1
    assert log.ended == [0, 1]


def test_no_event_is_running_in_a_finalizer(base: EventBase) -> None:
    seen: list[object] = []

    def look(*args: object) -> None:
        seen.append(base.running_event)

    event = base.timer(look)
    event.active(EV_TIMEOUT)
    base.timer(never).finalize(look)
    base.dispatch()
    assert seen == [event, None]
    base.timer(never).finalize(look)
    base.close()
    assert seen == [event, None, None]


def test_a_finalizer_has_the_priority_of_its_event(base: EventBase, log: Log) -> None:
    base.priority_init(3)
    for priority in (2, 0, 1):
        event = Event(base, -1, 0, never, priority)
        event.priority = priority
        event.finalize(log.end)
    base.dispatch()
    assert log.ended == [0, 1, 2]


def test_the_finalizer_gets_the_event_and_may_close_it(base: EventBase) -> None:
    got: list[tuple[Event, object]] = []

    def end(event: Event, arg: object) -> None:
        assert event.base is base
        got.append((event, arg))
        event.close()

    event = Event(base, -1, EV_READ, never, event_self_cbarg)
    event.finalize(end)
    base.dispatch()
    assert got == [(event, event)]
    assert not event.initialized


def test_closing_a_finalized_event_leaves_its_finalizer(base: EventBase, log: Log) -> None:
    event = Event(base, -1, EV_READ, never, "arg")
    event.finalize(log.end)
    event.close()
    base.dispatch()
    assert log.ended == ["arg"]


def test_finalizing_a_signal_event_ends_its_repeat_calls(base: EventBase, log: Log) -> None:
    ran: list[int] = []

    def caught(fd: int, what: int, event: Event) -> None:
        ran.append(fd)
        event.finalize(log.end)

    before = signal.getsignal(signal.SIGUSR1)
    event = Event(base, signal.SIGUSR1, EV_SIGNAL | EV_PERSIST, caught, event_self_cbarg)
    event.add()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert base.dispatch() == 1
    assert ran == [signal.SIGUSR1]
    assert log.ended == [event]
    assert signal.getsignal(signal.SIGUSR1) == before


@pytest.mark.parametrize("frees", [False, True])
def test_waiting_finalizers_run_once_when_the_base_closes(
    base: EventBase, pair: Pair, log: Log, frees: bool
) -> None:
    base.priority_init(2)
    for priority in (1, 0):
        event = Event(base, pair[0], EV_WRITE, never, priority)
        event.priority = priority
        make_both(event)
        (event.free_finalize if frees else event.finalize)(log.end)
    base.timer(never).active(EV_TIMEOUT)
    base.close()
    assert log.ended == [0, 1]
    assert event.initialized is not frees
    base.close()
    base.close_nofinalize()
    assert log.ended == [0, 1]


def test_finalizers_that_queue_finalizers_all_run_at_close(base: EventBase, log: Log) -> None:
    """As a filter over what lies under it does."""

    def end(event: Event, depth: int) -> None:
        log.end(event, depth)
        if depth:
            Event(base, -1, 0, never, depth - 1).finalize(end)

    Event(base, -1, 0, never, 3).finalize(end)
    base.close()
    assert log.ended == [3, 2, 1, 0]


@pytest.mark.parametrize("frees", [False, True])
def test_without_finalisation_none_runs_at_close(
    base: EventBase, pair: Pair, log: Log, frees: bool
) -> None:
    event = Event(base, pair[0], EV_WRITE, never)
    make_both(event)
    (event.free_finalize if frees else event.finalize)(log.end)
    base.close_nofinalize()
    base.close()
    assert log.ended == []
    with pytest.raises(StateError):
        event.add()
    with pytest.raises(StateError):
        base.loop()


def test_a_finalizer_at_close_can_neither_loop_nor_close_the_base(base: EventBase) -> None:
    refused: list[str] = []

    def end(event: Event, arg: object) -> None:
        for call in (base.close, base.close_nofinalize, base.loop):
            with pytest.raises(StateError):
                call()
            refused.append(call.__name__)
        base.timer(never).add(0)
        base.timer(never).active(EV_TIMEOUT)
        base.post(never)

    base.timer(never).finalize(end)
    base.close()
    assert refused == ["close", "close_nofinalize", "loop"]


def test_a_finalizer_that_fails_in_the_loop_is_as_any_callback(base: EventBase, log: Log) -> None:
    def fail(event: Event, arg: object) -> None:
        raise Boom

    event = base.timer(never)
    event.free_finalize(fail)
    Event(base, -1, 0, never, "other").finalize(log.end)
    with pytest.raises(Boom):
        base.dispatch()
    assert not event.initialized
    assert base.dispatch() == 1
    assert log.ended == ["other"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_finalizer_that_fails_at_close_stops_neither_the_others_nor_the_closing(
    base: EventBase, log: Log, failing: int
) -> None:
    def fail(event: Event, arg: object) -> None:
        raise Boom

    for _ in range(failing):
        base.timer(never).finalize(fail)
    Event(base, -1, 0, never, "other").finalize(log.end)
    with pytest.raises(Boom if failing == 1 else ExceptionGroup):
        base.close()
    assert log.ended == ["other"]
    with pytest.raises(StateError, match="closed"):
        base.loop()


def test_failures_at_close_go_to_the_exception_handler(base: EventBase, log: Log) -> None:
    def fail(event: Event, arg: object) -> None:
        raise Boom

    caught: list[Exception] = []
    base.exception_handler = caught.append
    for _ in range(2):
        base.timer(never).finalize(fail)
    base.close()
    assert [type(exc) for exc in caught] == [Boom, Boom]


def test_a_finalizer_that_was_deleted_by_another_does_not_run(base: EventBase, log: Log) -> None:
    """Through a look into the base, where it is an event like others."""

    def end(event: Event, arg: object) -> None:
        log.end(event, arg)
        base.foreach_event(lambda base, event, arg: None if event.internal else event.delete())

    for name in ("first", "second"):
        Event(base, -1, 0, never, name).finalize(end)
    base.close()
    assert log.ended == ["first"]


def test_what_cannot_be_finalized_is_refused(base: EventBase) -> None:
    event = base.timer(never)
    with pytest.raises(ArgumentTypeError, match="None"):
        event.finalize(None)  # type: ignore[arg-type]
    event.add(60)
    assert event.pending() == EV_TIMEOUT
    other = base.timer(never)
    other.close()
    with pytest.raises(StateError, match="closed"):
        other.finalize(never)
    base.close()
    with pytest.raises(StateError, match="closed"):
        event.finalize(never)


@pytest.mark.parametrize("end", ["loop", "close", "close_nofinalize"])
def test_finalizers_leave_no_reference_cycles(base: EventBase, log: Log, end: str) -> None:
    class Argument:
        """Something that can be watched."""

    gc.collect()
    gc.disable()
    try:
        arg = Argument()
        gone = weakref.ref(arg)
        Event(base, -1, 0, never, arg).finalize(lambda event, arg: None)
        del arg
        getattr(base, end)()
        assert gone() is None
    finally:
        gc.enable()
