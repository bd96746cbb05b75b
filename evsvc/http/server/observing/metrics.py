"""Counters of a server: for the program to read, and as a page for Prometheus.

Nothing is counted before `HttpServer.metrics` is first looked at; from then on an exchange costs a
few additions when it is over.  What is a state and no count is read from the server when asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

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

Key = TypeVar("Key")

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


_NOTHING_HELD: Final = Holdings(0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsReading:
    """The counters of a server at a moment, or the sum of several servers', by `+`.

    holdings: what is in hand then; the rest is as in ServerMetrics.  Without arguments it is that
    of a server that nobody has been to.
    """

    holdings: Holdings = _NOTHING_HELD
    connections_total: int = 0
    connections_refused: int = 0
    requests: Mapping[tuple[str, int], int] = field(default_factory=dict)
    endings: Mapping[Ending, int] = field(default_factory=lambda: dict.fromkeys(Ending, 0))
    sent_bytes: int = 0
    received_bytes: int = 0
    duration_counts: tuple[int, ...] = (0,) * (len(BUCKETS_S) + 1)
    duration_sum_s: float = 0.0

    def __add__(self, other: MetricsReading) -> MetricsReading:
        return MetricsReading(
            holdings=Holdings(*map(add, self.holdings, other.holdings)),
            connections_total=self.connections_total + other.connections_total,
            connections_refused=self.connections_refused + other.connections_refused,
            requests=_sum_of(self.requests, other.requests),
            endings=_sum_of(self.endings, other.endings),
            sent_bytes=self.sent_bytes + other.sent_bytes,
            received_bytes=self.received_bytes + other.received_bytes,
            duration_counts=tuple(map(add, self.duration_counts, other.duration_counts)),
            duration_sum_s=self.duration_sum_s + other.duration_sum_s,
        )

    def counters(self) -> MetricsReading:
        """Return it with nothing in hand, as of a server that has ended."""
        return replace(self, holdings=_NOTHING_HELD)

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

    def read(self) -> MetricsReading:
        """Return all of it as it is now; looks at each of the server's connections."""
        return MetricsReading(
            holdings=self.holdings,
            connections_total=self.connections_total,
            connections_refused=self.connections_refused,
            requests=dict(self.requests),
            endings=dict(self.endings),
            sent_bytes=self.sent_bytes,
            received_bytes=self.received_bytes,
            duration_counts=tuple(self.duration_counts),
            duration_sum_s=self.duration_sum_s,
        )

    def to_text(self) -> str:
        """Return all of it in Prometheus's text format."""
        return self.read().to_text()

    def mount(self, server: HttpServer, path: str = "/metrics") -> None:
        """Have GET of `path` answered with `to_text`, on this server or another.

        Who may see the path may see the figures: one for inside, on another port, is better.
        Raises ArgumentError when the path has a callback already.
        """
        server.set_cb(path, self._answer, methods=("GET",))

    def _answer(self, request: ServerRequest, arg: object) -> None:
        send_page(request, self.read())


def send_page(request: ServerRequest, reading: MetricsReading) -> None:
    """Answer a request with the page of a reading."""
    request.output_headers.add("Content-Type", CONTENT_TYPE)
    request.output_headers.add("Cache-Control", "no-store")
    request.send_reply(200, None, reading.to_text().encode())


def _sum_of(one: Mapping[Key, int], other: Mapping[Key, int]) -> dict[Key, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}


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
