"""What is handed to a base, an event, a watcher or a clock is judged at the call."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evsvc.core import (
    EV_READ,
    EV_TIMEOUT,
    ArgumentError,
    ArgumentTypeError,
    CheckWatcher,
    Event,
    EventBase,
    EventConfig,
    FakeClock,
    PrepareWatcher,
    SocketError,
    StateError,
)

Call = Callable[[EventBase], object]


class Closed:
    """An object whose descriptor cannot be asked for."""

    def fileno(self) -> int:
        raise ValueError("I/O operation on closed file")


class Wrong:
    """An object whose descriptor is no number."""

    def fileno(self) -> Any:
        return "7"


class Half:
    """A clock that cannot be advanced."""

    jumps = False

    def monotonic(self) -> float:
        return 0.0


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


def wrong(value: object) -> Any:
    """Return a value of a type that is not allowed."""
    return value


@pytest.fixture
def base() -> Iterator[EventBase]:
    with EventBase(clock=FakeClock()) as base:
        yield base


WRONG_TYPES: dict[str, Call] = {
    "an event without a base": lambda base: Event(wrong(None), -1, 0, never),
    "an event on an event": lambda base: Event(wrong(base.timer(never)), -1, 0, never),
    "flags as text": lambda base: Event(base, -1, wrong("2"), never),
    "flags as a float": lambda base: Event(base, -1, wrong(2.0), never),
    "flags as a bool": lambda base: Event(base, -1, True, never),
    "no flags": lambda base: Event(base, -1, wrong(None), never),
    "a descriptor as a bool": lambda base: Event(base, True, EV_READ, never),
    "a descriptor without number": lambda base: Event(base, Wrong(), EV_READ, never),
    "assign": lambda base: base.timer(never).assign(base, -1, wrong("2"), never),
    "moving to no base": lambda base: setattr(base.timer(never), "base", None),
    "active": lambda base: base.timer(never).active(wrong("1")),
    "active, a bool": lambda base: base.timer(never).active(True),
    "calls": lambda base: base.timer(never).active(1, wrong(1.5)),
    "a timeout as text": lambda base: base.timer(never).add(wrong("5")),
    "a priority as text": lambda base: setattr(base.timer(never), "priority", "0"),
    "a finalizer": lambda base: base.timer(never).finalize(wrong("no")),
    "loop": lambda base: base.loop(wrong("1")),
    "loop, a bool": lambda base: base.loop(True),
    "loopexit": lambda base: base.loopexit(wrong("1")),
    "loopexit, no text": lambda base: base.loopexit(wrong("")),
    "once, flags": lambda base: base.once(-1, wrong("1"), never),
    "once, timeout": lambda base: base.once(-1, EV_TIMEOUT, never, None, wrong("")),
    "once, callback": lambda base: base.once(-1, EV_TIMEOUT, wrong(None)),
    "once, descriptor": lambda base: base.once(wrong("1"), EV_READ, never),
    "timer": lambda base: base.timer(wrong(5)),
    "signal, callback": lambda base: base.signal(10, wrong("no")),
    "signal, number": lambda base: base.signal(wrong("SIGINT"), never),
    "post": lambda base: base.post(wrong(5)),
    "exception_handler": lambda base: setattr(base, "exception_handler", 5),
    "foreach_event": lambda base: base.foreach_event(wrong(None)),
    "num_events": lambda base: base.num_events(wrong("1")),
    "active_by_fd": lambda base: base.active_by_fd(wrong("1"), EV_READ),
    "active_by_fd, flags": lambda base: base.active_by_fd(1, wrong("2")),
    "active_by_signal": lambda base: base.active_by_signal(wrong("10")),
    "priority_init": lambda base: base.priority_init(wrong("2")),
    "a common timeout": lambda base: base.init_common_timeout(wrong("1")),
    "a configuration": lambda base: EventBase(wrong(42)),
    "a clock": lambda base: EventBase(clock=wrong(42)),
    "a clock without `advance`": lambda base: EventBase(clock=wrong(Half())),
    "a clock without jumps": lambda base: EventBase(clock=wrong(io.StringIO())),
    "a prepare watcher": lambda base: PrepareWatcher(base, wrong(5)),
    "a watcher without a base": lambda base: CheckWatcher(wrong(None), never),
    "a watcher on a number": lambda base: PrepareWatcher(wrong(5), never),
    "a fake clock": lambda base: FakeClock(wrong("1")),
    "advance": lambda base: FakeClock().advance(wrong("1")),
    "avoid_method": lambda base: EventConfig().avoid_method(wrong(5)),
    "require_features": lambda base: EventConfig().require_features(wrong("1")),
    "set_flag": lambda base: EventConfig().set_flag(wrong("1")),
    "an interval": lambda base: EventConfig().set_max_dispatch_interval(wrong("1"), 1, 0),
    "callbacks": lambda base: EventConfig().set_max_dispatch_interval(None, wrong("1"), 0),
}


@pytest.mark.parametrize("call", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_a_wrong_type_is_refused_as_a_type(base: EventBase, call: Call) -> None:
    with pytest.raises(ArgumentTypeError):
        call(base)
    assert base.dispatch() == 1  # nothing is left behind


@pytest.mark.parametrize("timeout", [math.inf, math.nan, -1.0])
def test_a_timeout_is_a_finite_number_of_seconds(base: EventBase, timeout: float) -> None:
    """A fake clock would come to the end of none, pass after pass."""
    calls: list[Callable[[], object]] = [
        lambda: base.timer(never).add(timeout),
        lambda: base.once(-1, EV_TIMEOUT, never, None, timeout),
        lambda: base.loopexit(timeout),
        lambda: base.init_common_timeout(timeout),
        lambda: FakeClock().advance(timeout),
        lambda: FakeClock(timeout),
    ]
    for call in calls:
        with pytest.raises(ArgumentError, match=str(timeout)):
            call()
    assert base.dispatch() == 1


UNKNOWN: dict[str, Call] = {
    "loop": lambda base: base.loop(8),
    "loop, negative": lambda base: base.loop(-1),
    "event": lambda base: Event(base, -1, 0x100, never),
    "once": lambda base: base.once(-1, 0x101, never),
    "active": lambda base: base.timer(never).active(-1),
    "active_by_fd": lambda base: base.active_by_fd(1, 0x100),
    "features": lambda base: EventConfig().require_features(0x10),
    "flag": lambda base: EventConfig().set_flag(0x100),
    "num_events": lambda base: base.num_events(8),
    "priorities": lambda base: base.priority_init(0),
    "a closed file": lambda base: Event(base, Closed(), EV_READ, never),
    "no file at all": lambda base: Event(base, io.BytesIO(), EV_READ, never),
}


@pytest.mark.parametrize("call", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_unknown_value_is_refused_as_a_value(base: EventBase, call: Call) -> None:
    with pytest.raises(ArgumentError) as caught:
        call(base)
    assert not isinstance(caught.value, ArgumentTypeError)


def test_what_is_fine_is_taken(base: EventBase) -> None:
    base.exception_handler = print
    base.exception_handler = None
    assert base.exception_handler is None
    assert base.loop(0) == base.loop(3) == 1
    EventConfig().set_max_dispatch_interval(None, -1, -1)
    base.timer(never).add(True)
    base.loopexit(0)
    assert base.dispatch() == 0
    assert base.got_exit
    assert not base.got_break


def test_a_closed_base_refuses_all(base: EventBase) -> None:
    event = base.timer(never)
    base.close()
    for call in (
        lambda: base.post(never),
        lambda: base.loopexit(),
        lambda: base.loop(),
        lambda: base.once(-1, EV_TIMEOUT, never),
        lambda: base.timer(never),
        lambda: event.add(1),
        lambda: event.active(0),
        lambda: base.init_common_timeout(1),
        lambda: PrepareWatcher(base, never),
    ):
        with pytest.raises(StateError):
            call()
    base.loopbreak()
    base.loopcontinue()


def test_a_descriptor_that_is_not_open_is_refused_when_it_is_added(base: EventBase) -> None:
    event = Event(base, 1 << 20, EV_READ, never)
    with pytest.raises(SocketError):
        event.add()
