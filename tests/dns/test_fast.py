"""The law of `wire/fast.py`: what it reads and writes by hand, dnspython does the same."""

from __future__ import annotations

import os

import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evsvc.dns.wire import fast
from evsvc.dns.wire.fast import (
    PlainSoa,
    is_ordinary_data,
    read_plain,
    write_plain,
)
from evsvc.dns.wire.names import name_to_text, parse_name
from evsvc.dns.wire.queries import start_reply

pytestmark = pytest.mark.no_cover

EXAMPLES = 5_000 if os.environ.get("CI") or os.environ.get("EVSVC_CI") else 300

label = st.one_of(
    st.sampled_from([b"www", b"WWW", b"a", b"example", b"Example", b"com", b"x" * 63]),
    st.binary(min_size=1, max_size=63),
)
names = st.lists(label, min_size=1, max_size=8).filter(
    lambda labels: sum(len(each) + 1 for each in labels) < 255
)
host_names = st.lists(
    st.sampled_from(["www", "WWW", "a", "example", "EXAMPLE", "com", "x_y-z", "0"]),
    min_size=1,
    max_size=6,
).map(".".join)


@st.composite
def ordinary_queries(draw: st.DrawFn) -> bytes:
    """Make the packet of an ordinary query, by the RFC and not by dnspython."""
    labels = draw(st.one_of(names, host_names.map(lambda text: text.encode().split(b"."))))
    flags = draw(st.sampled_from([0, 0x100, 0x120, 0x110, 0x130, 0x20]))
    opt = draw(st.sampled_from([None, 0, 0x8000]))
    name = b"".join(bytes([len(each)]) + each for each in labels) + b"\0"
    packet = draw(st.binary(min_size=2, max_size=2)) + flags.to_bytes(2, "big")
    packet += bytes([0, 1, 0, 0, 0, 0, 0, opt is not None]) + name
    rdtype = draw(st.one_of(st.sampled_from([1, 5, 12, 28, 41, 250, 255]), st.integers(0, 65535)))
    packet += rdtype.to_bytes(2, "big") + draw(st.sampled_from([1, 3, 254, 255])).to_bytes(2, "big")
    if opt is not None:
        payload = draw(st.sampled_from([0, 512, 1232, 65535]))
        packet += b"\0\0\x29" + payload.to_bytes(2, "big") + opt.to_bytes(4, "big") + b"\0\0"
    return packet


@st.composite
def bent_queries(draw: st.DrawFn) -> bytes:
    """Make an ordinary query with some bytes changed, cut or added."""
    packet = bytearray(draw(ordinary_queries()))
    for _ in range(draw(st.integers(0, 3))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.sampled_from([0, 0, 0, 1, 4, 11]))
    return bytes(packet[: len(packet) - cut]) + draw(st.sampled_from([b"", b"", b"\0", b"x" * 11]))


@settings(max_examples=EXAMPLES)
@given(st.one_of(ordinary_queries(), bent_queries(), st.binary(max_size=80)))
def test_what_is_read_by_hand_dnspython_reads_the_same(packet) -> None:
    plain = read_plain(packet)
    if plain is None:
        return
    query = dns.message.from_wire(packet, keyring=False)
    (asked,) = query.question
    assert (plain.flags, plain.rdtype, plain.rdclass) == (query.flags, asked.rdtype, asked.rdclass)
    assert packet[12 : plain.name_end] == asked.name.to_wire()
    assert plain.name == name_to_text(asked.name)
    assert plain.payload == query.payload
    assert plain.edns_flags == (query.ednsflags if query.edns == 0 else -1)
    assert query.edns <= 0
    assert not any([query.answer, query.authority, query.additional, query.options])


@settings(max_examples=EXAMPLES)
@given(ordinary_queries())
def test_every_ordinary_query_is_read_by_hand(packet) -> None:
    assert read_plain(packet) is not None


records = st.lists(
    st.one_of(
        st.tuples(st.just(1), st.integers(0, 2**31 - 1), st.binary(min_size=4, max_size=4)),
        st.tuples(st.just(28), st.integers(0, 2**31 - 1), st.binary(min_size=16, max_size=16)),
        st.tuples(st.sampled_from([5, 12]), st.integers(0, 2**31 - 1), host_names),
    ),
    max_size=12,
)


def soa_above(name: bytes, up: int, primary: str, mailbox: str) -> PlainSoa | None:
    """Make the SOA of a name that stands some labels above a name, and is not the root."""
    owner = dns.name.from_wire(name, 0)[0]
    owner = dns.name.Name(owner.labels[min(up, len(owner.labels) - 2) :])
    numbers = bytes(range(20))
    data = parse_name(primary).to_wire() + parse_name(mailbox).to_wire() + numbers
    rrset = dns.rrset.from_rdata(owner, 77, dns.rdata.from_wire(1, 6, data, 0, len(data)))
    return PlainSoa(len(owner.to_wire()), 77, primary, mailbox, numbers, rrset)


@settings(max_examples=EXAMPLES)
@given(
    ordinary_queries(),
    records,
    st.sampled_from([0, 0x400, 0x80, 0x480]),
    st.integers(0, 15),
    st.one_of(st.none(), st.tuples(st.integers(0, 20), host_names, host_names)),
)
def test_what_is_written_by_hand_is_what_dnspython_writes(
    packet, answers, flags, rcode, negative
) -> None:
    plain = read_plain(packet)
    soa = None if negative is None else soa_above(packet[12 : plain.name_end], *negative)
    written = write_plain(packet[:2], plain, flags | rcode, answers, 1232, soa)
    reply = start_reply(dns.message.from_wire(packet, keyring=False), flags | rcode, 1232)
    owner = reply.question[0].name
    for rdtype, ttl, data in answers:
        if isinstance(data, str):
            rdata = dns.rdata.from_wire(
                1, rdtype, (wire := parse_name(data).to_wire()), 0, len(wire)
            )
        else:
            rdata = dns.rdata.from_wire(1, rdtype, data, 0, len(data))
        reply.answer.append(dns.rrset.from_rdata(owner, ttl, rdata))
    if soa is not None:
        reply.authority.append(soa.rrset)
    whole = reply.to_wire(max_size=65535, want_shuffle=False)
    assert written == (whole if len(whole) <= 0x3FFF else None)


@settings(max_examples=EXAMPLES)
@given(st.one_of(host_names, st.text(max_size=70)))
@example("x" * 64)
@example("a." * 127)
@example("a." * 128)
@example("a\n")
@example("")
@example(".")
@example("é.test")
def test_an_ordinary_name_is_one_to_dnspython(text) -> None:
    if is_ordinary_data(text):
        labels = text.removesuffix(".").encode().split(b".")
        assert parse_name(text) == dns.name.Name([*labels, b""])


@pytest.mark.parametrize("size", [254, 255])
def test_a_name_is_read_up_to_its_limit(size) -> None:
    labels = [b"x" * 63, b"x" * 63, b"x" * 63, b"x" * (size - 3 * 64 - 2)]
    name = b"".join(bytes([len(each)]) + each for each in labels) + b"\0"
    head = b"\0\0\1\0\0\1\0\0\0\0\0\0"
    assert len(name) == size
    assert read_plain(head + name + b"\0\1\0\1") is not None
    beyond = b"".join((b"\1a", name))
    too_long = len(beyond) > 255
    assert (read_plain(head + beyond + b"\0\1\0\1") is None) == too_long


@pytest.mark.parametrize(
    ("others", "is_same"), [(fast.KEPT_QUERIES - 1, True), (fast.KEPT_QUERIES, False)]
)
def test_a_query_is_known_again_until_as_many_others_as_are_kept_have_come(others, is_same) -> None:
    """Its id is not part of it."""

    def packet(number: int, query_id: bytes = b"\0\1") -> bytes:
        return query_id + b"\1\0\0\1\0\0\0\0\0\0\4" + b"%04x" % number + b"\0\0\1\0\1"

    first = read_plain(packet(0xFFFF))
    for number in range(others):
        assert read_plain(packet(number)) is not None
    again = read_plain(packet(0xFFFF, b"\7\7"))
    assert (again is first) == is_same
    assert again is not None
    assert again.name == "ffff"
