"""For how long a whole reply may be repeated, read off its bytes.  Does no I/O."""

from __future__ import annotations

import struct

from .framing import HEADER_BYTES
from .replies import RCODE_MASK

_POINTER = 0xC0
_RECORD = struct.Struct("!HHIH")
_SOA = 6
_NXDOMAIN = 3


def lifetime_of(reply: bytes) -> int:
    """Return the shortest TTL of a reply's answers; of the SOA record where there are none.

    0 for a reply without either, for one that tells of a failure, and for one that is not whole.
    """
    if len(reply) < HEADER_BYTES or reply[3] & RCODE_MASK not in (0, _NXDOMAIN):
        return 0
    questions, answers, authorities = struct.unpack_from("!3H", reply, 4)
    ttls = []
    try:
        at = HEADER_BYTES
        for _ in range(questions):
            at = _skip_name(reply, at) + 4
        for _ in range(answers or authorities):
            at = _skip_name(reply, at)
            rdtype, _, ttl, length = _RECORD.unpack_from(reply, at)
            at += _RECORD.size + length
            if at > len(reply):
                return 0
            if answers or rdtype == _SOA:
                ttls.append(ttl)
    except (IndexError, struct.error):
        return 0
    return min(ttls, default=0)


def _skip_name(packet: bytes, at: int) -> int:
    while length := packet[at]:
        if length >= _POINTER:
            return at + 2
        at += 1 + length
    return at + 1
