"""The header of the PROXY protocol: what is one, what it tells, and where it ends."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.http import ProxyHeader, RemoteProtocolError
from evsvc.http.wire.proxy_protocol import (
    MAX_LINE_BYTES,
    MAX_V2_BYTES,
    PP2_TYPE_AUTHORITY,
    PP2_TYPE_CRC32C,
    PP2_TYPE_NOOP,
    SIGNATURE,
    ProxyHeaderReader,
    crc32c,
)

V4 = struct.pack("!4B4BHH", 192, 0, 2, 1, 198, 51, 100, 2, 1234, 443)
V6 = bytes.fromhex("20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02") + struct.pack(
    "!HH", 1234, 443
)


def v2(command: int = 0x21, family: int = 0x11, rest: bytes = V4) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def read(data: bytes) -> tuple[ProxyHeader | None, int]:
    reader = ProxyHeaderReader()
    taken = reader.receive(data)
    return reader.header, taken


LINES = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1234 443\r\n": (
        ("192.0.2.1", 1234),
        ("198.51.100.2", 443),
    ),
    b"PROXY TCP6 2001:db8::1 2001:DB8::2 0 65535\r\n": (("2001:db8::1", 0), ("2001:db8::2", 65535)),
    b"PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n": (("::ffff:1.2.3.4", 1), ("::1", 2)),
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN whatever else 1 2 3\r\n": (None, None),
    b"PROXY UNKNOWN " + b"x" * (MAX_LINE_BYTES - 16) + b"\r\n": (None, None),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_tells_both_ends(line) -> None:
    source, destination = LINES[line]
    expected = ProxyHeader(1, source, destination)
    if source is not None:
        expected = ProxyHeader(1, *(tuple_of(end) for end in (source, destination)))
    header, taken = read(line + b"GET / HTTP/1.1\r\n")
    assert taken == len(line)
    assert header == expected


def tuple_of(end: tuple[str, int]) -> tuple[str, int]:
    """Addresses are given in their usual form."""
    return str(ipaddress.ip_address(end[0])), end[1]


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY",
        b"PROXX ",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        b"PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.04 1 2\r\n",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UNKNOWN a\rb\r\n",
        b"PROXY UNKNOWN " + b"x" * (MAX_LINE_BYTES - 15) + b"\r\n",
        b"PROXY UNKNOWN " + b"x" * MAX_LINE_BYTES,
    ],
)
def test_what_is_no_line_is_refused(line) -> None:
    if line == b"PROXY":
        line += b"\r\n"
    with pytest.raises(RemoteProtocolError):
        read(line)


class TestVersion2:
    def test_it_tells_both_ends(self) -> None:
        header, taken = read(v2() + b"GET")
        assert taken == 28
        assert header == (2, ("192.0.2.1", 1234), ("198.51.100.2", 443), ())
        header, taken = read(v2(family=0x21, rest=V6) + b"\x16\x03\x01")
        assert taken == 52
        assert header == (2, ("2001:db8::1", 1234), ("2001:db8::2", 443), ())

    def test_a_unix_sockets_ends_have_no_address(self) -> None:
        assert read(v2(family=0x31, rest=bytes(216)))[0] == (2, ("", 0), ("", 0), ())

    @pytest.mark.parametrize(
        "data",
        [
            v2(command=0x20),
            v2(command=0x20, family=0x00, rest=b""),
            v2(command=0x20, family=0x12),
            v2(command=0x20, family=0xFF, rest=b"x" * 100),
            v2(family=0x00, rest=b""),
            v2(family=0x00, rest=tlv(PP2_TYPE_NOOP, b"abc")),
            v2(family=0x10),
        ],
    )
    def test_local_and_unspec_tell_of_nobody(self, data) -> None:
        header, taken = read(data + b"behind")
        assert taken == len(data)
        assert header is not None
        assert (header.source, header.destination) == (None, None)

    def test_it_may_say_more(self) -> None:
        rest = (
            V4 + tlv(PP2_TYPE_AUTHORITY, b"example.org") + tlv(PP2_TYPE_NOOP, b"") + tlv(0xE0, b"x")
        )
        header, _ = read(v2(rest=rest))
        assert header is not None
        assert header.tlvs == ((2, b"example.org"), (4, b""), (0xE0, b"x"))
        assert header.tlv(PP2_TYPE_AUTHORITY) == b"example.org"
        assert header.tlv(0x20) is None

    @pytest.mark.parametrize(
        "data",
        [
            v2(command=0x11),
            v2(command=0x31),
            v2(command=0x22),
            v2(family=0x12),  # datagrams
            v2(family=0x22, rest=V6),
            v2(family=0x32, rest=bytes(216)),
            v2(family=0x13),
            v2(family=0x41),
            v2(rest=V4[:-1]),
            v2(family=0x21, rest=V6[:-1]),
            v2(family=0x31, rest=bytes(215)),
            v2(rest=V4 + b"\x01"),
            v2(rest=V4 + b"\x01\x00"),
            v2(rest=V4 + tlv(1, b"abc")[:-1]),
            v2(rest=V4 + tlv(PP2_TYPE_CRC32C, bytes(4))),
            v2(rest=V4 + tlv(PP2_TYPE_CRC32C, bytes(3))),
            SIGNATURE[:-1] + b"X" + v2()[12:],
        ],
    )
    def test_what_is_none_is_refused(self, data) -> None:
        with pytest.raises(RemoteProtocolError):
            read(data)

    def test_a_right_checksum_is_taken(self) -> None:
        zeros = v2(rest=V4 + tlv(4, b"abc") + tlv(PP2_TYPE_CRC32C, bytes(4)) + tlv(4, b""))
        place = zeros.index(b"\x03\x00\x04") + 3
        data = zeros[:place] + crc32c(zeros).to_bytes(4) + zeros[place + 4 :]
        header, _ = read(data)
        assert header is not None
        assert header.source == ("192.0.2.1", 1234)

    def test_a_header_of_the_most_bytes_and_one_more(self) -> None:
        fits = v2(rest=V4 + tlv(4, bytes(MAX_V2_BYTES - len(V4) - 3)))
        assert read(fits)[1] == len(fits)
        with pytest.raises(RemoteProtocolError, match=str(MAX_V2_BYTES + 1)):
            read(v2(rest=V4 + tlv(4, bytes(MAX_V2_BYTES - len(V4) - 2))))

    def test_one_that_is_too_long_is_refused_before_it_has_come(self) -> None:
        with pytest.raises(RemoteProtocolError):
            read(v2(rest=bytes(65535))[:16])


def test_the_checksum_is_castagnolis() -> None:
    """The check value of the catalogues."""
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("data", [v2(), next(iter(LINES))])
def test_it_may_come_in_pieces_and_nothing_behind_it_is_taken(data) -> None:
    for size in range(1, len(data)):
        reader = ProxyHeaderReader()
        rest = data + b"behind"
        while reader.header is None:
            taken = reader.receive(rest[:size])
            assert taken
            rest = rest[taken:]
        assert rest == b"behind"
        assert reader.receive(rest) == 0


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda rest: v2(rest=rest))))
def test_whatever_comes_is_a_header_or_a_fault(data) -> None:
    reader = ProxyHeaderReader()
    try:
        taken = reader.receive(data)
    except RemoteProtocolError:
        return
    assert taken == len(data) or reader.header is not None
