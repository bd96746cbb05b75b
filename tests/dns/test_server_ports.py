"""The ports of a DnsServer: binding, adopting, closing, a socket that is full."""

from __future__ import annotations

import socket
import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from evsvc.core import EVLOOP_ONCE, ConnListener, SocketError
from evsvc.dns import DnsArgumentError, DnsServerOptions, DnsStateError


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


def test_a_late_reply_to_a_client_that_has_gone_is_harmless(make_server, connect, base) -> None:
    kept = []
    server = make_server(lambda request, arg: kept.append(request))
    udp, tcp = server.bind_udp("127.0.0.1", 0), server.bind_tcp("127.0.0.1", 0)
    clients = [connect(udp), connect(tcp, socket.SOCK_STREAM), connect(tcp, socket.SOCK_STREAM)]
    clients[0].ask(query())
    for client in clients[1:]:
        client.ask_all(query())
        client.turn()
    clients[1].sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    clients[1].sock.close()
    clients[0].turn()
    answer_a(kept[1], None)
    server.close()
    answer_a(kept[0], None)
    kept[2].drop()
    assert len(kept) == 3


def test_a_callback_may_close_the_server(make_server, connect) -> None:
    def close_and_answer(request, arg) -> None:
        server.close()
        answer_a(request, arg)

    server = make_server(close_and_answer)
    udp, tcp = server.bind_udp("127.0.0.1", 0), server.bind_tcp("127.0.0.1", 0)
    client = connect(tcp, socket.SOCK_STREAM)
    client.ask_all(query(), query())
    client.frames()
    assert client.closed
    assert udp.closed
    assert tcp.closed
    assert server.ports == []
    udp.close()
    tcp.close()
    with pytest.raises(DnsStateError):
        server.bind_udp("127.0.0.1", 0)


@pytest.mark.parametrize("method", ["bind_udp", "bind_tcp"])
def test_a_busy_port_raises_socket_error(make_server, method) -> None:
    bind = getattr(make_server(answer_a), method)
    port = bind("127.0.0.1", 0)
    with pytest.raises(SocketError) as caught:
        bind("127.0.0.1", port.port)
    assert caught.value.errno is not None
    with pytest.raises(DnsArgumentError):
        bind("localhost", 0)
    with pytest.raises(DnsArgumentError):
        bind("127.0.0.1", 65536)


def test_sockets_and_listeners_can_be_adopted(make_server, connect, base) -> None:
    server = make_server(answer_a)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    assert connect(server.add_server_port(sock)).ask(query())
    listener = ConnListener.new_bind(base, None, None, 0, -1, ("127.0.0.1", 0))
    client = connect(server.add_server_port_with_listener(listener), socket.SOCK_STREAM)
    client.ask_all(query())
    assert len(client.frames()) == 1
    server.close()
    assert sock.fileno() == -1


def test_only_udp_sockets_and_tcp_listeners_are_adopted(make_server, base, tmp_path) -> None:
    server = make_server(answer_a)
    with socket.socket() as sock, pytest.raises(DnsArgumentError):
        server.add_server_port(sock)
    with (
        ConnListener.new_bind(base, None, None, 0, -1, str(tmp_path / "s")) as listener,
        pytest.raises(DnsArgumentError),
    ):
        server.add_server_port_with_listener(listener)


def test_replies_wait_for_a_full_socket_up_to_udp_queue(make_server, connect, base) -> None:
    """A socket pair stands in for a UDP socket that is full."""
    server = make_server(answer_a, options=DnsServerOptions(udp_queue=2))
    port = server.bind_udp("127.0.0.1", 0)
    client = connect(port)
    address = client.sock.getsockname()
    real_socket = port._sock

    class FullSocket:
        def sendto(self, packet: bytes, address: object) -> int:
            raise BlockingIOError

    port._sock = FullSocket()
    for payload in (b"one", b"two", b"three"):
        port.send_reply(payload, address)
    port._sock = real_socket
    client.turn()
    assert [client.receive(), client.receive(), client.receive()] == [b"one", b"two", None]


def test_a_server_wants_a_callback(make_server) -> None:
    with pytest.raises(DnsArgumentError):
        make_server(None)


@pytest.mark.parametrize(("sent", "read"), [(3, 3), (4, 3)])
def test_no_more_than_udp_batch_datagrams_are_read_at_once(
    make_server, connect, base, sent, read
) -> None:
    asked = []
    options = DnsServerOptions(udp_batch=3)
    client = connect(
        make_server(lambda request, arg: asked.append(request), options=options).bind_udp(
            "127.0.0.1", 0
        )
    )
    for _ in range(sent):
        client.sock.send(query())
    base.loop(EVLOOP_ONCE)
    assert len(asked) == read
    client.turn()
    assert len(asked) == sent


def test_a_base_may_be_closed_before_the_server(make_server, connect, base) -> None:
    server = make_server(answer_a)
    tcp, udp = server.bind_tcp("127.0.0.1", 0), server.bind_udp("127.0.0.1", 0)
    client = connect(tcp, socket.SOCK_STREAM)
    client.frames()
    base.close()
    server.close()
    assert tcp.closed
    assert udp.closed


@pytest.mark.parametrize("method", ["bind_udp", "bind_tcp"])
@pytest.mark.parametrize("first", ["0.0.0.0", "::"])
def test_every_ipv4_and_every_ipv6_address_stand_side_by_side(make_server, method, first) -> None:
    bind = getattr(make_server(answer_a), method)
    port = bind(first, 0)
    other = bind("::" if first == "0.0.0.0" else "0.0.0.0", port.port)
    assert other.port == port.port
    for address in ("0.0.0.0", "::"):
        with pytest.raises(SocketError):
            getattr(make_server(answer_a), method)(address, port.port)


@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.5"])
@pytest.mark.parametrize("bound", [["0.0.0.0"], ["::"], ["::", "0.0.0.0"], ["0.0.0.0", "::"]])
def test_a_reply_leaves_from_the_address_that_was_asked(make_server, base, bound, asked) -> None:
    server = make_server(answer_a)
    number = 0
    for address in bound:
        number = server.bind_udp(address, number).port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.sendto(query(), (asked, number))
        base.loop(EVLOOP_ONCE)
        packet, source = client.recvfrom(512)
    assert source == (asked, number)
    assert dns.message.from_wire(packet).answer


def test_a_late_reply_leaves_from_the_address_that_was_asked(make_server, base) -> None:
    kept = []
    port = make_server(lambda request, arg: kept.append(request)).bind_udp("0.0.0.0", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.sendto(query(), ("127.0.0.9", port.port))
        base.loop(EVLOOP_ONCE)
        answer_a(kept[0], None)
        assert client.recvfrom(512)[1][0] == "127.0.0.9"
