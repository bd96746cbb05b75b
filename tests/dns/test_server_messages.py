"""Replies of several messages, messages that come another way, records as text."""

from __future__ import annotations

import socket

import dns.message
import dns.rrset
import pytest

from evsvc.dns import (
    EVDNS_AUTHORITY_SECTION,
    EVDNS_FLAGS_AD,
    DnsArgumentError,
    DnsServerOptions,
    DnsStateError,
    ReplyGroup,
)


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def txt(number: int) -> dns.rrset.RRset:
    return dns.rrset.from_text("www.example.com.", 60, "IN", "TXT", f'"{number:03}{"x" * 200}"')


def test_a_long_reply_is_made_as_the_client_takes_it(make_server, connect) -> None:
    made = []
    text = " ".join(["x" * 250] * 24)
    long = dns.rrset.from_text("www.example.com.", 60, "IN", "TXT", text)

    def pieces():
        for number in range(2000):
            made.append(number)
            yield [long]

    def answer(request, arg) -> None:
        request.respond_messages(pieces())

    options = DnsServerOptions(tcp_stream_bytes=1000)
    client = connect(make_server(answer, options=options).bind_tcp("127.0.0.1", 0), 1)
    client.ask_all(query(id=99))
    client.turn()
    assert 0 < len(made) < 2000  # the kernel's buffers are full
    frames = []
    while len(frames) < 2000:
        frames += client.frames()
    first, last = dns.message.from_wire(frames[0]), dns.message.from_wire(frames[-1])
    assert (first.id, last.id) == (99, 99)
    assert [len(each.answer[0][0].strings) for each in (first, last)] == [24, 24]
    client.ask_all(query())
    assert len(client.frames()) > 0  # the connection lives on


def test_an_iterator_that_raises_ends_the_connection(make_server, connect, base, caplog) -> None:
    told = []
    base.exception_handler = told.append

    def pieces():
        yield [txt(1)]
        raise ValueError("out of records")

    port = make_server(lambda request, arg: request.respond_messages(pieces())).bind_tcp(
        "127.0.0.1", 0
    )
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query())
    client.frames()
    assert client.closed
    assert [str(exc) for exc in told] == ["out of records"]
    assert "raised" in caplog.text


@pytest.mark.parametrize(("limit", "messages"), [(1, 1), (100, 1), (101, 2), (200, 2), (201, 3)])
def test_a_long_reply_goes_on_while_fewer_than_tcp_stream_bytes_are_unsent(
    make_server, connect, limit, messages
) -> None:
    """Each message has 100 bytes with its length; the kernel takes them after the callback."""
    made = []
    counted = []
    text = dns.rrset.from_text("www.example.com.", 60, "IN", "TXT", "x" * 52)

    def pieces():
        for number in range(9):
            made.append(number)
            yield [text]

    def answer(request, arg) -> None:
        request.respond_messages(pieces())
        counted.append(len(made))

    options = DnsServerOptions(tcp_stream_bytes=limit)
    client = connect(make_server(answer, options=options).bind_tcp("127.0.0.1", 0), 1)
    client.ask_all(query())
    frames = []
    while len(frames) < 9:
        frames += client.frames()
    assert {len(frame) for frame in frames} == {98}
    assert counted == [messages]


def test_a_client_that_takes_nothing_of_a_long_reply_goes(make_server, connect, clock) -> None:
    def pieces():
        while True:
            yield [txt(1)] * 100

    port = make_server(lambda request, arg: request.respond_messages(pieces())).bind_tcp(
        "127.0.0.1", 0
    )
    client = connect(port, socket.SOCK_STREAM)
    client.ask_all(query())
    client.turn()
    clock.advance(9.9)
    client.turn()
    assert port.client_count == 1
    clock.advance(0.2)
    client.turn()
    assert port.client_count == 0


def test_a_datagram_is_one_message(make_server, connect) -> None:
    raised = []

    def answer(request, arg) -> None:
        try:
            request.respond_messages([])
        except DnsStateError as exc:
            raised.append(str(exc))
            request.respond(0)

    server = make_server(answer)
    assert connect(server.bind_udp("127.0.0.1", 0)).ask(query())
    replies = []
    server.handle_message(query(), ("192.0.2.1", 1), replies.append)
    assert len(replies) == 1
    assert raised == [f"{how} carries no reply of several messages" for how in ("udp", "https")]


def test_a_message_that_came_another_way_is_answered(make_server) -> None:
    seen, replies = [], []

    def answer(request, arg) -> None:
        seen.append((request.transport, request.is_stream, request.requesting_addr))
        if request.questions[0].name == "drop.test":
            request.drop()
            return
        request.add_a_reply(request.questions[0].name, ["10.0.0.1"] * 500, 60)
        request.respond(0)

    server = make_server(answer)
    for packet in (query(), query("drop.test"), b"x", query(rdtype="AXFR")):
        server.handle_message(packet, ("192.0.2.1", 99), replies.append)
    assert len(dns.message.from_wire(replies[0]).answer[0]) == 1  # equal records are one set
    assert len(replies[0]) > 512
    assert replies[1:3] == [None, None]
    assert dns.message.from_wire(replies[3]).rcode() == 5
    assert seen == [("https", True, ("192.0.2.1", 99))] * 2
    server.close()
    with pytest.raises(DnsStateError):
        server.handle_message(query(), ("192.0.2.1", 99), replies.append)


def test_records_of_any_type_are_added_as_text(make_server, connect) -> None:
    def answer(request, arg) -> None:
        name = request.questions[0].name
        request.add_text(name, 60, "MX", "10 mail.example.com")
        request.add_text(name, 61, "TXT", '"two words" "more"')
        request.add_text(name, 62, "HTTPS", "1 . alpn=h2,h3 ipv4hint=192.0.2.1")
        request.add_text(name, 63, 257, '0 issue "ca.example"')
        request.add_text("example.com", 64, "NS", "ns.", section=EVDNS_AUTHORITY_SECTION)
        request.respond(0)

    client = connect(make_server(answer).bind_udp("127.0.0.1", 0))
    reply = dns.message.from_wire(client.ask(query()))
    assert [str(rrset) for rrset in reply.answer] == [
        "www.example.com. 60 IN MX 10 mail.example.com.",
        'www.example.com. 61 IN TXT "two words" "more"',
        'www.example.com. 62 IN HTTPS 1 . alpn="h2,h3" ipv4hint="192.0.2.1"',
        'www.example.com. 63 IN CAA 0 issue "ca.example"',
    ]
    assert [str(rrset) for rrset in reply.authority] == ["example.com. 64 IN NS ns."]


@pytest.mark.parametrize(
    "add",
    [
        lambda request: request.add_text("a.test", 60, "MX", "mail"),
        lambda request: request.add_text("a.test", 60, "NOTYPE", "x"),
        lambda request: request.add_text("a.test", 60, 65536, "x"),
        lambda request: request.add_text("a..test", 60, "MX", "10 mail"),
        lambda request: request.add_text("a.test", -1, "MX", "10 mail"),
        lambda request: request.add_text("a.test", 60, "A", "10.0.0.1", section=3),
        lambda request: request.add_rrset(3, txt(1)),
        lambda request: request.add_rrset(0, dns.rrset.from_text(".", 0, "IN", "OPT")),
        lambda request: request.set_flags(0x10),
    ],
)
def test_records_that_cannot_be_are_refused(make_server, connect, add) -> None:
    refused = []

    def answer(request, arg) -> None:
        try:
            add(request)
        except DnsArgumentError:
            refused.append(request)
        request.respond(0)

    reply = connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    assert len(refused) == 1
    assert dns.message.from_wire(reply).answer == []


def test_replies_of_a_group_are_forgotten_together(make_server, connect) -> None:
    groups = {"a.test": ReplyGroup(), "b.test": ReplyGroup()}
    everything = ReplyGroup()
    asked = []

    def answer(request, arg) -> None:
        name = request.questions[0].name
        asked.append(name)
        request.set_flags(EVDNS_FLAGS_AD)
        request.keep_with(everything)
        if name in groups:
            request.keep_with(groups[name])
        request.respond(0, cache_s=60)

    server = make_server(answer)
    client = connect(server.bind_udp("127.0.0.1", 0))
    names = ("a.test", "b.test", "c.test")
    for step in (
        lambda: None,
        groups["a.test"].flush,
        lambda: server.flush_finished(groups["b.test"]),
    ):
        step()
        for name in names:
            assert client.ask(query(name))
    assert asked == ["a.test", "b.test", "c.test", "a.test", "b.test"]
    everything.flush()
    client.ask(query("c.test"))
    assert len(asked) == 6


def test_never_keep_is_stronger_than_cache_s(make_server, connect) -> None:
    asked = []

    def answer(request, arg) -> None:
        asked.append(request)
        request.never_keep()
        request.respond(0, cache_s=60)

    client = connect(make_server(answer).bind_udp("127.0.0.1", 0))
    client.ask(query())
    client.ask(query())
    assert len(asked) == 2


def test_the_name_is_known_in_three_forms(make_server, connect) -> None:
    seen = []

    def answer(request, arg) -> None:
        seen.append(
            (
                request.name_key,
                request.message.question[0].name.to_text(),
                request.questions[0].name,
            )
        )
        request.respond(0)

    client = connect(make_server(answer).bind_udp("127.0.0.1", 0))
    client.ask(query("wWw.Test"))
    client.ask(query("."))
    assert seen == [(b"\3www\4test\0", "wWw.Test.", "wWw.Test"), (b"\0", ".", ".")]
