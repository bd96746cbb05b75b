"""ServerConnection: a client's connection as a program sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .listening.tls import tls_info

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...core import AbstractBufferEvent, EventBase
    from ..wire.proxy_protocol import ProxyHeader
    from .connection import Connection
    from .listening.bound_socket import BoundSocket
    from .listening.tls import TlsInfo
    from .server import HttpServer


class ServerConnection:
    """A connection of an HttpServer (struct evhttp_connection on the server's side).

    It comes from `request.connection`, and is the same for all requests of one client.
    """

    __slots__ = ("_connection", "_server")

    def __init__(self, connection: Connection, server: HttpServer) -> None:
        self._connection = connection
        self._server = server

    @property
    def base(self) -> EventBase:
        """The event base (evhttp_connection_get_base)."""
        return self._server.base

    @property
    def server(self) -> HttpServer:
        """The server (evhttp_connection_get_server)."""
        return self._server

    @property
    def bufferevent(self) -> AbstractBufferEvent:
        """What carries the bytes (evhttp_connection_get_bufferevent)."""
        return self._connection.carrier

    @property
    def peer(self) -> tuple[str, int]:
        """The client's (address, port); ("", 0) on a Unix socket (evhttp_connection_get_peer)."""
        return self._connection.peer

    @property
    def bound_socket(self) -> BoundSocket | None:
        """The listening socket by which it came; None where the program handed it over."""
        return self._connection.source

    @property
    def proxy_header(self) -> ProxyHeader | None:
        """What a proxy told by the PROXY protocol, or None."""
        extras = self._connection.extras()
        return extras.proxy_header

    @property
    def tls(self) -> TlsInfo | None:
        """What TLS knows of the client; None without TLS, and once the connection is closed."""
        return tls_info(self._connection.carrier)

    @property
    def peer_is_done(self) -> bool:
        """Whether the client has ended its side: it sends no more, and may have gone."""
        return self._connection.peer_is_done

    def set_closecb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(connection, arg)` once: when the client ends its side while its request is in
        hand, and it may still be answered; or else when the connection ends, whoever ends it.

        Raises ArgumentTypeError for what cannot be called.  evhttp_connection_set_closecb.
        """
        self._connection.set_closecb(cb, arg)

    def close(self) -> None:
        """End it at once; unsent output is dropped.  Safe to repeat (evhttp_connection_free)."""
        self._connection.close()
