"""Asks questions: sockets, timers and nameservers around the `Resolution` of each, and the cache.

A question waits in line, or is on the wire, or is done.  At most `max_inflight` are on the wire,
each query under an id of its own; a place that becomes free goes to the first in line.  Equal
questions are asked once, and all who wait get the one answer.  Probes of nameservers that are down
take no place.

Invariants
    * Answers are told from posted calls, but for the first that a packet brings, which is told
      when the engine is done with the packet; so nothing changes under the engine's feet.
    * A ticket is answered exactly once, unless it leaves, or `close(fail_requests=False)` drops it.
    * A question that is done holds no socket, no timer and no id.

Source: evdns.c.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import dns.rdatatype

from ...core import StateError
from ..errors import (
    DNS_ERR_CANCEL,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_SHUTDOWN,
    DNS_ERR_SYSTEM,
)
from ..options import MIN_UDP_BYTES
from ..wire.names import LOCALHOST_ENDING, domain_name
from ..wire.replies import Query, Question, QuestionKey, parse_reply
from .answer import Answer, answer_at_home
from .cache import AnswerCache
from .flight import DONE, ON_WIRE, WAITING, Flight, FlightKey, Sent, Ticket, Way
from .nameservers import Nameserver, NameserverPool, choose_id
from .resolution import STEP_DONE, Resolution, Step
from .transport import TcpTransport, UdpTransport
from .waits import Waits

if TYPE_CHECKING:
    from ...core import EventBase, EventFlag
    from ..options import ResolverOptions
    from .flight import Transport
    from .transport import TransportMaker

log = logging.getLogger("evsvc.dns")

# What the system lacks when the fault is not the nameserver's, nor the network's.
_OUR_LACK = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class LookupEngine:
    """The questions of one resolver, and the nameservers that they go to.

    lazy: probe only while there are questions, so that an idle resolver never keeps a loop alive.
    options: those in force, see `set_options`;  closed: whether `close` was called;  silent: and
    without a word to those who wait.
    """

    __slots__ = (
        "_flights",
        "_ids",
        "_keeps_answers",
        "_lazy",
        "_places_taken",
        "_probe_timer",
        "_probes",
        "_pumping",
        "_suspended",
        "_takes_packet",
        "_tickets",
        "_told",
        "_transports",
        "_wait_over_at",
        "_wait_timer",
        "_waiting",
        "_waits",
        "base",
        "cache",
        "closed",
        "options",
        "pool",
        "silent",
    )

    def __init__(self, base: EventBase, options: ResolverOptions, *, lazy: bool) -> None:
        self.base = base
        self.pool = NameserverPool(options)
        self.cache = AnswerCache(
            options.cache_entries, options.max_ttl_s, options.max_negative_ttl_s, options.stale_s
        )
        self._keeps_answers = options.cache_entries > 0
        self.options = options
        self._lazy = lazy
        self._flights: dict[FlightKey, Flight] = {}
        self._probes: set[Flight] = set()
        self._waiting: OrderedDict[Flight, None] = OrderedDict()
        self._ids: set[int] = set()
        self._transports: dict[tuple[Nameserver, bool], Transport] = {}
        self._tickets = 0
        self._places_taken = 0
        self._pumping = False
        self._suspended = False
        self.closed = False
        self.silent = False
        self._takes_packet = False
        self._told: tuple[Ticket, Answer] | None = None
        self._probe_timer = base.timer(self._on_probe_time)
        self._waits = Waits()
        self._wait_timer = base.timer(self._on_wait_over)
        self._wait_over_at = 0.0

    def set_options(self, options: ResolverOptions) -> None:
        """Go by other options; a question keeps those it began with for its own course."""
        self.options = options
        self.pool.options = options
        self._pump()

    @property
    def room(self) -> int:
        """How many more questions may be asked."""
        return self.options.max_inflight + self.options.max_waiting - self._tickets

    def ask(
        self, question: Question, way: Way, done: Callable[[Answer], object], *, fresh: bool = False
    ) -> Answer | Ticket:
        """Return the answer if it is known, else ask; `done(answer)` is then called from the loop.

        fresh: do not look into the cache.  With no nameserver at all the answer is
        DNS_ERR_SERVERFAILED; while suspended, the question waits; when closed, DNS_ERR_SHUTDOWN.
        It is the caller's to keep to `room`.
        """
        if self.closed:
            return Answer(DNS_ERR_SHUTDOWN)
        name = question.key[0]
        known = answer_at_home(question) if name.endswith(LOCALHOST_ENDING) else None
        if known is None and self._keeps_answers and not fresh:
            known = self.cache.get(question.key, self.base.now)
            if known is not None and self.options.prefetch:
                self._prefetch(question, way)
        if known is not None:
            return known
        if not self.pool.servers and not self._suspended:
            return Answer(DNS_ERR_SERVERFAILED)
        key = question.key, way
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(question, way, key)
        ticket = Ticket(flight, done)
        flight.waiters[ticket] = None
        self._tickets += 1
        self._pump()
        return ticket

    def ask_from_loop(
        self, question: Question, way: Way, done: Callable[[Answer], object], *, fresh: bool = False
    ) -> Ticket:
        """Do as `ask` does, and tell from the loop what is known at once, too."""
        asked = self.ask(question, way, done, fresh=fresh)
        if isinstance(asked, Ticket):
            return asked
        ticket = Ticket(None, done)
        self.base.post(self._deliver, ticket, asked)
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Have a ticket wait no longer, and be told DNS_ERR_CANCEL from the loop.

        Does nothing for one that was told something before.
        """
        done = ticket.done
        if done is not None:
            self.leave(ticket, finish=False)
            with contextlib.suppress(StateError):  # a closed base calls nobody
                self.base.post(self._deliver, Ticket(None, done), Answer(DNS_ERR_CANCEL))

    def _start(self, question: Question, way: Way, key: FlightKey) -> Flight:
        resolution = Resolution(
            question,
            self.options,
            self.pool.new_plan(),
            use_vc=way.use_vc,
            ignore_tc=way.ignore_tc,
        )
        flight = Flight(question, resolution, key)
        self._flights[key] = flight
        self._waiting[flight] = None
        if self._lazy:
            self._plan_probe()
        return flight

    def _prefetch(self, question: Question, way: Way) -> None:
        """Ask for what is about to leave the cache, if there is a place free for it."""
        key = question.key, way
        if (
            self.cache.is_aging(question.key, self.base.now)
            and key not in self._flights
            and self._places_taken < self.options.max_inflight
            and self.pool.servers
            and not self._suspended
        ):
            self._start(question, way, key)
            self._pump()

    def leave(self, ticket: Ticket, *, finish: bool) -> None:
        """Have a ticket wait no longer.

        finish: a question on the wire that nobody waits for any more is asked to the end all the
        same, for the cache's sake and to learn of a silent nameserver.  Does nothing for a ticket
        that is answered.
        """
        ticket.done = None
        flight = ticket.flight
        if flight is None or flight.waiters.pop(ticket, self) is self:
            return
        self._tickets -= 1
        if flight.waiters or (finish and flight.state is ON_WIRE):
            return
        self._release(flight)
        self._pump()

    def suspend(self) -> None:
        """Forget the nameservers and what they said; what is on the wire goes back into line."""
        self._suspended = True
        for flight in reversed(self._flights.copy().values()):
            if flight.state is ON_WIRE:
                self._leave_wire(flight)
                self._places_taken -= 1
                flight.resolution.restart()
                flight.state = WAITING
                self._waiting[flight] = None
                self._waiting.move_to_end(flight, last=False)
        for probe in list(self._probes):
            self._release(probe)
        self._close_transports()
        self.pool.clear()
        self.cache.clear()
        self._plan_probe()

    def replace_nameservers(self, servers: Iterable[Nameserver]) -> None:
        """Go over to other nameservers; what is on the wire is asked anew."""
        suspended = self._suspended
        self.suspend()
        for server in servers:
            self.pool.add(server)
        self._suspended = suspended
        self._pump()

    def resume(self) -> None:
        """Let the line move again, if there is a nameserver by now."""
        if self.pool.servers:
            self._suspended = False
            self._pump()

    def close(self, fail_requests: bool) -> None:
        """End all questions, with DNS_ERR_SHUTDOWN from the loop or without a word."""
        if self.closed:
            return
        self.closed = True
        self.silent = not fail_requests
        self._close_transports()
        unfinished = [*self._flights.values(), *self._probes]
        for flight in unfinished:
            self._release(flight)
        self._probe_timer.close()
        self._wait_timer.close()
        with contextlib.suppress(StateError):  # a base closed before us calls nobody
            for flight in unfinished:
                self._tell(flight, Answer(DNS_ERR_SHUTDOWN))

    def _pump(self) -> None:
        """Put questions on the wire while there are places.

        Launching may fail at once and free the place again, which calls this anew; the flag turns
        that recursion into a turn of the loop.
        """
        if self._pumping or self._suspended or self.closed:
            return
        self._pumping = True
        try:
            while self._waiting and self._places_taken < self.options.max_inflight:
                flight, _ = self._waiting.popitem(last=False)
                self._places_taken += 1
                flight.state = ON_WIRE
                self._go_on(flight)
        finally:
            self._pumping = False

    def _finish(self, flight: Flight, answer: Answer) -> None:
        """End a question: free what it holds, keep its answer, and have it told."""
        self._release(flight)
        server = flight.probed
        if server is None:
            if self._keeps_answers:
                answer = self._keep(flight.question.key, answer)
            self._tell(flight, answer)
        elif server in self.pool.servers and not server.up:
            self.pool.note_failed_probe(server, self.base.now)
            self._plan_probe()
        if self._waiting:
            self._pump()

    def _keep(self, key: QuestionKey, answer: Answer) -> Answer:
        """Put an answer into the cache; return a stale one from there in place of a failure."""
        now = self.base.now
        self.cache.put(key, answer, now)
        if not answer.is_known and self.options.stale_s:
            return self.cache.get_stale(key, now) or answer
        return answer

    def _tell(self, flight: Flight, answer: Answer) -> None:
        """Have the answer told to each that waits, so that what one call raises stops no other."""
        waiters, flight.waiters = flight.waiters, {}
        self._tickets -= len(waiters)
        for ticket in waiters:
            if self._takes_packet and self._told is None:
                self._told = ticket, answer
            else:
                self.base.post(self._deliver, ticket, answer)

    def _deliver(self, ticket: Ticket, answer: Answer) -> None:
        done, ticket.done = ticket.done, None
        if done is not None and not self.silent:
            done(answer)

    def _release(self, flight: Flight) -> None:
        """Take a question off the line and the wire, and mark it done."""
        self._waiting.pop(flight, None)
        if flight.key is None:
            self._probes.discard(flight)
        else:
            self._flights.pop(flight.key, None)
            if flight.state is ON_WIRE:
                self._places_taken -= 1
            if self._lazy:
                self._plan_probe()
        flight.state = DONE
        self._leave_wire(flight)

    def _leave_wire(self, flight: Flight) -> None:
        """Give back the sockets and the ids of a question's queries."""
        while flight.sent:
            self._drop(flight, next(iter(flight.sent)))
        if self._waits.stop(flight) and not self.closed:
            self._wait_timer.delete()

    def _drop(self, flight: Flight, server: Nameserver) -> None:
        """Wait no longer for one nameserver's reply."""
        sent = flight.sent.pop(server, None)
        if sent is not None:
            self._ids.discard(sent.query.id)
            sent.transport.forget(sent)

    def _go_on(self, flight: Flight) -> None:
        """Ask the next nameserver, or answer when there is none left to ask."""
        while flight.resolution.next_server():
            if self._send(flight):
                return
        if flight.state is ON_WIRE:
            self._finish(flight, flight.resolution.answer)

    def _send(self, flight: Flight) -> bool:
        """Send to the nameserver that the resolution names; False when the system refuses to."""
        server = flight.resolution.server
        assert server is not None
        over_udp = not flight.resolution.over_tcp and server.maker is None
        transport = self._transports.get((server, over_udp)) or self._reach(server, over_udp)
        edns_udp_bytes = self.options.edns_udp_bytes if server.wants_edns else MIN_UDP_BYTES
        sent = flight.sent.get(server)
        if sent is not None and (
            sent.transport is not transport or sent.query.edns_udp_bytes != edns_udp_bytes
        ):
            self._drop(flight, server)  # perhaps it was the EDNS that it did not answer
            sent = None
        if sent is None:
            query = self._new_query(flight, server, edns_udp_bytes)
            flight.sent[server] = sent = Sent(flight, server, transport, query, over_udp)
        try:
            transport.send(sent)
        except OSError as exc:
            name = server.name
            self._drop(flight, server)
            if exc.errno in _OUR_LACK:
                log.warning("cannot ask nameserver %s: %s", name, exc)
                self._finish(flight, Answer(DNS_ERR_SYSTEM))
                return True
            log.debug("cannot send to nameserver %s: %s", name, exc)
            if flight.resolution.take_loss() is Step.SAME:
                return self._send(flight)
            self._blame(flight, server, exc)
            return False
        if flight.state is DONE:  # the transport had the reply at hand
            return True
        timeout_s = self.options.timeout_s
        due_at = self.base.now + timeout_s
        self._waits.start(flight, due_at)
        if due_at < self._wait_over_at or not self._wait_timer.timer_key:
            self._wait_over_at = due_at
            self._wait_timer.add(timeout_s)
        return True

    def _new_query(self, flight: Flight, server: Nameserver, edns_udp_bytes: int) -> Query:
        options, question = self.options, flight.resolution.question
        exact = options.randomize_case and server.maker is None and not server.changes_letters
        query_id, noise = choose_id(self._ids, len(question.name.wire) if exact else 0)
        self._ids.add(query_id)
        return Query(
            question,
            query_id,
            noise=noise,
            edns_udp_bytes=edns_udp_bytes,
            authentic=options.trust_ad,
        )

    def _reach(self, server: Nameserver, over_udp: bool) -> Transport:
        maker: TransportMaker = UdpTransport if over_udp else TcpTransport
        maker = server.maker or maker
        transport = maker(self.base, server, self.options, self._on_packet, self._on_lost)
        self._transports[server, over_udp] = transport
        return transport

    def _on_packet(self, sent: Sent, packet: bytes) -> bool:
        """Take what came from a nameserver, and tell the answer if it is one.

        Return True when it was a reply to the query.
        """
        if self._takes_packet or self._pumping:  # from inside of a `send`
            return self._take_packet(sent, packet)
        self._takes_packet = True
        try:
            return self._take_packet(sent, packet)
        finally:
            self._takes_packet = False
            told, self._told = self._told, None
            if told is not None:
                self._deliver(*told)

    def _take_packet(self, sent: Sent, packet: bytes) -> bool:
        flight, server, resolution = sent.flight, sent.server, sent.flight.resolution
        reply = parse_reply(packet, sent.query, resolution.max_links)
        if reply is None:
            log.debug("ignored a packet from %s", server.name)
            sent.suspect = True
            return False
        if not reply.same_letters:
            sent.suspect = True
        self._drop(flight, server)  # a copy of its reply must not count again
        if sent.query.exact and not reply.same_letters:
            if sent.over_udp:
                resolution.doubt(server)
                self._repeat(flight)
                return True
            server.changes_letters = True  # nobody forges over TCP
        if self.pool.note_answer(server):
            self._plan_probe()
        server.note_edns_answer(sent.query.has_edns)
        step = resolution.take_reply(server, reply, had_edns=sent.query.has_edns)
        self._follow(flight, step)
        return True

    def _follow(self, flight: Flight, step: Step) -> None:
        if step is STEP_DONE:
            self._finish(flight, flight.resolution.answer)
        elif step is Step.SAME:
            self._repeat(flight)
        elif step is Step.NEXT:
            self._go_on(flight)
        elif step is Step.AGAIN:
            self._leave_wire(flight)
            self._go_on(flight)

    def _repeat(self, flight: Flight) -> None:
        """Ask the same nameserver, in the way that the resolution wants now."""
        if not self._send(flight):
            self._go_on(flight)

    def _on_lost(self, sent: Sent, answered: bool) -> None:
        """A query's reply can no longer come; `answered` tells whether others came that way."""
        flight, server = sent.flight, sent.server
        self._drop(flight, server)
        if flight.state is not ON_WIRE or server is not flight.resolution.server:
            return
        if answered:  # the nameserver closes its connections when it likes (RFC 7766 6.2.4)
            self._repeat(flight)
        elif sent.over_udp:
            self._take_silence(flight, server, "its UDP port is closed")
        else:
            self._take_silence(flight, server)

    def _on_wait_over(self, fd: int, what: EventFlag, arg: object) -> None:
        """Some questions may have waited for long enough."""
        now = self.base.now
        while (flight := self._waits.pop_due(now)) is not None:
            self._on_timeout(flight)
        due_at = self._waits.next_due()
        if due_at is not None and not self.closed:
            self._wait_over_at = due_at
            self._wait_timer.add(max(due_at - self.base.now, 0.0))

    def _on_timeout(self, flight: Flight) -> None:
        """No reply came in time.  A TCP connection that is silent is given up for all its users."""
        server = flight.resolution.server
        assert server is not None
        sent = flight.sent.get(server)
        if sent is not None and (flight.resolution.over_tcp or server.maker is not None):
            self._drop(flight, server)
            sent.transport.give_up()
        self._take_silence(flight, server)

    def _take_silence(self, flight: Flight, server: Nameserver, proof: str | None = None) -> None:
        sent = flight.sent.get(server)
        if sent is not None:
            server.note_edns_silence(sent.query.has_edns)
        if flight.resolution.take_loss() is Step.SAME:
            self._drop(flight, server)
            self._repeat(flight)
            return
        more = flight.resolution.next_server()
        self._blame(flight, server, proof if more else proof or "it does not answer")
        if not more:
            self._finish(flight, flight.resolution.answer)
        elif not self._send(flight):
            self._go_on(flight)

    def _blame(self, flight: Flight, server: Nameserver, proof: object | None) -> None:
        """Hold it against a nameserver that it said nothing.

        proof: why it is marked as down at once, as when the network or its port refuses, or when a
        question's last round has ended; None for a silence that is only counted.
        """
        if flight.probed is not None:
            return
        now = self.base.now
        if proof is None:
            down, proof = self.pool.note_timeout(server, now), "it does not answer"
        else:
            down = self.pool.mark_down(server, now)
        if down:
            log.warning("nameserver %s is down: %s", server.name, proof)
            self._plan_probe()

    def _close_transports(self) -> None:
        for transport in self._transports.values():
            transport.close()
        self._transports.clear()

    def _plan_probe(self) -> None:
        """Set the one probe timer to the earliest probe that is due."""
        if self.closed:
            return
        due_at = self.pool.next_probe_at()
        if due_at is None or (self._lazy and not self._flights):
            self._probe_timer.delete()
        else:
            self._probe_timer.add(max(due_at - self.base.now, 0.0))

    def _on_probe_time(self, fd: int, what: EventFlag, arg: object) -> None:
        for server in self.pool.take_due_probes(self.base.now):
            self._probe(server)
        self._plan_probe()

    def _probe(self, server: Nameserver) -> None:
        """Ask a nameserver that is down once; whatever it says, it is up again."""
        options = replace(self.options, attempts=1)
        name = domain_name(options.probe_name)
        rdtype = dns.rdatatype.NS if name.text == "." else dns.rdatatype.A
        question = Question(name, rdtype)
        resolution = Resolution(question, options, partial(_only, server))
        flight = Flight(question, resolution, None, probed=server)
        flight.state = ON_WIRE
        self._probes.add(flight)
        self._go_on(flight)


def _only(server: Nameserver, number: int) -> list[Nameserver]:
    return [server]
