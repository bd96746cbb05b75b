"""TlsBufferEvent: TLS directly over a socket, or over any other bufferevent.

Both are the same inside: over a socket, the bufferevent below is one of our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import WRITE, BevOption, SslFlag, SslState
from ..reactor.base import EventBase
from ..tls import EngineMaker, TlsEngine, check_host
from .abstract import AbstractBufferEvent
from .sock import BufferEvent
from .tls_steps import TlsSteps
from .tls_wire import Phase, TlsWire

if TYPE_CHECKING:
    # The class has properties `ssl` and `socket`, so that these modules would not be found in it.
    from collections.abc import Callable
    from socket import socket as Socket
    from ssl import SSLContext, SSLError, SSLObject, SSLSession

    from ..reactor.event import Event
    from ..resolver import Resolver, SocketAddress
    from .abstract import StreamCallback
    from .connect import ConnectOptions

HANDSHAKE_TIMEOUT_S = 10.0
"""How long a handshake may take, from when there is a connection."""

_FLAGS = int(SslFlag.BUFFEREVENT_SSL_DIRTY_SHUTDOWN | SslFlag.BUFFEREVENT_SSL_BATCH_WRITE)
_DIRTY_SHUTDOWN = int(SslFlag.BUFFEREVENT_SSL_DIRTY_SHUTDOWN)
_FOR_THE_WIRE = int(BevOption.BEV_OPT_CLOSE_ON_FREE | BevOption.BEV_OPT_THREADSAFE)


class TlsBufferEvent(TlsSteps):
    """A bufferevent whose bytes travel encrypted; `socket_new` and `filter_new` make them.

    context: an ssl.SSLContext (`evsvc.core.tls` has sane ones), or for BUFFEREVENT_SSL_OPEN a
    TlsEngine whose handshake is done.  state: BUFFEREVENT_SSL_CONNECTING for a client, _ACCEPTING
    for a server.  server_hostname: whom the client means to talk to: it is sent (SNI), and checked
    if the context says so.  Without it, that is the host that the client is told to connect to.
    session: of a connection before, to be resumed.  handshake_timeout_s: None is for ever.

    The handshake begins when there is a connection, whatever is enabled.  At its end the event
    callback gets BEV_EVENT_CONNECTED; or BEV_EVENT_READING | BEV_EVENT_ERROR, with the reason in
    `error`; or BEV_EVENT_TIMEOUT alone, when its time is over, and is given up.  Output that was
    written before is sent then.

    The peer's close_notify is BEV_EVENT_READING | BEV_EVENT_EOF.  An end without it is an error,
    or with `allow_dirty_shutdown` an EOF, too; over a socket BEV_EVENT_READING goes with it.
    `close` sends no close_notify: see `shutdown`.

    Time-outs during the handshake are BEV_EVENT_TIMEOUT alone.  Over a socket a time-out does not
    disable its direction, and comes again after as long.
    """

    __slots__ = ("_maker",)

    def __init__(
        self,
        base: EventBase,
        lay_wire: Callable[[], AbstractBufferEvent],
        maker: EngineMaker,
        engine: TlsEngine | None,
        options: int,
        *,
        owns_wire: bool,
        handshake_timeout_s: float | None,
    ) -> None:
        if not isinstance(base, EventBase):
            raise ArgumentTypeError(f"an EventBase is wanted, not {base!r}")
        _check_handshake_timeout(handshake_timeout_s)
        self._maker = maker
        super().__init__(base, lay_wire, owns_wire, options, maker.state, handshake_timeout_s)
        self._engine = engine
        self._tap()

    @classmethod
    def socket_new(
        cls,
        base: EventBase,
        fd: Socket | int | None,
        context: SSLContext | TlsEngine,
        state: int,
        options: int = 0,
        *,
        server_hostname: str | None = None,
        session: SSLSession | None = None,
        handshake_timeout_s: float | None = HANDSHAKE_TIMEOUT_S,
    ) -> Self:
        """Return one directly over a socket; `fd` None is to `connect` later.

        With BEV_OPT_CLOSE_ON_FREE `close` closes the socket.  When this raises, the socket stays
        as it was: ArgumentError for a state or context that does not fit, and without
        `server_hostname` where the context checks it and `fd` is given; ArgumentTypeError for what
        is no base, context, name or number; else as BufferEvent.
        Source: bufferevent_openssl_socket_new.
        """
        maker = EngineMaker(context, state, server_hostname, session)
        return cls(
            base,
            lambda: BufferEvent(base, fd, int(options) & _FOR_THE_WIRE),
            maker,
            _engine_over(fd, maker),
            options,
            owns_wire=True,
            handshake_timeout_s=handshake_timeout_s,
        )

    @classmethod
    def filter_new(
        cls,
        underlying: AbstractBufferEvent,
        context: SSLContext | TlsEngine,
        state: int,
        options: int = 0,
        *,
        server_hostname: str | None = None,
        session: SSLSession | None = None,
        handshake_timeout_s: float | None = HANDSHAKE_TIMEOUT_S,
    ) -> Self:
        """Return one over another bufferevent, whose callbacks it takes over and which it enables.

        The watermarks of reading of that one are removed; its high watermark of writing holds
        encrypting back.  BEV_OPT_CLOSE_ON_FREE closes it with this one; else it is usable
        afterwards, without callbacks.  Raises as `socket_new`, and StateError when `underlying` is
        closed or carries TLS already.  Source: bufferevent_openssl_filter_new.
        """
        if not isinstance(underlying, AbstractBufferEvent):
            raise ArgumentTypeError(f"a bufferevent is wanted, not {underlying!r}")
        if underlying.closed:
            raise StateError("the bufferevent below is closed")
        if _carries_tls(underlying):
            raise StateError("the bufferevent below carries TLS already")
        maker = EngineMaker(context, state, server_hostname, session)
        return cls(
            underlying.base,
            lambda: underlying,
            maker,
            maker.make(),
            options,
            owns_wire=False,
            handshake_timeout_s=handshake_timeout_s,
        )

    @property
    def ssl(self) -> SSLObject | None:
        """The SSLObject: peer certificate, cipher, version, ALPN (bufferevent_openssl_get_ssl).

        Read it only.  None after `close`, and while a client lacks a host name to check.
        """
        return None if self._engine is None else self._engine.ssl

    @property
    def session(self) -> SSLSession | None:
        """The session, for another connection to resume.

        With TLS 1.3 it comes from the server after the handshake: read it late.
        """
        return None if self._engine is None else self._engine.ssl.session

    @property
    def state(self) -> SslState:
        """BUFFEREVENT_SSL_OPEN when the handshake is done, else what it began with."""
        return SslState.BUFFEREVENT_SSL_OPEN if self._phase is Phase.OPEN else self._state

    @property
    def ssl_flags(self) -> SslFlag:
        """BUFFEREVENT_SSL_DIRTY_SHUTDOWN, and BUFFEREVENT_SSL_BATCH_WRITE: fewer, bigger records.

        Setting raises ArgumentError for other flags.  Source: bufferevent_ssl_get_flags,
        bufferevent_ssl_set_flags, bufferevent_ssl_clear_flags.
        """
        return SslFlag(self._ssl_flags)

    @ssl_flags.setter
    def ssl_flags(self, flags: int) -> None:
        if int(flags) & ~_FLAGS:
            raise ArgumentError(f"unknown flags of a TLS bufferevent: {int(flags):#x}")
        self._ssl_flags = int(flags)

    @property
    def allow_dirty_shutdown(self) -> bool:
        """Whether an end without close_notify is an EOF; else, as at first, it is an error.

        Only for protocols that say themselves where their data end: anyone on the way can cut the
        connection.  Source: bufferevent_openssl_get_allow_dirty_shutdown and its setter.
        """
        return bool(self._ssl_flags & _DIRTY_SHUTDOWN)

    @allow_dirty_shutdown.setter
    def allow_dirty_shutdown(self, allowed: bool) -> None:
        if allowed:
            self._ssl_flags |= _DIRTY_SHUTDOWN
        else:
            self._ssl_flags &= ~_DIRTY_SHUTDOWN

    def get_openssl_error(self) -> SSLError | None:
        """Take out the newest of the last three errors of the engine, None when there is none.

        Source: bufferevent_get_openssl_error.
        """
        return self._engine_errors.pop() if self._engine_errors else None

    def shutdown(self) -> None:
        """Send a close_notify after all output; then nothing more can be written.

        What the peer sends still comes.  The last write callback comes when all of it is on its
        way: then `close` is clean.  Safe to repeat.  Raises StateError when closed.
        Source: SSL_shutdown; RFC 8446 section 6.1.
        """
        self.shutdown_write()

    def _end_output(self) -> bool:
        self._closing = True
        self._schedule()
        return True

    def set_datacb(self, datacb: StreamCallback | None) -> None:
        """Give what is received to `datacb(bev, data, ctx)`; see BufferEvent.set_datacb.

        Raises StateError when closed.
        """
        self._require_open()
        self._datacb = datacb

    @property
    def underlying(self) -> AbstractBufferEvent | None:
        """The bufferevent that `filter_new` was given (bufferevent_get_underlying)."""
        return None if self._owns_wire else self._wire

    @property
    def fd(self) -> int:
        """The descriptor below, or -1 (bufferevent_getfd)."""
        return self._wire.fd

    @property
    def socket(self) -> Socket | None:
        """The socket below, or None when there is none or the descriptor is no socket."""
        return self._wire.socket if isinstance(self._wire, BufferEvent) else None

    @property
    def dns_error(self) -> int:
        """The code of the last look-up that failed, else 0 (bufferevent_socket_get_dns_error)."""
        return self._wire.dns_error if isinstance(self._wire, BufferEvent) else 0

    def setfd(self, fd: Socket | int | None) -> None:
        """Begin anew over another descriptor; the old one stays open (bufferevent_setfd).

        Everything is as at first: also the state, the time for the handshake, and output that was
        not wholly sent is sent again.  Raises as BufferEvent.setfd, and as `socket_new`.
        """
        self._require_open()
        engine = _engine_over(fd, self._maker)
        self._wire.setfd(fd)
        self._start_over(engine)

    def replacefd(self, fd: Socket | int | None) -> None:
        """Do as `setfd`, and close the old descriptor (bufferevent_replacefd)."""
        self._require_open()
        engine = _engine_over(fd, self._maker)
        self._wire.replacefd(fd)
        self._start_over(engine)

    def connect(self, address: SocketAddress | None = None) -> None:
        """Connect, then shake hands; see BufferEvent.connect.

        An IP address is what the certificate has to be for, without another `server_hostname`.
        Raises StateError over another bufferevent: connect that one.
        """
        wire = self._wire_to_connect()
        host = address[0] if isinstance(address, tuple) and address else None
        check_host(host)
        engine = self._maker.make(host)
        wire.connect(address)
        self._start_over(engine)

    def connect_hostname(
        self,
        resolver: Resolver | None,
        family: int,
        host: str,
        port: int,
        options: ConnectOptions | None = None,
    ) -> None:
        """Look `host` up, connect, then shake hands; see BufferEvent.connect_hostname.

        The host is what the certificate has to be for, without another `server_hostname`.
        Raises StateError over another bufferevent.
        """
        wire = self._wire_to_connect()
        check_host(host)
        engine = self._maker.make(host)
        wire.connect_hostname(resolver, family, host, port, options)
        self._start_over(engine)

    def _wire_to_connect(self) -> BufferEvent:
        self._require_open()
        if not self._owns_wire or not isinstance(self._wire, BufferEvent):
            raise StateError("connect the bufferevent below: this one has no socket of its own")
        self._wire._priority = self._priority
        return self._wire

    def _start_over(self, engine: TlsEngine | None) -> None:
        """Have a new connection: what is left of the one before is no use to it."""
        self._wire.input.drop(self._wire.input.length)
        self._wire.output.drop(self._wire.output.length)
        self._begin_anew()
        if self._phase is Phase.DEAD:  # which has disabled it; a fresh one can write
            self.flow.set_enabled(self.flow.enabled | WRITE)
        self._reset(engine)
        self._update(WRITE)
        self._tap()

    def _io_events(self) -> list[Event]:
        timer = self._handshake_timer
        events = [self._turn] if timer is None else [self._turn, timer]
        return events + self._wire._io_events() if self._owns_wire else events


def _check_handshake_timeout(limit_s: object) -> None:
    if limit_s is None:
        return
    if not isinstance(limit_s, (int, float)):
        raise ArgumentTypeError(f"the time of a handshake is a number of seconds, not {limit_s!r}")
    if not limit_s > 0:
        raise ArgumentError(f"a handshake takes more than 0 s: {limit_s!r}")


def _carries_tls(wire: AbstractBufferEvent) -> bool:
    """Whether a filter of TLS stands on it, also one whose callbacks the program has replaced."""
    return isinstance(getattr(wire.output.on_drain, "__self__", None), TlsWire)


def _engine_over(fd: Socket | int | None, maker: EngineMaker) -> TlsEngine | None:
    """Return an engine, or None where there is time to tell the host name with a `connect`."""
    is_later = fd is None or fd == -1
    return None if is_later and maker.lacks_name else maker.make()
