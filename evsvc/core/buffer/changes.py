"""What an EvBuffer tells of its changes, to whom, and when: at once, or later from a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError
from ..flags import FINALIZE, BufferCallbackFlag
from ..reactor.base import EventBase
from ..reactor.event import Event

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
    """A registered callback (struct evbuffer_cb_entry); while not `enabled` it is not called.

    immediate: called at once by a buffer that defers its callbacks, too.
    """

    __slots__ = ("arg", "callback", "enabled", "immediate")

    def __init__(self, callback: BufferCallback, arg: object, *, immediate: bool = False) -> None:
        self.callback = callback
        self.arg: Any = arg
        self.enabled = True
        self.immediate = immediate

    def switch(self, flags: int, enabled: bool) -> None:
        """Turn on or off what is in `flags`.  Raises ArgumentError for any but CB_ENABLED."""
        whole_number(flags, "flags")
        if int(flags) & ~int(BufferCallbackFlag.EVBUFFER_CB_ENABLED):
            raise ArgumentError(f"unknown flags of a buffer callback: {int(flags):#x}")
        if flags:
            self.enabled = enabled


class CallbackList(list[CallbackEntry]):
    """The callbacks of one buffer, newest first."""

    __slots__ = ("_deferral",)

    def __init__(self) -> None:
        super().__init__()
        self._deferral: Deferral | None = None

    def forget(self, entry: CallbackEntry) -> None:
        """Remove one.  Raises ArgumentError when it is not in.

        With the last goes what waits: changes that nobody sees are not in the sums.
        """
        self.require(entry)
        self.remove(entry)
        if not self and self._deferral is not None:
            self._deferral.drop()

    def require(self, entry: CallbackEntry) -> None:
        """Raise ArgumentError when it is not in."""
        if entry not in self:
            raise ArgumentError(f"not a callback of this buffer: {entry!r}")

    def newest(self, callback: BufferCallback, arg: object) -> CallbackEntry:
        """Return the newest with this function and argument.  Raises ArgumentError for none."""
        for entry in self:
            if entry.callback == callback and entry.arg is arg:
                return entry
        raise ArgumentError(f"not a callback of this buffer: {callback!r}")

    @property
    def deferred(self) -> bool:
        """Whether callbacks run from a loop."""
        return self._deferral is not None

    def defer(self, base: EventBase) -> None:
        """From now on, run callbacks from the loop of `base`.

        Raises ArgumentTypeError for what is no base.
        """
        if not isinstance(base, EventBase):
            raise ArgumentTypeError(f"a base is wanted, not {base!r}")
        self._deferral = Deferral(base)

    def report(self, buffer: Any, added: int, deleted: int) -> None:
        """Tell all of a change that is done; one may remove itself or another meanwhile.

        What one raises goes on when all know, or will.
        """
        info = ChangeInfo(len(buffer) - added + deleted, added, deleted)
        if self._deferral is None:
            self._tell(tuple(self), buffer, info)
            return
        try:
            self._tell([entry for entry in self if entry.immediate], buffer, info)
        finally:
            if self and self._deferral is not None:
                self._deferral.note(buffer, self, info)

    def report_deferred(self, buffer: EvBuffer, info: ChangeInfo) -> None:
        """Tell those that wait for the loop."""
        self._tell([entry for entry in self if not entry.immediate], buffer, info)

    def close(self) -> None:
        """Forget all, and what waits."""
        self.clear()
        if self._deferral is not None:
            self._deferral.close()
            self._deferral = None

    def _tell(self, entries: Iterable[CallbackEntry], buffer: EvBuffer, info: ChangeInfo) -> None:
        """Call each, whatever another raises; the first exception goes on, with the others noted.

        What ends the program, such as KeyboardInterrupt, is never only noted.
        """
        rest = iter(entries)
        for entry in rest:
            if entry.enabled and entry in self:
                try:
                    entry.callback(buffer, info, entry.arg)
                except BaseException as exc:
                    try:
                        self._tell(rest, buffer, info)
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
        self._waiting: tuple[EvBuffer, CallbackList] | None = None

    def note(self, buffer: EvBuffer, callbacks: CallbackList, info: ChangeInfo) -> None:
        """Add a change to those that wait."""
        self._added += info.n_added
        self._deleted += info.n_deleted
        if self._waiting is None:
            self._waiting = buffer, callbacks
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
        waiting = self._waiting
        if waiting is not None:
            buffer, callbacks = waiting
            buffer.lock()
            try:
                if self._waiting is waiting:  # else closed by the thread that had the lock
                    self._report(buffer, callbacks)
            finally:
                buffer.unlock()

    def _report(self, buffer: EvBuffer, callbacks: CallbackList) -> None:
        self._waiting = None
        added, self._added = self._added, 0
        deleted, self._deleted = self._deleted, 0
        info = ChangeInfo(len(buffer) - added + deleted, added, deleted)
        callbacks.report_deferred(buffer, info)
