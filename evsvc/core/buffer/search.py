"""Finding bytes and line ends in a chain of chunks, without copying them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..flags import EolStyle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .chain import ByteChain
    from .chunks import Span

_ONE_BYTE_EOL = {EolStyle.EVBUFFER_EOL_LF: b"\n", EolStyle.EVBUFFER_EOL_NUL: b"\0"}
_RUN_OF_CR_LF = re.compile(rb"[\r\n]*")


def find(spans: Iterable[Span], position: int, needle: bytes) -> int:
    """Return where `needle` begins in `spans`, the first of which begins at `position`, or -1.

    A match over the border of two chunks is found in the end of what came before, joined to as
    much of the beginning of the next as a match can need.
    """
    if not needle:
        return position
    overlap = len(needle) - 1
    tail = b""
    for data, first, last in spans:
        if tail:
            border = tail + bytes(data[first : min(first + overlap, last)])
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


def _find_in(data: bytes | memoryview, first: int, last: int, needle: bytes) -> int:
    if isinstance(data, bytes):
        return data.find(needle, first, last)
    # A view has no find(), and may be of any memory; the pattern reads it where it is.
    match = re.compile(re.escape(needle)).search(data, first, last)
    return -1 if match is None else match.start()


def search(chain: ByteChain, needle: bytes, start: int, stop: int | None = None) -> int:
    """Return where `needle` begins, at or after `start` and wholly before `stop`, or -1."""
    end = len(chain) if stop is None else min(stop, len(chain))
    return find(chain._spans(start, max(end - start, 0)), start, needle)


def find_eol(chain: ByteChain, eol: int, start: int) -> tuple[int, int]:
    """Return the position and length of the first line end from `start`; (-1, 0) for none.

    Raises ArgumentError for an unknown style.
    """
    if eol == EolStyle.EVBUFFER_EOL_ANY:
        return _find_run(chain, start)
    if eol == EolStyle.EVBUFFER_EOL_CRLF_STRICT:
        at = search(chain, b"\r\n", start)
        return at, 2 if at >= 0 else 0
    if eol == EolStyle.EVBUFFER_EOL_CRLF:
        at = search(chain, b"\n", start)
        if at > start and search(chain, b"\r", at - 1, at) >= 0:
            return at - 1, 2
    else:
        try:
            needle = _ONE_BYTE_EOL[EolStyle(eol)]
        except ValueError:
            raise ArgumentError(f"unknown end-of-line style: {eol!r}") from None
        at = search(chain, needle, start)
    return at, 1 if at >= 0 else 0


def _find_run(chain: ByteChain, start: int) -> tuple[int, int]:
    """Find the first run of CR and LF bytes, of any length and order."""
    line_feed = search(chain, b"\n", start)
    carriage_return = search(chain, b"\r", start, line_feed if line_feed >= 0 else None)
    at = line_feed if carriage_return < 0 else carriage_return
    if at < 0:
        return -1, 0
    length = 0
    for data, first, last in chain._spans(at, -1):
        match = _RUN_OF_CR_LF.match(data, first, last)
        assert match is not None
        length += match.end() - first
        if match.end() < last:
            break
    return at, length
