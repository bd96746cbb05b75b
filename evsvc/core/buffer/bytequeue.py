"""What a program does with an EvBuffer: adding at the end, taking from the front, and the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import BufferFlag, EolStyle, FileSegmentFlag
from .chunks import (
    Bytes,
    Chunk,
    CleanupCallback,
    Reference,
    bytes_of,
    frozen_copy,
    reference_to,
    release,
)
from .segment import FilePiece, FileSegment
from .space import Space
from .transfer import Transfer

if TYPE_CHECKING:
    from .segment import OpenFile

# Formatted text joins the chunk before it up to this size, so that many small pieces neither
# cost an object each nor a place in a gathering write.
PACK_BYTES = 2048


class ByteQueue(Transfer):
    """Every operation of an EvBuffer; `buffer` sees to it that its lock is held, if it has one."""

    __slots__ = ("_space",)

    _space: Space | None

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
        self._require_end()
        added = 0
        if not isinstance(pieces, Iterable):
            raise ArgumentTypeError(f"pieces of bytes are wanted, not {pieces!r}")
        for piece in [frozen_copy(piece) for piece in pieces]:
            if self.frozen_end:
                break
            self.put(piece)
            added += len(piece)
        return added

    def add_printf(self, fmt: str | bytes, *args: object) -> int:
        """Append `fmt % args`, a str as UTF-8, as one change; return its length in bytes.

        Raises StateError when the end is frozen, ArgumentTypeError or ArgumentError when the
        arguments do not fit the format.  Source: evbuffer_add_printf, evbuffer_add_vprintf.
        """
        self._require_end()
        data = _formatted(fmt, args)
        chunks = self._chunks
        last = chunks[-1] if chunks else None
        if data and isinstance(last, bytes) and len(last) + len(data) <= PACK_BYTES:
            chunks[-1] = last + data
            self.length += len(data)
            self._after_add(len(data))
        else:
            self.put(data)
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

    def add_buffer(self, source: ByteQueue) -> None:
        """Move everything from `source` to the end, without copying (evbuffer_add_buffer).

        When it is done, the callbacks of `source` are called first.  Raises StateError when this
        end or the start of `source` is frozen, ArgumentTypeError for what is no buffer.
        """
        _require_buffer(source)
        self._move_from(source, -1)

    def add_buffer_reference(self, source: ByteQueue) -> None:
        """Append what is in `source` without copying, and leave it there, too.

        Either may then be changed and closed before the other; cleanups wait for both.  Raises
        StateError when the end is frozen, ArgumentError for the buffer itself, ArgumentTypeError
        for what is no buffer.  Source: evbuffer_add_buffer_reference.
        """
        _require_buffer(source)
        self._share(source)

    def add_file(self, file: int | OpenFile, offset: int = 0, length: int = -1) -> None:
        """Append a range of a file (-1: up to its end) and take over the descriptor.

        It is closed when the last of these bytes has left.  When this raises, it stays open:
        StateError when the end is frozen, else as FileSegment does.  Source: evbuffer_add_file.
        """
        self._require_end()
        with FileSegment(file, offset, length, FileSegmentFlag.EVBUF_FS_CLOSE_ON_FREE) as segment:
            piece = segment._piece(0, -1)
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
        self._append_file(segment._piece(offset, length))

    def prepend(self, data: Bytes) -> None:
        """Insert bytes at the front (evbuffer_prepend).

        Raises StateError when the start is frozen, ArgumentTypeError for anything but bytes.
        """
        chunk = frozen_copy(data)
        if chunk:
            self._require_start()
            self._put_before([chunk], len(chunk))
            self._after_add(len(chunk))

    def prepend_buffer(self, source: ByteQueue) -> None:
        """Move everything from `source` to the front, in its order (evbuffer_prepend_buffer).

        Raises StateError when the start of either is frozen, ArgumentTypeError for what is no
        buffer.
        """
        _require_buffer(source)
        self._move_from(source, -1, at_front=True)

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
        chunks = self._chunks
        if size < 0 and len(chunks) == 1 and not self._start:
            first = chunks[0]
            if type(first) is bytes:
                self.drop(self.length)
                return first
        data = self.copyout(size)
        if data:
            self.drop(len(data))
        return data

    def remove_buffer(self, destination: ByteQueue, size: int) -> int:
        """Move up to `size` bytes to the end of `destination`; return how many it were.

        Whole chunks move, only a part of one is copied.  Raises as `add_buffer` does, and
        ArgumentTypeError for a size that is no whole number.  Source: evbuffer_remove_buffer.
        """
        _require_buffer(destination)
        size = int(whole_number(size, "a size"))
        return destination._move_from(self, max(size, 0))

    def readln(self, eol: int = EolStyle.EVBUFFER_EOL_CRLF) -> bytes | None:
        """Take the first line, without its end; None when no line is complete (evbuffer_readln).

        Raises ArgumentError for an unknown style, StateError when the start is frozen.
        """
        at, eol_length = self._find_eol(eol, 0)
        if at < 0:
            return None
        self._require_start()
        line = self.copyout(at)
        self.drop(at + eol_length)
        return line

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
        if self._flags:
            self._require_bytes(0, size)
        if size <= self.contiguous_space:
            return memoryview(bytes_of(self._chunks[0]))[self._start : self._start + size]
        head = b"".join(self.views(0, size))
        gone = self._drop_some(size)
        self._put_before([head], size)
        if gone:
            release(gone)
        return memoryview(head)

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
        self._flags |= _checked_flags(flags)

    def clear_flags(self, flags: int) -> None:
        """Take the flag back (evbuffer_clear_flags).  Raises as `set_flags`."""
        self._flags &= ~_checked_flags(flags)

    def lock(self) -> None:
        """Hold the lock over several calls; nothing without locking (evbuffer_lock)."""
        if self._lock is not None:
            self._lock.acquire()

    def unlock(self) -> None:
        """Let go of it (evbuffer_unlock).  Raises StateError when this thread does not hold it."""
        if self._lock is not None:
            try:
                self._lock.release()
            except RuntimeError as exc:
                raise StateError("the buffer is not locked by this thread") from exc

    def take_from(self, source: ByteQueue, size: int) -> int:
        """Move up to `size` bytes from the start of `source` to the end, frozen or not.

        Whole chunks move without a copy.  Returns how many bytes it were.
        """
        was_frozen = source.frozen_start, self.frozen_end
        source.frozen_start = self.frozen_end = False
        try:
            return source.remove_buffer(self, size)
        finally:
            source.frozen_start, self.frozen_end = was_frozen

    def _own_space(self) -> Space:
        if self._space is None:
            self._space = Space()
        return self._space

    def _share(self, source: ByteQueue) -> None:
        if len(source) == 0:
            return
        if source is self:
            raise ArgumentError(f"a buffer cannot reference itself: {self!r}")
        self._require_end()
        shared = source._shared_chunks()
        self._has_files = self._has_files or source._has_files
        self._own_chunks().extend(shared)
        size = sum(map(len, shared))
        self.length += size
        self._after_add(size)

    def _append_file(self, piece: FilePiece) -> None:
        self._has_files = True
        self._append_or_release(piece)

    def _append_or_release(self, chunk: Reference | FilePiece) -> None:
        if len(chunk):
            self.put(chunk)
        else:
            chunk.release()

    def _put_before(self, chunks: Sequence[Chunk], size: int) -> None:
        self._settle_first()
        self._own_chunks().extendleft(reversed(chunks))
        self.length += size

    def _move_from(self, source: ByteQueue, size: int, *, at_front: bool = False) -> int:
        return source._give_to(self, size, at_front)

    def _give_to(self, destination: ByteQueue, size: int, at_front: bool) -> int:
        """Move up to `size` bytes (-1: all), then tell both; the source's callbacks are first."""
        length = self.length
        if size < 0 or size > length:
            size = length
        if destination is self or size == 0:
            return 0
        if at_front:
            destination._require_start()
        elif destination.frozen_end:
            destination._require_end()
        if self.frozen_start:
            self._require_start()
        if self._has_files:
            destination._has_files = True
        if size == length and not destination.length:
            # The usual case, all of it into an empty one: they change what they have.
            destination._chunks, self._chunks = self._chunks, destination._chunks
            destination._start, self._start = self._start, 0
            destination.length, self.length = size, 0
        else:
            taken = self._take_chunks(size)
            if at_front:
                destination._put_before(taken, size)
            else:
                destination._own_chunks().extend(taken)
                destination.length += size
        try:
            if self.on_drain is not None or self._callbacks:
                self._after_drain(size)
        finally:
            destination._after_add(size)
        return size


def _require_buffer(buffer: object) -> None:
    if not isinstance(buffer, ByteQueue):
        raise ArgumentTypeError(f"a buffer is wanted, not {buffer!r}")


def _checked_flags(flags: int) -> int:
    whole_number(flags, "flags")
    if int(flags) & ~int(BufferFlag.EVBUFFER_FLAG_DRAINS_TO_FD):
        raise ArgumentError(f"unknown flags of a buffer: {int(flags):#x}")
    return int(flags)


def _formatted(fmt: str | bytes, args: tuple[object, ...]) -> bytes:
    try:
        text = fmt % args
        return text.encode() if isinstance(text, str) else bytes(text)
    except TypeError as exc:
        raise ArgumentTypeError(f"{fmt!r} does not go with {args!r}: {exc}") from exc
    except (OverflowError, ValueError) as exc:
        raise ArgumentError(f"{fmt!r} does not go with {args!r}: {exc}") from exc
