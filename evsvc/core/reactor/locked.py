"""A registry that any thread may use: what `thread.use_pthreads` makes of a base.

The lock is held while the registry is changed or read, and by the loop all the time but while it
waits, and while it calls back.  So what another thread does is done before the wait, and the loop
takes it into account, or during the wait, and the loop is woken.

Invariants
    * `running` changes only under the lock, so whoever holds it knows whether the event's callback
      is running.
    * Only a thread that is not the loop's waits for a callback.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from ..flags import FINALIZE
from ..thread import new_lock
from .registry import Registry

if TYPE_CHECKING:
    from ..backends import Backend
    from ..thread import Lock
    from .record import EventRecord
    from .wakeup import Wakeup


class LockedRegistry(Registry):
    """The pending and active events of a base with a lock."""

    __slots__ = ("_callback_over", "_returned", "_waiting", "_wakeup", "lock")

    _wakeup: Wakeup

    def __init__(self, backend: Backend, lock: Lock, *, debug: bool = False) -> None:
        super().__init__(backend, debug=debug)
        self._set_lock(lock)
        self._returned = 0  # how many callbacks have

    def _set_lock(self, lock: Lock) -> None:
        self.guard = self.lock = lock
        self._callback_over = threading.Condition(lock)  # type: ignore[arg-type]  # any such lock
        self._waiting = 0  # threads that wait for a callback to return

    def connect(self, wakeup: Wakeup) -> None:
        """Know how to wake the loop."""
        super().connect(wakeup)
        self._wakeup = wakeup

    def renew_lock(self) -> None:
        """Take a new lock, where a thread has the old one that did not come along into a child."""
        lock = self.lock
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock = new_lock()
        self._set_lock(lock)

    def add(self, event: EventRecord, timeout: float | None, now: float) -> None:
        """Make an event pending."""
        with self.lock:
            if not event.finalized:  # by another thread, a moment ago
                super().add(event, timeout, now)
        self.wake()

    def activate(self, event: EventRecord, what: int) -> None:
        """Make an event active."""
        with self.lock:
            super().activate(event, what)
        self.wake()

    def activate_later(self, event: EventRecord, what: int) -> None:
        """Make an event active in the next pass."""
        with self.lock:
            super().activate_later(event, what)
        self.wake()

    def activate_in_turn(self, event: EventRecord, what: int, calls: int = 1) -> None:
        """Make an event active, in the next pass if callbacks run now."""
        with self.lock:
            super().activate_in_turn(event, what, calls)
        self.wake()

    def delete(self, event: EventRecord) -> None:
        """Make an event idle, and wait for its callback unless it has EV_FINALIZE."""
        self._delete(event, waits=not event.flags & FINALIZE)

    def delete_block(self, event: EventRecord) -> None:
        """Make an event idle, and wait for its callback."""
        self._delete(event, waits=True)

    def delete_noblock(self, event: EventRecord) -> None:
        """Make an event idle, and do not wait."""
        self._delete(event, waits=False)

    def _delete(self, event: EventRecord, *, waits: bool) -> None:
        with self.lock:
            super().delete(event)
            while waits and self.running is event and not self._wakeup.is_loop_thread():
                self._wait_until_returned()
                super().delete(event)  # the callback may have added it again
        self.wake()

    def _wait_until_returned(self) -> None:
        running = self._returned
        self._waiting += 1
        self._callback_over.wait_for(lambda: self._returned != running)
        self._waiting -= 1

    def remove_timer(self, event: EventRecord) -> None:
        """Forget a pending timeout."""
        with self.lock:
            super().remove_timer(event)
        self.wake()

    def set_priority(self, event: EventRecord, priority: int) -> None:
        """Move an event."""
        with self.lock:
            super().set_priority(event, priority)

    def drop_stale(self, event: EventRecord) -> None:
        """Forget an idle event altogether."""
        with self.lock:
            super().drop_stale(event)

    def wake(self) -> None:
        """Have the loop go through a pass, if it is in another thread."""
        if self._wakeup.thread_id:
            self._wakeup.wake()

    def give_up(self) -> None:
        """Release the lock, as the loop does before it waits and before it calls back."""
        self.lock.release()

    def take_back(self) -> None:
        """Take the lock again; a callback that was running has returned."""
        self.lock.acquire()
        if self.running is not None:
            self.running = None
            self._returned += 1
            if self._waiting:
                self._callback_over.notify_all()

    def end_loop(self) -> None:
        """Let go of the lock, however often an interrupt has made the loop hold it."""
        with contextlib.suppress(RuntimeError):  # not, or no longer, this thread's
            while True:
                self.lock.release()
        self.take_back()
        self.lock.release()

    def repair(self, last: EventRecord | None, now: float) -> None:
        """Make good what an interrupt cut off in the middle, wherever it was."""
        with self.lock:
            super().repair(last, now)
