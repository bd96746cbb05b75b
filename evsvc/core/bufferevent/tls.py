"""TlsBufferEvent: TLS directly over a socket, or over any other bufferevent.

Both are the same inside: over a socket, the bufferevent below is one of our own.  What TLS is, and
how the two directions of a connection live and end, is told in tls_engine.py; here its bytes are
moved, and what becomes of them is told.

How bytes move
    Everything is done in `_run`, which the loop calls: when there is news from below, and in a
    turn of our own after the program has written, enabled or taken something.  It goes through
    rounds until nothing is left to do.  So no callback runs inside a call of the program, and what
    a callback does is seen by the next round.

    Output stays in `output` until what is below has sent what it was encrypted to: an empty output
    means as much as it does for a socket, and the write callback comes when the bytes are on their
    way.  The close_notify goes when the output is empty, and the last write callback after it.

Invariants
    * Bytes that the program does not want yet wait where they are: in `_plain` (at most one
      record), in the engine's incoming end (at most one read from below), or with the peer.
    * At most one batch of output is encrypted and not yet sent.
    * What is below reads exactly while the engine wants its bytes.
    * An end of reading is told when all bytes before it are; a failure to write from below, when
      no more can come either.
    * A step that calls the program does so last, or looks at the phase again.
"""

from __future__ import annotations

import enum
import errno
import ssl
from collections import deque
from typing import TYPE_CHECKING, Self

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError, StateError
from ..flags import BOTH, READ, WRITE, BevEvent, BevOption, SslFlag, SslState
from ..reactor.base import EventBase
from ..thread import call_unlocked, holding_lock
from ..tls_engine import (
    HAS_DATA,
    RECORD_BYTES,
    WANTS_BYTES,
    EngineMaker,
    Reading,
    TlsEngine,
    Writing,
    check_host,
    moved,
)
from .abstract import FINISH_TIMEOUT_S, AbstractBufferEvent, options_of
from .below import Below
from .flow import SUSPENDED_BANDWIDTH, SUSPENDED_GROUP
from .sock import BufferEvent, is_readable
from .timeouts import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    # The class has properties `ssl` and `socket`, so that these modules would not be found in it.
    from socket import socket as Socket
    from ssl import SSLContext, SSLError, SSLObject, SSLSession

    from ..reactor.event import Event
    from ..resolver import Resolver, SocketAddress
    from .connect import ConnectOptions

HANDSHAKE_TIMEOUT_S = 10.0
"""How long a handshake may take, from when there is a connection."""

MAX_STORED_ERRORS = 3

# After so many rounds without a pause others get their turn first.
MAX_ROUNDS_PER_TURN = 32

READING, WRITING = int(BevEvent.BEV_EVENT_READING), int(BevEvent.BEV_EVENT_WRITING)
EOF, ERROR = int(BevEvent.BEV_EVENT_EOF), int(BevEvent.BEV_EVENT_ERROR)
TIMEOUT, CONNECTED = int(BevEvent.BEV_EVENT_TIMEOUT), int(BevEvent.BEV_EVENT_CONNECTED)
_DIRTY_SHUTDOWN = int(SslFlag.BUFFEREVENT_SSL_DIRTY_SHUTDOWN)
_BATCH_WRITE = int(SslFlag.BUFFEREVENT_SSL_BATCH_WRITE)
_BANDWIDTH = SUSPENDED_BANDWIDTH | SUSPENDED_GROUP
_FLAGS = _DIRTY_SHUTDOWN | _BATCH_WRITE
_FOR_THE_SOCKET = int(BevOption.BEV_OPT_CLOSE_ON_FREE | BevOption.BEV_OPT_THREADSAFE)


class Phase(enum.Enum):
    """How far the connection is."""

    WAITING = enum.auto()  # for what is below to be connected
    SHAKING = enum.auto()
    OPEN = enum.auto()
    DEAD = enum.auto()  # the engine has failed, or its time is over


class Step(enum.Enum):
    """What moves the connection on."""

    BEGIN = enum.auto()
    SHAKEN = enum.auto()
    FAIL = enum.auto()
    RESTART = enum.auto()  # with another descriptor, or connected anew


MOVES: dict[tuple[Phase, Step], Phase] = {
    (Phase.WAITING, Step.BEGIN): Phase.SHAKING,
    (Phase.WAITING, Step.FAIL): Phase.DEAD,
    (Phase.WAITING, Step.RESTART): Phase.WAITING,
    (Phase.SHAKING, Step.SHAKEN): Phase.OPEN,
    (Phase.SHAKING, Step.FAIL): Phase.DEAD,
    (Phase.SHAKING, Step.RESTART): Phase.WAITING,
    (Phase.OPEN, Step.FAIL): Phase.DEAD,
    (Phase.OPEN, Step.RESTART): Phase.WAITING,
    (Phase.DEAD, Step.RESTART): Phase.WAITING,
}


class TlsBufferEvent(AbstractBufferEvent):
    """A bufferevent whose bytes travel encrypted; `socket_new` and `filter_new` make them.

    context: an ssl.SSLContext (`evsvc.core.tls` has sane ones), or for BUFFEREVENT_SSL_OPEN a
    TlsEngine whose handshake is done.  state: BUFFEREVENT_SSL_CONNECTING for a client, _ACCEPTING
    for a server.  server_hostname: whom the client means to talk to: it is sent (SNI), and checked
    if the context says so.  Without it, that is the host that the client is told to connect to.
    session: of a connection before, to be resumed.  handshake_timeout_s: how long the handshake
    may take, from when what is below is connected; None is for ever.

    The handshake begins when there is a connection, whatever is enabled.  At its end the event
    callback gets BEV_EVENT_CONNECTED; or BEV_EVENT_READING | BEV_EVENT_ERROR, with the reason in
    `error`; or BEV_EVENT_TIMEOUT alone, when its time is over, and is given up.  Output that was
    written before is sent then.

    The peer's close_notify is BEV_EVENT_READING | BEV_EVENT_EOF.  An end without it is an error,
    or with `allow_dirty_shutdown` an EOF, too; over a socket BEV_EVENT_READING goes with it.
    `close` sends no close_notify: see `shutdown_write`.

    Time-outs during the handshake are BEV_EVENT_TIMEOUT alone.  Over a socket a time-out does not
    disable its direction, and comes again after as long.
    """

    __slots__ = (
        "_below",
        "_encrypted",
        "_end_told",
        "_engine",
        "_engine_errors",
        "_handshake_began_at",
        "_handshake_limit",
        "_handshake_timeout_s",
        "_maker",
        "_owns_below",
        "_phase",
        "_plain",
        "_running",
        "_ssl_flags",
        "_turn",
        "_write_error",
    )

    def __init__(
        self,
        below: AbstractBufferEvent,
        maker: EngineMaker,
        engine: TlsEngine | None,
        options: int,
        *,
        owns_below: bool,
        handshake_timeout_s: float | None,
    ) -> None:
        super().__init__(below.base, options, below.mutex)
        self._owns_below = owns_below
        self._maker = maker
        self._handshake_timeout_s = handshake_timeout_s
        self._handshake_limit: Deadline | None = None
        self._handshake_began_at: float | None = None
        self._engine_errors: deque[ssl.SSLError] = deque(maxlen=MAX_STORED_ERRORS)
        self._ssl_flags = 0
        self._running = False
        self._turn = self._new_event(-1, 0, self._on_turn)
        self._phase = Phase.WAITING
        self._reset(engine)
        self._below = Below(
            below,
            owns_below or bool(self._options & BevOption.BEV_OPT_CLOSE_ON_FREE),
            self._guarded(self._on_moved),
            self._guarded(self._on_moved),
            self._guarded(self._on_news),
            self._on_drained,
        )
        try:
            self._listen()
        except BaseException:  # what is below stays the program's
            self._below.closes = False
            self.close()
            raise

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
        if not isinstance(base, EventBase):
            raise ArgumentTypeError(f"an EventBase is wanted, not {base!r}")
        maker = EngineMaker(context, state, server_hostname, session)
        engine = _engine_over(fd, maker)
        _check_handshake_timeout(handshake_timeout_s)
        options = options_of(options)
        below = BufferEvent(base, fd, options & _FOR_THE_SOCKET)
        try:
            return cls(
                below,
                maker,
                engine,
                options,
                owns_below=True,
                handshake_timeout_s=handshake_timeout_s,
            )
        except BaseException:
            below.setfd(None)  # that is the program's, as before
            below.close()
            raise

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
        afterwards, without callbacks.  BEV_OPT_THREADSAFE wants one that has it.  Raises as
        `socket_new`, and StateError when `underlying` is closed or carries TLS already.
        Source: bufferevent_openssl_filter_new.
        """
        if not isinstance(underlying, AbstractBufferEvent):
            raise ArgumentTypeError(f"a bufferevent is wanted, not {underlying!r}")
        if underlying.closed:
            raise StateError("the bufferevent below is closed")
        if _carries_tls(underlying):
            raise StateError("the bufferevent below carries TLS already")
        maker = EngineMaker(context, state, server_hostname, session)
        engine = maker.make()
        _check_handshake_timeout(handshake_timeout_s)
        options = options_of(options)
        if options & BevOption.BEV_OPT_THREADSAFE and underlying.mutex is None:
            raise ArgumentError("BEV_OPT_THREADSAFE wants it in the bufferevent below, too")
        return cls(
            underlying,
            maker,
            engine,
            options,
            owns_below=False,
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
        return SslState.BUFFEREVENT_SSL_OPEN if self._phase is Phase.OPEN else self._maker.state

    @property
    def ssl_flags(self) -> SslFlag:
        """BUFFEREVENT_SSL_DIRTY_SHUTDOWN, and BUFFEREVENT_SSL_BATCH_WRITE: fewer, bigger records.

        Setting raises ArgumentError for other flags, ArgumentTypeError for what is none.
        Source: bufferevent_ssl_get_flags, bufferevent_ssl_set_flags, bufferevent_ssl_clear_flags.
        """
        return SslFlag(self._ssl_flags)

    @ssl_flags.setter
    def ssl_flags(self, flags: int) -> None:
        if whole_number(flags, "flags") & ~_FLAGS:
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
        """Do as `shutdown_write`: send a close_notify after all output.

        Source: SSL_shutdown; RFC 8446 section 6.1.
        """
        self.shutdown_write()

    @holding_lock
    def finish(self, timeout: float = FINISH_TIMEOUT_S) -> None:
        """Let it go: send the rest and a close_notify, end what is below, wait for the peer's end.

        See AbstractBufferEvent.finish, also for what it raises.
        """
        super().finish(timeout)
        if self._engine is not None and self._engine.writing is Writing.CLOSED:
            self._below.bev.shutdown_write()  # as the close_notify has gone before

    @property
    def says_goodbye(self) -> bool:
        """Whether the end of the output is said in bytes: it is, by a close_notify."""
        return True

    def has_unread(self) -> bool:
        """Return True when bytes of the peer have come and are not read, decrypted or not.

        They may be TLS's own, such as a session ticket.
        """
        engine = self._engine
        if self._plain or (engine is not None and engine.reading in HAS_DATA):
            return True
        return self.input.length > 0 or self._below.bev.has_unread()

    def watch_end(self, endcb: Callable[[], object] | None) -> None:
        """Call `endcb()` once when the peer has ended its side below; see AbstractBufferEvent."""
        self._require_open()
        self._below.bev.watch_end(endcb)

    @property
    def underlying(self) -> AbstractBufferEvent | None:
        """The bufferevent that `filter_new` was given (bufferevent_get_underlying)."""
        return None if self._owns_below else self._below.bev

    @property
    def fd(self) -> int:
        """The descriptor below, or -1 (bufferevent_getfd)."""
        return self._below.bev.fd

    @property
    def socket(self) -> Socket | None:
        """The socket below, or None when there is none or the descriptor is no socket."""
        below = self._below.bev
        return below.socket if isinstance(below, BufferEvent) else None

    @property
    def dns_error(self) -> int:
        """The code of the last look-up that failed, else 0 (bufferevent_socket_get_dns_error)."""
        below = self._below.bev
        return below.dns_error if isinstance(below, BufferEvent) else 0

    @property
    def handshake_began_at(self) -> float | None:
        """When what is below was connected, on the base's monotonic clock; None before that."""
        return self._handshake_began_at

    @property
    def carries_bytes(self) -> bool:
        """Whether the handshake is over; BEV_EVENT_CONNECTED tells when it is."""
        return self._phase is Phase.OPEN

    @holding_lock
    def setfd(self, fd: Socket | int | None) -> None:
        """Begin anew over another descriptor; the old one stays open (bufferevent_setfd).

        Everything is as at first: also the state, the time for the handshake, and output that was
        not wholly sent is sent again.  Raises as BufferEvent.setfd, and as `socket_new`.
        """
        self._require_open()
        engine = _engine_over(fd, self._maker)
        self._below.bev.setfd(fd)
        self._start_over(engine)

    @holding_lock
    def replacefd(self, fd: Socket | int | None) -> None:
        """Do as `setfd`, and close the old descriptor (bufferevent_replacefd)."""
        self._require_open()
        engine = _engine_over(fd, self._maker)
        self._below.bev.replacefd(fd)
        self._start_over(engine)

    @holding_lock
    def connect(
        self, address: SocketAddress | None = None, options: ConnectOptions | None = None
    ) -> None:
        """Connect, then shake hands; see BufferEvent.connect.

        An IP address is what the certificate has to be for, without another `server_hostname`.
        Raises StateError over another bufferevent: connect that one.
        """
        below = self._socket_to_connect()
        host = address[0] if isinstance(address, tuple) and address else None
        check_host(host)
        engine = self._maker.make(host)
        below.connect(address, options)
        self._start_over(engine)

    @holding_lock
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
        below = self._socket_to_connect()
        check_host(host)
        engine = self._maker.make(host)
        below.connect_hostname(resolver, family, host, port, options)
        self._start_over(engine)

    def _socket_to_connect(self) -> BufferEvent:
        self._require_open()
        below = self._below.bev
        if not self._owns_below or not isinstance(below, BufferEvent):
            raise StateError("connect the bufferevent below: this one has no socket of its own")
        return below

    def _start_over(self, engine: TlsEngine | None) -> None:
        """Have a new connection: what is left of the one before is no use to it."""
        below = self._below.bev
        below.input.drop(below.input.length)
        below.output.drop(below.output.length)
        if self._phase is Phase.DEAD:  # which has disabled it; a fresh one can write
            self.flow.set_enabled(self.flow.enabled | WRITE)
        self._step(Step.RESTART)
        self._reset(engine)
        self._begin_anew()
        self._update(WRITE)
        self._listen()

    def _reset(self, engine: TlsEngine | None) -> None:
        """Be as at first, with another engine.  Output that was not sent is still there."""
        self._stop_handshake_limit()
        self._engine = engine
        self._plain = b""  # decrypted, and more than the program wants
        self._end_told = False
        self._write_error: OSError | None = None  # from below, yet to be told
        # So many bytes at the start of the output are on their way; 0: our close_notify is, or the
        # program has asked for a callback.  None: nothing is to be told when all is sent.
        self._encrypted: int | None = None

    def _listen(self) -> None:
        """Have what is below to ourselves, and begin when it is connected."""
        self._below.take()
        self._below.bev.setwatermark(READ, 0, 0)
        self._below.enable(BOTH)
        self._schedule()

    def _step(self, step: Step) -> None:
        self._phase = moved(MOVES, self._phase, step)

    # What comes from below, and from the program.

    def _on_moved(self, below: AbstractBufferEvent, ctx: object) -> None:
        """It has read, or written."""
        self._run()

    def _on_drained(self) -> None:
        """The peer takes what was written: a sign of life, for a filter above us, too."""
        if self._running:
            return  # no sign: what we write has passed through at once
        if self._timeouts is not None:
            self._timeouts.note_written()
        if self.output.on_drain is not None:
            self.output.on_drain()

    def _on_news(self, below: AbstractBufferEvent, what: int, ctx: object) -> None:
        what = int(what)
        if not below.carries_bytes and self._phase is Phase.WAITING:
            self._tell_news(what, below.error)  # there is no connection, and may never be one
            return
        # One whose callbacks are deferred may tell several things in one.
        cannot_write = what & (ERROR | WRITING | TIMEOUT) == ERROR | WRITING
        cannot_read = what & (ERROR | READING) == ERROR | READING and (
            cannot_write or not what & WRITING
        )
        if what == ERROR:  # TLS that is cut off over another bufferevent says no more
            cannot_read = True
        if what & EOF or cannot_read:
            self._no_more_comes(below.error if cannot_read else None)
        if cannot_write:
            self._write_error = below.error
        elif what & (ERROR | TIMEOUT) and not cannot_read:
            self._tell_news(what & ~EOF, below.error)
        self._run()

    def _no_more_comes(self, error: OSError | None) -> None:
        """What is below has ended.  All that has come goes to the engine, and then that."""
        engine = self._engine
        if engine is not None and engine.reading in WANTS_BYTES:
            self._feed_and_charge(engine, self._below.bev.input.length)
            engine.feed_eof(error)

    def _tell_news(self, what: int, error: OSError | None) -> None:
        """Tell what has befallen the one below, such as a time-out or that nobody answers."""
        if self._phase is Phase.DEAD:
            return
        if what & ERROR:
            self.error = error
            if self._phase is Phase.SHAKING:
                self._die()
            self._stop((WRITE if what & WRITING else 0) | (READ if what & READING else 0))
        self._run_eventcb(what)

    def _update_reading(self) -> None:
        self._schedule()

    def _update_writing(self) -> None:
        if self._timeouts is not None:
            self._update_timers()
        self._schedule()

    def _asked_to_write(self) -> None:
        engine = self._engine
        if engine is None or self._phase is not Phase.OPEN or engine.writing is Writing.FAILED:
            return
        if not self.output.length and self._encrypted is None:
            self._encrypted = 0  # it gets one callback even so
            self._schedule()

    def _waits_to_write(self) -> bool:
        return self._encrypted is not None or self.output.length > 0

    def unsent(self) -> bool:
        """Return True while output waits to be sent, here or in what is below."""
        return self.output.length > 0 or self._below.unsent()

    def _schedule(self) -> None:
        """Have `_run` called by the loop, in this pass where one is under way."""
        if self._running:
            return  # a callback of the program asks, and another round follows it
        if self._lock is None:
            self._take_turn()
        else:
            self._run_in_loop(self._take_turn)

    def _take_turn(self) -> None:
        if self._references and not self._turn.is_active:
            self._base.reactor.defer(self._turn)

    def _on_turn(self, fd: int, what: int, arg: object) -> None:
        self._run()

    # Rounds.

    def _run(self) -> None:
        """Do all that can be done now."""
        if self._running:
            return
        self._running = more = True  # there is more, too, when a callback raises
        try:
            for _ in range(MAX_ROUNDS_PER_TURN):
                more = self._round()
                if not more or not self._references:  # another thread may have closed it
                    break
            if self._references and self._wants_bytes() is self._below.held:
                if self._below.held:
                    self._below.release()
                else:
                    self._below.hold()
        finally:
            self._running = False
            if more and self._references:
                self._base.reactor.defer(self._turn, to_next_pass=True)
            elif self._phase is Phase.DEAD and self.closed:
                self._finished()

    def _round(self) -> bool:
        """Do what there is to do, each thing once; return True when anything was done.

        What is called has reason to be: calls in vain cost a quarter of an echo's time.
        """
        engine, flow, below = self._engine, self.flow, self._below.bev
        if engine is None or self._phase is not Phase.OPEN:
            return engine is not None and self._round_before(engine)
        moved = False
        if flow.wanted & READ and (engine.reading in HAS_DATA or self._plain or below.input.length):
            moved = self._decrypt(engine)
        if self._write_error is not None or engine.reading not in WANTS_BYTES:
            moved = self._tell_ends(engine) or moved
        if self._encrypted is not None:
            if engine.writing is Writing.WAITING:
                moved = self._retry(engine, moved)
            elif not below.unsent() or self._write_error is not None:
                moved = self._release(engine) or moved
        if self._encrypted is None and flow.wanted & WRITE and self._phase is Phase.OPEN:
            if self.output.length:
                moved = self._encrypt(engine) or moved
            elif self.output.frozen_end:
                self._end_output_if_due()
                moved = moved or self._encrypted is not None
        return moved

    def _round_before(self, engine: TlsEngine) -> bool:
        """Do what there is to do before the connection is open; nothing is, when it is dead."""
        if self._phase is Phase.WAITING:
            return self._begin()
        return self._phase is Phase.SHAKING and (self._shake(engine) or self._tell_ends(engine))

    def _begin(self) -> bool:
        """Start when what is below is connected; return True when it is."""
        if not self._below.bev.carries_bytes:
            return False
        self._step(Step.BEGIN)
        self._handshake_began_at = self._base.gettime_monotonic()
        limit_s = self._handshake_timeout_s
        if limit_s is not None and self._maker.state is not SslState.BUFFEREVENT_SSL_OPEN:
            self._handshake_limit = Deadline(self._new_event, self._on_handshake_timeout)
            self._handshake_limit.start(limit_s)
        return True

    def _shake(self, engine: TlsEngine) -> bool:
        """Go on with the handshake; return True when it could."""
        if engine.reading not in HAS_DATA and not self._feed_and_charge(engine, RECORD_BYTES):
            return False
        is_over = engine.handshake()
        self._push(engine)
        if engine.reading is Reading.FAILED:
            self._break_down(READ, engine)
        elif is_over:
            self._stop_handshake_limit()
            self._step(Step.SHAKEN)
            if self._maker.state is not SslState.BUFFEREVENT_SSL_OPEN:
                self._run_eventcb(CONNECTED)
        return True

    def _on_handshake_timeout(self) -> None:
        self._die()
        self._run_eventcb(TIMEOUT)

    # Reading.

    def _decrypt(self, engine: TlsEngine) -> bool:
        """Decrypt a read's worth of what has come, and tell; return True when there was any."""
        flow = self.flow
        came = fed = 0
        while flow.wanted & READ:
            room = self._room_to_read() if flow.read_high else RECORD_BYTES
            if not room:
                break
            if self._plain:
                data, self._plain = self._plain, b""
            elif engine.reading in HAS_DATA:
                data = engine.decrypt()
                if not data:
                    continue
            elif came or not (size := self._feed(engine, self._max_to_read() - fed)):
                break
            else:
                fed += size
                continue
            came += len(data)
            if self._datacb is not None:
                self._tell_data(data)
            else:
                if len(data) > room:
                    data, self._plain = data[:room], data[room:]
                try:
                    self.input.put(data)
                except BaseException:  # of a callback of the input; the bytes are there
                    self._bytes_came(defer=True)
                    raise
            if self._phase is not Phase.OPEN:
                return True  # closed or begun anew by a callback
        if fed and self._limiter is not None:
            self._limiter.note_read(fed)
        if engine.outgoing.pending:
            self._push(engine)  # such as an answer to an update of the keys
        if came and self._datacb is None:
            self._bytes_came()
        return came > 0 or fed > 0

    def _tell_data(self, data: bytes) -> None:
        if self._timeouts is not None:
            self._timeouts.note_read()
        if self._lock is None:
            self._call_datacb(data)
        else:
            call_unlocked(self._call_datacb, data)

    def _call_datacb(self, data: bytes) -> None:
        if self._datacb is not None:
            self._datacb(self, data, self._ctx)

    def _feed(self, engine: TlsEngine, most: int) -> int:
        """Give the engine up to `most` bytes from below; return how many it were."""
        source = self._below.bev
        if not source.input.length or most <= 0 or engine.reading not in WANTS_BYTES:
            return 0
        data = source.read(most)
        engine.feed(data)
        return len(data)

    def _feed_and_charge(self, engine: TlsEngine, most: int) -> int:
        size = self._feed(engine, most)
        if size and self._limiter is not None:
            self._limiter.note_read(size)
        return size

    def _tell_ends(self, engine: TlsEngine) -> bool:
        """Tell what has ended, if all that comes before it is told; return True when it is."""
        told = self._engine is engine and self._tell_end(engine)
        # Each callback may have closed it, or begun anew.
        is_over = self._engine is not engine or self._phase is Phase.DEAD
        return (not is_over and self._tell_write_error(engine)) or told

    def _tell_end(self, engine: TlsEngine) -> bool:
        """Tell the end of what the peer sends."""
        if self._end_told or engine.reading in WANTS_BYTES:
            return False
        if engine.reading in HAS_DATA or self._plain:
            return False
        self._end_told = True
        error = engine.error
        if engine.reading is Reading.FAILED:
            self._break_down(READ, engine)
            return True
        if self._phase is Phase.SHAKING:
            self._die()
        if engine.reading is Reading.ENDED:
            self._ended(READING)
        elif error is not None and not isinstance(error, ssl.SSLEOFError):
            self._failed(READ, error)  # of what is below
        else:
            what = READING if self._owns_below or self.closed else 0
            if self._ssl_flags & _DIRTY_SHUTDOWN:
                self._ended(what)
            else:
                self.error = error
                self._note_ends(ERROR | READING)
                self._stop(READ)
                self._run_eventcb(ERROR | what)
        return True

    def _wants_bytes(self) -> bool:
        """Whether what is below is to read."""
        engine = self._engine
        if engine is None or engine.reading not in WANTS_BYTES:
            return False
        if self._phase is Phase.OPEN:
            return bool(self.flow.wanted & READ) or engine.writing is Writing.WAITING
        return self._phase is Phase.SHAKING

    # Writing.

    def _encrypt(self, engine: TlsEngine) -> bool:
        """Encrypt a batch of output for what is below; return True when there was any."""
        output = self.output
        size = min(output.length, self._max_to_write())
        room = self._below.room()
        if room is not None:
            size = min(size, room)
        if size <= 0:
            return False
        if engine.writing is Writing.CLOSED:  # by a program that drives it, too
            gone = BrokenPipeError(errno.EPIPE, "the engine has sent its close_notify")
            self._break_down(WRITE, engine, gone)
            return True
        pieces: Iterable[bytes | memoryview] = output.views(0, size)
        try:
            if self._ssl_flags & _BATCH_WRITE:
                pieces = (b"".join(pieces),)
            for piece in pieces:
                engine.encrypt(piece)
                if engine.writing is Writing.FAILED:
                    break
        except OSError as exc:  # the bytes of a file cannot be had
            self._break_down(WRITE, engine, exc)
            return True
        if engine.writing is Writing.FAILED:
            self._break_down(WRITE, engine)
        else:
            self._encrypted = size
            self._push(engine)
        return True

    def _retry(self, engine: TlsEngine, was_fed: bool) -> bool:
        """Go on with a batch that waits for bytes of the peer; return True when some have come."""
        if not was_fed and not self._feed_and_charge(engine, RECORD_BYTES):
            return False
        engine.retry()
        self._push(engine)
        if engine.is_failed:
            self._break_down(WRITE, engine)
        return True

    def _release(self, engine: TlsEngine) -> bool:
        """Take from the output what is sent, and tell; return True when it is."""
        if self._phase is not Phase.OPEN or (
            self._write_error is not None and not self._lost_only_the_handshake(engine)
        ):
            return False
        size, self._encrypted = self._encrypted, None
        if size:
            self.output.drop(size)
        if self.output.frozen_end:
            self._end_output_if_due()
        if self._encrypted is None and self._phase is Phase.OPEN:
            self._bytes_left()  # else that is told with the close_notify
        return True

    def _end_output(self) -> bool:
        """Write the close_notify, where the engine can; return False when it is too early."""
        engine = self._engine
        is_turn = self._running and self._phase is Phase.OPEN and self._encrypted is None
        if engine is None or not is_turn:
            self._schedule()
            return False
        if not engine.close_notify():
            if engine.is_failed:
                self._break_down(WRITE, engine)
            return False
        self._push(engine)
        self._encrypted = 0
        if self.closed:  # by `finish`: nothing else is to be said below, either
            self._below.bev.shutdown_write()
        return True

    def _can_finish(self) -> bool:
        return self._engine is not None and self._phase is not Phase.DEAD

    def _push(self, engine: TlsEngine) -> bool:
        """Give what is below what the engine has to send; return True when it had anything."""
        data = engine.data_to_send()
        if not data:
            return False
        self._below.bev.output.put(data)
        if self._limiter is not None:
            self._limiter.note_written(len(data))
        return True

    def _tell_write_error(self, engine: TlsEngine) -> bool:
        """Tell that what is below cannot write, if all that can still come is told."""
        error = self._write_error
        if error is None or self._lost_only_the_handshake(engine) or self._more_can_come(engine):
            return False
        self._write_error = self._encrypted = None
        if self._phase is Phase.SHAKING:
            self._die()
        else:
            engine.cut_off()
        self._failed(WRITE, error)
        return True

    def _lost_only_the_handshake(self, engine: TlsEngine) -> bool:
        """Whether all that a peer who has gone did not get is the end of the handshake.

        Such as a server's session tickets: OpenSSL, too, ignores that these cannot be sent.  When
        the program has something to send, it is told.
        """
        if engine.writing is not Writing.FRESH or self.output.length or self.output.frozen_end:
            return False
        return isinstance(self._write_error, (BrokenPipeError, ConnectionResetError))

    def _more_can_come(self, engine: TlsEngine) -> bool:
        """Whether bytes of the peer, or their end, are there and will be read."""
        below = self._below.bev
        if self._waits_for_bandwidth():  # which all that has come gets
            if engine.reading in HAS_DATA or self._plain:
                return True
        elif not self._wants_bytes():
            return False
        if below.input.length:
            return True
        if engine.reading not in WANTS_BYTES or not below.flow.enabled & READ:
            return False
        return below.fd != -1 and is_readable(below.fd)

    def _waits_for_bandwidth(self) -> bool:
        reasons = self.flow.read_suspended
        return bool(self.flow.enabled & READ and reasons) and not reasons & ~_BANDWIDTH

    # Time-outs and ends.

    def _read_expired(self) -> None:
        self._expired(READ, READING)

    def _write_expired(self) -> None:
        self._expired(WRITE, WRITING)

    def _expired(self, direction: int, what: int) -> None:
        """Tell a time-out, which disables the direction only over another bufferevent."""
        if self._phase is not Phase.OPEN:
            what = 0
        if self._owns_below:
            self._update_timers()
        else:
            self._stop(direction)
        self._run_eventcb(TIMEOUT | what)

    def _break_down(self, direction: int, engine: TlsEngine, error: OSError | None = None) -> None:
        """Nothing works any more: the peer gets its alert, the program the error."""
        error = error or engine.error
        assert error is not None
        self._die()
        if isinstance(error, ssl.SSLError):
            self._engine_errors.append(error)
        self._push(engine)
        below = self._below.bev
        if isinstance(below, BufferEvent):
            below.flush_output()  # before the program can close it
        self._failed(direction, error)

    def _die(self) -> None:
        """Nothing can be read or written any more: so both are disabled."""
        self._stop_handshake_limit()
        self._step(Step.FAIL)
        self._end_told = True
        self._refuse_output()
        self._stop(BOTH)

    def _accept_output(self) -> None:
        """Take output again, where there is a way for it."""
        engine = self._engine
        is_lost = engine is not None and engine.writing is Writing.FAILED
        if not is_lost and self._phase is not Phase.DEAD:
            super()._accept_output()

    def _stop_handshake_limit(self) -> None:
        limit, self._handshake_limit = self._handshake_limit, None
        if limit is not None:
            limit.close()

    def _on_close(self) -> None:
        if self._phase is not Phase.DEAD:
            self._step(Step.FAIL)
        self._reset(None)
        self._turn.close()
        self._below.give_back()

    def _io_events(self) -> list[Event]:
        limit = self._handshake_limit
        return [self._turn] if limit is None else [self._turn, limit.event]

    def _prioritize_below(self, priority: int) -> None:
        if self._owns_below:
            self._below.bev.priority = priority


def _check_handshake_timeout(limit_s: object) -> None:
    if limit_s is None:
        return
    if not isinstance(limit_s, (int, float)):
        raise ArgumentTypeError(f"the time of a handshake is a number of seconds, not {limit_s!r}")
    if not limit_s > 0:
        raise ArgumentError(f"a handshake takes more than 0 s: {limit_s!r}")


def _carries_tls(below: AbstractBufferEvent) -> bool:
    """Whether a filter of TLS stands on it, also one whose callbacks the program has replaced."""
    return isinstance(getattr(below.output.on_drain, "__self__", None), TlsBufferEvent)


def _engine_over(fd: Socket | int | None, maker: EngineMaker) -> TlsEngine | None:
    """Return an engine, or None where there is time to tell the host name with a `connect`."""
    is_later = fd is None or fd == -1
    return None if is_later and maker.lacks_name else maker.make()
