"""The PROXY protocol, versions 1 and 2: whose connection it is that a proxy passes on.

Source: HAProxy's proxy-protocol.txt.  A header stands before all else on a connection, once.  Does
no I/O, and takes not a byte behind the header.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from ..errors import RemoteProtocolError

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

MAX_LINE_BYTES: Final = 107
"""Of version 1, CRLF included: no line that is right is longer."""

MAX_V2_BYTES: Final = 4096
"""Of version 2 behind its first 16 bytes; it could say 65,535."""

_V1: Final = b"PROXY "
_LINE: Final = re.compile(
    rb"PROXY (?:(TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39})"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})|UNKNOWN(?: [^\r\n]*)?)\r\n"
)
_MOST_PORT: Final = 0xFFFF

# Family and transport of version 2, and the bytes that their two addresses take.
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2
_ADDRESS_BYTES: Final = {_UNSPEC: 0, _INET: 12, _INET6: 36, _UNIX: 216}

PP2_TYPE_ALPN: Final = 0x01
PP2_TYPE_AUTHORITY: Final = 0x02
PP2_TYPE_CRC32C: Final = 0x03
PP2_TYPE_NOOP: Final = 0x04
PP2_TYPE_UNIQUE_ID: Final = 0x05
PP2_TYPE_SSL: Final = 0x20
PP2_TYPE_NETNS: Final = 0x30


class ProxyHeader(NamedTuple):
    """What a proxy says of a connection.

    version: 1 or 2.  source, destination: the client's (address, port), and where it connected to;
    ("", 0) for a Unix socket; None where nothing is told, and the connection speaks for itself:
    a health check of the proxy's own (LOCAL), UNKNOWN, UNSPEC.  tlvs: type and value of what else
    is said, such as (PP2_TYPE_AUTHORITY, b"example.org").
    """

    version: int
    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    tlvs: tuple[tuple[int, bytes], ...] = ()

    def tlv(self, kind: int) -> bytes | None:
        """Return the value of the first TLV of a type, or None."""
        return next((value for key, value in self.tlvs if key == kind), None)


class ProxyHeaderReader:
    """Reads one header.  header: it, once it is whole."""

    __slots__ = ("_data", "header")

    def __init__(self) -> None:
        self._data = bytearray()
        self.header: ProxyHeader | None = None

    def receive(self, data: bytes) -> int:
        """Take what of `data` belongs to the header; return how many bytes those are.

        Raises RemoteProtocolError as soon as it is no header, one that is too long, or one that
        tells of something other than a stream.
        """
        taken = 0
        while self.header is None and taken < len(data):
            size = self._next(data, taken)
            self._data += data[taken : taken + size]
            taken += size
            self._judge()
        return taken

    def _next(self, data: bytes, start: int) -> int:
        """Return how many of the bytes from `start` on are to be taken in one step."""
        have = len(self._data)
        if have < len(SIGNATURE):  # one by one, as the first that differ tell that it is none
            seen = bytes(self._data) + data[start : start + 1]
            if SIGNATURE.startswith(seen) or _V1.startswith(seen[: len(_V1)]):
                return 1
            raise RemoteProtocolError(f"not a header of the PROXY protocol: {seen!r}")
        if self._data.startswith(SIGNATURE):
            return min(16 - have if have < 16 else self._v2_size() - have, len(data) - start)
        end = data.find(b"\n", start)
        return (len(data) if end < 0 else end + 1) - start

    def _judge(self) -> None:
        data = self._data
        if data.startswith(_V1):
            if data.endswith(b"\n"):
                self.header = _read_line(bytes(data))
            elif len(data) >= MAX_LINE_BYTES:
                raise RemoteProtocolError("the line of the PROXY protocol is too long")
        elif len(data) >= 16 and len(data) == self._v2_size():
            self.header = _read_v2(bytes(data))

    def _v2_size(self) -> int:
        size = int.from_bytes(self._data[14:16])
        if size > MAX_V2_BYTES:
            raise RemoteProtocolError(f"a header of the PROXY protocol of {size} bytes")
        return 16 + size


def _read_line(line: bytes) -> ProxyHeader:
    found = _LINE.fullmatch(line)
    if found is None or len(line) > MAX_LINE_BYTES:
        raise RemoteProtocolError(f"not a line of the PROXY protocol: {line[:MAX_LINE_BYTES]!r}")
    if found[1] is None:
        return ProxyHeader(1, None, None)
    address_of = IPv4Address if found[1] == b"TCP4" else IPv6Address
    try:
        addresses = [str(address_of(found[index].decode())) for index in (2, 3)]
    except ValueError as exc:
        raise RemoteProtocolError(f"the PROXY protocol tells no address: {line!r}") from exc
    ports = [int(found[index]) for index in (4, 5)]
    if max(ports) > _MOST_PORT:
        raise RemoteProtocolError(f"the PROXY protocol tells no port: {line!r}")
    return ProxyHeader(1, (addresses[0], ports[0]), (addresses[1], ports[1]))


def _read_v2(data: bytes) -> ProxyHeader:
    version, command = data[12] >> 4, data[12] & 0xF
    family, transport = data[13] >> 4, data[13] & 0xF
    if version != 2 or command > 1:
        raise RemoteProtocolError(f"version {version} of the PROXY protocol, command {command}")
    if command == 0:  # LOCAL: whatever else it says counts for nothing
        return ProxyHeader(2, None, None)
    if family not in _ADDRESS_BYTES or transport > _DGRAM:
        raise RemoteProtocolError(f"the PROXY protocol tells of a family {data[13]:#04x}")
    if transport == _DGRAM:
        raise RemoteProtocolError("the PROXY protocol tells of datagrams")
    size = _ADDRESS_BYTES[family]
    if len(data) < 16 + size:
        raise RemoteProtocolError("the PROXY protocol tells addresses that are cut off")
    tlvs = _read_tlvs(data, 16 + size)
    if transport != _STREAM or family == _UNSPEC:
        return ProxyHeader(2, None, None, tlvs)
    if family == _UNIX:
        return ProxyHeader(2, ("", 0), ("", 0), tlvs)
    return ProxyHeader(2, *_read_addresses(data, family), tlvs)


def _read_addresses(data: bytes, family: int) -> tuple[tuple[str, int], tuple[str, int]]:
    if family == _INET:
        one, other, port, other_port = struct.unpack_from("!4s4sHH", data, 16)
        return (str(IPv4Address(one)), port), (str(IPv4Address(other)), other_port)
    one, other, port, other_port = struct.unpack_from("!16s16sHH", data, 16)
    return (str(IPv6Address(one)), port), (str(IPv6Address(other)), other_port)


def _read_tlvs(data: bytes, start: int) -> tuple[tuple[int, bytes], ...]:
    tlvs = []
    while start < len(data):
        end = start + 3 + int.from_bytes(data[start + 1 : start + 3])
        if start + 3 > len(data) or end > len(data):
            raise RemoteProtocolError("the PROXY protocol has a TLV that is cut off")
        if data[start] == PP2_TYPE_CRC32C:
            _check_sum(data, start + 3, end)
        tlvs.append((data[start], data[start + 3 : end]))
        start = end
    return tuple(tlvs)


def _check_sum(data: bytes, start: int, end: int) -> None:
    """Compare the checksum, which was computed with zeros in its place."""
    right = crc32c(data[:start] + bytes(end - start) + data[end:])
    if end - start != 4 or int.from_bytes(data[start:end]) != right:
        raise RemoteProtocolError("the checksum of the PROXY protocol's header is wrong")


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of some bytes; bit by bit, as headers are short."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
