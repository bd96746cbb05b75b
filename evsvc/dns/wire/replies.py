"""DNS messages of the resolver: queries built, replies judged.  Does no I/O.

dnspython does the wire format, and bounds compression.  What this module adds is judgement: is
the packet an answer to the question that was asked, and what does it say about that name and no
other.  Only records whose owner is the name asked for, or is reached from it through CNAME
records, count (bailiwick); everything else in a reply is ignored.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.SOA
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
    DnsResult,
)
from ..options import MIN_UDP_BYTES
from .framing import HEADER_BYTES
from .names import DomainName, labels_of, name_to_text, randomize_case, restore_case
from .plain_answers import (
    PlainAnswer,
    read_gathered_addresses,
    read_plain_answer,
)
from .records import Record, data_of

QR, OPCODE_MASK, AA, TC, RD, RA, AD = 0x8000, 0x7800, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020
RCODE_MASK = 0x000F

_HEADER = struct.Struct("!6H")
_QUESTION_END = struct.Struct("!HH")
_IN = int(dns.rdataclass.IN)
_OPT_TYPE = int(dns.rdatatype.OPT)
_OPT = struct.Struct("!BHHIH")  # the root, type, size, extended flags, no options (RFC 6891 6.1.2)
_RCODES: dict[int, DnsResult] = {
    0: DNS_ERR_NONE,
    1: DNS_ERR_FORMAT,
    2: DNS_ERR_SERVERFAILED,
    3: DNS_ERR_NOTEXIST,
    4: DNS_ERR_NOTIMPL,
    5: DNS_ERR_REFUSED,
}

QuestionKey = tuple[bytes, int]
"""A question in the form in which equal ones are equal: the name's bytes in lower case, and the
type.
"""


class Question:
    """What is asked: an absolute name and a record type, class IN.

    key: what is the same for equal questions.
    """

    __slots__ = ("key", "name", "rdtype")

    def __init__(self, name: DomainName, rdtype: dns.rdatatype.RdataType) -> None:
        self.name = name
        self.rdtype = rdtype
        self.key: QuestionKey = name.wire.lower(), rdtype


class Query:
    """A question on its way to one nameserver.

    noise: unpredictable bytes, as many as the name has: its letters go in random case then, and
    the reply must have the same (`exact`);
    edns_udp_bytes: the largest reply wanted, told by EDNS when it is above 512 (`has_edns`);
    authentic: ask with the AD bit whether the data was validated (RFC 6840 section 5.7);
    asked_bytes: the
    question as it is sent;  packet: the whole, byte for byte what dnspython makes of it.
    """

    __slots__ = (
        "_asked",
        "asked_bytes",
        "edns_udp_bytes",
        "exact",
        "has_edns",
        "id",
        "packet",
        "question",
    )

    def __init__(
        self,
        question: Question,
        query_id: int,
        *,
        noise: bytes = b"",
        edns_udp_bytes: int = MIN_UDP_BYTES,
        authentic: bool = False,
    ) -> None:
        wire = question.name.wire
        if noise:
            wire = randomize_case(wire, noise)
        asked = wire + _QUESTION_END.pack(question.rdtype, _IN)
        has_edns = edns_udp_bytes > MIN_UDP_BYTES
        packet = _HEADER.pack(query_id, RD | AD if authentic else RD, 1, 0, 0, has_edns) + asked
        if has_edns:
            packet += _OPT.pack(0, _OPT_TYPE, edns_udp_bytes, 0, 0)
        self.question = question
        self.id = query_id
        self.exact = bool(noise)
        self.edns_udp_bytes = edns_udp_bytes
        self.has_edns = has_edns
        self.asked_bytes = asked
        self.packet = packet
        self._asked: dns.name.Name | None = None

    @property
    def asked(self) -> dns.name.Name:
        """The name in the letters sent."""
        if self._asked is None:
            self._asked = dns.name.Name(labels_of(self.asked_bytes))
        return self._asked

    def own_name(self, name: dns.name.Name) -> dns.name.Name:
        """Return a name of the reply without our random letters."""
        if not self.exact:
            return name
        if name.labels == self.asked.labels:
            return self.question.name.dnspython
        return restore_case(name, self.asked, self.question.name.dnspython)

    def text_of(self, name: dns.name.Name) -> str:
        """Return the text of a name of the reply, without our random letters."""
        return name_to_text(self.own_name(name))


class Reply(NamedTuple):
    """What a nameserver says to a question.

    result:         DNS_ERR_NONE with `records`, or the reason why there are none.
    records:        those of the wanted type.
    ttl_s:          shortest time to live of the records and of the CNAME records that led to
                    them, or of their absence (RFC 2308).
    canonical_name: the name at the end of the CNAME chain; None when there is no chain.
    dangling:       whether the reply leaves open what stands at the canonical name.
    links:          the number of CNAME records followed.
    same_letters:   whether the question came back in the letters in which it was sent.
    authentic:      whether the nameserver says that it has validated the data (AD).
    soa:            the SOA record of the zone that has none, where it came with an absence.
    """

    result: DnsResult
    records: tuple[Record, ...] = ()
    ttl_s: int = 0
    canonical_name: dns.name.Name | None = None
    dangling: bool = False
    links: int = 0
    same_letters: bool = True
    authentic: bool = False
    soa: Record | None = None


def id_of(packet: bytes) -> int:
    """Return the id of a packet, -1 when it is shorter than a header."""
    return int.from_bytes(packet[:2], "big") if len(packet) >= HEADER_BYTES else -1


def parse_reply(packet: bytes, query: Query, max_links: int) -> Reply | None:
    """Return what a packet says to the query, None when it is no reply to it.

    A reply must have the id, the QR bit, opcode QUERY, and repeat the one question, though an
    error may be a header alone, which old servers send.  Its letters are the caller's to judge.  A
    reply that goes wrong after its question is DNS_ERR_UNKNOWN, or DNS_ERR_TRUNCATED if it says
    that it is cut; one that only refers to other nameservers is DNS_ERR_REFUSED.
    """
    if len(packet) < HEADER_BYTES or packet[:2] != query.packet[:2]:
        return None
    plain = read_plain_answer(packet, query.asked_bytes, query.question.rdtype)
    if plain is not None:
        return _from_plain(plain, query, True)
    _, flags, *counts = _HEADER.unpack_from(packet)
    if not flags & QR or flags & OPCODE_MASK:
        return None
    if not any(counts):
        return _read_bare_error(flags & RCODE_MASK)
    try:
        message = dns.message.from_wire(
            packet, keyring=False, ignore_trailing=True, continue_on_error=True
        )
    except dns.exception.DNSException:
        return None
    if not _repeats(message, query):
        return None
    same_letters = message.question[0].name.labels == query.asked.labels
    if flags & TC:
        return Reply(DNS_ERR_TRUNCATED, same_letters=same_letters)
    if message.errors:
        if not flags & RCODE_MASK:
            gathered = read_gathered_addresses(packet, query.asked_bytes, query.question.rdtype)
            if gathered is not None:
                return _from_plain(gathered, query, same_letters)
        return Reply(DNS_ERR_UNKNOWN, same_letters=same_letters)
    result = _RCODES.get(message.rcode(), DNS_ERR_UNKNOWN)
    if result not in (DNS_ERR_NONE, DNS_ERR_NOTEXIST):
        return Reply(result, same_letters=same_letters)
    if _only_refers(message, flags):
        return Reply(DNS_ERR_REFUSED, same_letters=same_letters)
    return _read_answer(message, query, result, max_links, same_letters)


def _from_plain(plain: PlainAnswer, query: Query, same_letters: bool) -> Reply:
    ttl_s, authentic, data, names = plain
    if names:
        data = [query.text_of(dns.name.Name(labels)) for labels in names]
    name, rdtype = query.question.name.text, int(query.question.rdtype)
    records = tuple([Record(name, rdtype, ttl_s, each) for each in data])
    return Reply(DNS_ERR_NONE, records, ttl_s, same_letters=same_letters, authentic=authentic)


def _read_bare_error(rcode: int) -> Reply | None:
    """A header alone can say that its server fails, but of no name that it does not exist."""
    if rcode == 0:
        return None
    result = _RCODES.get(rcode, DNS_ERR_UNKNOWN)
    return Reply(DNS_ERR_SERVERFAILED if result == DNS_ERR_NOTEXIST else result)


def _repeats(message: dns.message.Message, query: Query) -> bool:
    if len(message.question) != 1:
        return False
    asked = message.question[0]
    if asked.rdtype != query.question.rdtype or asked.rdclass != dns.rdataclass.IN:
        return False
    return bool(asked.name == query.asked)


def _only_refers(message: dns.message.Message, flags: int) -> bool:
    """Return True when the server neither recurses nor has the zone (glibc's res_send, too)."""
    if flags & (AA | RA) or message.answer or message.rcode():
        return False
    return not any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority)


def _read_answer(
    message: dns.message.Message,
    query: Query,
    result: DnsResult,
    max_links: int,
    same_letters: bool,
) -> Reply:
    """Follow the CNAME records from the question, and gather what stands at any name passed.

    libevent's own test server puts an address beside a CNAME of the same name; RFC 1034 3.6.2
    forbids it, and taking it does no harm: both are in the bailiwick.
    """
    rdtype = query.question.rdtype
    aliases = _follow_cnames(message, query.asked, rdtype, max_links)
    if aliases is None:
        return Reply(DNS_ERR_UNKNOWN, same_letters=same_letters)
    targets = [_target_of(rrset) for rrset in aliases]
    last = query.own_name(targets[-1]) if targets else None
    found = [
        rrset
        for name in (query.asked, *targets)
        if (rrset := _rrset_of(message, name, rdtype)) is not None
    ]
    ttls = [rrset.ttl for rrset in (*aliases, *found)]
    authentic = bool(message.flags & dns.flags.AD)
    if found and result == DNS_ERR_NONE:
        records = tuple(
            Record(query.text_of(rrset.name), int(rdtype), rrset.ttl, data_of(rdata, query.text_of))
            for rrset in found
            for rdata in rrset
        )
        return Reply(result, records, min(ttls), last, False, len(aliases), same_letters, authentic)
    absence = _negative_ttl(message)
    dangling = bool(aliases) and absence is None and result == DNS_ERR_NONE
    if not dangling:
        ttls.append(absence or 0)
    result = result or DNS_ERR_NODATA
    soa = None if dangling else _soa_of(message, query)
    return Reply(result, (), min(ttls), last, dangling, len(aliases), same_letters, authentic, soa)


def _follow_cnames(
    message: dns.message.Message,
    name: dns.name.Name,
    rdtype: dns.rdatatype.RdataType,
    max_links: int,
) -> list[RRset] | None:
    """Return the CNAME records from `name` on; None for a loop or too many."""
    passed = [name]
    aliases: list[RRset] = []
    has_aliases = any(rrset.rdtype == dns.rdatatype.CNAME for rrset in message.answer)
    if rdtype == dns.rdatatype.CNAME or not has_aliases:
        return aliases
    while cname := _rrset_of(message, passed[-1], dns.rdatatype.CNAME):
        target = _target_of(cname)
        if target in passed or len(passed) > max_links:
            return None
        passed.append(target)
        aliases.append(cname)
    return aliases


def _target_of(cname: RRset) -> dns.name.Name:
    rdata = cname[0]
    assert isinstance(rdata, dns.rdtypes.ANY.CNAME.CNAME)
    return rdata.target


def _rrset_of(
    message: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> RRset | None:
    return message.get_rrset(message.answer, name, dns.rdataclass.IN, rdtype)


def _soa_of(message: dns.message.Message, query: Query) -> Record | None:
    """Return the SOA record that came with an absence."""
    for rrset in message.authority:
        for rdata in rrset:
            if isinstance(rdata, dns.rdtypes.ANY.SOA.SOA):
                owner = query.text_of(rrset.name)
                return Record(owner, int(rrset.rdtype), rrset.ttl, data_of(rdata, query.text_of))
    return None


def _negative_ttl(message: dns.message.Message) -> int | None:
    """Return how long an absence may be believed (RFC 2308 section 5), None without a SOA."""
    ttls = [
        min(rrset.ttl, rdata.minimum)
        for rrset in message.authority
        for rdata in rrset
        if isinstance(rdata, dns.rdtypes.ANY.SOA.SOA)
    ]
    return min(ttls, default=None)
