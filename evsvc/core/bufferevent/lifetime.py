"""How long a bufferevent lives, and who may touch it meanwhile: references and the lock.

Invariants
    * The program that made it holds one reference until it calls `close`; `incref` takes more.
      With the last one goes what lies below the buffers, at once.
    * The lock of BEV_OPT_THREADSAFE is held by whoever works on the bufferevent, the loop or a call
      of the program: `close` from another thread waits for a callback that is running.  The base's
      lock is only ever taken after it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ..closing import Closing
from ..errors import StateError
from ..thread import holding_lock, new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..thread import Lock


class Lifetime(Closing):
    """The references to a bufferevent, and its lock."""

    __slots__ = ("_lock", "_owned", "_references")

    def __init__(self, threadsafe: bool) -> None:
        self._lock: Lock | None = new_lock() if threadsafe else None
        self._owned = True
        self._references = 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._owned

    @holding_lock
    def close(self) -> None:
        """End it: no callback runs any more, unsent output is dropped.

        Where someone holds a reference (`incref`, `lock`), the bytes go on moving until that one
        is given back.  Safe to repeat, and safe from inside any of its callbacks.  With
        BEV_OPT_THREADSAFE another thread waits for a callback that runs with the lock held.
        Source: bufferevent_free.
        """
        if self._owned:
            self._owned = False
            self._forget_callbacks()
            self._give_back()

    @holding_lock
    def incref(self) -> None:
        """Take another reference: `close` does not end the transport before `decref`.

        Raises StateError when nothing is left of it.  Source: bufferevent_incref.
        """
        self._require_open()
        self._references += 1

    @holding_lock
    def decref(self) -> bool:
        """Give back a reference that `incref` took; whether it was the last of all.

        Raises StateError when there is none to give back; the owner's goes with `close`.
        Source: bufferevent_decref.
        """
        if self._references <= self._owned:
            raise StateError("there is no reference to give back")
        return self._give_back()

    def lock(self) -> None:
        """Keep the loop and other threads out, and hold a reference, until `unlock`.

        Without BEV_OPT_THREADSAFE there is the reference only.  May be nested.  Raises StateError
        when nothing is left of it.  Source: bufferevent_lock.
        """
        if self._lock is not None:
            self._lock.acquire()
        try:
            self.incref()
        except StateError:
            if self._lock is not None:
                self._lock.release()
            raise

    def unlock(self) -> None:
        """Undo one `lock` (bufferevent_unlock).

        Raises StateError when it is not locked, or another thread has locked it.
        """
        lock = self._lock
        if lock is None:
            self.decref()
            return
        if not lock.acquire(blocking=False):
            raise StateError("another thread has locked the bufferevent")
        try:
            self.decref()
        finally:
            lock.release()
        lock.release()  # the one of `lock`

    @abstractmethod
    def _forget_callbacks(self) -> None:
        """Let no callback run from here on."""

    @abstractmethod
    def _destroy(self) -> None:
        """Give up all that the bufferevent has: the last reference is gone."""

    def _give_back(self) -> bool:
        self._references -= 1
        if self._references:
            return False
        self._destroy()
        return True

    def _guarded(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return `function`, or with BEV_OPT_THREADSAFE one that holds the lock meanwhile.

        For what the loop calls: it may have to wait for the lock until another thread has closed
        the bufferevent, and does nothing then.  A kind that shares another's lock sets it first.
        """
        lock = self._lock
        if lock is None:
            return function

        def locked(*args: Any) -> object:
            with lock:
                return function(*args) if self._references else None

        return locked

    def _require_open(self) -> None:
        if not self._references:
            raise StateError("the bufferevent is closed")
