"""The client's side of the wire: bytes in, response heads and bodies out.  Does no I/O.

Use: `expect` the method of each request that is sent; `receive` what arrives, and `receive_eof`
when the peer closes; call `next_head` until it is not None, and again after a 1xx other than 101;
then call `read_body` until it is None, or `whole_body` first.

Invariants
    * A head equal to the last one, to a request of the same method, has an equal meaning: most
      answers of a server differ in nothing, or once a second in their Date.
    * `_whole` is the length of a body of known length that has come with its head and is not read
      yet: then there is no `_body`.

Faults of the server are `InvalidResponse`, a body beyond the limit is `BodyTooLong`, and a close
before the end of a message is `ConnectionClosed`.
"""

import re
from collections.abc import Callable
from sys import maxsize
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
    Leniency,
    ResponseHead,
    judge_response_head,
    judge_status_line,
    parse_response_head,
)

# A longer head is not kept for comparison with the next one.
MAX_REMEMBERED_BYTES: Final = 2048

__all__ = ["Leniency", "ReaderLimits", "ResponseHead", "ResponseReader"]

_find_head_end: Final = re.compile(rb"\n\r?\n").search
_PREFIX: Final = b"HTTP/"
_SWITCHING_PROTOCOLS: Final = 101


class ResponseReader(MessageReader):
    """Reads the responses of one connection, in order.

    limits_for: called with the head of each body that is not here yet, or is longer than
    `max_whole_bytes`; returns that body's limits, none of which may be lower.
    """

    __slots__ = (
        "_closed",
        "_last_bytes",
        "_last_head",
        "_last_method",
        "_leniency",
        "_line_is_judged",
        "_method",
        "_searched",
        "_whole",
        "limits_for",
        "max_whole_bytes",
    )

    def __init__(
        self, limits: ReaderLimits | None = None, leniency: Leniency = Leniency.NONE
    ) -> None:
        super().__init__(limits)
        self._leniency = leniency
        self._method: str | None = None  # of the request whose final response is awaited
        self._closed = False
        self._searched = -1  # bytes behind `pos` without a head's end; -1: not searched yet
        self._line_is_judged = False
        self._whole = 0
        most = self._limits.max_body_bytes
        self.max_whole_bytes = maxsize if most is None else most
        self._last_method = ""
        self._last_bytes = b""
        self._last_head: ResponseHead | None = None
        self.limits_for: Callable[[ResponseHead], ReaderLimits] | None = None

    def expect(self, method: str) -> None:
        """Await the response to a request of that method.

        Raises LocalProtocolError while another response is awaited or being read.
        """
        if self._method is not None:
            raise LocalProtocolError(f"the response to {self._method} is still awaited")
        if self._whole:
            raise LocalProtocolError("expect() before the body was read to its end")
        if self._body is not None or self._failure is not None:
            self._leave_body()
        self._method = method

    def receive_eof(self) -> None:
        """The peer has closed; `next_head` and `read_body` tell what that means."""
        self._closed = True

    def next_head(self, data: bytes = b"") -> ResponseHead | None:
        """The next head, or None when more bytes are needed.

        `data` is received first: one call for the usual case of a response in one piece.

        Raises InvalidResponse, BodyTooLong, ConnectionClosed; LocalProtocolError without `expect`.
        """
        if self._failure is not None:
            self._stay_dead()
        method = self._method
        if method is None:
            raise LocalProtocolError("next_head() without expect()")
        intake = self._intake
        if data:
            if intake.pos == len(intake.data):
                intake.data = data
                intake.pos = 0
            else:
                intake.receive(data)
        pos = intake.pos
        head = self._last_head
        if (
            head is not None
            and method == self._last_method
            and intake.data.startswith(self._last_bytes, pos)
        ):
            intake.pos = pos + len(self._last_bytes)
        else:
            try:
                found = self._find_head(method)
            except RemoteProtocolError as fault:
                raise self._die(fault) from None
            if found is None:
                if self._closed:
                    raise ConnectionClosed("the peer closed before the response was complete")
                return None
            head, end = found
            intake.pos = end
            if end - pos <= MAX_REMEMBERED_BYTES:
                self._last_method = method
                self._last_bytes = bytes(intake.data[pos:end])
                self._last_head = head
        self._searched = -1
        self._line_is_judged = False
        status = head[0]
        if status >= 200 or status == _SWITCHING_PROTOCOLS:
            self._method = None
        length = head[4]
        if length:
            if 0 < length <= len(intake.data) - intake.pos and length <= self.max_whole_bytes:
                self._whole = length
            else:
                limits_for = self.limits_for
                limits = self._limits if limits_for is None else limits_for(head)
                try:
                    self._start_body(length, limits)
                except RemoteProtocolError as fault:
                    raise self._die(fault) from None
        return head

    def whole_body(self) -> bytes | None:
        """All of the body, where it is here and of known length; else None, and nothing is read."""
        length = self._whole
        if length:
            self._whole = 0
            intake = self._intake  # as `take`, without what is known here already
            data, pos = intake.data, intake.pos
            end = intake.pos = pos + length
            return data[pos:end] if type(data) is bytes else bytes(data[pos:end])
        return b"" if self._body is None else None

    def read_body(self) -> bytes | None:
        """The next piece of the body; `b""`: nothing yet; None: the body is complete.

        Raises InvalidResponse, BodyTooLong, ConnectionClosed.
        """
        if self._whole:
            return self.whole_body()
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
            judge_response_head(bytes(data[pos:end]), method, self._leniency),
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
                judge_status_line(bytes(data[pos:line_end]), self._leniency)
                self._line_is_judged = True
        self._hold_size_limit(len(data))

    def _make_chunked_body(self, limits: ReaderLimits) -> Body:
        return ChunkedBody(limits, padded=True)

    def _die(self, fault: RemoteProtocolError) -> RemoteProtocolError:
        if type(fault) is RemoteProtocolError:
            fault = InvalidResponse(str(fault))
        return super()._die(fault)
