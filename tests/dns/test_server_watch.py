"""What watches over a DnsServer: the rate limit, the query log, the counters."""

from __future__ import annotations

import logging
import socket

import dns.edns
import dns.flags
import dns.message
import pytest

from evsvc.dns import DnsArgumentError, DnsServerCounters, DnsServerOptions, RateLimit
from evsvc.dns.server.query_log import question_text
from evsvc.dns.server.rate_limit import RateLimiter, Verdict


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


PASS, SLIP, DROP = Verdict.PASS, Verdict.SLIP, Verdict.DROP


def test_a_network_gets_its_burst_and_then_its_rate() -> None:
    limiter = RateLimiter(RateLimit(replies_per_s=2, burst=3, slip=2))
    verdicts = [limiter.judge(f"192.0.2.{n}", 10.0) for n in range(7)]
    assert verdicts == [PASS, PASS, PASS, DROP, SLIP, DROP, SLIP]
    assert [limiter.judge("192.0.2.1", 10.5), limiter.judge("192.0.2.2", 10.5)] == [PASS, DROP]
    assert limiter.judge("192.0.3.1", 10.5) is PASS
    assert [limiter.judge("192.0.2.1", 99.0) for _ in range(4)][:3] == [PASS] * 3


@pytest.mark.parametrize(("slip", "verdicts"), [(0, [DROP] * 4), (1, [SLIP] * 4)])
def test_slip_says_which_get_a_cut_reply(slip, verdicts) -> None:
    limiter = RateLimiter(RateLimit(burst=1, slip=slip))
    limiter.judge("2001:db8::1", 0.0)
    assert [limiter.judge("2001:db8:0:ff::2%3", 0.0) for _ in range(4)] == verdicts
    assert limiter.judge("2001:db8:0:100::1", 0.0) is PASS


@pytest.mark.parametrize(
    ("bits", "same", "other"),
    [
        ({"ipv4_prefix_bits": 1}, "127.255.255.255", "128.0.0.0"),
        ({"ipv4_prefix_bits": 24}, "10.0.0.255", "10.0.1.0"),
        ({"ipv4_prefix_bits": 32}, "10.0.0.1", "10.0.0.2"),
        ({"ipv6_prefix_bits": 64}, "2001:db8::ffff:0:0:1", "2001:db8:0:1::1"),
        ({"ipv6_prefix_bits": 128}, "2001:db8::1", "2001:db8::2"),
    ],
)
def test_the_prefix_says_who_is_of_one_network(bits, same, other) -> None:
    limiter = RateLimiter(RateLimit(burst=1, slip=0, **bits))
    limiter.judge("2001:db8::1" if ":" in same else "10.0.0.1", 0.0)
    assert [limiter.judge(host, 0.0) for host in (same, other)] == [DROP, PASS]


def test_ipv4_clients_of_an_ipv6_socket_are_counted_by_their_own_networks() -> None:
    limiter = RateLimiter(RateLimit(burst=1, slip=0))
    hosts = ("::ffff:192.0.2.1", "::ffff:192.0.3.1", "192.0.2.2", "::ffff:192.0.2.3")
    assert [limiter.judge(host, 0.0) for host in hosts] == [PASS, PASS, DROP, DROP]


def test_the_network_silent_longest_is_forgotten() -> None:
    limiter = RateLimiter(RateLimit(burst=1, slip=0, networks=2, ipv4_prefix_bits=32))
    for host in ("192.0.2.1", "192.0.2.2"):
        assert limiter.judge(host, 0.0) is PASS
    assert limiter.judge("192.0.2.1", 0.0) is DROP
    assert limiter.judge("192.0.2.3", 0.0) is PASS  # in the place of the second
    assert len(limiter) == 2
    assert limiter.judge("192.0.2.1", 0.0) is DROP
    assert limiter.judge("192.0.2.2", 0.0) is PASS


@pytest.mark.parametrize(
    "wrong",
    [{"replies_per_s": 0}, {"burst": 0}, {"ipv4_prefix_bits": 33}, {"slip": -1}, {"networks": 0}],
)
def test_limits_out_of_range_are_refused(wrong) -> None:
    with pytest.raises(DnsArgumentError, match=next(iter(wrong))):
        RateLimit(**wrong)


@pytest.fixture
def limited(make_server):
    """A server with one reply for each network, and a cut one for every second query more."""
    return make_server(answer_a, options=DnsServerOptions(rate_limit=RateLimit(burst=1, slip=2)))


def test_beyond_the_limit_there_is_no_answer_or_a_cut_one(limited, connect) -> None:
    client = connect(limited.bind_udp("127.0.0.1", 0))
    assert dns.message.from_wire(client.ask(query())).answer
    assert client.ask(query()) is None
    cut = dns.message.from_wire(client.ask(query(id=7)))
    assert cut.id == 7
    assert cut.flags & dns.flags.TC
    assert (cut.rcode(), cut.answer) == (0, [])
    assert cut.question[0].name.to_text() == "www.example.com."
    assert limited.counters == DnsServerCounters(asked=1, limited=1, slipped=1)


def test_what_is_no_query_gets_no_cut_reply(limited, connect) -> None:
    client = connect(limited.bind_udp("127.0.0.1", 0))
    client.ask(query())
    reply = bytearray(query())
    reply[2] |= 0x80
    for packet in (bytes(reply), bytes(reply), b"", b"x" * 11):
        assert client.ask(packet) is None
    assert limited.counters.slipped == 0


def test_tcp_is_not_limited(limited, connect) -> None:
    client = connect(limited.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(*[query()] * 5)
    assert len(client.frames()) == 5


def test_a_client_with_our_cookie_is_not_limited(limited, connect) -> None:
    client = connect(limited.bind_udp("127.0.0.1", 0))

    def ask(cookie: bytes) -> bytes | None:
        option = dns.edns.GenericOption(10, cookie)
        return client.ask(query(use_edns=0, options=[option]))

    cookie = dns.message.from_wire(ask(b"8 bytes!")).options[0].to_wire()
    for _ in range(5):
        assert dns.message.from_wire(ask(cookie)).answer
    ask(b"8 bytes!")
    counters = limited.counters
    assert counters.limited + counters.slipped == 1


def test_counters_tell_what_became_of_queries(make_server, connect) -> None:
    def answer(request, arg) -> None:
        if request.questions[0].name == "bad.test":
            raise ValueError
        request.respond(0, cache_s=60)

    server = make_server(answer)
    client = connect(server.bind_udp("127.0.0.1", 0))
    notify = bytearray(query())
    notify[2] |= 0x20
    for packet in (query(), query(), query("bad.test"), b"x", bytes(notify), query(rdtype="OPT")):
        client.ask(packet)
    assert server.counters == DnsServerCounters(asked=2, failed=1, finished=1, refused=2, ignored=1)
    assert server.counters.queries == 6


def test_the_query_log_has_a_line_for_each_query(make_server, connect, caplog) -> None:
    def answer(request, arg) -> None:
        name = request.questions[0].name
        if name == "drop.test":
            request.drop()
        else:
            request.add_a_reply(name, ["10.0.0.1"] * (100 if name == "long.test" else 1), 60)
            request.respond(3 if name == "none.test" else 0, cache_s=60)

    server = make_server(answer, options=DnsServerOptions(log_queries=True))
    client = connect(server.bind_udp("127.0.0.1", 0))
    tcp = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    with caplog.at_level(logging.INFO, "evsvc.dns.query"):
        for name in ("a.test", "a.test", "none.test", "drop.test", "long.test"):
            client.ask(query(name))
        client.ask(b"?" * 11)
        tcp.ask_all(query("A.test", "TYPE999"))
        tcp.frames()
    who = f"127.0.0.1#{client.sock.getsockname()[1]} udp"
    over_tcp = f"127.0.0.1#{tcp.sock.getsockname()[1]} tcp"
    assert [record.getMessage() for record in caplog.records] == [
        f"{who} a.test IN A NOERROR 40",
        f"{who} a.test IN A NOERROR 40",
        f"{who} none.test IN A NXDOMAIN 43",
        f"{who} drop.test IN A dropped",
        f"{who} long.test IN A NOERROR TC 507",
        f"{who} - dropped",
        f"{over_tcp} A.test IN TYPE999 NOERROR 40",
    ]


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (query("a\\010b.test", "MX"), "a\\010b.test IN MX"),
        (query(".", "NS"), ". IN NS"),
        (query()[:-1], "-"),
        (query()[:12], "-"),
        (b"", "-"),
    ],
)
def test_the_question_as_text(packet, text) -> None:
    assert question_text(packet) == text
