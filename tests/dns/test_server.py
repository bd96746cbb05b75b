"""Replies of a DnsServer: records, sizes, requests answered late, twice or not at all."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest

from evsvc.dns import (
    EVDNS_ADDITIONAL_SECTION,
    EVDNS_ANSWER_SECTION,
    EVDNS_AUTHORITY_SECTION,
    EVDNS_FLAGS_AA,
    EVDNS_FLAGS_RD,
    EVDNS_TYPE_OPT,
    EVDNS_TYPE_TXT,
    DnsArgumentError,
    DnsServerOptions,
    DnsStateError,
    ServerQuestion,
)


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


@pytest.mark.parametrize(
    ("add", "records"),
    [
        (lambda request: request.add_a_reply("a.example", ["1.2.3.4"], 2**31 - 1), 1),
        (lambda request: request.add_a_reply("www.example.com", ["1.2.3.4"], 2**31 - 1), 1),
        (lambda request: request.add_a_reply("www.example.com", [b"\1\2\3\4"], 0), 1),
        (lambda request: request.add_reply(0, "a.example", 65535, 65535, 1, b"1234"), 1),
        (lambda request: request.add_reply(0, "a.example", 99, 1, 1, bytes(65535)), 0),
        (lambda request: request.add_a_reply("a.example", [], 1), 0),
    ],
)
def test_what_is_at_its_limit_is_taken(make_server, connect, add, records) -> None:
    """A record that is longer than any message is left out, as what does not fit is."""

    def answer(request, arg) -> None:
        add(request)
        request.respond(0)

    reply = connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    assert int.from_bytes(reply[6:8], "big") == records


@pytest.mark.parametrize("address", ["1.2.3.4\0", "1.2.3.4 ", b"\1\2\3", None, 1.5, "::1"])
def test_what_is_no_address_is_told(make_server, connect, address) -> None:
    told = []

    def answer(request, arg) -> None:
        with pytest.raises(DnsArgumentError, match="not an IPv4Address") as caught:
            request.add_a_reply("www.example.com", ["10.0.0.9", address], 1)
        told.append(repr(address) in str(caught.value))
        answer_a(request, arg)

    reply = connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    assert len(dns.message.from_wire(reply).answer) == 1  # nothing of the bad call was added
    assert told == [True]


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


def test_a_callback_that_raises_is_servfail_logged_and_the_loop_goes_on(
    make_server, connect, caplog
) -> None:
    kept = []

    def fail(request, arg) -> None:
        kept.append(request)
        request.add_a_reply("a.example", ["10.0.0.1"], 1)
        raise LookupError("from the program")

    client = connect(make_server(fail).bind_udp("127.0.0.1", 0))
    reply = dns.message.from_wire(client.ask(query()))
    assert [str(record.exc_info[1]) for record in caplog.records] == ["from the program"]
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
    [
        (1232, 1232, 1232),
        (4096, 1232, 1232),
        (4096, 4096, 4096),
        (100, 1232, 512),
        (700, 4096, 700),
    ],
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


@pytest.mark.parametrize(("payload", "most"), [(None, 512), (700, 700)])
@pytest.mark.parametrize("extra", [0, 1])
def test_a_reply_of_addresses_alone_is_cut_like_any_other(
    make_server, connect, payload, most, extra
) -> None:
    packet = query(use_edns=False) if payload is None else query(use_edns=0, payload=payload)
    fitting = (most - len(packet)) // 16

    def answer(request, arg) -> None:
        request.add_a_reply("WWW.example.com.", ["10.0.0.1"] * (fitting + extra), 60)
        request.respond(0)

    wire = connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(packet)
    reply = dns.message.from_wire(wire, one_rr_per_rrset=True)
    assert len(reply.answer) == fitting
    assert bool(reply.flags & dns.flags.TC) == bool(extra)


def test_records_of_other_names_follow_ordinary_ones_in_their_order(make_server, connect) -> None:
    def answer(request, arg) -> None:
        request.add_cname_reply("www.example.com", "Host.example.com", 1)
        request.add_a_reply("host.example.com", ["10.0.0.1"], 2)
        request.add_a_reply("www.example.com", ["10.0.0.2"], 3)
        request.respond(0)

    reply = dns.message.from_wire(
        connect(make_server(answer).bind_udp("127.0.0.1", 0)).ask(query())
    )
    assert [rrset.to_text() for rrset in reply.answer] == [
        "www.example.com. 1 IN CNAME Host.example.com.",
        "Host.example.com. 2 IN A 10.0.0.1",
        "www.example.com. 3 IN A 10.0.0.2",
    ]
