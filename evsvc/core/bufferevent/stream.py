"""A bufferevent over an open descriptor: the system calls that move its bytes.

Reading: one recv() a readiness, straight into the input.  Writing: the output is offered to the
kernel once, after the callbacks of the pass (see reactor.py); EV_WRITE is armed only for what
it did not take.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..descriptors import DescriptorStream, stream_of
from ..errors import ArgumentTypeError, StateError
from ..flags import PERSIST, READ, WRITE, BevEvent, BevOption
from .abstract import AbstractBufferEvent

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from ..reactor.event import Event

Socket = socket.socket

StreamCallback = Callable[[Any, bytes, Any], object]
"""Called as `cb(bev, data, ctx)`; `data` is not empty."""


def _nothing_to_receive(size: int, /) -> bytes:
    """Stand in for a descriptor that another thread has just taken away."""
    raise BlockingIOError


class _LockedTurn:
    """The turn to send of one with BEV_OPT_THREADSAFE: it has to hold its lock meanwhile."""

    __slots__ = ("_bev",)

    def __init__(self, bev: StreamBufferEvent) -> None:
        self._bev = bev

    def flush_output(self) -> None:
        self._bev._guarded(self._bev.flush_output)()


class StreamBufferEvent(AbstractBufferEvent):
    """Moves the bytes of a bufferevent while its descriptor is open."""

    __slots__ = (
        "_borrowed",
        "_datacb",
        "_flush_listed",
        "_made_by_connect",
        "_open",
        "_owns_stream",
        "_read_event",
        "_recv",
        "_stream",
        "_write_armed",
        "_write_event",
    )

    def __init__(self, base: EventBase, fd: Socket | int | None, options: int) -> None:
        super().__init__(base, options)
        self._open = False  # the descriptor carries bytes: it is there, and is connected
        self._flush_listed = False
        self._write_armed = False
        self._datacb: StreamCallback | None = None
        self._stream: Socket | DescriptorStream | None = None
        self._write_event: Event | None = None  # made when first armed: few ever are
        self._recv: Callable[[int], bytes] = _nothing_to_receive
        self._owns_stream = self._made_by_connect = self._borrowed = False
        if fd is not None and fd != -1:
            try:
                self._attach(self._stream_over(fd), borrowed=isinstance(fd, int))
            except BaseException:
                self.output.close()  # it refers to us
                raise
            self._open = True

    @property
    def fd(self) -> int:
        """The descriptor, or -1 when there is none (bufferevent_getfd)."""
        return -1 if self._stream is None else self._stream.fileno()

    @property
    def socket(self) -> Socket | None:
        """The socket, or None when there is none or the descriptor is no socket."""
        return self._stream if isinstance(self._stream, socket.socket) else None

    def setfd(self, fd: Socket | int | None) -> None:
        """Use another descriptor; the old one stays open (bufferevent_setfd).

        fd: as for the constructor; what is enabled goes on over it.  The old one is the program's
        from here on.  Raises SocketError when `fd` is not open, ArgumentTypeError for what is no
        descriptor, StateError when closed.
        """
        self._replace(fd, close_old=False)

    def replacefd(self, fd: Socket | int | None) -> None:
        """Use another descriptor and close the old one (bufferevent_replacefd).

        The same one again stays open.  Raises as `setfd`; the old one is in use then, as before.
        """
        self._replace(fd, close_old=True)

    def set_datacb(self, datacb: StreamCallback | None) -> None:
        """Give what is received to `datacb(bev, data, ctx)` as it came, past the input.

        For a protocol that keeps its own state: it saves a way into a buffer and out again, 0.7
        of 12 us a request in the HTTP server.  The read callback and the watermarks of reading
        are not in use then; `disable(EV_READ)` holds the peer back.  None ends it.  Raises
        ArgumentTypeError for what cannot be called, StateError when closed.
        """
        self._require_open()
        if datacb is not None and not callable(datacb):
            raise ArgumentTypeError(f"the callback cannot be called: {datacb!r}")
        self._datacb = datacb

    def _replace(self, fd: Socket | int | None, *, close_old: bool) -> None:
        self._require_open()
        if fd is None or fd == -1:
            self._detach(close_old)
            self._settle(READ | WRITE)
            return
        borrowed = isinstance(fd, int)
        stream = self._stream_over(fd)
        read_event = self._read_event_for(stream, borrowed)  # from here on nothing is refused
        old, is_same = self._stream, stream.fileno() == self.fd
        if is_same and old is not stream and self._made_by_connect:
            self._borrowed = True  # forgotten, it would close the descriptor
        self._detach(close_old and not is_same, keep=stream)
        self._use(stream, read_event, borrowed)
        self._open = True
        self.enable(self._enabled)

    def _stream_over(self, fd: Socket | int) -> Socket | DescriptorStream:
        return stream_of(fd, lent=not self._options & BevOption.BEV_OPT_CLOSE_ON_FREE)

    def _attach(self, stream: Socket | DescriptorStream, *, borrowed: bool = False) -> None:
        """Use a stream; a `borrowed` one is a second object over the program's number.

        Where that fails nothing has changed, and the number is open.
        """
        self._use(stream, self._read_event_for(stream, borrowed), borrowed)

    def _read_event_for(self, stream: Socket | DescriptorStream, borrowed: bool) -> Event:
        try:
            return self._new_event(stream, READ | PERSIST, self._on_readable)
        except BaseException:
            if borrowed:
                stream.detach()
            raise

    def _use(self, stream: Socket | DescriptorStream, read_event: Event, borrowed: bool) -> None:
        self._stream = stream
        self._read_event = read_event
        self._borrowed = borrowed
        self._owns_stream = bool(self._options & BevOption.BEV_OPT_CLOSE_ON_FREE)
        self._made_by_connect = False
        self._recv = stream.recv

    def _detach(self, close_stream: bool, keep: Socket | DescriptorStream | None = None) -> None:
        """Forget the descriptor, and close it if asked to.

        keep: a stream that is not let go of, as it is the next one, too.
        """
        self._open = False
        stream, self._stream = self._stream, None
        if stream is None:
            return
        self._read_event.close()
        if self._write_event is not None:
            self._write_event.close()
            self._write_event = None
        self._write_armed = False
        self._recv = _nothing_to_receive
        if close_stream:
            with suppress(OSError):  # it may be gone already
                stream.close()
        elif self._borrowed and stream is not keep:
            stream.detach()

    def _forget_callbacks(self) -> None:
        self._datacb = None
        super()._forget_callbacks()

    def _on_close(self) -> None:
        self._detach(self._owns_stream)

    def _move_to(self, base: EventBase) -> None:
        """Go over to another base, whose middle priority all callbacks get.

        Raises StateError while anything is pending, due or to be sent, and when `base` is closed.
        """
        base.reactor.require_open()
        events = self._events()
        if self._flush_listed or any(event.is_active or event.pending() for event in events):
            raise StateError("a bufferevent that is not idle cannot move to another base")
        for event in events:
            event.base = base
        self._base = base
        self._priority = base.npriorities // 2

    def _io_events(self) -> list[Event]:
        if self._stream is None:
            return []
        return [self._read_event] + ([self._write_event] if self._write_event else [])

    def _update_reading(self) -> None:
        if self._open and self._wanted & READ:
            if not self._read_event.inserted:
                self._read_event.add()
        elif self._stream is not None:
            self._read_event.delete()

    def _on_readable(self, fd: int, what: int, arg: object) -> None:
        limit = self._max_single_read
        bounded = self._bounded
        if bounded:
            limit = min(self._max_to_read(), self._room_to_read())
            if limit <= 0:  # the program has put something back, or a limiter is to suspend
                self._check_high_watermark()
                return
        try:
            data = self._recv(limit)
        except BlockingIOError:
            return
        except OSError as exc:
            self._failed(READ, exc)
            return
        if not data:
            self._ended(BevEvent.BEV_EVENT_READING)
            return
        if self._read_timer is not None:
            self._read_timer.last = self._base.now
        if bounded and self._limiter is not None:
            self._limiter.note_read(len(data))
        if self._datacb is not None:
            self._datacb(self, data, self._ctx)
        else:
            try:
                self.input.put(data)
            except BaseException:  # of a callback of the input; the bytes are there
                self._tell_input(defer=True)
                raise
            self._tell_input()

    def _asked_to_write(self) -> None:
        if self._open and not self.output.length:
            self._arm_writing()  # it gets one callback even so

    def _update_writing(self) -> None:
        """Output was added, or writing switched: ask for a turn after the callbacks."""
        if not self._open:
            if self._write_timer is not None:
                self._update_timers()
        elif not self._wanted & WRITE:
            if self._write_armed:
                self._disarm_writing()
        elif self.output.length and not (self._flush_listed or self._write_armed):
            self._flush_listed = True
            if self._lock is None:
                self._base.reactor.ask_to_flush(self)
            else:
                self._ask_for_locked_turn()

    def _ask_for_locked_turn(self) -> None:
        turn = _LockedTurn(self)
        if self._base.reactor.in_loop_thread():
            self._base.reactor.ask_to_flush(turn)
        else:
            self._base.reactor.post(turn.flush_output)

    def _on_writable(self, fd: int, what: int, arg: object) -> None:
        if self.output.length:
            self.flush_output()
        else:
            self._disarm_writing()
            self._run_writecb()

    def flush_output(self) -> None:
        """Offer the kernel the output once; wait for EV_WRITE when it does not take it all."""
        self._flush_listed = False
        output = self.output
        offered = output.length
        if not offered or not self._open or not self._wanted & WRITE:
            return
        limiter = self._limiter
        if limiter is not None:
            offered = min(offered, self._max_to_write())
            if offered <= 0:
                return
        elif offered > self._max_single_write:
            offered = self._max_single_write
        stream: Any = self._stream  # never None while open
        chunk = output._chunks[0]
        try:
            if type(chunk) is bytes and len(chunk) == offered and not output._start:
                sent = stream.send(chunk)  # the usual case of _send(), without a call
            else:
                sent = output.send(stream, offered)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._failed(WRITE, exc)
            return
        raised = True
        try:
            output.drop(sent)
            raised = False
        finally:  # the rest has to go though a callback of the output raises
            goes_on = self._wanted & WRITE  # else such a callback has disabled it, or closed
            if goes_on:
                if self._write_armed and sent and self._write_timer is not None:
                    self._write_timer.last = self._base.now
                if sent < offered:
                    self._arm_writing()
                elif output.length:
                    self._update_writing()
                elif self._write_armed:
                    self._disarm_writing()
            if limiter is not None:
                limiter.note_written(sent)
            if goes_on and sent and self._writecb is not None and output.length <= self._write_low:
                self._run_writecb(raised)

    def _arm_writing(self) -> None:
        if not self._write_armed:
            if self._write_event is None:
                assert self._stream is not None
                self._write_event = self._new_event(
                    self._stream, WRITE | PERSIST, self._on_writable
                )
            self._write_event.add()
            self._write_armed = True
            if self._write_timer is not None:
                self._update_timers()

    def _disarm_writing(self) -> None:
        self._write_armed = False
        assert self._write_event is not None
        self._write_event.delete()
        if self._write_timer is not None:
            self._update_timers()

    def _waits_to_write(self) -> bool:
        return self._write_armed if self._open else self.output.length > 0
