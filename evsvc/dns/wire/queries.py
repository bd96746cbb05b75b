"""Queries as a server reads them, and the replies that need no program.  Does no I/O.

Where libevent drops what is wrong, the RFCs want an answer: FORMERR for a query that cannot be
read (RFC 1035 4.1.1) or has not exactly one question (RFC 9619), NOTIMP for any opcode but QUERY,
BADVERS for an EDNS version but 0 (RFC 6891 6.1.3).  Only what claims to be a reply, or has no
whole header, gets none: answering that could start a loop between servers.
"""

from __future__ import annotations

import struct

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from .framing import HEADER_BYTES
from .replies import OPCODE_MASK, QR

MAX_LABEL_BYTES = 63
MAX_NAME_BYTES = 255

_HEADER = struct.Struct("!6H")
_OPT = struct.Struct("!BHHBBHH")  # RFC 6891 6.1.2: root, type, size, rcode, version, flags, length
_RD_CD = dns.flags.RD | dns.flags.CD


def read_query(packet: bytes, limit_bytes: int) -> dns.message.Message | dns.rcode.Rcode | None:
    """Return the query; or the rcode to refuse it with; or None when it deserves no answer."""
    if len(packet) < HEADER_BYTES:
        return None
    flags = int.from_bytes(packet[2:4], "big")
    if flags & QR:
        return None
    if flags & OPCODE_MASK:
        return dns.rcode.NOTIMP
    if len(packet) > limit_bytes:
        return dns.rcode.FORMERR
    try:
        query = dns.message.from_wire(packet, keyring=False)
    except dns.exception.DNSException:
        return dns.rcode.FORMERR
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    return dns.rcode.BADVERS if query.edns > 0 else query


def build_refusal(packet: bytes, rcode: dns.rcode.Rcode, udp_bytes: int) -> bytes:
    """Return the reply to a query that could not be read, or not be served.

    It repeats the first question, if that much can be read: clients take a bare header for
    nobody's answer.  BADVERS is an extended rcode, so it takes an OPT record along, which
    announces `udp_bytes`.
    """
    query_id, flags, count = struct.unpack_from("!3H", packet)
    copied = flags & (OPCODE_MASK | _RD_CD)
    question = _first_question(packet) if count else b""
    extended = rcode == dns.rcode.BADVERS
    head = _HEADER.pack(
        query_id, QR | copied | rcode & 0xF, 1 if question else 0, 0, 0, 1 if extended else 0
    )
    opt = _OPT.pack(0, dns.rdatatype.OPT, udp_bytes, rcode >> 4, 0, 0, 0) if extended else b""
    return head + question + opt


def _first_question(packet: bytes) -> bytes:
    """Return the first question's bytes; nothing if it is cut, or points elsewhere."""
    at = HEADER_BYTES
    while at < len(packet) and packet[at]:
        if packet[at] > MAX_LABEL_BYTES:
            return b""
        at += 1 + packet[at]
    end = at + 5  # the root's label, type and class
    if end > len(packet) or at + 1 - HEADER_BYTES > MAX_NAME_BYTES:
        return b""
    return packet[HEADER_BYTES:end]


def start_reply(query: dns.message.Message, flags: int, udp_bytes: int) -> dns.message.Message:
    """Return a reply without records: same id and question, RD and CD copied, and EDNS answered."""
    reply = dns.message.QueryMessage(id=query.id)
    reply.flags = dns.flags.Flag(QR | (query.flags & _RD_CD) | flags)
    reply.question = query.question
    if query.edns >= 0:
        reply.use_edns(0, query.ednsflags & dns.flags.DO, payload=udp_bytes)
    return reply
