"""A search over names: which candidate ends it, what is told in the end, and for how long."""

from __future__ import annotations

import errno
import socket

import dns.message
import dns.rdatatype
import pytest

from evsvc.core import (
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EVLOOP_NONBLOCK,
    EVUTIL_EAI_AGAIN,
    EVUTIL_EAI_BADFLAGS,
    EVUTIL_EAI_NODATA,
    EVUTIL_EAI_NONAME,
    EVUTIL_EAI_SYSTEM,
    AddrInfoHints,
    BufferEvent,
    ConnListener,
)
from evsvc.dns import (
    DNS_ERR_CANCEL,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_SYSTEM,
    DNS_ERR_TIMEOUT,
    Answer,
    Caa,
    DnsArgumentError,
    Mx,
    Resolver,
    Soa,
    Srv,
    Svcb,
)

A, AAAA = dns.rdatatype.A, dns.rdatatype.AAAA
STREAM = AddrInfoHints(type=socket.SOCK_STREAM)
V4 = AddrInfoHints(family=socket.AF_INET, type=socket.SOCK_STREAM)
SOA = "test. {ttl} SOA n. h. 1 2 3 4 {ttl}"


@pytest.fixture
def zone(nameserver, make_reply):
    """Return `zone({(name, type): data})`; data is an address, an rcode, "empty" or None."""

    def start(names, default=3, ttl=60, soa_ttl=30):
        def script(packet: bytes) -> bytes | None:
            question = dns.message.from_wire(packet).question[0]
            name = question.name.to_text(True).lower()
            data = names.get((name, question.rdtype), names.get(name, default))
            soa = (SOA.format(ttl=soa_ttl),)
            if data is None:
                return None
            if isinstance(data, int):
                return make_reply(packet, rcode=data, authority=soa).to_wire()
            if data == "empty":
                return make_reply(packet, authority=soa).to_wire()
            kind = dns.rdatatype.to_text(question.rdtype)
            return make_reply(packet, f"{question.name} {ttl} {kind} {data}").to_wire()

        return nameserver(script)

    return start


def hosts(result) -> list[str]:
    return [found.sockaddr[0] for found in result[1]]


def test_names_are_never_mixed_in_one_answer(zone, make_resolver, results) -> None:
    server = zone(
        {
            ("www.site.test", A): "192.0.2.1",
            "www.site.test": "empty",
            ("www.site.test.corp.test", AAAA): "2001:db8::bad",
        }
    )
    resolver = make_resolver(server)
    resolver.search_add("corp.test")
    resolver.getaddrinfo("www.site.test", 80, STREAM, results)
    results.wait()
    assert hosts(results[0]) == ["192.0.2.1"]
    assert set(server.names) == {"www.site.test"}


@pytest.mark.parametrize(
    ("first", "second", "code", "result"),
    [
        (2, "192.0.2.1", 0, DNS_ERR_NONE),
        (5, "192.0.2.1", 0, DNS_ERR_NONE),
        ("empty", "192.0.2.1", 0, DNS_ERR_NONE),
        (2, 3, EVUTIL_EAI_AGAIN, DNS_ERR_SERVERFAILED),
        (3, 2, EVUTIL_EAI_AGAIN, DNS_ERR_SERVERFAILED),
        (5, 3, EVUTIL_EAI_AGAIN, DNS_ERR_REFUSED),
        (3, 5, EVUTIL_EAI_AGAIN, DNS_ERR_REFUSED),
        ("empty", 3, EVUTIL_EAI_NODATA, DNS_ERR_NODATA),
        (3, "empty", EVUTIL_EAI_NODATA, DNS_ERR_NODATA),
        (3, 3, EVUTIL_EAI_NONAME, DNS_ERR_NOTEXIST),
        (3, None, EVUTIL_EAI_AGAIN, DNS_ERR_TIMEOUT),
    ],
)
def test_the_outcomes_of_candidates_are_ranked(
    zone, make_resolver, results, first, second, code, result
) -> None:
    resolver = make_resolver(zone({"web.a.test": first, "web.b.test": second}))
    resolver.search_add("a.test")
    resolver.search_add("b.test")
    resolver.getaddrinfo("web", 80, V4, results)
    results.wait()
    resolver.resolve_ipv4("web", 0, results)
    results.wait(2)
    assert results[0][0] == code
    assert results[1][0] == result


def test_silence_ends_a_search(zone, make_resolver, results) -> None:
    server = zone({"web.a.test": None})
    resolver = make_resolver(server, attempts=1)
    resolver.search_add("a.test")
    resolver.resolve_ipv4("web", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    assert server.names == ["web.a.test"]


def test_an_absence_is_believed_for_the_shortest_ttl_of_the_candidates(
    nameserver, make_reply, make_resolver, results
) -> None:
    def script(packet: bytes) -> bytes:
        inside = b"\4test" in packet.lower()
        soa = SOA.format(ttl=1 if inside else 86400)
        return make_reply(packet, rcode=3, authority=(soa,)).to_wire()

    resolver = make_resolver(nameserver(script))
    resolver.search_add("corp.test")
    resolver.resolve_ipv4("api", 0, results)
    results.wait()
    assert results[0][:4] == (DNS_ERR_NOTEXIST, 1, 0, 1)


def test_the_grace_counts_from_addresses_and_the_silent_server_is_blamed(
    zone, make_resolver, results, clock, base
) -> None:
    server = zone({("h.test", A): "192.0.2.1", ("h.test", AAAA): None})
    resolver = make_resolver(server, attempts=1, initial_probe_timeout_s=1)
    begin = clock.monotonic()
    resolver.getaddrinfo("h.test", 80, STREAM, results)
    results.wait()
    assert hosts(results[0]) == ["192.0.2.1"]
    assert clock.monotonic() - begin == pytest.approx(0.05)
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 7)
    base.dispatch()
    assert server.names[-1] == "."  # the look-up that was cut short has marked it: it is probed


def test_a_look_up_that_is_cut_short_fills_the_cache(
    nameserver, make_reply, make_resolver, results, base
) -> None:
    held: list[bytes] = []

    def script(packet: bytes) -> bytes | None:
        name = dns.message.from_wire(packet).question[0].name
        if dns.message.from_wire(packet).question[0].rdtype == A:
            return make_reply(packet, f"{name} 60 A 192.0.2.1").to_wire()
        held.append(packet)
        return None

    def answer_late(*args: object) -> None:
        at = server.packets.index(held[0])
        name = dns.message.from_wire(held[0]).question[0].name
        late = make_reply(held[0], f"{name} 60 AAAA 2001:db8::1").to_wire()
        server.sock.sendto(late, server.sources[at])
        base.once(-1, 1, lambda *args: base.loopbreak(), None, 0.1)

    server = nameserver(script)
    resolver = make_resolver(server)
    resolver.getaddrinfo("h.test", 80, STREAM, results)
    results.wait()
    assert hosts(results[0]) == ["192.0.2.1"]
    base.once(-1, 1, answer_late, None, 1)
    base.dispatch()
    assert resolver.getaddrinfo("h.test", 80, STREAM, results) is None
    assert hosts(results[1]) == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize("outcome", ["comes", "never", "cancelled", "absent"])
def test_what_comes_late_is_told_once(
    nameserver, make_reply, make_resolver, results, make_results, base, outcome
) -> None:
    held: list[bytes] = []

    def script(packet: bytes) -> bytes | None:
        name = dns.message.from_wire(packet).question[0].name
        if dns.message.from_wire(packet).question[0].rdtype == A:
            return make_reply(packet, f"{name} 60 A 192.0.2.1").to_wire()
        held.append(packet)
        return None

    def answer_late(*args: object) -> None:
        at = server.packets.index(held[0])
        name = dns.message.from_wire(held[0]).question[0].name
        records = [f"{name} 60 AAAA 2001:db8::1"] if outcome == "comes" else []
        packet = make_reply(held[0], *records, authority=(SOA.format(ttl=5),))
        server.sock.sendto(packet.to_wire(), server.sources[at])

    server = nameserver(script)
    resolver = make_resolver(server, timeout_s=2, attempts=2)
    late = make_results()
    lookup = resolver.getaddrinfo_late("h.test", 80, STREAM, results, late)
    results.wait()
    assert hosts(results[0]) == ["192.0.2.1"]
    assert late == []
    if outcome == "cancelled":
        lookup.cancel()
        base.once(-1, 1, lambda *args: base.loopbreak(), None, 10)
        base.dispatch()
        assert late == []
        return
    if outcome != "never":
        base.once(-1, 1, answer_late, None, 1)
    late.wait()
    found = [entry.sockaddr[0] for (entries,) in late for entry in entries]
    assert found == (["2001:db8::1"] if outcome == "comes" else [])
    assert len(late) == len(results) == 1


def test_an_answer_that_is_whole_is_followed_by_nothing_late(
    nameserver, make_reply, make_resolver, results, make_results
) -> None:
    def script(packet: bytes) -> bytes:
        question = dns.message.from_wire(packet).question[0]
        data = "A 192.0.2.1" if question.rdtype == A else "AAAA 2001:db8::1"
        return make_reply(packet, f"{question.name} 60 {data}").to_wire()

    resolver = make_resolver(nameserver(script))
    late = make_results()
    for name in ("h.example.com", "h.example.com", "192.0.2.1", "localhost"):
        resolver.getaddrinfo_late(name, 80, STREAM, results, late)
        results.wait(len(late) + 1)
        late.wait(len(results))
    assert late == [([],)] * 4


def test_an_absence_starts_no_grace(nameserver, make_reply, make_resolver, results) -> None:
    """One of two nameservers is silent: what the other one knows is found all the same."""

    def knows(packet: bytes) -> bytes:
        question = dns.message.from_wire(packet).question[0]
        if question.rdtype == AAAA:
            return make_reply(packet, authority=(SOA.format(ttl=5),)).to_wire()
        return make_reply(packet, f"{question.name} 60 A 192.0.2.1").to_wire()

    def silent_for_a(packet: bytes) -> bytes | None:
        question = dns.message.from_wire(packet).question[0]
        return None if question.rdtype == A else knows(packet)

    resolver = make_resolver(nameserver(silent_for_a), nameserver(knows))
    resolver.getaddrinfo("h.test", 80, STREAM, results)
    results.wait()
    assert hosts(results[0]) == ["192.0.2.1"]


def test_equal_look_ups_are_asked_once_and_a_cancel_ends_its_own_wait_only(
    nameserver, answer_a, make_resolver, results
) -> None:
    server = nameserver(answer_a())
    resolver = make_resolver(server)
    first = resolver.resolve_ipv4("Host.Example.com", 0, results)
    resolver.resolve_ipv4("host.example.COM", 0, results)
    resolver.getaddrinfo("host.example.com", 80, V4, results)
    first.cancel()
    results.wait(3)
    assert sorted(int(result[0]) for result in results) == [0, 0, int(DNS_ERR_CANCEL)]
    assert len(server.packets) == 1


def test_a_deadline_counts_the_wait_in_line(zone, make_resolver, results, clock) -> None:
    resolver = make_resolver(zone({}, default=None), max_inflight=1)
    begin = clock.monotonic()
    resolver.resolve_ipv4("first.test", 0, lambda *args: None)
    resolver.query("second.test", "A", results, timeout_s=2)
    resolver.getaddrinfo("third.test", 80, V4, results, timeout_s=2)
    results.wait(2)
    assert [result[0] for result in results] == [Answer(DNS_ERR_TIMEOUT), EVUTIL_EAI_AGAIN]
    assert clock.monotonic() - begin == pytest.approx(2)


def test_the_options_may_give_every_look_up_its_time(
    base, zone, make_resolver, results, clock
) -> None:
    resolver = make_resolver(zone({}, default=None), max_inflight=1, lookup_timeout_s=2)
    resolver.query("first.test", "A", results)
    resolver.getaddrinfo("second.test", 80, V4, results)
    for seconds, told in ((1.999, 0), (0.001, 2)):
        clock.advance(seconds)
        for _ in range(4):
            base.loop(EVLOOP_NONBLOCK)
        assert len(results) == told
    assert [result[0] for result in results] == [Answer(DNS_ERR_TIMEOUT), EVUTIL_EAI_AGAIN]


@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "app.localhost"])
def test_localhost_never_leaves_the_machine(zone, make_resolver, results, name) -> None:
    server = zone({}, default="203.0.113.66")
    resolver = make_resolver(server, sort_addresses=False)
    resolver.search_add("corp.test")
    assert resolver.getaddrinfo(name, 80, STREAM, results) is None
    assert hosts(results[0]) == ["127.0.0.1", "::1"]
    resolver.resolve_ipv4(name, 0, results)
    resolver.query(name, "MX", results)
    results.wait(3)
    assert results[1][4] == ["127.0.0.1"]
    assert results[2][0].result == DNS_ERR_NODATA
    assert server.packets == []


def test_the_canonical_name_is_the_one_that_was_found(
    zone, make_resolver, results, tmp_path
) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 box.corp.test box\n")
    resolver = make_resolver(zone({"web.corp.test": "192.0.2.1"}))
    resolver.search_add("corp.test")
    resolver.load_hosts(str(path))
    hints = AddrInfoHints(socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
    for host in ("web", "web.corp.test", "box", "127.0.0.1"):
        resolver.getaddrinfo(host, 80, hints, results)
        results.wait(len(results) + 1 if host == "web" else len(results))
    names = [result[1][0].canonname for result in results]
    assert names == ["web.corp.test", "web.corp.test", "box.corp.test", "127.0.0.1"]
    resolver.getaddrinfo(None, 80, hints, results)
    assert results[-1] == (EVUTIL_EAI_BADFLAGS, [])


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("faß.test", "xn--fa-hia.test"),
        ("_sip._tcp.bücher.test", "_sip._tcp.xn--bcher-kva.test"),
        ("a_b.test", "a_b.test"),
    ],
)
def test_names_are_of_idna_2008_and_may_have_underscores(
    zone, make_resolver, results, text, asked
) -> None:
    server = zone({asked: "192.0.2.1"})
    make_resolver(server).resolve_ipv4(text, 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert server.names == [asked]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS])
def test_a_lack_of_ours_is_told_as_such_at_once(
    zone, make_resolver, results, monkeypatch, clock, code
) -> None:
    def fail(*args: object) -> None:
        raise OSError(code, "from the system")

    monkeypatch.setattr("evsvc.dns.resolver.transport.open_udp_socket", fail)
    resolver = make_resolver(zone({}))
    begin = clock.monotonic()
    resolver.resolve_ipv4("h.test", 0, results)
    resolver.getaddrinfo("g.test", 80, STREAM, results)
    results.wait(2)
    assert {result[0] for result in results} == {DNS_ERR_SYSTEM, EVUTIL_EAI_SYSTEM}
    assert clock.monotonic() == begin


RECORDS = {
    "A": ("192.0.2.1", "192.0.2.1"),
    "AAAA": ("2001:db8::1", "2001:db8::1"),
    "NS": ("ns.test.", "ns.test"),
    "CNAME": ("other.test.", "other.test"),
    "PTR": ("host.test.", "host.test"),
    "TXT": ('"one" "two"', (b"one", b"two")),
    "MX": ("10 mail.test.", Mx(10, "mail.test")),
    "SRV": ("1 2 80 web.test.", Srv(1, 2, 80, "web.test")),
    "SOA": ("n.test. h.test. 1 2 3 4 5", Soa("n.test", "h.test", 1, 2, 3, 4, 5)),
    "CAA": ('0 issue "ca.test"', Caa(0, "issue", "ca.test")),
    "HTTPS": (
        '1 . alpn="h2,h3" port=8443 ipv4hint=192.0.2.1',
        Svcb(
            1,
            ".",
            ("h2", "h3"),
            8443,
            ("192.0.2.1",),
            ((1, b"\2h2\2h3"), (3, b"\x20\xfb"), (4, b"\xc0\0\2\1")),
        ),
    ),
    "SSHFP": ("1 1 " + "ab" * 20, b"\1\1" + b"\xab" * 20),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_records_of_any_type_come_typed_and_with_their_ttl(
    zone, make_resolver, results, clock, kind
) -> None:
    text, value = RECORDS[kind]
    server = zone({"h.test": text})
    resolver = make_resolver(server)
    resolver.query("h.test", kind, results)
    results.wait()
    clock.advance(10)
    resolver.query("h.test", dns.rdatatype.from_text(kind), results)
    results.wait(2)
    (answer,), (again,) = results
    assert [record.data for record in answer.records] == [value]
    assert (answer.result, answer.ttl_s, answer.name) == (DNS_ERR_NONE, 60, "h.test")
    assert (again.records, again.ttl_s) == (answer.records, 50)
    assert len(server.packets) == 1


@pytest.mark.parametrize("kind", ["ANY", "AXFR", "OPT", "NO-TYPE", 65536, -1, 0])
def test_what_records_have_no_type_of_is_refused(make_resolver, results, kind) -> None:
    with pytest.raises(DnsArgumentError):
        make_resolver().query("h.test", kind, results)


@pytest.mark.parametrize(
    ("option", "asked"), [("no-aaaa", [A]), ("single-request", [A, AAAA]), ("rotate", [A, AAAA])]
)
def test_options_of_resolv_conf_say_what_is_asked(
    zone, make_resolver, results, option, asked
) -> None:
    server = zone({("h.test", A): "192.0.2.1", ("h.test", AAAA): "2001:db8::1"})
    resolver = make_resolver(server)
    resolver.set_option(option, "")
    resolver.getaddrinfo("h.test", 80, STREAM, results)
    results.wait()
    types = [dns.message.from_wire(packet).question[0].rdtype for packet in server.packets]
    assert types == asked


@pytest.mark.parametrize(("option", "before_the_answer"), [("single-request", 1), ("ndots:1", 2)])
def test_single_request_asks_for_ipv6_when_ipv4_is_answered(
    nameserver, make_reply, make_resolver, results, option, before_the_answer
) -> None:
    def script(packet: bytes) -> bytes | None:
        question = dns.message.from_wire(packet).question[0]
        if question.rdtype == A:
            results.base.once(-1, 1, answer_a, packet, 1)
            return None
        return make_reply(packet, f"{question.name} 60 AAAA 2001:db8::1").to_wire()

    def answer_a(fd: int, what: int, packet: bytes) -> None:
        seen.append(len(server.packets))
        name = dns.message.from_wire(packet).question[0].name
        reply = make_reply(packet, f"{name} 60 A 192.0.2.1").to_wire()
        server.sock.sendto(reply, server.sources[0])

    seen: list[int] = []
    server = nameserver(script)
    resolver = make_resolver(server, getaddrinfo_skew_s=3)
    name, _, value = option.partition(":")
    resolver.set_option(name, value)
    resolver.getaddrinfo("h.test", 80, STREAM, results)
    results.wait()
    assert seen == [before_the_answer]
    assert sorted(hosts(results[0])) == ["192.0.2.1", "2001:db8::1"]


def test_trust_ad_asks_for_validation_and_believes_it(
    nameserver, make_reply, make_resolver, results
) -> None:
    def script(packet: bytes) -> bytes:
        query = dns.message.from_wire(packet)
        seen.append(bool(query.flags & dns.flags.AD))
        name = query.question[0].name
        return make_reply(packet, f"{name} 60 A 192.0.2.1", flags=dns.flags.AD).to_wire()

    seen: list[bool] = []
    server = nameserver(script)
    for trust in (False, True):
        make_resolver(server, trust_ad=trust).query("h.test", "A", results)
        results.wait(len(seen) + 1)
    assert [result[0].authentic for result in results] == seen == [False, True]


@pytest.mark.parametrize(("rcode", "packets"), [(1, 2), (5, 1), (2, 3), (3, 3)])
def test_a_header_alone_is_an_answer_but_denies_no_name(
    nameserver, make_resolver, results, clock, rcode, packets
) -> None:
    server = nameserver(lambda packet: packet[:2] + bytes([0x81, 0x80 | rcode]) + bytes(8))
    begin = clock.monotonic()
    make_resolver(server).resolve_ipv4("h.test", 0, results)
    results.wait()
    expected = {1: 1, 5: DNS_ERR_REFUSED, 2: DNS_ERR_SERVERFAILED, 3: DNS_ERR_SERVERFAILED}
    assert results[0][0] == expected[rcode]
    assert len(server.packets) == packets
    assert clock.monotonic() == begin


def test_a_nameserver_that_only_refers_sends_the_question_to_the_next(
    nameserver, make_reply, answer_a, make_resolver, results
) -> None:
    def refer(packet: bytes) -> bytes:
        reply = make_reply(packet, authority=("site.test. 60 NS ns.site.test.",))
        reply.flags &= ~dns.flags.RA
        return reply.to_wire()

    resolver = make_resolver(nameserver(refer), nameserver(answer_a()))
    resolver.resolve_ipv4("www.site.test", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE


def test_new_nameservers_know_nothing_of_what_the_old_ones_said(
    zone, make_resolver, results
) -> None:
    resolver = make_resolver(zone({}, soa_ttl=3600))
    resolver.getaddrinfo("wiki.test", 80, V4, results)
    results.wait()
    resolver.clear_nameservers_and_suspend()
    resolver.nameserver_sockaddr_add(zone({"wiki.test": "10.0.0.7"}).address)
    resolver.resume()
    resolver.getaddrinfo("wiki.test", 80, V4, results)
    results.wait(2)
    assert [result[0] for result in results] == [EVUTIL_EAI_NONAME, 0]


def test_resolv_conf_is_followed_and_what_it_says_replaces(
    zone, base, results, tmp_path, clock
) -> None:
    old, new = zone({}, soa_ttl=3600), zone({"wiki.new.test": "10.0.0.7"})
    path = tmp_path / "resolv.conf"
    path.write_text(f"nameserver 127.0.0.1:{old.address[1]}\nsearch old.test\noptions ndots:3\n")
    with Resolver(base, resolv_conf=str(path), hosts="/dev/null") as resolver:
        resolver.getaddrinfo("wiki", 80, V4, results)
        results.wait()
        path.write_text(f"nameserver 127.0.0.1:{new.address[1]}\nsearch new.test\n")
        clock.advance(1)
        resolver.getaddrinfo("wiki", 80, V4, results)
        results.wait(2)
        assert [result[0] for result in results] == [EVUTIL_EAI_NONAME, 0]
        assert (resolver.count_nameservers(), resolver.options.ndots) == (1, 1)


@pytest.mark.parametrize(("after_s", "host"), [(0.5, "10.0.0.1"), (1.0, "10.0.0.2")])
def test_the_hosts_file_is_looked_at_once_a_second(
    base, results, tmp_path, clock, after_s, host
) -> None:
    conf, path = tmp_path / "resolv.conf", tmp_path / "hosts"
    path.write_text("10.0.0.1 box\n")
    with Resolver(base, resolv_conf=str(conf), hosts=str(path)) as resolver:
        resolver.getaddrinfo("box", 80, V4, results)
        path.write_text("10.0.0.2 box  # moved\n")
        clock.advance(after_s)
        base.loop(EVLOOP_NONBLOCK)  # the loop's time is that of its last pass
        resolver.getaddrinfo("box", 80, V4, results)
        assert hosts(results[1]) == [host]


def test_a_connection_that_is_closed_after_each_answer_costs_no_attempt(
    base, nameserver, make_reply, make_resolver, results
) -> None:
    """RFC 7766 section 6.2.4."""
    buffers: list[BufferEvent] = []

    def answer_one(bev, ctx) -> None:
        size = int.from_bytes(bev.input.remove(2), "big")
        packet = bev.input.remove(size)
        name = dns.message.from_wire(packet).question[0].name
        wire = make_reply(packet, f"{name} 60 A 192.0.2.1").to_wire()
        bev.setcb(None, lambda bev, ctx: bev.close(), None)
        bev.disable(EV_READ)
        bev.write(len(wire).to_bytes(2, "big") + wire)

    def accept(listener, sock, address, arg) -> None:
        bev = BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)
        buffers.append(bev)
        bev.setcb(answer_one, None, None)
        bev.setwatermark(EV_READ, 3, 0)
        bev.enable(EV_READ)

    with ConnListener.new_bind(base, accept, None, 0, -1, ("127.0.0.1", 0)) as listener:
        resolver = make_resolver(use_vc=True, attempts=1)
        resolver.nameserver_sockaddr_add(listener.address)
        for index in range(10):
            resolver.resolve_ipv4(f"h{index}.test", 0, results)
        results.wait(10)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 10
    assert len(buffers) == 10


def test_what_a_file_said_stays_in_force_when_it_is_gone(base, results, tmp_path, clock) -> None:
    conf, path = tmp_path / "resolv.conf", tmp_path / "hosts"
    path.write_text("10.0.0.1 box\n")
    with Resolver(base, resolv_conf=str(conf), hosts=str(path)) as resolver:
        path.unlink()
        clock.advance(2)
        base.loop(EVLOOP_NONBLOCK)
        resolver.getaddrinfo("box", 80, V4, results)
        assert hosts(results[0]) == ["10.0.0.1"]


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_look_up_has_some_time(make_resolver, results, seconds) -> None:
    resolver = make_resolver()
    with pytest.raises(DnsArgumentError, match=str(seconds)):
        resolver.query("h.test", "A", results, timeout_s=seconds)
    with pytest.raises(DnsArgumentError, match=str(seconds)):
        resolver.getaddrinfo("h.test", 80, V4, results, timeout_s=seconds)
    with pytest.raises(DnsArgumentError):
        make_resolver(lookup_timeout_s=seconds)


def test_probes_ask_the_name_of_the_programs_choice(zone, make_resolver, results, base) -> None:
    server = zone({}, default=None)
    resolver = make_resolver(server, attempts=1, probe_name="up.test", initial_probe_timeout_s=1)
    resolver.resolve_ipv4("h.test", 0, results)
    results.wait()
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 2)
    base.dispatch()
    assert server.names == ["h.test", "up.test"]
    with pytest.raises(DnsArgumentError):
        make_resolver(probe_name="a..b")


def test_a_name_that_appears_is_found_when_its_nearest_absence_is_over(
    base, nameserver, make_reply, make_resolver, results, clock
) -> None:
    """The root's absence, a day long, is kept for the root's name alone."""

    def script(packet: bytes) -> bytes:
        name = dns.message.from_wire(packet).question[0].name
        if b"\4test" in packet.lower() and clock.monotonic() > begin:
            return make_reply(packet, f"{name} 5 A 192.0.2.7").to_wire()
        soa = SOA.format(ttl=1 if b"\4test" in packet.lower() else 86400)
        return make_reply(packet, rcode=3, authority=(soa,)).to_wire()

    begin = clock.monotonic()
    resolver = make_resolver(nameserver(script))
    resolver.search_add("corp.test")
    resolver.getaddrinfo("api", 80, V4, results)
    results.wait()
    clock.advance(1.1)
    base.loop(EVLOOP_NONBLOCK)
    resolver.getaddrinfo("api", 80, V4, results)
    results.wait(2)
    assert [result[0] for result in results] == [EVUTIL_EAI_NONAME, 0]
