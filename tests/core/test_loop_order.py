"""The pass: what the loop does in which order, and when it comes round again."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    CheckWatcher,
    Event,
    EventBase,
    PrepareInfo,
    PrepareWatcher,
    event_self_cbarg,
)
from evsvc.core.reactor.reactor import MAX_WAIT_S

pytestmark = pytest.mark.every_backend

Pair = tuple[socket.socket, socket.socket]
DAY_S = 86400.0


class Boom(Exception):
    """What a callback of these tests raises."""


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.fixture
def log() -> list[str]:
    return []


def note_passes(base: EventBase, log: list[str]) -> None:
    """Have `log` say when a pass begins."""
    PrepareWatcher(base, lambda watcher, info, arg: log.append("pass"))


def test_descriptors_come_before_timers_in_a_pass(
    fake_base: EventBase, pair: Pair, log: list[str]
) -> None:
    """Prepare, the wait, check, what is ready, and what is due: in this order."""
    PrepareWatcher(fake_base, lambda watcher, info, arg: log.append("prepare"))
    CheckWatcher(fake_base, lambda watcher, info, arg: log.append("check"))
    fake_base.timer(lambda *_: log.append("timer")).add(0)
    Event(fake_base, pair[0], EV_READ, lambda *_: log.append("read")).add()
    pair[1].send(b"x")
    assert fake_base.dispatch() == 1
    assert log == ["prepare", "check", "read", "timer"]


def test_what_is_activated_in_a_callback_runs_in_the_next_pass(
    base: EventBase, log: list[str]
) -> None:
    """At the same priority, too; libevent runs it in the same pass, and so for ever."""
    note_passes(base, log)
    second = base.timer(lambda *_: log.append("second"))
    first = base.timer(lambda *_: (log.append("first"), second.active(EV_TIMEOUT)))
    first.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert log == ["pass", "first", "pass", "second"]


def test_a_less_urgent_priority_waits_for_the_next_pass(base: EventBase, log: list[str]) -> None:
    """One priority a pass: the most urgent that has a user's callback."""
    base.priority_init(3)
    note_passes(base, log)
    for priority in (2, 0, 1, 0):
        event = base.timer(lambda fd, what, name: log.append(name), str(priority))
        event.priority = priority
        event.active(EV_TIMEOUT)
    assert base.dispatch() == 1
    assert log == ["pass", "0", "0", "pass", "1", "pass", "2"]


def test_once_goes_on_while_anything_is_active(base: EventBase, log: list[str]) -> None:
    """EVLOOP_ONCE stops after callbacks ran and when none is left active."""
    base.priority_init(2)
    for priority in (1, 0):
        event = base.timer(lambda fd, what, name: log.append(name), str(priority))
        event.priority = priority
        event.active(EV_TIMEOUT)
    base.timer(never).add(DAY_S)
    assert base.loop(EVLOOP_ONCE) == 0
    assert log == ["0", "1"]


@pytest.mark.parametrize(("flags", "runs"), [(0, 5), (EVLOOP_ONCE, 1)])
def test_nonblock_goes_on_while_it_finds_something(
    base: EventBase, pair: Pair, log: list[str], flags: int, runs: int
) -> None:
    """EVLOOP_NONBLOCK alone polls until nothing is ready; with EVLOOP_ONCE it polls once."""

    def readable(fd: int, what: int, arg: object) -> None:
        log.append("read")
        pair[0].recv(1)
        if len(log) < 5:
            pair[1].send(b"x")

    Event(base, pair[0], EV_READ | EV_PERSIST, readable).add()
    pair[1].send(b"x")
    assert base.loop(EVLOOP_NONBLOCK | flags) == 0
    assert len(log) == runs


def test_events_that_activate_each_other_later_starve_nobody(base: EventBase, pair: Pair) -> None:
    """Ping-pong through active-later: what is ready and what is activated advance in lockstep."""
    turns = {"write": 0, "read": 0, "ping": 0, "pong": 0}
    events: dict[str, Event] = {}

    def writable(*args: object) -> None:
        turns["write"] += 1
        pair[0].send(b"x")
        if turns["write"] == 100:
            base.loopbreak()

    def readable(*args: object) -> None:
        turns["read"] += len(pair[1].recv(1))

    def later(fd: int, what: int, name: str) -> None:
        turns[name] += 1
        if turns[name] > 1000:
            base.loopbreak()  # starved: the counts below say so
        base.reactor.active.activate_later(events["pong" if name == "ping" else "ping"], EV_TIMEOUT)

    Event(base, pair[0], EV_WRITE | EV_PERSIST, writable).add()
    Event(base, pair[1], EV_READ | EV_PERSIST, readable).add()
    for name in ("ping", "pong"):
        events[name] = base.timer(later, name)
    base.reactor.active.activate_later(events["ping"], EV_TIMEOUT)
    assert base.dispatch() == 0
    # The first pass has nothing to read yet, and the last may be broken off before it reads.
    assert 98 <= turns["read"] <= turns["write"] == 100
    assert 99 <= turns["ping"] + turns["pong"] <= 101
    assert 0 <= turns["ping"] - turns["pong"] <= 1


def test_how_the_last_run_ended_is_known_until_the_next(base: EventBase) -> None:
    """event_base_got_exit and event_base_got_break stay true until the loop is entered again."""
    seen: list[tuple[bool, bool]] = []

    def look(*args: object) -> None:
        seen.append((base.got_exit, base.got_break))

    base.loopexit()
    base.dispatch()
    look()
    base.once(-1, EV_TIMEOUT, lambda *_: (look(), base.loopbreak()))
    base.dispatch()
    look()
    base.once(-1, EV_TIMEOUT, look)
    base.dispatch()
    look()
    assert seen == [(True, False), (False, False), (False, True), (False, False), (False, False)]


def test_a_continue_outside_the_loop_has_no_effect(base: EventBase, log: list[str]) -> None:
    """The flag of event_base_loopcontinue is cleared as each pass begins."""
    note_passes(base, log)
    for name in ("first", "second"):
        base.once(-1, EV_TIMEOUT, lambda fd, what, name: log.append(name), name)
    base.loopcontinue()
    assert base.dispatch() == 1
    assert log == ["pass", "first", "second"]


def test_what_a_continue_leaves_keeps_its_place(base: EventBase, log: list[str]) -> None:
    note_passes(base, log)
    for name in ("first", "second", "third"):
        base.once(
            -1, EV_TIMEOUT, lambda fd, what, name: (log.append(name), base.loopcontinue()), name
        )
    assert base.dispatch() == 1
    assert log == ["pass", "first", "pass", "second", "pass", "third"]


def test_a_long_wait_is_taken_in_pieces(fake_base: EventBase) -> None:
    """No wait is longer than 35 minutes: epoll counts milliseconds in an int."""
    waits: list[float] = []

    def note(watcher: PrepareWatcher, info: PrepareInfo, arg: object) -> None:
        assert info.timeout is not None
        waits.append(info.timeout)

    PrepareWatcher(fake_base, note)
    start = fake_base.now
    fired: list[float] = []
    fake_base.timer(lambda *_: fired.append(fake_base.now - start)).add(DAY_S)
    assert fake_base.loop(EVLOOP_ONCE) == 0
    assert MAX_WAIT_S == 35 * 60
    assert max(waits) == MAX_WAIT_S
    assert sum(waits) == pytest.approx(DAY_S)
    assert fired == [pytest.approx(DAY_S)]


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_persistent_event_stays_added_when_its_callback_raises(
    base: EventBase, pair: Pair, timeout: float | None
) -> None:
    """The exception leaves the loop, no event is running, and the loop can be entered again."""
    ran: list[int] = []

    def readable(fd: int, what: int, event: Event) -> None:
        ran.append(fd)
        if len(ran) < 3:
            raise Boom
        event.delete()

    event = Event(base, pair[0], EV_READ | EV_PERSIST, readable, event_self_cbarg)
    event.add(timeout)
    pair[1].send(b"x")
    for _ in range(2):
        with pytest.raises(Boom):
            base.dispatch()
        assert event.pending(EV_READ) == EV_READ
        assert (event.deadline is None) == (timeout is None)
        assert base.running_event is None
    assert base.dispatch() == 1
    assert len(ran) == 3
