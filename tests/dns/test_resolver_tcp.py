"""The resolver over TCP, against our own server: truncation, pipelining, loss, idling."""

from __future__ import annotations

import struct

import pytest

from evsvc.core import EVLOOP_NONBLOCK, ConnListener
from evsvc.dns import (
    DNS_ERR_NONE,
    DNS_ERR_NOTIMPL,
    DNS_ERR_TIMEOUT,
    DNS_ERR_TRUNCATED,
    DNS_QUERY_IGNTC,
    DNS_QUERY_USEVC,
    DnsServerOptions,
)
from tests.dns.ports import bind_udp_and_tcp


class BothPorts:
    """Our server at one UDP and TCP port, counting what comes over each."""

    def __init__(self, server, seen: list[str]) -> None:
        self.tcp, self.udp = bind_udp_and_tcp(server)
        self.address = ("127.0.0.1", self.tcp.port)
        self.seen = seen

    def transports(self) -> list[str]:
        return self.seen


@pytest.fixture
def both(make_server):
    """Return `both(count, **options)`: a server that answers `count` addresses."""

    def start(count: int, answer=None, **options) -> BothPorts:
        seen: list[str] = []

        def count_and_answer(request, arg) -> None:
            seen.append(type(request._path).__name__)
            if answer is not None:
                answer(request)
                return
            addresses = [struct.pack("!I", 0x0A000000 + index) for index in range(count)]
            request.add_a_reply(request.questions[0].name, addresses, 60)
            request.respond(0)

        return BothPorts(make_server(count_and_answer, options=DnsServerOptions(**options)), seen)

    return start


UDP, TCP = "UdpServerPort", "TcpClient"


def test_a_cut_answer_is_fetched_over_tcp(both, make_resolver, results) -> None:
    server = both(100)
    make_resolver(server).resolve_ipv4("many.example.com", 0, results)
    results.wait()
    assert results[0][:3] == (DNS_ERR_NONE, 1, 100)
    assert server.seen == [UDP, TCP]


@pytest.mark.parametrize("ignore", ["flag", "option"])
def test_a_cut_answer_is_an_error_when_cuts_are_ignored(
    both, make_resolver, results, ignore
) -> None:
    server = both(100)
    resolver = make_resolver(server, ignore_tc=ignore == "option")
    flags = DNS_QUERY_IGNTC if ignore == "flag" else 0
    resolver.resolve_ipv4("many.example.com", flags, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TRUNCATED
    assert server.seen == [UDP]


@pytest.mark.parametrize("way", ["flag", "option"])
def test_use_vc_never_asks_over_udp(both, make_resolver, results, way) -> None:
    server = both(1)
    resolver = make_resolver(server)
    if way == "option":
        resolver.set_option("use-vc:", "")
    resolver.resolve_ipv4("h.example.com", DNS_QUERY_USEVC if way == "flag" else 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert server.seen == [TCP]


def test_queries_share_one_connection(both, make_resolver, results) -> None:
    server = both(100, tcp_max_clients=1)
    resolver = make_resolver(server, use_vc=True)
    for index in range(3):
        resolver.resolve_ipv4(f"h{index}.example.com", 0, results)
    results.wait(3)
    assert [result[2] for result in results] == [100] * 3
    assert server.seen == [TCP] * 3


def test_edns_makes_room_for_a_larger_datagram(both, make_resolver, results) -> None:
    server = both(70)
    make_resolver(server, edns_udp_bytes=1232).resolve_ipv4("h.example.com", 0, results)
    results.wait()
    assert results[0][2] == 70
    assert server.seen == [UDP]


def test_an_unwilling_server_over_tcp_reports_its_code(both, make_resolver, results) -> None:
    server = both(0, answer=lambda request: request.respond(4))
    make_resolver(server).resolve_ipv4("h.example.com", DNS_QUERY_USEVC, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NOTIMPL
    assert server.seen == [TCP] * 2  # the second without EDNS


def test_a_lost_reply_over_tcp_is_a_timeout(both, make_resolver, results, clock) -> None:
    server = both(0, answer=lambda request: request.drop())
    begin = clock.monotonic()
    resolver = make_resolver(server, timeout_s=1, attempts=2)
    for index in range(2):
        resolver.resolve_ipv4(f"h{index}.example.com", DNS_QUERY_USEVC, results)
    results.wait(2)
    assert [result[0] for result in results] == [DNS_ERR_TIMEOUT] * 2
    assert server.seen == [TCP] * 4
    assert clock.monotonic() == pytest.approx(begin + 2)


def test_a_tcp_port_that_is_closed_is_a_timeout_without_waiting(
    both, make_resolver, results, clock
) -> None:
    server = both(100)
    server.tcp.close()
    begin = clock.monotonic()
    make_resolver(server).resolve_ipv4("h.example.com", 0, results)
    results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    assert clock.monotonic() == begin


def test_a_connection_that_the_server_ends_is_made_anew(both, make_resolver, results) -> None:
    def end_first(request) -> None:
        if len(server.seen) == 1:
            for client in list(server.tcp._clients):
                client.close()
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
        request.respond(0)

    server = both(0, answer=end_first)
    make_resolver(server).resolve_ipv4("h.example.com", DNS_QUERY_USEVC, results)
    results.wait()
    assert results[0][0] == DNS_ERR_NONE
    assert server.seen == [TCP, TCP]


def test_an_idle_connection_is_closed_after_tcp_idle_s(
    both, make_resolver, results, base, clock
) -> None:
    server = both(1)
    resolver = make_resolver(server, use_vc=True, tcp_idle_s=5)
    resolver.resolve_ipv4("h.example.com", 0, results)
    results.wait()
    for seconds, connections in ((4.9, 1), (0.2, 0)):
        clock.advance(seconds)
        for _ in range(4):
            base.loop(EVLOOP_NONBLOCK)
        assert len(server.tcp._clients) == connections


def test_closing_the_resolver_closes_its_connections(both, make_resolver, results, base) -> None:
    server = both(0, answer=lambda request: None)
    resolver = make_resolver(server, use_vc=True)
    resolver.resolve_ipv4("h.example.com", 0, results)
    for _ in range(4):
        base.loop(EVLOOP_NONBLOCK)
    resolver.close()
    results.wait()
    assert len(results) == 1


@pytest.mark.parametrize("stream", [b"\0\0", b"\0\5junk!\0\0"])
def test_an_empty_message_ends_the_connection_and_junk_is_ignored(
    base, make_resolver, results, stream
) -> None:
    accepted = []

    def accept(listener, sock, address, arg) -> None:
        accepted.append(sock)
        sock.sendall(stream)

    with ConnListener.new_bind(base, accept, None, 0, -1, ("127.0.0.1", 0)) as listener:
        resolver = make_resolver(attempts=2)
        resolver.nameserver_sockaddr_add(listener.address)
        resolver.resolve_ipv4("h.example.com", DNS_QUERY_USEVC, results)
        results.wait()
    assert results[0][0] == DNS_ERR_TIMEOUT
    assert len(accepted) == 2
    for sock in accepted:
        sock.close()
