"""getaddrinfo: what is answered at once, what two lookups give together, and what is kept."""

from __future__ import annotations

import socket

import dns.message
import dns.rdatatype
import pytest

from evsvc.core import (
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_AGAIN,
    EVUTIL_EAI_CANCEL,
    EVUTIL_EAI_FAIL,
    EVUTIL_EAI_FAMILY,
    EVUTIL_EAI_NODATA,
    EVUTIL_EAI_NONAME,
    EVUTIL_EAI_SERVICE,
    AddrInfo,
    AddrInfoHints,
    ArgumentError,
    BufferEvent,
)
from evsvc.dns import EVDNS_BASE_NO_CACHE, DnsStateError

A, AAAA = dns.rdatatype.A, dns.rdatatype.AAAA
STREAM = AddrInfoHints(type=socket.SOCK_STREAM)
V4 = AddrInfoHints(family=socket.AF_INET, type=socket.SOCK_STREAM)
V6 = AddrInfoHints(family=socket.AF_INET6, type=socket.SOCK_STREAM)
SOA = "example.com. 42 SOA ns.example.com. admin.example.com. 1 2 3 4 99"


def entry(host: str, port: int, canonname: str = "") -> AddrInfo:
    sockaddr = (host, port, 0, 0) if ":" in host else (host, port)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return AddrInfo(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, canonname, sockaddr)


@pytest.fixture
def zone(nameserver, make_reply):
    """Return `zone(v4=..., v6=...)`: each a list of records, an rcode, or None for silence."""

    def start(v4=None, v6=None, authority=()):
        def script(packet: bytes) -> bytes | None:
            asked = dns.message.from_wire(packet).question[0]
            data = v4 if asked.rdtype == A else v6
            if data is None:
                return None
            if isinstance(data, int):
                return make_reply(packet, rcode=data, authority=authority).to_wire()
            if not data:
                return make_reply(packet, authority=authority).to_wire()
            return make_reply(packet, *data).to_wire()

        return nameserver(script)

    return start


def types_asked(server) -> list[int]:
    return sorted(
        dns.message.from_wire(packet).question[0].rdtype
        for packet in server.packets
        if b"oogle" not in packet.lower()
    )


HOST4 = ["h.example.com. 60 A 10.0.0.1"]
HOST6 = ["h.example.com. 30 AAAA 2001:db8::1"]


@pytest.mark.parametrize(
    ("host", "port", "hints", "expected"),
    [
        ("1.2.3.4", "http", STREAM, [entry("1.2.3.4", 80)]),
        ("1.2.3.4", "8008", STREAM, [entry("1.2.3.4", 8008)]),
        ("1.2.3.4", 0, STREAM, [entry("1.2.3.4", 0)]),
        ("f::f", 8008, STREAM, [entry("f::f", 8008)]),
        ("F:0::f", None, V6, [entry("f::f", 0)]),
        (None, 80, STREAM, [entry("127.0.0.1", 80), entry("::1", 80)]),
        (None, 80, V6, [entry("::1", 80)]),
        (
            None,
            80,
            AddrInfoHints(type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE),
            [entry("0.0.0.0", 80), entry("::", 80)],
        ),
    ],
)
def test_what_needs_no_lookup_is_answered_before_the_return(
    make_resolver, results, host, port, hints, expected
) -> None:
    assert make_resolver().getaddrinfo(host, port, hints, results) is None
    assert results == [(0, expected)]


@pytest.mark.parametrize(
    ("kind", "proto", "expected"),
    [
        (0, 0, [(socket.SOCK_STREAM, 6), (socket.SOCK_DGRAM, 17)]),
        (socket.SOCK_STREAM, 0, [(socket.SOCK_STREAM, 6)]),
        (0, 17, [(socket.SOCK_DGRAM, 17)]),
        (socket.SOCK_RAW, 1, [(socket.SOCK_RAW, 1)]),
    ],
)
def test_type_and_protocol_are_inferred_from_each_other(
    make_resolver, results, kind, proto, expected
) -> None:
    make_resolver().getaddrinfo("1.2.3.4", 1, AddrInfoHints(type=kind, proto=proto), results)
    assert [(found.type, found.proto) for found in results[0][1]] == expected


NUMERIC_HOST = AddrInfoHints(flags=socket.AI_NUMERICHOST)


@pytest.mark.parametrize(
    ("host", "port", "hints", "code"),
    [
        (None, None, None, EVUTIL_EAI_NONAME),
        ("name.example", 80, NUMERIC_HOST, EVUTIL_EAI_NONAME),
        ("1.2.3.4", "http", AddrInfoHints(flags=socket.AI_NUMERICSERV), EVUTIL_EAI_NONAME),
        ("1.2.3.4", "no-such-service", STREAM, EVUTIL_EAI_SERVICE),
        ("1.2.3.4", "65536", STREAM, EVUTIL_EAI_SERVICE),
        ("1.2.3.4", "ht\0tp", STREAM, EVUTIL_EAI_SERVICE),
        ("1.2.3.4", 80, AddrInfoHints(family=socket.AF_UNIX), EVUTIL_EAI_FAMILY),
        ("1.2.3.4", 80, V6, EVUTIL_EAI_ADDRFAMILY),
        ("f::f", 80, V4, EVUTIL_EAI_ADDRFAMILY),
        ("", 80, None, EVUTIL_EAI_NONAME),
        ("a..b", 80, None, EVUTIL_EAI_NONAME),
        ("x" * 64, 80, None, EVUTIL_EAI_NONAME),
    ],
)
def test_what_cannot_be_looked_up_is_refused_before_the_return(
    make_resolver, results, host, port, hints, code
) -> None:
    assert make_resolver().getaddrinfo(host, port, hints, results) is None
    assert results == [(code, [])]


def test_an_int_that_is_no_port_raises(make_resolver, results) -> None:
    for port in (-1, 65536):
        with pytest.raises(ArgumentError):
            make_resolver().getaddrinfo("1.2.3.4", port, None, results)


def test_both_families_are_asked_and_ipv4_comes_first(zone, make_resolver, results) -> None:
    server = zone(HOST4, HOST6)
    assert make_resolver(server).getaddrinfo("h.example.com", 80, STREAM, results) is not None
    assert results == []
    results.wait()
    assert results == [(0, [entry("10.0.0.1", 80), entry("2001:db8::1", 80)])]
    assert types_asked(server) == [A, AAAA]


@pytest.mark.parametrize(
    ("hints", "asked", "host"), [(V4, [A], "10.0.0.1"), (V6, [AAAA], "2001:db8::1")]
)
def test_only_the_wanted_family_is_asked(zone, make_resolver, results, hints, asked, host) -> None:
    server = zone(HOST4, HOST6)
    make_resolver(server).getaddrinfo("h.example.com", 80, hints, results)
    results.wait()
    assert results == [(0, [entry(host, 80)])]
    assert types_asked(server) == asked


def test_the_canonical_name_is_on_the_first_entry_on_request(zone, make_resolver, results) -> None:
    alias = "both.example.com. 9 CNAME canonical.example.com."
    server = zone(
        [alias, "canonical.example.com. 9 A 10.0.0.1"],
        [alias, "canonical.example.com. 9 AAAA 2001:db8::1"],
    )
    hints = AddrInfoHints(type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    resolver = make_resolver(server)
    resolver.getaddrinfo("both.example.com", 80, hints, results)
    results.wait()
    assert [found.canonname for found in results[0][1]] == ["canonical.example.com", ""]
    resolver.getaddrinfo("both.example.com", 80, STREAM, results)
    assert [found.canonname for found in results[1][1]] == ["", ""]


@pytest.mark.parametrize(
    ("v4", "v6", "code", "hosts"),
    [
        (HOST4, 3, 0, ["10.0.0.1"]),
        (3, HOST6, 0, ["2001:db8::1"]),
        (HOST4, [], 0, ["10.0.0.1"]),
        (HOST4, None, 0, ["10.0.0.1"]),
        (None, HOST6, 0, ["2001:db8::1"]),
        (3, 3, EVUTIL_EAI_NONAME, []),
        (3, None, EVUTIL_EAI_AGAIN, []),
        (3, [], EVUTIL_EAI_NODATA, []),
        (2, 2, EVUTIL_EAI_AGAIN, []),
        (2, 3, EVUTIL_EAI_AGAIN, []),
        (4, 4, EVUTIL_EAI_AGAIN, []),
        (5, 5, EVUTIL_EAI_AGAIN, []),
        (1, 1, EVUTIL_EAI_FAIL, []),
        (9, 9, EVUTIL_EAI_FAIL, []),
        ([], [], EVUTIL_EAI_NODATA, []),
        (None, None, EVUTIL_EAI_AGAIN, []),
        (None, 3, EVUTIL_EAI_AGAIN, []),
    ],
)
def test_two_answers_are_merged(zone, make_resolver, results, v4, v6, code, hosts) -> None:
    server = zone(v4, v6)
    make_resolver(server).getaddrinfo("h.example.com", 80, STREAM, results)
    results.wait()
    assert results[0][0] == code
    assert [found.sockaddr[0] for found in results[0][1]] == hosts


def test_the_slower_answer_is_waited_for_as_long_as_the_skew(
    zone, make_resolver, results, clock
) -> None:
    server = zone(HOST4, None)
    begin = clock.monotonic()
    make_resolver(server, getaddrinfo_skew_s=3).getaddrinfo("h.example.com", 80, STREAM, results)
    results.wait()
    assert clock.monotonic() == pytest.approx(begin + 3)


def test_cancel_is_answered_from_the_loop_and_once(zone, make_resolver, results, base) -> None:
    server = zone(HOST4, None)
    resolver = make_resolver(server, getaddrinfo_skew_s=3)
    handle = resolver.getaddrinfo("h.example.com", 80, STREAM, results)
    base.once(-1, 1, lambda *args: (handle.cancel(), handle.cancel()), None, 0.1)
    results.wait()
    assert results == [(EVUTIL_EAI_CANCEL, [])]
    handle.cancel()
    results.wait(2)
    assert len(results) == 1


def test_closing_the_resolver_fails_what_is_under_way(zone, make_resolver, results) -> None:
    resolver = make_resolver(zone(None, None), max_inflight=11)
    for index in range(20):
        resolver.getaddrinfo(f"h{index}.example.com", 80, STREAM, results)
    resolver.close()
    results.wait(20)
    assert results == [(EVUTIL_EAI_FAIL, [])] * 20
    with pytest.raises(DnsStateError):
        resolver.getaddrinfo("h.example.com", 80, STREAM, results)


def test_a_full_line_is_try_again(zone, make_resolver, results) -> None:
    resolver = make_resolver(zone(None, None), max_inflight=1, max_waiting=2)
    assert resolver.getaddrinfo("a.example.com", 80, STREAM, results) is not None
    assert resolver.getaddrinfo("b.example.com", 80, STREAM, results) is None
    assert results == [(EVUTIL_EAI_AGAIN, [])]
    assert resolver.getaddrinfo("c.example.com", 80, V4, results) is not None


def test_the_hosts_file_is_asked_first_and_without_regard_to_case(
    make_resolver, results, tmp_path
) -> None:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost # me\n::1 LocalHost\n10.0.0.9 only4\n")
    resolver = make_resolver(sort_addresses=False)
    resolver.load_hosts(str(path))
    resolver.getaddrinfo("LOCALHOST", 80, STREAM, results)
    resolver.getaddrinfo("only4.", 80, STREAM, results)
    resolver.getaddrinfo("only4", 80, V6, results)
    assert results == [
        (0, [entry("127.0.0.1", 80), entry("::1", 80)]),
        (0, [entry("10.0.0.9", 80)]),
        (EVUTIL_EAI_ADDRFAMILY, []),
    ]


def test_answers_are_kept_for_the_ttl_of_each_family(zone, make_resolver, results, clock) -> None:
    server = zone(HOST4, HOST6)
    resolver = make_resolver(server)
    resolver.getaddrinfo("h.example.com", 80, STREAM, results)
    results.wait()
    clock.advance(29)
    assert resolver.getaddrinfo("H.example.com", 81, STREAM, results) is None
    assert results[1] == (0, [entry("10.0.0.1", 81), entry("2001:db8::1", 81)])
    clock.advance(1)  # the AAAA record is too old now, the A record is not
    assert resolver.getaddrinfo("h.example.com", 80, STREAM, results) is not None
    results.wait(3)
    assert results[2] == results[0]
    assert types_asked(server) == [A, AAAA, AAAA]


def test_one_family_in_the_cache_is_no_answer_for_both(zone, make_resolver, results) -> None:
    server = zone(HOST4, HOST6)
    resolver = make_resolver(server)
    resolver.getaddrinfo("h.example.com", 80, V4, results)
    results.wait()
    assert resolver.getaddrinfo("h.example.com", 80, STREAM, results) is not None
    results.wait(2)
    assert len(results[1][1]) == 2
    assert types_asked(server) == [A, AAAA]


def test_an_absence_is_kept_as_long_as_its_soa_says(zone, make_resolver, results, clock) -> None:
    server = zone(3, 3, authority=(SOA,))
    resolver = make_resolver(server)
    resolver.getaddrinfo("h.example.com", 80, STREAM, results)
    results.wait()
    clock.advance(41.9)
    assert resolver.getaddrinfo("h.example.com", 80, STREAM, results) is None
    assert results == [(EVUTIL_EAI_NONAME, [])] * 2
    clock.advance(0.2)
    assert resolver.getaddrinfo("h.example.com", 80, STREAM, results) is not None


def test_a_family_known_to_be_absent_is_addrfamily_when_the_other_is_there(
    zone, make_resolver, results
) -> None:
    server = zone(HOST4, [], authority=(SOA,))
    resolver = make_resolver(server)
    resolver.getaddrinfo("h.example.com", 80, STREAM, results)
    results.wait()
    assert resolver.getaddrinfo("h.example.com", 80, V6, results) is None
    assert results[1] == (EVUTIL_EAI_ADDRFAMILY, [])


@pytest.mark.parametrize(("v4", "flags"), [(3, 0), (5, 0), (None, 0), (HOST4, EVDNS_BASE_NO_CACHE)])
def test_what_is_not_kept_is_asked_again(zone, make_resolver, results, v4, flags) -> None:
    server = zone(v4)
    resolver = make_resolver(server, attempts=1, flags=flags)
    for expected in (1, 2):
        assert resolver.getaddrinfo("h.example.com", 80, V4, results) is not None
        results.wait(expected)
    assert types_asked(server) == [A, A]


def test_a_change_of_the_search_list_leaves_the_cache_which_is_by_question(
    zone, make_resolver, results
) -> None:
    server = zone(HOST4, HOST6)
    resolver = make_resolver(server)
    resolver.getaddrinfo("h.example.com.", 80, V4, results)
    results.wait()
    for change in (
        lambda: None,
        lambda: resolver.search_add("example.net"),
        lambda: resolver.search_ndots_set(2),
        resolver.search_clear,
    ):
        change()
        assert resolver.getaddrinfo("h.example.com.", 80, V4, results) is None
    assert len(server.packets) == 1


def test_a_bufferevent_connects_by_name(zone, make_resolver, base) -> None:
    """The second main job: connect to a host by name without blocking the loop."""
    seen = []

    def on_event(bev, what, ctx) -> None:
        seen.append(what)
        base.loopbreak()

    with socket.create_server(("127.0.0.1", 0)) as listener, BufferEvent(base) as bev:
        resolver = make_resolver(zone(["h.example.com. 9 A 127.0.0.1"], 3))
        bev.setcb(None, None, on_event)
        port = listener.getsockname()[1]
        bev.connect_hostname(resolver, socket.AF_UNSPEC, "h.example.com", port)
        base.dispatch()
        assert seen[0].name == "BEV_EVENT_CONNECTED"


def test_a_bufferevent_is_told_why_a_name_cannot_be_found(zone, make_resolver, base) -> None:
    with BufferEvent(base) as bev:
        bev.setcb(None, None, lambda *args: base.loopbreak())
        bev.connect_hostname(make_resolver(zone(3, 3)), socket.AF_UNSPEC, "h.example.com", 80)
        base.dispatch()
        assert bev.dns_error == EVUTIL_EAI_NONAME


REACHABLE = {socket.AF_INET: ("127.0.0.1", 9), socket.AF_INET6: ("::1", 9, 0, 0)}
REFUSED = {socket.AF_INET: ("255.255.255.255", 9), socket.AF_INET6: ("fe80::1", 9, 0, 0)}


@pytest.mark.parametrize(
    ("v4", "v6", "asked"),
    [(REACHABLE, REFUSED, [A]), (REFUSED, REFUSED, [A, AAAA])],
)
def test_addrconfig_leaves_out_the_family_that_the_machine_has_not(
    zone, make_resolver, results, monkeypatch, v4, v6, asked
) -> None:
    probes = {socket.AF_INET: v4[socket.AF_INET], socket.AF_INET6: v6[socket.AF_INET6]}
    monkeypatch.setattr("evsvc.dns.resolver.addrinfo._ROUTE_PROBES", probes)
    server = zone(HOST4, HOST6)
    hints = AddrInfoHints(type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    make_resolver(server).getaddrinfo("h.example.com", 80, hints, results)
    results.wait()
    assert types_asked(server) == asked


def test_addrconfig_leaves_a_family_that_was_asked_for(zone, make_resolver, results) -> None:
    server = zone(HOST4, HOST6)
    hints = AddrInfoHints(family=socket.AF_INET6, flags=socket.AI_ADDRCONFIG)
    make_resolver(server).getaddrinfo("h.example.com", 80, hints, results)
    results.wait()
    assert types_asked(server) == [AAAA]


@pytest.mark.parametrize("flags", [socket.AI_V4MAPPED, socket.AI_V4MAPPED | socket.AI_ALL])
def test_ipv4_addresses_are_not_mapped_into_ipv6(zone, make_resolver, results, flags) -> None:
    server = zone(HOST4, [])
    hints = AddrInfoHints(family=socket.AF_INET6, type=socket.SOCK_STREAM, flags=flags)
    make_resolver(server).getaddrinfo("h.example.com", 80, hints, results)
    results.wait()
    assert results == [(EVUTIL_EAI_NODATA, [])]
    assert types_asked(server) == [AAAA]
