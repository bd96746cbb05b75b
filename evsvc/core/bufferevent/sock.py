"""BufferEvent: a bufferevent over a socket, or any descriptor; how it gets connected.

Reading: one recv() a readiness, straight into the input.  Writing: the output is offered to the
kernel once, after the callbacks of the pass; EV_WRITE is armed only for what it did not take.

When sending fails, the peer may have said why before it went.  So what has arrived is read and told
first, and the end of it, and only then the error of writing; while EV_READ is enabled, that is.
Where the input is full, or what stands above holds the reading, and nothing is taken for a few
passes, the error comes all the same: a program may wait for room to write before it takes more.  A
rate limit is waited for.  A peer that goes on sending for MAX_LAST_READS does not keep the error
from the program.  After a reset the end of the input is that
error, too, never an end of file: what is missing is not known.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ..descriptors import DescriptorStream, stream_of
from ..errors import ArgumentError, StateError
from ..flags import (
    CLOSE_ON_FREE,
    CLOSED,
    CONNECTED,
    ERROR,
    PERSIST,
    READ,
    READING,
    WRITE,
)
from ..thread import call_unlocked, holding_lock
from ..util import endpoint_of
from .abstract import AbstractBufferEvent
from .connect import (
    Attempt,
    ConnectOptions,
    HostnameConnect,
    connect_options,
    has_no_peer,
    host_of,
    new_socket,
)
from .flow import SUSPENDED_BANDWIDTH, SUSPENDED_GROUP, SUSPENDED_LOOKUP
from .lingering import close_stream, fork_count
from .turns import watch

if TYPE_CHECKING:
    from ..reactor.base import EventBase
    from ..reactor.event import Event
    from ..resolver import Resolver, SocketAddress
    from ..util import Endpoint

Socket = socket.socket

MAX_LAST_READS = 1024
"""How often is read at most, `max_single_read` each time, before an error of writing is told."""

MAX_HELD_TURNS = 8
"""For how many passes an input that is full, and not taken from, holds such an error up."""

_BANDWIDTH = SUSPENDED_BANDWIDTH | SUSPENDED_GROUP


def _nothing_to_receive(size: int, /) -> bytes:
    """Stand in for a descriptor that another thread has just taken away."""
    raise BlockingIOError


class _LockedTurn:
    """The turn to send of one with BEV_OPT_THREADSAFE: it has to hold its lock meanwhile."""

    __slots__ = ("_flush",)

    def __init__(self, flush: Callable[[], object]) -> None:
        self._flush = flush

    def flush_output(self) -> None:
        self._flush()


class _LastWords:
    """The error of writing, which waits until what the peer has said before is told."""

    __slots__ = ("error", "held", "input_bytes", "left", "turn")

    def __init__(self, error: OSError, turn: Event) -> None:
        self.error = error
        self.turn = turn
        self.left = MAX_LAST_READS
        self.held = 0  # passes in which reading was held, and nothing taken
        self.input_bytes = 0


class BufferEvent(AbstractBufferEvent):
    """A buffered stream over a socket, or over any other descriptor: a pipe, a terminal, a file.

    fd: a socket, a descriptor number, or None to `connect` later.  It is made non-blocking, and
    closed by `close` with BEV_OPT_CLOSE_ON_FREE; without, it gets its blocking mode back then.  A
    file that cannot be watched has its turns: one bounded read or write a pass.

    `dns_error` is the code of the last look-up that failed, else 0.
    Source: bufferevent_socket_new, bufferevent_socket_get_dns_error.
    """

    __slots__ = (
        "_asks_to_write",
        "_borrowed",
        "_connecting",
        "_end_event",
        "_flush_listed",
        "_last_words",
        "_made_by_connect",
        "_open",
        "_origin",
        "_read_event",
        "_recv",
        "_stream",
        "_write_armed",
        "_write_event",
        "dns_error",
    )

    def __init__(self, base: EventBase, fd: Socket | int | None = None, options: int = 0) -> None:
        super().__init__(base, options)
        self._connecting: HostnameConnect | Attempt | None = None
        self._asks_to_write = False  # EV_WRITE was enabled before there was a connection
        self.dns_error = 0
        self._open = False  # the descriptor carries bytes: it is there, and is connected
        self._flush_listed = False
        self._write_armed = False
        self._last_words: _LastWords | None = None
        # Of a descriptor of ours: how many forks there were when we got it.  Of a borrowed one:
        # what gives it its blocking mode back.
        self._origin: int | Callable[[], object] | None = None
        self._end_event: Event | None = None  # looks for the end while nothing is read
        self._stream: Socket | DescriptorStream | None = None
        self._write_event: Event | None = None  # made when first armed: few ever are
        self._recv: Callable[[int], bytes] = _nothing_to_receive
        self._made_by_connect = self._borrowed = False
        if fd is not None and fd != -1:
            try:
                origin = self._origin_of(fd)
                self._attach(self._stream_over(fd), borrowed=isinstance(fd, int))
                self._origin = origin
            except BaseException:
                self.flow.close()  # it and the output refer to us
                self.output.close()
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

    def has_unread(self) -> bool:
        """Return True when bytes of the peer have come and are not read: in the input, or below."""
        if self.input.length:
            return True
        sock = self.socket
        try:
            return sock is not None and bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    @holding_lock
    def watch_end(self, endcb: Callable[[], object] | None) -> None:
        """Call `endcb()` once when the peer has ended its side; see AbstractBufferEvent."""
        self._require_open()
        old, self._end_event = self._end_event, None
        if old is not None:
            old.close()
        if endcb is not None and self.socket is not None:
            self._end_event = self._new_event(
                self.socket, CLOSED, lambda fd, what, arg: call_unlocked(endcb)
            )
            self._end_event.add()

    @property
    def carries_bytes(self) -> bool:
        """Whether the descriptor is there, and connected."""
        return self._open

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

    def _replace(self, fd: Socket | int | None, *, close_old: bool) -> None:
        self._require_open()
        if fd is None or fd == -1:
            self._detach(close_old)
            self._update(READ | WRITE)
            return
        borrowed = isinstance(fd, int)
        origin = self._origin_of(fd)
        stream = self._stream_over(fd)
        read_event = self._read_event_for(stream, borrowed)  # from here on nothing is refused
        old, is_same = self._stream, stream.fileno() == self.fd
        if is_same:
            origin, self._origin = self._origin, None
            if old is not stream and self._made_by_connect:
                self._borrowed = True  # forgotten, it would close the descriptor
        self._detach(close_old and not is_same, keep=stream)
        self._use(stream, read_event, borrowed)
        self._origin = origin
        self._open = True
        self.enable(self.flow.enabled)

    @property
    def _owns_stream(self) -> bool:
        return bool(self._made_by_connect or self._options & CLOSE_ON_FREE)

    def _origin_of(self, fd: Socket | int) -> int | Callable[[], object] | None:
        """Return what `close` has to know of a descriptor; before we use it."""
        if self._options & CLOSE_ON_FREE:
            return fork_count()
        return blocking_restorer(fd)

    def _stream_over(self, fd: Socket | int) -> Socket | DescriptorStream:
        return stream_of(fd, lent=not self._options & CLOSE_ON_FREE)

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
        self._made_by_connect = False
        self._recv = stream.recv
        self._begin_anew()

    def _detach(self, close: bool, keep: Socket | DescriptorStream | None = None) -> None:
        """Forget the descriptor, and close it if asked to.

        keep: a stream that is not let go of, as it is the next one, too.
        """
        self._end_connect()
        was_open, self._open = self._open, False
        stream, self._stream = self._stream, None
        if stream is None:
            return
        words, self._last_words = self._last_words, None
        if words is not None:
            words.turn.close()
        self._read_event.close()
        if self._end_event is not None:
            self._end_event.close()
            self._end_event = None
        if self._write_event is not None:
            self._write_event.close()
            self._write_event = None
        self._write_armed = False
        self._recv = _nothing_to_receive
        origin, self._origin = self._origin, None
        if callable(origin):
            with suppress(OSError):  # it may be gone already
                origin()
        if close:
            if was_open and not self._input_is_over and origin == fork_count():
                close_stream(self._base, stream)
            else:
                with suppress(OSError):
                    stream.close()
        elif self._borrowed and stream is not keep:
            stream.detach()

    def _on_close(self) -> None:
        self._detach(self._owns_stream)

    def _move_to(self, base: EventBase) -> None:
        """Go over to another base, whose middle priority all callbacks get.

        Raises StateError while anything is pending, due or to be sent, and when `base` is closed.
        """
        if self._connecting is not None:
            raise StateError(f"the bufferevent is {self._connecting.state}")
        base.reactor.require_open()
        events = self._events()
        if self._flush_listed or any(event.is_active or event.pending() for event in events):
            raise StateError("a bufferevent that is not idle cannot move to another base")
        for event in events:
            event.base = base
        if self._timeouts is not None:
            self._timeouts.follow(base)
        self._base = base
        self._priority = base.npriorities // 2

    def _io_events(self) -> list[Event]:
        if self._stream is None:
            return []
        events = (self._read_event, self._write_event, self._end_event)
        return [event for event in events if event is not None]

    def _update_reading(self) -> None:
        if self._open and self.flow.wanted & READ:
            if not self._read_event.inserted:
                self._read_event = watch(self._read_event)
        elif self._stream is not None:
            self._read_event.delete()
        if self._last_words is not None:
            self._base.reactor.defer(self._last_words.turn, to_next_pass=True)

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
            self._end_reading(exc)
            return
        if not data:
            self._end_reading(None)
            return
        timeouts = self._timeouts
        if timeouts is not None and (deadline := timeouts.read) is not None:
            deadline.last = deadline.clock()
        if bounded and self._limiter is not None:
            self._limiter.note_read(len(data))
        if self._datacb is not None:
            if self._lock is None:
                self._datacb(self, data, self._ctx)
            else:
                call_unlocked(self._tell_data, data)
        else:
            try:
                self.input.put(data)
            except BaseException:  # of a callback of the input; the bytes are there
                self._tell_input(defer=True)
                raise
            self._tell_input()

    def _end_reading(self, error: OSError | None) -> None:
        words = self._last_words
        if error is None and words is not None and isinstance(words.error, ConnectionResetError):
            error = words.error
        if error is None or (error.errno == errno.EIO and _is_terminal(self._stream)):
            self._ended(READING)
        else:
            self._failed(READ, error)
        self._hear_last_words()

    def _cannot_write(self, error: OSError) -> None:
        """Sending has failed; what has arrived comes first."""
        if self._last_words is None:
            turn = self._new_event(-1, 0, self._on_last_turn)
            self._last_words = _LastWords(error.with_traceback(None), turn)
        self._stop(WRITE)
        self._hear_last_words()

    def _on_last_turn(self, fd: int, what: int, arg: object) -> None:
        self._hear_last_words()

    def _hear_last_words(self) -> None:
        """Read once more, where there is something to read; else tell that writing has failed."""
        words = self._last_words
        if words is None:
            return
        flow = self.flow
        if flow.enabled & READ:
            if flow.read_suspended and not flow.read_suspended & ~_BANDWIDTH:
                return  # `_update_reading` comes back to it
            if self._more_is_to_come(words):
                words.left -= 1
                self._base.reactor.defer(words.turn, to_next_pass=True)
                if flow.wanted & READ:
                    self._on_readable(self.fd, READ, None)
                return
        self._last_words = None
        words.turn.close()
        self._failed(WRITE, words.error)

    def _more_is_to_come(self, words: _LastWords) -> bool:
        """Return True while there is something to read, and it is worth while to wait for it."""
        size = self.input.length
        if self.flow.wanted & READ or size != words.input_bytes:
            words.held = 0
        else:
            words.held += 1
        words.input_bytes = size
        if not words.left or words.held > MAX_HELD_TURNS:
            return False
        return is_readable(self.fd) or bool(words.held and size)

    def _asked_to_write(self) -> None:
        if not self._open:
            self._asks_to_write = True
        elif not self.output.length:
            self._arm_writing()  # it gets one callback even so

    def _tell_data(self, data: bytes) -> None:
        if self._datacb is not None:
            self._datacb(self, data, self._ctx)

    def _update_writing(self) -> None:
        """Output was added, or writing switched: ask for a turn after the callbacks."""
        if not self._open:
            self._update_timers()
        elif not self.flow.wanted & WRITE:
            if self._write_armed:
                self._disarm_writing()
        elif self.output.length and not (self._flush_listed or self._write_armed):
            self._flush_listed = True
            if self._lock is None:
                self._base.reactor.ask_to_flush(self)
            else:
                self._ask_for_locked_turn()

    def _ask_for_locked_turn(self) -> None:
        turn = _LockedTurn(self._guarded(self.flush_output))
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
        flow = self.flow
        offered = output.length
        if not offered or not self._open or not flow.wanted & WRITE:
            return
        limiter = self._limiter
        if limiter is not None:
            offered = min(offered, self._max_to_write())
            if offered <= 0:
                return
        elif offered > self._max_single_write:
            offered = self._max_single_write
        stream: Any = self._stream  # never None while open
        first = output.chunks[0]
        try:
            if type(first) is bytes and len(first) == offered and not output.start:
                sent = stream.send(first)  # the usual case: a chunk, whole
            else:
                sent = output.send(stream, offered)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._cannot_write(exc)
            return
        if (
            sent == output.length
            and not (self._write_armed or self._ends)
            and limiter is None
            and self._writecb is None
        ):
            output.drop(sent)  # the usual case: all is sent, and nobody waits for that
            if self._writecb is None:
                return
            if flow.wanted & WRITE and output.length <= flow.write_low:  # one has come meanwhile
                self._run_writecb(False)
            return
        raised = True
        try:
            output.drop(sent)
            raised = False
        finally:  # the rest has to go though a callback of the output raises
            goes_on = flow.wanted & WRITE  # else such a callback has disabled it, or closed
            if goes_on:
                if self._write_armed and sent and self._timeouts is not None:
                    self._timeouts.note_written()
                if sent < offered:
                    try:
                        self._arm_writing()
                    except OSError as exc:
                        self._cannot_write(exc)
                elif output.length:
                    self._update_writing()
                else:
                    if self._write_armed:
                        self._disarm_writing()
                    if self._ends:
                        self._end_output_if_due()
            if limiter is not None:
                limiter.note_written(sent)
            if goes_on and sent and self._writecb is not None and output.length <= flow.write_low:
                self._run_writecb(raised)

    def _arm_writing(self) -> None:
        if not self._write_armed:
            if self._write_event is None:
                assert self._stream is not None
                self._write_event = self._new_event(
                    self._stream, WRITE | PERSIST, self._on_writable
                )
            self._write_event = watch(self._write_event)
            self._write_armed = True
            self._update_timers()

    def _disarm_writing(self) -> None:
        self._write_armed = False
        assert self._write_event is not None
        self._write_event.delete()
        self._update_timers()

    def _waits_to_write(self) -> bool:
        if self._connecting is not None or self._asks_to_write:
            return True
        return self._write_armed if self._open else self.output.length > 0

    def _end_output(self) -> bool:
        """Shut the socket down; of the others, only what we may close can show an end."""
        stream = self._stream
        if not self._open or stream is None:
            return False
        if isinstance(stream, socket.socket):
            with suppress(OSError):  # a peer that is gone is found by reading
                stream.shutdown(socket.SHUT_WR)
        elif self._owns_stream and _only_writes(stream.fileno()):
            self._detach(True)
        return True

    def _can_finish(self) -> bool:
        return self._stream is not None or self._connecting is not None

    # Connecting.

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
        self.flow.suspend_reading(SUSPENDED_LOOKUP)
        self.flow.suspend_writing(SUSPENDED_LOOKUP)
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
        self._update(READ | WRITE)

    def _adopt(self, sock: Socket) -> None:
        """Use a socket that connecting has made."""
        try:
            self._attach(stream_of(sock))
        except BaseException:
            sock.close()
            raise
        self._made_by_connect = True
        self._origin = fork_count()

    def _on_attempt(self, attempt: Attempt, error: OSError | None) -> None:
        self._connect_ended(attempt.sock if error is None else None, error)

    def _looked_up(self) -> None:
        """The look-up is over, and addresses are tried."""
        self._end_lookup()

    def _connect_ended(
        self,
        sock: Socket | None,
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
            self._run_eventcb(ERROR, defer)
            return
        if sock is not self._stream:
            self._adopt(sock)
        self._asks_to_write = False
        self._open = True
        self._update(READ | WRITE)
        self._run_eventcb(CONNECTED)

    def _give_up_connect(self) -> None:
        """Be as before the connect, with no time-out running; the program may start another."""
        if self._made_by_connect:
            self._detach(True)
        else:
            self._end_connect()
        self._update(READ | WRITE)
        if self._timeouts is not None:
            self._timeouts.update(False, False)

    def _end_connect(self) -> None:
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
        self._asks_to_write = False
        self._end_lookup()

    def _end_lookup(self) -> None:
        self.flow.resume_reading(SUSPENDED_LOOKUP)
        self.flow.resume_writing(SUSPENDED_LOOKUP)

    def _require_unconnected(self) -> None:
        self._require_open()
        if self._connecting is not None:
            raise StateError(f"the bufferevent is {self._connecting.state} already")
        if self._open and not has_no_peer(self._stream):
            raise StateError("the bufferevent is open already")


def blocking_restorer(fd: Socket | int) -> Callable[[], object] | None:
    """Return what gives a descriptor its blocking mode back; None where it does not block now.

    A number is left alone when it has become another file's, and everything in a forked child: the
    mode is the parent's, too.
    """
    if isinstance(fd, socket.socket):
        timeout = fd.gettimeout()
        return None if timeout == 0.0 else partial(_restore_timeout, os.getpid(), fd, timeout)
    if not isinstance(fd, int):
        return None
    try:
        if not os.get_blocking(fd):
            return None
        file = os.fstat(fd)
    except (OSError, OverflowError):  # who uses it will say so
        return None
    return partial(_restore_blocking, os.getpid(), fd, file.st_dev, file.st_ino)


def _restore_timeout(pid: int, sock: Socket, timeout: float | None) -> None:
    if os.getpid() == pid:
        sock.settimeout(timeout)


def _restore_blocking(pid: int, fd: int, device: int, inode: int) -> None:
    file = os.fstat(fd)
    if os.getpid() == pid and (file.st_dev, file.st_ino) == (device, inode):
        os.set_blocking(fd, True)


def _is_terminal(stream: object) -> bool:
    """Whether it is a character device: one end of a pseudo-terminal whose other end is closed."""
    if not isinstance(stream, DescriptorStream):
        return False
    return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)


def is_readable(fd: int) -> bool:
    """Whether a descriptor has bytes or an end to read at this moment."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _only_writes(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
