"""The query log: one line for each query, when its answer is on its way."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import dns.exception
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from ..wire.framing import HEADER_BYTES
from ..wire.names import name_to_text
from ..wire.replies import RCODE_MASK, TC
from .request import ReplyPath
from .wrapped_path import WrappedPath

query_log = logging.getLogger("evsvc.dns.query")


class LoggedPath(WrappedPath):
    """The way back of one query, which writes the line: who, how, what, and what came of it."""

    __slots__ = ("_address", "_query")

    def __init__(self, path: ReplyPath, query: bytes, address: Any) -> None:
        super().__init__(path)
        self._query = query
        self._address = address

    def send_reply(self, packet: bytes, address: Any) -> None:
        """Send the reply, and log its rcode and size."""
        flags = int.from_bytes(packet[2:4], "big")
        cut = " TC" if flags & TC else ""
        self._log(f"{dns.rcode.to_text(dns.rcode.Rcode(flags & RCODE_MASK))}{cut} {len(packet)}")
        super().send_reply(packet, address)

    def send_messages(self, messages: Iterator[bytes], address: Any) -> None:
        """Send the messages, and log that they have begun."""
        self._log("NOERROR stream")
        super().send_messages(messages, address)

    def forget_request(self) -> None:
        """Pass it on, and log that there is no answer."""
        self._log("dropped")
        super().forget_request()

    def _log(self, outcome: str) -> None:
        host, port = self._address[:2]
        question = question_text(self._query)
        query_log.info("%s#%d %s %s %s", host, port, self.path.transport, question, outcome)


def question_text(packet: bytes) -> str:
    """Return the first question of a packet as text, "-" where there is none to be read."""
    try:
        name, size = dns.name.from_wire(packet, HEADER_BYTES)
    except (dns.exception.DNSException, IndexError):
        return "-"
    end = HEADER_BYTES + size
    if len(packet) < end + 4:
        return "-"
    rdtype = dns.rdatatype.to_text(
        dns.rdatatype.RdataType.make(int.from_bytes(packet[end : end + 2], "big"))
    )
    rdclass = dns.rdataclass.to_text(
        dns.rdataclass.RdataClass.make(int.from_bytes(packet[end + 2 : end + 4], "big"))
    )
    return f"{name_to_text(name)} {rdclass} {rdtype}"
