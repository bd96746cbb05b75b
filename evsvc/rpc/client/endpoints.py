"""Endpoints: the servers of a pool, their connections, and which of them a call goes to.

An endpoint that cannot be had fails fast, and so would draw the work of all others.  It is
ejected: no call goes there for a while, which doubles with each failure in a row; then one call
tries it.

Calls are spread over the connections first.  Where each has one, and the pool pipelines, a call
joins others; a stream never does, and none joins a stream.  A connection on which a call was given
up while others are under way gets no more until those are done: the answer to it may be what they
wait for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ...http import HttpRequest

if TYPE_CHECKING:
    from ...core import Event
    from .call import RpcCall
    from .carrier import CallConnection

EJECTION_S = 1.0
MAX_EJECTION_S = 30.0
"""How long an endpoint that cannot be had gets no calls: at first, and at the most."""


class Lane:
    """One connection of an endpoint, and the calls that are on their way there.

    calls: with the HTTP request that carries each.  is_clogged: one was given up, and others wait.
    """

    __slots__ = ("calls", "connection", "endpoint", "is_clogged")

    def __init__(self, endpoint: Endpoint, connection: CallConnection) -> None:
        self.endpoint = endpoint
        self.connection = connection
        self.calls: dict[RpcCall[Any, Any], HttpRequest] = {}
        self.is_clogged = False


class Endpoint:
    """One server.

    make: makes a connection to it; None where the program adds them.  max_connections: how many
    it may have.  weight: its part of the calls beside that of others.  priority: only where no
    endpoint of a lower number can be had.  max_pipelined: how many calls a connection may have.
    idle: the connections without a call, the last one used first taken.  shared: those with calls
    that may have more.  calls: how many are on their way.  failures: how often in a row it could
    not be had.  probe: runs while it is ejected.  leaving: it gets no new calls, and its
    connections are closed as they come to rest.  accepts: which packed requests it takes.
    request_type: what its connections carry.
    """

    __slots__ = (
        "accepts",
        "calls",
        "failures",
        "idle",
        "lanes",
        "leaving",
        "make",
        "max_connections",
        "max_pipelined",
        "priority",
        "probe",
        "request_type",
        "shared",
        "weight",
    )

    def __init__(
        self,
        probe: Event,
        make: Callable[[], CallConnection] | None,
        max_connections: int,
        weight: int = 1,
        priority: int = 0,
        request_type: type[HttpRequest] = HttpRequest,
        max_pipelined: int = 1,
    ) -> None:
        self.probe = probe
        self.request_type = request_type
        self.make = make
        self.max_connections = max_connections
        self.max_pipelined = max_pipelined
        self.weight = weight
        self.priority = priority
        self.lanes: list[Lane] = []
        self.idle: list[Lane] = []
        self.shared: list[Lane] = []
        self.accepts: list[str] = []
        self.calls = 0
        self.failures = 0
        self.leaving = False

    @property
    def is_ejected(self) -> bool:
        """Whether it gets no calls for now."""
        return bool(self.failures) and bool(self.probe.pending())

    def eject(self) -> None:
        """Give it no calls for a while, longer each time.

        Calls that fail together, as one way to it has ended, are one time.
        """
        if self.is_ejected:
            return
        doubled = 2.0 ** min(self.failures, 62)  # a float has an end: it may be down for a day
        self.probe.add(min(EJECTION_S * doubled, MAX_EJECTION_S))
        self.failures += 1

    def reached(self) -> None:
        """It can be had."""
        if self.failures:
            self.failures = 0
            self.probe.delete()

    def add(self, connection: CallConnection) -> Lane:
        """Have one more connection."""
        lane = Lane(self, connection)
        self.lanes.append(lane)
        self.idle.append(lane)
        return lane

    def take(self, is_stream: bool = False) -> Lane:
        """Return a connection for a call, made if need be; `choose` has seen to it."""
        if not self.idle and len(self.lanes) < self.max_connections:
            assert self.make is not None
            self.add(self.make())
        self.calls += 1
        if self.idle:
            lane = self.idle.pop()
            if self.max_pipelined > 1 and not is_stream:
                self.shared.append(lane)
            return lane
        lane = min(self.shared, key=_calls_on)
        if len(lane.calls) + 1 >= self.max_pipelined:
            self.shared.remove(lane)
        return lane

    def give_back(self, lane: Lane, *, is_given_up: bool = False) -> None:
        """A call has left its connection; is_given_up: its answer has not come."""
        self.calls -= 1
        if lane.calls:
            lane.is_clogged = lane.is_clogged or is_given_up
            is_shared = lane in self.shared
            if lane.is_clogged and is_shared:
                self.shared.remove(lane)
            elif not (lane.is_clogged or is_shared):
                self.shared.append(lane)
            return
        if lane in self.shared:
            self.shared.remove(lane)
        lane.is_clogged = False
        if self.leaving and self.make is not None:
            self.lanes.remove(lane)
            lane.connection.close()
        elif lane in self.lanes:
            self.idle.append(lane)

    def leave(self) -> None:
        """Get no new calls; close what is at rest now, and the rest as it comes to rest."""
        self.leaving = True
        self.probe.close()
        idle, self.idle = self.idle, []
        for lane in idle:
            self.lanes.remove(lane)
            lane.connection.close()

    def close(self) -> None:
        """Close all its connections."""
        self.probe.close()
        lanes, self.lanes = self.lanes, []
        self.idle.clear()
        for lane in lanes:
            lane.connection.close()


def choose(endpoints: Iterable[Endpoint], is_stream: bool = False) -> Endpoint | None:
    """Return the endpoint that the next call goes to, or None while none has room.

    Of those that can be had, the ones with the lowest priority, and of them the least loaded for
    its weight; the first of equals.  Where all are ejected, any: to fail fast is better than to
    wait for nothing.
    """
    best: Endpoint | None = None
    spare: Endpoint | None = None  # ejected
    lowest: int | None = None  # priority of those that can be had
    for endpoint in endpoints:
        has_room = (
            endpoint.idle
            or len(endpoint.lanes) < endpoint.max_connections
            or (endpoint.shared and not is_stream)
        )
        if endpoint.is_ejected:
            if spare is None and has_room:
                spare = endpoint
            continue
        if lowest is None or endpoint.priority < lowest:
            lowest, best = endpoint.priority, None
        if has_room and endpoint.priority == lowest and (best is None or _is_freer(endpoint, best)):
            best = endpoint
    return spare if lowest is None else best


def _calls_on(lane: Lane) -> int:
    return len(lane.calls)


def _is_freer(endpoint: Endpoint, best: Endpoint) -> bool:
    return endpoint.calls * best.weight < best.calls * endpoint.weight
