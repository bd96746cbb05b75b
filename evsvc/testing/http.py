"""HttpTestClient: asks an HttpServer's callbacks, over a pair of bufferevents in place of sockets.

All between is the real thing: our client's requests, the server's reader, limits, routes and
time-outs, and the bytes in between.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..core import EVLOOP_NONBLOCK, AbstractBufferEvent, PairBufferEvent
from ..core.closing import Closing
from ..http import ClientOptions, ClientResponse, Headers, HttpConnection, HttpRequest
from ..http.client.dialer import HTTP_PORT
from ..http.client.target import Origin, Target
from .waiting import DEFAULT_WAIT_S, run_until

if TYPE_CHECKING:
    from ..core import EventBase
    from ..http import HttpServer

Fields = Mapping[str, str] | Iterable[tuple[str, str]]

# It is the test that says how long it waits, and it is told then what is pending.  Nothing is sent
# twice: what a handler does to a connection is what the test sees.
_YEARS_S = 1e9
_OPTIONS = ClientOptions(read_s=_YEARS_S, write_s=_YEARS_S, retry=False)

HOST = "testserver"
PEER = ("192.0.2.1", 49152)
"""Where requests seem to come from: an address for documentation (RFC 5737)."""


class HttpTestClient(Closing):
    """Asks one server, and waits for each answer.

    host: what the Host field says, where a request does not.  peer: the client's address and port,
    as handlers see them.  wait_s: how long an answer may take, by the base's clock.  The connection
    is kept from one request to the next, as a browser's is.
    """

    def __init__(
        self,
        server: HttpServer,
        *,
        host: str = HOST,
        peer: tuple[str, int] = PEER,
        wait_s: float = DEFAULT_WAIT_S,
    ) -> None:
        self.server = server
        self.host = host
        self.peer = peer
        self.wait_s = wait_s
        self._connection = self.connect()
        self._streams: list[TestStream] = []

    @property
    def base(self) -> EventBase:
        """The server's event base."""
        return self.server.base

    def connect(self) -> HttpConnection:
        """Return one more connection to the server, for requests of your own; close it.

        As one over a socket it connects when it has something to send, and again after an end.
        """
        return HttpConnection.bufferevent_maker_new(
            self.base, self._reach_server, _OPTIONS, address=self.host
        )

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Fields = (),
        body: bytes | str = b"",
        json: object = None,
    ) -> ClientResponse:
        """Send a request and return the answer, body and all.

        target: path and query, as they go into the request line.  body: a text goes as UTF-8.
        json: sent as such, in place of a body.  Redirects are not followed, and no cookies kept.
        Raises NothingHappened when no answer comes, the HttpError that ended the connection before
        one, what HttpConnection raises for what is no request, StateError inside a callback.
        """
        done: list[HttpRequest] = []
        request = _prepared(headers, body, json, lambda: done.append(request))
        self.send_on(self._connection, request, method, target)
        try:
            what = f"an answer to {method} {target}"
            run_until(self.base, lambda: done, what=what, wait_s=self.wait_s)
        finally:
            request.cancel()  # where none has come: the next request does not wait behind it
        if request.error is not None:
            raise request.error
        return _response(self.host, method, target, request)

    def get(self, target: str, **options: Any) -> ClientResponse:
        """Do as `request`, by GET."""
        return self.request("GET", target, **options)

    def head(self, target: str, **options: Any) -> ClientResponse:
        """Do as `request`, by HEAD."""
        return self.request("HEAD", target, **options)

    def post(self, target: str, **options: Any) -> ClientResponse:
        """Do as `request`, by POST."""
        return self.request("POST", target, **options)

    def put(self, target: str, **options: Any) -> ClientResponse:
        """Do as `request`, by PUT."""
        return self.request("PUT", target, **options)

    def delete(self, target: str, **options: Any) -> ClientResponse:
        """Do as `request`, by DELETE."""
        return self.request("DELETE", target, **options)

    def stream(
        self, target: str, *, method: str = "GET", headers: Fields = (), body: bytes | str = b""
    ) -> TestStream:
        """Send a request on a connection of its own, and return when the answer's head is there.

        For answers that come in pieces, or never end.  Raises as `request`.
        """
        stream = TestStream(self, method, target, headers, body)
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """End all connections, as a client that goes away.  Safe to repeat."""
        self._connection.close()
        while self._streams:
            self._streams.pop().close()

    def send_on(
        self, connection: HttpConnection, request: HttpRequest, method: str, target: str
    ) -> None:
        """Send a request, after what is due has happened: such as the end of an idle connection."""
        self.base.loop(EVLOOP_NONBLOCK)
        connection.make_request(request, method, target)

    def _reach_server(self) -> AbstractBufferEvent:
        ours, theirs = PairBufferEvent.new(self.base)
        try:
            self.server.serve(theirs, self.peer)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        return ours


class TestStream(Closing):
    """An answer that comes in pieces; made by `HttpTestClient.stream`.

    status, headers: of the answer.  pieces: what has come of its body, as it came.
    """

    __test__ = False  # no test, though pytest would think so by the name

    def __init__(
        self, client: HttpTestClient, method: str, target: str, headers: Fields, body: bytes | str
    ) -> None:
        self.pieces: list[bytes] = []
        self._client = client
        self._what = f"{method} {target}"
        self._is_over = False
        self._begun = False
        self._request = _prepared(headers, body, None, self._on_over)
        self._request.set_header_cb(self._on_head)
        self._request.set_chunked_cb(self._on_piece)
        self._connection = client.connect()
        try:
            client.send_on(self._connection, self._request, method, target)
            self._wait(lambda: self._begun, "an answer")
        except BaseException:
            self.close()
            raise

    @property
    def status(self) -> int:
        """The status of the answer."""
        return self._request.response_code

    @property
    def headers(self) -> Headers:
        """The headers of the answer."""
        return self._request.input_headers

    @property
    def is_over(self) -> bool:
        """Whether the answer has ended."""
        return self._is_over

    def read(self) -> bytes:
        """Return what has come since the last time, or else comes next; b"" at the end.

        Raises NothingHappened when nothing comes, and the HttpError that broke the answer off.
        """
        self._wait(lambda: self.pieces, "another piece")
        if not self.pieces and self._request.error is not None:
            raise self._request.error
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data

    def read_all(self) -> bytes:
        """Return the rest, to the end.  Raises as `read`."""
        self._wait(lambda: False, "the end")
        if self._request.error is not None:
            raise self._request.error
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data

    def close(self) -> None:
        """Go away, as a client that wants no more.  Safe to repeat."""
        self._connection.close()
        self._is_over = True

    def _wait(self, is_done: Callable[[], object], what: str) -> None:
        run_until(
            self._client.base,
            lambda: self._is_over or is_done(),
            what=f"{what} to {self._what}",
            wait_s=self._client.wait_s,
        )
        if not self._begun and self._request.error is not None:
            raise self._request.error

    def _on_head(self, request: Any, arg: object) -> None:
        self._begun = True

    def _on_piece(self, request: Any, arg: object) -> None:
        self.pieces.append(request.input_buffer.remove())

    def _on_over(self) -> None:
        self._is_over = True


def _prepared(
    headers: Fields, body: bytes | str, json: object, done: Callable[[], object]
) -> HttpRequest:
    request = HttpRequest(lambda got, arg: done())
    fields = request.output_headers
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        fields.add(name, value)
    if json is not None:
        body = json_module.dumps(json)
        fields.add("Content-Type", "application/json")
    request.output_buffer.add(body.encode() if isinstance(body, str) else body)
    return request


def _response(host: str, method: str, target: str, request: HttpRequest) -> ClientResponse:
    asked = Target(Origin("http", host, HTTP_PORT), target)
    response = ClientResponse(method, asked, request=request)
    response.trailers = request.trailers
    response.body = bytes(request.input_buffer)
    return response
