"""What an EvBuffer tells of its changes, to whom, and when: at once, or later from a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import FINALIZE, BufferCallbackFlag
from ..reactor.base import EventBase
from ..reactor.event import Event
from ..thread import call_unlocked

if TYPE_CHECKING:
    from .evbuffer import EvBuffer


class ChangeInfo(NamedTuple):
    """What happened to a buffer (struct evbuffer_cb_info).

    `orig_size + n_added - n_deleted` is its length when the callbacks begin.
    """

    orig_size: int
    n_added: int
    n_deleted: int


BufferCallback = Callable[["EvBuffer", ChangeInfo, Any], object]
"""Called as `cb(buffer, info, arg)`."""


class CallbackEntry:
    """A registered callback (struct evbuffer_cb_entry); while not `enabled` it is not called."""

    __slots__ = ("arg", "attached", "callback", "enabled")

    def __init__(self, callback: BufferCallback, arg: object) -> None:
        self.callback = callback
        self.arg: Any = arg
        self.attached = self.enabled = True

    def switch(self, flags: int, enabled: bool) -> None:
        """Turn on or off what is in `flags`.  Raises ArgumentError for any but CB_ENABLED."""
        whole_number(flags, "flags")
        if int(flags) & ~int(BufferCallbackFlag.EVBUFFER_CB_ENABLED):
            raise ArgumentError(f"unknown flags of a buffer callback: {int(flags):#x}")
        if flags:
            self.enabled = enabled


class Observers:
    """The callbacks of one buffer, newest first."""

    __slots__ = ("_deferral", "_entries")

    def __init__(self) -> None:
        self._entries: list[CallbackEntry] = []
        self._deferral: Deferral | None = None

    def add(self, callback: BufferCallback, arg: object) -> CallbackEntry:
        """Add one, to be called first."""
        entry = CallbackEntry(callback, arg)
        self._entries.insert(0, entry)
        return entry

    def remove(self, entry: CallbackEntry) -> None:
        """Remove one.  Raises ArgumentError when it is not in.

        With the last goes what waits: changes that nobody sees are not in the sums.
        """
        self.require(entry)
        self._entries.remove(entry)
        entry.attached = False
        if not self._entries and self._deferral is not None:
            self._deferral.drop()

    def require(self, entry: CallbackEntry) -> None:
        """Raise ArgumentError when it is not in, ArgumentTypeError for what is no entry."""
        if not isinstance(entry, CallbackEntry):
            raise ArgumentTypeError(f"what add_cb returned is wanted, not {entry!r}")
        if entry not in self._entries:
            raise ArgumentError(f"not a callback of this buffer: {entry!r}")

    def newest(self, callback: BufferCallback, arg: object) -> CallbackEntry:
        """Return the newest with this function and argument.  Raises ArgumentError for none."""
        for entry in self._entries:
            if entry.callback == callback and entry.arg is arg:
                return entry
        raise ArgumentError(f"not a callback of this buffer: {callback!r}")

    def defer(self, base: EventBase) -> None:
        """From now on, call them from the loop of `base`.

        Raises StateError when they are deferred already, ArgumentTypeError for what is no base.
        """
        if self._deferral is not None:
            raise StateError("the callbacks of the buffer are deferred already")
        if not isinstance(base, EventBase):
            raise ArgumentTypeError(f"a base is wanted, not {base!r}")
        self._deferral = Deferral(base)

    def report(self, buffer: EvBuffer, added: int, deleted: int) -> None:
        """Have all told of a change that is done: now, without a lock of ours, or by the loop."""
        if not self._entries:
            return
        if self._deferral is not None:
            self._deferral.note(buffer, self, added, deleted)
            return
        info = ChangeInfo(buffer.length - added + deleted, added, deleted)
        call_unlocked(_tell, iter(tuple(self._entries)), buffer, info)

    def tell(self, buffer: EvBuffer, info: ChangeInfo) -> None:
        """Call each, newest first; one may remove itself or another meanwhile.

        What one raises goes on when all have been called.
        """
        _tell(iter(tuple(self._entries)), buffer, info)

    def close(self) -> None:
        """Forget all, and what waits."""
        for entry in self._entries:
            entry.attached = False
        self._entries.clear()
        if self._deferral is not None:
            self._deferral.close()
            self._deferral = None


def _tell(entries: Iterator[CallbackEntry], buffer: EvBuffer, info: ChangeInfo) -> None:
    """Call each, whatever another raises; the first exception goes on, with the others noted.

    What ends the program, such as KeyboardInterrupt, is never only noted.
    """
    for entry in entries:
        if entry.enabled and entry.attached:
            try:
                entry.callback(buffer, info, entry.arg)
            except BaseException as exc:
                try:
                    _tell(entries, buffer, info)
                except Exception as later:
                    exc.add_note(f"an older callback of the buffer raised, too: {later!r}")
                raise


class Deferral:
    """Changes that add up until the loop reports them, with the middle priority of its base.

    The priority is that of the time when it was made.  What is changed by the callbacks that it
    runs is reported in the next pass.
    """

    __slots__ = ("_added", "_base", "_deleted", "_event", "_waiting")

    def __init__(self, base: EventBase) -> None:
        self._base = base
        # EV_FINALIZE: a thread that closes the buffer has its lock, and must not wait for `_run`.
        self._event = Event(base, -1, FINALIZE, self._run)
        self._added = self._deleted = 0
        self._waiting: tuple[EvBuffer, Observers] | None = None

    def note(self, buffer: EvBuffer, observers: Observers, added: int, deleted: int) -> None:
        """Add a change to those that wait."""
        self._added += added
        self._deleted += deleted
        if self._waiting is None:
            self._waiting = buffer, observers
            self._schedule()

    def drop(self) -> None:
        """Forget what waits."""
        self._added = self._deleted = 0
        self._waiting = None

    def close(self) -> None:
        """Forget what waits, for good."""
        self.drop()
        self._event.close()

    def _schedule(self) -> None:
        base = self._base
        if base.reactor.closed:
            return
        if not base.reactor.runs_elsewhere():
            self._activate()
        else:
            base.post(self._activate)

    def _activate(self) -> None:
        if self._waiting is not None:
            self._base.reactor.registry.activate_later(self._event, 0)

    def _run(self, fd: int, what: int, arg: object) -> None:
        """Take what waits with the buffer's lock held, and tell it without."""
        waiting = self._waiting
        if waiting is None:
            return
        buffer, observers = waiting
        buffer.lock()
        try:
            if self._waiting is not waiting:  # it was closed by the thread that had the lock
                return
            added, deleted = self._added, self._deleted
            self.drop()
            info = ChangeInfo(buffer.length - added + deleted, added, deleted)
        finally:
            buffer.unlock()
        observers.tell(buffer, info)
