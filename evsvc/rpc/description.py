"""A service in words: what methods there are, and what their messages hold, as plain JSON data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .definition import Rpc
from .shapes import (
    BOOL,
    FLOAT,
    INT_MAX,
    INT_MIN,
    NONE,
    ArrayShape,
    BytesShape,
    EnumShape,
    IntShape,
    LiteralShape,
    MapShape,
    MessageShape,
    OptionalShape,
    Shape,
    StrShape,
    TimestampShape,
    TupleShape,
    UnionShape,
)

_WORDS: dict[int, str] = {id(BOOL): "bool", id(FLOAT): "float", id(NONE): "None"}


def describe(rpcs: Iterable[Rpc[Any, Any]], content_types: Iterable[str]) -> dict[str, object]:
    """Return what a server offers: its methods, every message by name, and what it reads."""
    messages: dict[str, list[dict[str, object]]] = {}
    methods = {
        rpc.name: {
            "path": rpc.path,
            "request": _message(rpc.request_shape, messages),
            "reply": _message(rpc.reply_shape, messages),
            "idempotent": rpc.idempotent,
            "kind": rpc.kind.value,
        }
        for rpc in rpcs
    }
    return {"methods": methods, "messages": messages, "content_types": list(content_types)}


def _message(shape: MessageShape[Any], messages: dict[str, list[dict[str, object]]]) -> str:
    """Describe a message, once, and return its name."""
    if shape.name not in messages:
        fields = messages[shape.name] = []  # known already where it holds its own kind
        for field in shape.fields:
            described = {
                "name": field.name,
                "type": _type(field.shape, messages),
                "required": field.required,
                "tag": field.tag,
            }
            fields.append(described)
    return shape.name


def _type(shape: Shape, messages: dict[str, list[dict[str, object]]]) -> str:
    """Return a type as Python would write it."""
    if isinstance(shape, MessageShape):
        return _message(shape, messages)
    if isinstance(shape, IntShape):
        is_any = (shape.least, shape.greatest) == (INT_MIN, INT_MAX)
        return "int" if is_any else f"int[{shape.least}..{shape.greatest}]"
    if isinstance(shape, BytesShape):
        return "bytes" if shape.size is None else f"bytes[{shape.size}]"
    if isinstance(shape, OptionalShape):
        return f"{_type(shape.inner, messages)} | None"
    if isinstance(shape, ArrayShape):
        item = _type(shape.item, messages)
        return f"list[{item}]" if shape.container is list else f"tuple[{item}, ...]"
    if isinstance(shape, TupleShape):
        return f"tuple[{', '.join(_type(each, messages) for each in shape.items)}]"
    if isinstance(shape, MapShape):
        return f"dict[str, {_type(shape.value, messages)}]"
    if isinstance(shape, UnionShape):
        return " | ".join(_message(each, messages) for each in shape.members)
    if isinstance(shape, EnumShape):
        return f"Literal[{', '.join(repr(value) for value in shape.values)}]"
    if isinstance(shape, LiteralShape):
        return f"Literal[{', '.join(map(repr, shape.allowed))}]"
    if isinstance(shape, StrShape):
        return "str"
    return "datetime" if isinstance(shape, TimestampShape) else _WORDS[id(shape)]
