"""DnsServer: answers queries over UDP and TCP through a callback (struct evdns_server_port)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dns.rcode

from ...core import (
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
    ArgumentError,
    ConnListener,
    SocketError,
)
from ...core.closing import Closing
from ...core.resolver import SocketAddress
from ...core.util import endpoint_of
from ..errors import DnsArgumentError, DnsStateError
from ..options import DnsServerOptions
from ..wire.queries import build_refusal, read_query
from .ports import TcpServerPort, UdpServerPort
from .request import DnsServerRequest

if TYPE_CHECKING:
    from ...core import EventBase
    from .request import ReplyPath

log = logging.getLogger("evsvc.dns")

ServerCallback = Callable[[DnsServerRequest, Any], object]
"""Called as `cb(request, arg)` for each query; answers with `request.respond`, now or later."""


class DnsServer(Closing):
    """Calls `cb(request, arg)` for each query that reaches one of its ports.

    Give it ports with `bind_udp` and `bind_tcp`, or sockets of your own.  Malformed queries are
    answered FORMERR, opcodes other than QUERY NOTIMP, and never reach the callback.  When the
    callback raises, the client gets SERVFAIL and the exception goes its way through the loop.
    """

    __slots__ = ("_arg", "_base", "_cb", "_closed", "_options", "_ports")

    def __init__(
        self,
        base: EventBase,
        cb: ServerCallback,
        arg: object = None,
        *,
        options: DnsServerOptions | None = None,
    ) -> None:
        if not callable(cb):
            raise DnsArgumentError(f"the callback cannot be called: {cb!r}")
        self._base = base
        self._cb = cb
        self._arg: Any = arg
        self._options = options or DnsServerOptions()
        self._ports: set[UdpServerPort | TcpServerPort] = set()
        self._closed = False

    @property
    def ports(self) -> list[UdpServerPort | TcpServerPort]:
        """The open ports, in no particular order."""
        return list(self._ports)

    def bind_udp(self, address: str, port: int) -> UdpServerPort:
        """Serve a UDP port of a numeric address; port 0 gets a free one.

        Raises SocketError when it is busy or not ours, DnsArgumentError for what is no address.
        """
        self._require_open()
        sockaddr = _sockaddr_of(address, port)
        family = socket.AF_INET if len(sockaddr) == 2 else socket.AF_INET6
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind(sockaddr)
        except OSError as exc:
            sock.close()
            raise SocketError(exc.errno, f"cannot bind UDP {sockaddr}: {exc.strerror}") from exc
        return self.add_server_port(sock)

    def bind_tcp(self, address: str, port: int) -> TcpServerPort:
        """Serve a TCP port of a numeric address; port 0 gets a free one.

        Raises SocketError when it is busy or not ours, DnsArgumentError for what is no address.
        """
        self._require_open()
        sockaddr = _sockaddr_of(address, port)
        flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE
        listener = ConnListener.new_bind(self._base, None, None, flags, -1, sockaddr)
        return self.add_server_port_with_listener(listener)

    def add_server_port(self, sock: socket.socket) -> UdpServerPort:
        """Serve a bound UDP socket, which belongs to the port from now on.

        Raises DnsArgumentError when it is no UDP socket.
        Source: evdns_add_server_port_with_base.
        """
        self._require_open()
        if sock.type != socket.SOCK_DGRAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise DnsArgumentError(f"not a UDP socket: {sock!r}")
        port = UdpServerPort(
            self._base, sock, self._options, self._handle_query, self._ports.discard
        )
        self._ports.add(port)
        return port

    def add_server_port_with_listener(self, listener: ConnListener) -> TcpServerPort:
        """Serve the connections of a listener, which belongs to the port from now on.

        Its callback is replaced.  Raises DnsArgumentError when it does not listen on TCP.
        Source: evdns_add_server_port_with_listener.
        """
        self._require_open()
        if listener.socket.family not in (socket.AF_INET, socket.AF_INET6):
            raise DnsArgumentError(f"not a TCP listener: {listener.socket!r}")
        port = TcpServerPort(listener, self._options, self._handle_query, self._ports.discard)
        self._ports.add(port)
        return port

    def close(self) -> None:
        """Close all ports.  Safe to repeat, and inside the callback."""
        self._closed = True
        for port in self.ports:
            port.close()

    def _handle_query(self, path: ReplyPath, packet: bytes, address: Any) -> None:
        """Answer what the program should not see, call back for the rest."""
        query = read_query(packet, self._options.query_bytes)
        if query is None:
            log.debug("ignored %d bytes from %s", len(packet), address)
            path.forget_request()
            return
        if isinstance(query, dns.rcode.Rcode):
            log.debug("answered %s to %s", query.name, address)
            path.send_reply(build_refusal(packet, query, path.announced_bytes), address)
            return
        request = DnsServerRequest(path, query, address)
        try:
            self._cb(request, self._arg)
        except Exception:
            request.give_up()
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise DnsStateError("the server is closed")


def _sockaddr_of(address: str, port: int) -> SocketAddress:
    try:
        return endpoint_of((address, port)).sockaddr
    except ArgumentError as exc:
        raise DnsArgumentError(str(exc)) from exc
