"""What libevent's reference says of the server, and no other file of these tests has shown."""

from __future__ import annotations

import socket
import struct

import dns.flags
import dns.message
import pytest

from evsvc.dns import EVDNS_FLAGS_AA, EVDNS_FLAGS_RD


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


@pytest.mark.parametrize("flags", [0, int(dns.flags.RD), int(dns.flags.CD), 0x0110])
@pytest.mark.parametrize("ready", [False, True])
def test_rd_and_cd_are_the_clients_and_no_others(make_server, connect, flags, ready) -> None:
    def answer(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
        request.respond(0, cache_s=60 if ready else 0)

    client = connect(make_server(answer).bind_udp("127.0.0.1", 0))
    packet = query(flags=0)
    for _ in range(2):
        reply = client.ask(packet[:2] + struct.pack("!H", flags | 0x20) + packet[4:])
        assert struct.unpack("!H", reply[2:4]) == (0x8000 | flags,)


def test_the_flags_that_are_set_last_count(make_server, connect) -> None:
    def answer(request, arg) -> None:
        request.set_flags(EVDNS_FLAGS_AA)
        request.set_flags(EVDNS_FLAGS_RD)
        request.respond(0)

    reply = connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    assert struct.unpack("!H", reply[2:4]) == (0x8180,)


@pytest.mark.parametrize("code", [0, 15])
def test_a_code_reaches_its_limits(make_server, connect, code) -> None:
    port = make_server(lambda request, arg: request.respond(code)).bind_udp("127.0.0.1", 0)
    reply = connect(port).ask(query())
    assert reply[3] & 15 == code


def test_no_name_of_a_long_reply_points_beyond_what_a_pointer_can_say(make_server, connect) -> None:
    """A pointer has 14 bits; libevent writes broken ones behind 16 KiB."""
    names = [f"host{number}.sub{number}.example.com" for number in range(1200)]

    def answer(request, arg) -> None:
        for name in names:
            request.add_cname_reply(f"alias.{name}", name, 60)
        request.respond(0)

    client = connect(make_server(answer).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(query())
    (wire,) = client.frames()
    assert 0x4000 < len(wire) <= 65535
    reply = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert [rrset[0].target.to_text(True) for rrset in reply.answer] == names
    assert not reply.flags & dns.flags.TC


def test_64_addresses_are_cut_over_udp_and_whole_over_tcp(make_server, connect) -> None:
    """In libevent's form, one record for all, they fit; in that of everybody else they do not."""

    def answer(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"] * 64, 60)
        request.respond(0)

    server = make_server(answer)
    udp = connect(server.bind_udp("127.0.0.1", 0))
    reply = dns.message.from_wire(udp.ask(query()), one_rr_per_rrset=True)
    assert reply.flags & dns.flags.TC
    assert len(reply.answer) < 64
    tcp = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    tcp.ask_all(query())
    reply = dns.message.from_wire(tcp.frames()[0], one_rr_per_rrset=True)
    assert not reply.flags & dns.flags.TC
    assert len(reply.answer) == 64


@pytest.mark.parametrize(("extra", "cut"), [(0, False), (1, True)])
def test_a_reply_over_tcp_has_65535_bytes_and_no_more(make_server, connect, extra, cut) -> None:
    fitting = (65535 - len(query())) // 16

    def answer(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"] * (fitting + extra), 60)
        request.respond(0)

    client = connect(make_server(answer).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(query())
    (wire,) = client.frames()
    reply = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert (len(reply.answer), bool(reply.flags & dns.flags.TC)) == (fitting, cut)


def test_replies_over_tcp_come_in_the_order_in_which_they_are_given(make_server, connect) -> None:
    kept: list = []
    port = make_server(lambda request, arg: kept.append(request)).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query(id=1), query(id=2), query(id=3))
    client.frames()
    for request in (kept[2], kept[0], kept[1]):
        request.respond(0)
    assert [dns.message.from_wire(wire).id for wire in client.frames()] == [3, 1, 2]


def test_a_resolvers_callback_may_close_the_server_that_answered(
    make_server, make_resolver, results, base
) -> None:
    def answer(request, arg) -> None:
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
        request.respond(0)

    def close(*args: object) -> None:
        port.close()
        port.close()
        results(*args)

    port = make_server(answer).bind_udp("127.0.0.1", 0)
    resolver = make_resolver()
    resolver.nameserver_sockaddr_add(("127.0.0.1", port.port))
    resolver.resolve_ipv4("www.example.com", 0, close)
    results.wait()
    assert results[0][4] == ["10.0.0.1"]
    assert port.closed
