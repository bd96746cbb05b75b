"""Message bodies, cut from the bytes that have arrived.  No I/O, no heads.

A body is asked again and again for its next piece: bytes, or `b""` when more must arrive first.
It is over when `done` is true.

The chunked framing is read here and not by h11, because h11 refuses the white space before `;`
that a recipient MUST accept (RFC 9110 5.6.3, RFC 9112 7.1.1) and lets control characters and
unlimited extensions through.  tests/http/test_body.py holds that whatever is accepted here, h11
accepts with the same data, trailers and end.
"""

import re
from enum import Enum, auto
from typing import Final, Protocol

from ..errors import BodyTooLong, ConnectionClosed, RemoteProtocolError
from .grammar import TOKEN, are_field_lines, first_bad_line
from .headers import Headers
from .intake import Intake
from .limits import ReaderLimits

_CHUNK_SIZE_DIGITS: Final = 16
# An extension is a token, with a token or a quoted string for its value (RFC 9112 7.1.1).
_EXTENSION: Final = (
    rb"[ \t]*+;[ \t]*+%(token)b++"
    rb"(?:[ \t]*+=[ \t]*+(?:%(token)b++|\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*\"))?"
    % {b"token": TOKEN}
)
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)(?:%b)*" % _EXTENSION).fullmatch
# Some old servers pad the size with blanks, so a client must bear them; a server need not.
_PADDED_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16}+)(?:%b)*[ \t]*+" % _EXTENSION
).fullmatch
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
_FRAMING_TRAILERS: Final = ("content-length", "transfer-encoding", "host")


class Body(Protocol):
    """What is left of one message body."""

    @property
    def trailers(self) -> Headers | None:
        """The trailer fields, once they have been read; None for a body that can have none."""

    @property
    def done(self) -> bool:
        """Whether every byte of the body has been given out."""

    def read(self, intake: Intake) -> bytes:
        """The next piece; `b""` when more must arrive.  Raises RemoteProtocolError."""

    def receive_eof(self) -> None:
        """The peer closed.  Raises ConnectionClosed when that cuts the body short."""


class LengthBody:
    """A body of a known number of bytes."""

    __slots__ = ("_remaining",)

    trailers = None

    def __init__(self, length: int) -> None:
        self._remaining = length

    @property
    def done(self) -> bool:
        """Whether every byte of the body has been given out."""
        return self._remaining == 0

    def read(self, intake: Intake) -> bytes:
        """The next piece; `b""` when more must arrive."""
        piece = intake.take(self._remaining)
        self._remaining -= len(piece)
        return piece

    def receive_eof(self) -> None:
        """Raises ConnectionClosed: the peer closed before the announced length."""
        raise ConnectionClosed(f"the peer closed with {self._remaining} bytes of the body missing")


class EofBody:
    """A response body that lasts until the peer closes (RFC 9112 6.3, rule 8)."""

    __slots__ = ("_closed", "_max_bytes", "_received")

    trailers = None

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._received = 0
        self._closed = False

    @property
    def done(self) -> bool:
        """Whether the peer has closed."""
        return self._closed

    def read(self, intake: Intake) -> bytes:
        """The next piece.  Raises BodyTooLong beyond the limit."""
        self._received += intake.buffered
        if self._max_bytes is not None and self._received > self._max_bytes:
            raise BodyTooLong(f"the body is longer than {self._max_bytes} bytes")
        return intake.take(intake.buffered)

    def receive_eof(self) -> None:
        """The regular end of such a body."""
        self._closed = True


class _Phase(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkedBody:
    """A body in the chunked coding (RFC 9112 7.1).

    Lines end in CRLF only.  Extensions are ignored, but counted.  Trailers are kept in `trailers`,
    apart from the header, and the fields that would frame or route a message are refused there
    (RFC 9110 6.5.1).  With `padded` sizes may be followed by blanks, as some servers send them.
    """

    __slots__ = (
        "_extension_bytes",
        "_limits",
        "_match",
        "_phase",
        "_received",
        "_remaining",
        "_scan",
        "_trailers",
    )

    def __init__(self, limits: ReaderLimits, *, padded: bool = False) -> None:
        self._trailers = Headers()
        self._limits = limits
        self._match = _PADDED_CHUNK_LINE if padded else _CHUNK_LINE
        self._phase = _Phase.SIZE
        self._remaining = 0
        self._received = 0
        self._extension_bytes = 0
        self._scan = 0

    @property
    def trailers(self) -> Headers:
        """The trailer fields; none before the end of the body."""
        return self._trailers

    @property
    def done(self) -> bool:
        """Whether the last chunk and the trailers have been read."""
        return self._phase is _Phase.DONE

    def receive_eof(self) -> None:
        """Raises ConnectionClosed: the peer closed before the last chunk."""
        raise ConnectionClosed("the peer closed inside a chunked body")

    def read(self, intake: Intake) -> bytes:
        """All data that has arrived, chunks joined; `b""` when more must arrive.

        Raises RemoteProtocolError for bad framing, BodyTooLong as soon as a chunk's size tells it.
        Data before the fault is given out first, by one call of its own.
        """
        pieces: list[bytes] = []
        try:
            while self._step(intake, pieces):
                pass
        except RemoteProtocolError:
            # The fault stays where it is in `intake`, so the next call meets it again.
            if not pieces:
                raise
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _step(self, intake: Intake, pieces: list[bytes]) -> bool:
        """Go on by one element; False when more must arrive or the body is done."""
        phase = self._phase
        if phase is _Phase.DATA:
            return self._read_data(intake, pieces)
        if phase is _Phase.SIZE:
            return self._read_size(intake)
        if phase is _Phase.DATA_END:
            return self._read_data_end(intake)
        if phase is _Phase.TRAILERS:
            self._read_trailers(intake)
        return False

    def _read_size(self, intake: Intake) -> bool:
        line = self._chunk_line(intake)
        if line is None:
            return False
        found = self._match(line)
        if found is None:
            raise RemoteProtocolError(f"not a chunk size: {line[:80]!r}")
        digits: bytes = found[1]
        extension_bytes = self._extension_bytes + len(line) - len(digits)
        if extension_bytes > self._limits.max_chunk_extension_bytes:
            raise RemoteProtocolError("the chunk extensions are too long")
        size = int(digits, 16)
        most = self._limits.max_body_bytes
        if most is not None and self._received + size > most:
            raise BodyTooLong(f"the body is longer than {most} bytes")
        intake.pos += len(line) + 2
        self._extension_bytes = extension_bytes
        self._scan = 0
        self._received += size
        self._remaining = size
        self._phase = _Phase.DATA if size else _Phase.TRAILERS
        return True

    def _chunk_line(self, intake: Intake) -> bytes | None:
        """The size line, still unconsumed and without CRLF, or None when it is incomplete."""
        data, pos = intake.data, intake.pos
        if pos == len(data):
            return None
        if data[pos] not in _HEX_DIGITS:
            raise RemoteProtocolError(f"not a chunk size: {bytes(data[pos : pos + 80])!r}")
        end = data.find(b"\n", pos + self._scan)
        if end < 0:
            self._scan = len(data) - pos
            allowed = _CHUNK_SIZE_DIGITS + self._limits.max_chunk_extension_bytes + 1
            if self._scan > allowed:
                raise RemoteProtocolError("the chunk extensions are too long")
            return None
        if data[end - 1] != 0x0D:
            raise RemoteProtocolError("a chunk size line ends in a bare LF")
        return bytes(data[pos : end - 1])

    def _read_data(self, intake: Intake, pieces: list[bytes]) -> bool:
        piece = intake.take(self._remaining)
        if not piece:
            return False
        pieces.append(piece)
        self._remaining -= len(piece)
        if self._remaining:
            return False
        self._phase = _Phase.DATA_END
        return True

    def _read_data_end(self, intake: Intake) -> bool:
        end = bytes(intake.data[intake.pos : intake.pos + 2])
        if end == b"\r\n":
            intake.pos += 2
            self._phase = _Phase.SIZE
            return True
        if end not in (b"", b"\r"):
            raise RemoteProtocolError(f"chunk data is followed by {end!r} instead of CRLF")
        return False

    def _read_trailers(self, intake: Intake) -> None:
        data, pos = intake.data, intake.pos
        if data.startswith(b"\r\n", pos):
            intake.pos += 2
            self._phase = _Phase.DONE
            return
        most = self._limits.max_trailers_bytes
        end = data.find(b"\r\n\r\n", pos + max(0, self._scan - 3))
        size = (end + 4 if end >= 0 else len(data)) - pos
        if size > max(most, len(b"\r\n")):  # a CR may be half of the empty section, which passes
            raise RemoteProtocolError(f"the trailers are longer than {most} bytes", 431)
        if end >= 0:
            self._trailers = self._judge_trailers(bytes(data[pos : end + 2]))
            intake.pos = end + 4
            self._phase = _Phase.DONE
            return
        refuse_broken_lines(data, pos + max(0, self._scan - 1))
        self._scan = size

    def _judge_trailers(self, block: bytes) -> Headers:
        if not are_field_lines(block):
            raise RemoteProtocolError(f"not a trailer field: {first_bad_line(block)[:80]!r}")
        trailers = Headers.from_block(block)
        if len(trailers) > self._limits.max_headers:
            raise RemoteProtocolError("too many trailer fields", 431)
        for name in _FRAMING_TRAILERS:
            if name in trailers:
                raise RemoteProtocolError(f"the field {name} is not legal in a trailer")
        return trailers


_BROKEN: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|\0").search


def refuse_broken_lines(data: bytes | bytearray, pos: int) -> None:
    """Refuse a bare LF, a bare CR or a NUL at or behind `pos`, without waiting for a line's end.

    A CR that is the last byte so far is let pass.  Raises RemoteProtocolError (400).
    """
    found = _BROKEN(data, pos)
    if found is not None:
        raise RemoteProtocolError(f"a line has a bare {found[0]!r} at offset {found.start() - pos}")
