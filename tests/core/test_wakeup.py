"""Other threads: posted calls, and waking a loop that sleeps."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import operator
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EV_TIMEOUT,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    EventBase,
    PrepareWatcher,
    StateError,
)

pytestmark = pytest.mark.every_backend


class Boom(Exception):
    """What a callback of these tests raises."""


def boom() -> None:
    raise Boom


@pytest.fixture
def in_thread(base: EventBase) -> Callable[[Callable[[], object]], None]:
    """Return a function that runs another in a thread, while the loop sleeps for events."""

    def run(act: Callable[[], object]) -> None:
        started = threading.Event()
        thread = threading.Thread(target=lambda: (started.wait(10), act()))
        thread.start()
        base.once(-1, EV_TIMEOUT, lambda *_: started.set())
        base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
        thread.join(10)
        assert not thread.is_alive()

    return run


def test_a_posted_call_runs_in_the_loops_thread(
    base: EventBase, in_thread: Callable[[Callable[[], object]], None]
) -> None:
    ran: list[tuple[str, int]] = []

    def posted(word: str) -> None:
        ran.append((word, threading.get_ident()))
        base.loopbreak()

    in_thread(lambda: base.post(posted, "word"))
    assert ran == [("word", threading.get_ident())]


def test_a_break_from_another_thread_wakes_the_loop(
    base: EventBase, in_thread: Callable[[Callable[[], object]], None]
) -> None:
    in_thread(base.loopbreak)
    assert base.got_break


def test_deleting_the_last_event_by_a_posted_call_ends_a_sleeping_loop(base: EventBase) -> None:
    started = threading.Event()
    timer = base.timer(lambda *_: pytest.fail("a day has not passed"))
    timer.add(86400)
    thread = threading.Thread(target=lambda: (started.wait(10), base.post(timer.delete)))
    thread.start()
    base.once(-1, EV_TIMEOUT, lambda *_: started.set())
    assert base.dispatch() == 1
    thread.join(10)


def test_ten_threads_keep_an_exact_count(base: EventBase) -> None:
    count = 0

    def add_one() -> None:
        nonlocal count
        count += 1
        if count == 1000:
            base.loopbreak()

    def post_many() -> None:
        for _ in range(100):
            base.post(add_one)

    threads = [threading.Thread(target=post_many) for _ in range(10)]
    for thread in threads:
        thread.start()
    base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
    for thread in threads:
        thread.join(10)
    assert count == 1000


def test_calls_run_in_the_order_of_posting_and_after_what_is_active(base: EventBase) -> None:
    ran: list[str] = []

    def start(*args: object) -> None:
        base.post(ran.append, "first")
        base.post(ran.append, "second")

    base.once(-1, EV_TIMEOUT, start)
    base.once(-1, EV_TIMEOUT, lambda *_: ran.append("active"))
    assert base.dispatch() == 1
    assert ran == ["active", "first", "second"]


def test_a_call_posted_before_the_loop_keeps_it_from_ending(base: EventBase) -> None:
    ran: list[int] = []
    base.post(ran.append, 1)
    assert base.dispatch() == 1
    assert ran == [1]
    assert base.dispatch() == 1
    assert ran == [1]


def test_a_posted_call_that_raises_leaves_the_others(base: EventBase) -> None:
    ran: list[int] = []
    base.post(boom)
    base.post(ran.append, 1)
    with pytest.raises(Boom):
        base.dispatch()
    assert ran == []
    assert base.dispatch() == 1
    assert ran == [1]


def test_the_handler_gets_what_posted_calls_raise(base: EventBase) -> None:
    caught: list[Exception] = []
    ran: list[int] = []
    base.exception_handler = caught.append
    base.post(boom)
    base.post(boom)
    base.post(ran.append, 1)
    assert base.dispatch() == 1
    assert [type(exc) for exc in caught] == [Boom, Boom]
    assert ran == [1]


def test_posted_calls_have_the_middle_priority(base: EventBase) -> None:
    base.priority_init(3)
    ran: list[str] = []
    urgent, idle = (
        base.timer(lambda *_: ran.append("urgent")),
        base.timer(lambda *_: ran.append("idle")),
    )
    urgent.priority, idle.priority = 0, 2

    def start(*args: object) -> None:
        base.post(ran.append, "posted")
        idle.active(EV_TIMEOUT)
        urgent.active(EV_TIMEOUT)

    base.once(-1, EV_TIMEOUT, start)
    assert base.dispatch() == 1
    assert ran == ["urgent", "posted", "idle"]


def test_more_wake_ups_than_the_socket_holds_are_no_error(base: EventBase) -> None:
    ran: list[int] = []
    for number in range(5000):
        base.reactor.wakeup._sent = False  # as if the loop had just looked
        base.post(ran.append, number)
    assert base.dispatch() == 1
    assert ran == list(range(5000))


def test_a_thread_that_is_too_late_is_told_or_ignored(base: EventBase) -> None:
    base.close()
    with pytest.raises(StateError, match="closed"):
        base.post(boom)
    base.loopbreak()
    base.reactor.wakeup.post(boom, ())  # it had looked just before the base was closed


def test_a_call_posted_while_the_wake_up_is_read_is_not_lost(base: EventBase) -> None:
    """Its byte is read together with the one before it; its call runs all the same, and later
    calls wake the loop again."""
    ran: list[int] = []
    wakeup = base.reactor.wakeup
    real = wakeup._reader

    class Reader:
        """The wake-up socket, at whose first reading another thread posts."""

        posted = False

        def recv(self, size: int) -> bytes:
            if not self.posted:
                self.posted = True
                other = threading.Thread(target=base.post, args=(ran.append, 2))
                other.start()
                other.join()
            return real.recv(size)

        def fileno(self) -> int:
            return real.fileno()

        def close(self) -> None:
            real.close()

    wakeup._reader = Reader()  # type: ignore[assignment]  # as much of a socket as is used
    loop = threading.Thread(target=base.loop, args=(EVLOOP_NO_EXIT_ON_EMPTY,))
    loop.start()
    done = threading.Event()
    base.post(ran.append, 1)
    base.post(lambda: base.once(-1, EV_TIMEOUT, lambda *_: done.set()))
    assert done.wait(10)
    base.post(ran.append, 3)
    base.post(base.loopbreak)
    loop.join(10)
    assert not loop.is_alive()
    assert sorted(ran) == [1, 2, 3]


@pytest.mark.parametrize("way", ["loopbreak", "loopexit", "post"])
def test_a_python_signal_handler_ends_the_wait(base: EventBase, way: str) -> None:
    """It runs in the loop's own thread, in the middle of a wait that would go on after it."""
    ways: dict[str, Callable[[], object]] = {
        "loopbreak": base.loopbreak,
        "loopexit": base.loopexit,
        "post": lambda: base.post(base.loopbreak),
    }
    before = signal.signal(signal.SIGUSR1, lambda *_: ways[way]())
    waits = threading.Event()
    main = threading.get_ident()
    PrepareWatcher(base, lambda *_: waits.set())

    def interrupt() -> None:
        assert waits.wait(10)
        while not base.reactor.wakeup.waits:
            pass
        signal.pthread_kill(main, signal.SIGUSR1)

    other = threading.Thread(target=interrupt)
    other.start()
    try:
        assert base.loop(EVLOOP_NO_EXIT_ON_EMPTY) == 0
    finally:
        other.join(10)
        signal.signal(signal.SIGUSR1, before)


class LateSignal:
    """A backend whose wait is hit by a signal at the worst moment: just before it begins.

    C code is called by C code here, so no Python runs between the signal and the wait, and the
    handler's turn comes after the wait only.
    """

    def __init__(self, base: EventBase, signum: int) -> None:
        self._backend = base.reactor.backend
        self._signum = signum
        self._poll = select.poll()
        self._poll.register(base.reactor.wakeup._reader, select.POLLIN)
        self.late = False

    def dispatch(self, timeout: float | None) -> list[tuple[int, int]]:
        if timeout is None and not self.late:
            kill = functools.partial(ctypes.CDLL(None).kill, os.getpid(), int(self._signum))
            wait = functools.partial(self._poll.poll, 10_000)
            _, ready = map(operator.call, [kill, wait])
            assert ready, "nothing has ended the wait"
            self.late = True
        return self._backend.dispatch(timeout)

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)


@pytest.fixture
def own_handler() -> Iterator[list[Callable[[], object]]]:
    """Have a handler in Python for SIGUSR1, which calls what is put into the list."""
    calls: list[Callable[[], object]] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: [call() for call in calls])
    yield calls
    signal.signal(signal.SIGUSR1, before)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("way", ["loopbreak", "loopexit", "post"])
@pytest.mark.parametrize("with_events", [False, True])
def test_a_signal_just_before_the_wait_ends_it(
    base: EventBase, own_handler: list[Callable[[], object]], way: str, with_events: bool
) -> None:
    """Its handler in Python cannot run before the wait is over, and only then stops the loop."""
    event = base.signal(signal.SIGUSR2, boom)
    if with_events:
        event.add()
    ways: dict[str, Callable[[], object]] = {
        "loopbreak": base.loopbreak,
        "loopexit": base.loopexit,
        "post": lambda: base.post(base.loopbreak),
    }
    own_handler.append(ways[way])
    real = base.reactor.backend
    base.reactor.backend = late = LateSignal(base, signal.SIGUSR1)  # type: ignore[assignment]  # as used
    try:
        assert base.loop(EVLOOP_NO_EXIT_ON_EMPTY) == 0
    finally:
        base.reactor.backend = real
    assert late.late
    event.delete()


def current_wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


@pytest.fixture
def programs_fd() -> Iterator[int]:
    """Return a wake-up descriptor that the program has set, and that is set after the test."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    yield writer.fileno()
    assert signal.set_wakeup_fd(-1) == writer.fileno()
    reader.close()
    writer.close()


def test_the_loop_has_the_wake_up_descriptor_and_gives_it_back(
    base: EventBase, programs_fd: int
) -> None:
    seen: list[int] = []
    base.once(-1, EV_TIMEOUT, lambda *_: seen.append(current_wakeup_fd()))
    base.dispatch()
    assert seen != [programs_fd]
    assert current_wakeup_fd() == programs_fd


def test_a_loop_that_does_not_wait_leaves_it(base: EventBase, programs_fd: int) -> None:
    seen: list[int] = []
    base.once(-1, EV_TIMEOUT, lambda *_: seen.append(current_wakeup_fd()))
    base.loop(EVLOOP_NONBLOCK)
    assert seen == [programs_fd]


def test_a_loop_that_ends_by_an_exception_gives_it_back(base: EventBase, programs_fd: int) -> None:
    base.once(-1, EV_TIMEOUT, lambda *_: boom())
    with pytest.raises(Boom):
        base.dispatch()
    assert current_wakeup_fd() == programs_fd


@pytest.mark.parametrize("outer_signals", [False, True])
@pytest.mark.parametrize("inner_signals", [False, True])
def test_a_loop_within_anothers_gives_it_back_to_that_one(
    base: EventBase, programs_fd: int, outer_signals: bool, inner_signals: bool
) -> None:
    seen: list[int] = []
    with EventBase() as inner:
        events = [base.signal(signal.SIGUSR1, boom), inner.signal(signal.SIGUSR2, boom)]
        for event, wanted in zip(events, (outer_signals, inner_signals), strict=True):
            if wanted:
                event.add()
        inner.once(-1, EV_TIMEOUT, lambda *_: seen.append(current_wakeup_fd()))

        def nest(*args: object) -> None:
            seen.append(current_wakeup_fd())
            inner.loop(EVLOOP_ONCE)
            seen.append(current_wakeup_fd())

        base.once(-1, EV_TIMEOUT, nest)
        base.loop(EVLOOP_ONCE)
        before, within, after = seen
        assert before == after
        assert within not in (before, programs_fd)
        for event in events:
            event.delete()


@pytest.mark.parametrize("moment", ["before", "within"])
def test_signal_events_that_come_or_go_in_the_loop_do_not_end_that(
    base: EventBase, programs_fd: int, moment: str
) -> None:
    seen: list[int] = []
    event = base.signal(signal.SIGUSR1, boom)
    if moment == "before":
        event.add()

    def change(*args: object) -> None:
        seen.append(current_wakeup_fd())
        event.add()
        seen.append(current_wakeup_fd())
        event.delete()
        seen.append(current_wakeup_fd())

    base.once(-1, EV_TIMEOUT, change)
    base.loop(EVLOOP_ONCE)
    assert len(set(seen)) == 1
    assert seen[0] != programs_fd
    assert current_wakeup_fd() == programs_fd


def test_what_the_program_sets_in_a_callback_stays(base: EventBase, programs_fd: int) -> None:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    base.once(-1, EV_TIMEOUT, lambda *_: signal.set_wakeup_fd(writer.fileno()))
    base.dispatch()
    assert signal.set_wakeup_fd(programs_fd) == writer.fileno()
    reader.close()
    writer.close()


def test_a_loop_in_another_thread_leaves_it(base: EventBase, programs_fd: int) -> None:
    looping = threading.Thread(target=base.dispatch)
    seen: list[int] = []
    done = threading.Event()
    base.once(-1, EV_TIMEOUT, lambda *_: done.wait(10))
    looping.start()
    seen.append(current_wakeup_fd())
    done.set()
    looping.join(10)
    assert not looping.is_alive()
    assert seen == [programs_fd]


def test_asyncios_signal_handlers_work_before_and_after_a_loop_of_ours(base: EventBase) -> None:
    told: list[str] = []

    async def tell(word: str) -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR2, lambda: (told.append(word), came.set()))
        base.once(-1, EV_TIMEOUT, lambda *_: None)
        base.dispatch()
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(came.wait(), 10)

    async def main() -> None:
        await tell("first")
        await tell("second")
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR2)

    asyncio.run(main())
    assert told == ["first", "second"]
