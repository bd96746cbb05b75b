"""Signals as events: counts, order, and what was there before."""

from __future__ import annotations

import ctypes
import functools
import logging
import operator
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_SIGNAL,
    EV_TIMEOUT,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    EventFlag,
    FakeClock,
    StateError,
    event_self_cbarg,
    thread,
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
    strangers: list[socket.socket] = []

    def replace(*args: object) -> None:
        writer.close()
        strangers.extend(socket.socketpair())
        assert strangers[0].fileno() == number
        strangers[0].setblocking(False)

    event = base.signal(signal.SIGUSR1, replace)
    event.add()
    kill()
    base.loop(EVLOOP_ONCE)
    event.delete()
    assert signal.set_wakeup_fd(-1) == -1
    for sock in (reader, *strangers):
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

    other = threading.Thread(target=other_thread)
    other.start()
    other.join()
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
    looping = threading.Thread(target=base.dispatch)
    looping.start()
    kill()
    looping.join(10)
    assert not looping.is_alive()
    assert ran == [looping.ident]


def test_a_persistent_signal_event_keeps_the_loop(fake_base: EventBase) -> None:
    event = Event(fake_base, signal.SIGUSR1, EV_SIGNAL | EV_PERSIST, lambda *_: None)
    event.add()
    fake_base.loopexit(1)
    assert fake_base.dispatch() == 0
    event.delete()
    assert fake_base.dispatch() == 1


@pytest.mark.parametrize("first_has", [[signal.SIGUSR1, signal.SIGUSR2], [signal.SIGUSR1]])
def test_a_second_base_with_signals_is_warned_of(
    base: EventBase, caplog: pytest.LogCaptureFixture, first_has: list[int]
) -> None:
    """Only one base at a time has a signal: adding it on a second one says so, once."""
    with EventBase() as second:
        with caplog.at_level(logging.WARNING, logger="evsvc.core"):
            for signum in first_has:
                base.signal(signum, lambda *_: None).add()
            assert caplog.messages == []
            second.signal(signal.SIGUSR1, lambda *_: None).add()
            second.signal(signal.SIGUSR1, lambda *_: None).add()
        assert len(caplog.messages) == 1
        assert f"signal {int(signal.SIGUSR1)}" in caplog.messages[0]


def test_two_bases_with_a_signal_each_have_their_own(
    base: EventBase, caplog: pytest.LogCaptureFixture
) -> None:
    got: list[str] = []
    with EventBase() as second:
        with caplog.at_level(logging.WARNING, logger="evsvc.core"):
            base.signal(signal.SIGUSR1, lambda *_: got.append("first")).add()
            second.signal(signal.SIGUSR2, lambda *_: got.append("second")).add()
        assert caplog.messages == []
        kill(signal.SIGUSR1)
        kill(signal.SIGUSR2)
        for each in (second, base):
            each.loop(EVLOOP_NONBLOCK)
        assert got == ["second", "first"]


def together(*signums: int) -> None:
    """Send signals so that Python calls the handler of each kind once: no Python runs between."""
    raises = [functools.partial(ctypes.CDLL(None).kill, os.getpid(), int(s)) for s in signums]
    assert list(map(operator.call, raises)) == [0] * len(signums)


def test_signals_that_python_joins_are_counted_by_their_bytes(base: EventBase) -> None:
    """In libevent each is a call of the handler; so are they here, in a loop of the main thread."""
    counts: Counter[int] = Counter()
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        base.signal(signum, lambda signum, *_: counts.update([signum])).add()
    sent = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1]
    base.once(-1, EV_TIMEOUT, lambda *_: together(*sent))
    base.once(-1, EV_TIMEOUT, lambda *_: base.loopexit(), timeout=0.01)
    base.dispatch()
    assert counts == Counter(sent)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_a_signal_while_the_wake_up_is_read_is_told_once(
    base: EventBase, moment: str, rounds: int
) -> None:
    """Its byte and the call of its handler come to different passes."""
    ran: list[int] = []
    sent: list[int] = []
    wakeup = base.reactor.wakeup
    real = wakeup._reader

    def send() -> None:
        sent.append(1)
        kill()

    class Reader:
        """The wake-up socket, around whose reading signals come."""

        def recv(self, size: int) -> bytes:
            strikes = len(sent) <= rounds
            if strikes and moment == "before":
                send()
            data = real.recv(size)
            if strikes and moment == "after":
                send()
            return data

        def fileno(self) -> int:
            return real.fileno()

        def close(self) -> None:
            real.close()

    wakeup._reader = Reader()  # type: ignore[assignment]  # as much of a socket as is used
    event = base.signal(signal.SIGUSR1, lambda *_: ran.append(1))
    event.add()

    send()
    for _ in range(rounds + 4):
        base.once(-1, EV_TIMEOUT, lambda *_: None)
        base.loop(EVLOOP_ONCE)
    assert len(sent) > 1
    assert ran == sent
    wakeup._reader = real


FLOOD = 1000


@pytest.mark.parametrize("size", [None, 1])
@pytest.mark.parametrize("looped", ["main", "other thread"])
def test_no_kind_is_lost_in_a_flood(base: EventBase, size: int | None, looped: str) -> None:
    """However little the wake-up socket holds, and whatever fills it."""
    if size is not None:
        base.reactor.wakeup._writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    kinds = [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGWINCH]
    counts: Counter[int] = Counter()
    for signum in kinds:
        base.signal(signum, lambda signum, *_: counts.update([signum])).add()

    def flood(*args: object) -> None:
        for _ in range(FLOOD):
            kill(signal.SIGUSR1)
        together(*[signal.SIGUSR1] * FLOOD, *kinds[1:])

    if looped == "main":
        base.once(-1, EV_TIMEOUT, flood)
        base.once(-1, EV_TIMEOUT, lambda *_: base.loopexit(), timeout=0.01)
        base.dispatch()
    else:
        looping = threading.Thread(target=base.dispatch)
        looping.start()
        flood()
        base.post(base.once, -1, EV_TIMEOUT, lambda *_: base.loopbreak())
        looping.join(10)
        assert not looping.is_alive()
    assert set(counts) == set(kinds)
    assert FLOOD < counts[signal.SIGUSR1] <= 2 * FLOOD
    assert all(counts[signum] == 1 for signum in kinds[1:])
    # And afterwards, as if nothing had been.
    counts.clear()
    for signum in kinds:
        kill(signum)
    base.loop(EVLOOP_NONBLOCK)
    assert counts == Counter(kinds)


def run_in_thread(base: EventBase) -> tuple[threading.Thread, list[BaseException]]:
    """Run a base's loop in another thread; list what comes out of it."""
    came_out: list[BaseException] = []

    def run() -> None:
        try:
            base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
        except BaseException as exc:
            came_out.append(exc)

    looping = threading.Thread(target=run)
    looping.start()
    return looping, came_out


def end(base: EventBase, looping: threading.Thread) -> None:
    base.post(base.loopbreak)
    looping.join(10)
    assert not looping.is_alive()


@pytest.mark.parametrize("way", ["one-shot", "delete", "close", "posted", "finalize"])
def test_the_last_event_of_a_signal_may_go_in_the_loops_own_thread(
    base: EventBase, programs_handler: list[int], way: str
) -> None:
    """The loop goes on; the signal does what it did before, and its handler comes back as soon as
    the main thread has to do with the base."""
    ran = threading.Event()

    def on_signal(fd: int, what: int, event: Event) -> None:
        if way == "posted":
            base.post(event.delete)
        elif way == "finalize":
            event.finalize(lambda *_: None)
        elif way != "one-shot":
            getattr(event, way)()
        base.post(ran.set)

    flags = EV_SIGNAL if way == "one-shot" else EV_SIGNAL | EV_PERSIST
    event = Event(base, signal.SIGUSR1, flags, on_signal, event_self_cbarg)
    event.add()
    looping, came_out = run_in_thread(base)
    kill()
    assert ran.wait(10)
    assert programs_handler == []
    kill()
    assert programs_handler == [signal.SIGUSR1]
    end(base, looping)
    assert came_out == []


def test_a_signal_that_went_in_the_loops_thread_can_be_added_again(
    base: EventBase, programs_handler: list[int]
) -> None:
    ran: list[int] = []
    gone = threading.Event()
    event = Event(base, signal.SIGUSR1, EV_SIGNAL, lambda *_: (ran.append(1), base.post(gone.set)))
    event.add()
    looping, came_out = run_in_thread(base)
    kill()
    assert gone.wait(10)
    end(base, looping)
    event.add()
    kill()
    base.loop(EVLOOP_NONBLOCK)
    assert ran == [1, 1]
    assert came_out == []
    kill()
    assert programs_handler == [signal.SIGUSR1]


@pytest.mark.parametrize("how", ["loop", "close"])
def test_the_main_thread_gives_back_what_another_could_not(
    base: EventBase, programs_handler: list[int], how: str
) -> None:
    handler = signal.getsignal(signal.SIGUSR1)
    gone = threading.Event()
    Event(base, signal.SIGUSR1, EV_SIGNAL, lambda *_: base.post(gone.set)).add()
    looping, _ = run_in_thread(base)
    kill()
    assert gone.wait(10)
    end(base, looping)
    assert signal.getsignal(signal.SIGUSR1) is not handler
    if how == "loop":
        base.loop(EVLOOP_NONBLOCK)
    else:
        base.close()
    assert signal.getsignal(signal.SIGUSR1) is handler
    assert programs_handler == []


LAST_GOES_ELSEWHERE = """
import os, signal, sys, threading
from evsvc.core import EV_SIGNAL, Event, EventBase
before = {"default": signal.SIG_DFL, "ignored": signal.SIG_IGN, "own": lambda *_: print("own")}
if sys.argv[1] in before:
    signal.signal(signal.SIGINT, before[sys.argv[1]])
base = EventBase()
Event(base, signal.SIGINT, EV_SIGNAL, lambda *_: None).add()
looping = threading.Thread(target=base.dispatch)
looping.start()
os.kill(os.getpid(), signal.SIGINT)
looping.join()
for _ in range(2):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        print("KeyboardInterrupt")
"""


@pytest.mark.parametrize(
    ("before", "output", "code"),
    [
        ("default", "", -signal.SIGINT),
        ("ignored", "", 0),
        ("own", "own\nown\n", 0),
        ("Python's", "KeyboardInterrupt\nKeyboardInterrupt\n", 0),
    ],
)
def test_what_was_there_before_acts_though_it_could_not_be_given_back(
    before: str, output: str, code: int
) -> None:
    """Nobody tells the main thread: it sends the signal again."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LAST_GOES_ELSEWHERE, before],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.stdout, ended.returncode) == (output, code), ended.stderr


def test_a_handler_that_calls_the_one_before_it_may_outlive_the_events(
    base: EventBase, programs_handler: list[int]
) -> None:
    """A program wraps what it finds installed, which is ours."""
    event = base.signal(signal.SIGUSR1, lambda *_: None)
    event.add()
    ours = signal.getsignal(signal.SIGUSR1)
    assert callable(ours)
    wrapped: list[int] = []

    def wrapper(signum: int, frame: object) -> None:
        wrapped.append(signum)
        ours(signum, None)

    before = signal.signal(signal.SIGUSR1, wrapper)
    event.delete()
    kill()
    assert wrapped == programs_handler == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is wrapper
    assert signal.signal(signal.SIGUSR1, before) is wrapper
    kill()  # by our own, which is what the program puts back, and which goes now
    assert programs_handler == [signal.SIGUSR1] * 2


def test_a_refused_delete_leaves_the_event_whole(
    monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """Its timeout, too; from a thread that neither is the main one nor runs the loop."""
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase(clock=clock) as base:
        ran: list[EventFlag] = []
        event = base.signal(signal.SIGUSR1, lambda fd, what, arg: ran.append(what))
        event.add(5)
        deadline = event.deadline
        refused: list[str] = []

        def other_thread() -> None:
            calls: list[Callable[[], object]] = [
                event.delete,
                event.delete_noblock,
                event.close,
                lambda: event.finalize(lambda *_: None),
                base.close,
                base.close_nofinalize,
            ]
            for call in calls:
                with pytest.raises(StateError, match="main thread"):
                    call()
                refused.append("refused")

        other = threading.Thread(target=other_thread)
        other.start()
        other.join()
        assert len(refused) == 6
        assert event.deadline == deadline
        assert event.pending() == EV_SIGNAL | EV_TIMEOUT
        base.loop(EVLOOP_ONCE)
        assert ran == [EV_TIMEOUT]


def test_a_base_without_signal_events_may_be_closed_by_another_thread() -> None:
    base = EventBase()
    event = base.signal(signal.SIGUSR2, lambda *_: None)
    event.add()
    event.delete()
    other = threading.Thread(target=base.close)
    other.start()
    other.join()
    assert base.reactor.closed


def test_when_the_base_that_has_a_signal_goes_the_other_gets_it(base: EventBase) -> None:
    """At once, though its loop has been running in another thread all the time."""
    got = threading.Event()
    base.signal(signal.SIGUSR1, lambda *_: got.set()).add()
    looping, came_out = run_in_thread(base)
    with EventBase() as second:
        second.signal(signal.SIGUSR1, lambda *_: pytest.fail("closed")).add()
    kill()
    assert got.wait(10)
    end(base, looping)
    assert came_out == []


def test_a_loop_that_starts_in_another_thread_gets_the_signals(base: EventBase) -> None:
    got = threading.Event()
    entered = threading.Event()
    base.signal(signal.SIGUSR1, lambda *_: got.set()).add()
    with EventBase() as second:
        second.signal(
            signal.SIGUSR1, lambda *_: pytest.fail("the other has entered its loop")
        ).add()
        base.post(entered.set)
        looping, _ = run_in_thread(base)
        assert entered.wait(10)
        kill()
        assert got.wait(10)
        end(base, looping)
        second.loop(EVLOOP_NONBLOCK)


def test_a_handler_that_python_cannot_put_back_becomes_the_default(
    base: EventBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that C code has installed is None to Python."""
    real = signal.getsignal
    with monkeypatch.context() as patch:
        patch.setattr(signal, "getsignal", lambda signum: None)
        event = base.signal(signal.SIGUSR2, lambda *_: None)
        event.add()
    event.delete()
    assert real(signal.SIGUSR2) is signal.SIG_DFL


def test_the_interpreters_own_handler_comes_back(base: EventBase) -> None:
    """SIGINT: an event first, then KeyboardInterrupt again."""
    ran: list[int] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    event = base.signal(signal.SIGINT, lambda *_: ran.append(1))
    event.add()
    kill(signal.SIGINT)
    base.loop(EVLOOP_NONBLOCK)
    assert ran == [1]
    event.delete()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_a_child_that_ends_and_a_pipe_without_reader_are_signals_as_any(base: EventBase) -> None:
    """SIGCHLD, which is ignored by default, and SIGPIPE, which the interpreter ignores."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGCHLD, signal.SIGPIPE)}
    counts: Counter[int] = Counter()

    def on_signal(signum: int, what: int, arg: object) -> None:
        counts[signum] += 1
        if len(counts) == 2:
            base.loopbreak()

    for signum in before:
        base.signal(signum, on_signal).add()
    child = subprocess.Popen(["true"])
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    base.dispatch()
    assert counts == {signal.SIGCHLD: 1, signal.SIGPIPE: 1}
    assert child.wait() == 0
    os.close(writer)
    base.close()
    assert {signum: signal.getsignal(signum) for signum in before} == before
