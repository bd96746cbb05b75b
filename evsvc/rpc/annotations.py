"""What `Annotated` may say about a field beside its type: `Annotated[int, Tag(3), U32]`."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import ArgumentError

MAX_TAG = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Tag:
    """The number that stands for the field in libevent's format; raises ArgumentError beyond 32
    bits.

    A field without one has one more than the field before it, the first has 1.
    """

    number: int

    def __post_init__(self) -> None:
        if not 0 <= self.number <= MAX_TAG:
            raise ArgumentError(f"a tag is from 0 to {MAX_TAG}: {self.number!r}")


@dataclass(frozen=True, slots=True)
class IntRange:
    """The least and the greatest value of an int.  Raises ArgumentError when there is none."""

    least: int
    greatest: int

    def __post_init__(self) -> None:
        if self.least > self.greatest:
            raise ArgumentError(f"no integer from {self.least!r} to {self.greatest!r}")


@dataclass(frozen=True, slots=True)
class FixedLength:
    """How many bytes a `bytes` field has, no more and no less.  Raises ArgumentError below 0."""

    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ArgumentError(f"a length is not negative: {self.size!r}")


U32 = IntRange(0, (1 << 32) - 1)
"""libevent's `int`."""
U64 = IntRange(0, (1 << 64) - 1)
"""libevent's `int64`."""
I32 = IntRange(-(1 << 31), (1 << 31) - 1)
I64 = IntRange(-(1 << 63), (1 << 63) - 1)
