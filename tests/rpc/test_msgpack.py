"""The MessagePack codec: what it writes, and which bytes it refuses and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgpack  # type: ignore[import-untyped]
import pytest

from evsvc.rpc.codecs.msgpack import MsgpackCodec
from evsvc.rpc.errors import PayloadError
from evsvc.rpc.limits import PayloadLimits
from evsvc.rpc.schema import message_shape


@dataclass
class Add:
    left: int
    right: int = 0


@dataclass
class Blob:
    data: bytes


@dataclass
class Nest:
    text: str = ""
    inner: list[Nest] = field(default_factory=list)


ADD = message_shape(Add)
NEST = message_shape(Nest)
BLOB = message_shape(Blob)
CODEC = MsgpackCodec()
BLOB_OVERHEAD_BYTES = len(b"\x81\xa4data\xc5\x00\x00")


def refusal(payload: bytes) -> str:
    with pytest.raises(PayloadError) as caught:
        CODEC.decode(NEST, payload)
    return str(caught.value)


def test_a_message_is_a_map_from_name_to_value() -> None:
    payload = CODEC.encode(ADD, Add(1, 2))
    assert payload == b"\x82\xa4left\x01\xa5right\x02"
    assert CODEC.decode(ADD, payload) == Add(1, 2)


def test_bytes_and_text_stay_apart() -> None:
    assert CODEC.encode(BLOB, Blob(b"x")) == b"\x81\xa4data\xc4\x01x"
    with pytest.raises(PayloadError, match=r"^Blob\.data: expected bytes, got str$"):
        CODEC.decode(BLOB, b"\x81\xa4data\xa1x")


def test_any_form_of_a_number_is_read() -> None:
    """A peer need not choose the shortest form."""
    assert CODEC.decode(ADD, b"\x81\xa4left\xcf" + bytes(7) + b"\x05") == Add(5)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "the payload ends inside a value"),
        (b"\x81", "the payload "),
        (b"\x81\xa4te", "the payload ends inside a value"),
        (b"\xdd\xff\xff\xff\xff", ""),
        (b"\xc6\xff\xff\xff\xff", ""),
        (b"\xdf\xff\xff\xff\xff\xa1a", ""),
        (b"\x80\xc0", "1 bytes follow the message"),
        (b"\x80\x80\x80", "2 bytes follow the message"),
        (b"\xc1", "the payload is not MessagePack"),
        (b"\x81\xa4text\xc1", "the payload is not MessagePack"),
        (b"\x81\xa4text\xa1\xff", "the payload holds text that is not UTF-8: invalid start byte"),
        (b"\x81\xa4text\xa3\xed\xa0\x80", "the payload holds text that is not UTF-8"),
        (b"\x81\xa1\xff\xc0", "the payload holds text that is not UTF-8"),
        (b"\x82\xa4text\xa0\xa4text\xa0", "a map holds the same key twice"),
        (b"\x81\xa5inner\x91\x82\xa1a\x01\xa1a\x01", "a map holds the same key twice"),
        (b"\x81\x01\x02", "the payload is not MessagePack: "),
        (b"\x81\x90\x02", "the payload is not MessagePack: "),
        (b"\x81\xc4\x04text\xa0", "Nest: unknown field b'text'"),
        (b"\x81\xa4text\xd4\x05\x01", "Nest.text: expected str, got ExtType"),
        (b"\x81\xa4text\xd6\xff\x00\x00\x00\x01", "Nest.text: expected str, got datetime"),
        (b"\x81\xa4text\xd4\xff\x01", "the payload is not MessagePack: "),
        (b"\x90", "Nest: expected a map for Nest, got list"),
        (b"\xc0", "Nest: expected a map for Nest, got None"),
        (b"POST / HTTP/1.1\r\n", "16 bytes follow the message"),
        (b"\x91" * 200_000, "the payload is nested too deeply"),
        (b"\x81\xa1a" * 100_000, "the payload is nested too deeply"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else "",
)
def test_bytes_that_are_no_message_are_refused(payload: bytes, reason: str) -> None:
    assert refusal(payload).startswith(reason)


def test_headers_that_claim_much_cost_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand nested arrays that each claim a million items: nothing is built for them."""

    def refuse(*args: object, **kwargs: object) -> object:
        raise AssertionError("unpacked before the payload was known to be complete")

    monkeypatch.setattr(msgpack, "unpackb", refuse)
    payload = (b"\xdd\x00\x0f\xff\x00" * 1000).ljust(1024 * 1024, b"\xc0")
    with pytest.raises(PayloadError):
        CODEC.decode(NEST, payload)


def nest_of(levels: int) -> Nest:
    nest = Nest()
    for _ in range(levels - 1):
        nest = Nest(inner=[nest])
    return nest


def test_nesting_is_bounded() -> None:
    """A message and the list around the next one are two levels, so 64 levels hold 32 messages."""
    deepest = nest_of(32)
    assert CODEC.decode(NEST, CODEC.encode(NEST, deepest)) == deepest
    deeper = nest_of(33)
    with pytest.raises(PayloadError, match="nested deeper than the limit of 64 levels"):
        CODEC.encode(NEST, deeper)
    payload = MsgpackCodec(PayloadLimits(max_depth=70)).encode(NEST, deeper)
    assert refusal(payload).endswith("nested deeper than the limit of 64 levels")


def test_the_payload_size_is_bounded_in_both_directions() -> None:
    codec = MsgpackCodec(PayloadLimits(max_payload_bytes=1000))
    full = Blob(bytes(1000 - BLOB_OVERHEAD_BYTES))
    payload = codec.encode(BLOB, full)
    assert len(payload) == 1000
    assert codec.decode(BLOB, payload) == full
    over = Blob(full.data + b"x")
    with pytest.raises(PayloadError, match="1001 payload bytes are more than the limit of 1000"):
        codec.encode(BLOB, over)
    with pytest.raises(PayloadError, match="1001 payload bytes are more than the limit of 1000"):
        codec.decode(BLOB, CODEC.encode(BLOB, over))


def test_the_default_size_limit_is_one_mebibyte() -> None:
    overhead_bytes = len(b"\x81\xa4data\xc6\x00\x00\x00\x00")
    largest = Blob(bytes(1024 * 1024 - overhead_bytes))
    assert CODEC.decode(BLOB, CODEC.encode(BLOB, largest)) == largest
    with pytest.raises(PayloadError):
        CODEC.encode(BLOB, Blob(largest.data + b"x"))


def test_the_default_item_limit_is_65536() -> None:
    payload = b"\x81\xa5inner\xdd\x00\x01\x00\x00" + b"\x80" * 65_536
    assert len(CODEC.decode(NEST, payload).inner) == 65_536
    payload = b"\x81\xa5inner\xdd\x00\x01\x00\x01" + b"\x80" * 65_537
    assert refusal(payload) == "Nest.inner: 65537 items are more than the limit of 65536"


def test_nan_and_the_infinities_are_carried() -> None:
    @dataclass
    class Number:
        value: float

    shape = message_shape(Number)
    for value in (float("nan"), float("inf"), float("-inf"), -0.0):
        decoded = CODEC.decode(shape, CODEC.encode(shape, Number(value)))
        assert repr(decoded.value) == repr(value)
