"""Counters of a server: for the program to read, and as a page for Prometheus.

Nothing is counted before `HttpServer.metrics` is first looked at; from then on an exchange costs a
few additions when it is over.  What is a state and no count is read from the server when asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from ...wire.status import Method, method_name
from .observers import Ending

if TYPE_CHECKING:
    from ..request import ServerRequest
    from ..server import HttpServer
    from .observers import FinishedExchange

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the durations that are counted together; the last bucket has none."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus's text format."""

OTHER_METHOD: Final = "other"
"""Stands for all methods that are not libevent's: a client must not be able to make counters."""

NO_METHOD: Final = "none"
"""Stands for the method of what never was a request."""

_METHODS: Final = frozenset(name for method in Method if (name := method_name(method)))


class Holdings(NamedTuple):
    """What a server has in hand at a moment.

    connections: open ones.  in_flight: requests that are begun and not answered.  received_bytes:
    of bodies and of what clients have sent ahead.  unsent_bytes: of replies that wait to be sent.
    """

    connections: int
    in_flight: int
    received_bytes: int
    unsent_bytes: int


class ServerMetrics:
    """The counters of one server since they were first looked at: `HttpServer.metrics`.

    connections_total, connections_refused: that came; of those, how many were told 503 or closed
    unheard, because there were too many.  requests: how many exchanges are over, by (method,
    class of the status): ("GET", 2), with class 0 where none was sent, "other" for methods that
    HTTP does not know, and "none" for what never was a request.  endings: by Ending.  sent_bytes,
    received_bytes: of bodies.  duration_counts: how many exchanges fell into each of `BUCKETS_S`,
    and beyond.  duration_sum_s: of all of them.
    """

    __slots__ = (
        "_read_holdings",
        "connections_refused",
        "connections_total",
        "duration_counts",
        "duration_sum_s",
        "endings",
        "received_bytes",
        "requests",
        "sent_bytes",
    )

    def __init__(self, read_holdings: Callable[[], Holdings]) -> None:
        self._read_holdings = read_holdings
        self.connections_total = self.connections_refused = 0
        self.requests: dict[tuple[str, int], int] = {}
        self.endings = dict.fromkeys(Ending, 0)
        self.sent_bytes = self.received_bytes = 0
        self.duration_counts = [0] * (len(BUCKETS_S) + 1)
        self.duration_sum_s = 0.0

    def count(self, exchange: FinishedExchange) -> None:
        """Count an exchange that is over; the server's observer."""
        request = exchange.request
        if request is None:
            method = NO_METHOD
        else:
            method = request.method if request.method in _METHODS else OTHER_METHOD
            self.duration_counts[bisect_left(BUCKETS_S, exchange.duration_s)] += 1
            self.duration_sum_s += exchange.duration_s
        key = (method, exchange.status // 100)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.endings[exchange.ending] += 1
        self.sent_bytes += exchange.sent_bytes
        self.received_bytes += exchange.received_bytes

    @property
    def holdings(self) -> Holdings:
        """What the server has in hand now; looks at each of its connections."""
        return self._read_holdings()

    def to_text(self) -> str:
        """Return all of it in Prometheus's text format."""
        now = self.holdings
        requests = [
            (f'method="{method}",status="{f"{status}xx" if status else "none"}"', count)
            for (method, status), count in sorted(self.requests.items())
        ]
        endings = [
            (f'ending="{ending.name.lower()}"', count) for ending, count in self.endings.items()
        ]
        held = [('what="received"', now.received_bytes), ('what="unsent"', now.unsent_bytes)]
        lines = [
            *_family("connections_open", "gauge", "Clients that are connected.", now.connections),
            *_family("connections_total", "counter", "Clients that came.", self.connections_total),
            *_family(
                "connections_refused_total",
                "counter",
                "Clients that were turned away, because there were too many.",
                self.connections_refused,
            ),
            *_family("requests_in_flight", "gauge", "Requests not answered yet.", now.in_flight),
            *_family("requests_total", "counter", "Exchanges that are over.", requests),
            *_family("endings_total", "counter", "Exchanges, by how they ended.", endings),
            *_family(
                "request_body_bytes_total", "counter", "Bytes of bodies in.", self.received_bytes
            ),
            *_family(
                "response_body_bytes_total", "counter", "Bytes of bodies out.", self.sent_bytes
            ),
            *_family("held_bytes", "gauge", "Bytes in memory, by what they wait for.", held),
            *self._histogram(),
        ]
        return "".join(f"{line}\n" for line in lines)

    def _histogram(self) -> Iterable[str]:
        name = "evsvc_http_request_duration_seconds"
        yield f"# HELP {name} From a request's head to the end of its reply."
        yield f"# TYPE {name} histogram"
        bounds = [*map(repr, BUCKETS_S), "+Inf"]
        totals = list(accumulate(self.duration_counts))
        for bound, total in zip(bounds, totals, strict=True):
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self.duration_sum_s!r}"
        yield f"{name}_count {totals[-1]}"

    def mount(self, server: HttpServer, path: str = "/metrics") -> None:
        """Have GET of `path` answered with `to_text`, on this server or another.

        Who may see the path may see the figures: one for inside, on another port, is better.
        Raises ArgumentError when the path has a callback already.
        """
        server.set_cb(path, self._answer, methods=("GET",))

    def _answer(self, request: ServerRequest, arg: object) -> None:
        request.output_headers.add("Content-Type", CONTENT_TYPE)
        request.output_headers.add("Cache-Control", "no-store")
        request.send_reply(200, None, self.to_text().encode())


def _family(
    name: str, kind: str, meaning: str, values: int | Iterable[tuple[str, int]]
) -> Iterable[str]:
    """Yield the lines of one family: a number, or numbers with their labels."""
    name = f"evsvc_http_{name}"
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    if isinstance(values, int):
        yield f"{name} {values}"
        return
    for labels, value in values:
        yield f"{name}{{{labels}}} {value}"
