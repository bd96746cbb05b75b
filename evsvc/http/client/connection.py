"""HttpConnection: the client.  One connection to one server, kept alive, requests in their order.

It connects when there is something to send, and again when the server has closed meanwhile.  The
next request goes out when the response before it is complete.

Invariants
    * `_queue[0]` is the request under way in WAITING and BODY.
    * A request leaves the queue before its completion and error callbacks and the close callback
      run, so they may queue more, cancel, close.  What one that raises leaves to do is done.
    * `_timer` runs while connecting, and while a body waits for 100 Continue.
    * A connection is looked at before it is used again: one that the server has closed, or that
      has bytes which nobody asked for, is dropped.
    * A request goes over a second connection only where `_may_go_again` says so, and once.
"""

from __future__ import annotations

import enum
import logging
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_CONNECTING,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    Error,
    StateError,
    TlsBufferEvent,
)
from ...core.closing import Closing
from ...core.tls import client_context
from ...core.tls_engine import check_host
from ...core.util import check_port, ip_version
from ..errors import (
    ConnectFailed,
    ConnectionClosed,
    HttpError,
    InvalidResponse,
    RequestCancelled,
    RequestTimeout,
    ResolveFailed,
    TlsFailed,
)
from ..options import ClientOptions
from ..wire.grammar import is_uri_host
from ..wire.response_reader import ResponseReader
from .request import CompletionCallback, HttpRequest, host_field

if TYPE_CHECKING:
    from ...core import EventBase
    from ...core.resolver import Resolver

logger = logging.getLogger("evsvc.http")

_HTTP_PORT, _HTTPS_PORT = 80, 443
ALPN = "http/1.1"
"""What is spoken here, as TLS names it (RFC 7301)."""


class Phase(enum.Enum):
    """What the connection is about to do."""

    IDLE = enum.auto()  # not connected
    CONNECTING = enum.auto()
    READY = enum.auto()  # connected, nothing under way
    WAITING = enum.auto()  # for the head of a response
    BODY = enum.auto()
    CLOSED = enum.auto()


_CONNECTED = frozenset((Phase.READY, Phase.WAITING, Phase.BODY))
# Asking for one of these twice is as asking once (RFC 9110 9.2.2).
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
_AT_REST = frozenset((Phase.IDLE, Phase.READY))
_UNDER_WAY = frozenset((Phase.CONNECTING, Phase.WAITING, Phase.BODY))


class HttpConnection(Closing):
    """A client's connection to `address`:`port` (evhttp_connection_base_new).

    resolver: looks the address up without blocking; None will do for a numeric address.  tls: True
    for HTTPS, with the server verified by whom the system trusts, or an ssl.SSLContext of the
    program's own, such as `core.tls.client_context` makes, with "http/1.1" in its ALPN list or
    none.  server_hostname: whom TLS means to talk to, where that is not `address`.

    For a pool there are `is_available`, `is_idle`, `has_expired`, `is_closed`, `can_take` and
    `set_idle_cb`.

    Raises ArgumentError for a bad port, what is no host, a name without resolver, or a
    `server_hostname` without TLS; ArgumentTypeError for a `tls` that is neither.
    """

    __slots__ = (
        "_base",
        "_bev",
        "_closecb",
        "_family",
        "_holds_body",
        "_idle_cb",
        "_idle_since",
        "_interim_count",
        "_is_reused",
        "_phase",
        "_queue",
        "_reader",
        "_request_bytes",
        "_resolver",
        "_server_hostname",
        "_timer",
        "_tls",
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
        *,
        tls: bool | ssl.SSLContext = False,
        server_hostname: str | None = None,
    ) -> None:
        if ip_version(address) is None:
            if not address or not is_uri_host(address):
                raise ArgumentError(f"not a host: {address!r}")
            if resolver is None:
                raise ArgumentError(f"a resolver is wanted to look up {address!r}")
        if server_hostname is not None:
            if tls is False:
                raise ArgumentError(f"without TLS nobody checks a name: {server_hostname!r}")
            check_host(server_hostname)
            if not server_hostname or not is_uri_host(server_hostname):
                raise ArgumentError(f"not a host: {server_hostname!r}")
        self._base = base
        self._resolver = resolver
        self._tls = _tls_context(tls)
        self._server_hostname = server_hostname
        self.address = address
        self.port = check_port(port, lowest=1)
        self.options = options or ClientOptions()
        self._family = int(socket.AF_UNSPEC)
        self._phase = Phase.IDLE
        self._queue: deque[HttpRequest] = deque()
        self._bev: BufferEvent | TlsBufferEvent | None = None
        self._reader = ResponseReader(self.options.limits)
        self._holds_body = False
        self._is_reused = False  # it has brought a response already
        self._idle_since = 0.0
        self._interim_count = 0  # interim responses to the request under way
        self._request_bytes = 0  # of the request under way, as far as it was written
        self._closecb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._idle_cb: tuple[Callable[[Any, Any], object], Any] | None = None
        self._timer = base.timer(self._on_timer)

    @property
    def base(self) -> EventBase:
        """The event base (evhttp_connection_get_base)."""
        return self._base

    @property
    def is_available(self) -> bool:
        """Whether nothing is under way or waits: a request made now would be the next to be sent.

        Where there is no connection yet, or none any more, it is made first.
        """
        return not self._queue and self._phase in _AT_REST

    @property
    def is_idle(self) -> bool:
        """Whether it is connected, and nothing is under way or waits.

        A pool closes such a one to make room.
        """
        return not self._queue and self._phase is Phase.READY

    @property
    def has_expired(self) -> bool:
        """Whether it is idle and the connection is of no use any more: close it, or ask again.

        The socket is looked at: the server has closed it, or has sent what nobody asked for; or
        more than `idle_s` have passed since it was used.  A request would go over a new connection.
        """
        return self.is_idle and self._is_stale()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: it takes nothing any more."""
        return self._phase is Phase.CLOSED

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS."""
        return self._tls is not None

    def can_take(self, request: HttpRequest) -> bool:
        """Tell whether `make_request` would take it: open, not full, and a request not yet made.

        It may have to wait for its turn; where `is_available` is true, too, it does not.
        """
        if self._phase is Phase.CLOSED or len(self._queue) >= self.options.max_queued:
            return False
        return not request.head

    @property
    def bufferevent(self) -> BufferEvent | TlsBufferEvent | None:
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

    def set_idle_cb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(connection, arg)` when a request is done and no other waits: it is available.

        After the callbacks of the request, whatever its outcome; `is_idle` tells whether the
        server is still connected.  It may make requests, and close.  Not after `close`.
        """
        self._idle_cb = None if cb is None else (cb, arg)

    def make_request(self, request: HttpRequest, method: str, uri: str) -> None:
        """Send a request as soon as it is its turn (evhttp_make_request).

        method: "GET" and so on.  uri: the request target, as a rule a path with its query.  Host
        and Content-Length are added where they are missing; the rest of the header, and the body,
        are taken as they are now.  With `Expect: 100-continue` the body waits for the server's
        consent.  The outcome comes to the request's callback, never before the return.

        Raises ArgumentError for what is no HTTP, LocalProtocolError for a request that was made
        already, StateError when `max_queued` requests wait already or the connection is closed.
        """
        if self._phase is Phase.CLOSED:
            raise StateError("the connection is closed")
        if len(self._queue) >= self.options.max_queued:
            raise StateError(f"{len(self._queue)} requests wait already")
        request.prepare(method, uri, self._host_field())
        request.connection = self
        if self.options.exchange_s is not None:
            request.limit(self._base, self.options.exchange_s)
        self._queue.append(request)
        self._go_on()

    def _host_field(self) -> str:
        default_port = _HTTP_PORT if self._tls is None else _HTTPS_PORT
        return host_field(self.address, self.port, default_port)

    def time_out(self, request: HttpRequest) -> None:
        """Fail a request whose `exchange_s` are over."""
        if request.connection is self and request in self._queue:
            under_way = self._queue[0] is request and self._phase in _UNDER_WAY
            self._queue.remove(request)
            error = RequestTimeout(f"{self.address}: not done within {self.options.exchange_s} s")
            self._settle(request, error, reset=under_way)

    def cancel(self, request: HttpRequest) -> None:
        """Give a request up; see `HttpRequest.cancel`."""
        if request.connection is not self:
            return
        if request in self._queue:
            under_way = self._queue[0] is request and self._phase in _UNDER_WAY
            self._queue.remove(request)
            if under_way:
                self._settle(request, RequestCancelled(f"cancelled: {request!r}"), reset=True)
        request.drop()

    def close(self) -> None:
        """End it; requests that are not complete are dropped without a callback.

        Safe to repeat, and from inside any callback.  Source: evhttp_connection_free.
        """
        if self._phase is Phase.CLOSED:
            return
        while self._queue:
            self._queue.popleft().drop()
        try:
            self._reset(Phase.CLOSED)
        finally:
            self._timer.close()
            self._closecb = self._idle_cb = None

    def _go_on(self) -> None:
        """Connect or send, whatever the next request needs."""
        if not self._queue:
            return
        if self._phase is Phase.READY and self._is_stale():
            self._reset()
        if self._phase is Phase.IDLE:
            self._connect()
        elif self._phase is Phase.READY:
            self._send(self._queue[0])

    def _is_stale(self) -> bool:
        """Whether an idle connection has ended, or has bytes that no request has asked for."""
        bev = self._bev
        assert bev is not None
        if not self._is_reused:
            return False
        if bev.input.length or not self._reader.exhausted or not bev.enabled & EV_READ:
            return True
        if self._base.now - self._idle_since > self.options.idle_s:
            return True
        sock = bev.socket
        return sock is not None and has_ended(sock, is_secure=self._tls is not None)

    def _may_go_again(self, request: HttpRequest) -> bool:
        """Whether a request that the end of its connection has failed may go over a new one."""
        if not self.options.retry or request.went_again or self._phase is not Phase.WAITING:
            return False
        if self._interim_count or not self._reader.exhausted:
            return False
        bev = self._bev
        unsent = bev is not None and bev.output.length == self._request_bytes
        return unsent or (self._is_reused and request.method in _IDEMPOTENT)

    def _connect(self) -> None:
        self._phase = Phase.CONNECTING
        self._reader = ResponseReader(self.options.limits)
        bev = self._bev = self._new_carrier()
        bev.setcb(self._on_read, None, self._on_event)
        self._timer.add(self.options.connect_s)
        try:
            bev.connect_hostname(self._resolver, self._family, self.address, self.port)
        except (Error, OSError) as exc:
            # Such as a resolver that is closed.  The callbacks hear of it, from the loop.
            self._base.once(-1, EV_TIMEOUT, self._on_refusal, (bev, f"{self.address}: {exc}"))

    def _new_carrier(self) -> BufferEvent | TlsBufferEvent:
        if self._tls is None:
            return BufferEvent(self._base, None, BEV_OPT_CLOSE_ON_FREE)
        return TlsBufferEvent.socket_new(
            self._base,
            None,
            self._tls,
            BUFFEREVENT_SSL_CONNECTING,
            BEV_OPT_CLOSE_ON_FREE,
            server_hostname=self._server_hostname,
            handshake_timeout_s=self.options.tls_s,
        )

    def _on_connected(self, bev: BufferEvent | TlsBufferEvent) -> None:
        self._timer.delete()
        if isinstance(bev, TlsBufferEvent) and bev.ssl is not None:
            spoken = bev.ssl.selected_alpn_protocol()
            if spoken is not None and spoken != ALPN:
                self._fail_all(TlsFailed, f"{self.address}: the server wants to speak {spoken!r}")
                return
        self._phase = Phase.READY
        bev.enable(EV_READ)
        self._go_on()

    def _on_refusal(
        self, fd: int, what: int, arg: tuple[BufferEvent | TlsBufferEvent, str]
    ) -> None:
        bev, text = arg
        if self._bev is bev:
            self._fail_all(ResolveFailed, text)

    def _fail_all(self, kind: type[HttpError], text: str) -> None:
        """No connection: every request that waits now has failed."""
        self._reset()
        failed, self._queue = self._queue, deque()
        for request in failed:
            request.error = kind(text)
        self._tell_failed(-1, 0, failed)

    def _tell_failed(self, fd: int, what: int, failed: deque[HttpRequest]) -> None:
        """Run the callbacks; those behind one that raises have their turn in the next pass."""
        try:
            while failed:
                request = failed.popleft()
                if self._phase is Phase.CLOSED:
                    request.drop()
                elif request.connection is self:
                    request.complete(request.error)
        finally:
            if failed:
                self._base.once(-1, EV_TIMEOUT, self._tell_failed, failed)
            else:
                self._rest()

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        if self._phase is Phase.CONNECTING:
            text = f"{self.address} port {self.port}: no connection in time"
            self._fail_all(ConnectFailed, text)
        elif self._holds_body:
            self._send_body(self._queue[0])

    def _send(self, request: HttpRequest) -> None:
        bev = self._bev
        assert bev is not None
        self._phase = Phase.WAITING
        self._interim_count = 0
        self._request_bytes = len(request.head)
        self._reader.expect(request.method)
        bev.write(request.head)
        if request.expects_continue:
            self._holds_body = True
            self._timer.add(self.options.continue_s)
            self._await_output()
        else:
            self._send_body(request)

    def _send_body(self, request: HttpRequest) -> None:
        assert self._bev is not None
        self._holds_body = False
        self._timer.delete()
        # Not moved: it may have to go again.
        self._bev.output.add_buffer_reference(request.body)
        self._request_bytes += len(request.body)
        self._await_output()

    def _await_output(self) -> None:
        """Limit the silence in writing first: a long request may take its time."""
        assert self._bev is not None
        self._bev.set_timeouts(None, self.options.write_s)
        self._bev.setcb(self._on_read, self._on_written, self._on_event)

    def _on_written(self, bev: BufferEvent | TlsBufferEvent, ctx: object) -> None:
        """There is nothing more to send: from now on the server's silence counts."""
        bev.setcb(self._on_read, None, self._on_event)
        bev.set_timeouts(self.options.read_s, None)

    def _on_event(self, bev: BufferEvent | TlsBufferEvent, what: int, ctx: object) -> None:
        if what & BEV_EVENT_CONNECTED:
            self._on_connected(bev)
        elif self._phase is Phase.CONNECTING:
            self._connect_failed(bev, what)
        elif what & BEV_EVENT_EOF:
            self._reader.receive_eof()
            self._read_on()
        elif what & BEV_EVENT_TIMEOUT:
            self._fail(RequestTimeout(f"{self.address}: silent for too long"))
        elif what & BEV_EVENT_WRITING:
            # A server may refuse a request before it has read all of it, and close: the response
            # is still to be read.  What follows it, or silence, ends the wait.
            self._on_written(bev, ctx)
        else:
            self._fail(ConnectionClosed(f"{self.address}: {bev.error}"))

    def _connect_failed(self, bev: BufferEvent | TlsBufferEvent, what: int) -> None:
        kind: type[HttpError] = ConnectFailed
        text = str(bev.error)
        if bev.dns_error:
            kind = ResolveFailed
        elif what & BEV_EVENT_TIMEOUT:
            kind, text = TlsFailed, "no TLS handshake in time"
        elif isinstance(bev.error, ssl.SSLError):
            kind = TlsFailed
        self._fail_all(kind, f"{self.address} port {self.port}: {text}")

    def _on_read(self, bev: BufferEvent | TlsBufferEvent, ctx: object) -> None:
        self._reader.receive(bev.input.remove())
        self._read_on()

    def _read_on(self) -> None:
        """Make what has come into a response."""
        if self._phase is Phase.READY:
            self._reset()  # closed while idle, or bytes that nobody asked for
        while self._phase is Phase.WAITING and self._read_head():
            pass
        while self._phase is Phase.BODY and self._read_body():
            pass

    def _read_head(self) -> bool:
        """Read a head; whether another is to come, as it was an interim response."""
        try:
            head = self._reader.next_head()
        except HttpError as exc:
            self._fail(exc)
            return False
        if head is None:
            return False
        request = self._queue[0]
        if head.status < 200 and head.status != 101:
            self._interim_count += 1
            if self._interim_count > self.options.max_interim:
                text = f"more than {self.options.max_interim} interim responses to one request"
                self._fail(InvalidResponse(text))
                return False
            if head.status == 100 and self._holds_body:
                self._send_body(request)
            return True
        request.set_response(head)
        if self._holds_body:
            self._holds_body = False  # and is never sent: what was announced is missing now
            self._timer.delete()
            request.keep_alive = False
        self._phase = Phase.BODY
        if request.ends_http:
            if request.upgrade_cb is not None:
                self._hand_over(request)
                return False
            if head.status == 101 and not request.asks_to_upgrade:
                self._fail(InvalidResponse("101 Switching Protocols, and nobody has asked for it"))
                return False
        if request.header_cb is not None:
            verdict = self._call(request, request.header_cb)
            if isinstance(verdict, int) and verdict < 0 and self._is_under_way(request):
                self._fail(ConnectionClosed("the header callback gave the request up"))
        return False

    def _hand_over(self, request: HttpRequest) -> None:
        """Another protocol follows: the program has the bufferevent from here on."""
        bev, self._bev = self._bev, None
        assert bev is not None
        rest = self._reader.rest()
        self._phase = Phase.IDLE
        self._is_reused = False
        self._timer.delete()
        self._queue.popleft()
        bev.setcb(None, None, None)
        bev.set_timeouts(None, None)
        bev.enable(EV_READ | EV_WRITE)
        try:
            request.hand_over(bev, rest)
        except Exception:
            bev.close()
            raise
        finally:
            request.drop()
            self._rest()

    def _rest(self) -> None:
        """Go on with the next request; without one, tell that there is none."""
        if self._queue:
            self._go_on()
        elif self._idle_cb is not None and self._phase in _AT_REST:
            cb, arg = self._idle_cb
            cb(self, arg)

    def _read_body(self) -> bool:
        """Read a piece of the body; whether there may be another."""
        request = self._queue[0]
        try:
            piece = self._reader.read_body()
        except HttpError as exc:
            self._fail(exc)
            return False
        if piece is None:
            self._complete(request)
            return False
        if not piece:
            return False
        request.input_buffer.add(piece)
        if request.chunked_cb is not None:
            self._call(request, request.chunked_cb)
            request.input_buffer.drain(len(request.input_buffer))
        return self._is_under_way(request)

    def _call(self, request: HttpRequest, cb: CompletionCallback) -> object:
        """Run a callback in the middle of a response; where it raises, the request has failed."""
        try:
            return cb(request, request.arg)
        except Exception:
            if self._is_under_way(request):
                self._fail(ConnectionClosed("a callback of the request raised an exception"))
            raise

    def _is_under_way(self, request: HttpRequest) -> bool:
        return bool(self._queue) and self._queue[0] is request

    def _complete(self, request: HttpRequest) -> None:
        bev = self._bev
        assert bev is not None
        reset = not request.keep_alive or not self._reader.exhausted or len(bev.output) > 0
        if not reset:
            self._phase = Phase.READY
            self._is_reused = True
            self._idle_since = self._base.now
            bev.set_timeouts(None, None)
        self._queue.popleft()
        self._settle(request, None, reset=reset)

    def _fail(self, error: HttpError) -> None:
        """The request under way has failed; the others go on over a new connection."""
        if self._phase is Phase.READY:
            self._reset()
        elif isinstance(error, ConnectionClosed) and self._may_go_again(self._queue[0]):
            self._queue[0].went_again = True
            self._reset()
            self._go_on()
        else:
            # A traceback would hold frames, and they the request.
            self._settle(self._queue.popleft(), error.with_traceback(None), reset=True)

    def _settle(self, request: HttpRequest, error: HttpError | None, *, reset: bool) -> None:
        """Run the callbacks of a request that has left the queue, and go on with the next."""
        try:
            if reset:
                self._reset()
        finally:
            try:
                if request.connection is self:
                    request.complete(error)
            finally:
                self._rest()

    def _reset(self, phase: Phase = Phase.IDLE) -> None:
        """Drop the connection, if there is one, and tell whoever wants to know."""
        bev, self._bev = self._bev, None
        was_connected = self._phase in _CONNECTED
        self._phase = phase
        self._holds_body = self._is_reused = False
        self._timer.delete()
        if bev is not None:
            bev.close()
        if was_connected and self._closecb is not None:
            cb, arg = self._closecb
            cb(self, arg)


def has_ended(sock: socket.socket, *, is_secure: bool) -> bool:
    """Whether an idle connection has ended, or has bytes that no request has asked for.

    Over TLS bytes say nothing: they may be a session ticket (RFC 8446 4.6.1).
    """
    poll = select.poll()
    ends = getattr(select, "POLLRDHUP", 0)
    poll.register(sock, ends if is_secure else ends | select.POLLIN)
    return bool(poll.poll(0))


def _tls_context(tls: bool | ssl.SSLContext) -> ssl.SSLContext | None:
    if tls is False:
        return None
    if tls is True:
        return client_context(alpn=[ALPN])
    if not isinstance(tls, ssl.SSLContext):
        raise ArgumentTypeError(f"tls is True, False or an ssl.SSLContext, not {tls!r}")
    return tls
