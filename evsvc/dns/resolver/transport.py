"""How queries reach a nameserver: a UDP port for each query, one TCP connection per server.

RFC 5452 section 9.2 wants an unpredictable source port for every query, and different ones at the
same time, so that a forger has to guess port and id together.  A socket per query costs a few
system calls; it also lets the kernel drop what other hosts send, and report a port that is closed.
While there are others on the wire, a socket whose query was answered takes another, a few times; it
has never two at once, and is closed with the last.  Whoever finds its port out has the rest of
those queries to guess id and letters, and a wrong guess is the port's end with the query it was
for.  Unbound has a new port for each query, as we have with `udp_port_uses=1`; libevent and, unless
told otherwise, c-ares keep one socket, and so one port, per nameserver.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ...core import (
    BEV_EVENT_CONNECTED,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_CONNECTING,
    EV_PERSIST,
    EV_READ,
    BufferEvent,
    Event,
    TlsBufferEvent,
)
from ...core.bufferevent.timeouts import Deadline
from ...core.resolver import SocketAddress
from ..options import MAX_MESSAGE_BYTES, ResolverOptions
from ..wire.framing import LENGTH_BYTES, add_length, take_message
from ..wire.replies import id_of

if TYPE_CHECKING:
    from ...core import BevEvent, EventBase, EventFlag
    from ...core.reactor.event import EventCallback
    from .flight import Sent, Transport
    from .nameservers import Nameserver

log = logging.getLogger("evsvc.dns")

FIRST_PORT, LAST_PORT = 1024, 65535
BIND_ATTEMPTS = 8
PACKETS_PER_READ = 16  # then other events have their turn


OnPacket = Callable[["Sent", bytes], bool]
OnLost = Callable[["Sent", bool], object]
TransportMaker = Callable[
    ["EventBase", "Nameserver", ResolverOptions, OnPacket, OnLost], "Transport"
]
"""Makes the way to one nameserver; `Transport` says what the last two are for."""


def _family_of(address: SocketAddress) -> int:
    return socket.AF_INET if len(address) == 2 else socket.AF_INET6


def same_endpoint(one: SocketAddress, other: SocketAddress) -> bool:
    """Tell whether two socket addresses name the same host, port and (if both say) IPv6 scope."""
    if one[:2] != other[:2] or len(one) != len(other):
        return False
    return len(one) == 2 or one[3] == other[3] or 0 in (one[3], other[3])


def open_udp_socket(address: SocketAddress, options: ResolverOptions) -> socket.socket:
    """Return a non-blocking UDP socket from a random port to `address`.  Raises OSError."""
    family = _family_of(address)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if options.receive_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.receive_buffer_bytes)
        if options.send_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer_bytes)
        _bind_random_port(sock, local_address(address, options))
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def local_address(address: SocketAddress, options: ResolverOptions) -> SocketAddress:
    """Return where to ask from: `bind_to` if it fits the nameserver, else any address; port 0."""
    bind_to = options.bind_to
    family = _family_of(address)
    if (
        bind_to is not None
        and _family_of(bind_to) == family
        and not ipaddress.ip_address(address[0]).is_loopback
    ):
        return (bind_to[0], 0) if len(bind_to) == 2 else (bind_to[0], 0, 0, bind_to[3])
    return ("0.0.0.0", 0) if family == socket.AF_INET else ("::", 0, 0, 0)


def _bind_random_port(sock: socket.socket, local: SocketAddress) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    for _ in range(BIND_ATTEMPTS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        with contextlib.suppress(OSError):  # taken; an address that cannot be had fails below
            sock.bind((local[0], port, *local[2:]))
            return
    sock.bind(local)


class _Port:
    """A socket at a random port.  sent: the query that is out on it;  uses: how many were."""

    __slots__ = ("event", "sent", "sock", "uses")

    def __init__(self, base: EventBase, sock: socket.socket, on_readable: EventCallback) -> None:
        self.sock = sock
        self.sent: Sent | None = None
        self.uses = 0
        self.event = Event(base, sock, EV_READ | EV_PERSIST, on_readable, self)
        self.event.add()

    def close(self) -> None:
        self.sent = None
        self.event.close()
        self.sock.close()


class UdpTransport:
    """Queries over UDP to one nameserver, each alone on a port.  See `Transport`."""

    __slots__ = (
        "_answered",
        "_base",
        "_buffer",
        "_free",
        "_on_lost",
        "_on_packet",
        "_options",
        "_out",
        "_server",
        "_uses",
    )

    def __init__(
        self,
        base: EventBase,
        server: Nameserver,
        options: ResolverOptions,
        on_packet: OnPacket,
        on_lost: OnLost,
    ) -> None:
        self._base = base
        self._server = server
        self._options = options
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._out: dict[Sent, _Port] = {}
        self._free: list[_Port] = []
        self._answered: Sent | None = None
        self._uses = options.udp_port_uses
        self._buffer = memoryview(bytearray(MAX_MESSAGE_BYTES))

    def send(self, sent: Sent) -> None:
        """Send a query; a full socket counts as sent and lost."""
        port = self._out.get(sent)
        if port is None:
            if self._free:
                port = self._free.pop()
            else:
                sock = open_udp_socket(self._server.address, self._options)
                port = _Port(self._base, sock, self._on_readable)
            port.sent = sent
            port.uses += 1
            self._out[sent] = port
        try:
            port.sock.send(sent.packet)
        except BlockingIOError:
            log.debug("the socket to nameserver %s is full", self._server.name)

    def forget(self, sent: Sent) -> None:
        """Close a query's socket, or keep it for another if it was answered."""
        port = self._out.pop(sent, None)
        if port is None:
            return
        may_stay = sent is self._answered and not sent.suspect and bool(self._out)
        if may_stay and port.uses < self._uses:
            port.sent = None
            self._free.append(port)
        else:
            port.close()
        if self._free and not self._out:
            self._close_free()

    def give_up(self) -> None:
        """The queries share nothing."""

    def close(self) -> None:
        """Close all sockets."""
        for sent in list(self._out):
            self.forget(sent)

    def _close_free(self) -> None:
        """Nothing is out any more: a port that waits for nothing must not keep the loop alive."""
        free, self._free = self._free, []
        for port in free:
            port.close()

    def _on_readable(self, fd: int, what: EventFlag, port: _Port) -> None:
        sock, sent, buffer = port.sock, port.sent, self._buffer
        for _ in range(PACKETS_PER_READ):
            try:
                size, source = sock.recvfrom_into(buffer)
            except BlockingIOError:
                return
            except OSError:  # nobody listens there, or there is no way
                if sent is None:
                    self._free.remove(port)
                    port.close()
                else:
                    self.forget(sent)
                    self._on_lost(sent, False)
                return
            # A stranger's datagram may have come between bind and connect.
            address = self._server.address
            if sent is not None and (source == address or same_endpoint(source, address)):
                self._answered = sent
                try:
                    self._on_packet(sent, bytes(buffer[:size]))
                finally:
                    self._answered = None
                if port.sent is not sent:
                    return


class TlsPeer(NamedTuple):
    """A nameserver behind TLS: whom to trust, and which name its certificate must have."""

    context: ssl.SSLContext
    server_hostname: str | None


class TcpTransport:
    """One connection to a nameserver, shared by the queries under way (RFC 7766).  See `Transport`.

    It is made when there is something to send, and closed when nothing was for `tcp_idle_s`.
    tls: who is meant and whom to trust, for DNS over TLS (RFC 7858).
    """

    __slots__ = (
        "_answered",
        "_base",
        "_bev",
        "_idle",
        "_idle_s",
        "_on_lost",
        "_on_packet",
        "_out",
        "_server",
        "_tls",
    )

    def __init__(
        self,
        base: EventBase,
        server: Nameserver,
        options: ResolverOptions,
        on_packet: OnPacket,
        on_lost: OnLost,
        *,
        tls: TlsPeer | None = None,
    ) -> None:
        self._base = base
        self._server = server
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._tls = tls
        self._out: dict[int, Sent] = {}
        self._answered = False
        self._bev: BufferEvent | TlsBufferEvent | None = None
        self._idle_s = options.tcp_idle_s
        self._idle = Deadline(base, self._disconnect)

    def send(self, sent: Sent) -> None:
        """Send a query, as soon as the connection is made."""
        bev = self._bev or self._connect()
        self._out[sent.query.id] = sent
        self._idle.stop()
        bev.write(add_length(sent.packet))

    def forget(self, sent: Sent) -> None:
        """Leave a query out of account; with the last one the idle time begins."""
        if self._out.pop(sent.query.id, None) is not None and not self._out and self._bev:
            self._idle.start(self._idle_s)

    def give_up(self) -> None:
        """Close the connection; the queries on it are lost."""
        answered = self._answered
        self._disconnect()
        out, self._out = self._out, {}
        for sent in out.values():
            self._on_lost(sent, answered)

    def close(self) -> None:
        """Close the connection without a word."""
        self._out.clear()
        self._disconnect()
        self._idle.close()

    def _connect(self) -> BufferEvent | TlsBufferEvent:
        bev = self._new_bufferevent()
        try:
            bev.connect(self._server.address)
        except OSError:
            bev.close()
            raise
        bev.setcb(self._on_readable, None, self._on_event)
        bev.setwatermark(EV_READ, 0, LENGTH_BYTES + MAX_MESSAGE_BYTES)
        bev.enable(EV_READ)
        self._bev = bev
        self._answered = False
        return bev

    def _new_bufferevent(self) -> BufferEvent | TlsBufferEvent:
        if self._tls is None:
            return BufferEvent(self._base, None, BEV_OPT_CLOSE_ON_FREE)
        return TlsBufferEvent.socket_new(
            self._base,
            None,
            self._tls.context,
            BUFFEREVENT_SSL_CONNECTING,
            BEV_OPT_CLOSE_ON_FREE,
            server_hostname=self._tls.server_hostname,
        )

    def _disconnect(self) -> None:
        self._idle.stop()
        bev, self._bev = self._bev, None
        if bev is not None:
            bev.close()

    def _on_readable(self, bev: BufferEvent | TlsBufferEvent, ctx: object) -> None:
        while self._bev is bev:
            packet = take_message(bev.input)
            if packet is None:
                return
            if not packet:
                self.give_up()
                return
            sent = self._out.get(id_of(packet))
            if sent is not None and self._on_packet(sent, packet):
                self._answered = True

    def _on_event(self, bev: BufferEvent | TlsBufferEvent, what: BevEvent, ctx: object) -> None:
        if what & BEV_EVENT_CONNECTED or self._bev is not bev:
            return
        error = bev.get_openssl_error() if isinstance(bev, TlsBufferEvent) else None
        if error is not None:
            log.warning("nameserver %s: %s", self._server.name, error)
        self.give_up()
