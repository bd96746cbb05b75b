"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

Bytes enter at the end and leave at the front.  `bytes` objects are taken as they are, whole chunks
move between buffers, and a partly read first chunk is an offset: nothing is copied until someone
asks for contiguous bytes.

Invariants
    * After a change, before returning: the cleanups of references that have left, the owner's
      hook, the callbacks, newest first.  All of them find the buffer whole, and may change it.
      What a callback raises goes on when all have been told.
    * No code of the program runs while a lock of ours is held.  So a buffer with a lock calls the
      owner's hook with it, and has cleanups and callbacks called when this thread has let go of
      all such locks: as the method returns, or, between `lock` and `unlock` of the program, at the
      `unlock`.  What is the program's to convert or to iterate is converted before the lock.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import TYPE_CHECKING

from ..checks import require_callable, whole_number
from ..closing import Closing
from ..descriptors import fd_of
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import BufferFlag, EolStyle, FileSegmentFlag, PtrHow
from ..thread import CallbackLock, both_held, holding_lock
from .chain import NO_CHUNKS, Chain
from .chunks import Bytes, Chunk, CleanupCallback, Reference, frozen_copy, reference_to, release
from .observers import BufferCallback, CallbackEntry, Observers
from .search import EvBufferPtr, checked_position, find_eol, position_within, ptr_at, search
from .segment import FilePiece, FileSegment
from .space import Space
from .transfer import (
    FIRST_READ_BYTES,
    MAX_READ_BYTES,
    MOST_MAX_READ_BYTES,
    next_read_bytes,
    send_from,
    write_from,
)

if TYPE_CHECKING:
    from ..descriptors import HasFileno, Stream
    from ..reactor.base import EventBase
    from ..thread import Lock
    from .segment import OpenFile

# Formatted text joins the chunk before it up to this size, so that many small pieces neither
# cost an object each nor a place in a gathering write.
PACK_BYTES = 2048

_OF_A_LOCK = ("acquire", "release", "__enter__", "__exit__")


class EvBuffer(Chain, Closing):
    """A byte queue (struct evbuffer), with `len()`, `bytes()` and truth as Python has them.

    For the owner, which is what a bufferevent is to its input and output; these work on frozen
    ends, too, and the owner holds the lock, where there is one:

    `length`                      how many bytes there are;
    `on_add`, `on_drain`          called when bytes were added or have left, before the callbacks;
    `put(chunk)`                  appends bytes;
    `drop(size)`                  drops from the front;
    `send(stream, limit)`         offers the front to a socket;
    `views(start, size)`          shows bytes, a bounded part at a time;
    `take_from(source, size)`     moves from another buffer;
    `frozen_start`, `frozen_end`  whether the program may not take, or not add.

    What is the chain's besides (`chunks`, `start`, `spans`...) is for this package alone.
    """

    __slots__ = (
        "_lock",
        "_max_read",
        "_observers",
        "_read_bytes",
        "_space",
        "frozen_end",
        "frozen_start",
        "on_add",
        "on_drain",
    )

    _lock: CallbackLock | None
    _observers: Observers | None
    _space: Space | None
    on_add: Callable[[], object] | None
    on_drain: Callable[[], object] | None

    def __init__(self, data: Bytes = b"") -> None:
        # Of the chain, too: a call of its own would cost a fifth.
        self.chunks = NO_CHUNKS
        self.start = self.length = self.files = 0
        self.sealed = self.frozen_start = self.frozen_end = False
        self.place = self.clear_of = None
        self._observers = self.on_add = self.on_drain = None
        self._max_read = MAX_READ_BYTES
        self._read_bytes = FIRST_READ_BYTES
        self._lock = self._space = None
        if type(data) is not bytes:  # what is nothing, of another type, is refused, too
            self.add(data)
        elif data:
            self.own_chunks().append(data)
            self.length = len(data)

    def __bytes__(self) -> bytes:
        return self.copyout()

    def __repr__(self) -> str:
        return f"<EvBuffer {self.length} bytes in {len(self.chunks)} chunks>"

    @property
    def contiguous_space(self) -> int:
        """How many bytes the first chunk holds (evbuffer_get_contiguous_space)."""
        return len(self.chunks[0]) - self.start if self.chunks else 0

    def add(self, data: Bytes) -> None:
        """Append bytes; `bytes` are not copied (evbuffer_add).

        Raises StateError when the end is frozen, ArgumentTypeError for anything but bytes,
        ArgumentError for a memoryview that is released.
        """
        if self.frozen_end:
            self._require_end()
        self.put(data if type(data) is bytes else frozen_copy(data))

    def add_iovec(self, pieces: Iterable[Bytes]) -> int:
        """Append several pieces, each as a change of its own; return how many bytes it were.

        That is fewer than there are when a callback freezes the end meanwhile.  Raises as `add`,
        with nothing appended.  Source: evbuffer_add_iovec.
        """
        if not isinstance(pieces, Iterable):
            raise ArgumentTypeError(f"pieces of bytes are wanted, not {pieces!r}")
        return self._add_all([frozen_copy(piece) for piece in pieces])

    def add_printf(self, fmt: str | bytes, *args: object) -> int:
        """Append `fmt % args`, a str as UTF-8, as one change; return its length in bytes.

        Raises StateError when the end is frozen, ArgumentTypeError or ArgumentError when the
        arguments do not fit the format.  Source: evbuffer_add_printf, evbuffer_add_vprintf.
        """
        data = _formatted(fmt, args)
        self._add_text(data)
        return len(data)

    def add_reference(
        self, data: Bytes, cleanup: CleanupCallback | None = None, arg: object = None
    ) -> None:
        """Append memory without copying it; the program must not change it meanwhile.

        `cleanup(data, length, arg)` is called once, when the last of its bytes has left, to
        whichever buffer they moved, or at once where there are none.  Raises StateError when the
        end is frozen, ArgumentTypeError when it cannot be called, and does not call it then.
        Source: evbuffer_add_reference.
        """
        self.add_reference_with_offset(data, 0, -1, cleanup, arg)

    def add_reference_with_offset(
        self,
        data: Bytes,
        offset: int,
        length: int = -1,
        cleanup: CleanupCallback | None = None,
        arg: object = None,
    ) -> None:
        """Append `length` bytes (-1: the rest) of `data` from `offset`, as `add_reference` does.

        The cleanup gets `data` itself, and `offset + length`.  Raises ArgumentError for a range
        that is not in `data`.  Source: evbuffer_add_reference_with_offset.
        """
        self._require_end()
        self._append_or_release(reference_to(data, offset, length, cleanup, arg))

    def add_buffer(self, source: EvBuffer) -> None:
        """Move everything from `source` to the end, without copying (evbuffer_add_buffer).

        When it is done, the callbacks of `source` are called first.  Raises StateError when this
        end or the start of `source` is frozen, ArgumentTypeError for what is no buffer.
        """
        _require_buffer(source)
        _move(source, self, -1)

    def add_buffer_reference(self, source: EvBuffer) -> None:
        """Append what is in `source` without copying, and leave it there, too.

        Either may then be changed and closed before the other; cleanups wait for both.  Raises
        StateError when the end is frozen, ArgumentError for the buffer itself, ArgumentTypeError
        for what is no buffer.  Source: evbuffer_add_buffer_reference.
        """
        _require_buffer(source)
        if source._lock is None and self._lock is None:
            _share(source, self)
        else:
            with both_held(source._lock, self._lock):
                _share(source, self)

    def add_file(self, file: int | OpenFile, offset: int = 0, length: int = -1) -> None:
        """Append a range of a file (-1: up to its end) and take over the descriptor.

        It is closed when the last of these bytes has left.  When this raises, it stays open:
        StateError when the end is frozen, else as FileSegment does.  Source: evbuffer_add_file.
        """
        self._require_end()
        with FileSegment(file, offset, length, FileSegmentFlag.EVBUF_FS_CLOSE_ON_FREE) as segment:
            piece = segment.piece(0, -1)
        self._append_file(piece)

    def add_file_segment(self, segment: FileSegment, offset: int = 0, length: int = -1) -> None:
        """Append part of a file segment, `length` bytes (-1: the rest) from its `offset`.

        The segment may be in many buffers.  Raises ArgumentError for a range outside of it,
        StateError when it is closed or the end frozen, ArgumentTypeError for what is no segment.
        Source: evbuffer_add_file_segment.
        """
        self._require_end()
        if not isinstance(segment, FileSegment):
            raise ArgumentTypeError(f"a file segment is wanted, not {segment!r}")
        self._append_file(segment.piece(offset, length))

    def prepend(self, data: Bytes) -> None:
        """Insert bytes at the front (evbuffer_prepend).

        Raises StateError when the start is frozen, ArgumentTypeError for anything but bytes.
        """
        chunk = frozen_copy(data)
        if chunk:
            self._require_start()
            self.put_before([chunk], len(chunk))
            self._after_add(len(chunk))

    def prepend_buffer(self, source: EvBuffer) -> None:
        """Move everything from `source` to the front, in its order (evbuffer_prepend_buffer).

        Raises StateError when the start of either is frozen, ArgumentTypeError for what is no
        buffer.
        """
        _require_buffer(source)
        _move(source, self, -1, at_front=True)

    def drain(self, size: int) -> None:
        """Drop `size` bytes from the front; more than there are is all (evbuffer_drain).

        Raises ArgumentError for a negative size, ArgumentTypeError for what is no whole number,
        StateError when the start is frozen.
        """
        if type(size) is not int:
            size = int(whole_number(size, "a size"))
        if size < 0:
            raise ArgumentError(f"cannot drain {size!r} bytes")
        if self.length == 0:
            return
        self._require_start()
        self.drop(size)

    def remove(self, size: int = -1) -> bytes:
        """Take up to `size` bytes (-1: all) from the front (evbuffer_remove).

        All of a single chunk is handed out as it lies, without a copy.  Raises StateError when
        the start is frozen and there is something to take, ArgumentTypeError for what is no whole
        number.
        """
        if type(size) is not int:
            size = int(whole_number(size, "a size"))
        if self.frozen_start and self.length:
            self._require_start()
        chunks = self.chunks
        if size < 0 and len(chunks) == 1 and not self.start:
            first = chunks[0]
            if type(first) is bytes:
                self.drop(self.length)
                return first
        data = self.copyout(size)
        if data:
            self.drop(len(data))
        return data

    def remove_buffer(self, destination: EvBuffer, size: int) -> int:
        """Move up to `size` bytes to the end of `destination`; return how many it were.

        Whole chunks move, only a part of one is copied.  Raises as `add_buffer` does, and
        ArgumentTypeError for a size that is no whole number.  Source: evbuffer_remove_buffer.
        """
        _require_buffer(destination)
        size = int(whole_number(size, "a size"))
        return _move(self, destination, max(size, 0))

    def readln(self, eol: int = EolStyle.EVBUFFER_EOL_CRLF) -> bytes | None:
        """Take the first line, without its end; None when no line is complete (evbuffer_readln).

        Raises ArgumentError for an unknown style, StateError when the start is frozen.
        """
        at, eol_length = find_eol(self, eol, 0)
        if at < 0:
            return None
        self._require_start()
        line = self.copyout(at)
        self.drop(at + eol_length)
        return line

    def copyout(self, size: int = -1, start: int = 0) -> bytes:
        """Return up to `size` bytes (-1: all) from position `start`, and keep them.

        Raises ArgumentError for a negative `start`, ArgumentTypeError for what is no whole number,
        StateError for a position that has ended, and for a file in a buffer with
        EVBUFFER_FLAG_DRAINS_TO_FD.  Source: evbuffer_copyout, evbuffer_copyout_from.
        """
        if type(size) is not int:
            size = whole_number(size, "a size")
        if type(start) is not int or start < 0:
            start = checked_position(self, start)
        chunks = self.chunks
        if len(chunks) == 1:
            first = chunks[0]
            if type(first) is bytes:  # slicing all of it copies nothing
                begin = self.start + start
                return first[begin : None if size < 0 else begin + size]
        return b"".join([data[first:last] for data, first, last in self.spans(start, size)])

    def peek(self, size: int = -1, start: int = 0) -> list[memoryview]:
        """Return views of whole chunks that hold at least `size` bytes (-1: all) from `start`.

        Nothing is copied, and the last view is not cut to `size`.  Good until the next change.
        Raises as `copyout`.  Source: evbuffer_peek.
        """
        size = whole_number(size, "a size")
        start = checked_position(self, start)
        wanted = self.length if size < 0 else size
        views: list[memoryview] = []
        for data, first, last in self.spans(start, -1 if wanted > 0 else 0):
            views.append(memoryview(data)[first:last])
            wanted -= last - first
            if wanted <= 0:  # before the next is looked at, which may be a file
                break
        return views

    def pullup(self, size: int = -1) -> memoryview | None:
        """Make the first `size` bytes (-1: all) contiguous and return them, still in the buffer.

        None when there are fewer, or for 0.  Good until the next change.  Raises StateError for a
        file in a buffer with EVBUFFER_FLAG_DRAINS_TO_FD, ArgumentTypeError for what is no whole
        number.  Source: evbuffer_pullup.
        """
        if type(size) is not int:
            size = int(whole_number(size, "a size"))
        if size < 0:
            size = self.length
        if size == 0 or size > self.length:
            return None
        first = self.chunks[0]
        if isinstance(first, FilePiece) or size > len(first) - self.start:
            return self._gather_front(size)
        data, begin, end = next(self.spans(0, size))
        return memoryview(data)[begin:end]

    def search(self, needle: Bytes, start: int = 0, end: int | None = None) -> EvBufferPtr:
        """Return the position of `needle` at or after `start` and wholly before `end`, or -1.

        Raises ArgumentError for a `start` past the end, ArgumentTypeError for a needle that is not
        bytes, and else as `copyout`.  Source: evbuffer_search, evbuffer_search_range.
        """
        needle = frozen_copy(needle)
        first = position_within(self, start)
        stop = None if end is None else checked_position(self, end)
        return EvBufferPtr(search(self, needle, first, stop), self)

    def search_eol(
        self, eol: int = EolStyle.EVBUFFER_EOL_CRLF, start: int = 0
    ) -> tuple[EvBufferPtr, int]:
        """Return where the next line ends and how long its end is; (-1, 0) when it does not.

        Raises ArgumentError for an unknown style, and else as `search`.
        Source: evbuffer_search_eol.
        """
        at, eol_length = find_eol(self, eol, position_within(self, start))
        return EvBufferPtr(at, self), eol_length

    def ptr_set(
        self,
        position: int,
        how: int = PtrHow.EVBUFFER_PTR_SET,
        ptr: EvBufferPtr | None = None,
    ) -> EvBufferPtr:
        """Return a position: `position` itself, or with EVBUFFER_PTR_ADD so many after `ptr`.

        Just past the last byte is one, too.  It ends with the next change of the buffer.  Raises
        ArgumentError beyond, for an unknown `how` or another buffer's `ptr`, StateError for a
        `ptr` that has ended.  Source: evbuffer_ptr_set.
        """
        return ptr_at(self, position, how, ptr)

    @property
    def max_read(self) -> int:
        """The most bytes that one `read` brings, at first 4096.

        Setting raises ArgumentError outside of 1 to 2**31 - 1, ArgumentTypeError for what is no
        whole number.
        Source: evbuffer_set_max_read, evbuffer_get_max_read.
        """
        return self._max_read

    @max_read.setter
    def max_read(self, size: int) -> None:
        size = whole_number(size, "max_read")
        if not 0 < size <= MOST_MAX_READ_BYTES:
            raise ArgumentError(f"max_read is 1..{MOST_MAX_READ_BYTES}: {size!r}")
        self._max_read = size

    def read(self, fd: int | HasFileno, howmuch: int = -1) -> int:
        """Read once from a descriptor, at most `howmuch` and `max_read` bytes; 0 is end of file.

        Without `howmuch` the size adapts: twice as much after a read that got all it asked for,
        half as much after one that got less than a quarter.  Raises BlockingIOError or another
        OSError as read(2), StateError when the end is frozen, ArgumentTypeError for a `howmuch`
        that is no whole number.  Source: evbuffer_read.
        """
        howmuch = whole_number(howmuch, "howmuch")
        return self._read(fd_of(fd), howmuch)

    def write(self, fd: int | HasFileno, howmuch: int = -1) -> int:
        """Write once to a descriptor, at most `howmuch` bytes, and drain what was taken.

        One call takes up to 128 chunks, or from a file: by sendfile(), or else 64 KiB.  Returns 0
        for an empty buffer.  Raises BlockingIOError or another OSError as write(2), SocketError
        when a file cannot be read, StateError when the start is frozen, ArgumentTypeError for a
        `howmuch` that is no whole number.
        Source: evbuffer_write, evbuffer_write_atmost.
        """
        howmuch = whole_number(howmuch, "howmuch")
        return self._write(fd_of(fd), howmuch)

    def expand(self, size: int) -> None:
        """Have memory for `size` more bytes in one area ready for `reserve_space`.

        Raises ArgumentError for a negative size, or one that there is no memory for,
        ArgumentTypeError for what is no whole number.  Source: evbuffer_expand.
        """
        if whole_number(size, "a size") < 0:
            raise ArgumentError(f"cannot make room for {size!r} bytes")
        self._own_space().expand(size)

    def reserve_space(self, size: int, most_areas: int = 1) -> list[memoryview]:
        """Return writable memory for `size` bytes or more, in at most `most_areas` areas.

        It is no part of the buffer before `commit_space`, and no longer reserved after any other
        change; reserved twice, it is the same.  Raises StateError when the end is frozen,
        ArgumentError for a size below 0 or that there is no memory for, or for no area,
        ArgumentTypeError for what is no whole number.  Source: evbuffer_reserve_space.
        """
        self._require_end()
        whole_number(size, "a size")
        whole_number(most_areas, "the number of areas")
        if size < 0 or most_areas < 1:
            raise ArgumentError(f"cannot reserve {size!r} bytes in {most_areas!r} areas")
        return self._own_space().reserve(self, size, most_areas)

    def commit_space(self, *sizes: int) -> None:
        """Append the first bytes of what is reserved: so many of each area, from the first on.

        Raises StateError when the end is frozen, or the buffer has changed since; ArgumentError
        for a size that is not in its area, or more areas than there are, ArgumentTypeError for
        what is no whole number.  Nothing is appended then.  Source: evbuffer_commit_space.
        """
        self._require_end()
        added = self._own_space().commit(self, sizes)
        if added:
            self._after_add(added)

    def set_flags(self, flags: int) -> None:
        """Set EVBUFFER_FLAG_DRAINS_TO_FD: all that comes in is only written to descriptors.

        Files are then left to sendfile(), and looking at their bytes raises StateError instead
        of loading them.  Raises ArgumentError for other flags, ArgumentTypeError for
        what is no number.  Source: evbuffer_set_flags.
        """
        if _has_drains_flag(flags):
            self.sealed = True

    def clear_flags(self, flags: int) -> None:
        """Take the flag back (evbuffer_clear_flags).  Raises as `set_flags`."""
        if _has_drains_flag(flags):
            self.sealed = False

    def add_cb(self, callback: BufferCallback, arg: object = None) -> CallbackEntry:
        """Call `callback(buffer, info, arg)` after every change, before older callbacks.

        It may change the buffer, and is then called for that, too.  What it raises goes on to who
        changed the buffer, when the others have been called.  Raises ArgumentTypeError for what
        cannot be called.  Source: evbuffer_add_cb.
        """
        require_callable(callback)
        return self._own_observers().add(callback, arg)

    def remove_cb_entry(self, entry: CallbackEntry) -> None:
        """Remove a callback by what `add_cb` returned.

        Raises ArgumentError when it is not in.  Source: evbuffer_remove_cb_entry.
        """
        self._own_observers().remove(entry)

    def remove_cb(self, callback: BufferCallback, arg: object = None) -> None:
        """Remove the newest callback with this function and argument (evbuffer_remove_cb).

        Raises ArgumentError when there is none.
        """
        require_callable(callback)
        observers = self._own_observers()
        observers.remove(observers.newest(callback, arg))

    def cb_set_flags(self, entry: CallbackEntry, flags: int) -> None:
        """Turn EVBUFFER_CB_ENABLED on; changes before are not told (evbuffer_cb_set_flags).

        Raises ArgumentError for other flags, or an entry that is not of this buffer.
        """
        self._own_observers().require(entry)
        entry.switch(flags, enabled=True)

    def cb_clear_flags(self, entry: CallbackEntry, flags: int) -> None:
        """Turn EVBUFFER_CB_ENABLED off (evbuffer_cb_clear_flags).  Raises as `cb_set_flags`."""
        self._own_observers().require(entry)
        entry.switch(flags, enabled=False)

    def defer_callbacks(self, base: EventBase) -> None:
        """Have callbacks called by the loop of `base`: once, for all changes until then.

        The call has the size before the first change, and the sums.  What waits is dropped when
        the buffer is closed or its last callback removed.  Raises StateError when they are
        deferred already, or the base is closed, ArgumentTypeError for what is no base.
        Source: evbuffer_defer_callbacks.
        """
        self._own_observers().defer(base)

    def freeze(self, at_front: bool) -> None:
        """Refuse changes at the front (taking) or at the end (adding) (evbuffer_freeze)."""
        if at_front:
            self.frozen_start = True
        else:
            self.frozen_end = True

    def unfreeze(self, at_front: bool) -> None:
        """Allow changes again (evbuffer_unfreeze)."""
        if at_front:
            self.frozen_start = False
        else:
            self.frozen_end = False

    def enable_locking(self, lock: Lock | None = None) -> None:
        """Have every method hold a lock: `lock`, which must be recursive, or a new one.

        Callbacks and cleanups run without it, when the method that caused them is done.  Call this
        before another thread has the buffer or anyone keeps one of its methods.  Raises StateError
        when it is enabled already, and for a subclass of the program's, whose methods would be
        lost; ArgumentTypeError for what is no lock.  Source: evbuffer_enable_locking.
        """
        if self._lock is not None:
            raise StateError("the buffer has a lock already")
        if type(self) is not EvBuffer:
            raise StateError(f"only an EvBuffer itself can have a lock, no {type(self).__name__}")
        if lock is not None and not all(hasattr(lock, name) for name in _OF_A_LOCK):
            raise ArgumentTypeError(f"a lock is wanted, not {lock!r}")
        self._lock = lock if isinstance(lock, CallbackLock) else CallbackLock(lock)
        # libevent enables it on a buffer that is there, and so do we.  Nearly all have no lock: a
        # test for one in every method would cost those 10 % of an `add` and a `remove`.
        self.__class__ = LockedEvBuffer

    def lock(self) -> None:
        """Hold the lock over several calls; nothing without locking (evbuffer_lock).

        Callbacks and cleanups, of this buffer and of others that this thread changes meanwhile,
        wait until `unlock`.  Who holds one and moves bytes to another has to mind the order, which
        is else ours.
        """
        if self._lock is not None:
            self._lock.acquire()

    def unlock(self) -> None:
        """Let go of it, and have called what waits for that (evbuffer_unlock).

        Raises StateError when this thread does not hold it, and what a callback raises.
        """
        if self._lock is not None:
            self._lock.release()

    def close(self) -> None:
        """Drop the contents and the callbacks; references are released (evbuffer_free)."""
        self.on_add = self.on_drain = None
        if self._observers is not None:
            self._observers.close()
        self._space = None
        self.drop(self.length)

    def put(self, chunk: Chunk) -> None:
        """Append bytes or a reference, frozen or not, and tell."""
        size = len(chunk)
        if size:
            try:
                self.chunks.append(chunk)
            except AttributeError:  # the first ever
                self.own_chunks().append(chunk)
            self.length += size
            if self.on_add is not None:
                self.on_add()
            if self._observers is not None:
                self._observers.report(self, size, 0)

    def drop(self, size: int) -> None:
        """Drop `size` bytes, which must be there, from the start, frozen or not, and tell."""
        chunks = self.chunks
        if size == self.length and len(chunks) == 1 and type(chunks[0]) is bytes:
            chunks.clear()  # the usual case: all of one chunk was sent or taken
            self.start = 0
            self.length = 0
            if self.on_drain is not None:
                self.on_drain()
            if self._observers is not None:
                self._observers.report(self, 0, size)
        elif size > 0 and self.length:
            gone: list[Chunk] | None
            if size >= self.length:
                size = self.length
                gone = self.drop_all()
            else:
                gone = self.drop_some(size)
            if not gone:
                self._after_drain(size)
                return
            try:
                release(gone)
            finally:
                self._after_drain(size)

    def send(self, stream: Stream, limit: int) -> int:
        """Send up to `limit` bytes, of those that there are, with one system call.

        Returns how many were taken.  They are still in the buffer: what draining calls must not
        pass for an error of the socket.  Raises OSError as send(2), SocketError when the bytes of a
        file cannot be had.
        """
        return send_from(self, stream, limit)

    def take_from(self, source: EvBuffer, size: int) -> int:
        """Move up to `size` bytes from the start of `source` to the end, frozen or not.

        Whole chunks move without a copy.  Returns how many bytes it were.
        """
        return _move(source, self, max(size, 0), frozen=True)

    def _add_all(self, pieces: list[bytes]) -> int:
        self._require_end()
        added = 0
        for piece in pieces:
            if self.frozen_end:
                break
            self.put(piece)
            added += len(piece)
        return added

    def _add_text(self, data: bytes) -> None:
        self._require_end()
        last = self.chunks[-1] if self.chunks else None
        if data and isinstance(last, bytes) and len(last) + len(data) <= PACK_BYTES:
            self.chunks[-1] = last + data
            self.length += len(data)
            self._after_add(len(data))
        else:
            self.put(data)

    def _gather_front(self, size: int) -> memoryview:
        """Have the first `size` bytes in a chunk of their own."""
        head = b"".join([data[first:last] for data, first, last in self.spans(0, size)])
        gone = self.drop_all() if size == self.length else self.drop_some(size)
        self.put_before([head], size)
        if gone:
            release(gone)
        return memoryview(head)

    def _read(self, fd: int, howmuch: int) -> int:
        self._require_end()
        limit = self._max_read
        if howmuch >= 0:
            data = os.read(fd, min(howmuch, limit))
        else:
            data = os.read(fd, min(self._read_bytes, limit))
            self._read_bytes = next_read_bytes(self._read_bytes, len(data), limit)
        self.put(data)
        return len(data)

    def _write(self, fd: int, howmuch: int) -> int:
        self._require_start()
        limit = self.length if howmuch < 0 else min(howmuch, self.length)
        if limit == 0:
            return 0
        sent = write_from(self, fd, limit)
        self.drop(sent)
        return sent

    def _own_observers(self) -> Observers:
        if self._observers is None:
            self._observers = Observers()
        return self._observers

    def _own_space(self) -> Space:
        if self._space is None:
            self._space = Space()
        return self._space

    def _append_file(self, piece: FilePiece) -> None:
        if len(piece):
            self.files += 1
        self._append_or_release(piece)

    def _append_or_release(self, chunk: Reference | FilePiece) -> None:
        if len(chunk):
            self.put(chunk)
        else:
            chunk.release()

    def _require_start(self) -> None:
        if self.frozen_start:
            raise StateError("the start of the buffer is frozen")

    def _require_end(self) -> None:
        if self.frozen_end:
            raise StateError("the end of the buffer is frozen")

    def _after_add(self, size: int) -> None:
        if self.on_add is not None:
            self.on_add()
        if self._observers is not None:
            self._observers.report(self, size, 0)

    def _after_drain(self, size: int) -> None:
        if self.on_drain is not None:
            self.on_drain()
        if self._observers is not None:
            self._observers.report(self, 0, size)


def _move(
    source: EvBuffer,
    target: EvBuffer,
    size: int,
    at_front: bool = False,
    frozen: bool = False,
    held: bool = False,
) -> int:
    """Move up to `size` bytes (-1: all), then tell both; the source's callbacks are first.

    frozen: the ends may be.  held: the locks are.
    """
    if not held and (source._lock is not None or target._lock is not None):
        with both_held(source._lock, target._lock):
            return _move(source, target, size, at_front, frozen, held=True)
    if size < 0 or size > source.length:
        size = source.length
    if target is source or size == 0:
        return 0
    if not frozen:
        if source.frozen_start:
            source._require_start()
        if at_front:
            target._require_start()
        elif target.frozen_end:
            target._require_end()
    target.take(source, size, at_front)
    if source.on_drain is None and source._observers is None:
        target._after_add(size)
        return size
    try:
        source._after_drain(size)
    finally:
        target._after_add(size)
    return size


def _share(source: EvBuffer, target: EvBuffer) -> None:
    size = source.length
    if size == 0:
        return
    if source is target:
        raise ArgumentError(f"a buffer cannot reference itself: {target!r}")
    target._require_end()
    target.share(source)
    target._after_add(size)


def _require_buffer(buffer: object) -> None:
    if not isinstance(buffer, EvBuffer):
        raise ArgumentTypeError(f"a buffer is wanted, not {buffer!r}")


def _has_drains_flag(flags: int) -> bool:
    whole_number(flags, "flags")
    if int(flags) & ~int(BufferFlag.EVBUFFER_FLAG_DRAINS_TO_FD):
        raise ArgumentError(f"unknown flags of a buffer: {int(flags):#x}")
    return flags != 0


def _formatted(fmt: str | bytes, args: tuple[object, ...]) -> bytes:
    try:
        text = fmt % args
        return text.encode() if isinstance(text, str) else bytes(text)
    except TypeError as exc:
        raise ArgumentTypeError(f"{fmt!r} does not go with {args!r}: {exc}") from exc
    except (OverflowError, ValueError) as exc:
        raise ArgumentError(f"{fmt!r} does not go with {args!r}: {exc}") from exc


class LockedEvBuffer(EvBuffer):
    """What `enable_locking` makes of an EvBuffer: the same, with the lock held in every method."""

    __slots__ = ()


# Those that look at one thing, that take the locks of both buffers, that are made of others, or
# whose caller has the lock.
WITHOUT_LOCK = {
    "add_buffer",
    "add_buffer_reference",
    "add_file",
    "add_iovec",
    "add_printf",
    "add_reference",
    "enable_locking",
    "lock",
    "max_read",
    "prepend_buffer",
    "read",
    "remove_buffer",
    "send",
    "take_from",
    "unlock",
    "write",
}
# What those are made of, where it is no method of the program's.
INNER_WITH_LOCK = {"_add_all", "_add_text", "_append_file", "_read", "_write"}


def _hold_in_methods(kind: type[LockedEvBuffer]) -> None:
    for name, member in vars(EvBuffer).items():
        if name in INNER_WITH_LOCK or not (name.startswith("_") or name in WITHOUT_LOCK):
            if isinstance(member, FunctionType):
                setattr(kind, name, holding_lock(member))
            elif isinstance(member, property) and member.fget is not None:
                setattr(kind, name, property(holding_lock(member.fget)))


_hold_in_methods(LockedEvBuffer)
