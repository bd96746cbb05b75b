"""HttpConnection: the client.  One connection to one server, kept alive, requests in their order.

It connects when there is something to send, and again when the server has closed meanwhile.  The
next request goes out when the response before it is complete.

Invariants
    * `_queue[0]` is the request under way in WAITING and BODY.
    * A request leaves the queue before its callbacks run, so they may queue more, cancel, close.
"""

from __future__ import annotations

import enum
import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from ..core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    ArgumentError,
    BufferEvent,
    StateError,
)
from ..core.util import check_port, ip_version
from .errors import (
    ConnectFailed,
    ConnectionClosed,
    HttpError,
    RequestCancelled,
    RequestTimeout,
    ResolveFailed,
)
from .options import ClientOptions
from .response import ResponseReader

if TYPE_CHECKING:
    from types import TracebackType

    from ..core import EventBase
    from ..core.resolver import Resolver
    from .client_request import HttpRequest

logger = logging.getLogger("evsvc.http")


class Phase(enum.Enum):
    """What the connection is about to do."""

    IDLE = enum.auto()  # not connected
    CONNECTING = enum.auto()
    READY = enum.auto()  # connected, nothing under way
    WAITING = enum.auto()  # for the head of a response
    BODY = enum.auto()
    CLOSED = enum.auto()


class HttpConnection:
    """A client's connection to `address`:`port` (evhttp_connection_base_new).

    resolver: looks the address up without blocking; None will do for a numeric address.
    Raises ArgumentError for a bad port, or a name without resolver.
    """

    __slots__ = (
        "_base",
        "_bev",
        "_closecb",
        "_connect_timer",
        "_family",
        "_keep_alive",
        "_phase",
        "_queue",
        "_reader",
        "_resolver",
        "address",
        "options",
        "port",
    )

    def __init__(
        self,
        base: EventBase,
        resolver: Resolver | None,
        address: str,
        port: int,
        options: ClientOptions | None = None,
    ) -> None:
        if not address or (resolver is None and ip_version(address) is None):
            raise ArgumentError(f"a resolver is wanted to look up {address!r}")
        self._base = base
        self._resolver = resolver
        self.address = address
        self.port = check_port(port, lowest=1)
        self.options = options or ClientOptions()
        self._family = int(socket.AF_UNSPEC)
        self._phase = Phase.IDLE
        self._queue: deque[HttpRequest] = deque()
        self._bev: BufferEvent | None = None
        self._reader = ResponseReader(self.options.limits)
        self._keep_alive = True
        self._closecb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._connect_timer = base.timer(self._on_connect_timeout)

    @property
    def base(self) -> EventBase:
        """The event base (evhttp_connection_get_base)."""
        return self._base

    @property
    def bufferevent(self) -> BufferEvent | None:
        """What carries the bytes; None while not connected."""
        return self._bev

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port as configured (evhttp_connection_get_peer)."""
        return self.address, self.port

    @property
    def pending_requests(self) -> int:
        """How many requests are under way or wait for their turn."""
        return len(self._queue)

    def set_family(self, family: int) -> None:
        """Look up only AF_INET or AF_INET6 addresses (evhttp_connection_set_family)."""
        if family not in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
            raise ArgumentError(f"the family is AF_UNSPEC, AF_INET or AF_INET6: {family!r}")
        self._family = int(family)

    def set_timeout(self, seconds: float) -> None:
        """Limit the silence in both directions; connecting has its own (ClientOptions).

        Holds from the next connection or request on.  Source: evhttp_connection_set_timeout.
        """
        self.options = replace(self.options, read_s=seconds, write_s=seconds)

    def set_closecb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(connection, arg)` whenever an established connection ends, whoever ends it.

        Source: evhttp_connection_set_closecb.
        """
        self._closecb = None if cb is None else (cb, arg)

    def make_request(self, request: HttpRequest, method: str, uri: str) -> None:
        """Send a request as soon as it is its turn (evhttp_make_request).

        method: "GET" and so on.  uri: the request target, as a rule a path with its query.  Host
        and Content-Length are added where they are missing.  The outcome comes to the request's
        callback, never before the return.  Raises ArgumentError for what is no HTTP,
        LocalProtocolError for a request under way, StateError when `max_queued` requests wait
        already or the connection is closed.
        """
        if self._phase is Phase.CLOSED:
            raise StateError("the connection is closed")
        if len(self._queue) >= self.options.max_queued:
            raise StateError(f"{len(self._queue)} requests wait already")
        request.prepare(method, uri)
        request.check_headers()
        request.connection = self
        self._queue.append(request)
        self._go_on()

    def cancel(self, request: HttpRequest) -> None:
        """Give a request up; see `HttpRequest.cancel`."""
        if request not in self._queue:
            return
        under_way = self._queue[0] is request and self._phase is not Phase.READY
        self._queue.remove(request)
        request.connection = None
        if under_way:
            self._reset()
            error_cb = request._error_cb
            request.error = RequestCancelled(f"cancelled: {request!r}")
            if error_cb is not None:
                error_cb(request.error.code, request.arg)
            self._go_on()

    def close(self) -> None:
        """End it; requests that are not complete are dropped without a callback.

        Safe to repeat, and from inside any callback.  Source: evhttp_connection_free.
        """
        if self._phase is Phase.CLOSED:
            return
        for request in self._queue:
            request.connection = None
        self._queue.clear()
        self._reset()
        self._phase = Phase.CLOSED
        self._connect_timer.close()
        self._closecb = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _go_on(self) -> None:
        """Connect or send, whatever the next request needs."""
        if not self._queue:
            return
        if self._phase is Phase.IDLE:
            self._connect()
        elif self._phase is Phase.READY:
            self._send(self._queue[0])

    def _connect(self) -> None:
        self._phase = Phase.CONNECTING
        self._reader = ResponseReader(self.options.limits)
        bev = self._bev = BufferEvent(self._base, None, BEV_OPT_CLOSE_ON_FREE)
        bev.setcb(self._on_read, None, self._on_event)
        self._connect_timer.add(self.options.connect_s)
        bev.connect_hostname(self._resolver, self._family, self.address, self.port)

    def _send(self, request: HttpRequest) -> None:
        bev = self._bev
        assert bev is not None
        self._phase = Phase.WAITING
        self._keep_alive = "close" not in request.output_headers.tokens("connection")
        self._reader.expect(request.method)
        bev.set_timeouts(self.options.read_s, self.options.write_s)
        bev.write(request.wire(self._host()))

    def _host(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return host if self.port == 80 else f"{host}:{self.port}"

    def _on_event(self, bev: BufferEvent, what: int, ctx: object) -> None:
        if what & BEV_EVENT_CONNECTED:
            self._connect_timer.delete()
            self._phase = Phase.READY
            bev.enable(EV_READ)
            self._go_on()
        elif self._phase is Phase.CONNECTING:
            self._connect_failed()
        elif what & BEV_EVENT_EOF:
            self._reader.receive_eof()
            self._read_on()
        elif what & BEV_EVENT_TIMEOUT:
            self._fail(RequestTimeout(f"{self.address}: silent for too long"))
        elif not what & BEV_EVENT_WRITING:
            self._fail(ConnectionClosed(f"{self.address}: {bev.error}"))
        # A server may refuse a request before it has read all of it: the write fails, and the
        # response is still to be read.  What follows it, or silence, ends the wait.

    def _connect_failed(self) -> None:
        bev = self._bev
        assert bev is not None
        if bev.dns_error:
            self._fail_all(lambda: ResolveFailed(f"{self.address}: {bev.error}"), given=False)
        else:
            text = f"{self.address} port {self.port}: {bev.error}"
            self._fail_all(lambda: ConnectFailed(text), given=True)

    def _on_connect_timeout(self, fd: int, what: int, arg: object) -> None:
        text = f"{self.address} port {self.port}: no connection in time"
        self._fail_all(lambda: ConnectFailed(text), given=True)

    def _on_read(self, bev: BufferEvent, ctx: object) -> None:
        self._reader.receive(bev.input.remove())
        self._read_on()

    def _read_on(self) -> None:
        """Make what has come into a response."""
        if self._phase is Phase.READY:
            # Closed while idle, or bytes that nobody asked for: the next request connects anew.
            self._reset()
            return
        try:
            while self._phase is Phase.WAITING and self._read_head():
                pass
            while self._phase is Phase.BODY and self._read_body():
                pass
        except HttpError as exc:
            self._fail(exc)

    def _read_head(self) -> bool:
        head = self._reader.next_head()
        if head is None:
            return False
        if head.status < 200 and head.status != 101:
            return True  # an interim response: the answer is still to come
        request = self._queue[0]
        request.set_response(head)
        self._keep_alive = self._keep_alive and head.keep_alive and head.status != 101
        self._phase = Phase.BODY
        if request._header_cb is not None:
            verdict = request._header_cb(request, request.arg)
            if isinstance(verdict, int) and verdict < 0 and self._is_under_way(request):
                raise ConnectionClosed("the header callback gave the request up")
        return False

    def _read_body(self) -> bool:
        request = self._queue[0]
        piece = self._reader.read_body()
        if piece is None:
            self._complete(request)
            return False
        if not piece:
            return False
        request.input_buffer.add(piece)
        if request._chunked_cb is not None:
            request._chunked_cb(request, request.arg)
            request.input_buffer.drain(len(request.input_buffer))
        return self._is_under_way(request)

    def _is_under_way(self, request: HttpRequest) -> bool:
        return bool(self._queue) and self._queue[0] is request

    def _complete(self, request: HttpRequest) -> None:
        self._queue.popleft()
        if self._keep_alive and not self._reader.buffered:
            assert self._bev is not None
            self._phase = Phase.READY
            self._bev.set_timeouts(None, None)
        else:
            self._reset()
        request.complete(None, has_request=True)
        self._go_on()

    def _fail(self, error: HttpError) -> None:
        """The request under way has failed; the others go on over a new connection."""
        under_way = self._phase in (Phase.WAITING, Phase.BODY)
        self._reset()
        if under_way:
            self._queue.popleft().complete(error, has_request=False)
        self._go_on()

    def _fail_all(self, make_error: Callable[[], HttpError], *, given: bool) -> None:
        """No connection: every request that waits now has failed."""
        self._reset()
        failed, self._queue = self._queue, deque()
        for request in failed:
            if self._phase is Phase.CLOSED:
                request.connection = None
            elif request.connection is self:
                request.complete(make_error(), has_request=given)
        self._go_on()

    def _reset(self) -> None:
        """Drop the connection, if there is one, and tell whoever wants to know."""
        bev, self._bev = self._bev, None
        was_connected = self._phase not in (Phase.IDLE, Phase.CONNECTING, Phase.CLOSED)
        if self._phase is not Phase.CLOSED:
            self._phase = Phase.IDLE
            self._connect_timer.delete()
        if bev is not None:
            bev.close()
        if was_connected and self._closecb is not None:
            cb, arg = self._closecb
            cb(self, arg)
