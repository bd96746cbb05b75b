"""HttpConnection: the client.  One connection to one server, kept alive, requests in their order.

It connects when there is something to send, and again when the server has closed meanwhile.  The
next request goes out when the response before it is complete; where the options let it
(`max_pipelined`), before.

A request's way: writer -> carrier -> reader -> the program's callback.  How a carrier gets
connected is the dialer's affair, what a streamed body gives is the upload's.

Invariants
    * `_phase` moves as `NEXT` says, and no other way.
    * `_queue[0]` is the request under way in HELD, WAITING and BODY.  `_line` says how many behind
      it are sent, too; the reader knows of the first alone.  `_queue` is the line's.
    * A request leaves the queue before its completion and error callbacks and the close callback
      run, so they may queue more, cancel, close.  What one raises ends its exchange, and no other.
    * `_deadline` is when the present phase is over, and its timer fires for the `ends_at` of all
      requests, too.  So a request has no timer operation.
    * The server's silence counts from when all of the request is sent.  Its not taking anything is
      the carrier's own time-out, `write_s`.
    * A connection is looked at before it is used again: one that the server has closed, or that
      has bytes which nobody asked for, is dropped.
    * A request goes over a second connection only where `_may_go_again` or `Line.part` says so,
      and once, unless it was surely not done.  What cannot, and was sent behind another with which
      the connection ends, is in `_lost` until `_rest` tells it.
    * Where a connection has ended with something under way, nothing is sent behind the first
      request of the next one before that is answered: `_is_wary` (RFC 9112 9.3.2).
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, Final, Self

from ...core import (
    BEV_EVENT_EOF,
    BEV_EVENT_TIMEOUT,
    BEV_EVENT_WRITING,
    EV_READ,
    EV_TIMEOUT,
    EV_WRITE,
    AbstractBufferEvent,
    ArgumentError,
    BufferEvent,
    EvBuffer,
    StateError,
    TlsBufferEvent,
)
from ...core.checks import require_callable, whole_number
from ...core.closing import Closing
from ...core.util import check_port, ip_version
from ..errors import (
    ConnectFailed,
    ConnectionClosed,
    HttpError,
    InvalidResponse,
    RequestCancelled,
    RequestTimeout,
)
from ..options import ClientOptions, ConnectionFlag
from ..wire.headers import Headers
from ..wire.response_reader import ResponseReader
from .deadline import Deadline
from .dialer import (
    HTTP_PORT,
    HTTPS_PORT,
    ConnectProxy,
    Dialer,
    MakeCarrier,
    check_way,
    require_bufferevent,
    tls_context,
)
from .keeping import Keeping
from .line import IDEMPOTENT, Line
from .phases import AT_REST, CONNECTED, NEXT, UNDER_WAY, Phase, Step
from .request import HttpRequest, host_field
from .upload import MAX_WAITING_BYTES, Upload, UploadState

if TYPE_CHECKING:
    import ssl

    from ...core import EventBase
    from ...core.resolver import Resolver, SocketAddress
    from ..wire.limits import ReaderLimits
    from ..wire.response_head import ResponseHead
    from .dialer import ConnectTimes
    from .request import CompletionCallback

logger = logging.getLogger("evsvc.http")

MAX_RETRY_DELAY_S = 3600.0
"""The delay between two attempts to connect doubles up to here, as libevent's does."""

_FLAGS: Final = sum(ConnectionFlag)
LARGE_READ_BYTES: Final = 128 * 1024
"""How much is read at once of a body that fills the usual reads: a third less CPU time a byte."""


_READY, _HELD, _WAITING, _BODY = Phase.READY, Phase.HELD, Phase.WAITING, Phase.BODY
_CLOSED = Phase.CLOSED

Callback = tuple[Callable[[Any, Any], object], Any]


class HttpConnection(Closing):
    """A client's connection to `address`:`port` (evhttp_connection_base_new).

    resolver: looks the address up without blocking; None will do for a numeric address.  tls: True
    for HTTPS, with the server verified by whom the system trusts, or an ssl.SSLContext of the
    program's own, such as `core.tls.client_context` makes, with "http/1.1" in its ALPN list or
    none.  server_hostname: whom TLS means to talk to, where that is not `address`.  proxy: who is
    asked for a way to the server.  unix_path: connect to that socket instead; then `address` and
    `port` are what Host says.  bufferevent: the program's own, to be used instead of one of ours,
    without TLS or proxy; see `bufferevent_new`.  make: makes one for each connection; see
    `bufferevent_maker_new`.

    Pipelining: with `max_pipelined` of the options requests are sent before those before them are
    answered, if they can be told from each other and repeated at worst (RFC 9112 9.3.2).  None is
    sent behind, or before an answer to, one that has a streamed body or callbacks in the middle of
    its answer, Expect, Upgrade, `Connection: close`, or CONNECT; nor, without `pipelines_all`, one
    whose method is not idempotent.  The answers come in order, so that a slow one holds up those
    behind it, and `read_s` counts for each from the one before it.  Where the connection ends, what
    was surely not sent, or not done as an answer before it said `Connection: close`, goes over the
    next one; what is idempotent does, too, once; the rest fails with ConnectionClosed.  One that is
    cancelled, or whose time is over, hears of it at once; its answer is still awaited, and thrown
    away, for the sake of the others that were sent, and nothing more is sent while it is the next
    one to come.  When nobody waits for any of them the connection is closed.

    For a pool there are `is_available`, `is_idle`, `has_expired`, `is_closed`, `can_take` and
    `set_idle_cb`.

    Raises ArgumentError for a bad port, what is no host, a name without resolver, a
    `server_hostname` without TLS, or ways to the server that exclude each other; ArgumentTypeError
    for a `tls`, `proxy` or `bufferevent` that is none.
    """

    __slots__ = (
        "_base",
        "_bev",
        "_clock",
        "_closecb",
        "_deadline",
        "_dialer",
        "_frees",
        "_host_line",
        "_idle_cb",
        "_interim_count",
        "_is_paused",
        "_is_reused",
        "_is_wary",
        "_keeping",
        "_line",
        "_lost",
        "_phase",
        "_queue",
        "_reader",
        "_request_bytes",
        "_tries",
        "_upload",
        "address",
        "options",
        "port",
    )

    def __init__(
        self,
        base: EventBase,
        resolver: Resolver | None,
        address: str,
        port: int,
        options: ClientOptions | None = None,
        *,
        tls: bool | ssl.SSLContext = False,
        server_hostname: str | None = None,
        proxy: ConnectProxy | None = None,
        unix_path: SocketAddress | None = None,
        bufferevent: AbstractBufferEvent | None = None,
        make: MakeCarrier | None = None,
    ) -> None:
        check_way(
            resolver,
            address,
            tls=tls,
            server_hostname=server_hostname,
            proxy=proxy,
            unix_path=unix_path,
            lent=bufferevent,
            is_made=make is not None,
        )
        self.address = address
        self.port = check_port(port, lowest=1)
        self.options = options or ClientOptions()
        context = tls_context(tls)
        self._base = base
        # Not the loop's time, which is as old as the pass: after long work in a callback time-outs
        # would come early by that.
        self._clock = base.gettime_monotonic
        self._dialer = Dialer(
            base,
            resolver,
            address,
            port,
            self._on_connected,
            self._connect_failed,
            tls=context,
            server_hostname=server_hostname,
            proxy=proxy,
            unix_path=unix_path,
            lent=bufferevent,
            make=make,
        )
        is_secure = context is not None or isinstance(bufferevent, TlsBufferEvent)
        host = host_field(address, port, HTTPS_PORT if is_secure else HTTP_PORT)
        self._host_line = f"Host: {host}\r\n"
        self._phase = Phase.IDLE
        self._line = Line()
        self._queue = self._line.requests
        self._lost: deque[HttpRequest] = deque()
        self._bev: AbstractBufferEvent | None = None
        self._reader = ResponseReader(self.options.limits)
        self._upload: Upload | None = None  # of the request under way, while it is not at its end
        self._is_paused = False  # the program takes nothing now
        self._is_reused = False  # it has brought a response already
        self._is_wary = False  # the last one has ended with something under way
        self._interim_count = 0  # interim responses to the request under way
        self._request_bytes = 0  # of the request under way, as far as it was written
        self._tries = 0  # attempts to connect that have failed since the last one that has not
        self._keeping = Keeping()  # of the present connection
        self._closecb: Callback | None = None
        self._idle_cb: Callback | None = None
        self._frees = False
        self._deadline = Deadline(base, self._on_time)

    @classmethod
    def unix_new(
        cls, base: EventBase, path: SocketAddress, options: ClientOptions | None = None
    ) -> Self:
        """Return a connection to a server's Unix socket; Host is "localhost".

        Raises what `util.endpoint_of` raises for a path that cannot be one, when it connects.
        Source: evhttp_connection_base_bufferevent_unix_new.
        """
        return cls(base, None, "localhost", HTTP_PORT, options, unix_path=path)

    @classmethod
    def bufferevent_new(
        cls,
        bufferevent: AbstractBufferEvent,
        resolver: Resolver | None,
        address: str,
        port: int,
        options: ClientOptions | None = None,
    ) -> Self:
        """Return a connection over a bufferevent of the program's that has none yet.

        It connects that one, each time anew, and closes it with itself.  A filter, or a pair, is
        connected by the program, and used once: see `bufferevent_reuse_new`.
        Source: evhttp_connection_base_bufferevent_new.
        """
        require_bufferevent(bufferevent)
        return cls(bufferevent.base, resolver, address, port, options, bufferevent=bufferevent)

    @classmethod
    def bufferevent_reuse_new(
        cls,
        bufferevent: AbstractBufferEvent,
        options: ClientOptions | None = None,
        *,
        address: str = "localhost",
        port: int = HTTP_PORT,
    ) -> Self:
        """Return a connection over a bufferevent that the program has connected, or is connecting.

        It is closed with the connection.  address, port: what Host says.  When it has ended there
        is no other: requests fail with ConnectFailed.  Raises ArgumentTypeError for what is no
        bufferevent.  Source: evhttp_connection_base_bufferevent_reuse_new.
        """
        require_bufferevent(bufferevent)
        connection = cls(bufferevent.base, None, address, port, options, bufferevent=bufferevent)
        connection._dialer.connects = False
        return connection

    @classmethod
    def bufferevent_maker_new(
        cls,
        base: EventBase,
        make: MakeCarrier,
        options: ClientOptions | None = None,
        *,
        address: str = "localhost",
        port: int = HTTP_PORT,
    ) -> Self:
        """Return a connection over what `make()` returns: a bufferevent, connected or connecting.

        It is asked for a new one each time that it connects, and what it made is closed when that
        connection ends.  address, port: what Host says.  Where it raises an Error of evsvc or an
        OSError, or returns no bufferevent, requests fail with ConnectFailed.  Raises
        ArgumentTypeError for what cannot be called.
        """
        require_callable(make, "what makes bufferevents")
        return cls(base, None, address, port, options, make=make)

    # What it is, and what a pool asks.

    @property
    def base(self) -> EventBase:
        """The event base (evhttp_connection_get_base)."""
        return self._base

    @property
    def is_available(self) -> bool:
        """Whether nothing is under way or waits: a request made now would be the next to be sent.

        Where there is no connection yet, or none any more, it is made first.
        """
        return not self._queue and self._phase in AT_REST

    @property
    def is_idle(self) -> bool:
        """Whether it is connected, and nothing is under way or waits.

        A pool closes such a one to make room.
        """
        return not self._queue and self._phase is _READY

    @property
    def has_expired(self) -> bool:
        """Whether it is idle and the connection is of no use any more: close it, or ask again.

        The socket is looked at: the server has closed it, or has sent what nobody asked for; or it
        is idle for longer than `idle_s`, or than the server has said that it keeps it (Keep-Alive).
        A request would go over a new connection.
        """
        return self.is_idle and self._is_stale()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: it takes nothing any more."""
        return self._phase is _CLOSED

    @property
    def is_secure(self) -> bool:
        """Whether it speaks TLS by itself."""
        return self._dialer.tls is not None

    def can_take(self, request: HttpRequest) -> bool:
        """Tell whether `make_request` would take it: open, not full, and a request not yet made.

        It may have to wait for its turn; where `is_available` is true, too, it does not.
        """
        if self._phase is _CLOSED or len(self._queue) >= self.options.max_queued:
            return False
        return not request.head

    @property
    def bufferevent(self) -> AbstractBufferEvent | None:
        """What carries the bytes, or is being connected; None while there is nothing.

        Source: evhttp_connection_get_bufferevent.
        """
        return self._bev or self._dialer.carrier

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port as configured (evhttp_connection_get_peer)."""
        return self.address, self.port

    @property
    def peer_address(self) -> SocketAddress | None:
        """The socket address of the last connection, also after its end; None before the first.

        Through a proxy, that one's.  Source: evhttp_connection_get_addr.
        """
        return self._dialer.peer

    @property
    def connect_times(self) -> ConnectTimes | None:
        """When the last connection was made, step by step; None before the first."""
        return self._dialer.times

    @property
    def pending_requests(self) -> int:
        """How many requests are under way or wait for their turn.

        One that was given up counts as long as its answer has to be awaited.
        """
        return len(self._queue)

    # Settings.

    def set_family(self, family: int) -> None:
        """Look up only AF_INET or AF_INET6 addresses (evhttp_connection_set_family)."""
        if family not in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
            raise ArgumentError(f"the family is AF_UNSPEC, AF_INET or AF_INET6: {family!r}")
        self._dialer.family = int(family)

    def set_local_address(self, address: str) -> None:
        """Connect from this address of ours; "" is the system's choice.

        Holds for the family of the address alone.  An address that cannot be had fails the
        request.  Raises ArgumentError for what is no IP address, StateError while connected.
        Source: evhttp_connection_set_local_address.
        """
        self._require_unconnected()
        if address and ip_version(address) is None:
            raise ArgumentError(f"not an IP address: {address!r}")
        self._dialer.local_address = address

    def set_local_port(self, port: int) -> None:
        """Connect from this port of ours; 0 is the system's choice.

        Without a local address that is of AF_INET, or of AF_INET6 where `set_family` says so.
        Raises ArgumentError for what is no port, StateError while connected.
        Source: evhttp_connection_set_local_port.
        """
        self._require_unconnected()
        self._dialer.local_port = check_port(port)

    def _require_unconnected(self) -> None:
        if self._phase is not Phase.IDLE:
            raise StateError(f"the connection is {self._phase.name}")

    def set_flags(self, flags: int) -> None:
        """Set EVHTTP_CON_REUSE_CONNECTED_ADDR and EVHTTP_CON_READ_ON_WRITE_ERROR, or 0.

        The first connects again to the address of the last connection, without looking its name
        up.  The second changes nothing: a response is always read when writing has failed.
        Raises ArgumentError for others.  Source: evhttp_connection_set_flags.
        """
        if whole_number(flags, "flags") & ~_FLAGS:
            raise ArgumentError(f"unknown flags of a connection: {flags!r}")
        reuses = int(flags) & ConnectionFlag.EVHTTP_CON_REUSE_CONNECTED_ADDR
        self._dialer.reuses_peer = bool(reuses)

    def set_timeout(self, seconds: float) -> None:
        """Limit the silence in both directions; connecting has its own (ClientOptions).

        Holds from the next request on.  Source: evhttp_connection_set_timeout.
        """
        if seconds == self.options.read_s == self.options.write_s:
            return
        self.options = replace(self.options, read_s=seconds, write_s=seconds)
        if self._bev is not None:
            self._bev.set_timeouts(None, seconds)

    def set_retries(self, retries: int) -> None:
        """Try to connect so many times more, after growing delays; -1 is for ever.

        Source: evhttp_connection_set_retries.
        """
        self.options = replace(self.options, connect_retries=retries)

    def set_initial_retry(self, seconds: float) -> None:
        """Wait so long before the second attempt to connect, and twice as long before each next.

        Source: evhttp_connection_set_initial_retry_tv.
        """
        self.options = replace(self.options, connect_retry_s=seconds)

    def set_closecb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(connection, arg)` whenever an established connection ends, whoever ends it.

        Not when it is handed over.  Source: evhttp_connection_set_closecb.
        """
        self._closecb = _callback(cb, arg)

    def set_idle_cb(self, cb: Callable[[Any, Any], object] | None, arg: object = None) -> None:
        """Call `cb(connection, arg)` when a request is done and no other waits: it is available.

        After the callbacks of the request, whatever its outcome; `is_idle` tells whether the
        server is still connected.  It may make requests, and close.  Not after `close`.
        """
        self._idle_cb = _callback(cb, arg)

    def free_on_completion(self) -> None:
        """Close when no request is left and the server is not connected, or is not any more.

        Source: evhttp_connection_free_on_completion.
        """
        self._frees = True
        self._free_if_done()

    # Requests.

    def make_request(
        self, request: HttpRequest, method: str, uri: str, *, exchange_s: float | None = None
    ) -> None:
        """Send a request as soon as it is its turn (evhttp_make_request).

        method: "GET" and so on.  uri: the request target, as a rule a path with its query.  Host
        and Content-Length are added where they are missing; the rest of the header, and the body,
        are taken as they are now.  With `Expect: 100-continue` the body waits for the server's
        consent.  exchange_s: seconds for all of it, from now on, instead of the options'.  The
        outcome comes to the request's callback, never before the return.

        Raises ArgumentError for what is no HTTP, or a time that is not positive, LocalProtocolError
        for a request that was made already, StateError when `max_queued` requests wait already or
        the connection is closed.
        """
        if self._phase is _CLOSED:
            raise StateError("the connection is closed")
        queue = self._queue
        options = self.options
        if len(queue) >= options.max_queued:
            raise StateError(f"{len(queue)} requests wait already")
        if exchange_s is None:
            exchange_s = options.exchange_s
        elif not exchange_s > 0:
            raise ArgumentError(f"exchange_s must be positive: {exchange_s!r}")
        request.prepare(method, uri, self._host_line)
        request.connection = self
        queue.append(request)
        if exchange_s is not None:
            request.ends_at = self._clock() + exchange_s
            self._deadline.also(request.ends_at)
        if len(queue) == 1:
            self._go_on()
        elif options.max_pipelined > 1:
            self._send_behind()

    def cancel(self, request: HttpRequest) -> None:
        """Give a request up; see `HttpRequest.cancel`."""
        if request.connection is not self:
            return
        if request in self._queue:
            under_way = self._phase in UNDER_WAY and self._line.is_sent(request)
            reset = self._take_out(request)
            if under_way:
                self._settle(request, RequestCancelled(f"cancelled: {request!r}"), reset=reset)
        request.drop()

    def pause(self, request: HttpRequest) -> None:
        """Take nothing more from the server; see `HttpRequest.pause`."""
        if self._is_under_way(request) and not self._is_paused and self._bev is not None:
            self._is_paused = True
            self._deadline.due = inf
            self._bev.disable(EV_READ)

    def resume(self, request: HttpRequest) -> None:
        """Go on taking; see `HttpRequest.resume`."""
        if self._is_under_way(request) and self._is_paused and self._bev is not None:
            self._is_paused = False
            self._bev.enable(EV_READ)
            self._count_silence()
            self._base.once(-1, EV_TIMEOUT, self._on_turn, request)

    def _on_turn(self, fd: int, what: int, request: HttpRequest) -> None:
        if self._is_under_way(request) and not self._is_paused:
            self._read_on()

    def resume_upload(self, request: HttpRequest) -> None:
        """Ask a producer again; see `HttpRequest.resume_body`."""
        upload = self._upload
        if upload is not None and self._is_under_way(request) and not upload.is_awake:
            upload.is_awake = True
            self._base.once(-1, EV_TIMEOUT, self._on_upload_turn, request)

    def _on_upload_turn(self, fd: int, what: int, request: HttpRequest) -> None:
        upload = self._upload
        if upload is not None and self._is_under_way(request):
            upload.is_awake = False
            if upload.state is UploadState.ASLEEP:
                self._pull(upload)

    def close(self) -> None:
        """End it; requests that are not complete are dropped without a callback.

        Safe to repeat, and from inside any callback.  Source: evhttp_connection_free.
        """
        if self._phase is _CLOSED:
            return
        for request in (*self._line.clear(), *self._lost):
            request.drop()
        self._lost.clear()
        try:
            self._reset(Step.CLOSE)
        finally:
            self._deadline.close()
            self._dialer.close()
            self._reader.limits_for = None
            self._closecb = self._idle_cb = None

    # Connecting.

    def _go_on(self) -> None:
        """Connect or send, whatever the next request needs."""
        if self._phase is _READY:
            if not self._is_stale():
                self._send(self._queue[0])
                return
            self._reset()
        if self._phase is Phase.IDLE and self._queue:
            self._connect()

    def _is_stale(self) -> bool:
        """Whether an idle connection has ended, or has bytes that no request has asked for."""
        if self._keeping.look(0):
            return True
        return self._deadline.is_over()

    def _connect(self) -> None:
        self._step(Step.CONNECT)
        options = self.options
        reader = self._reader = ResponseReader(options.limits, options.leniency)
        reader.limits_for = self._limits_for
        if options.max_stream_bytes is not None:
            reader.max_whole_bytes = min(reader.max_whole_bytes, options.max_stream_bytes)
        self._deadline.begin(options.connect_s)
        self._deadline.rearm(self._first_end())
        self._dialer.start(options)

    def _on_connected(self, bev: AbstractBufferEvent) -> None:
        self._step(Step.CONNECTED)
        self._bev = bev
        self._tries = 0
        options = self.options
        self._keeping = Keeping(bev, options.idle_s)
        self._deadline.begin(self._keeping.idle_s)
        if isinstance(bev, (BufferEvent, TlsBufferEvent)):
            bev.setcb(None, self._on_written, self._on_event)
            bev.set_datacb(self._on_data)
        else:
            bev.setcb(self._on_readable, self._on_written, self._on_event)
        bev.set_timeouts(None, options.write_s)
        bev.enable(EV_READ)
        if self._queue:
            self._send(self._queue[0])
            self._send_behind()

    def _connect_failed(self, kind: type[HttpError], text: str) -> None:
        """There is no connection: try again, or give up all that waits for one."""
        retries = self.options.connect_retries
        if kind is ConnectFailed and (retries < 0 or self._tries < retries):
            delay = self.options.connect_retry_s * 2.0 ** min(self._tries, 62)
            self._tries += 1
            self._step(Step.NO_CONNECTION)
            self._deadline.begin(min(delay, MAX_RETRY_DELAY_S))
            return
        self._tries = 0
        self._reset()
        for request in self._line.clear():
            request.error = kind(f"{self.address} port {self.port}: {text}")
            self._lost.append(request)
        self._rest()

    # Sending.

    def _send(self, request: HttpRequest) -> None:
        bev = self._bev
        assert bev is not None
        self._reader.expect(request.method)
        self._interim_count = 0
        self._deadline.due = inf
        head, body = request.head, request.body
        if request.expects_continue:
            self._step(Step.HOLD)
            self._request_bytes = len(head)
            self._deadline.begin(self.options.continue_s)
        elif type(body) is bytes:
            self._phase = _WAITING  # by Step.SEND
            if request.extras is not None:
                self._upload = request.extras.upload
            if body:
                head += body
            self._request_bytes = len(head)
        else:
            self._step(Step.SEND)
            self._request_bytes = len(head) + len(body)
            bev.output.add(head)
            _add_reference(bev, body)  # not moved: it may have to go again
            return
        bev.output.add(head)

    def _send_behind(self) -> None:
        """Send more, as far as the options let it, before what is sent is answered."""
        if self._phase is not _WAITING and self._phase is not _BODY:
            return
        options, line, bev = self.options, self._line, self._bev
        most = 1 if self._is_wary and not self._is_reused else options.max_pipelined
        assert bev is not None
        while (request := line.next_to_send(most, options.pipelines_all)) is not None:
            line.behind += 1
            if type(request.body) is bytes:
                bev.output.add(request.head + request.body)
            else:
                bev.output.add(request.head)
                _add_reference(bev, request.body)

    def _send_body(self, request: HttpRequest) -> None:
        """The server wants the body, or has not said that it does not."""
        bev = self._bev
        assert bev is not None
        self._step(Step.SEND_BODY)
        body = request.body
        self._deadline.due = inf
        if request.extras is not None and request.extras.upload is not None:
            self._upload = request.extras.upload
            self._pull(self._upload)
        else:
            self._request_bytes += len(body)
            _add_reference(bev, body)

    def _pull(self, upload: Upload) -> None:
        """Ask the program for more of a body, while there is room for it."""
        request, bev = self._queue[0], self._bev
        assert bev is not None
        while self._upload is upload and bev.output.length < MAX_WAITING_BYTES:
            try:
                piece = upload.next_piece(request)
            except Exception as exc:
                self._callback_failed(request, exc, "the body could not be had")
                return
            if self._upload is not upload:
                return  # the producer has cancelled, or closed
            if piece:
                self._request_bytes += len(piece)
                bev.output.add(piece)
            if upload.state is UploadState.DONE:
                self._upload = None
                self._count_silence()
            elif upload.state is UploadState.ASLEEP:
                return

    def _on_written(self, bev: AbstractBufferEvent, ctx: object) -> None:
        """There is nothing more to send now: from the last of it on the server's silence counts."""
        upload = self._upload
        if upload is not None:
            if upload.state is not UploadState.ASLEEP:
                self._pull(upload)
        elif self._phase is _WAITING:
            self._deadline.begin(self.options.read_s)
        else:
            self._count_silence()

    def _count_silence(self) -> None:
        """Give the server its time, where it is to do something, and the program takes it."""
        bev = self._bev
        is_asked = self._phase is _WAITING or self._phase is _BODY
        if bev is None or not is_asked or self._is_paused or self._upload is not None:
            return
        if not bev.output.length:
            self._deadline.begin(self.options.read_s)

    # What comes.

    def _on_event(self, bev: AbstractBufferEvent, what: int, ctx: object) -> None:
        if self._phase is _READY:
            self._lose_idle()
        elif what & BEV_EVENT_EOF:
            self._reader.receive_eof()
            self._read_on()
        elif what & BEV_EVENT_TIMEOUT:
            self._fail(RequestTimeout(f"{self.address}: it takes nothing for too long"))
        elif what & BEV_EVENT_WRITING:
            # A server may refuse a request before it has read all of it, and close: the response
            # is still to be read, and those to what was sent behind it.  What follows them, or
            # silence, ends the wait.
            self._upload = None
            self._queue[self._line.behind].keep_alive = False
            self._deadline.begin(self.options.read_s)
        else:
            self._fail(ConnectionClosed(f"{self.address}: {bev.error}"))

    def _on_readable(self, bev: AbstractBufferEvent, ctx: object) -> None:
        self._on_data(bev, bev.input.remove())

    def _on_data(self, bev: AbstractBufferEvent, data: bytes, ctx: object = None) -> None:
        """Make what has come into a response: at once where it is an ordinary one, and whole."""
        if self._phase is not _WAITING:
            self._on_more(bev, data)
            return
        while True:
            reader = self._reader
            try:
                head = reader.next_head(data)
            except HttpError as exc:
                self._fail(exc)
                return
            if head is None:
                self._count_silence()
                return
            request = self._queue[0]
            extras = request.extras
            body: bytes | None = None
            if (
                (extras is None or extras.takes_whole)
                and head.status >= 200
                and not request.expects_continue
                and request.method != "CONNECT"
            ):
                body = reader.whole_body()
            if body is None:
                if self._take_head(request, head):
                    self._read_on()
                return
            if head is not self._keeping.last_head:
                self._keeping.note(head)
            request.set_response(head, body)
            if not self._complete(request):
                return
            data = b""  # the answer to the next has come with it

    def _on_more(self, bev: AbstractBufferEvent, data: bytes) -> None:
        """Bytes have come behind a head, or while a body waits for consent, or unasked for."""
        if self._phase is _READY:
            self._lose_idle()
        elif self._queue:
            self._reader.receive(data)
            if self._deadline.due < inf and self._phase is _BODY:
                self._deadline.begin(self.options.read_s)
                if len(data) == bev.max_single_read < LARGE_READ_BYTES:
                    bev.max_single_read = LARGE_READ_BYTES  # a read was full: it is a long body
            self._read_on()

    def _read_on(self) -> None:
        """Read what is here, as far as the program takes it."""
        reader = self._reader
        goes_on = True
        while goes_on:
            while self._phase is _WAITING or self._phase is _HELD:
                try:
                    head = reader.next_head()
                except HttpError as exc:
                    self._fail(exc)
                    return
                if head is None or not self._take_head(self._queue[0], head):
                    return
            goes_on = self._phase is _BODY and not self._is_paused and self._read_body()

    def _take_head(self, request: HttpRequest, head: ResponseHead) -> bool:
        """Take the head of a response; whether to read on."""
        status = head.status
        if status < 200 and status != 101:
            return self._take_interim(request, head)
        if status == 417 and request.expects_continue and request.can_be_repeated:
            request.expect_nothing()
            self._reset()
            self._go_on()
            return False
        is_held = self._phase is _HELD
        self._step(Step.HEAD)
        request.set_response(head)
        if is_held:
            request.keep_alive = False  # the body is never sent: what was announced is missing
        self._count_silence()
        if head is not self._keeping.last_head:
            self._keeping.note(head)
        extras = request.extras
        if status == 101 or (request.method == "CONNECT" and status < 300):
            # Another protocol follows (RFC 9110 9.3.6, 15.2.2).
            request.keep_alive = False
            if extras is not None and extras.upgrade_cb is not None:
                self._hand_over(request)
                return False
            if status == 101 and not request.asks_to_upgrade:
                self._fail(InvalidResponse("101 Switching Protocols, and nobody has asked for it"))
                return False
        if extras is not None and extras.header_cb is not None:
            verdict = self._call(request, extras.header_cb)
            if isinstance(verdict, int) and verdict < 0 and self._is_under_way(request):
                self._fail(ConnectionClosed("the header callback gave the request up"))
        return True

    def _take_interim(self, request: HttpRequest, head: ResponseHead) -> bool:
        bev = self._bev
        self._interim_count += 1
        if self._interim_count > self.options.max_interim:
            text = f"more than {self.options.max_interim} interim responses to one request"
            self._fail(InvalidResponse(text))
            return False
        extras = request.extras
        if extras is not None and extras.interim_cb is not None:
            try:
                headers = Headers.from_block(head.block)
                extras.interim_cb(request, head.status, headers, request.arg)
            except Exception as exc:
                self._callback_failed(request, exc, "a callback of the request raised")
            if self._bev is not bev:
                return False
        if head.status == 100 and self._phase is _HELD:
            self._send_body(request)
        self._count_silence()
        return True

    def _read_body(self) -> bool:
        """Read a piece of the body; whether there may be more to read, of it or behind it."""
        request, bev = self._queue[0], self._bev
        try:
            piece = self._reader.read_body()
        except HttpError as exc:
            self._fail(exc)
            return False
        if piece is None:
            trailers = self._reader.trailers
            if trailers:
                request.trailers = trailers
            return self._complete(request)
        if not piece:
            return False
        if request.connection is None:
            return True  # nobody waits for it any more
        buffer = request.input_buffer
        buffer.add(piece)
        extras = request.extras
        if extras is not None and extras.chunked_cb is not None:
            self._call(request, extras.chunked_cb)
            buffer.drain(len(buffer))
        return self._phase is _BODY and self._bev is bev

    def _limits_for(self, head: ResponseHead) -> ReaderLimits:
        """Return the limits of the body behind a head: a stream's where the program takes it so."""
        extras = self._queue[0].extras
        options = self.options
        if extras is None or extras.chunked_cb is None:
            return options.limits
        return replace(options.limits, max_body_bytes=options.max_stream_bytes)

    def _hand_over(self, request: HttpRequest) -> None:
        """Another protocol follows: the program has the bufferevent from here on."""
        bev, self._bev = self._bev, None
        assert bev is not None
        rest = self._reader.rest()
        self._dialer.forget(bev)
        self._queue.popleft()
        self._part(bev)
        self._let_go(Step.LOSE)
        if isinstance(bev, (BufferEvent, TlsBufferEvent)):
            bev.set_datacb(None)
        bev.setcb(None, None, None)
        bev.set_timeouts(None, None)
        bev.enable(EV_READ | EV_WRITE)
        try:
            request.hand_over(bev, rest)
        except Exception as exc:
            bev.close()
            self._report(request, exc)
        finally:
            request.drop()
            self._rest()

    # Ends.

    def _is_under_way(self, request: HttpRequest) -> bool:
        return bool(self._queue) and self._queue[0] is request and self._phase in UNDER_WAY

    def _take_out(self, request: HttpRequest) -> bool:
        """Take a request out of the queue; whether the connection ends with it."""
        line, queue = self._line, self._queue
        is_first = queue[0] is request and self._phase in UNDER_WAY
        if line.behind and line.is_sent(request):
            is_of_use = line.give_up(request)
            if is_of_use and is_first:
                self.resume(queue[0])
            return not is_of_use
        queue.remove(request)
        # Others may be waiting for the same connection to be made.
        return is_first and (self._phase in CONNECTED or not queue)

    def _complete(self, request: HttpRequest) -> bool:
        """The response is whole: tell, and go on; whether the next one may be here already."""
        bev = self._bev
        assert bev is not None
        self._queue.popleft()
        was_alone = not self._line.behind
        try:
            if not was_alone:
                self._turn_to_next(request, bev)
            elif (
                request.keep_alive
                and self._reader.exhausted
                and not bev.output.length
                and self._upload is None
            ):
                self._phase = _READY  # by Step.DONE
                self._is_reused = True
                self._deadline.due = inf  # `_rest` says, where no request follows
                if self._is_paused:
                    self._is_paused = False
                    bev.enable(EV_READ)
            else:
                self._reset()
            callback = request.callback
            if callback is not None and request.connection is self:
                try:
                    callback(request, request.arg)
                except Exception as exc:
                    self._report(request, exc)
        except BaseException:
            if self._queue:  # it leaves the loop; the next answer may be here, and is read later
                self._base.once(-1, EV_TIMEOUT, self._on_turn, self._queue[0])
            raise
        finally:
            request.drop()
            self._rest()
        if was_alone:
            return False
        return self._phase is _WAITING and not self._is_paused and not self._reader.exhausted

    def _turn_to_next(self, answered: HttpRequest, bev: AbstractBufferEvent) -> None:
        """Await the answer to what was sent behind one that is answered, if it is to come."""
        line, unsent_bytes = self._line, bev.output.length
        if not answered.keep_alive:
            self._part(bev, is_refused=True)
            self._reset()
        elif unsent_bytes and unsent_bytes > line.bytes_behind(0):
            self._reset()  # it is answered before all of it is sent
        elif not line.advance():
            self._reset()
        else:
            self._step(Step.NEXT)
            following = self._queue[0]
            self._reader.expect(following.method)
            self._request_bytes = following.sent_bytes
            self._is_reused = True
            self._interim_count = 0
            self._deadline.due = inf
            if self._is_paused:
                self._is_paused = False
                bev.enable(EV_READ)
            self._count_silence()

    def _rest(self) -> None:
        """Tell what is lost; go on with the next request; without one, tell that there is none."""
        if self._lost:
            lost, self._lost = self._lost, deque()
            self._tell_lost(-1, 0, lost)
        elif self._queue:
            if self._phase in AT_REST:
                self._go_on()
            if self.options.max_pipelined > 1:
                self._send_behind()
        elif self._phase in AT_REST:
            if self._phase is _READY:
                self._deadline.begin(self._keeping.idle_s)
            if self._idle_cb is not None:
                self._run(self._idle_cb)
            self._free_if_done()

    def _tell_lost(self, fd: int, what: int, lost: deque[HttpRequest]) -> None:
        """Run the callbacks; those behind one that stops the loop have their turn in the next."""
        try:
            while lost:
                request = lost.popleft()
                if self._phase is _CLOSED:
                    request.drop()
                elif request.connection is self:
                    self._tell(request, request.error)
        finally:
            if lost:
                self._base.once(-1, EV_TIMEOUT, self._tell_lost, lost)
            else:
                self._rest()

    def _free_if_done(self) -> None:
        if self._frees and self._phase is Phase.IDLE and not (self._queue or self._lost):
            self.close()

    def _lose_idle(self) -> None:
        """An idle connection has ended, or is kept for long enough."""
        try:
            self._reset()
        finally:
            self._free_if_done()

    def _fail(self, error: HttpError) -> None:
        """The request under way has failed; the others go on over a new connection."""
        request = self._queue[0]
        if isinstance(error, ConnectionClosed) and self._may_go_again(request):
            request.went_again = True
            if self._line.behind and self._bev is not None:
                self._part(self._bev, 1)
            self._reset()
            self._rest()
        else:
            self._queue.popleft()
            # A traceback would hold frames, and they the request.
            self._settle(request, error.with_traceback(None), reset=True)

    def _may_go_again(self, request: HttpRequest) -> bool:
        """Whether a request that the end of its connection has failed may go over a new one."""
        if not self.options.retry or request.went_again or not request.can_be_repeated:
            return False
        if request.connection is None:
            return False  # nobody waits for it any more
        if self._phase is not _WAITING and self._phase is not _HELD:
            return False
        if self._interim_count or not self._reader.exhausted:
            return False
        bev = self._bev
        unsent_bytes = 0 if bev is None else bev.output.length - self._line.bytes_behind(1)
        is_unsent = unsent_bytes == self._request_bytes
        return is_unsent or (self._is_reused and request.method in IDEMPOTENT)

    def _part(self, bev: AbstractBufferEvent, first: int = 0, *, is_refused: bool = False) -> None:
        """Sort out what was sent behind the request with which the connection ends."""
        unsent_bytes, retry = bev.output.length, self.options.retry
        lost = self._line.part(first, unsent_bytes, is_refused=is_refused, retry=retry)
        for request in lost:
            text = f"{self.address}: ended before the answer to {request!r}, which may be done"
            request.error = ConnectionClosed(text)
        self._lost.extend(lost)

    def _settle(self, request: HttpRequest, error: HttpError, *, reset: bool) -> None:
        """Run the callbacks of a request that has left the queue, and go on with the next."""
        try:
            if reset:
                self._reset()
        finally:
            try:
                if request.connection is self:
                    self._tell(request, error)
            finally:
                self._rest()

    def _tell(self, request: HttpRequest, error: HttpError | None) -> None:
        """Run the callbacks of a request that has failed."""
        request.error = error
        is_given = isinstance(error, ConnectFailed)
        try:
            if request.error_cb is not None and error is not None and not is_given:
                try:
                    request.error_cb(error.code, request.arg)
                except Exception as exc:
                    self._report(request, exc)
            # The error callback may have cancelled it.
            callback = request.callback
            if callback is not None and not isinstance(error, RequestCancelled):
                try:
                    callback(request if is_given else None, request.arg)
                except Exception as exc:
                    self._report(request, exc)
        finally:
            request.drop()

    def _call(self, request: HttpRequest, cb: CompletionCallback) -> object:
        """Run a callback in the middle of a response; where it raises, the request has failed."""
        try:
            return cb(request, request.arg)
        except Exception as exc:
            self._callback_failed(request, exc, "a callback of the request raised an exception")
            return None

    def _callback_failed(self, request: HttpRequest, exc: Exception, text: str) -> None:
        """The program's code has raised in the middle of an exchange: end that one."""
        try:
            if self._is_under_way(request):
                self._queue.popleft()
                self._settle(request, ConnectionClosed(text), reset=True)
        finally:
            self._report(request, exc)

    def _run(self, callback: Callback) -> None:
        cb, arg = callback
        try:
            cb(self, arg)
        except Exception as exc:
            self._report(self, exc)

    def _report(self, about: object, exc: Exception) -> None:
        """Log what a callback raised, with its traceback, and tell the base's exception handler.

        The connection is not used again, unless it is in use already.  What the handler raises is
        the program's own wish, and leaves the loop.
        """
        try:
            if self._phase is _READY:
                self._reset()
        finally:
            logger.error("a callback raised for %r", about, exc_info=exc)
            handler = self._base.exception_handler
            if handler is not None:
                handler(exc)

    def _reset(self, step: Step = Step.LOSE) -> None:
        """Drop the connection, if there is one, and tell whoever wants to know."""
        bev, self._bev = self._bev, None
        was_connected = self._phase in CONNECTED
        if self._line.behind and bev is not None:
            self._part(bev)
        self._let_go(step)
        self._dialer.cancel()
        if bev is not None:
            self._dialer.release(bev)
        if was_connected and self._closecb is not None:
            self._run(self._closecb)

    def _let_go(self, step: Step) -> None:
        """Be without a connection."""
        if self._phase is not _READY:
            self._is_wary = True
        elif self._is_reused:
            self._is_wary = False
        self._step(step)
        self._is_paused = self._is_reused = False
        self._upload = None
        self._deadline.clear()

    def _step(self, step: Step) -> None:
        self._phase = NEXT[self._phase, step]

    # Time.

    def _first_end(self) -> float:
        return min([request.ends_at for request in self._queue], default=inf)

    def _on_time(self, now: float) -> None:
        try:
            for request in [each for each in self._queue if each.ends_at <= now]:
                self._time_out(request)
            if self._deadline.due <= now:
                self._phase_is_over()
        finally:
            if self._phase is not _CLOSED:
                self._deadline.rearm(self._first_end())

    def _time_out(self, request: HttpRequest) -> None:
        """The time for a whole exchange is over."""
        if request in self._queue:
            reset = self._take_out(request)
            error = RequestTimeout(f"{self.address}: the exchange was not done in time")
            self._settle(request, error, reset=reset)

    def _phase_is_over(self) -> None:
        phase = self._phase
        if phase is Phase.CONNECTING:
            self._dialer.cancel()
            self._connect_failed(ConnectFailed, "no connection in time")
        elif phase is Phase.RETRYING:
            self._connect()
        elif phase is _READY:
            self._lose_idle()
        elif phase is _HELD:
            self._send_body(self._queue[0])
        elif phase is _WAITING or phase is _BODY:
            self._fail(RequestTimeout(f"{self.address}: silent for too long"))


def _add_reference(bev: AbstractBufferEvent, body: bytes | EvBuffer) -> None:
    if isinstance(body, EvBuffer):
        bev.output.add_buffer_reference(body)
    else:
        bev.output.add(body)


def _callback(cb: Callable[[Any, Any], object] | None, arg: object) -> Callback | None:
    if cb is None:
        return None
    require_callable(cb)
    return cb, arg
