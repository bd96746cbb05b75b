"""Positions in a chain of chunks, and finding bytes and line ends there without copying them.

A search that finds nothing is often made again when more has come.  The chain remembers the last
needle and how far it is clear of it, so that the next search goes on there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import ArgumentError, StateError
from ..flags import EolStyle, PtrHow
from .chain import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .chain import Chain
    from .chunks import Span

# As plain ints: comparing with a member of the enum costs more than finding a line end.
_ANY = int(EolStyle.EVBUFFER_EOL_ANY)
_CRLF = int(EolStyle.EVBUFFER_EOL_CRLF)
_CRLF_STRICT = int(EolStyle.EVBUFFER_EOL_CRLF_STRICT)
_ONE_BYTE_EOL = {int(EolStyle.EVBUFFER_EOL_LF): b"\n", int(EolStyle.EVBUFFER_EOL_NUL): b"\0"}
_RUN_OF_CR_LF = re.compile(rb"[\r\n]*")

# Stands for a needle: any byte of a line end.
_CR_OR_LF = None


class EvBufferPtr(int):
    """A position in a buffer (struct evbuffer_ptr): an int that ends when the buffer changes.

    It comes from `search`, `search_eol` and `ptr_set`, and is -1 where nothing was found.  What
    takes a position raises StateError for one that is older than the last change, `pullup` and
    everything that moves chunks included, and ArgumentError for another buffer's.  Calculating
    with it gives a plain int.
    """

    _chain: Chain  # an int takes no __slots__
    _mark: Mark

    def __new__(cls, position: int, chain: Chain) -> EvBufferPtr:
        ptr = int.__new__(cls, position)
        ptr._chain = chain
        ptr._mark = Mark(chain)
        return ptr


def checked_position(chain: Chain, position: int) -> int:
    """Return a position that may be past the end, as a plain int.

    Raises ArgumentError when it is negative or another buffer's, StateError when it has ended,
    ArgumentTypeError when it is no whole number.
    """
    if isinstance(position, EvBufferPtr):
        if position._chain is not chain:
            raise ArgumentError(f"position {int(position)} is in another buffer")
        if not position._mark.fits(chain):
            raise StateError(f"the buffer has changed since position {int(position)} was taken")
    elif type(position) is not int:
        whole_number(position, "a position")
    if position < 0:
        raise ArgumentError(f"a position is 0 or more: {int(position)}")
    return int(position)


def position_within(chain: Chain, position: int) -> int:
    """Do as `checked_position` does, and raise ArgumentError past the end, too."""
    checked = checked_position(chain, position)
    if checked > chain.length:
        raise ArgumentError(f"position {checked} is not in 0..{chain.length}")
    return checked


def ptr_at(chain: Chain, position: int, how: int, ptr: EvBufferPtr | None) -> EvBufferPtr:
    """Return a position from the start, or moved on from `ptr`; see `EvBuffer.ptr_set`."""
    whole_number(position, "a position")
    if how == PtrHow.EVBUFFER_PTR_ADD:
        if ptr is None:
            raise ArgumentError("EVBUFFER_PTR_ADD needs a position to add to")
        position += position_within(chain, ptr)
    elif whole_number(how, "how") != PtrHow.EVBUFFER_PTR_SET:
        raise ArgumentError(f"EVBUFFER_PTR_SET or EVBUFFER_PTR_ADD is wanted: {how!r}")
    return EvBufferPtr(position_within(chain, position), chain)


def search(chain: Chain, needle: bytes | None, start: int, stop: int | None = None) -> int:
    """Return where `needle` begins, at or after `start` and wholly before `stop`, or -1."""
    if needle == b"":
        return start
    end = chain.length if stop is None or stop > chain.length else stop
    chunks = chain.chunks
    if len(chunks) == 1 and needle is not None and type(chunks[0]) is bytes:
        # The usual case.  There is nothing to gain from remembering; nor would it be forgotten, as
        # a single chunk of bytes leaves in one step, see `EvBuffer.drop`.
        at = chunks[0].find(needle, chain.start + start, chain.start + end)
        return at - chain.start if at >= 0 else -1
    known = chain.clear_of
    clear = known[1] if known is not None and known[0] == needle else 0
    first = max(start, clear)
    at = _find(chain.spans(first, max(end - first, 0)), first, needle)
    if start <= clear and (len(chunks) > 1 or needle is not None):
        overlap = len(needle) - 1 if needle else 0
        chain.clear_of = needle, at if at >= 0 else max(clear, end - overlap)
    return at


def _find(spans: Iterable[Span], position: int, needle: bytes | None) -> int:
    """Return where `needle` begins in `spans`, the first of which begins at `position`, or -1.

    A match over the border of two chunks is found in the end of what came before, joined to as
    much of the beginning of the next as a match can need.
    """
    overlap = len(needle) - 1 if needle else 0
    tail = b""
    for data, first, last in spans:
        if tail:
            border = tail + bytes(data[first : min(first + overlap, last)])
            assert needle is not None
            found = border.find(needle)
            if found >= 0:
                return position - len(tail) + found
        found = _find_in(data, first, last, needle)
        if found >= 0:
            return position + found - first
        position += last - first
        if overlap:
            tail = (tail + bytes(data[max(first, last - overlap) : last]))[-overlap:]
    return -1


def _find_in(data: bytes | memoryview, first: int, last: int, needle: bytes | None) -> int:
    if needle is _CR_OR_LF:
        line_feed = _find_in(data, first, last, b"\n")
        carriage_return = _find_in(data, first, last if line_feed < 0 else line_feed, b"\r")
        return line_feed if carriage_return < 0 else carriage_return
    if isinstance(data, bytes):
        return data.find(needle, first, last)
    # A view has no find(), and may be of any memory; the pattern reads it where it is.
    match = re.compile(re.escape(needle)).search(data, first, last)
    return -1 if match is None else match.start()


def find_eol(chain: Chain, eol: int, start: int) -> tuple[int, int]:
    """Return the position and length of the first line end from `start`; (-1, 0) for none.

    Raises ArgumentError for an unknown style.
    """
    if eol == _CRLF:
        at = search(chain, b"\n", start)
        if at > start and search(chain, b"\r", at - 1, at) >= 0:
            return at - 1, 2
    elif eol == _ANY:
        return _find_run(chain, start)
    elif eol == _CRLF_STRICT:
        at = search(chain, b"\r\n", start)
        return at, 2 if at >= 0 else 0
    elif whole_number(eol, "an end-of-line style") in _ONE_BYTE_EOL:
        at = search(chain, _ONE_BYTE_EOL[eol], start)
    else:
        raise ArgumentError(f"unknown end-of-line style: {eol!r}")
    return at, 1 if at >= 0 else 0


def _find_run(chain: Chain, start: int) -> tuple[int, int]:
    """Find the first run of CR and LF bytes, of any length and order."""
    at = search(chain, _CR_OR_LF, start)
    if at < 0:
        return -1, 0
    length = 0
    for data, first, last in chain.spans(at, -1):
        match = _RUN_OF_CR_LF.match(data, first, last)
        assert match is not None
        length += match.end() - first
        if match.end() < last:
            break
    return at, length
