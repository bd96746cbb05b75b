"""Bases with locks: what other threads may do to events while the loop runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from evsvc.core import (
    EV_FINALIZE,
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EVENT_BASE_FLAG_NOLOCK,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    Event,
    EventBase,
    EventConfig,
    FakeClock,
    PrepareWatcher,
    StateError,
    event_self_cbarg,
    thread,
)

pytestmark = pytest.mark.every_backend

SocketPair = tuple[socket.socket, socket.socket]

# Far longer than anything here takes: a test that waits so long has failed.
PATIENCE_S = 20.0


class Gate:
    """A point that one thread passes and another waits for."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self, *_: object) -> None:
        self._open.set()

    def wait(self) -> None:
        assert self._open.wait(PATIENCE_S)

    def is_open(self) -> bool:
        return self._open.is_set()


class Loop:
    """A base whose loop runs in a thread of its own."""

    def __init__(self, base: EventBase, flags: int) -> None:
        self.base = base
        self.result: int | None = None
        self._flags = flags
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.result = self.base.loop(self._flags)

    def start(self) -> None:
        """Start the loop, and return when it is about to wait."""
        waits = Gate()
        watcher = PrepareWatcher(self.base, waits.open)
        self._thread.start()
        waits.wait()
        watcher.close()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@contextmanager
def running(base: EventBase, flags: int = EVLOOP_NO_EXIT_ON_EMPTY) -> Iterator[Loop]:
    """Run a loop in a thread, until the end of the block or before."""
    loop = Loop(base, flags)
    loop.start()
    try:
        yield loop
    finally:
        base.loopbreak()
        loop.join()


@contextmanager
def in_thread(act: Callable[[], object]) -> Iterator[threading.Thread]:
    """Have another thread act; it is over at the end of the block."""
    other = threading.Thread(target=act)
    other.start()
    yield other
    other.join(PATIENCE_S)
    assert not other.is_alive()


def nothing(*_: object) -> None:
    pass


@pytest.fixture(autouse=True)
def locking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread._settings, "locking", True)


def test_locks_are_asked_for() -> None:
    """A program without threads pays for no lock; one that asks has it from the next base on."""
    program = """
from evsvc.core import EventBase, thread
before = EventBase()
thread.use_pthreads()
thread.use_pthreads()
after = EventBase()
print(before.reactor._locked is None, after.reactor._locked is None)
before.close()
after.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True False\n", done.stderr


def test_a_base_can_do_without_a_lock() -> None:
    """EVENT_BASE_FLAG_NOLOCK: no lock for this base, although the process has locking."""
    config = EventConfig()
    config.set_flag(EVENT_BASE_FLAG_NOLOCK)
    with EventBase(config) as base:
        assert base.reactor._locked is None


def test_an_event_activated_by_another_thread_wakes_the_loop(base: EventBase) -> None:
    """NO_EXIT_ON_EMPTY on an empty base sleeps on; an activation from another thread runs."""
    ran = Gate()
    event = Event(base, -1, 0, ran.open)
    with running(base):
        event.active(EV_TIMEOUT)
        ran.wait()


def test_a_timer_added_by_another_thread_wakes_the_loop(base: EventBase) -> None:
    """A timer that becomes the earliest shortens a wait that has begun."""
    ran = Gate()
    base.timer(nothing).add(3600)
    with running(base, 0):
        base.timer(ran.open).add(0.001)
        ran.wait()


def test_a_descriptor_added_by_another_thread_is_watched(base: EventBase, pair: SocketPair) -> None:
    """An add that changes what the backend waits for is seen by the wait that has begun."""
    ran = Gate()
    pair[1].send(b"x")
    with running(base):
        Event(base, pair[0], EV_READ, ran.open).add()
        ran.wait()


def test_a_removed_timer_wakes_nobody_later(base: EventBase, pair: SocketPair) -> None:
    """remove_timer from another thread: the descriptor stays pending, and the loop stays in it."""
    event = Event(base, pair[0], EV_READ, nothing)
    event.add(3600)
    with running(base, 0):
        event.remove_timer()
        assert event.pending() == EV_READ


@pytest.mark.parametrize("kind", ["timer", "descriptor"])
def test_deleting_the_last_event_ends_the_loop(
    base: EventBase, pair: SocketPair, kind: str
) -> None:
    """A sleeping dispatch returns 1 when another thread deletes the last event."""
    event = base.timer(nothing) if kind == "timer" else Event(base, pair[0], EV_READ, nothing)
    event.add(3600 if kind == "timer" else None)
    with running(base, 0) as loop:
        event.delete()
        loop.join()
        assert loop.result == 1


def test_loopbreak_and_loopexit_reach_a_sleeping_loop(base: EventBase) -> None:
    """Both may be called by any thread, and end a loop that sleeps."""
    with running(base) as loop:
        base.loopbreak()
        loop.join()
    assert base.got_break
    with running(base) as loop:
        base.loopexit()
        loop.join()
    assert base.got_exit


def test_a_loop_is_refused_while_another_thread_runs_it(base: EventBase) -> None:
    """One thread at a time is in the loop of a base, and closing it waits for the end."""
    with running(base):
        with pytest.raises(StateError, match="running already"):
            base.dispatch()
        with pytest.raises(StateError, match="running"):
            base.close()


def test_ten_threads_keep_an_exact_count(base: EventBase) -> None:
    """Ten threads, ten rounds each, hand an event to the loop and wait until it has run."""
    counts = [0]

    def count(fd: int, what: int, done: threading.Semaphore) -> None:
        counts[0] += 1
        done.release()

    def work(by_hand: bool) -> None:
        done = threading.Semaphore(0)
        event = Event(base, -1, 0, count, done)
        for _ in range(10):
            event.active(EV_TIMEOUT) if by_hand else event.add(0)
            assert done.acquire(timeout=PATIENCE_S)

    with running(base):
        workers = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(10)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE_S)
    assert counts == [100]


class Held:
    """A callback that tells when it has begun, and returns when it is let go."""

    def __init__(self) -> None:
        self.begun = Gate()
        self.let_go = Gate()
        self.over = Gate()

    def __call__(self, *_: object) -> None:
        self.begun.open()
        self.let_go.wait()
        self.over.open()


@pytest.mark.parametrize("way", ["delete", "delete_block", "close"])
def test_deleting_waits_for_a_running_callback(base: EventBase, way: str) -> None:
    """event_del from another thread returns when the callback has; so does event_free."""
    held = Held()
    event = base.timer(held)
    seen: list[bool] = []

    def delete() -> None:
        getattr(event, way)()
        seen.append(held.over.is_open())

    with running(base):
        event.add(0)
        held.begun.wait()
        with in_thread(delete) as deleter:
            deleter.join(0.02)
            assert deleter.is_alive()  # it waits, as far as a test can see that
            held.let_go.open()
    assert seen == [True]


@pytest.mark.parametrize(("flags", "way"), [(EV_FINALIZE, "delete"), (0, "delete_noblock")])
def test_deleting_need_not_wait(base: EventBase, flags: int, way: str) -> None:
    """EV_FINALIZE and delete_noblock: the deletion returns while the callback runs."""
    held = Held()
    event = Event(base, -1, flags, held)
    with running(base):
        event.add(0)
        held.begun.wait()
        getattr(event, way)()
        assert not held.over.is_open()
        held.let_go.open()


def test_delete_block_waits_in_spite_of_finalize(base: EventBase) -> None:
    """event_del_block overrides EV_FINALIZE."""
    held = Held()
    event = Event(base, -1, EV_FINALIZE, held)
    with running(base):
        event.add(0)
        held.begun.wait()
        with in_thread(event.delete_block):
            held.let_go.open()
        assert held.over.is_open()


def test_an_event_that_adds_itself_again_is_deleted_all_the_same(base: EventBase) -> None:
    """What the callback adds while another thread waits to delete is deleted, too."""
    held = Held()

    def again(fd: int, what: int, arg: object) -> None:
        held()
        event.add(0)

    event = base.timer(again)
    with running(base):
        event.add(0)
        held.begun.wait()
        with in_thread(event.delete):
            held.let_go.open()
        assert not event.pending()


@pytest.mark.parametrize("way", ["delete", "delete_block", "close"])
def test_deleting_oneself_never_waits(base: EventBase, way: str) -> None:
    """In the loop's own thread a deletion returns at once, from inside the callback, too."""
    done: list[str] = []

    def delete(fd: int, what: int, arg: object) -> None:
        getattr(event, way)()
        done.append(way)

    event = Event(base, -1, EV_PERSIST, delete)
    event.add(0)
    assert base.dispatch() == 1
    assert done == [way]


def test_deleting_what_does_not_run_does_not_wait(base: EventBase) -> None:
    """Only the event's own callback is waited for."""
    held = Held()
    first, second = base.timer(held), base.timer(nothing)
    with running(base):
        first.add(0)
        held.begun.wait()
        second.add(3600)
        second.delete()
        assert not held.over.is_open()
        held.let_go.open()


def test_a_finalizer_runs_after_the_running_callback(base: EventBase) -> None:
    """event_finalize from another thread returns at once, and nothing runs after the finalizer."""
    held = Held()
    order: list[str] = []
    finalized = Gate()

    def callback(*_: object) -> None:
        held()
        order.append("callback")

    def finalizer(*_: object) -> None:
        order.append("finalizer")
        finalized.open()

    event = Event(base, -1, EV_PERSIST, callback)
    with running(base):
        event.add(0)
        held.begun.wait()
        event.finalize(finalizer)
        assert order == []
        held.let_go.open()
        finalized.wait()
    assert order == ["callback", "finalizer"]


def test_the_lock_is_free_while_a_callback_runs(base: EventBase, pair: SocketPair) -> None:
    """A callback may wait for a thread that adds, deletes and looks at events of the base."""
    did: list[str] = []

    def work() -> None:
        event = Event(base, pair[0], EV_READ, nothing)
        event.add(60)
        event.priority = 0
        assert event in list(base.reactor.registry)
        base.foreach_event(lambda base, each, arg: None)
        event.delete()
        did.append("all")

    def wait_for_it(*_: object) -> None:
        with in_thread(work):
            pass

    base.timer(wait_for_it).add(0)
    PrepareWatcher(base, lambda watcher, info, arg: (watcher.close(), wait_for_it()))
    assert base.dispatch() == 1
    assert did == ["all", "all"]


def test_the_running_event_is_only_known_to_its_own_thread(base: EventBase) -> None:
    """event_base_get_running_event answers the loop's thread alone."""
    seen: list[object] = []

    def look(*_: object) -> None:
        seen.append(base.running_event)
        with in_thread(lambda: seen.append(base.running_event)):
            pass

    event = base.timer(look)
    event.add(0)
    base.dispatch()
    assert seen == [event, None]


def test_what_many_threads_post_does_not_hold_up_a_timer(
    fake_base: EventBase, clock: FakeClock
) -> None:
    """Eight threads queue 128 calls of a millisecond each, and a timer is in time among them."""
    fired: list[float] = []
    start = clock.monotonic()
    fake_base.timer(lambda *_: fired.append(clock.monotonic() - start)).add(0.5)

    def queue() -> None:
        for _ in range(128):
            fake_base.post(clock.advance, 0.001)

    workers = [threading.Thread(target=queue) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    fake_base.dispatch()
    assert clock.monotonic() - start == pytest.approx(1.024)
    assert len(fired) == 1
    assert 0.5 <= fired[0] < 0.6


def test_a_callback_that_raises_gives_the_lock_back(base: EventBase) -> None:
    """After an exception has left the loop, every thread can use the base."""
    event = base.timer(lambda *_: 1 / 0)
    event.add(0)
    with pytest.raises(ZeroDivisionError):
        base.dispatch()
    with in_thread(lambda: event.add(0)):
        pass
    assert event.pending()


def test_churn_by_threads_leaves_the_base_whole(base: EventBase, pair: SocketPair) -> None:
    """Four threads add, activate and delete their own events, and a shared one, at once."""
    pair[1].send(b"x")
    shared = Event(base, pair[0], EV_READ | EV_PERSIST, nothing)
    failures: list[BaseException] = []

    def churn(seed: int) -> None:
        own = [Event(base, -1, EV_PERSIST, nothing) for _ in range(5)]
        try:
            for turn in range(300):
                event = shared if (turn + seed) % 4 == 0 else own[turn % 5]
                if turn % 3 == 0:
                    event.add(0.001 * (turn % 7))
                elif turn % 3 == 1:
                    event.active(EV_TIMEOUT)
                else:
                    event.delete_noblock()
            for event in own:
                event.close()
        except BaseException as failure:
            failures.append(failure)
            raise

    with running(base):
        workers = [threading.Thread(target=churn, args=(seed,)) for seed in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive()
        shared.delete()
    assert failures == []
    base.loop(EVLOOP_NONBLOCK)  # what is left is the wake-up of the last break
    assert not base.reactor.registry
    assert base.reactor.registry.active.count == 0


def test_each_thread_may_have_a_base_of_its_own() -> None:
    """Bases are made, run and closed in many threads at once, with nothing between them."""
    start = threading.Barrier(8)
    counts = [0] * 8

    def work(number: int) -> None:
        start.wait(PATIENCE_S)
        for _ in range(5):
            with EventBase() as base:
                ours, peer = socket.socketpair()
                with ours, peer:
                    ours.setblocking(False)

                    def on_read(
                        fd: int, what: int, arg: object, ours: socket.socket = ours
                    ) -> None:
                        ours.recv(1)
                        counts[number] += 1

                    Event(base, ours, EV_READ, on_read).add()
                    base.timer(lambda *_, peer=peer: peer.send(b"x")).add(0.0001)
                    assert base.dispatch() == 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
        assert not worker.is_alive()
    assert counts == [5] * 8


def test_deleting_waits_for_a_second_run_that_began_meanwhile(base: EventBase) -> None:
    """A callback that is added again at once may run again before the waiting thread gets in."""
    begun = Gate()
    over: list[str] = []

    def again(fd: int, what: int, event: Event) -> None:
        begun.open()
        for _ in range(2000):
            pass
        event.add(0)
        over.append("added")

    event = Event(base, -1, 0, again, event_self_cbarg)
    failures: list[BaseException] = []
    base.exception_handler = failures.append
    with running(base):
        event.add(0)
        begun.wait()
        event.close()
        count = len(over)
    assert failures == []
    assert len(over) == count


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_inside_a_callback_leaves_a_child_that_loops_on(base: EventBase) -> None:
    """The child takes a new lock, and its loop gives that one back at the end."""
    codes: list[int] = []

    def fork(*_: object) -> None:
        pid = os.fork()
        if pid:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else:
            base.reinit()
            codes.append(-1)

    base.timer(fork).add(0)
    base.timer(nothing).add(0.001)
    try:
        result = base.dispatch()
    except BaseException:
        if codes == [-1]:
            os._exit(1)
        raise
    if codes == [-1]:
        os._exit(0 if result == 1 else 2)
    assert codes == [0]
