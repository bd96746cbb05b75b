"""How long a bufferevent lives, and its lock: references, closing, other threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_THREADSAFE,
    BEV_OPT_UNLOCK_CALLBACKS,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    BufferEvent,
    EventBase,
    StateError,
    thread,
)
from tests.core.bevs import Log, Pair, never

pytestmark = pytest.mark.every_backend

# Far longer than anything here takes: a test that waits so long has failed.
PATIENCE_S = 20.0


class WitnessedLock:
    """A recursive lock that tells when a thread has to wait for it, and how deep it is held."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.depth = 0
        self.contended = threading.Event()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._lock.acquire(blocking=False):
            self.contended.set()
            self._lock.acquire()
        self.depth += 1
        return True

    def release(self) -> None:
        self.depth -= 1
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *args: object) -> None:
        self.release()


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> WitnessedLock:
    """Return the lock that the next bufferevent with BEV_OPT_THREADSAFE gets."""
    lock = WitnessedLock()
    monkeypatch.setattr(thread, "new_lock", lambda: lock)
    return lock


@pytest.fixture
def locked_base(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBase]:
    """Return a base that several threads may use."""
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase() as base:
        yield base


@contextmanager
def running(target: Callable[[], object]) -> Iterator[None]:
    """Run a function in another thread meanwhile."""
    worker = threading.Thread(target=target)
    worker.start()
    yield
    worker.join(PATIENCE_S)
    assert not worker.is_alive()


def wait(event: threading.Event) -> None:
    assert event.wait(PATIENCE_S)


@pytest.mark.parametrize("references", [1, 2])
def test_a_reference_keeps_the_bytes_moving_after_close(
    base: EventBase, pair: Pair, references: int
) -> None:
    """`decref` says whether it was the last; then the descriptor is closed, and not before."""
    bev = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(never, never, never)
    bev.enable(EV_READ)
    for _ in range(references):
        bev.incref()
    bev.write(b"last words")
    bev.close()
    assert bev.closed
    assert bev.getcb() == (None, None, None, None)
    pair[1].send(b"an answer")
    base.loop(EVLOOP_NONBLOCK)
    assert pair[1].recv(99) == b"last words"
    assert bev.read() == b"an answer"
    for last in [False] * (references - 1) + [True]:
        assert pair[0].fileno() != -1
        assert bev.decref() is last
    assert pair[0].fileno() == -1
    assert base.dispatch() == 1


def test_with_a_reference_an_end_of_file_after_close_is_told_nobody(
    base: EventBase, pair: Pair
) -> None:
    bev = BufferEvent(base, pair[0], BEV_OPT_CLOSE_ON_FREE)
    bev.enable(EV_READ)
    bev.incref()
    bev.close()
    with pytest.raises(StateError, match="closed"):
        bev.setcb(never, never, never)
    pair[1].close()
    assert base.dispatch() == 1
    assert bev.enabled == EV_WRITE
    bev.decref()


def test_no_data_callback_comes_after_close(base: EventBase, pair: Pair) -> None:
    """Not with a reference either: what comes is in the input then."""
    bev = BufferEvent(base, pair[0])
    bev.set_datacb(never)
    bev.enable(EV_READ)
    bev.incref()
    bev.close()
    pair[1].send(b"x")
    base.loop(EVLOOP_NONBLOCK)
    assert bev.read() == b"x"
    bev.decref()


def test_only_what_was_taken_can_be_given_back(base: EventBase, pair: Pair) -> None:
    bev = BufferEvent(base, pair[0])
    with pytest.raises(StateError, match="no reference"):
        bev.decref()
    bev.incref()
    assert bev.decref() is False
    bev.close()
    for call in (bev.decref, bev.incref, bev.lock, bev.unlock):
        with pytest.raises(StateError):
            call()


def test_closing_drops_what_is_pending(base: EventBase, pair: Pair) -> None:
    """Unsent output is discarded, and so are callbacks that were due."""
    bev = BufferEvent(base, pair[0], BEV_OPT_DEFER_CALLBACKS)
    bev.setcb(never, never, never)
    bev.enable(EV_READ | EV_WRITE)
    bev.set_timeouts(60, 60)
    bev.write(bytes(4_000_000))
    pair[1].send(b"unread")
    bev.trigger(EV_READ | EV_WRITE)
    bev.trigger_event(0x10)
    bev.close()
    assert base.dispatch() == 1
    assert len(bev.output) == len(bev.input) == 0
    with pytest.raises(BlockingIOError):
        pair[1].recv(1)


@pytest.mark.parametrize("options", [0, BEV_OPT_THREADSAFE])
def test_locking_holds_a_reference_and_nests(base: EventBase, pair: Pair, options: int) -> None:
    bev = BufferEvent(base, pair[0], options | BEV_OPT_CLOSE_ON_FREE)
    bev.lock()
    bev.lock()
    bev.close()
    bev.unlock()
    assert pair[0].fileno() != -1
    bev.unlock()
    assert pair[0].fileno() == -1
    with pytest.raises(StateError):
        bev.lock()


@pytest.mark.parametrize(
    "options",
    [
        BEV_OPT_THREADSAFE,
        BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS,
        BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS,
    ],
)
def test_callbacks_run_without_the_lock(
    base: EventBase, pair: Pair, lock: WitnessedLock, options: int
) -> None:
    """Whatever the options: read, write, EOF."""
    depths: dict[str, int] = {}
    with BufferEvent(base, pair[0], options) as bev:
        bev.setcb(
            lambda *_: depths.setdefault("read", lock.depth),
            lambda *_: depths.setdefault("write", lock.depth),
            lambda *_: depths.setdefault("event", lock.depth),
        )
        bev.enable(EV_READ)
        bev.write(b"out")
        pair[1].send(b"in")
        pair[1].shutdown(socket.SHUT_WR)
        assert base.dispatch() == 1
        assert lock.depth == 0
    assert depths == {"read": 0, "write": 0, "event": 0}


def test_data_past_the_input_is_told_without_the_lock(
    base: EventBase, pair: Pair, lock: WitnessedLock
) -> None:
    told: list[tuple[bytes, int]] = []
    with BufferEvent(base, pair[0], BEV_OPT_THREADSAFE) as bev:
        bev.set_datacb(lambda bev, data, ctx: told.append((data, lock.depth)))
        bev.enable(EV_READ)
        pair[1].send(b"in")
        base.loop(EVLOOP_NONBLOCK)
    assert told == [(b"in", 0)]


def test_a_time_out_is_told_without_the_lock(
    fake_base: EventBase, pair: Pair, lock: WitnessedLock
) -> None:
    depths: list[int] = []
    with BufferEvent(fake_base, pair[0], BEV_OPT_THREADSAFE) as bev:
        bev.setcb(None, None, lambda *_: depths.append(lock.depth))
        bev.set_timeouts(5, None)
        bev.enable(EV_READ)
        assert fake_base.dispatch() == 1
    assert depths == [0]


def test_only_the_thread_that_locked_unlocks(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0], BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE) as bev:
        refused = threading.Event()

        def unlock() -> None:
            with pytest.raises(StateError, match="another thread"):
                bev.unlock()
            refused.set()

        bev.lock()
        with running(unlock):
            wait(refused)
        bev.unlock()
        with pytest.raises(StateError, match="no reference"):
            bev.unlock()
        assert pair[0].fileno() != -1


def test_the_loop_waits_for_a_thread_that_holds_the_lock(
    locked_base: EventBase, pair: Pair, lock: WitnessedLock, log: Log
) -> None:
    with log.attach(BufferEvent(locked_base, pair[0], BEV_OPT_THREADSAFE)) as bev:
        bev.enable(EV_READ)
        pair[1].send(b"x")
        bev.lock()
        with running(lambda: locked_base.loop(EVLOOP_NONBLOCK)):
            wait(lock.contended)
            assert log.calls == []
            bev.unlock()
        assert log.calls == ["read"]


def test_no_callback_comes_when_another_thread_closes_what_the_loop_waits_for(
    locked_base: EventBase, pair: Pair, lock: WitnessedLock
) -> None:
    bev = BufferEvent(locked_base, pair[0], BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(never, never, never)
    bev.enable(EV_READ)
    pair[1].send(b"x")
    bev.lock()
    with running(locked_base.dispatch):
        wait(lock.contended)
        bev.close()
        bev.unlock()
    assert pair[0].fileno() == -1


def test_what_the_loop_waits_to_send_is_not_sent_once_closed(
    locked_base: EventBase, pair: Pair, lock: WitnessedLock
) -> None:
    bev = BufferEvent(locked_base, pair[0], BEV_OPT_THREADSAFE)
    bev.write(b"x")
    bev.lock()
    with running(locked_base.dispatch):
        wait(lock.contended)
        bev.close()
        bev.unlock()
    with pytest.raises(BlockingIOError):
        pair[1].recv(1)


def test_threads_may_write_while_the_loop_sends(base: EventBase, pair: Pair) -> None:
    """With a lock or without one on the base: every byte arrives, and the loop wakes up for it."""
    size, rounds = 100, 300
    received = bytearray()
    with (
        BufferEvent(base, pair[0], BEV_OPT_THREADSAFE) as sender,
        BufferEvent(base, pair[1]) as receiver,
    ):

        def readable(bev: BufferEvent, ctx: object) -> None:
            received.extend(bev.read())
            if len(received) == 2 * rounds * size:
                base.loopbreak()

        def write(letter: bytes) -> None:
            for _ in range(rounds):
                sender.write(letter * size)

        receiver.setcb(readable, None, never)
        receiver.enable(EV_READ)
        base.loopexit(PATIENCE_S)
        with running(lambda: write(b"a")), running(lambda: write(b"b")):
            base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
        assert base.got_break
    assert received.count(b"a" * size) >= rounds - 1
    assert (received.count(b"a"), received.count(b"b")) == (rounds * size, rounds * size)


def test_in_the_loop_one_with_a_lock_answers_in_the_same_pass(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0], BEV_OPT_THREADSAFE) as bev:
        bev.setcb(lambda bev, ctx: bev.write(bev.read()), None, never)
        bev.enable(EV_READ)
        pair[1].send(b"ping")
        base.loop(EVLOOP_NONBLOCK)
        assert pair[1].recv(9) == b"ping"


def test_another_thread_may_start_reading(locked_base: EventBase, pair: Pair, log: Log) -> None:
    """Between `lock` and `unlock` every call is safe, and the loop that waits hears of it."""
    waits = threading.Event()
    with log.attach(BufferEvent(locked_base, pair[0], BEV_OPT_THREADSAFE)) as bev:

        def enable() -> None:
            wait(waits)
            bev.lock()
            bev.setcb(lambda *_: locked_base.loopbreak(), None, None)
            bev.enable(EV_READ)
            bev.unlock()

        pair[1].send(b"x")
        locked_base.once(-1, EV_TIMEOUT, lambda *_: waits.set())
        locked_base.loopexit(PATIENCE_S)
        with running(enable):
            locked_base.loop(EVLOOP_NO_EXIT_ON_EMPTY)
        assert locked_base.got_break


def test_without_the_option_there_is_no_lock(base: EventBase, pair: Pair) -> None:
    with BufferEvent(base, pair[0]) as bev:
        assert bev._lock is None
        assert type(bev.input) is type(bev.output)
        bev.lock()
        bev.write(b"x")
        bev.unlock()
        assert base.dispatch() == 1
        assert pair[1].recv(9) == b"x"


@pytest.fixture
def log() -> Log:
    return Log()
