"""ServerRequest: a request that a client sent, and how the program answers it.

The reply is put together here, and goes out through a ReplyPath: the request knows of no socket.
A reply goes from PENDING to DONE, at once or through STREAMING; a call that is not legal for the
present state is the program's mistake.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any, Protocol

from ...core import ArgumentError, ArgumentTypeError, EvBuffer
from ...core.checks import require_callable
from ..errors import LocalProtocolError
from ..exchange import AbstractRequest
from ..wire import writer
from ..wire.headers import Headers, ReceivedHeaders
from .compression import Compression, CompressionOptions
from .event_stream import EventStream, EventStreamOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core import AbstractBufferEvent
    from ..wire.request_head import Head
    from ..wire.writer import DateLine
    from .body_intake import BodyIntake, DataCallback, EndCallback
    from .forwarded import Client
    from .handle import ServerConnection

Body = bytes | bytearray | memoryview | EvBuffer | None

# A body smaller than this is joined to its head; a larger one is sent from where it lies.
JOIN_BYTES = 16 * 1024

# Replies that never have a body (RFC 9110 6.4.1, 15.3.6).
NO_BODY = frozenset((204, 205, 304))

# Requests whose replies have none: to HEAD never, to CONNECT where it is granted.
_NO_BODY_METHODS = frozenset(("HEAD", "CONNECT"))

_UNKNOWN = -1

_starts_response = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}[ \r]").match


class ReplyPath(Protocol):
    """The way of a reply to its client; a connection is one.

    gone: the client is not there any more, so nothing more is to be sent.  peer: its (address,
    port).  keep_alive: whether the connection may outlive the reply in hand.  compression: what
    is compressed of the replies, or None.
    """

    gone: bool
    peer: tuple[str, int]
    keep_alive: bool
    compression: Compression | None
    date: DateLine
    default_content_type: str | None

    @property
    def send(self) -> Callable[[bytes], object]:
        """Put bytes into the output."""

    @property
    def send_buffer(self) -> Callable[[EvBuffer], object]:
        """Move a buffer's bytes into the output."""

    def handle(self) -> ServerConnection:
        """Return the connection as the program sees it."""

    def client(self, request: ServerRequest) -> Client:
        """Return who sent a request, also after it has gone."""

    def when_sent(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(connection, arg)` when the output is empty; replaces one that waits."""

    def set_gone_cb(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(request, arg)` when the client ends its side, or is gone, before the reply."""

    def set_complete_cb(self, cb: Callable[[Any, Any], object], arg: object) -> None:
        """Call `cb(request, arg)` when the reply in hand has been handed to the kernel."""

    def reply_done(self, request: ServerRequest, keep_alive: bool) -> None:
        """The reply is whole: go on with the next request, or close."""

    def error_page(self, request: ServerRequest, code: int, reason: str | None) -> bytes:
        """Return the page for an error."""

    def take_over(self, request: ServerRequest) -> tuple[AbstractBufferEvent, bytes]:
        """Have no more to do with what carries the bytes, and return it, with the unread ones."""

    def break_off(self) -> None:
        """End the connection, so that the client notices that the reply is not whole."""


class ReplyState(enum.Enum):
    """How far a reply has come."""

    PENDING = enum.auto()
    STREAMING = enum.auto()
    DONE = enum.auto()


_PENDING, _STREAMING, _DONE = ReplyState.PENDING, ReplyState.STREAMING, ReplyState.DONE


class ServerRequest(AbstractRequest):
    """A request to be answered once, in the callback or later from the loop.

    What only a streamed reply needs is set when one starts, as most never do: `_chunked`,
    `_encoder`, and `_remaining`, what is left of the Content-Length that the program announced.

    host: the authority that the client addressed, or None.  trailers: the fields after a chunked
    body, kept apart from the header; None for any other.  bytes_sent: how long the
    body of the reply is, once there is one.
    """

    __slots__ = (
        "_block",
        "_chunked",
        "_encoder",
        "_intake",
        "_path",
        "_remaining",
        "_state",
        "bytes_sent",
        "host",
        "trailers",
    )

    def __init__(self, path: ReplyPath, head: Head) -> None:
        self.method, self.uri, self.minor, self._block, _, _, self.host, _ = head
        self._path = path
        self.response_code = 0
        self._input_headers = self._output_headers = None
        self._input_buffer = self._output_buffer = None
        self._received = b""
        self._state = _PENDING
        self._intake: BodyIntake | None = None
        self.trailers: Headers | None = None

    @property
    def connection(self) -> ServerConnection | None:
        """The client's connection; None once it has gone: answering then does nothing.

        Source: evhttp_request_get_connection.
        """
        return None if self._path.gone else self._path.handle()

    @property
    def input_headers(self) -> Headers:
        """The header that was received, split when first looked at."""
        headers = self._input_headers
        if headers is None:
            headers = self._input_headers = ReceivedHeaders.from_block(self._block)
        return headers

    @property
    def state(self) -> ReplyState:
        """How far the reply has come."""
        return self._state

    @property
    def remote_host(self) -> str:
        """The client's address; "" on a Unix socket or once it has gone."""
        return "" if self._path.gone else self._path.peer[0]

    @property
    def remote_port(self) -> int:
        """The client's port; 0 on a Unix socket or once it has gone."""
        return 0 if self._path.gone else self._path.peer[1]

    @property
    def client(self) -> Client:
        """Who sent it: address, port, scheme and host, through the proxies that are trusted.

        See HttpServer.set_trusted_proxies; without it, what the connection itself shows.
        """
        return self._path.client(self)

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        """The client's certificate, as `ssl.SSLSocket.getpeercert` gives it.

        None without TLS, where none was asked for, or the client has none; see `server_context`.
        """
        connection = self.connection
        tls = None if connection is None else connection.tls
        return None if tls is None else tls.peer_certificate

    def set_on_gone_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(request, arg)` once, if the client ends its side before it is answered.

        It may have gone, or have closed only its sending side: `connection` is None where it has
        surely gone, and else an answer is still sent.  Raises LocalProtocolError when the request
        is answered already, ArgumentTypeError for what cannot be called.
        """
        require_callable(cb)
        if self._state is _DONE:
            raise self._out_of_turn("set_on_gone_cb")
        if not self._path.gone:
            self._path.set_gone_cb(cb, arg)

    def set_body(self, body: bytes) -> None:
        """Have a body that has come whole; the connection says so, before the handler runs."""
        self._received = body

    def stream_body(self, intake: BodyIntake) -> None:
        """Have the body come through `intake`; the connection says so, before the handler runs."""
        self._intake = intake

    @property
    def streams_body(self) -> bool:
        """Whether it has a body that comes by `set_body_cbs`, and not by `input_buffer`."""
        return self._intake is not None

    def set_body_cbs(
        self,
        datacb: DataCallback,
        endcb: EndCallback | None = None,
        arg: object = None,
        *,
        is_paced: bool = True,
    ) -> None:
        """Take the body as it comes: for the handler of a path that was set with `streams=True`.

        `datacb(request, data, arg)` is called for each piece, `endcb(request, is_whole, arg)` once
        after the last, when `trailers` are there; or with False when the client has gone, or the
        request is answered before.  A client that waits for 100 Continue gets it now.  is_paced:
        without, it may be silent, or slow, for as long as it likes: for a body that is written
        while the reply to it is read.  Raises
        LocalProtocolError for a request whose body is not streamed, or is taken already,
        ArgumentTypeError for what cannot be called.
        """
        intake = self._require_intake("set_body_cbs")
        intake.set_callbacks(datacb, endcb, arg)
        intake.is_paced = is_paced

    def pause_body(self) -> None:
        """Hold the client back: no piece comes before `resume_body`.  Safe to repeat."""
        self._require_intake("pause_body").pause()

    def resume_body(self) -> None:
        """Take pieces again, from the loop.  Safe to repeat."""
        self._require_intake("resume_body").resume()

    def _require_intake(self, call: str) -> BodyIntake:
        if self._intake is None:
            raise LocalProtocolError(f"{call}(): the body is not streamed: {self!r}")
        return self._intake

    def set_on_complete_cb(self, cb: Callable[[Any, Any], object], arg: object = None) -> None:
        """Call `cb(request, arg)` once, when the whole reply has been handed to the kernel.

        It is not called when the client has gone before.  Raises LocalProtocolError when the
        request is answered already.  Source: evhttp_request_set_on_complete_cb.
        """
        if self._state is _DONE:
            raise self._out_of_turn("set_on_complete_cb")
        if not self._path.gone:
            self._path.set_complete_cb(cb, arg)

    def set_compression(self, options: CompressionOptions | None) -> None:
        """Have this reply compressed by other options than the server's; None: not at all.

        A page that repeats what its client sent, and has a secret in it, should not be.  Raises
        LocalProtocolError when the reply has begun.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("set_compression")
        path = self._path
        if not path.gone:
            path.compression = (path.compression or Compression()).but_for(self, options)

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
        path = self._path
        if path.gone:
            _drop_body(self._checked_body(body))
            self._state = _DONE
            return
        if type(body) is not bytes:
            body = self._checked_body(body)
        headers = self._output_headers
        if (
            headers is not None
            and headers.names == writer.TYPE_ALONE
            and path.keep_alive
            and type(body) is bytes
            and self.minor
            and self.method not in _NO_BODY_METHODS
            and path.compression is None
            and code not in NO_BODY
            and len(body) < JOIN_BYTES
            and not path.date.keep_alive
        ):  # as most replies are
            path.send(path.date.plain_reply(code, reason, headers.pairs[0], body))
            self.bytes_sent = len(body)
            self.response_code = code
            self._state = _DONE
            path.reply_done(self, True)
            return
        length: int | None = len(body)
        content_type = path.default_content_type if length else None
        if path.compression is not None:
            packed = path.compression.pack(self, code, headers, body, content_type)
            if packed is None:
                _drop_body(body)
                self.send_error(406)
                return
            body, headers, length = packed
        if (code in NO_BODY or self.method in _NO_BODY_METHODS) and self._has_no_body(code):
            _drop_body(body)
            body = b""
            length, content_type = self._announced_without_body(code, length, content_type)
        if headers is not None and headers.names != writer.TYPE_ALONE:
            self._check_headers(headers, code, length)
        head, keep_alive = writer.reply_head(
            headers, code, reason, path.date, length, content_type, path.keep_alive, self.minor
        )
        size = self.bytes_sent = len(body)
        if size < JOIN_BYTES and type(body) is bytes:
            path.send(head + body)
        elif isinstance(body, EvBuffer):
            path.send(head)
            path.send_buffer(body)
        else:
            path.send(head)
            path.send(body)
        self.response_code = code
        self._state = _DONE
        path.reply_done(self, keep_alive)

    def send_error(self, code: int, reason: str | None = None, *fields: tuple[str, str]) -> None:
        """Answer with a small page; headers set so far are dropped (evhttp_send_error).

        fields: those to send along, such as ("Retry-After", "5").  libevent closes the connection
        after it; here it lives on where the request allows it.  Raises as `send_reply`.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("send_error")
        self.send_page(code, self._path.error_page(self, code, reason), *fields)

    def send_page(self, code: int, page: bytes, *fields: tuple[str, str]) -> None:
        """Answer with an HTML page and `fields` in place of what `output_headers` hold."""
        self._output_headers = Headers((("Content-Type", "text/html"), *fields))
        self.send_reply(code, None, page)

    def send_information(self, code: int, *fields: tuple[str, str]) -> bool:
        """Send an interim response before the reply, such as 103 Early Hints with Link fields.

        It may be called several times.  Returns whether it was sent: an HTTP/1.0 client gets none,
        nor does one that has gone.  Raises ArgumentError for a code outside 102..199, as 100 and
        101 are the server's, and for a field that is none or speaks of a body;
        LocalProtocolError when the reply has begun.  Source: RFC 9110 section 15.2, RFC 8297.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("send_information")
        head = writer.interim_head(code, Headers(fields))
        if self._path.gone or not self.minor:
            return False
        self._path.send(head)
        return True

    def send_reply_start(self, code: int, reason: str | None = None) -> None:
        """Begin a reply whose body comes in pieces (evhttp_send_reply_start).

        Without a Content-Length of the program's it is sent chunked, or to an HTTP/1.0 client
        up to the close of the connection.  Raises as `send_reply`.
        """
        if self._state is not _PENDING:
            raise self._out_of_turn("send_reply_start")
        if not self._path.gone:
            self._start_stream(self._path, code, reason)
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
        piece = self._checked_body(data)
        path = self._path
        size = len(piece)
        if path.gone:
            _drop_body(piece)
            return
        if self._remaining != _UNKNOWN:
            if size > self._remaining:
                raise LocalProtocolError(
                    f"{size} bytes, but {self._remaining} are left of the Content-Length"
                )
            self._remaining -= size
        if self._has_no_body(self.response_code):
            _drop_body(piece)
        elif size:
            if self._encoder is not None:
                # At once: the client of a stream waits for each piece of it.
                data = piece if isinstance(piece, bytes) else piece.remove()
                piece = self._encoder.encode(data) + self._encoder.flush()
                size = len(piece)
            self.bytes_sent += size
            if isinstance(piece, bytes):
                path.send(writer.chunk(piece) if self._chunked else piece)
            else:
                self._send_buffer(piece, size)
        if cb is not None:
            path.when_sent(cb, arg)

    def _send_buffer(self, piece: EvBuffer, size: int) -> None:
        """Send a buffer's bytes from where they lie, as one chunk where the reply is chunked."""
        if self._chunked:
            self._path.send(writer.chunk_head(size))
        self._path.send_buffer(piece)
        if self._chunked:
            self._path.send(writer.CHUNK_END)

    def send_reply_end(self) -> None:
        """Finish a reply in pieces (evhttp_send_reply_end).

        Raises LocalProtocolError when bytes of the announced Content-Length are missing; the
        connection is closed then, so that the client does not wait for them.
        """
        if self._state is not _STREAMING:
            raise self._out_of_turn("send_reply_end")
        self._state = _DONE
        path = self._path
        if path.gone:
            return
        has_body = not self._has_no_body(self.response_code)
        if self._remaining > 0 and has_body:
            path.break_off()
            raise LocalProtocolError(f"{self._remaining} bytes of the Content-Length are missing")
        if self._encoder is not None and has_body:
            end = self._encoder.finish()
            self.bytes_sent += len(end)
            path.send(writer.chunk(end) if self._chunked else end)
        if self._chunked and has_body:
            path.send(writer.LAST_CHUNK)
        path.reply_done(self, path.keep_alive)

    def start_event_stream(self, options: EventStreamOptions | None = None) -> EventStream:
        """Answer with server-sent events, as a browser's EventSource reads them.

        `output_headers` go along.  To a HEAD, or when the client has gone, the stream has ended
        already.  It has the callback of `set_on_gone_cb`: use its own `set_closecb`.  Raises
        LocalProtocolError when the request is answered already.
        """
        return EventStream(self, options or EventStreamOptions())

    def take_over(self, head: bytes | None = None) -> tuple[AbstractBufferEvent, bytes]:
        """Take the connection for another protocol; return what carries it, and the bytes behind
        the request.

        head: sent first; None is 101 Switching Protocols, or 200 to CONNECT, with
        `output_headers`.  HTTP has nothing to do with the bufferevent from here on: it has no
        callbacks and no time-outs, and reads.  Raises LocalProtocolError when the request is
        answered already, or the client has gone, ArgumentError for a head without a status line.
        Source: RFC 9110 section 7.8.
        """
        if self._state is not _PENDING or self._path.gone:
            raise self._out_of_turn("take_over")
        if head is not None and _starts_response(head) is None:
            raise ArgumentError(f"not the head of a response: {head[:80]!r}")
        if head is None:
            code, phrase = (200, "OK") if self.method == "CONNECT" else (101, "Switching Protocols")
            fields = b"" if self._output_headers is None else self._output_headers.to_block()
            head = f"HTTP/1.1 {code} {phrase}\r\n".encode() + fields + b"\r\n"
        self._state = _DONE
        self.response_code = int(head[9:12])
        self.bytes_sent = 0
        self._path.send(head)
        return self._path.take_over(self)

    def _start_stream(self, path: ReplyPath, code: int, reason: str | None) -> None:
        headers = self.output_headers
        length, content_type = None, path.default_content_type
        self._chunked = False
        self._remaining = _UNKNOWN
        self._encoder = None
        self._check_headers(headers, code, None)
        if self._has_no_body(code) and (code in NO_BODY or self.method != "HEAD"):
            length, content_type = self._announced_without_body(code, length, content_type)
        else:
            if "content-length" in headers.names:
                self._remaining = self._announced_length(headers)
            if path.compression is not None:
                headers, self._encoder = path.compression.start(self, code, headers, content_type)
            if "content-length" in headers.names:
                pass
            elif self.minor:
                self._chunked = True
                headers = headers.copy()
                headers.add("Transfer-Encoding", "chunked")
            elif self.method != "HEAD":
                path.keep_alive = False
        head, path.keep_alive = writer.reply_head(
            headers,
            code,
            reason,
            path.date,
            length,
            content_type,
            path.keep_alive,
            self.minor,
        )
        path.send(head)
        self.response_code = code
        self.bytes_sent = 0

    def _check_headers(self, headers: Headers, code: int, length: int | None) -> None:
        """Refuse what would contradict the body; see `send_reply`."""
        keys = headers.names
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
            self._path.keep_alive = False  # what follows is not HTTP
            return None, None
        return length, content_type

    def _has_no_body(self, code: int) -> bool:
        method = self.method
        return method == "HEAD" or code in NO_BODY or (method == "CONNECT" and code < 300)

    def _checked_body(self, body: Body) -> bytes | EvBuffer:
        """Return a body as bytes that nobody else can change, or moved to a buffer of its own."""
        if body is None:
            body = self._output_buffer
            if body is None:
                return b""
        if isinstance(body, EvBuffer):
            if len(body) < JOIN_BYTES:
                return body.remove()
            moved = EvBuffer()
            moved.add_buffer(body)
            return moved
        if isinstance(body, (bytes, bytearray, memoryview)):
            return bytes(body)
        raise ArgumentTypeError(f"a body is bytes or an EvBuffer, not {type(body).__name__}")

    def _out_of_turn(self, call: str) -> LocalProtocolError:
        return LocalProtocolError(f"{call}(): the reply is {self._state.name.lower()}: {self!r}")


def _drop_body(body: bytes | EvBuffer) -> None:
    """Be done with a body that is not sent; files and memory that it refers to are let go."""
    if isinstance(body, EvBuffer):
        body.close()
