"""Entirely ordinary queries read, and their ordinary replies written, by hand.  Does no I/O.

dnspython reads and writes everything; what it costs is a hundred times what most queries need.
The law of this file: what it reads, dnspython reads as the same; what it writes is byte for byte
what dnspython writes.  Whatever is not ordinary it leaves alone, with None.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import dns.name
import dns.rrset

from .framing import HEADER_BYTES
from .names import name_to_text
from .replies import QR

MAX_REPLY_BYTES = 0x3FFF  # as far as a compression pointer reaches
KEPT_QUERIES = 4096
"""So many queries that were read last are known again when they come again, but for their id."""

_ID_BYTES = 2
_RECORD_HEAD_BYTES = 12
_MAX_RECORDS = MAX_REPLY_BYTES // _RECORD_HEAD_BYTES
_MAX_NAME_BYTES = 255
_MAX_LABEL_BYTES = 63
_TAIL_BYTES, _TAIL_BYTES_WITH_OPT = 4, 15  # type and class, and an OPT record without options
_MAX_QUERY_BYTES = HEADER_BYTES + _MAX_NAME_BYTES + _TAIL_BYTES_WITH_OPT
_RD, _AD, _CD, _DO = 0x0100, 0x0020, 0x0010, 0x8000
_COPIED = _RD | _CD
_SOA, _OPT = 6, 41
_OWN_NAME = 0xC000 | HEADER_BYTES  # a pointer to the question's name
_QUESTION = struct.Struct("!HH")
_OPT_RECORD = struct.Struct("!BHHIH")
_COUNTS = struct.Struct("!5H")
_RECORD = struct.Struct("!HHHIH")

# The bytes between id and question of every ordinary query: its flags, and whether it has EDNS.
_HEADS: dict[bytes, tuple[int, bool]] = {
    _COUNTS.pack(rd | ad | cd, 1, 0, 0, opt): (rd | ad | cd, bool(opt))
    for rd in (0, _RD)
    for ad in (0, _AD)
    for cd in (0, _CD)
    for opt in (0, 1)
}
_LETTERS_OF_HOSTS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
_ORDINARY_NAME = re.compile(r"(?=.{1,254}\Z)(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?\Z")


class PlainQuery:
    """A query with one question under a name of its own, and at most a plain OPT record.

    It is the same for all packets that differ in their id alone.
    rest:       the packet after its id;  question: name, type and class as in the packet.
    name_end:   where in the packet the name ends; type and class follow.
    payload:    the largest datagram that the client takes, 0 without EDNS.
    edns_flags: the flags of EDNS, -1 without EDNS.
    """

    __slots__ = (
        "_labels",
        "_name",
        "edns_flags",
        "flags",
        "name_end",
        "payload",
        "question",
        "rdclass",
        "rdtype",
        "rest",
    )

    def __init__(
        self, rest: bytes, flags: int, labels: list[bytes], payload: int, edns_flags: int
    ) -> None:
        self.rest = rest
        self.flags = flags
        self.payload = payload
        self.edns_flags = edns_flags
        tail_bytes = _TAIL_BYTES if edns_flags < 0 else _TAIL_BYTES_WITH_OPT
        name_end = len(rest) - tail_bytes
        self.name_end = name_end + _ID_BYTES
        self.question = rest[HEADER_BYTES - _ID_BYTES : name_end + _QUESTION.size]
        self.rdtype: int
        self.rdclass: int
        self.rdtype, self.rdclass = _QUESTION.unpack_from(rest, name_end)
        self._labels = labels
        self._name: str | None = None

    @property
    def name(self) -> str:
        """The name as text, in the letters' case of the packet, without the last dot."""
        if self._name is None:
            if b"".join(self._labels).translate(None, _LETTERS_OF_HOSTS):
                self._name = name_to_text(dns.name.Name([*self._labels, b""]))
            else:
                self._name = b".".join(self._labels).decode("ascii")
        return self._name

    @property
    def name_key(self) -> bytes:
        """The name in its wire form, in lower case."""
        return self.question[: -_QUESTION.size].lower()


def read_plain(packet: bytes) -> PlainQuery | None:
    """Return an ordinary query, None for any other packet."""
    return _read_rest(packet[_ID_BYTES:]) if len(packet) <= _MAX_QUERY_BYTES else None


@lru_cache(KEPT_QUERIES)
def _read_rest(rest: bytes) -> PlainQuery | None:
    """Read a packet without its id.

    Clients ask for the same again and again, and reading is a fourth of a whole answer.
    """
    head = _HEADS.get(rest[: HEADER_BYTES - _ID_BYTES])
    if head is None:
        return None
    flags, has_opt = head
    # What follows the name, and so where the name must end, is known by the header.
    name_end = len(rest) - (_TAIL_BYTES_WITH_OPT if has_opt else _TAIL_BYTES)
    at = HEADER_BYTES - _ID_BYTES
    last = name_end - 1
    if not at < last < at + _MAX_NAME_BYTES:
        return None
    labels = []
    while at < last:
        length = rest[at]
        if not 0 < length <= _MAX_LABEL_BYTES:
            return None
        start = at + 1
        at = start + length
        labels.append(rest[start:at])
    if at != last or rest[at]:
        return None
    if not has_opt:
        return PlainQuery(rest, flags, labels, 0, -1)
    root, opt, payload, ttl, length = _OPT_RECORD.unpack_from(rest, name_end + _QUESTION.size)
    if root or opt != _OPT or ttl & ~_DO or length:
        return None
    return PlainQuery(rest, flags, labels, payload, ttl)


PlainRecord: TypeAlias = tuple[int, int, bytes | str]
"""A record at the question's own name: type, TTL, and rdata, or the name in a CNAME or PTR."""


def is_ordinary_data(data: bytes | str) -> bool:
    """Return True for rdata, and for a name of letters, digits, hyphens and underscores only."""
    return isinstance(data, bytes) or _ORDINARY_NAME.match(data) is not None


class PlainSoa(NamedTuple):
    """The SOA record of a negative answer, whose owner is the question's name or above it.

    owner_bytes: the length of the owner's wire form, which is no root;  primary, mailbox:
    ordinary names;  numbers: the rest of its data;  rrset: the same as dnspython's.
    """

    owner_bytes: int
    ttl: int
    primary: str
    mailbox: str
    numbers: bytes
    rrset: dns.rrset.RRset


def write_plain(
    query_id: bytes,
    query: PlainQuery,
    flags: int,
    records: Sequence[PlainRecord],
    announced_bytes: int,
    soa: PlainSoa | None = None,
) -> bytes | None:
    """Return the reply to a query, with records in the answer, and an SOA in the authority section.

    flags: what is set besides QR and what the query has of RD and CD; names in the records are
    ordinary ones.  None for a reply longer than MAX_REPLY_BYTES.
    """
    if len(records) > _MAX_RECORDS:
        return None
    body = b""
    names: dict[bytes, int] | None = None
    start = query.name_end + _QUESTION.size
    for rdtype, ttl, data in records:
        if isinstance(data, str):
            if names is None:
                names = _suffixes(query)
            data = _compressed(names, data, start + len(body) + _RECORD_HEAD_BYTES)
        body += _RECORD.pack(_OWN_NAME, rdtype, 1, ttl, len(data)) + data
    if soa is not None:
        body += _soa_record(query, soa, names or _suffixes(query), start + len(body))
    has_opt = query.edns_flags >= 0
    if has_opt:
        body += _OPT_RECORD.pack(0, _OPT, announced_bytes, query.edns_flags & _DO, 0)
    head = _COUNTS.pack(
        QR | query.flags & _COPIED | flags, 1, len(records), soa is not None, has_opt
    )
    reply = query_id + head + query.question + body
    return reply if len(reply) <= MAX_REPLY_BYTES else None


def _soa_record(query: PlainQuery, soa: PlainSoa, names: dict[bytes, int], at: int) -> bytes:
    data = _compressed(names, soa.primary, at + _RECORD_HEAD_BYTES)
    data += _compressed(names, soa.mailbox, at + _RECORD_HEAD_BYTES + len(data))
    data += soa.numbers
    owner = 0xC000 | query.name_end - soa.owner_bytes
    return _RECORD.pack(owner, _SOA, 1, soa.ttl, len(data)) + data


def _compressed(names: dict[bytes, int], text: str, at: int) -> bytes:
    """Return a name's wire form at offset `at`, and note its suffixes for the names to come."""
    labels = text.removesuffix(".").encode("ascii").split(b".")
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    key = wire.lower()
    cut = 0
    while key[cut]:
        target = names.get(key[cut:])
        if target is not None:
            return wire[:cut] + (0xC000 | target).to_bytes(2, "big")
        if at + cut < MAX_REPLY_BYTES:
            names[key[cut:]] = at + cut
        cut += 1 + key[cut]
    return wire


def _suffixes(query: PlainQuery) -> dict[bytes, int]:
    """Return where the asked name, and each name above it, stands."""
    key = query.name_key
    found: dict[bytes, int] = {}
    cut = 0
    while key[cut]:
        found.setdefault(key[cut:], HEADER_BYTES + cut)
        cut += 1 + key[cut]
    return found
