"""Which connection a request goes over: decides, and leaves the I/O to its caller.

Connections are kept by origin and way, and the one that was used last is used first, so that the
others may end of themselves.  There is a bound for each and one for all; where that one is reached,
an idle connection to another server makes room.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from ...core.checks import check_limits


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Limits for the connections of one client.

    Raises ArgumentError for a number that is not positive, ArgumentTypeError for what is none.

    max_connections:            at once, to all servers.
    max_connections_per_origin: at once, to one.
    max_queued:                 requests that wait for a connection.
    """

    max_connections: int = 100
    max_connections_per_origin: int = 8
    max_queued: int = 1024

    def __post_init__(self) -> None:
        check_limits(self)


class Pooled(Protocol):
    """What the pool asks of a connection."""

    @property
    def is_closed(self) -> bool: ...

    @property
    def has_expired(self) -> bool: ...


Connection = TypeVar("Connection", bound=Pooled)
Key = TypeVar("Key", bound=Hashable)


class Decision(NamedTuple, Generic[Connection]):
    """What is to be done for a request.

    connection: use this one.  None with `may_make`: make one, and `add` it.  None without: wait.
    closes: these first.
    """

    connection: Connection | None
    may_make: bool
    closes: tuple[Connection, ...] = ()


class ConnectionPool(Generic[Key, Connection]):
    """The connections of a client, each in use or idle.  Knows no request, and does no I/O."""

    __slots__ = ("_count", "_counts", "_idle", "_keys", "options")

    def __init__(self, options: PoolOptions) -> None:
        self.options = options
        self._count = 0
        self._counts: dict[Key, int] = {}
        self._keys: dict[Connection, Key] = {}
        self._idle: dict[Connection, None] = {}  # in the order in which they came to rest

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._keys)

    @property
    def idle_count(self) -> int:
        """How many are idle."""
        return len(self._idle)

    def decide(self, key: Key) -> Decision[Connection]:
        """Say what a request to `key` does; a connection that is given is in use from now on."""
        closes: list[Connection] = []
        if self._counts.get(key):
            for connection in reversed(self._idle):
                if self._keys[connection] != key:
                    continue
                if connection.is_closed or connection.has_expired:
                    closes.append(connection)
                    continue
                del self._idle[connection]
                self._forget_all(closes)
                return Decision(connection, False, tuple(closes))
        self._forget_all(closes)
        if self._counts.get(key, 0) >= self.options.max_connections_per_origin:
            return Decision(None, False, tuple(closes))
        if self._count >= self.options.max_connections:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                return Decision(None, False, tuple(closes))
            self.forget(oldest)
            closes.append(oldest)
        return Decision(None, True, tuple(closes))

    def add(self, key: Key, connection: Connection) -> None:
        """Have a connection that was made, in use."""
        self._keys[connection] = key
        self._count += 1
        self._counts[key] = self._counts.get(key, 0) + 1

    def give_back(self, connection: Connection) -> None:
        """A request is done; its connection is idle, or forgotten where it is of no use."""
        if connection in self._keys:
            if connection.is_closed:
                self.forget(connection)
            else:
                self._idle[connection] = None

    def forget(self, connection: Connection) -> None:
        """Have it no longer; safe to repeat."""
        key = self._keys.pop(connection, None)
        if key is None:
            return
        self._idle.pop(connection, None)
        self._count -= 1
        self._counts[key] -= 1
        if not self._counts[key]:
            del self._counts[key]

    def key_of(self, connection: Connection) -> Key | None:
        """Return where a connection leads; None for one that is not here."""
        return self._keys.get(connection)

    def _forget_all(self, connections: list[Connection]) -> None:
        for connection in connections:
            self.forget(connection)
