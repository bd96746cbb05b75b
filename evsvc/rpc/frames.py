"""The messages of a stream as bytes.  Does no I/O and knows no message.

Each frame is a byte of flags, four bytes of length with the highest first, and the payload.  Flags
0 are a message.  Flags 2 are the end, behind which nothing comes: an empty payload is a good end,
any other a failure as `failures` writes it.  Other flags are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..core.checks import check_limits
from .errors import PayloadError

_HEAD = struct.Struct(">BI")

HEAD_BYTES = _HEAD.size

FLAGS_MESSAGE = 0
FLAGS_END = 2

STREAM_SUFFIX = "+stream"
"""What the codec's content type has behind it where the body is frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Limits of one stream.

    Raises ArgumentError when a number is not positive, ArgumentTypeError for what is none.

    max_message_bytes: most bytes of one message on the wire, in either direction, where that is
                       less than the codec's limit.
    max_backlog_bytes: no message is taken for sending while so many bytes or more wait.
    max_silence_s:     of the client: how long the server may be silent when all is sent; None is
                       for ever, or as the connection's own options say where the program chose
                       their `read_s`.  A server that vanishes without a word is not noticed else.
    """

    max_message_bytes: int = 1024 * 1024
    max_backlog_bytes: int = 256 * 1024
    max_silence_s: float | None = None

    def __post_init__(self) -> None:
        check_limits(self, or_none=("max_silence_s",), endless=("max_silence_s",))


def encode_message(payload: bytes, max_bytes: int) -> bytes:
    """Return the frame of a message.  Raises PayloadError when it is over the limit."""
    if len(payload) > max_bytes:
        raise PayloadError(f"a message of {len(payload)} bytes; the limit is {max_bytes}")
    return _HEAD.pack(FLAGS_MESSAGE, len(payload)) + payload


def encode_end(failure: bytes = b"") -> bytes:
    """Return the frame of the end, with what `encode_failure` made if it is no good one."""
    return _HEAD.pack(FLAGS_END, len(failure)) + failure


class FrameReader:
    """Takes bytes as they come, and gives payloads.

    end: the payload of the end, once that has come.  Keeps at most what was received and not read.
    """

    __slots__ = ("_data", "_max_bytes", "end")

    def __init__(self, max_bytes: int) -> None:
        self._data = bytearray()
        self._max_bytes = max_bytes
        self.end: bytes | None = None

    def receive(self, data: bytes) -> None:
        """Take what has come."""
        self._data += data

    def next_payload(self) -> bytes | None:
        """Return the next message's payload; None when it is not whole yet, or at the end.

        Raises PayloadError for unknown flags, a frame over the limit, bytes behind the end.  A
        length over the limit is refused before the bytes come.
        """
        data = self._data
        if self.end is not None:
            if data:
                raise PayloadError("there are bytes behind the end of the stream")
            return None
        if len(data) < HEAD_BYTES:
            return None
        flags, size = _HEAD.unpack_from(data)
        if flags not in (FLAGS_MESSAGE, FLAGS_END):
            raise PayloadError(f"a frame has unknown flags: {flags}")
        if size > self._max_bytes:
            raise PayloadError(f"a message of {size} bytes; the limit is {self._max_bytes}")
        whole = HEAD_BYTES + size
        if len(data) < whole:
            return None
        payload = bytes(data[HEAD_BYTES:whole])
        del data[:whole]
        if flags == FLAGS_MESSAGE:
            return payload
        self.end = payload
        return self.next_payload()

    def require_end(self) -> None:
        """Raise PayloadError when the bytes are over, and the stream has had no end."""
        if self.end is None:
            where = " within a frame" if self._data else ""
            raise PayloadError(f"the stream breaks off{where}")
