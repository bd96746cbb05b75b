"""A base after a fork: the child's own backend, sockets and signals, and the parent's untouched."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

import pytest

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ADDED,
    EVLOOP_NONBLOCK,
    EVLOOP_ONCE,
    Event,
    EventBase,
    PrepareWatcher,
    SocketError,
    StateError,
    thread,
)
from tests.core.children import PATIENCE_S, in_child

pytestmark = pytest.mark.every_backend

Pair = tuple[socket.socket, socket.socket]


def never(*args: object) -> None:
    pytest.fail("a callback ran that must not")


class Reader:
    """A persistent event that lists what comes over a socket."""

    def __init__(self, base: EventBase, sock: socket.socket) -> None:
        self.got: list[bytes] = []
        self.sock = sock
        self.event = Event(base, sock, EV_READ | EV_PERSIST, self.read)
        self.event.add()

    def read(self, fd: int, what: int, arg: object) -> None:
        self.got.append(self.sock.recv(100))


def test_child_and_parent_each_use_their_own(base: EventBase, pairs: Callable[[], Pair]) -> None:
    """The child deletes what was added before and adds more; the parent sees none of it."""
    shared, childs = pairs(), pairs()
    before = Reader(base, shared[0])

    def work() -> None:
        base.reinit()
        shared[1].send(b"to the child")
        base.loop(EVLOOP_ONCE)
        assert before.got == [b"to the child"]
        before.event.delete()
        after = Reader(base, childs[0])
        childs[1].send(b"new")
        base.loop(EVLOOP_ONCE)
        assert after.got == [b"new"]
        base.close()

    assert in_child(work) == 0
    assert base.loop(EVLOOP_NONBLOCK) == 0
    assert before.got == []
    shared[1].send(b"to the parent")
    base.loop(EVLOOP_ONCE)
    assert before.got == [b"to the parent"]


def test_a_child_whose_parent_goes_on_meanwhile(base: EventBase, pairs: Callable[[], Pair]) -> None:
    """What the parent deletes stays registered in the child."""
    pair, control = pairs(), pairs()
    reader = Reader(base, pair[0])
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(PATIENCE_S)
            base.reinit()
            control[0].send(b"ready")
            base.loop(EVLOOP_ONCE)
            code = 0 if reader.got == [b"after the parent's delete"] else 2
        finally:
            os._exit(code)
    waiter = Reader(base, control[1])
    base.loop(EVLOOP_ONCE)
    assert waiter.got == [b"ready"]
    reader.event.delete()
    pair[1].send(b"after the parent's delete")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_every_kind_of_interest_is_registered_again(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    """Two events on one descriptor, and one that was edge-triggered or not; the method stays."""
    both, other = pairs(), pairs()
    ran: list[str] = []

    def note(fd: int, what: int, name: str) -> None:
        ran.append(name)

    Event(base, both[0], EV_READ, note, "read").add()
    Event(base, both[0], EV_WRITE, note, "write").add()
    Event(base, other[0], EV_READ, note, "other").add()
    both[1].send(b"x")
    other[1].send(b"x")
    method, added = base.method, base.num_events(EVENT_BASE_COUNT_ADDED)
    base.reinit()
    assert base.method == method
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == added
    assert base.dispatch() == 1
    assert sorted(ran) == ["other", "read", "write"]


def test_the_old_wake_up_sockets_are_closed_and_new_ones_work(base: EventBase) -> None:
    def work() -> None:
        old = [sock.fileno() for sock in (base.reactor.wakeup._reader, base.reactor.wakeup._writer)]
        base.reinit()
        new = [sock.fileno() for sock in (base.reactor.wakeup._reader, base.reactor.wakeup._writer)]
        assert not set(old) & set(new)
        for number in old:
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(number)
        timer = base.timer(never)
        timer.add(PATIENCE_S)
        thread = threading.Thread(target=base.post, args=(timer.delete,))
        thread.start()
        assert base.dispatch() == 1
        thread.join()

    assert in_child(work) == 0
    ran: list[int] = []
    base.post(ran.append, 1)
    assert base.dispatch() == 1
    assert ran == [1]


def test_the_childs_wake_ups_do_not_reach_the_parent(base: EventBase) -> None:
    def work() -> None:
        base.reinit()
        base.post(never)  # wakes the child's loop, which is not run

    assert in_child(work) == 0
    with pytest.raises(BlockingIOError):
        base.reactor.wakeup._reader.recv(1)


def test_the_child_rests_while_its_parent_has_a_wake_up_to_read(fake_base: EventBase) -> None:
    """What the parent has not read, in a socket that both have, is nothing to the child."""

    def work() -> None:
        passes: list[int] = []
        fake_base.reinit()
        PrepareWatcher(fake_base, lambda *_: passes.append(1) if len(passes) < 50 else os._exit(2))
        fake_base.timer(lambda *_: fake_base.loopbreak()).add(1000)
        assert fake_base.dispatch() == 0
        assert len(passes) < 10

    fake_base.post(list)  # wakes a loop that does not run
    assert in_child(work) == 0


def test_timers_are_untouched(base: EventBase) -> None:
    ran: list[str] = []
    near, far = base.timer(lambda *_: ran.append("near")), base.timer(never)
    near.add(0.01)
    far.add(3600)
    deadlines = near.deadline, far.deadline

    def work() -> None:
        base.reinit()
        assert (near.deadline, far.deadline) == deadlines
        base.loop(EVLOOP_ONCE)
        assert ran == ["near"]

    assert in_child(work) == 0
    base.loop(EVLOOP_ONCE)
    assert ran == ["near"]


def test_what_was_posted_or_active_at_the_fork_runs_in_both(base: EventBase) -> None:
    ran: list[str] = []
    base.post(ran.append, "posted")
    base.timer(lambda *_: ran.append("active")).active(0)

    def work() -> None:
        base.reinit()
        assert base.dispatch() == 1
        assert sorted(ran) == ["active", "posted"]

    assert in_child(work) == 0
    assert base.dispatch() == 1
    assert sorted(ran) == ["active", "posted"]


def test_signals_added_before_the_fork_work_in_both(base: EventBase) -> None:
    """event_reinit: parent and child each receive only their own signals."""
    before = signal.getsignal(signal.SIGUSR1)
    ran: list[int] = []
    event = base.signal(signal.SIGUSR1, lambda *_: ran.append(os.getpid()))
    event.add()

    def work() -> None:
        base.reinit()
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
        base.loop(EVLOOP_ONCE)
        assert ran == [os.getpid()] * 2
        event.delete()
        assert signal.getsignal(signal.SIGUSR1) == before
        assert signal.set_wakeup_fd(-1) == -1

    assert in_child(work) == 0
    base.loop(EVLOOP_NONBLOCK)
    assert ran == []
    os.kill(os.getpid(), signal.SIGUSR1)
    base.loop(EVLOOP_ONCE)
    assert ran == [os.getpid()]
    event.delete()
    assert signal.getsignal(signal.SIGUSR1) == before


def test_reinit_takes_the_signals_from_no_other_base(base: EventBase) -> None:
    ran: list[str] = []
    with EventBase() as owner:
        first = base.signal(signal.SIGUSR1, lambda *_: ran.append("base"))
        second = owner.signal(signal.SIGUSR1, lambda *_: ran.append("owner"))
        first.add()
        second.add()
        base.reinit()
        os.kill(os.getpid(), signal.SIGUSR1)
        owner.loop(EVLOOP_NONBLOCK)
        assert ran == ["owner"]
        second.close()
        first.close()


def test_a_fork_inside_a_callback(base: EventBase, pairs: Callable[[], Pair]) -> None:
    """The child goes on in the running loop."""
    pair = pairs()
    reader = Reader(base, pair[0])
    codes: list[int] = []

    def fork(*args: object) -> None:
        pid = os.fork()
        if pid:
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            base.loopbreak()
            return
        signal.alarm(PATIENCE_S)
        base.reinit()
        pair[1].send(b"child")
        base.timer(lambda *_: os._exit(0 if reader.got == [b"child"] else 2)).add(0.01)

    base.timer(fork).add(0)
    parent = os.getpid()
    try:
        base.dispatch()
    finally:
        if os.getpid() != parent:
            os._exit(3)
    assert codes == [0]
    assert reader.got == []


def test_a_descriptor_that_the_child_has_closed_is_named(
    base: EventBase, pairs: Callable[[], Pair]
) -> None:
    """The rest is done; its events keep their timeouts and may be deleted."""
    lost, kept = pairs(), pairs()
    number = lost[0].fileno()
    first = Event(base, lost[0], EV_READ | EV_PERSIST, never)
    second = Event(base, lost[0], EV_WRITE, never)
    first.add()
    second.add(3600)
    reader = Reader(base, kept[0])
    lost[0].close()
    with pytest.raises(SocketError, match=str(number)) as caught:
        base.reinit()
    assert caught.value.errno == 9
    assert not first.pending()
    assert second.pending(EV_WRITE) == 0
    assert second.deadline is not None
    kept[1].send(b"x")
    base.loop(EVLOOP_ONCE)
    assert reader.got == [b"x"]
    for event in (first, second, reader.event):
        event.delete()
    assert base.num_events(EVENT_BASE_COUNT_ADDED) == 0
    assert base.dispatch() == 1


def test_a_closed_base_cannot_be_made_anew(base: EventBase) -> None:
    base.close()
    with pytest.raises(StateError, match="closed"):
        base.reinit()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("locking", [False, True])
def test_a_fork_while_another_thread_is_in_the_loop(
    monkeypatch: pytest.MonkeyPatch, pairs: Callable[[], Pair], locking: bool
) -> None:
    """The thread does not come along, nor what it held: the child loops on, and wakes itself by its
    own descriptor; the parent's loop hears nothing of it."""
    monkeypatch.setattr(thread._settings, "locking", locking)
    ours, peer = pairs()
    woken: list[str] = []
    with EventBase() as base:
        reader = Reader(base, ours)
        sleeping = threading.Event()
        PrepareWatcher(base, lambda *_: sleeping.set())
        looping = threading.Thread(target=base.dispatch)
        looping.start()
        assert sleeping.wait(PATIENCE_S)

        def work() -> None:
            base.reinit()
            base.timer(lambda *_: base.loopbreak()).add(0)
            waker = threading.Thread(target=base.post, args=(woken.append, "child"))
            waker.start()
            waker.join()
            assert base.dispatch() == 0
            base.loop(EVLOOP_NONBLOCK)
            assert woken == ["child"]
            reader.event.delete()
            base.close()

        assert in_child(work) == 0
        assert woken == []
        peer.send(b"to the parent")
        base.post(lambda: base.once(-1, EV_TIMEOUT, lambda *_: base.loopbreak()))
        looping.join(PATIENCE_S)
        assert not looping.is_alive()
        assert reader.got == [b"to the parent"]
