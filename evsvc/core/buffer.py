"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

Bytes enter at the end and leave at the front.  `bytes` objects are taken as they are, whole chunks
move between buffers, and a partly read first chunk is an offset: nothing is copied until someone
asks for contiguous bytes.

Invariants
    * After a change, before returning: the cleanups of references that have left, the owner's
      hook, the callbacks, newest first.  All of them find the buffer whole, and may change it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from .changes import BufferCallback, CallbackEntry, CallbackList
from .chunks import ByteChain, Chunk, Reference, bytes_of, frozen_copy, join, release, view_of
from .errors import ArgumentError, StateError
from .flags import EolStyle
from .search import find, find_eol

if TYPE_CHECKING:
    from .util import Stream

MAX_READ_BYTES = 4096

# Up to this many bytes, joining small chunks for one send() costs less than gathering them with
# sendmsg(): 0.90 against 1.00 us for two chunks, and the gap grows with their number.
JOIN_BYTES = 64 * 1024
MAX_GATHER_CHUNKS = 128

_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")


class EvBuffer(ByteChain):
    """A byte queue (struct evbuffer), with `len()`, `bytes()` and truth as Python has them."""

    __slots__ = (
        "_callbacks",
        "_frozen_end",
        "_frozen_start",
        "_on_add",
        "_on_drain",
        "max_read",
    )

    def __init__(self, data: bytes | bytearray | memoryview = b"") -> None:
        super().__init__()
        self._frozen_start = False
        self._frozen_end = False
        self._callbacks = CallbackList()
        self._on_add: Callable[[], object] | None = None
        self._on_drain: Callable[[], object] | None = None
        self.max_read = MAX_READ_BYTES
        if data:
            self.add(data)

    def __bytes__(self) -> bytes:
        return self.copyout()

    def __repr__(self) -> str:
        return f"<EvBuffer {self._length} bytes in {len(self._chunks)} chunks>"

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; `bytes` are not copied (evbuffer_add).

        Raises StateError when the end is frozen, ArgumentTypeError for anything but bytes.
        """
        if self._frozen_end:
            self._require_end()
        self._append(data if type(data) is bytes else frozen_copy(data))

    def add_reference(
        self,
        data: bytes | bytearray | memoryview,
        cleanup: Callable[[Any, int, Any], object] | None = None,
        arg: object = None,
    ) -> None:
        """Append memory without copying it; the program must not change it meanwhile.

        `cleanup(data, length, arg)` is called once, when the last of its bytes has left, to
        whichever buffer they moved, or at once where there are none.  Raises StateError when the
        end is frozen, and does not call it then.  Source: evbuffer_add_reference.
        """
        self._require_end()
        reference = Reference(data, cleanup, arg)
        if len(reference) == 0:
            reference.release()
        else:
            self._append(reference)

    def add_buffer(self, source: EvBuffer) -> None:
        """Move everything from `source` to the end, without copying (evbuffer_add_buffer).

        When it is done, the callbacks of `source` are called first.  Raises StateError when this
        end or the start of `source` is frozen.
        """
        self._move_from(source, source._length)

    def _move_from(self, source: EvBuffer, size: int) -> int:
        size = min(size, source._length)
        if source is self or size == 0:
            return 0
        self._require_end()
        source._require_start()
        self._chunks.extend(source._take_chunks(size))
        self._length += size
        self._after_move(source, size)
        return size

    def prepend(self, data: bytes | bytearray | memoryview) -> None:
        """Insert bytes at the front (evbuffer_prepend).

        Raises StateError when the start is frozen, ArgumentTypeError for anything but bytes.
        """
        chunk = frozen_copy(data)
        size = len(chunk)
        if size == 0:
            return
        self._require_start()
        self._settle_first()
        self._chunks.appendleft(chunk)
        self._length += size
        self._after_add(size)

    def prepend_buffer(self, source: EvBuffer) -> None:
        """Move everything from `source` to the front, in its order (evbuffer_prepend_buffer).

        Raises StateError when the start of either is frozen.
        """
        size = source._length
        if source is self or size == 0:
            return
        self._require_start()
        source._require_start()
        self._settle_first()
        self._chunks.extendleft(reversed(source._take_chunks(size)))
        self._length += size
        self._after_move(source, size)

    def read(self, fd: int, howmuch: int = -1) -> int:
        """Read once from a descriptor, at most `howmuch` and `max_read` bytes; 0 is end of file.

        Raises BlockingIOError or another OSError as read(2), StateError when the end is frozen.
        Source: evbuffer_read.
        """
        self._require_end()
        data = os.read(fd, self.max_read if howmuch < 0 else min(howmuch, self.max_read))
        self._append(data)
        return len(data)

    def drain(self, size: int) -> None:
        """Drop `size` bytes from the front; more than there are is all (evbuffer_drain).

        Raises ArgumentError for a negative size, StateError when the start is frozen.
        """
        if size < 0:
            raise ArgumentError(f"cannot drain {size!r} bytes")
        if self._length == 0:
            return
        self._require_start()
        self._drop(size)

    def remove(self, size: int = -1) -> bytes:
        """Take up to `size` bytes (-1: all) from the front (evbuffer_remove).

        All of a single chunk is handed out as it lies, without a copy.  Raises StateError when
        the start is frozen and there is something to take.
        """
        if self._frozen_start and self._length:
            self._require_start()
        chunks = self._chunks
        if size < 0 and len(chunks) == 1 and not self._start:
            first = chunks[0]
            if type(first) is bytes:
                self._drop(self._length)
                return first
        data = self.copyout(size)
        if data:
            self._drop(len(data))
        return data

    def remove_buffer(self, destination: EvBuffer, size: int) -> int:
        """Move up to `size` bytes to the end of `destination`; return how many it were.

        Whole chunks move, only a part of one is copied.  Raises as `add_buffer` does.
        Source: evbuffer_remove_buffer.
        """
        return destination._move_from(self, max(size, 0))

    def copyout(self, size: int = -1, start: int = 0) -> bytes:
        """Return up to `size` bytes (-1: all) from position `start`, and keep them.

        Raises ArgumentError for a negative `start`.
        Source: evbuffer_copyout, evbuffer_copyout_from.
        """
        if start < 0:
            raise ArgumentError(f"a position is 0 or more: {start!r}")
        chunks = self._chunks
        if len(chunks) == 1:
            first = self._start + start
            stop = None if size < 0 else first + size
            data = bytes_of(chunks[0])
            if first == 0 and stop is None and type(data) is bytes:
                return data
            return bytes(data[first:stop])
        return b"".join(self._views(start, size))

    def readln(self, eol: int = EolStyle.EVBUFFER_EOL_CRLF) -> bytes | None:
        """Take the first line, without its end; None when no line is complete (evbuffer_readln).

        Raises ArgumentError for an unknown style, StateError when the start is frozen.
        """
        at, eol_length = self.search_eol(eol)
        if at < 0:
            return None
        self._require_start()
        line = self.copyout(at)
        self._drop(at + eol_length)
        return line

    def write(self, fd: int, howmuch: int = -1) -> int:
        """Write once to a descriptor, at most `howmuch` bytes, and drain what was taken.

        Returns 0 for an empty buffer.  Raises BlockingIOError or another OSError as write(2),
        StateError when the start is frozen.  Source: evbuffer_write_atmost.
        """
        self._require_start()
        limit = self._length if howmuch < 0 else min(howmuch, self._length)
        if limit == 0:
            return 0
        sent = os.writev(fd, self._gather(limit))
        self._drop(sent)
        return sent

    def pullup(self, size: int = -1) -> memoryview | None:
        """Make the first `size` bytes (-1: all) contiguous and return them, still in the buffer.

        None when there are fewer, or for 0.  Good until the next change (evbuffer_pullup).
        """
        if size < 0:
            size = self._length
        if size == 0 or size > self._length:
            return None
        if size <= self.contiguous_space:
            return view_of(self._chunks[0])[self._start : self._start + size]
        taken = self._take_chunks(size)
        head = join(taken)
        self._settle_first()
        self._chunks.appendleft(head)
        self._length += size
        release(taken)
        return memoryview(head)

    def peek(self, size: int = -1, start: int = 0) -> list[memoryview]:
        """Return views of whole chunks that hold at least `size` bytes (-1: all) from `start`.

        Nothing is copied, and the last view is not cut to `size`.  Good until the next change.
        Raises ArgumentError for a negative `start`.  Source: evbuffer_peek.
        """
        if start < 0:
            raise ArgumentError(f"a position is 0 or more: {start!r}")
        wanted = self._length if size < 0 else size
        views: list[memoryview] = []
        for view in self._views(start, -1):
            if wanted <= 0:
                break
            views.append(view)
            wanted -= len(view)
        return views

    def search(self, needle: bytes, start: int = 0, end: int | None = None) -> int:
        """Return the position of `needle` at or after `start` and wholly before `end`, or -1.

        Raises ArgumentError for a `start` past the end.
        Source: evbuffer_search, evbuffer_search_range.
        """
        if not 0 <= start <= self._length:
            raise ArgumentError(f"position {start!r} is not in 0..{self._length}")
        stop = self._length if end is None else min(end, self._length)
        return find(self._spans(start, max(stop - start, 0)), start, needle)

    def search_eol(self, eol: int, start: int = 0) -> tuple[int, int]:
        """Return where the next line ends and how long its end is; (-1, 0) when it does not.

        Raises ArgumentError for an unknown style.  Source: evbuffer_search_eol.
        """
        return find_eol(self, eol, start)

    def add_cb(self, callback: BufferCallback, arg: object = None) -> CallbackEntry:
        """Call `callback(buffer, info, arg)` after every change, before older callbacks.

        It may change the buffer, and is then called for that, too.  Source: evbuffer_add_cb.
        """
        return self._callbacks.register(callback, arg)

    def remove_cb_entry(self, entry: CallbackEntry) -> None:
        """Remove a callback by what `add_cb` returned.  Raises ArgumentError when it is not in."""
        self._callbacks.forget(entry)

    def remove_cb(self, callback: BufferCallback, arg: object = None) -> None:
        """Remove the newest callback with this function and argument (evbuffer_remove_cb).

        Raises ArgumentError when there is none.
        """
        self._callbacks.forget(self._callbacks.newest(callback, arg))

    def freeze(self, at_front: bool) -> None:
        """Refuse changes at the front (taking) or at the end (adding) (evbuffer_freeze)."""
        self._set_frozen(at_front, True)

    def unfreeze(self, at_front: bool) -> None:
        """Allow changes again (evbuffer_unfreeze)."""
        self._set_frozen(at_front, False)

    def close(self) -> None:
        """Drop the contents and the callbacks; references are released (evbuffer_free)."""
        self._callbacks.clear()
        self._on_add = self._on_drain = None
        self._drop(self._length)

    def _append(self, chunk: Chunk) -> None:
        size = len(chunk)
        if size:
            self._chunks.append(chunk)
            self._length += size
            if self._on_add is not None:
                self._on_add()
            if self._callbacks:
                self._callbacks.report(self, size, 0)

    def _drop(self, size: int) -> None:
        chunks = self._chunks
        if size == self._length and len(chunks) == 1 and type(chunks[0]) is bytes:
            chunks.clear()  # the usual case: all of one chunk was sent or taken
            self._start = 0
            self._length = 0
            if self._on_drain is not None:
                self._on_drain()
            if self._callbacks:
                self._callbacks.report(self, 0, size)
        elif size > 0 and self._length:
            self._drop_chunks(size)

    def _drop_chunks(self, size: int) -> None:
        gone: list[Chunk] | None
        if size >= self._length:
            size = self._length
            gone = [chunk for chunk in self._chunks if type(chunk) is not bytes]
            self._chunks.clear()
            self._start = 0
            self._length = 0
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

    def _send(self, stream: Stream, limit: int) -> int:
        """Send up to `limit` bytes with one system call; return how many were taken.

        They are still in the buffer: what draining calls must not pass for an error of the socket.
        """
        chunks = self._chunks
        data: bytes | memoryview
        if len(chunks) == 1 and not self._start and self._length <= limit:
            first = chunks[0]
            data = first.view if isinstance(first, Reference) else first
        elif self._length <= limit and self._length <= JOIN_BYTES:
            data = join(chunks)
            if self._start:
                data = memoryview(data)[self._start :]
        elif _HAS_SENDMSG:
            return stream.sendmsg(self._gather(limit))
        else:
            data = next(self._views(0, limit))
        return stream.send(data)

    def _set_frozen(self, at_front: bool, frozen: bool) -> None:
        if at_front:
            self._frozen_start = frozen
        else:
            self._frozen_end = frozen

    def _require_start(self) -> None:
        if self._frozen_start:
            raise StateError("the start of the buffer is frozen")

    def _require_end(self) -> None:
        if self._frozen_end:
            raise StateError("the end of the buffer is frozen")

    def _gather(self, limit: int) -> list[memoryview]:
        """Return what one gathering system call can take of the first `limit` bytes."""
        return list(islice(self._views(0, limit), MAX_GATHER_CHUNKS))

    def _after_add(self, size: int) -> None:
        if self._on_add is not None:
            self._on_add()
        if self._callbacks:
            self._callbacks.report(self, size, 0)

    def _after_drain(self, size: int) -> None:
        if self._on_drain is not None:
            self._on_drain()
        if self._callbacks:
            self._callbacks.report(self, 0, size)

    def _after_move(self, source: EvBuffer, size: int) -> None:
        try:
            source._after_drain(size)
        finally:
            self._after_add(size)
