"""Finding bytes and line ends in an EvBuffer, across its chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ArgumentError
from .flags import EolStyle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .buffer import EvBuffer

_ONE_BYTE_EOL = {EolStyle.EVBUFFER_EOL_LF: b"\n", EolStyle.EVBUFFER_EOL_NUL: b"\0"}


def find(views: Iterable[memoryview], position: int, needle: bytes) -> int:
    """Return where `needle` begins in `views`, the first of which begins at `position`, or -1.

    A match over the border of two chunks is found in the end of one joined to the next.
    """
    overlap = len(needle) - 1
    tail = b""
    for view in views:
        window = tail + view
        found = window.find(needle)
        if found >= 0:
            return position - len(tail) + found
        position += len(view)
        tail = window[-overlap:] if overlap > 0 else b""
    return -1


def find_eol(buffer: EvBuffer, eol: int, start: int) -> tuple[int, int]:
    """Return the position and length of the first line end from `start`; (-1, 0) for none.

    Raises ArgumentError for an unknown style.
    """
    if eol == EolStyle.EVBUFFER_EOL_ANY:
        return _find_run(buffer, start)
    if eol == EolStyle.EVBUFFER_EOL_CRLF_STRICT:
        at = buffer.search(b"\r\n", start)
        return at, 2 if at >= 0 else 0
    if eol == EolStyle.EVBUFFER_EOL_CRLF:
        at = buffer.search(b"\n", start)
        if at > start and buffer.copyout(1, at - 1) == b"\r":
            return at - 1, 2
    else:
        try:
            at = buffer.search(_ONE_BYTE_EOL[EolStyle(eol)], start)
        except ValueError:
            raise ArgumentError(f"unknown end-of-line style: {eol!r}") from None
    return at, 1 if at >= 0 else 0


def _find_run(buffer: EvBuffer, start: int) -> tuple[int, int]:
    """Find the first run of CR and LF bytes, of any length and order."""
    ends = [at for at in (buffer.search(b"\r", start), buffer.search(b"\n", start)) if at >= 0]
    if not ends:
        return -1, 0
    at = min(ends)
    length = 0
    for view in buffer.peek(-1, at):
        rest = len(bytes(view).lstrip(b"\r\n"))
        length += len(view) - rest
        if rest:
            break
    return at, length
