"""Servers by name: the endpoints of a pool follow an SRV record, or the addresses of a name.

The name is asked again when its TTL is over.  What is new gets calls, what is gone gets no new ones
and is closed when its last is done.  While the name has no servers, or cannot be looked up, those
stay that were known before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...core.checks import check_limits
from ...core.closing import Closing
from ...core.errors import ArgumentError, Error

if TYPE_CHECKING:
    from ...core import Event, EventBase
    from .endpoints import Endpoint

_log = logging.getLogger("evsvc.rpc")

_NOT_OFFERED = "."  # as the target of an SRV record (RFC 2782)


class Query(Protocol):
    """A look-up under way."""

    def cancel(self) -> None:
        """Give it up."""


class NameSource(Protocol):
    """What looks records up; `evsvc.dns.Resolver` does.

    `cb(answer, arg)` gets an answer with `records`, each with its `data`, and their `ttl_s`; there
    are none when the look-up failed, too.
    """

    def query(
        self, name: str, rdtype: str, cb: Callable[[Any, Any], object], arg: object = None
    ) -> Query:
        """Look the records of a name up."""


class Server(NamedTuple):
    """One server behind a name."""

    address: str
    port: int
    priority: int
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NameOptions:
    """How a name is followed.

    Raises ArgumentError for what is out of range, ArgumentTypeError for what is no number.

    min_refresh_s, max_refresh_s: the TTL counts between these two.
    retry_s:     how long after a look-up that failed it is tried again.
    max_servers: of more, those with the best priority and the greatest weight.
    """

    min_refresh_s: float = 1.0
    max_refresh_s: float = 3600.0
    retry_s: float = 5.0
    max_servers: int = 100

    def __post_init__(self) -> None:
        check_limits(self, endless=("max_refresh_s",))
        if not self.min_refresh_s <= self.max_refresh_s:
            bounds = f"{self.min_refresh_s!r} to {self.max_refresh_s!r}"
            raise ArgumentError(f"min_refresh_s is no more than max_refresh_s: {bounds}")


class Following(NamedTuple):
    """What a pool does about servers.

    add: makes an endpoint.  remove: takes one back.  added: called when all of an answer are there.
    """

    add: Callable[[Server], Endpoint]
    remove: Callable[[Endpoint], object]
    added: Callable[[], object]


class FollowedName(Closing):
    """A name that a pool follows; made by `RpcPool.follow_srv` and `follow_name`.

    port: of the servers, where the name has addresses; None where it has SRV records.
    """

    __slots__ = (
        "_base",
        "_options",
        "_pool",
        "_queries",
        "_servers",
        "_source",
        "_timer",
        "name",
        "port",
    )

    def __init__(
        self,
        base: EventBase,
        source: NameSource,
        name: str,
        port: int | None,
        options: NameOptions,
        pool: Following,
    ) -> None:
        self.name = name
        self.port = port
        self._base = base
        self._source = source
        self._options = options
        self._pool = pool
        self._servers: dict[Server, Endpoint] = {}
        self._queries: dict[str, Query] = {}  # under way, by type
        self._timer: Event = base.timer(self._on_timer)
        self.refresh()

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The servers that are known."""
        return tuple(self._servers.values())

    def refresh(self) -> None:
        """Ask now.  Does nothing while an answer is waited for; raises what the source raises."""
        if self._queries:
            return
        self._timer.delete()
        found: _Found = _Found()
        for rdtype in ("SRV",) if self.port is None else ("A", "AAAA"):
            self._queries[rdtype] = self._source.query(
                self.name, rdtype, self._on_answer, (rdtype, found)
            )

    def close(self) -> None:
        """Follow it no longer, and send no more calls to its servers.  Safe to repeat."""
        self._timer.close()
        queries, self._queries = self._queries, {}
        for query in queries.values():
            query.cancel()
        while self._servers:
            self._pool.remove(self._servers.popitem()[1])

    def _on_timer(self, fd: int, what: int, arg: object) -> None:
        try:
            self.refresh()
        except Error as exc:  # the resolver is closed, or has too much to do
            _log.warning("%s cannot be looked up: %s", self.name, exc)
            self._timer.add(self._options.retry_s)

    def _on_answer(self, answer: Any, arg: tuple[str, _Found]) -> None:
        rdtype, found = arg
        if self._queries.pop(rdtype, None) is None:
            return  # closed, or cancelled
        found.take(answer, self.port)
        if self._queries:
            return
        if not found.servers:
            self._timer.add(self._options.retry_s)
            return
        self._follow(found.servers)
        bounded_s = max(found.ttl_s, self._options.min_refresh_s)
        self._timer.add(min(bounded_s, self._options.max_refresh_s))

    def _follow(self, servers: list[Server]) -> None:
        best = sorted(servers, key=lambda each: (each.priority, -each.weight))
        wanted = dict.fromkeys(best[: self._options.max_servers])
        for server in wanted:
            if server not in self._servers:
                self._servers[server] = self._pool.add(server)
        for server in [each for each in self._servers if each not in wanted]:
            self._pool.remove(self._servers.pop(server))
        self._pool.added()


class _Found:
    """What the answers of one asking have brought."""

    __slots__ = ("servers", "ttl_s")

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.ttl_s = float("inf")

    def take(self, answer: Any, port: int | None) -> None:
        for record in answer.records:
            value = record.data
            if port is not None:
                self.servers.append(Server(value, port, 0, 1))
            elif value.target not in ("", _NOT_OFFERED):
                weight = max(value.weight, 1)  # 0 is "hardly ever", and must not be never
                self.servers.append(Server(value.target, value.port, value.priority, weight))
        if answer.records:
            self.ttl_s = min(self.ttl_s, answer.ttl_s)
