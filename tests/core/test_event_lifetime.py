"""What holds an event and what an event holds: its base, its socket, itself."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    StateError,
    event_self_cbarg,
)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Owner:
    """A program that has its base, and everything of it."""

    def __init__(self) -> None:
        self.base = EventBase()
        self.base.exception_handler = self.handle
        self.timer = Event(self.base, -1, EV_PERSIST, self.tick, event_self_cbarg)

    def handle(self, exc: Exception) -> None:
        pass

    def tick(self, fd: int, what: int, event: Event) -> None:
        pass


class Callback:
    """A callback that can be watched."""

    def __call__(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("state", ["pending", "active", "idle", "common"])
def test_a_closed_base_frees_events_that_are_their_own_argument(state: str) -> None:
    callback = Callback()
    gone = weakref.ref(callback)
    base = EventBase()
    event = Event(base, -1, EV_PERSIST, callback, event_self_cbarg)
    if state == "active":
        event.active(EV_TIMEOUT)
    elif state == "pending":
        event.add(60)
    elif state == "common":
        base.init_common_timeout(60)
        event.add(base.init_common_timeout(60))
    else:
        event.close()
    base.close()
    del event, callback
    assert gone() is None


def test_a_closed_base_lets_go_of_the_handler_that_owns_it() -> None:
    owner = Owner()
    gone = weakref.ref(owner)
    owner.base.close()
    assert owner.base.exception_handler is None
    owner.timer.close()
    del owner
    assert gone() is None


def test_an_event_of_a_closed_base_is_its_own_argument_on_the_next() -> None:
    seen: list[object] = []
    with EventBase() as base:
        event = base.timer(lambda fd, what, arg: seen.append(arg), event_self_cbarg)
        event.add(60)
    assert event.callback_arg is event
    with EventBase() as other:
        event.base = other
        event.active(EV_TIMEOUT)
        other.dispatch()
    assert seen == [event]
    seen.clear()
    event.close()


@pytest.mark.parametrize("end", ["close", "assign", "base"])
def test_an_event_keeps_its_socket_alive_until_it_cannot_be_added_any_more(
    base: EventBase, end: str
) -> None:
    ours, theirs = socket.socketpair()
    gone = weakref.ref(ours)
    ran: list[int] = []
    event = Event(base, ours, EV_READ | EV_PERSIST, lambda fd, what, arg: ran.append(fd))
    number = ours.fileno()
    del ours
    event.add()
    theirs.send(b"x")
    base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK)
    event.delete()
    event.add()
    base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK)
    assert ran == [number, number]
    kept = gone()
    assert kept is not None
    if end == "assign":
        event.delete()
        event.assign(base, -1, 0, ran.append)
    else:
        event.close()
    kept.close()
    theirs.close()
    del kept
    assert gone() is None


def test_a_once_event_keeps_its_socket_alive_until_it_ran(base: EventBase) -> None:
    ours, theirs = socket.socketpair()
    gone = weakref.ref(ours)
    ran: list[bytes] = []
    base.once(ours, EV_READ, lambda fd, what, arg: ran.append(arg().recv(1)), gone)
    del ours
    theirs.send(b"x")
    with pytest.warns(ResourceWarning):
        base.dispatch()
    assert ran == [b"x"]
    assert gone() is None
    theirs.close()


@pytest.mark.parametrize("how", ["own", "sibling"])
def test_a_finalized_event_is_added_in_vain_in_its_own_callback_alone(
    base: EventBase, how: str
) -> None:
    """Another thread may have finalized it, which its callback cannot know."""
    ended: list[object] = []
    raised: list[Exception] = []
    base.exception_handler = raised.append

    def again(fd: int, what: int, event: Event) -> None:
        target.finalize(lambda event, arg: ended.append(event))
        target.add(60)

    event = base.timer(again, event_self_cbarg)
    target: Event = event if how == "own" else base.timer(again)
    event.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert ended == [target]
    assert [type(exc) for exc in raised] == ([] if how == "own" else [StateError])


def test_closing_in_a_callback_is_fine(
    base: EventBase, pairs: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    ours, theirs = pairs()
    theirs.send(b"x")
    event = Event(base, ours, EV_READ | EV_PERSIST, lambda fd, what, event: event.close())
    event.assign(base, ours, EV_READ | EV_PERSIST, lambda *_: event.close())
    event.add()
    assert base.dispatch() == 1
