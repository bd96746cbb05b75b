"""A listening socket of a server, and on what terms it takes connections."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ....core import ArgumentError, ArgumentTypeError, SocketError
from ....core.checks import whole_number
from ..forwarded import TrustedProxies
from .carriers import BevCallback, CarrierMaker, Tls

if TYPE_CHECKING:
    from ....core import ConnListener


class ListenTerms:
    """What the program says of a listening socket, judged before there is one.

    Raises as HttpServer.bind_socket.
    """

    __slots__ = ("carriers", "max_connections", "proxies")

    def __init__(
        self,
        tls: Tls | bool | None,
        proxy_protocol: bool | Iterable[str],
        max_connections: int | None,
    ) -> None:
        self.carriers = CarrierMaker(tls)
        self.proxies: TrustedProxies | bool = (
            proxy_protocol if isinstance(proxy_protocol, bool) else TrustedProxies(proxy_protocol)
        )
        if max_connections is not None and whole_number(max_connections, "a limit") < 1:
            raise ArgumentError(f"max_connections must be positive: {max_connections!r}")
        self.max_connections = max_connections


class BoundSocket:
    """A listening socket of a server (struct evhttp_bound_socket).

    listener: the ConnListener underneath.  address, port: where it listens, with the real port; a
    Unix socket's path, and 0.  carriers: what makes its connections' bufferevents.
    max_connections: the most at once by this socket, or None.  connection_count: how many there
    are, refused ones aside.
    """

    __slots__ = (
        "_closed",
        "_proxies",
        "address",
        "carriers",
        "connection_count",
        "listener",
        "max_connections",
        "port",
    )

    def __init__(
        self,
        listener: ConnListener,
        terms: ListenTerms,
        closed: Callable[[BoundSocket], object],
    ) -> None:
        self._closed = closed
        self._proxies = terms.proxies
        self.listener = listener
        self.carriers = terms.carriers
        self.max_connections = terms.max_connections
        self.connection_count = 0
        address = listener.address
        self.address, self.port = address[:2] if isinstance(address, tuple) else (str(address), 0)

    @property
    def fd(self) -> int:
        """The descriptor (evhttp_bound_socket_get_fd)."""
        return self.listener.fd

    def has_proxy_header(self, address: str) -> bool:
        """Whether connections from an address begin with a header of the PROXY protocol."""
        proxies = self._proxies
        return proxies if isinstance(proxies, bool) else proxies.trusts(address)

    def set_tls(self, tls: Tls | bool | None) -> None:
        """Have connections to come here speak TLS; see `HttpServer.bind_socket`."""
        self.carriers.set_tls(tls)

    def set_bevcb(self, cb: BevCallback | None, arg: object = None) -> None:
        """Have `cb(base, sock, arg)` make the bufferevents here; see `HttpServer.set_bevcb`.

        It comes before the server's.  Source: evhttp_bound_set_bevcb.
        """
        self.carriers.set_bevcb(cb, arg)

    def close(self) -> None:
        """Stop listening here; connections stay (evhttp_del_accept_socket)."""
        self._closed(self)
        self.listener.close()


def listening_socket(sock: socket.socket | int) -> socket.socket:
    """Return a listening socket for one, or for its descriptor, which it owns.

    Raises as HttpServer.accept_socket, and leaves the descriptor then.
    """
    if isinstance(sock, socket.socket):
        made = sock
    elif isinstance(sock, int) and not isinstance(sock, bool):
        try:
            made = socket.socket(fileno=sock)
        except OSError as exc:
            raise SocketError(exc.errno, f"no socket has the descriptor {sock}: {exc}") from exc
    else:
        raise ArgumentTypeError(f"a socket or a descriptor is wanted, not {sock!r}")
    if not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        if made is not sock:
            made.detach()
        raise ArgumentError(f"the socket does not listen: {sock!r}")
    return made
