"""What a request is on either side of HTTP (struct evhttp_request).

A client makes an `HttpRequest`; a server's callback gets a `ServerRequest`, which can be answered.
Headers and buffers are made when they are first looked at: a callback that looks at none pays for
none.
"""

from __future__ import annotations

from ..core import EvBuffer
from .query import parse_query_str, uridecode
from .uri import EVHTTP_URI_NONCONFORMANT, HttpUri
from .wire.headers import Headers, KeyValues
from .wire.status import Method, method_bit


class AbstractRequest:
    """A request and its response: what clients and servers have in common.

    method, uri: as on the wire.  minor: 1 for HTTP/1.1, 0 for HTTP/1.0, of the peer.
    """

    __slots__ = (
        "_input_buffer",
        "_input_headers",
        "_output_buffer",
        "_output_headers",
        "_received",
        "method",
        "minor",
        "response_code",
        "uri",
    )

    _input_headers: Headers | None
    _output_headers: Headers | None
    _input_buffer: EvBuffer | None
    _received: bytes  # a body for which no buffer is made yet
    _output_buffer: EvBuffer | None
    method: str
    uri: str
    minor: int
    response_code: int

    @property
    def version(self) -> tuple[int, int]:
        """The peer's HTTP version, (1, 0) or (1, 1)."""
        return 1, self.minor

    @property
    def command(self) -> Method | None:
        """The method as an EVHTTP_REQ_* bit; None for another (evhttp_request_get_command)."""
        return method_bit(self.method)

    @property
    def path(self) -> str:
        """The target's path, percent-decoded as UTF-8, without query; "*" for `OPTIONS *`."""
        path = self.encoded_path
        return uridecode(path).decode(errors="replace") if "%" in path else path

    @property
    def encoded_path(self) -> str:
        """The target's path as it was sent, without query."""
        path = self.uri.partition("?")[0]
        if not path.startswith("/") and "://" in path:
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        return path

    @property
    def parsed_uri(self) -> HttpUri:
        """The target in its parts, of CONNECT its authority (evhttp_request_get_evhttp_uri)."""
        text = f"//{self.uri}" if self.method == "CONNECT" else self.uri
        return HttpUri.parse(text, EVHTTP_URI_NONCONFORMANT)

    @property
    def query(self) -> str | None:
        """The target's query as sent, without "?"; None when there is none."""
        _, mark, query = self.uri.partition("?")
        return query if mark else None

    def parse_query(self, flags: int = 0) -> KeyValues:
        """Return the keys and decoded values of the query; raises as `parse_query_str`."""
        return parse_query_str(self.query or "", flags)

    @property
    def input_headers(self) -> Headers:
        """The header that was received (evhttp_request_get_input_headers)."""
        if self._input_headers is None:
            self._input_headers = Headers()
        return self._input_headers

    @property
    def output_headers(self) -> Headers:
        """The header to send; it may be set, too (evhttp_request_get_output_headers)."""
        if self._output_headers is None:
            self._output_headers = Headers()
        return self._output_headers

    @output_headers.setter
    def output_headers(self, headers: Headers) -> None:
        self._output_headers = headers

    @property
    def input_buffer(self) -> EvBuffer:
        """The body that was received (evhttp_request_get_input_buffer)."""
        buffer = self._input_buffer
        if buffer is None:
            buffer = self._input_buffer = EvBuffer(self._received)
            self._received = b""
        return buffer

    def take_body(self) -> bytes:
        """Take all of the body that was received; `input_buffer` is empty then.

        For who wants bytes: mostly nothing is copied, and no buffer made.
        """
        if self._input_buffer is not None:
            return self._input_buffer.remove()
        data, self._received = self._received, b""
        return data

    @property
    def gathered_bytes(self) -> int:
        """How many bytes `input_buffer` has, which is not made for that."""
        buffer = self._input_buffer
        return len(self._received) if buffer is None else len(buffer)

    @property
    def output_buffer(self) -> EvBuffer:
        """A body to send; a reply without one takes it (evhttp_request_get_output_buffer)."""
        if self._output_buffer is None:
            self._output_buffer = EvBuffer()
        return self._output_buffer

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.method} {self.uri}>"
