"""HttpRequest: a request that the program makes, and the response that comes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Final

from ...core import ArgumentError, ArgumentTypeError, EvBuffer
from ..errors import HttpError, LocalProtocolError, RemoteProtocolError
from ..exchange import AbstractRequest
from ..wire.headers import Headers, ReceivedHeaders
from ..wire.request_head import judge_request_line
from .upload import Producer, Upload, UploadState

if TYPE_CHECKING:
    from ...core import AbstractBufferEvent
    from ..wire.response_head import ResponseHead
    from .connection import HttpConnection

# Their requests announce a body even where it is empty (RFC 9110 8.6).
_BODY_METHODS: Final = frozenset(("POST", "PUT", "PATCH"))
# Of these, with a target that is a plain path, nothing has to be judged: one match replaces 200
# bytecodes.
_PLAIN_METHODS: Final = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"))
_is_plain_target: Final = re.compile(r"/[!\"$-~]*+").fullmatch
# Fields that the client has to look at before it sends them.
_looks_plain: Final = frozenset(
    ("connection", "content-length", "expect", "host", "transfer-encoding", "upgrade")
).isdisjoint
_EXPECT_LINE: Final = re.compile(rb"\r\n[Ee][Xx][Pp][Ee][Cc][Tt]:[^\r\n]*")

# A body up to this size is copied behind its head, and both are one chunk for the kernel.
MAX_COPIED_BYTES: Final = 16 * 1024

CompletionCallback = Callable[[Any, Any], object]
"""Called as `cb(request, arg)`; `request` is None when there is no response."""
ErrorCallback = Callable[[Any, Any], object]
"""Called as `cb(code, arg)` with an EVREQ_HTTP_* code, before the completion callback."""
UpgradeCallback = Callable[[Any, Any, bytes, Any], object]
"""Called as `cb(request, bufferevent, rest, arg)`; `rest` has come behind the response's head."""
InterimCallback = Callable[[Any, int, Headers, Any], object]
"""Called as `cb(request, status, headers, arg)`."""


class Extras:
    """What few requests have: callbacks in the middle of a response, and a body in pieces.

    takes_whole: a response that comes whole in one piece is told at its end alone.
    """

    __slots__ = (
        "chunked_cb",
        "header_cb",
        "interim_cb",
        "takes_whole",
        "upgrade_arg",
        "upgrade_cb",
        "upload",
    )

    def __init__(self) -> None:
        self.chunked_cb: CompletionCallback | None = None
        self.header_cb: CompletionCallback | None = None
        self.interim_cb: InterimCallback | None = None
        self.upgrade_cb: UpgradeCallback | None = None
        self.upgrade_arg: Any = None
        self.upload: Upload | None = None
        self.takes_whole = False


class HttpRequest(AbstractRequest):
    """A request to be sent, once, with `HttpConnection.make_request` (evhttp_request_new).

    `cb(request, arg)` is called once, with the response in the request: `response_code`,
    `input_headers`, `input_buffer`.  When no response came it is `cb(None, arg)`, and `error` of
    the request that the program made holds the exception.  Where there was no connection to be
    had, libevent gives the request with `response_code` 0, and so do we.

    A callback that raises ends its exchange: the connection is closed, the traceback is logged, and
    the base's exception handler is told, if there is one.

    connection: the connection, from `make_request` to the end of the callback.
    error: why there is no response; an HttpError.
    head: the request line and the header as they are sent; b"" before `make_request`.
    body: what is sent behind it, where it is not streamed; as it was in `output_buffer`.
    trailers: the trailer fields of a chunked response, apart from its header (RFC 9110 6.5).
    expects_continue: whether the body waits for 100 Continue.
    keep_alive: whether the request, and then the response, let the connection stay open.
    went_again: whether it was sent a second time, as the first connection had ended before.
    asks_to_upgrade: whether it has an Upgrade field.
    ends_at: when the whole exchange has to be over, by the base's time; inf for never.
    callback, error_cb, extras: what the program has set; for the connection.
    """

    __slots__ = (
        "_block",
        "arg",
        "asks_to_upgrade",
        "body",
        "callback",
        "connection",
        "ends_at",
        "error",
        "error_cb",
        "expects_continue",
        "extras",
        "head",
        "keep_alive",
        "response_code_line",
        "trailers",
        "went_again",
    )

    def __init__(self, cb: CompletionCallback | None = None, arg: object = None) -> None:
        self.method = self.uri = self.response_code_line = ""
        self.minor = 1
        self.response_code = 0
        self._input_headers = self._output_headers = None
        self._input_buffer = self._output_buffer = None
        self._block = self._received = self.head = b""
        self.callback = cb
        self.arg: Any = arg
        self.error_cb: ErrorCallback | None = None
        self.extras: Extras | None = None
        self.connection: HttpConnection | None = None
        self.error: HttpError | None = None
        self.body: bytes | EvBuffer = b""
        self.trailers: Headers | None = None
        self.expects_continue = self.asks_to_upgrade = self.went_again = False
        self.keep_alive = True
        self.ends_at = inf

    @property
    def input_headers(self) -> Headers:
        """The response's header, split when first looked at."""
        headers = self._input_headers
        if headers is None:
            headers = self._input_headers = ReceivedHeaders.from_block(self._block)
        return headers

    def set_chunked_cb(self, cb: CompletionCallback | None) -> None:
        """Call `cb(request, arg)` for each piece of the body, which `input_buffer` holds then.

        The buffer is emptied after each call.  A body that is taken so, by a callback that is set
        before the response's head comes, is a stream: `max_stream_bytes` bounds it, and not
        `max_body_bytes`; `pause` holds the server back.  Source: evhttp_request_set_chunked_cb.
        """
        self._extras().chunked_cb = cb

    def set_header_cb(self, cb: CompletionCallback | None) -> None:
        """Call `cb(request, arg)` when the response's header is complete; a negative result
        gives the request up as if the server had closed (evhttp_request_set_header_cb)."""
        self._extras().header_cb = cb

    def set_pieces_cbs(self, header_cb: CompletionCallback, chunked_cb: CompletionCallback) -> None:
        """Call those two for a response that does not come whole in one piece, which few do.

        Of one that does the completion callback alone is told, with all of it.  `max_body_bytes`
        bounds that; for the rest see `set_header_cb` and `set_chunked_cb`.  Spares a client that
        has to look at every response half of what the two cost.
        """
        extras = self._extras()
        extras.header_cb = header_cb
        extras.chunked_cb = chunked_cb
        extras.takes_whole = True

    def set_error_cb(self, cb: ErrorCallback | None) -> None:
        """Call `cb(code, arg)` when the request fails (evhttp_request_set_error_cb)."""
        self.error_cb = cb

    def set_interim_cb(self, cb: InterimCallback | None) -> None:
        """Call `cb(request, status, headers, arg)` for each interim response, such as 103.

        Those are the 1xx but for 101 (RFC 9110 15.2); what is final follows.
        """
        self._extras().interim_cb = cb

    def set_upgrade_cb(self, cb: UpgradeCallback | None, arg: object = None) -> None:
        """Call `cb(request, bufferevent, rest, arg)` when another protocol follows the response.

        That is behind 101 Switching Protocols to a request with an Upgrade field, and behind 2xx
        to CONNECT (RFC 9110 7.8, 9.3.6).  The bufferevent is the program's from there on, without
        callbacks or time-outs, and reading; `rest` is what has come of the other protocol already.
        It is the outcome of the request: the completion callback does not run.  The connection has
        nothing to do with the bufferevent any more, and connects anew for its next request.  With
        another response everything is as without this callback.

        Where it raises, the bufferevent is closed.
        """
        extras = self._extras()
        extras.upgrade_cb = cb
        extras.upgrade_arg = arg

    def set_body(self, data: bytes) -> None:
        """Send these bytes, as if they were all of `output_buffer`, and make no buffer for them.

        Spares a small POST a seventh of its cost.  Raises ArgumentTypeError for what is no bytes,
        LocalProtocolError when the request was made already, or has a body in `output_buffer`.
        """
        if type(data) is not bytes:
            raise ArgumentTypeError(f"a body is bytes: {type(data).__name__}")
        if self.head or (self._output_buffer is not None and len(self._output_buffer)):
            raise LocalProtocolError(f"it was made already, or has a body: {self!r}")
        self.body = data

    def stream_body(
        self, producer: Producer, length: int | None = None, arg: object = None
    ) -> None:
        """Send a body piece by piece: `producer(request, arg)` is asked while the output has room.

        It returns the next piece as bytes; b"" where there is nothing now, until `resume_body` is
        called; None at the end.  length: how many bytes it will be; without, it goes chunked (RFC
        9112 7.1).  Such a body is not sent a second time: where the connection fails, so does the
        request.  A final response that is whole before its end ends it, and the connection with
        it; while the response goes on coming, so does the body go on going.

        What the producer raises, and a body that does not fit its length, fails the request.
        Raises ArgumentError for a negative length, ArgumentTypeError for what is no function or no
        number, LocalProtocolError when the request was made already.
        """
        if self.head:
            raise LocalProtocolError(f"the request was made already: {self!r}")
        self._extras().upload = Upload(producer, length, arg)

    def resume_body(self) -> None:
        """Have the producer asked again, which had nothing; from the loop.

        Fine when it is not waited for.
        """
        if self.connection is not None:
            self.connection.resume_upload(self)

    def pause(self) -> None:
        """Take nothing more from the server until `resume`; for the callbacks of a response.

        The kernel's buffers fill, and the server waits.  No time-out counts meanwhile but
        `exchange_s`.  Does nothing for a request that is not under way.
        """
        if self.connection is not None:
            self.connection.pause(self)

    def resume(self) -> None:
        """Undo `pause`; what has come already is given from the loop."""
        if self.connection is not None:
            self.connection.resume(self)

    def cancel(self) -> None:
        """Give the request up: its completion callback does not run (evhttp_cancel_request).

        One that is under way resets the connection, unless others are under way there, too, and
        gets EVREQ_HTTP_REQUEST_CANCEL at its error callback; one that waits for its turn is
        forgotten.  Fine when it is done already.
        """
        if self.connection is not None:
            self.connection.cancel(self)

    def _extras(self) -> Extras:
        extras = self.extras
        if extras is None:
            extras = self.extras = Extras()
        return extras

    def prepare(self, method: str, uri: str, host_line: str) -> None:
        """Make `head` and `body`; later changes to the output headers and buffer do not count.

        host_line: the Host where the program named none, and the target has none in it.  Raises as
        `HttpConnection.make_request`, and then nothing has changed.
        """
        if self.head:
            raise LocalProtocolError(f"the request was made already: {self!r}")
        if type(method) is type(uri) is str and method in _PLAIN_METHODS and _is_plain_target(uri):
            text = f"{method} {uri} HTTP/1.1\r\n"
        else:
            authority = _judge_line(method, uri)
            text = f"{method} {uri} HTTP/1.1\r\n"
            if authority is not None:
                host_line = f"Host: {authority}\r\n"
        buffer = self._output_buffer
        body = self.body
        length = len(body) if body or buffer is None else len(buffer)
        headers = self._output_headers
        upload = None if self.extras is None else self.extras.upload
        if (headers is not None and not _looks_plain(headers.names)) or upload is not None:
            text = self._steering_lines(text, method, host_line, length, upload)
        elif length or method in _BODY_METHODS:
            self._check_body(method, length)
            text = f"{text}{host_line}Content-Length: {length}\r\n"
        else:
            text = f"{text}{host_line}"
        if headers is not None:
            for name, value in headers.pairs:
                text = f"{text}{name}: {value}\r\n"
        if length and not body and buffer is not None:
            self.body = take_all(buffer)
        self.head = f"{text}\r\n".encode("latin-1")
        self.method = method
        self.uri = uri

    def _steering_lines(
        self, text: str, method: str, host_line: str, length: int, upload: Upload | None
    ) -> str:
        """Add Host and the body's framing where the program's header lacks them, and judge it.

        Raises ArgumentError for headers that contradict the body or each other (RFC 9112 6).
        """
        headers = self.output_headers
        announced = headers.get_all("Content-Length")
        if "transfer-encoding" in headers.names:
            raise ArgumentError("Transfer-Encoding is set by the client itself")
        if upload is not None:
            if length:
                raise ArgumentError(f"a streamed body beside {length} bytes of another")
            wanted = upload.length
        else:
            wanted = length
        if announced and announced != [str(wanted)]:
            raise ArgumentError(f"Content-Length is {announced!r} and the body {wanted} bytes")
        if len(headers.get_all("Host")) > 1:
            raise ArgumentError(f"there is more than one Host: {headers!r}")
        has_body = wanted != 0
        self._check_body(method, has_body)
        expects = "100-continue" in headers.tokens("expect")
        if expects and not has_body:
            raise ArgumentError("without a body there is nothing to expect 100 Continue for")
        self.expects_continue = expects
        self.keep_alive = "close" not in headers.tokens("connection")
        self.asks_to_upgrade = "upgrade" in headers.names
        if "host" not in headers.names:
            text = f"{text}{host_line}"
        if wanted is None:
            text = f"{text}Transfer-Encoding: chunked\r\n"
        elif not announced and (wanted or method in _BODY_METHODS):
            text = f"{text}Content-Length: {wanted}\r\n"
        return text

    def _check_body(self, method: str, has_body: object) -> None:
        if has_body and method in ("TRACE", "CONNECT"):
            raise ArgumentError(f"a {method} request has no body: {has_body!r} bytes")

    def expect_nothing(self) -> None:
        """Take the Expect field out, to be sent again without (RFC 9110 10.1.1)."""
        self.head = _EXPECT_LINE.sub(b"", self.head)
        self.expects_continue = False

    @property
    def can_be_repeated(self) -> bool:
        """Whether all of it is still here: no streamed body has begun."""
        upload = None if self.extras is None else self.extras.upload
        return upload is None or upload.state is UploadState.FRESH

    @property
    def can_be_pipelined(self) -> bool:
        """Whether others may be sent before it is answered, and it before they are.

        Not where its answer is told in pieces, its body is had in pieces or waits for consent, or
        another protocol or the end of the connection may follow.
        """
        if self.extras is not None or self.expects_continue or self.asks_to_upgrade:
            return False
        return self.keep_alive and self.method != "CONNECT"

    @property
    def sent_bytes(self) -> int:
        """How long head and body are together, where the body is not streamed."""
        return len(self.head) + len(self.body)

    def stand_in(self) -> HttpRequest:
        """Return a request of nobody's, which awaits the answer when this one is given up."""
        made = HttpRequest()
        made.method, made.uri, made.keep_alive = self.method, self.uri, self.keep_alive
        made.head, made.body = self.head, self.body
        return made

    def set_response(self, head: ResponseHead, body: bytes = b"") -> None:
        """Take the status line and the header of the response, and a body that is all here."""
        self.response_code, self.response_code_line, self.minor, self._block, _, keeps = head
        self._received = body
        if not keeps:
            self.keep_alive = False

    def hand_over(self, bev: AbstractBufferEvent, rest: bytes) -> None:
        """Run the upgrade callback; the connection calls this."""
        extras = self.extras
        if extras is not None and extras.upgrade_cb is not None:
            extras.upgrade_cb(self, bev, rest, extras.upgrade_arg)

    def drop(self) -> None:
        """Let go of the connection and the callbacks, which may well refer to us."""
        self.connection = self.callback = self.error_cb = self.extras = None
        self.body = b""


def take_all(buffer: EvBuffer) -> bytes | EvBuffer:
    """Take a body out of the program's buffer: as bytes where it is small."""
    if len(buffer) <= MAX_COPIED_BYTES:
        return buffer.remove()
    body = EvBuffer()
    body.add_buffer(buffer)
    return body


def host_field(address: str, port: int, default_port: int = 80) -> str:
    """Return the Host for a server's name or address and its port (RFC 9112 3.2)."""
    host = f"[{address.partition('%')[0]}]" if ":" in address else address
    return host if port == default_port else f"{host}:{port}"


def _judge_line(method: str, uri: str) -> str | None:
    """Refuse what our own server would; return the authority in the target, if there is one."""
    if not isinstance(method, str) or not isinstance(uri, str):
        raise ArgumentTypeError(f"a method and a request target are texts: {method!r}, {uri!r}")
    try:
        authority = judge_request_line(f"{method} {uri} HTTP/1.1".encode("ascii"))[3]
    except (UnicodeEncodeError, RemoteProtocolError) as exc:
        raise ArgumentError(f"not a method and a request target: {method!r}, {uri!r}") from exc
    return uri if method == "CONNECT" else authority
