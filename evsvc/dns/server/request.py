"""DnsServerRequest: one query, and the reply that the program makes to it."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.PTR
import dns.rrset

from ..constants import (
    EVDNS_ANSWER_SECTION,
    EVDNS_CLASS_INET,
    EVDNS_FLAGS_AA,
    EVDNS_FLAGS_RD,
    EVDNS_TYPE_A,
    EVDNS_TYPE_AAAA,
    EVDNS_TYPE_CNAME,
    EVDNS_TYPE_OPT,
    EVDNS_TYPE_PTR,
    Section,
)
from ..errors import DNS_ERR_SERVERFAILED, DnsArgumentError, DnsStateError
from ..wire.names import name_to_text, parse_name
from ..wire.queries import start_reply

if TYPE_CHECKING:
    import dns.message
    import dns.name

MAX_RDATA_BYTES = 65535
MAX_TTL_S = 2**31 - 1  # RFC 2181 section 8
_SETTABLE_FLAGS = int(EVDNS_FLAGS_AA | EVDNS_FLAGS_RD)

# RFC 3597 section 4: only names in the types of RFC 1035 may be compressed.
_NAME_RDATA: dict[int, Callable[..., dns.rdata.Rdata]] = {
    dns.rdatatype.NS: dns.rdtypes.ANY.NS.NS,
    dns.rdatatype.CNAME: dns.rdtypes.ANY.CNAME.CNAME,
    dns.rdatatype.PTR: dns.rdtypes.ANY.PTR.PTR,
}


class ServerQuestion(NamedTuple):
    """What a client asks (struct evdns_server_question); the name keeps its case."""

    name: str
    type: int
    cls: int


class ReplyPath(Protocol):
    """Where a reply goes: a UDP port or a TCP client.  A closed one takes and forgets it.

    announced_bytes: the largest datagram that we take, as EDNS tells the client.
    """

    announced_bytes: int

    def limit_for(self, query: dns.message.Message) -> int:
        """Return how long the reply to `query` may be, in bytes."""

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send the reply to a query."""

    def forget_request(self) -> None:
        """Count a query as done that gets no reply."""


class _Phase(enum.Enum):
    OPEN = enum.auto()
    ANSWERED = enum.auto()
    GIVEN_UP = enum.auto()  # answered for the program, whose callback raised


class DnsServerRequest:
    """A query to answer with `respond`, now or later, or to `drop` (struct evdns_server_request).

    questions: a list of one `ServerQuestion`;  flags: the query's header flags;
    requesting_addr: the client's socket address.

    The `add_*` methods raise DnsArgumentError for what cannot stand in a reply, and DnsStateError
    after `respond` or `drop`.  Replying to a client that has gone, or through a port that was
    closed, does nothing.
    """

    __slots__ = (
        "_path",
        "_phase",
        "_query",
        "_records",
        "_reply_flags",
        "flags",
        "questions",
        "requesting_addr",
    )

    def __init__(self, path: ReplyPath, query: dns.message.Message, address: Any) -> None:
        self._path = path
        self._query = query
        self._phase = _Phase.OPEN
        self._reply_flags = 0
        self._records: tuple[list[dns.rrset.RRset], ...] = ([], [], [])
        self.flags = int(query.flags)
        self.questions = [
            ServerQuestion(name_to_text(asked.name), int(asked.rdtype), int(asked.rdclass))
            for asked in query.question
        ]
        self.requesting_addr = address

    def set_flags(self, flags: int) -> None:
        """Set EVDNS_FLAGS_AA and EVDNS_FLAGS_RD of the reply, and clear what is not given.

        Raises DnsArgumentError for other bits.  Source: evdns_server_request_set_flags.
        """
        self._require_unanswered()
        if flags & ~_SETTABLE_FLAGS:
            raise DnsArgumentError(f"only AA and RD can be set, not {flags:#x}")
        self._reply_flags = int(flags)

    def add_reply(
        self,
        section: int,
        name: str,
        type: int,  # noqa: A002  # the word of DNS and of libevent; `type()` is not needed here
        cls: int,
        ttl: int,
        data: bytes | str | None,
    ) -> None:
        """Add one record; `data` is its raw rdata, or a domain name, or None for nothing.

        section: EVDNS_ANSWER_SECTION, EVDNS_AUTHORITY_SECTION or EVDNS_ADDITIONAL_SECTION;
        ttl: seconds.  The OPT record of EDNS is added by itself.  Names are compressed without
        regard to case (RFC 4343 section 4.1).
        Source: evdns_server_request_add_reply.
        """
        self._require_unanswered()
        if section not in tuple(Section):
            raise DnsArgumentError(f"no such section: {section!r}")
        _check_number("type", type, 65535)
        _check_number("class", cls, 65535)
        _check_number("ttl", ttl, MAX_TTL_S)
        if type == EVDNS_TYPE_OPT:
            raise DnsArgumentError("the OPT record is not for the program to add")
        rdata = _make_rdata(type, cls, data)
        self._records[section].append(dns.rrset.from_rdata(parse_name(name), ttl, rdata))

    def add_a_reply(
        self, name: str, addresses: Iterable[str | bytes | ipaddress.IPv4Address], ttl: int
    ) -> None:
        """Answer with IPv4 addresses, a record for each (evdns_server_request_add_a_reply)."""
        self._require_unanswered()
        for packed in [_pack(address, ipaddress.IPv4Address) for address in _each(addresses)]:
            self._answer(name, EVDNS_TYPE_A, ttl, packed)

    def add_aaaa_reply(
        self, name: str, addresses: Iterable[str | bytes | ipaddress.IPv6Address], ttl: int
    ) -> None:
        """Answer with IPv6 addresses, a record for each (evdns_server_request_add_aaaa_reply)."""
        self._require_unanswered()
        for packed in [_pack(address, ipaddress.IPv6Address) for address in _each(addresses)]:
            self._answer(name, EVDNS_TYPE_AAAA, ttl, packed)

    def add_ptr_reply(
        self, address: str | None, arpa_name: str | None, hostname: str, ttl: int
    ) -> None:
        """Answer with a host name, for an IP address or for its name under .arpa.

        Raises DnsArgumentError unless exactly one of the two is given.
        Source: evdns_server_request_add_ptr_reply.
        """
        if (address is None) == (arpa_name is None):
            raise DnsArgumentError(
                f"either an address or an arpa name is wanted: {address!r}, {arpa_name!r}"
            )
        if arpa_name is None:
            try:
                arpa_name = ipaddress.ip_address(address or "").reverse_pointer
            except ValueError:
                raise DnsArgumentError(f"not an IP address: {address!r}") from None
        self._answer(arpa_name, EVDNS_TYPE_PTR, ttl, hostname)

    def add_cname_reply(self, name: str, target: str, ttl: int) -> None:
        """Answer that `name` is an alias of `target` (evdns_server_request_add_cname_reply)."""
        self._answer(name, EVDNS_TYPE_CNAME, ttl, target)

    def _answer(self, name: str, record_type: int, ttl: int, data: bytes | str) -> None:
        self.add_reply(EVDNS_ANSWER_SECTION, name, record_type, EVDNS_CLASS_INET, ttl, data)

    def respond(self, rcode: int) -> None:
        """Send the reply, with an rcode from 0 to 15.

        What does not fit into a datagram is left out record by record, and TC set, if it was not
        of the additional section (RFC 2181 section 9).  Raises DnsArgumentError for another
        rcode, DnsStateError the second time.  Source: evdns_server_request_respond.
        """
        if self._phase is _Phase.GIVEN_UP:
            return
        self._require_unanswered()
        _check_number("rcode", rcode, 15)
        self._phase = _Phase.ANSWERED
        self._send(rcode, self._records)

    def drop(self) -> None:
        """Send nothing.  Raises DnsStateError after `respond`.

        Source: evdns_server_request_drop.
        """
        if self._phase is _Phase.GIVEN_UP:
            return
        self._require_unanswered()
        self._phase = _Phase.ANSWERED
        self._path.forget_request()

    def give_up(self) -> None:
        """Answer SERVFAIL for a callback that raised; what the program does later is ignored."""
        if self._phase is _Phase.OPEN:
            self._phase = _Phase.GIVEN_UP
            self._send(DNS_ERR_SERVERFAILED, ([], [], []))

    def _send(self, rcode: int, records: tuple[list[dns.rrset.RRset], ...]) -> None:
        path = self._path
        reply = start_reply(self._query, self._reply_flags | rcode, path.announced_bytes)
        reply.answer, reply.authority, reply.additional = records
        limit = path.limit_for(self._query)
        packet = reply.to_wire(max_size=limit, prefer_truncation=True, want_shuffle=False)
        path.send_reply(packet, self.requesting_addr)

    def _require_unanswered(self) -> None:
        if self._phase is _Phase.ANSWERED:
            raise DnsStateError(f"the request has been answered already: {self.questions}")


def _check_number(what: str, value: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise DnsArgumentError(f"the {what} must be from 0 to {high}: {value!r}")


def _each(addresses: Iterable[Any]) -> Iterable[Any]:
    """Refuse one lone address, whose characters would be taken for addresses."""
    if isinstance(addresses, str | bytes):
        raise DnsArgumentError(f"a list of addresses is wanted: {addresses!r}")
    return addresses


def _pack(address: Any, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> bytes:
    try:
        if isinstance(address, int):
            raise ValueError(address)
        return kind(address).packed
    except ValueError:
        raise DnsArgumentError(f"not an {kind.__name__}: {address!r}") from None


def _make_rdata(record_type: int, cls: int, data: bytes | str | None) -> dns.rdata.Rdata:
    rdtype = dns.rdatatype.RdataType.make(record_type)
    rdclass = dns.rdataclass.RdataClass.make(cls)
    if isinstance(data, str):
        target = parse_name(data)
        known = _NAME_RDATA.get(record_type)
        if known is not None:
            return known(rdclass, rdtype, target)
        data = target.to_wire()
    data = bytes(data or b"")
    if len(data) > MAX_RDATA_BYTES:
        raise DnsArgumentError(f"rdata of {len(data)} bytes is more than {MAX_RDATA_BYTES}")
    return dns.rdata.GenericRdata(rdclass, rdtype, data)
