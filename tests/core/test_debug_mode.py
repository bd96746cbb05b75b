"""Event debug mode, and locks that are debugged."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from evsvc.core import (
    EV_ET,
    EV_PERSIST,
    EV_READ,
    EV_WRITE,
    ArgumentError,
    DebugError,
    Event,
    EventBase,
    StateError,
    debug,
    thread,
)
from evsvc.core.thread import DebugLock, new_lock

SocketPair = tuple[socket.socket, socket.socket]


def never(*_: object) -> None:
    pytest.fail("the callback ran")


@pytest.fixture
def debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debug._mode, "enabled", True)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("enable_debug_mode(); print(EventBase().reactor.debug)", "True"),
        ("print(EventBase().reactor.debug)", "False"),
        ("enable_debug_mode(); enable_debug_mode()", "StateError: debug mode is on already"),
        ("EventBase(); enable_debug_mode()", "debug mode begins before the first event base"),
    ],
)
def test_debug_mode_comes_first(program: str, outcome: str) -> None:
    """Enabling it twice, or after a base was made, is refused."""
    program = f"from evsvc.core import EventBase, enable_debug_mode; {program}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert outcome in done.stdout + done.stderr


def test_an_unassigned_event_cannot_be_used(debugging: None) -> None:
    """Debug mode finds the use of an event that was unassigned; assigning makes it good again."""
    with EventBase() as base:
        event = base.timer(never)
        event.debug_unassign()
        assert not event.initialized
        assert repr(event) == "<Event not assigned>"
        for use in (
            lambda: event.add(0),
            event.delete,
            event.delete_block,
            event.delete_noblock,
            event.remove_timer,
            lambda: event.active(0),
            lambda: event.finalize(never),
            lambda: event.assignment,
            event.debug_unassign,
        ):
            with pytest.raises(DebugError, match="not assigned"):
                use()
        ran: list[object] = []
        event.assign(base, -1, 0, lambda *args: ran.append(args[2]), "now")
        event.add(0)
        base.dispatch()
        assert ran == ["now"]


def test_a_pending_event_is_not_unassigned(debugging: None) -> None:
    with EventBase() as base:
        event = base.timer(never)
        event.add(60)
        with pytest.raises(StateError, match="pending"):
            event.debug_unassign()
        assert event.pending()


def test_without_debug_mode_nothing_is_unassigned(base: EventBase) -> None:
    event = base.timer(never)
    event.debug_unassign()
    assert event.initialized
    event.add(60)


def test_a_pending_event_is_not_assigned_anew(base: EventBase) -> None:
    """Assigning an event that is added corrupts libevent's queues; here it is refused always."""
    event = base.timer(never)
    event.add(60)
    with pytest.raises(StateError, match="pending"):
        event.assign(base, -1, 0, never)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_blocking_socket_is_found(debugging: None, pair: SocketPair, blocking: bool) -> None:
    """Debug mode refuses an event on a descriptor that would block the loop."""
    pair[0].setblocking(blocking)
    with EventBase() as base:
        idle = base.timer(never)
        for make in (
            lambda: Event(base, pair[0], EV_READ, never),
            lambda: idle.assign(base, pair[0], EV_WRITE, never),
        ):
            if blocking:
                with pytest.raises(DebugError, match=f"{pair[0].fileno()} is blocking"):
                    make()
            else:
                make()
        Event(base, -1, EV_READ, never)
        base.signal(2, never)


def test_a_closed_descriptor_is_found(debugging: None) -> None:
    with EventBase() as base:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(ArgumentError, match="Bad file"):
            Event(base, reader, EV_READ, never)


@pytest.mark.parametrize(("first", "second"), [(EV_ET, 0), (0, EV_ET)])
def test_mixing_edge_and_level_on_a_descriptor_is_found(
    debugging: None, pair: SocketPair, first: int, second: int
) -> None:
    """The second add fails, and leaves its event not pending."""
    with EventBase() as base:
        one = Event(base, pair[0], EV_READ | EV_PERSIST | first, never)
        other = Event(base, pair[0], EV_WRITE | EV_PERSIST | second, never)
        one.add()
        with pytest.raises(DebugError, match="level- and edge-triggered"):
            other.add()
        assert not other.pending()
        one.delete()
        other.add()
        other.delete()


def test_a_debugged_lock_is_recursive() -> None:
    lock = DebugLock()
    with lock, lock:
        lock.require_held()
        taken: list[bool] = []
        other = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
        other.start()
        other.join()
        assert taken == [False]
    with pytest.raises(DebugError, match="nobody does"):
        lock.require_held()


def test_unlocking_what_is_not_held_is_found() -> None:
    """A lock that is debugged knows who releases it."""
    lock = DebugLock()
    with pytest.raises(DebugError, match="nobody does"):
        lock.release()
    faults: list[str] = []

    def release() -> None:
        try:
            lock.release()
        except DebugError as fault:
            faults.append(str(fault))

    with lock:
        other = threading.Thread(target=release)
        other.start()
        other.join()
        assert faults == [
            f"this thread does not hold the lock: thread {threading.get_ident()} does"
        ]
    assert lock.acquire(blocking=False)
    lock.release()


def test_locks_are_debugged_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """evthread_enable_lock_debugging: every lock that is made from then on."""
    assert not isinstance(new_lock(), DebugLock)
    monkeypatch.setattr(thread._settings, "debugging", False)
    thread.enable_lock_debugging()
    assert isinstance(new_lock(), DebugLock)


def test_a_base_works_on_a_debugged_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion from another thread waits for the callback on such a lock, too."""
    monkeypatch.setattr(thread._settings, "debugging", True)
    monkeypatch.setattr(thread._settings, "locking", True)
    begun, deleted = threading.Event(), threading.Event()
    order: list[str] = []

    def callback(*_: object) -> None:
        begun.set()
        deleted.wait(0.02)  # in vain: the deletion waits for us
        order.append("callback")

    def delete() -> None:
        begun.wait(20)
        timer.delete()
        order.append("deleted")
        deleted.set()

    with EventBase() as base:
        timer = base.timer(callback)
        timer.add(0)
        other = threading.Thread(target=delete)
        other.start()
        base.dispatch()
        other.join(20)
    assert order == ["callback", "deleted"]
