"""Values against their shapes, both ways: what fits, what does not, and where it says so."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from evsvc.core.errors import Error
from evsvc.rpc.errors import PayloadError
from evsvc.rpc.limits import PayloadLimits
from evsvc.rpc.schema import message_shape
from evsvc.rpc.shapes import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    NONE,
    STR,
    Form,
    Shape,
)

LIMITS = Form(PayloadLimits())


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Word(str):
    __slots__ = ()


@dataclass
class Item:
    name: str
    price: float = 1.0


@dataclass
class AddRequest:
    items: list[Item]
    size: Size = Size.SMALL
    mode: Literal["fast", 1, None] = None
    tags: dict[str, tuple[int, ...]] = field(default_factory=dict)
    other: Item | None = None


@dataclass
class BiggerRequest(AddRequest):
    extra: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    left: int
    names: list[str] = field(default_factory=list)
    right: int = 7


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number <= 0:
            raise ValueError(f"{self.number} is not positive")


@dataclass
class Named:
    name: str

    def __post_init__(self) -> None:
        raise ValueError(f"no such name: {self.name}")


@dataclass
class Broken:
    number: int

    def __post_init__(self) -> None:
        raise ZeroDivisionError("a fault of the class")


@dataclass
class Chain:
    next: Chain | None = None


@dataclass
class Names:
    names: list[str] = field(default_factory=list)
    table: dict[str, int] = field(default_factory=dict)


REQUEST = message_shape(AddRequest)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(PayloadError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        (INT, 0),
        (INT, -(2**63)),
        (INT, 2**64 - 1),
        (INT, Size.LARGE),
        (FLOAT, 0.5),
        (FLOAT, float("inf")),
        (STR, ""),
        (STR, "é\U0001f600\0"),
        (STR, Word("x")),
        (BYTES, b"\xff"),
        (BOOL, True),
        (NONE, None),
    ],
    ids=repr,
)
def test_a_scalar_of_its_type_passes_both_ways(shape: Shape, value: object) -> None:
    assert shape.to_plain(value, LIMITS, 1) is value
    assert shape.from_plain(value, LIMITS, 1) is value


def test_an_int_is_accepted_for_a_float() -> None:
    for convert in (FLOAT.from_plain, FLOAT.to_plain):
        converted = convert(3, LIMITS, 1)
        assert (converted, type(converted)) == (3.0, float)


@pytest.mark.parametrize(
    ("shape", "value", "reason"),
    [
        (INT, True, "expected int, got bool"),
        (INT, 1.0, "expected int, got float"),
        (INT, None, "expected int, got None"),
        (INT, 2**64, "the integer does not fit 64 bits"),
        (INT, -(2**63) - 1, "the integer does not fit 64 bits"),
        (FLOAT, False, "expected float, got bool"),
        (FLOAT, "1", "expected float, got str"),
        (FLOAT, 10**400, "the integer is too large for a float"),
        (STR, b"x", "expected str, got bytes"),
        (STR, "\ud800", "the text is not valid UTF-8: surrogates not allowed"),
        (BYTES, "x", "expected bytes, got str"),
        (BYTES, bytearray(b"x"), "expected bytes, got bytearray"),
        (BOOL, 1, "expected bool, got int"),
        (NONE, 0, "expected None, got int"),
    ],
)
def test_another_scalar_is_refused_both_ways(shape: Shape, value: object, reason: str) -> None:
    assert refusal(lambda: shape.from_plain(value, LIMITS, 1)) == reason
    assert refusal(lambda: shape.to_plain(value, LIMITS, 1)) == reason


def test_a_message_goes_to_plain_data_and_back() -> None:
    message = AddRequest([Item("a", 2.5)], Size.LARGE, "fast", {"t": (1, 2)}, Item("b"))
    plain = REQUEST.dump(message, LIMITS)
    assert plain == {
        "items": [{"name": "a", "price": 2.5}],
        "size": 2,
        "mode": "fast",
        "tags": {"t": [1, 2]},
        "other": {"name": "b", "price": 1.0},
    }
    assert type(plain["size"]) is int
    assert REQUEST.load(plain, LIMITS) == message


def test_defaults_stand_in_for_missing_fields() -> None:
    assert REQUEST.load({"items": []}, LIMITS) == AddRequest([])


def test_an_enum_is_loaded_as_its_member() -> None:
    assert REQUEST.load({"items": [], "size": 2}, LIMITS).size is Size.LARGE


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        (None, "AddRequest: expected a map for AddRequest, got None"),
        ([], "AddRequest: expected a map for AddRequest, got list"),
        ({}, "AddRequest.items: is missing"),
        ({"items": {}}, "AddRequest.items: expected list, got dict"),
        (
            {"items": [{"name": "a"}] * 3 + [{"name": "b", "price": "1"}]},
            "AddRequest.items[3].price: expected float, got str",
        ),
        ({"items": [{"price": 1.0}]}, "AddRequest.items[0].name: is missing"),
        ({"items": [], "itmes": 1}, "AddRequest: unknown field 'itmes'"),
        ({"items": [{"name": "a", b"x": 1}]}, "AddRequest.items[0]: unknown field b'x'"),
        ({"items": [], "size": 3}, "AddRequest.size: 3 is not a value of Size"),
        ({"items": [], "size": True}, "AddRequest.size: expected int, a value of Size, got bool"),
        ({"items": [], "size": []}, "AddRequest.size: expected int, a value of Size, got list"),
        (
            {"items": [], "mode": "slow"},
            "AddRequest.mode: expected one of 'fast', 1, None, got 'slow'",
        ),
        ({"items": [], "mode": True}, "AddRequest.mode: expected one of 'fast', 1, None, got True"),
        ({"items": [], "mode": [1]}, "AddRequest.mode: expected one of 'fast', 1, None, got [1]"),
        ({"items": [], "tags": []}, "AddRequest.tags: expected dict, got list"),
        ({"items": [], "tags": {b"t": []}}, "AddRequest.tags[b't']: expected str, got bytes"),
        (
            {"items": [], "tags": {"t": [1, None]}},
            "AddRequest.tags['t'][1]: expected int, got None",
        ),
        ({"items": [], "other": 1}, "AddRequest.other: expected a map for Item, got int"),
    ],
)
def test_plain_data_that_does_not_fit_is_refused_with_its_path(plain: Any, text: str) -> None:
    assert refusal(lambda: REQUEST.load(plain, LIMITS)) == text


def test_the_path_and_the_reason_are_also_attributes() -> None:
    with pytest.raises(PayloadError) as caught:
        REQUEST.load({"items": [1]}, LIMITS)
    assert caught.value.path == "AddRequest.items[0]"
    assert caught.value.reason == "expected a map for Item, got int"
    assert isinstance(caught.value, Error)
    assert isinstance(caught.value, ValueError)


def test_text_of_the_peer_is_quoted_and_shortened_in_the_error() -> None:
    text = refusal(lambda: REQUEST.load({"evil\r\nname" * 1000: 1}, LIMITS))
    assert "\n" not in text
    assert len(text) < 100


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, "AddRequest: expected AddRequest, got None"),
        (Item("a"), "AddRequest: expected AddRequest, got Item"),
        (AddRequest, "AddRequest: expected AddRequest, got type"),
        (BiggerRequest([]), "AddRequest: expected AddRequest, got BiggerRequest"),
        (AddRequest(()), "AddRequest.items: expected list, got tuple"),  # type: ignore[arg-type]
        (AddRequest([Item(1)]), "AddRequest.items[0].name: expected str, got int"),  # type: ignore[arg-type]
        (AddRequest([], 2), "AddRequest.size: expected Size, got int"),  # type: ignore[arg-type]
        (AddRequest([], tags={"t": [1]}), "AddRequest.tags['t']: expected tuple, got list"),  # type: ignore[dict-item]
        (AddRequest([], tags={1: ()}), "AddRequest.tags[1]: expected str, got int"),  # type: ignore[dict-item]
        (AddRequest([], tags={"\udfff": ()}), "AddRequest.tags['\\udfff']: the text is not valid"),
        (AddRequest([], other=3), "AddRequest.other: expected Item, got int"),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_ill_typed_value_of_the_program_is_refused_with_its_path(
    message: Any, text: str
) -> None:
    assert refusal(lambda: REQUEST.dump(message, LIMITS)).startswith(text)


def test_a_blank_message_has_its_defaults_and_may_be_filled() -> None:
    blank = REQUEST.blank()
    assert blank.size is Size.SMALL
    assert refusal(lambda: REQUEST.dump(blank, LIMITS)) == "AddRequest.items: is not set"
    blank.items = [Item("a")]
    assert REQUEST.load(REQUEST.dump(blank, LIMITS), LIMITS) == AddRequest([Item("a")])


def test_blank_messages_share_no_default() -> None:
    shape = message_shape(Names)
    assert shape.blank().names is not shape.blank().names


def test_frozen_slotted_and_keyword_only_dataclasses_are_carried() -> None:
    shape = message_shape(Frozen)
    message = Frozen(left=1, names=["a"])
    assert shape.load(shape.dump(message, LIMITS), LIMITS) == message
    blank = shape.blank()
    assert (blank.names, blank.right) == ([], 7)
    assert refusal(lambda: shape.dump(blank, LIMITS)) == "Frozen.left: is not set"


def test_what_the_class_itself_refuses_is_a_bad_payload() -> None:
    with pytest.raises(PayloadError) as caught:
        message_shape(Positive).load({"number": -1}, LIMITS)
    assert str(caught.value) == "Positive: refused by Positive: ValueError: -1 is not positive"
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_reason_of_the_class_is_one_line() -> None:
    with pytest.raises(PayloadError) as caught:
        message_shape(Named).load({"name": "a\nb\x1b[0m" + "x" * 5000}, LIMITS)
    text = str(caught.value)
    assert text.startswith("Named: refused by Named: ValueError: no such name: a b\ufffd[0mx")
    assert len(text) < 1100


def test_a_fault_of_the_class_is_a_bad_payload_that_names_its_cause() -> None:
    with pytest.raises(PayloadError) as caught:
        message_shape(Broken).load({"number": 1}, LIMITS)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def chain_of(levels: int) -> Chain:
    chain = Chain()
    for _ in range(levels - 1):
        chain = Chain(chain)
    return chain


def plain_chain_of(levels: int) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for _ in range(levels - 1):
        plain = {"next": plain}
    return plain


@pytest.mark.parametrize("limit", [1, 2, 64, 256])
def test_nesting_is_bounded_in_both_directions(limit: int) -> None:
    shape = message_shape(Chain)
    limits = Form(PayloadLimits(max_depth=limit))
    assert shape.load(plain_chain_of(limit), limits) == chain_of(limit)
    shape.dump(chain_of(limit), limits)
    text = f"Chain{'.next' * limit}: nested deeper than the limit of {limit} levels"
    assert refusal(lambda: shape.load(plain_chain_of(limit + 1), limits)) == text
    assert refusal(lambda: shape.dump(chain_of(limit + 1), limits)) == text


def test_a_value_that_holds_itself_is_refused() -> None:
    chain = Chain()
    chain.next = chain
    assert "nested deeper" in refusal(lambda: message_shape(Chain).dump(chain, LIMITS))


def test_lists_and_maps_count_as_levels() -> None:
    shape = message_shape(Names)
    one = Form(PayloadLimits(max_depth=1))
    two = Form(PayloadLimits(max_depth=2))
    for name, plain in (("names", {"names": ["a"]}), ("table", {"table": {"a": 1}})):
        shape.load(plain, two)
        with pytest.raises(PayloadError, match=rf"^Names\.{name}: nested deeper"):
            shape.load(plain, one)


def test_items_are_bounded_in_both_directions() -> None:
    shape = message_shape(Names)
    limits = Form(PayloadLimits(max_items=3))
    full = Names(["a"] * 3, {"a": 1, "b": 2, "c": 3})
    assert shape.load(shape.dump(full, limits), limits) == full
    for over in (Names(["a"] * 4), Names(table={"a": 1, "b": 2, "c": 3, "d": 4})):
        with pytest.raises(PayloadError, match=r": 4 items are more than the limit of 3$"):
            shape.dump(over, limits)
        plain = shape.dump(over, LIMITS)
        with pytest.raises(PayloadError, match=r": 4 items are more than the limit of 3$"):
            shape.load(plain, limits)


def test_the_fields_of_a_message_are_not_counted_as_items() -> None:
    shape = message_shape(Names)
    limits = Form(PayloadLimits(max_items=1))
    assert shape.load(shape.dump(Names(), limits), limits) == Names()
