"""libevent's tagged records: the bytes of the reference, and what is no such record."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evsvc.core import ArgumentError, EvBuffer
from evsvc.rpc import PayloadError, evtag


def filled(data: bytes) -> EvBuffer:
    buf = EvBuffer()
    buf.add(data)
    return buf


def written(write: Callable[..., object], *args: object) -> str:
    buf = EvBuffer()
    write(buf, *args)
    return bytes(buf).hex()


@pytest.mark.parametrize(
    ("tag", "encoded"),
    [
        (0, "00"),
        (0x7F, "7f"),
        (0x80, "8001"),
        (300, "ac02"),
        (0x166, "e602"),
        (0xDEAF, "afbd03"),
        (0x10121, "a18204"),
        (0xFFFFFFFF, "ffffffff0f"),
    ],
)
def test_a_tag_is_seven_bits_a_byte_the_least_first(tag: int, encoded: str) -> None:
    assert written(evtag.encode_tag, tag) == encoded
    buf = filled(bytes.fromhex(encoded) + b"\xff")
    assert evtag.decode_tag(buf) == tag
    assert bytes(buf) == b"\xff"


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (1, "01"),
        (15, "0f"),
        (16, "1010"),
        (255, "1ff0"),
        (256, "2001"),
        (0xAF0, "20fa"),
        (0x1000, "300010"),
        (0x12345, "454321"),
        (0xDEADBEEF, "7feebdaed0"),
        (0xFFFFFFFF, "7ffffffff0"),
    ],
)
def test_an_integer_is_nibbles_the_least_first(number: int, encoded: str) -> None:
    assert written(evtag.encode_int, number) == written(evtag.encode_int64, number) == encoded
    buf = filled(bytes.fromhex(encoded) + b"\xff")
    assert evtag.decode_int(buf) == number
    assert bytes(buf) == b"\xff"


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0x123456789, "8987654321"), (0xDEAD0A0BCAFEBEEF, "ffeebefacb0a0daed0")],
)
def test_an_integer_may_have_64_bits(number: int, encoded: str) -> None:
    assert written(evtag.encode_int64, number) == encoded
    assert evtag.decode_int64(filled(bytes.fromhex(encoded))) == number
    with pytest.raises(PayloadError, match="more than 32 bits"):
        evtag.decode_int(filled(bytes.fromhex(encoded)))


@pytest.mark.parametrize("number", [0xAF0, 0x1000, 1, 0xDEADBEEF, 0, 0xBEF000])
def test_the_numbers_of_the_reference_go_round(number: int) -> None:
    buf = EvBuffer()
    evtag.encode_int(buf, number)
    evtag.encode_int64(buf, number * 10**9)
    evtag.encode_tag(buf, number)
    found = (evtag.decode_int(buf), evtag.decode_int64(buf), evtag.decode_tag(buf))
    assert found == (number, number * 10**9, number)
    assert len(buf) == 0


@pytest.mark.parametrize(
    ("write", "bad"),
    [
        (evtag.encode_int, 1 << 32),
        (evtag.encode_int, -1),
        (evtag.encode_int64, 1 << 64),
        (evtag.encode_tag, 1 << 32),
        (evtag.encode_tag, -1),
    ],
)
def test_a_number_out_of_range_raises_with_its_value(
    write: Callable[..., object], bad: int
) -> None:
    with pytest.raises(ArgumentError, match=str(bad)):
        write(EvBuffer(), bad)


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (evtag.decode_tag, ""),
        (evtag.decode_tag, "80"),
        (evtag.decode_tag, "ffffffff"),
        (evtag.decode_tag, "ffffffff10"),
        (evtag.decode_tag, "808080808000"),
        (evtag.decode_int, ""),
        (evtag.decode_int, "20"),
        (evtag.decode_int, "8000000000"),
        (evtag.decode_int64, "ff"),
        (evtag.peek, ""),
        (evtag.peek_length, "01"),
        (evtag.payload_length, "01"),
        (evtag.consume, "010161"[:4]),
        (evtag.unmarshal_header, "010261"),
    ],
)
def test_what_is_not_whole_or_too_large_is_refused_and_nothing_is_taken(
    read: Callable[[EvBuffer], object], data: str
) -> None:
    buf = filled(bytes.fromhex(data))
    with pytest.raises(PayloadError):
        read(buf)
    assert bytes(buf).hex() == data


def test_forms_that_are_longer_than_they_need_be_are_read() -> None:
    assert evtag.decode_tag(filled(b"\x80\x00")) == 0
    assert evtag.decode_int(filled(b"\x10\x00")) == 0


def test_records_are_as_libevents() -> None:
    assert written(evtag.marshal_int, 30, 0) == "1e0100"
    assert written(evtag.marshal_int, 1, 0xDEADBEEF) == "01057feebdaed0"
    assert written(evtag.marshal_int64, 1, 0x123456789) == "01058987654321"
    assert written(evtag.marshal_string, 2, "") == "0200"
    assert written(evtag.marshal_timeval, 7, 1700000000.123456) == "07087001f355604042e1"
    assert written(evtag.marshal_timeval, 7, 0) == "07020000"
    assert written(evtag.marshal, 300, b"ab") == "ac02026162"
    data = filled(b"ab")
    assert written(evtag.marshal_buffer, 300, data) == "ac02026162"
    assert len(data) == 0


def test_a_record_is_looked_at_and_passed_over() -> None:
    buf = EvBuffer()
    evtag.marshal_int(buf, 30, 0)
    evtag.marshal_string(buf, 40, "Hello world")
    assert (evtag.peek(buf), evtag.peek_length(buf), evtag.payload_length(buf)) == (30, 3, 1)
    evtag.consume(buf)
    assert (evtag.peek(buf), evtag.peek_length(buf), evtag.payload_length(buf)) == (40, 13, 11)
    assert evtag.unmarshal_string(buf, 40) == "Hello world"
    assert len(buf) == 0


def test_a_record_is_taken_by_its_tag() -> None:
    buf = EvBuffer()
    evtag.marshal_int(buf, 1, 5)
    evtag.marshal_int64(buf, 2, 1 << 40)
    evtag.marshal(buf, 3, b"abcd")
    evtag.marshal_timeval(buf, 4, 12.5)
    for read in (evtag.unmarshal_int, evtag.unmarshal_int64, evtag.unmarshal_string):
        with pytest.raises(PayloadError, match="expected the tag 9, got 1"):
            read(buf, 9)
    assert evtag.unmarshal_int(buf, 1) == 5
    assert evtag.unmarshal_int64(buf, 2) == 1 << 40
    with pytest.raises(PayloadError, match="expected 3 bytes, got 4"):
        evtag.unmarshal_fixed(buf, 3, 3)
    assert evtag.unmarshal_fixed(buf, 3, 4) == b"abcd"
    assert evtag.unmarshal_timeval(buf, 4) == 12.5
    assert len(buf) == 0


def test_a_payload_is_moved_to_another_buffer() -> None:
    buf, into = EvBuffer(), EvBuffer()
    evtag.marshal(buf, 7, b"first")
    evtag.marshal(buf, 8, b"second")
    assert evtag.unmarshal(buf, into) == 7
    assert bytes(into) == b"first"
    assert evtag.unmarshal_header(buf) == (8, 6)
    assert bytes(buf) == b"second"


def test_bytes_behind_an_integer_in_its_record_are_passed_over() -> None:
    buf = filled(b"\x01\x03\x05zz")
    assert evtag.unmarshal_int(buf, 1) == 5
    assert len(buf) == 0


def test_what_cannot_be_a_string_is_refused() -> None:
    with pytest.raises(ArgumentError, match="NUL"):
        evtag.marshal_string(EvBuffer(), 1, "a\0b")
    with pytest.raises(PayloadError, match="not UTF-8"):
        evtag.unmarshal_string(filled(b"\x01\x01\xff"), 1)


def test_a_time_out_of_range_raises() -> None:
    for bad in (-1.0, float(1 << 32)):
        with pytest.raises(ArgumentError):
            evtag.marshal_timeval(EvBuffer(), 1, bad)


def test_random_bytes_are_hardly_ever_a_time_and_never_more_than_an_error() -> None:
    """As libevent's own fuzz: 100 times 4 KiB, and a record whose length is overwritten."""
    random_bytes = random.Random(1).randbytes
    failures = 0
    for _ in range(100):
        try:
            evtag.unmarshal_timeval(filled(random_bytes(4096)), 1)
        except PayloadError:
            failures += 1
    assert failures > 90
    buf = EvBuffer()
    evtag.marshal_timeval(buf, 0xDEAF, 5)
    data = bytearray(bytes(buf))
    data[3] = 0xFF
    with pytest.raises(PayloadError):
        evtag.unmarshal_timeval(filled(bytes(data)), 0xDEAF)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1), st.binary(max_size=40))
def test_any_number_and_any_tag_go_round(number: int, tag: int, data: bytes) -> None:
    buf = EvBuffer()
    evtag.marshal_int64(buf, tag, number)
    evtag.marshal(buf, tag, data)
    assert evtag.unmarshal_int64(buf, tag) == number
    assert evtag.unmarshal_fixed(buf, tag, len(data)) == data


@given(st.binary(max_size=30))
def test_any_bytes_give_a_record_or_the_error_alone(data: bytes) -> None:
    buf = filled(data)
    try:
        evtag.unmarshal(buf, EvBuffer())
    except PayloadError:
        assert bytes(buf) == data
