"""Other threads: posted calls, and waking a loop that sleeps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_TIMEOUT,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EventBase,
    PrepareWatcher,
    StateError,
)


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
