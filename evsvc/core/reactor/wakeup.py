"""Waking a loop from outside: other threads and signal handlers, through one socket pair.

A zero byte is another thread's wake-up; any other byte is the number of a signal, written by
Python's C-level handler.  A full socket is no error: the loop has more than enough to wake it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..flags import PERSIST, READ
from .event import Event
from .signals import SignalMap

if TYPE_CHECKING:
    from .base import EventBase

READ_BYTES = 4096

# How many posted calls run before descriptors and timers get their turn; libevent's number.
MAX_POSTED_PER_PASS = 32


class Wakeup:
    """The wake-up socket of one base, and the calls that other threads posted."""

    __slots__ = (
        "_event",
        "_post_event",
        "_reader",
        "_registry",
        "_sent",
        "_writer",
        "posted",
        "signals",
        "thread_id",
        "waits",
    )

    def __init__(self, base: EventBase) -> None:
        self.posted: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self.thread_id = 0  # of the thread in the loop; 0 when there is none
        self.waits = False  # the loop is in the backend: see `wake`
        self._sent = False
        self._registry = base.reactor.registry
        self._open_sockets()
        self.signals = SignalMap(self._writer.fileno())
        self._post_event = Event(base, -1, 0, self._run_posted)
        self._event = Event(base, self._reader, READ | PERSIST, self._on_wake)
        self._event.internal = True
        self._event.priority = 0

    def start(self) -> None:
        """Have the base watch for wake-ups.  Raises SocketError when it cannot."""
        self._event.add()

    def is_loop_thread(self) -> bool:
        """Whether this thread is the one that runs the loop."""
        return threading.get_ident() == self.thread_id

    def wake(self) -> None:
        """Make a loop in another thread go through a pass.

        Our own thread's, too, when it waits: we are in a Python signal handler then, after which
        the wait would go on.
        """
        if not self._sent and (self.waits or not self.is_loop_thread()):
            self._sent = True
            with contextlib.suppress(OSError):  # full, or closed by the loop's thread just now
                self._writer.send(b"\0")

    def post(self, fn: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Queue a call for the loop."""
        self.posted.append((fn, args))
        if self.is_loop_thread() and not self.waits:
            self._registry.activate_later(self._post_event, 0)
        else:
            self.wake()

    def set_post_priority(self, priority: int) -> None:
        """Run posted calls at `priority`."""
        self._post_event.priority = priority

    def reinit(self) -> None:
        """Take new sockets: in a forked child, the parent has the same ones.

        What is in the old ones is the parent's; calls that were posted here run here.
        """
        old = self._reader, self._writer
        self._open_sockets()
        self._event.delete()
        self._event.number = self._reader.fileno()
        self._event.add()
        self.signals.move_wakeup_fd(self._writer.fileno())
        for sock in old:
            sock.close()
        self._sent = False
        if self.posted:
            self._registry.activate_later(self._post_event, 0)

    def repair(self) -> None:
        """Make good what an interrupt cut off: a byte was read, or calls have no event."""
        self._sent = False
        if self.posted:
            self._registry.activate_later(self._post_event, 0)

    def close(self) -> None:
        """Drop what was posted and close the sockets."""
        self._sent = True  # nobody is left to be woken
        self.posted.clear()
        self._post_event.close()
        self._event.close()
        del self._registry  # which knows this wake-up, when it is a locked one
        self._reader.close()
        self._writer.close()

    def _open_sockets(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def _on_wake(self, fd: int, what: int, arg: object) -> None:
        received = b""
        with contextlib.suppress(BlockingIOError):
            received = self._reader.recv(READ_BYTES)
        # Between the bytes and what they announce: a thread that posted before this line wrote a
        # byte that is read, and its call is seen below; one that posts after it writes another.
        self._sent = False
        numbers = received.replace(b"\0", b"")
        if numbers:
            self.signals.deliver(self._registry, numbers)
        if self.posted:
            self._registry.activate(self._post_event, 0)

    def _run_posted(self, fd: int, what: int, arg: object) -> None:
        try:
            for _ in range(min(len(self.posted), MAX_POSTED_PER_PASS)):
                fn, args = self.posted.popleft()
                fn(*args)
        finally:
            if self.posted:
                self._registry.activate_later(self._post_event, 0)
