"""Changes of an EvBuffer: where they are refused, and who is told of them.

Invariants
    * After a change, before returning: the cleanups of references that have left, the owner's
      hook, the callbacks, newest first.  All of them find the buffer whole, and may change it.
      What a callback raises goes on when all have been told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import StateError
from .changes import BufferCallback, CallbackEntry, CallbackList
from .chunks import release, require_callable
from .contents import Contents

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from .chunks import Chunk


class ObservedContents(Contents):
    """Contents that change at both ends, unless frozen, and tell of it."""

    __slots__ = (
        "_callbacks",
        "frozen_end",
        "frozen_start",
        "on_add",
        "on_drain",
    )

    frozen_start: bool
    frozen_end: bool
    _callbacks: CallbackList | None
    on_add: Callable[[], object] | None
    on_drain: Callable[[], object] | None

    def add_cb(self, callback: BufferCallback, arg: object = None) -> CallbackEntry:
        """Call `callback(buffer, info, arg)` after every change, before older callbacks.

        It may change the buffer, and is then called for that, too.  What it raises goes on to who
        changed the buffer, when the others have been called.  Raises ArgumentTypeError for what
        cannot be called.  Source: evbuffer_add_cb.
        """
        require_callable(callback)
        return self._add_entry(CallbackEntry(callback, arg))

    def remove_cb_entry(self, entry: CallbackEntry) -> None:
        """Remove a callback by what `add_cb` returned.

        Raises ArgumentError when it is not in.  Source: evbuffer_remove_cb_entry.
        """
        self._callback_list().forget(entry)

    def remove_cb(self, callback: BufferCallback, arg: object = None) -> None:
        """Remove the newest callback with this function and argument (evbuffer_remove_cb).

        Raises ArgumentError when there is none.
        """
        callbacks = self._callback_list()
        callbacks.forget(callbacks.newest(callback, arg))

    def cb_set_flags(self, entry: CallbackEntry, flags: int) -> None:
        """Turn EVBUFFER_CB_ENABLED on; changes before are not told (evbuffer_cb_set_flags).

        Raises ArgumentError for other flags, or an entry that is not of this buffer.
        """
        self._callback_list().require(entry)
        entry.switch(flags, enabled=True)

    def cb_clear_flags(self, entry: CallbackEntry, flags: int) -> None:
        """Turn EVBUFFER_CB_ENABLED off (evbuffer_cb_clear_flags).  Raises as `cb_set_flags`."""
        self._callback_list().require(entry)
        entry.switch(flags, enabled=False)

    def defer_callbacks(self, base: EventBase) -> None:
        """Have callbacks called by the loop of `base`: once, for all changes until then.

        The call has the size before the first change, and the sums.  What waits is dropped when
        the buffer is closed or its last callback removed.  Raises StateError when they are
        deferred already, or the base is closed, ArgumentTypeError for what is no base.
        Source: evbuffer_defer_callbacks.
        """
        callbacks = self._callback_list()
        if callbacks.deferred:
            raise StateError("the callbacks of the buffer are deferred already")
        callbacks.defer(base)

    def freeze(self, at_front: bool) -> None:
        """Refuse changes at the front (taking) or at the end (adding) (evbuffer_freeze)."""
        self._set_frozen(at_front, True)

    def unfreeze(self, at_front: bool) -> None:
        """Allow changes again (evbuffer_unfreeze)."""
        self._set_frozen(at_front, False)

    def _add_immediate_cb(self, callback: BufferCallback, arg: object = None) -> CallbackEntry:
        """Do as `add_cb` does, for one that is never deferred: a bufferevent's own."""
        return self._add_entry(CallbackEntry(callback, arg, immediate=True))

    def _add_entry(self, entry: CallbackEntry) -> CallbackEntry:
        self._callback_list().insert(0, entry)
        return entry

    def _callback_list(self) -> CallbackList:
        if self._callbacks is None:
            self._callbacks = CallbackList()
        return self._callbacks

    def _forget_callbacks(self) -> None:
        self.on_add = self.on_drain = None
        if self._callbacks is not None:
            self._callbacks.close()

    def put(self, chunk: Chunk) -> None:
        """Append a chunk, frozen or not, and tell."""
        size = len(chunk)
        if size:
            try:
                self._chunks.append(chunk)
            except AttributeError:  # the first ever
                self._own_chunks().append(chunk)
            self.length += size
            if self.on_add is not None:
                self.on_add()
            if self._callbacks:
                self._callbacks.report(self, size, 0)

    def drop(self, size: int) -> None:
        """Drop `size` bytes, which must be there, from the start, frozen or not, and tell."""
        chunks = self._chunks
        if size == self.length and len(chunks) == 1 and type(chunks[0]) is bytes:
            chunks.clear()  # the usual case: all of one chunk was sent or taken
            self._start = 0
            self.length = 0
            if self.on_drain is not None:
                self.on_drain()
            if self._callbacks:
                self._callbacks.report(self, 0, size)
        elif size > 0 and self.length:
            self._drop_chunks(size)

    def _drop_chunks(self, size: int) -> None:
        gone: list[Chunk] | None
        if size >= self.length:
            size = self.length
            gone = [chunk for chunk in self._chunks if type(chunk) is not bytes]
            self._chunks.clear()
            self._start = 0
            self.length = 0
            self._has_files = False
        else:
            gone = self._drop_some(size)
        if gone:
            self._release_and_tell(gone, size)
        else:
            self._after_drain(size)

    def _release_and_tell(self, gone: list[Chunk], size: int) -> None:
        try:
            release(gone)
        finally:
            self._after_drain(size)

    def _set_frozen(self, at_front: bool, frozen: bool) -> None:
        if at_front:
            self.frozen_start = frozen
        else:
            self.frozen_end = frozen

    def _require_start(self) -> None:
        if self.frozen_start:
            raise StateError("the start of the buffer is frozen")

    def _require_end(self) -> None:
        if self.frozen_end:
            raise StateError("the end of the buffer is frozen")

    def _after_add(self, size: int) -> None:
        if self.on_add is not None:
            self.on_add()
        if self._callbacks:
            self._callbacks.report(self, size, 0)

    def _after_drain(self, size: int) -> None:
        if self.on_drain is not None:
            self.on_drain()
        if self._callbacks:
            self._callbacks.report(self, 0, size)
