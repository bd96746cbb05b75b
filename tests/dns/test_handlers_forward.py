"""A forwarder: what a resolver finds is answered, with care for what cannot be."""

from __future__ import annotations

from types import SimpleNamespace

import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import pytest

from evsvc.core import EVLOOP_ONCE
from evsvc.dns import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_REFUSED,
    DNS_ERR_TIMEOUT,
    Answer,
    DnsArgumentError,
    DnsForwarder,
    DnsZone,
    ForwardOptions,
    Record,
)
from evsvc.dns.handlers.forward import data_to_wire
from evsvc.dns.wire.names import name_to_text
from evsvc.dns.wire.records import data_of


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


class FakeResolver:
    """Keeps what it is asked; the test answers."""

    def __init__(self) -> None:
        self.asked = []
        self.waiting = []

    def query(self, name, rdtype, cb, arg=None, *, flags=0, timeout_s=None) -> None:
        self.asked.append((name, rdtype, flags, timeout_s))
        self.waiting.append((cb, arg))

    def answer(self, answer: Answer) -> None:
        cb, arg = self.waiting.pop(0)
        cb(answer, arg)


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver()


@pytest.fixture
def exchange(make_server, connect, resolver):
    """Return `exchange(packet, answer)`: the reply when the resolver has found that."""
    client = connect(make_server(DnsForwarder(resolver)).bind_udp("127.0.0.1", 0))

    def exchange(packet: bytes, answer: Answer) -> dns.message.Message:
        client.ask(packet)
        resolver.answer(answer)
        return dns.message.from_wire(client.receive())

    return exchange


FOUND = Answer(
    DNS_ERR_NONE, (Record("www.example.com", 1, 300, "192.0.2.1"),), 77, "www.example.com"
)


def test_what_is_found_is_answered(exchange, resolver) -> None:
    reply = exchange(query("wWw.example.com"), FOUND)
    assert resolver.asked == [("wWw.example.com", 1, 1, 4.5)]
    assert reply.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert str(reply.answer[0]) == "wWw.example.com. 77 IN A 192.0.2.1"


def test_an_alias_is_answered_with_its_end(exchange) -> None:
    records = (Record("real.test", 1, 300, "192.0.2.1"), Record("real.test", 1, 300, "192.0.2.2"))
    reply = exchange(query(), Answer(DNS_ERR_NONE, records, 5, "real.test", is_alias=True))
    assert [str(rrset) for rrset in reply.answer] == [
        "www.example.com. 5 IN CNAME real.test.",
        "real.test. 5 IN A 192.0.2.1\nreal.test. 5 IN A 192.0.2.2",
    ]


def test_absence_is_answered_as_such(exchange) -> None:
    reply = exchange(query(), Answer(DNS_ERR_NOTEXIST, ttl_s=5))
    assert (reply.rcode(), reply.answer) == (dns.rcode.NXDOMAIN, [])


def test_an_absence_comes_with_the_zones_soa_so_that_it_may_be_kept(
    make_server, make_resolver, base
) -> None:
    """From a zone of ours, by a resolver, to whoever asks the forwarder; and from its cache."""
    zone = DnsZone.from_text(
        "$ORIGIN zone.test.\n@ 900 SOA ns mail 1 2 3 4 60\n@ NS ns\nns A 192.0.2.1\n"
    )
    upstream = make_server(zone).bind_udp("127.0.0.1", 0)
    resolver = make_resolver(SimpleNamespace(address=("127.0.0.1", upstream.port)))
    forwarder = make_server(DnsForwarder(resolver)).bind_udp("127.0.0.1", 0)
    behind = make_resolver(SimpleNamespace(address=("127.0.0.1", forwarder.port)))
    for _ in range(2):
        found: list[Answer] = []
        for name, rdtype in (("none.zone.test", "A"), ("ns.zone.test", "AAAA")):
            behind.query(name, rdtype, lambda answer, arg, found=found: found.append(answer))
        while len(found) < 2:
            base.loop(EVLOOP_ONCE)
        assert {answer.result for answer in found} == {DNS_ERR_NOTEXIST, DNS_ERR_NODATA}
        for answer in found:
            assert 0 < answer.ttl_s <= 60
            assert answer.soa is not None
            assert answer.soa.name == "zone.test"
            assert answer.soa.data.serial == 1


@pytest.mark.parametrize("result", [DNS_ERR_TIMEOUT, DNS_ERR_REFUSED])
def test_a_failure_is_servfail_and_says_why(exchange, result) -> None:
    reply = exchange(query(use_edns=0), Answer(result))
    assert reply.rcode() == dns.rcode.SERVFAIL
    (error,) = reply.options
    assert error.code == 22
    assert error.text in ("request timed out", "refused")


@pytest.mark.parametrize(
    ("kwargs", "authentic", "told"),
    [
        ({"flags": 0x120}, True, True),
        ({"flags": 0x100, "want_dnssec": True}, True, True),
        ({"flags": 0x100}, True, False),
        ({"flags": 0x120}, False, False),
    ],
)
def test_ad_is_told_to_who_understands_it(exchange, kwargs, authentic, told) -> None:
    answer = Answer(DNS_ERR_NONE, FOUND.records, 5, FOUND.name, authentic=authentic)
    reply = exchange(query(**kwargs), answer)
    assert bool(reply.flags & dns.flags.AD) is told


def test_without_rd_there_is_no_recursion(make_server, connect, resolver) -> None:
    client = connect(make_server(DnsForwarder(resolver)).bind_udp("127.0.0.1", 0))
    reply = dns.message.from_wire(client.ask(query(flags=0)))
    assert (reply.rcode(), resolver.asked) == (dns.rcode.REFUSED, [])


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.255.0.1", True),
        ("::ffff:192.168.1.1", True),
        ("fe80::1%eth0", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_only_neighbours_are_served(make_server, resolver, host, served) -> None:
    replies = []
    server = make_server(DnsForwarder(resolver))
    server.handle_message(query(), (host, 1), replies.append)
    assert len(resolver.asked) == served
    if not served:
        assert dns.message.from_wire(replies[0]).rcode() == dns.rcode.REFUSED


def test_a_kept_answer_reaches_nobody_who_is_not_served(make_server, connect, resolver) -> None:
    options = ForwardOptions(keep_s=60)
    server = make_server(DnsForwarder(resolver, options=options))
    client = connect(server.bind_udp("127.0.0.1", 0))
    for _ in range(2):
        client.ask(query())
        resolver.answer(FOUND)
        client.receive()
    assert len(resolver.asked) == 2
    replies = []
    server.handle_message(query(), ("192.0.2.1", 1), replies.append)
    assert dns.message.from_wire(replies[0]).rcode() == dns.rcode.REFUSED


def test_who_serves_everybody_may_have_answers_kept(make_server, connect, resolver, clock) -> None:
    options = ForwardOptions(clients=None, keep_s=60)
    client = connect(make_server(DnsForwarder(resolver, options=options)).bind_udp("127.0.0.1", 0))
    client.ask(query())
    resolver.answer(Answer(DNS_ERR_NONE, FOUND.records, 2, FOUND.name))
    client.receive()
    assert client.ask(query())
    clock.advance(2.1)  # no longer than it may be believed
    client.turn()
    assert client.ask(query()) is None
    assert len(resolver.asked) == 2


def test_questions_under_way_are_bounded(make_server, connect, resolver) -> None:
    forwarder = DnsForwarder(resolver, options=ForwardOptions(pending=2))
    client = connect(make_server(forwarder).bind_udp("127.0.0.1", 0))
    for name in ("a.test", "b.test"):
        assert client.ask(query(name)) is None
    assert forwarder.pending == 2
    assert dns.message.from_wire(client.ask(query("c.test"))).rcode() == dns.rcode.SERVFAIL
    resolver.answer(FOUND)
    assert client.receive()
    assert client.ask(query("c.test")) is None


def test_over_a_resolver_of_ours(make_server, make_resolver, nameserver, connect, answer_a) -> None:
    upstream = nameserver(answer_a("192.0.2.7", 40))
    resolver = make_resolver(upstream)
    server = make_server(DnsForwarder(resolver))
    client = connect(server.bind_udp("127.0.0.1", 0))

    def ask(packet: bytes) -> dns.message.Message:
        reply = client.ask(packet)
        while reply is None:
            reply = client.receive()
        return dns.message.from_wire(reply)

    assert str(ask(query()).answer[0]) == "www.example.com. 40 IN A 192.0.2.7"
    assert str(ask(query()).answer[0]) == "www.example.com. 40 IN A 192.0.2.7"
    assert len(upstream.packets) == 1  # its cache is used
    assert str(ask(query("localhost")).answer[0][0]) == "127.0.0.1"
    assert ask(query(rdtype="ANY")).rcode() == dns.rcode.NOTIMP
    resolver.close(fail_requests=False)
    assert ask(query("other.test")).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(
    "text",
    [
        "A 192.0.2.1",
        "AAAA 2001:db8::1",
        "NS ns.test.",
        "CNAME a\\.b.test.",
        "PTR .",
        "DNAME d.test.",
        "MX 10 mail.test.",
        'TXT "a" "b c" ""',
        "SRV 1 2 3 host.test.",
        "SOA ns.test. admin.test. 1 2 3 4 4294967295",
        'CAA 128 issue "ca.test; x=y"',
        "HTTPS 1 . alpn=h2,h3 port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 key999=abc",
        "SVCB 0 other.test.",
        "SSHFP 1 1 0123456789abcdef0123456789abcdef01234567",
        "TYPE65280 \\# 3 010203",
    ],
)
def test_every_record_is_passed_on_as_it_was(text) -> None:
    rdtype, _, data = text.partition(" ")
    rdata = dns.rdata.from_text("IN", rdtype, data)
    passed = data_to_wire(Record("a.test", int(rdata.rdtype), 1, data_of(rdata, name_to_text)))
    if isinstance(passed, str):
        passed = dns.name.from_text(passed).to_wire()
    assert passed == rdata.to_wire()


@pytest.mark.parametrize(
    "wrong",
    [{"clients": ("x",)}, {"timeout_s": 0}, {"pending": 0}, {"keep_s": -1}, {"clients": "::1"}],
)
def test_options_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(DnsArgumentError):
        ForwardOptions(**wrong)
