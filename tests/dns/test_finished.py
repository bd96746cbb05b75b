"""Replies that are kept: sent again to the same question, and only to that."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.rdatatype
import pytest

from evsvc.dns import DnsArgumentError, DnsServerOptions
from evsvc.dns.server.finished import KEPT_HEADS, FinishedReplies, heads_for
from evsvc.dns.wire.fast import read_plain


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def server(make_server, asked):
    """A server whose replies count for 60 seconds, with their number as address."""

    def answer(request, arg) -> None:
        question = request.questions[0]
        asked.append(question.name)
        request.set_flags(0x400)
        if question.type == 1:
            request.add_a_reply(question.name, [f"10.0.0.{len(asked)}"], 60)
        request.respond(0, cache_s=60)

    return make_server(answer, options=DnsServerOptions(finished_replies=2))


def test_the_same_question_is_answered_without_a_call(server, connect, asked) -> None:
    client = connect(server.bind_udp("127.0.0.1", 0))
    first = client.ask(query(id=1))
    again = client.ask(query(id=2))
    assert asked == ["www.example.com"]
    assert again == b"\0\2" + first[2:]


def test_id_flags_and_letters_are_the_clients_own(server, connect, asked) -> None:
    client = connect(server.bind_udp("127.0.0.1", 0))
    client.ask(query())
    packet = bytearray(query("wWw.EXAMPLE.com", id=77))
    for flags in (0, dns.flags.RD, dns.flags.CD, dns.flags.RD | dns.flags.CD | dns.flags.AD):
        packet[2:4] = int(flags).to_bytes(2, "big")
        reply = dns.message.from_wire(client.ask(bytes(packet)))
        assert reply.id == 77
        assert reply.question[0].name.labels[0] == b"wWw"
        copied = flags & (dns.flags.RD | dns.flags.CD)
        assert reply.flags == dns.flags.QR | dns.flags.AA | copied
        assert str(reply.answer[0]) == "wWw.EXAMPLE.com. 60 IN A 10.0.0.1"
    assert len(asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        query("ww.example.com"),
        query(rdtype="AAAA"),
        query(use_edns=0),
        query(want_dnssec=True),
        query()[:2] + b"\x09" + query()[3:],  # opcode 1
        query()[:2] + b"\x81" + query()[3:],  # a reply
        query() + b"x",
    ],
)
def test_another_packet_does_not_get_it(server, connect, other) -> None:
    client = connect(server.bind_udp("127.0.0.1", 0))
    first = client.ask(query())
    assert (client.ask(other) or b"")[2:] != first[2:]


def test_types_whose_numbers_are_letters_are_not_mixed_up() -> None:
    """Type 65, HTTPS, is the letter A, and 97 is a."""
    finished = FinishedReplies(10)
    packets = [query(id=1)[:-4] + bytes([0, number, 0, 1]) for number in (65, 97)]
    finished.keep(read_plain(packets[0]), packets[0], 1.0)
    assert finished.find(packets[0], 0.0) is not None
    assert finished.find(packets[1], 0.0) is None


def test_a_reply_counts_for_its_time(server, connect, asked, clock) -> None:
    client = connect(server.bind_udp("127.0.0.1", 0))
    client.ask(query())
    clock.advance(59.9)
    client.ask(query())
    assert len(asked) == 1
    clock.advance(0.2)
    client.turn()
    client.ask(query())
    assert len(asked) == 2


def test_flush_finished_forgets_all(server, connect, asked) -> None:
    client = connect(server.bind_udp("127.0.0.1", 0))
    client.ask(query())
    server.flush_finished()
    client.ask(query())
    assert len(asked) == 2


def test_the_least_lately_used_goes_beyond_finished_replies(server, connect, asked) -> None:
    client = connect(server.bind_udp("127.0.0.1", 0))
    for name in ("a.test", "b.test", "a.test", "c.test", "a.test", "b.test"):
        client.ask(query(name))
    assert asked == ["a.test", "b.test", "c.test", "b.test"]


def test_a_cut_reply_is_not_kept(make_server, connect) -> None:
    asked = []

    def answer(request, arg) -> None:
        asked.append(request)
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"] * 100, 60)
        request.respond(0, cache_s=60)

    server = make_server(answer)
    udp = connect(server.bind_udp("127.0.0.1", 0))
    tcp = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    assert dns.message.from_wire(udp.ask(query())).flags & dns.flags.TC
    tcp.ask_all(query())
    assert not dns.message.from_wire(tcp.frames()[0]).flags & dns.flags.TC
    assert dns.message.from_wire(udp.ask(query())).flags & dns.flags.TC
    assert len(asked) == 3


@pytest.mark.parametrize(("records", "times"), [(30, 1), (31, 3)])
def test_a_reply_over_tcp_is_kept_when_it_fits_into_a_datagram(
    make_server, connect, records, times
) -> None:
    asked = []

    def answer(request, arg) -> None:
        asked.append(request)
        addresses = [f"10.0.0.{n}" for n in range(records)]
        request.add_a_reply(request.questions[0].name, addresses, 60)
        request.respond(0, cache_s=60)

    server = make_server(answer)
    udp = connect(server.bind_udp("127.0.0.1", 0))
    tcp = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    packet = query("a.test")  # 24 bytes, and 16 for each record
    for _ in range(2):
        tcp.ask_all(packet)
        assert len(tcp.frames()[0]) == 24 + 16 * records
    assert len(udp.ask(packet)) <= 512
    assert len(asked) == times


@pytest.mark.parametrize("cache_s", [-1, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_refused(make_server, connect, cache_s) -> None:
    refused = []

    def answer(request, arg) -> None:
        try:
            request.respond(0, cache_s=cache_s)
        except DnsArgumentError:
            refused.append(cache_s)
            request.respond(0)

    assert connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    assert len(refused) == 1


@pytest.mark.parametrize(("others", "is_same"), [(KEPT_HEADS - 1, True), (KEPT_HEADS, False)])
def test_replies_of_a_kind_share_their_heads_until_others_have_come(others, is_same) -> None:
    first = heads_for(bytes(10))
    for number in range(1, others + 1):
        heads_for(number.to_bytes(10, "big"))
    assert (heads_for(bytes(10)) is first) == is_same
