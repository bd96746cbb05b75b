"""Signals as events: counts, order, and what was there before."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_SIGNAL,
    EV_TIMEOUT,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    EventFlag,
    FakeClock,
    StateError,
    event_self_cbarg,
)

pytestmark = pytest.mark.every_backend


class Boom(Exception):
    """What a callback of these tests raises."""


def kill(signum: int = signal.SIGUSR1) -> None:
    os.kill(os.getpid(), signum)


@pytest.fixture(autouse=True)
def programs_handler() -> Iterator[list[int]]:
    """Give the program a handler of its own for SIGUSR1 and list what it got; check it after."""
    got: list[int] = []

    def handler(signum: int, frame: object) -> None:
        got.append(signum)

    before = signal.signal(signal.SIGUSR1, handler)
    yield got
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert signal.set_wakeup_fd(-1) == -1
    signal.signal(signal.SIGUSR1, before)


def test_an_alarm_is_delivered_once(base: EventBase) -> None:
    """SIGALRM to a one-shot event, also after add, del, add."""
    ran: list[tuple[int, EventFlag]] = []
    event = Event(base, signal.SIGALRM, EV_SIGNAL, lambda fd, what, arg: ran.append((fd, what)))
    event.add()
    event.delete()
    event.add()
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    assert base.dispatch() == 1
    assert ran == [(signal.SIGALRM, EV_SIGNAL)]


def test_two_events_of_one_signal_fire_newest_first(base: EventBase) -> None:
    """Two events on one signal both fire."""
    ran: list[str] = []
    for name in ("older", "newer"):
        base.signal(signal.SIGUSR1, lambda fd, what, name: ran.append(name), name).add()
    kill()
    base.loop(EVLOOP_NONBLOCK)
    assert ran == ["newer", "older"]


@pytest.mark.parametrize("priorities", [1, 3])
def test_a_signal_before_the_loop_comes_in_the_first_pass(base: EventBase, priorities: int) -> None:
    """Raised before the loop starts, delivered at the first pass of a NONBLOCK run; the internal
    reader of the signals uses up no pass of its own."""
    base.priority_init(priorities)
    ran: list[int] = []
    base.signal(signal.SIGUSR1, lambda *_: ran.append(1)).add()
    kill()
    assert base.loop(EVLOOP_NONBLOCK) == 0
    assert ran == [1]


def test_each_delivery_is_one_call(base: EventBase) -> None:
    """N deliveries of one signal are N calls in a row, with EV_SIGNAL."""
    ran: list[EventFlag] = []
    base.signal(signal.SIGUSR1, lambda fd, what, arg: ran.append(what)).add()
    for _ in range(3):
        kill()
    base.loop(EVLOOP_NONBLOCK)
    assert ran == [EV_SIGNAL] * 3


@pytest.mark.parametrize("end", ["close", "delete", "loopbreak"])
def test_ending_it_in_the_callback_stops_the_repeats(base: EventBase, end: str) -> None:
    """Two kills before the loop, the callback frees its event: exactly one call."""
    ran: list[int] = []

    def on_signal(fd: int, what: int, event: Event) -> None:
        ran.append(1)
        getattr(base if end == "loopbreak" else event, end)()

    event = base.signal(signal.SIGUSR1, on_signal, event_self_cbarg)
    event.add()
    kill()
    kill()
    base.loop(EVLOOP_NONBLOCK)
    base.loop(EVLOOP_NONBLOCK)
    assert ran == [1]


def test_an_exception_does_not_lose_the_repeats(base: EventBase) -> None:
    ran: list[int] = []

    def on_signal(*args: object) -> None:
        ran.append(1)
        if len(ran) == 1:
            raise Boom

    base.signal(signal.SIGUSR1, on_signal).add()
    for _ in range(3):
        kill()
    with pytest.raises(Boom):
        base.loop(EVLOOP_NONBLOCK)
    base.loop(EVLOOP_NONBLOCK)
    assert len(ran) == 3


def test_a_signal_event_can_time_out(fake_base: EventBase) -> None:
    """A 10 us timeout and no signal: the callback gets TIMEOUT."""
    ran: list[EventFlag] = []
    event = Event(fake_base, signal.SIGUSR1, EV_SIGNAL, lambda fd, what, arg: ran.append(what))
    event.add(0.00001)
    assert fake_base.dispatch() == 1
    assert ran == [EV_TIMEOUT]


def test_a_time_out_does_not_hide_the_signals_that_came(
    fake_base: EventBase, clock: FakeClock
) -> None:
    ran: list[EventFlag] = []
    event = fake_base.signal(signal.SIGUSR1, lambda fd, what, arg: ran.append(what))
    event.add(5)
    kill()
    kill()
    clock.advance(5)
    fake_base.loop(EVLOOP_ONCE)
    assert len(ran) == 2
    assert all(what & EV_SIGNAL for what in ran)


@pytest.mark.parametrize(("calls", "expected"), [(0, 0), (1, 1), (3, 3)])
def test_activation_by_hand_says_how_often(base: EventBase, calls: int, expected: int) -> None:
    """event_active of a signal event: the count is the number of calls, and 0 is none."""
    ran: list[int] = []
    event = base.signal(signal.SIGUSR1, lambda *_: ran.append(1))
    event.active(EV_SIGNAL, calls)
    base.dispatch()
    assert len(ran) == expected


def test_a_deleted_event_leaves_the_signal_to_the_program(
    base: EventBase, programs_handler: list[int]
) -> None:
    """add, del, then kill: the program's handler acts."""
    event = base.signal(signal.SIGUSR1, lambda *_: pytest.fail("deleted"))
    event.add()
    event.delete()
    kill()
    assert programs_handler == [signal.SIGUSR1]
    assert base.dispatch() == 1


def test_signals_raised_in_the_callback_are_all_delivered(base: EventBase) -> None:
    """A signal raised inside its callback, five rounds, without loss."""
    ran: list[int] = []

    def on_signal(fd: int, what: int, event: Event) -> None:
        ran.append(1)
        if len(ran) == 5:
            event.delete()
        else:
            kill()

    base.signal(signal.SIGUSR1, on_signal, event_self_cbarg).add()
    kill()
    assert base.dispatch() == 1
    assert len(ran) == 5


def test_closing_the_base_restores_the_handler(
    base: EventBase, programs_handler: list[int]
) -> None:
    """A base with signal events can be freed without deleting them."""
    base.signal(signal.SIGUSR1, lambda *_: None).add()
    base.signal(signal.SIGUSR2, lambda *_: None).add()
    base.close()
    kill()
    assert programs_handler == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_a_handler_that_the_program_installed_meanwhile_stays(base: EventBase) -> None:
    event = base.signal(signal.SIGUSR2, lambda *_: None)
    event.add()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    event.delete()
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)


@pytest.mark.parametrize("first", [0, 1])
def test_two_bases_restore_in_either_order(programs_handler: list[int], first: int) -> None:
    bases = [EventBase(), EventBase()]
    for base in bases:
        base.signal(signal.SIGUSR1, lambda *_: None).add()
    bases[first].close()
    kill()
    assert programs_handler == []  # the other still has it
    bases[1 - first].close()
    kill()
    assert programs_handler == [signal.SIGUSR1]


def test_a_signal_goes_to_the_base_that_added_last_or_loops(base: EventBase) -> None:
    """Two bases listening to one signal: before the loops it goes to the one that became owner,
    and after running the loop of the first base, to that."""
    got: list[str] = []
    with EventBase() as other:
        base.signal(signal.SIGUSR1, lambda *_: got.append("first")).add()
        other.signal(signal.SIGUSR1, lambda *_: got.append("second")).add()
        kill()
        other.loop(EVLOOP_NONBLOCK)
        base.loop(EVLOOP_NONBLOCK)
        assert got == ["second"]
        kill()
        base.loop(EVLOOP_NONBLOCK)
        assert got == ["second", "first"]
        base.signal(signal.SIGUSR2, lambda *_: None).add()
        kill()
        base.loop(EVLOOP_NONBLOCK)
        assert got == ["second", "first", "first"]


def test_the_programs_wakeup_descriptor_comes_back(base: EventBase) -> None:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    event = base.signal(signal.SIGUSR1, lambda *_: None)
    event.add()
    base.loop(EVLOOP_NONBLOCK)
    event.delete()
    assert signal.set_wakeup_fd(-1) == writer.fileno()
    reader.close()
    writer.close()


def test_a_wakeup_number_that_someone_else_has_now_is_not_restored(base: EventBase) -> None:
    """Signal bytes in a stranger's stream would corrupt it."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    number = writer.fileno()
    signal.set_wakeup_fd(number)
    event = base.signal(signal.SIGUSR1, lambda *_: None)
    event.add()
    writer.close()
    stranger, peer = socket.socketpair()
    assert stranger.fileno() == number
    stranger.setblocking(False)
    event.delete()
    assert signal.set_wakeup_fd(-1) == -1
    for sock in (reader, stranger, peer):
        sock.close()


def test_only_the_main_thread_adds_and_deletes(base: EventBase) -> None:
    added = base.signal(signal.SIGUSR1, lambda *_: None)
    added.add()
    idle = base.signal(signal.SIGUSR2, lambda *_: None)
    refused: list[str] = []

    def other_thread() -> None:
        for call in (idle.add, added.delete, base.close):
            with pytest.raises(StateError, match="main thread") as caught:
                call()
            refused.append(str(caught.value))

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert len(refused) == 3
    assert not idle.pending()
    assert added.pending() == EV_SIGNAL
    kill()
    base.loop(EVLOOP_NONBLOCK)
    assert added.pending() == EV_SIGNAL


def test_signals_reach_a_loop_in_another_thread(base: EventBase) -> None:
    ran: list[int] = []

    def on_signal(*args: object) -> None:
        ran.append(threading.get_ident())
        base.loopbreak()

    base.signal(signal.SIGUSR1, on_signal).add()
    thread = threading.Thread(target=base.dispatch)
    thread.start()
    kill()
    thread.join(10)
    assert not thread.is_alive()
    assert ran == [thread.ident]


def test_a_persistent_signal_event_keeps_the_loop(fake_base: EventBase) -> None:
    event = Event(fake_base, signal.SIGUSR1, EV_SIGNAL | EV_PERSIST, lambda *_: None)
    event.add()
    fake_base.loopexit(1)
    assert fake_base.dispatch() == 0
    event.delete()
    assert fake_base.dispatch() == 1


def test_a_second_base_with_signals_is_warned_of(
    base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    """Only one base at a time has the signals of a process: adding on a second one says so."""
    with EventBase() as second:
        with caplog.at_level(logging.WARNING, logger="evsvc.core"):
            base.signal(signal.SIGUSR1, lambda *_: None).add()
            base.signal(signal.SIGUSR2, lambda *_: None).add()
            assert caplog.messages == []
            second.signal(signal.SIGUSR1, lambda *_: None).add()
        assert len(caplog.messages) == 1
        assert f"signal {int(signal.SIGUSR1)}" in caplog.messages[0]
