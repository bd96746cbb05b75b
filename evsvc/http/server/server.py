"""HttpServer: listeners, callbacks, limits, and the connections that they bring (struct evhttp)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ...core import (
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
    ArgumentError,
    ConnListener,
    StateError,
)
from ...core.closing import Closing
from ..options import ServerOptions
from ..wire.status import Method, method_name
from ..wire.writer import DateLine
from .connection import ServerConnection
from .router import RequestCallback, Router

if TYPE_CHECKING:
    from ...core import EventBase
    from ...core.resolver import SocketAddress

BACKLOG = 128


class BoundSocket:
    """A listening socket of a server (struct evhttp_bound_socket).

    listener: the ConnListener underneath.  address, port: where it listens, with the real port; a
    Unix socket's path, and 0.
    """

    __slots__ = ("_server", "address", "listener", "port")

    def __init__(self, server: HttpServer, listener: ConnListener) -> None:
        self._server = server
        self.listener = listener
        address = listener.address
        self.address, self.port = address[:2] if isinstance(address, tuple) else (str(address), 0)

    @property
    def fd(self) -> int:
        """The descriptor (evhttp_bound_socket_get_fd)."""
        return self.listener.fd

    def close(self) -> None:
        """Stop listening here; connections stay (evhttp_del_accept_socket)."""
        self._server._sockets.discard(self)
        self.listener.close()


class HttpServer(Closing):
    """An HTTP/1.1 server on an event base (evhttp_new).

    options: its limits and time-outs.  A connection keeps the options with which it came.
    """

    __slots__ = (
        "_connections",
        "_drained_cb",
        "_sockets",
        "base",
        "closing",
        "date",
        "methods",
        "options",
        "router",
    )

    def __init__(self, base: EventBase, options: ServerOptions | None = None) -> None:
        self.base = base
        self.router = Router()
        self.date = DateLine()
        self.closing = False
        self._drained_cb: Callable[[HttpServer], object] | None = None
        self._sockets: set[BoundSocket] = set()
        self._connections: set[ServerConnection] = set()
        self.options = options or ServerOptions()
        self.methods = _method_names(self.options.allowed_methods)

    def set_cb(
        self,
        path: str,
        cb: RequestCallback,
        arg: object = None,
        *,
        methods: Iterable[str] | None = None,
    ) -> None:
        """Have `cb(request, arg)` answer requests for exactly `path` (evhttp_set_cb).

        path: percent-decoded, without query.  methods: those that it takes, HEAD with GET; another
        is answered 405 with Allow.  Raises ArgumentError when the path has a callback already.
        """
        self.router.add(path, cb, arg, methods)

    def del_cb(self, path: str) -> None:
        """Take a path's callback back.  Raises ArgumentError when it has none (evhttp_del_cb)."""
        self.router.remove(path)

    def set_gencb(self, cb: RequestCallback | None, arg: object = None) -> None:
        """Have `cb(request, arg)` answer all other requests; None: they get 404.

        Source: evhttp_set_gencb.
        """
        self.router.set_general(cb, arg)

    def set_max_headers_size(self, size: int) -> None:
        """Limit a request's head to `size` bytes (evhttp_set_max_headers_size)."""
        limits = replace(self.options.limits, max_headers_bytes=size)
        self.options = replace(self.options, limits=limits)

    def set_max_body_size(self, size: int | None) -> None:
        """Limit a request's body; None is unlimited (evhttp_set_max_body_size)."""
        limits = replace(self.options.limits, max_body_bytes=size)
        self.options = replace(self.options, limits=limits)

    def set_max_connections(self, count: int) -> None:
        """Limit the connections at once (evhttp_set_max_connections)."""
        self.options = replace(self.options, max_connections=count)

    def set_timeout(self, seconds: float) -> None:
        """Limit every wait for a client: head, body, idle, write (evhttp_set_timeout)."""
        self.options = replace(
            self.options, head_s=seconds, body_s=seconds, idle_s=seconds, write_s=seconds
        )

    def set_default_content_type(self, content_type: str | None) -> None:
        """Set the Content-Type of replies that name none (evhttp_set_default_content_type)."""
        self.options = replace(self.options, default_content_type=content_type)

    def set_allowed_methods(self, methods: int) -> None:
        """Answer 501 to all but these EVHTTP_REQ_* bits (evhttp_set_allowed_methods)."""
        self.methods = _method_names(methods)
        self.options = replace(self.options, allowed_methods=methods)

    def bind_socket(self, address: str, port: int) -> BoundSocket:
        """Listen on a numeric address; port 0 takes a free one (evhttp_bind_socket_with_handle).

        Can be called for several sockets.  Raises SocketError when the port is busy,
        ArgumentError for an address that is none.
        """
        listener = ConnListener.new_bind(
            self.base, self._on_accept, None, LEV_OPT_REUSEABLE, BACKLOG, (address, port)
        )
        return self._adopt(listener)

    def accept_socket(self, sock: socket.socket) -> BoundSocket:
        """Serve a socket that listens already, and own it (evhttp_accept_socket_with_handle)."""
        flags = LEV_OPT_CLOSE_ON_FREE
        return self._adopt(ConnListener(self.base, self._on_accept, None, flags, 0, sock))

    def bind_listener(self, listener: ConnListener) -> BoundSocket:
        """Serve a listener, whose callback is replaced, and own it (evhttp_bind_listener)."""
        listener.set_cb(self._on_accept, None)
        return self._adopt(listener)

    @property
    def bound_sockets(self) -> list[BoundSocket]:
        """The sockets that it listens on (evhttp_foreach_bound_socket)."""
        return list(self._sockets)

    @property
    def connection_count(self) -> int:
        """How many clients are connected (evhttp_get_connection_count)."""
        return len(self._connections)

    def shutdown(self, cb: Callable[[HttpServer], object] | None = None) -> None:
        """Stop gracefully: listen no more, finish the requests in hand, close idle connections.

        Time-outs go on counting, so a silent client ends, too.  `cb(server)` is called when the
        last connection has gone; before the return when there is none.
        """
        self.closing = True
        self._drained_cb = cb
        for bound in self.bound_sockets:
            bound.close()
        for connection in list(self._connections):
            connection.finish()
        self._check_drained()

    def close(self) -> None:
        """Stop at once: listeners and connections are closed (evhttp_free).  Safe to repeat."""
        self.closing = True
        for bound in self.bound_sockets:
            bound.close()
        for connection in list(self._connections):
            connection.close()

    def _adopt(self, listener: ConnListener) -> BoundSocket:
        if self.closing:
            listener.close()
            raise StateError("the server is closed")
        if listener.socket.family != socket.AF_UNIX:
            # What is accepted inherits it.  All that is ready goes out at once anyhow, and a piece
            # of a streamed reply must not wait for the client to acknowledge the one before.
            listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound = BoundSocket(self, listener)
        self._sockets.add(bound)
        return bound

    def _on_accept(
        self, listener: ConnListener, sock: socket.socket, address: SocketAddress, arg: object
    ) -> None:
        peer = (address[0], address[1]) if isinstance(address, tuple) else ("", 0)
        connection = ServerConnection(self, sock, peer)
        self._connections.add(connection)
        if len(self._connections) > self.options.max_connections:
            connection.turn_away()

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        if self.closing:
            self._check_drained()

    def _check_drained(self) -> None:
        if not self._connections and self._drained_cb is not None:
            cb, self._drained_cb = self._drained_cb, None
            cb(self)


def _method_names(bits: int) -> frozenset[str]:
    names = {name for method in Method if bits & method and (name := method_name(method))}
    if not names:
        raise ArgumentError(f"no method is allowed: {bits:#x}")
    return frozenset(names)
