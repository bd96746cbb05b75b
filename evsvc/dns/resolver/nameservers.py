"""The nameservers: which one is asked next, which are down, and when those are probed.

Does no I/O and reads no clock: monotonic seconds are passed in by the caller.  Source:
evdns.c's nameserver_pick, nameserver_failed and nameserver_probe_failed.
"""

from __future__ import annotations

import secrets
from collections.abc import Container

from ..addresses import SocketAddress
from ..errors import DnsArgumentError
from ..options import ResolverOptions

_UNUSED_ID = 0xFFFF  # libevent's mark for "no id"; never sent


class Nameserver:
    """One nameserver and its health.

    address: its socket address;  up: whether it is believed to answer;  probe_at: when it is
    probed next, None while it is up or a probe is under way.
    """

    __slots__ = ("address", "failed_probes", "probe_at", "timeouts", "up")

    def __init__(self, address: SocketAddress) -> None:
        self.address = address
        self.up = True
        self.timeouts = 0
        self.failed_probes = 0
        self.probe_at: float | None = None


class NameserverPool:
    """The configured nameservers in their order, asked in turn.

    options: read at each step, so a change counts at once; set by the owner.
    """

    __slots__ = ("_next", "options", "servers")

    def __init__(self, options: ResolverOptions) -> None:
        self.options = options
        self.servers: list[Nameserver] = []
        self._next = 0

    def add(self, address: SocketAddress) -> Nameserver:
        """Add a nameserver.  Raises DnsArgumentError for a second one of the same address and
        port, or one beyond the limit.
        """
        if any(server.address == address for server in self.servers):
            raise DnsArgumentError(f"the nameserver is there already: {address!r}")
        if len(self.servers) >= self.options.nameservers:
            raise DnsArgumentError(
                f"more than {self.options.nameservers} nameservers, with {address!r}"
            )
        server = Nameserver(address)
        self.servers.append(server)
        return server

    def clear(self) -> None:
        """Forget all nameservers."""
        self.servers.clear()
        self._next = 0

    def choose(self, avoid: Nameserver | None = None) -> Nameserver | None:
        """Return the next nameserver in turn that is up, or the next in turn when all are down.

        One to `avoid` is taken only when there is no other.  None when there are none at all.
        """
        count = len(self.servers)
        in_turn = [self.servers[(self._next + step) % count] for step in range(count)]
        candidates = [server for server in in_turn if server is not avoid] or in_turn
        if not candidates:
            return None
        chosen = next((server for server in candidates if server.up), candidates[0])
        self._next = (self.servers.index(chosen) + 1) % count
        return chosen

    def has_other(self, server: Nameserver) -> bool:
        """Tell whether there is a nameserver beside `server` that is up."""
        return any(other is not server and other.up for other in self.servers)

    def note_packet(self, server: Nameserver) -> None:
        """The nameserver sent something: its timeouts are no longer consecutive."""
        server.timeouts = 0

    def note_answer(self, server: Nameserver) -> None:
        """The nameserver did its work: it is up, and need not be probed."""
        server.up = True
        server.timeouts = 0
        server.failed_probes = 0
        server.probe_at = None

    def note_timeout(self, server: Nameserver, now: float) -> bool:
        """Count a timeout; tell whether it was the one too many that marks the server down."""
        server.timeouts += 1
        return server.timeouts > self.options.max_timeouts and self.mark_down(server, now)

    def mark_down(self, server: Nameserver, now: float) -> bool:
        """Hold the nameserver for dead and plan a probe; False when it was down already."""
        if not server.up:
            return False
        server.up = False
        server.failed_probes = 0
        server.probe_at = now + self._probe_delay_s(server)
        return True

    def note_failed_probe(self, server: Nameserver, now: float) -> None:
        """Plan the next probe, later than the last by the back-off factor."""
        if server.up:
            return
        server.failed_probes += 1
        server.probe_at = now + self._probe_delay_s(server)

    def _probe_delay_s(self, server: Nameserver) -> float:
        options = self.options
        # The cap is reached within 22 doublings of a millisecond; more would overflow a float.
        factor = float(options.probe_backoff_factor) ** min(server.failed_probes, 32)
        return min(options.initial_probe_timeout_s * factor, options.max_probe_timeout_s)

    def next_probe_at(self) -> float | None:
        """When the earliest probe is due, or None."""
        times = [server.probe_at for server in self.servers if server.probe_at is not None]
        return min(times, default=None)

    def take_due_probes(self, now: float) -> list[Nameserver]:
        """Return the nameservers to probe now; each has no `probe_at` until the probe's outcome."""
        due = [
            server
            for server in self.servers
            if server.probe_at is not None and server.probe_at <= now
        ]
        for server in due:
            server.probe_at = None
        return due


def choose_id(taken: Container[int]) -> int:
    """Return an unpredictable query id that is not in `taken`, and never 0xFFFF.

    `taken` must leave some free: lookups on the wire are limited to 65000.
    """
    while True:
        query_id = secrets.randbelow(_UNUSED_ID)
        if query_id not in taken:
            return query_id
