"""File segments: ranges of files that buffers share, and that the kernel sends by itself.

Invariants
    * A segment is in use by its owner until `close`, and by each chunk that is a piece of it.
    * After the last use: the mapping goes, then the descriptor, then the cleanup runs, once.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import threading
from collections.abc import Callable
from typing import Any, Protocol

from ..checks import whole_number
from ..closing import Closing
from ..descriptors import fd_of
from ..errors import ArgumentError, SocketError, StateError
from ..flags import FileSegmentFlag
from .chunks import checked_range, require_callable

SegmentCallback = Callable[["FileSegment", FileSegmentFlag, Any], object]
"""Called as `cleanup(segment, flags, arg)`."""

_CLOSE_ON_FREE = FileSegmentFlag.EVBUF_FS_CLOSE_ON_FREE
_DISABLE_MMAP = FileSegmentFlag.EVBUF_FS_DISABLE_MMAP
_DISABLE_SENDFILE = FileSegmentFlag.EVBUF_FS_DISABLE_SENDFILE
_DISABLE_LOCKING = FileSegmentFlag.EVBUF_FS_DISABLE_LOCKING
_FLAGS = int(_CLOSE_ON_FREE | _DISABLE_MMAP | _DISABLE_SENDFILE | _DISABLE_LOCKING)

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
    EVBUF_FS_DISABLE_SENDFILE and EVBUF_FS_DISABLE_MMAP other ways are not taken,
    EVBUF_FS_DISABLE_LOCKING is for a program of one thread.

    Sending takes sendfile().  Only when something wants the bytes themselves are they mapped, or,
    without mmap(), read into memory whole; where sendfile() is not to be had, that happens here.
    The file must not get shorter meanwhile: reading what is mapped ends the process then.

    Raises ArgumentError for a range that is not in the file, unknown flags or what is no regular
    file, SocketError when the descriptor is not open or the bytes cannot be read; the descriptor
    is the caller's then.  ArgumentTypeError for what is no file, or no whole number.
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
        "_view",
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
        self._cleanup: SegmentCallback | None = None
        self._cleanup_arg: Any = None
        self._closed = False
        self._uses = 1
        self._view: memoryview | None = None
        self._lock: contextlib.AbstractContextManager[object] = (
            contextlib.nullcontext() if flags & _DISABLE_LOCKING else threading.Lock()
        )
        if not self.sendable:
            self._load()

    def __len__(self) -> int:
        return self._length

    @property
    def flags(self) -> FileSegmentFlag:
        """The flags that it was made with."""
        return self._flags

    @property
    def sendable(self) -> bool:
        """Whether sendfile() may be tried."""
        return _HAS_SENDFILE and not self._flags & _DISABLE_SENDFILE

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

    def _piece(self, offset: int, length: int) -> FilePiece:
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
        self._view = None  # and with the last view of it the mapping
        try:
            if self._flags & _CLOSE_ON_FREE:
                _close(self._file)
        finally:
            cleanup, self._cleanup = self._cleanup, None
            arg, self._cleanup_arg = self._cleanup_arg, None
            if cleanup is not None:
                cleanup(self, self._flags, arg)

    def _load(self) -> memoryview:
        """Return all the bytes.  Raises SocketError when they cannot be read."""
        with self._lock:
            if self._view is None:
                try:
                    self._view = self._map_or_read()
                except OSError as exc:
                    raise SocketError(exc.errno, f"cannot read the file: {exc.strerror}") from exc
            return self._view

    def _map_or_read(self) -> memoryview:
        if self._length == 0:
            return memoryview(b"")
        if self._flags & _DISABLE_MMAP:
            return memoryview(_read_all(self._fd, self._offset, self._length))
        begin = self._offset - self._offset % mmap.ALLOCATIONGRANULARITY
        skip = self._offset - begin
        try:
            mapping = mmap.mmap(
                self._fd, skip + self._length, access=mmap.ACCESS_READ, offset=begin
            )
        except (OSError, ValueError):  # a file system without it, or a file that became shorter
            return memoryview(_read_all(self._fd, self._offset, self._length))
        return memoryview(mapping)[skip:]

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the file segment is closed")


class FilePiece:
    """A chunk that is part of a file; its bytes stay there until someone looks at them."""

    __slots__ = ("_first", "_last", "_segment")

    def __init__(self, segment: FileSegment, first: int, last: int) -> None:
        segment._use()
        self._segment = segment
        self._first = first
        self._last = last

    def __len__(self) -> int:
        return self._last - self._first

    @property
    def view(self) -> memoryview:
        """The bytes, mapped or read.  Raises SocketError when that fails."""
        return self._segment._load()[self._first : self._last]

    @property
    def sendable(self) -> bool:
        """Whether sendfile() may be tried."""
        return self._segment.sendable

    def sendfile(self, out_fd: int, skip: int, limit: int) -> int:
        """Have the kernel send up to `limit` bytes after the first `skip`; return how many.

        -1 when these two descriptors cannot do it.  Raises OSError as sendfile(2), and
        SocketError when the file is shorter than it was.
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
            raise SocketError(errno.EIO, "the file is shorter than it was")
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


def _read_all(fd: int, offset: int, length: int) -> bytes:
    pieces = []
    done = 0
    while done < length:
        piece = os.pread(fd, length - done, offset + done)
        if not piece:
            raise OSError(errno.EIO, f"it ended after {done} of {length} bytes")
        pieces.append(piece)
        done += len(piece)
    return b"".join(pieces)


def _close(file: int | OpenFile) -> None:
    if isinstance(file, int):
        os.close(file)
    else:
        file.close()
