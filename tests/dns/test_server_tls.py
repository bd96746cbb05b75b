"""DNS over TLS: the same server behind a handshake."""

from __future__ import annotations

import struct

import dns.edns
import dns.message
import pytest
import trustme

from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BUFFEREVENT_SSL_CONNECTING,
    EV_READ,
    EVLOOP_ONCE,
    BufferEvent,
    TlsBufferEvent,
)
from evsvc.core.tls import client_context, server_context
from evsvc.dns import DnsServerOptions

PATIENCE_PASSES = 2000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def tls(authority, tmp_path):
    path = tmp_path / "server.pem"
    authority.issue_cert("dns.test", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    return server_context(path, alpn=["dot"])


class TlsClient:
    """A client on the server's own base, which keeps what it receives."""

    def __init__(self, base, port, authority) -> None:
        self.base = base
        self.told = 0
        context = client_context(cadata=authority.cert_pem.bytes().decode(), alpn=["dot"])
        self.bev = TlsBufferEvent.socket_new(
            base, None, context, BUFFEREVENT_SSL_CONNECTING, 1, server_hostname="dns.test"
        )
        self.bev.setcb(None, None, self._on_event)
        self.bev.enable(EV_READ)
        self.bev.connect((port.address, port.port))

    def _on_event(self, bev, what, ctx) -> None:
        self.told |= what

    def until(self, condition) -> None:
        for _ in range(PATIENCE_PASSES):
            if condition():
                return
            with self.base.timer(lambda *args: None) as soon:
                soon.add(0.001)
                self.base.loop(EVLOOP_ONCE)
        pytest.fail("it never came true")

    def ask(self, *packets: bytes) -> list[bytes]:
        for packet in packets:
            self.bev.write(struct.pack("!H", len(packet)) + packet)
        replies = []
        for _ in packets:
            self.until(lambda: len(self.bev.input) >= 2)
            (length,) = struct.unpack("!H", self.bev.input.remove(2))
            self.until(lambda length=length: len(self.bev.input) >= length)
            replies.append(self.bev.input.remove(length))
        return replies


@pytest.fixture
def dial(base, authority):
    made = []

    def dial(port) -> TlsClient:
        made.append(TlsClient(base, port, authority))
        return made[-1]

    yield dial
    for client in made:
        client.bev.close()


def query(name="www.example.com", **kwargs) -> bytes:
    return dns.message.make_query(name, "A", **kwargs).to_wire()


def answer(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"] * 100, 60)
    request.add_text("a.test", 60, "TXT", request.transport)
    request.respond(0)


def test_queries_are_answered_over_tls(make_server, dial, tls) -> None:
    port = make_server(answer).bind_tcp("127.0.0.1", 0, tls=tls)
    client = dial(port)
    replies = [dns.message.from_wire(each) for each in client.ask(query("a.test"), query("b.test"))]
    assert [str(reply.question[0].name) for reply in replies] == ["a.test.", "b.test."]
    assert str(replies[0].answer[-1][0]) == '"tls"'
    assert client.bev.ssl.selected_alpn_protocol() == "dot"
    assert client.told & BEV_EVENT_CONNECTED


def test_a_padded_query_gets_a_padded_reply(make_server, dial, tls) -> None:
    port = make_server(answer).bind_tcp("127.0.0.1", 0, tls=tls)
    padding = dns.edns.GenericOption(12, bytes(20))
    padded, bare = dial(port).ask(query(use_edns=0, options=[padding]), query(use_edns=0))
    assert len(padded) % 468 == 0
    assert len(bare) % 468 != 0
    assert len(dns.message.from_wire(padded).answer) == 2


def test_an_idle_client_is_told_the_end(make_server, dial, tls, clock) -> None:
    port = make_server(answer).bind_tcp("127.0.0.1", 0, tls=tls)
    client = dial(port)
    client.ask(query())
    clock.advance(10.1)
    client.until(lambda: client.told & BEV_EVENT_EOF)
    assert port.client_count == 0
    assert client.bev.error is None


def test_who_does_not_shake_hands_goes(make_server, connect, base, tls, clock) -> None:
    options = DnsServerOptions(tls_handshake_s=3, tcp_idle_s=None)
    port = make_server(answer, options=options).bind_tcp("127.0.0.1", 0, tls=tls)
    with BufferEvent(base, None, 1) as silent:
        silent.connect((port.address, port.port))
        for _ in range(4):
            base.loop(2)
        assert port.client_count == 1
        clock.advance(2.9)
        for _ in range(4):
            base.loop(2)
        assert port.client_count == 1
        clock.advance(0.1)
        for _ in range(4):
            base.loop(2)
        assert port.client_count == 0


def test_who_speaks_plain_dns_goes(make_server, connect, tls) -> None:
    port = make_server(answer).bind_tcp("127.0.0.1", 0, tls=tls)
    client = connect(port, 1)
    client.ask_all(query())
    client.frames()
    client.turn()
    assert port.client_count == 0
