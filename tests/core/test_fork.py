"""Forked children that do not go on with the base of their parent: they touch nothing of its."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVLOOP_NO_EXIT_ON_EMPTY,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    BufferEvent,
    ConnListener,
    Event,
    EventBase,
    PrepareWatcher,
    StateError,
    thread,
)
from tests.core.bevs import LOOPBACK
from tests.core.children import PATIENCE_S, exit_code, fork_child, in_child

Pair = tuple[socket.socket, socket.socket]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """Check that a test leaves the signals and the mask as they were."""
    signums = signal.valid_signals() - {signal.SIGALRM}  # the test's own time limit
    before = {signum: signal.getsignal(signum) for signum in signums}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    assert {signum: signal.getsignal(signum) for signum in signums} == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert signal.set_wakeup_fd(-1) == -1


class Heard:
    """A parent's event on a socket, and what it hears of it after a child is gone."""

    def __init__(self, base: EventBase, pair: Pair) -> None:
        self.base = base
        self.ours, self.theirs = pair
        self.heard: list[bytes] = []
        self.event = Event(base, self.ours, EV_READ | EV_PERSIST, self.hear)
        self.event.add()

    def hear(self, fd: int, what: int, arg: object) -> None:
        self.heard.append(self.ours.recv(100))

    def check(self) -> None:
        """Fail unless the loop rests, hears what is sent, and can be woken."""
        passes: list[int] = []
        watcher = PrepareWatcher(self.base, lambda *_: passes.append(1))
        assert self.base.loop(EVLOOP_NONBLOCK) == 0
        assert self.heard == []
        assert len(passes) == 1, "something of the child's has woken the loop"
        watcher.close()
        self.theirs.send(b"after the child")
        self.base.loop(EVLOOP_ONCE)
        assert self.heard == [b"after the child"]
        woken: list[int] = []
        other = threading.Thread(target=lambda: self.base.post(woken.append, 1))
        other.start()
        while not woken:
            self.base.loop(EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY)
        other.join()


@pytest.fixture
def heard(base: EventBase, pair: Pair) -> Heard:
    return Heard(base, pair)


def leave_through_with(heard: Heard) -> None:
    with heard.base, heard.event:
        raise SystemExit(0)


def close_the_event(heard: Heard) -> None:
    heard.event.close()


def delete_and_close(heard: Heard) -> None:
    heard.event.delete()
    heard.base.close()


def break_and_post(heard: Heard) -> None:
    heard.base.loopbreak()
    heard.base.loopexit()
    heard.base.post(never)
    heard.event.active(EV_READ)


def use_another_base(heard: Heard) -> None:
    heard.base.close()
    with EventBase() as own, Event(own, heard.theirs, EV_WRITE, lambda *_: None) as event:
        event.add()
        assert own.dispatch() == 1


def fork_again(heard: Heard) -> None:
    assert in_child(lambda: close_the_event(heard)) == 0
    heard.base.close()


WAYS = [
    leave_through_with,
    close_the_event,
    delete_and_close,
    break_and_post,
    use_another_base,
    fork_again,
]


@pytest.mark.parametrize("way", WAYS)
def test_however_a_child_ends_the_parent_hears(
    heard: Heard, way: Callable[[Heard], object]
) -> None:
    assert in_child(lambda: way(heard)) == 0
    heard.check()


def test_a_base_that_the_child_collects(pair: Pair) -> None:
    held = [Heard(EventBase(), pair)]
    on_signal = [held[0].base.signal(signal.SIGUSR1, never)]
    on_signal[0].add()

    def work() -> None:
        reference = weakref.ref(held[0].base)
        held.clear()
        on_signal.clear()
        gc.collect()
        assert reference() is None

    assert in_child(work) == 0
    on_signal[0].delete()
    held[0].check()
    held[0].base.close()


@pytest.mark.parametrize("way", WAYS[:4])
@pytest.mark.parametrize("ends", ["exit", "break"])
def test_a_child_that_is_forked_in_a_callback(
    heard: Heard, way: Callable[[Heard], object], ends: str
) -> None:
    """The child unwinds through the parent's loop."""
    base = heard.base
    pids: list[int] = []
    parent = os.getpid()

    def fork(*args: object) -> None:
        pid = os.fork()
        if pid:
            pids.append(pid)
        elif ends == "exit":
            raise SystemExit(0)
        else:
            base.loopbreak()

    base.once(-1, EV_TIMEOUT, fork)
    code = 1
    try:
        base.loop(EVLOOP_ONCE)
        if os.getpid() != parent:
            way(heard)
            code = 0
    except SystemExit:
        code = 0
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert exit_code(pids[0]) == 0
    heard.check()


@pytest.mark.parametrize("flags", [EVLOOP_ONCE, EVLOOP_NO_EXIT_ON_EMPTY])
def test_a_child_may_close_the_base_in_the_callback_in_which_it_was_forked(
    heard: Heard, flags: int
) -> None:
    """It could not go on with that loop anyhow; nothing else of the parent's pass runs there."""
    base = heard.base
    pids: list[int] = []
    ran: list[int] = []
    parent = os.getpid()

    def fork(*args: object) -> None:
        pids.append(os.fork())
        if os.getpid() == parent:
            base.loopexit()
        else:
            heard.event.close()
            base.close()

    base.once(-1, EV_TIMEOUT, fork)
    base.once(-1, EV_TIMEOUT, lambda *_: ran.append(os.getpid()))
    try:
        base.loop(flags)
    except StateError:
        assert os.getpid() != parent
    finally:
        if os.getpid() != parent:
            os._exit(len(ran))
    assert exit_code(pids[0]) == 0
    assert ran == [parent]
    heard.check()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_is_forked_while_another_thread_loops(heard: Heard) -> None:
    """Neither the loop's thread nor what it holds is in the child."""
    base = heard.base
    sleeping = threading.Event()
    PrepareWatcher(base, lambda *_: sleeping.set())
    looping = threading.Thread(target=base.dispatch)
    looping.start()
    assert sleeping.wait(PATIENCE_S)

    def work() -> None:
        heard.event.delete()
        base.close()

    assert in_child(work) == 0
    base.post(base.loopbreak)
    looping.join(PATIENCE_S)
    assert not looping.is_alive()
    heard.check()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_lock_that_a_vanished_thread_holds_does_not_hold_up_the_child(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase() as base:
        heard = Heard(base, pair)
        held, released = threading.Event(), threading.Event()

        def hold() -> None:
            with base.reactor.registry.guard:
                held.set()
                assert released.wait(PATIENCE_S)

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(PATIENCE_S)
        assert in_child(base.close) == 0
        released.set()
        holder.join()
        heard.check()


def test_a_lock_that_the_forking_thread_holds_stays_its_own(
    monkeypatch: pytest.MonkeyPatch, pair: Pair
) -> None:
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase() as base:
        heard = Heard(base, pair)

        def work() -> None:
            base.reactor.registry.guard.__exit__(None, None, None)
            base.close()

        with base.reactor.registry.guard:
            pid = fork_child(work)
        assert exit_code(pid) == 0
        heard.check()


def test_several_bases_are_all_left_alone(base: EventBase, pairs: Callable[[], Pair]) -> None:
    with EventBase() as other:
        parents = [Heard(base, pairs()), Heard(other, pairs())]

        def work() -> None:
            for each in parents:
                each.event.delete()
                each.base.close()

        assert in_child(work) == 0
        for each in parents:
            each.check()


def test_bufferevents_and_listeners_of_the_child_leave_the_parents_alone(
    base: EventBase, pair: Pair
) -> None:
    got: list[bytes] = []
    accepted: list[int] = []
    bev = BufferEvent(base, pair[0])
    bev.setcb(lambda bev, arg: got.append(bev.read(100)), None, None)
    bev.enable(EV_READ)
    listener = ConnListener.new_bind(
        base,
        lambda listener, sock, *_: (sock.close(), accepted.append(1)),
        None,
        0,
        5,
        (LOOPBACK, 0),
    )

    def work() -> None:
        bev.disable(EV_READ | EV_WRITE)
        bev.close()
        listener.close()
        base.close()

    assert in_child(work) == 0
    pair[1].send(b"x")
    with socket.create_connection(listener.address):
        while not (got and accepted):
            base.loop(EVLOOP_ONCE)
    listener.close()
    bev.close()


def test_output_of_the_parents_is_not_sent_again_by_the_child(base: EventBase, pair: Pair) -> None:
    """The child comes back from the callback in which it was forked, and leaves its loop."""
    parent = os.getpid()
    pids: list[int] = []
    bev = BufferEvent(base, pair[0])
    bev.enable(EV_WRITE)

    def write_and_fork(*args: object) -> None:
        bev.write(b"once")
        pids.append(os.fork())
        base.loopexit()

    base.once(-1, EV_TIMEOUT, write_and_fork)
    try:
        base.loop(EVLOOP_ONCE)
    finally:
        if os.getpid() != parent:
            os._exit(0)
    assert exit_code(pids[0]) == 0
    assert pair[1].recv(100) == b"once"
    with pytest.raises(BlockingIOError):
        pair[1].recv(100)
    bev.close()


def test_what_needs_the_kernel_is_refused_until_reinit(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    """Adding and looping raise, at the call; timers and deleting do not; reinit ends it."""
    before, new = pairs(), pairs()
    ran: list[str] = []
    old = Event(base, before[0], EV_READ, lambda *_: ran.append("old"))
    old.add()

    def work() -> None:
        added = Event(base, new[0], EV_READ, lambda *_: ran.append("new"))
        on_signal = base.signal(signal.SIGUSR1, never)
        timer = base.timer(lambda *_: ran.append("timer"))
        timer.add(0)
        for refused in (added.add, on_signal.add, base.dispatch):
            with pytest.raises(StateError, match="reinit"):
                refused()
        assert not added.pending()
        assert not on_signal.pending()
        base.reinit()
        added.add()
        on_signal.add()
        on_signal.delete()
        before[1].send(b"x")
        new[1].send(b"x")
        assert base.dispatch() == 1
        assert sorted(ran) == ["new", "old", "timer"]

    assert in_child(work) == 0
    assert ran == []


def test_a_child_that_goes_on_without_reinit_is_told_at_its_next_wait(base: EventBase) -> None:
    parent = os.getpid()
    pids: list[int] = []
    code = 1
    base.once(-1, EV_TIMEOUT, lambda *_: pids.append(os.fork()))
    base.once(-1, EV_TIMEOUT, never, timeout=3600)
    try:
        base.loop(EVLOOP_ONCE)
        if os.getpid() != parent:
            base.dispatch()
    except StateError as exc:
        code = 0 if "reinit" in str(exc) else 2
    finally:
        if os.getpid() != parent:
            os._exit(code)
    assert exit_code(pids[0]) == 0


def test_a_new_base_of_a_child_is_not_parted(base: EventBase) -> None:
    def work() -> None:
        with EventBase() as own:
            own.once(-1, EV_TIMEOUT, lambda *_: own.loopexit())
            assert own.loop(EVLOOP_NO_EXIT_ON_EMPTY) == 0

    assert in_child(work) == 0


def test_a_signal_ends_the_child_and_is_not_told_in_the_parent(heard: Heard) -> None:
    """The default action; sent at once, before the child has run a line, and later."""
    event = heard.base.signal(signal.SIGTERM, never)
    event.add()
    reader, writer = os.pipe()
    for waits in (False, True):
        pid = fork_child(lambda: (os.write(writer, b"x"), signal.pause()))
        if waits:
            os.read(reader, 1)
        os.kill(pid, signal.SIGTERM)
        assert exit_code(pid) == -signal.SIGTERM
    os.close(reader)
    os.close(writer)
    event.delete()
    heard.check()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("forker", ["loop", "other thread"])
def test_a_worker_of_multiprocessing_can_be_terminated(base: EventBase, forker: str) -> None:
    """At once after its start; by a parent that catches the signal itself, and is in its loop."""
    workers = []

    def run_worker(*args: object) -> None:
        context = multiprocessing.get_context("fork")
        worker = context.Process(target=signal.pause, daemon=True)
        worker.start()
        worker.terminate()
        worker.join(PATIENCE_S)
        workers.append(worker)
        base.post(base.loopbreak)

    told: list[int] = []
    event = base.signal(signal.SIGTERM, lambda signum, *_: told.append(signum))
    event.add()
    thread = threading.Thread(target=run_worker)
    base.once(-1, EV_TIMEOUT, run_worker if forker == "loop" else lambda *_: thread.start())
    base.dispatch()
    if forker != "loop":
        thread.join()
    assert workers[0].exitcode == -signal.SIGTERM
    os.kill(os.getpid(), signal.SIGTERM)
    base.loop(EVLOOP_NONBLOCK)
    assert told == [signal.SIGTERM]
    event.delete()


def test_in_the_child_the_handlers_are_those_from_before(base: EventBase) -> None:
    """The program's own, and the interpreter's for SIGINT; what came before the fork is not told
    again after reinit."""
    told: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: told.append("handler"))
    events = [
        base.signal(signum, lambda *_: told.append("event"))
        for signum in (signal.SIGUSR1, signal.SIGINT)
    ]
    for event in events:
        event.add()
    os.kill(os.getpid(), signal.SIGUSR1)

    def work() -> None:
        assert signal.set_wakeup_fd(-1) == -1
        os.kill(os.getpid(), signal.SIGUSR1)
        assert told == ["handler"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        base.reinit()
        base.loop(EVLOOP_NONBLOCK)
        os.kill(os.getpid(), signal.SIGUSR1)
        base.loop(EVLOOP_NONBLOCK)
        assert told == ["handler", "event"]

    assert in_child(work) == 0
    base.loop(EVLOOP_NONBLOCK)
    assert told == ["event"]
    for event in events:
        event.delete()
    signal.signal(signal.SIGUSR1, before)


def test_of_bases_that_share_a_signal_each_goes_on_by_itself_in_the_child(base: EventBase) -> None:
    told: list[str] = []
    with EventBase() as other:
        first = base.signal(signal.SIGUSR1, lambda *_: told.append("first"))
        second = other.signal(signal.SIGUSR1, lambda *_: told.append("second"))
        first.add()
        second.add()

        def work() -> None:
            base.reinit()
            os.kill(os.getpid(), signal.SIGUSR1)
            base.loop(EVLOOP_NONBLOCK)
            assert told == ["first"]
            other.close()
            base.close()

        assert in_child(work) == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        other.loop(EVLOOP_NONBLOCK)
        assert told == ["second"]
        second.delete()
        first.delete()


def test_a_child_without_asyncios_loop_leaves_asyncio_alone(base: EventBase) -> None:
    """The parent's loop of ours runs within one of asyncio's, which has signals, too."""
    told: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR2, lambda: (told.append("asyncio"), came.set()))
        event = base.signal(signal.SIGUSR1, lambda *_: told.append("event"))
        event.add()
        base.once(-1, EV_TIMEOUT, lambda *_: codes.append(in_child(base.close)))
        os.kill(os.getpid(), signal.SIGUSR1)
        base.loop(EVLOOP_ONCE)
        event.delete()
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(came.wait(), PATIENCE_S)
        loop.remove_signal_handler(signal.SIGUSR2)

    codes: list[int] = []
    asyncio.run(main())
    assert codes == [0]
    assert sorted(told) == ["asyncio", "event"]


def test_a_program_that_is_executed_gets_no_descriptor_of_ours(base: EventBase) -> None:
    event = base.signal(signal.SIGTERM, never)
    event.add()
    listed = subprocess.run(
        [sys.executable, "-c", "import os; print(*os.listdir('/dev/fd'))"],
        close_fds=False,
        capture_output=True,
        check=True,
        text=True,
    )
    plain = subprocess.run(
        [sys.executable, "-c", "import os; print(*os.listdir('/dev/fd'))"],
        close_fds=True,
        capture_output=True,
        check=True,
        text=True,
    )
    sleeper = subprocess.Popen(["sleep", "60"])
    sleeper.terminate()
    assert sleeper.wait(PATIENCE_S) == -signal.SIGTERM
    event.delete()
    inherited = set(listed.stdout.split()) - set(plain.stdout.split())
    for number in inherited:
        assert os.get_inheritable(int(number))


def test_a_closed_or_collected_base_is_not_looked_at_in_the_child() -> None:
    base = EventBase()
    base.close()
    reference = weakref.ref(base)
    assert in_child(lambda: None) == 0
    del base
    assert reference() is None
