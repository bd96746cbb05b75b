"""How events are made: what is refused, and what the accessors tell."""

from __future__ import annotations

import signal
import socket

import pytest

from evsvc.core import (
    EV_CLOSED,
    EV_ET,
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    ArgumentError,
    ArgumentTypeError,
    Error,
    Event,
    EventBase,
    event_self_cbarg,
)

Pair = tuple[socket.socket, socket.socket]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.mark.parametrize(
    "events", [0, EV_SIGNAL, EV_READ | EV_PERSIST, EV_TIMEOUT | EV_PERSIST, EV_ET]
)
def test_once_refuses_what_it_cannot_wait_for(base: EventBase, events: int) -> None:
    """event_base_once with a bad combination: SIGNAL, PERSIST, or nothing to wait for."""
    with pytest.raises(ArgumentError):
        base.once(-1, events, never)


@pytest.mark.parametrize("flags", [EV_SIGNAL | EV_READ, EV_SIGNAL | EV_CLOSED, 0x100, -1])
def test_flags_that_do_not_go_together_are_refused(base: EventBase, flags: int) -> None:
    """event_new refuses SIGNAL with READ, WRITE or CLOSED, and flags that no event has."""
    with pytest.raises(ArgumentError):
        Event(base, -1, flags, never)


def test_arguments_of_a_wrong_kind_are_refused(base: EventBase, pair: Pair) -> None:
    with pytest.raises(ArgumentTypeError, match="callback"):
        Event(base, -1, 0, None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="str"):
        Event(base, "1", EV_READ, never)  # type: ignore[arg-type]
    pair[0].close()
    with pytest.raises(ArgumentError, match="closed"):
        Event(base, pair[0], EV_READ, never)
    event = base.timer(never)
    for timeout in (-0.1, float("nan")):
        with pytest.raises(ArgumentError, match=str(timeout)):
            event.add(timeout)
    for what in (0x100, -1):
        with pytest.raises(ArgumentError, match="flags"):
            event.active(what)
    assert isinstance(ArgumentError("x"), Error)


def test_accessors_tell_how_an_event_was_made(base: EventBase, pair: Pair) -> None:
    """event_get_events and the others: TIMEOUT is ignored, the self marker is the event."""
    event = Event(base, pair[0], EV_READ | EV_PERSIST | EV_TIMEOUT, never, "arg")
    assert event.fd == pair[0].fileno()
    assert event.base is base
    assert event.events == EV_READ | EV_PERSIST
    assert event.callback is never
    assert event.callback_arg == "arg"
    assert base.signal(signal.SIGUSR1, never).signal == signal.SIGUSR1
    own: Event = Event(base, -1, 0, never, event_self_cbarg)
    assert own.callback_arg is own
    with own:
        assert "fd -1" in repr(own)
    assert repr(own) == "<Event closed>"


@pytest.mark.parametrize("timeout", ["1", b"1", object(), [1]])
def test_a_timeout_is_a_number(base: EventBase, timeout: object) -> None:
    """What is none raises at the call, and the event stays as it was."""
    event = base.timer(never)
    with pytest.raises(ArgumentTypeError, match="a number of seconds"):
        event.add(timeout)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ArgumentTypeError, match="a number of seconds"):
        base.init_common_timeout(timeout)  # type: ignore[arg-type]  # what is tested
    assert not event.pending()
