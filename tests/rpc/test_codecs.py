"""Every codec against the same messages, and what is each one's own."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import msgpack  # type: ignore[import-untyped]
import pytest

from evsvc.rpc import (
    U32,
    U64,
    EvtagCodec,
    FixedLength,
    IntRange,
    JsonCodec,
    MsgpackCodec,
    PayloadError,
    PayloadLimits,
    Tag,
)
from evsvc.rpc.codecs.protocol import Codec
from evsvc.rpc.errors import DefinitionError
from evsvc.rpc.schema import message_shape

CODECS: list[Codec] = [MsgpackCodec(), JsonCodec(), EvtagCodec()]
PLAIN_CODECS = CODECS[:2]
MOMENT = datetime(2026, 11, 28, 12, 0, 0, 123456, tzinfo=UTC)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Everything:
    """What all codecs carry."""

    number: int
    name: str
    data: bytes
    yes: bool
    color: Color
    level: Level
    word: Literal["a", "b"]
    at: datetime
    point: Point
    points: list[Point] = field(default_factory=list)
    row: tuple[int, ...] = ()
    maybe: str | None = None
    inner: Everything | None = None


@dataclass
class Circle:
    radius: float


@dataclass
class Square:
    side: float


@dataclass
class Drawing:
    """What JSON and MessagePack carry."""

    shape: Circle | Square
    more: list[Circle | Square | None] = field(default_factory=list)
    pair: tuple[int, str] = (0, "")
    table: dict[str, float] = field(default_factory=dict)


@dataclass
class Bounded:
    byte: Annotated[int, IntRange(0, 255)]
    key: Annotated[bytes, FixedLength(4)]
    more: list[Annotated[int, IntRange(0, 9)]] = field(default_factory=list)


def everything(**changes: Any) -> Everything:
    plain: dict[str, Any] = {
        "number": 1 << 40,
        "name": "zoë",
        "data": b"\0\xff",
        "yes": True,
        "color": Color.BLUE,
        "level": Level.HIGH,
        "word": "b",
        "at": MOMENT,
        "point": Point(1, 2),
        "points": [Point(3), Point(4, 5)],
        "row": (7, 8),
    }
    return Everything(**(plain | changes))


EVERYTHING = message_shape(Everything)
DRAWING = message_shape(Drawing)
BOUNDED = message_shape(Bounded)
codecs = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
plain_codecs = pytest.mark.parametrize(
    "codec", PLAIN_CODECS, ids=lambda codec: type(codec).__name__
)


@codecs
def test_a_message_goes_round(codec: Codec) -> None:
    message = everything(inner=everything(maybe="x"))
    codec.check(EVERYTHING)
    assert codec.decode(EVERYTHING, codec.encode(EVERYTHING, message)) == message


@plain_codecs
@pytest.mark.parametrize("shape", [Circle(1.5), Square(2.0)])
def test_a_union_is_told_by_its_classs_name(codec: Codec, shape: Circle | Square) -> None:
    message = Drawing(shape, [Square(1.0), None, Circle(3.0)], (1, "a"), {"k": 0.5})
    assert codec.decode(DRAWING, codec.encode(DRAWING, message)) == message


@codecs
def test_a_moment_arrives_in_utc(codec: Codec) -> None:
    there = MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    decoded = codec.decode(EVERYTHING, codec.encode(EVERYTHING, everything(at=there)))
    assert decoded.at == MOMENT
    assert decoded.at.tzinfo is UTC


@codecs
def test_a_moment_without_zone_is_refused(codec: Codec) -> None:
    naive = datetime(2026, 1, 1)
    with pytest.raises(PayloadError, match=r"^Everything\.at: the datetime has no time zone$"):
        codec.encode(EVERYTHING, everything(at=naive))


@codecs
@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Bounded(0, b"1234"), ""),
        (Bounded(255, b"1234", [0, 9]), ""),
        (Bounded(256, b"1234"), "Bounded.byte: 256 is not from 0 to 255"),
        (Bounded(-1, b"1234"), "Bounded.byte: -1 is not from 0 to 255"),
        (Bounded(1, b"12345"), "Bounded.key: expected 4 bytes, got 5"),
        (Bounded(1, b"123"), "Bounded.key: expected 4 bytes, got 3"),
        (Bounded(1, b"1234", [9, 10]), "Bounded.more[1]: 10 is not from 0 to 9"),
    ],
)
def test_bounds_hold_at_the_limit_and_one_beyond(codec: Codec, message: Bounded, text: str) -> None:
    if not text:
        assert codec.decode(BOUNDED, codec.encode(BOUNDED, message)) == message
        return
    with pytest.raises(PayloadError) as caught:
        codec.encode(BOUNDED, message)
    assert str(caught.value) == text


@codecs
def test_payloads_are_bounded_both_ways(codec: Codec) -> None:
    message = everything()
    payload = codec.encode(EVERYTHING, message)
    exact = type(codec)(PayloadLimits(max_payload_bytes=len(payload)))  # type: ignore[call-arg]
    less = type(codec)(PayloadLimits(max_payload_bytes=len(payload) - 1))  # type: ignore[call-arg]
    assert exact.decode(EVERYTHING, exact.encode(EVERYTHING, message)) == message
    with pytest.raises(PayloadError, match="payload bytes are more than the limit"):
        less.encode(EVERYTHING, message)
    with pytest.raises(PayloadError, match="payload bytes are more than the limit"):
        less.decode(EVERYTHING, payload)


@codecs
def test_depth_and_items_are_bounded_both_ways(codec: Codec) -> None:
    nested = everything(inner=everything(inner=everything()), row=tuple(range(5)))
    payload = codec.encode(EVERYTHING, nested)
    for limits, message in (
        ({"max_depth": 5, "max_items": 5}, None),
        ({"max_depth": 4, "max_items": 5}, "nested deeper than the limit of 4 levels"),
        ({"max_depth": 5, "max_items": 4}, "than the limit of 4"),
    ):
        bounded = type(codec)(PayloadLimits(**limits))  # type: ignore[call-arg]
        if message is None:
            assert bounded.decode(EVERYTHING, bounded.encode(EVERYTHING, nested)) == nested
            continue
        with pytest.raises(PayloadError, match=message):
            bounded.encode(EVERYTHING, nested)
        with pytest.raises(PayloadError, match=message):
            bounded.decode(EVERYTHING, payload)


@dataclass
class OldPoint:
    x: int


@dataclass
class OldLine:
    start: OldPoint
    name: str = "line"


@dataclass
class Line:
    start: Point
    name: str = "line"
    width: int | None = None


@codecs
def test_a_newer_peers_fields_are_kept_apart_and_an_older_peers_get_defaults(codec: Codec) -> None:
    old, new = message_shape(OldLine), message_shape(Line)
    unknown: dict[str, object] = {}
    newer = codec.encode(new, Line(Point(1, 2), "a", 3))
    assert codec.decode(old, newer, unknown) == OldLine(OldPoint(1), "a")
    assert len(unknown) == 2
    assert {key.partition(".")[0] for key in unknown} == {"OldPoint", "OldLine"}
    assert codec.decode(old, newer) == OldLine(OldPoint(1), "a")
    older = codec.encode(old, OldLine(OldPoint(1)))
    assert codec.decode(new, older) == Line(Point(1, 0), "line", None)


@codecs
def test_unknown_fields_are_refused_by_policy(codec: Codec) -> None:
    newer = codec.encode(message_shape(Line), Line(Point(1, 2), "a", 3))
    strict = type(codec)(refuse_unknown=True)  # type: ignore[call-arg]
    with pytest.raises(PayloadError, match=r"^OldLine\.start: unknown "):
        strict.decode(message_shape(OldLine), newer)


@codecs
def test_a_type_that_cannot_be_carried_is_found_at_the_definition(codec: Codec) -> None:
    if isinstance(codec, EvtagCodec):
        with pytest.raises(DefinitionError, match=r"^Drawing\.shape: "):
            codec.check(DRAWING)
    else:
        codec.check(DRAWING)


def test_json_is_plain_to_read() -> None:
    payload = JsonCodec().encode(EVERYTHING, everything())
    assert json.loads(payload) == {
        "number": 1 << 40,
        "name": "zoë",
        "data": "AP8=",
        "yes": True,
        "color": "blue",
        "level": 2,
        "word": "b",
        "at": "2026-11-28T12:00:00.123456Z",
        "point": {"x": 1, "y": 2},
        "points": [{"x": 3, "y": 0}, {"x": 4, "y": 5}],
        "row": [7, 8],
        "maybe": None,
        "inner": None,
    }


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "the payload is not JSON"),
        (b"{", "the payload is not JSON"),
        (b'{"x": 1} x', "the payload is not JSON"),
        (b"\xff", "the payload is not UTF-8"),
        (b'{"x": 1, "x": 2}', "a map holds the same key twice"),
        (b'{"x": NaN}', "JSON has no NaN"),
        (b'{"x": -Infinity}', "JSON has no -Infinity"),
        (b'{"x": 1.0}', "Point.x: expected int, got float"),
        (b'{"x": 18446744073709551616}', "Point.x: the integer does not fit 64 bits"),
        (b'{"x": ' + b"9" * 5000 + b"}", "the payload is not JSON"),
        (b"[" * 100_000, "the payload is nested too deeply"),
        (b"[]", "Point: expected a map for Point, got list"),
    ],
    ids=range(12),
)
def test_bytes_that_are_no_json_message_are_refused(payload: bytes, text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        JsonCodec().decode(message_shape(Point), payload)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("field_name", "value", "text"),
    [
        ("data", "A", "the text is not base64"),
        ("data", "AA=A", "the text is not base64"),
        ("at", "2026-11-28", "is no date and time of RFC 3339"),
        ("at", "2026-11-28T12:00:00", "is no date and time of RFC 3339"),
        ("at", "2026-13-28T12:00:00Z", "no date and time: "),
        ("at", 5, "expected a timestamp, got int"),
    ],
)
def test_text_that_is_no_bytes_or_moment_is_refused(
    field_name: str, value: object, text: str
) -> None:
    plain = json.loads(JsonCodec().encode(EVERYTHING, everything())) | {field_name: value}
    with pytest.raises(PayloadError, match=rf"^Everything\.{field_name}: .*{text}"):
        JsonCodec().decode(EVERYTHING, json.dumps(plain).encode())


def test_json_carries_no_nan() -> None:
    with pytest.raises(PayloadError, match="NaN"):
        JsonCodec().encode(DRAWING, Drawing(Circle(float("nan"))))


@pytest.mark.parametrize(
    "plain", [{}, {"Circle": {"radius": 1.0}, "Square": {"side": 1.0}}, {"Star": {}}, [], {1: {}}]
)
def test_a_union_without_a_known_name_is_refused(plain: object) -> None:
    with pytest.raises(PayloadError):
        MsgpackCodec().decode(DRAWING, msgpack.packb({"shape": plain}))


@dataclass
class Kill:
    weapon: str
    action: str
    how_often: Annotated[list[Annotated[int, U32]], Tag(3)] = field(default_factory=list)


@dataclass
class Tagged:
    first: Annotated[int, Tag(7), U32]
    second: int
    third: Annotated[int, Tag(0xDEAF), U64] = 0


def test_tags_are_said_or_counted_on() -> None:
    assert [each.tag for each in message_shape(Kill).fields] == [1, 2, 3]
    assert [each.tag for each in message_shape(Tagged).fields] == [7, 8, 0xDEAF]


def test_the_bytes_are_libevents() -> None:
    payload = EvtagCodec().encode(message_shape(Kill), Kill("feather", "tickle", [1, 16]))
    assert payload.hex() == (
        "0107" + b"feather".hex() + "0206" + b"tickle".hex() + "03010103021010"
    )
    assert (
        EvtagCodec().encode(message_shape(Tagged), Tagged(1, 2)).hex() == "070101080102afbd030100"
    )


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ("070101", "Tagged.second: is missing"),
        ("", "Tagged.first: is missing"),
        ("070101070101", "Tagged.first: comes twice"),
        ("0701", "Tagged: the data ends inside the record with the tag 7"),
        ("07", "Tagged: the data ends before an integer"),
        ("0700", "Tagged.first: the data ends before an integer"),
        ("07058987654321", "Tagged.first: an integer has more than 32 bits"),
        ("ffffffffff", "Tagged: a tag has more than 32 bits"),
    ],
)
def test_bytes_that_are_no_such_records_are_refused(payload: str, text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        EvtagCodec().decode(message_shape(Tagged), bytes.fromhex(payload))
    assert str(caught.value) == text


def test_what_libevents_format_cannot_hold_is_refused() -> None:
    codec = EvtagCodec()
    for message, text in (
        (Tagged(1, -1), "Tagged.second: not an integer of 64 bits: -1"),
        (Kill("a\0", "b"), "Kill.weapon: libevent's strings hold no NUL"),
    ):
        with pytest.raises(PayloadError) as caught:
            codec.encode(message_shape(type(message)), message)
        assert str(caught.value) == text


@dataclass
class Twice:
    one: Annotated[int, Tag(2)]
    two: Annotated[int, Tag(2)]


@dataclass
class Odd:
    name: Annotated[str, IntRange(0, 1)]


@dataclass
class MixedUnion:
    value: Circle | int


@pytest.mark.parametrize(
    ("message_type", "text"),
    [
        (Twice, r"^Twice\.two: the tag 2 is taken$"),
        (Odd, r"^Odd\.name: IntRange.* says nothing about <class 'str'>$"),
        (MixedUnion, r"^MixedUnion\.value: a union is one of dataclasses, not Circle \| int$"),
    ],
)
def test_what_is_said_wrongly_of_a_field_is_found_at_the_definition(
    message_type: type, text: str
) -> None:
    with pytest.raises(DefinitionError, match=text):
        message_shape(message_type)
