"""Where a `DnsServer` is reached: UDP sockets, TCP listeners and the connections of the latter."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...core import (
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    EV_PERSIST,
    EV_READ,
    EV_WRITE,
    BufferEvent,
    Event,
)
from ..constants import EVDNS_SOPT_TCP_IDLE_TIMEOUT, EVDNS_SOPT_TCP_MAX_CLIENTS
from ..errors import DnsArgumentError
from ..options import MAX_MESSAGE_BYTES, MIN_UDP_BYTES, DnsServerOptions
from ..wire.framing import LENGTH_BYTES, add_length, take_message

if TYPE_CHECKING:
    import socket

    import dns.message

    from ...core import (
        BevEvent,
        ConnListener,
        EventBase,
        EventFlag,
    )
    from .request import ReplyPath

log = logging.getLogger("evsvc.dns")

QueryHandler = Callable[["ReplyPath", bytes, Any], object]
"""Called as `handle(path, packet, address)`.  For each packet the path hears once, now or later,
`send_reply` or `forget_request`.  What the program's callback raises comes through."""


class UdpServerPort:
    """A UDP socket that is served; it belongs to the port (struct evdns_server_port)."""

    __slots__ = (
        "_handle",
        "_on_close",
        "_options",
        "_read_event",
        "_replies",
        "_sock",
        "_write_event",
        "address",
        "announced_bytes",
        "port",
    )

    def __init__(
        self,
        base: EventBase,
        sock: socket.socket,
        options: DnsServerOptions,
        handle: QueryHandler,
        on_close: Callable[[UdpServerPort], object],
    ) -> None:
        sock.setblocking(False)
        self.address: str
        self.port: int
        self.address, self.port = sock.getsockname()[:2]
        self.announced_bytes = options.udp_reply_bytes
        self._sock = sock
        self._options = options
        self._handle = handle
        self._on_close = on_close
        self._replies: deque[tuple[bytes, Any]] = deque()
        self._write_event = Event(base, sock, EV_WRITE | EV_PERSIST, self._on_writable)
        self._read_event = Event(base, sock, EV_READ | EV_PERSIST, self._on_readable)
        self._read_event.add()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._read_event.initialized

    def close(self) -> None:
        """Stop serving and close the socket; requests not answered yet get no reply.

        Safe to repeat, and inside the server's callback.  Source: evdns_close_server_port.
        """
        if self.closed:
            return
        self._read_event.close()
        self._write_event.close()
        self._replies.clear()
        self._sock.close()
        self._on_close(self)

    def limit_for(self, query: dns.message.Message) -> int:
        """Return how long a reply may be: 512 bytes, or what EDNS allows up to our own limit."""
        return min(max(query.payload, MIN_UDP_BYTES), self._options.udp_reply_bytes)

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send a datagram, now or when the socket has room; too many waiting, and it is lost."""
        if self.closed:
            return
        if not self._replies and self._try_send(packet, address):
            return
        if len(self._replies) >= self._options.udp_queue:
            log.warning("dropped a reply: %d are waiting to be sent", len(self._replies))
            return
        self._replies.append((packet, address))
        self._write_event.add()

    def forget_request(self) -> None:
        """Nothing depends on it."""

    def _try_send(self, packet: bytes, address: Any) -> bool:
        """Tell whether the datagram is dealt with: sent, or refused by the system."""
        try:
            self._sock.sendto(packet, address)
        except BlockingIOError:
            return False
        except OSError as exc:
            log.warning("cannot send a reply to %s: %s", address, exc)
        return True

    def _on_readable(self, fd: int, what: EventFlag, arg: object) -> None:
        for _ in range(self._options.udp_batch):
            if self.closed:
                return
            try:
                packet, address = self._sock.recvfrom(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError as exc:  # an earlier reply was refused, says ICMP; no harm done
                log.debug("UDP socket reports %s", exc)
                continue
            self._handle(self, packet, address)

    def _on_writable(self, fd: int, what: EventFlag, arg: object) -> None:
        while self._replies and self._try_send(*self._replies[0]):
            self._replies.popleft()
        if not self._replies:
            self._write_event.delete()


class TcpServerPort:
    """A TCP listener that is served; it belongs to the port (struct evdns_server_port)."""

    __slots__ = ("_clients", "_handle", "_listener", "_on_close", "address", "options", "port")

    def __init__(
        self,
        listener: ConnListener,
        options: DnsServerOptions,
        handle: QueryHandler,
        on_close: Callable[[TcpServerPort], object],
    ) -> None:
        self.address: str
        self.port: int
        self.address, self.port = listener.socket.getsockname()[:2]
        self.options = options
        self._handle = handle
        self._on_close = on_close
        self._clients: set[TcpClient] = set()
        self._listener: ConnListener | None = listener
        listener.set_cb(self._on_accept, None)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._listener is None

    def set_option(self, option: int, value: float) -> None:
        """Set EVDNS_SOPT_TCP_MAX_CLIENTS, or EVDNS_SOPT_TCP_IDLE_TIMEOUT in seconds.

        The number counts for new connections, the time from a connection's next query on.  Raises
        DnsArgumentError for another option or value.  Source: evdns_server_port_set_option.
        """
        if option == EVDNS_SOPT_TCP_MAX_CLIENTS:
            self.options = replace(self.options, tcp_max_clients=int(value))
        elif option == EVDNS_SOPT_TCP_IDLE_TIMEOUT:
            self.options = replace(self.options, tcp_idle_s=value or None)
        else:
            raise DnsArgumentError(f"no such option of a TCP port: {option!r}")

    def close(self) -> None:
        """Stop listening and disconnect all clients; requests not answered yet get no reply.

        Safe to repeat, and inside the server's callback.  Source: evdns_close_server_port.
        """
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        for client in list(self._clients):
            client.close()
        self._on_close(self)

    def _on_accept(
        self, listener: ConnListener, sock: socket.socket, address: Any, arg: object
    ) -> None:
        if len(self._clients) >= self.options.tcp_max_clients:
            log.warning("refused TCP client %s: there are %d", address, len(self._clients))
            sock.close()
            return
        self._clients.add(TcpClient(self, listener.base, sock, address))

    def handle_query(self, client: TcpClient, packet: bytes, address: Any) -> None:
        """Pass a client's query on to the server."""
        self._handle(client, packet, address)

    def forget_client(self, client: TcpClient) -> None:
        """Take a closed client off the list."""
        self._clients.discard(client)


class TcpClient:
    """One connection to a TCP port: several queries, answered in the order of the answers.

    `_pending` queries are with the program.  The connection ends when it is idle, when the peer
    has ended its side and has all its replies, or on the first fault.
    """

    __slots__ = (
        "_address",
        "_bev",
        "_ended",
        "_idle_timer",
        "_paused",
        "_pending",
        "_port",
        "_resuming",
        "announced_bytes",
    )

    def __init__(
        self, port: TcpServerPort, base: EventBase, sock: socket.socket, address: Any
    ) -> None:
        self._port = port
        self._address = address
        self._pending = 0
        self._paused = False  # too many are pending, and reading stands still
        self._resuming = False  # a posted call will look at what is buffered
        self._ended = False  # the peer sends nothing more
        self.announced_bytes = port.options.udp_reply_bytes
        self._idle_timer = base.timer(self._on_idle)
        self._bev: BufferEvent | None = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        self._bev.setcb(self._on_readable, self._on_written, self._on_event)
        self._bev.setwatermark(EV_READ, 0, LENGTH_BYTES + MAX_MESSAGE_BYTES)
        self._bev.enable(EV_READ)
        self._restart_idle_time()

    def close(self) -> None:
        """Disconnect.  Safe to repeat; later replies are forgotten."""
        if self._bev is not None:
            self._bev.close()
            self._bev = None
            self._idle_timer.close()
            self._port.forget_client(self)

    def limit_for(self, query: dns.message.Message) -> int:
        """Return how long a reply may be: whatever the length prefix can say."""
        return MAX_MESSAGE_BYTES

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Queue a reply; a client that lets too many unread bytes pile up is disconnected."""
        self._pending -= 1
        if self._bev is None:
            return
        self._bev.write(add_length(packet))
        self._restart_idle_time()
        if len(self._bev.output) > self._port.options.tcp_output_bytes:
            log.warning("TCP client %s does not read its replies", self._address)
            self.close()
        self._read_on_if_paused()

    def forget_request(self) -> None:
        """A query gets no reply."""
        self._pending -= 1
        self._read_on_if_paused()
        self._close_if_finished()

    def _on_readable(self, bev: BufferEvent, ctx: object) -> None:
        while self._bev is not None and self._pending < self._port.options.tcp_pending:
            packet = take_message(bev.input)
            if packet is None:
                return
            if not packet:
                self.close()
                return
            self._restart_idle_time()
            self._handle(packet)
        self._pause()

    def _handle(self, packet: bytes) -> None:
        self._pending += 1
        try:
            self._port.handle_query(self, packet, self._address)
        except Exception:
            # What is buffered behind this query raises no event of its own.
            self._read_later()
            raise

    def _pause(self) -> None:
        if self._bev is not None:
            self._paused = True
            self._bev.disable(EV_READ)

    def _read_on_if_paused(self) -> None:
        if self._paused and self._bev is not None:
            self._paused = False
            if not self._ended:
                self._bev.enable(EV_READ)
            self._read_later()

    def _read_later(self) -> None:
        if self._bev is not None:
            self._resuming = True
            self._bev.base.post(self._read_buffered)

    def _read_buffered(self) -> None:
        self._resuming = False
        if self._bev is not None:
            self._on_readable(self._bev, None)
        self._close_if_finished()

    def _on_event(self, bev: BufferEvent, what: BevEvent, ctx: object) -> None:
        if what & BEV_EVENT_EOF:
            self._ended = True
            self._close_if_finished()
        else:
            self.close()

    def _on_written(self, bev: BufferEvent, ctx: object) -> None:
        self._close_if_finished()

    def _close_if_finished(self) -> None:
        unread = self._paused or self._resuming
        if self._bev is None or not self._ended or self._pending or unread:
            return
        if not self._bev.output:  # else we are called again when it is sent
            self.close()

    def _restart_idle_time(self) -> None:
        idle_s = self._port.options.tcp_idle_s
        if self._bev is not None and idle_s is not None:
            self._idle_timer.add(idle_s)

    def _on_idle(self, fd: int, what: EventFlag, arg: object) -> None:
        if self._pending:
            self._restart_idle_time()
        else:
            self.close()
