"""Who gets a turn: work added during a pass, what a prepare watcher changes, EVLOOP_ONCE."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EVLOOP_ONCE,
    Event,
    EventBase,
    EventConfig,
    FakeClock,
    PrepareInfo,
    PrepareWatcher,
)

Pair = tuple[socket.socket, socket.socket]
Work = Callable[[EventBase, Event], object]

ENOUGH = 50

AGAIN: dict[str, Work] = {
    "once": lambda base, event: base.once(-1, EV_TIMEOUT, event.callback),
    "once, 0": lambda base, event: base.once(-1, EV_TIMEOUT, event.callback, None, 0),
    "active": lambda base, event: event.active(EV_TIMEOUT),
    "post": lambda base, event: base.post(event.callback, -1, 0, None),
    "add, 0": lambda base, event: event.add(0),
    "by descriptor": lambda base, event: base.active_by_fd(event.fd, EV_READ),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN.keys())
@pytest.mark.parametrize("priorities", [1, 3])
def test_work_that_asks_for_its_next_turn_leaves_timers_and_sockets_theirs(
    fake_base: EventBase, clock: FakeClock, pairs: Callable[[], Pair], again: Work, priorities: int
) -> None:
    """A turn each pass, at the same priority and at a more urgent one."""
    fake_base.priority_init(priorities)
    turns = {"work": 0, "timer": 0, "socket": 0}
    (ours, theirs), (silent, _) = pairs(), pairs()

    def work(*args: object) -> None:
        turns["work"] += 1
        clock.advance(0.1)
        theirs.send(b"x")
        if turns["work"] < ENOUGH:
            again(fake_base, event)

    def turn(fd: int, what: int, name: str) -> None:
        turns[name] += 1
        if name == "socket":
            ours.recv(1)

    event = Event(fake_base, silent, EV_READ | EV_PERSIST, work)
    event.add()
    ticks = Event(fake_base, -1, EV_PERSIST, turn, "timer")
    readable = Event(fake_base, ours, EV_READ | EV_PERSIST, turn, "socket")
    for other in (ticks, readable):
        other.priority = 0
    ticks.add(0.1)
    readable.add()
    event.active(EV_READ)
    while turns["work"] < ENOUGH:
        fake_base.loop(EVLOOP_ONCE)
    assert min(turns["timer"], turns["socket"]) >= ENOUGH - 2
    for each in (event, ticks, readable):
        each.close()


def test_a_pass_with_work_that_goes_on_for_ever_ends_once(base: EventBase) -> None:
    """EVLOOP_ONCE does not wait for work that was added meanwhile: that is the next pass's."""
    ran: list[int] = []
    event = base.timer(lambda *_: (ran.append(1), event.active(EV_TIMEOUT)))
    event.active(EV_TIMEOUT)
    for count in range(1, 4):
        assert base.loop(EVLOOP_ONCE) == 0
        assert len(ran) == count


def test_once_counts_what_ran_before_a_wakeup_did() -> None:
    """A pass of wake-ups alone, after one that ran a callback, does not make it wait."""
    config = EventConfig()
    config.set_max_dispatch_interval(None, 1, 0)
    clock = FakeClock()
    with EventBase(config, clock=clock) as base:
        start = clock.monotonic()
        base.timer(lambda *_: None).active(0)
        base.timer(lambda *_: pytest.fail("it is not due")).add(1)
        base.reactor.wakeup.wake()
        base.loopbreak()
        assert base.loop(EVLOOP_ONCE) == 0
        assert clock.monotonic() == start


def test_an_urgent_event_still_cuts_in(base: EventBase) -> None:
    """libevent's priority inversion: what is activated at 0 comes before the rest of 4."""
    base.priority_init(8)
    log: list[str] = []

    def event(name: str, priority: int, *then: Event) -> Event:
        def ran(*args: object) -> None:
            log.append(name)
            for other in then:
                other.active(EV_TIMEOUT)

        made = base.timer(ran)
        made.priority = priority
        return made

    urgent, after, waiting = event("urgent", 0), event("after", 4), event("waiting", 4)
    event("first", 4, after, urgent).active(EV_TIMEOUT)
    waiting.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert log == ["first", "urgent", "waiting", "after"]


CHANGES: dict[str, tuple[Callable[[EventBase, list[str]], object], list[str]]] = {
    "break": (lambda base, log: base.loopbreak(), []),
    "exit": (lambda base, log: base.loopexit(), []),
    "activation": (
        lambda base, log: base.timer(lambda *_: (log.append("now"), base.loopbreak())).active(0),
        ["now"],
    ),
    "post": (lambda base, log: base.post(lambda: (log.append("now"), base.loopbreak())), ["now"]),
    "once": (
        lambda base, log: base.once(
            -1, EV_TIMEOUT, lambda *_: (log.append("now"), base.loopbreak())
        ),
        ["now"],
    ),
    "timer": (
        lambda base, log: base.timer(lambda *_: (log.append("now"), base.loopbreak())).add(1),
        ["now"],
    ),
}


@pytest.mark.parametrize(("change", "log"), CHANGES.values(), ids=CHANGES.keys())
def test_what_a_prepare_watcher_changes_counts_for_the_wait_that_follows(
    fake_base: EventBase,
    clock: FakeClock,
    change: Callable[[EventBase, list[str]], object],
    log: list[str],
) -> None:
    ran: list[str] = []
    told: list[float | None] = []

    def prepare(watcher: PrepareWatcher, info: PrepareInfo, arg: object) -> None:
        told.append(info.timeout)
        if len(told) == 1:
            change(fake_base, ran)

    PrepareWatcher(fake_base, prepare)
    fake_base.timer(lambda *_: pytest.fail("the loop waited too long")).add(60)
    start = clock.monotonic()
    assert fake_base.dispatch() == 0
    assert ran == log
    assert told[0] == 60
    assert clock.monotonic() <= start + 1


def test_a_prepare_watcher_that_deletes_the_last_event_ends_the_loop(base: EventBase) -> None:
    event = base.timer(lambda *_: None)
    event.add(60)
    PrepareWatcher(base, lambda *_: event.delete())
    assert base.dispatch() == 1
