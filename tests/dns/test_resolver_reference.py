"""What libevent's reference says of the resolver, and no other file of these tests has shown."""

from __future__ import annotations

import socket
import struct
from itertools import pairwise

import dns.flags
import dns.message
import dns.opcode
import dns.rdataclass
import pytest

from evsvc.core import EVLOOP_NONBLOCK, EVUTIL_EAI_ADDRFAMILY, AddrInfoHints, EventBase
from evsvc.dns import (
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_ERR_TIMEOUT,
    DNS_ERR_TRUNCATED,
    DNS_QUERY_IGNTC,
    DNS_QUERY_USEVC,
    EVDNS_BASE_DISABLE_WHEN_INACTIVE,
    DnsArgumentError,
    DnsServerOptions,
    ResolverOptions,
    Transport,
    TransportMaker,
    err_to_string,
)
from evsvc.dns.resolver.transport import open_udp_socket
from tests.dns.ports import bind_udp_and_tcp

STREAM = AddrInfoHints(type=socket.SOCK_STREAM)
V4 = AddrInfoHints(family=socket.AF_INET, type=socket.SOCK_STREAM)
V6 = AddrInfoHints(family=socket.AF_INET6, type=socket.SOCK_STREAM)


def test_the_query_on_the_wire_has_one_question_and_wants_recursion(
    nameserver, make_resolver, answer_a, results
) -> None:
    server = nameserver(answer_a())
    make_resolver(server).resolve_ipv4("host.example.com", 0, results)
    results.wait()
    query = dns.message.from_wire(server.packets[0])
    assert query.flags == dns.flags.RD
    assert query.opcode() == dns.opcode.QUERY
    assert [asked.rdclass for asked in query.question] == [dns.rdataclass.IN]
    assert (query.answer, query.authority, query.additional) == ([], [], [])
    assert (query.edns, query.ednsflags, query.payload, query.options) == (0, 0, 1232, ())


def test_the_hosts_table_plays_no_part_in_resolve(
    nameserver, make_resolver, make_reply, results, tmp_path
) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.9 box.test\n")
    server = nameserver(lambda packet: make_reply(packet, rcode=3).to_wire())
    resolver = make_resolver(server)
    resolver.load_hosts(str(path))
    resolver.resolve_ipv4("box.test", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NOTEXIST


def test_hosts_of_several_files_add_up(make_resolver, results, tmp_path) -> None:
    resolver = make_resolver()
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"10.0.0.1 {name} # not me\n10.0.0.1:80 port\nx {name}\n")
        resolver.load_hosts(str(tmp_path / name))
        resolver.getaddrinfo(name.upper(), 80, V4, results)
    resolver.getaddrinfo("one", 80, V4, results)
    assert [result[0] for result in results] == [0, 0, 0]


@pytest.mark.parametrize(("limit", "told"), [(2, False), (1, True)])
def test_hosts_entries_bounds_the_table(make_resolver, tmp_path, limit, told, caplog) -> None:
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a b\n")
    make_resolver(hosts_entries=limit).load_hosts(str(path))
    assert ("more than 1 entries" in caplog.text) == told


def test_a_search_under_way_keeps_the_list_that_it_began_with(
    nameserver, make_resolver, make_reply, results
) -> None:
    def script(packet: bytes) -> bytes:
        resolver.search_clear()
        return make_reply(packet, rcode=3).to_wire()

    server = nameserver(script)
    resolver = make_resolver(server)
    resolver.search_add("a.test")
    resolver.search_add("b.test")
    resolver.resolve_ipv4("host", 0, results)
    results.wait()
    assert server.names == ["host.a.test", "host.b.test", "host"]


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({"initial-probe-timeout": 10, "max-probe-timeout": 2}, [2, 2]),
        ({"initial-probe-timeout": 0.2, "probe-backoff-factor": 10}, [0.2, 2]),
    ],
)
def test_probes_come_when_the_settings_say(
    nameserver, make_resolver, results, base, clock, settings, times
) -> None:
    """Each is given up after the time of one transmission, here a tenth of a second."""

    def script(packet: bytes) -> None:
        begun.append(clock.monotonic())

    begun: list[float] = []
    resolver = make_resolver(nameserver(script), timeout_s=0.1, attempts=1)
    for name, value in settings.items():
        resolver.set_option(name, value)
    resolver.resolve_ipv4("host.test", 0, results)
    results.wait()
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 5)
    base.dispatch()
    assert results[0][0] == DNS_ERR_TIMEOUT
    gaps = [after - before - 0.1 for before, after in pairwise(begun)]
    assert gaps == pytest.approx(times)


def test_probes_do_not_wait_for_a_place_on_the_wire(
    nameserver, make_resolver, results, base
) -> None:
    silent = nameserver(lambda packet: None)
    resolver = make_resolver(silent, max_inflight=1, timeout_s=1, attempts=1)
    resolver.set_option("initial-probe-timeout", 1)
    resolver.resolve_ipv4("one.test", 0, results)
    results.wait()
    resolver.set_option("timeout", 60)
    resolver.resolve_ipv4("two.test", 0, results)
    base.once(-1, 1, lambda *args: base.loopbreak(), None, 2)
    base.dispatch()
    assert silent.names == ["one.test", "two.test", "."]
    assert len(results) == 1  # the place is taken still


@pytest.mark.parametrize(
    ("edns", "size", "flags", "result"),
    [
        (512, 600, DNS_QUERY_IGNTC, DNS_ERR_TRUNCATED),
        (4096, 600, DNS_QUERY_IGNTC, DNS_ERR_NONE),
        (4096, 8000, DNS_QUERY_IGNTC, DNS_ERR_TRUNCATED),
        (65535, 8000, DNS_QUERY_IGNTC, DNS_ERR_NONE),
        (512, 8000, 0, DNS_ERR_NONE),
    ],
)
def test_edns_says_how_much_a_datagram_may_have(
    make_server, make_resolver, results, edns, size, flags, result
) -> None:
    count = size // 16

    def answer(request, arg) -> None:
        addresses = [struct.pack("!I", 0x0A000000 + index) for index in range(count)]
        request.add_a_reply(request.questions[0].name, addresses, 60)
        request.respond(0)

    tcp, _ = bind_udp_and_tcp(make_server(answer, options=DnsServerOptions(udp_reply_bytes=65507)))
    resolver = make_resolver()
    resolver.nameserver_sockaddr_add(("127.0.0.1", tcp.port))
    resolver.set_option("edns-udp-size", edns)
    resolver.resolve_ipv4("host.test", flags, results)
    results.wait()
    assert results[0][0] == result
    assert results[0][2] == (count if result == DNS_ERR_NONE else 0)


def test_three_resolvers_ask_one_server_over_tcp_at_once(
    make_server, make_resolver, results
) -> None:
    def answer(request, arg) -> None:
        seen.append(request.requesting_addr)
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
        request.respond(0)

    seen: list[tuple] = []
    tcp = make_server(answer).bind_tcp("127.0.0.1", 0)
    for number in range(3):
        resolver = make_resolver()
        resolver.nameserver_sockaddr_add(("127.0.0.1", tcp.port))
        for name in "abc":
            resolver.resolve_ipv4(f"{name}{number}.test", DNS_QUERY_USEVC, results)
    results.wait(9)
    assert [result[0] for result in results] == [DNS_ERR_NONE] * 9
    assert (len(seen), len(set(seen))) == (9, 3)


@pytest.mark.parametrize("servers", [1, 2])
def test_an_inactive_resolver_is_no_event_of_the_base(base, make_resolver, servers) -> None:
    resolver = make_resolver(flags=EVDNS_BASE_DISABLE_WHEN_INACTIVE)
    for number in range(servers):
        resolver.nameserver_ip_add(f"127.0.0.{number + 1}")
    assert base.loop(EVLOOP_NONBLOCK) == 1


def test_the_buffers_of_sockets_are_as_large_as_is_said() -> None:
    options = ResolverOptions(receive_buffer_bytes=20000, send_buffer_bytes=30000)
    with open_udp_socket(("127.0.0.1", 53), options) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) in (20000, 40000)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) in (30000, 60000)


@pytest.mark.parametrize(("limit", "kept"), [(2, ["a.test", "b.test"]), (1, ["b.test"])])
def test_cache_entries_bounds_the_cache(
    nameserver, make_resolver, answer_a, results, limit, kept
) -> None:
    resolver = make_resolver(nameserver(answer_a()), cache_entries=limit)
    for count, name in enumerate(("a.test", "b.test"), 1):
        resolver.query(name, "A", results)
        results.wait(count)
    assert [entry.name for entry in resolver.cached_answers()] == kept


def hosts(result) -> list[str]:
    return [found.sockaddr[0] for found in result[1]]


def test_what_is_written_into_the_cache_is_told_until_its_time_is_over(
    nameserver, make_resolver, make_reply, results, clock, base
) -> None:
    server = nameserver(lambda packet: make_reply(packet, rcode=3).to_wire())
    resolver = make_resolver(server, sort_addresses=False)
    resolver.cache_write("Host.test", ["10.0.0.1", "2001:db8::1"], 60)
    resolver.cache_write("four.test", ["10.0.0.2"], 60)
    resolver.cache_write("four.test", ["10.0.0.4"], 60)
    for name, hints in (("hOST.test", STREAM), ("four.test", STREAM), ("four.test", V6)):
        assert resolver.getaddrinfo(name, 80, hints, results) is None
    assert [hosts(result) for result in results] == [["10.0.0.1", "2001:db8::1"], ["10.0.0.4"], []]
    assert results[2][0] == EVUTIL_EAI_ADDRFAMILY
    resolver.cache_write("four.test", [], 60)
    assert {entry.name for entry in resolver.cached_answers()} == {"host.test"}
    clock.advance(61)
    base.loop(EVLOOP_NONBLOCK)
    assert resolver.getaddrinfo("host.test", 80, STREAM, results) is not None
    resolver.cache_write("host.test", ["10.0.0.1"], 0)
    assert resolver.cached_answers() == []


@pytest.mark.parametrize(
    ("name", "addresses", "ttl_s"),
    [
        ("a..b", ["10.0.0.1"], 1),
        ("a.test", ["10.0.0"], 1),
        ("a.test", ["10.0.0.2"], -1),
        ("a.test", ["10.0.0.2"], 2**31),
        ("a.test", ["10.0.0.2"], 1.5),
    ],
)
def test_what_cannot_be_written_into_the_cache_changes_nothing(
    make_resolver, results, name, addresses, ttl_s
) -> None:
    resolver = make_resolver()
    resolver.cache_write("a.test", ["10.0.0.1"], 2**31 - 1)
    with pytest.raises(DnsArgumentError):
        resolver.cache_write(name, addresses, ttl_s)
    resolver.getaddrinfo("a.test", 80, STREAM, results)
    assert hosts(results[0]) == ["10.0.0.1"]


class Echo:
    """A way of the program's own to a nameserver: it answers each query by itself."""

    def __init__(self, base: EventBase, server, options: ResolverOptions, on_packet, on_lost):
        self.base = base
        self.on_packet = on_packet
        self.waiting: list = []

    def send(self, sent) -> None:
        self.waiting.append(sent)
        self.base.once(-1, 1, self.answer, None, 0)

    def answer(self, fd: int, what: int, arg: object) -> None:
        for sent in self.waiting.copy():
            query = dns.message.from_wire(sent.packet)
            reply = dns.message.make_response(query)
            name = query.question[0].name
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
            assert self.on_packet(sent, reply.to_wire())

    def forget(self, sent) -> None:
        if sent in self.waiting:
            self.waiting.remove(sent)

    def give_up(self) -> None:
        self.waiting.clear()

    def close(self) -> None:
        self.waiting.clear()


def test_a_nameserver_may_be_reached_in_a_way_of_the_programs_own(make_resolver, results) -> None:
    def make(*args) -> Transport:
        return Echo(*args)

    maker: TransportMaker = make
    resolver = make_resolver()
    resolver.nameserver_transport_add(("192.0.2.1", 5300), "echo", maker)
    resolver.resolve_ipv4("Host.test", 0, results)
    results.wait()
    assert results[0][4] == ["192.0.2.7"]
    assert resolver.nameserver_addr(0) == ("192.0.2.1", 5300)


@pytest.mark.parametrize(("ttl", "minimum"), [(42, 99), (99, 42), (42, 42)])
@pytest.mark.parametrize("rcode", [0, 3])
def test_an_absence_is_believed_for_the_soas_ttl_or_minimum(
    nameserver, make_resolver, make_reply, results, ttl, minimum, rcode
) -> None:
    soa = f"test. {ttl} SOA n. h. 1 2 3 4 {minimum}"
    server = nameserver(lambda packet: make_reply(packet, rcode=rcode, authority=(soa,)).to_wire())
    make_resolver(server).resolve_ipv4("host.test", 0, results)
    results.wait()
    assert results[0][3] == 42


def test_an_address_may_have_several_names(nameserver, make_resolver, make_reply, results) -> None:
    """libevent tells the first alone."""
    owner = "1.0.0.10.in-addr.arpa."
    names = ["One.test", "two.test"]
    records = [f"{owner} 60 PTR {name}." for name in names]
    server = nameserver(lambda packet: make_reply(packet, *records).to_wire())
    make_resolver(server).resolve_reverse("10.0.0.1", 0, results)
    results.wait()
    assert results[0][2] == 2
    assert sorted(results[0][4]) == names


TEXTS = {
    0: "no error",
    1: "misformatted query",
    2: "server failed",
    3: "name does not exist",
    4: "query not implemented",
    5: "refused",
    65: "reply truncated or ill-formed",
    66: "unknown",
    67: "request timed out",
    68: "dns subsystem shut down",
    69: "dns request canceled",
    70: "no records in the reply",
    72: "[Unknown error code]",
}


@pytest.mark.parametrize("code", TEXTS)
def test_errors_have_libevents_texts(code) -> None:
    assert err_to_string(code) == TEXTS[code]
