"""A graceful stop of DnsServer: what has come is answered, by datagram and by connection."""

from __future__ import annotations

import logging
import socket
import struct

import dns.message
import pytest

from evsvc.core import ArgumentError, ArgumentTypeError
from evsvc.dns import DnsServerOptions


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


@pytest.fixture
def kept() -> list:
    return []


@pytest.fixture
def holding(make_server, kept):
    """A server whose requests wait in `kept`."""
    return make_server(lambda request, arg: kept.append(request))


def test_without_anything_in_hand_the_callback_runs_at_once(make_server) -> None:
    server = make_server(answer_a)
    server.bind_udp("127.0.0.1", 0)
    server.bind_tcp("127.0.0.1", 0)
    done = []
    server.shutdown(done.append, deadline_s=10, idle_s=10)
    assert done == [server]
    assert server.ports == []


def test_datagrams_that_have_come_are_answered(make_server, connect, clock) -> None:
    server = make_server(answer_a)
    client = connect(server.bind_udp("127.0.0.1", 0), socket.SOCK_DGRAM)
    client.sock.send(query(id=7))
    done = []
    server.shutdown(done.append)
    assert done == [server]
    assert dns.message.from_wire(client.sock.recv(512)).id == 7


@pytest.mark.parametrize("batch", [1, 2])
def test_one_batch_of_them(make_server, connect, batch) -> None:
    """The rest is for whoever has the socket, too."""
    server = make_server(answer_a, options=DnsServerOptions(udp_batch=batch))
    port = server.bind_udp("127.0.0.1", 0)
    with port.sock.dup() as shared:
        client = connect(port, socket.SOCK_DGRAM)
        for number in range(2):
            client.sock.send(query(id=number))
        server.shutdown()
        if batch == 1:
            assert dns.message.from_wire(shared.recv(512)).id == 1
        else:
            with pytest.raises(BlockingIOError):
                shared.recv(512)


def test_a_datagram_that_the_program_holds_is_answered(holding, connect, kept, base) -> None:
    client = connect(holding.bind_udp("127.0.0.1", 0), socket.SOCK_DGRAM)
    assert client.ask(query(id=1)) is None
    assert client.ask(query(id=2)) is None
    done = []
    holding.shutdown(done.append)
    assert client.ask(query(id=3)) is None
    assert [len(kept), done] == [2, []]
    answer_a(kept[0], None)
    assert dns.message.from_wire(client.receive()).id == 1
    assert done == []
    kept[1].drop()
    assert done == [holding]
    assert base.dispatch() == 1


def test_the_deadline_waits_for_no_program(holding, connect, clock, base, caplog) -> None:
    client = connect(holding.bind_udp("127.0.0.1", 0), socket.SOCK_DGRAM)
    client.ask(query())
    done = []
    holding.shutdown(done.append, deadline_s=5)
    clock.advance(4.9)
    client.turn()
    assert done == []
    with caplog.at_level(logging.WARNING, logger="evsvc.dns"):
        clock.advance(0.1)
        client.turn()
    assert done == [holding]
    assert [record.getMessage() for record in caplog.records] == [
        "the stop took too long: 1 ports are closed"
    ]


def test_a_client_of_tcp_has_its_answers_first(holding, connect, kept) -> None:
    port = holding.bind_tcp("127.0.0.1", 0)
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query(id=1), query(id=2))
    client.turn()
    done = []
    assert port.sock is not None
    holding.shutdown(done.append)
    assert port.sock is None
    for request in kept:
        assert done == []
        answer_a(request, None)
    assert [dns.message.from_wire(frame).id for frame in client.frames()] == [1, 2]
    assert client.closed
    assert done == [holding]


def test_who_waits_to_be_accepted_is_served(make_server, connect, clock) -> None:
    server = make_server(answer_a)
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    server.shutdown(idle_s=1)
    client.ask_all(query(id=1))
    assert [dns.message.from_wire(frame).id for frame in client.frames()] == [1]


def test_clients_of_tcp_may_go_on_for_the_idle_time(make_server, connect, clock) -> None:
    server = make_server(answer_a)
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.turn()
    done = []
    server.shutdown(done.append, idle_s=1)
    for number in (1, 2):
        client.ask_all(query(id=number))
        assert [dns.message.from_wire(frame).id for frame in client.frames()] == [number]
    clock.advance(0.9)
    client.frames()
    assert not client.closed
    clock.advance(0.1)
    client.frames()
    assert client.closed
    assert done == [server]


def test_of_many_queries_none_is_left_out(make_server, connect, kept, clock) -> None:
    """Those too, that a client has sent while too many were with the program."""
    options = DnsServerOptions(tcp_pending=1)
    server = make_server(lambda request, arg: kept.append(request), options=options)
    client = connect(server.bind_tcp("127.0.0.1", 0), socket.SOCK_STREAM)
    client.ask_all(*(query(id=number) for number in range(3)))
    client.turn()
    server.shutdown()
    for _ in range(3):
        answer_a(kept[-1], None)
        client.turn()
    assert [dns.message.from_wire(frame).id for frame in client.frames()] == [0, 1, 2]
    assert client.closed


def test_close_in_the_middle_of_it_tells_too(holding, connect, kept) -> None:
    client = connect(holding.bind_udp("127.0.0.1", 0), socket.SOCK_DGRAM)
    client.ask(query())
    done = []
    holding.shutdown(done.append)
    holding.close()
    assert done == [holding]
    answer_a(kept[0], None)
    assert done == [holding]


def test_messages_that_come_another_way_are_answered_until_close(make_server) -> None:
    server = make_server(answer_a)
    server.shutdown()
    replies = []
    server.handle_message(query(id=5), ("192.0.2.1", 1), replies.append)
    assert struct.unpack_from("!H", replies[0]) == (5,)


@pytest.mark.parametrize("what", ["deadline_s", "idle_s"])
@pytest.mark.parametrize(("value", "error"), [(-1, ArgumentError), ("1", ArgumentTypeError)])
def test_times_are_seconds(make_server, what, value, error) -> None:
    server = make_server(answer_a)
    port = server.bind_udp("127.0.0.1", 0)
    with pytest.raises(error):
        server.shutdown(**{what: value})
    assert server.ports == [port]
