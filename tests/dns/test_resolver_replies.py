"""What a reply means: records, aliases, error codes, cut and broken replies."""

from __future__ import annotations

import pytest

from evsvc.dns import (
    DNS_CNAME,
    DNS_CNAME_CALLBACK,
    DNS_ERR_FORMAT,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_TRUNCATED,
    DNS_ERR_UNKNOWN,
    DNS_PTR,
    DNS_QUERY_IGNTC,
    DNS_IPv4_A,
    DNS_IPv6_AAAA,
)

SOA = "example.com. 42 SOA ns.example.com. admin.example.com. 1 2 3 4 99"


def test_an_a_record_is_found(nameserver, make_resolver, answer_a, results) -> None:
    server = nameserver(answer_a())
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results == [(DNS_ERR_NONE, DNS_IPv4_A, 1, 12345, ["192.168.11.11"])]


def test_an_aaaa_record_is_found(nameserver, make_resolver, make_reply, results) -> None:
    server = nameserver(
        lambda packet: make_reply(
            packet, "h.example.com. 123 AAAA 2001:db8::1", "h.example.com. 99 AAAA 2001:db8::2"
        ).to_wire()
    )
    make_resolver(server).resolve_ipv6("h.example.com", 0, results)
    results.wait()
    (found,) = results
    assert found[:4] == (DNS_ERR_NONE, DNS_IPv6_AAAA, 2, 99)
    assert found[4] == ["2001:db8::1", "2001:db8::2"]


@pytest.mark.parametrize(
    ("method", "address", "name"),
    [
        ("resolve_reverse", "10.11.12.13", "13.12.11.10.in-addr.arpa."),
        ("resolve_reverse_ipv6", "2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa."),
    ],
)
def test_a_host_name_keeps_its_case(
    nameserver, make_resolver, make_reply, results, method, address, name
) -> None:
    """The search list plays no part in reverse lookups."""
    server = nameserver(
        lambda packet: make_reply(packet, f"{name} 54321 PTR ZZ.EXAMPLE.COM.").to_wire()
    )
    resolver = make_resolver(server)
    resolver.search_add("example.org")
    getattr(resolver, method)(address, 0, results)
    results.wait()
    assert results == [(DNS_ERR_NONE, DNS_PTR, 1, 54321, ["ZZ.EXAMPLE.COM"])]
    assert [asked + "." for asked in server.names] == [name]


def test_records_of_other_names_are_ignored(nameserver, make_resolver, make_reply, results) -> None:
    server = nameserver(
        lambda packet: make_reply(packet, "bank.example. 1 A 6.6.6.6", authority=(SOA,)).to_wire()
    )
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results == [(DNS_ERR_NODATA, DNS_IPv4_A, 0, 42, None)]


def test_an_alias_is_followed_and_reported_on_request(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(
        lambda packet: make_reply(
            packet,
            "www.example.com. 5 CNAME cdn.example.com.",
            "cdn.example.com. 50 A 10.0.0.1",
        ).to_wire()
    )
    make_resolver(server).resolve_ipv4("www.example.com", DNS_CNAME_CALLBACK, results)
    results.wait(2)
    assert results == [
        (DNS_ERR_NONE, DNS_IPv4_A, 1, 5, ["10.0.0.1"]),
        (DNS_ERR_NONE, DNS_CNAME, 1, 5, ["cdn.example.com"]),
    ]


def test_an_alias_that_is_left_open_is_asked_for(
    nameserver, make_resolver, make_reply, results
) -> None:
    def script(packet: bytes) -> bytes:
        if len(server.packets) == 1:
            return make_reply(packet, "www.example.com. 5 CNAME cdn.example.net.").to_wire()
        return make_reply(packet, "cdn.example.net. 50 A 10.0.0.1").to_wire()

    server = nameserver(script)
    make_resolver(server).resolve_ipv4("www.example.com", 0, results)
    results.wait()
    assert results == [(DNS_ERR_NONE, DNS_IPv4_A, 1, 5, ["10.0.0.1"])]
    assert server.names == ["www.example.com", "cdn.example.net"]


@pytest.mark.parametrize(
    ("rcode", "authority", "expected"),
    [
        (0, (SOA,), (DNS_ERR_NODATA, DNS_IPv4_A, 0, 42, None)),
        (0, (), (DNS_ERR_NODATA, DNS_IPv4_A, 0, 0, None)),
        (3, (SOA,), (DNS_ERR_NOTEXIST, DNS_IPv4_A, 0, 42, None)),
        (3, (), (DNS_ERR_NOTEXIST, DNS_IPv4_A, 0, 0, None)),
        (1, (), (DNS_ERR_FORMAT, DNS_IPv4_A, 0, 0, None)),
        (4, (), (DNS_ERR_NOTIMPL, DNS_IPv4_A, 0, 0, None)),
        (5, (), (DNS_ERR_REFUSED, DNS_IPv4_A, 0, 0, None)),
        (9, (), (DNS_ERR_UNKNOWN, DNS_IPv4_A, 0, 0, None)),
    ],
)
def test_each_rcode_has_its_error(
    nameserver, make_resolver, make_reply, results, rcode, authority, expected
) -> None:
    server = nameserver(
        lambda packet: make_reply(packet, rcode=rcode, authority=authority).to_wire()
    )
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results == [expected]
    assert len(server.packets) == (2 if rcode in (1, 4) else 1)  # those two may mean EDNS


def test_servfail_is_asked_again_at_once_and_told(
    nameserver, make_resolver, make_reply, results, clock
) -> None:
    """libevent never reports rcode 2, and says TIMEOUT."""
    server = nameserver(lambda packet: make_reply(packet, rcode=2).to_wire())
    begin = clock.monotonic()
    make_resolver(server, attempts=3).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_SERVERFAILED
    assert len(server.packets) == 3
    assert clock.monotonic() == begin


def test_a_reply_that_cannot_be_read_is_an_unknown_error(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(lambda packet: answer_a()(packet)[:-2])
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_UNKNOWN


def test_a_cut_reply_is_an_error_when_tcp_is_not_wanted(
    nameserver, make_resolver, answer_a, results
) -> None:
    """libevent's server cuts anywhere, so the rest need not be readable."""

    def script(packet: bytes) -> bytes:
        reply = answer_a()(packet)[:-2]
        return reply[:2] + bytes([reply[2] | 0x02]) + reply[3:]

    make_resolver(nameserver(script)).resolve_ipv4("host.example.com", DNS_QUERY_IGNTC, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TRUNCATED


def test_the_longest_alias_comes_back_whole(nameserver, make_resolver, make_reply, results) -> None:
    long_name = ".".join(["x" * 63] * 3 + ["x" * 61])
    server = nameserver(
        lambda packet: make_reply(
            packet, f"a.example. 5 CNAME {long_name}.", f"{long_name}. 5 A 10.0.0.1"
        ).to_wire()
    )
    make_resolver(server).resolve_ipv4("a.example", DNS_CNAME_CALLBACK, results)
    results.wait(2)
    assert results[1][4] == [long_name]
