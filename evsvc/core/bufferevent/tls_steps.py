"""TLS in steps: shake hands, decrypt, tell, encrypt, take leave.  Each does one thing, if it can.

Output stays in `output` until the wire has sent what it was encrypted to: an empty output means as
much as it does for a socket, and the write callback comes when the bytes are on their way.

Invariants
    * Bytes that the program does not want yet wait where they are: in `_plain` (at most one
      record), in the engine's incoming end (at most one read of the wire), or with the peer.
    * At most one batch of output is encrypted and not yet sent.
    * A step that calls the program does so last, or looks at the phase again.
"""

from __future__ import annotations

import select
import ssl
from typing import TYPE_CHECKING

from ..flags import BOTH, READ, WRITE, BevEvent, SslFlag, SslState
from .flow import SUSPENDED_BANDWIDTH, SUSPENDED_GROUP
from .sock import BufferEvent
from .tls_wire import (
    ERROR,
    READING,
    TIMEOUT,
    WRITING,
    Phase,
    TlsWire,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..reactor.base import EventBase
    from .abstract import AbstractBufferEvent

RECORD_BYTES = 16384
"""The most that one record holds (RFC 8446 section 5.1)."""

_CONNECTED = int(BevEvent.BEV_EVENT_CONNECTED)
_BANDWIDTH = SUSPENDED_BANDWIDTH | SUSPENDED_GROUP
_BATCH_WRITE = int(SslFlag.BUFFEREVENT_SSL_BATCH_WRITE)


class TlsSteps(TlsWire):
    """Moves bytes between the buffers and the wire, through the engine."""

    __slots__ = ("_handshake_timeout_s", "_state")

    def __init__(
        self,
        base: EventBase,
        lay_wire: Callable[[], AbstractBufferEvent],
        owns_wire: bool,
        options: int,
        state: SslState,
        handshake_timeout_s: float | None,
    ) -> None:
        self._state = state
        self._handshake_timeout_s = handshake_timeout_s
        super().__init__(base, lay_wire, owns_wire, options)

    def _round(self) -> bool:
        # A step is called only where it has reason to: that saves 11 of 48 us for an echo.
        phase = self._phase
        if phase is Phase.OPEN:
            return bool(
                (self.flow.wanted & READ and self._has_undecoded() and self._decode())
                or (self._news and self._tell_news())
                or (self._write_error is not None and self._tell_write_error())
                or (self._end is not None and self._tell_end())
                or (self._sending and self._release())
                or (self.output.length and self._encode())
                or (self._closing and self._take_leave())
            )
        if phase is Phase.WAITING:
            return self._begin() or self._tell_news() or self._tell_write_error()
        if phase is Phase.SHAKING:
            return (
                self._shake() or self._tell_news() or self._tell_write_error() or self._tell_end()
            )
        return False

    @property
    def _ssl(self) -> ssl.SSLObject:
        assert self._engine is not None
        return self._engine.ssl

    def _asked_to_write(self) -> None:
        if self._phase is Phase.OPEN and not self.output.length:
            self._sending = True  # it gets one callback even so
            self._schedule()

    def _waits_to_write(self) -> bool:
        return self._sending or self.output.length > 0

    def unsent(self) -> bool:
        """Return True while output, or the close_notify, waits to be sent, here or below."""
        return self.output.length > 0 or self._closing or self._sending or self._wire.unsent()

    def _begin(self) -> bool:
        """Start when the wire is connected; whether it is."""
        if self._engine is None or not _is_connected(self._wire):
            return False
        if self._state is SslState.BUFFEREVENT_SSL_OPEN:
            self._phase = Phase.OPEN
            return True
        self._phase = Phase.SHAKING
        if self._handshake_timeout_s is not None:
            self._handshake_timer = self._new_event(-1, 0, self._on_handshake_timeout)
            self._handshake_timer.add(self._handshake_timeout_s)
        return True

    def _shake(self) -> bool:
        """Go on with the handshake; whether it could."""
        if self._starved and not self._feed_and_charge(RECORD_BYTES):
            return False
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._starved = True
            self._push()
        except OSError as exc:
            self._break_down(READ, exc)
        else:
            self._push()
            self._only_handshake = True
            self._stop_handshake_timer()
            self._phase = Phase.OPEN
            self._run_eventcb(_CONNECTED)
        return True

    def _on_handshake_timeout(self, fd: int, what: int, arg: object) -> None:
        self._die()
        self._run_eventcb(TIMEOUT)

    def _decode(self) -> bool:
        """Decrypt a read's worth of the wire's bytes, and tell; whether there were any."""
        came = fed = 0
        while self.flow.wanted & READ and (room := self._room_to_read()):
            if self._plain.length:
                came += self.input.take_from(self._plain, room)
            elif (data := self._decrypt()) is None:
                size = 0 if came or self._read_over else self._feed(self._max_to_read() - fed)
                if size <= 0:
                    break
                fed += size
            elif self._datacb is not None:
                self._datacb(self, data, self._ctx)
                came += len(data)
            elif len(data) <= room:
                self.input.put(data)
                came += len(data)
            else:
                self._plain.put(data)
            if self._phase is not Phase.OPEN:  # closed or begun anew by a callback
                return True
        if fed and self._limiter is not None:
            self._limiter.note_read(fed)
        self._push()  # such as an answer to an update of the keys
        if came and self._datacb is None:
            self._bytes_came()
        return came > 0 or fed > 0

    def _decrypt(self) -> bytes | None:
        """Return a piece of what the peer has sent, or None; notes its end."""
        if self._starved or self._read_over:
            return None
        data, error = b"", None
        try:
            data = self._ssl.read(RECORD_BYTES)
        except ssl.SSLWantReadError:
            self._starved = True
            return None
        except ssl.SSLZeroReturnError:
            pass
        except OSError as exc:
            error = exc.with_traceback(None)
        if data:
            return data
        self._read_over = True
        self._end = READING, error
        return None

    def _tell_news(self) -> bool:
        """Tell what has befallen the wire, but for the end of reading; whether anything has."""
        what, self._news = self._news, 0
        error, self._news_error = self._news_error, None
        if what & ERROR:
            self.error = error
            if self._phase is Phase.SHAKING:
                self._die()
            self._stop((WRITE if what & WRITING else 0) | (READ if what & READING else 0))
        if what:
            self._run_eventcb(what)
        return what != 0

    def _tell_write_error(self) -> bool:
        """Tell that the wire cannot write, when all that can still come is told; whether it is."""
        error = self._write_error
        if error is None or self._is_no_loss(error) or self._more_can_come():
            return False
        self._write_error = None
        if self._phase is Phase.SHAKING:
            self._die()
        self._failed(WRITE, error)
        return True

    def _is_no_loss(self, error: OSError) -> bool:
        """Whether all that a peer who has gone did not get is the end of the handshake.

        Such as a server's session tickets: OpenSSL, too, ignores that these cannot be sent.  When
        the program has something to send, it is told.
        """
        if not self._only_handshake or self.output.length or self._closing:
            return False
        if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
            return False
        self._wire_wrote = True  # as far as it ever will: nothing is to wait for it
        return True

    def _more_can_come(self) -> bool:
        """Whether bytes of the peer, or their end, are there and will be read."""
        if self._end is not None or self._read_over:
            return False
        if not self._wants_wire() and not self._waits_for_bandwidth():
            return False
        wire = self._wire
        return wire.input.length > 0 or bool(wire.flow.enabled & READ and _is_readable(wire.fd))

    def _waits_for_bandwidth(self) -> bool:
        reasons = self.flow.read_suspended
        return bool(self.flow.enabled & READ and reasons) and not reasons & ~_BANDWIDTH

    def _tell_end(self) -> bool:
        """Tell the end of what the peer sends, when all before it is told; whether it is time."""
        if self._end is None or self._has_undecoded():
            return False
        (what, error), self._end = self._end, None
        self._read_over = True
        if self._phase is Phase.SHAKING:
            self._die()
        if error is None:
            self._ended(what)
        elif isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            self._break_down(READ, error)
        else:
            self.error = error
            self._note_ends(ERROR | READING)
            self._stop(READ)
            self._run_eventcb(ERROR | what)
        return True

    def _has_undecoded(self) -> bool:
        if self._read_over:
            return False
        return bool(not self._starved or self._plain.length or self._wire.input.length)

    def _break_down(self, direction: int, error: OSError) -> None:
        """The engine has failed: the peer gets its alert, the program the error."""
        self._die()
        if isinstance(error, ssl.SSLError):
            self._engine_errors.append(error)
        self._push_at_once()
        self._failed(direction, error)

    def _die(self) -> None:
        """Nothing can be read or written any more: so both are disabled."""
        self._stop_handshake_timer()
        self._phase = Phase.DEAD
        self._stop(BOTH)

    def _release(self) -> bool:
        """Take from the output what the wire has sent, and tell; whether it has."""
        if not self._sending or (self._wire.unsent() and not self._wire_wrote):
            return False
        self._sending = False
        size, self._encrypted = self._encrypted, 0
        self.output.drop(size)
        self._end_output_if_due()
        if self.output.length or not self._closing:  # else that is told with the close_notify
            self._bytes_left()
        return True

    def _encode(self) -> bool:
        """Encrypt a batch of output for the wire; whether there was any."""
        size = self._batch_size()
        if size <= 0 or (self._write_waits and not self._feed_and_charge(RECORD_BYTES)):
            return False
        try:
            self._encrypted = self._encrypt(size)
        except OSError as exc:
            self._break_down(WRITE, exc)
            return True
        self._send_batch(self._encrypted > 0)
        return self._sending

    def _batch_size(self) -> int:
        if self._sending or not self.flow.wanted & WRITE or not self.output.length:
            return 0
        size = min(self.output.length, self._max_to_write())
        high = self._wire.flow.write_high
        return min(size, high - self._wire.output.length) if high else size

    def _encrypt(self, size: int) -> int:
        """Encrypt the first `size` bytes of the output; how many the engine has taken.

        Raises ssl.SSLError, and OSError when the bytes of a file cannot be had.
        """
        pieces: Iterable[bytes | memoryview] = self.output.views(0, size)
        if self._ssl_flags & _BATCH_WRITE:
            pieces = [b"".join(pieces)]
        engine = self._ssl
        taken = 0
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    written = engine.write(rest)
                    taken += written
                    rest = rest[written:]
        except ssl.SSLWantReadError:
            self._write_waits = True
        return taken

    def _take_leave(self) -> bool:
        """Write the close_notify that the program has asked for, after all output."""
        if not self._closing or self._sending or self.output.length or not self.flow.wanted & WRITE:
            return False
        self._closing = False
        assert self._engine is not None
        try:
            self._engine.close_notify()
        except OSError as exc:
            self._break_down(WRITE, exc)
        else:
            self._send_batch(True)
        return True

    def _send_batch(self, told_when_sent: bool) -> None:
        self._wire_wrote = self._only_handshake = False
        self._push()
        self._sending = told_when_sent

    def _feed_and_charge(self, most: int) -> int:
        size = self._feed(most)
        if size > 0 and self._limiter is not None:
            self._limiter.note_read(size)
        return size

    def _read_expired(self) -> None:
        self._expired(READ, READING)

    def _write_expired(self) -> None:
        self._expired(WRITE, WRITING)

    def _expired(self, direction: int, what: int) -> None:
        """Tell a time-out, which disables the direction only over a wire that is not ours."""
        if self._phase is not Phase.OPEN:
            what = 0
        if self._owns_wire:
            self._update_timers()
        else:
            self._stop(direction)
        self._run_eventcb(TIMEOUT | what)


def _is_readable(fd: int) -> bool:
    """Whether a descriptor has bytes or an end to read at this moment; -1 has none."""
    if fd == -1:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _is_connected(wire: AbstractBufferEvent) -> bool:
    """Whether bytes can move over a wire; else it tells BEV_EVENT_CONNECTED when they can."""
    layer: AbstractBufferEvent | None = wire
    while layer is not None:
        if isinstance(layer, TlsWire):
            return layer._phase is Phase.OPEN
        if isinstance(layer, BufferEvent):
            return layer._open
        layer = layer.underlying
    return True
