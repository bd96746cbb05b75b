"""How a query reaches a nameserver: a UDP socket for each query, one TCP connection per server.

RFC 5452 section 9.2 wants an unpredictable source port for every query, and different ones at the
same time, so that a forger has to guess port and id together.  A socket per query costs a few
system calls; it also lets the kernel drop what other hosts send, and report a port that is closed.
libevent keeps one socket, and so one port, per nameserver.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...core import (
    BEV_EVENT_CONNECTED,
    BEV_OPT_CLOSE_ON_FREE,
    EV_PERSIST,
    EV_READ,
    BufferEvent,
    Event,
)
from ..addresses import (
    SocketAddress,
    family_of,
    is_loopback,
    same_endpoint,
)
from ..options import MAX_MESSAGE_BYTES, ResolverOptions
from ..wire.framing import LENGTH_BYTES, add_length, take_message

if TYPE_CHECKING:
    from ...core import BevEvent, EventBase, EventFlag
    from .nameservers import Nameserver

FIRST_PORT, LAST_PORT = 1024, 65535
BIND_ATTEMPTS = 8
PACKETS_PER_READ = 16  # then other events have their turn


def open_udp_socket(address: SocketAddress, options: ResolverOptions) -> socket.socket:
    """Return a non-blocking UDP socket from a random port to `address`.  Raises OSError."""
    family = family_of(address)
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
    family = family_of(address)
    if bind_to is not None and family_of(bind_to) == family and not is_loopback(address):
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


class UdpExchange:
    """One query's socket to one nameserver.

    Calls `on_packet(exchange, packet)` for each datagram from the nameserver's address, and
    `on_error(exchange)` when the kernel reports that it cannot be reached; both may close it.
    Raises OSError when the socket cannot be had.
    """

    __slots__ = ("_event", "_on_error", "_on_packet", "_sock", "owner", "server")

    def __init__(
        self,
        base: EventBase,
        server: Nameserver,
        options: ResolverOptions,
        owner: object,
        on_packet: Callable[[UdpExchange, bytes], object],
        on_error: Callable[[UdpExchange], object],
    ) -> None:
        self.server = server
        self.owner = owner
        self._on_packet = on_packet
        self._on_error = on_error
        self._sock = open_udp_socket(server.address, options)
        self._event = Event(base, self._sock, EV_READ | EV_PERSIST, self._on_readable)
        self._event.add()

    def send(self, packet: bytes) -> None:
        """Send a query.  Raises OSError; a full socket counts as sent and lost."""
        with contextlib.suppress(BlockingIOError):
            self._sock.send(packet)

    def close(self) -> None:
        """Close the socket.  Safe to repeat."""
        self._event.close()
        self._sock.close()

    def _on_readable(self, fd: int, what: EventFlag, arg: object) -> None:
        for _ in range(PACKETS_PER_READ):
            try:
                packet, source = self._sock.recvfrom(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self._on_error(self)
                return
            # A stranger's datagram may have come between bind and connect.
            if same_endpoint(source, self.server.address):
                self._on_packet(self, packet)
            if not self._event.initialized:
                return


class TcpChannel:
    """The TCP connection to one nameserver, shared by the queries under way (RFC 7766).

    Calls `on_packet(channel, packet)` for each message, and `on_lost(channel)` once when the
    connection cannot be made, breaks, or is idle for `tcp_idle_s`; both may close it.
    Raises OSError when there is no socket to be had.
    """

    __slots__ = ("_bev", "_idle_s", "_idle_timer", "_on_lost", "_on_packet", "_users", "server")

    def __init__(
        self,
        base: EventBase,
        server: Nameserver,
        options: ResolverOptions,
        on_packet: Callable[[TcpChannel, bytes], object],
        on_lost: Callable[[TcpChannel], object],
    ) -> None:
        self.server = server
        self._on_packet = on_packet
        self._on_lost = on_lost
        self._users = 0
        self._idle_s = options.tcp_idle_s
        self._idle_timer = base.timer(self._on_idle)
        self._bev: BufferEvent | None = self._connect(base)

    def _connect(self, base: EventBase) -> BufferEvent:
        bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
        try:
            bev.connect(self.server.address)
        except OSError:
            bev.close()
            raise
        bev.setcb(self._on_readable, None, self._on_event)
        bev.setwatermark(EV_READ, 0, LENGTH_BYTES + MAX_MESSAGE_BYTES)
        bev.enable(EV_READ)
        return bev

    def send(self, packet: bytes) -> None:
        """Send a query, as soon as the connection is made."""
        if self._bev is not None:
            self._bev.write(add_length(packet))

    def acquire(self) -> None:
        """Count a query that waits for its reply here."""
        self._users += 1
        self._idle_timer.delete()

    def release(self) -> None:
        """A query waits no longer; with the last one the idle time begins."""
        self._users -= 1
        if self._users == 0 and self._bev is not None:
            self._idle_timer.add(self._idle_s)

    def close(self) -> None:
        """Close the connection without a call to `on_lost`.  Safe to repeat."""
        self._idle_timer.close()
        if self._bev is not None:
            self._bev.close()
            self._bev = None

    def _on_readable(self, bev: BufferEvent, ctx: object) -> None:
        while self._bev is not None:
            packet = take_message(bev.input)
            if packet is None:
                return
            if not packet:
                self._lose()
                return
            self._on_packet(self, packet)

    def _on_event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        if not what & BEV_EVENT_CONNECTED:
            self._lose()

    def _on_idle(self, fd: int, what: EventFlag, arg: object) -> None:
        self._lose()

    def _lose(self) -> None:
        if self._bev is not None:
            self.close()
            self._on_lost(self)
