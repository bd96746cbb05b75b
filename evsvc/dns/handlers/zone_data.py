"""The records of a zone, and what they say to a question (RFC 1034 4.3.2).  Does no I/O.

Names are keyed by their wire form in lower case, so the names above one are the tails of its key.
A node is there for each name that exists, an empty one for those that only have others below
(empty non-terminals, RFC 4592 2.2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
import dns.rdtypes.ANY.DNAME
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.SRV
import dns.rdtypes.mxbase
import dns.rdtypes.nsbase
import dns.rdtypes.svcbbase
import dns.rrset
import dns.zone
from dns.rrset import RRset

from ..errors import DnsArgumentError
from ..wire.fast import PlainRecord, PlainSoa, is_ordinary_data
from ..wire.names import name_to_text

MAX_CHAIN_LINKS = 16
"""How many aliases of a zone are followed for one answer."""

_A, _NS, _CNAME, _SOA, _AAAA = 1, 2, 5, 6, 28
_DNAME, _DS, _ANY = 39, 43, 255
_ADDRESSES = (_A, _AAAA)
_PLAIN = frozenset({_A, _AAAA, dns.rdatatype.TXT})  # no names in them
_OF_DNSSEC = frozenset({dns.rdatatype.RRSIG, dns.rdatatype.NSEC, dns.rdatatype.NSEC3})
# What is not an alias's target's to answer.
_NOT_ALIASED = frozenset({_CNAME, _ANY, dns.rdatatype.RRSIG, dns.rdatatype.NSEC})
_WILDCARD = b"\1*"
_make_alias: Callable[..., dns.rdata.Rdata] = dns.rdtypes.ANY.CNAME.CNAME


class Node(dict[int, list[RRset]]):
    """The records of a name by type; several sets where RRSIG covers several types.

    plain: those that were wanted ready to be written, by type;  children: how many names there
    are one label below.
    """

    __slots__ = ("children", "plain")

    def __init__(self) -> None:
        self.plain: dict[int, list[PlainRecord]] = {}
        self.children = 0


class Found(NamedTuple):
    """What a zone says to a question.  is_authoritative: False for a referral."""

    rcode: int
    is_authoritative: bool
    answer: Sequence[RRset] = ()
    authority: Sequence[RRset] = ()
    additional: Sequence[RRset] = ()


class PlainFound(NamedTuple):
    """What a zone says, as `DnsServerRequest.add_plain` takes it; it says it with authority."""

    rcode: int
    records: Sequence[PlainRecord] = ()
    soa: PlainSoa | None = None


class ZoneData:
    """The records of one zone.  Raises DnsArgumentError when there is not one SOA at its top."""

    __slots__ = ("_negative_soa", "_nodes", "_origin_key", "_plain_soa", "origin", "soa")

    def __init__(self, origin: dns.name.Name, rrsets: Iterable[RRset]) -> None:
        self.origin = origin
        self._origin_key = origin.to_digestable()
        self._nodes: dict[bytes, Node] = {}
        for rrset in rrsets:
            self._add(rrset)
        soa = self._nodes.get(self._origin_key, Node()).get(_SOA)
        if soa is None or len(soa[0]) != 1:
            raise DnsArgumentError(f"not a zone: {origin} has no SOA record, or several")
        self.soa: RRset
        self._negative_soa: RRset
        self.set_soa(soa[0])

    @property
    def serial(self) -> int:
        """The serial number of the zone."""
        return int(self.soa[0].serial)

    def set_soa(self, soa: RRset) -> None:
        """Replace the SOA record."""
        self._nodes[self._origin_key][_SOA] = [soa]
        self.soa = soa
        # RFC 2308 section 3: what does not exist is so for the shorter of the two times.
        self._negative_soa = dns.rrset.from_rdata(
            soa.name, min(soa.ttl, int(soa[0].minimum)), soa[0]
        )
        self._plain_soa = _plain_soa_of(self._negative_soa, len(self._origin_key))

    def replace_node(
        self, name: dns.name.Name, rrsets: Iterable[RRset], *, exists: bool = False
    ) -> None:
        """Have a name at or below the origin have these records alone.

        Without any it is no more, unless it `exists` all the same; and names above it that are
        there for it alone go, too.
        """
        key = name.to_digestable()
        node = self._node_of(key)
        node.clear()
        node.plain.clear()
        for rrset in rrsets:
            self._add(rrset)
        if not exists:
            self._drop_if_empty(key)

    def _add(self, rrset: RRset) -> None:
        key = rrset.name.to_digestable()
        if not self.covers(key):
            raise DnsArgumentError(f"{rrset.name} is not in the zone {self.origin}")
        self._node_of(key).setdefault(int(rrset.rdtype), []).append(rrset)

    def _node_of(self, key: bytes) -> Node:
        """Return the node of a name, which exists from now on, and so do those above it."""
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node()
            if key != self._origin_key:
                self._node_of(_parent(key)).children += 1
        return node

    def _drop_if_empty(self, key: bytes) -> None:
        while key != self._origin_key:
            node = self._nodes[key]
            if node or node.children:
                return
            del self._nodes[key]
            key = _parent(key)
            self._nodes[key].children -= 1

    def covers(self, key: bytes) -> bool:
        """Return True when a name, by its key, is the origin or below it."""
        return key.endswith(self._origin_key) and _ends_at(key, len(key) - len(self._origin_key))

    def has(self, name: dns.name.Name) -> bool:
        """Return True when a name exists, be it for others below it alone."""
        return name.to_digestable() in self._nodes

    def records(self) -> Iterator[RRset]:
        """Yield all records but the SOA, set by set; the zone may change meanwhile."""
        for node in list(self._nodes.values()):
            for rdtype, rrsets in list(node.items()):
                if rdtype != _SOA:
                    yield from list(rrsets)

    def find_plain(self, key: bytes, rdtype: int) -> PlainFound | None:
        """Return what the zone says, for a name by its key at or below the origin.

        None for whatever takes more than addresses or texts of the name itself, or the SOA.
        """
        walk = self._walk(key, rdtype)
        node = walk.node
        if walk.cut is not None or walk.dname is not None:
            return None
        if node is not None:
            if _CNAME in node or rdtype == _ANY:
                return None
            rrsets = node.get(rdtype)
            if rrsets:
                if rdtype not in _PLAIN:
                    return None
                records = node.plain.get(rdtype)
                if records is None:
                    records = node.plain[rdtype] = _plain_records_of(rrsets)
                return PlainFound(dns.rcode.NOERROR, records)
        if self._plain_soa is None:
            return None
        rcode = dns.rcode.NXDOMAIN if node is None else dns.rcode.NOERROR
        return PlainFound(rcode, (), self._plain_soa)

    def find(self, name: dns.name.Name, rdtype: int) -> Found:
        """Return what the zone says to a question about a name at or below its origin."""
        answer: list[RRset] = []
        seen = set()
        for _ in range(MAX_CHAIN_LINKS + 1):
            key = name.to_digestable()
            if key in seen:  # a loop is an error, says RFC 1034 3.6.2
                return Found(dns.rcode.SERVFAIL, True, answer)
            seen.add(key)
            if not self.covers(key):
                return Found(dns.rcode.NOERROR, True, answer)  # the client goes on by itself
            top = self._walk(key, rdtype)
            if top.cut is not None:
                return self._referral(top.cut, answer)
            if top.dname is not None:
                target = self._follow_dname(top.dname, name, answer)
                if target is None:
                    return Found(dns.rcode.YXDOMAIN, True, answer)
                if rdtype == _CNAME:  # the one that was made is what is asked for
                    return Found(dns.rcode.NOERROR, True, answer)
                name = target
                continue
            if top.node is None:
                return Found(dns.rcode.NXDOMAIN, True, answer, [self._negative_soa])
            alias = top.node.get(_CNAME)
            if alias is None or rdtype in _NOT_ALIASED:
                return self._take(top.node, name if top.is_wildcard else None, rdtype, answer)
            answer.append(_owned(alias[0], name if top.is_wildcard else None))
            name = alias[0][0].target
        return Found(dns.rcode.NOERROR, True, answer)

    def _walk(self, key: bytes, rdtype: int) -> _Walk:
        """Go down from the origin to a name, and stop at what is in the way."""
        below = len(key) - len(self._origin_key)
        encloser = self._origin_key
        node = self._nodes[encloser]
        for at in reversed(_label_starts(key[:below])):
            if _DNAME in node:
                return _Walk(dname=node[_DNAME][0])
            if key[at:] not in self._nodes:
                return _Walk(self._nodes.get(_WILDCARD + encloser), is_wildcard=True)
            encloser = key[at:]
            node = self._nodes[encloser]
            if _NS in node and not (rdtype == _DS and at == 0):
                return _Walk(cut=node[_NS][0])
        return _Walk(node)

    def _referral(self, cut: RRset, answer: list[RRset]) -> Found:
        return Found(dns.rcode.NOERROR, bool(answer), answer, [cut], self._addresses_for([cut]))

    def _follow_dname(
        self, dname: RRset, name: dns.name.Name, answer: list[RRset]
    ) -> dns.name.Name | None:
        """Add a DNAME and the CNAME that it makes (RFC 6672); None for a name too long."""
        answer.append(dname)
        prefix = name.relativize(dname.name)
        try:
            target = prefix.derelativize(dname[0].target)
        except dns.name.NameTooLong:
            return None
        alias = _make_alias(dns.rdataclass.IN, dns.rdatatype.CNAME, target)
        answer.append(dns.rrset.from_rdata(name, dname.ttl, alias))
        return target

    def _take(
        self, node: Node, owner: dns.name.Name | None, rdtype: int, answer: list[RRset]
    ) -> Found:
        rrsets = _any_of(node) if rdtype == _ANY else node.get(rdtype)
        if not rrsets:
            return Found(dns.rcode.NOERROR, True, answer, [self._negative_soa])
        answer += [_owned(rrset, owner) for rrset in rrsets]
        return Found(dns.rcode.NOERROR, True, answer, (), self._addresses_for(rrsets))

    def _addresses_for(self, rrsets: Sequence[RRset]) -> list[RRset]:
        """Return the addresses, as far as they are here, of the hosts that records name."""
        found: list[RRset] = []
        seen = set()
        for rdata in (rdata for rrset in rrsets for rdata in rrset):
            host = _host_of(rdata)
            key = None if host is None else host.to_digestable()
            if key is None or key in seen:
                continue
            seen.add(key)
            node = self._nodes.get(key, Node())
            for rdtype in _ADDRESSES:
                found += node.get(rdtype, ())
        return found


class _Walk(NamedTuple):
    """Where the way to a name has led: to its node, or to what is in the way; else nowhere."""

    node: Node | None = None
    is_wildcard: bool = False
    cut: RRset | None = None
    dname: RRset | None = None


def _plain_records_of(rrsets: Iterable[RRset]) -> list[PlainRecord]:
    return [
        (int(rrset.rdtype), rrset.ttl, rdata.to_wire() or b"")
        for rrset in rrsets
        for rdata in rrset
    ]


def _plain_soa_of(rrset: RRset, owner_bytes: int) -> PlainSoa | None:
    soa = rrset[0]
    primary, mailbox = name_to_text(soa.mname), name_to_text(soa.rname)
    if owner_bytes == 1 or not (is_ordinary_data(primary) and is_ordinary_data(mailbox)):
        return None
    times = (soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum)
    numbers = b"".join(int(number).to_bytes(4, "big") for number in times)
    return PlainSoa(owner_bytes, rrset.ttl, primary, mailbox, numbers, rrset)


def _parent(key: bytes) -> bytes:
    """Return the key of the name one label above."""
    return key[1 + key[0] :]


def _label_starts(labels: bytes) -> list[int]:
    starts = []
    at = 0
    while at < len(labels):
        starts.append(at)
        at += 1 + labels[at]
    return starts


def _ends_at(key: bytes, end: int) -> bool:
    at = 0
    while at < end:
        at += 1 + key[at]
    return at == end


def _owned(rrset: RRset, owner: dns.name.Name | None) -> RRset:
    """Return records, those of a wildcard as the asked name's own."""
    if owner is None:
        return rrset
    return dns.rrset.from_rdata_list(owner, rrset.ttl, list(rrset))


def _any_of(node: Node) -> list[RRset] | None:
    """Return one set of records for a question about all (RFC 8482 section 4.1)."""
    for rdtype, rrsets in node.items():
        if rdtype not in _OF_DNSSEC:
            return rrsets[:1]
    return None


def _host_of(rdata: dns.rdata.Rdata) -> dns.name.Name | None:
    if isinstance(rdata, dns.rdtypes.mxbase.MXBase):
        return rdata.exchange
    if isinstance(rdata, dns.rdtypes.IN.SRV.SRV | dns.rdtypes.svcbbase.SVCBBase):
        return rdata.target
    if isinstance(rdata, dns.rdtypes.nsbase.NSBase) and rdata.rdtype == _NS:
        return rdata.target
    return None


def read_zone(zone: dns.zone.Zone) -> ZoneData:
    """Return the records of dnspython's zone.

    Raises DnsArgumentError when it has no origin, or no SOA and NS record there.
    """
    if zone.origin is None:
        raise DnsArgumentError("not a zone: it has no origin")
    if zone.relativize:  # their names are read anew, and absolute
        zone = dns.zone.from_text(zone.to_text(), zone.origin, relativize=False, check_origin=False)
    assert zone.origin is not None
    if zone.get_rdataset(zone.origin, dns.rdatatype.NS) is None:
        raise DnsArgumentError(f"not a zone: {zone.origin} has no NS record")
    rrsets = []
    for name, rdataset in zone.iterate_rdatasets():
        owner = name.derelativize(zone.origin)
        rrsets.append(dns.rrset.from_rdata_list(owner, rdataset.ttl, list(rdataset)))
    return ZoneData(zone.origin, rrsets)
