"""HttpRequest: a request that the program makes, and the response that comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...core import ArgumentError, ArgumentTypeError, EvBuffer
from ..errors import (
    ConnectFailed,
    HttpError,
    LocalProtocolError,
    RemoteProtocolError,
    RequestCancelled,
)
from ..exchange import AbstractRequest
from ..wire.headers import Headers
from ..wire.request_head import judge_request_line

if TYPE_CHECKING:
    from ...core import BufferEvent, Event, EventBase, TlsBufferEvent
    from ..wire.response_head import ResponseHead
    from .connection import HttpConnection

# Their requests announce a body even where it is empty (RFC 9110 8.6).
_BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))

CompletionCallback = Callable[[Any, Any], object]
"""Called as `cb(request, arg)`; `request` is None when there is no response."""
ErrorCallback = Callable[[Any, Any], object]
"""Called as `cb(code, arg)` with an EVREQ_HTTP_* code, before the completion callback."""
UpgradeCallback = Callable[[Any, Any, bytes, Any], object]
"""Called as `cb(request, bufferevent, rest, arg)`; `rest` has come behind the response's head."""


class HttpRequest(AbstractRequest):
    """A request to be sent, once, with `HttpConnection.make_request` (evhttp_request_new).

    `cb(request, arg)` is called once, with the response in the request: `response_code`,
    `input_headers`, `input_buffer`.  When no response came it is `cb(None, arg)`, and `error` of
    the request that the program made holds the exception.  Where there was no connection to be
    had, libevent gives the request with `response_code` 0, and so do we.

    connection: the connection, from `make_request` to the end of the callback.
    error: why there is no response; an HttpError.
    head: the request line and the header as they are sent; b"" before `make_request`.
    body: what is sent behind it.  expects_continue: whether it waits for 100 Continue.
    keep_alive: whether the request, and then the response, let the connection stay open.
    went_again: whether it was sent a second time, as the first connection had ended before.
    asks_to_upgrade: whether it has an Upgrade field.
    ends_http: whether the response says that another protocol follows.
    header_cb, chunked_cb, upgrade_cb: what `set_header_cb` and the others have set.
    """

    __slots__ = (
        "_block",
        "_cb",
        "_error_cb",
        "_limit",
        "_upgrade_arg",
        "arg",
        "asks_to_upgrade",
        "body",
        "chunked_cb",
        "connection",
        "ends_http",
        "error",
        "expects_continue",
        "head",
        "header_cb",
        "keep_alive",
        "response_code_line",
        "upgrade_cb",
        "went_again",
    )

    def __init__(self, cb: CompletionCallback | None = None, arg: object = None) -> None:
        self.method = ""
        self.uri = ""
        self.minor = 1
        self.response_code = 0
        self.response_code_line = ""
        self._input_headers = self._output_headers = None
        self._input_buffer = self._output_buffer = None
        self._block = b""
        self._cb = cb
        self.chunked_cb: CompletionCallback | None = None
        self.header_cb: CompletionCallback | None = None
        self._error_cb: ErrorCallback | None = None
        self.upgrade_cb: UpgradeCallback | None = None
        self.asks_to_upgrade = self.ends_http = False
        self.arg: Any = arg
        self.connection: HttpConnection | None = None
        self.error: HttpError | None = None
        self.head = b""
        self.body = EvBuffer()
        self.expects_continue = self.went_again = False
        self.keep_alive = True
        self._limit: Event | None = None
        self._upgrade_arg: Any = None

    @property
    def input_headers(self) -> Headers:
        """The response's header, split when first looked at."""
        headers = self._input_headers
        if headers is None:
            headers = self._input_headers = Headers.from_block(self._block)
        return headers

    def set_chunked_cb(self, cb: CompletionCallback | None) -> None:
        """Call `cb(request, arg)` for each piece of the body, which `input_buffer` holds then.

        The buffer is emptied after each call.  Source: evhttp_request_set_chunked_cb.
        """
        self.chunked_cb = cb

    def set_header_cb(self, cb: CompletionCallback | None) -> None:
        """Call `cb(request, arg)` when the response's header is complete; a negative result
        gives the request up as if the server had closed (evhttp_request_set_header_cb)."""
        self.header_cb = cb

    def set_error_cb(self, cb: ErrorCallback | None) -> None:
        """Call `cb(code, arg)` when the request fails (evhttp_request_set_error_cb)."""
        self._error_cb = cb

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
        self.upgrade_cb = cb
        self._upgrade_arg = arg

    def cancel(self) -> None:
        """Give the request up: its completion callback does not run (evhttp_cancel_request).

        One that is under way resets the connection and gets EVREQ_HTTP_REQUEST_CANCEL at its
        error callback; one that waits for its turn is forgotten.  Fine when it is done already.
        """
        if self.connection is not None:
            self.connection.cancel(self)

    def limit(self, base: EventBase, seconds: float) -> None:
        """Have the connection end the exchange when it takes longer; the connection calls this."""
        self._limit = base.timer(self._on_limit)
        self._limit.add(seconds)

    def _on_limit(self, fd: int, what: int, arg: object) -> None:
        if self.connection is not None:
            self.connection.time_out(self)

    def prepare(self, method: str, uri: str, host: str) -> None:
        """Make `head` and `body`; later changes to the output headers and buffer do not count.

        host: the Host where the program named none, and the target has none in it.  Raises as
        `HttpConnection.make_request`, and then nothing has changed.
        """
        if self.head:
            raise LocalProtocolError(f"the request was made already: {self!r}")
        authority = _judge_line(method, uri)
        self._check_headers(method)
        headers = self.output_headers
        length = 0 if self._output_buffer is None else len(self._output_buffer)
        text = f"{method} {uri} HTTP/1.1\r\n"
        if "host" not in headers.keys:
            text = f"{text}Host: {authority or host}\r\n"
        if "content-length" not in headers.keys and (length or method in _BODY_METHODS):
            text = f"{text}Content-Length: {length}\r\n"
        self.head = b"%b%b\r\n" % (text.encode("ascii"), headers.to_block())
        if self._output_buffer is not None:
            self.body.add_buffer(self._output_buffer)
        self.expects_continue = "100-continue" in headers.tokens("expect")
        self.keep_alive = "close" not in headers.tokens("connection")
        self.asks_to_upgrade = "upgrade" in headers.keys
        self.method = method
        self.uri = uri

    def _check_headers(self, method: str) -> None:
        """Raise ArgumentError for headers that contradict the body or each other (RFC 9112 6)."""
        headers = self.output_headers
        length = 0 if self._output_buffer is None else len(self._output_buffer)
        announced = headers.get_all("Content-Length")
        if "transfer-encoding" in headers.keys:
            raise ArgumentError("Transfer-Encoding is set by the client itself")
        if announced and announced != [str(length)]:
            raise ArgumentError(f"Content-Length is {announced!r} and the body {length} bytes")
        if len(headers.get_all("Host")) > 1:
            raise ArgumentError(f"there is more than one Host: {headers!r}")
        if length and method in ("TRACE", "CONNECT"):
            raise ArgumentError(f"a {method} request has no body: {length} bytes")
        if not length and "100-continue" in headers.tokens("expect"):
            raise ArgumentError("without a body there is nothing to expect 100 Continue for")

    def set_response(self, head: ResponseHead) -> None:
        """Take the status line and the header of the response."""
        self.response_code, self.response_code_line, self.minor, self._block, _, keeps = head
        self._input_headers = None
        # After these another protocol follows on the connection (RFC 9110 9.3.6, 15.2.2).
        self.ends_http = head.status == 101 or (self.method == "CONNECT" and head.status < 300)
        self.keep_alive = self.keep_alive and keeps and not self.ends_http

    def complete(self, error: HttpError | None) -> None:
        """Run the callbacks that go with the outcome; None is a response."""
        self.error = error
        cb, error_cb = self._cb, self._error_cb
        given = error is None or isinstance(error, ConnectFailed)
        try:
            if error is not None and error_cb is not None and not given:
                error_cb(error.code, self.arg)
        finally:
            try:
                # The error callback may have cancelled it.
                if cb is not None and self.connection and not isinstance(error, RequestCancelled):
                    cb(self if given else None, self.arg)
            finally:
                self.drop()

    def hand_over(self, bev: BufferEvent | TlsBufferEvent, rest: bytes) -> None:
        """Run the upgrade callback; the connection calls this."""
        if self.upgrade_cb is not None:
            self.upgrade_cb(self, bev, rest, self._upgrade_arg)

    def drop(self) -> None:
        """Let go of the connection and the callbacks, which may well refer to us."""
        self.connection = None
        if self._limit is not None:
            self._limit.close()
            self._limit = None
        self._cb = self.chunked_cb = self.header_cb = self._error_cb = self.upgrade_cb = None
        self.body.drain(len(self.body))


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
