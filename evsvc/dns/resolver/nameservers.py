"""The nameservers: in which order they are asked, which are down, and when those are probed.

Does no I/O and reads no clock: monotonic seconds are passed in by the caller.  Source:
resolv.conf(5); evdns.c's nameserver_failed and nameserver_probe_failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ...core.resolver import SocketAddress
from ...core.util import format_sockaddr_port
from ..errors import DnsArgumentError
from ..options import ResolverOptions

EDNS_SILENCES = 2
"""After so many a nameserver that never answered a query with EDNS is asked without it."""

if TYPE_CHECKING:
    from .transport import TransportMaker

_UNUSED_ID = 0xFFFF  # libevent's mark for "no id"; never sent


class NameserverState(NamedTuple):
    """How a nameserver is doing.

    name: what it is called in messages.  address: its socket address.  up: whether it is asked.
    timeouts: questions in a row that it has left without an answer.
    """

    name: str
    address: SocketAddress
    up: bool
    timeouts: int


class Nameserver:
    """One nameserver and its health.

    address: its socket address;  name: what it is called in messages;  maker: how it is reached,
    None is UDP, and TCP for what was cut;  from_file: whether a resolv.conf named it, not the
    program;  up: whether it is believed to answer;  probe_at: when
    it is probed next, None while it is up or a probe is under way;  takes_edns: False once it has
    refused EDNS;  changes_letters: True once it was found not to repeat the letters of a name.
    """

    __slots__ = (
        "_edns_proven",
        "_edns_silences",
        "address",
        "changes_letters",
        "failed_probes",
        "from_file",
        "maker",
        "name",
        "probe_at",
        "takes_edns",
        "timeouts",
        "up",
    )

    def __init__(
        self,
        address: SocketAddress,
        name: str = "",
        maker: TransportMaker | None = None,
        *,
        from_file: bool = False,
    ) -> None:
        self.address = address
        self.from_file = from_file
        self.name = name or format_sockaddr_port(address)
        self.maker = maker
        self.up = True
        self.timeouts = 0
        self.failed_probes = 0
        self.probe_at: float | None = None
        self.takes_edns = True
        self.changes_letters = False
        self._edns_proven = False
        self._edns_silences = 0

    @property
    def wants_edns(self) -> bool:
        """Whether the next query has EDNS: not when some with it have met nothing but silence."""
        return self.takes_edns and self._edns_silences < EDNS_SILENCES

    def note_edns_answer(self, had_edns: bool) -> None:
        """A reply came; one to a plain query only, after silence, means that EDNS is not taken."""
        if had_edns:
            self._edns_proven = True
        elif self._edns_silences >= EDNS_SILENCES:
            self.takes_edns = False
        self._edns_silences = 0

    def note_edns_silence(self, had_edns: bool) -> None:
        """No reply came.  After a silence to a plain query EDNS is tried again."""
        if not had_edns:
            self._edns_silences = 0
        elif not self._edns_proven:
            self._edns_silences += 1


class NameserverPool:
    """The configured nameservers in their order.

    options: read at each step, so a change counts at once; set by the owner.
    """

    __slots__ = ("_first", "options", "servers")

    def __init__(self, options: ResolverOptions) -> None:
        self.options = options
        self.servers: list[Nameserver] = []
        self._first = 0

    def add(self, server: Nameserver) -> None:
        """Add a nameserver.  Raises DnsArgumentError for a second one of the same name, which is
        its address and port, or one beyond the limit.
        """
        if any(known.name == server.name for known in self.servers):
            raise DnsArgumentError(f"the nameserver is there already: {server.name}")
        if len(self.servers) >= self.options.nameservers:
            raise DnsArgumentError(
                f"more than {self.options.nameservers} nameservers, with {server.name}"
            )
        self.servers.append(server)

    def with_file(self, addresses: Iterable[SocketAddress]) -> list[Nameserver]:
        """Return the nameservers, unused, as they are when a file names these and no others.

        Those of the program stay; those of the file stand where the file's stood, or last.
        """
        marks = [server.from_file for server in self.servers]
        place = marks.index(True) if True in marks else len(marks)
        line = [Nameserver(address, from_file=True) for address in addresses]
        own = [
            (at, Nameserver(server.address, server.name, server.maker))
            for at, server in enumerate(self.servers)
            if not server.from_file
        ]
        before = [server for at, server in own if at < place]
        after = [server for at, server in own if at >= place]
        taken = {server.name for server in before + after}
        room = self.options.nameservers - len(taken)
        line = [server for server in line if server.name not in taken][:room]
        return before + line + after

    def clear(self) -> None:
        """Forget all nameservers."""
        self.servers.clear()
        self._first = 0

    def new_plan(self) -> Callable[[int], list[Nameserver]]:
        """Return for one question what gives the nameservers of each of its rounds, in order.

        With `rotate` each question begins at another one.
        """
        first = self._first
        if self.options.rotate:
            self._first += 1
        return partial(self._round, first)

    def _round(self, first: int, number: int) -> list[Nameserver]:
        """Those that are up; the others once, last, lest a name that only they know is lost."""
        line = self.servers
        if first:
            begin = first % max(len(line), 1)
            line = line[begin:] + line[:begin]
        up = [server for server in line if server.up]
        if len(up) == len(line) or (up and number > 0):
            return up
        return up + [server for server in line if not server.up]

    def note_answer(self, server: Nameserver) -> bool:
        """The nameserver said something, whatever it was: it is up, and need not be probed.

        Tell whether it was down.
        """
        was_down = not server.up
        server.up = True
        server.timeouts = 0
        server.failed_probes = 0
        server.probe_at = None
        return was_down

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


def choose_id(taken: Container[int], size: int = 0) -> tuple[int, bytes]:
    """Return an unpredictable query id that is not in `taken`, never 0xFFFF, and `size` such bytes.

    `taken` must leave some free: lookups on the wire are limited to 65000.
    """
    while True:
        noise = os.urandom(2 + size)  # a system call, so once for both
        query_id = noise[0] << 8 | noise[1]
        if query_id != _UNUSED_ID and query_id not in taken:
            return query_id, noise[2:]
