"""An EvBuffer's bytes from and to descriptors: reading, gathering writes, sendfile()."""

from __future__ import annotations

import os
import socket
from itertools import islice
from typing import TYPE_CHECKING

from ..checks import whole_number
from ..descriptors import fd_of
from ..errors import ArgumentError
from .chunks import bytes_of, join
from .contents import is_sendable
from .observed import ObservedContents
from .segment import FilePiece

if TYPE_CHECKING:
    from ..descriptors import HasFileno, Stream

MAX_READ_BYTES = 4096
MOST_MAX_READ_BYTES = 2**31 - 1

# What a read without `howmuch` asks for, within `max_read`: at first, and at the least.
FIRST_READ_BYTES = 16 * 1024
LEAST_READ_BYTES = 2 * 1024

# Up to this many bytes, joining small chunks for one send() costs less than gathering them with
# sendmsg(): 0.90 against 1.00 us for two chunks, and the gap grows with their number.
JOIN_BYTES = 64 * 1024
MAX_GATHER_CHUNKS = 128

_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")


class Transfer(ObservedContents):
    """Contents that come from and go to descriptors."""

    __slots__ = ("_max_read", "_read_bytes")

    _max_read: int
    _read_bytes: int

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
        self._require_end()
        howmuch = whole_number(howmuch, "howmuch")
        limit = self._max_read
        if howmuch >= 0:
            data = os.read(fd_of(fd), min(howmuch, limit))
        else:
            data = os.read(fd_of(fd), min(self._read_bytes, limit))
            self._adapt_read(len(data))
        self.put(data)
        return len(data)

    def write(self, fd: int | HasFileno, howmuch: int = -1) -> int:
        """Write once to a descriptor, at most `howmuch` bytes, and drain what was taken.

        One call takes up to 128 chunks, or a piece of a file, by sendfile().  Returns 0 for an
        empty buffer.  Raises BlockingIOError or another OSError as write(2), SocketError when a
        file cannot be read, StateError when the start is frozen, ArgumentTypeError for a `howmuch`
        that is no whole number.
        Source: evbuffer_write, evbuffer_write_atmost.
        """
        self._require_start()
        howmuch = whole_number(howmuch, "howmuch")
        limit = self.length if howmuch < 0 else min(howmuch, self.length)
        if limit == 0:
            return 0
        number = fd_of(fd)
        sent = self._send_file(number, limit) if self._has_files else -1
        if sent < 0:
            sent = os.writev(number, self._gather(limit))
        self.drop(sent)
        return sent

    def _adapt_read(self, got: int) -> None:
        asked = min(self._read_bytes, self._max_read)
        if got == asked < self._max_read:
            self._read_bytes = min(asked * 2, self._max_read)
        elif got < asked // 4:
            self._read_bytes = max(asked // 2, LEAST_READ_BYTES)

    def send(self, stream: Stream, limit: int) -> int:
        """Send up to `limit` bytes with one system call; return how many were taken.

        They are still in the buffer: what draining calls must not pass for an error of the socket.
        """
        if self._has_files:
            return self._send_with_files(stream, limit)
        chunks = self._chunks
        data: bytes | memoryview
        if len(chunks) == 1 and not self._start and self.length <= limit:
            data = bytes_of(chunks[0])
        elif self.length <= limit and self.length <= JOIN_BYTES:
            data = join(chunks)
            if self._start:
                data = memoryview(data)[self._start :]
        elif _HAS_SENDMSG:
            return stream.sendmsg(self._gather(limit))
        else:
            data = next(self.views(0, limit))
        return stream.send(data)

    def _send_with_files(self, stream: Stream, limit: int) -> int:
        sent = self._send_file(stream.fileno(), limit)
        if sent >= 0:
            return sent
        if not any(isinstance(chunk, FilePiece) for chunk in self._chunks):
            self._has_files = False
            return self.send(stream, limit)
        if _HAS_SENDMSG:
            return stream.sendmsg(self._gather(limit))
        return stream.send(self._gather(limit)[0])

    def _send_file(self, out_fd: int, limit: int) -> int:
        """Send from the file at the front; -1 when there is none or sendfile() cannot do it."""
        first = self._chunks[0]
        if isinstance(first, FilePiece) and first.sendable:
            return first.sendfile(out_fd, self._start, limit)
        return -1

    def _gather(self, limit: int) -> list[memoryview]:
        """Return what one gathering system call can take of the first `limit` bytes."""
        if self._has_files:
            limit = min(limit, self._before_next_file())
        return list(islice(self.views(0, limit), MAX_GATHER_CHUNKS))

    def _before_next_file(self) -> int:
        """Return how many bytes there are before a file that sendfile() may take."""
        size = -self._start
        for index, chunk in enumerate(self._chunks):
            if index and is_sendable(chunk):
                break
            size += len(chunk)
        return size
