"""Response heads and chunks as bytes.  Does no I/O.

A head is put together as one text and encoded once.  The status lines are made beforehand, and
the Date line once a second.
"""

from __future__ import annotations

import re
from email.utils import formatdate
from time import time
from typing import TYPE_CHECKING, Final

from ...core.errors import ArgumentError
from .status import reason_phrase

if TYPE_CHECKING:
    from .headers import Headers

_PHRASES: Final = {code: reason_phrase(code) for code in range(200, 600)}
_STATUS_LINES: Final = {
    (code, reason): f"HTTP/1.1 {code} {phrase}\r\n"
    for code, phrase in _PHRASES.items()
    for reason in (None, phrase)
}
_is_reason = re.compile(r"[\t -~\x80-\xff]*").fullmatch

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
CHUNK_END: Final = b"\r\n"

MAX_PLAIN_HEADS: Final = 256
"""How many beginnings of plain replies are kept."""

TYPE_ALONE: Final = ["content-type"]
"""The keys of headers that say nothing else, as most do: one look instead of one for each field
that would steer the reply."""


class DateLine:
    """The `Date:` line of a server's replies, formatted when the second changes.

    keep_alive: lines for replies after which the connection lives on, or "".

    Read `line` while `begins <= time() < expires`; then `refresh`.  A wall clock may be set back.
    """

    __slots__ = ("_plain_heads", "begins", "expires", "keep_alive", "line", "line_bytes")

    def __init__(self) -> None:
        self.line = self.keep_alive = ""
        self.line_bytes = b""
        self.begins = self.expires = 0.0
        self._plain_heads: dict[tuple[int, str | None, tuple[str, str]], bytes] = {}

    def refresh(self, now: float) -> str:
        """Format the line for the wall-clock time `now` (RFC 9110 5.6.7) and return it."""
        self.line = f"Date: {formatdate(now, usegmt=True)}\r\n"
        self.line_bytes = self.line.encode()
        self.begins = float(int(now))
        self.expires = self.begins + 1
        return self.line

    def plain_reply(
        self, code: int, reason: str | None, field: tuple[str, str], body: bytes
    ) -> bytes:
        """Return a whole reply with one field of the program's, its Content-Type, to HTTP/1.1,
        after which the connection lives on; there is no `keep_alive`.

        The law: byte for byte what `reply_head` and the body are.  It costs half of that: what
        stands before the Date is the same in most replies, and kept.  Raises as `status_line`.
        """
        start = self._plain_heads.get((code, reason, field))
        if start is None:
            start = self._keep_plain_head(code, reason, field)
        if not self.begins <= (now := time()) < self.expires:
            self.refresh(now)
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, self.line_bytes, len(body), body)

    def _keep_plain_head(self, code: int, reason: str | None, field: tuple[str, str]) -> bytes:
        if len(self._plain_heads) >= MAX_PLAIN_HEADS:
            self._plain_heads.clear()
        line = _STATUS_LINES.get((code, reason)) or status_line(code, reason)
        start = f"{line}{field[0]}: {field[1]}\r\n".encode("latin-1")
        self._plain_heads[code, reason, field] = start
        return start


def status_line(code: int, reason: str | None) -> str:
    """Return the status line with its CRLF; None is the standard phrase.

    Raises ArgumentError for a code outside 200..599, as no other is the status of a reply, or a
    reason with a control character.
    """
    if code not in _PHRASES:
        raise ArgumentError(f"the status of a reply is 200..599: {code!r}")
    if not isinstance(reason, str) or _is_reason(reason) is None:
        raise ArgumentError(f"not a reason phrase: {reason!r}")
    return f"HTTP/1.1 {code} {reason}\r\n"


def interim_head(code: int, fields: Headers) -> bytes:
    """Return a complete interim response (RFC 9110 15.2).

    Raises ArgumentError for a code outside 102..199, or a field that speaks of a body.
    """
    if not 102 <= code <= 199:
        raise ArgumentError(f"the status of an interim response is 102..199: {code!r}")
    if "content-length" in fields.names or "transfer-encoding" in fields.names:
        raise ArgumentError(f"an interim response has no body: {fields!r}")
    line = f"HTTP/1.1 {code} {reason_phrase(code)}\r\n"
    return line.encode() + fields.to_block() + b"\r\n"


def reply_head(
    headers: Headers | None,
    code: int,
    reason: str | None,
    date: DateLine,
    length: int | None,
    content_type: str | None,
    keep_alive: bool,
    minor: int,
) -> tuple[bytes, bool]:
    """Return a complete head, and whether the connection lives on after it.

    length: the Content-Length to announce, None for none; content_type: the one to fall back on,
    None for none; minor: the client's HTTP version.  What the program set stands, but a
    Connection that lacks `close` gets it where the connection ends.  Raises as `status_line`.
    """
    text = _STATUS_LINES.get((code, reason)) or status_line(code, reason)
    now = time()
    date_line = date.line if date.begins <= now < date.expires else date.refresh(now)
    says_close = False
    if headers is not None and headers.pairs:
        for name, value in headers.pairs:
            text = f"{text}{name}: {value}\r\n"
        keys = headers.names
        if keys == TYPE_ALONE:
            content_type = None
        else:
            if "content-type" in keys:
                content_type = None
            if "content-length" in keys:
                length = None
            if "date" in keys:
                date_line = ""
            if "connection" in keys:
                says_close = "close" in headers.tokens("connection")
    if says_close:
        keep_alive = False
    elif not keep_alive:
        text += "Connection: close\r\n"
    elif date.keep_alive:
        text += date.keep_alive
    elif not minor:
        text += "Connection: keep-alive\r\n"
    if content_type is not None:
        text = f"{text}Content-Type: {content_type}\r\n"
    if length is None:
        return f"{text}{date_line}\r\n".encode("latin-1"), keep_alive
    return f"{text}{date_line}Content-Length: {length}\r\n\r\n".encode("latin-1"), keep_alive


def chunk(data: bytes) -> bytes:
    """Return one chunk of the chunked coding (RFC 9112 7.1); `data` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk_head(size: int) -> bytes:
    """Return what stands before a chunk's data; CHUNK_END stands behind it."""
    return b"%x\r\n" % size
