"""The resolver on real sockets: what it believes, what it ignores, when it gives up."""

from __future__ import annotations

import socket

import dns.message
import pytest

from evsvc.dns import (
    DNS_CNAME,
    DNS_CNAME_CALLBACK,
    DNS_ERR_CANCEL,
    DNS_ERR_FORMAT,
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_NOTIMPL,
    DNS_ERR_REFUSED,
    DNS_ERR_SERVERFAILED,
    DNS_ERR_SHUTDOWN,
    DNS_ERR_TIMEOUT,
    DNS_ERR_TRUNCATED,
    DNS_ERR_UNKNOWN,
    DNS_PTR,
    DNS_QUERY_IGNTC,
    DNS_QUERY_NO_SEARCH,
    EVDNS_BASE_DISABLE_WHEN_INACTIVE,
    DnsArgumentError,
    DnsStateError,
    DNS_IPv4_A,
    DNS_IPv6_AAAA,
)

SOA = "example.com. 42 SOA ns.example.com. admin.example.com. 1 2 3 4 99"


def answer_a(make_reply, address="192.168.11.11", ttl=12345):
    """Return a script that answers every name with one address."""

    def script(packet: bytes) -> bytes:
        name = dns.message.from_wire(packet).question[0].name.to_text()
        return make_reply(packet, f"{name} {ttl} A {address}").to_wire()

    return script


def test_an_a_record_is_found(nameserver, make_resolver, make_reply, results) -> None:
    server = nameserver(answer_a(make_reply))
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


def test_queries_have_random_ids_ports_and_case(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(answer_a(make_reply))
    resolver = make_resolver(server)
    for _ in range(32):
        resolver.resolve_ipv4("abcdefghijklmnopqrstuvwxyz.example.com", 0, results)
    results.wait(32)
    assert len({packet[:2] for packet in server.packets}) == 32
    assert len({port for _, port in server.sources}) > 24
    assert all(port >= 1024 for _, port in server.sources)
    assert len({packet[12:40] for packet in server.packets}) == 32


def test_the_case_of_a_name_can_be_left_alone(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(answer_a(make_reply))
    make_resolver(server, randomize_case=False).resolve_ipv4("Host.Example.com", 0, results)
    results.wait()
    assert b"\4Host\7Example\3com\0" in server.packets[0]


def lower_name(packet: bytes) -> bytes:
    return packet[:12] + packet[12:].lower()


def test_a_server_that_answers_in_lower_case_is_believed(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(lambda packet: answer_a(make_reply)(lower_name(packet)))
    make_resolver(server).resolve_ipv4("abcdefghijklmnopqrstuvwxyz.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE


def test_strict_case_ignores_a_reply_in_other_case(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(lambda packet: answer_a(make_reply)(lower_name(packet)))
    resolver = make_resolver(server, strict_case=True)
    resolver.resolve_ipv4("abcdefghijklmnopqrstuvwxyz.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT


def wrong_id(packet: bytes) -> bytes:
    return bytes([packet[0] ^ 0x55]) + packet[1:]


def wrong_name(packet: bytes) -> bytes:
    return packet[:13] + bytes([packet[13] ^ 0x01]) + packet[14:]


def wrong_type(packet: bytes) -> bytes:
    at = packet.index(b"\0\0\1\0\1", 12) + 1
    return packet[:at] + b"\0\x1c" + packet[at + 2 :]


def no_qr(packet: bytes) -> bytes:
    return packet[:2] + bytes([packet[2] & 0x7F]) + packet[3:]


def other_opcode(packet: bytes) -> bytes:
    return packet[:2] + bytes([packet[2] | 0x10]) + packet[3:]


def two_questions(packet: bytes) -> bytes:
    return packet[:4] + b"\0\2" + packet[6:]


def too_short(packet: bytes) -> bytes:
    return packet[:11]


@pytest.mark.parametrize(
    "spoil", [wrong_id, wrong_name, wrong_type, no_qr, other_opcode, two_questions, too_short]
)
def test_a_wrong_packet_is_ignored_and_the_right_one_still_awaited(
    nameserver, make_resolver, make_reply, results, spoil
) -> None:
    good = answer_a(make_reply)
    forged = answer_a(make_reply, address="6.6.6.6")
    server = nameserver(lambda packet: [spoil(forged(packet)), good(packet)])
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][4] == ["192.168.11.11"]
    assert len(server.packets) == 1


def test_a_packet_from_another_port_is_ignored(
    nameserver, make_resolver, make_reply, results
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))

        def script(packet: bytes) -> bytes:
            forged = answer_a(make_reply, address="6.6.6.6")(packet)
            stranger.sendto(forged, server.sources[-1])
            return answer_a(make_reply)(packet)

        server = nameserver(script)
        make_resolver(server).resolve_ipv4("host.example.com", 0, results)
        results.wait()
    assert results[0][4] == ["192.168.11.11"]


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
        (DNS_ERR_NONE, DNS_IPv4_A, 1, 50, ["10.0.0.1"]),
        (DNS_ERR_NONE, DNS_CNAME, 1, 50, ["cdn.example.com"]),
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
    assert results == [(DNS_ERR_NONE, DNS_IPv4_A, 1, 50, ["10.0.0.1"])]
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
    assert len(server.packets) == 1


def test_servfail_is_asked_again_at_once_and_is_a_timeout_in_the_end(
    nameserver, make_resolver, make_reply, results, clock
) -> None:
    """libevent never reports rcode 2."""
    server = nameserver(lambda packet: make_reply(packet, rcode=2).to_wire())
    begin = clock.monotonic()
    make_resolver(server, attempts=3).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    assert len(server.packets) == 3
    assert clock.monotonic() == begin


def test_a_reply_that_cannot_be_read_is_an_unknown_error(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(lambda packet: answer_a(make_reply)(packet)[:-2])
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_UNKNOWN


def test_a_cut_reply_is_an_error_when_tcp_is_not_wanted(
    nameserver, make_resolver, make_reply, results
) -> None:
    """libevent's server cuts anywhere, so the rest need not be readable."""

    def script(packet: bytes) -> bytes:
        reply = answer_a(make_reply)(packet)[:-2]
        return reply[:2] + bytes([reply[2] | 0x02]) + reply[3:]

    make_resolver(nameserver(script)).resolve_ipv4("host.example.com", DNS_QUERY_IGNTC, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TRUNCATED


def test_a_lost_query_is_sent_again(
    nameserver, make_resolver, make_reply, results, clock
) -> None:
    def script(packet: bytes) -> bytes | None:
        return answer_a(make_reply)(packet) if len(server.packets) == 3 else None

    server = nameserver(script)
    begin = clock.monotonic()
    resolver = make_resolver(server, timeout_s=0.2, max_timeouts=10)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert clock.monotonic() - begin == pytest.approx(0.4)


def test_a_late_answer_to_the_first_transmission_counts(
    nameserver, make_resolver, make_reply, results
) -> None:
    held: list[bytes] = []

    def silent(packet: bytes) -> None:
        held.append(packet)

    def second(packet: bytes) -> None:
        first.sock.sendto(answer_a(make_reply)(held[0]), first.sources[0])

    first, other = nameserver(silent), nameserver(second)
    make_resolver(first, other).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert (len(first.packets), len(other.packets)) == (1, 1)


def test_attempts_are_all_the_transmissions(nameserver, make_resolver, results, clock) -> None:
    server = nameserver(lambda packet: None)
    begin = clock.monotonic()
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results == [(DNS_ERR_TIMEOUT, DNS_IPv4_A, 0, 0, None)]
    assert len(server.packets) == 3
    assert clock.monotonic() - begin == pytest.approx(15)


def test_another_nameserver_is_asked_after_a_timeout(
    nameserver, make_resolver, make_reply, results
) -> None:
    dead, alive = nameserver(lambda packet: None), nameserver(answer_a(make_reply))
    make_resolver(dead, alive).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert (len(dead.packets), len(alive.packets)) == (1, 1)


def test_nameservers_take_turns(nameserver, make_resolver, make_reply, results) -> None:
    servers = [nameserver(answer_a(make_reply)) for _ in range(3)]
    resolver = make_resolver(*servers)
    for index in range(6):
        resolver.resolve_ipv4(f"host{index}.example.com", 0, results)
    results.wait(6)
    assert [len(server.packets) for server in servers] == [2, 2, 2]


@pytest.mark.parametrize("rcode", [4, 5])
def test_an_unwilling_nameserver_is_passed_over(
    nameserver, make_resolver, make_reply, results, rcode
) -> None:
    unwilling = nameserver(lambda packet: make_reply(packet, rcode=rcode).to_wire())
    willing = nameserver(answer_a(make_reply))
    resolver = make_resolver(unwilling, willing)
    for _ in range(3):
        resolver.resolve_ipv4("host.example.com", 0, results)
        results.wait(len(results) + 1)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 3
    assert (len(unwilling.packets), len(willing.packets)) == (1, 3)


def test_a_closed_port_is_noticed_without_waiting(
    nameserver, make_resolver, make_reply, results, clock
) -> None:
    closed = nameserver(lambda packet: None)
    alive = nameserver(answer_a(make_reply))
    resolver = make_resolver(closed, alive)
    closed.close()
    begin = clock.monotonic()
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert clock.monotonic() == begin


def test_nameservers_that_are_all_closed_are_a_timeout(
    nameserver, make_resolver, results
) -> None:
    closed = nameserver(lambda packet: None)
    resolver = make_resolver(closed)
    closed.close()
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT


def test_a_dead_nameserver_is_probed_and_comes_back(
    nameserver, make_resolver, make_reply, results, base, clock
) -> None:
    """Reference: four drops with three attempts are TIMEOUT, then comes a probe for google.com."""

    def script(packet: bytes) -> bytes | None:
        times.append(clock.monotonic())
        return answer_a(make_reply)(packet) if len(server.packets) > 4 else None

    times: list[float] = []
    server = nameserver(script)
    resolver = make_resolver(server, timeout_s=1, initial_probe_timeout_s=10)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 1000)
    base.dispatch()
    assert server.names[3:] == ["google.com", "google.com"]
    assert times == pytest.approx([1000, 1001, 1002, 1013, 1044])  # 10 s after, then 3 times more
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait(2)
    assert results[1][0] == DNS_ERR_NONE


def test_an_idle_resolver_does_not_keep_the_loop_alive(
    nameserver, make_resolver, make_reply, results, base
) -> None:
    server = nameserver(answer_a(make_reply))
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    server.close()
    assert base.dispatch() == 1


def test_an_idle_resolver_does_not_probe_when_it_shall_be_inactive(
    nameserver, make_resolver, results, base
) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, flags=EVDNS_BASE_DISABLE_WHEN_INACTIVE)
    resolver.resolve_ipv4("host.example.com", 0, results)
    results.wait()
    server.event.delete()
    assert base.dispatch() == 1


@pytest.mark.parametrize("inflight", [3, 20])
def test_lookups_beyond_max_inflight_wait_their_turn(
    nameserver, make_resolver, make_reply, results, inflight
) -> None:
    server = nameserver(answer_a(make_reply))
    resolver = make_resolver(server, max_inflight=inflight, randomize_case=False)
    for index in range(20):
        resolver.resolve_ipv4(f"host{index}.example.com", 0, results)
    results.wait(20)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 20
    assert server.names == [f"host{index}.example.com" for index in range(20)]


def test_no_more_than_max_inflight_are_on_the_wire(
    nameserver, make_resolver, base
) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, max_inflight=3, max_waiting=2)
    for _ in range(5):
        resolver.resolve_ipv4("host.example.com", 0, lambda *args: None)
    with pytest.raises(DnsStateError, match="2 lookups are waiting"):
        resolver.resolve_ipv4("host.example.com", 0, lambda *args: None)
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 1)
    base.dispatch()
    assert len(server.packets) == 3


def test_a_freed_place_goes_to_the_next_in_line(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(answer_a(make_reply))
    resolver = make_resolver(server, max_inflight=1)
    first = resolver.resolve_ipv4("first.example.com", 0, results)
    resolver.resolve_ipv4("second.example.com", 0, results)
    first.cancel()
    results.wait(2)
    assert [result[0] for result in results] == [DNS_ERR_CANCEL, DNS_ERR_NONE]


def test_cancel_is_answered_from_the_loop_and_once(nameserver, make_resolver, results) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, max_inflight=1)
    on_wire = resolver.resolve_ipv4("host.example.com", 0, results)
    waiting = resolver.resolve_ipv6("host.example.com", 0, results)
    for lookup in (on_wire, waiting, on_wire):
        resolver.cancel_request(lookup)
    assert results == []
    results.wait(3)
    assert sorted(results) == [
        (DNS_ERR_CANCEL, DNS_IPv4_A, 0, 0, None),
        (DNS_ERR_CANCEL, DNS_IPv6_AAAA, 0, 0, None),
    ]


def test_cancel_ends_a_search(nameserver, make_resolver, make_reply, results) -> None:
    """Reference: cancelled after the third of four suffixes, once."""

    def script(packet: bytes) -> bytes | None:
        if len(server.packets) == 3:
            lookup.cancel()
            return None
        return make_reply(packet, rcode=3).to_wire()

    server = nameserver(script)
    resolver = make_resolver(server)
    for suffix in "abcd":
        resolver.search_add(f"{suffix}.example.com")
    lookup = resolver.resolve_ipv4("host", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_CANCEL
    assert len(server.packets) == 3


def found_only(make_reply, *names: str):
    """Return a script that knows these names and no others."""

    def script(packet: bytes) -> bytes:
        name = dns.message.from_wire(packet).question[0].name.to_text()
        if name.lower().rstrip(".") in names:
            return make_reply(packet, f"{name} 1 A 11.22.33.44").to_wire()
        return make_reply(packet, rcode=3).to_wire()

    return script


@pytest.mark.parametrize(
    ("name", "flags", "asked", "result"),
    [
        ("host", 0, ["host.a.example.com", "host.b.example.com"], DNS_ERR_NONE),
        ("host", DNS_QUERY_NO_SEARCH, ["host"], DNS_ERR_NOTEXIST),
        ("host.", 0, ["host"], DNS_ERR_NOTEXIST),
        (
            "host3",
            0,
            ["host3.a.example.com", "host3.b.example.com", "host3"],
            DNS_ERR_NOTEXIST,
        ),
        ("host.b.example.com", 0, ["host.b.example.com"], DNS_ERR_NONE),
        ("x.y", 0, ["x.y", "x.y.a.example.com", "x.y.b.example.com"], DNS_ERR_NOTEXIST),
    ],
)
def test_the_search_list_is_tried_in_order(
    nameserver, make_resolver, make_reply, results, name, flags, asked, result
) -> None:
    server = nameserver(found_only(make_reply, "host.b.example.com"))
    resolver = make_resolver(server)
    resolver.search_add(".a.example.com")
    resolver.search_add("b.example.com")
    resolver.resolve_ipv4(name, flags, results)
    results.wait()
    assert server.names == asked
    assert results[0][0] == result


def test_close_fails_what_is_on_the_wire_and_what_waits(
    nameserver, make_resolver, results
) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server, max_inflight=11)
    for _ in range(20):
        resolver.resolve_ipv4("host.example.com", 0, results)
    resolver.close()
    resolver.close()
    assert results == []
    results.wait(20)
    assert [result[0] for result in results] == [DNS_ERR_SHUTDOWN] * 20
    with pytest.raises(DnsStateError):
        resolver.resolve_ipv4("host.example.com", 0, results)


def test_close_without_fail_requests_calls_nobody(
    nameserver, make_resolver, results, base
) -> None:
    server = nameserver(lambda packet: None)
    resolver = make_resolver(server)
    resolver.resolve_ipv4("host.example.com", 0, results)
    resolver.getaddrinfo("host.example.com", 80, None, results)
    resolver.close(fail_requests=False)
    server.close()
    assert base.dispatch() == 1
    assert results == []


def test_a_callback_may_close_the_resolver_and_start_lookups(
    nameserver, make_resolver, make_reply, results
) -> None:
    server = nameserver(answer_a(make_reply))
    resolver = make_resolver(server)

    def first(*args: object) -> None:
        resolver.resolve_ipv4("second.example.com", 0, second)

    def second(*args: object) -> None:
        resolver.resolve_ipv4("third.example.com", 0, results)
        resolver.close()

    resolver.resolve_ipv4("first.example.com", 0, first)
    results.wait()
    assert results[0][0] == DNS_ERR_SHUTDOWN


def test_a_callback_that_raises_loses_no_other_answer(
    nameserver, make_resolver, make_reply, results, base
) -> None:
    server = nameserver(answer_a(make_reply))
    resolver = make_resolver(server)

    def fail(*args: object) -> None:
        raise LookupError("from the program")

    resolver.resolve_ipv4("one.example.com", 0, fail)
    resolver.resolve_ipv4("two.example.com", 0, results)
    with pytest.raises(LookupError):
        base.dispatch()
    results.wait()
    assert results[0][0] == DNS_ERR_NONE


def test_without_nameservers_a_lookup_fails_from_the_loop(make_resolver, results) -> None:
    make_resolver().resolve_ipv4("host.example.com", 0, results)
    assert results == []
    results.wait()
    assert results[0][0] == DNS_ERR_SERVERFAILED


def test_suspended_lookups_start_anew_with_the_nameservers_that_come(
    nameserver, make_resolver, make_reply, results, base, clock
) -> None:
    dead = nameserver(lambda packet: None)
    alive = nameserver(answer_a(make_reply))
    resolver = make_resolver(dead, max_inflight=2, randomize_case=False)
    for name in "abc":
        resolver.resolve_ipv4(f"{name}.example.com", 0, results)
    resolver.clear_nameservers_and_suspend()
    assert resolver.count_nameservers() == 0
    resolver.resume()  # without a nameserver, nothing
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 60)
    base.dispatch()
    assert results == []
    resolver.nameserver_sockaddr_add(alive.address)
    resolver.resume()
    results.wait(3)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 3
    assert alive.names == ["a.example.com", "b.example.com", "c.example.com"]


@pytest.mark.parametrize(
    "name", ["", "@", "a..b", ".example.com", "x" * 64, ".".join(["x" * 63] * 5), "\udc80", "x" * 5000]
)
def test_what_is_no_name_is_refused_at_the_call(make_resolver, results, name) -> None:
    resolver = make_resolver()
    resolver.search_add("example.com")
    with pytest.raises(DnsArgumentError):
        resolver.resolve_ipv4(name, 0, results)


def test_bad_arguments_name_the_value(make_resolver, results) -> None:
    resolver = make_resolver()
    with pytest.raises(DnsArgumentError, match="0x100"):
        resolver.resolve_ipv4("example.com", 0x100, results)
    with pytest.raises(DnsArgumentError, match="1.2.3"):
        resolver.resolve_reverse("1.2.3", 0, results)
    with pytest.raises(DnsArgumentError, match="1.2.3.4"):
        resolver.resolve_reverse_ipv6("1.2.3.4", 0, results)


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


def test_a_thousand_lookups_half_cancelled_have_one_answer_each(
    nameserver, make_resolver, make_reply, base
) -> None:
    server = nameserver(answer_a(make_reply))
    resolver = make_resolver(server)
    answers: list[list[int]] = [[] for _ in range(1000)]

    def done(result: int, *args: object) -> None:
        mine = args[-1]
        assert isinstance(mine, list)
        mine.append(result)

    lookups = [
        resolver.resolve_ipv4("host.example.com", 0, done, mine) for mine in answers
    ]
    for lookup in lookups[::2]:
        base.once(-1, 1, lambda fd, what, target: target.cancel(), lookup, 1e-6)
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 3600)
    base.dispatch()
    assert [len(mine) for mine in answers] == [1] * 1000
    assert all(mine == [DNS_ERR_NONE] for mine in answers[1::2])
