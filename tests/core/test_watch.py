"""Watchers: callbacks around each wait of the loop."""

from __future__ import annotations

import socket

import pytest

from evsvc.core import (
    EV_ET,
    EV_PERSIST,
    EV_READ,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    ArgumentTypeError,
    CallInfo,
    CallWatcher,
    CheckWatcher,
    Event,
    EventBase,
    FakeClock,
    PrepareInfo,
    PrepareWatcher,
    StateError,
    event_self_cbarg,
)

pytestmark = pytest.mark.every_backend


@pytest.fixture
def log() -> list[object]:
    return []


def test_watchers_run_around_the_wait_in_the_order_of_their_making(
    base: EventBase, log: list[object]
) -> None:
    """Prepare1, prepare2, poll, check1, check2, each pass."""
    for name in ("prepare1", "prepare2"):
        PrepareWatcher(base, lambda watcher, info, arg: log.append(arg), name)
    for name in ("check1", "check2"):
        CheckWatcher(base, lambda watcher, info, arg: log.append(arg), name)

    def tick(fd: int, what: int, event: Event) -> None:
        log.append("timer")
        if log.count("timer") == 3:
            event.close()

    event = Event(base, -1, EV_PERSIST, tick, event_self_cbarg)
    event.add(0.0001)
    base.dispatch()
    assert log == ["prepare1", "prepare2", "check1", "check2", "timer"] * 3


def test_closing_one_watcher_leaves_the_other_running(base: EventBase, log: list[object]) -> None:
    """evwatch_free of one leaves the other running."""
    first = PrepareWatcher(base, lambda watcher, info, arg: log.append(1))
    PrepareWatcher(base, lambda watcher, info, arg: log.append(2))
    first.close()
    first.close()
    base.timer(lambda fd, what, arg: None).add(0)
    base.dispatch()
    assert log == [2]


def test_prepare_is_told_how_long_the_loop_will_wait(log: list[object]) -> None:
    """With a 1 s timer just added prepare sees 995..1005 ms."""
    with EventBase(clock=FakeClock()) as base:
        PrepareWatcher(base, lambda watcher, info, arg: log.append(info))
        base.timer(lambda fd, what, arg: None).add(1.0)
        base.dispatch()
    assert log == [PrepareInfo(timeout=1.0)]


def test_prepare_is_told_none_when_there_is_no_limit(base: EventBase, log: list[object]) -> None:
    """evwatch_prepare_get_timeout: none when the wait is infinite, 0 when something is active."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        PrepareWatcher(base, lambda watcher, info, arg: (log.append(info), theirs.send(b"x")))
        event = Event(base, ours, EV_READ | EV_PERSIST, lambda fd, what, arg: base.loopexit())
        event.add()
        assert base.dispatch() == 0
        event.close()
        base.timer(lambda fd, what, arg: None).active(0)
        assert base.dispatch() == 1
    assert log == [PrepareInfo(timeout=None), PrepareInfo(timeout=0.0)]


def test_check_sees_the_time_after_the_wait(log: list[object]) -> None:
    """The time cache is refreshed before evwatch_check, and the timers come after it."""
    with EventBase(clock=FakeClock(1000.0)) as base:
        CheckWatcher(base, lambda watcher, info, arg: log.append(base.now))
        base.timer(lambda fd, what, arg: log.append("timer")).add(5)
        base.dispatch()
    assert log == [1005.0, "timer"]


def test_a_watcher_may_add_and_activate_events(base: EventBase, log: list[object]) -> None:
    """It calls back into the library, before the wait and after it."""
    late = base.timer(lambda fd, what, arg: log.append("late"))

    def prepare(watcher: PrepareWatcher, info: PrepareInfo, arg: object) -> None:
        watcher.close()
        base.timer(lambda fd, what, arg: log.append("from prepare")).active(0)
        late.delete()

    def check(watcher: CheckWatcher, info: object, arg: object) -> None:
        watcher.close()
        base.timer(lambda fd, what, arg: log.append("from check")).active(0)

    PrepareWatcher(base, prepare)
    CheckWatcher(base, check)
    late.add(0)
    assert base.dispatch() == 1
    assert log == ["from prepare", "from check"]


def test_watchers_alone_do_not_keep_the_loop_alive(base: EventBase, log: list[object]) -> None:
    """On an empty base dispatch returns 1 with no watcher call."""
    PrepareWatcher(base, lambda watcher, info, arg: log.append("prepare"))
    CheckWatcher(base, lambda watcher, info, arg: log.append("check"))
    assert base.dispatch() == 1
    assert log == []


def test_a_watcher_may_close_itself_and_its_neighbour(base: EventBase, log: list[object]) -> None:
    """evwatch_free from inside its own callback; one freed a moment ago is not called."""

    def close_both(watcher: PrepareWatcher, info: PrepareInfo, arg: object) -> None:
        log.append("first")
        watcher.close()
        second.close()

    PrepareWatcher(base, close_both)
    second = PrepareWatcher(base, lambda watcher, info, arg: log.append("second"))
    tick = Event(base, -1, EV_PERSIST, lambda fd, what, arg: base.loopexit())
    tick.add(0.0)
    base.dispatch()
    assert log == ["first"]


def test_what_a_watcher_raises_goes_where_a_callback_s_does(
    base: EventBase, log: list[object]
) -> None:
    def boom(watcher: CheckWatcher, info: object, arg: object) -> None:
        watcher.close()
        raise ValueError("boom")

    CheckWatcher(base, boom)
    base.timer(lambda fd, what, arg: log.append("timer")).add(0)
    with pytest.raises(ValueError, match="boom"):
        base.dispatch()
    base.dispatch()
    assert log == ["timer"]
    CheckWatcher(base, boom)
    base.exception_handler = log.append
    base.timer(lambda fd, what, arg: None).add(0)
    base.dispatch()
    assert [str(entry) for entry in log[1:]] == ["boom"]


def test_closing_the_base_closes_its_watchers() -> None:
    """event_base_free frees the watchers that are left."""
    base = EventBase()
    watcher = CheckWatcher(base, lambda watcher, info, arg: None)
    assert watcher.base is base
    base.close()
    with pytest.raises(StateError):
        _ = watcher.base
    with pytest.raises(StateError):
        CheckWatcher(base, lambda watcher, info, arg: None)


def test_a_callback_that_cannot_be_called_is_refused(base: EventBase) -> None:
    with pytest.raises(ArgumentTypeError, match="'no'"):
        PrepareWatcher(base, "no")  # type: ignore[arg-type]  # the mistake under test


def test_what_was_found_ready_outlives_a_watcher_that_raises(
    base: EventBase, log: list[object]
) -> None:
    """An edge is reported once, so it must not be lost with the pass that a watcher ends."""

    def boom(watcher: CheckWatcher, info: object, arg: object) -> None:
        watcher.close()
        raise ValueError("boom")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        event = Event(
            base, ours, EV_READ | EV_ET | EV_PERSIST, lambda fd, what, arg: log.append(fd)
        )
        event.add()
        theirs.send(b"x")
        CheckWatcher(base, boom)
        with pytest.raises(ValueError, match="boom"):
            base.dispatch()
        base.loop(EVLOOP_ONCE | EVLOOP_NONBLOCK)
        assert log == [ours.fileno()]
        event.close()


def test_a_call_watcher_is_told_of_each_callback_and_what_it_took(log: list[object]) -> None:
    """On all ways that the loop has to its callbacks, those that are taken in haste, too."""
    clock = FakeClock()
    ours, theirs = socket.socketpair()
    with ours, theirs, EventBase(clock=clock) as base:

        def on_readable(fd: int, what: int, arg: object) -> None:
            ours.recv(1)
            clock.advance(0.5)

        def on_time(fd: int, what: int, event: Event) -> None:
            clock.advance(0.25)
            event.close()

        reading = Event(base, ours, EV_READ | EV_PERSIST, on_readable)
        reading.add()
        timer = Event(base, -1, 0, on_time, event_self_cbarg)
        timer.add(1.0)
        theirs.send(b"x")
        watcher = CallWatcher(base, lambda watcher, info, arg: log.append(info))
        base.loop(EVLOOP_ONCE)
        base.loop(EVLOOP_ONCE)
        assert log == [CallInfo(reading, on_readable, 0.5), CallInfo(timer, on_time, 0.25)]
        watcher.close()
        theirs.send(b"x")
        base.loop(EVLOOP_ONCE)
        assert len(log) == 2


def test_a_call_watcher_is_not_told_of_the_loop_s_own(base: EventBase, log: list[object]) -> None:
    """A wake-up is no callback of the program, but what was posted is one."""
    CallWatcher(base, lambda watcher, info, arg: log.append(info.event))
    base.post(log.append, "posted")
    base.loop(EVLOOP_NONBLOCK)
    assert log[0] == "posted"
    assert len(log) == 2


def test_a_call_watcher_may_come_and_go_in_the_middle_of_a_pass(
    base: EventBase, log: list[object]
) -> None:
    def begin(fd: int, what: int, arg: object) -> None:
        watchers.append(CallWatcher(base, lambda watcher, info, arg: log.append(info.callback)))

    def end(fd: int, what: int, arg: object) -> None:
        watchers.pop().close()

    def nothing(fd: int, what: int, arg: object) -> None:
        pass

    watchers: list[CallWatcher] = []
    for callback in (begin, nothing, end, nothing):
        base.timer(callback).active(0)
    base.loop(EVLOOP_NONBLOCK)
    assert log == [nothing]


def test_what_a_call_watcher_raises_costs_no_other_callback(
    base: EventBase, log: list[object]
) -> None:
    def boom(watcher: CallWatcher, info: object, arg: object) -> None:
        watcher.close()
        raise ValueError("boom")

    CallWatcher(base, boom)
    for name in ("first", "second"):
        base.timer(lambda fd, what, arg: log.append(arg), name).active(0)
    with pytest.raises(ValueError, match="boom"):
        base.dispatch()
    base.dispatch()
    assert log == ["first", "second"]
