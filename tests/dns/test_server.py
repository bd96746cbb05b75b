"""DnsServer on real sockets: replies, refusals, truncation, TCP limits, late and lost requests."""

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

from evsvc.core import EVLOOP_NONBLOCK, ConnListener, SocketError
from evsvc.dns import (
    EVDNS_ADDITIONAL_SECTION,
    EVDNS_ANSWER_SECTION,
    EVDNS_AUTHORITY_SECTION,
    EVDNS_FLAGS_AA,
    EVDNS_FLAGS_RD,
    EVDNS_SOPT_TCP_IDLE_TIMEOUT,
    EVDNS_SOPT_TCP_MAX_CLIENTS,
    EVDNS_TYPE_OPT,
    EVDNS_TYPE_TXT,
    DnsArgumentError,
    DnsServerOptions,
    DnsStateError,
    ServerQuestion,
)


class Client:
    """A client that waits for what it has sent for by turning the server's loop."""

    def __init__(self, base, port, kind=socket.SOCK_DGRAM) -> None:
        self.base = base
        self.sock = socket.socket(socket.AF_INET, kind)
        self.sock.connect((port.address, port.port))
        self.sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def turn(self) -> None:
        for _ in range(4):
            self.base.loop(EVLOOP_NONBLOCK)

    def ask(self, packet: bytes) -> bytes | None:
        self.sock.send(packet)
        return self.receive()

    def receive(self) -> bytes | None:
        """Return a datagram, None when there is none."""
        self.turn()
        try:
            return self.sock.recv(65535)
        except BlockingIOError:
            return None

    def ask_all(self, *packets: bytes) -> None:
        self.sock.send(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))

    def frames(self) -> list[bytes]:
        """Return the whole messages that came over TCP; `closed` tells of the end."""
        self.closed = False
        while True:
            self.turn()
            try:
                data = self.sock.recv(65535)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:
                self.closed = True
                break
            self.received += data
        found = []
        while len(self.received) >= 2:
            length = struct.unpack_from("!H", self.received)[0]
            if len(self.received) < 2 + length:
                break
            found.append(self.received[2 : 2 + length])
            self.received = self.received[2 + length :]
        return found


@pytest.fixture
def connect(base):
    made = []

    def make(port, kind=socket.SOCK_DGRAM):
        made.append(Client(base, port, kind))
        return made[-1]

    yield make
    for client in made:
        client.sock.close()


def query(name="www.example.com", rdtype="A", **kwargs) -> bytes:
    return dns.message.make_query(name, rdtype, **kwargs).to_wire()


def answer_a(request, arg) -> None:
    request.add_a_reply(request.questions[0].name, ["10.0.0.1"], 60)
    request.respond(0)


def test_the_callback_sees_the_question_and_answers_it(make_server, connect) -> None:
    seen = []

    def answer(request, arg) -> None:
        seen.append((request.questions, request.flags, request.requesting_addr, arg))
        answer_a(request, arg)

    port = make_server(answer, "the arg").bind_udp("127.0.0.1", 0)
    client = connect(port)
    packet = query("wWw.Example.COM", id=4711)
    reply = dns.message.from_wire(client.ask(packet))
    assert seen == [
        (
            [ServerQuestion("wWw.Example.COM", 1, 1)],
            int(dns.flags.RD),
            client.sock.getsockname(),
            "the arg",
        )
    ]
    assert reply.id == 4711
    assert reply.flags == dns.flags.QR | dns.flags.RD
    assert reply.question[0].name.labels[0] == b"wWw"
    assert [rrset.to_text() for rrset in reply.answer] == ["wWw.Example.COM. 60 IN A 10.0.0.1"]


def test_every_kind_of_record_is_sent(make_server, connect) -> None:
    def answer(request, arg) -> None:
        request.set_flags(EVDNS_FLAGS_AA | EVDNS_FLAGS_RD)
        request.add_a_reply("a.example", ["10.0.0.1", b"\x0a\0\0\2"], 1)
        request.add_aaaa_reply("a.example", ["2001:db8::1"], 2)
        request.add_ptr_reply("10.0.0.1", None, "Host.Test", 3)
        request.add_ptr_reply(None, "x.in-addr.arpa", "Host.Test", 4)
        request.add_cname_reply("b.example", "a.example", 5)
        request.add_reply(EVDNS_AUTHORITY_SECTION, "c.example", EVDNS_TYPE_TXT, 1, 6, b"\3abc")
        request.add_reply(EVDNS_ADDITIONAL_SECTION, "d.example", 65280, 3, 7, b"\1\2")
        request.add_reply(EVDNS_ADDITIONAL_SECTION, "e.example", 65281, 1, 8, None)
        request.respond(3)

    port = make_server(answer).bind_udp("127.0.0.1", 0)
    reply = dns.message.from_wire(connect(port).ask(query()), one_rr_per_rrset=True)
    assert reply.flags & dns.flags.AA
    assert reply.flags & dns.flags.RA
    assert reply.rcode() == dns.rcode.NXDOMAIN
    assert [rrset.to_text() for rrset in reply.answer] == [
        "a.example. 1 IN A 10.0.0.1",
        "a.example. 1 IN A 10.0.0.2",
        "a.example. 2 IN AAAA 2001:db8::1",
        "1.0.0.10.in-addr.arpa. 3 IN PTR Host.Test.",
        "x.in-addr.arpa. 4 IN PTR Host.Test.",
        "b.example. 5 IN CNAME a.example.",
    ]
    assert [rrset.to_text() for rrset in reply.authority] == ['c.example. 6 IN TXT "abc"']
    assert [rrset.to_text().rstrip() for rrset in reply.additional] == [
        "d.example. 7 CH TYPE65280 \\# 2 0102",
        "e.example. 8 IN TYPE65281 \\# 0",
    ]


@pytest.mark.parametrize(
    "add",
    [
        lambda request: request.add_a_reply("a.example", ["1.2.3"], 1),
        lambda request: request.add_a_reply("a.example", "1.2.3.4", 1),
        lambda request: request.add_a_reply("a.example", [0x01020304], 1),
        lambda request: request.add_aaaa_reply("a.example", ["1.2.3.4"], 1),
        lambda request: request.add_a_reply("a" * 64, ["1.2.3.4"], 1),
        lambda request: request.add_a_reply("a.example", ["1.2.3.4"], -1),
        lambda request: request.add_a_reply("a.example", ["1.2.3.4"], 2**31),
        lambda request: request.add_ptr_reply("1.2.3.4", "x.arpa", "host", 1),
        lambda request: request.add_ptr_reply(None, None, "host", 1),
        lambda request: request.add_ptr_reply("1.2.3", None, "host", 1),
        lambda request: request.add_cname_reply("a.example", "a..b", 1),
        lambda request: request.add_reply(3, "a.example", 1, 1, 1, b"1234"),
        lambda request: request.add_reply(0, "a.example", 65536, 1, 1, b"1234"),
        lambda request: request.add_reply(0, "a.example", 1, 65536, 1, b"1234"),
        lambda request: request.add_reply(0, "a.example", 1, 1, 1, bytes(65536)),
        lambda request: request.add_reply(2, "", EVDNS_TYPE_OPT, 1, 1, b""),
        lambda request: request.set_flags(0x8000),
        lambda request: request.respond(16),
        lambda request: request.respond(-1),
    ],
)
def test_what_cannot_be_replied_is_refused_at_the_call(make_server, connect, add) -> None:
    refused = []

    def answer(request, arg) -> None:
        try:
            add(request)
        except DnsArgumentError:
            refused.append(True)
        answer_a(request, arg)

    port = make_server(answer).bind_udp("127.0.0.1", 0)
    assert len(dns.message.from_wire(connect(port).ask(query())).answer) == 1
    assert refused == [True]


def test_a_request_is_answered_once(make_server, connect) -> None:
    kept = []

    def answer(request, arg) -> None:
        answer_a(request, arg)
        kept.append(request)

    connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    for call in (
        lambda: kept[0].respond(0),
        lambda: kept[0].drop(),
        lambda: kept[0].add_a_reply("a.example", [], 1),
        lambda: kept[0].add_cname_reply("a.example", "b.example", 1),
    ):
        with pytest.raises(DnsStateError):
            call()


def test_a_dropped_request_gets_no_reply(make_server, connect) -> None:
    port = make_server(lambda request, arg: request.drop()).bind_udp("127.0.0.1", 0)
    assert connect(port).ask(query()) is None


def test_a_reply_may_come_later(make_server, connect) -> None:
    kept = []
    client = connect(
        make_server(lambda request, arg: kept.append(request)).bind_udp("127.0.0.1", 0)
    )
    assert client.ask(query()) is None
    answer_a(kept[0], None)
    assert dns.message.from_wire(client.receive()).answer


# ---- refusals -------------------------------------------------------------------------------


def refuse_to_be_called(request, arg) -> None:
    raise AssertionError("the callback must not see this")


def with_count(packet: bytes, section: int, count: int) -> bytes:
    at = 4 + 2 * section
    return packet[:at] + struct.pack("!H", count) + packet[at + 2 :]


def with_opcode(opcode: int) -> bytes:
    packet = query()
    return packet[:2] + bytes([packet[2] | opcode << 3]) + packet[3:]


def two_opts() -> bytes:
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)
    return with_count(query() + opt + opt, 3, 2)


REFUSED = {
    "no question": (with_count(query(), 0, 0)[:12], dns.rcode.FORMERR),
    "two questions": (with_count(query() + query()[12:], 0, 2), dns.rcode.FORMERR),
    "a question cut": (query()[:-1], dns.rcode.FORMERR),
    "a header alone": (query()[:12], dns.rcode.FORMERR),
    "trailing bytes": (query() + b"x", dns.rcode.FORMERR),
    "an answer cut": (with_count(query(), 1, 1), dns.rcode.FORMERR),
    "two OPT records": (two_opts(), dns.rcode.FORMERR),
    "a name that points at itself": (query()[:12] + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
    "NOTIFY": (with_opcode(4), dns.rcode.NOTIMP),
    "UPDATE": (with_opcode(5), dns.rcode.NOTIMP),
    "opcode 15": (with_opcode(15), dns.rcode.NOTIMP),
    "EDNS version 1": (query(use_edns=1), dns.rcode.BADVERS),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_query_gets_its_rcode(make_server, connect, case) -> None:
    packet, rcode = REFUSED[case]
    port = make_server(refuse_to_be_called).bind_udp("127.0.0.1", 0)
    reply = dns.message.from_wire(connect(port).ask(packet))
    assert reply.rcode() == rcode
    assert packet[:2] == struct.pack("!H", reply.id)
    assert reply.flags & dns.flags.QR
    assert reply.opcode() == dns.opcode.from_flags(struct.unpack("!H", packet[2:4])[0])


def as_reply() -> bytes:
    packet = query()
    return packet[:2] + bytes([packet[2] | 0x80]) + packet[3:]


@pytest.mark.parametrize("packet", [b"", query()[:11], as_reply(), as_reply()[:12]])
def test_a_reply_or_half_a_header_gets_no_answer(make_server, connect, packet) -> None:
    port = make_server(refuse_to_be_called).bind_udp("127.0.0.1", 0)
    assert connect(port).ask(packet) is None


@pytest.mark.parametrize(("size", "rcode"), [(600, dns.rcode.NOERROR), (601, dns.rcode.FORMERR)])
def test_a_query_beyond_query_bytes_is_refused(make_server, connect, size, rcode) -> None:
    port = make_server(answer_a, options=DnsServerOptions(query_bytes=600)).bind_udp("127.0.0.1", 0)
    bare = len(query(use_edns=0, options=[dns.edns.GenericOption(65001, b"")]))
    padding = dns.edns.GenericOption(65001, bytes(size - bare))
    packet = query(use_edns=0, options=[padding])
    assert len(packet) == size
    assert dns.message.from_wire(connect(port).ask(packet)).rcode() == rcode


def test_a_callback_that_raises_is_servfail_and_goes_on(make_server, connect, base) -> None:
    kept = []

    def fail(request, arg) -> None:
        kept.append(request)
        request.add_a_reply("a.example", ["10.0.0.1"], 1)
        raise LookupError("from the program")

    client = connect(make_server(fail).bind_udp("127.0.0.1", 0))
    client.sock.send(query())
    with pytest.raises(LookupError, match="from the program"):
        client.turn()
    reply = dns.message.from_wire(client.receive())
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert reply.answer == []
    kept[0].respond(0)  # too late, and harmless
    kept[0].drop()
    assert client.receive() is None


def test_a_callback_that_raises_after_its_reply_changes_nothing(make_server, connect, base) -> None:
    caught = []
    base.exception_handler = caught.append

    def fail(request, arg) -> None:
        answer_a(request, arg)
        raise LookupError

    client = connect(make_server(fail).bind_udp("127.0.0.1", 0))
    assert dns.message.from_wire(client.ask(query())).rcode() == dns.rcode.NOERROR
    assert client.receive() is None
    assert len(caught) == 1


# ---- sizes ----------------------------------------------------------------------------------


def answer_many(count: int, section: int = EVDNS_ANSWER_SECTION):
    def answer(request, arg) -> None:
        for index in range(count):
            address = struct.pack("!I", 0x0A000000 + index)
            request.add_reply(section, request.questions[0].name, 1, 1, 60, address)
        request.respond(0)

    return answer


def header_and_question_bytes() -> int:
    return len(query())


@pytest.mark.parametrize(("extra", "cut"), [(0, False), (1, True)])
def test_a_reply_over_512_bytes_is_cut_between_records(make_server, connect, extra, cut) -> None:
    fitting = (512 - header_and_question_bytes()) // 16
    port = make_server(answer_many(fitting + extra)).bind_udp("127.0.0.1", 0)
    wire = connect(port).ask(query())
    reply = dns.message.from_wire(wire)
    assert len(reply.answer[0]) == fitting
    assert bool(reply.flags & dns.flags.TC) == cut
    assert len(wire) <= 512


def test_additional_records_left_out_do_not_count_as_cut(make_server, connect) -> None:
    port = make_server(answer_many(100, EVDNS_ADDITIONAL_SECTION)).bind_udp("127.0.0.1", 0)
    reply = dns.message.from_wire(connect(port).ask(query()))
    assert not reply.flags & dns.flags.TC
    assert 0 < len(reply.additional[0]) < 100


@pytest.mark.parametrize(
    ("payload", "limit", "most"),
    [(1232, 1232, 1232), (4096, 1232, 1232), (4096, 4096, 4096), (100, 1232, 512), (700, 4096, 700)],
)
def test_edns_sets_the_limit_up_to_our_own(make_server, connect, payload, limit, most) -> None:
    options = DnsServerOptions(udp_reply_bytes=limit)
    port = make_server(answer_many(1000), options=options).bind_udp("127.0.0.1", 0)
    wire = connect(port).ask(query(use_edns=0, payload=payload))
    reply = dns.message.from_wire(wire)
    assert most - 16 < len(wire) <= most
    assert reply.flags & dns.flags.TC
    assert (reply.edns, reply.payload) == (0, limit)


def test_edns_is_answered_only_to_edns(make_server, connect) -> None:
    client = connect(make_server(answer_a).bind_udp("127.0.0.1", 0))
    assert dns.message.from_wire(client.ask(query())).edns == -1
    with_do = dns.message.from_wire(client.ask(query(want_dnssec=True)))
    assert with_do.edns == 0
    assert with_do.ednsflags & dns.flags.DO


# ---- TCP ------------------------------------------------------------------------------------


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


# ---- ports ----------------------------------------------------------------------------------


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


def test_options_of_a_tcp_port_can_be_changed(make_server, connect, clock) -> None:
    port = make_server(answer_a).bind_tcp("127.0.0.1", 0)
    for value in (0, 1, 100):
        port.set_option(EVDNS_SOPT_TCP_MAX_CLIENTS, value)
        port.set_option(EVDNS_SOPT_TCP_IDLE_TIMEOUT, value)
    assert (port.options.tcp_max_clients, port.options.tcp_idle_s) == (100, 100)
    for option, value in ((7, 1), (EVDNS_SOPT_TCP_MAX_CLIENTS, -1)):
        with pytest.raises(DnsArgumentError):
            port.set_option(option, value)


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
