"""Queries that a DnsServer answers without its callback, and those it ignores."""

from __future__ import annotations

import socket
import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from evsvc.dns import DnsServerOptions


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


def refuse_to_be_called(request, arg) -> None:
    raise AssertionError("the callback must not see this")


def with_count(packet: bytes, section: int, count: int) -> bytes:
    at = 4 + 2 * section
    return packet[:at] + struct.pack("!H", count) + packet[at + 2 :]


def with_opcode(opcode: int) -> bytes:
    packet = query(rdtype="SOA")  # what dnspython reads in an UPDATE, too
    return packet[:2] + bytes([packet[2] | opcode << 3]) + packet[3:]


def two_opts() -> bytes:
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    return with_count(query() + opt + opt, 3, 2)


def with_type(number: int) -> bytes:
    return query()[:-4] + struct.pack("!HH", number, 1)


REFUSED = {
    "no question": (with_count(query(), 0, 0)[:12], dns.rcode.FORMERR),
    "two questions": (with_count(query() + query()[12:], 0, 2), dns.rcode.FORMERR),
    "a question cut": (query()[:-1], dns.rcode.FORMERR),
    "a header alone": (query()[:12], dns.rcode.FORMERR),
    "trailing bytes": (query() + b"x", dns.rcode.FORMERR),
    "an answer cut": (with_count(query(), 1, 1), dns.rcode.FORMERR),
    "two OPT records": (two_opts(), dns.rcode.FORMERR),
    "a name that points at itself": (query()[:12] + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
    "NOTIFY": (with_opcode(4), dns.rcode.NOTIMP),
    "UPDATE": (with_opcode(5), dns.rcode.NOTIMP),
    "opcode 15": (with_opcode(15), dns.rcode.NOTIMP),
    "EDNS version 1": (query(use_edns=1), dns.rcode.BADVERS),
    "class CH": (query(rdclass="CH"), dns.rcode.REFUSED),
    "class ANY": (query(rdclass="ANY"), dns.rcode.REFUSED),
    "type 0": (query(rdtype=0), dns.rcode.REFUSED),
    "type OPT": (query(rdtype="OPT"), dns.rcode.REFUSED),
    "type TSIG": (query(rdtype="TSIG"), dns.rcode.REFUSED),
    "AXFR over UDP": (query(rdtype="AXFR"), dns.rcode.REFUSED),
    "IXFR over UDP": (with_type(251), dns.rcode.REFUSED),
}
UNREADABLE = {
    "no question",
    "a question cut",
    "a header alone",
    "a name that points at itself",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_query_gets_its_rcode(make_server, connect, case) -> None:
    packet, rcode = REFUSED[case]
    port = make_server(refuse_to_be_called).bind_udp("127.0.0.1", 0)
    reply = dns.message.from_wire(connect(port).ask(packet))
    assert reply.rcode() == rcode
    assert [str(asked.name) for asked in reply.question] == (
        [] if case in UNREADABLE else ["www.example.com."]
    )
    assert packet[:2] == struct.pack("!H", reply.id)
    assert reply.flags & dns.flags.QR
    assert reply.opcode() == dns.opcode.from_flags(struct.unpack("!H", packet[2:4])[0])


def as_reply() -> bytes:
    packet = query()
    return packet[:2] + bytes([packet[2] | 0x80]) + packet[3:]


@pytest.mark.parametrize("packet", [b"", query()[:11], as_reply(), as_reply()[:12]])
def test_a_reply_or_half_a_header_gets_no_answer(make_server, connect, packet) -> None:
    port = make_server(refuse_to_be_called).bind_udp("127.0.0.1", 0)
    assert connect(port).ask(packet) is None


@pytest.mark.parametrize(("size", "rcode"), [(600, dns.rcode.NOERROR), (601, dns.rcode.FORMERR)])
def test_a_query_beyond_query_bytes_is_refused(make_server, connect, size, rcode) -> None:
    port = make_server(answer_a, options=DnsServerOptions(query_bytes=600)).bind_udp("127.0.0.1", 0)
    bare = len(query(use_edns=0, options=[dns.edns.GenericOption(65001, b"")]))
    padding = dns.edns.GenericOption(65001, bytes(size - bare))
    packet = query(use_edns=0, options=[padding])
    assert len(packet) == size
    assert dns.message.from_wire(connect(port).ask(packet)).rcode() == rcode


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR"])
def test_a_zone_transfer_over_tcp_reaches_the_callback(make_server, connect, rdtype) -> None:
    client = connect(make_server(answer_a).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(with_type(dns.rdatatype.from_text(rdtype)))
    assert dns.message.from_wire(client.frames()[0]).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    ("option", "packet"),
    [
        ("any_class", query(rdclass="CH")),
        ("any_type", query(rdtype=0)),
        ("any_type", query(rdtype="OPT")),
        ("any_type", query(rdtype="AXFR")),
    ],
)
def test_a_program_may_ask_for_unusual_questions(make_server, connect, option, packet) -> None:
    options = DnsServerOptions(**{option: True})
    port = make_server(answer_a, options=options).bind_udp("127.0.0.1", 0)
    assert dns.message.from_wire(connect(port).ask(packet)).rcode() == dns.rcode.NOERROR
