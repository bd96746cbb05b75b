"""ServerRequest: a request that a client sent, and how the program answers it.

The reply is put together here and handed to the connection as bytes.  The legal order of the
calls is a table: a call that is not in it for the present state is the program's mistake.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from ...core import ArgumentError, ArgumentTypeError, EvBuffer
from ..errors import LocalProtocolError
from ..exchange import AbstractRequest
from ..wire import writer
from ..wire.headers import Headers
from .pages import error_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.request_head import RequestHead
    from .connection import ServerConnection

Body = bytes | bytearray | memoryview | EvBuffer | None

# A body smaller than this is joined to its head; a larger one is sent from where it lies.
JOIN_BYTES = 16 * 1024

# Replies that never have a body (RFC 9110 6.4.1, 15.3.6).
NO_BODY = frozenset((204, 205, 304))

# Requests whose replies have none: to HEAD never, to CONNECT where it is granted.
_NO_BODY_METHODS = frozenset(("HEAD", "CONNECT"))

_UNKNOWN = -1


class ReplyState(enum.Enum):
    """How far a reply has come."""

    PENDING = enum.auto()
    STREAMING = enum.auto()
    DONE = enum.auto()


_PENDING, _STREAMING, _DONE = ReplyState.PENDING, ReplyState.STREAMING, ReplyState.DONE


class ServerRequest(AbstractRequest):
    """A request to be answered once, in the callback or later from the loop.

    What only a streamed reply needs is set when one starts (`_chunked`, and `_remaining`, what is
    left of the Content-Length that the program announced), as most never do.

    host: the authority that the client addressed, or None.  trailers: the fields after a chunked
    body, kept apart from the header.  connection: None once the client has gone; answering then
    does nothing.  bytes_sent: how long the body of the reply is, once there is one.
    """

    __slots__ = (
        "_block",
        "_chunked",
        "_complete_cb",
        "_remaining",
        "_state",
        "bytes_sent",
        "connection",
        "host",
        "trailers",
    )

    def __init__(self, connection: ServerConnection, head: RequestHead) -> None:
        self.method, self.uri, self.minor, self._block, _, _, self.host, _ = head
        self.connection: ServerConnection | None = connection
        self.response_code = 0
        self._input_headers = self._output_headers = None
        self._input_buffer = self._output_buffer = None
        self._complete_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._state = _PENDING
        self.trailers: Headers | None = None

    @property
    def input_headers(self) -> Headers:
        """The header that was received, split when first looked at."""
        headers = self._input_headers
        if headers is None:
            headers = self._input_headers = Headers.from_block(self._block)
        return headers

    @property
    def state(self) -> ReplyState:
        """How far the reply has come."""
        return self._state

    @property
    def remote_host(self) -> str:
        """The client's address; "" on a Unix socket or once it has gone."""
        return self.connection.peer[0] if self.connection is not None else ""

    @property
    def remote_port(self) -> int:
        """The client's port; 0 on a Unix socket or once it has gone."""
        return self.connection.peer[1] if self.connection is not None else 0

    def set_on_complete_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(request, arg)` once, when the whole reply has been handed to the kernel.

        It is not called when the client has gone before.  Raises LocalProtocolError when the
        request is answered already.  Source: evhttp_request_set_on_complete_cb.
        """
        if self._state is _DONE:
            raise self._out_of_turn("set_on_complete_cb")
        if self.connection is not None:
            self._complete_cb = (cb, arg)

    def take_complete_cb(self) -> tuple[Callable[[Any, Any], object], Any] | None:
        """Return the callback and its argument, and forget them: it may well refer to us."""
        complete_cb, self._complete_cb = self._complete_cb, None
        return complete_cb

    def send_reply(self, code: int, reason: str | None = None, body: Body = None) -> None:
        """Answer at once: status, `output_headers`, body (evhttp_send_reply).

        reason: None is the standard phrase.  body: an EvBuffer is drained; None takes
        `output_buffer`.  Date, Content-Length, Connection and a default Content-Type are added
        where they are missing.  HEAD gets the head that GET would, and no body; nor have 204 and
        304 one.

        Raises ArgumentError for a code outside 200..599, a bad reason, or a Content-Length that
        is not the body's, ArgumentTypeError for a body that is not bytes, LocalProtocolError when
        the request is answered already.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("send_reply")
        if type(body) is not bytes:
            body = self._body_bytes(body)
        connection = self.connection
        if connection is None:
            self._state = _DONE
            return
        headers = self._output_headers
        length: int | None = len(body)
        content_type = connection.options.default_content_type if body else None
        if (code in NO_BODY or self.method in _NO_BODY_METHODS) and self._has_no_body(code):
            body = b""
            length, content_type = self._announced_without_body(code, length, content_type)
        if headers is not None and headers.keys:
            self._check_headers(headers, code, length)
        head, keep_alive = writer.reply_head(
            headers,
            code,
            reason,
            connection.date,
            length,
            content_type,
            connection.keep_alive,
            self.minor,
        )
        if len(body) < JOIN_BYTES:
            connection.send(head + body)
        else:
            connection.send(head)
            connection.send(body)
        self.response_code = code
        self.bytes_sent = len(body)
        self._state = _DONE
        connection.reply_done(self, keep_alive)

    def send_error(self, code: int, reason: str | None = None) -> None:
        """Answer with a small page; headers set so far are dropped (evhttp_send_error).

        libevent closes the connection after it; here it lives on where the request allows it.
        Raises as `send_reply`.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("send_error")
        self.send_page(code, error_page(code, reason))

    def send_page(self, code: int, page: bytes, *fields: tuple[str, str]) -> None:
        """Answer with an HTML page and `fields` in place of what `output_headers` hold."""
        self._output_headers = Headers((("Content-Type", "text/html"), *fields))
        self.send_reply(code, None, page)

    def send_reply_start(self, code: int, reason: str | None = None) -> None:
        """Begin a reply whose body comes in pieces (evhttp_send_reply_start).

        Without a Content-Length of the program's it is sent chunked, or to an HTTP/1.0 client
        up to the close of the connection.  Raises as `send_reply`.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("send_reply_start")
        connection = self.connection
        if connection is not None:
            self._start_stream(connection, code, reason)
        self._state = _STREAMING

    def send_reply_chunk(
        self,
        data: bytes | bytearray | memoryview | EvBuffer,
        cb: Callable[[Any, Any], object] | None = None,
        arg: object = None,
    ) -> None:
        """Send a piece; an empty one is nothing (evhttp_send_reply_chunk_with_cb).

        `cb(connection, arg)` is called from the loop when all output has been handed to the
        kernel, or there is none; a later piece's replaces it.  Raises LocalProtocolError before
        `send_reply_start`, after `send_reply_end`, or beyond the Content-Length that the program
        announced.
        """
        if self._state is not _STREAMING:
            raise self._out_of_turn("send_reply_chunk")
        piece = self._body_bytes(data)
        connection = self.connection
        if connection is None:
            return
        if self._remaining != _UNKNOWN:
            if len(piece) > self._remaining:
                raise LocalProtocolError(
                    f"{len(piece)} bytes, but {self._remaining} are left of the Content-Length"
                )
            self._remaining -= len(piece)
        if piece and not self._has_no_body(self.response_code):
            self.bytes_sent += len(piece)
            connection.send(writer.chunk(piece) if self._chunked else piece)
        if cb is not None:
            connection.when_sent(cb, arg)

    def send_reply_end(self) -> None:
        """Finish a reply in pieces (evhttp_send_reply_end).

        Raises LocalProtocolError when bytes of the announced Content-Length are missing; the
        connection is closed then, so that the client does not wait for them.
        """
        if self._state is not _STREAMING:
            raise self._out_of_turn("send_reply_end")
        self._state = _DONE
        connection = self.connection
        if connection is None:
            return
        has_body = not self._has_no_body(self.response_code)
        if self._remaining > 0 and has_body:
            connection.close()
            raise LocalProtocolError(f"{self._remaining} bytes of the Content-Length are missing")
        if self._chunked and has_body:
            connection.send(writer.LAST_CHUNK)
        connection.reply_done(self, connection.keep_alive)

    def summary(self) -> str:
        """Return the request line, the status and `bytes_sent`, for the access log."""
        line = f"{self.method} {self.uri} HTTP/1.{self.minor}"
        return f'"{line}" {self.response_code} {self.bytes_sent}'

    def _start_stream(self, connection: ServerConnection, code: int, reason: str | None) -> None:
        headers = self.output_headers
        length, content_type = None, connection.options.default_content_type
        self._chunked = False
        self._remaining = _UNKNOWN
        self._check_headers(headers, code, None)
        if self._has_no_body(code) and (code in NO_BODY or self.method != "HEAD"):
            length, content_type = self._announced_without_body(code, length, content_type)
        elif "content-length" in headers.keys:
            self._remaining = self._announced_length(headers)
        elif self.minor:
            self._chunked = True
            headers = headers.copy()
            headers.add("Transfer-Encoding", "chunked")
        elif self.method != "HEAD":
            connection.keep_alive = False
        head, connection.keep_alive = writer.reply_head(
            headers,
            code,
            reason,
            connection.date,
            length,
            content_type,
            connection.keep_alive,
            self.minor,
        )
        connection.send(head)
        self.response_code = code
        self.bytes_sent = 0

    def _check_headers(self, headers: Headers, code: int, length: int | None) -> None:
        """Refuse what would contradict the body; see `send_reply`."""
        keys = headers.keys
        if "transfer-encoding" in keys:
            raise ArgumentError(f"Transfer-Encoding is set by the server: {headers!r}")
        if "content-length" in keys:
            announced = self._announced_length(headers)
            if code == 204 or (self.method == "CONNECT" and code < 300):
                headers.remove("Content-Length")  # RFC 9110 8.6
            elif length not in (None, announced) and self.method != "HEAD":
                raise ArgumentError(f"Content-Length is {announced}, the body has {length} bytes")

    def _announced_length(self, headers: Headers) -> int:
        values = headers.get_all("Content-Length")
        if len(values) > 1 or not (values[0].isascii() and values[0].isdigit()):
            raise ArgumentError(f"not a Content-Length: {', '.join(values)!r}")
        return int(values[0])

    def _announced_without_body(
        self, code: int, length: int | None, content_type: str | None
    ) -> tuple[int | None, str | None]:
        """Length and Content-Type for a reply without body: for HEAD those that GET would see."""
        if code in NO_BODY:
            return (0 if code == 205 else None), None
        if self.method == "CONNECT":
            assert self.connection is not None
            self.connection.keep_alive = False  # what follows is not HTTP
            return None, None
        return length, content_type

    def _has_no_body(self, code: int) -> bool:
        method = self.method
        return method == "HEAD" or code in NO_BODY or (method == "CONNECT" and code < 300)

    def _body_bytes(self, body: Body) -> bytes:
        if body is None:
            return b"" if self._output_buffer is None else self._output_buffer.remove()
        if isinstance(body, EvBuffer):
            return body.remove()
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        raise ArgumentTypeError(f"a body is bytes, not {type(body).__name__}")

    def _out_of_turn(self, call: str) -> LocalProtocolError:
        return LocalProtocolError(f"{call}(): the reply is {self._state.name.lower()}: {self!r}")
