"""Waking a loop from outside: other threads and signal handlers, through one socket pair.

A zero byte is a wake-up of ours; any other byte is the number of a signal, written by Python's
C-level handler.  A full socket is no error: the loop has more than enough to wake it.

A loop in the main thread has the process's wake-up descriptor for as long as it runs.  Without it a
handler of the program's in Python, which calls `loopbreak`, could come too late: a signal that
arrives just before the wait is only marked by then, its handler runs when the wait has ended, and
nothing ends the wait.  The byte does.  What was there before, asyncio's perhaps, comes back.
"""

from __future__ import annotations

import contextlib
import os
import signal
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


# A descriptor with its open file's device and number: none.
_NO_FILE = (-1, 0, 0)


class _WakeupFd:
    """Python's wake-up descriptor of signals, while a loop in the main thread has it."""

    __slots__ = ("_fd", "_found")

    def __init__(self) -> None:
        self._fd = -1
        self._found = _NO_FILE

    def take(self, fd: int) -> None:
        """Have the numbers of signals written to `fd`, if this is the main thread."""
        try:
            found = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        except ValueError:
            return  # another thread, or a subinterpreter
        self._fd = fd
        self._found = _NO_FILE if found < 0 else _open_file(found)

    @property
    def had_owner(self) -> bool:
        """Whether somebody else had it before."""
        return self._found is not _NO_FILE

    def give_back(self) -> None:
        """Restore what was there before, unless someone else has set another one since."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        current = signal.set_wakeup_fd(-1)
        if current == fd:
            current = self._found[0]
            # Closed meanwhile, its number may be anyone's; signal bytes must not go there.
            if current < 0 or _open_file(current) != self._found:
                return
        if current >= 0:
            with contextlib.suppress(ValueError, OSError):
                signal.set_wakeup_fd(current)


def _open_file(fd: int) -> tuple[int, int, int]:
    """Return `fd` with what tells its open file from another one under the same number."""
    try:
        status = os.fstat(fd)
    except OSError:
        return _NO_FILE
    return fd, status.st_dev, status.st_ino


class Wakeup:
    """The wake-up socket of one base, and the calls that other threads posted."""

    __slots__ = (
        "_event",
        "_is_lent",
        "_lent_fd",
        "_post_event",
        "_reader",
        "_registry",
        "_sent",
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
        self._wakeup_fd = _WakeupFd()
        self._is_lent = False
        self._lent_fd = _WakeupFd()  # between the passes that an outer loop runs
        self.signals = SignalMap(self.ring, self.is_loop_thread)
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
        if self.signals:
            self.signals.take_over()
        if waits and not self._is_lent:
            self._wakeup_fd.take(self._writer.fileno())

    def lend_loop(self, *, waits_elsewhere: bool) -> None:
        """Be woken by signals at all times, while an outer loop runs the passes.

        One that waits elsewhere, and has the wake-up descriptor of signals itself, keeps it: it
        is woken anyhow.
        """
        self._is_lent = True
        self._lent_fd.take(self._writer.fileno())
        if waits_elsewhere and self._lent_fd.had_owner:
            self._lent_fd.give_back()

    def end_lending(self) -> None:
        """End what `lend_loop` began."""
        self._is_lent = False
        self._lent_fd.give_back()

    def leave_loop(self) -> None:
        """Know that no thread runs the loop any more."""
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
        self._wakeup_fd.give_back()
        self._lent_fd.give_back()
        self._event.delete()
        self._reader.close()
        self._writer.close()

    def reinit(self) -> None:
        """Take new sockets after `part`; calls that were posted here run here."""
        self._open_sockets()
        self._event.number = self._reader.fileno()
        self._event.add()
        self._sent = False
        if self.is_loop_thread():
            self._wakeup_fd.take(self._writer.fileno())
        if self.posted:
            self._registry.activate_later(self._post_event, 0)
        self.signals.reinit()

    def repair(self) -> None:
        """Make good what an interrupt cut off: a byte was read, or calls have no event."""
        self._sent = False
        if self.posted:
            self._registry.activate_later(self._post_event, 0)
        self.ring()

    def close(self) -> None:
        """Drop what was posted and close the sockets."""
        self._sent = True  # nobody is left to be woken
        self.signals.close()
        self._wakeup_fd.give_back()  # where an interrupt has cut the end of the loop short
        self._lent_fd.give_back()
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
        if self.signals:
            self.signals.deliver(self._registry, received)
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
