"""The server's side: calls that share a WebSocket go where those by POST go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...http import Ending, SessionExchange
from ...http.websocket import WsConnection, accept
from ...http.websocket.handshake import list_members
from ...http.wire.status import (
    HTTP_BADREQUEST,
    HTTP_NOTFOUND,
    HTTP_SERVUNAVAIL,
)
from ..definition import PATH_PREFIX
from ..errors import RpcErrorCode, one_line
from ..failures import encode_failure
from ..server.call import send_failure
from .frames import (
    FROM_CLIENT,
    SUBPROTOCOL,
    Frame,
    FrameError,
    Kind,
    encode,
    head_of,
)
from .gathering import Gathering
from .multiplex import Multiplex
from .options import RpcWebSocketOptions
from .server_request import FAILURE_HEAD, CarriedServerRequest

if TYPE_CHECKING:
    from ...core import EventBase
    from ...http import Headers, ServerConnection, ServerRequest
    from ..server.server import RpcServer

WEBSOCKET_PATH = "/.rpc/websocket"

_log = logging.getLogger("evsvc.rpc")


def serve(
    rpc_server: RpcServer,
    path: str = WEBSOCKET_PATH,
    options: RpcWebSocketOptions | None = None,
    *,
    origins: Sequence[str] | None = (),
) -> None:
    """Take the calls of an RPC server over WebSockets, too, which clients open at `path`.

    Handlers, hooks, limits of methods, metadata, status and deadlines are as by POST; each
    WebSocket carries many calls, which end in any order.  When the HTTP server shuts down, calls
    under way are finished, and no more begun.  `RpcServer.close` takes the path away, and the
    WebSockets that are open live on.

    origins: whose pages may call beside the server's own, as for `evsvc.http.websocket.accept`;
    what is no browser may in any case.  None lets all pages.

    What the server's options say of bodies holds for requests that are no streams: `max_body_bytes`
    (413), `max_bodies_bytes` (503), `body_s` and `body_min_bytes_per_s` (408).

    A handshake that does not offer the subprotocol `evsvc-rpc.1` is answered 400.  Raises
    ArgumentError when the path has a callback.
    """
    settings = options or RpcWebSocketOptions()

    def on_handshake(request: ServerRequest, arg: object) -> None:
        if SUBPROTOCOL not in list_members(request.input_headers, "sec-websocket-protocol"):
            _log.info("%s: a WebSocket without %s", request.remote_host, SUBPROTOCOL)
            request.send_error(HTTP_BADREQUEST)
        elif request.connection is not None:
            ServerSocket(rpc_server, request, request.connection, settings).open(request, origins)

    rpc_server.mount(path, on_handshake)


class ServerSocket:
    """One WebSocket of a client, with its calls.

    client, peer_certificate, connection: of the handshake.  window_bytes, max_head_bytes:
    of each call.
    """

    __slots__ = (
        "_http_server",
        "_leaving_code",
        "_mux",
        "_rpc_server",
        "_ws",
        "client",
        "connection",
        "gathering",
        "max_head_bytes",
        "outbox",
        "peer_certificate",
        "window_bytes",
    )

    def __init__(
        self,
        rpc_server: RpcServer,
        request: ServerRequest,
        connection: ServerConnection,
        options: RpcWebSocketOptions,
    ) -> None:
        self._rpc_server = rpc_server
        self._http_server = connection.server  # of the socket, which a virtual host has not
        self._mux: Multiplex[CarriedServerRequest] = Multiplex(
            options, FROM_CLIENT, self._on_begin, self._on_broken
        )
        self._ws: WsConnection | None = None
        self._leaving_code: int | None = None  # with which code, when the last call is over
        service = self._http_server.service
        self.gathering = Gathering(self.base, service, self._begin_call, self._refuse)
        self.outbox = self._mux.outbox
        self.connection = connection
        self.client = request.client
        self.peer_certificate = request.peer_certificate
        self.window_bytes = options.call_window_bytes
        self.max_head_bytes = options.max_head_bytes

    @property
    def base(self) -> EventBase:
        """The event base."""
        return self._rpc_server.base

    def open(self, request: ServerRequest, origins: Sequence[str] | None) -> None:
        """Make a WebSocket of the handshake, or refuse it."""
        ws = accept(
            request,
            self._mux.receive,
            None,
            self._mux.options.websocket_options(),
            subprotocols=(SUBPROTOCOL,),
            origins=origins,
        )
        if ws is None:
            self._end_calls()  # as there are none, this parts us from our parts
            return
        self._ws = ws
        # The HTTP server tells us of its stop, and not the WebSocket, which would end at once.
        self._http_server.adopt_session(self, self.connection)
        self._http_server.forget_session(ws)
        ws.set_closecb(self._on_closed)
        self.outbox.open(ws)

    def shutdown(self, code: int, /) -> None:
        """Begin no more calls, and end when those under way are over."""
        if self._leaving_code is None:
            self._leaving_code = code
            self.outbox.send_at_once(encode(Kind.LEAVE, self._mux.last_id))
            self._end_if_idle()

    def close(self) -> None:
        """End at once."""
        if self._ws is not None:
            self._ws.close()

    def forget(self, request: CarriedServerRequest) -> None:
        """Know that a call is over."""
        self.gathering.forget(request)
        self._mux.calls.pop(request.call_id, None)
        if request.began is not None:
            self._tell(request, request.began)
        self._end_if_idle()

    def _on_begin(self, frame: Frame) -> None:
        """A call begins.  Raises FrameError for one that cannot."""
        mux = self._mux
        if frame.call_id <= mux.last_id:
            raise FrameError(f"a BEGIN of call {frame.call_id} behind call {mux.last_id}")
        name, fields, body = head_of(frame, mux.options.max_head_bytes)
        mux.last_id = frame.call_id
        if self._leaving_code is not None:
            return  # as LEAVE has said
        if len(mux.calls) >= mux.options.max_calls:
            self._refuse_at_once(frame.call_id, name, fields)
            return
        method = self._rpc_server.methods.get(name)
        is_stream = method is not None and method.rpc.kind.is_stream
        request = CarriedServerRequest(self, frame.call_id, name, fields, is_stream=is_stream)
        if self._http_server.service.session_observers:
            request.began = self.base.gettime_monotonic()
        mux.calls[frame.call_id] = request
        if method is None:
            text = f"there is no RPC {one_line(name)}"
            self._refuse(request, text, RpcErrorCode.UNIMPLEMENTED, HTTP_NOTFOUND)
        elif is_stream:
            self._rpc_server.begin_stream(request, method)
        if frame.call_id in mux.calls:
            request.receive_body(body, is_last=frame.is_last)

    def _refuse_at_once(self, call_id: int, name: str, fields: Headers) -> None:
        """Answer a call that is one too many, and keep nothing of it.

        Where the peer does not read the answers, the WebSocket takes no more of its frames.
        """
        most = self._mux.options.max_calls
        text = f"{most} calls share the WebSocket already"
        _log.info("%s: call from %s refused: %s", name, self.connection.peer[0], text)
        body = encode_failure(text, RpcErrorCode.RESOURCE_EXHAUSTED)
        self.outbox.send_at_once(encode(Kind.REPLY, call_id, FAILURE_HEAD + body, is_last=True))
        service = self._http_server.service
        if service.session_observers:
            request = CarriedServerRequest(self, call_id, name, fields, is_stream=False)
            refused = SessionExchange(request, HTTP_SERVUNAVAIL, 0.0, Ending.REFUSED)
            service.tell_session_observers(refused)

    def _begin_call(self, request: CarriedServerRequest, body: bytes) -> None:
        """Have a call answered whose request is here."""
        method = self._rpc_server.methods.get(request.uri.removeprefix(PATH_PREFIX))
        if method is None or method.rpc.kind.is_stream:
            text = "the RPC was taken away while it was called"
            self._refuse(request, text, RpcErrorCode.UNIMPLEMENTED, HTTP_NOTFOUND)
        else:
            request.set_body(body)
            self._rpc_server.begin_call(request, method)

    def _refuse(
        self,
        request: CarriedServerRequest,
        text: str,
        code: RpcErrorCode = RpcErrorCode.RESOURCE_EXHAUSTED,
        status: int = HTTP_SERVUNAVAIL,
    ) -> None:
        _log.info("%s: call from %s refused: %s", request.uri, request.remote_host, text)
        send_failure(request, text, code, status)

    def _tell(self, request: CarriedServerRequest, began: float) -> None:
        """Tell observers of a call that is over."""
        ending = Ending.BROKEN_OFF if request.gone else Ending.WHOLE
        duration_s = self.base.gettime_monotonic() - began
        exchange = SessionExchange(request, request.response_code, duration_s, ending)
        self._http_server.service.tell_session_observers(exchange)

    def _end_if_idle(self) -> None:
        if self._leaving_code is not None and not self._mux.calls and self._ws is not None:
            self._ws.shutdown(self._leaving_code)

    def _on_broken(self, exc: FrameError) -> None:
        """The peer has broken the protocol, and the WebSocket is closing."""
        self._end_calls()

    def _on_closed(self, ws: WsConnection, arg: object) -> None:
        self._end_calls()
        self._http_server.forget_session(self)
        self._ws = None

    def run(self, callback: tuple[Callable[[Any, Any], object], Any], about: object) -> None:
        """Call the program; what it raises is logged and told."""
        self._http_server.service.run(callback, about)

    def _end_calls(self) -> None:
        self.gathering.close()
        for request in self._mux.close():
            request.caller_gone()
