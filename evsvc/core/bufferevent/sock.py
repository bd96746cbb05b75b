"""BufferEvent: a bufferevent over a socket, and how it gets connected."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ..descriptors import stream_of
from ..errors import ArgumentError, StateError
from ..flags import READ, WRITE, BevEvent
from ..util import endpoint_of
from .connect import (
    Attempt,
    ConnectOptions,
    HostnameConnect,
    connect_options,
    has_no_peer,
    host_of,
    new_socket,
)
from .flow import SUSPENDED_LOOKUP
from .stream import StreamBufferEvent

if TYPE_CHECKING:
    from ..descriptors import DescriptorStream
    from ..reactor.base import EventBase
    from ..resolver import Resolver, SocketAddress
    from ..util import Endpoint


class BufferEvent(StreamBufferEvent):
    """A buffered stream over a socket, or over any descriptor that can be polled.

    fd: a socket, a descriptor number, or None to `connect` later.  It is made non-blocking, and
    closed by `close` with BEV_OPT_CLOSE_ON_FREE.  `dns_error` is the code of the last look-up that
    failed, else 0.  Source: bufferevent_socket_new, bufferevent_socket_get_dns_error.
    """

    __slots__ = ("_asks_to_write", "_connecting", "dns_error")

    def __init__(
        self, base: EventBase, fd: socket.socket | int | None = None, options: int = 0
    ) -> None:
        self._connecting: HostnameConnect | Attempt | None = None
        self._asks_to_write = False  # EV_WRITE was enabled before there was a connection
        self.dns_error = 0
        super().__init__(base, fd, options)

    def connect(
        self, address: SocketAddress | None = None, options: ConnectOptions | None = None
    ) -> None:
        """Connect to `(host, port)` with a numeric host, or to a Unix socket's path.

        The event callback gets BEV_EVENT_CONNECTED or BEV_EVENT_ERROR from the loop, never
        before the return.  Output written meanwhile is sent then.  A socket that the bufferevent
        was made with, unconnected, is the one that connects; it may be bound.  Without an address,
        the socket that it has is one that the program has begun to connect.

        options: `attempt_s` and `nodelay` count; without, the kernel tries for as long as it does,
        and small writes are sent at once (TCP_NODELAY).  A Unix listener whose queue is full is
        tried again for 30 s.  The write time-out counts from the call on, too.

        A socket of the program's stays with the bufferevent when it does not get connected.
        Raises what `util.endpoint_of` raises for a bad address, StateError when connected already,
        SocketError when there is no socket to be had.  Source: bufferevent_socket_connect.
        """
        timeout_s = None if options is None else connect_options(options).attempt_s
        nodelay = options is None or options.nodelay
        if address is None:
            self._await_connect(timeout_s)
            return
        self._require_unconnected()
        endpoint = endpoint_of(address)
        if self._stream is None:
            self._adopt(new_socket(endpoint.family))
        elif self.socket is None or self.socket.family != endpoint.family:
            raise ArgumentError(f"the descriptor cannot connect to {address!r}")
        self._begin_attempt(endpoint, timeout_s, nodelay)

    def connect_hostname(
        self,
        resolver: Resolver | None,
        family: int,
        host: str,
        port: int,
        options: ConnectOptions | None = None,
    ) -> None:
        """Look `host` up without blocking, and race its addresses (RFC 8305).

        family: AF_UNSPEC, AF_INET or AF_INET6.  A numeric host needs no resolver.  Families take
        turns, each address joins those under way after a while, the first to connect wins and
        the others are closed; `options` has the times.  A socket that the bufferevent was made
        with tries them one after the other.

        The outcome comes to the event callback as with `connect`; after a failed look-up
        `dns_error` holds its code, and after a failed race `error.__cause__` is an ExceptionGroup
        of the errors of all addresses.  Raises ArgumentError for a bad family or port, or for a
        name without resolver, ArgumentTypeError for what is of a wrong type, StateError when
        connected already, and what the resolver raises.
        Source: bufferevent_socket_connect_hostname.
        """
        self._require_unconnected()
        connecting = HostnameConnect(
            self._new_event,
            self._guarded,
            host_of(family, host, port),
            connect_options(options),
            self._looked_up,
            self._connect_ended,
            self.socket,
        )
        self.dns_error = 0
        self._open = False
        self._connecting = connecting
        self._read_suspended |= SUSPENDED_LOOKUP
        self._write_suspended |= SUSPENDED_LOOKUP
        self._settle(READ | WRITE)
        try:
            connecting.start(resolver)
        except BaseException:
            self._give_up_connect()
            raise

    def _await_connect(self, timeout_s: float | None) -> None:
        self._require_open()
        if self.socket is None:
            raise ArgumentError("without a socket, connect wants an address")
        if self._connecting is not None:
            raise StateError(f"the bufferevent is {self._connecting.state} already")
        self._begin_attempt(None, timeout_s, nodelay=False)

    def _begin_attempt(
        self, endpoint: Endpoint | None, timeout_s: float | None, nodelay: bool
    ) -> None:
        """Connect our own socket; whatever comes of it, the loop reports it."""
        assert isinstance(self._stream, socket.socket)
        try:
            attempt = Attempt(
                self._new_event,
                self._stream,
                endpoint,
                self._on_attempt,
                timeout_s,
                nodelay=nodelay,
            )
        except BaseException:
            if self._made_by_connect:
                self._detach(True)
            raise
        self._open = False
        self._connecting = attempt
        self._settle(READ | WRITE)

    def _adopt(self, sock: socket.socket) -> None:
        """Use a socket that connecting has made."""
        try:
            self._attach(stream_of(sock))
        except BaseException:
            sock.close()
            raise
        self._owns_stream = self._made_by_connect = True

    def _on_attempt(self, attempt: Attempt, error: OSError | None) -> None:
        self._connect_ended(attempt.sock if error is None else None, error)

    def _looked_up(self) -> None:
        """The look-up is over, and addresses are tried."""
        self._end_lookup()
        self._settle(READ | WRITE)

    def _connect_ended(
        self,
        sock: socket.socket | None,
        error: OSError | None,
        dns_error: int = 0,
        defer: bool = False,
    ) -> None:
        """There is a connection, or none is to be had: tell the program."""
        self._connecting = None
        if sock is None:
            self.dns_error = dns_error
            self.error = error
            self._give_up_connect()
            self._run_eventcb(BevEvent.BEV_EVENT_ERROR, defer)
            return
        if sock is not self._stream:
            self._adopt(sock)
        self._asks_to_write = False
        self._open = True
        self._settle(READ | WRITE)
        self._run_eventcb(BevEvent.BEV_EVENT_CONNECTED)

    def _give_up_connect(self) -> None:
        """Be as before the connect, with no time-out running; the program may start another."""
        if self._made_by_connect:
            self._detach(True)
        else:
            self._end_connect()
        self._settle(READ | WRITE)
        for timer in self._timers():
            timer.run(0.0, False)

    def _detach(
        self, close_stream: bool, keep: socket.socket | DescriptorStream | None = None
    ) -> None:
        self._end_connect()
        super()._detach(close_stream, keep)

    def _end_connect(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._asks_to_write = False
        self._end_lookup()

    def _end_lookup(self) -> None:
        self._read_suspended &= ~SUSPENDED_LOOKUP
        self._write_suspended &= ~SUSPENDED_LOOKUP

    def _asked_to_write(self) -> None:
        if self._open:
            super()._asked_to_write()
        else:
            self._asks_to_write = True

    def _waits_to_write(self) -> bool:
        return super()._waits_to_write() or self._connecting is not None or self._asks_to_write

    def _move_to(self, base: EventBase) -> None:
        if self._connecting is not None:
            raise StateError(f"the bufferevent is {self._connecting.state}")
        super()._move_to(base)

    def _require_unconnected(self) -> None:
        self._require_open()
        if self._connecting is not None:
            raise StateError(f"the bufferevent is {self._connecting.state} already")
        if self._open and not has_no_peer(self._stream):
            raise StateError("the bufferevent is open already")
