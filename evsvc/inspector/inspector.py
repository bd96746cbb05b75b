"""Inspector: a live page of an event base, served by an HttpServer of the program's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from importlib.resources import files
from operator import attrgetter
from time import time
from typing import TYPE_CHECKING, Any

from ..core import (
    EV_PERSIST,
    EV_READ,
    EV_SIGNAL,
    EV_TIMEOUT,
    EV_WRITE,
    EVENT_BASE_COUNT_ACTIVE,
    EVENT_BASE_COUNT_ADDED,
    EVENT_BASE_COUNT_VIRTUAL,
    ArgumentError,
    Event,
    StateError,
)
from ..core.checks import check_limits
from ..core.closing import Closing
from ..http import EventStreamOptions
from .gate import Gate
from .latencies import BUCKETS_S, Latencies
from .meter import LoopFigures, LoopMeter
from .names import name_of
from .sockets import SocketFigures, look_at

if TYPE_CHECKING:
    from ..core import EventBase
    from ..dns import Resolver
    from ..http import EventStream, HttpServer, ServerRequest

log = logging.getLogger("evsvc.inspector")

State = dict[str, Any]
"""What JSON has for an object."""

_PAGE = {
    name: (files(__package__) / "page" / name).read_bytes()
    for name in ("index.html", "inspector.js", "inspector.css")
}
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_FIELDS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self';"
     " connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectorOptions:
    """Who may look, how often, and how much there is to see.

    networks:     whence; this machine alone unless told otherwise.
    token:        what all others than this machine have to bring; and this machine, where there is
                  one: as `?token=` once, or `Authorization: Bearer`.
    interval_s:   seconds between two pictures.
    max_viewers:  pages that are open at once; one more is told 503.
    max_rows:     most rows of a table: callbacks, timers, sockets, cached answers.
    max_names:    most callbacks that are told apart, and most RPC methods.
    max_events:   with more events than this they are counted, and not looked at one by one.

    Raises ArgumentError for a number that is not positive, or has no end, ArgumentTypeError for
    what is none, and as `Gate`.
    """

    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    token: str | None = None
    interval_s: float = 1.0
    max_viewers: int = 8
    max_rows: int = 100
    max_names: int = 500
    max_events: int = 20_000

    def __post_init__(self) -> None:
        check_limits(self)
        Gate(self.networks, self.token)


class Inspector(Closing):
    """Shows what an event base is at: `Inspector(base).mount(http)`, and open /_evsvc/.

    It only looks.  The loop is measured while a page is open, or `state` is asked for; the calls of
    RPC methods are counted from `mount` and `watch_http` on.
    """

    __slots__ = (
        "_base",
        "_earlier",
        "_gate",
        "_https",
        "_latencies",
        "_meter",
        "_mounts",
        "_resolvers",
        "_timer",
        "_viewers",
        "options",
    )

    def __init__(self, base: EventBase, options: InspectorOptions | None = None) -> None:
        self._base = base
        self.options = options or InspectorOptions()
        self._gate = Gate(self.options.networks, self.options.token)
        self._https: dict[str, HttpServer] = {}
        self._resolvers: dict[str, Resolver] = {}
        self._latencies = Latencies(self.options.max_names)
        self._meter: LoopMeter | None = None
        self._mounts: list[tuple[HttpServer, list[str]]] = []
        self._viewers: set[EventStream] = set()
        self._earlier: tuple[float, Mapping[tuple[int, str], SocketFigures]] = (0.0, {})
        self._timer = Event(base, -1, EV_PERSIST, self._on_time)

    def mount(self, server: HttpServer, path: str = "/_evsvc") -> None:
        """Serve the page below `path`, and watch this server, too.

        Raises ArgumentError for a path that does not begin with "/", ends with one, or has a
        callback already, StateError once closed.
        """
        if not self._timer.initialized:
            raise StateError("the inspector is closed")
        if not path.startswith("/") or path.endswith("/"):
            raise ArgumentError(f"a path begins with a slash, and ends with none: {path!r}")
        callbacks: dict[str, tuple[Callable[[ServerRequest, Any], object], object]] = {
            path: (self._redirect, path),
            f"{path}/": (self._send_file, (path, "index.html")),
            f"{path}/inspector.js": (self._send_file, (path, "inspector.js")),
            f"{path}/inspector.css": (self._send_file, (path, "inspector.css")),
            f"{path}/events": (self._stream, None),
            f"{path}/state": (self._send_state, None),
        }
        added: list[str] = []
        try:
            for each, (callback, arg) in callbacks.items():
                server.set_cb(each, callback, arg, methods=("GET",))
                added.append(each)
        except BaseException:
            for each in added:
                server.del_cb(each)
            raise
        self._mounts.append((server, added))
        self.watch_http(server)

    def watch_http(self, server: HttpServer, name: str | None = None) -> None:
        """Show an HttpServer, and the RPC methods that it serves.

        name: what it is called; None makes one up.  Raises ArgumentError for one that is taken.
        """
        if server in self._https.values():
            return
        self._add(self._https, name or f"http {len(self._https) + 1}", server)
        server.add_observer(self._latencies.observe)
        server.add_session_observer(self._latencies.observe)

    def watch_resolver(self, resolver: Resolver, name: str | None = None) -> None:
        """Show a Resolver's nameservers and its cache; the rest as for `watch_http`."""
        self._add(self._resolvers, name or f"dns {len(self._resolvers) + 1}", resolver)

    def close(self) -> None:
        """Show nothing any more; open pages end.  Safe to repeat."""
        for server, paths in self._mounts:
            for path in paths:
                server.del_cb(path)
        self._mounts.clear()
        for server in self._https.values():
            server.remove_observer(self._latencies.observe)
            server.remove_session_observer(self._latencies.observe)
        self._https.clear()
        self._resolvers.clear()
        for viewer in list(self._viewers):
            viewer.close()
        self._stop()
        self._timer.close()

    @property
    def is_measuring(self) -> bool:
        """Whether the loop is measured: because a page is open, or `state` was asked for."""
        return self._meter is not None and not self._meter.closed

    def state(self) -> State:
        """Return what there is to see now, as JSON has it.

        The figures of the loop are of the time since the last call, if that is no minute ago; the
        first begins to measure.
        """
        if self._meter is None or self._meter.closed:
            self._meter = LoopMeter(self._base, self.options.max_names)
        events = self._events()
        return {
            "time": time(),
            "loop": self._loop(self._meter.take()),
            "events": self._count(events),
            "callbacks": self._callbacks(self._meter),
            "timers": self._timers(events),
            "sockets": self._sockets(events),
            "http": [_http(name, server) for name, server in self._https.items()],
            "rpc": self._methods(),
            "latency_bounds_s": BUCKETS_S,
            "dns": [self._dns(name, each) for name, each in self._resolvers.items()],
        }

    def _events(self) -> list[Event] | None:
        """Return each event; None where there are too many to look at."""
        if self._base.num_events(EVENT_BASE_COUNT_ADDED) > self.options.max_events:
            return None
        events: list[Event] = []
        self._base.foreach_event(lambda base, event, arg: events.append(event))
        return [each for each in events if not each.internal]

    def _loop(self, figures: LoopFigures) -> State:
        seconds = figures.seconds or 1.0
        return {
            "method": self._base.method,
            "passes_per_s": figures.passes / seconds,
            "callbacks_per_s": figures.callbacks / seconds,
            "load": min(figures.busy_s / seconds, 1.0),
            "longest_s": figures.longest_s,
        }

    def _count(self, events: list[Event] | None) -> State:
        counts: State = {
            "added": self._base.num_events(EVENT_BASE_COUNT_ADDED),
            "active": self._base.num_events(EVENT_BASE_COUNT_ACTIVE),
            "virtual": self._base.num_events(EVENT_BASE_COUNT_VIRTUAL),
        }
        if events is not None:
            pending = [each.pending() for each in events]
            kinds = {"read": EV_READ, "write": EV_WRITE, "signal": EV_SIGNAL, "timer": EV_TIMEOUT}
            for name, flag in kinds.items():
                counts[name] = sum(bool(each & flag) for each in pending)
            priorities = [0] * self._base.npriorities
            for each in events:
                priorities[min(each.priority, len(priorities) - 1)] += 1
            counts["by_priority"] = priorities
        return counts

    def _callbacks(self, meter: LoopMeter) -> list[State]:
        slowest = sorted(meter.calls.items(), key=lambda item: -item[1].longest_s)
        return [
            {
                "name": name,
                "calls": each.calls,
                "total_s": each.total_s,
                "longest_s": each.longest_s,
            }
            for name, each in slowest[: self.options.max_rows]
        ]

    def _timers(self, events: list[Event] | None) -> list[State]:
        now = self._base.now
        timed = (each for each in events or () if each.deadline is not None)
        due = nsmallest(self.options.max_rows, timed, key=attrgetter("deadline"))
        return [{"due_s": each.due_at - now, "name": name_of(each.call)} for each in due]

    def _sockets(self, events: list[Event] | None) -> State:
        fds = sorted(
            {each.fd for each in events or () if each.fd >= 0 and not each.events & EV_SIGNAL}
        )
        seen = look_at(fds[: self.options.max_rows])
        now = self._base.gettime_monotonic()
        before, earlier = self._earlier
        self._earlier = now, {(each.fd, each.peer): each for each in seen}
        rows = []
        for each in seen:
            last = earlier.get((each.fd, each.peer))
            seconds = now - before
            row = each._asdict()
            row["sent_per_s"] = _rate(each.sent_bytes, last and last.sent_bytes, seconds)
            row["received_per_s"] = _rate(
                each.received_bytes, last and last.received_bytes, seconds
            )
            rows.append(row)
        return {"in_all": len(fds), "rows": rows}

    def _methods(self) -> list[State]:
        return [
            {
                "name": name,
                "calls": each.calls,
                "failed": each.failed,
                "counts": each.counts,
                "p50_s": each.percentile_s(0.5),
                "p99_s": each.percentile_s(0.99),
            }
            for name, each in sorted(self._latencies.methods.items())
        ]

    def _dns(self, name: str, resolver: Resolver) -> State:
        answers = resolver.cached_answers()
        return {
            "name": name,
            "nameservers": [each._asdict() for each in resolver.nameserver_states()],
            "cached": len(answers),
            "answers": [
                {"name": each.name, "type": each.type, "ttl_s": each.ttl_s}
                for each in answers[: self.options.max_rows]
            ],
        }

    def _add(self, known: dict[str, Any], name: str, watched: object) -> None:
        if name in known:
            raise ArgumentError(f"the name is taken: {name!r}")
        known[name] = watched

    def _redirect(self, request: ServerRequest, path: str) -> None:
        query = f"?{request.query}" if request.query else ""
        request.output_headers.add("Location", f"{path}/{query}")
        request.send_reply(308)

    def _send_file(self, request: ServerRequest, arg: tuple[str, str]) -> None:
        path, name = arg
        if name == "index.html" and self._gate.brings_token(request):
            # Out of the address bar and the log of what comes, into a cookie.
            request.output_headers.add("Set-Cookie", self._gate.cookie(path))
            request.output_headers.add("Location", f"{path}/")
            request.output_headers.add("Cache-Control", "no-store")
            request.send_reply(303)
        elif self._lets_in(request):
            kind = _TYPES[name.rpartition(".")[2]]
            _send(request, f"{kind}; charset=utf-8", _PAGE[name])

    def _send_state(self, request: ServerRequest, arg: object) -> None:
        if self._lets_in(request):
            _send(request, "application/json", _to_json(self.state()).encode())

    def _lets_in(self, request: ServerRequest) -> bool:
        if self._gate.lets_in(request):
            return True
        log.warning("%s may not look: %s", request.client.address, request.path)
        request.send_error(403)
        return False

    def _stream(self, request: ServerRequest, arg: object) -> None:
        if not self._lets_in(request):
            return
        if len(self._viewers) >= self.options.max_viewers:
            request.send_error(503, None, ("Retry-After", "10"))
            return
        viewer = request.start_event_stream(EventStreamOptions(retry_ms=2000))
        if not viewer.is_open:
            return
        viewer.set_closecb(self._on_left)
        self._viewers.add(viewer)
        if len(self._viewers) == 1:
            self._timer.add(self.options.interval_s)
        viewer.send(_to_json(self.state()))

    def _on_left(self, viewer: EventStream, arg: object) -> None:
        self._viewers.discard(viewer)
        if not self._viewers:
            self._stop()

    def _on_time(self, fd: int, what: int, arg: object) -> None:
        state = _to_json(self.state())
        for viewer in list(self._viewers):
            viewer.send(state)

    def _stop(self) -> None:
        """Measure nothing any more: nobody looks."""
        self._timer.delete()
        if self._meter is not None:
            self._meter.close()
            self._meter = None


def _http(name: str, server: HttpServer) -> State:
    metrics = server.metrics
    holdings = metrics.holdings
    return {
        "name": name,
        "connections": holdings.connections,
        "in_flight": holdings.in_flight,
        "held_received_bytes": holdings.received_bytes,
        "held_unsent_bytes": holdings.unsent_bytes,
        "requests": sum(metrics.requests.values()),
        "errors": sum(count for (_, status), count in metrics.requests.items() if status >= 5),
    }


def _rate(now: int | None, before: int | None, seconds: float) -> float | None:
    if now is None or before is None or seconds <= 0:
        return None
    return (now - before) / seconds


def _send(request: ServerRequest, content_type: str, body: bytes) -> None:
    for name, value in (("Content-Type", content_type), *_FIELDS):
        request.output_headers.add(name, value)
    request.send_reply(200, None, body)


def _to_json(state: State) -> str:
    return json.dumps(state, separators=(",", ":"))
