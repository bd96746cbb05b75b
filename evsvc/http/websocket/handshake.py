"""The server's handshake: a request becomes a WebSocket session, or is refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.utilities import RemoteProtocolError as WsRemoteProtocolError

from ...core.checks import require_callable
from .session import WebSocketOptions, WsConnection

if TYPE_CHECKING:
    from ..server.request import ServerRequest
    from .session import MessageCallback

logger = logging.getLogger("evsvc.http")


def accept(
    request: ServerRequest,
    cb: MessageCallback,
    arg: object = None,
    options: WebSocketOptions | None = None,
    *,
    subprotocols: Sequence[str] = (),
) -> WsConnection | None:
    """Make a WebSocket session of a request; None when it was refused, or the client has gone.

    cb: called as `cb(ws, type, data, arg)` for each message.  subprotocols: those that the server
    speaks, the best first; the first that the client asks for is taken, and without a common one
    the session has none.  `request.output_headers` go along with the 101.  The server's `shutdown`
    tells sessions that it is going away (1001).  Source: evws_new_session.

    What is no handshake is answered 400, or 426 for another version than 13; a browser's page of
    another origin is the program's to refuse, by the Origin field.
    """
    connection = request.connection
    if connection is None:
        return None  # the client has gone
    options = options or WebSocketOptions()
    require_callable(cb)
    server_side = WSConnection(ConnectionType.SERVER)
    fields = [(name.encode(), value.encode("latin-1")) for name, value in request.input_headers]
    try:
        if request.method != "GET" or not request.minor:
            raise WsRemoteProtocolError("a handshake is a GET of HTTP/1.1")
        server_side.initiate_upgrade_connection(fields, request.uri)
        asked = next(iter(server_side.events()))
    except WsRemoteProtocolError as exc:
        logger.info("%s: no WebSocket handshake: %s", request.remote_host, exc)
        hint = exc.event_hint
        if isinstance(hint, RejectConnection) and hint.status_code == 426:
            request.send_error(426, None, ("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"))
        else:
            request.send_error(400)
        return None
    assert isinstance(asked, Request)
    common = [name for name in subprotocols if name in asked.subprotocols]
    subprotocol = common[0] if common else None
    extra = [(name.encode(), value.encode("latin-1")) for name, value in request.output_headers]
    extensions: list[Extension] = [PerMessageDeflate()] if options.deflate else []
    head = server_side.send(
        AcceptConnection(subprotocol=subprotocol, extensions=extensions, extra_headers=extra)
    )
    frames = server_side.connection
    assert frames is not None
    server = connection.server
    bufferevent, rest = request.take_over(head)
    session = WsConnection(
        bufferevent,
        frames,
        cb,
        arg,
        options,
        subprotocol=subprotocol,
        on_end=server.forget_session,
        on_callback_failed=server.service.callback_failed,
    )
    server.adopt_session(session)
    if rest:
        server.base.post(session.receive, rest)
    return session
