"""Waking a loop from outside: other threads and signal handlers, through one socket pair.

A zero byte is a wake-up of ours; any other byte is the number of a signal, written by Python's
C-level handler.  A full socket is no error: the loop has more than enough to wake it.

A loop in the main thread has the process's wake-up descriptor for as long as it runs.  Without it a
handler of the program's in Python, which calls `loopbreak`, could come too late: a signal that
arrives just before the wait is only marked by then, its handler runs when the wait has ended, and
nothing ends the wait.  The byte does.
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
from .signals import SignalMap, WakeupFd, is_main_thread

if TYPE_CHECKING:
    from .base import EventBase

READ_BYTES = 4096

# How many posted calls run before descriptors and timers get their turn; libevent's number.
MAX_POSTED_PER_PASS = 32


class Wakeup:
    """The wake-up socket of one base, and the calls that other threads posted."""

    __slots__ = (
        "_event",
        "_in_main_thread",
        "_post_event",
        "_reader",
        "_registry",
        "_sent",
        "_takes_bytes",
        "_wakeup_fd",
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
        self._in_main_thread = False  # the loop is
        self._takes_bytes = False  # the loop has asked for the wake-up descriptor
        self._wakeup_fd = WakeupFd(self._writer.fileno())
        self.signals = SignalMap(self._wakeup_fd, self.ring, self.is_loop_thread)
        self._post_event = Event(base, -1, 0, self._run_posted)
        self._event = Event(base, self._reader, READ | PERSIST, self._on_wake)
        self._event.internal = True
        self._event.priority = 0

    def start(self) -> None:
        """Have the base watch for wake-ups.  Raises SocketError when it cannot."""
        self._event.add()

    def enter_loop(self, *, waits: bool) -> None:
        """Know that this thread runs the loop, which may come to wait or not."""
        self.thread_id = threading.get_ident()
        self._in_main_thread = is_main_thread()
        if self.signals:
            self.signals.take_over()
        if waits and self._in_main_thread:
            self._takes_bytes = True
            self._wakeup_fd.take()

    def leave_loop(self) -> None:
        """Know that no thread runs the loop any more."""
        if self._takes_bytes:
            self._takes_bytes = False
            self._wakeup_fd.give_back()
        self.waits = False
        self.thread_id = 0

    def is_loop_thread(self) -> bool:
        """Whether this thread is the one that runs the loop."""
        return threading.get_ident() == self.thread_id

    def wake(self) -> None:
        """Make a loop in another thread go through a pass.

        Our own thread's, too, when it waits: we are in a Python signal handler then, after which
        the wait would go on.
        """
        if self.waits or not self.is_loop_thread():
            self.ring()

    def ring(self) -> None:
        """Have the loop look at what has come, in its next pass at the latest."""
        if not self._sent:
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

    def part(self) -> None:
        """Close the sockets, which a parent process has, too; wake-ups do nothing until `reinit`.

        What is in them is the parent's.
        """
        self._sent = True
        self._wakeup_fd.part()
        self._event.delete()
        self._reader.close()
        self._writer.close()

    def reinit(self) -> None:
        """Take new sockets after `part`; calls that were posted here run here."""
        self._open_sockets()
        self._event.number = self._reader.fileno()
        self._event.add()
        self._sent = False
        self._wakeup_fd.reinit(self._writer.fileno())
        if self.posted:
            self._registry.activate_later(self._post_event, 0)
        self.signals.reinit()

    def close(self) -> None:
        """Drop what was posted and close the sockets."""
        self._sent = True  # nobody is left to be woken
        self.signals.close()
        self.posted.clear()
        self._post_event.close()
        self._event.close()
        del self._registry  # which knows this wake-up, when it is a locked one
        free = self._wakeup_fd.part()
        for sock in (self._reader, self._writer):
            if free:
                sock.close()
            else:
                # The last signal event went in another thread than the main, which closes the base,
                # too.  Python still writes here, and would to whatever gets the number next.
                sock.detach()

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
        if self.signals:
            # To a loop in another thread a byte may come long before the handler's call, which
            # would be counted twice.
            self.signals.deliver(self._registry, received if self._in_main_thread else b"")
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
