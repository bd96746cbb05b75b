"""Response rate limiting: a token bucket for each network of clients.  Does no I/O.

Whoever sends queries in another's name has the answers sent there, and they are longer.  A
network gets only so many a second, and now and then a cut reply, which a forger has no use for,
and which sends an honest client to TCP.
"""

from __future__ import annotations

import enum
import socket
from collections import OrderedDict

from ..options import RateLimit

_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 2.5.5.2


class Verdict(enum.Enum):
    """What becomes of a query."""

    PASS = enum.auto()
    SLIP = enum.auto()  # it gets a cut, empty reply
    DROP = enum.auto()


class RateLimiter:
    """Counts replies to networks; times are those of the loop, passed in."""

    __slots__ = ("_buckets", "_options", "_over")

    def __init__(self, options: RateLimit) -> None:
        self._options = options
        # By network: what is left, and as of when; in the order of the last query.
        self._buckets: OrderedDict[tuple[int, int], tuple[float, float]] = OrderedDict()
        self._over = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def judge(self, host: str, now: float) -> Verdict:
        """Take one reply from the network's bucket, and say whether there was one."""
        options = self._options
        network = self._network_of(host)
        left, since = self._buckets.get(network, (float(options.burst), now))
        left = min(left + (now - since) * options.replies_per_s, options.burst)
        passes = left >= 1
        self._buckets[network] = (left - 1 if passes else left, now)
        self._buckets.move_to_end(network)
        if len(self._buckets) > options.networks:
            self._buckets.popitem(last=False)
        if passes:
            return Verdict.PASS
        self._over += 1
        return Verdict.DROP if not options.slip or self._over % options.slip else Verdict.SLIP

    def _network_of(self, host: str) -> tuple[int, int]:
        if ":" in host:
            packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
            if packed.startswith(_MAPPED):  # an IPv4 client of a socket bound to ::
                return 4, int.from_bytes(packed[12:], "big") >> 32 - self._options.ipv4_prefix_bits
            return 6, int.from_bytes(packed, "big") >> 128 - self._options.ipv6_prefix_bits
        packed = socket.inet_pton(socket.AF_INET, host)
        return 4, int.from_bytes(packed, "big") >> 32 - self._options.ipv4_prefix_bits
