"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

Bytes enter at the end and leave at the front.  `bytes` objects are taken as they are, whole chunks
move between buffers, and a partly read first chunk is an offset: nothing is copied until someone
asks for contiguous bytes.

Invariants
    * No chunk is empty; `_length` is the sum of the chunks less `_start`.
    * `_start` bytes of the first chunk are gone already, fewer than it has.
    * After a change, before returning: first the owner's hook, then the callbacks, newest first.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .changes import BufferCallback, CallbackEntry, ChangeInfo
from .chunks import Chunk, Reference, bytes_of, frozen_copy, join_and_release, view_of
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


class EvBuffer:
    """A byte queue (struct evbuffer), with `len()`, `bytes()` and truth as Python has them."""

    __slots__ = (
        "_callbacks",
        "_chunks",
        "_frozen_end",
        "_frozen_start",
        "_length",
        "_on_add",
        "_on_drain",
        "_start",
        "max_read",
    )

    def __init__(self, data: bytes | bytearray | memoryview = b"") -> None:
        self._chunks: deque[Chunk] = deque()
        self._start = 0
        self._length = 0
        self._frozen_start = False
        self._frozen_end = False
        self._callbacks: list[CallbackEntry] = []
        self._on_add: Callable[[], object] | None = None
        self._on_drain: Callable[[], object] | None = None
        self.max_read = MAX_READ_BYTES
        if data:
            self.add(data)

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        return self.copyout()

    def __repr__(self) -> str:
        return f"<EvBuffer {self._length} bytes in {len(self._chunks)} chunks>"

    # ---- in ---------------------------------------------------------------------------------

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; `bytes` are not copied (evbuffer_add).

        Raises StateError when the end is frozen, ArgumentTypeError for anything but bytes.
        """
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

        The callbacks of `source` are called first.  Raises StateError when this end or the start
        of `source` is frozen.
        """
        self._move_from(source, source._length)

    def _move_from(self, source: EvBuffer, size: int) -> int:
        size = min(size, source._length)
        if source is self or size == 0:
            return 0
        self._require_end()
        source._require_start()
        moved = source._take_chunks(size)
        source._after_drain(size)
        self._chunks.extend(moved)
        self._length += size
        self._after_add(size)
        return size

    def prepend(self, data: bytes | bytearray | memoryview) -> None:
        """Insert bytes at the front (evbuffer_prepend).

        Raises StateError when the start is frozen.
        """
        if len(data) == 0:
            return
        self._require_start()
        self._settle_first()
        self._chunks.appendleft(frozen_copy(data))
        self._length += len(data)
        self._after_add(len(data))

    def prepend_buffer(self, source: EvBuffer) -> None:
        """Move everything from `source` to the front, in its order (evbuffer_prepend_buffer)."""
        size = source._length
        if source is self or size == 0:
            return
        self._require_start()
        source._require_start()
        moved = source._take_chunks(size)
        source._after_drain(size)
        self._settle_first()
        self._chunks.extendleft(reversed(moved))
        self._length += size
        self._after_add(size)

    def read(self, fd: int, howmuch: int = -1) -> int:
        """Read once from a descriptor, at most `howmuch` and `max_read` bytes; 0 is end of file.

        Raises BlockingIOError or another OSError as read(2), StateError when the end is frozen.
        Source: evbuffer_read.
        """
        self._require_end()
        data = os.read(fd, self.max_read if howmuch < 0 else min(howmuch, self.max_read))
        self._append(data)
        return len(data)

    # ---- out --------------------------------------------------------------------------------

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
        """Take up to `size` bytes (-1: all) from the front (evbuffer_remove)."""
        if self._length:
            self._require_start()
        data = self.copyout(size)
        if data:
            self._drop(len(data))
        return data

    def remove_buffer(self, destination: EvBuffer, size: int) -> int:
        """Move up to `size` bytes to the end of `destination`; return how many it were.

        Whole chunks move, only a part of one is copied.  Source: evbuffer_remove_buffer.
        """
        return destination._move_from(self, max(size, 0))

    def copyout(self, size: int = -1, start: int = 0) -> bytes:
        """Return up to `size` bytes (-1: all) from position `start`, and keep them.

        Source: evbuffer_copyout, evbuffer_copyout_from.
        """
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
        """Take the first line, without its end; None when no line is complete (evbuffer_readln)."""
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
        sent = os.writev(fd, list(self._views(0, limit))[:MAX_GATHER_CHUNKS])
        self._drop(sent)
        return sent

    # ---- look -------------------------------------------------------------------------------

    @property
    def contiguous_space(self) -> int:
        """How many bytes the first chunk holds (evbuffer_get_contiguous_space)."""
        return len(self._chunks[0]) - self._start if self._chunks else 0

    def pullup(self, size: int = -1) -> memoryview | None:
        """Make the first `size` bytes (-1: all) contiguous and return them, still in the buffer.

        None when there are fewer, or for 0.  Good until the next change (evbuffer_pullup).
        """
        if size < 0:
            size = self._length
        if size == 0 or size > self._length:
            return None
        if size > self.contiguous_space:
            head = join_and_release(self._take_chunks(size))
            self._chunks.appendleft(head)
            self._length += size
        return view_of(self._chunks[0])[self._start : self._start + size]

    def peek(self, size: int = -1, start: int = 0) -> list[memoryview]:
        """Return views of whole chunks that hold at least `size` bytes (-1: all) from `start`.

        Nothing is copied, and the last view is not cut to `size`.  Good until the next change.
        Source: evbuffer_peek.
        """
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

        Source: evbuffer_search, evbuffer_search_range.
        """
        if not 0 <= start <= self._length:
            raise ArgumentError(f"position {start!r} is not in 0..{self._length}")
        stop = self._length if end is None else min(end, self._length)
        return find(self._views(start, max(stop - start, 0)), start, needle)

    def search_eol(self, eol: int, start: int = 0) -> tuple[int, int]:
        """Return where the next line ends and how long its end is; (-1, 0) when it does not.

        Raises ArgumentError for an unknown style.  Source: evbuffer_search_eol.
        """
        return find_eol(self, eol, start)

    # ---- callbacks and freezing -------------------------------------------------------------

    def add_cb(self, callback: BufferCallback, arg: object = None) -> CallbackEntry:
        """Call `callback(buffer, info, arg)` after every change, before older callbacks.

        It may change the buffer, and is then called for that, too.  Source: evbuffer_add_cb.
        """
        entry = CallbackEntry(callback, arg)
        self._callbacks.insert(0, entry)
        return entry

    def remove_cb_entry(self, entry: CallbackEntry) -> None:
        """Remove a callback by what `add_cb` returned.  Raises ArgumentError when it is not in."""
        if entry not in self._callbacks:
            raise ArgumentError(f"not a callback of this buffer: {entry.callback!r}")
        self._callbacks.remove(entry)

    def remove_cb(self, callback: BufferCallback, arg: object = None) -> None:
        """Remove the newest callback with this function and argument (evbuffer_remove_cb)."""
        for entry in self._callbacks:
            if entry.callback == callback and entry.arg is arg:
                self._callbacks.remove(entry)
                return
        raise ArgumentError(f"not a callback of this buffer: {callback!r}")

    def freeze(self, at_front: bool) -> None:
        """Refuse changes at the front (taking) or at the end (adding) (evbuffer_freeze)."""
        if at_front:
            self._frozen_start = True
        else:
            self._frozen_end = True

    def unfreeze(self, at_front: bool) -> None:
        """Allow changes again (evbuffer_unfreeze)."""
        if at_front:
            self._frozen_start = False
        else:
            self._frozen_end = False

    def close(self) -> None:
        """Drop the contents and the callbacks; references are released (evbuffer_free)."""
        self._callbacks.clear()
        self._on_add = self._on_drain = None
        self._drop(self._length)

    # ---- what bufferevents use: past the freezing -------------------------------------------

    def _append(self, chunk: Chunk) -> None:
        size = len(chunk)
        if size:
            self._chunks.append(chunk)
            self._length += size
            self._after_add(size)

    def _drop(self, size: int) -> None:
        if size >= self._length:
            size = self._length
            if size == 0:
                return
            chunks = self._chunks
            for chunk in chunks:
                if isinstance(chunk, Reference):
                    chunk.release()
            chunks.clear()
            self._start = 0
            self._length = 0
        else:
            self._drop_some(size)
        self._after_drain(size)

    def _drop_some(self, size: int) -> None:
        chunks = self._chunks
        self._length -= size
        size += self._start
        while size and size >= len(chunks[0]):
            chunk = chunks.popleft()
            size -= len(chunk)
            if isinstance(chunk, Reference):
                chunk.release()
        self._start = size

    def _send(self, stream: Stream, limit: int) -> int:
        """Send up to `limit` bytes with one system call; drain and return what was taken."""
        chunks = self._chunks
        data: bytes | memoryview
        if len(chunks) == 1 and self._start == 0 and self._length <= limit:
            data = bytes_of(chunks[0])
        elif self._length <= limit and self._length <= JOIN_BYTES:
            # What the kernel leaves of it stays joined, so no byte is joined twice.
            data = join_and_release(self._take_chunks(self._length))
            chunks.append(data)
            self._length = len(data)
        elif _HAS_SENDMSG:
            sent = stream.sendmsg(list(self._views(0, limit))[:MAX_GATHER_CHUNKS])
            self._drop(sent)
            return sent
        else:
            data = next(self._views(0, limit))
        sent = stream.send(data)
        self._drop(sent)
        return sent

    # ---- inside -----------------------------------------------------------------------------

    def _require_start(self) -> None:
        if self._frozen_start:
            raise StateError("the start of the buffer is frozen")

    def _require_end(self) -> None:
        if self._frozen_end:
            raise StateError("the end of the buffer is frozen")

    def _views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes from `start`, at most `size` (-1: all), chunk by chunk."""
        if size < 0:
            size = self._length
        skip = start + self._start
        for chunk in self._chunks:
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            if size <= 0:
                return
            view = view_of(chunk)[skip : skip + size]
            skip = 0
            size -= len(view)
            yield view

    def _settle_first(self) -> None:
        """Cut what is gone off the first chunk, so that something can stand before it."""
        if self._start:
            first = self._chunks[0]
            if isinstance(first, Reference):
                first.cut(self._start)
            else:
                self._chunks[0] = first[self._start :]
            self._start = 0

    def _take_chunks(self, size: int) -> list[Chunk]:
        """Take `size` bytes out as chunks, splitting the last by copy; reports nothing."""
        self._settle_first()
        chunks = self._chunks
        self._length -= size
        taken: list[Chunk] = []
        while size and len(chunks[0]) <= size:
            chunk = chunks.popleft()
            size -= len(chunk)
            taken.append(chunk)
        if size:
            taken.append(bytes(view_of(chunks[0])[:size]))
            self._start = size
        return taken

    def _after_add(self, size: int) -> None:
        if self._on_add is not None:
            self._on_add()
        if self._callbacks:
            self._report(size, 0)

    def _after_drain(self, size: int) -> None:
        if self._on_drain is not None:
            self._on_drain()
        if self._callbacks:
            self._report(0, size)

    def _report(self, added: int, deleted: int) -> None:
        info = ChangeInfo(self._length - added + deleted, added, deleted)
        for entry in tuple(self._callbacks):
            if entry.enabled and entry in self._callbacks:
                entry.callback(self, info, entry.arg)
