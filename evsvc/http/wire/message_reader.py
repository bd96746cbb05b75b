"""What the readers of requests and of responses share: the bytes, the body, and being dead.

Invariants
    * After a fault a reader is dead: every further call raises an equal error.
    * A body, once complete, stays until the next head is asked for, and its trailers with it.
    * `_settled`: neither a body nor a fault stands before the next head.
"""

from ..errors import BodyTooLong, LocalProtocolError, RemoteProtocolError
from .body import (
    Body,
    ChunkedBody,
    EofBody,
    LengthBody,
)
from .headers import Headers
from .intake import Intake
from .limits import ReaderLimits
from .request_head import CHUNKED, UNTIL_EOF

_SMALLEST_FIELD_LINE_BYTES = len(b"a:\r\n")


class MessageReader:
    """The half of a reader that does not depend on which side it is."""

    __slots__ = (
        "_body",
        "_failure",
        "_intake",
        "_limits",
        "_settled",
        "_surely_within_limits_bytes",
        "receive",
    )

    def __init__(self, limits: ReaderLimits | None = None) -> None:
        limits = limits if limits is not None else ReaderLimits()
        self._limits = limits
        self._intake = Intake()
        # Adds bytes that have arrived; judges nothing and raises nothing.
        self.receive = self._intake.receive
        self._settled = True
        self._body: Body | None = None
        self._failure: tuple[type[RemoteProtocolError], str, int] | None = None
        # A head of this size cannot break a limit, so the common case is one comparison.
        self._surely_within_limits_bytes = min(
            limits.max_line_bytes,
            limits.max_headers_bytes,
            limits.max_headers * _SMALLEST_FIELD_LINE_BYTES,
        )

    @property
    def buffered(self) -> int:
        """How many received bytes are not consumed."""
        intake = self._intake
        return len(intake.data) - intake.pos

    @property
    def exhausted(self) -> bool:
        """Whether every received byte is consumed."""
        intake = self._intake
        return intake.pos == len(intake.data)

    @property
    def trailers(self) -> Headers | None:
        """The trailer fields of the current message, once its chunked body is complete; None where
        there is no chunked body."""
        return None if self._body is None else self._body.trailers

    def rest(self) -> bytes:
        """Give away all unread bytes, for the protocol that takes over the connection."""
        return self._intake.take(self._intake.buffered)

    def read_body(self) -> bytes | None:
        """The next piece of the body; `b""`: nothing yet; None: the body is complete.

        Raises RemoteProtocolError for bad framing, BodyTooLong for a body beyond the limit.
        """
        self._stay_dead()
        body = self._body
        if body is None or body.done:
            return None
        try:
            piece = body.read(self._intake)
        except RemoteProtocolError as fault:
            raise self._die(fault) from None
        return None if not piece and body.done else piece

    def _leave_body(self) -> None:
        """Make ready for the next head."""
        self._stay_dead()
        if self._body is not None and not self._body.done:
            raise LocalProtocolError("next_head() before the body was read to its end")
        self._body = None
        self._settled = True

    def _start_body(self, content_length: int, limits: ReaderLimits) -> None:
        self._settled = False
        if content_length == CHUNKED:
            self._body = self._make_chunked_body(limits)
        elif content_length == UNTIL_EOF:
            self._body = EofBody(limits.max_body_bytes)
        elif limits.max_body_bytes is not None and content_length > limits.max_body_bytes:
            raise BodyTooLong(
                f"a body of {content_length} bytes is announced, {limits.max_body_bytes} allowed",
                announced_bytes=content_length,
            )
        else:
            self._body = LengthBody(content_length)

    def _make_chunked_body(self, limits: ReaderLimits) -> Body:
        return ChunkedBody(limits)

    def _die(self, fault: RemoteProtocolError) -> RemoteProtocolError:
        # Kept in parts: the exception itself would tie its traceback, and us, into a cycle.
        self._failure = (type(fault), str(fault), fault.status)
        self._settled = False
        return fault

    def _stay_dead(self) -> None:
        if self._failure is not None:
            kind, text, status = self._failure
            raise kind(text, status)

    def _hold_line_limit(self, line_end: int) -> None:
        most = self._limits.max_line_bytes
        if line_end - self._intake.pos > most:
            raise RemoteProtocolError(f"the first line is longer than {most} bytes", 414)

    def _hold_size_limit(self, end: int) -> None:
        most = self._limits.max_headers_bytes
        if end - self._intake.pos > most:
            raise RemoteProtocolError(f"the head is longer than {most} bytes", 431)

    def _hold_limits(self, end: int) -> None:
        """Hold a complete head, from the present position to `end`, against the limits."""
        data, pos = self._intake.data, self._intake.pos
        line_end = data.find(b"\n", pos)
        self._hold_line_limit(line_end - data.endswith(b"\r", pos, line_end))
        self._hold_size_limit(end)
        # Of the lines, the first is the start line and the last is empty.
        if data.count(b"\n", pos, end) - 2 > self._limits.max_headers:
            raise RemoteProtocolError(f"more than {self._limits.max_headers} header fields", 431)
