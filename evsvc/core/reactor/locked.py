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

import threading
from typing import TYPE_CHECKING

from ..flags import FINALIZE
from ..thread import new_lock
from .registry import Registry

if TYPE_CHECKING:
    from ..backends import Backend
    from ..thread import Lock
    from .event import Event
    from .wakeup import Wakeup


class LockedRegistry(Registry):
    """The pending and active events of a base with a lock."""

    __slots__ = ("_callback_over", "_lock", "_returned", "_waiting", "_wakeup")

    _wakeup: Wakeup

    def __init__(self, backend: Backend, lock: Lock, *, debug: bool = False) -> None:
        super().__init__(backend, debug=debug)
        self._set_lock(lock)
        self._returned = 0  # how many callbacks have

    def _set_lock(self, lock: Lock) -> None:
        self.guard = self._lock = lock
        self._callback_over = threading.Condition(lock)  # type: ignore[arg-type]  # any such lock
        self._waiting = 0  # threads that wait for a callback to return

    def connect(self, wakeup: Wakeup) -> None:
        """Know how to wake the loop."""
        super().connect(wakeup)
        self._wakeup = wakeup

    def renew_lock(self) -> None:
        """Take a new lock, where a thread has the old one that did not come along into a child."""
        lock = self._lock
        if lock.acquire(blocking=False):
            lock.release()
        else:
            lock = new_lock()
        self._set_lock(lock)

    def add(self, event: Event, timeout: float | None, now: float) -> None:
        """Make an event pending."""
        with self._lock:
            super().add(event, timeout, now)
        self.wake()

    def activate(self, event: Event, what: int) -> None:
        """Make an event active."""
        with self._lock:
            super().activate(event, what)
        self.wake()

    def activate_later(self, event: Event, what: int) -> None:
        """Make an event active in the next pass."""
        with self._lock:
            super().activate_later(event, what)
        self.wake()

    def delete(self, event: Event) -> None:
        """Make an event idle, and wait for its callback unless it has EV_FINALIZE."""
        self._delete(event, waits=not event.flags & FINALIZE)

    def delete_block(self, event: Event) -> None:
        """Make an event idle, and wait for its callback."""
        self._delete(event, waits=True)

    def delete_noblock(self, event: Event) -> None:
        """Make an event idle, and do not wait."""
        self._delete(event, waits=False)

    def _delete(self, event: Event, *, waits: bool) -> None:
        with self._lock:
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

    def remove_timer(self, event: Event) -> None:
        """Forget a pending timeout."""
        with self._lock:
            super().remove_timer(event)
        self.wake()

    def set_priority(self, event: Event, priority: int) -> None:
        """Move an event."""
        with self._lock:
            super().set_priority(event, priority)

    def drop_stale(self, event: Event) -> None:
        """Forget an idle event altogether."""
        with self._lock:
            super().drop_stale(event)

    def wake(self) -> None:
        """Have the loop go through a pass, if it is in another thread."""
        if self._wakeup.thread_id:
            self._wakeup.wake()

    def give_up(self) -> None:
        """Release the lock, as the loop does before it waits and before it calls back."""
        self._lock.release()

    def take_back(self) -> None:
        """Take the lock again; a callback that was running has returned."""
        self._lock.acquire()
        if self.running is not None:
            self.running = None
            self._returned += 1
            if self._waiting:
                self._callback_over.notify_all()
