"""TLS over another bufferevent, the wire: its bytes, its news, and when something is done.

Everything is done in `_run`, which the loop calls: when the wire has bytes, room or news, and in a
turn of our own after the program has written, enabled or taken something.  It goes through rounds
until nothing is left to do.  So no callback runs inside a call of the program, and what a callback
does is seen by the next round.

Invariants
    * The wire reads exactly while the engine wants its bytes.
    * An end of reading that the wire tells waits until all bytes before it are told.  So does its
      failure to write, while more can come.
"""

from __future__ import annotations

import enum
import ssl
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING

from ..buffer import EvBuffer
from ..errors import ArgumentError
from ..flags import BOTH, READ, BevEvent, BevOption, SslFlag
from .abstract import AbstractBufferEvent
from .flow import SUSPENDED_FILTER
from .stream import StreamBufferEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..reactor.base import EventBase
    from ..reactor.event import Event
    from ..tls_engine import TlsEngine
    from .stream import StreamCallback

MAX_STORED_ERRORS = 3

# After so many rounds without a pause others get their turn first.
MAX_ROUNDS_PER_TURN = 32

READING, WRITING = int(BevEvent.BEV_EVENT_READING), int(BevEvent.BEV_EVENT_WRITING)
EOF, ERROR = int(BevEvent.BEV_EVENT_EOF), int(BevEvent.BEV_EVENT_ERROR)
TIMEOUT = int(BevEvent.BEV_EVENT_TIMEOUT)
_DIRTY_SHUTDOWN = int(SslFlag.BUFFEREVENT_SSL_DIRTY_SHUTDOWN)


class Phase(enum.Enum):
    """How far the connection is."""

    WAITING = enum.auto()  # for the wire to be connected
    SHAKING = enum.auto()
    OPEN = enum.auto()
    DEAD = enum.auto()  # the engine has failed, or its time is over


class TlsWire(AbstractBufferEvent):
    """The side of a TLS bufferevent that sees the wire, which `lay_wire` gives it."""

    __slots__ = (
        "_again",
        "_closing",
        "_datacb",
        "_encrypted",
        "_end",
        "_engine",
        "_engine_errors",
        "_handshake_timer",
        "_news",
        "_news_error",
        "_only_handshake",
        "_owns_wire",
        "_phase",
        "_plain",
        "_read_over",
        "_running",
        "_sending",
        "_ssl_flags",
        "_starved",
        "_turn",
        "_wire",
        "_wire_wrote",
        "_write_error",
        "_write_waits",
    )

    def __init__(
        self,
        base: EventBase,
        lay_wire: Callable[[], AbstractBufferEvent],
        owns_wire: bool,
        options: int,
    ) -> None:
        super().__init__(base, options)
        self._wire = wire = lay_wire()
        if self._lock is not None:
            if wire._lock is None:
                raise ArgumentError("BEV_OPT_THREADSAFE wants it in the bufferevent below, too")
            self._share_lock(wire._lock)
        wire.incref()
        self._owns_wire = owns_wire
        self._ssl_flags = 0
        self._datacb: StreamCallback | None = None
        self._running = self._again = False
        self._engine_errors: deque[ssl.SSLError] = deque(maxlen=MAX_STORED_ERRORS)
        self._handshake_timer: Event | None = None
        self._plain = EvBuffer()  # decrypted, and more than the program wants
        self._turn = self._new_event(-1, 0, self._on_turn)
        self._reset(None)

    @abstractmethod
    def _round(self) -> bool:
        """Do the first step that has something to do; whether there was one."""

    def _reset(self, engine: TlsEngine | None) -> None:
        """Be as at first, with another engine.  Output that was not sent is still there."""
        self._stop_handshake_timer()
        self._phase = Phase.WAITING
        self._engine = engine
        self._plain.drain(len(self._plain))
        self._starved = False  # the engine has taken all that came
        self._write_waits = False  # for bytes of the peer, in a renegotiation
        self._read_over = False
        self._end: tuple[int, OSError | None] | None = None  # of reading, yet to be told
        self._news = 0  # other events of the wire, yet to be told
        self._news_error: OSError | None = None
        self._write_error: OSError | None = None  # of the wire, yet to be told
        self._only_handshake = False  # what the wire had of us since it was open is of that
        self._encrypted = 0  # so many bytes at the start of the output are on their way
        self._sending = False  # they are, or our close_notify is, in the output of the wire
        self._wire_wrote = False  # it has said so, since it was given something
        self._closing = False

    def _tap(self) -> None:
        """Listen to the wire, and begin when it is connected."""
        wire = self._wire
        wire.setcb(self._on_read, self._on_wrote, self._on_news)
        wire.output.on_drain = self._on_drained
        wire._suspend_reading(SUSPENDED_FILTER)
        wire.setwatermark(READ, 0, 0)
        if wire._enabled != BOTH:
            wire.enable(BOTH & ~wire._enabled)
        self._schedule()

    def _on_read(self, wire: AbstractBufferEvent, ctx: object) -> None:
        self._run()

    def _on_wrote(self, wire: AbstractBufferEvent, ctx: object) -> None:
        if wire.output.length <= wire._write_low:
            self._wire_wrote = True
        self._run()

    def _on_drained(self) -> None:
        """The peer takes what was written: a sign of life, for a filter above us, too."""
        if self._running:
            return  # no sign: what we write has passed through at once
        if self._write_timer is not None:
            self._write_timer.last = self._base.now
        if self.output.on_drain is not None:
            self.output.on_drain()

    def _on_news(self, wire: AbstractBufferEvent, what: int, ctx: object) -> None:
        what = int(what)
        # A wire whose callbacks are deferred may tell several things in one.
        cannot_write = what & (ERROR | WRITING | TIMEOUT) == ERROR | WRITING
        cannot_read = what & (ERROR | READING) == ERROR | READING and (
            cannot_write or not what & WRITING
        )
        if what & EOF and not self._read_over:
            self._end = self._end_of_file()
        elif cannot_read and not self._read_over:
            self._end = READING, wire.error
        if cannot_write:
            self._write_error = wire.error
        elif what & (ERROR | TIMEOUT) and not cannot_read:
            self._news |= what & ~EOF
            self._news_error = wire.error
        self._run()

    def _end_of_file(self) -> tuple[int, OSError | None]:
        """What to tell after the peer has gone without a close_notify."""
        reading = READING if self._owns_wire else 0
        if self._ssl_flags & _DIRTY_SHUTDOWN:
            return reading, None
        text = "the connection ended without a close_notify"
        return reading, ssl.SSLEOFError(int(ssl.SSL_ERROR_EOF), text)

    def _update_reading(self) -> None:
        self._schedule()

    def _update_writing(self) -> None:
        if self._write_timer is not None:
            self._update_timers()
        self._schedule()

    def _schedule(self) -> None:
        """Have `_run` called by the loop, in this pass where one is under way."""
        self._run_in_loop(self._take_turn)

    def _take_turn(self) -> None:
        if self._running:
            self._again = True
        elif self._references and not self._turn.is_active:
            self._base.reactor.registry.activate(self._turn, 0)

    def _on_turn(self, fd: int, what: int, arg: object) -> None:
        self._run()

    def _run(self) -> None:
        """Do all that can be done now."""
        if self._running:
            self._again = True
            return
        self._running = more = True  # there is more, too, when a callback raises
        try:
            for _ in range(MAX_ROUNDS_PER_TURN):
                self._again = False
                more = self._round() or self._again
                if not more or not self._references:  # another thread may have closed it
                    break
            if self._references:
                self._hold_wire()
        finally:
            self._running = False
            if self._references and (more or self._again):
                self._base.reactor.defer(self._turn, to_next_pass=more)

    def _hold_wire(self) -> None:
        """Have the wire read, or hold the peer back."""
        held = self._wire._read_suspended & SUSPENDED_FILTER
        if self._wants_wire():
            if held:
                self._wire._resume_reading(SUSPENDED_FILTER)
        elif not held:
            self._wire._suspend_reading(SUSPENDED_FILTER)

    def _wants_wire(self) -> bool:
        if self._phase is Phase.OPEN:
            return self._write_waits or bool(self._wanted & READ and not self._read_over)
        return self._phase is Phase.SHAKING

    def _feed(self, most: int) -> int:
        """Give the engine up to `most` bytes of the wire; how many it were."""
        assert self._engine is not None
        size = min(self._wire.input.length, most)
        if size > 0:
            size = self._engine.incoming.write(self._wire.read(size))
            self._starved = self._write_waits = False
        return size

    def _push(self) -> bool:
        """Give the wire what the engine has for it; whether it had anything."""
        assert self._engine is not None
        outgoing = self._engine.outgoing
        if not outgoing.pending:
            return False
        data = outgoing.read()
        self._wire.output.put(data)
        if self._limiter is not None:
            self._limiter.note_written(len(data))
        return True

    def _push_at_once(self) -> None:
        """Send what the engine has said last, before the program can close the wire."""
        if self._push() and isinstance(self._wire, StreamBufferEvent):
            self._wire.flush_output()

    def _stop_handshake_timer(self) -> None:
        timer, self._handshake_timer = self._handshake_timer, None
        if timer is not None:
            timer.close()

    def _on_close(self) -> None:
        self._reset(None)
        self._phase = Phase.DEAD
        self._datacb = None
        self._turn.close()
        wire = self._wire
        wire.output.on_drain = None
        if not wire.closed:
            if wire._readcb == self._on_read:
                wire.setcb(None, None, None)
            if self._owns_wire or self._options & BevOption.BEV_OPT_CLOSE_ON_FREE:
                wire.close()
            else:
                wire._resume_reading(SUSPENDED_FILTER)
        wire.decref()
