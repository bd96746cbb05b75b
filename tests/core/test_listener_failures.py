"""A listener that finds no descriptors, in a process of its own, and one that threads share."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from evsvc.core import (
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_THREADSAFE,
    ConnListener,
    EventBase,
    thread,
)
from tests.core.test_threads import Gate, Loop, in_thread, running

LOOPBACK = ("127.0.0.1", 0)
SocketPair = tuple[socket.socket, socket.socket]

# Prints how often the error callback ran and how often the loop waited, and what came of it all.
STARVED = """
import os, resource, socket, sys
from evsvc.core import ConnListener, EventBase, PrepareWatcher
from evsvc.core.listener import FAILURE_PAUSE_S

told = waits = 0

def on_error(listener, error, arg):
    global told
    told += 1

def on_wait(*_):
    global waits
    waits += 1

def on_accept(listener, sock, address, arg):
    print("accepted")
    sock.close()
    listener.disable()

base = EventBase()
listener = ConnListener.new_bind(base, on_accept, None, 0, -1, ("127.0.0.1", 0))
if sys.argv[1] == "told":
    listener.set_error_cb(on_error)
watcher = PrepareWatcher(base, on_wait)
peer = socket.create_connection(listener.address)
highest = max(int(name) for name in os.listdir("/proc/self/fd"))
fillers = []
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
try:
    while True:
        fillers.append(os.dup(0))
except OSError:
    pass
base.loopexit(FAILURE_PAUSE_S * 3.5)
base.dispatch()
print("told", told, "waits", waits)
for fd in fillers:
    os.close(fd)
base.dispatch()
"""


def starve(how: str) -> tuple[int, int, str, str]:
    """Run a listener with RLIMIT_NOFILE at what is in use; return what it printed."""
    command = [sys.executable, "-c", STARVED, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    first, _, rest = done.stdout.partition("\n")
    words = first.split()
    assert words[0::2] == ["told", "waits"], done.stderr
    return int(words[1]), int(words[3]), rest.strip(), done.stderr


def test_without_descriptors_the_error_callback_is_told_and_nothing_spins() -> None:
    """EMFILE: told once a pause, the loop sleeps in between, and then accepts by itself.

    Within 3.5 pauses there is room for four failures; a slow machine sees fewer.  Each costs a
    wait for the pause and one for the socket.
    """
    told, waits, rest, errors = starve("told")
    assert 1 <= told <= 4
    assert waits <= 10
    assert rest == "accepted"
    assert errors == ""


def test_without_descriptors_and_error_callback_there_is_a_warning() -> None:
    """EMFILE without error callback: a warning per failure."""
    _, waits, rest, errors = starve("warned")
    assert 1 <= errors.count("cannot accept a connection: [Errno 24]") <= 4
    assert waits <= 10
    assert rest == "accepted"


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventBase]:
    """Return a base with locks."""
    monkeypatch.setattr(thread._settings, "locking", True)
    with EventBase() as base:
        yield base


@pytest.fixture
def unhappy(base: EventBase, pair: SocketPair) -> Iterator[ConnListener]:
    """Return a listener over a connected socket with something to read: accepting fails."""
    pair[1].send(b"x")
    with ConnListener(base, close_accepted, None, LEV_OPT_THREADSAFE, 0, pair[0]) as listener:
        yield listener


def close_accepted(listener: ConnListener, sock: socket.socket, address: object, arg: Any) -> None:
    sock.close()


def bind(base: EventBase, cb: Any) -> ConnListener:
    flags = LEV_OPT_THREADSAFE | LEV_OPT_CLOSE_ON_FREE
    return ConnListener.new_bind(base, cb, None, flags, -1, LOOPBACK)


ENDS = [ConnListener.disable, ConnListener.close]


@pytest.mark.parametrize("end", ENDS)
def test_another_thread_ends_it_while_it_accepts(
    base: EventBase, end: Callable[[ConnListener], None]
) -> None:
    """disable from another thread while in the accept callback returns without deadlock."""
    calls: list[int] = []

    def on_accept(listener: ConnListener, sock: socket.socket, address: object, arg: Any) -> None:
        calls.append(1)
        sock.close()
        with in_thread(lambda: end(listener)):
            pass  # the callback returns when the other thread has

    with bind(base, on_accept) as listener:
        for _ in range(2):
            socket.create_connection(listener.address).close()
        assert base.dispatch() == 1
    assert calls == [1]


@pytest.mark.parametrize("end", ENDS)
def test_another_thread_ends_it_while_it_fails(
    base: EventBase, unhappy: ConnListener, end: Callable[[ConnListener], None]
) -> None:
    """disable from another thread while in the error callback returns without deadlock."""
    calls: list[int] = []

    def on_error(listener: ConnListener, error: OSError, arg: Any) -> None:
        calls.append(1)
        with in_thread(lambda: end(listener)):
            pass

    unhappy.set_error_cb(on_error)
    assert base.dispatch() == 1
    assert calls == [1]


def test_a_failure_without_error_callback_leaves_it_unlocked(
    base: EventBase, unhappy: ConnListener, caplog: pytest.LogCaptureFixture
) -> None:
    """Bogus socket or EMFILE without error callback: one warning, lock released."""
    base.once(-1, 1, lambda *_: base.loopbreak(), None, 0.02)
    base.dispatch()
    assert len(caplog.messages) == 1
    with in_thread(unhappy.disable):
        pass
    assert base.dispatch() == 1


def test_another_thread_starts_a_listener_that_the_loop_then_serves(base: EventBase) -> None:
    """A sleeping loop wakes for it."""
    accepted = Gate()

    def on_accept(listener: ConnListener, sock: socket.socket, address: object, arg: Any) -> None:
        sock.close()
        accepted.open()

    with bind(base, None) as listener, running(base):
        listener.set_cb(on_accept, None)
        socket.create_connection(listener.address).close()
        accepted.wait()
        listener.disable()


def test_closing_ends_a_loop_that_waits_for_connections_only(base: EventBase) -> None:
    listener = bind(base, close_accepted)
    loop = Loop(base, 0)
    loop.start()
    listener.close()
    loop.join()
    assert loop.result == 1
