"""What may change in a message while old and new programs talk: the rules of docs/rpc.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import pytest

from evsvc.rpc import EvtagCodec, JsonCodec, MsgpackCodec, PayloadError, Tag
from evsvc.rpc.schema import message_shape

CODECS = [MsgpackCodec(), JsonCodec(), EvtagCodec()]
every_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)


@dataclass
class Old:
    name: Annotated[str, Tag(1)]


@dataclass
class New:
    name: Annotated[str, Tag(1)]
    size: Annotated[int | None, Tag(2)] = None
    notes: Annotated[list[str], Tag(3)] = field(default_factory=list)


@dataclass
class Stricter:
    name: Annotated[str, Tag(1)]
    size: Annotated[int, Tag(2)]


@dataclass
class Renamed:
    title: Annotated[str, Tag(1)]


def carry(codec: Any, message: Any, reader: type, unknown: dict[str, object] | None = None) -> Any:
    payload = codec.encode(message_shape(type(message)), message)
    return codec.decode(message_shape(reader), payload, unknown)


@every_codec
def test_a_field_with_a_default_may_be_added(codec: Any) -> None:
    assert carry(codec, Old("a"), New) == New("a")
    assert carry(codec, New("a", 1, ["b"]), Old) == Old("a")


@every_codec
def test_a_field_with_a_default_may_go(codec: Any) -> None:
    unknown: dict[str, object] = {}
    assert carry(codec, New("a", 1), Old, unknown) == Old("a")
    assert len(unknown) >= 1


@every_codec
def test_a_field_without_default_may_not_be_added(codec: Any) -> None:
    with pytest.raises(PayloadError, match="size"):
        carry(codec, Old("a"), Stricter)


@every_codec
def test_a_name_may_change_where_tags_count(codec: Any) -> None:
    if isinstance(codec, EvtagCodec):
        assert carry(codec, Old("a"), Renamed) == Renamed("a")
    else:
        with pytest.raises(PayloadError, match="title"):
            carry(codec, Old("a"), Renamed)


class Sky(StrEnum):
    CLEAR = "clear"


class LaterSky(StrEnum):
    CLEAR = "clear"
    RAIN = "rain"


@dataclass
class Report:
    sky: Sky


@dataclass
class LaterReport:
    sky: LaterSky


@pytest.mark.parametrize("codec", CODECS[:2], ids=lambda codec: type(codec).__name__)
def test_a_value_of_an_enum_may_be_added_where_it_is_read_first(codec: Any) -> None:
    assert carry(codec, Report(Sky.CLEAR), LaterReport) == LaterReport(LaterSky.CLEAR)
    with pytest.raises(PayloadError, match="sky"):
        carry(codec, LaterReport(LaterSky.RAIN), Report)


@pytest.mark.parametrize("kind", [MsgpackCodec, JsonCodec, EvtagCodec])
def test_who_refuses_unknown_fields_takes_no_newer_message(kind: Any) -> None:
    with pytest.raises(PayloadError):
        carry(kind(refuse_unknown=True), New("a", 1), Old)
