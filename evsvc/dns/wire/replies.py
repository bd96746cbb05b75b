"""DNS messages of the resolver: queries built, replies judged.  Does no I/O.

dnspython does the wire format, and bounds compression.  What this module adds is judgement: is
the packet an answer to the question that was asked, and what does it say about that name and no
other.  Only records whose owner is the name asked for, or is reached from it through CNAME
records, count (bailiwick); everything else in a reply is ignored.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.A
import dns.rdtypes.IN.AAAA
from dns.rdata import Rdata
from dns.rrset import RRset

from ..errors import (
    DNS_ERR_FORMAT,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_TRUNCATED,
    DNS_ERR_UNKNOWN,
    DnsArgumentError,
    DnsResult,
)
from ..options import MIN_UDP_BYTES

HEADER_BYTES = 12
QR, OPCODE_MASK, TC = 0x8000, 0x7800, 0x0200
MAX_NAME_CHARACTERS = 255

_HEADER_START = struct.Struct("!HH")
_RCODES: dict[int, DnsResult] = {
    0: DNS_ERR_NONE,
    1: DNS_ERR_FORMAT,
    2: DNS_ERR_SERVERFAILED,
    3: DNS_ERR_NOTEXIST,
    4: DNS_ERR_NOTIMPL,
    5: DNS_ERR_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: an absolute name and a record type, class IN."""

    name: dns.name.Name
    rdtype: dns.rdatatype.RdataType


@dataclass(frozen=True, slots=True)
class Reply:
    """What a nameserver says to a question.

    result:         DNS_ERR_NONE with `addresses`, or the reason why there are none.
    addresses:      IP addresses or, for PTR, host names, as text.
    ttl_s:          shortest time to live of the addresses, or of their absence (RFC 2308).
    canonical_name: the name at the end of the CNAME chain; None when there is no chain.
    dangling:       whether the reply leaves open what stands at the canonical name.
    links:          the number of CNAME records followed.
    """

    result: DnsResult
    addresses: tuple[str, ...] = ()
    ttl_s: int = 0
    canonical_name: dns.name.Name | None = None
    dangling: bool = False
    links: int = 0


def parse_name(text: str) -> dns.name.Name:
    """Return the absolute name of a text; one without a trailing dot is taken from the root.

    Raises DnsArgumentError for no name, an empty label, one over 63 bytes, or a name over 255.
    """
    if text in ("", "@"):  # dnspython reads both as the root
        raise DnsArgumentError(f"not a domain name: {text!r}")
    if len(text) > 4 * MAX_NAME_CHARACTERS:  # a byte may be written as \ddd
        raise DnsArgumentError(f"a name of {len(text)} characters is too long: {text[:64]!r}...")
    try:
        return dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as exc:
        raise DnsArgumentError(f"not a domain name: {text!r} ({exc})") from None


def name_to_text(name: dns.name.Name) -> str:
    """Return a name as text without the trailing dot; the root is "."."""
    return name.to_text(omit_final_dot=True)


def randomize_case(name: dns.name.Name) -> dns.name.Name:
    """Return the name with each letter in upper or lower case by chance (0x20)."""
    return dns.name.Name([_randomize_label(label) for label in name.labels])


def _randomize_label(label: bytes) -> bytes:
    flips = int.from_bytes(os.urandom(8), "big")  # one bit for each of at most 63 bytes
    lower, upper = label.lower(), label.upper()
    return bytes((upper if flips >> index & 1 else lower)[index] for index in range(len(label)))


def build_query(question: Question, query_id: int, edns_udp_bytes: int) -> bytes:
    """Return the packet of a question; EDNS goes along when more than 512 bytes are wanted."""
    edns = edns_udp_bytes > MIN_UDP_BYTES
    query = dns.message.make_query(
        question.name,
        question.rdtype,
        use_edns=0 if edns else False,
        payload=edns_udp_bytes if edns else None,
        id=query_id,
    )
    return query.to_wire()


def id_of(packet: bytes) -> int:
    """Return the id of a packet, -1 when it is shorter than a header."""
    return int.from_bytes(packet[:2], "big") if len(packet) >= HEADER_BYTES else -1


def parse_reply(
    packet: bytes, question: Question, query_id: int, *, strict_case: bool, max_links: int
) -> Reply | None:
    """Return what a packet says to the question, None when it is no reply to that question.

    A reply must have the id, the QR bit, opcode QUERY, and repeat the one question; with
    `strict_case` to the letter's case.  A reply that goes wrong after its question is
    DNS_ERR_UNKNOWN, or DNS_ERR_TRUNCATED if it says that it is cut.
    """
    if len(packet) < HEADER_BYTES:
        return None
    packet_id, flags = _HEADER_START.unpack_from(packet)
    if packet_id != query_id or not flags & QR or flags & OPCODE_MASK:
        return None
    try:
        message = dns.message.from_wire(
            packet, keyring=False, ignore_trailing=True, continue_on_error=True
        )
    except dns.exception.DNSException:
        return None
    if not _repeats(message, question, strict_case):
        return None
    if flags & TC:
        return Reply(DNS_ERR_TRUNCATED)
    if message.errors:
        return Reply(DNS_ERR_UNKNOWN)
    result = _RCODES.get(message.rcode(), DNS_ERR_UNKNOWN)
    if result == DNS_ERR_NONE:
        return _read_answer(message, question, max_links)
    ttl_s = _negative_ttl(message) if result == DNS_ERR_NOTEXIST else None
    return Reply(result, ttl_s=ttl_s or 0)


def _repeats(message: dns.message.Message, question: Question, strict_case: bool) -> bool:
    if len(message.question) != 1:
        return False
    asked = message.question[0]
    if asked.rdtype != question.rdtype or asked.rdclass != dns.rdataclass.IN:
        return False
    if strict_case:
        return bool(asked.name.labels == question.name.labels)
    return bool(asked.name == question.name)


def _read_answer(message: dns.message.Message, question: Question, max_links: int) -> Reply:
    """Follow the CNAME records from the question, and gather what stands at any name passed.

    libevent's own test server puts an address beside a CNAME of the same name; RFC 1034 3.6.2
    forbids it, and taking it does no harm: both are in the bailiwick.
    """
    chain = _follow_cnames(message, question.name, max_links)
    if chain is None:
        return Reply(DNS_ERR_UNKNOWN)
    links = len(chain) - 1
    canonical_name = chain[-1] if links else None
    found = [rrset for name in chain if (rrset := _rrset_of(message, name, question.rdtype))]
    if found:
        addresses = tuple(_address_text(rdata) for rrset in found for rdata in rrset)
        ttl_s = min(rrset.ttl for rrset in found)
        return Reply(DNS_ERR_NONE, addresses, ttl_s, canonical_name, links=links)
    ttl = _negative_ttl(message)
    dangling = links > 0 and ttl is None
    return Reply(DNS_ERR_NODATA, (), ttl or 0, canonical_name, dangling, links)


def _follow_cnames(
    message: dns.message.Message, name: dns.name.Name, max_links: int
) -> list[dns.name.Name] | None:
    """Return the names from `name` to the end of its CNAME chain; None for a loop or too many."""
    chain = [name]
    while cname := _rrset_of(message, chain[-1], dns.rdatatype.CNAME):
        rdata = cname[0]
        assert isinstance(rdata, dns.rdtypes.ANY.CNAME.CNAME)
        if rdata.target in chain or len(chain) > max_links:
            return None
        chain.append(rdata.target)
    return chain


def _rrset_of(
    message: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> RRset | None:
    return message.get_rrset(message.answer, name, dns.rdataclass.IN, rdtype)


def _address_text(rdata: Rdata) -> str:
    if isinstance(rdata, dns.rdtypes.IN.A.A | dns.rdtypes.IN.AAAA.AAAA):
        return str(rdata.address)
    assert isinstance(rdata, dns.rdtypes.ANY.PTR.PTR)
    return name_to_text(rdata.target)


def _negative_ttl(message: dns.message.Message) -> int | None:
    """Return how long an absence may be believed (RFC 2308 section 5), None without a SOA."""
    ttls = [
        min(rrset.ttl, rdata.minimum)
        for rrset in message.authority
        for rdata in rrset
        if isinstance(rdata, dns.rdtypes.ANY.SOA.SOA)
    ]
    return min(ttls, default=None)
