"""The codec of libevent's own generated messages: one tagged record for each field that is set.

    bool, int, an Enum of int      an integer of 32 or 64 bits; never negative
    str, bytes, an Enum of str     the bytes; text without NUL
    datetime                       seconds and microseconds, from 1970 to 2106
    a dataclass                    the records of its fields
    list[T], tuple[T, ...]         a record for each item; none for an empty one
    T | None                       no record for None

Not carried: float, dict, other unions, tuples of fixed length, a list in a list, None in a list.
Fields are written in the order of the class and read in any; one that comes twice is refused, as
libevent's is.  An unknown tag is passed over unless `refuse_unknown` is set; libevent refuses it.
"""

from __future__ import annotations

import datetime
from typing import Any, TypeVar

from ...core.errors import ArgumentError
from .. import evtag
from ..errors import DefinitionError, PayloadError
from ..limits import PayloadLimits
from ..shapes import (
    BOOL,
    ArrayShape,
    BytesShape,
    EnumShape,
    Field,
    Form,
    IntShape,
    LiteralShape,
    MessageShape,
    OptionalShape,
    Shape,
    StrShape,
    TimestampShape,
    check_depth,
)

Message = TypeVar("Message")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_GREATEST_32 = (1 << 32) - 1


class EvtagCodec:
    """Messages as libevent's generated code writes them, within `limits`; satisfies `Codec`.

    refuse_unknown: a payload with a tag that the message does not have is none.
    """

    __slots__ = ("limits", "refuse_unknown")

    content_type = "application/octet-stream"

    def __init__(
        self, limits: PayloadLimits | None = None, *, refuse_unknown: bool = False
    ) -> None:
        self.limits = PayloadLimits() if limits is None else limits
        self.refuse_unknown = refuse_unknown

    def check(self, shape: MessageShape[Any]) -> None:
        """Raise DefinitionError, with the field's path, for a type that is not carried."""
        _check(shape, shape.name, set())

    def encode(self, shape: MessageShape[Message], message: Message) -> bytes:
        """Return the payload.  Raises PayloadError when a value is ill-typed or a limit passed."""
        try:
            payload = _write_message(shape, message, Form(self.limits), 1)
        except PayloadError as error:
            error.prefix(shape.name)
            raise
        self.limits.check_size(payload)
        return payload

    def decode(
        self,
        shape: MessageShape[Message],
        payload: bytes,
        unknown: dict[str, object] | None = None,
    ) -> Message:
        """Return the message.  Raises PayloadError, and nothing else, whatever the bytes are."""
        self.limits.check_size(payload)
        form = Form.to_read(self.limits, unknown, self.refuse_unknown)
        try:
            return _read_message(shape, payload, form, 1)
        except PayloadError as error:
            error.prefix(shape.name)
            raise


def _check(shape: MessageShape[Any], path: str, known: set[MessageShape[Any]]) -> None:
    known.add(shape)
    for field in shape.fields:
        inner = _item_shape(field)
        where = f"{path}.{field.name}"
        if isinstance(inner, MessageShape):
            if inner not in known:
                _check(inner, where, known)
        elif not _is_carried(inner):
            raise DefinitionError(f"{where}: libevent's format does not carry it")


def _is_carried(shape: Shape) -> bool:
    if isinstance(shape, LiteralShape):
        return {type(each) for each in shape.allowed} in ({str}, {int})
    return shape is BOOL or isinstance(
        shape, (IntShape, StrShape, BytesShape, EnumShape, TimestampShape)
    )


def _item_shape(field: Field) -> Shape:
    """Return the shape of what one record of a field holds."""
    shape = field.shape
    if isinstance(shape, (OptionalShape, ArrayShape)):
        return shape.inner if isinstance(shape, OptionalShape) else shape.item
    return shape


def _write_message(shape: MessageShape[Any], message: object, form: Form, depth: int) -> bytes:
    shape.check_own(message, form, depth)
    records: list[bytes] = []
    for field in shape.fields:
        try:
            value = getattr(message, field.name)
        except AttributeError:
            raise PayloadError("is not set", f".{field.name}") from None
        try:
            _write_field(field, value, form, depth + 1, records)
        except PayloadError as error:
            error.prefix(f".{field.name}")
            raise
    return b"".join(records)


def _write_field(field: Field, value: object, form: Form, depth: int, records: list[bytes]) -> None:
    shape = field.shape
    if isinstance(shape, ArrayShape):
        for index, item in enumerate(shape.checked(value, form, depth)):
            try:
                payload = _write_value(shape.item, item, form, depth + 1)
            except PayloadError as error:
                error.prefix(f"[{index}]")
                raise
            records.append(evtag.record_bytes(field.tag, payload))
    elif not (isinstance(shape, OptionalShape) and value is None):
        payload = _write_value(_item_shape(field), value, form, depth)
        records.append(evtag.record_bytes(field.tag, payload))


def _write_value(shape: Shape, value: object, form: Form, depth: int) -> bytes:
    if isinstance(shape, MessageShape):
        return _write_message(shape, value, form, depth)
    plain = shape.to_plain(value, form, depth)
    if isinstance(plain, bytes):
        return plain
    if isinstance(plain, str):
        if "\0" in plain:
            raise PayloadError("libevent's strings hold no NUL")
        return plain.encode()
    try:
        if isinstance(plain, datetime.datetime):
            return evtag.timeval_bytes((plain - _EPOCH) // _MICROSECOND)
        if isinstance(plain, int):
            return evtag.int_bytes(plain)
    except ArgumentError as exc:
        raise PayloadError(str(exc)) from None
    raise PayloadError(f"libevent's format does not carry {type(plain).__name__}")


def _read_message(shape: MessageShape[Message], data: bytes, form: Form, depth: int) -> Message:
    check_depth(form, depth)
    fields = shape.by_tag
    values: dict[str, Any] = {}
    position = 0
    while position < len(data):
        tag, begin, end = evtag.read_header(data, position)
        if end > len(data):
            raise PayloadError(f"the data ends inside the record with the tag {tag}")
        payload, position = data[begin:end], end
        field = fields.get(tag)
        if field is None:
            if form.unknown is None:
                raise PayloadError(f"unknown tag {tag}")
            form.unknown[f"{shape.name}.{tag}"] = payload
            continue
        try:
            _read_field(field, payload, values, form, depth + 1)
        except PayloadError as error:
            error.prefix(f".{field.name}")
            raise
    for field in shape.fields:
        if isinstance(field.shape, ArrayShape) and (field.required or field.name in values):
            values[field.name] = field.shape.container(values.get(field.name, ()))
        elif isinstance(field.shape, OptionalShape) and field.required:
            values.setdefault(field.name, None)
    return shape.build(values)


def _read_field(
    field: Field, payload: bytes, values: dict[str, Any], form: Form, depth: int
) -> None:
    shape = field.shape
    if not isinstance(shape, ArrayShape):
        if field.name in values:
            raise PayloadError("comes twice")
        values[field.name] = _read_value(_item_shape(field), payload, form, depth)
        return
    items = values.setdefault(field.name, [])
    if len(items) == form.limits.max_items:
        raise PayloadError(f"more items than the limit of {form.limits.max_items}")
    try:
        items.append(_read_value(shape.item, payload, form, depth + 1))
    except PayloadError as error:
        error.prefix(f"[{len(items)}]")
        raise


def _read_value(shape: Shape, payload: bytes, form: Form, depth: int) -> object:
    if isinstance(shape, MessageShape):
        return _read_message(shape, payload, form, depth)
    return shape.from_plain(_plain_of(shape, payload), form, depth)


def _plain_of(shape: Shape, payload: bytes) -> object:
    """Return a record's payload as the plain data that its shape checks."""
    if isinstance(shape, BytesShape):
        return payload
    if isinstance(shape, TimestampShape):
        return _EPOCH + evtag.read_timeval(payload) * _MICROSECOND
    if isinstance(shape, StrShape) or _is_text(shape):
        try:
            return payload.decode()
        except UnicodeDecodeError as exc:
            raise PayloadError(f"the text is not UTF-8: {exc.reason}") from None
    nibbles = evtag.NIBBLES_64
    if isinstance(shape, IntShape) and shape.greatest <= _GREATEST_32:
        nibbles = evtag.NIBBLES_32
    number, _ = evtag.read_int(payload, 0, nibbles)
    if shape is BOOL:
        if number > 1:
            raise PayloadError(f"expected 0 or 1, got {number}")
        return number == 1
    return number


def _is_text(shape: Shape) -> bool:
    if isinstance(shape, EnumShape):
        return shape.value_type is str
    return isinstance(shape, LiteralShape) and isinstance(shape.allowed[0], str)
