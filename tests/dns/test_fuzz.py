"""Whatever comes over the network, nothing is raised out of the loop, and service goes on."""

from __future__ import annotations

import socket
import struct

import dns.message
from hypothesis import example, given
from hypothesis import strategies as st

from evsvc.core import (
    EV_PERSIST,
    EV_READ,
    EVLOOP_NONBLOCK,
    Event,
    EventBase,
    FakeClock,
)
from evsvc.dns import DNS_ERR_NONE, DnsServer, Resolver

QUERY = dns.message.make_query("www.example.com", "A", use_edns=0).to_wire()


@st.composite
def packets(draw, seed: bytes) -> bytes:
    """Random bytes, or `seed` with some of its bytes changed."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300))
    changed = bytearray(seed)
    for at, value in draw(
        st.lists(st.tuples(st.integers(2, len(seed) - 1), st.integers(0, 255)), max_size=6)
    ):
        changed[at] = value
    return bytes(changed[: draw(st.integers(2, len(seed)))])


def answer(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


def turn(base: EventBase) -> None:
    for _ in range(4):
        base.loop(EVLOOP_NONBLOCK)


@given(st.lists(packets(QUERY), max_size=6))
def test_a_server_outlives_any_datagrams(junk) -> None:
    with EventBase(clock=FakeClock()) as base, DnsServer(base, answer) as server:
        port = server.bind_udp("127.0.0.1", 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect((port.address, port.port))
            client.setblocking(False)
            for packet in junk:
                client.send(packet)
            client.send(QUERY)
            turn(base)
            replies = []
            while not replies or replies[-1][:2] != QUERY[:2] or not replies[-1][7]:
                replies.append(client.recv(65535))


@given(st.binary(max_size=100), st.lists(packets(QUERY), max_size=6))
@example(b"\0\0", [])
def test_a_server_outlives_any_stream(tail, junk) -> None:
    with EventBase(clock=FakeClock()) as base, DnsServer(base, answer) as server:
        port = server.bind_tcp("127.0.0.1", 0)
        with socket.create_connection((port.address, port.port)) as client:
            framed = b"".join(struct.pack("!H", len(packet)) + packet for packet in junk if packet)
            client.sendall(framed + struct.pack("!H", len(QUERY)) + QUERY + tail)
            turn(base)
            client.setblocking(False)
            received = client.recv(65535)
        assert QUERY[:2] in received
        turn(base)


@given(st.data())
def test_a_resolver_outlives_any_replies(data) -> None:
    with EventBase(clock=FakeClock()) as base, Resolver(base, 0) as resolver:
        results = []

        def done(*args: object) -> None:
            results.append(args[0])
            base.loopbreak()

        def serve(fd: int, what: int, arg: object) -> None:
            packet, source = sock.recvfrom(65535)
            reply = dns.message.make_response(dns.message.from_wire(packet)).to_wire()
            for junk in data.draw(st.lists(packets(reply), max_size=4)):
                sock.sendto(junk, source)

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            with Event(base, sock, EV_READ | EV_PERSIST, serve) as event:
                event.add()
                resolver.nameserver_sockaddr_add(sock.getsockname())
                resolver.resolve_ipv4("www.example.com", 0, done)
                base.dispatch()
        assert len(results) == 1
        assert results[0] != DNS_ERR_NONE
