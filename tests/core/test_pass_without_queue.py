"""With one priority a pass calls what is ready straight, without a queue; nobody can tell."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from evsvc.core import (
    BEV_OPT_DEFER_CALLBACKS,
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ACTIVE,
    EVENT_BASE_COUNT_ADDED,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    BufferEvent,
    Event,
    EventBase,
    FakeClock,
    StateError,
    supported_methods,
)
from tests.core.conftest import config_for

DESCRIPTORS = 4
COUNTS = (EVENT_BASE_COUNT_ACTIVE, EVENT_BASE_COUNT_ADDED)

EventShape = tuple[int, bool, int]  # which descriptor, whether persistent, what for
Action = tuple[str, int]


class Boom(Exception):
    """What a callback of these programs raises."""


class Program:
    """Runs events on descriptors that are always ready; each callback does what the script says."""

    def __init__(self, base: EventBase, shapes: list[EventShape], script: list[Action]) -> None:
        self.base = base
        self.log: list[object] = []
        self._script: Iterator[Action] = iter(script)
        self._stack = ExitStack()
        pairs = [socket.socketpair() for _ in range(DESCRIPTORS)]
        for ours, theirs in pairs:
            self._stack.enter_context(ours)
            self._stack.enter_context(theirs).send(b"x")
        self.events = [
            Event(base, pairs[which][0], flags | (EV_PERSIST if persists else 0), self._ran, number)
            for number, (which, persists, flags) in enumerate(shapes)
        ]
        ours, theirs = socket.socketpair()
        self._stack.enter_context(theirs).send(b"x")
        self._stack.enter_context(ours)
        self._bev = BufferEvent(base, ours, BEV_OPT_DEFER_CALLBACKS)
        self._bev.setcb(lambda *_: self._ran(-1, EV_READ, "bufferevent"), None, None)
        self._bev.enable(EV_READ)
        for event in self.events:
            event.add()

    def run(self, passes: int, handler: bool) -> list[object]:
        if handler:
            self.base.exception_handler = lambda exc: self.log.append(("handled", repr(exc)))
        with self._stack:
            for _ in range(passes):
                try:
                    self.log.append(self.base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK))
                except Boom:
                    self.log.append("boom")
                self._count()
            self._bev.close()
            self.base.close()
        return self.log

    def _count(self) -> None:
        self.log.append([self.base.num_events(kind) for kind in COUNTS])

    def _ran(self, fd: int, what: int, name: object) -> None:
        self.log.append((name, int(what)))
        for verb, which in self._script:
            event = self.events[which % len(self.events)]
            if verb == "return":
                break
            self._do(verb, event)

    def _do(self, verb: str, event: Event) -> None:
        match verb:
            case "active":
                event.active(EV_WRITE)
            case "time out":
                event.active(EV_TIMEOUT)
            case "delete":
                event.delete()
            case "add" if not event.finalized:
                event.add()
            case "add 5" if not event.finalized:
                event.add(5)
            case "once":
                self.base.once(-1, EV_TIMEOUT, self._ran, "once")
            case "post":
                self.base.post(self._ran, -1, 0, "posted")
            case "exit":
                self.base.loopexit()
            case "break":
                self.base.loopbreak()
            case "continue":
                self.base.loopcontinue()
            case "count":
                self._count()
            case "pending":
                self.log.append([int(each.pending()) for each in self.events])
            case "visit":
                self.base.foreach_event(lambda base, each, arg: self._note(each))
            case "priority":
                try:
                    event.priority = event.priority
                except StateError:
                    self.log.append("active")
            case "by descriptor":
                self.base.active_by_fd(event.fd, EV_READ)
            case "finalize" if not event.finalized:
                event.finalize(lambda *_: self.log.append("finalized"))
            case "raise":
                raise Boom

    def _note(self, each: Event) -> None:
        if not each.internal and isinstance(each.arg, int):
            self.log.append((each.arg, each.is_active))


VERBS = (
    "active",
    "time out",
    "delete",
    "add",
    "add 5",
    "once",
    "post",
    "exit",
    "break",
    "continue",
    "count",
    "pending",
    "visit",
    "priority",
    "by descriptor",
    "finalize",
    "raise",
    *("return",) * 12,
)
SHAPES = st.lists(
    st.tuples(
        st.integers(0, DESCRIPTORS - 1),
        st.sampled_from([True, True, True, False]),
        st.sampled_from([EV_READ, EV_WRITE, EV_READ | EV_WRITE]),
    ),
    min_size=1,
    max_size=6,
)
SCRIPTS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, 5)), max_size=30)
METHODS = [name for name in ("epoll", "poll") if name in supported_methods()]


def outcome(method: str, priorities: int, *program: Any) -> list[object]:
    shapes, script, passes, handler = program
    base = EventBase(config_for(method), clock=FakeClock())
    base.priority_init(priorities)
    return Program(base, shapes, script).run(passes, handler)


BREAK: list[Action] = [("active", 3), ("break", 0), ("return", 0)]


@pytest.mark.parametrize("backend", METHODS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHAPES, SCRIPTS, st.integers(1, 4), st.booleans())
@example([(0, True, EV_READ), (1, True, EV_READ), (2, False, EV_READ)], BREAK, 3, False)
@example([(0, True, EV_READ), (0, True, EV_WRITE), (1, False, EV_READ)], BREAK, 3, True)
def test_it_does_what_a_pass_with_queues_does(
    backend: str, shapes: list[EventShape], script: list[Action], passes: int, handler: bool
) -> None:
    """Two priorities, of which one is empty, put everything through the queues."""
    program = shapes, script, passes, handler
    assert outcome(backend, 1, *program) == outcome(backend, 2, *program)


@pytest.mark.parametrize("leave", ["break", "continue", "raise"])
def test_what_was_found_before_the_pass_ended_comes_before_what_its_callbacks_activated(
    base: EventBase, pairs: Callable[[], tuple[socket.socket, socket.socket]], leave: str
) -> None:
    log: list[object] = []
    user = Event(base, -1, 0, lambda *_: log.append("user"))

    def ready(fd: int, what: int, number: int) -> None:
        log.append(number)
        if len(log) == 1:
            user.active(0)
            if leave == "raise":
                raise Boom
            (base.loopbreak if leave == "break" else base.loopcontinue)()

    events = []
    for number in range(3):
        ours, theirs = pairs()
        theirs.send(b"x")
        events.append(Event(base, ours, EV_READ | EV_PERSIST, ready, number))
        events[-1].add()
    base.exception_handler = (lambda exc: base.loopbreak()) if leave == "raise" else None
    for _ in range(2):
        base.loop(EVLOOP_ONCE)
    assert {*log[:3]} == {0, 1, 2}  # in the backend's order
    assert log[3] == "user"
    for event in events:
        event.close()


def test_a_deferred_callback_comes_after_the_one_shot_events_that_were_found_with_it(
    base: EventBase, pairs: Callable[[], tuple[socket.socket, socket.socket]]
) -> None:
    """As in libevent: it joins the queue when the bufferevent has read, which is later."""
    log: list[str] = []
    ours, theirs = pairs()
    bev = BufferEvent(base, ours, BEV_OPT_DEFER_CALLBACKS)
    bev.setcb(lambda *_: log.append("deferred"), None, None)
    bev.enable(EV_READ)
    others = [pairs() for _ in range(2)]
    for sock, _ in others:
        Event(base, sock, EV_READ, lambda *_: log.append("one shot")).add()
    for sock in (theirs, *(other for _, other in others)):
        sock.send(b"x")
    base.loop(EVLOOP_ONCE)
    assert log == ["one shot", "one shot", "deferred"]
    bev.close()
