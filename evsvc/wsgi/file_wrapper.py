"""`wsgi.file_wrapper`: a file as a response, which the kernel sends where it can."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from typing import Protocol, Self

from ..core import EvBuffer

# Whose descriptor holds the very bytes that `read` returns: a GzipFile has one, too, with others.
_PLAIN_FILES = (io.FileIO, io.BufferedReader, io.BufferedRandom)


class Readable(Protocol):
    """A file, as far as it is needed."""

    def read(self, size: int, /) -> bytes:
        """Return `size` bytes or less, none at the end."""


class FileWrapper:
    """An iterable of a file's blocks (PEP 3333, "Optional Platform-Specific File Handling").

    file: what has `read`, and maybe `close`.  block_size: bytes read at once where it is iterated
    over, as middleware does.
    """

    __slots__ = ("_block_size", "_file", "close")

    close: Callable[[], object]

    def __init__(self, file: Readable, block_size: int = 8192) -> None:
        self._file = file
        self._block_size = block_size
        close = getattr(file, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        data = self._file.read(self._block_size)
        if not data:
            raise StopIteration
        return data

    def as_buffer(self, length: int | None) -> EvBuffer | None:
        """Return the file's bytes from its position on, which sendfile() can send.

        length: how many; None is all.  None for what is no regular file, or has not so many; then
        nothing has changed.  The application may close its file: the buffer has a descriptor of
        its own.
        """
        file = self._file
        if type(file) not in _PLAIN_FILES:
            return None
        assert isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return None
        offset = file.tell()
        left = status.st_size - offset
        if left < (length or 0):
            return None
        buffer = EvBuffer()
        descriptor = os.dup(file.fileno())
        try:
            buffer.add_file(descriptor, offset, max(left, 0) if length is None else length)
        except BaseException:
            os.close(descriptor)
            raise
        return buffer
