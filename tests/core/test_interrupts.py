"""KeyboardInterrupt comes between any two steps of the loop, and leaves a base that goes on."""

from __future__ import annotations

import random
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ACTIVE,
    EVENT_BASE_COUNT_ADDED,
    EVENT_BASE_COUNT_VIRTUAL,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    PrepareWatcher,
    event_self_cbarg,
)

Pair = tuple[socket.socket, socket.socket]

# The plugin's own way to end a test is this test's alarm.
pytestmark = pytest.mark.timeout(120, method="thread")

INTERRUPTS = 5000
LONGEST_S = 0.0004
"""How long the loop runs before the next interrupt, at most: some twenty passes."""


class Interrupter:
    """Interrupts `call` after a random time, with a signal whose handler raises."""

    def __init__(self) -> None:
        self._armed = False
        self._random = random.Random(8)

    def on_signal(self, signum: int, frame: object) -> None:
        if self._armed:
            self._armed = False
            raise KeyboardInterrupt
        self._start()  # it came too early

    def _start(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(0.00002, LONGEST_S))

    def interrupt(self, call: Callable[[], object]) -> None:
        self._start()
        try:
            self._armed = True
            call()
        except KeyboardInterrupt:
            return
        finally:
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
        pytest.fail("it ended by itself")


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    interrupter = Interrupter()
    before = signal.signal(signal.SIGALRM, interrupter.on_signal)
    yield interrupter
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


class Busy:
    """A program that never comes to rest: descriptors, timers of all kinds, calls, output."""

    def __init__(self, base: EventBase, pairs: Callable[[], Pair]) -> None:
        self.base = base
        token = base.init_common_timeout(0)
        self._started = False
        self.events: list[tuple[Event, float | None]] = []
        for number in range(4):
            ours, theirs = pairs()
            theirs.send(b"x")
            # Of the first two, one alone on its descriptor and one with another.
            self._make(ours, EV_READ | EV_PERSIST, None)
            if number:
                self._make(ours, EV_WRITE, None)
        self._make(-1, 0, 0.0)
        self._make(-1, EV_PERSIST, 0.00001)
        self._make(pairs()[0], EV_READ | EV_PERSIST, 0.00001)
        for _ in range(3):
            self._make(-1, 0, token)
        self._make(-1, 0, 60.0)
        self.user = Event(base, -1, 0, self._activate)
        self.deferred = Event(base, -1, 0, lambda *_: base.reactor.ask_to_flush(self))

    def _make(self, fd: int | socket.socket, flags: int, timeout: float | None) -> None:
        callback = self._nothing if flags & EV_PERSIST else self._again
        event = Event(self.base, fd, flags, callback, event_self_cbarg)
        self.events.append((event, timeout))

    def _nothing(self, fd: int, what: int, arg: object) -> None: ...

    def _again(self, fd: int, what: int, event: Event) -> None:
        event.delete()
        event.add(next(timeout for each, timeout in self.events if each is event))
        if self.base.num_events(EVENT_BASE_COUNT_VIRTUAL) < 100:
            self.base.post(self._nothing, fd, what, event)

    def start(self) -> None:
        """Start what is not running: at first all, then what was cut off before it began anew."""
        for event, timeout in self.events:
            if self._started and event.events & EV_PERSIST:
                assert event.pending(), "what is persistent goes on by itself"
                assert timeout is None or event.is_active or event.deadline is not None
            elif not event.pending():
                event.add(timeout)
        self._started = True
        self.user.active(EV_TIMEOUT)
        self.base.reactor.ask_to_flush(self)

    def _activate(self, fd: int, what: int, arg: object) -> None:
        self.user.active(EV_TIMEOUT)
        self.base.reactor.defer(self.deferred)

    def flush_output(self) -> None:
        """Be an owner of output."""

    def check(self) -> None:
        """Compare the counts with the events."""
        seen: list[Event] = []
        self.base.foreach_event(lambda base, event, arg: seen.append(event))
        active = sum(event.is_active for event in seen)
        added = sum(event.inserted for event in seen if not event.internal)
        timed = sum(event.deadline is not None for event in seen)
        assert self.base.num_events(EVENT_BASE_COUNT_ACTIVE) == active
        assert self.base.num_events(EVENT_BASE_COUNT_ADDED) == added + timed + active
        assert self.base.running_event is None
        for event, _ in self.events:
            assert (event in seen) == bool(event.pending())

    def stop(self) -> None:
        for event, _ in self.events:
            event.close()
        self.user.close()
        self.deferred.close()


def in_another_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("watched", [False, True])
def test_counts_are_right_and_the_loop_goes_on_after_each_interrupt(
    base: EventBase, pairs: Callable[[], Pair], interrupter: Interrupter, watched: bool
) -> None:
    busy = Busy(base, pairs)
    watcher = PrepareWatcher(base, lambda *_: None) if watched else None
    for number in range(INTERRUPTS // 2):
        busy.start()
        interrupter.interrupt(base.dispatch)
        busy.check()
        if not number % 100:
            in_another_thread(lambda: base.num_events(EVENT_BASE_COUNT_ACTIVE))  # takes the lock
            assert base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK) == 0
        busy.check()
    busy.stop()
    if watcher is not None:
        watcher.close()
    assert base.dispatch() == 1
    assert base.num_events(EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED) == 0
