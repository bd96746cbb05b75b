"""The contract of all bufferevents: what is common to every kind, and what a kind must add.

A bufferevent is two buffers, callbacks, and something below that moves bytes between the buffers
and the world: a socket, a partner, another bufferevent.  All but that something is here and in
the classes above: lifetime.py (references, the lock), callbacks.py (the callbacks, at once or
deferred), flow.py (when bytes may move: enabled, suspended, watermarks, time-outs) and limits.py
(rate limits).  stream.py is the kind over a descriptor.

What a kind implements
    `_update_reading()`   Start or stop moving bytes into `input`, as `_wanted & READ` says.  Called
                          when reading was enabled, disabled, suspended or resumed; that is, also
                          when the program has drained the input below its high watermark.
    `_update_writing()`   The same for `_wanted & WRITE`, and called whenever output was added.
    `_on_close()`         Give up what lies below.  Called once, when the last reference has gone.
and where the default does not fit
    `_asked_to_write()`   The program has enabled EV_WRITE by name (nothing).
    `_waits_to_write()`   Whether the write time-out has something to run for (output is there).
    `_read_expired()`, `_write_expired()`   What a time-out does (disable the direction, tell).  One
                          that does not disable calls `_update_timers()` to start it again.
    `_flush(events, mode)`   Push bytes through; whether any moved (False).
    `_has_unsent()`       Whether output waits to be sent, here or below (output is there).
    `_io_events()`        Its own events, for `priority` (StateError: it has none).
    `_move_to(base)`      Go over to another base (StateError).
    `fd`, `setfd`, `replacefd`, `underlying`   -1, StateError and None unless it has one.

What a kind calls
    `input.take_from(source, size)`   to put bytes of a buffer into `input`, frozen ends or not;
    `_bytes_came()`       after it has put bytes into `input`;
    `_bytes_left()`       after bytes have left `output`;
    `_ended(what)`        at an end of file: disables reading, tells BEV_EVENT_EOF | what;
    `_failed(READ, exc)`  on an error, or WRITE: sets `error`, disables the direction, tells it;
    `_run_eventcb(what)`  for any other event;
    `_update_timers()`    when what `_waits_to_write()` says may have changed;
    `_suspend_reading(reason)`, `_resume_reading(reason)`   with a SUSPENDED_ bit of its own, and
                          the same for writing;
    `_room_to_read()`     for how much `input` takes below its high watermark;
    `_max_to_read()`, `_max_to_write()`   for how much one system call may move now; then, if there
                          is a `_limiter`, `note_read(size)` or `note_written(size)` of it.  Only
                          kinds that do system calls do so: pairs and filters move freely;
    `_new_event(...)`     for each event of its own: it has the priority, and holds the lock;
    `_run_in_loop(function)`   for what it does inside calls of the program, where these may come
                          from another thread: with BEV_OPT_THREADSAFE only the loop moves bytes;
    `_share_lock(lock)`   first of all, when it shares another's lock.

Rules
    * Bytes move in a direction only while it is enabled and nothing suspends it: `_wanted` is
      both in one.  It is 0 once nothing is left of the bufferevent.
    * What tells, may run a callback of the program, which may close the bufferevent, add output,
      set other callbacks: tell last, or look at `_references` (0: nothing is left) and `_wanted`
      again.  After `close` telling does nothing.
    * `_update_reading` and `_update_writing` run inside calls of the program, as do buffer
      callbacks inside `take_from`.  Tell with `defer=True` from there, or guard against re-entry:
      a callback that drains would else run inside itself.
    * Where a kind is always deferred it adds BEV_OPT_DEFER_CALLBACKS to the options.
    * A kind that stands on another bufferevent takes a reference (`incref`): a `close` from
      elsewhere then clears the callbacks of that one, and its bytes still move.
    * The input's end and the output's start are the kind's, and frozen for others.
    * Bad input never raises out of the loop: it is `_failed` or `_ended`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from ..buffer import EvBuffer
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import BOTH, READ, WRITE, BevEvent, FlushMode
from ..reactor.base import EventBase
from ..thread import CallbackLock
from .limits import RateLimited

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..reactor.event import Event
    from ..thread import Lock


_ERROR_IN = {
    READ: BevEvent.BEV_EVENT_READING | BevEvent.BEV_EVENT_ERROR,
    WRITE: BevEvent.BEV_EVENT_WRITING | BevEvent.BEV_EVENT_ERROR,
}


class AbstractBufferEvent(RateLimited):
    """What every bufferevent is to a program.

    A fresh one has EV_WRITE enabled and EV_READ not.  `ctx` goes to each callback.
    `error` is the OSError behind the last BEV_EVENT_ERROR, else None.
    """

    __slots__ = ("error",)

    def __init__(self, base: EventBase, options: int = 0) -> None:
        _require_base(base)
        super().__init__(base, options)
        self.error: OSError | None = None
        self.input = EvBuffer()
        self.output = EvBuffer()
        self.input.freeze(at_front=False)
        self.output.freeze(at_front=True)
        self.output.on_add = self._update_writing
        if self._lock is not None:
            self.input.enable_locking(self._lock)
            self.output.enable_locking(self._lock)

    @abstractmethod
    def _on_close(self) -> None:
        """Give up what lies below the buffers."""

    @property
    def base(self) -> EventBase:
        """The event base (bufferevent_get_base, bufferevent_base_set).

        Setting moves an idle bufferevent over a descriptor; see there for what it raises.  Raises
        StateError in a rate limit group, ArgumentTypeError for what is no base.
        """
        return self._base

    @base.setter
    def base(self, base: EventBase) -> None:
        self._require_open()
        _require_base(base)
        if self.rate_limit_group is not None:
            raise StateError("a bufferevent in a rate limit group cannot move to another base")
        self._move_to(base)

    @property
    def fd(self) -> int:
        """The descriptor, or -1 when there is none (bufferevent_getfd)."""
        return -1

    @property
    def underlying(self) -> AbstractBufferEvent | None:
        """The bufferevent below this one; None where there is none (bufferevent_get_underlying)."""
        return None

    def setfd(self, fd: socket.socket | int | None) -> None:
        """Use another descriptor; the old one stays open (bufferevent_setfd).

        Raises StateError for a kind that has none.
        """
        raise StateError(f"{type(self).__name__} has no descriptor to set")

    def replacefd(self, fd: socket.socket | int | None) -> None:
        """Use another descriptor and close the old one (bufferevent_replacefd).

        Raises StateError for a kind that has none.
        """
        raise StateError(f"{type(self).__name__} has no descriptor to replace")

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the output; it is sent after the callbacks of this pass (bufferevent_write).

        Raises ArgumentTypeError for anything but bytes, StateError when closed.
        """
        if not self._references:
            self._require_open()
        self.output.add(data)

    def write_buffer(self, buffer: EvBuffer) -> None:
        """Move a buffer's contents to the output (bufferevent_write_buffer).

        Raises ArgumentTypeError for what is no buffer, StateError when closed.
        """
        if not self._references:
            self._require_open()
        _require_buffer(buffer)
        self.output.add_buffer(buffer)

    def read(self, size: int = -1) -> bytes:
        """Take up to `size` bytes (-1: all) from the input (bufferevent_read).

        Nothing comes while the program has frozen the input's start.
        """
        return b"" if self.input.frozen_start else self.input.remove(size)

    def read_buffer(self, buffer: EvBuffer) -> None:
        """Move the input's contents to `buffer` (bufferevent_read_buffer).

        Raises ArgumentTypeError for what is no buffer.
        """
        _require_buffer(buffer)
        buffer.add_buffer(self.input)

    def flush(self, events: int, mode: int = FlushMode.BEV_NORMAL) -> bool:
        """Push the bytes of EV_READ, EV_WRITE or both through; whether any moved.

        mode: BEV_NORMAL, BEV_FLUSH, or BEV_FINISHED for the last bytes there will be.  Raises
        ArgumentError for another mode, StateError when closed.  Source: bufferevent_flush.
        """
        self._require_open()
        try:
            mode = FlushMode(mode)
        except ValueError:
            raise ArgumentError(f"a flush mode is wanted: {mode!r}") from None
        return bool(self._guarded(self._flush)(int(events) & BOTH, mode))

    def _flush(self, events: int, mode: FlushMode) -> bool:
        return False

    def _has_unsent(self) -> bool:
        return self.output.length > 0

    def _io_events(self) -> list[Event]:
        raise StateError(f"{type(self).__name__} has no events of its own to give a priority")

    def _move_to(self, base: EventBase) -> None:
        raise StateError(f"{type(self).__name__} cannot move to another base")

    def _share_lock(self, lock: Lock) -> None:
        """Have another's lock instead of one of our own, from the start."""
        self._lock = lock
        self.input._lock = self.output._lock = CallbackLock(lock)

    def _run_in_loop(self, function: Callable[[], object]) -> None:
        """Call `function`: at once, or with BEV_OPT_THREADSAFE and from another thread, later.

        With that option it has the lock, and is called by the loop's thread alone.
        """
        if self._lock is None:
            function()
        elif self._base.reactor.in_loop_thread():
            self._guarded(function)()
        else:
            self._base.reactor.post(self._guarded(function))

    def _ended(self, what: int, defer: bool = False) -> None:
        """The other side has ended: stop reading, and tell."""
        self._stop(READ)
        self._run_eventcb(BevEvent.BEV_EVENT_EOF | what, defer)

    def _failed(self, direction: int, error: OSError, defer: bool = False) -> None:
        """Reading or writing has failed: stop it, and tell."""
        self.error = error.with_traceback(None)  # it would hold this frame, and us with it
        self._stop(direction)
        self._run_eventcb(_ERROR_IN[direction], defer)

    def _destroy(self) -> None:
        """Go through all the steps, whatever one of them raises."""
        self._enabled = self._wanted = 0
        for timer in self._timers():
            timer.close()
        self._read_timer = self._write_timer = None
        try:
            self._on_close()
        finally:
            try:
                if self._limiter is not None:
                    self._limiter.close()
                    self._set_limiter(None)
            finally:
                try:
                    self.input.close()
                finally:
                    self.output.close()


def _require_base(base: object) -> None:
    if not isinstance(base, EventBase):
        raise ArgumentTypeError(f"an event base is wanted, not {type(base).__name__}")


def _require_buffer(buffer: object) -> None:
    if not isinstance(buffer, EvBuffer):
        raise ArgumentTypeError(f"a buffer is wanted, not {type(buffer).__name__}")
