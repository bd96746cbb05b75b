"""The client's side: calls shared out over the connections of one or more servers.

A call goes to the least loaded server that has room, else it waits, first come first served: k
connections are k calls at once, or as many times more as are pipelined.  A call's time counts from
`make_request`: the wait in line is in it.  A connection serves the next call before the callback of
the last one runs, so a callback may do anything to the pool.

The call that an unreachable server failed was surely not sent, and goes to another, as long as
there is one that is not ejected.  A call of an idempotent definition goes again, by `RetryPolicy`,
when its connection is lost or its server answers UNAVAILABLE.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...core import EvBuffer
from ...core.checks import whole_number
from ...core.closing import Closing
from ...core.errors import ArgumentError, Error, StateError
from ...core.util import check_port
from ...http import ClientOptions, HttpConnection, HttpRequest
from ...http.client.timeouts import Timeouts
from ...http.errors import ConnectFailed, ConnectionClosed, ResolveFailed, TlsFailed
from ..codecs.msgpack import MsgpackCodec
from ..definition import DEADLINE_FIELD, Rpc
from ..errors import (
    CallNotStarted,
    CallTimeout,
    PayloadError,
    RemoteError,
    RpcError,
    RpcErrorCode,
)
from ..hooks import Hook, HookCallback, HookList, HookRun
from ..packing import ACCEPT_ENCODING, CONTENT_ENCODING, Packing, PackingOptions
from ..status import (
    EVRPC_STATUS_ERR_BADPAYLOAD,
    EVRPC_STATUS_ERR_HOOKABORTED,
    EVRPC_STATUS_ERR_TIMEOUT,
    EVRPC_STATUS_ERR_UNSTARTED,
    RpcStatus,
)
from .call import ReplyCallback, RpcCall
from .endpoints import Endpoint, Lane, choose
from .names import FollowedName, Following, NameOptions, NameSource, Server
from .retries import RetryBudget, RetryPolicy
from .stream import DEFAULT_SILENCE_S, ClientStream

if TYPE_CHECKING:
    from ...core import EventBase
    from ...core.resolver import Resolver
    from ..codecs.protocol import Codec
    from ..frames import StreamOptions
    from .carrier import CallConnection

Request = TypeVar("Request")
Reply = TypeVar("Reply")

MAX_CONNECTIONS = 8
"""How many connections an endpoint has at the most, if the program does not say."""

_log = logging.getLogger("evsvc.rpc")

_UNREACHED = (ConnectFailed, ResolveFailed, TlsFailed)


class Connecting(NamedTuple):
    """How the connections of an endpoint are made; see `RpcPool.add_endpoint`."""

    resolver: Resolver | None
    tls: bool | ssl.SSLContext
    options: ClientOptions | None
    max_connections: int
    server_hostname: str | None


class RpcPool(Closing):
    """Makes calls over HTTP connections (evrpc_pool).

    timeout:          seconds for one call from `make_request` on, the wait in line included; None
                      leaves it to the connections' own limits.
    codec:            how messages become bytes, and within which limits; MessagePack when None.
    max_queued_calls: most calls that wait for a connection; one more ends as UNSTARTED.
    max_pipelined_calls: calls that may be under way on a connection at once, where all connections
                      have one already (RFC 9112 9.3.2).  The server answers them in order, one
                      after the other: a slow one holds up those behind it.  Where the connection
                      ends, those that may have been done fail, or go again if their definition is
                      idempotent.  Streams have a connection for themselves.
    retry:            how calls of idempotent definitions are repeated.
    packing:          have payloads compressed, where the server wants it, too; None asks for none.
                      Streams are not, and hooks see the bytes as they are on the wire.

    Raises ArgumentError when a number is out of range.
    """

    __slots__ = (
        "_added",
        "_base",
        "_budget",
        "_closed",
        "_codec",
        "_endpoints",
        "_followed",
        "_max_pipelined_calls",
        "_max_queued_calls",
        "_packing",
        "_resting",
        "_timeout",
        "_timeouts",
        "_waiting",
        "hooks",
    )

    def __init__(
        self,
        base: EventBase,
        timeout: float | None = None,
        *,
        codec: Codec | None = None,
        max_queued_calls: int = 1024,
        max_pipelined_calls: int = 1,
        retry: RetryPolicy | None = None,
        packing: PackingOptions | None = None,
    ) -> None:
        if max_queued_calls < 0:
            raise ArgumentError(f"max_queued_calls must not be negative: {max_queued_calls!r}")
        if whole_number(max_pipelined_calls, "max_pipelined_calls") < 1:
            raise ArgumentError(f"max_pipelined_calls is at least 1: {max_pipelined_calls!r}")
        self._base = base
        self._codec = MsgpackCodec() if codec is None else codec
        self._packing = None if packing is None else Packing(packing)
        self._max_queued_calls = max_queued_calls
        self._max_pipelined_calls = max_pipelined_calls
        self._budget = RetryBudget(RetryPolicy() if retry is None else retry)
        self._endpoints: list[Endpoint] = []
        self._followed: list[FollowedName] = []
        self._added: dict[HttpConnection, Lane] = {}  # by the program, not made here
        self._waiting: deque[RpcCall[Any, Any]] = deque()
        self._resting: set[RpcCall[Any, Any]] = set()  # until they go once more
        self._timeouts: Timeouts[RpcCall[Any, Any]] = Timeouts(base, self._expire)
        self._closed = False
        self._timeout = _checked_timeout(timeout)
        self.hooks = HookList()

    @property
    def base(self) -> EventBase:
        """The event base."""
        return self._base

    @property
    def timeout(self) -> float | None:
        """Seconds for one call; a change counts for calls made later (evrpc_pool_set_timeout).

        Raises ArgumentError when set to a number that is not positive.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._timeout = _checked_timeout(timeout)

    @property
    def connections(self) -> tuple[HttpConnection, ...]:
        """The connections that the program has added, in their order."""
        return tuple(self._added)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers, each added connection one of them."""
        return tuple(self._endpoints)

    @property
    def queued_calls(self) -> int:
        """How many calls wait for a connection."""
        return len(self._waiting)

    def add_connection(self, connection: HttpConnection) -> None:
        """Take a connection for this pool's calls alone; it serves a waiting one at once.

        Its limit of silence gives way to a longer timeout of the pool, unless it is one that the
        program chose; where the pool pipelines, so does the connection from now on.  To close it,
        remove it first: a call on a connection that is closed here is forgotten with it, and only
        its timeout is left to end it.  Raises ArgumentError when it is here already.
        evrpc_pool_add_connection.
        """
        self._require_open()
        if connection in self._added:
            raise ArgumentError(f"the connection is in the pool already: {connection!r}")
        probe, most = self._base.timer(self._on_probe), self._max_pipelined_calls
        endpoint = Endpoint(probe, None, 1, max_pipelined=most)
        connection.options = self._pipelining(connection.options)
        self._added[connection] = endpoint.add(connection)
        self._endpoints.append(endpoint)
        self._schedule()

    def remove_connection(self, connection: HttpConnection) -> None:
        """Give a connection back to the program, open; a call on its way there is completed.

        Raises ArgumentError when it is not here.  evrpc_pool_remove_connection.
        """
        lane = self._added.pop(connection, None)
        if lane is None:
            raise ArgumentError(f"the connection is not in the pool: {connection!r}")
        endpoint = lane.endpoint
        self._endpoints.remove(endpoint)
        endpoint.probe.close()
        endpoint.lanes.clear()
        endpoint.idle.clear()

    def add_endpoint(
        self,
        address: str,
        port: int,
        *,
        resolver: Resolver | None = None,
        tls: bool | ssl.SSLContext = False,
        options: ClientOptions | None = None,
        max_connections: int = MAX_CONNECTIONS,
        weight: int = 1,
        priority: int = 0,
        server_hostname: str | None = None,
    ) -> Endpoint:
        """Have one more server, whose connections the pool makes as it needs them.

        resolver: looks a name up without blocking.  tls, server_hostname, options: as for
        HttpConnection; where the options' limit of silence is the default, it gives way to the
        pool's timeout.
        max_connections: calls there at once.  weight: its part of the calls beside the others'.
        priority: only where no server of a lower number can be had.

        Raises ArgumentError for a number that is not positive, and what HttpConnection raises.
        """
        self._require_open()
        connecting = Connecting(resolver, tls, options, max_connections, server_hostname)
        endpoint = self._make_endpoint(connecting, Server(address, port, priority, weight))
        self._schedule()
        return endpoint

    def _make_endpoint(self, connecting: Connecting, server: Server) -> Endpoint:
        options = self._pipelining(connecting.options or ClientOptions())

        def make() -> HttpConnection:
            return HttpConnection(
                self._base,
                connecting.resolver,
                server.address,
                server.port,
                options,
                tls=connecting.tls,
                server_hostname=connecting.server_hostname,
            )

        return self._have_endpoint(
            make,
            connecting.max_connections,
            server.weight,
            server.priority,
            HttpRequest,
            self._max_pipelined_calls,
        )

    def _pipelining(self, options: ClientOptions) -> ClientOptions:
        """Return options of a connection with which it pipelines as the pool does."""
        most = self._max_pipelined_calls
        if most == 1:
            return options
        max_queued = max(options.max_queued, most)
        return replace(options, max_pipelined=most, pipelines_all=True, max_queued=max_queued)

    def add_carried_endpoint(
        self,
        make: Callable[[], CallConnection],
        request_type: type[HttpRequest],
        *,
        max_connections: int,
        weight: int = 1,
        priority: int = 0,
    ) -> Endpoint:
        """Have one more server, to which calls are carried by what `make` makes, one on each.

        request_type: what that carries.  For other ways than HTTP, such as `rpc.websocket`; the
        rest as for `add_endpoint`.
        """
        self._require_open()
        endpoint = self._have_endpoint(make, max_connections, weight, priority, request_type)
        self._schedule()
        return endpoint

    def _have_endpoint(
        self,
        make: Callable[[], CallConnection],
        max_connections: int,
        weight: int,
        priority: int,
        request_type: type[HttpRequest],
        max_pipelined: int = 1,
    ) -> Endpoint:
        if max_connections < 1 or weight < 1:
            numbers = f"max_connections {max_connections!r}, weight {weight!r}"
            raise ArgumentError(f"an endpoint's numbers are positive: {numbers}")
        probe = self._base.timer(self._on_probe)
        endpoint = Endpoint(
            probe, make, max_connections, weight, priority, request_type, max_pipelined
        )
        endpoint.add(make())  # what it raises is raised here
        self._endpoints.append(endpoint)
        return endpoint

    def follow_srv(
        self,
        name: str,
        source: NameSource,
        *,
        resolver: Resolver | None = None,
        tls: bool | ssl.SSLContext = False,
        options: ClientOptions | None = None,
        max_connections: int = MAX_CONNECTIONS,
        follow: NameOptions | None = None,
    ) -> FollowedName:
        """Have the servers of an SRV record, with its priorities and weights (RFC 2782).

        source: looks the record up, and resolver the servers' names: a `Resolver` of evsvc.dns does
        both.  The rest as for `add_endpoint`; `follow` says how often the name is asked.  Calls
        wait until the first answer.  Raises what those two raise.
        """
        connecting = Connecting(resolver, tls, options, max_connections, None)
        return self._follow(source, name, None, follow, connecting)

    def follow_name(
        self,
        name: str,
        port: int,
        source: NameSource,
        *,
        tls: bool | ssl.SSLContext = False,
        options: ClientOptions | None = None,
        max_connections: int = MAX_CONNECTIONS,
        follow: NameOptions | None = None,
    ) -> FollowedName:
        """Have all addresses of a name, each as a server of its own; else as `follow_srv`."""
        check_port(port, lowest=1)
        hostname = None if tls is False else name
        connecting = Connecting(None, tls, options, max_connections, hostname)
        return self._follow(source, name, port, follow, connecting)

    def _follow(
        self,
        source: NameSource,
        name: str,
        port: int | None,
        follow: NameOptions | None,
        connecting: Connecting,
    ) -> FollowedName:
        self._require_open()
        following = Following(
            partial(self._make_endpoint, connecting), self._give_up_endpoint, self._schedule
        )
        options = follow or NameOptions()
        followed = FollowedName(self._base, source, name, port, options, following)
        self._followed.append(followed)
        return followed

    def _give_up_endpoint(self, endpoint: Endpoint) -> None:
        if endpoint in self._endpoints:  # the program may have removed it
            self.remove_endpoint(endpoint)

    def remove_endpoint(self, endpoint: Endpoint) -> None:
        """Send no more calls to a server; those on their way there are completed.

        Raises ArgumentError when it is not here.
        """
        if endpoint not in self._endpoints or endpoint.make is None:
            raise ArgumentError(f"the endpoint is not in the pool: {endpoint!r}")
        self._endpoints.remove(endpoint)
        endpoint.leave()

    def add_hook(self, kind: int, hook: HookCallback, arg: object = None) -> Hook:
        """Have `hook(call, http_request, body, arg)` see every call of a kind; see `hooks`.

        EVRPC_OUTPUT sees requests before they are sent, EVRPC_INPUT answers before they are
        decoded.  Where it terminates a call, that ends as UNSTARTED, or as HOOKABORTED.  Raises
        ArgumentError for another kind, ArgumentTypeError for what cannot be called.
        Source: evrpc_add_hook.
        """
        return self.hooks.add(kind, hook, arg)

    def remove_hook(self, hook: Hook) -> None:
        """Take a hook back; raises ArgumentError when it is not here (evrpc_remove_hook)."""
        self.hooks.remove(hook)

    def make_request(
        self,
        rpc: Rpc[Request, Reply],
        request: Request,
        cb: ReplyCallback[Request, Reply],
        arg: object = None,
        *,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> RpcCall[Request, Reply]:
        """Send a call now or when a connection is free; `cb(status, request, reply, arg)` ends it.

        timeout_s: in place of the pool's timeout.  metadata: fields to send along, which the
        handler finds in `call.metadata`.  The callback runs once, from the loop.  The request is
        encoded here, so later changes to it do not count.  Raises StateError when the pool is
        closed or has no server, PayloadError when the request is ill-typed or over a limit,
        ArgumentError for a bad time, or a stream.  evrpc_make_request.
        """
        if rpc.kind.is_stream:
            raise ArgumentError(f"a stream is opened, not called: {rpc!r}")
        call = RpcCall(self, rpc, request, cb, arg, timeout_s=timeout_s, metadata=metadata)
        self.start(call)
        return call

    def open_stream(
        self,
        rpc: Rpc[Request, Reply],
        cb: ReplyCallback[Any, Reply],
        arg: object = None,
        *,
        request: Request | None = None,
        on_message: Callable[[ClientStream[Request, Reply], Reply, Any], object] | None = None,
        timeout_s: float | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        options: StreamOptions | None = None,
    ) -> ClientStream[Request, Reply]:
        """Open a stream now or when a connection is free, which it has until both sides are done.

        cb: as of a call, when the stream is over.  request: the one of a SERVER_STREAM; for the
        others `stream.send` and `stream.end`.  on_message(stream, message, arg): takes what comes;
        none for a CLIENT_STREAM, whose one reply `cb` gets.  timeout_s: for all of it; the pool's
        timeout does not count.  Output hooks see the request, and input hooks the answer once it
        is over, with an empty body.  A stream that has begun is not sent again.

        Raises ArgumentError for a definition that is none of a stream, a request or callback too
        few or too many, and as `make_request`.
        """
        stream = ClientStream(
            self,
            rpc,
            request,
            cb,
            arg,
            on_message,
            timeout_s=timeout_s,
            metadata=metadata,
            options=options,
        )
        self.start(stream)
        return stream

    def start(self, call: RpcCall[Any, Any]) -> None:
        """Send a call that was made by hand; see `RpcCall.start`."""
        self._require_open()
        if not self._endpoints and not self._followed:
            raise StateError("the pool has no connection to make a call on")
        if call.started or call.finished:
            raise StateError(f"the call was started already: {call.rpc.name}")
        timeout_s = _checked_timeout(call.timeout_s)
        if timeout_s is None and not call.is_stream:
            timeout_s = self._timeout
        call.encode_request(self._codec)
        call.started = True
        call.timeout_s = timeout_s
        if timeout_s is not None:
            call.ends_at = self._timeouts.add(call, timeout_s)
        self._budget.earn()
        self._waiting.append(call)
        self._schedule()
        if len(self._waiting) > self._max_queued_calls:
            self._waiting.pop()
            self._refuse_later(call, f"{self._max_queued_calls} calls are waiting already")

    def cancel(self, call: RpcCall[Any, Any]) -> None:
        """Give a call up; see `RpcCall.cancel`."""
        self._unlimit(call)
        call.forget()
        self._drop(call)

    def close(self) -> None:
        """Close the connections and forget every call, without its callback.  Safe to repeat.

        evrpc_pool_free.
        """
        self._closed = True
        self._timeouts.close()
        while self._followed:
            self._followed.pop().close()
        while self._waiting:
            self._waiting.pop().abandon()
        while self._resting:
            self._resting.pop().abandon()
        endpoints, self._endpoints = self._endpoints, []
        self._added.clear()
        for endpoint in endpoints:
            for lane in endpoint.lanes:
                for call in list(lane.calls):
                    call.abandon()
                    self._release(call)
            endpoint.close()

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the pool is closed")

    def _schedule(self) -> None:
        """Hand waiting calls to servers that have room."""
        while self._waiting:
            is_stream = self._waiting[0].is_stream
            endpoint = choose(self._endpoints, is_stream)
            if endpoint is None:
                return
            self._start(endpoint.take(is_stream), self._waiting.popleft())

    def _start(self, lane: Lane, call: RpcCall[Any, Any]) -> None:
        """Put a call on a connection, through the hooks where there are some."""
        http_request = lane.endpoint.request_type(self._on_response, call)
        headers = http_request.output_headers
        call.ride(http_request, self._codec)
        if call.timeout_s is not None:
            headers.add(DEADLINE_FIELD, f"{max(call.ends_at - self._base.now, 0.0):.3f}")
        for name, value in call.metadata:
            headers.add(name, value)
        payload = call.payload
        packing = self._packing
        if packing is not None and not call.is_stream:
            headers.replace(ACCEPT_ENCODING, packing.accepted)
            payload, coding = packing.pack(payload, lane.endpoint.accepts)
            if coding is not None:
                headers.add(CONTENT_ENCODING, coding)
        lane.calls[call], call.lane = http_request, lane
        call.attempts += 1
        hooks = self.hooks.output
        if hooks:
            body = EvBuffer()
            body.add(payload)
            call.connection = lane.connection

            def done(goes_on: bool) -> None:
                if not call.is_stream:
                    http_request.output_buffer.add_buffer(body)
                self._hooked_out(lane, call, http_request, goes_on)

            call.hook_run = HookRun(hooks, (call, http_request, body), done, self._hook_failed)
            call.hook_run.run()
        else:
            if payload:
                http_request.set_body(payload)
            self._send(lane, call, http_request)

    def _hooked_out(
        self, lane: Lane, call: RpcCall[Any, Any], http_request: HttpRequest, goes_on: bool
    ) -> None:
        if call.finished or call.lane is not lane:
            return  # while a hook held it
        if goes_on:
            self._send(lane, call, http_request)
        else:
            self._release(call)
            self._refuse_later(call, "a hook has refused it")
            self._schedule()

    def _send(self, lane: Lane, call: RpcCall[Any, Any], http_request: HttpRequest) -> None:
        connection = lane.connection
        timeout_s, read_s = call.timeout_s, connection.options.read_s
        if isinstance(call, ClientStream):
            call.board(connection)
        elif timeout_s is not None and read_s == DEFAULT_SILENCE_S < timeout_s:
            connection.set_timeout(timeout_s)
        try:
            connection.make_request(http_request, "POST", call.rpc.path)
        except Error as exc:  # the program has closed the connection: it is of no more use here
            self._release(call)
            if isinstance(connection, HttpConnection) and connection in self._added:
                self.remove_connection(connection)
            self._refuse_later(call, str(exc))

    def _release(self, call: RpcCall[Any, Any], *, is_given_up: bool = False) -> HttpRequest | None:
        """Take the call off its connection, and return the HTTP request that carried it."""
        lane = call.lane
        if lane is None:
            return None
        http_request = lane.calls.pop(call)
        if isinstance(call, ClientStream):
            call.leave(lane.connection)
        call.lane = None
        lane.endpoint.give_back(lane, is_given_up=is_given_up)
        return http_request

    def _on_response(self, response: HttpRequest | None, call: RpcCall[Any, Any]) -> None:
        lane = call.lane
        http_request = self._release(call)
        if http_request is None or lane is None:
            return  # a late answer: the call has ended otherwise
        error = http_request.error
        if isinstance(error, _UNREACHED):
            lane.endpoint.eject()
            if any(not other.is_ejected for other in self._endpoints):
                self._waiting.appendleft(call)  # surely not sent
                self._schedule()
                return
        else:
            lane.endpoint.reached()
            if self._packing is not None and response is not None:
                lane.endpoint.accepts = response.input_headers.get_all(ACCEPT_ENCODING)
        self._schedule()
        hooks = self.hooks.input
        if hooks and response is not None and response.response_code:
            call.connection = lane.connection

            def done(goes_on: bool) -> None:
                self._hooked_in(call, response, goes_on)

            seen = (call, response, response.input_buffer)
            call.hook_run = HookRun(hooks, seen, done, self._hook_failed)
            call.hook_run.run()
        else:
            self._judge(call, response, error)

    def _hooked_in(self, call: RpcCall[Any, Any], response: HttpRequest, goes_on: bool) -> None:
        if call.finished:
            return  # while a hook held it
        if goes_on:
            self._judge(call, response, None)
        else:
            cause = RpcError(f"{call.rpc.name}: a hook has refused the answer")
            self._finish(call, RpcStatus(EVRPC_STATUS_ERR_HOOKABORTED, cause, response), None)

    def _judge(
        self, call: RpcCall[Any, Any], response: HttpRequest | None, error: Exception | None
    ) -> None:
        if self._packing is not None and response is not None and not call.is_stream:
            coding = response.input_headers.find(CONTENT_ENCODING)
            if coding is not None:
                try:
                    plain = self._packing.unpack(response.take_body(), coding)
                except PayloadError as exc:
                    status = RpcStatus(EVRPC_STATUS_ERR_BADPAYLOAD, exc, response)
                    self._finish(call, status, None)
                    return
                response.input_buffer.add(plain)
        status, reply = call.judge(self._codec, response, error)
        if status.error and call.rpc.idempotent and self._goes_again(call, status.cause):
            return
        self._finish(call, status, reply)

    def _goes_again(self, call: RpcCall[Any, Any], cause: Exception | None) -> bool:
        """Whether a call that failed is to wait for another attempt; it does then."""
        if isinstance(cause, RemoteError):
            if cause.code is not RpcErrorCode.UNAVAILABLE:
                return False
        elif not isinstance(cause, (ConnectionClosed, *_UNREACHED)):
            return False
        wait_s = self._budget.policy.wait_s(call.attempts)
        if self._base.now + wait_s >= call.ends_at or not self._budget.spend(call.attempts):
            return False
        self._resting.add(call)
        call.backoff = self._base.timer(self._on_backoff, call)
        call.backoff.add(wait_s)
        return True

    def _on_backoff(self, fd: int, what: int, call: RpcCall[Any, Any]) -> None:
        self._resting.discard(call)
        assert call.backoff is not None
        call.backoff.close()
        call.backoff = None
        self._waiting.appendleft(call)
        self._schedule()

    def break_off(self, call: RpcCall[Any, Any], status: RpcStatus) -> None:
        """End a stream that is under way, and its connection; the stream calls this."""
        self._drop(call)
        self._give_up(call, status)

    def callback_raised(self, call: RpcCall[Any, Any], exc: Exception) -> None:
        """End a stream whose callback raised, and tell the program; the stream calls this."""
        _log.error("a callback raised for %s", call.rpc.name, exc_info=exc)
        try:
            if not call.finished:
                cause = RpcError(f"{call.rpc.name}: a callback of the stream raised")
                cause.__cause__ = exc
                self.break_off(call, RpcStatus(EVRPC_STATUS_ERR_HOOKABORTED, cause))
        finally:
            handler = self._base.exception_handler
            if handler is not None:
                handler(exc)

    def _expire(self, call: RpcCall[Any, Any]) -> None:
        """A call's time is over."""
        self._drop(call)
        cause = CallTimeout(f"{call.rpc.name}: no reply within {call.timeout_s} s")
        self._give_up(call, RpcStatus(EVRPC_STATUS_ERR_TIMEOUT, cause))

    def _drop(self, call: RpcCall[Any, Any]) -> None:
        """Take a call out of wherever it is; its connection is reset, and serves the next."""
        if call in self._resting:
            self._resting.discard(call)
        elif call in self._waiting:
            self._waiting.remove(call)
        else:
            http_request = self._release(call, is_given_up=True)
            if http_request is not None:
                http_request.cancel()
                self._schedule()

    def _on_probe(self, fd: int, what: int, arg: object) -> None:
        """An endpoint's time out of the pool is over: the next call tries it."""
        self._schedule()

    def _hook_failed(self, exc: Exception) -> None:
        """A hook raised: the program is told as of any callback of its own."""
        _log.error("a hook raised", exc_info=exc)
        handler = self._base.exception_handler
        if handler is not None:
            handler(exc)

    def _refuse_later(self, call: RpcCall[Any, Any], text: str) -> None:
        status = RpcStatus(EVRPC_STATUS_ERR_UNSTARTED, CallNotStarted(f"{call.rpc.name}: {text}"))
        self._base.post(self._give_up, call, status)

    def _give_up(self, call: RpcCall[Any, Any], status: RpcStatus) -> None:
        """Tell a call that it failed, unless something has ended it, or the pool, meanwhile."""
        if not call.finished and not self._closed:
            self._finish(call, status, None)

    def _unlimit(self, call: RpcCall[Any, Any]) -> None:
        if call.timeout_s is not None:
            self._timeouts.discard(call, call.timeout_s)

    def _finish(self, call: RpcCall[Any, Any], status: RpcStatus, reply: object) -> None:
        try:
            call.finish(status, reply)
        finally:  # behind the callback, which mostly makes the next call
            self._unlimit(call)


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is not None and not 0 < timeout < math.inf:
        raise ArgumentError(f"the timeout must be a positive number of seconds: {timeout!r}")
    return timeout
