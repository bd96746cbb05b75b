"""BufferEvent: a bufferevent over a connected or connecting socket.

Reading: one recv() a readiness, straight into the input.  Writing: the output is offered to the
kernel once, after the callbacks of the pass (see flushlist.py); EV_WRITE is armed only for what
it did not take.
"""

from __future__ import annotations

import enum
import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, SocketError, StateError
from ..event import PERSIST, READ, WRITE, Event
from ..flags import BevEvent, BevOption
from ..util import DescriptorStream, family_of, stream_of
from .abstract import SUSPENDED_LOOKUP, AbstractBufferEvent
from .connect import HostnameConnect, has_no_peer

if TYPE_CHECKING:
    from ..base import EventBase
    from ..resolver import Resolver, SocketAddress

MAX_SINGLE_READ_BYTES = 16384

# libevent offers the kernel 16 KiB at a time; a larger reply then takes a pass for each.
MAX_SINGLE_WRITE_BYTES = 256 * 1024

Socket = socket.socket

_READING, _WRITING = BevEvent.BEV_EVENT_READING, BevEvent.BEV_EVENT_WRITING
_EOF, _ERROR = BevEvent.BEV_EVENT_EOF, BevEvent.BEV_EVENT_ERROR


StreamCallback = Callable[[Any, bytes, Any], object]
"""Called as `cb(bev, data, ctx)`; `data` is not empty."""


class _Phase(enum.Enum):
    UNCONNECTED = enum.auto()  # no descriptor yet, or one that nothing is known of
    RESOLVING = enum.auto()
    CONNECTING = enum.auto()
    OPEN = enum.auto()


_OPEN = _Phase.OPEN


class BufferEvent(AbstractBufferEvent):
    """A buffered stream over a socket, or over any descriptor that can be polled.

    fd: a socket, a descriptor number, or None to `connect` later.  It is made non-blocking, and
    closed by `close` with BEV_OPT_CLOSE_ON_FREE.  Source: bufferevent_socket_new.
    """

    __slots__ = (
        "_asks_to_write",
        "_borrowed",
        "_connect_error",
        "_datacb",
        "_flush_listed",
        "_hostname",
        "_max_single_read",
        "_max_single_write",
        "_owns_stream",
        "_phase",
        "_read_event",
        "_recv",
        "_stream",
        "_write_armed",
        "_write_event",
        "dns_error",
    )

    def __init__(
        self, base: EventBase, fd: socket.socket | int | None = None, options: int = 0
    ) -> None:
        super().__init__(base, options)
        self._max_single_read = MAX_SINGLE_READ_BYTES
        self._max_single_write = MAX_SINGLE_WRITE_BYTES
        self.dns_error = 0
        self._phase = _Phase.UNCONNECTED
        self._flush_listed = False
        self._write_armed = False
        self._asks_to_write = False  # EV_WRITE was enabled before there was a connection
        self._hostname: HostnameConnect | None = None
        self._datacb: StreamCallback | None = None
        self._connect_error: OSError | None = None
        self._stream: socket.socket | DescriptorStream | None = None
        self._owns_stream = bool(options & BevOption.BEV_OPT_CLOSE_ON_FREE)
        self._borrowed = isinstance(fd, int)  # a number: ours is a second object over it
        if fd is not None and fd != -1:
            self._attach(fd)
            self._phase = _OPEN

    @property
    def fd(self) -> int:
        """The descriptor, or -1 when there is none (bufferevent_getfd)."""
        return -1 if self._stream is None else self._stream.fileno()

    @property
    def socket(self) -> Socket | None:
        """The socket, or None when there is none or the descriptor is no socket."""
        return self._stream if isinstance(self._stream, socket.socket) else None

    def connect(self, address: SocketAddress) -> None:
        """Connect to `(host, port)` with a numeric host, or to a Unix socket's path.

        The event callback gets BEV_EVENT_CONNECTED or BEV_EVENT_ERROR from the loop, never
        before the return.  Output written meanwhile is sent then.  A socket that the bufferevent
        was made with, unconnected, is the one that connects; it may be bound.  Raises
        ArgumentError for an address that is none, StateError when connected already, OSError when
        there is no socket to be had.  Source: bufferevent_socket_connect.
        """
        self._require_unconnected()
        self._connect_to(family_of(address), address)

    def connect_hostname(
        self, resolver: Resolver | None, family: int, host: str, port: int
    ) -> None:
        """Look `host` up without blocking, and connect to its addresses in turn.

        family: AF_UNSPEC, AF_INET or AF_INET6.  A numeric host needs no resolver.  The outcome
        comes to the event callback as with `connect`; after a failed look-up `dns_error` holds
        its code.  Raises ArgumentError for a bad family or port, or for a name without resolver,
        and what the resolver raises.  Source: bufferevent_socket_connect_hostname.
        """
        self._require_unconnected()
        hostname = HostnameConnect(self, family, host, port)
        self.dns_error = 0
        self._hostname = hostname
        self._phase = _Phase.RESOLVING
        self._suspend_reading(SUSPENDED_LOOKUP)
        self._update_timers()
        try:
            hostname.start(resolver)
        except BaseException:
            hostname.cancel()
            self._connect_failed()
            raise

    def set_datacb(self, datacb: StreamCallback | None) -> None:
        """Give what is received to `datacb(bev, data, ctx)` as it came, past the input.

        For a protocol that keeps its own state: it saves a way into a buffer and out again, 0.7
        of 12 us a request in the HTTP server.  The read callback and the watermarks of reading
        are not in use then; `disable(EV_READ)` holds the peer back.  None ends it.
        """
        self._require_open()
        self._datacb = datacb

    def flush(self, events: int, mode: int = 0) -> bool:
        """Do nothing, as libevent does for sockets: the loop sends by itself.  Returns False."""
        self._require_open()
        return False

    @property
    def max_single_read(self) -> int:
        """The most bytes that one readiness brings; 0 sets the default, 16 KiB.

        Setting raises ArgumentError when negative.  Source: bufferevent_set_max_single_read.
        """
        return self._max_single_read

    @max_single_read.setter
    def max_single_read(self, size: int) -> None:
        self._max_single_read = _checked_size(size) or MAX_SINGLE_READ_BYTES

    @property
    def max_single_write(self) -> int:
        """The most bytes that the kernel is offered at once; 0 sets the default, 256 KiB.

        Setting raises ArgumentError when negative.  Source: bufferevent_set_max_single_write.
        """
        return self._max_single_write

    @max_single_write.setter
    def max_single_write(self, size: int) -> None:
        self._max_single_write = _checked_size(size) or MAX_SINGLE_WRITE_BYTES

    @property
    def priority(self) -> int:
        """The priority of all its callbacks (bufferevent_priority_set).

        Setting raises StateError while one of them is due, ArgumentError out of range.
        """
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._require_open()
        self._base._active.check_priority(priority)
        events = [] if self._stream is None else [self._read_event, self._write_event]
        if self._deferred is not None:
            events.append(self._deferred)
        if any(event._active for event in events):
            raise StateError("the priority cannot change while a callback is due")
        for event in events:
            event.priority = priority
        self._priority = priority

    def _attach(self, fd: Socket | int) -> None:
        stream = self._stream = stream_of(fd)
        self._recv = stream.recv
        self._read_event = Event(self._base, stream, READ | PERSIST, self._on_readable)
        self._write_event = Event(self._base, stream, WRITE | PERSIST, self._on_writable)
        self._read_event._priority = self._write_event._priority = self._priority

    def _detach(self) -> None:
        """Forget the descriptor, and close it when it is ours."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        self._read_event.close()
        self._write_event.close()
        self._write_armed = False
        del self._recv
        if self._owns_stream:
            stream.close()
        elif self._borrowed:
            stream.detach()

    def _on_close(self) -> None:
        if self._hostname is not None:
            self._hostname.cancel()
            self._hostname = None
        self._datacb = None
        self._detach()

    def _update_reading(self) -> None:
        wants = self._wants_to_read()
        if self._phase is _OPEN and wants:
            if not self._read_event._inserted:
                self._read_event.add()
        elif self._stream is not None:
            self._read_event.delete()
        if self._read_timer is not None:
            if wants:
                self._read_timer.start(self._base.now)
            else:
                self._read_timer.stop()

    def _on_readable(self, fd: int, what: int, arg: object) -> None:
        limit = self._max_single_read
        if self._read_high and self._read_high - self.input._length < limit:
            limit = self._read_high - self.input._length
            if limit <= 0:  # the program has put something back
                self._check_high_watermark()
                return
        try:
            data = self._recv(limit)
        except BlockingIOError:
            return
        except OSError as exc:
            self._fail(READ, exc)
            return
        if not data:
            self.disable(READ)
            self._run_eventcb(_READING | _EOF)
            return
        if self._read_timer is not None:
            self._read_timer.last = self._base.now
        if self._datacb is not None:
            self._datacb(self, data, self._ctx)
        else:
            self.input._append(data)
            self._bytes_came()

    def enable(self, events: int) -> None:
        """Enable EV_READ, EV_WRITE or both (bufferevent_enable).

        Enabling EV_WRITE explicitly gets one write callback even with an empty output.
        """
        super().enable(events)
        if not events & WRITE:
            return
        if self._phase is not _OPEN:
            self._asks_to_write = True
            self._update_timers()
        elif not self.output._length:
            self._arm_writing()

    def _update_writing(self) -> None:
        """Output was added, or EV_WRITE switched: ask for a turn after the callbacks."""
        if self._phase is not _OPEN:
            if self._write_timer is not None:
                self._update_timers()
        elif not self._enabled & WRITE:
            if self._write_armed:
                self._disarm_writing()
        elif self.output._length and not (self._flush_listed or self._write_armed):
            self._flush_listed = True
            self._base._flush_list.waiting.append(self)

    def _on_writable(self, fd: int, what: int, arg: object) -> None:
        if self._phase is _Phase.CONNECTING:
            self._finish_connect()
        elif self.output._length:
            self._flush_output()
        else:
            self._disarm_writing()
            self._bytes_left()

    def _flush_output(self) -> None:
        """Offer the kernel the output once; wait for EV_WRITE when it does not take it all."""
        self._flush_listed = False
        output = self.output
        offered = output._length
        if not offered or self._phase is not _OPEN or not self._enabled & WRITE:
            return
        if offered > self._max_single_write:
            offered = self._max_single_write
        stream: Any = self._stream  # never None while OPEN
        chunk = output._chunks[0]
        try:
            if type(chunk) is bytes and len(chunk) == offered and not output._start:
                sent = stream.send(chunk)  # the usual case of _send(), without a call
            else:
                sent = output._send(stream, offered)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._fail(WRITE, exc)
            return
        output._drop(sent)
        if not self._enabled & WRITE:  # by a callback of the output, or closed
            return
        if self._write_armed and sent and self._write_timer is not None:
            self._write_timer.last = self._base.now
        if sent < offered:
            self._arm_writing()
        elif output._length:
            self._update_writing()
        elif self._write_armed:
            self._disarm_writing()
        if sent and self._writecb is not None and output._length <= self._write_low:
            self._run_writecb()

    def _arm_writing(self) -> None:
        if not self._write_armed:
            self._write_armed = True
            self._write_event.add()
            if self._write_timer is not None:
                self._write_timer.start(self._base.now)

    def _disarm_writing(self) -> None:
        self._write_armed = False
        self._write_event.delete()
        if self._write_timer is not None:
            self._write_timer.stop()

    def _waits_to_write(self) -> bool:
        if self._phase is _OPEN:
            return self._write_armed
        if self._phase is _Phase.RESOLVING:
            return False
        return self._write_armed or self._asks_to_write or self.output._length > 0

    def _connect_to(self, family: int, address: SocketAddress) -> None:
        """Start connecting; whatever comes of it, the write event reports it.

        Raises OSError when there is no socket to be had.
        """
        if self._stream is None:
            self._attach(socket.socket(family, socket.SOCK_STREAM))
            self._owns_stream = True
        assert isinstance(self._stream, socket.socket)
        self._connect_error = None
        try:
            self._stream.connect(address)
        except BlockingIOError as exc:
            if exc.errno == errno.EAGAIN:  # not under way: a Unix listener's queue is full
                self._connect_error = exc.with_traceback(None)
        except OSError as exc:
            self._connect_error = exc.with_traceback(None)
        self._phase = _Phase.CONNECTING
        self._update_reading()
        self._arm_writing()
        self._update_timers()
        if self._connect_error is not None:
            self._write_event.active(WRITE)

    def _finish_connect(self) -> None:
        error = self._connect_error
        if error is None:
            assert isinstance(self._stream, socket.socket)
            code = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            error = SocketError(code, os.strerror(code)) if code else None
        self._connect_error = None
        self._disarm_writing()
        if error is not None:
            self._after_refusal(error)
            return
        self._hostname = None
        self._asks_to_write = False
        self._phase = _OPEN
        self._update_reading()
        self._update_writing()
        self._run_eventcb(BevEvent.BEV_EVENT_CONNECTED)

    def _after_refusal(self, error: OSError) -> None:
        """An address did not answer: try the next, or tell the program."""
        if self._owns_stream:
            self._detach()
        hostname = self._hostname
        if hostname is None or not hostname.try_next():
            self.error = error
            self._connect_failed()
            self._run_eventcb(_ERROR)

    def _connect_failed(self) -> None:
        """Be as before the connect; the program may start another."""
        self._hostname = None
        self._phase = _Phase.UNCONNECTED
        self._read_suspended &= ~SUSPENDED_LOOKUP
        self._asks_to_write = False
        self._stop_timers()

    def _lookup_failed(self, error: OSError, dns_error: int = 0) -> None:
        """The look-up gave nothing to connect to; used by HostnameConnect."""
        self.dns_error = dns_error
        self.error = error
        self._connect_failed()
        self._run_eventcb(_ERROR, defer=True)

    def _require_unconnected(self) -> None:
        self._require_open()
        phase = self._phase
        if phase is not _Phase.UNCONNECTED and not (phase is _OPEN and has_no_peer(self._stream)):
            raise StateError(f"the bufferevent is {phase.name.lower()} already")

    def _fail(self, direction: int, error: OSError) -> None:
        self.error = error.with_traceback(None)  # it would hold this frame, and us with it
        self.disable(direction)
        self._run_eventcb((_READING if direction == READ else _WRITING) | _ERROR)


def _checked_size(size: int) -> int:
    if size < 0:
        raise ArgumentError(f"a size is 0 or more: {size!r}")
    return size
