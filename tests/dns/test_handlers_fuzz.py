"""Whatever comes, handlers raise nothing, answer what dnspython reads, and leave nothing behind."""

from __future__ import annotations

import gc
import socket
import weakref

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import EVLOOP_NONBLOCK, EventBase
from evsvc.dns import DnsChain, DnsRegistry, DnsServer, DnsZone, ZoneOptions

ZONE = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns1 admin 7 7200 900 604800 60
@ IN NS ns1
www IN A 192.0.2.1
alias IN CNAME www
*.wild IN MX 5 www
sub IN NS ns.sub
ns.sub IN A 192.0.2.54
old IN DNAME new
"""
LABELS = st.sampled_from(
    [b"www", b"alias", b"wild", b"sub", b"old", b"new", b"x", b"*", b"WWW", b"ns", b"_tcp", b"\0"]
)
TOPS = st.sampled_from([b"\7example\3com\0", b"\3svc\4test\0", b"\3com\0", b"\0"])


def name_of(labels: list[bytes], top: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + top


QUESTIONS = st.builds(
    lambda name, rdtype, rdclass: name + rdtype.to_bytes(2, "big") + rdclass.to_bytes(2, "big"),
    st.builds(name_of, st.lists(LABELS, max_size=4), TOPS),
    st.one_of(
        st.sampled_from([1, 2, 5, 6, 15, 28, 33, 39, 43, 251, 252, 255]), st.integers(0, 65535)
    ),
    st.sampled_from([1, 1, 1, 3, 255]),
)
TAILS = st.one_of(
    st.just(b""),
    st.just(b"\0\0\x29\x04\xd0\0\0\0\0\0\0"),
    st.builds(
        lambda data: b"\0\0\x29\x04\xd0\0\0\x80\0" + len(data).to_bytes(2, "big") + data,
        st.binary(max_size=30),
    ),
    st.binary(max_size=20),
)
PACKETS = st.builds(
    lambda head, count, question, tail: head + count + question + tail,
    st.sampled_from(
        [b"\1\2\0\0\0\1\0\0\0\0\0", b"\1\2\1\x20\0\1\0\0\0\0\0", b"\1\2\0\x10\0\1\0\0\0\0\0"]
    ),
    st.sampled_from([b"\0", b"\1"]),
    QUESTIONS,
    TAILS,
)


@pytest.fixture(scope="module")
def server():
    registry = DnsRegistry("svc.test")
    registry.register("www", ("192.0.2.1", 80))
    chain = DnsChain()
    chain.add("example.com", DnsZone.from_text(ZONE))
    chain.add("svc.test", registry)
    with EventBase() as base, DnsServer(base, chain) as made:
        yield made


@pytest.mark.no_cover
@given(PACKETS)
def test_every_question_gets_one_reply_that_can_be_read(server, packet) -> None:
    failed = server.counters.failed
    server.flush_finished()
    replies = []
    for _ in range(2):  # the second may be a kept one
        server.handle_message(packet, ("192.0.2.1", 1), replies.append)
    assert server.counters.failed == failed
    assert replies[0] == replies[1]
    assert dns.message.from_wire(replies[0]).id == 0x0102


def test_a_transfer_that_nobody_fetches_leaves_nothing() -> None:
    """Neither the client nor the zone lives on by a circle."""
    text = ZONE + "".join(f"h{n} IN TXT {'x' * 250}\n" for n in range(3000))
    zone = DnsZone.from_text(text, options=ZoneOptions(transfers_to=("127.0.0.1",)))
    alive = []
    packet = dns.message.make_query("example.com", "AXFR").to_wire()
    gc.collect()
    gc.disable()
    try:
        with EventBase() as base:

            def answer(request, arg) -> None:
                alive.append(weakref.ref(request.message))
                zone(request)

            server = DnsServer(base, answer)
            port = server.bind_tcp("127.0.0.1", 0)
            for _ in range(3):
                with socket.create_connection((port.address, port.port)) as client:
                    client.sendall(len(packet).to_bytes(2, "big") + packet)
                    for _ in range(4):
                        base.loop(EVLOOP_NONBLOCK)
                    assert port.client_count == 1
                for _ in range(4):
                    base.loop(EVLOOP_NONBLOCK)
                assert port.client_count == 0
            server.close()
        assert [ref() for ref in alive] == [None] * 3
    finally:
        gc.enable()
