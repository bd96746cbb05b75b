"""HttpRequest: a request that the program makes, and the response that comes back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..core import ArgumentError
from .errors import HttpError, LocalProtocolError
from .grammar import TOKEN
from .headers import Headers
from .request import AbstractRequest

if TYPE_CHECKING:
    from .client import HttpConnection
    from .response_head import ResponseHead

_is_method = re.compile(rb"%b+" % TOKEN).fullmatch

CompletionCallback = Callable[[Any, Any], object]
"""Called as `cb(request, arg)`; `request` is None when there is no response."""
ErrorCallback = Callable[[Any, Any], object]
"""Called as `cb(code, arg)` with an EVREQ_HTTP_* code, before the completion callback."""


class HttpRequest(AbstractRequest):
    """A request to be sent with `HttpConnection.make_request` (evhttp_request_new).

    `cb(request, arg)` is called once, with the response in the request: `response_code`,
    `input_headers`, `input_buffer`.  When no response came it is `cb(None, arg)`, and `error` of
    the request that the program made holds the exception.  Where there was no connection to be
    had, libevent gives the request with `response_code` 0, and so do we.

    connection: the connection, from `make_request` to the end of the callback.
    error: why there is no response; an HttpError.
    """

    __slots__ = (
        "_block",
        "_cb",
        "_chunked_cb",
        "_error_cb",
        "_header_cb",
        "arg",
        "connection",
        "error",
        "response_code_line",
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
        self._chunked_cb: CompletionCallback | None = None
        self._header_cb: CompletionCallback | None = None
        self._error_cb: ErrorCallback | None = None
        self.arg: Any = arg
        self.connection: HttpConnection | None = None
        self.error: HttpError | None = None

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
        self._chunked_cb = cb

    def set_header_cb(self, cb: CompletionCallback | None) -> None:
        """Call `cb(request, arg)` when the response's header is complete; a negative result
        gives the request up as if the server had closed (evhttp_request_set_header_cb)."""
        self._header_cb = cb

    def set_error_cb(self, cb: ErrorCallback | None) -> None:
        """Call `cb(code, arg)` when the request fails (evhttp_request_set_error_cb)."""
        self._error_cb = cb

    def cancel(self) -> None:
        """Give the request up: its completion callback does not run (evhttp_cancel_request).

        One that is under way resets the connection and gets EVREQ_HTTP_REQUEST_CANCEL at its
        error callback; one that waits for its turn is forgotten.  Fine when it is done already.
        """
        if self.connection is not None:
            self.connection.cancel(self)

    def prepare(self, method: str, uri: str) -> None:
        """Set the request line.  Raises ArgumentError for what is none (RFC 9112 3)."""
        if _is_method(method.encode(errors="replace")) is None:
            raise ArgumentError(f"not a method: {method!r}")
        if not uri or not (uri.isascii() and uri.isprintable()) or " " in uri:
            raise ArgumentError(f"not a request target: {uri!r}")
        if self.connection is not None:
            raise LocalProtocolError(f"the request is under way already: {self!r}")
        self.method = method
        self.uri = uri
        self.response_code = 0
        self.error = None

    def wire(self, host: str) -> bytes:
        """Return the request as bytes; Host and Content-Length are added where missing.

        Raises ArgumentError for a Transfer-Encoding, or a Content-Length that is not the body's.
        """
        headers = self.output_headers
        body = b"" if self._output_buffer is None else self._output_buffer.remove()
        text = f"{self.method} {self.uri} HTTP/1.1\r\n"
        if "host" not in headers.keys:
            text += f"Host: {host}\r\n"
        for name, value in headers:
            text = f"{text}{name}: {value}\r\n"
        if "content-length" not in headers.keys and (
            body or self.method in ("POST", "PUT", "PATCH")
        ):
            text = f"{text}Content-Length: {len(body)}\r\n"
        return f"{text}\r\n".encode("latin-1") + body

    def check_headers(self) -> None:
        """Raise ArgumentError for headers that contradict the body (RFC 9112 6)."""
        headers = self.output_headers
        if "transfer-encoding" in headers.keys:
            raise ArgumentError("Transfer-Encoding is set by the client itself")
        announced = headers.get_all("Content-Length")
        length = 0 if self._output_buffer is None else len(self._output_buffer)
        if announced and announced != [str(length)]:
            raise ArgumentError(f"Content-Length is {announced!r} and the body {length} bytes")

    def set_response(self, head: ResponseHead) -> None:
        """Take the status line and the header of the response."""
        self.response_code, self.response_code_line, self.minor, self._block, _, _ = head
        self._input_headers = None

    def complete(self, error: HttpError | None, *, has_request: bool) -> None:
        """Run the callbacks: the error callback, then the completion callback."""
        self.error = error
        cb, self._cb = self._cb, None
        self._chunked_cb = self._header_cb = None
        error_cb, self._error_cb = self._error_cb, None
        if error is not None and error_cb is not None and not has_request:
            error_cb(error.code, self.arg)
        if cb is not None:
            cb(self if has_request else None, self.arg)
        self.connection = None
