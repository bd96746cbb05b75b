"""File segments: ranges of files that buffers share, and that the kernel sends by itself.

Bytes that the program or an engine looks at are read with pread(), a bounded block at a time.  They
are never mapped: a file that someone makes shorter would turn the mapping into SIGBUS, which ends
the process.  Read, it is an error of the call that wants the bytes.

Invariants
    * A segment is in use by its owner until `close`, and by each chunk that is a piece of it.
    * After the last use: the descriptor goes, then the cleanup runs, once.
    * A piece keeps one block at the most, the last that was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ..checks import require_callable, whole_number
from ..closing import Closing
from ..descriptors import fd_of
from ..errors import ArgumentError, SocketError, StateError
from ..flags import FileSegmentFlag
from ..thread import call_unlocked
from .chunks import checked_range

if TYPE_CHECKING:
    from .chunks import Span

SegmentCallback = Callable[["FileSegment", FileSegmentFlag, Any], object]
"""Called as `cleanup(segment, flags, arg)`."""

_CLOSE_ON_FREE = FileSegmentFlag.EVBUF_FS_CLOSE_ON_FREE
_DISABLE_SENDFILE = FileSegmentFlag.EVBUF_FS_DISABLE_SENDFILE
_DISABLE_LOCKING = FileSegmentFlag.EVBUF_FS_DISABLE_LOCKING
_FLAGS = sum(FileSegmentFlag)

# So much of a file is read at once, and kept, when its bytes are looked at: enough for a read to
# cost little beside what is done with the bytes, and few enough for every connection to keep them.
BLOCK_BYTES = 64 * 1024

_HAS_SENDFILE = hasattr(os, "sendfile")
# What sendfile() answers where this pair of descriptors cannot do it.
_CANNOT_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSOCK, errno.EOPNOTSUPP})


class OpenFile(Protocol):
    """A file object, as `open()` returns it."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> object:
        """Close the descriptor."""


class FileSegment(Closing):
    """A range of a regular file, for any number of buffers (evbuffer_file_segment_new).

    file: a descriptor, or a file object, which the segment then keeps.  length: -1 is up to the
    file's present end.  flags: EVBUF_FS_CLOSE_ON_FREE gives the descriptor to the segment, with
    EVBUF_FS_DISABLE_SENDFILE it is not sent by sendfile(), EVBUF_FS_DISABLE_LOCKING is for a
    program of one thread.  EVBUF_FS_DISABLE_MMAP changes nothing: files are never mapped.

    Sending takes sendfile().  Only when something wants the bytes themselves are they read, 64 KiB
    at a time.  When the file has become shorter meanwhile, that raises SocketError with EIO, and so
    does sending.

    Raises ArgumentError for a range that is not in the file, unknown flags or what is no regular
    file, SocketError when the descriptor is not open, ArgumentTypeError for what is no file, or
    no whole number; the descriptor is the caller's then.
    """

    __slots__ = (
        "_cleanup",
        "_cleanup_arg",
        "_closed",
        "_fd",
        "_file",
        "_flags",
        "_length",
        "_lock",
        "_offset",
        "_uses",
        "sendable",
    )

    def __init__(
        self, file: int | OpenFile, offset: int = 0, length: int = -1, flags: int = 0
    ) -> None:
        whole_number(flags, "flags")
        if int(flags) & ~_FLAGS:
            raise ArgumentError(f"unknown flags of a file segment: {int(flags):#x}")
        self._file = file
        self._fd = fd_of(file)
        self._offset, end = checked_range(offset, length, _size_of(self._fd))
        self._length = end - offset
        self._flags = FileSegmentFlag(flags)
        self.sendable = _HAS_SENDFILE and not flags & _DISABLE_SENDFILE  # may sendfile() be tried
        self._cleanup: SegmentCallback | None = None
        self._cleanup_arg: Any = None
        self._closed = False
        self._uses = 1
        self._lock: contextlib.AbstractContextManager[object] = (
            contextlib.nullcontext() if flags & _DISABLE_LOCKING else threading.Lock()
        )

    def __len__(self) -> int:
        return self._length

    @property
    def flags(self) -> FileSegmentFlag:
        """The flags that it was made with."""
        return self._flags

    def add_cleanup_cb(self, cleanup: SegmentCallback, arg: object = None) -> None:
        """Call `cleanup(segment, flags, arg)` once, when nobody uses the segment any more.

        Only the last that was set is called.  Raises StateError once the segment is closed,
        ArgumentTypeError for what cannot be called.
        Source: evbuffer_file_segment_add_cleanup_cb.
        """
        self._require_open()
        require_callable(cleanup)
        self._cleanup, self._cleanup_arg = cleanup, arg

    def close(self) -> None:
        """End the owner's use; buffers that have a piece of it keep that.  Safe to repeat.

        Source: evbuffer_file_segment_free.
        """
        if not self._closed:
            self._closed = True
            self._drop_use()

    def piece(self, offset: int, length: int) -> FilePiece:
        """Return a chunk.  Raises ArgumentError for a range outside, StateError once closed."""
        self._require_open()
        first, last = checked_range(offset, length, self._length)
        return FilePiece(self, first, last)

    def _use(self) -> None:
        with self._lock:
            self._uses += 1

    def _drop_use(self) -> None:
        with self._lock:
            self._uses -= 1
            if self._uses:
                return
        call_unlocked(self._end)

    def _end(self) -> None:
        try:
            if self._flags & _CLOSE_ON_FREE:
                _close(self._file)
        finally:
            cleanup, self._cleanup = self._cleanup, None
            arg, self._cleanup_arg = self._cleanup_arg, None
            if cleanup is not None:
                cleanup(self, self._flags, arg)

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the file segment is closed")


class FilePiece:
    """A chunk that is part of a file; its bytes stay there until someone looks at them."""

    __slots__ = ("_block", "_block_at", "_first", "_last", "_segment")

    def __init__(self, segment: FileSegment, first: int, last: int) -> None:
        segment._use()
        self._segment = segment
        self._first = first
        self._last = last
        self._block = b""  # what was read last, and where in the segment
        self._block_at = 0

    def __len__(self) -> int:
        return self._last - self._first

    @property
    def sendable(self) -> bool:
        """Whether sendfile() may be tried."""
        return self._segment.sendable

    def spans(self, first: int, last: int) -> Iterator[Span]:
        """Yield the bytes from `first` to before `last`, at most a block at a time.

        Raises SocketError when they cannot be read, with EIO when the file has become shorter.
        """
        at, stop = self._first + first, self._first + last
        while at < stop:
            if not self._block_at <= at < self._block_at + len(self._block):
                self._block = self._read(at)
                self._block_at = at
            block, begin = self._block, self._block_at
            end = min(stop, begin + len(block))
            yield block, at - begin, end - begin
            at = end

    def _read(self, at: int) -> bytes:
        segment = self._segment
        size = min(BLOCK_BYTES, self._last - at)
        try:
            block = os.pread(segment._fd, size, segment._offset + at)
        except OSError as exc:
            raise SocketError(exc.errno, f"cannot read the file: {exc.strerror}") from exc
        if not block:
            raise _became_shorter(segment._offset + at)
        return block

    def sendfile(self, out_fd: int, skip: int, limit: int) -> int:
        """Have the kernel send up to `limit` bytes after the first `skip`; return how many.

        -1 when these two descriptors cannot do it.  Raises OSError as sendfile(2), and
        SocketError with EIO when the file has become shorter.
        """
        segment = self._segment
        offset = segment._offset + self._first + skip
        size = min(limit, len(self) - skip)
        try:
            sent = os.sendfile(out_fd, segment._fd, offset, size)
        except OSError as exc:
            if exc.errno in _CANNOT_SENDFILE:
                return -1
            raise
        if sent == 0:
            raise _became_shorter(offset)
        return sent

    def cut(self, size: int) -> None:
        """Forget the first `size` bytes."""
        self._first += size

    def part(self, first: int, last: int) -> FilePiece:
        """Return a piece of this piece."""
        return FilePiece(self._segment, self._first + first, self._first + last)

    def shared(self, first: int) -> FilePiece:
        """Return another chunk of the same range, from `first` on."""
        return self.part(first, len(self))

    def release(self) -> None:
        """End this use of the segment."""
        self._segment._drop_use()


def _size_of(fd: int) -> int:
    try:
        status = os.fstat(fd)
    except OSError as exc:
        raise SocketError(exc.errno, f"cannot use descriptor {fd}: {exc.strerror}") from exc
    if not stat.S_ISREG(status.st_mode):
        raise ArgumentError(f"descriptor {fd} is no regular file")
    return status.st_size


def _became_shorter(offset: int) -> SocketError:
    return SocketError(errno.EIO, f"the file is shorter than it was: nothing is at {offset}")


def _close(file: int | OpenFile) -> None:
    if isinstance(file, int):
        os.close(file)
    else:
        file.close()
