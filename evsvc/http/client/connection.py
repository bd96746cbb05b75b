"""HttpConnection: the client.  One connection to one server, kept alive, requests in their order.

It connects when there is something to send, and again when the server has closed meanwhile.  The
next request goes out when the response before it is complete; where the options let it
(`max_pipelined`), before.

A request's way: writer -> carrier -> reader -> the program's callback.  How a carrier gets
connected is the dialer's affair; what is said over it, once it is, is a `Conversation`, which is
made for it and ends with it.  Here is what outlasts that: the requests, whether and where they go,
and who is told what became of them.

Invariants
    * `_phase` moves as `NEXT` says, and no other way.  In CONNECTED, and then alone, there is a
      `_conversation`.
    * `_queue` is the line's.  Its first request is the one under way unless the conversation is
      READY.
    * A request leaves the queue before its completion and error callbacks and the close callback
      run, so they may queue more, cancel, close.  What one raises ends its exchange, and no other.
    * `_deadline` is when the present phase, or turn, is over, and its timer fires for the `ends_at`
      of all requests, too.  So a request has no timer operation.
    * A connection is looked at before it is used again: one that the server has closed, or that
      has bytes which nobody asked for, is dropped.
    * A request goes over a second connection only where `Conversation.may_go_again` or `Line.part`
      says so, and once, unless it was surely not done.  What cannot, and was sent behind another
      with which the connection ends, is in `_lost` until `_rest` tells it.
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
    EV_TIMEOUT,
    AbstractBufferEvent,
    ArgumentError,
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
    RequestCancelled,
    RequestTimeout,
)
from ..options import ClientOptions, ConnectionFlag
from .conversation import Conversation
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
from .line import Line
from .phases import NEXT, Phase, Step, Turn
from .request import HttpRequest, host_field

if TYPE_CHECKING:
    import ssl

    from ...core import EventBase
    from ...core.resolver import Resolver, SocketAddress
    from .dialer import ConnectTimes

logger = logging.getLogger("evsvc.http")

MAX_RETRY_DELAY_S = 3600.0
"""The delay between two attempts to connect doubles up to here, as libevent's does."""

_FLAGS: Final = sum(ConnectionFlag)

_CLOSED, _READY = Phase.CLOSED, Turn.READY

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
        "_clock",
        "_closecb",
        "_conversation",
        "_deadline",
        "_dialer",
        "_frees",
        "_host_line",
        "_idle_cb",
        "_is_wary",
        "_line",
        "_lost",
        "_phase",
        "_queue",
        "_tries",
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
        self._conversation: Conversation | None = None  # while it is connected
        self._is_wary = False  # the last one has ended with something under way
        self._tries = 0  # attempts to connect that have failed since the last one that has not
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
        return not self._queue and self._is_at_rest()

    @property
    def is_idle(self) -> bool:
        """Whether it is connected, and nothing is under way or waits.

        A pool closes such a one to make room.
        """
        return not self._queue and self._is_connected_at_rest()

    @property
    def has_expired(self) -> bool:
        """Whether it is idle and the connection is of no use any more: close it, or ask again.

        The socket is looked at: the server has closed it, or has sent what nobody asked for; or it
        is idle for longer than `idle_s`, or than the server has said that it keeps it (Keep-Alive).
        A request would go over a new connection.
        """
        conversation = self._conversation
        return self.is_idle and conversation is not None and conversation.is_stale()

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
        conversation = self._conversation
        return self._dialer.carrier if conversation is None else conversation.bev

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
            state = self._phase if self._conversation is None else self._conversation.turn
            raise StateError(f"the connection is {state.name}")

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
        if self._conversation is not None:
            self._conversation.options = self.options
            self._conversation.bev.set_timeouts(None, seconds)

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
        elif options.max_pipelined > 1 and self._conversation is not None:
            self._conversation.send_behind()

    def cancel(self, request: HttpRequest) -> None:
        """Give a request up; see `HttpRequest.cancel`."""
        if request.connection is not self:
            return
        if request in self._queue:
            under_way = not self._is_at_rest() and self._line.is_sent(request)
            reset = self._take_out(request)
            if under_way:
                self._settle(request, RequestCancelled(f"cancelled: {request!r}"), reset=reset)
        request.drop()

    def pause(self, request: HttpRequest) -> None:
        """Take nothing more from the server; see `HttpRequest.pause`."""
        if (conversation := self._serving(request)) is not None:
            conversation.pause()

    def resume(self, request: HttpRequest) -> None:
        """Go on taking; see `HttpRequest.resume`."""
        if (conversation := self._serving(request)) is not None:
            conversation.resume()

    def resume_upload(self, request: HttpRequest) -> None:
        """Ask a producer again; see `HttpRequest.resume_body`."""
        if (conversation := self._serving(request)) is not None:
            conversation.resume_upload()

    def _serving(self, request: HttpRequest) -> Conversation | None:
        """Return the conversation where the request is the one under way in it."""
        conversation = self._conversation
        return conversation if conversation is not None and conversation.serves(request) else None

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
            self._closecb = self._idle_cb = None

    # Connecting.

    def _go_on(self) -> None:
        """Connect or send, whatever the next request needs."""
        conversation = self._conversation
        if conversation is not None and conversation.turn is _READY:
            if not conversation.is_stale():
                conversation.send(self._queue[0])
                return
            self._reset()
        if self._phase is Phase.IDLE and self._queue:
            self._connect()

    def _is_connected_at_rest(self) -> bool:
        return self._conversation is not None and self._conversation.turn is _READY

    def _is_at_rest(self) -> bool:
        """Whether no request is under way: neither sent, nor waiting for a connection."""
        conversation = self._conversation
        return self._phase is Phase.IDLE if conversation is None else conversation.turn is _READY

    def _connect(self) -> None:
        self._step(Step.CONNECT)
        self._deadline.begin(self.options.connect_s)
        self._deadline.rearm(self._first_end())
        self._dialer.start(self.options)

    def _on_connected(self, bev: AbstractBufferEvent) -> None:
        self._step(Step.CONNECTED)
        self._tries = 0
        conversation = self._conversation = Conversation(
            bev,
            self.address,
            self._line,
            self.options,
            self._deadline,
            is_wary=self._is_wary,
            answered=self._complete,
            failed=self._fail,
            raised=self._callback_failed,
            refused=self._go_elsewhere,
            taken_over=self._hand_over,
        )
        conversation.start()
        if self._queue:
            conversation.send(self._queue[0])
            conversation.send_behind()

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

    # Ends.

    def _take_out(self, request: HttpRequest) -> bool:
        """Take a request out of the queue; whether the connection ends with it."""
        line, queue, conversation = self._line, self._queue, self._conversation
        is_first = queue[0] is request and not self._is_at_rest()
        if line.behind and line.is_sent(request):
            is_of_use = line.give_up(request)
            if is_of_use and is_first and conversation is not None:
                conversation.resume()
            return not is_of_use
        queue.remove(request)
        # Others may be waiting for the same connection to be made.
        return is_first and (conversation is not None or not queue)

    def _complete(self, request: HttpRequest) -> None:
        """The response is whole: tell, and go on."""
        conversation = self._conversation
        assert conversation is not None
        self._queue.popleft()
        try:
            if self._line.behind:
                self._turn_to_next(request, conversation)
            elif not conversation.turn_to_rest(request):
                self._reset()
            callback = request.callback
            if callback is not None and request.connection is self:
                try:
                    callback(request, request.arg)
                except Exception as exc:
                    self._report(request, exc)
        except BaseException:
            if self._queue and self._conversation is not None:
                # It leaves the loop; the next answer may be here, and is read later.
                self._conversation.read_later()
            raise
        finally:
            request.drop()
            self._rest()

    def _turn_to_next(self, answered: HttpRequest, conversation: Conversation) -> None:
        """Await the answer to what was sent behind one that is answered, if it is to come."""
        line, unsent_bytes = self._line, conversation.bev.output.length
        if not answered.keep_alive:
            self._part(conversation, is_refused=True)
            self._reset()
        elif unsent_bytes and unsent_bytes > line.bytes_behind(0):
            self._reset()  # it is answered before all of it is sent
        elif line.advance():
            conversation.turn_to_next()
        else:
            self._reset()

    def _hand_over(self, request: HttpRequest) -> None:
        """Another protocol follows: the program has the bufferevent from here on."""
        conversation = self._conversation
        assert conversation is not None
        self._dialer.forget(conversation.bev)
        self._queue.popleft()
        self._part(conversation)
        bev, rest = conversation.give_up_carrier()
        self._let_go(Step.LOSE)
        try:
            request.hand_over(bev, rest)
        except Exception as exc:
            bev.close()
            self._report(request, exc)
        finally:
            request.drop()
            self._rest()

    def _rest(self) -> None:
        """Tell what is lost; go on with the next request; without one, tell that there is none."""
        conversation = self._conversation
        if self._lost:
            lost, self._lost = self._lost, deque()
            self._tell_lost(-1, 0, lost)
        elif self._queue:
            if conversation is None or conversation.turn is _READY:
                self._go_on()
            if self.options.max_pipelined > 1 and conversation is not None:
                conversation.send_behind()
        elif self._is_at_rest():
            if conversation is not None:
                conversation.be_idle()
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
        conversation = self._conversation
        assert conversation is not None
        if conversation.turn is _READY:
            self._lose_idle()
            return
        request = self._queue[0]
        may_retry = isinstance(error, ConnectionClosed) and self.options.retry
        if may_retry and conversation.may_go_again(request):
            request.went_again = True
            if self._line.behind:
                self._part(conversation, 1)
            self._reset()
            self._rest()
        else:
            self._queue.popleft()
            # A traceback would hold frames, and they the request.
            self._settle(request, error.with_traceback(None), reset=True)

    def _go_elsewhere(self) -> None:
        """The request under way goes again, over a new connection."""
        self._reset()
        self._go_on()

    def _part(
        self, conversation: Conversation, first: int = 0, *, is_refused: bool = False
    ) -> None:
        """Sort out what was sent behind the request with which the connection ends."""
        unsent_bytes, retry = conversation.bev.output.length, self.options.retry
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

    def _callback_failed(self, request: HttpRequest, exc: Exception, text: str) -> None:
        """The program's code has raised in the middle of an exchange: end that one."""
        try:
            if self._serving(request) is not None:
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
            if self._is_connected_at_rest():
                self._reset()
        finally:
            logger.error("a callback raised for %r", about, exc_info=exc)
            handler = self._base.exception_handler
            if handler is not None:
                handler(exc)

    def _reset(self, step: Step = Step.LOSE) -> None:
        """Drop the connection, if there is one, and tell whoever wants to know."""
        conversation = self._conversation
        if conversation is not None and self._line.behind:
            self._part(conversation)
        self._let_go(step)
        self._dialer.cancel()
        if conversation is not None:
            self._dialer.release(conversation.bev)
            if self._closecb is not None:
                self._run(self._closecb)

    def _let_go(self, step: Step) -> None:
        """Be without a connection."""
        conversation, self._conversation = self._conversation, None
        if conversation is None or conversation.turn is not _READY:
            self._is_wary = True
        elif conversation.is_reused:
            self._is_wary = False
        if conversation is not None:
            conversation.end()
        self._step(step)
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
        if self._conversation is not None:
            self._conversation.time_is_over()
        elif self._phase is Phase.CONNECTING:
            self._dialer.cancel()
            self._connect_failed(ConnectFailed, "no connection in time")
        elif self._phase is Phase.RETRYING:
            self._connect()


def _callback(cb: Callable[[Any, Any], object] | None, arg: object) -> Callback | None:
    if cb is None:
        return None
    require_callable(cb)
    return cb, arg
