"""What an EvBuffer is made of: a chain of chunks, each bytes or memory that someone else owns.

Invariants
    * No chunk is empty; `_length` is the sum of the chunks less `_start`.
    * `_start` bytes of the first chunk are gone already, fewer than it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .errors import ArgumentTypeError


class Reference:
    """A chunk of foreign memory, with a cleanup to call when its last byte has gone."""

    __slots__ = ("_arg", "_cleanup", "_data", "_size", "view")

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        cleanup: Callable[[Any, int, Any], object] | None,
        arg: object,
    ) -> None:
        self._data: Any = data
        self.view = _as_view(data)
        self._size = len(self.view)
        self._cleanup = cleanup
        self._arg = arg

    def __len__(self) -> int:
        return len(self.view)

    def cut(self, size: int) -> None:
        """Forget the first `size` bytes."""
        self.view = self.view[size:]

    def release(self) -> None:
        """Let the memory go and call the cleanup, with the original data and full length."""
        self.view = memoryview(b"")
        data, self._data = self._data, None
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None:
            cleanup(data, self._size, self._arg)


Chunk = bytes | Reference

Span = tuple[bytes | memoryview, int, int]
"""A piece of a chunk: the chunk's bytes, and where in them the piece begins and ends."""


def bytes_of(chunk: Chunk) -> bytes | memoryview:
    """Return the chunk as something that slices and sends."""
    return chunk.view if isinstance(chunk, Reference) else chunk


def join(chunks: Iterable[Chunk]) -> bytes:
    """Return the bytes of `chunks` in one piece."""
    return b"".join([bytes_of(chunk) for chunk in chunks])


def release(chunks: Iterable[Chunk]) -> None:
    """Be done with `chunks`: the cleanup of each reference among them runs, whatever one raises.

    A cleanup is the program's and may change the buffer; call this when the buffer is whole.
    """
    rest = iter(chunks)
    for chunk in rest:
        if isinstance(chunk, Reference):
            try:
                chunk.release()
            except BaseException:
                release(rest)
                raise


def view_of(chunk: Chunk) -> memoryview:
    """Return the chunk as a view."""
    return chunk.view if isinstance(chunk, Reference) else memoryview(chunk)


def frozen_copy(data: bytes | bytearray | memoryview) -> bytes:
    """Return `data` as bytes that nobody else can change.

    Raises ArgumentTypeError for anything but bytes, bytearray or memoryview.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise ArgumentTypeError(f"bytes are wanted, not {type(data).__name__}")


def _as_view(data: bytes | bytearray | memoryview) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError as exc:
        raise ArgumentTypeError(f"not contiguous memory: {type(data).__name__}") from exc


class ByteChain:
    """A queue of chunks.  Knows no callback, and runs no code of the program's."""

    __slots__ = ("_chunks", "_length", "_start")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._start = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def contiguous_space(self) -> int:
        """How many bytes the first chunk holds (evbuffer_get_contiguous_space)."""
        return len(self._chunks[0]) - self._start if self._chunks else 0

    def _spans(self, start: int, size: int) -> Iterator[Span]:
        """Yield where the bytes from `start` are, at most `size` (-1: all), chunk by chunk."""
        if size < 0:
            size = self._length
        first = start + self._start
        for chunk in self._chunks:
            length = len(chunk)
            if first >= length:
                first -= length
                continue
            if size <= 0:
                return
            last = min(first + size, length)
            yield bytes_of(chunk), first, last
            size -= last - first
            first = 0

    def _views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes from `start`, at most `size` (-1: all), chunk by chunk."""
        for data, first, last in self._spans(start, size):
            yield memoryview(data)[first:last]

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
        chunks = self._chunks
        taken: list[Chunk] = []
        if size >= self.contiguous_space:
            self._settle_first()  # the first chunk goes whole
        self._length -= size
        while size and size >= len(chunks[0]) - self._start:
            chunk = chunks.popleft()
            size -= len(chunk)
            taken.append(chunk)
        if size:
            stop = self._start + size
            taken.append(bytes(view_of(chunks[0])[self._start : stop]))
            self._start = stop
        return taken

    def _drop_some(self, size: int) -> list[Chunk] | None:
        """Drop fewer bytes than there are; return the references that have left, if any."""
        chunks = self._chunks
        self._length -= size
        size += self._start
        gone: list[Chunk] | None = None
        while size and size >= len(chunks[0]):
            chunk = chunks.popleft()
            size -= len(chunk)
            if type(chunk) is not bytes:
                gone = [chunk] if gone is None else [*gone, chunk]
        self._start = size
        return gone
