"""DnsServer over TCP: pipelining, limits, idle clients, clients that end their side."""

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

from evsvc.dns import (
    EVDNS_ANSWER_SECTION,
    EVDNS_SOPT_TCP_IDLE_TIMEOUT,
    EVDNS_SOPT_TCP_MAX_CLIENTS,
    DnsArgumentError,
    DnsServerOptions,
)


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


def answer_many(count: int, section: int = EVDNS_ANSWER_SECTION):
    def answer(request, arg) -> None:
        for index in range(count):
            address = struct.pack("!I", 0x0A000000 + index)
            request.add_reply(section, request.questions[0].name, 1, 1, 60, address)
        request.respond(0)

    return answer


def with_opcode(opcode: int) -> bytes:
    packet = query()
    return packet[:2] + bytes([packet[2] | opcode << 3]) + packet[3:]


def as_reply() -> bytes:
    packet = query()
    return packet[:2] + bytes([packet[2] | 0x80]) + packet[3:]


def test_tcp_queries_share_a_connection_and_come_in_pieces(make_server, connect) -> None:
    client = connect(make_server(answer_a).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    packets = [query(id=number) for number in (1, 2, 3)]
    stream = b"".join(struct.pack("!H", len(packet)) + packet for packet in packets)
    for byte in stream:
        client.sock.send(bytes([byte]))
        client.turn()
    replies = [dns.message.from_wire(frame) for frame in client.frames()]
    assert [reply.id for reply in replies] == [1, 2, 3]
    assert not client.closed


def test_tcp_replies_come_in_the_order_of_respond_and_whole(make_server, connect) -> None:
    kept = []
    port = make_server(lambda request, arg: kept.append(request)).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query(id=1), query(id=2))
    client.turn()
    for request in reversed(kept):
        answer_many(1000)(request, None)
    replies = [dns.message.from_wire(frame) for frame in client.frames()]
    assert [(reply.id, len(reply.answer[0])) for reply in replies] == [(2, 1000), (1, 1000)]
    assert not replies[0].flags & dns.flags.TC


def test_a_tcp_length_of_zero_ends_the_connection(make_server, connect) -> None:
    client = connect(make_server(answer_a).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.sock.send(b"\0\0")
    assert client.frames() == []
    assert client.closed


def test_a_bad_query_over_tcp_is_answered_and_a_reply_ignored(make_server, connect) -> None:
    client = connect(make_server(answer_a).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(as_reply(), b"x", with_opcode(4), query(id=7))
    replies = [dns.message.from_wire(frame) for frame in client.frames()]
    assert [reply.rcode() for reply in replies] == [dns.rcode.NOTIMP, dns.rcode.NOERROR]


@pytest.mark.parametrize("clients", [1, 2])
def test_one_tcp_client_too_many_is_closed_at_once(make_server, connect, clients) -> None:
    options = DnsServerOptions(tcp_max_clients=clients)
    port = make_server(answer_a, options=options).bind_tcp("127.0.0.1", 0)
    connected = [connect(port, socket.SOCK_STREAM) for _ in range(clients + 1)]
    for client in connected:
        client.frames()
    assert [client.closed for client in connected] == [False] * clients + [True]


def test_an_idle_tcp_client_is_closed_after_tcp_idle_s(make_server, connect, clock) -> None:
    port = make_server(answer_a).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query())
    assert len(client.frames()) == 1
    clock.advance(9.9)
    client.sock.send(b"\0")  # half a length is no query
    client.frames()
    assert not client.closed
    clock.advance(0.2)
    client.frames()
    assert client.closed


def test_a_tcp_client_whose_query_is_unanswered_is_not_idle(make_server, connect, clock) -> None:
    kept = []
    port = make_server(lambda request, arg: kept.append(request)).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query())
    client.frames()
    clock.advance(25)
    client.frames()
    answer_a(kept[0], None)
    assert len(client.frames()) == 1
    clock.advance(11)
    client.frames()
    assert client.closed


@pytest.mark.parametrize("finish", [answer_a, lambda request, arg: request.drop()])
def test_no_more_than_tcp_pending_queries_are_taken(make_server, connect, finish) -> None:
    kept = []
    port = make_server(
        lambda request, arg: kept.append(request), options=DnsServerOptions(tcp_pending=2)
    ).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(*(query(id=number) for number in range(5)))
    client.turn()
    assert len(kept) == 2
    finish(kept[0], None)
    client.turn()
    assert len(kept) == 3
    for request in kept[1:3]:
        finish(request, None)
    client.turn()
    assert len(kept) == 5


def test_a_tcp_client_that_does_not_read_is_closed(make_server, connect) -> None:
    options = DnsServerOptions(tcp_output_bytes=65537, tcp_pending=1000)
    port = make_server(answer_many(4000), options=options).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(*(query(id=number) for number in range(100)))
    assert len(client.frames()) < 100
    assert client.closed


@pytest.mark.parametrize(
    ("name", "closed"), [("www.example.com", False), ("wwww.example.com", True)]
)
def test_unsent_replies_have_tcp_output_bytes_and_no_more(
    make_server, connect, name, closed
) -> None:
    """Both replies are given before the first is sent; the second is a header alone."""
    packet = query(name)
    count = (65535 - len(query())) // 16
    limit = 2 + len(query()) + 16 * count + 2 + 12
    options = DnsServerOptions(tcp_output_bytes=limit)
    port = make_server(answer_many(count), options=options).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(packet, packet[:12])
    assert len(client.frames()) == (0 if closed else 2)
    assert client.closed == closed


def test_a_tcp_client_that_ends_its_side_gets_its_replies(make_server, connect) -> None:
    kept = []
    port = make_server(lambda request, arg: kept.append(request)).bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query(id=1), query(id=2))
    client.sock.shutdown(socket.SHUT_WR)
    client.turn()
    for request in kept:
        answer_a(request, None)
    assert len(client.frames()) == 2
    assert client.closed


def test_a_tcp_callback_that_raises_loses_no_later_query(make_server, connect, base) -> None:
    caught = []
    base.exception_handler = caught.append

    def fail_first(request, arg) -> None:
        if len(caught) == 0:
            raise LookupError
        answer_a(request, arg)

    client = connect(make_server(fail_first).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(query(id=1), query(id=2), query(id=3))
    replies = [dns.message.from_wire(frame) for frame in client.frames()]
    assert [(reply.id, reply.rcode()) for reply in replies] == [(1, 2), (2, 0), (3, 0)]


def test_options_of_a_tcp_port_can_be_changed(make_server, connect, clock) -> None:
    port = make_server(answer_a).bind_tcp("127.0.0.1", 0)
    for value in (0, 1, 100):
        port.set_option(EVDNS_SOPT_TCP_MAX_CLIENTS, value)
        port.set_option(EVDNS_SOPT_TCP_IDLE_TIMEOUT, value)
    assert (port.options.tcp_max_clients, port.options.tcp_idle_s) == (100, 100)
    for option, value in ((7, 1), (EVDNS_SOPT_TCP_MAX_CLIENTS, -1)):
        with pytest.raises(DnsArgumentError):
            port.set_option(option, value)


def test_queries_behind_a_callback_that_raised_are_answered_after_the_peers_end(
    make_server, connect, base
) -> None:
    caught = []
    base.exception_handler = caught.append

    def fail_first(request, arg) -> None:
        if len(caught) == 0:
            raise LookupError
        answer_a(request, arg)

    client = connect(make_server(fail_first).bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(query(id=1), query(id=2), query(id=3))
    client.sock.shutdown(socket.SHUT_WR)
    assert len(client.frames()) == 3
    assert client.closed


def test_a_full_port_closes_the_one_that_was_silent_longest(make_server, connect, clock) -> None:
    options = DnsServerOptions(tcp_max_clients=3)
    port = make_server(answer_a, options=options).bind_tcp("127.0.0.1", 0)
    clients = []
    for _ in range(3):
        clients.append(connect(port, socket.SOCK_STREAM))
        clients[-1].frames()
        clock.advance(0.1)
    clients[0].ask_all(query())
    assert len(clients[0].frames()) == 1
    newcomer = connect(port, socket.SOCK_STREAM)
    newcomer.ask_all(query())
    assert len(newcomer.frames()) == 1
    for client in clients:
        client.frames()
    assert [client.closed for client in clients] == [False, True, False]


def test_a_full_port_keeps_who_waits_for_an_answer(make_server, connect, clock) -> None:
    options = DnsServerOptions(tcp_max_clients=1)
    kept = []
    server = make_server(lambda request, arg: kept.append(request), options=options)
    port = server.bind_tcp("127.0.0.1", 0)
    waiting = connect(port, socket.SOCK_STREAM)
    waiting.ask_all(query())
    waiting.frames()
    clock.advance(0.1)
    newcomer = connect(port, socket.SOCK_STREAM)
    newcomer.frames()
    assert (waiting.closed, newcomer.closed) == (False, True)
    answer_a(kept[0], None)
    assert len(waiting.frames()) == 1


@pytest.mark.parametrize(("connections", "closed"), [(2, False), (3, True)])
def test_one_address_has_no_more_than_tcp_clients_per_address(
    make_server, connect, clock, connections, closed
) -> None:
    options = DnsServerOptions(tcp_clients_per_address=2)
    port = make_server(answer_a, options=options).bind_tcp("127.0.0.1", 0)
    clients = []
    for _ in range(connections):
        clients.append(connect(port, socket.SOCK_STREAM))
        clients[-1].frames()
        clock.advance(0.1)
    clients[0].frames()
    assert clients[0].closed == closed
    clients[-1].ask_all(query())
    assert len(clients[-1].frames()) == 1


@pytest.mark.parametrize(("clients", "idle_s"), [(1, 10), (5, 10), (8, 6), (10, 2)])
def test_the_idle_time_shrinks_as_the_port_fills(
    make_server, connect, clock, clients, idle_s
) -> None:
    options = DnsServerOptions(tcp_max_clients=10, tcp_idle_s=10)
    port = make_server(answer_a, options=options).bind_tcp("127.0.0.1", 0)
    connected = [connect(port, socket.SOCK_STREAM) for _ in range(clients)]
    connected[0].turn()
    clock.advance(idle_s - 0.1)
    for client in connected:
        client.frames()
    assert not any(client.closed for client in connected)
    clock.advance(0.2)
    for client in connected:
        client.frames()
    assert any(client.closed for client in connected)


def test_what_was_asked_before_a_length_of_zero_is_answered_later(make_server, connect) -> None:
    waiting = []
    server = make_server(lambda request, arg: waiting.append(request))
    port = server.bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query(), b"", query())
    assert client.frames() == []
    assert (len(waiting), client.closed) == (1, False)
    waiting[0].respond(0)
    assert len(client.frames()) == 1
    assert client.closed
