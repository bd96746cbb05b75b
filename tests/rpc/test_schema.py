"""Which annotations make a message, and how a definition says that one does not."""

from __future__ import annotations

import dataclasses
import enum
import typing
from dataclasses import InitVar, dataclass, field
from datetime import date
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypeVar,
)

import pytest

from evsvc.core.errors import ArgumentError, Error
from evsvc.rpc.definition import Rpc
from evsvc.rpc.errors import DefinitionError
from evsvc.rpc.limits import PayloadLimits
from evsvc.rpc.schema import message_shape
from evsvc.rpc.shapes import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    NONE,
    STR,
    ArrayShape,
    EnumShape,
    LiteralShape,
    MapShape,
    MessageShape,
    OptionalShape,
)

T = TypeVar("T")
UserId = NewType("UserId", int)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Empty(enum.Enum):
    pass


class Right(enum.IntFlag):
    READ = 1


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class Tree:
    label: str
    children: list[Tree] = field(default_factory=list)


@dataclass
class Everything:
    number: int
    ratio: float
    text: str
    data: bytes
    flag: bool
    nothing: None
    maybe: int | None
    maybe_old: Optional[str]  # noqa: UP045 - the old spelling is what is tested
    many: list[Tree]
    many_old: typing.List[int]  # noqa: UP006 - the old spelling is what is tested
    row: tuple[float, ...]
    table: dict[str, bytes]
    color: Color
    mode: Literal["a", 1, None, True]
    user: UserId
    noted: Annotated[int, "a note"]
    deep: Annotated[list[Annotated[int, "x"]], "y"]
    kind: ClassVar[int] = 3


def made_with(annotation: object) -> type:
    return dataclasses.make_dataclass("Made", [("field", annotation)])


def test_every_carried_annotation_gets_its_shape() -> None:
    shapes = {one.name: one.shape for one in message_shape(Everything).fields}
    scalars = {
        "number": INT,
        "ratio": FLOAT,
        "text": STR,
        "data": BYTES,
        "flag": BOOL,
        "nothing": NONE,
        "user": INT,
        "noted": INT,
    }
    containers = {
        "maybe": OptionalShape,
        "maybe_old": OptionalShape,
        "many": ArrayShape,
        "many_old": ArrayShape,
        "row": ArrayShape,
        "table": MapShape,
        "color": EnumShape,
        "mode": LiteralShape,
        "deep": ArrayShape,
    }
    assert set(shapes) == set(scalars) | set(containers)
    assert all(shapes[name] is shape for name, shape in scalars.items())
    assert all(type(shapes[name]) is kind for name, kind in containers.items())


def test_a_message_may_hold_its_own_kind() -> None:
    shape = message_shape(Tree)
    children = shape.fields[1].shape
    assert isinstance(children, ArrayShape)
    assert children.item is shape


def test_only_a_field_without_default_is_required() -> None:
    assert [(one.name, one.required) for one in message_shape(Tree).fields] == [
        ("label", True),
        ("children", False),
    ]


@pytest.mark.parametrize(
    "annotation",
    [
        complex,
        object,
        Any,
        date,
        list,
        dict,
        tuple,
        typing.List,  # noqa: UP006 - the old spelling is what is tested
        typing.Dict,  # noqa: UP006
        set[int],
        frozenset[str],
        tuple[()],
        dict[int, str],
        dict[bytes, str],
        int | str,
        int | str | None,
        Literal[Color.RED],
        list[complex],
        tuple[complex, ...],
        dict[str, complex],
        complex | None,
        typing.Sequence[int],
        typing.Callable[[], int],
        Pair,
        bytearray,
        Mixed,
        Empty,
        Right,
        3,
    ],
    ids=str,
)
def test_any_other_annotation_is_refused_at_the_definition(annotation: object) -> None:
    with pytest.raises(DefinitionError, match=r"^Made\.field"):
        message_shape(made_with(annotation))


def test_the_error_names_the_path_into_lists_maps_and_messages() -> None:
    inner = dataclasses.make_dataclass("Item", [("price", complex)])
    outer = dataclasses.make_dataclass(
        "AddRequest",
        [("items", dict[str, list[inner] | None])],  # type: ignore[valid-type]
    )
    with pytest.raises(DefinitionError, match=r"^AddRequest\.items\[\]\[\]\.price: complex is not"):
        message_shape(outer)


def test_the_error_is_a_type_error_and_an_error_of_evsvc() -> None:
    with pytest.raises(TypeError) as caught:
        message_shape(made_with(complex))
    assert isinstance(caught.value, Error)


@pytest.mark.parametrize("thing", [int, Color, Pair, Tree("x"), "Tree", list[Tree], None])
def test_a_message_type_is_a_dataclass(thing: Any) -> None:
    with pytest.raises(DefinitionError, match="must be a dataclass"):
        message_shape(thing)


@dataclass
class HalfInitialised:
    given: int
    derived: int = field(init=False, default=0)


@dataclass
class WithInitVar:
    given: int
    seed: InitVar[int]


@dataclass(init=False)
class OwnConstructor:
    given: int

    def __init__(self, other: int) -> None:
        self.given = other


@pytest.mark.parametrize(
    ("message_type", "odd"),
    [(HalfInitialised, "derived"), (WithInitVar, "seed"), (OwnConstructor, "given, other")],
)
def test_the_constructor_takes_exactly_the_fields(message_type: type, odd: str) -> None:
    with pytest.raises(DefinitionError, match=f"it differs in {odd}$"):
        message_shape(message_type)


@dataclass
class Page(Generic[T]):
    items: list[T]


@pytest.mark.parametrize("annotation", [Page, Page[int]])
def test_a_generic_dataclass_is_refused(annotation: object) -> None:
    with pytest.raises(DefinitionError, match=r"^Made\.field: .*Page"):
        message_shape(made_with(annotation))


@dataclass
class Dangling:
    other: NoSuchClass  # type: ignore[name-defined]  # noqa: F821 - what is tested


def test_an_annotation_that_does_not_resolve_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"^Dangling: .*NoSuchClass"):
        message_shape(Dangling)


def test_an_rpc_has_a_path_and_both_shapes() -> None:
    rpc = Rpc("Tree.Grow", Tree, Everything)
    assert rpc.path == "/.rpc.Tree.Grow"
    assert isinstance(rpc.request_shape, MessageShape)
    assert rpc.request_shape.message_type is Tree
    assert rpc.reply_shape.message_type is Everything
    assert repr(rpc) == "Rpc('Tree.Grow', Tree, Everything)"


def test_an_rpc_checks_both_types() -> None:
    with pytest.raises(DefinitionError):
        Rpc("Add", made_with(complex), Tree)
    with pytest.raises(DefinitionError):
        Rpc("Add", Tree, made_with(complex))


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a/b", "a?b", "a%41", "..", "a.", ".a", "a..b", "1a", "ä", "a\n", "a" * 129],
)
def test_a_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError):
        Rpc(name, Tree, Tree)


@pytest.mark.parametrize("name", ["A", "_", "a1", "Calculator.Add", "a" * 128])
def test_identifiers_joined_by_dots_are_a_name(name: str) -> None:
    assert Rpc(name, Tree, Tree).name == name


@pytest.mark.parametrize(
    "limit",
    [
        {"max_payload_bytes": 0},
        {"max_payload_bytes": -1},
        {"max_depth": 0},
        {"max_depth": 257},
        {"max_items": 0},
    ],
)
def test_a_limit_out_of_range_is_refused(limit: dict[str, int]) -> None:
    with pytest.raises(ArgumentError):
        PayloadLimits(**limit)


def test_the_least_and_the_greatest_limits_are_accepted() -> None:
    assert PayloadLimits(max_payload_bytes=1, max_depth=1, max_items=1).max_depth == 1
    assert PayloadLimits(max_depth=256).max_depth == 256
