"""What is done holds nothing: no cycle is left for the cyclic collector."""

from __future__ import annotations

import gc
import socket
import struct
from collections.abc import Callable

import pytest

from evsvc.core import EVLOOP_NONBLOCK
from evsvc.dns import DNS_QUERY_USEVC, DnsServer, Resolver
from tests.dns.ports import bind_udp_and_tcp


@pytest.fixture
def count_garbage() -> Callable[[Callable[[], object]], int]:
    """Return `count_garbage(work)`: how many objects only the cyclic collector could free."""

    def count(work: Callable[[], object]) -> int:
        work()  # what is made once and kept is not what we look for
        gc.collect()
        gc.disable()
        try:
            for _ in range(10):
                work()
            return gc.collect()
        finally:
            gc.enable()

    return count


def answer(request, arg) -> None:
    if request.questions[0].name.lower().startswith("lost"):
        request.drop()
        return
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 0)
    request.respond(0)


def test_lookups_leave_no_garbage(make_server, make_resolver, results, count_garbage) -> None:
    server = make_server(answer)
    tcp, _ = bind_udp_and_tcp(server)
    resolver = make_resolver(attempts=1)
    resolver.nameserver_ip_add(f"127.0.0.1:{tcp.port}")

    def look_up() -> None:
        results.clear()
        resolver.resolve_ipv4("h.example.com", 0, results)
        resolver.resolve_ipv4("h.example.com", DNS_QUERY_USEVC, results)
        resolver.resolve_ipv4("lost.example.com", 0, results)
        resolver.resolve_ipv4("h.example.com", 0, results).cancel()
        resolver.getaddrinfo("h.example.com", 80, None, results)
        resolver.getaddrinfo("h.example.com", 80, None, results).cancel()
        results.wait(6)
        assert len(results) == 6

    assert count_garbage(look_up) == 0


def test_resolvers_and_servers_leave_no_garbage(base, results, count_garbage) -> None:
    """Closed with lookups on the wire, clients connected and queries unanswered."""

    def open_and_close() -> None:
        from_client = b"\0\x1d" + struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\3www\7example\0"
        server = DnsServer(base, lambda request, arg: None)
        tcp, udp = bind_udp_and_tcp(server)
        resolver = Resolver(base, 0)
        resolver.nameserver_ip_add(f"127.0.0.1:{udp.port}")
        resolver.resolve_ipv4("h.example.com", 0, results)
        resolver.resolve_ipv4("h.example.com", DNS_QUERY_USEVC, results)
        resolver.getaddrinfo("h.example.com", 80, None, results)
        with socket.create_connection(("127.0.0.1", tcp.port)) as client:
            client.sendall(from_client + b"\0\1\0\1")
            for _ in range(4):
                base.loop(EVLOOP_NONBLOCK)
            server.close()
            resolver.close()
            for _ in range(4):
                base.loop(EVLOOP_NONBLOCK)

    assert count_garbage(open_and_close) == 0
