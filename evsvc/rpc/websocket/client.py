"""The client's side: an endpoint of a pool whose calls share one WebSocket.

The pool sees connections that carry a call each, as many as there may be calls: it chooses, waits,
limits, and tries again as for any other endpoint.  Here they are shares of one WebSocket, which is
opened for the first call, and once more for the next call when it has ended.

A call whose BEGIN was not sent when the WebSocket ends was surely not handled, nor was one behind
the number that the server's LEAVE has named: the pool may send those elsewhere, but for streams of
which something was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from ...core.errors import ArgumentTypeError, StateError
from ...http import ClientOptions, HttpRequest
from ...http.client.timeouts import Timeouts
from ...http.errors import (
    ConnectFailed,
    ConnectionClosed,
    HttpError,
    InvalidResponse,
    RequestTimeout,
    ResolveFailed,
)
from ...http.websocket import WS_CR_NORMAL, WS_CR_PROTO_ERR, Opening, WsConnection, connect
from ...http.websocket.client import WebSocketAddress
from ..definition import PATH_PREFIX
from .client_request import CarriedClientRequest
from .frames import FROM_SERVER, MAX_CALL_ID, SUBPROTOCOL, Frame, FrameError
from .multiplex import Multiplex
from .options import RpcWebSocketOptions

if TYPE_CHECKING:
    import ssl

    from ...core import EventBase
    from ...core.resolver import Resolver
    from ..client.endpoints import Endpoint
    from ..client.pool import RpcPool

_log = logging.getLogger("evsvc.rpc")


def add_endpoint(
    pool: RpcPool,
    url: str,
    options: RpcWebSocketOptions | None = None,
    *,
    resolver: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    client_options: ClientOptions | None = None,
    weight: int = 1,
    priority: int = 0,
) -> Endpoint:
    """Have one more server in a pool, whose calls share one WebSocket; see `serve`.

    url: `ws://host[:port]/path`, or `wss://` for TLS.  options: `max_calls` is how many are under
    way at once; others wait in the pool.  headers: sent with the handshake, such as Authorization.
    resolver, tls, client_options: as for `evsvc.http.websocket.connect`; the limits of silence and
    of a body that is gathered count for each call.  weight, priority: as for
    `RpcPool.add_endpoint`.

    Calls, streams, hooks and stubs are as over HTTP.  Raises ArgumentError for what is no such URL,
    header or number, or a name without resolver, StateError when the pool is closed.
    """
    settings = options or RpcWebSocketOptions()
    fields = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    route = Route(pool.base, Way(url, resolver, tls, fields, client_options), settings)
    return pool.add_carried_endpoint(
        route.share,
        CarriedClientRequest,
        max_connections=settings.max_calls,
        weight=weight,
        priority=priority,
    )


class Way(NamedTuple):
    """How the WebSocket is opened; see `add_endpoint`."""

    url: str
    resolver: Resolver | None
    tls: ssl.SSLContext | None
    headers: tuple[tuple[str, str], ...]
    client_options: ClientOptions | None


class Route:
    """One server, and the WebSockets there: the one for new calls, and such as take none any more
    and still have some.  Raises as `add_endpoint`."""

    __slots__ = ("_open", "_options", "_shares", "_socket", "_way", "base")

    def __init__(self, base: EventBase, way: Way, options: RpcWebSocketOptions) -> None:
        WebSocketAddress.parse(way.url, way.tls)
        self.base = base
        self._way = way
        self._options = options
        self._shares = 0
        self._socket: ClientSocket | None = None
        self._open: set[ClientSocket] = set()

    def share(self) -> Share:
        """Return what carries one call at a time."""
        self._shares += 1
        return Share(self, self._way.client_options or ClientOptions())

    def give_up_share(self) -> None:
        """Know that a share is closed; the last one closes the WebSockets."""
        self._shares -= 1
        if not self._shares:
            for socket in list(self._open):
                socket.close()

    def socket(self) -> ClientSocket:
        """Return the WebSocket that new calls go to.  Raises as `connect`."""
        socket = self._socket
        if socket is None or not socket.takes_calls:
            socket = ClientSocket(self.base, self._options, self._open.discard)
            socket.open(self._way)
            self._socket = socket
            self._open.add(socket)
        return socket


class Share:
    """A part of a WebSocket that carries one call at a time, as a pool's lane wants it.

    options: the limits of each call: of its silence, and of its reply.
    """

    __slots__ = ("_request", "_route", "options")

    def __init__(self, route: Route, options: ClientOptions) -> None:
        self._route: Route | None = route
        self._request: CarriedClientRequest | None = None
        self.options = options

    def set_timeout(self, seconds: float, /) -> None:
        """Have another limit of silence, from the next call on."""
        self.options = replace(self.options, read_s=seconds, write_s=seconds)

    def make_request(self, request: HttpRequest, method: str, uri: str, /) -> None:
        """Send a call.  Raises StateError when it is closed, ArgumentTypeError for a request that
        is not for this way, ArgumentError for what is no address."""
        if not isinstance(request, CarriedClientRequest):
            raise ArgumentTypeError(f"not a request for a WebSocket: {request!r}")
        if self._route is None:
            raise StateError("the share of the WebSocket is closed")
        self._request = request
        self._route.socket().begin(request, method, uri, self.options)

    def close(self) -> None:
        """Give up its call, and its part.  Safe to repeat."""
        route, self._route = self._route, None
        request, self._request = self._request, None
        if request is not None:
            request.cancel()
        if route is not None:
            route.give_up_share()


class ClientSocket:
    """One WebSocket from its opening to its end, and the calls on it.

    options: its limits.  outbox: sends the calls' frames, once it is open.
    """

    __slots__ = (
        "_is_leaving",
        "_mux",
        "_on_ended",
        "_opening",
        "_silences",
        "_ws",
        "base",
        "options",
        "outbox",
    )

    def __init__(
        self,
        base: EventBase,
        options: RpcWebSocketOptions,
        on_ended: Callable[[ClientSocket], object],
    ) -> None:
        self.base = base
        self._on_ended = on_ended
        self.options = options
        self._mux: Multiplex[CarriedClientRequest] = Multiplex(
            options, FROM_SERVER, self._on_leave, self._on_broken
        )
        self.outbox = self._mux.outbox
        self._opening: Opening | None = None
        self._ws: WsConnection | None = None
        self._silences: Timeouts[CarriedClientRequest] | None = Timeouts(base, self._on_silence)
        self._is_leaving = False  # no more calls begin

    @property
    def takes_calls(self) -> bool:
        """Whether more calls may begin."""
        return not self._is_leaving and self._mux.last_id < MAX_CALL_ID

    def open(self, way: Way) -> None:
        """Begin to open it.  Raises as `connect`."""
        self._opening = connect(
            self.base,
            way.url,
            self._mux.receive,
            self._on_open,
            None,
            self.options.websocket_options(),
            resolver=way.resolver,
            headers=way.headers,
            subprotocols=(SUBPROTOCOL,),
            tls=way.tls,
            client_options=way.client_options,
        )

    def close(self) -> None:
        """End at once; there are no calls any more.  Safe to repeat."""
        self._is_leaving = True
        self._mux.close()
        self._forget_silences()
        if self._opening is not None:
            self._opening.close()
            self._opening = None
        if self._ws is not None:
            self._ws.close()
        self._on_ended(self)

    def begin(
        self, request: CarriedClientRequest, method: str, uri: str, options: ClientOptions
    ) -> None:
        """Have one more call."""
        mux = self._mux
        mux.last_id += 1
        request.method, request.uri, request.call_id = method, uri, mux.last_id
        request.silence_s = options.read_s
        mux.calls[mux.last_id] = request
        try:
            request.begin(self, uri.removeprefix(PATH_PREFIX), options.limits.max_body_bytes)
        except BaseException:
            self.forget(request)
            raise
        if not request.is_sent:
            self.heard_of(request)

    def forget(self, request: CarriedClientRequest) -> None:
        """Know that a call is over."""
        self._mux.calls.pop(request.call_id, None)
        if self._silences is not None:
            self._silences.discard(request, request.silence_s)
        self._end_if_idle()

    def heard_of(self, request: CarriedClientRequest) -> None:
        """Know that the server's silence begins anew."""
        if self._silences is not None and request.silence_s < inf:
            self._silences.renew(request, request.silence_s)

    def callback_failed(self, exc: Exception) -> None:
        """Log what a callback of the program raised, and tell it."""
        _log.error("a callback raised", exc_info=exc)
        handler = self.base.exception_handler
        if handler is not None:
            handler(exc)

    def _on_open(self, ws: WsConnection | None, error: HttpError | None, arg: object) -> None:
        self._opening = None
        if ws is None:
            assert error is not None
            self._on_ended(self)
            self._end_calls(_not_opened(error), error)
            return
        self._ws = ws
        ws.set_closecb(self._on_closed)
        if ws.subprotocol == SUBPROTOCOL:
            self.outbox.open(ws)
        else:
            ws.shutdown(WS_CR_PROTO_ERR, f"{SUBPROTOCOL} is wanted")
            failed = ConnectFailed(f"the server does not speak {SUBPROTOCOL}")
            self._end_calls(failed, failed)

    def _on_leave(self, frame: Frame) -> None:
        """The server begins no more calls, and has not begun the latest."""
        self._is_leaving = True
        text = "the server takes no more calls on this WebSocket"
        for call_id in [each for each in self._mux.calls if each > frame.call_id]:
            request = self._mux.calls.get(call_id)
            if request is not None:
                kind = ConnectFailed if request.can_be_repeated else ConnectionClosed
                request.fail(kind(text))
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self.takes_calls and not self._mux.calls and self._ws is not None:
            self._ws.shutdown(WS_CR_NORMAL)

    def _on_broken(self, exc: FrameError) -> None:
        failed = InvalidResponse(f"the server has sent {exc}")
        self._end_calls(failed, failed)

    def _on_closed(self, ws: WsConnection, arg: object) -> None:
        self._ws = None
        self._on_ended(self)
        text = f"the WebSocket has ended ({ws.close_code}{ws.close_reason and ': '}"
        failed = ConnectionClosed(f"{text}{ws.close_reason})")
        self._end_calls(ConnectFailed(str(failed)), failed)

    def _end_calls(self, unsent: HttpError, sent: HttpError) -> None:
        """Be over, for one reason to calls that the server knows nothing of, and one to others."""
        self._is_leaving = True
        for request in self._mux.close():
            if not request.is_answered:
                request.fail(sent if request.has_begun else unsent)
        self._forget_silences()

    def _forget_silences(self) -> None:
        silences, self._silences = self._silences, None
        if silences is not None:
            silences.close()

    def _on_silence(self, request: CarriedClientRequest) -> None:
        if request.awaits_server:
            request.give_up(RequestTimeout(f"the server is silent for {request.silence_s} s"))
        else:
            self.heard_of(request)


def _not_opened(error: HttpError) -> HttpError:
    """Return why calls were not sent, so that the pool knows that they were not."""
    if isinstance(error, (ConnectFailed, ResolveFailed)):
        return error
    failed = ConnectFailed(str(error))
    failed.__cause__ = error
    return failed
