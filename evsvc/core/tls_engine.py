"""TLS between bytes and bytes: no socket, no loop, no callback, no clock.

TLS's life

A connection is two directions that live and die apart, once a handshake has opened both.

*The handshake.*  Both sides speak in turn, so either may want bytes of the other before it can go
on, and each step may leave something to send.  In TLS 1.3 it is over for the client before the
server has judged the client's certificate: a refusal comes later, as an alert in the place of data.

*Reading.*  What comes in is records; what goes out is data, at most one record's at a time.  A
record may hold no data at all: session tickets and updates of keys, which TLS 1.3 sends after the
handshake.  Such a record may want an answer, so whoever has decrypted looks for something to send.
OpenSSL says that it wants more only by an exception, which costs 1.1 us where a small record costs
1.6.  So it is asked only where it may have something: READY until it is known to be STARVED.

*Ends of reading.*  The peer's close_notify (ENDED) is the only one that nobody on the way can
forge.  The transport's own end without it (CUT) may be an attacker's work; whether that matters
is up to the program.  It is never told to OpenSSL, for which it is a failure that would end our
writing, too; here it waits until all that came before is decrypted (LAST).  What comes after a
close_notify is ignored (RFC 8446 section 6.1).

*Writing.*  What is encrypted cannot be taken back: its bytes have to be sent in order.  A TLS 1.2
peer may renegotiate: a write then WAITS for bytes of the peer, and OpenSSL insists on being given
the very same data again.  So the engine keeps what it was given until it is through.

*The end of writing.*  Our close_notify says that no data follow; the peer's may still come.
Sending it does not shut anything below.

*Failure.*  A record that is none, a certificate that is not trusted, the peer's alert: both
directions are over, but for a reading that had ended before.  The alert that says why lies in what
there is to send, and is worth sending before the transport is closed.

Whoever closes a transport with bytes of the peer's unread, such as tickets that nobody waited for,
may destroy what he has sent himself: a TCP then resets.  That is for the transport to mind.
"""

from __future__ import annotations

import enum
import ssl
from typing import TypeVar

from .errors import ArgumentError, ArgumentTypeError, StateError
from .flags import SslState

RECORD_BYTES = 16384
"""The most data that one record holds (RFC 8446 section 5.1)."""


class Reading(enum.IntEnum):
    """How far the peer's data are.  (IntEnum: its hash costs no call, and records are many.)"""

    READY = enum.auto()  # what has come may hold something: ask
    STARVED = enum.auto()  # all that has come is decrypted
    LAST = enum.auto()  # as READY, and nothing more will come
    ENDED = enum.auto()  # by the peer's close_notify
    CUT = enum.auto()  # by the transport's end alone
    FAILED = enum.auto()


class ReadStep(enum.IntEnum):
    """What moves reading on."""

    FEED = enum.auto()  # bytes have come
    STARVE = enum.auto()  # OpenSSL wants more than have come
    EOF = enum.auto()  # the transport has ended
    END = enum.auto()  # the peer's close_notify was read
    FAIL = enum.auto()


class Writing(enum.IntEnum):
    """How far our own data are."""

    SHAKING = enum.auto()  # the handshake is not over
    FRESH = enum.auto()  # it is, and no data of ours have followed it
    OPEN = enum.auto()
    WAITING = enum.auto()  # for bytes of the peer, in a renegotiation
    CLOSED = enum.auto()  # by our close_notify
    FAILED = enum.auto()


class WriteStep(enum.IntEnum):
    """What moves writing on."""

    SHAKEN = enum.auto()  # the handshake is over
    WRITE = enum.auto()  # data of ours are there
    WAIT = enum.auto()  # data were not taken before more of the peer's bytes come
    RESUME = enum.auto()  # they are tried again
    CLOSE = enum.auto()
    FAIL = enum.auto()


# Every legal move.  A pair that is absent is a fault of whoever uses the engine.
READING_MOVES: dict[tuple[Reading, ReadStep], Reading] = {
    (Reading.READY, ReadStep.FEED): Reading.READY,
    (Reading.READY, ReadStep.STARVE): Reading.STARVED,
    (Reading.READY, ReadStep.EOF): Reading.LAST,
    (Reading.READY, ReadStep.END): Reading.ENDED,
    (Reading.READY, ReadStep.FAIL): Reading.FAILED,
    (Reading.STARVED, ReadStep.FEED): Reading.READY,
    (Reading.STARVED, ReadStep.EOF): Reading.CUT,
    (Reading.STARVED, ReadStep.FAIL): Reading.FAILED,
    (Reading.LAST, ReadStep.STARVE): Reading.CUT,
    (Reading.LAST, ReadStep.END): Reading.ENDED,
    (Reading.LAST, ReadStep.FAIL): Reading.FAILED,
    # An end stays what it was: by then it may have been told.
    (Reading.ENDED, ReadStep.FEED): Reading.ENDED,
    (Reading.ENDED, ReadStep.EOF): Reading.ENDED,
    (Reading.ENDED, ReadStep.FAIL): Reading.ENDED,
    (Reading.CUT, ReadStep.FAIL): Reading.CUT,
}
WRITING_MOVES: dict[tuple[Writing, WriteStep], Writing] = {
    (Writing.SHAKING, WriteStep.SHAKEN): Writing.FRESH,
    (Writing.SHAKING, WriteStep.FAIL): Writing.FAILED,
    (Writing.FRESH, WriteStep.WRITE): Writing.OPEN,
    (Writing.FRESH, WriteStep.CLOSE): Writing.CLOSED,
    (Writing.FRESH, WriteStep.FAIL): Writing.FAILED,
    (Writing.OPEN, WriteStep.WAIT): Writing.WAITING,
    (Writing.OPEN, WriteStep.CLOSE): Writing.CLOSED,
    (Writing.OPEN, WriteStep.FAIL): Writing.FAILED,
    (Writing.WAITING, WriteStep.RESUME): Writing.OPEN,
    (Writing.WAITING, WriteStep.FAIL): Writing.FAILED,
    (Writing.CLOSED, WriteStep.FAIL): Writing.FAILED,
}

HAS_DATA = frozenset({Reading.READY, Reading.LAST})
"""Phases in which `decrypt` may have data."""
WANTS_BYTES = frozenset({Reading.READY, Reading.STARVED})
"""Phases in which bytes of the peer are of use: it has neither ended nor failed."""

P = TypeVar("P", bound=enum.Enum)
S = TypeVar("S", bound=enum.Enum)


def moved(moves: dict[tuple[P, S], P], phase: P, step: S) -> P:
    """Return the phase that follows.  Raises StateError for a step that is not legal."""
    try:
        return moves[phase, step]
    except KeyError:
        what = type(phase).__name__.lower()
        raise StateError(f"{step.name} is not legal while {what} is {phase.name}") from None


class TlsEngine:
    """One connection's TLS: ciphertext in and data out, data in and ciphertext out.

    Made for a client or a server, with the handshake before it.  `reading` and `writing` say how
    far each direction is; `error` why one of them has failed or was cut, else None.  A fault of
    the peer's is such a phase, never an exception.

    ssl:      the SSLObject: certificates, cipher, version, ALPN.
    incoming: what has come from the peer.  outgoing: what is to go to it.  The two ends of `ssl`,
              for a program that drives that itself; else `feed` and `data_to_send`.

    Raises ArgumentError when the context is not for this side, has to check a host name that is
    not given, or did not make the session, and for a host name that is none; ArgumentTypeError for
    what is no context, name or session.
    """

    __slots__ = ("_held", "error", "incoming", "outgoing", "reading", "ssl", "writing")

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        check_context(context)
        check_host(server_hostname)
        check_session(session)
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.reading = Reading.READY
        self.writing = Writing.SHAKING
        self.error: OSError | None = None
        self._held: list[bytes] = []  # data of ours that wait for the peer
        if not server_side and context.check_hostname and not server_hostname:
            raise ArgumentError("the context checks the host name: server_hostname is wanted")
        try:
            self.ssl = context.wrap_bio(
                self.incoming,
                self.outgoing,
                server_side=server_side,
                server_hostname=None if server_side else server_hostname,
                session=session,
            )
        except (TypeError, ValueError, ssl.SSLError) as exc:
            name = f" for {server_hostname!r}" if server_hostname else ""
            raise ArgumentError(f"the context cannot be used{name}: {exc}") from exc

    @property
    def is_shaken(self) -> bool:
        """Whether the handshake is over and has succeeded, whoever has driven it."""
        return self.ssl.version() is not None

    @property
    def is_failed(self) -> bool:
        """Whether nothing can be written any more, nor read but an end; `error` says why."""
        return self.writing is Writing.FAILED

    def handshake(self) -> bool:
        """Go on with the handshake.  Return True when it is over and has succeeded.

        Else it wants to be fed, or has failed.  There may be something to send in each case.
        """
        if self.writing is not Writing.SHAKING:
            return not self.is_failed
        if self.reading is Reading.STARVED:
            return False
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._starve()
            return False
        except OSError as exc:
            self._fail(exc)
            return False
        self._write_step(WriteStep.SHAKEN)
        return True

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take in what has come from the peer; after its close_notify that is thrown away.

        Raises StateError after another end, or a failure.
        """
        self._read_step(ReadStep.FEED)
        if self.reading is not Reading.ENDED:
            self.incoming.write(data)

    def feed_eof(self, error: OSError | None = None) -> None:
        """Take in that nothing more will come, or `error`, by which the transport has failed.

        What has come is still decrypted.  A handshake that is not over fails.  Raises StateError
        the second time, and after a failure.
        """
        self._read_step(ReadStep.EOF)
        if self.reading is Reading.ENDED:
            return
        self.error = error or ssl.SSLEOFError(
            int(ssl.SSL_ERROR_EOF), "the connection ended without a close_notify"
        )
        self._fail_if_cut()

    def decrypt(self, most: int = RECORD_BYTES) -> bytes:
        """Return up to `most` bytes of one record's data; none when `reading` has none now.

        After the last of them `reading` is STARVED, ENDED, CUT or FAILED.  Raises ArgumentError
        for less than 1, StateError before the handshake is over.
        """
        if most < 1:
            raise ArgumentError(f"at least a byte is decrypted: {most!r}")
        if self.writing is Writing.SHAKING:
            raise StateError("nothing can be read before the handshake is over")
        if self.reading not in HAS_DATA:
            return b""
        try:
            data = self.ssl.read(most)
        except ssl.SSLWantReadError:
            self._starve()
            return b""
        except ssl.SSLZeroReturnError:
            data = b""
        except OSError as exc:
            self._fail(exc)
            return b""
        if not data:
            self._read_step(ReadStep.END)
            self.error = None  # of the transport's end after it
        elif len(data) < most and not self.incoming.pending:
            self._starve()  # the record is used up: to ask again would cost an exception
        return data

    def encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """Take in data of ours, all of it; while writing is WAITING it is kept, in its order.

        Raises StateError before the handshake is over, after `close_notify`, and after a failure.
        """
        if self.writing is Writing.WAITING:
            self._held.append(bytes(data))
            return
        if self.writing is not Writing.OPEN:
            self._write_step(WriteStep.WRITE)
        if not data:
            return
        try:
            self.ssl.write(data)
        except ssl.SSLWantReadError:
            self._held.append(bytes(data))
            self._write_step(WriteStep.WAIT)
        except OSError as exc:
            self._fail(exc)

    def retry(self) -> None:
        """Try again to encrypt what waits, after a `feed`.  Raises StateError if nothing does."""
        self._write_step(WriteStep.RESUME)
        held, self._held = self._held, []
        for data in held:
            if not self.is_failed:
                self.encrypt(data)

    def close_notify(self) -> bool:
        """Write the end of our data (RFC 8446 section 6.1); the peer may go on sending.

        Return True when it is written; False when that has failed, or in the midst of a
        renegotiation: then it is to be tried again after a `feed`.  Raises ssl.SSLError before the
        handshake, StateError the second time, while data wait, and after a failure.
        """
        if self.writing is not Writing.SHAKING:  # then OpenSSL refuses
            moved(WRITING_MOVES, self.writing, WriteStep.CLOSE)
        elif self.is_shaken:
            self._write_step(WriteStep.SHAKEN)
        # unwrap() would go on to wait for the peer's own end, and fail on data before it.
        waiting = self.incoming.read()
        try:
            self.ssl.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as exc:
            if self.writing is Writing.SHAKING:
                raise
            if exc.reason != "SHUTDOWN_WHILE_IN_INIT":
                self._fail(exc)
            return False
        finally:
            self.incoming.write(waiting)
        self._write_step(WriteStep.CLOSE)
        return True

    def cut_off(self) -> None:
        """Take in that what it said is lost: nothing can be written any more, but read."""
        self._held.clear()
        if self.writing is not Writing.FAILED:
            self._write_step(WriteStep.FAIL)

    def data_to_send(self) -> bytes:
        """Take what is to go to the peer; empty when there is nothing."""
        return self.outgoing.read()

    def _read_step(self, step: ReadStep) -> None:
        # As `moved`, without a call: two steps a record.
        try:
            self.reading = READING_MOVES[self.reading, step]
        except KeyError:
            moved(READING_MOVES, self.reading, step)

    def _write_step(self, step: WriteStep) -> None:
        self.writing = moved(WRITING_MOVES, self.writing, step)

    def _starve(self) -> None:
        self._read_step(ReadStep.STARVE)
        if self.reading is Reading.CUT:
            self._fail_if_cut()

    def _fail_if_cut(self) -> None:
        if self.reading is Reading.CUT and self.writing is Writing.SHAKING:
            self._write_step(WriteStep.FAIL)

    def _fail(self, error: OSError) -> None:
        self.error = error.with_traceback(None)  # that would hold whoever called us
        self._held.clear()
        self._read_step(ReadStep.FAIL)
        self._write_step(WriteStep.FAIL)


class EngineMaker:
    """Makes the engines of one bufferevent: one for each connection that it has in turn.

    Raises ArgumentError for an unknown state, when a TlsEngine is not what goes with it, and when
    that has not shaken hands; ArgumentTypeError for what is no state, context, name or session.
    """

    __slots__ = ("_context", "_host", "_session", "state")

    def __init__(
        self,
        context: ssl.SSLContext | TlsEngine,
        state: int,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        self.state = _checked_state(state)
        if not isinstance(context, TlsEngine):
            check_context(context)
        check_host(server_hostname)
        check_session(session)
        is_open = self.state is SslState.BUFFEREVENT_SSL_OPEN
        if isinstance(context, TlsEngine) is not is_open:
            raise ArgumentError(f"a TlsEngine goes with BUFFEREVENT_SSL_OPEN: {context!r}")
        if isinstance(context, TlsEngine) and not context.is_shaken:
            raise ArgumentError(f"the engine has not shaken hands: {context!r}")
        self._context = context
        self._host = server_hostname
        self._session = session

    @property
    def lacks_name(self) -> bool:
        """Whether the context checks a host name that is yet to be said."""
        return (
            self.state is SslState.BUFFEREVENT_SSL_CONNECTING
            and not self._host
            and isinstance(self._context, ssl.SSLContext)
            and self._context.check_hostname
        )

    def make(self, host: str | None = None) -> TlsEngine:
        """Return an engine for a connection to `host`, where no other name was given before.

        Raises as TlsEngine does.
        """
        context = self._context
        if isinstance(context, TlsEngine):
            return context
        return TlsEngine(
            context,
            server_side=self.state is SslState.BUFFEREVENT_SSL_ACCEPTING,
            server_hostname=self._host or host,
            session=self._session,
        )


def check_context(context: object) -> None:
    """Raise ArgumentTypeError for what is no ssl.SSLContext."""
    if not isinstance(context, ssl.SSLContext):
        raise ArgumentTypeError(f"an ssl.SSLContext is wanted, not {context!r}")


def check_host(host: object) -> None:
    """Raise ArgumentTypeError for what is no host name, ArgumentError for one with a NUL.

    None stands for no name.
    """
    if host is None:
        return
    if not isinstance(host, (str, bytes)):
        raise ArgumentTypeError(f"a host name is text, not {host!r}")
    if (b"\0" if isinstance(host, bytes) else "\0") in host:  # type: ignore[operator]  # same type
        raise ArgumentError(f"a host name has no NUL: {host!r}")


def check_session(session: object) -> None:
    """Raise ArgumentTypeError for what is no ssl.SSLSession and not None."""
    if session is not None and not isinstance(session, ssl.SSLSession):
        raise ArgumentTypeError(f"an ssl.SSLSession is wanted, not {session!r}")


def _checked_state(state: object) -> SslState:
    if not isinstance(state, (int, str)):
        raise ArgumentTypeError(f"a BUFFEREVENT_SSL_ state is wanted, not {state!r}")
    try:
        return SslState(state)  # type: ignore[arg-type]  # a text is none of them
    except ValueError:
        raise ArgumentError(f"a BUFFEREVENT_SSL_ state is wanted: {state!r}") from None
