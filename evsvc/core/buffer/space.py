"""Room at the end of an EvBuffer that the program fills itself, and then commits.

Invariants
    * What is committed never changes: a block is written behind its `used` bytes only.
    * A reservation ends with the next change of the chain; committing it is one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..checks import whole_number
from ..errors import ArgumentError, StateError
from .chain import Chain, Mark
from .chunks import Reference

MIN_BLOCK_BYTES = 4096


class Block:
    """Memory of which the first `used` bytes are committed."""

    __slots__ = ("memory", "used")

    def __init__(self, size: int) -> None:
        try:
            self.memory = memoryview(bytearray(max(size, MIN_BLOCK_BYTES)))
        except (MemoryError, OverflowError) as exc:
            raise ArgumentError(f"there is no room for {size} bytes") from exc
        self.used = 0

    @property
    def free(self) -> memoryview:
        """What can still be written."""
        return self.memory[self.used :]


class Space:
    """The free memory behind the end of one chain, and what of it is reserved."""

    __slots__ = ("_areas", "_block", "_committed", "_mark", "_spare")

    def __init__(self) -> None:
        self._block: Block | None = None  # the one that is filled, and
        self._committed: Reference | None = None  # the chunk of what it was filled with last
        self._spare: Block | None = None  # the one that a second area was taken from
        self._areas: list[tuple[Block, int]] = []  # the reservation: blocks, and how much of each
        self._mark: Mark | None = None  # of the chain, when that was made

    def expand(self, size: int) -> Block:
        """Have `size` free bytes in one block.  Raises ArgumentError when there is no memory."""
        block = self._block
        if block is None or len(block.free) < size:
            block = self._second_block(size)
            self._fill(block)
        return block

    def reserve(self, chain: Chain, size: int, most_areas: int) -> list[memoryview]:
        """Return one or two writable areas of at least `size` bytes together."""
        block = self._block
        free_bytes = 0 if block is None else len(block.free)
        if block is not None and 0 < free_bytes < size and most_areas > 1:
            blocks = [block, self._second_block(size - free_bytes)]
        else:
            blocks = [self.expand(max(size, 1))]
        areas = [block.free for block in blocks]
        self._areas = list(zip(blocks, map(len, areas), strict=True))
        self._mark = Mark(chain)
        return areas

    def commit(self, chain: Chain, sizes: Sequence[int]) -> int:
        """Append the first bytes of each area to the chain; return how many those are.

        Raises as `EvBuffer.commit_space`, with nothing changed.
        """
        self._check(chain, sizes)
        for (block, _), size in zip(self._areas, sizes, strict=False):
            if size:
                self._append(chain, block, size)
        total = sum(sizes)
        if total:
            self._areas = []
            self._mark = None
        return total

    def _check(self, chain: Chain, sizes: Sequence[int]) -> None:
        for size in sizes:
            whole_number(size, "a size")
        if not sizes:
            return
        if self._mark is None:
            raise StateError("no space is reserved")
        if not self._mark.fits(chain):
            raise StateError("the buffer has changed since the space was reserved")
        if len(sizes) > len(self._areas):
            raise ArgumentError(f"{len(self._areas)} areas are reserved, not {len(sizes)}")
        for (_, most), size in zip(self._areas, sizes, strict=False):
            if not 0 <= size <= most:
                raise ArgumentError(f"an area of {most} bytes is reserved, not {size!r}")

    def _append(self, chain: Chain, block: Block, size: int) -> None:
        if block is not self._block:
            self._fill(block)
        tail = self._committed
        if tail is not None and chain.chunks and chain.chunks[-1] is tail:
            first = block.used - len(tail)
            block.used += size
            tail.view = block.memory[first : block.used].toreadonly()
        else:
            first = block.used
            block.used += size
            self._committed = Reference(block.memory[first : block.used].toreadonly())
            chain.own_chunks().append(self._committed)
        chain.length += size

    def _fill(self, block: Block) -> None:
        """Go on with another block; what is free in the one before is given up."""
        self._block = block
        self._committed = None
        if block is self._spare:
            self._spare = None

    def _second_block(self, size: int) -> Block:
        """Return the spare block when it is large enough, else a new one in its place."""
        spare = self._spare
        if spare is None or len(spare.memory) < size:
            spare = self._spare = Block(size)
        return spare
