"""A chain of chunks: the bytes of an EvBuffer, and moving them.  Knows no callback and no policy.

Invariants
    * No chunk is empty; `length` is the sum of the chunks less `start`.
    * `start` bytes of the first chunk are gone already, fewer than it has.
    * `start` falls only together with a change of the chunks themselves; `Mark` relies on it.
    * No operation walks over all chunks but one that takes or shares them all: what is found at the
      front costs by what is found, and what is far in is remembered (`place`, `clear_of`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import StateError
from .chunks import Chunk, Reference
from .segment import FilePiece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .chunks import Span


# What a chain has before its first chunk.  A deque costs 760 bytes, and many a buffer of an idle
# connection never needs one.
NO_CHUNKS: Any = ()

# A place behind fewer chunks than this is found again by walking there.
NEAR_CHUNKS = 8

# A rest of a chunk that is longer is not copied when something is put before it.
COPIED_REST_BYTES = 4096


class Chain:
    """A queue of chunks.

    chunks, start: see the invariants.  length: how many bytes there are.  files: how many chunks
    are pieces of files.  sealed: pieces of files that sendfile() takes may not be looked at.
    clear_of: what a search has shown, for `search`; a needle, and the position before which none
    begins.  place: the number of a chunk far in, and the position where it begins.  These two hold
    while bytes are only added at the end, so whatever changes the front forgets them; but for
    `EvBuffer.drop` of a single chunk of bytes, since neither is kept with one.
    """

    __slots__ = ("chunks", "clear_of", "files", "length", "place", "sealed", "start")

    chunks: deque[Chunk]
    start: int
    length: int
    files: int
    sealed: bool
    clear_of: tuple[bytes | None, int] | None
    place: tuple[int, int] | None

    def __len__(self) -> int:
        return self.length

    def spans(self, start: int, size: int) -> Iterator[Span]:
        """Yield where the bytes from `start` are, at most `size` (-1: all), part by part.

        Raises StateError for a piece of a file where those are sealed, SocketError when one cannot
        be read.
        """
        return self._spans(start, size, self.sealed)

    def views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes from `start`, at most `size` (-1: all), part by part.

        For the owner: of sealed files, too.  A file is read a bounded part at a time.  Raises
        SocketError when it cannot be, as when it has become shorter.
        """
        for data, first, last in self._spans(start, size, False):
            yield memoryview(data)[first:last]

    def _spans(self, start: int, size: int, sealed: bool) -> Iterator[Span]:
        if size < 0:
            size = self.length
        chunks, first = self._chunks_from(start) if start else (self.chunks, self.start)
        for chunk in chunks:
            if size <= 0:
                return
            last = min(first + size, len(chunk))
            if isinstance(chunk, bytes):
                yield chunk, first, last
            else:
                if sealed and isinstance(chunk, FilePiece) and chunk.sendable:
                    raise StateError(
                        "the bytes of a file go to a descriptor only, as the flag says"
                    )
                yield from chunk.spans(first, last)
            size -= last - first
            first = 0

    def _chunks_from(self, position: int) -> tuple[Iterable[Chunk], int]:
        """Return the chunks from the one with `position` on, and where in it that is."""
        chunks = self.chunks
        number, begin = 0, -self.start
        if self.place is not None and self.place[1] <= position:
            number, begin = self.place
        count = len(chunks)
        while number < count and position >= (end := begin + len(chunks[number])):
            number, begin = number + 1, end
        if NEAR_CHUNKS <= number < count:
            self.place = number, begin
        return (chunks[at] for at in range(number, count)), position - begin

    def first_file(self) -> FilePiece | None:
        """Return the piece of a file at the front that sendfile() may be tried with."""
        first = self.chunks[0]
        return first if isinstance(first, FilePiece) and first.sendable else None

    def own_chunks(self) -> deque[Chunk]:
        """Return the chunks, to be added to."""
        if self.chunks is NO_CHUNKS:
            self.chunks = deque()
        return self.chunks

    def put_before(self, chunks: Sequence[Chunk], size: int) -> None:
        """Insert chunks at the front, `size` bytes together."""
        self._settle_first()
        self.own_chunks().extendleft(reversed(chunks))
        self.length += size

    def drop_all(self) -> list[Chunk]:
        """Drop everything; return the foreign chunks that have left."""
        gone = [chunk for chunk in self.chunks if type(chunk) is not bytes]
        self.place = self.clear_of = None
        self.chunks.clear()
        self.start = self.length = self.files = 0
        return gone

    def drop_some(self, size: int) -> list[Chunk] | None:
        """Drop fewer bytes than there are; return the foreign chunks that have left, if any."""
        self.place = self.clear_of = None
        chunks = self.chunks
        self.length -= size
        size += self.start
        gone: list[Chunk] | None = None
        while size and size >= len(chunks[0]):
            chunk = chunks.popleft()
            size -= len(chunk)
            if type(chunk) is not bytes:
                if gone is None:
                    gone = []
                gone.append(chunk)
                if type(chunk) is FilePiece:
                    self.files -= 1
        self.start = size
        return gone

    def take(self, source: Chain, size: int, at_front: bool) -> None:
        """Move the first `size` bytes of `source`, which must be there, to one of our ends."""
        if size == source.length and not self.length:
            # The usual case, all of it into an empty one: they change what they have.  Each Mark is
            # to see that, even when they change back.
            source.chunks.append(b"")
            source.chunks.pop()
            if self.chunks is not NO_CHUNKS:
                self.chunks.append(b"")
                self.chunks.pop()
            self.place = self.clear_of = source.place = source.clear_of = None
            self.chunks, source.chunks = source.chunks, self.chunks
            self.start, source.start = source.start, 0
            self.files, source.files = source.files, 0
            self.length, source.length = size, 0
            return
        has_files = source.files > 0
        moved = source._take_out(size)
        if has_files:
            self.files += sum(type(chunk) is FilePiece for chunk in moved)
        if at_front:
            self.put_before(moved, size)
        else:
            self.own_chunks().extend(moved)
            self.length += size

    def share(self, source: Chain) -> None:
        """Append chunks over the memory of `source`, which keeps it, too."""
        skip = source.start
        shared: list[Chunk] = []
        for chunk in source.chunks:
            if not isinstance(chunk, bytes):
                shared.append(chunk.shared(skip))
            elif skip:
                shared.append(Reference(memoryview(chunk)[skip:]))
            else:
                shared.append(chunk)
            skip = 0
        self.own_chunks().extend(shared)
        self.files += source.files
        self.length += source.length

    def _take_out(self, size: int) -> list[Chunk]:
        """Take `size` bytes out as chunks, splitting the last."""
        chunks = self.chunks
        taken: list[Chunk] = []
        if size >= len(chunks[0]) - self.start:
            self._settle_first()  # the first chunk goes whole
        self.place = self.clear_of = None
        self.length -= size
        while size and size >= len(chunks[0]) - self.start:
            chunk = chunks.popleft()
            size -= len(chunk)
            taken.append(chunk)
            if type(chunk) is FilePiece:
                self.files -= 1
        if size:
            stop = self.start + size
            first = chunks[0]
            if isinstance(first, bytes):
                taken.append(first[self.start : stop])
            else:
                taken.append(first.part(self.start, stop))
            self.start = stop
        return taken

    def _settle_first(self) -> None:
        """Cut what is gone off the first chunk, so that it can stand anywhere."""
        self.place = self.clear_of = None
        if self.start:
            first = self.chunks[0]
            if not isinstance(first, bytes):
                first.cut(self.start)
            elif len(first) - self.start <= COPIED_REST_BYTES:
                self.chunks[0] = first[self.start :]
            else:
                self.chunks[0] = Reference(memoryview(first)[self.start :])
            self.start = 0


class Mark:
    """What a chain was like at a moment.  It does not keep the chain, which so may keep it."""

    __slots__ = ("_chunks", "_length", "_start", "_witness")

    def __init__(self, chain: Chain) -> None:
        self._length = chain.length
        self._start = chain.start
        # A deque's iterator refuses to go on when the deque has changed, at its end, too.  That
        # counts the changes without a counter, which every add and drain would have to pay for.
        self._chunks = chunks = chain.own_chunks()
        self._witness = iter(chunks)

    def fits(self, chain: Chain) -> bool:
        """Return True when nothing was added to `chain`, taken or rearranged since."""
        try:
            next(self._witness, None)
        except RuntimeError:
            return False
        return (
            chain.chunks is self._chunks
            and chain.start == self._start
            and chain.length == self._length
        )
