"""How a client gets its connection: by name, by address, to a Unix socket, through a proxy, in TLS.

A `Dialer` makes one connection at a time, and tells once what came of it.  It knows nothing of
requests: what it hands over is a bufferevent that carries bytes to the server, whatever is below.

    resolve and connect      by the bufferevent itself (core: Happy Eyeballs, TLS over a socket)
    ask a proxy              where there is one: CONNECT, in clear or in TLS of its own
    shake hands              with the server, inside the tunnel; without one TLS is over the socket

A bufferevent of the program's is the only one that is used: after a connection it gives up its
descriptor and connects anew.  One that the program has connected cannot.  A function of the
program's that makes them is asked for a new one each time.
"""

from __future__ import annotations

import enum
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeGuard

from ...core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_TIMEOUT,
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_CONNECTING,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    AbstractBufferEvent,
    ArgumentError,
    ArgumentTypeError,
    BufferEvent,
    Error,
    TlsBufferEvent,
)
from ...core.tls import client_context
from ...core.util import check_port, ip_version
from ..errors import ConnectFailed, HttpError, ResolveFailed, TlsFailed
from ..wire.grammar import is_uri_host
from ..wire.headers import Headers
from ..wire.response_reader import ResponseReader

if TYPE_CHECKING:
    from ...core import EventBase
    from ...core.resolver import Resolver, SocketAddress
    from ..options import ClientOptions

ALPN = "http/1.1"
"""What is spoken here, as TLS names it (RFC 7301)."""

HTTP_PORT, HTTPS_PORT = 80, 443

Connected = Callable[[AbstractBufferEvent], object]
Failed = Callable[[type[HttpError], str], object]
MakeCarrier = Callable[[], AbstractBufferEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectProxy:
    """An HTTP proxy that is asked with CONNECT for a way to the server (RFC 9110 9.3.6).

    address, port:   where the proxy is; a name is looked up by the connection's resolver.
    tls:             True, or a context, where the proxy itself is spoken to in TLS.
    headers:         fields of the CONNECT request, such as Proxy-Authorization.

    Raises ArgumentError for what is no host, port or field, ArgumentTypeError for another `tls`.
    """

    address: str
    port: int
    tls: bool | ssl.SSLContext = False
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_host(self.address)
        check_port(self.port, lowest=1)
        if not isinstance(self.tls, (bool, ssl.SSLContext)):
            raise ArgumentTypeError(f"tls is True, False or an ssl.SSLContext, not {self.tls!r}")
        Headers(self.headers)


class ConnectTimes(NamedTuple):
    """When a connection was made, on the monotonic clock of the base.

    began_at:     the look-up, or with an address the connecting, began.
    connected_at: the server, or the proxy, had taken it.
    ready_at:     TLS, and what a proxy is asked, were done: requests can go.
    """

    began_at: float
    connected_at: float
    ready_at: float


class Stage(enum.Enum):
    """What a dialer is at."""

    RESTING = enum.auto()
    CONNECTING = enum.auto()  # to the server or the proxy, and its TLS
    ASKING = enum.auto()  # the proxy for a tunnel
    SHAKING = enum.auto()  # hands with the server, inside the tunnel


class Dialer:
    """Connects, and hands over what carries the bytes: `connected(bev)`, or `failed(kind, text)`.

    Each comes once for each `start`, never before it returns.  carrier: what is being connected,
    None at rest.  family: AF_UNSPEC or what alone is looked up.  local_address, local_port: where
    connections come from, "" and 0 for what the system chooses.  peer: the socket address of the
    last connection, else None; reuses_peer: connect there again, without looking the name up.
    connects: False where the program connects its bufferevents itself.  times: of the last
    connection, else None.
    """

    __slots__ = (
        "_address",
        "_base",
        "_began_at",
        "_connected",
        "_connected_at",
        "_failed",
        "_lent",
        "_make",
        "_options",
        "_port",
        "_proxy",
        "_proxy_tls",
        "_reader",
        "_resolver",
        "_server_hostname",
        "_stage",
        "_unix_path",
        "carrier",
        "connects",
        "family",
        "local_address",
        "local_port",
        "peer",
        "reuses_peer",
        "times",
        "tls",
    )

    def __init__(
        self,
        base: EventBase,
        resolver: Resolver | None,
        address: str,
        port: int,
        connected: Connected,
        failed: Failed,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        proxy: ConnectProxy | None = None,
        unix_path: SocketAddress | None = None,
        lent: AbstractBufferEvent | None = None,
        make: MakeCarrier | None = None,
    ) -> None:
        """Be at rest.

        lent: the program's bufferevent, to be used instead of one of our own.  make: makes what is
        used instead, connected or connecting.
        """
        self._base = base
        self._resolver = resolver
        self._address = address
        self._port = port
        self._connected = connected
        self._failed = failed
        self.tls = tls
        self._server_hostname = server_hostname
        self._proxy = proxy
        self._proxy_tls = None if proxy is None else tls_context(proxy.tls)
        self._unix_path = unix_path
        self._lent = lent
        self._make = make
        self._reader: ResponseReader | None = None
        self._options: ClientOptions | None = None
        self._stage = Stage.RESTING
        self.carrier: AbstractBufferEvent | None = None
        self.family = int(socket.AF_UNSPEC)
        self.local_address = ""
        self.local_port = 0
        self.peer: SocketAddress | None = None
        self.reuses_peer = False
        self.connects = make is None
        self._began_at = self._connected_at = 0.0
        self.times: ConnectTimes | None = None

    def start(self, options: ClientOptions) -> None:
        """Begin to connect."""
        self._options = options
        self._stage = Stage.CONNECTING
        self._began_at = self._base.gettime_monotonic()
        kind: type[HttpError] = ConnectFailed
        try:
            bev = self.carrier = self._lent or self._new_carrier()
            bev.setcb(None, None, self._on_event)
            if (bev is self._lent or not self.connects) and _is_connected(bev):
                self._base.once(-1, EV_TIMEOUT, self._on_ready, bev)
            elif self._can_connect(bev):
                if self._unix_path is None:
                    kind = ResolveFailed  # such as a resolver that is closed
                self._connect(bev)
        except (Error, OSError) as exc:
            # Who waits hears of it from the loop.
            self._base.once(-1, EV_TIMEOUT, self._on_refusal, (self.carrier, kind, str(exc)))

    def cancel(self) -> None:
        """Give up what is under way, without a word."""
        if self._stage is not Stage.RESTING:
            bev, self.carrier = self.carrier, None
            self._rest()
            if bev is not None:
                self.release(bev)

    def release(self, bev: AbstractBufferEvent) -> None:
        """End a connection that was handed over."""
        if bev is not self._lent or bev.closed:
            bev.close()
            return
        bev.setcb(None, None, None)
        if self._can_connect(bev):
            bev.set_datacb(None)
            bev.set_timeouts(None, None)
            bev.input.drain(len(bev.input))
            bev.output.unfreeze(at_front=True)
            bev.output.drain(len(bev.output))
            bev.output.freeze(at_front=True)
            bev.replacefd(None)
        else:
            bev.close()

    def _can_connect(self, bev: AbstractBufferEvent) -> TypeGuard[BufferEvent | TlsBufferEvent]:
        """Whether we connect it: it has a socket of its own, and the program does not do it."""
        is_kind = isinstance(bev, (BufferEvent, TlsBufferEvent))
        return self.connects and is_kind and bev.underlying is None

    def forget(self, bev: AbstractBufferEvent) -> None:
        """Have nothing more to do with a bufferevent that another one owns now."""
        if bev is self._lent:
            self._lent = None

    def close(self) -> None:
        """Give up for good; the program's bufferevent is closed with us."""
        self.cancel()
        lent, self._lent = self._lent, None
        if lent is not None:
            lent.close()
        self._connected = self._failed = _nobody

    def _rest(self) -> None:
        self._stage = Stage.RESTING
        self._reader = None

    def _new_carrier(self) -> AbstractBufferEvent:
        assert self._options is not None
        if self._make is not None:
            made = self._make()
            require_bufferevent(made)
            return made
        sock = self._bound_socket()
        context = self.tls if self._proxy is None else self._proxy_tls
        try:
            if context is None:
                return BufferEvent(self._base, sock, BEV_OPT_CLOSE_ON_FREE)
            return TlsBufferEvent.socket_new(
                self._base,
                sock,
                context,
                BUFFEREVENT_SSL_CONNECTING,
                BEV_OPT_CLOSE_ON_FREE,
                server_hostname=self._hostname() if self._proxy is None else self._proxy.address,
                handshake_timeout_s=self._options.tls_s,
            )
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    def _hostname(self) -> str:
        return self._server_hostname or self._address

    def _bound_socket(self) -> socket.socket | None:
        """Return a socket that is bound to where connections are to come from, or None."""
        if not (self.local_address or self.local_port) or self._unix_path is not None:
            return None
        if self.local_address:
            family = socket.AF_INET6 if ip_version(self.local_address) == 6 else socket.AF_INET
        else:
            family = socket.AF_INET6 if self.family == socket.AF_INET6 else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # A port of our own again, while connections from it are in TIME_WAIT.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind((self.local_address, self.local_port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _connect(self, bev: BufferEvent | TlsBufferEvent) -> None:
        assert self._options is not None
        if self._unix_path is not None:
            bev.connect(self._unix_path, self._options.addresses)
            return
        address, port = self._address, self._port
        if self._proxy is not None:
            address, port = self._proxy.address, self._proxy.port
        if self.reuses_peer and self.peer is not None:
            bev.connect(self.peer, self._options.addresses)
            return
        family = self.family
        if bev.socket is not None:
            family = bev.socket.family
        bev.connect_hostname(self._resolver, family, address, port, self._options.addresses)

    def _on_ready(self, fd: int, what: int, bev: AbstractBufferEvent) -> None:
        if self.carrier is bev and self._stage is Stage.CONNECTING:
            self._go_on(bev)

    def _on_refusal(
        self, fd: int, what: int, arg: tuple[AbstractBufferEvent | None, type[HttpError], str]
    ) -> None:
        bev, kind, text = arg
        if self.carrier is bev and self._stage is Stage.CONNECTING:
            self._fail(kind, text)

    def _on_event(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        if bev is not self.carrier:
            return
        if what & BEV_EVENT_CONNECTED:
            self._go_on(bev)
            return
        kind: type[HttpError] = ConnectFailed
        text = str(bev.error)
        if self._stage is Stage.ASKING:
            text = "the proxy has closed the connection"
        elif isinstance(bev, (BufferEvent, TlsBufferEvent)) and bev.dns_error:
            kind = ResolveFailed
        elif what & BEV_EVENT_TIMEOUT:
            kind, text = TlsFailed, "no TLS handshake in time"
        elif isinstance(bev.error, ssl.SSLError):
            kind = TlsFailed
        self._fail(kind, text)

    def _go_on(self, bev: AbstractBufferEvent) -> None:
        """One stage is done: begin the next one, or hand the connection over."""
        if self._stage is Stage.CONNECTING:
            self._note_peer(bev)
            moment = bev.handshake_began_at if isinstance(bev, TlsBufferEvent) else None
            self._connected_at = moment or self._base.gettime_monotonic()
            if self._proxy is not None:
                self._ask_proxy(bev)
                return
        if isinstance(bev, TlsBufferEvent) and bev.ssl is not None:
            spoken = bev.ssl.selected_alpn_protocol()
            if spoken is not None and spoken != ALPN:
                self._fail(TlsFailed, f"the server wants to speak {spoken!r}")
                return
        self.carrier = None
        self._rest()
        ready_at = self._base.gettime_monotonic()
        self.times = ConnectTimes(self._began_at, self._connected_at, ready_at)
        self._connected(bev)

    def _note_peer(self, bev: AbstractBufferEvent) -> None:
        sock = bev.socket if isinstance(bev, (BufferEvent, TlsBufferEvent)) else None
        if sock is not None:
            try:
                self.peer = sock.getpeername()
            except OSError:  # it has gone already
                self.peer = None

    def _ask_proxy(self, bev: AbstractBufferEvent) -> None:
        assert self._proxy is not None
        self._stage = Stage.ASKING
        self._reader = ResponseReader()
        self._reader.expect("CONNECT")
        host = f"[{self._address}]" if ":" in self._address else self._address
        head = f"CONNECT {host}:{self._port} HTTP/1.1\r\nHost: {host}:{self._port}\r\n"
        bev.setcb(self._on_answer, None, self._on_event)
        bev.write(b"%b%b\r\n" % (head.encode("ascii"), Headers(self._proxy.headers).to_block()))
        bev.enable(EV_READ)

    def _on_answer(self, bev: AbstractBufferEvent, ctx: object) -> None:
        """Read what the proxy answers."""
        reader = self._reader
        if reader is None or bev is not self.carrier:
            return
        reader.receive(bev.input.remove())
        try:
            head = reader.next_head()
            while head is not None and head.status < 200:
                head = reader.next_head()
        except HttpError as exc:
            self._fail(ConnectFailed, f"the proxy: {exc}")
            return
        if head is None:
            return
        if head.status >= 300:
            self._fail(ConnectFailed, f"the proxy refuses: {head.status} {head.reason}")
        elif not reader.exhausted:
            self._fail(ConnectFailed, "the server speaks before it is asked")
        elif self.tls is None:
            self._stage = Stage.SHAKING
            self._go_on(bev)
        else:
            self._shake_hands(bev, self.tls)

    def _shake_hands(self, bev: AbstractBufferEvent, context: ssl.SSLContext) -> None:
        assert self._options is not None
        self._stage = Stage.SHAKING
        inner = self.carrier = TlsBufferEvent.filter_new(
            bev,
            context,
            BUFFEREVENT_SSL_CONNECTING,
            BEV_OPT_CLOSE_ON_FREE,
            server_hostname=self._hostname(),
            handshake_timeout_s=self._options.tls_s,
        )
        inner.setcb(None, None, self._on_event)
        inner.enable(EV_WRITE)

    def _fail(self, kind: type[HttpError], text: str) -> None:
        self.cancel()
        self._failed(kind, text)


def check_host(host: str) -> None:
    """Raise ArgumentError for what is no host name or address."""
    if not isinstance(host, str):
        raise ArgumentTypeError(f"a host is text, not {host!r}")
    if ip_version(host) is None and (not host or not is_uri_host(host)):
        raise ArgumentError(f"not a host: {host!r}")


def check_way(
    resolver: Resolver | None,
    address: str,
    *,
    tls: bool | ssl.SSLContext,
    server_hostname: str | None,
    proxy: ConnectProxy | None,
    unix_path: SocketAddress | None,
    lent: AbstractBufferEvent | None,
    is_made: bool,
) -> None:
    """Judge what a program says of the way to its server; raises as `HttpConnection` does."""
    check_host(address)
    leads_there = unix_path is not None or lent is not None or is_made
    is_named = not leads_there and ip_version(address) is None
    if proxy is not None:
        if not isinstance(proxy, ConnectProxy):
            raise ArgumentTypeError(f"a proxy is a ConnectProxy: {proxy!r}")
        is_named = ip_version(proxy.address) is None
    if is_named and resolver is None:
        name = address if proxy is None else proxy.address
        raise ArgumentError(
            f"a resolver, such as evsvc.Resolver(base), is wanted to look up {name!r}"
        )
    if server_hostname is not None:
        if tls is False:
            raise ArgumentError(f"without TLS nobody checks a name: {server_hostname!r}")
        check_host(server_hostname)
    if lent is not None:
        require_bufferevent(lent)
        if tls is not False or proxy is not None:
            raise ArgumentError("a bufferevent of the program's has its TLS, and its way, itself")
    if proxy is not None and unix_path is not None:
        raise ArgumentError(f"no proxy leads to a Unix socket: {unix_path!r}")


def require_bufferevent(bufferevent: object) -> None:
    """Raise ArgumentTypeError for what is no bufferevent."""
    if not isinstance(bufferevent, AbstractBufferEvent):
        raise ArgumentTypeError(f"a bufferevent is wanted, not {bufferevent!r}")


def tls_context(tls: bool | ssl.SSLContext) -> ssl.SSLContext | None:
    """Return the context that a program's `tls` means, None for no TLS."""
    if tls is False:
        return None
    if tls is True:
        return client_context(alpn=[ALPN])
    if not isinstance(tls, ssl.SSLContext):
        raise ArgumentTypeError(f"tls is True, False or an ssl.SSLContext, not {tls!r}")
    return tls


def _is_connected(bev: AbstractBufferEvent) -> bool:
    """Whether the program has connected its bufferevent: one over a bound socket it has not."""
    sock = bev.socket if isinstance(bev, (BufferEvent, TlsBufferEvent)) else None
    if sock is None or not bev.carries_bytes:
        return bev.carries_bytes
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _nobody(*args: object) -> None:
    """Stand in for callbacks after the end."""
