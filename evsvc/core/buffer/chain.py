"""A chain of chunks: the bytes of an EvBuffer, without anything that runs the program's code.

Invariants
    * No chunk is empty; `length` is the sum of the chunks less `_start`.
    * `_start` bytes of the first chunk are gone already, fewer than it has.
    * `_start` falls only together with a change of the chunks themselves; `Imprint` relies on it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from .chunks import Chunk, Reference, bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..thread import Lock
    from .chunks import Span


# What a chain has before its first chunk.  A deque costs 760 bytes, and many a buffer of an idle
# connection never needs one.
NO_CHUNKS: Any = ()


class ByteChain:
    """A queue of chunks.  Knows no callback, and runs no code of the program's."""

    __slots__ = ("_chunks", "_has_files", "_lock", "_start", "length")

    _chunks: deque[Chunk]
    _start: int
    length: int
    _lock: Lock | None  # held by `evbuffer`, around all of it
    _has_files: bool  # whether there may be a piece of a file among the chunks

    def __len__(self) -> int:
        return self.length

    @property
    def contiguous_space(self) -> int:
        """How many bytes the first chunk holds (evbuffer_get_contiguous_space)."""
        return len(self._chunks[0]) - self._start if self._chunks else 0

    def _spans(self, start: int, size: int) -> Iterator[Span]:
        """Yield where the bytes from `start` are, at most `size` (-1: all), chunk by chunk."""
        if size < 0:
            size = self.length
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

    def views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes from `start`, at most `size` (-1: all), chunk by chunk."""
        for data, first, last in self._spans(start, size):
            yield memoryview(data)[first:last]

    def _own_chunks(self) -> deque[Chunk]:
        """Return the chunks, to be added to."""
        if self._chunks is NO_CHUNKS:
            self._chunks = deque()
        return self._chunks

    def _settle_first(self) -> None:
        """Cut what is gone off the first chunk, so that something can stand before it."""
        if self._start:
            first = self._chunks[0]
            if isinstance(first, bytes):
                self._chunks[0] = first[self._start :]
            else:
                first.cut(self._start)
            self._start = 0

    def _take_chunks(self, size: int) -> list[Chunk]:
        """Take `size` bytes out as chunks, splitting the last; reports nothing."""
        chunks = self._chunks
        taken: list[Chunk] = []
        if size >= self.contiguous_space:
            self._settle_first()  # the first chunk goes whole
        self.length -= size
        while size and size >= len(chunks[0]) - self._start:
            chunk = chunks.popleft()
            size -= len(chunk)
            taken.append(chunk)
        if size:
            stop = self._start + size
            first = chunks[0]
            if isinstance(first, bytes):
                taken.append(first[self._start : stop])
            else:
                taken.append(first.part(self._start, stop))
            self._start = stop
        return taken

    def _drop_some(self, size: int) -> list[Chunk] | None:
        """Drop fewer bytes than there are; return the foreign chunks that have left, if any."""
        chunks = self._chunks
        self.length -= size
        size += self._start
        gone: list[Chunk] | None = None
        while size and size >= len(chunks[0]):
            chunk = chunks.popleft()
            size -= len(chunk)
            if type(chunk) is not bytes:
                if gone is None:
                    gone = []
                gone.append(chunk)
        self._start = size
        return gone

    def _shared_chunks(self) -> list[Chunk]:
        """Return chunks over the same memory as ours, to stand in another chain."""
        shared: list[Chunk] = []
        skip = self._start
        for chunk in self._chunks:
            if not isinstance(chunk, bytes):
                shared.append(chunk.shared(skip))
            elif skip:
                shared.append(Reference(memoryview(chunk)[skip:]))
            else:
                shared.append(chunk)
            skip = 0
        return shared


class Imprint:
    """What a chain was like at a moment, for something that the chain itself may keep."""

    __slots__ = ("_chunks", "_start", "_witness", "length")

    def __init__(self, chain: ByteChain) -> None:
        self.length = chain.length
        self._start = chain._start
        # A deque's iterator refuses to go on when the deque has changed, at its end, too.  That
        # counts the changes without a counter, which every add and drain would have to pay for.
        self._chunks = chain._chunks
        self._witness = iter(self._chunks)

    def fits(self, chain: ByteChain) -> bool:
        """Whether nothing was added to `chain`, taken or rearranged since."""
        try:
            next(self._witness, None)
        except RuntimeError:
            return False
        return (
            chain._chunks is self._chunks
            and chain._start == self._start
            and chain.length == self.length
        )


class Stamp(Imprint):
    """An imprint that knows the chain it was made of, and keeps it."""

    __slots__ = ("_chain",)

    def __init__(self, chain: ByteChain) -> None:
        super().__init__(chain)
        self._chain = chain

    def is_of(self, chain: ByteChain) -> bool:
        """Whether the stamp was made for this very chain."""
        return chain is self._chain

    def holds(self) -> bool:
        """Whether nothing was added, taken or rearranged since."""
        return self.fits(self._chain)
