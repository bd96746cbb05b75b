"""The server's side of the wire: bytes in, request heads and bodies out.  Does no I/O.

Use: `receive` what has arrived; call `next_head` until it is not None; then call `read_body`
until it is None, or `whole_body` first; then `next_head` again, for the next request of the
pipeline.

Invariants
    * A request that is complete is given out whatever follows it: a fault is raised by the call
      of `next_head` or `read_body` that meets it, and not before.
    * No byte is searched twice for the end of a head, however small the pieces in which it comes.
    * The limits hold on both paths alike.
    * `_whole` is the length of a body that has come with its head and is not read yet: then there
      is no `_body`.
"""

import re
from collections.abc import Callable
from sys import maxsize
from typing import Final

from ..errors import LocalProtocolError, RemoteProtocolError
from .body import refuse_broken_lines
from .grammar import TOKEN
from .limits import ReaderLimits
from .message_reader import MessageReader
from .request_head import Head, judge_request_head, judge_request_line, parse_request_head

__all__ = ["ReaderLimits", "RequestReader"]

# A longer head is not kept for comparison with the next one.
MAX_REMEMBERED_BYTES: Final = 2048

_HEAD_END: Final = b"\r\n\r\n"
_begins_request: Final = re.compile(TOKEN).match
_not_in_request_line: Final = re.compile(rb"[^ -~\r\n]").search


class RequestReader(MessageReader):
    """Reads the requests of one connection, in order.

    limits_for: called with the head of each body that is not here yet, or is longer than
    `max_whole_bytes`; returns that body's limits, none of which may be lower.
    has_more: whether bytes may wait behind what was read last.
    """

    __slots__ = (
        "_blank_lines",
        "_fault_at",
        "_last_bytes",
        "_last_head",
        "_line_is_judged",
        "_remembered_bytes",
        "_searched",
        "_whole",
        "has_more",
        "limits_for",
        "max_whole_bytes",
    )

    def __init__(self, limits: ReaderLimits | None = None) -> None:
        super().__init__(limits)
        self._searched = -1  # bytes behind `pos` without a head's end; -1: not searched yet
        self._line_is_judged = False
        self._blank_lines = 0
        self._last_head: Head | None = None
        self._last_bytes = b""
        self._remembered_bytes = min(self._surely_within_limits_bytes, MAX_REMEMBERED_BYTES)
        self._whole = 0
        self.has_more = False
        most = self._limits.max_body_bytes
        self.max_whole_bytes = maxsize if most is None else most
        self.limits_for: Callable[[Head], ReaderLimits] | None = None
        self._fault_at = -1  # where a head begins that was found faulty

    def next_head(self, data: bytes = b"") -> Head | None:
        """The head of the next request, or None when more bytes are needed.

        `data` is received first: one call for the usual case of one request in one piece.

        Raises RemoteProtocolError, with the `status` to answer, for bad input and for a head
        beyond a limit; BodyTooLong for a Content-Length beyond one; LocalProtocolError when the
        body of the request before is not read to its end.
        """
        if not self._settled:
            self._leave_body()
        intake = self._intake
        pos = intake.pos
        if pos == len(intake.data):
            if data == self._last_bytes:
                # Many a client sends the very same head again: equal bytes have an equal meaning.
                return self._last_head
            if not data:
                return None
            found = parse_request_head(data)
            if found is not None:
                head, end = found
                if end == len(data) and end <= self._remembered_bytes and not head[4]:
                    # All of a request, and nothing else: the intake does not get to see it.
                    self._last_head = head
                    self._last_bytes = data
                    self._blank_lines = 0
                    return head
            intake.data = data
            intake.pos = pos = 0
        else:
            if data:
                intake.receive(data)
                pos = 0
            found = parse_request_head(intake.data, pos) if self._searched < 0 else None
        self.has_more = True
        try:
            if found is None:
                found = self._search_head()
                if found is None:
                    return None
            elif found[1] - pos > self._surely_within_limits_bytes:
                self._hold_limits(found[1])
            head, end = found
            intake.pos = end
            self._searched = -1
            self._blank_lines = 0
            length = head[4]
            if length:
                if 0 < length <= len(intake.data) - end and length <= self.max_whole_bytes:
                    self._whole = length
                    self._settled = False
                else:
                    limits_for = self.limits_for
                    limits = self._limits if limits_for is None else limits_for(head)
                    self._start_body(length, limits)
            else:
                self.has_more = end != len(intake.data)
        except RemoteProtocolError as fault:
            self._fault_at = pos
            raise self._die(fault) from None
        return head

    def whole_body(self) -> bytes | None:
        """All of the body, where it is here and of known length; else None, and nothing is read."""
        length = self._whole
        if not length:
            return b"" if self._body is None else None
        self._whole = 0
        self._settled = True
        intake = self._intake
        data, pos = intake.data, intake.pos
        end = intake.pos = pos + length
        self.has_more = end != len(data)
        body = data[pos:end]
        return body if type(body) is bytes else bytes(body)

    def read_body(self) -> bytes | None:
        """The next piece of the body; `b""`: nothing yet; None: the body is complete.

        Raises RemoteProtocolError for bad framing, BodyTooLong for a body beyond the limit.
        """
        return self.whole_body() if self._whole else super().read_body()

    def _leave_body(self) -> None:
        if self._whole:
            raise LocalProtocolError("next_head() before the body was read to its end")
        super()._leave_body()
        self.has_more = not self.exhausted

    @property
    def asks_for_head(self) -> bool:
        """Whether a head that cannot be read, or is not whole, is that of a HEAD request."""
        pos = self._intake.pos if self._fault_at < 0 else self._fault_at
        begin = self._intake.data[pos : pos + 2 * self._limits.max_blank_lines + len(b"HEAD ")]
        return begin.lstrip(b"\r\n").startswith(b"HEAD ")

    def _search_head(self) -> tuple[Head, int] | None:
        """Look for the end of the head in what is new, and judge what can be judged so far."""
        # Taking the remembered head would skip the reset of what a search leaves behind.
        self._last_head, self._last_bytes = None, b""
        if not self._skip_blank_lines():
            return None
        data, pos = self._intake.data, self._intake.pos
        end = data.find(_HEAD_END, pos + max(0, self._searched - len(_HEAD_END) + 1))
        if end < 0:
            self._judge_beginning()
            self._searched = len(data) - pos
            return None
        end += len(_HEAD_END)
        self._hold_limits(end)
        self._line_is_judged = False
        found = parse_request_head(data, pos)
        if found is None:
            return judge_request_head(bytes(data[pos:end])), end
        return found

    def _skip_blank_lines(self) -> bool:
        """Skip empty lines before a request (RFC 9112 2.2); whether a request may begin here."""
        intake = self._intake
        while intake.data.startswith(b"\r\n", intake.pos):
            intake.pos += 2
            self._blank_lines += 1
            if self._blank_lines > self._limits.max_blank_lines:
                raise RemoteProtocolError("too many empty lines before a request")
        return intake.data[intake.pos : intake.pos + 2] not in (b"", b"\r")

    def _judge_beginning(self) -> None:
        """Refuse an incomplete head as soon as it cannot become a good one."""
        data, pos = self._intake.data, self._intake.pos
        new = pos + max(0, self._searched - 1)
        if _begins_request(data, pos) is None:
            raise RemoteProtocolError(f"no request begins with {bytes(data[pos : pos + 1])!r}")
        refuse_broken_lines(data, new)
        if not self._line_is_judged:
            line_end = data.find(b"\r\n", new)
            if line_end < 0:
                self._judge_partial_line(new)
            else:
                self._hold_line_limit(line_end)
                judge_request_line(bytes(data[pos:line_end]))
                self._line_is_judged = True
        self._hold_size_limit(len(data))

    def _judge_partial_line(self, new: int) -> None:
        data = self._intake.data
        stranger = _not_in_request_line(data, new)
        if stranger is not None:
            raise RemoteProtocolError(f"{stranger[0]!r} is not legal in a request line")
        self._hold_line_limit(len(data) - data.endswith(b"\r"))
