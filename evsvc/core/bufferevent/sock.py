"""BufferEvent: a bufferevent over a connected or connecting socket.

Reading: one recv() a readiness, straight into the input.  Writing: the output is offered to the
kernel once, after the callbacks of the pass (see flushlist.py); EV_WRITE is armed only for what
it did not take.
"""

from __future__ import annotations

import enum
import os
import socket
from typing import TYPE_CHECKING

from ..errors import SocketError, StateError
from ..event import PERSIST, READ, WRITE, Event
from ..flags import BevEvent, BevOption
from ..util import DescriptorStream, family_of, stream_of
from .abstract import SUSPENDED_LOOKUP, AbstractBufferEvent
from .connect import HostnameConnect

if TYPE_CHECKING:
    from ..base import EventBase
    from ..resolver import Resolver, SocketAddress

MAX_SINGLE_READ_BYTES = 16384

# libevent offers the kernel 16 KiB at a time; a larger reply then takes a pass for each.
MAX_SINGLE_WRITE_BYTES = 256 * 1024

Socket = socket.socket

_READING, _WRITING = BevEvent.BEV_EVENT_READING, BevEvent.BEV_EVENT_WRITING
_EOF, _ERROR = BevEvent.BEV_EVENT_EOF, BevEvent.BEV_EVENT_ERROR


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
        "_borrowed",
        "_connect_error",
        "_flush_listed",
        "_hostname",
        "_owns_stream",
        "_phase",
        "_read_event",
        "_recv",
        "_stream",
        "_write_armed",
        "_write_event",
        "dns_error",
        "max_single_read",
        "max_single_write",
    )

    def __init__(
        self, base: EventBase, fd: socket.socket | int | None = None, options: int = 0
    ) -> None:
        super().__init__(base, options)
        self.max_single_read = MAX_SINGLE_READ_BYTES
        self.max_single_write = MAX_SINGLE_WRITE_BYTES
        self.dns_error = 0
        self._phase = _Phase.UNCONNECTED
        self._flush_listed = False
        self._write_armed = False
        self._hostname: HostnameConnect | None = None
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
        before the return.  Output written meanwhile is sent then.  Raises ArgumentError for an
        address that is none, StateError when connected already, OSError when there is no socket
        to be had.  Source: bufferevent_socket_connect.
        """
        self._require_unconnected()
        family = family_of(address)
        if self._stream is None:
            self._attach(socket.socket(family, socket.SOCK_STREAM))
            self._owns_stream = True
        self._start_connect(address)

    def connect_hostname(
        self, resolver: Resolver | None, family: int, host: str, port: int
    ) -> None:
        """Look `host` up without blocking, and connect to its addresses in turn.

        family: AF_UNSPEC, AF_INET or AF_INET6.  A numeric host needs no resolver.  The outcome
        comes to the event callback as with `connect`; after a failed look-up `dns_error` holds
        its code.  Raises ArgumentError for a bad family or port, or for a name without resolver.
        Source: bufferevent_socket_connect_hostname.
        """
        self._require_unconnected()
        hostname = HostnameConnect(self, family, host, port)
        self.dns_error = 0
        self._hostname = hostname
        self._phase = _Phase.RESOLVING
        self._suspend_reading(SUSPENDED_LOOKUP)
        hostname.start(resolver)

    def flush(self, events: int, mode: int = 0) -> bool:
        """Do nothing, as libevent does for sockets: the loop sends by itself.  Returns False."""
        self._require_open()
        return False

    @property
    def priority(self) -> int:
        """The priority of all its callbacks (bufferevent_priority_set)."""
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._require_open()
        if self._stream is not None:
            self._read_event.priority = priority
            self._write_event.priority = priority
        if self._deferred is not None:
            self._deferred.priority = priority
        self._priority = priority

    # ---- the descriptor ---------------------------------------------------------------------

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
        self._detach()

    # ---- reading ----------------------------------------------------------------------------

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
        limit = self.max_single_read
        if self._read_high:
            limit = min(limit, self._read_high - self.input._length)
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
        self.input._append(data)
        self._bytes_came()

    # ---- writing ----------------------------------------------------------------------------

    def enable(self, events: int) -> None:
        """Enable EV_READ, EV_WRITE or both (bufferevent_enable).

        Enabling EV_WRITE explicitly gets one write callback even with an empty output.
        """
        super().enable(events)
        if events & WRITE and self._phase is _OPEN and not self.output._length:
            self._arm_writing()

    def _update_writing(self) -> None:
        if not self._enabled & WRITE:
            if self._write_armed and self._phase is _OPEN:
                self._disarm_writing()
        elif self.output._length and not (self._flush_listed or self._write_armed):
            self._flush_listed = True
            self._base._flush_list.waiting.append(self)
        if self._write_timer is not None:
            self._update_timers()

    def _flush_output(self) -> None:
        self._flush_listed = False
        if self._phase is _OPEN and self._enabled & WRITE and not self._write_armed:
            self._write_once()

    def _on_writable(self, fd: int, what: int, arg: object) -> None:
        if self._phase is _Phase.CONNECTING:
            self._finish_connect()
        elif self.output._length:
            self._write_once()
        else:
            self._disarm_writing()
            self._bytes_left()

    def _write_once(self) -> None:
        output = self.output
        offered = min(output._length, self.max_single_write)
        if not offered:
            return
        assert self._stream is not None
        try:
            sent = output._send(self._stream, self.max_single_write)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._fail(WRITE, exc)
            return
        if sent < offered:
            self._arm_writing()
        elif self._write_armed and not output._length:
            self._disarm_writing()
        elif output._length:
            self._update_writing()
        if self._write_timer is not None:
            self._update_timers()
        if sent:
            self._bytes_left()

    def _arm_writing(self) -> None:
        if not self._write_armed:
            self._write_armed = True
            self._write_event.add()

    def _disarm_writing(self) -> None:
        self._write_armed = False
        self._write_event.delete()

    # ---- connecting -------------------------------------------------------------------------

    def _start_connect(self, address: SocketAddress) -> None:
        """Connect; whatever comes of it, the write event reports it."""
        assert isinstance(self._stream, socket.socket)
        self._phase = _Phase.CONNECTING
        self._connect_error = None
        try:
            self._stream.connect(address)
        except (BlockingIOError, InterruptedError):
            pass  # under way
        except OSError as exc:
            self._connect_error = exc
        self._arm_writing()
        if self._connect_error is not None:
            self._write_event.active(WRITE)

    def _connect_next(self, family: int, address: SocketAddress) -> None:
        """Start over with another address; used by HostnameConnect."""
        if self._owns_stream:
            self._detach()
        try:
            if self._stream is None:
                self._attach(socket.socket(family, socket.SOCK_STREAM))
                self._owns_stream = True
            self._start_connect(address)
        except OSError as exc:
            self._lookup_failed(exc)

    def _finish_connect(self) -> None:
        error = self._connect_error
        if error is None:
            assert isinstance(self._stream, socket.socket)
            code = self._stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            error = SocketError(code, os.strerror(code)) if code else None
        self._disarm_writing()
        if error is not None:
            self._connect_error = None
            self._phase = _Phase.UNCONNECTED
            if self._hostname is not None and self._hostname.try_next():
                return
            self._hostname = None
            if self._owns_stream:
                self._detach()
            self.error = error
            self._run_eventcb(_ERROR)
            return
        self._hostname = None
        self._phase = _OPEN
        self._read_suspended &= ~SUSPENDED_LOOKUP
        self._update_reading()
        self._update_writing()
        self._run_eventcb(BevEvent.BEV_EVENT_CONNECTED)

    def _lookup_failed(self, error: OSError, dns_error: int = 0) -> None:
        """The look-up gave nothing to connect to; used by HostnameConnect."""
        self._hostname = None
        self._phase = _Phase.UNCONNECTED
        self.dns_error = dns_error
        self.error = error
        self._run_eventcb(_ERROR, defer=True)

    def _require_unconnected(self) -> None:
        self._require_open()
        if self._phase is not _Phase.UNCONNECTED:
            raise StateError(f"the bufferevent is {self._phase.name.lower()} already")

    def _fail(self, direction: int, error: OSError) -> None:
        self.error = error
        self.disable(direction)
        self._run_eventcb((_READING if direction == READ else _WRITING) | _ERROR)
