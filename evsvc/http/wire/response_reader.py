"""The client's side of the wire: bytes in, response heads and bodies out.  Does no I/O.

Use: `expect` the method of each request that is sent; `receive` what arrives, and `receive_eof`
when the peer closes; call `next_head` until it is not None, and again after a 1xx other than 101;
then call `read_body` until it is None.

Faults of the server are `InvalidResponse`, a body beyond the limit is `BodyTooLong`, and a close
before the end of a message is `ConnectionClosed`.
"""

import re
from typing import Final

from ..errors import (
    ConnectionClosed,
    InvalidResponse,
    LocalProtocolError,
    RemoteProtocolError,
)
from .body import Body, ChunkedBody
from .limits import ReaderLimits
from .message_reader import MessageReader
from .response_head import (
    ResponseHead,
    judge_response_head,
    judge_status_line,
    parse_response_head,
)

__all__ = ["ReaderLimits", "ResponseHead", "ResponseReader"]

_find_head_end: Final = re.compile(rb"\n\r?\n").search
_PREFIX: Final = b"HTTP/"
_SWITCHING_PROTOCOLS: Final = 101


class ResponseReader(MessageReader):
    """Reads the responses of one connection, in order."""

    __slots__ = ("_closed", "_line_is_judged", "_method", "_searched")

    def __init__(self, limits: ReaderLimits | None = None) -> None:
        super().__init__(limits)
        self._method: str | None = None  # of the request whose final response is awaited
        self._closed = False
        self._searched = -1  # bytes behind `pos` without a head's end; -1: not searched yet
        self._line_is_judged = False

    def expect(self, method: str) -> None:
        """Await the response to a request of that method.

        Raises LocalProtocolError while another response is awaited or being read.
        """
        if self._method is not None:
            raise LocalProtocolError(f"the response to {self._method} is still awaited")
        self._leave_body()
        self._method = method

    def receive_eof(self) -> None:
        """The peer has closed; `next_head` and `read_body` tell what that means."""
        self._closed = True

    def next_head(self) -> ResponseHead | None:
        """The next head, or None when more bytes are needed.

        Raises InvalidResponse, BodyTooLong, ConnectionClosed; LocalProtocolError without `expect`.
        """
        self._stay_dead()
        method = self._method
        if method is None:
            raise LocalProtocolError("next_head() without expect()")
        try:
            found = self._find_head(method)
            if found is None:
                if self._closed:
                    raise ConnectionClosed("the peer closed before the response was complete")
                return None
            head, self._intake.pos = found
            self._searched = -1
            self._line_is_judged = False
            if head.status >= 200 or head.status == _SWITCHING_PROTOCOLS:
                self._method = None
            if head.content_length:
                self._start_body(head.content_length, self._limits)
        except RemoteProtocolError as fault:
            raise self._die(fault) from None
        return head

    def read_body(self) -> bytes | None:
        """The next piece of the body; `b""`: nothing yet; None: the body is complete.

        Raises InvalidResponse, BodyTooLong, ConnectionClosed.
        """
        piece = super().read_body()
        if piece == b"" and self._closed and self._body is not None:
            self._body.receive_eof()
            return None
        return piece

    def _find_head(self, method: str) -> tuple[ResponseHead, int] | None:
        intake = self._intake
        data, pos = intake.data, intake.pos
        if self._searched < 0:
            found = parse_response_head(data, pos, method)
            if found is not None:
                if found[1] - pos > self._surely_within_limits_bytes:
                    self._hold_limits(found[1])
                return found
        ending = _find_head_end(data, pos + max(0, self._searched - 2))
        if ending is None:
            self._judge_beginning()
            self._searched = len(data) - pos
            return None
        end = ending.end()
        self._hold_limits(end)
        return parse_response_head(data, pos, method) or (
            judge_response_head(bytes(data[pos:end]), method),
            end,
        )

    def _judge_beginning(self) -> None:
        """Refuse an incomplete head as soon as it cannot become a good one."""
        data, pos = self._intake.data, self._intake.pos
        beginning = bytes(data[pos : pos + len(_PREFIX)])
        if not _PREFIX.startswith(beginning):
            raise InvalidResponse(f"no HTTP/1 response begins with {beginning!r}")
        if not self._line_is_judged:
            line_end = data.find(b"\n", pos + max(0, self._searched))
            if line_end < 0:
                self._hold_line_limit(len(data) - data.endswith(b"\r"))
            else:
                line_end -= data.endswith(b"\r", pos, line_end)
                self._hold_line_limit(line_end)
                judge_status_line(bytes(data[pos:line_end]))
                self._line_is_judged = True
        self._hold_size_limit(len(data))

    def _make_chunked_body(self, limits: ReaderLimits) -> Body:
        return ChunkedBody(limits, padded=True)

    def _die(self, fault: RemoteProtocolError) -> RemoteProtocolError:
        if type(fault) is RemoteProtocolError:
            fault = InvalidResponse(str(fault))
        return super()._die(fault)
