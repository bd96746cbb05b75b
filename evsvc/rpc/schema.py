"""From a dataclass to its `MessageShape`: reads the annotations once, when an RPC is defined.

What a field may be, and how it travels:

    int, float, str, bytes, bool, None    as MessagePack has them; ints of 64 bits
    datetime.datetime                     a moment with a time zone; it arrives in UTC
    T | None                              nil or T
    A | B, of dataclasses                 a map of the class's name to the message
    list[T], tuple[T, ...]                array
    tuple[A, B]                           array of that length
    dict[str, T]                          map
    a dataclass                           map from field name to value; may hold its own kind
    an Enum of str or of int values       the member's value
    Literal[...] of the scalars above     the value
    NewType and Annotated                 what they stand for; see `annotations`

Not carried: date and time apart, sets, other unions, `Any`, Flag (carry an int), generic
dataclasses.

A definition may grow while both sides run: give a new field a default, and older peers go on; a
field that is not known is ignored.  Never change what a name, or a tag, stands for.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import inspect
import types
import typing
from typing import Annotated, Any, Literal, NewType, TypeVar, Union

from .annotations import FixedLength, IntRange, Tag
from .errors import DefinitionError
from .shapes import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    NONE,
    STR,
    TIMESTAMP,
    ArrayShape,
    BytesShape,
    EnumShape,
    Field,
    IntShape,
    LiteralShape,
    MapShape,
    MessageShape,
    OptionalShape,
    Shape,
    TupleShape,
    UnionShape,
)

Message = TypeVar("Message")

_SCALARS: dict[object, Shape] = {
    int: INT,
    float: FLOAT,
    str: STR,
    bytes: BYTES,
    bool: BOOL,
    type(None): NONE,
    None: NONE,
    datetime.datetime: TIMESTAMP,
}
_CARRIED = (
    "int, float, str, bytes, bool, None, datetime, T | None, list[T], tuple[...], dict[str, T], "
    "a dataclass, a union of dataclasses, an Enum of str or int, or a Literal"
)


def message_shape(message_type: type[Message]) -> MessageShape[Message]:
    """Return the shape of a dataclass, with those of all that it holds.

    Raises DefinitionError when the class is no dataclass, or naming the path of the first field,
    as `AddRequest.items[].price`, whose annotation is not one that is carried.
    """
    path = getattr(message_type, "__name__", repr(message_type))
    if not (isinstance(message_type, type) and dataclasses.is_dataclass(message_type)):
        raise DefinitionError(f"{path}: a message type must be a dataclass")
    return _SchemaReader().read_message(message_type, path)


class _SchemaReader:
    """Reads one type tree; remembers each class, so that a message may hold its own kind."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[type, MessageShape[Any]] = {}

    def read_message(self, message_type: type, path: str) -> MessageShape[Any]:
        known = self._known.get(message_type)
        if known is not None:
            return known
        shape = self._known[message_type] = MessageShape(message_type)
        fields = dataclasses.fields(message_type)
        _check_constructor(message_type, {field.name for field in fields}, path)
        hints = _resolve_hints(message_type, path)
        shape.fields = [
            Field(
                field.name,
                self.read(hints[field.name], f"{path}.{field.name}"),
                field.default is field.default_factory is dataclasses.MISSING,
                tag,
            )
            for field, tag in zip(fields, _tags(fields, hints, path), strict=True)
        ]
        return shape

    def read(self, annotation: Any, path: str) -> Shape:
        words: tuple[object, ...] = ()
        while True:
            if isinstance(annotation, NewType):
                annotation = annotation.__supertype__
            elif typing.get_origin(annotation) is Annotated:
                words = (*words, *annotation.__metadata__)
                annotation = annotation.__origin__
            else:
                break
        for word in words:
            if isinstance(word, IntRange) and annotation is int:
                return IntShape(word.least, word.greatest)
            if isinstance(word, FixedLength) and annotation is bytes:
                return BytesShape(word.size)
            if isinstance(word, (IntRange, FixedLength)):
                raise DefinitionError(f"{path}: {word!r} says nothing about {annotation!r}")
        scalar = _SCALARS.get(annotation)
        if scalar is not None:
            return scalar
        arguments = typing.get_args(annotation)
        if arguments:
            return self._read_parametrised(annotation, arguments, path)
        if isinstance(annotation, type):
            if dataclasses.is_dataclass(annotation):
                return self.read_message(annotation, path)
            if issubclass(annotation, enum.Enum):
                return _read_enum(annotation, path)
        raise _not_carried(annotation, path)

    def _read_parametrised(self, annotation: object, args: tuple[Any, ...], path: str) -> Shape:
        origin = typing.get_origin(annotation)
        if origin is Union or origin is types.UnionType:
            inner = [arg for arg in args if arg is not type(None)]
            shape = self.read(inner[0], path) if len(inner) == 1 else self._read_union(inner, path)
            return shape if len(inner) == len(args) else OptionalShape(shape)
        elif origin is list:
            return ArrayShape(list, self.read(args[0], f"{path}[]"))
        elif origin is tuple and len(args) == 2 and args[1] is Ellipsis:
            return ArrayShape(tuple, self.read(args[0], f"{path}[]"))
        elif origin is tuple and Ellipsis not in args:
            return TupleShape(tuple(self.read(arg, f"{path}[{i}]") for i, arg in enumerate(args)))
        elif origin is dict and args[0] is str:
            return MapShape(self.read(args[1], f"{path}[]"))
        elif origin is Literal and all(type(arg) in _SCALARS for arg in args):
            return LiteralShape(args)
        raise _not_carried(annotation, path)

    def _read_union(self, members: list[Any], path: str) -> UnionShape:
        if not all(isinstance(each, type) and dataclasses.is_dataclass(each) for each in members):
            shown = " | ".join(getattr(each, "__name__", str(each)) for each in members)
            raise DefinitionError(f"{path}: a union is one of dataclasses, not {shown}")
        if len({each.__name__ for each in members}) < len(members):
            raise DefinitionError(f"{path}: two members of the union have one name")
        return UnionShape([self.read_message(each, path) for each in members])


def _tags(
    fields: tuple[dataclasses.Field[Any], ...], hints: dict[str, Any], path: str
) -> list[int]:
    """Return the fields' tags.  Raises DefinitionError when two are equal."""
    tags: list[int] = []
    last = 0
    for field in fields:
        said = [word for word in _words(hints[field.name]) if isinstance(word, Tag)]
        last = said[0].number if said else last + 1
        if last in tags:
            raise DefinitionError(f"{path}.{field.name}: the tag {last} is taken")
        tags.append(last)
    return tags


def _words(annotation: Any) -> list[object]:
    """Return what `Annotated` says of a field, its own or that of what is optional or listed."""
    words = list(getattr(annotation, "__metadata__", ()))
    for argument in typing.get_args(annotation):
        words += _words(argument)
    return words


def _read_enum(enum_type: type[enum.Enum], path: str) -> EnumShape:
    value_types = {type(member.value) for member in enum_type}
    if issubclass(enum_type, enum.Flag) or value_types not in ({str}, {int}):
        raise DefinitionError(
            f"{path}: {enum_type.__name__} is not an Enum whose values are all str or all int"
        )
    return EnumShape(enum_type, value_types.pop())


def _check_constructor(message_type: type, names: set[str], path: str) -> None:
    """Refuse a class that cannot be made from its fields: init=False, InitVar, own __init__."""
    parameters = set(inspect.signature(message_type).parameters)
    if getattr(message_type, "__parameters__", ()):
        raise DefinitionError(f"{path}: {message_type.__name__} is a generic dataclass")
    if parameters != names:
        odd = ", ".join(sorted(parameters ^ names))
        raise DefinitionError(
            f"{path}: the constructor of {message_type.__name__} must take exactly its fields; "
            f"it differs in {odd}"
        )


def _resolve_hints(message_type: type, path: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(message_type, include_extras=True)
    except (NameError, TypeError, SyntaxError, AttributeError) as exc:
        raise DefinitionError(f"{path}: its annotations do not resolve: {exc}") from exc


def _not_carried(annotation: object, path: str) -> DefinitionError:
    shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return DefinitionError(f"{path}: {shown} is not a type that RPC carries: {_CARRIED}")
