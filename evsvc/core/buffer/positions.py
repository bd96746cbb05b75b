"""Positions in an EvBuffer, which end with the next change of it."""

from __future__ import annotations

from ..checks import whole_number
from ..errors import ArgumentError, StateError
from ..flags import PtrHow
from .chain import ByteChain, Stamp


class EvBufferPtr(int):
    """A position in a buffer (struct evbuffer_ptr): an int that ends when the buffer changes.

    It comes from `search`, `search_eol` and `ptr_set`, and is -1 where nothing was found.  What
    takes a position raises StateError for one that is older than the last change, `pullup` and
    everything that moves chunks included, and ArgumentError for another buffer's.  Calculating
    with it gives a plain int.
    """

    _stamp: Stamp  # an int takes no __slots__

    def __new__(cls, position: int, chain: ByteChain) -> EvBufferPtr:
        ptr = super().__new__(cls, position)
        ptr._stamp = Stamp(chain)
        return ptr


def checked_position(chain: ByteChain, position: int) -> int:
    """Return a position that may be past the end, as a plain int.

    Raises ArgumentError when it is negative or another buffer's, StateError when it has ended,
    ArgumentTypeError when it is no whole number.
    """
    if isinstance(position, EvBufferPtr):
        if not position._stamp.is_of(chain):
            raise ArgumentError(f"position {int(position)} is in another buffer")
        if not position._stamp.holds():
            raise StateError(f"the buffer has changed since position {int(position)} was taken")
    elif type(position) is not int:
        whole_number(position, "a position")
    if position < 0:
        raise ArgumentError(f"a position is 0 or more: {int(position)}")
    return int(position)


def position_within(chain: ByteChain, position: int) -> int:
    """Do as `checked_position` does, and raise ArgumentError past the end, too."""
    checked = checked_position(chain, position)
    if checked > len(chain):
        raise ArgumentError(f"position {checked} is not in 0..{len(chain)}")
    return checked


def ptr_at(chain: ByteChain, position: int, how: int, ptr: EvBufferPtr | None) -> EvBufferPtr:
    """Return a position from the start, or moved on from `ptr`; see `EvBuffer.ptr_set`."""
    whole_number(position, "a position")
    if how == PtrHow.EVBUFFER_PTR_ADD:
        if ptr is None:
            raise ArgumentError("EVBUFFER_PTR_ADD needs a position to add to")
        position += position_within(chain, ptr)
    elif how != PtrHow.EVBUFFER_PTR_SET:
        raise ArgumentError(f"EVBUFFER_PTR_SET or EVBUFFER_PTR_ADD is wanted: {how!r}")
    return EvBufferPtr(position_within(chain, position), chain)
