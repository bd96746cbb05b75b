"""DnsServer: answers queries over UDP and TCP through a callback (struct evdns_server_port)."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import dns.rdatatype
from dns.rcode import Rcode

from ...core import (
    LEV_OPT_CLOSE_ON_FREE,
    ArgumentError,
    ConnListener,
)
from ...core.closing import Closing
from ...core.resolver import SocketAddress
from ...core.util import endpoint_of
from ..constants import EVDNS_CLASS_INET
from ..errors import DNS_ERR_REFUSED, DnsArgumentError, DnsStateError
from ..options import DnsServerOptions
from ..wire.fast import PlainQuery, read_plain
from ..wire.queries import build_refusal, read_query
from .binding import bind_socket
from .finished import FinishedReplies
from .ports import TcpServerPort, UdpServerPort
from .request import DnsServerRequest

if TYPE_CHECKING:
    from dns.message import Message

    from ...core import EventBase
    from .request import ReplyPath

log = logging.getLogger("evsvc.dns")

# Types that no record of an answer can have (RFC 6895 3.1), and zone transfers.
_NO_DATA = frozenset({0, dns.rdatatype.OPT, dns.rdatatype.TKEY, dns.rdatatype.TSIG})
_TRANSFERS = frozenset({dns.rdatatype.IXFR, dns.rdatatype.AXFR})

ServerCallback = Callable[[DnsServerRequest, Any], object]
"""Called as `cb(request, arg)` for each query; answers with `request.respond`, now or later."""


class DnsServer(Closing):
    """Calls `cb(request, arg)` for each query that reaches one of its ports.

    Give it ports with `bind_udp` and `bind_tcp`, or sockets of your own.  Malformed queries are
    answered FORMERR, opcodes other than QUERY NOTIMP, other classes than IN and types that are no
    data REFUSED (see `DnsServerOptions`), and never reach the callback.  When the callback raises,
    the client gets SERVFAIL, the exception is logged to `evsvc.dns` and told to the base's
    `exception_handler`, and the loop goes on.
    """

    __slots__ = ("_arg", "_base", "_cb", "_closed", "_finished", "_options", "_ports")

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
        self._finished = FinishedReplies(self._options.finished_replies)

    @property
    def ports(self) -> list[UdpServerPort | TcpServerPort]:
        """The open ports, in no particular order."""
        return list(self._ports)

    def bind_udp(self, address: str, port: int) -> UdpServerPort:
        """Serve a UDP port of a numeric address; port 0 gets a free one.

        Raises SocketError when it is busy or not ours, DnsArgumentError for what is no address.
        """
        self._require_open()
        return self.add_server_port(self._bind(socket.SOCK_DGRAM, address, port))

    def bind_tcp(self, address: str, port: int) -> TcpServerPort:
        """Serve a TCP port of a numeric address; port 0 gets a free one.

        Raises SocketError when it is busy or not ours, DnsArgumentError for what is no address.
        """
        self._require_open()
        sock = self._bind(socket.SOCK_STREAM, address, port)
        listener = ConnListener(self._base, None, None, LEV_OPT_CLOSE_ON_FREE, 0, sock)
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

    def flush_finished(self) -> None:
        """Forget the replies that `respond(code, cache_s=...)` has kept."""
        self._finished.flush()

    def close(self) -> None:
        """Close all ports.  Safe to repeat, and inside the callback."""
        self._closed = True
        self._finished.flush()
        for port in self.ports:
            port.close()

    def _handle_query(self, path: ReplyPath, packet: bytes, address: Any) -> None:
        """Answer what the program should not see, call back for the rest."""
        reply = self._finished.find(packet, self._base.reactor.now)
        if reply is not None:
            path.send_reply(reply, address)
            return
        plain = read_plain(packet) if len(packet) <= self._options.query_bytes else None
        if plain is not None:
            self._ask(path, plain, plain.rdtype, plain.rdclass, address)
            return
        query = read_query(packet, self._options.query_bytes)
        if query is None:
            log.debug("ignored %d bytes from %s", len(packet), address)
            path.forget_request()
        elif isinstance(query, Rcode):
            log.debug("answered %s to %s", query.name, address)
            path.send_reply(build_refusal(packet, query, path.announced_bytes), address)
        else:
            asked = query.question[0]
            self._ask(path, query, int(asked.rdtype), int(asked.rdclass), address)

    def _ask(
        self,
        path: ReplyPath,
        query: PlainQuery | Message,
        rdtype: int,
        rdclass: int,
        address: Any,
    ) -> None:
        """Let the program answer, unless it is not to see such a question."""
        request = DnsServerRequest(path, query, address, self._keep)
        if not self._serves(rdtype, rdclass, path):
            request.respond(DNS_ERR_REFUSED)
            return
        try:
            self._cb(request, self._arg)
        except Exception as exc:
            self._callback_failed(request, exc)

    def _keep(self, query: PlainQuery, reply: bytes, cache_s: float) -> None:
        self._finished.keep(query, reply, self._base.reactor.now + cache_s)

    def _serves(self, rdtype: int, rdclass: int, path: ReplyPath) -> bool:
        """Return True when the callback is to see such a question."""
        if rdclass != EVDNS_CLASS_INET and not self._options.any_class:
            return False
        if self._options.any_type:
            return True
        return rdtype not in _NO_DATA and (rdtype not in _TRANSFERS or path.is_stream)

    def _callback_failed(self, request: DnsServerRequest, exc: Exception) -> None:
        """Answer SERVFAIL, log what the callback raised, and tell the base's exception handler.

        What that one raises is the program's own wish, and leaves the loop.
        """
        request.give_up()
        log.error("the callback raised for %s", request.questions, exc_info=exc)
        handler = self._base.exception_handler
        if handler is not None:
            handler(exc)

    def _bind(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        ours = [bound.sock for bound in self._ports]
        same = [sock for sock in ours if sock is not None and sock.type == kind]
        return bind_socket(kind, _sockaddr_of(address, port), same)

    def _require_open(self) -> None:
        if self._closed:
            raise DnsStateError("the server is closed")


def _sockaddr_of(address: str, port: int) -> SocketAddress:
    try:
        return endpoint_of((address, port)).sockaddr
    except ArgumentError as exc:
        raise DnsArgumentError(str(exc)) from exc
