"""Where a `DnsServer` is reached: UDP sockets, TCP listeners and the connections of the latter."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    EV_PERSIST,
    EV_READ,
    EV_WRITE,
    BufferEvent,
    Event,
    TlsBufferEvent,
)
from ..constants import EVDNS_SOPT_TCP_IDLE_TIMEOUT, EVDNS_SOPT_TCP_MAX_CLIENTS
from ..errors import DnsArgumentError
from ..options import MAX_MESSAGE_BYTES, MIN_UDP_BYTES, DnsServerOptions
from ..wire.framing import LENGTH_BYTES, add_length, take_message
from .asked import ANCILLARY_BYTES, ask_to_be_told, reply_from
from .wrapped_path import WrappedPath

if TYPE_CHECKING:
    import socket
    import ssl

    from ...core import (
        AbstractBufferEvent,
        BevEvent,
        ConnListener,
        EventBase,
        EventFlag,
    )
    from .asked import Ancillary
    from .request import ReplyPath

log = logging.getLogger("evsvc.dns")

QueryHandler = Callable[["ReplyPath", bytes, Any], object]
"""Called as `handle(path, packet, address)`.  For each packet the path hears once, now or later,
`send_reply` or `forget_request`."""

MIN_IDLE_SHARE = 0.1
"""What is left of the idle time when a TCP port is full."""

TLS_FINISH_S = 1.0
"""How long a TLS client that is let go has to take our last bytes and its end."""


class UdpServerPort:
    """A UDP socket that is served; it belongs to the port (struct evdns_server_port).

    address, port: where it is bound;  closed: whether `close` was called;  announced_bytes: the
    largest datagram that EDNS tells clients to send.
    """

    __slots__ = (
        "_handle",
        "_is_finishing",
        "_on_close",
        "_options",
        "_read",
        "_read_event",
        "_replies",
        "_sock",
        "_write_event",
        "address",
        "announced_bytes",
        "closed",
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
        self.closed = False
        self.address: str
        self.port: int
        self.address, self.port = sock.getsockname()[:2]
        self.announced_bytes = options.udp_reply_bytes
        self._sock = sock
        self._options = options
        self._handle = handle
        self._on_close = on_close
        self._replies: deque[tuple[bytes, Any, Ancillary | None]] = deque()
        self._read = self._on_told_readable if ask_to_be_told(sock) else self._on_readable
        self._is_finishing = False  # to be closed when all replies are sent
        self._write_event = Event(base, sock, EV_WRITE | EV_PERSIST, self._on_writable)
        self._read_event = Event(base, sock, EV_READ | EV_PERSIST, self._read)
        self._read_event.add()

    def stop_reading(self) -> None:
        """Have what has arrived answered, a batch of it at the most, and read no more.

        What is left in a socket that another process has, too, is that one's.
        """
        if not self.closed:
            self._read_event.delete()
            self._read(-1, EV_READ, None)

    def finish(self) -> None:
        """Close as soon as the replies that wait are sent."""
        self._is_finishing = True
        if not self._replies:
            self.close()

    def close(self) -> None:
        """Stop serving and close the socket; requests not answered yet get no reply.

        Safe to repeat, and inside the server's callback.  Source: evdns_close_server_port.
        """
        if self.closed:
            return
        self.closed = True
        self._read_event.close()
        self._write_event.close()
        del self._read
        self._replies.clear()
        self._sock.close()
        self._on_close(self)

    @property
    def transport(self) -> str:
        """What carries the queries: "udp"."""
        return "udp"

    @property
    def is_stream(self) -> bool:
        """Return False: replies are datagrams."""
        return False

    def limit_for(self, payload: int) -> int:
        """Return how long a reply may be: 512 bytes, or what EDNS allows up to our own limit."""
        return min(max(payload, MIN_UDP_BYTES), self._options.udp_reply_bytes)

    @property
    def sock(self) -> socket.socket:
        """The socket, which stays the port's."""
        return self._sock

    def send_reply(self, packet: bytes, address: Any, source: Ancillary | None = None) -> None:
        """Send a datagram, now or when the socket has room; too many waiting, and it is lost.

        source: what makes it leave from an address of its own; see `reply_from`.
        """
        if self.closed:
            return
        if not self._replies:
            try:
                if source:
                    self._sock.sendmsg([packet], source, 0, address)
                else:
                    self._sock.sendto(packet, address)
                return
            except BlockingIOError:
                pass
            except OSError as exc:
                log.warning("cannot send a reply to %s: %s", address, exc)
                return
        if len(self._replies) >= self._options.udp_queue:
            log.warning("dropped a reply: %d are waiting to be sent", len(self._replies))
            return
        self._replies.append((packet, address, source))
        self._write_event.add()

    def send_messages(self, messages: Iterator[bytes], address: Any) -> None:
        """Do nothing: a datagram is one message."""

    def forget_request(self) -> None:
        """Nothing depends on it."""

    def _on_readable(self, fd: int, what: EventFlag, arg: object) -> None:
        receive, handle = self._sock.recvfrom, self._handle
        for _ in range(self._options.udp_batch):
            try:
                packet, address = receive(MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError as exc:  # an earlier reply was refused, says ICMP; no harm done
                log.debug("UDP socket reports %s", exc)
            else:
                handle(self, packet, address)
            if self.closed:
                return

    def _on_told_readable(self, fd: int, what: EventFlag, arg: object) -> None:
        """Do as `_on_readable`, for a socket bound to every address."""
        for _ in range(self._options.udp_batch):
            try:
                packet, told, _flags, address = self._sock.recvmsg(
                    MAX_MESSAGE_BYTES, ANCILLARY_BYTES
                )
            except BlockingIOError:
                return
            except OSError as exc:
                log.debug("UDP socket reports %s", exc)
            else:
                self._handle(_AskedAddress(self, reply_from(told)), packet, address)
            if self.closed:
                return

    def _on_writable(self, fd: int, what: EventFlag, arg: object) -> None:
        waiting, self._replies = self._replies, deque()
        while waiting and not self._replies:
            self.send_reply(*waiting.popleft())
        self._replies.extend(waiting)
        if not self._replies:
            self._write_event.delete()
            if self._is_finishing:
                self.close()


class _AskedAddress(WrappedPath):
    """The way back of one query to a socket bound to every address: from the one it came to."""

    __slots__ = ("_port", "_source")

    def __init__(self, port: UdpServerPort, source: Ancillary) -> None:
        super().__init__(port)
        self._port = port
        self._source = source

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send the reply from there."""
        self._port.send_reply(packet, address, self._source)


class TcpServerPort:
    """A TCP listener that is served; it belongs to the port (struct evdns_server_port).

    Clients stand in the order of their last sign of life: a whole query, or a reply.  One that is
    silent too long goes, the sooner the fuller the port is; and when it is full, or one address
    has all its places, a newcomer takes the place of the one that has been silent longest.
    """

    __slots__ = (
        "_base",
        "_by_host",
        "_clients",
        "_handle",
        "_idle_timer",
        "_is_stopping",
        "_listener",
        "_on_close",
        "_tls",
        "address",
        "options",
        "port",
    )

    def __init__(
        self,
        listener: ConnListener,
        options: DnsServerOptions,
        handle: QueryHandler,
        on_close: Callable[[TcpServerPort], object],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.address: str
        self.port: int
        self.address, self.port = listener.socket.getsockname()[:2]
        self.options = options
        self._handle = handle
        self._on_close = on_close
        self._base = listener.base
        self._tls = tls
        self._is_stopping = False
        self._clients: dict[TcpClient, float] = {}  # with the time of the last sign of life
        self._by_host: Counter[str] = Counter()
        self._idle_timer = listener.base.timer(self._on_idle_time)
        self._listener: ConnListener | None = listener
        listener.set_cb(self._on_accept, None)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._listener is None

    @property
    def sock(self) -> socket.socket | None:
        """The socket that listens, None when it does no more."""
        if self._listener is None or self._is_stopping:
            return None
        return self._listener.socket

    def set_option(self, option: int, value: float) -> None:
        """Set EVDNS_SOPT_TCP_MAX_CLIENTS, or EVDNS_SOPT_TCP_IDLE_TIMEOUT in seconds.

        The number counts for new connections, the time at once.  Raises DnsArgumentError for
        another option or value.  Source: evdns_server_port_set_option.
        """
        if option == EVDNS_SOPT_TCP_MAX_CLIENTS:
            self.options = replace(self.options, tcp_max_clients=int(value))
        elif option == EVDNS_SOPT_TCP_IDLE_TIMEOUT:
            self.options = replace(self.options, tcp_idle_s=value or None)
        else:
            raise DnsArgumentError(f"no such option of a TCP port: {option!r}")
        if not self.closed:
            self._wait_for_idle()

    def close(self) -> None:
        """Stop listening and disconnect all clients; requests not answered yet get no reply.

        Safe to repeat, and inside the server's callback.  Source: evdns_close_server_port.
        """
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        self._idle_timer.close()
        for client in list(self._clients):
            client.close()
        self._on_close(self)

    def shutdown(self, idle_s: float) -> None:
        """Listen no more, and close when the last client has its answers.

        Clients may go on asking for `idle_s` seconds; who waits to be accepted still is.
        """
        if self._listener is None:
            return
        self._listener.accept_waiting()
        self._listener.close()
        self._is_stopping = True
        if idle_s and self._clients:
            self._idle_timer.add(idle_s)
        else:
            self._finish_clients()

    def _finish_clients(self) -> None:
        for client in list(self._clients):
            client.finish()
        if not self._clients:
            self.close()

    @property
    def client_count(self) -> int:
        """How many clients are connected."""
        return len(self._clients)

    @property
    def base(self) -> EventBase:
        """The event base."""
        return self._base

    def handle_query(self, client: TcpClient, packet: bytes, address: Any) -> None:
        """Pass a client's query on to the server."""
        self._handle(client, packet, address)

    def note_life(self, client: TcpClient) -> None:
        """Put a client that has asked or was answered to the end of the line."""
        del self._clients[client]
        self._clients[client] = self._base.reactor.now

    def forget_client(self, client: TcpClient) -> None:
        """Take a closed client off the list."""
        del self._clients[client]
        self._by_host[client.host] -= 1
        if not self._by_host[client.host]:
            del self._by_host[client.host]
        if self._is_stopping and not self._clients:
            self.close()

    def _on_accept(
        self, listener: ConnListener, sock: socket.socket, address: Any, arg: object
    ) -> None:
        host = address[0]
        if not self._make_place(host):
            log.warning("refused TCP client %s: there are %d", address, len(self._clients))
            sock.close()
            return
        client = TcpClient(self, listener.base, sock, address, self._tls)
        self._by_host[host] += 1
        self._clients[client] = self._base.reactor.now
        self._wait_for_idle()

    def _make_place(self, host: str) -> bool:
        """Return True when there is a place for one more client of a host."""
        if self._by_host[host] >= self.options.tcp_clients_per_address:
            return self._close_silent(host)
        if len(self._clients) >= self.options.tcp_max_clients:
            return self._close_silent(None)
        return True

    def _close_silent(self, host: str | None) -> bool:
        """Close the client, of a host if one is given, that has been silent longest.

        Return False when none has: who waits for an answer, or came in this very pass, stays.
        """
        now = self._base.reactor.now
        for client, since in self._clients.items():
            if since >= now:
                break
            if not client.waits_for_us and host in (None, client.host):
                log.debug("closed TCP client %s for another", client.host)
                client.close()
                return True
        return False

    def _idle_limit_s(self) -> float | None:
        """Return how long a client may be silent: all the time up to half full, then less."""
        if self.options.tcp_idle_s is None:
            return None
        others = max(len(self._clients) - 1, 0)
        free = 1 - others / max(self.options.tcp_max_clients, 1)
        return self.options.tcp_idle_s * min(1.0, max(2 * free, MIN_IDLE_SHARE))

    def _wait_for_idle(self) -> None:
        if self._is_stopping:
            return  # the timer is that of the end
        limit_s = self._idle_limit_s()
        oldest = next(iter(self._clients.values()), None)
        if limit_s is None or oldest is None:
            self._idle_timer.delete()
        else:
            self._idle_timer.add(max(oldest + limit_s - self._base.reactor.now, 0))

    def _on_idle_time(self, fd: int, what: EventFlag, arg: object) -> None:
        if self._is_stopping:
            self._finish_clients()
            return
        limit_s = self._idle_limit_s()
        if limit_s is None:
            return
        now = self._base.reactor.now
        for client, since in list(self._clients.items()):
            if since + limit_s > now:
                break
            if client.waits_for_us:
                self.note_life(client)
            else:
                client.close()
        self._wait_for_idle()


class TcpClient:
    """One connection to a TCP port: several queries, answered in the order of the answers.

    `_pending` queries are with the program, or their replies of several messages in `_streams`.
    transport: "tcp", or "tls" for DNS over TLS (RFC 7858).  The connection ends when it is idle,
    when the peer has ended its side and has all its replies, or on the first fault.
    """

    __slots__ = (
        "_address",
        "_bev",
        "_ended",
        "_paused",
        "_pending",
        "_port",
        "_resuming",
        "_streams",
        "announced_bytes",
        "host",
        "transport",
    )

    def __init__(
        self,
        port: TcpServerPort,
        base: EventBase,
        sock: socket.socket,
        address: Any,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._port = port
        self._address = address
        self.host: str = address[0]
        self._pending = 0
        self._paused = False  # too many are pending, and reading stands still
        self._resuming = False  # a posted call will look at what is buffered
        self._ended = False  # the peer sends nothing more
        self._streams: deque[Iterator[bytes]] = deque()
        self.announced_bytes = port.options.udp_reply_bytes
        self.transport = "tcp" if tls is None else "tls"
        self._bev: AbstractBufferEvent | None
        if tls is None:
            self._bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        else:
            self._bev = TlsBufferEvent.socket_new(
                base,
                sock,
                tls,
                BUFFEREVENT_SSL_ACCEPTING,
                BEV_OPT_CLOSE_ON_FREE,
                handshake_timeout_s=port.options.tls_handshake_s,
            )
            self._bev.allow_dirty_shutdown = True  # the length says whether a message is whole
        self._bev.setcb(self._on_readable, self._on_written, self._on_event)
        self._bev.setwatermark(EV_READ, 0, LENGTH_BYTES + MAX_MESSAGE_BYTES)
        self._bev.enable(EV_READ)

    @property
    def waits_for_us(self) -> bool:
        """Whether the program has not answered a query yet."""
        return self._pending > len(self._streams)

    def close(self) -> None:
        """Disconnect.  Safe to repeat; later replies are forgotten."""
        if self._bev is not None:
            if self.transport == "tls":
                self._bev.finish(TLS_FINISH_S)  # a client trusts no end but a close_notify
            else:
                self._bev.close()
            self._bev = None
            self._streams.clear()
            self._port.forget_client(self)

    def finish(self) -> None:
        """Read no more, and disconnect when what was asked is answered."""
        if self._bev is not None:
            self._ended = True
            self._bev.disable(EV_READ)
            self._close_if_finished()

    @property
    def is_stream(self) -> bool:
        """Return True: a reply may have any length."""
        return True

    def limit_for(self, payload: int) -> int:
        """Return how long a reply may be: whatever the length prefix can say."""
        return MAX_MESSAGE_BYTES

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Queue a reply; a client that lets too many unread bytes pile up is disconnected."""
        self._pending -= 1
        if self._bev is None:
            return
        self._bev.write(add_length(packet))
        self._port.note_life(self)
        if len(self._bev.output) > self._port.options.tcp_output_bytes:
            log.warning("TCP client %s does not read its replies", self._address)
            self.close()
        self._read_on_if_paused()

    def send_messages(self, messages: Iterator[bytes], address: Any) -> None:
        """Send a reply of several messages, each made when little of the others is unsent."""
        if self._bev is None:
            self._pending -= 1
            return
        self._streams.append(messages)
        self._send_on()

    def _send_on(self) -> None:
        limit = self._port.options.tcp_stream_bytes
        while self._bev is not None and self._streams and len(self._bev.output) < limit:
            try:
                message = next(self._streams[0], None)
            except Exception as exc:
                self._stream_failed(exc)
                return
            if message is None:
                self._streams.popleft()
                self._pending -= 1
                self._read_on_if_paused()
            elif self._bev is not None:
                self._bev.write(add_length(message))
                self._port.note_life(self)

    def _stream_failed(self, exc: Exception) -> None:
        """Break off: what has been sent is not all, and the client must see that."""
        log.error("a reply of several messages raised", exc_info=exc)
        base = self._port.base
        self.close()
        if base.exception_handler is not None:
            base.exception_handler(exc)

    def forget_request(self) -> None:
        """A query gets no reply."""
        self._pending -= 1
        self._read_on_if_paused()
        self._close_if_finished()

    def _on_readable(self, bev: AbstractBufferEvent, ctx: object) -> None:
        while self._bev is not None and self._pending < self._port.options.tcp_pending:
            packet = take_message(bev.input)
            if packet is None:
                return
            if not packet:
                self._end_reading(self._bev)
                return
            self._port.note_life(self)
            self._pending += 1
            self._port.handle_query(self, packet, self._address)
        self._pause()

    def _end_reading(self, bev: AbstractBufferEvent) -> None:
        """Take nothing more from a client at fault; what it has asked before is answered."""
        self._ended = True
        bev.disable(EV_READ)
        bev.input.drain(len(bev.input))
        self._close_if_finished()

    def _pause(self) -> None:
        if self._bev is not None:
            self._paused = True
            self._bev.disable(EV_READ)

    def _read_on_if_paused(self) -> None:
        if self._paused and self._bev is not None:
            self._paused = False
            if not self._ended:
                self._bev.enable(EV_READ)
            self._resuming = True
            self._bev.base.post(self._read_buffered)

    def _read_buffered(self) -> None:
        self._resuming = False
        if self._bev is not None:
            self._on_readable(self._bev, None)
        self._close_if_finished()

    def _on_event(self, bev: AbstractBufferEvent, what: BevEvent, ctx: object) -> None:
        if what & BEV_EVENT_CONNECTED:  # TLS is there
            return
        if what & BEV_EVENT_EOF:
            self._ended = True
            self._close_if_finished()
        else:
            self.close()

    def _on_written(self, bev: AbstractBufferEvent, ctx: object) -> None:
        if self._streams:
            self._send_on()
        self._close_if_finished()

    def _close_if_finished(self) -> None:
        unread = self._paused or self._resuming
        if self._bev is None or not self._ended or self._pending or unread:
            return
        if not self._bev.output:  # else we are called again when it is sent
            self.close()
