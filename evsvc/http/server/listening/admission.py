"""Who is connected: in all, by listening socket, and by peer; and whether one more may be."""

from __future__ import annotations

import socket
from collections import Counter
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ...options import ServerOptions

# A household, or a machine with changing addresses, has a /64 of IPv6.
_PREFIX_BYTES = 8
_MAPPED = bytes(10) + b"\xff\xff"


class Source(Protocol):
    """Where connections come from, such as a listening socket.

    max_connections: at once, or None.  connection_count: how many there are; kept here.
    """

    max_connections: int | None
    connection_count: int


class Admission:
    """Counts connections.  count: of all."""

    __slots__ = ("_by_peer", "count")

    def __init__(self) -> None:
        self.count = 0
        self._by_peer: Counter[str | bytes] = Counter()

    def is_full(self, options: ServerOptions, source: Source | None, address: str) -> bool:
        """Whether one more from `address` by way of `source` would be too many."""
        if self.count >= options.max_connections:
            return True
        if source is not None:
            most = source.max_connections
            if most is not None and source.connection_count >= most:
                return True
        most = options.max_connections_per_peer
        return most is not None and bool(address) and self._by_peer[peer_key(address)] >= most

    def enter(self, source: Source | None, address: str) -> None:
        """Count one more; `address` is "" for who has none."""
        self.count += 1
        if source is not None:
            source.connection_count += 1
        if address:
            self._by_peer[peer_key(address)] += 1

    def leave(self, source: Source | None, address: str) -> None:
        """Undo an `enter` with the same arguments."""
        self.count -= 1
        if source is not None:
            source.connection_count -= 1
        if address:
            key = peer_key(address)
            self._by_peer[key] -= 1
            if not self._by_peer[key]:
                del self._by_peer[key]


def peer_key(address: str) -> str | bytes:
    """Return what counts as one peer: an IPv4 address, the /64 of an IPv6 address, or the text."""
    if ":" not in address:
        return address
    try:
        packed = socket.inet_pton(socket.AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return address
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return packed[:_PREFIX_BYTES]
