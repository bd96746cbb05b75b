"""Entirely ordinary queries read, and their ordinary replies written, by hand.  Does no I/O.

dnspython reads and writes everything; what it costs is a hundred times what most queries need.
The law of this file: what it reads, dnspython reads as the same; what it writes is byte for byte
what dnspython writes.  Whatever is not ordinary it leaves alone, with None.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import dns.name
import dns.rrset

from .framing import HEADER_BYTES
from .names import name_to_text
from .replies import QR

MAX_REPLY_BYTES = 0x3FFF  # as far as a compression pointer reaches

_MAX_NAME_BYTES = 255
_MAX_LABEL_BYTES = 63
_RD, _AD, _CD, _DO = 0x0100, 0x0020, 0x0010, 0x8000
_COPIED = _RD | _CD
_SOA, _OPT = 6, 41
_OWN_NAME = 0xC000 | HEADER_BYTES  # a pointer to the question's name
_QUESTION = struct.Struct("!HH")
_QUESTION_AND_OPT = struct.Struct("!HHBHHIH")
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


class PlainQuery(NamedTuple):
    """A query with one question under a name of its own, and at most a plain OPT record.

    name_end:   where its name ends; type and class follow.
    payload:    the largest datagram that the client takes, 0 without EDNS.
    edns_flags: the flags of EDNS, -1 without EDNS.
    labels:     the name's, without the root's.
    """

    packet: bytes
    flags: int
    name_end: int
    rdtype: int
    rdclass: int
    payload: int
    edns_flags: int
    labels: list[bytes]

    @property
    def name(self) -> str:
        """The name as text, in the letters' case of the packet, without the last dot."""
        labels = self.labels
        if b"".join(labels).translate(None, _LETTERS_OF_HOSTS):
            return name_to_text(dns.name.Name([*labels, b""]))
        return b".".join(labels).decode("ascii")


def read_plain(packet: bytes) -> PlainQuery | None:
    """Return an ordinary query, None for any other packet."""
    head = _HEADS.get(packet[2:HEADER_BYTES])
    if head is None:
        return None
    flags, has_opt = head
    # What follows the name, and so where the name must end, is known by the header.
    name_end = len(packet) - (15 if has_opt else 4)
    last = name_end - 1
    if not HEADER_BYTES < last < HEADER_BYTES + _MAX_NAME_BYTES:
        return None
    at = HEADER_BYTES
    labels = []
    while at < last:
        length = packet[at]
        if not 0 < length <= _MAX_LABEL_BYTES:
            return None
        start = at + 1
        at = start + length
        labels.append(packet[start:at])
    if at != last or packet[at]:
        return None
    if not has_opt:
        rdtype, rdclass = _QUESTION.unpack_from(packet, name_end)
        return PlainQuery(packet, flags, name_end, rdtype, rdclass, 0, -1, labels)
    rdtype, rdclass, root, opt, payload, ttl, length = _QUESTION_AND_OPT.unpack_from(
        packet, name_end
    )
    if root or opt != _OPT or ttl & ~_DO or length:
        return None
    return PlainQuery(packet, flags, name_end, rdtype, rdclass, payload, ttl, labels)


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
    query: PlainQuery,
    flags: int,
    records: Iterable[PlainRecord],
    announced_bytes: int,
    soa: PlainSoa | None = None,
) -> bytes | None:
    """Return the reply to a query, with records in the answer, and an SOA in the authority section.

    flags: what is set besides QR and what the query has of RD and CD; names in the records are
    ordinary ones.  None for a reply longer than MAX_REPLY_BYTES.
    """
    packet, end = query.packet, query.name_end + 4
    answers = []
    names: dict[bytes, int] | None = None
    at = end
    for rdtype, ttl, data in records:
        if isinstance(data, str):
            if names is None:
                names = {}
                _note_suffixes(names, packet[HEADER_BYTES : query.name_end].lower(), HEADER_BYTES)
            data = _compressed(names, data, at + 12)
        answers.append(_RECORD.pack(_OWN_NAME, rdtype, 1, ttl, len(data)) + data)
        at += 12 + len(data)
    if soa is not None:
        answers.append(_soa_record(query, soa, names, at))
    has_opt = query.edns_flags >= 0
    counts = (len(answers), 0) if soa is None else (len(answers) - 1, 1)
    head = _COUNTS.pack(QR | query.flags & _COPIED | flags, 1, *counts, has_opt)
    reply = packet[:2] + head + packet[HEADER_BYTES:end] + b"".join(answers)
    if has_opt:
        reply += _OPT_RECORD.pack(0, _OPT, announced_bytes, query.edns_flags & _DO, 0)
    return reply if len(reply) <= MAX_REPLY_BYTES else None


def _soa_record(query: PlainQuery, soa: PlainSoa, names: dict[bytes, int] | None, at: int) -> bytes:
    if names is None:
        names = {}
        _note_suffixes(names, query.packet[HEADER_BYTES : query.name_end].lower(), HEADER_BYTES)
    data = _compressed(names, soa.primary, at + 12)
    data += _compressed(names, soa.mailbox, at + 12 + len(data))
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


def _note_suffixes(names: dict[bytes, int], key: bytes, at: int) -> None:
    cut = 0
    while key[cut]:
        names.setdefault(key[cut:], at + cut)
        cut += 1 + key[cut]
