"""Descriptors of what a message holds, and the one place where values are checked against them.

A codec turns bytes into *plain data* - None, bool, int, float, str, bytes, list, dict - and a
shape turns plain data into typed values, and back.  Both directions check, so a program learns of
its own ill-typed value before a byte is sent.  Does no I/O; `schema.py` makes shapes from classes.

Invariants
    * Only PayloadError leaves a shape, whatever the data.
    * Each container counts one level of depth; the message itself is level 1.
    * Paths cost nothing until something is wrong: each level adds its part as the error unwinds.
"""

from __future__ import annotations

import dataclasses
import enum
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from .errors import PayloadError, one_line
from .limits import PayloadLimits

INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1
"""The range of MessagePack's integers: from the least int64 to the greatest uint64."""

Message = TypeVar("Message")
Convert = Callable[[Any, PayloadLimits, int], object]


class Shape(Protocol):
    """What every kind of field can do; `depth` is the level at which the value stands."""

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> object:
        """Return the typed value of decoded data.  Raises PayloadError when it does not fit."""

    def to_plain(self, value: object, limits: PayloadLimits, depth: int) -> object:
        """Return what a codec can write.  Raises PayloadError when the value does not fit."""


class IntShape:
    """An integer of MessagePack's range; a bool is none."""

    __slots__ = ()

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> int:
        """Return the integer itself.  Raises PayloadError for another type or beyond 64 bits."""
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise _mismatch("int", plain)
        if not INT_MIN <= plain <= INT_MAX:
            raise PayloadError("the integer does not fit 64 bits")
        return plain

    to_plain = from_plain


class FloatShape:
    """A double; an integer is taken as one, NaN and the infinities pass."""

    __slots__ = ()

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> float:
        """Return the number as float.  Raises PayloadError for another type or range."""
        if isinstance(plain, float):
            return plain
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise _mismatch("float", plain)
        try:
            return float(plain)
        except OverflowError:
            raise PayloadError("the integer is too large for a float") from None

    to_plain = from_plain


class StrShape:
    """Text that UTF-8 can carry, so no lone surrogates."""

    __slots__ = ()

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> str:
        """Return the text itself.  Raises PayloadError for another type or a lone surrogate."""
        if not isinstance(plain, str):
            raise _mismatch("str", plain)
        if not plain.isascii():
            try:
                plain.encode()
            except UnicodeEncodeError as exc:
                raise PayloadError(f"the text is not valid UTF-8: {exc.reason}") from None
        return plain

    to_plain = from_plain


class ExactShape:
    """A value of exactly one type: bytes, bool or None."""

    __slots__ = ("_name", "_type")

    def __init__(self, exact_type: type) -> None:
        self._type = exact_type
        self._name = "None" if exact_type is type(None) else exact_type.__name__

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> object:
        """Return the value itself.  Raises PayloadError for another type."""
        if type(plain) is not self._type:
            raise _mismatch(self._name, plain)
        return plain

    to_plain = from_plain


class EnumShape:
    """A member of an enumeration, carried by its value: all str, or all int."""

    __slots__ = ("_enum", "_members", "_value_type")

    def __init__(self, enum_type: type[enum.Enum], value_type: type) -> None:
        self._enum = enum_type
        self._value_type = value_type
        self._members = {member.value: member for member in enum_type}

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> enum.Enum:
        """Return the member with this value.  Raises PayloadError when there is none."""
        if type(plain) is not self._value_type:
            raise _mismatch(f"{self._value_type.__name__}, a value of {self._enum.__name__}", plain)
        member = self._members.get(plain)
        if member is None:
            raise PayloadError(f"{reprlib.repr(plain)} is not a value of {self._enum.__name__}")
        return member

    def to_plain(self, value: object, limits: PayloadLimits, depth: int) -> object:
        """Return the member's value.  Raises PayloadError when it is no member."""
        if not isinstance(value, self._enum):
            raise _mismatch(self._enum.__name__, value)
        return value.value


class LiteralShape:
    """One of a few given values; type and value must both be equal."""

    __slots__ = ("_allowed",)

    def __init__(self, allowed: tuple[object, ...]) -> None:
        self._allowed = allowed

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> object:
        """Return the value that is equal.  Raises PayloadError when none is."""
        for allowed in self._allowed:
            if type(plain) is type(allowed) and plain == allowed:
                return allowed
        choice = ", ".join(map(repr, self._allowed))
        raise PayloadError(f"expected one of {choice}, got {reprlib.repr(plain)}")

    to_plain = from_plain


class OptionalShape:
    """None, or a value of the inner shape."""

    __slots__ = ("inner",)

    def __init__(self, inner: Shape) -> None:
        self.inner = inner

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> object:
        """Return None or the inner value.  Raises PayloadError as the inner shape does."""
        return None if plain is None else self.inner.from_plain(plain, limits, depth)

    def to_plain(self, value: object, limits: PayloadLimits, depth: int) -> object:
        """Return None or the inner plain data.  Raises PayloadError as the inner shape does."""
        return None if value is None else self.inner.to_plain(value, limits, depth)


class ArrayShape:
    """A list or tuple of any length whose items have one shape; both travel as an array."""

    __slots__ = ("container", "item")

    def __init__(self, container: type[list[Any]] | type[tuple[Any, ...]], item: Shape) -> None:
        self.container = container
        self.item = item

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> object:
        """Return a list or tuple of typed items.  Raises PayloadError with the item's index."""
        if not isinstance(plain, list):
            raise _mismatch("list", plain)
        items = _convert_items(self.item.from_plain, plain, limits, depth)
        return items if self.container is list else tuple(items)

    def to_plain(self, value: object, limits: PayloadLimits, depth: int) -> list[object]:
        """Return a list of plain items.  Raises PayloadError with the item's index."""
        if not isinstance(value, self.container):
            raise _mismatch(self.container.__name__, value)
        return _convert_items(self.item.to_plain, value, limits, depth)


class MapShape:
    """A dict with str keys whose values have one shape."""

    __slots__ = ("value",)

    def __init__(self, value: Shape) -> None:
        self.value = value

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> dict[str, object]:
        """Return a dict of typed values.  Raises PayloadError with the key."""
        return _convert_values(self.value.from_plain, plain, limits, depth)

    def to_plain(self, value: object, limits: PayloadLimits, depth: int) -> dict[str, object]:
        """Return a dict of plain values.  Raises PayloadError with the key."""
        return _convert_values(self.value.to_plain, value, limits, depth)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: `required` when the class gives it no default."""

    name: str
    shape: Shape
    required: bool


class MessageShape(Generic[Message]):
    """A dataclass: its fields in their order.

    Made by `schema.message_shape`; `fields` is filled in after the object exists, because a
    message may hold messages of its own kind.
    """

    __slots__ = ("_by_name", "_fields", "message_type")

    def __init__(self, message_type: type[Message]) -> None:
        self.message_type = message_type
        self._fields: tuple[Field, ...] = ()
        self._by_name: dict[str, Field] = {}

    @property
    def name(self) -> str:
        """The class's name, the first part of every path."""
        return self.message_type.__name__

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields, in the order of the class."""
        return self._fields

    @fields.setter
    def fields(self, fields: Iterable[Field]) -> None:
        self._fields = tuple(fields)
        self._by_name = {field.name: field for field in self._fields}

    def load(self, plain: object, limits: PayloadLimits) -> Message:
        """Return the message that decoded data stands for.

        Raises PayloadError: another type, an unknown field (as libevent refuses an unknown tag),
        a required field missing, a limit passed, or a value that the class's own constructor
        refuses by raising, which is then the error's cause.
        """
        try:
            return self.from_plain(plain, limits, 1)
        except PayloadError as error:
            error.prefix(self.name)
            raise

    def dump(self, message: object, limits: PayloadLimits) -> dict[str, object]:
        """Return the plain data of a message, every field included.

        Raises PayloadError: another type, a field never set, a limit passed.
        """
        try:
            return self.to_plain(message, limits, 1)
        except PayloadError as error:
            error.prefix(self.name)
            raise

    def blank(self) -> Message:
        """Return a message to fill in: defaults are set, every other field is still unset.

        Its constructor has not run; `dump` finds what was left unset.
        """
        message = object.__new__(self.message_type)
        for name, default in _defaults(self.message_type):
            object.__setattr__(message, name, default)  # a frozen dataclass has no other way in
        return message

    def from_plain(self, plain: object, limits: PayloadLimits, depth: int) -> Message:
        """Return the message at `depth`; `load` without the class's name in the path."""
        if not isinstance(plain, dict):
            raise _mismatch(f"a map for {self.name}", plain)
        _check_depth(limits, depth)
        values = {}
        for name, item in plain.items():
            field = self._by_name.get(name)
            if field is None:
                raise PayloadError(f"unknown field {reprlib.repr(name)}")
            values[field.name] = _convert_field(
                field.shape.from_plain, field, item, limits, depth + 1
            )
        for field in self._fields:
            if field.required and field.name not in values:
                raise PayloadError("is missing", f".{field.name}")
        return self._construct(values)

    def to_plain(self, value: object, limits: PayloadLimits, depth: int) -> dict[str, object]:
        """Return the plain data at `depth`; `dump` without the class's name in the path."""
        if type(value) is not self.message_type:  # a subclass would lose the fields it adds
            raise _mismatch(self.name, value)
        _check_depth(limits, depth)
        plain = {}
        for field in self._fields:
            try:
                item = getattr(value, field.name)
            except AttributeError:
                raise PayloadError("is not set", f".{field.name}") from None
            plain[field.name] = _convert_field(field.shape.to_plain, field, item, limits, depth + 1)
        return plain

    def _construct(self, values: dict[str, object]) -> Message:
        try:
            return self.message_type(**values)
        except Exception as exc:  # __post_init__ is the program's: any raise refuses the value
            reason = one_line(f"{type(exc).__name__}: {exc}")
            raise PayloadError(f"refused by {self.name}: {reason}") from exc


def _mismatch(expected: str, value: object) -> PayloadError:
    got = "None" if value is None else type(value).__name__
    return PayloadError(f"expected {expected}, got {got}")


def _check_depth(limits: PayloadLimits, depth: int) -> None:
    if depth > limits.max_depth:
        raise PayloadError(f"nested deeper than the limit of {limits.max_depth} levels")


def _check_bounds(items: Collection[object], limits: PayloadLimits, depth: int) -> None:
    _check_depth(limits, depth)
    if len(items) > limits.max_items:
        raise PayloadError(f"{len(items)} items are more than the limit of {limits.max_items}")


def _convert_items(
    convert: Convert, items: Collection[object], limits: PayloadLimits, depth: int
) -> list[object]:
    _check_bounds(items, limits, depth)
    converted: list[object] = []
    try:
        for item in items:
            converted.append(convert(item, limits, depth + 1))  # noqa: PERF401 - its length is the index
    except PayloadError as error:
        error.prefix(f"[{len(converted)}]")
        raise
    return converted


def _convert_values(
    convert: Convert, mapping: object, limits: PayloadLimits, depth: int
) -> dict[str, object]:
    if not isinstance(mapping, dict):
        raise _mismatch("dict", mapping)
    _check_bounds(mapping, limits, depth)
    converted = {}
    for key, item in mapping.items():
        try:
            converted[STR.from_plain(key, limits, depth)] = convert(item, limits, depth + 1)
        except PayloadError as error:
            error.prefix(f"[{reprlib.repr(key)}]")
            raise
    return converted


def _convert_field(
    convert: Convert, field: Field, item: object, limits: PayloadLimits, depth: int
) -> object:
    try:
        return convert(item, limits, depth)
    except PayloadError as error:
        error.prefix(f".{field.name}")
        raise


def _defaults(message_type: type) -> Iterator[tuple[str, object]]:
    for field in dataclasses.fields(message_type):
        if field.default is not dataclasses.MISSING:
            yield field.name, field.default
        elif field.default_factory is not dataclasses.MISSING:
            yield field.name, field.default_factory()


INT = IntShape()
FLOAT = FloatShape()
STR = StrShape()
BYTES = ExactShape(bytes)
BOOL = ExactShape(bool)
NONE = ExactShape(type(None))
