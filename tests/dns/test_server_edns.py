"""EDNS options of a DnsServer: cookies, padding, keep-alive, extended errors, the program's own."""

from __future__ import annotations

import socket

import dns.edns
import dns.flags
import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.dns import DnsArgumentError, DnsServerOptions
from evsvc.dns.server.cookies import MAX_AGE_S, CookieMaker
from evsvc.dns.wire.edns import PADDED_BYTES, add_options, is_cookie, split_options
from evsvc.dns.wire.fast import read_plain

CLIENT_COOKIE = b"8 bytes!"


def query(name="www.example.com", rdtype="A", options=(), **kwargs) -> bytes:
    made = [dns.edns.GenericOption(code, data) for code, data in options]
    return dns.message.make_query(name, rdtype, use_edns=0, options=made, **kwargs).to_wire()


def options_of(reply: bytes) -> dict[int, bytes]:
    message = dns.message.from_wire(reply)
    return {int(option.otype): option.to_wire() for option in message.options}


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0, cache_s=60)


def test_a_cookie_is_answered_with_ours_behind_it(make_server, connect) -> None:
    client = connect(make_server(answer_a).bind_udp("127.0.0.1", 0))
    first = options_of(client.ask(query(options=[(10, CLIENT_COOKIE)])))[10]
    assert first[:8] == CLIENT_COOKIE
    assert len(first) == 24
    assert options_of(client.ask(query(options=[(10, first)])))[10] == first


def test_queries_that_differ_by_their_cookies_are_the_same_question(make_server, connect) -> None:
    server = make_server(answer_a)
    client = connect(server.bind_udp("127.0.0.1", 0))
    for cookie in (b"12345678", b"abcdefgh", b"ABCDEFGH"):
        reply = client.ask(query(options=[(10, cookie)]))
        assert options_of(reply)[10][:8] == cookie
        assert dns.message.from_wire(reply).answer[0][0].address == "10.0.0.1"
    assert (server.counters.asked, server.counters.finished) == (1, 2)


def test_without_cookies_no_cookie_is_answered(make_server, connect) -> None:
    server = make_server(answer_a, options=DnsServerOptions(cookies=False))
    client = connect(server.bind_udp("127.0.0.1", 0))
    assert options_of(client.ask(query(options=[(10, CLIENT_COOKIE)]))) == {}


@pytest.mark.parametrize("size", [0, 7, 9, 15, 41])
def test_a_cookie_of_another_length_is_malformed(make_server, connect, size) -> None:
    client = connect(make_server(answer_a).bind_udp("127.0.0.1", 0))
    reply = dns.message.from_wire(client.ask(query(options=[(10, bytes(size))])))
    assert (reply.rcode(), reply.answer) == (1, [])


@pytest.mark.parametrize("size", [8, 16, 40])
def test_a_cookie_of_these_lengths_is_none_the_worse(make_server, connect, size) -> None:
    client = connect(make_server(answer_a).bind_udp("127.0.0.1", 0))
    assert len(options_of(client.ask(query(options=[(10, bytes(size))])))[10]) == 24


def test_a_cookie_counts_for_its_address_and_an_hour() -> None:
    maker = CookieMaker()
    cookie = maker.make(CLIENT_COOKIE, "192.0.2.1", 1000.5)
    assert maker.knows(cookie, "192.0.2.1", 1000.5)
    assert maker.knows(cookie, "192.0.2.1", 1000 + MAX_AGE_S)
    assert not maker.knows(cookie, "192.0.2.1", 1001 + MAX_AGE_S)
    assert not maker.knows(cookie, "192.0.2.1", 999)
    assert not maker.knows(cookie, "192.0.2.2", 1000)
    assert not maker.knows(cookie[:-1] + bytes([cookie[-1] ^ 1]), "192.0.2.1", 1000)
    assert not maker.knows(cookie[:16], "192.0.2.1", 1000)
    assert not CookieMaker().knows(cookie, "192.0.2.1", 1000)


def test_the_program_sees_the_options_and_adds_its_own(make_server, connect) -> None:
    seen = []

    def answer(request, arg) -> None:
        seen.append((request.edns_options, request.has_edns, request.wants_dnssec))
        request.add_edns_option(65001, b"mine")
        request.add_extended_error(15, "blocked")
        request.respond(3, cache_s=60)

    server = make_server(answer)
    client = connect(server.bind_udp("127.0.0.1", 0))
    for _ in range(2):
        reply = client.ask(query(options=[(65002, b"theirs")]))
        assert options_of(reply) == {65001: b"mine", 15: b"\0\x0fblocked"}
        assert dns.message.from_wire(reply).rcode() == 3
    assert seen == [(((65002, b"theirs"),), True, False)] * 2
    reply = client.ask(query(options=[(10, CLIENT_COOKIE)], want_dnssec=True))
    assert set(options_of(reply)) == {10, 15, 65001}
    assert seen[-1] == (((10, CLIENT_COOKIE),), True, True)
    bare = client.ask(dns.message.make_query("www.example.com", "A").to_wire())
    assert dns.message.from_wire(bare).edns == -1
    assert seen[-1] == ((), False, False)


def test_bad_options_are_refused(make_server, connect) -> None:
    refused = []

    def answer(request, arg) -> None:
        for code, data in [(10, b""), (11, b""), (12, b""), (65536, b""), (1, bytes(1021))]:
            try:
                request.add_edns_option(code, data)
            except DnsArgumentError as exc:
                refused.append(str(exc))
        request.add_edns_option(1, bytes(1020))
        request.respond(0)

    client = connect(make_server(answer).bind_udp("127.0.0.1", 0))
    assert options_of(client.ask(query()))[1] == bytes(1020)
    assert len(refused) == 5
    assert "1025" in refused[-1]


def test_a_reply_has_room_for_its_options(make_server, connect) -> None:
    """Records give way to the cookie, and the whole is no longer than the client takes."""

    def answer(request, arg) -> None:
        name = request.questions[0].name
        request.add_a_reply(name, [f"10.0.0.{n}" for n in range(100)], 60)
        request.respond(0)

    client = connect(make_server(answer).bind_udp("127.0.0.1", 0))
    packet = client.ask(query(options=[(10, CLIENT_COOKIE)], payload=1000))
    reply = dns.message.from_wire(packet)
    assert len(packet) <= 1000
    assert reply.flags & dns.flags.TC
    assert 10 in options_of(packet)


def test_keep_alive_is_answered_over_tcp_alone(make_server, connect) -> None:
    server = make_server(answer_a, options=DnsServerOptions(tcp_idle_s=2.5))
    packet = query(options=[(11, b"")])
    assert options_of(connect(server.bind_udp("127.0.0.1", 0)).ask(packet)) == {}
    tcp = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    tcp.ask_all(packet)
    assert options_of(tcp.frames()[0]) == {11: (25).to_bytes(2, "big")}


def test_padding_over_udp_is_not_answered(make_server, connect) -> None:
    client = connect(make_server(answer_a).bind_udp("127.0.0.1", 0))
    assert options_of(client.ask(query(options=[(12, bytes(40))]))) == {}


def test_padding_fills_the_block_or_what_there_is() -> None:
    reply = dns.message.make_query("a.test", "A", use_edns=0).to_wire()
    assert len(add_options(reply, (), pads=True, limit=65535)) == PADDED_BYTES
    assert len(add_options(reply, (), pads=True, limit=100)) == 100
    assert add_options(reply, [(1, bytes(100))], pads=False, limit=100) == reply
    exact = bytes(PADDED_BYTES - len(reply) - 4 - 4)
    assert len(add_options(reply, [(1, exact)], pads=True, limit=65535)) == PADDED_BYTES
    no_edns = dns.message.make_query("a.test", "A").to_wire()
    assert add_options(no_edns, [(1, b"")], pads=True, limit=65535) == no_edns


ASIDE = st.sampled_from([10, 11, 12])
OPTIONS = st.lists(st.tuples(ASIDE, st.binary(max_size=44)), min_size=1, max_size=4)


@pytest.mark.no_cover
@given(OPTIONS, st.sampled_from(["a.test", ".", "b\\.c.test"]))
def test_what_is_split_is_what_dnspython_reads(options, name) -> None:
    """The law of the fast path: the same question, and the same options."""
    packet = query(name, options=options)
    split = split_options(packet)
    if not all(code != 10 or is_cookie(data) for code, data in options):
        assert split is None
        return
    assert split is not None
    bare, found = split
    assert list(found) == options
    assert bare == query(name, id=int.from_bytes(packet[:2], "big"))
    assert (read_plain(bare) is None) == (name == ".")


@pytest.mark.no_cover
@given(st.binary(max_size=80))
def test_no_bytes_break_the_splitting(data) -> None:
    packet = query(options=[(10, CLIENT_COOKIE)])
    for cut in (packet[:12] + data, packet[:-10] + data, packet + data):
        split = split_options(cut)
        if split is not None and read_plain(split[0]) is not None:
            known = dns.message.from_wire(cut).options
            assert [(int(o.otype), o.to_wire()) for o in known] == list(split[1])
