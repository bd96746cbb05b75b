"""Entirely ordinary answers read by hand: records of one type at the question's own name.

dnspython reads everything else; what it costs is many times what most answers need.  The law of
this file: what it reads, dnspython reads as the same, and whatever is not ordinary it leaves alone,
with None.  Does no I/O.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import TypeAlias

from .framing import HEADER_BYTES

_A, _CNAME, _PTR, _AAAA, _OPT, _IN = 1, 5, 12, 28, 41, 1
_NAMED = (_PTR, _CNAME)
_QR, _AD = 0x8000, 0x0020
_MUST_BE_QR = _QR | 0x7800 | 0x0200 | 0x000F  # with the opcode, TC and the rcode
_OWN_NAME = 0xC000 | HEADER_BYTES  # a pointer to the question's name
_MAX_NAME_BYTES = 255
_HEAD = struct.Struct("!5H")
_RECORD = struct.Struct("!HHHIH")
_OPT_RECORD = struct.Struct("!BHHIH")
_MAX_TTL_S = 0x7FFFFFFF


class _AddressKind:
    """A type of records with an address.

    head: owner, type and class of each;  layout: head, TTL, length and data.
    """

    __slots__ = ("family", "head", "layout", "size")

    def __init__(self, rdtype: int, size: int, family: int) -> None:
        self.family = family
        self.size = size
        self.head = struct.pack("!HHH", _OWN_NAME, rdtype, _IN)
        self.layout = struct.Struct(f"!6sIH{size}s")


_ADDRESSES = {
    _A: _AddressKind(_A, 4, socket.AF_INET),
    _AAAA: _AddressKind(_AAAA, 16, socket.AF_INET6),
}


PlainAnswer: TypeAlias = tuple[int, bool, Sequence[str], Sequence[tuple[bytes, ...]]]
"""What stands at the question's own name: the shortest TTL in seconds, the AD bit, addresses as
text for A and AAAA, names as labels for PTR and CNAME.
"""


def read_plain_answer(packet: bytes, asked: bytes, rdtype: int) -> PlainAnswer | None:
    """Return an ordinary answer to a question, None for any other packet.

    asked: the question as it was sent, name, type and class.  The id is the caller's to judge.
    """
    end = HEADER_BYTES + len(asked)
    if packet[HEADER_BYTES:end] != asked:
        return None
    flags, questions, answers, authorities, additional = _HEAD.unpack_from(packet, 2)
    if flags & _MUST_BE_QR != _QR or questions != 1 or not answers or authorities:
        return None
    addresses: Sequence[str] = ()
    names: Sequence[tuple[bytes, ...]] = ()
    try:
        if rdtype in _NAMED:
            found, ttl_s, end = _read_records(packet, end, answers, rdtype)
            names = [_read_name(packet, at, at + length) for at, length in found]
            if len(names) > 1 and (rdtype == _CNAME or len(set(map(_lowered, names))) < len(names)):
                return None
        else:
            addresses, ttl_s, end = _read_addresses(packet, end, answers, _ADDRESSES[rdtype])
            if len(addresses) > 1 and len(set(addresses)) < len(addresses):
                return None
        if additional and (additional > 1 or not _is_plain_opt(packet, end)):
            return None
    except (ValueError, LookupError, struct.error):
        return None
    return ttl_s, bool(flags & _AD), addresses, names


def _read_addresses(
    packet: bytes, at: int, count: int, kind: _AddressKind
) -> tuple[list[str], int, int]:
    """Return the addresses of all records, the shortest TTL, and where the section ends.

    Raises ValueError or struct.error for what is not ordinary.
    """
    end = at + kind.layout.size * count
    least = _MAX_TTL_S
    addresses = []
    for head, ttl, length, data in kind.layout.iter_unpack(packet[at:end]):
        if head != kind.head or length != kind.size or ttl > _MAX_TTL_S:
            raise ValueError(head)
        if ttl < least:
            least = ttl
        if kind.family == socket.AF_INET6 and data.startswith(bytes(8)):
            raise ValueError(data)  # systems do not agree how such an address is written
        addresses.append(socket.inet_ntop(kind.family, data))
    if len(addresses) != count:
        raise ValueError(end)
    return addresses, least, end


def _read_records(
    packet: bytes, at: int, count: int, rdtype: int
) -> tuple[list[tuple[int, int]], int, int]:
    """Return where the data of each record is, the shortest TTL, and where the section ends.

    Raises ValueError or struct.error for what is not ordinary.
    """
    size = len(packet)
    unpack = _RECORD.unpack_from
    least = _MAX_TTL_S
    found = []
    for _ in range(count):
        owner, kind, rdclass, ttl, length = unpack(packet, at)
        at += 12
        if owner != _OWN_NAME or kind != rdtype or rdclass != _IN or ttl > _MAX_TTL_S:
            raise ValueError(owner)
        if ttl < least:
            least = ttl
        found.append((at, length))
        at += length
        if at > size:
            raise ValueError(at)
    return found, least, at


def _is_plain_opt(packet: bytes, at: int) -> bool:
    root, kind, _, ttl, length = _OPT_RECORD.unpack_from(packet, at)
    return not root and kind == _OPT and not ttl >> 16 and not length


def _read_name(packet: bytes, at: int, end: int) -> tuple[bytes, ...]:
    """Return the labels of a name whose own bytes end at `end`; each pointer leads further back.

    Raises ValueError or IndexError for what is none.
    """
    labels = []
    lowest = at
    total = 0
    pointed = False
    while True:
        length = packet[at]
        if at >= end:  # dnspython reads no further, even where a pointer has led back
            raise ValueError(at)
        if length >= 0xC0:
            if not pointed and at + 2 != end:
                raise ValueError(at)
            pointed = True
            target = (length & 0x3F) << 8 | packet[at + 1]
            if target >= lowest:
                raise ValueError(target)
            lowest = at = target
            continue
        total += 1 + length
        if length > 63 or total > _MAX_NAME_BYTES:
            raise ValueError(length)
        labels.append(packet[at + 1 : at + 1 + length])
        at += 1 + length
        if not length:
            break
    if not pointed and at != end:
        raise ValueError(at)
    return tuple(labels)


def _lowered(labels: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(map(bytes.lower, labels))


def read_gathered_addresses(packet: bytes, asked: bytes, rdtype: int) -> PlainAnswer | None:
    """Return the addresses of a reply that has several in one record, None for any other packet.

    libevent's evdns_server_request_add_a_reply writes all addresses that it is given into the data
    of one record, against RFC 1035 3.4.1, and its own resolver reads them.
    """
    kind = _ADDRESSES.get(rdtype)
    end = HEADER_BYTES + len(asked)
    if kind is None or packet[HEADER_BYTES:end].lower() != asked.lower():
        return None
    flags, _, answers, _, _ = _HEAD.unpack_from(packet, 2)
    try:
        found, ttl_s, _ = _read_records(packet, end, answers, rdtype)
    except (ValueError, struct.error):
        return None
    addresses: dict[str, None] = {}
    for at, length in found:
        if length % kind.size:
            return None
        for each in range(at, at + length, kind.size):
            addresses[socket.inet_ntop(kind.family, packet[each : each + kind.size])] = None
    return (ttl_s, bool(flags & _AD), tuple(addresses), ()) if addresses else None
