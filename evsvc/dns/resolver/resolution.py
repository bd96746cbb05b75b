"""One lookup's course: what to ask next, and when it is over.  Does no I/O, knows no server.

A lookup goes through its candidates (the name as it is, and with each suffix of the search list),
through CNAME records that a reply leaves open, and from UDP to TCP when a reply is cut.  The
caller sends `question`, says what came of it, and does what the returned `Step` says.

    reply                        step
    addresses                    DONE
    none, CNAME left open        ASK for its target
    cut, over UDP                ASK over TCP
    SERVFAIL (or no reply)       RETRANSMIT while there are attempts, then DONE with TIMEOUT
    NOTIMPL, REFUSED             RETRANSMIT once, if another nameserver is up
    FORMERR to a query with EDNS ASK without EDNS (RFC 6891 section 7)
    any other error              ASK for the next candidate, DONE when there is none

Source: evdns.c's reply_handle and search_try_next; resolv.conf(5) for `ndots`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import dns.name
import dns.rdatatype

from ..constants import QueryFlag
from ..errors import (
    DNS_ERR_FORMAT,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_TIMEOUT,
    DNS_ERR_TRUNCATED,
    DnsResult,
)
from ..options import MIN_UDP_BYTES, ResolverOptions
from ..wire.replies import (
    Question,
    Reply,
    name_to_text,
    parse_name,
    randomize_case,
)


class Step(enum.Enum):
    """What the caller does next: send the same again, send a new question, or report."""

    RETRANSMIT = enum.auto()
    ASK = enum.auto()
    DONE = enum.auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A lookup's outcome.  `addresses` is empty unless `result` is DNS_ERR_NONE.

    ttl_s: seconds; of an absence, how long it may be believed.  canonical_name: where the CNAME
    chain ended, None when there was none.
    """

    result: DnsResult
    addresses: tuple[str, ...] = ()
    ttl_s: int = 0
    canonical_name: str | None = None


def list_candidates(
    text: str, suffixes: Sequence[dns.name.Name], ndots: int
) -> list[dns.name.Name]:
    """Return the absolute names to try for `text`, in order.

    With at least `ndots` dots the name itself comes first, otherwise last; a trailing dot makes
    it absolute.  Combinations longer than a name may be are left out.  Raises DnsArgumentError
    when `text` is no name.
    """
    name = parse_name(text)
    if text.endswith(".") or not suffixes:
        return [name]
    own_labels = name.labels[:-1]
    searched = []
    for suffix in suffixes:
        try:
            searched.append(dns.name.Name(own_labels + suffix.labels))
        except dns.name.NameTooLong:
            continue
    dots = len(own_labels) - 1
    return [name, *searched] if dots >= ndots else [*searched, name]


class Resolution:
    """The state of one lookup.

    candidates: what `list_candidates` gave, at least one.  question: what to ask now;  over_tcp,
    edns_udp_bytes: how;  answer: the outcome once a step was DONE.
    """

    __slots__ = (
        "_candidates",
        "_canonical_name",
        "_flags",
        "_links",
        "_options",
        "_plain_name",
        "_rdtype",
        "_reissued",
        "_transmissions",
        "answer",
        "edns_udp_bytes",
        "over_tcp",
        "question",
    )

    def __init__(
        self,
        candidates: list[dns.name.Name],
        rdtype: dns.rdatatype.RdataType,
        flags: int,
        options: ResolverOptions,
    ) -> None:
        self._candidates = iter(candidates)
        self._rdtype = rdtype
        self._flags = flags
        self._options = options
        self.answer = Answer(DNS_ERR_TIMEOUT)
        self._start_candidate(next(self._candidates))

    def _start_candidate(self, name: dns.name.Name) -> None:
        self._canonical_name: dns.name.Name | None = None
        self._links = 0
        self.over_tcp = self._options.use_vc or bool(self._flags & QueryFlag.DNS_QUERY_USEVC)
        self.edns_udp_bytes = self._options.edns_udp_bytes
        self._ask(name)

    def _ask(self, name: dns.name.Name) -> Step:
        self._plain_name = name
        asked = randomize_case(name) if self._options.randomize_case else name
        self.question = Question(asked, self._rdtype)
        self.restart()
        return Step.ASK

    def restart(self) -> None:
        """Ask the present question from the beginning, with all its attempts."""
        self._transmissions = 0
        self._reissued = False

    @property
    def max_links(self) -> int:
        """How many CNAME records may still be followed."""
        return self._options.cname_links - self._links

    def note_sent(self) -> None:
        """Count one transmission of the question."""
        self._transmissions += 1

    def take_failure(self) -> Step:
        """No reply came in time, or the nameserver could not be reached."""
        if self._transmissions < self._options.attempts:
            return Step.RETRANSMIT
        return self._finish(Answer(DNS_ERR_TIMEOUT))

    def take_reply(self, reply: Reply, *, other_server: bool) -> Step:
        """A reply to the question came; `other_server` tells whether another one could be asked."""
        result = reply.result
        if result == DNS_ERR_NONE:
            return self._finish(self._answer_of(reply))
        if result == DNS_ERR_SERVERFAILED:
            return self.take_failure()
        if result == DNS_ERR_NODATA and reply.dangling and reply.canonical_name is not None:
            return self._follow(reply, reply.canonical_name)
        if result == DNS_ERR_TRUNCATED and self._may_turn_to_tcp():
            self.over_tcp = True
            return self._ask(self._plain_name)
        if result in (DNS_ERR_NOTIMPL, DNS_ERR_REFUSED) and other_server and not self._reissued:
            self._reissued = True
            return Step.RETRANSMIT
        if result == DNS_ERR_FORMAT and self.edns_udp_bytes > MIN_UDP_BYTES:
            self.edns_udp_bytes = MIN_UDP_BYTES
            return self._ask(self._plain_name)
        return self._next_candidate(Answer(result, ttl_s=reply.ttl_s))

    def _may_turn_to_tcp(self) -> bool:
        ignore = self._options.ignore_tc or self._flags & QueryFlag.DNS_QUERY_IGNTC
        return not self.over_tcp and not ignore

    def _follow(self, reply: Reply, target: dns.name.Name) -> Step:
        if reply.links > self.max_links:
            return self._next_candidate(Answer(DNS_ERR_NODATA))
        self._links += reply.links
        self._canonical_name = self._restore_case(target)
        return self._ask(self._canonical_name)

    def _answer_of(self, reply: Reply) -> Answer:
        canonical = self._canonical_name
        if reply.canonical_name is not None:
            canonical = self._restore_case(reply.canonical_name)
        text = None if canonical is None else name_to_text(canonical)
        return Answer(DNS_ERR_NONE, reply.addresses, reply.ttl_s, text)

    def _restore_case(self, name: dns.name.Name) -> dns.name.Name:
        """Undo our random case where the server compressed `name` into the question's ending."""
        labels = list(name.labels)
        pairs = zip(
            reversed(self.question.name.labels), reversed(self._plain_name.labels), strict=True
        )
        for index, (asked, plain) in enumerate(pairs, start=1):
            if index > len(labels) or labels[-index] != asked:
                break
            labels[-index] = plain
        return dns.name.Name(labels)

    def _next_candidate(self, answer: Answer) -> Step:
        following = next(self._candidates, None)
        if following is None:
            return self._finish(answer)
        self._start_candidate(following)
        return Step.ASK

    def _finish(self, answer: Answer) -> Step:
        self.answer = answer
        return Step.DONE
