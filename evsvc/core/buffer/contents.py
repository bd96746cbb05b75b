"""What can be asked of an EvBuffer's contents; nothing here changes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import StateError
from ..flags import EolStyle, PtrHow
from .chain import ByteChain
from .chunks import bytes_of, frozen_copy
from .positions import (
    EvBufferPtr,
    checked_position,
    position_within,
    ptr_at,
)
from .search import find_eol, search
from .segment import FilePiece

if TYPE_CHECKING:
    from .chunks import Bytes, Chunk


class Contents(ByteChain):
    """A chain that can be copied out of, looked into and searched."""

    __slots__ = ("_flags",)

    _flags: int

    def __bytes__(self) -> bytes:
        return self.copyout()

    def __repr__(self) -> str:
        return f"<EvBuffer {self.length} bytes in {len(self._chunks)} chunks>"

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
        if self._flags:
            self._require_bytes(start, size)
        chunks = self._chunks
        if len(chunks) == 1:
            first = self._start + start
            stop = None if size < 0 else first + size
            data = bytes_of(chunks[0])
            if first == 0 and stop is None and type(data) is bytes:
                return data
            return bytes(data[first:stop])
        return b"".join(self.views(start, size))

    def peek(self, size: int = -1, start: int = 0) -> list[memoryview]:
        """Return views of whole chunks that hold at least `size` bytes (-1: all) from `start`.

        Nothing is copied, and the last view is not cut to `size`.  Good until the next change.
        Raises as `copyout`.  Source: evbuffer_peek.
        """
        size = whole_number(size, "a size")
        start = checked_position(self, start)
        wanted = self.length if size < 0 else size
        if self._flags:
            self._require_bytes(start, wanted)
        views: list[memoryview] = []
        for data, first, last in self._spans(start, -1):
            if wanted <= 0:
                break
            views.append(memoryview(data)[first:last])
            wanted -= last - first
        return views

    def search(self, needle: Bytes, start: int = 0, end: int | None = None) -> EvBufferPtr:
        """Return the position of `needle` at or after `start` and wholly before `end`, or -1.

        Raises ArgumentError for a `start` past the end, ArgumentTypeError for a needle that is not
        bytes, and else as `copyout`.  Source: evbuffer_search, evbuffer_search_range.
        """
        needle = frozen_copy(needle)
        first = position_within(self, start)
        stop = None if end is None else checked_position(self, end)
        if self._flags:
            self._require_bytes(first, -1 if stop is None else max(stop - first, 0))
        return EvBufferPtr(search(self, needle, first, stop), self)

    def search_eol(
        self, eol: int = EolStyle.EVBUFFER_EOL_CRLF, start: int = 0
    ) -> tuple[EvBufferPtr, int]:
        """Return where the next line ends and how long its end is; (-1, 0) when it does not.

        Raises ArgumentError for an unknown style, and else as `search`.
        Source: evbuffer_search_eol.
        """
        at, eol_length = self._find_eol(eol, position_within(self, start))
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

    def _find_eol(self, eol: int, start: int) -> tuple[int, int]:
        if self._flags:
            self._require_bytes(start, -1)
        return find_eol(self, eol, start)

    def _require_bytes(self, start: int, size: int) -> None:
        """Raise StateError when these bytes are a file's that only a descriptor is to get."""
        if size == 0 or not self._has_files:
            return
        first = start + self._start
        last = self.length + self._start if size < 0 else first + size
        for chunk in self._chunks:
            if last <= 0:
                return
            if first < len(chunk) and is_sendable(chunk):
                raise StateError("the bytes of a file go to a descriptor only, as the flag says")
            first -= len(chunk)
            last -= len(chunk)


def is_sendable(chunk: Chunk) -> bool:
    """Whether `chunk` is a piece of a file that sendfile() may be tried with."""
    return isinstance(chunk, FilePiece) and chunk.sendable
