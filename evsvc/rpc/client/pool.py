"""The client's side: calls shared out over a few HTTP connections.

A call goes to the first idle connection, else it waits, first come first served: k connections
are k calls at once.  A call's time counts from `make_request`: the wait in line is in it.  A
connection serves the next call before the callback of the last one runs, so a callback may do
anything to the pool.

A connection that cannot be had fails fast, and so would draw the work of all others.  It is
ejected: no call goes there for a while, which doubles with each failure in a row; then one call
tries it.  The call that it failed was surely not sent, and goes to another connection, as long as
there is one that is not ejected.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from ...core.closing import Closing
from ...core.errors import ArgumentError, Error, StateError
from ...http import ClientOptions, HttpRequest
from ...http.errors import ConnectFailed, ResolveFailed
from ..codecs.msgpack import MsgpackCodec
from ..definition import DEADLINE_FIELD, Rpc
from ..errors import CallNotStarted, CallTimeout
from ..status import EVRPC_STATUS_ERR_TIMEOUT, EVRPC_STATUS_ERR_UNSTARTED, RpcStatus
from .call import ReplyCallback, RpcCall, judge_response

if TYPE_CHECKING:
    from ...core import Event, EventBase
    from ...http import HttpConnection
    from ..codecs.protocol import Codec

Request = TypeVar("Request")
Reply = TypeVar("Reply")

_DEFAULT_SILENCE_S = ClientOptions().read_s


EJECTION_S = 1.0
MAX_EJECTION_S = 30.0
"""How long a connection that cannot be had gets no calls: at first, and at the most."""


class Lane:
    """One connection of a pool, and the call that is on its way there with its HTTP request.

    follows_pool: whether the connection has libevent's limit of silence and none of its own.
    failures: how often in a row it could not be had.  probe: runs while it is ejected.
    """

    __slots__ = ("call", "connection", "failures", "follows_pool", "http_request", "probe")

    probe: Event

    def __init__(self, connection: HttpConnection) -> None:
        self.connection = connection
        self.follows_pool = connection.options.read_s == _DEFAULT_SILENCE_S
        self.call: RpcCall[Any, Any] | None = None
        self.http_request: HttpRequest | None = None
        self.failures = 0

    @property
    def is_ejected(self) -> bool:
        """Whether it gets no calls for now."""
        return bool(self.probe.pending())

    def eject(self) -> None:
        """Give it no calls for a while, longer each time."""
        self.probe.add(min(EJECTION_S * 2.0**self.failures, MAX_EJECTION_S))
        self.failures += 1


class RpcPool(Closing):
    """Makes calls over the HTTP connections that the program adds (evrpc_pool).

    timeout:          seconds for one call from `make_request` on, the wait in line included; None
                      leaves it to the connections' own limits.
    codec:            how messages become bytes, and within which limits; MessagePack when None.
    max_queued_calls: most calls that wait for a connection; one more ends as UNSTARTED.

    Raises ArgumentError when a number is out of range.
    """

    __slots__ = (
        "_base",
        "_closed",
        "_codec",
        "_lanes",
        "_max_queued_calls",
        "_timeout",
        "_waiting",
    )

    def __init__(
        self,
        base: EventBase,
        timeout: float | None = None,
        *,
        codec: Codec | None = None,
        max_queued_calls: int = 1024,
    ) -> None:
        if max_queued_calls < 0:
            raise ArgumentError(f"max_queued_calls must not be negative: {max_queued_calls!r}")
        self._base = base
        self._codec = MsgpackCodec() if codec is None else codec
        self._max_queued_calls = max_queued_calls
        self._lanes: dict[HttpConnection, Lane] = {}
        self._waiting: deque[RpcCall[Any, Any]] = deque()
        self._closed = False
        self._timeout = _checked_timeout(timeout)

    @property
    def timeout(self) -> float | None:
        """Seconds for one call; a change counts for calls sent later (evrpc_pool_set_timeout).

        Raises ArgumentError when set to a number that is not positive.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._timeout = _checked_timeout(timeout)

    @property
    def connections(self) -> tuple[HttpConnection, ...]:
        """The connections, in the order in which they were added."""
        return tuple(self._lanes)

    @property
    def queued_calls(self) -> int:
        """How many calls wait for a connection."""
        return len(self._waiting)

    def add_connection(self, connection: HttpConnection) -> None:
        """Take a connection for this pool's calls alone; it serves a waiting one at once.

        Its limit of silence gives way to a longer timeout of the pool, unless it is one that the
        program chose.  To close it, remove it first: a call on a connection that is closed here
        is forgotten with it, and only its timeout is left to end it.  Raises ArgumentError when
        it is here already.  evrpc_pool_add_connection.
        """
        self._require_open()
        if connection in self._lanes:
            raise ArgumentError(f"the connection is in the pool already: {connection!r}")
        lane = Lane(connection)
        lane.probe = self._base.timer(self._on_probe, lane)
        self._lanes[connection] = lane
        self._schedule()

    def remove_connection(self, connection: HttpConnection) -> None:
        """Give a connection back to the program, open; a call on its way there is completed.

        Raises ArgumentError when it is not here.  evrpc_pool_remove_connection.
        """
        lane = self._lanes.pop(connection, None)
        if lane is None:
            raise ArgumentError(f"the connection is not in the pool: {connection!r}")
        lane.probe.close()

    def make_request(
        self,
        rpc: Rpc[Request, Reply],
        request: Request,
        cb: ReplyCallback[Request, Reply],
        arg: object = None,
    ) -> RpcCall[Request, Reply]:
        """Send a call now or when a connection is free; `cb(status, request, reply, arg)` ends it.

        The callback runs once, from the loop.  The request is encoded here, so later changes to it
        do not count.  Raises StateError when the pool is closed or has no connection, and
        PayloadError when the request is ill-typed or over a limit.  evrpc_make_request.
        """
        self._require_open()
        if not self._lanes:
            raise StateError("the pool has no connection to make a call on")
        payload = self._codec.encode(rpc.request_shape, request)
        call = RpcCall(rpc, request, payload, cb, arg, self._cancel)
        if self._timeout is not None:
            call.limit(self._base.timer(self._on_timeout, call), self._timeout, self._base.now)
        self._waiting.append(call)
        self._schedule()
        if len(self._waiting) > self._max_queued_calls:
            self._waiting.pop()
            self._refuse_later(call, f"{self._max_queued_calls} calls are waiting already")
        return call

    def close(self) -> None:
        """Close the connections and forget every call, without its callback.  Safe to repeat.

        evrpc_pool_free.
        """
        self._closed = True
        while self._waiting:
            self._waiting.pop().forget()
        lanes = list(self._lanes.values())
        self._lanes.clear()
        for lane in lanes:
            if lane.call is not None:
                lane.call.forget()
                self._release(lane.call)
            lane.probe.close()
            lane.connection.close()

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("the pool is closed")

    def _schedule(self) -> None:
        """Hand waiting calls to idle connections: to ejected ones where there are no others."""
        lanes = list(self._lanes.values())
        for lane in [lane for lane in lanes if not lane.is_ejected] or lanes:
            if not self._waiting:
                return
            if lane.call is None:
                self._start(lane, self._waiting.popleft())

    def _start(self, lane: Lane, call: RpcCall[Any, Any]) -> None:
        http_request = HttpRequest(self._on_response, call)
        http_request.output_headers.add("Content-Type", self._codec.content_type)
        http_request.output_buffer.add(call.payload)
        lane.call, lane.http_request, call.lane = call, http_request, lane
        timeout_s = call.timeout_s
        if timeout_s is not None:
            left_s = max(call.ends_at - self._base.now, 0.0)
            http_request.output_headers.add(DEADLINE_FIELD, f"{left_s:.3f}")
        read_s = lane.connection.options.read_s
        if timeout_s is not None and lane.follows_pool and read_s < timeout_s:
            lane.connection.set_timeout(timeout_s)
        try:
            lane.connection.make_request(http_request, "POST", call.rpc.path)
        except Error as exc:  # the program has closed the connection: it is of no more use here
            self._release(call)
            self.remove_connection(lane.connection)
            self._refuse_later(call, str(exc))

    def _release(self, call: RpcCall[Any, Any]) -> HttpRequest | None:
        """Take the call off its connection, and return the HTTP request that carried it."""
        lane = call.lane
        if lane is None:
            return None
        http_request = lane.http_request
        lane.call = lane.http_request = call.lane = None
        return http_request

    def _on_response(self, response: HttpRequest | None, call: RpcCall[Any, Any]) -> None:
        lane = call.lane
        http_request = self._release(call)
        if http_request is None or lane is None:
            return  # a late answer: the call has ended otherwise
        if isinstance(http_request.error, (ConnectFailed, ResolveFailed)):
            lane.eject()
            if any(not other.is_ejected for other in self._lanes.values()):
                self._waiting.appendleft(call)  # surely not sent
                self._schedule()
                return
        elif lane.failures:
            lane.failures = 0
            lane.probe.delete()
        self._schedule()
        status, reply = judge_response(self._codec, call.rpc, response, http_request.error)
        call.finish(status, reply)

    def _on_timeout(self, fd: int, what: int, call: RpcCall[Any, Any]) -> None:
        if call in self._waiting:
            self._waiting.remove(call)
        else:
            self._break_off(call)
        cause = CallTimeout(f"{call.rpc.name}: no reply within {call.timeout_s} s")
        self._give_up(call, RpcStatus(EVRPC_STATUS_ERR_TIMEOUT, cause))

    def _on_probe(self, fd: int, what: int, lane: Lane) -> None:
        """The connection's time out of the pool is over: the next call tries it."""
        self._schedule()

    def _cancel(self, call: RpcCall[Any, Any]) -> None:
        call.forget()
        if call in self._waiting:
            self._waiting.remove(call)
        else:
            self._break_off(call)

    def _break_off(self, call: RpcCall[Any, Any]) -> None:
        """Reset the connection of a call on its way, and let it serve the next one."""
        http_request = self._release(call)
        if http_request is not None:
            http_request.cancel()
            self._schedule()

    def _refuse_later(self, call: RpcCall[Any, Any], text: str) -> None:
        status = RpcStatus(EVRPC_STATUS_ERR_UNSTARTED, CallNotStarted(f"{call.rpc.name}: {text}"))
        self._base.post(self._give_up, call, status)

    def _give_up(self, call: RpcCall[Any, Any], status: RpcStatus) -> None:
        """Tell a call that it failed, unless something has ended it, or the pool, meanwhile."""
        if not call.finished and not self._closed:
            call.finish(status, None)


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is not None and not 0 < timeout < math.inf:
        raise ArgumentError(f"the timeout must be a positive number of seconds: {timeout!r}")
    return timeout
