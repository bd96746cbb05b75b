"""Descriptors of what a message holds, and the one place where values are checked against them.

A codec turns bytes into *plain data* - None, bool, int, float, str, bytes, datetime, list, dict -
and a shape turns plain data into typed values, and back.  Both directions check, so a program
learns of its own ill-typed value before a byte is sent.  Does no I/O; `schema.py` makes shapes from
classes.

Invariants
    * Only PayloadError leaves a shape, whatever the data.
    * Each container counts one level of depth; the message itself is level 1.
    * Paths cost nothing until something is wrong: each level adds its part as the error unwinds.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import re
import reprlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from .errors import PayloadError, one_line
from .limits import PayloadLimits

INT_MIN = -(1 << 63)
INT_MAX = (1 << 64) - 1
"""The range of MessagePack's integers: from the least int64 to the greatest uint64."""

Message = TypeVar("Message")

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)


class Form:
    """What plain data is for one codec, and the limits within which it is checked.

    is_text: plain data holds no bytes and no datetime; they travel as base64 and as RFC 3339 text.
    unknown: gets the fields that no one knows, by "Class.field"; None: they are refused.
    """

    __slots__ = ("is_text", "limits", "unknown")

    def __init__(
        self,
        limits: PayloadLimits,
        *,
        is_text: bool = False,
        unknown: dict[str, object] | None = None,
    ) -> None:
        self.limits = limits
        self.is_text = is_text
        self.unknown = unknown

    @classmethod
    def to_read(
        cls,
        limits: PayloadLimits,
        unknown: dict[str, object] | None,
        refuse_unknown: bool,
        *,
        is_text: bool = False,
    ) -> Form:
        """Return a form for one payload: unknown fields are refused, or go to `unknown`."""
        if refuse_unknown:
            return cls(limits, is_text=is_text)
        return cls(limits, is_text=is_text, unknown={} if unknown is None else unknown)


Convert = Callable[[Any, Form, int], object]


class Shape(Protocol):
    """What every kind of field can do; `depth` is the level at which the value stands."""

    def from_plain(self, plain: object, form: Form, depth: int) -> object:
        """Return the typed value of decoded data.  Raises PayloadError when it does not fit."""

    def to_plain(self, value: object, form: Form, depth: int) -> object:
        """Return what a codec can write.  Raises PayloadError when the value does not fit."""


class IntShape:
    """An integer within a range; a bool is none."""

    __slots__ = ("greatest", "least")

    def __init__(self, least: int = INT_MIN, greatest: int = INT_MAX) -> None:
        self.least = least
        self.greatest = greatest

    def from_plain(self, plain: object, form: Form, depth: int) -> int:
        """Return the integer itself.  Raises PayloadError for another type or out of the range."""
        if isinstance(plain, bool) or not isinstance(plain, int):
            raise _mismatch("int", plain)
        if not self.least <= plain <= self.greatest:
            if INT_MIN <= plain <= INT_MAX:
                raise PayloadError(f"{plain} is not from {self.least} to {self.greatest}")
            raise PayloadError("the integer does not fit 64 bits")
        return plain

    to_plain = from_plain


class FloatShape:
    """A double; an integer is taken as one, NaN and the infinities pass."""

    __slots__ = ()

    def from_plain(self, plain: object, form: Form, depth: int) -> float:
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

    def from_plain(self, plain: object, form: Form, depth: int) -> str:
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
    """A value of exactly one type: bool or None."""

    __slots__ = ("_name", "_type")

    def __init__(self, exact_type: type) -> None:
        self._type = exact_type
        self._name = "None" if exact_type is type(None) else exact_type.__name__

    def from_plain(self, plain: object, form: Form, depth: int) -> object:
        """Return the value itself.  Raises PayloadError for another type."""
        if type(plain) is not self._type:
            raise _mismatch(self._name, plain)
        return plain

    to_plain = from_plain


class BytesShape:
    """Bytes, of any length or of exactly `size`."""

    __slots__ = ("size",)

    def __init__(self, size: int | None = None) -> None:
        self.size = size

    def from_plain(self, plain: object, form: Form, depth: int) -> bytes:
        """Return the bytes.  Raises PayloadError for another type, length, or bad base64."""
        if form.is_text and isinstance(plain, str):
            try:
                plain = base64.b64decode(plain, validate=True)
            except ValueError:
                raise PayloadError("the text is not base64") from None
        return self._checked(plain)

    def to_plain(self, value: object, form: Form, depth: int) -> object:
        """Return the bytes, or their base64.  Raises PayloadError for another type or length."""
        value = self._checked(value)
        return base64.b64encode(value).decode() if form.is_text else value

    def _checked(self, value: object) -> bytes:
        if type(value) is not bytes:
            raise _mismatch("bytes", value)
        if self.size is not None and len(value) != self.size:
            raise PayloadError(f"expected {self.size} bytes, got {len(value)}")
        return value


class TimestampShape:
    """A moment, to the microsecond: a datetime with a time zone, which arrives in UTC."""

    __slots__ = ()

    def from_plain(self, plain: object, form: Form, depth: int) -> datetime.datetime:
        """Return the moment in UTC.  Raises PayloadError for what is none."""
        if form.is_text and isinstance(plain, str):
            if not _RFC_3339.fullmatch(plain):
                raise PayloadError(f"{reprlib.repr(plain)} is no date and time of RFC 3339")
            try:
                plain = datetime.datetime.fromisoformat(plain)
            except ValueError as exc:
                raise PayloadError(f"no date and time: {exc}") from None
        if not isinstance(plain, datetime.datetime):
            raise _mismatch("a timestamp", plain)
        if plain.tzinfo is None:
            raise PayloadError("the datetime has no time zone")
        try:
            return plain.astimezone(datetime.UTC)
        except OverflowError:
            raise PayloadError("the moment has no year from 1 to 9999 in UTC") from None

    def to_plain(self, value: object, form: Form, depth: int) -> object:
        """Return the moment, or its text.  Raises PayloadError for another type or no zone."""
        if isinstance(value, str):
            raise _mismatch("a timestamp", value)
        moment = self.from_plain(value, form, depth)
        return moment.isoformat().replace("+00:00", "Z") if form.is_text else moment


class EnumShape:
    """A member of an enumeration, carried by its value: all str, or all int."""

    __slots__ = ("_enum", "_members", "value_type")

    def __init__(self, enum_type: type[enum.Enum], value_type: type) -> None:
        self._enum = enum_type
        self.value_type = value_type
        self._members = {member.value: member for member in enum_type}

    @property
    def values(self) -> tuple[object, ...]:
        """The members' values."""
        return tuple(self._members)

    def from_plain(self, plain: object, form: Form, depth: int) -> enum.Enum:
        """Return the member with this value.  Raises PayloadError when there is none."""
        if type(plain) is not self.value_type:
            raise _mismatch(f"{self.value_type.__name__}, a value of {self._enum.__name__}", plain)
        member = self._members.get(plain)
        if member is None:
            raise PayloadError(f"{reprlib.repr(plain)} is not a value of {self._enum.__name__}")
        return member

    def to_plain(self, value: object, form: Form, depth: int) -> object:
        """Return the member's value.  Raises PayloadError when it is no member."""
        if not isinstance(value, self._enum):
            raise _mismatch(self._enum.__name__, value)
        return value.value


class LiteralShape:
    """One of a few given values; type and value must both be equal."""

    __slots__ = ("allowed",)

    def __init__(self, allowed: tuple[object, ...]) -> None:
        self.allowed = allowed

    def from_plain(self, plain: object, form: Form, depth: int) -> object:
        """Return the value that is equal.  Raises PayloadError when none is."""
        for allowed in self.allowed:
            if type(plain) is type(allowed) and plain == allowed:
                return allowed
        choice = ", ".join(map(repr, self.allowed))
        raise PayloadError(f"expected one of {choice}, got {reprlib.repr(plain)}")

    to_plain = from_plain


class OptionalShape:
    """None, or a value of the inner shape."""

    __slots__ = ("inner",)

    def __init__(self, inner: Shape) -> None:
        self.inner = inner

    def from_plain(self, plain: object, form: Form, depth: int) -> object:
        """Return None or the inner value.  Raises PayloadError as the inner shape does."""
        return None if plain is None else self.inner.from_plain(plain, form, depth)

    def to_plain(self, value: object, form: Form, depth: int) -> object:
        """Return None or the inner plain data.  Raises PayloadError as the inner shape does."""
        return None if value is None else self.inner.to_plain(value, form, depth)


class ArrayShape:
    """A list or tuple of any length whose items have one shape; both travel as an array."""

    __slots__ = ("container", "item")

    def __init__(self, container: type[list[Any]] | type[tuple[Any, ...]], item: Shape) -> None:
        self.container = container
        self.item = item

    def from_plain(self, plain: object, form: Form, depth: int) -> object:
        """Return a list or tuple of typed items.  Raises PayloadError with the item's index."""
        if not isinstance(plain, list):
            raise _mismatch("list", plain)
        items = _convert_items(self.item.from_plain, plain, form, depth)
        return items if self.container is list else tuple(items)

    def to_plain(self, value: object, form: Form, depth: int) -> list[object]:
        """Return a list of plain items.  Raises PayloadError with the item's index."""
        return _convert_items(self.item.to_plain, self.checked(value, form, depth), form, depth)

    def checked(self, value: object, form: Form, depth: int) -> Collection[object]:
        """Return the list or tuple itself.  Raises PayloadError for another, or too many items."""
        if not isinstance(value, self.container):
            raise _mismatch(self.container.__name__, value)
        _check_bounds(value, form, depth)
        return value


class TupleShape:
    """A tuple of given length, each item with a shape of its own; it travels as an array."""

    __slots__ = ("items",)

    def __init__(self, items: tuple[Shape, ...]) -> None:
        self.items = items

    def from_plain(self, plain: object, form: Form, depth: int) -> tuple[object, ...]:
        """Return the typed items.  Raises PayloadError for another length, or with the index."""
        if not isinstance(plain, list):
            raise _mismatch("list", plain)
        return tuple(self._convert([item.from_plain for item in self.items], plain, form, depth))

    def to_plain(self, value: object, form: Form, depth: int) -> list[object]:
        """Return the plain items.  Raises PayloadError for another length, or with the index."""
        if not isinstance(value, tuple):
            raise _mismatch("tuple", value)
        return self._convert([item.to_plain for item in self.items], value, form, depth)

    def _convert(
        self, converts: list[Convert], items: Sequence[object], form: Form, depth: int
    ) -> list[object]:
        check_depth(form, depth)
        if len(items) != len(self.items):
            raise PayloadError(f"expected {len(self.items)} items, got {len(items)}")
        converted: list[object] = []
        try:
            for convert, item in zip(converts, items, strict=True):
                converted.append(convert(item, form, depth + 1))
        except PayloadError as error:
            error.prefix(f"[{len(converted)}]")
            raise
        return converted


class UnionShape:
    """One of several messages, told by the name of its class: a map of that name to the message."""

    __slots__ = ("_by_name",)

    def __init__(self, members: Iterable[MessageShape[Any]]) -> None:
        self._by_name = {member.name: member for member in members}

    @property
    def members(self) -> tuple[MessageShape[Any], ...]:
        """The messages that it may be."""
        return tuple(self._by_name.values())

    def from_plain(self, plain: object, form: Form, depth: int) -> object:
        """Return the message that is named.  Raises PayloadError for another name."""
        if not isinstance(plain, dict) or len(plain) != 1:
            raise PayloadError(f"expected a map with one of {self._choice()}")
        check_depth(form, depth)
        ((name, inner),) = plain.items()
        member = self._by_name.get(name)
        if member is None:
            raise PayloadError(f"expected one of {self._choice()}, got {reprlib.repr(name)}")
        return self._within(name, member.from_plain, inner, form, depth)

    def to_plain(self, value: object, form: Form, depth: int) -> dict[str, object]:
        """Return the map of the class's name to the message.  Raises PayloadError for another."""
        check_depth(form, depth)
        name = type(value).__name__
        member = self._by_name.get(name)
        if member is None or type(value) is not member.message_type:
            raise _mismatch(f"one of {self._choice()}", value)
        return {name: self._within(name, member.to_plain, value, form, depth)}

    def _within(self, name: str, convert: Convert, value: object, form: Form, depth: int) -> object:
        try:
            return convert(value, form, depth + 1)
        except PayloadError as error:
            error.prefix(f"({name})")
            raise

    def _choice(self) -> str:
        return ", ".join(self._by_name)


class MapShape:
    """A dict with str keys whose values have one shape."""

    __slots__ = ("value",)

    def __init__(self, value: Shape) -> None:
        self.value = value

    def from_plain(self, plain: object, form: Form, depth: int) -> dict[str, object]:
        """Return a dict of typed values.  Raises PayloadError with the key."""
        return _convert_values(self.value.from_plain, plain, form, depth)

    def to_plain(self, value: object, form: Form, depth: int) -> dict[str, object]:
        """Return a dict of plain values.  Raises PayloadError with the key."""
        return _convert_values(self.value.to_plain, value, form, depth)


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: `required` when the class gives it no default; `tag` is its number
    in libevent's format."""

    name: str
    shape: Shape
    required: bool
    tag: int


class MessageShape(Generic[Message]):
    """A dataclass: its fields in their order.

    Made by `schema.message_shape`; `fields` is filled in after the object exists, because a
    message may hold messages of its own kind.
    """

    __slots__ = ("_by_name", "_fields", "by_tag", "compiled", "message_type")

    def __init__(self, message_type: type[Message]) -> None:
        self.message_type = message_type
        self._fields: tuple[Field, ...] = ()
        self._by_name: dict[str, Field] = {}
        self.by_tag: dict[int, Field] = {}
        self.compiled: object = None  # by compiled.py, at the first use

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
        self.by_tag = {field.tag: field for field in self._fields}

    def load(self, plain: object, form: Form) -> Message:
        """Return the message that decoded data stands for.

        Raises PayloadError: another type, an unknown field where the form refuses those, a
        required field missing, a limit passed, or a value that the class's own constructor
        refuses by raising, which is then the error's cause.
        """
        try:
            return self.from_plain(plain, form, 1)
        except PayloadError as error:
            error.prefix(self.name)
            raise

    def dump(self, message: object, form: Form) -> dict[str, object]:
        """Return the plain data of a message, every field included.

        Raises PayloadError: another type, a field never set, a limit passed.
        """
        try:
            return self.to_plain(message, form, 1)
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

    def from_plain(self, plain: object, form: Form, depth: int) -> Message:
        """Return the message at `depth`; `load` without the class's name in the path."""
        if not isinstance(plain, dict):
            raise _mismatch(f"a map for {self.name}", plain)
        check_depth(form, depth)
        values = {}
        for name, item in plain.items():
            field = self._by_name.get(name)
            if field is None:
                if form.unknown is None or not isinstance(name, str):
                    raise PayloadError(f"unknown field {reprlib.repr(name)}")
                form.unknown[f"{self.name}.{name}"] = item
                continue
            values[field.name] = _convert_field(
                field.shape.from_plain, field, item, form, depth + 1
            )
        return self.build(values)

    def build(self, values: dict[str, object]) -> Message:
        """Return the message of typed values by field.

        Raises PayloadError when a required one is missing, or the class's own constructor refuses
        them by raising, which is then the error's cause.
        """
        for field in self._fields:
            if field.required and field.name not in values:
                raise PayloadError("is missing", f".{field.name}")
        return self._construct(values)

    def to_plain(self, value: object, form: Form, depth: int) -> dict[str, object]:
        """Return the plain data at `depth`; `dump` without the class's name in the path."""
        self.check_own(value, form, depth)
        plain = {}
        for field in self._fields:
            try:
                item = getattr(value, field.name)
            except AttributeError:
                raise PayloadError("is not set", f".{field.name}") from None
            plain[field.name] = _convert_field(field.shape.to_plain, field, item, form, depth + 1)
        return plain

    def check_own(self, value: object, form: Form, depth: int) -> None:
        """Raise PayloadError unless `value` is of this very class, and not too deep."""
        if type(value) is not self.message_type:  # a subclass would lose the fields it adds
            raise _mismatch(self.name, value)
        check_depth(form, depth)

    def _construct(self, values: dict[str, object]) -> Message:
        try:
            return self.message_type(**values)
        except Exception as exc:  # __post_init__ is the program's: any raise refuses the value
            reason = one_line(f"{type(exc).__name__}: {exc}")
            raise PayloadError(f"refused by {self.name}: {reason}") from exc


def _mismatch(expected: str, value: object) -> PayloadError:
    got = "None" if value is None else type(value).__name__
    return PayloadError(f"expected {expected}, got {got}")


def check_depth(form: Form, depth: int) -> None:
    """Raise PayloadError when `depth` is beyond the limit."""
    if depth > form.limits.max_depth:
        raise PayloadError(f"nested deeper than the limit of {form.limits.max_depth} levels")


def _check_bounds(items: Collection[object], form: Form, depth: int) -> None:
    check_depth(form, depth)
    if len(items) > form.limits.max_items:
        raise PayloadError(f"{len(items)} items are more than the limit of {form.limits.max_items}")


def _convert_items(
    convert: Convert, items: Collection[object], form: Form, depth: int
) -> list[object]:
    _check_bounds(items, form, depth)
    converted: list[object] = []
    try:
        for item in items:
            converted.append(convert(item, form, depth + 1))  # noqa: PERF401 - its length is the index
    except PayloadError as error:
        error.prefix(f"[{len(converted)}]")
        raise
    return converted


def _convert_values(convert: Convert, mapping: object, form: Form, depth: int) -> dict[str, object]:
    if not isinstance(mapping, dict):
        raise _mismatch("dict", mapping)
    _check_bounds(mapping, form, depth)
    converted = {}
    for key, item in mapping.items():
        try:
            converted[STR.from_plain(key, form, depth)] = convert(item, form, depth + 1)
        except PayloadError as error:
            error.prefix(f"[{reprlib.repr(key)}]")
            raise
    return converted


def _convert_field(convert: Convert, field: Field, item: object, form: Form, depth: int) -> object:
    try:
        return convert(item, form, depth)
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
BYTES = BytesShape()
BOOL = ExactShape(bool)
NONE = ExactShape(type(None))
TIMESTAMP = TimestampShape()
