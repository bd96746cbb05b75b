"""The law of `wire/plain_answers.py`: what it reads by hand, dnspython reads as the same.

And that of `domain_name`: a text that it puts on the wire by hand, dnspython puts there the same.
"""

from __future__ import annotations

import contextlib
import os

import dns.name
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evsvc.dns import DNS_ERR_NONE, DNS_ERR_UNKNOWN
from evsvc.dns.resolver.search import list_candidates
from evsvc.dns.wire import replies
from evsvc.dns.wire.names import (
    domain_name,
    domain_name_of,
    is_localhost,
    name_to_text,
    parse_name,
)
from evsvc.dns.wire.replies import Query, Question, Reply, parse_reply

EXAMPLES = 5_000 if os.environ.get("CI") or os.environ.get("EVSVC_CI") else 300
OWN = b"\xc0\x0c"

label = st.one_of(
    st.sampled_from([b"www", b"WWW", b"a", b"Example", b"com", b"x" * 63]),
    st.binary(min_size=1, max_size=63),
)
names = st.lists(label, max_size=6).filter(lambda labels: sum(len(x) + 1 for x in labels) < 255)


@st.composite
def name_bytes(draw: st.DrawFn) -> bytes:
    """Make a name, whole or with its end elsewhere, which may be nowhere."""
    labels = draw(names)
    end = draw(st.sampled_from([b"\0", b"\0", OWN, b"\xc0\x10", b"\xc0\x2a", b"\xc1\x00", b""]))
    return b"".join(bytes([len(each)]) + each for each in labels) + end


@st.composite
def answers(draw: st.DrawFn) -> tuple[Query, bytes]:
    """Make a question and a reply that is ordinary, or nearly so, by the RFC."""
    rdtype = draw(st.sampled_from([1, 28, 12, 5, 2, 16]))
    name = domain_name_of(dns.name.Name([*draw(names), b""]))
    question = Question(name, dns.rdatatype.RdataType.make(rdtype))
    noise = os.urandom(len(name.wire)) if draw(st.booleans()) else b""
    query = Query(question, 4711, noise=noise)
    records = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from([rdtype] * 6 + [5, 1]))
        if kind in (1, 28):
            size = {1: 4, 28: 16}[kind]
            data = draw(st.one_of(st.binary(min_size=size, max_size=size), st.just(bytes(size))))
            data += draw(st.sampled_from([b""] * 8 + [b"x", bytes(size)]))
        else:
            data = draw(name_bytes())
        ttl = draw(st.one_of(st.integers(0, 100_000), st.sampled_from([2**31 - 1, 2**31])))
        owner = draw(st.sampled_from([OWN] * 8 + [b"\0", b"\1a\0"]))
        rdclass = draw(st.sampled_from([1] * 8 + [3]))
        records.append(
            owner
            + kind.to_bytes(2, "big")
            + rdclass.to_bytes(2, "big")
            + ttl.to_bytes(4, "big")
            + len(data).to_bytes(2, "big")
            + data
        )
    flags = draw(st.sampled_from([0x8180, 0x8580, 0x81A0, 0x8380, 0x8183, 0x8100, 0x8000, 0x81C0]))
    opt = draw(
        st.sampled_from(
            [
                b"",
                b"\0\0\x29\x04\xd0\0\0\0\0\0\0",
                b"\0\0\x29\x04\xd0\0\0\x80\0\0\0",
                b"\0\0\x29\x04\xd0\1\0\0\0\0\0",
                b"\0\0\x29\x04\xd0\0\0\0\0\0\4\0\x0a\0\0",
            ]
        )
    )
    counts = [1, len(records) + draw(st.sampled_from([0] * 8 + [1])), 0, int(bool(opt))]
    head = b"\x12\x67" + flags.to_bytes(2, "big") + b"".join(x.to_bytes(2, "big") for x in counts)
    packet = head + query.asked_bytes + b"".join(records) + opt
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(packet) - 1))
        packet = packet[:at] + draw(st.binary(min_size=1, max_size=1)) + packet[at + 1 :]
    return query, packet[: len(packet) - draw(st.sampled_from([0, 0, 0, 1, 5]))]


def by_dnspython(packet: bytes, query: Query) -> Reply | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replies, "read_plain_answer", lambda *args: None)
        patch.setattr(replies, "read_gathered_addresses", lambda *args: None)
        return parse_reply(packet, query, 16)


@pytest.mark.no_cover
@settings(max_examples=EXAMPLES)
@given(answers())
def test_what_is_read_by_hand_dnspython_reads_the_same(case: tuple[Query, bytes]) -> None:
    query, packet = case
    if len(packet) < 12 or packet[:2] != b"\x12\x67":
        return
    plain = replies.read_plain_answer(packet, query.asked_bytes, query.question.rdtype)
    if plain is not None:
        assert parse_reply(packet, query, 16) == by_dnspython(packet, query)


@pytest.mark.no_cover
@settings(max_examples=EXAMPLES // 5)
@given(st.lists(label, min_size=1, max_size=4))
def test_a_name_has_the_text_that_dnspython_gives_it(labels: list[bytes]) -> None:
    if sum(len(each) + 1 for each in labels) < 255:
        name = dns.name.Name([*labels, b""])
        assert name_to_text(name) == name.to_text(omit_final_dot=True)


texts = st.one_of(
    st.text("abcXYZ019-_.é\\", min_size=1, max_size=70),
    st.lists(st.sampled_from(["a", "Www", "x" * 59, "y" * 63, "z" * 64, ""]), max_size=6).map(
        ".".join
    ),
).filter(lambda text: text not in ("", "."))


@pytest.mark.no_cover
@settings(max_examples=EXAMPLES)
@given(texts)
def test_a_text_is_the_name_that_dnspython_makes_of_it(text: str) -> None:
    try:
        expected = dns.name.from_text(text) if text.isascii() else parse_name(text)
    except (dns.exception.DNSException, ValueError):
        for reader in (parse_name, domain_name):
            with pytest.raises(ValueError, match="not a domain name"):
                reader(text)
    else:
        assert parse_name(text).labels == expected.labels
        by_hand = domain_name(text)
        assert (by_hand.wire, by_hand.text) == (expected.to_wire(), expected.to_text(True))
        assert by_hand.dnspython.labels == expected.labels
        assert by_hand.dots == len(expected.labels) - 2


@pytest.mark.no_cover
@settings(max_examples=EXAMPLES)
@given(texts, texts, st.integers(0, 3))
def test_a_candidate_is_the_name_that_dnspython_puts_together(
    text: str, suffix: str, ndots: int
) -> None:
    try:
        own, ending = parse_name(text), parse_name(suffix)
    except ValueError:
        return
    expected = [own]
    if not text.endswith(".") and own.labels[-2].lower() != b"localhost":
        with contextlib.suppress(dns.name.NameTooLong):
            expected.append(dns.name.Name(own.labels[:-1] + ending.labels))
        if len(own.labels) - 2 < ndots:
            expected.reverse()
    found = list_candidates(text, [domain_name(suffix)], ndots)
    assert [(each.wire, each.text) for each in found] == [
        (name.to_wire(), name.to_text(True)) for name in expected
    ]


@pytest.mark.parametrize("last", [61, 62])
def test_the_longest_name_is_of_255_bytes(last: int) -> None:
    """RFC 1035 section 2.3.4."""
    text = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * last])
    if last == 62:
        with pytest.raises(ValueError, match="not a domain name"):
            domain_name(text)
    else:
        assert len(domain_name(text).wire) == 255


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("localhost", True),
        ("A.LocalHost.", True),
        ("notlocalhost", False),
        (r"\009localhost", False),
    ],
)
def test_localhost_is_a_whole_label(text: str, local: bool) -> None:
    assert is_localhost(domain_name(text).wire) is local


QUERY = Query(Question(domain_name("www.example.com"), dns.rdatatype.A), 4711)


def reply(count: int, *records: bytes, flags: bytes = b"\x81\x80", query: Query = QUERY) -> bytes:
    counts = b"\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0"
    return b"\x12\x67" + flags + counts + query.asked_bytes + b"".join(records)


def record(data: bytes, rdtype: int = 1, ttl: int = 60) -> bytes:
    head = OWN + rdtype.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big")
    return head + len(data).to_bytes(2, "big") + data


def test_ordinary_addresses_are_read_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dns.message.from_wire", None)
    found = parse_reply(reply(2, record(b"\x0a\0\0\1"), record(b"\x0a\0\0\2", ttl=9)), QUERY, 16)
    assert found is not None
    assert [(each.name, each.data, each.ttl_s) for each in found.records] == [
        ("www.example.com", "10.0.0.1", 9),
        ("www.example.com", "10.0.0.2", 9),
    ]


@pytest.mark.parametrize("rdtype", [5, 12])
def test_ordinary_names_are_read_by_hand(monkeypatch: pytest.MonkeyPatch, rdtype: int) -> None:
    monkeypatch.setattr("dns.message.from_wire", None)
    kind = dns.rdatatype.RdataType.make(rdtype)
    query = Query(Question(domain_name("a.example.com"), kind), 4711, noise=os.urandom(15))
    packet = reply(1, record(b"\4host\xc0\x0e", rdtype), query=query)
    found = parse_reply(packet, query, 16)
    assert found is not None
    assert [each.data for each in found.records] == ["host.example.com"]


def test_a_name_that_goes_on_beyond_its_record_is_none() -> None:
    """It points into the question's type, and comes by its own bytes again."""
    query = Query(Question(domain_name("."), dns.rdatatype.PTR), 4711)
    packet = reply(1, record(b"\xc0\x10", 12, 0), b"\0\0\x29\x04\xd0" + bytes(6), query=query)
    packet = packet[:11] + b"\1" + packet[12:]
    found = parse_reply(packet, query, 16)
    assert found == by_dnspython(packet, query)
    assert found is not None
    assert found.result == DNS_ERR_UNKNOWN


@pytest.mark.parametrize(("rdtype", "size"), [(1, 4), (28, 16)])
def test_several_addresses_in_one_record_are_taken(rdtype: int, size: int) -> None:
    """libevent's evdns_server_request_add_a_reply writes them so, and its resolver reads them."""
    kind = dns.rdatatype.RdataType.make(rdtype)
    query = Query(Question(domain_name("www.example.com"), kind), 4711)
    data = b"".join(bytes([32]) * (size - 1) + bytes([last]) for last in (1, 2, 3))
    found = parse_reply(reply(1, record(data, rdtype), query=query), query, 16)
    assert found is not None
    assert (found.result, len(found.records)) == (DNS_ERR_NONE, 3)


@pytest.mark.parametrize("data", [b"", b"\x0a\0\0", b"\x0a\0\0\1\x0a"])
def test_a_record_of_no_whole_address_is_an_error(data: bytes) -> None:
    found = parse_reply(reply(1, record(data)), QUERY, 16)
    assert found is not None
    assert found.result == DNS_ERR_UNKNOWN
