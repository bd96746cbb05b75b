"""Latencies: how long the calls of each RPC method took, as an observer of an HttpServer.

Those over WebSockets count, too: they are the exchanges of its sessions.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from ..http import Ending
from ..rpc.definition import PATH_PREFIX

if TYPE_CHECKING:
    from ..http import FinishedExchange, SessionExchange

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""The upper bounds of what is counted together; the last bucket has none."""


class MethodLatency:
    """The calls of one method: how many, how many of them failed, and how many in each bucket."""

    __slots__ = ("calls", "counts", "failed")

    def __init__(self) -> None:
        self.calls = self.failed = 0
        self.counts = [0] * (len(BUCKETS_S) + 1)

    def add(self, seconds: float, *, failed: bool) -> None:
        """Count one call."""
        self.calls += 1
        self.failed += failed
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1

    def percentile_s(self, part: float) -> float | None:
        """Return the bound below which that part of the calls were; None beyond all bounds."""
        left = part * self.calls
        for bound, count in zip(BUCKETS_S, self.counts, strict=False):
            left -= count
            if left <= 0:
                return bound
        return None


class Latencies:
    """The methods of a server, no more than `max_methods`: those that came first."""

    __slots__ = ("_max_methods", "methods")

    def __init__(self, max_methods: int) -> None:
        self._max_methods = max_methods
        self.methods: dict[str, MethodLatency] = {}

    def observe(self, exchange: FinishedExchange | SessionExchange) -> None:
        """Count an exchange that is over, if it was a call of a method that there is.

        What was refused before a method was looked for may have a name that a client has made up.
        """
        request = exchange.request
        if request is None or not request.path.startswith(PATH_PREFIX) or exchange.status == 404:
            return
        name = request.path.removeprefix(PATH_PREFIX)
        latency = self.methods.get(name)
        if latency is None:
            if exchange.ending is Ending.REFUSED or len(self.methods) >= self._max_methods:
                return
            latency = self.methods[name] = MethodLatency()
        latency.add(exchange.duration_s, failed=exchange.status != 200)
