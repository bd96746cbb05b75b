"""Drives lookups: sockets, timers and nameservers around the `Resolution` of each.

A lookup waits in line, or is on the wire, or is done.  At most `max_inflight` are on the wire,
each under an id of its own; a place that becomes free goes to the first in line.  Probes of
nameservers that are down are lookups too, but take no place.

Invariants
    * The program's callbacks run from posted calls only, never from inside the engine; so nothing
      changes under the engine's feet, and what a callback raises disturbs no other lookup.
    * A lookup is answered exactly once, unless `close(fail_requests=False)` drops it.
    * A lookup that is done holds no socket, no timer and no id.

Source: evdns.c.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

import dns.rdatatype

from ...core import StateError
from ..addresses import to_text
from ..errors import (
    DNS_ERR_CANCEL,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_SHUTDOWN,
    DnsStateError,
)
from ..wire.replies import (
    build_query,
    id_of,
    parse_name,
    parse_reply,
)
from .lookup import DoneCallback, Lookup, LookupState
from .nameservers import NameserverPool, choose_id
from .resolution import Answer, Resolution, Step
from .transport import TcpChannel, UdpExchange

if TYPE_CHECKING:
    from ...core import EventBase, EventFlag
    from ..options import ResolverOptions
    from .nameservers import Nameserver

log = logging.getLogger("evsvc.dns")

PROBE_NAME = parse_name("google.com")  # libevent's choice; any name that exists will do

_WORKING = (DNS_ERR_NONE, DNS_ERR_NODATA, DNS_ERR_NOTEXIST)
_UNWILLING = (DNS_ERR_NOTIMPL, DNS_ERR_REFUSED)


class LookupEngine:
    """The lookups of one resolver, and the nameservers that they go to.

    lazy: probe only while there are lookups, so that an idle resolver never keeps a loop alive.
    """

    __slots__ = (
        "_channels",
        "_closed",
        "_inflight",
        "_lazy",
        "_options",
        "_places_taken",
        "_probe_timer",
        "_pumping",
        "_silent",
        "_suspended",
        "_waiting",
        "base",
        "pool",
    )

    def __init__(self, base: EventBase, options: ResolverOptions, *, lazy: bool) -> None:
        self.base = base
        self.pool = NameserverPool(options)
        self._options = options
        self._lazy = lazy
        self._inflight: dict[int, Lookup] = {}
        self._waiting: OrderedDict[Lookup, None] = OrderedDict()
        self._channels: dict[Nameserver, TcpChannel] = {}
        self._places_taken = 0
        self._pumping = False
        self._suspended = False
        self._closed = False
        self._silent = False
        self._probe_timer = base.timer(self._on_probe_time)

    @property
    def options(self) -> ResolverOptions:
        """The options in force; a lookup keeps those it began with for its own course."""
        return self._options

    @options.setter
    def options(self, options: ResolverOptions) -> None:
        self._options = options
        self.pool.options = options
        self._pump()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def room(self) -> int:
        """How many more lookups may be started."""
        free_places = max(self._options.max_inflight - self._places_taken, 0)
        return free_places + self._options.max_waiting - len(self._waiting)

    def start(self, resolution: Resolution, done: DoneCallback, context: object) -> Lookup:
        """Begin a lookup; `done(answer, context)` is called once, from the loop.

        With no nameserver at all the answer is DNS_ERR_SERVERFAILED; while suspended, the lookup
        waits.  Raises DnsStateError when closed or when `room` is 0.
        """
        if self._closed:
            raise DnsStateError("the resolver is closed")
        if self.room <= 0:
            raise DnsStateError(f"{len(self._waiting)} lookups are waiting already")
        lookup = Lookup(self, resolution, done, context)
        self._waiting[lookup] = None
        if self.pool.servers or self._suspended:
            self._pump()
        else:
            self._finish(lookup, Answer(DNS_ERR_SERVERFAILED))
        return lookup

    def cancel(self, lookup: Lookup) -> None:
        """Answer a lookup that is not done with DNS_ERR_CANCEL."""
        if lookup.state is not LookupState.DONE:
            self._finish(lookup, Answer(DNS_ERR_CANCEL))

    def suspend(self) -> None:
        """Forget the nameservers; what is on the wire goes back to the head of the line."""
        self._suspended = True
        self._close_channels()
        for lookup in reversed(self._inflight.copy().values()):
            self._release(lookup)
            if lookup.probed is None:
                lookup.resolution.restart()
                lookup.state = LookupState.WAITING
                self._waiting[lookup] = None
                self._waiting.move_to_end(lookup, last=False)
            else:
                lookup.timer.close()
        self.pool.clear()
        self._plan_probe()

    def resume(self) -> None:
        """Let the line move again, if there is a nameserver by now."""
        if self.pool.servers:
            self._suspended = False
            self._pump()

    def close(self, fail_requests: bool) -> None:
        """End all lookups, with DNS_ERR_SHUTDOWN from the loop or without a word."""
        if self._closed:
            return
        self._closed = True
        self._silent = not fail_requests
        self._close_channels()
        unfinished = [*self._inflight.values(), *self._waiting]
        for lookup in unfinished:
            self._release(lookup)
            lookup.timer.close()
        self._probe_timer.close()
        if fail_requests:
            with contextlib.suppress(StateError):  # a base closed before us calls nobody
                for lookup in unfinished:
                    if lookup.probed is None:
                        self.base.post(lookup.done, Answer(DNS_ERR_SHUTDOWN), lookup.context)

    def _pump(self) -> None:
        """Put lookups on the wire while there are places.

        Launching may fail at once and free the place again, which calls this anew; the flag turns
        that recursion into a turn of the loop.
        """
        if self._pumping or self._suspended or self._closed:
            return
        self._pumping = True
        try:
            while self._waiting and self._places_taken < self._options.max_inflight:
                lookup, _ = self._waiting.popitem(last=False)
                self._places_taken += 1
                lookup.state = LookupState.ON_WIRE
                self._ask(lookup, self.pool.choose())
        finally:
            self._pumping = False
        self._plan_probe()

    def _finish(self, lookup: Lookup, answer: Answer) -> None:
        """End a lookup: free what it holds, and have its callback called."""
        self._release(lookup)
        lookup.timer.close()
        if lookup.probed is None:
            self.base.post(self._deliver, lookup.done, answer, lookup.context)
        else:
            lookup.done(answer, lookup.probed)
        self._pump()

    def _deliver(self, done: DoneCallback, answer: Answer, context: object) -> None:
        if not self._silent:
            done(answer, context)

    def _release(self, lookup: Lookup) -> None:
        """Take a lookup off the line and the wire, and mark it done."""
        self._waiting.pop(lookup, None)
        if lookup.state is LookupState.ON_WIRE and lookup.probed is None:
            self._places_taken -= 1
        lookup.state = LookupState.DONE
        self._leave_wire(lookup)
        lookup.timer.delete()

    def _leave_wire(self, lookup: Lookup) -> None:
        """Close or give back the sockets and the id of a lookup's present question."""
        self._inflight.pop(lookup.query_id, None)
        lookup.query_id = -1
        for exchange in lookup.exchanges.values():
            exchange.close()
        lookup.exchanges.clear()
        self._leave_channel(lookup)

    def _drop_exchange(self, lookup: Lookup, server: Nameserver) -> None:
        exchange = lookup.exchanges.pop(server, None)
        if exchange is not None:
            exchange.close()

    def _leave_channel(self, lookup: Lookup) -> None:
        if lookup.channel is not None:
            lookup.channel.release()
            lookup.channel = None

    def _ask(self, lookup: Lookup, server: Nameserver | None) -> None:
        """Send the lookup's present question for the first time, under a new id."""
        self._leave_wire(lookup)
        resolution = lookup.resolution
        lookup.query_id = choose_id(self._inflight)
        self._inflight[lookup.query_id] = lookup
        lookup.packet = build_query(resolution.question, lookup.query_id, resolution.edns_udp_bytes)
        self._transmit(lookup, server)

    def _transmit(self, lookup: Lookup, server: Nameserver | None) -> None:
        """Send the packet to `server`, and on to others where the system refuses to."""
        while server is not None:
            lookup.server = server
            lookup.resolution.note_sent()
            try:
                self._send(lookup, server)
            except OSError as exc:
                log.debug("cannot send to nameserver %s: %s", to_text(server.address), exc)
                if lookup.resolution.take_failure() is Step.DONE:
                    break
                server = self._choose(lookup, avoid=server)
            else:
                lookup.timer.add(self._options.timeout_s)
                return
        self._finish(lookup, lookup.resolution.answer)

    def _send(self, lookup: Lookup, server: Nameserver) -> None:
        if lookup.resolution.over_tcp:
            self._send_over_tcp(lookup, server)
            return
        exchange = lookup.exchanges.get(server)
        if exchange is None:
            exchange = UdpExchange(
                self.base, server, self._options, lookup, self._on_datagram, self._on_unreachable
            )
            lookup.exchanges[server] = exchange
        exchange.send(lookup.packet)

    def _send_over_tcp(self, lookup: Lookup, server: Nameserver) -> None:
        channel = self._channels.get(server)
        if channel is None:
            channel = TcpChannel(
                self.base, server, self._options, self._on_stream_packet, self._on_channel_lost
            )
            self._channels[server] = channel
        if lookup.channel is not channel:
            self._leave_channel(lookup)
            channel.acquire()
            lookup.channel = channel
        channel.send(lookup.packet)

    def _choose(self, lookup: Lookup, avoid: Nameserver | None = None) -> Nameserver | None:
        """Return whom to ask next; a probe stays with the nameserver that it probes."""
        return lookup.probed or self.pool.choose(avoid)

    def _on_datagram(self, exchange: UdpExchange, packet: bytes) -> None:
        lookup = exchange.owner
        assert isinstance(lookup, Lookup)
        self._take_packet(lookup, exchange.server, packet)

    def _on_stream_packet(self, channel: TcpChannel, packet: bytes) -> None:
        lookup = self._inflight.get(id_of(packet))
        if lookup is not None and lookup.channel is channel:
            self._take_packet(lookup, channel.server, packet)

    def _take_packet(self, lookup: Lookup, server: Nameserver, packet: bytes) -> None:
        resolution = lookup.resolution
        reply = parse_reply(
            packet,
            resolution.question,
            lookup.query_id,
            strict_case=self._options.strict_case,
            max_links=resolution.max_links,
        )
        if reply is None:
            log.debug("ignored a packet from nameserver %s", to_text(server.address))
            return
        self.pool.note_packet(server)
        if reply.result in _WORKING:
            self.pool.note_answer(server)
        elif reply.result in _UNWILLING:
            self._mark_down(server, f"answers {reply.result.name}")
        other = lookup.probed is None and self.pool.has_other(server)
        step = resolution.take_reply(reply, other_server=other)
        if step is Step.DONE:
            self._finish(lookup, resolution.answer)
        elif step is Step.RETRANSMIT:
            self._drop_exchange(lookup, server)  # a copy of its reply must not count again
            self._transmit(lookup, self._choose(lookup, avoid=server))
        else:  # over TCP the one that has the whole answer is asked for it
            self._ask(lookup, server if resolution.over_tcp else self._choose(lookup))
        self._plan_probe()

    def _on_unreachable(self, exchange: UdpExchange) -> None:
        """The kernel says that nobody listens at the nameserver's port."""
        lookup = exchange.owner
        assert isinstance(lookup, Lookup)
        self._drop_exchange(lookup, exchange.server)
        if exchange.server is lookup.server:
            self._take_failure(lookup, exchange.server)

    def _on_channel_lost(self, channel: TcpChannel) -> None:
        del self._channels[channel.server]
        stranded = [lookup for lookup in self._inflight.values() if lookup.channel is channel]
        for lookup in stranded:
            if lookup.channel is channel:
                self._take_failure(lookup, channel.server)

    def on_timeout(self, fd: int, what: EventFlag, lookup: Lookup) -> None:
        """No reply came in time.  A TCP connection that is silent is given up for all its users."""
        channel = lookup.channel
        assert lookup.server is not None
        if channel is None:
            self._take_failure(lookup, lookup.server)
        else:
            channel.close()
            self._on_channel_lost(channel)

    def _take_failure(self, lookup: Lookup, server: Nameserver) -> None:
        step = lookup.resolution.take_failure()
        if lookup.probed is None:
            self._blame(server, is_last=step is Step.DONE)
        if step is Step.DONE:
            self._finish(lookup, lookup.resolution.answer)
        else:
            self._transmit(lookup, self._choose(lookup, avoid=server))
        self._plan_probe()

    def _close_channels(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _blame(self, server: Nameserver, *, is_last: bool) -> None:
        """Hold a lack of reply against a nameserver; the last attempt's marks it down at once."""
        if is_last:
            self._mark_down(server, "does not answer")
        elif self.pool.note_timeout(server, self.base.now):
            log.warning("nameserver %s is down: too many timeouts", to_text(server.address))

    def _mark_down(self, server: Nameserver, why: str) -> None:
        if self.pool.mark_down(server, self.base.now):
            log.warning("nameserver %s is down: it %s", to_text(server.address), why)

    def _plan_probe(self) -> None:
        """Set the one probe timer to the earliest probe that is due."""
        if self._closed:
            return
        due_at = self.pool.next_probe_at()
        if due_at is None or (self._lazy and not (self._inflight or self._waiting)):
            self._probe_timer.delete()
        else:
            self._probe_timer.add(max(due_at - self.base.now, 0.0))

    def _on_probe_time(self, fd: int, what: EventFlag, arg: object) -> None:
        for server in self.pool.take_due_probes(self.base.now):
            self._probe(server)
        self._plan_probe()

    def _probe(self, server: Nameserver) -> None:
        """Ask a nameserver that is down for a name that exists, once."""
        options = replace(self._options, attempts=1)
        resolution = Resolution([PROBE_NAME], dns.rdatatype.A, 0, options)
        lookup = Lookup(self, resolution, self._on_probed, None, probed=server)
        lookup.state = LookupState.ON_WIRE
        self._ask(lookup, server)

    def _on_probed(self, answer: Answer, server: object) -> None:
        """Take a probe's outcome; a good one has marked the nameserver up already."""
        for known in self.pool.servers:
            if known is server and not known.up:
                self.pool.note_failed_probe(known, self.base.now)
        self._plan_probe()
