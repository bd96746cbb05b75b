"""Queries built and replies judged, without sockets."""

from __future__ import annotations

import itertools

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.dns import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_UNKNOWN,
    DnsArgumentError,
)
from evsvc.dns.wire.names import domain_name, domain_name_of, name_to_text, parse_name
from evsvc.dns.wire.queries import build_refusal, read_query
from evsvc.dns.wire.replies import (
    Query,
    Question,
    Reply,
    id_of,
    parse_reply,
)

QUESTION = Question(domain_name("www.example.com"), dns.rdatatype.A)


def judge(packet: bytes, max_links: int = 16, question: Question = QUESTION) -> Reply | None:
    return parse_reply(packet, Query(question, 4711), max_links)


def build_query(question: Question, query_id: int, udp_bytes: int) -> bytes:
    return Query(question, query_id, edns_udp_bytes=udp_bytes).packet


def data(reply: Reply) -> list[object]:
    return [record.data for record in reply.records]


def test_a_query_asks_one_question_and_wants_recursion() -> None:
    packet = build_query(QUESTION, 4711, 512)
    query = dns.message.from_wire(packet)
    assert packet[:12] == b"\x12\x67\1\0\0\1\0\0\0\0\0\0"
    assert query.question[0].to_text() == "www.example.com. IN A"
    assert query.edns == -1
    assert id_of(packet) == 4711
    assert id_of(packet[:11]) == -1


@pytest.mark.parametrize(("udp_bytes", "edns"), [(512, -1), (513, 0), (65535, 0)])
def test_edns_goes_along_above_512_bytes(udp_bytes, edns) -> None:
    query = dns.message.from_wire(build_query(QUESTION, 1, udp_bytes))
    assert query.edns == edns
    assert edns < 0 or query.payload == udp_bytes


@given(
    st.lists(st.binary(min_size=1, max_size=20), max_size=8),
    st.integers(1, 65535),
    st.integers(0, 65535),
    st.integers(512, 65535),
    st.booleans(),
)
def test_a_query_is_byte_for_byte_dnspythons(labels, rdtype, query_id, size, authentic) -> None:
    name = dns.name.Name([*labels, b""])
    question = Question(domain_name_of(name), dns.rdatatype.RdataType.make(rdtype))
    query = Query(question, query_id, edns_udp_bytes=size, authentic=authentic)
    edns = {"use_edns": 0, "payload": size} if size > 512 else {"use_edns": False}
    theirs = dns.message.make_query(name, question.rdtype, id=query_id, **edns)
    if authentic:
        theirs.flags |= dns.flags.AD
    assert query.packet == theirs.to_wire()


def chain(make_reply, links: int, *more: str) -> bytes:
    names = ["www.example.com.", *(f"alias{index}.example." for index in range(links))]
    records = [f"{owner} 9 CNAME {target}" for owner, target in itertools.pairwise(names)]
    return make_reply(
        build_query(QUESTION, 4711, 512), *records, f"{names[-1]} 60 A 10.0.0.1", *more
    ).to_wire()


@pytest.mark.parametrize(("links", "result"), [(3, DNS_ERR_NONE), (4, DNS_ERR_UNKNOWN)])
def test_a_chain_of_aliases_has_a_limit(make_reply, links, result) -> None:
    reply = judge(chain(make_reply, links), max_links=3)
    assert reply is not None
    assert reply.result == result
    if result == DNS_ERR_NONE:
        assert (reply.links, reply.ttl_s) == (3, 9)


def test_a_loop_of_aliases_is_an_error(make_reply) -> None:
    packet = make_reply(
        build_query(QUESTION, 4711, 512),
        "www.example.com. 9 CNAME b.example.",
        "b.example. 9 CNAME www.example.com.",
    ).to_wire()
    reply = judge(packet)
    assert reply is not None
    assert reply.result == DNS_ERR_UNKNOWN


def test_an_address_beside_an_alias_is_taken(make_reply) -> None:
    """The reference's test server answers so, against RFC 1034."""
    packet = make_reply(
        build_query(QUESTION, 4711, 512),
        "www.example.com. 2000 A 10.0.0.1",
        "www.example.com. 1000 CNAME canonical.example.com.",
    ).to_wire()
    reply = judge(packet)
    assert reply is not None
    assert (reply.result, data(reply), reply.ttl_s) == (DNS_ERR_NONE, ["10.0.0.1"], 1000)
    assert reply.canonical_name == parse_name("canonical.example.com")


def test_an_alias_is_open_unless_a_soa_says_otherwise(make_reply) -> None:
    records = ["www.example.com. 9 CNAME b.example."]
    query = build_query(QUESTION, 4711, 512)
    left_open = judge(make_reply(query, *records).to_wire())
    soa = "example. 300 SOA ns.example. admin.example. 1 2 3 4 60"
    closed = judge(make_reply(query, *records, authority=(soa,)).to_wire())
    assert left_open is not None
    assert closed is not None
    assert (left_open.result, left_open.dangling) == (DNS_ERR_NODATA, True)
    assert (closed.result, closed.dangling, closed.ttl_s) == (DNS_ERR_NODATA, False, 9)


def test_a_ttl_beyond_31_bits_is_zero(make_reply) -> None:
    """RFC 2181 section 8."""
    packet = bytearray(
        make_reply(build_query(QUESTION, 4711, 512), "www.example.com. 7 A 1.2.3.4").to_wire()
    )
    packet[-10] = 0x80
    reply = judge(bytes(packet))
    assert reply is not None
    assert (reply.result, reply.ttl_s) == (DNS_ERR_NONE, 0)


@pytest.mark.parametrize(("text", "back"), [("a.B.", "a.B"), (".", "."), (r"a\.b.c", r"a\.b.c")])
def test_names_are_read_and_written(text, back) -> None:
    assert name_to_text(parse_name(text)) == back


@given(st.text(max_size=300))
def test_a_text_is_a_name_or_an_argument_error(text) -> None:
    try:
        name = parse_name(text)
    except DnsArgumentError:
        return
    assert len(name.to_wire()) <= 255


def mutated(packet: bytes) -> st.SearchStrategy[bytes]:
    """Return the packet with some bytes changed, and its end cut or grown."""
    changes = st.lists(st.tuples(st.integers(0, len(packet) - 1), st.integers(0, 255)), max_size=8)

    def change(edits: list[tuple[int, int]], keep: int, more: bytes) -> bytes:
        changed = bytearray(packet)
        for at, value in edits:
            changed[at] = value
        return bytes(changed[:keep]) + more

    return st.builds(change, changes, st.integers(0, len(packet)), st.binary(max_size=20))


REPLY = (
    dns.message.make_response(dns.message.make_query("www.example.com", "A", id=4711)).to_wire()
    + b"\xc0\x0c\0\5\0\1\0\0\0\7\0\4\1b\xc0\x10\xc0\x2d\0\1\0\1\0\0\0\7\0\4\1\2\3\4"
)
REPLY = REPLY[:6] + b"\0\2" + REPLY[8:]


def test_the_reply_to_mutate_is_a_good_one() -> None:
    reply = judge(REPLY)
    assert reply is not None
    assert (reply.result, data(reply)) == (DNS_ERR_NONE, ["1.2.3.4"])


@given(st.one_of(st.binary(max_size=600), mutated(REPLY)))
def test_no_packet_makes_the_judgement_raise(packet) -> None:
    reply = judge(packet)
    assert reply is None or (reply.result == DNS_ERR_NONE) == bool(reply.records)


QUERY = dns.message.make_query("www.example.com", "A", use_edns=0).to_wire()


@given(st.one_of(st.binary(max_size=600), mutated(QUERY)))
def test_every_query_is_read_refused_or_ignored(packet) -> None:
    query = read_query(packet, 512)
    if query is None:
        assert len(packet) < 12 or packet[2] & 0x80
    elif isinstance(query, dns.message.Message):
        assert len(query.question) == 1
    else:
        refused = bytearray(build_refusal(packet, query, 1232))
        refused[2] &= 0x87  # of other opcodes, dnspython wants other questions
        refusal = dns.message.from_wire(bytes(refused))
        assert refusal.rcode() == query
        assert refusal.id == int.from_bytes(packet[:2], "big")
