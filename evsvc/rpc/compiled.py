"""A message's shape, compiled: one function that checks and converts an entirely ordinary message.

The law: where a compiled function gives a value, the shape gives the same; anything else, whatever
it is, is `MISS`, and goes to the shape, which finds out what is wrong and says so.  A property test
holds it.  Ordinary is a message of binary form whose fields are scalars, other messages, lists,
tuples and maps of those, or None where that is allowed; all fields are there, in any order, and no
other.

The source of the function is put together as `dataclasses` does for `__init__`.  For a message of
two integers it takes 0.3 us, where the shape takes 1.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from .limits import PayloadLimits
from .shapes import (
    BOOL,
    FLOAT,
    NONE,
    STR,
    ArrayShape,
    BytesShape,
    IntShape,
    MapShape,
    MessageShape,
    OptionalShape,
    Shape,
)


class Miss:
    """The type of MISS."""

    __slots__ = ()


MISS = Miss()
"""Not ordinary: the shape has to look."""


class FastFunction(Protocol):
    """Converts a message at a depth, or gives MISS."""

    def __call__(self, value: object, limits: PayloadLimits, depth: int, /) -> Any: ...


class FastForms(NamedTuple):
    """What is compiled of a shape: from plain data, and to plain data."""

    load: FastFunction
    dump: FastFunction


def _never(value: object, limits: PayloadLimits, depth: int) -> Any:
    return MISS


_SLOW = FastForms(_never, _never)


def fast_forms(shape: MessageShape[Any]) -> FastForms:
    """Return the functions of a shape, compiled at the first look."""
    forms = shape.compiled
    if not isinstance(forms, FastForms):
        _compile(shape)
        forms = shape.compiled
        assert isinstance(forms, FastForms)
    return forms


def _compile(shape: MessageShape[Any]) -> None:
    """Compile a shape with all that it holds; where one cannot be, none is."""
    reached: dict[int, MessageShape[Any]] = {}
    waiting = [shape]
    can_be = True
    while waiting:
        each = waiting.pop()
        if id(each) in reached:
            continue
        reached[id(each)] = each
        for field in each.fields:
            inner = _innermost(field.shape)
            if isinstance(inner, MessageShape):
                waiting.append(inner)
            elif _test(inner, "x") is None:
                can_be = False
    if not can_be:
        shape.compiled = _SLOW
        return
    for each in reached.values():
        if each.compiled is None:
            each.compiled = FastForms(_make(each, is_load=True), _make(each, is_load=False))


def _innermost(shape: Shape) -> Shape:
    """Return what a field holds, behind `| None`, a list or a map."""
    if isinstance(shape, OptionalShape):
        shape = shape.inner
    if isinstance(shape, ArrayShape):
        return shape.item
    return shape.value if isinstance(shape, MapShape) else shape


def _test(shape: Shape, name: str) -> str | None:
    """Return the test that a scalar of the name is ordinary; None when the shape is none."""
    if isinstance(shape, IntShape):
        return f"type({name}) is int and {shape.least} <= {name} <= {shape.greatest}"
    if shape is STR:
        return f"type({name}) is str and {name}.isascii()"
    if shape is FLOAT:
        return f"type({name}) is float"
    if shape is BOOL:
        return f"type({name}) is bool"
    if shape is NONE:
        return f"{name} is None"
    if isinstance(shape, BytesShape):
        size = "" if shape.size is None else f" and len({name}) == {shape.size}"
        return f"type({name}) is bytes{size}"
    return None


def _tests_of_items(shape: Shape, name: str) -> str:
    """Return the test that all items of a row are ordinary, at the speed of C."""
    if isinstance(shape, IntShape):
        bounds = f"{shape.least} <= min({name}) and max({name}) <= {shape.greatest}"
        return f"set(map(type, {name})) == {{int}} and {bounds}"
    if shape is STR:
        return f"set(map(type, {name})) == {{str}} and ''.join({name}).isascii()"
    return f"all([{_test(shape, 'x')} for x in {name}])"


class _Source:
    """The source of one function, and the names that it uses."""

    __slots__ = ("is_load", "lines", "names")

    def __init__(self, shape: MessageShape[Any], is_load: bool) -> None:
        self.is_load = is_load
        self.names: dict[str, Any] = {"MISS": MISS, "cls": shape.message_type}
        self.lines = ["def convert(value, limits, depth):"]

    def line(self, indent: int, text: str) -> None:
        self.lines.append("    " * indent + text)

    def field(self, index: int, shape: Shape) -> None:
        """Check a field, which has the name f<index>, and convert it in place."""
        name = f"f{index}"
        indent = 1
        if isinstance(shape, OptionalShape):
            self.line(1, f"if {name} is not None:")
            indent, shape = 2, shape.inner
        if isinstance(shape, ArrayShape):
            self._row(indent, name, shape)
        elif isinstance(shape, MapShape):
            self._map(indent, name, shape)
        elif isinstance(shape, MessageShape):
            self._message(indent, name, name, shape, "depth + 1")
        else:
            self.line(indent, f"if not ({_test(shape, name)}): return MISS")

    def _row(self, indent: int, name: str, shape: ArrayShape) -> None:
        given = "list" if self.is_load else shape.container.__name__
        wanted = shape.container.__name__ if self.is_load else "list"
        self.line(
            indent,
            f"if type({name}) is not {given} or depth + 1 > limits.max_depth"
            f" or len({name}) > limits.max_items: return MISS",
        )
        if isinstance(shape.item, MessageShape):
            self.line(indent, "row = []")
            self.line(indent, f"for x in {name}:")
            self._message(indent + 1, "x", "x", shape.item, "depth + 2")
            self.line(indent + 1, "row.append(x)")
            self.line(indent, f"{name} = {'row' if wanted == 'list' else 'tuple(row)'}")
        else:
            tests = _tests_of_items(shape.item, name)
            self.line(indent, f"if {name} and not ({tests}): return MISS")
            if not self.is_load or given != wanted:
                self.line(indent, f"{name} = {wanted}({name})")

    def _map(self, indent: int, name: str, shape: MapShape) -> None:
        self.line(
            indent,
            f"if type({name}) is not dict or depth + 1 > limits.max_depth"
            f" or len({name}) > limits.max_items: return MISS",
        )
        keys = f"set(map(type, {name})) == {{str}} and ''.join({name}).isascii()"
        self.line(indent, f"if {name} and not ({keys}): return MISS")
        self.line(indent, "row = {}")
        self.line(indent, f"for key, x in {name}.items():")
        if isinstance(shape.value, MessageShape):
            self._message(indent + 1, "x", "x", shape.value, "depth + 2")
        else:
            self.line(indent + 1, f"if not ({_test(shape.value, 'x')}): return MISS")
        self.line(indent + 1, "row[key] = x")
        self.line(indent, f"{name} = row")

    def _message(
        self, indent: int, target: str, name: str, shape: MessageShape[Any], depth: str
    ) -> None:
        key = f"s{len(self.names)}"
        self.names[key] = shape
        form = "load" if self.is_load else "dump"
        self.line(indent, f"{target} = {key}.compiled.{form}({name}, limits, {depth})")
        self.line(indent, f"if {target} is MISS: return MISS")

    def function(self) -> FastFunction:
        exec("\n".join(self.lines), self.names)
        made: FastFunction = self.names["convert"]
        return made


def _make(shape: MessageShape[Any], *, is_load: bool) -> FastFunction:
    source = _Source(shape, is_load)
    fields = shape.fields
    if is_load:
        source.line(1, "if type(value) is not dict or depth > limits.max_depth: return MISS")
        source.line(1, f"if len(value) != {len(fields)}: return MISS")
    else:
        source.line(1, "if type(value) is not cls or depth > limits.max_depth: return MISS")
    if fields:
        source.line(1, "try:")
        for index, field in enumerate(fields):
            get = f"value[{field.name!r}]" if is_load else f"value.{field.name}"
            source.line(2, f"f{index} = {get}")
        source.line(1, f"except {'KeyError' if is_load else 'AttributeError'}: return MISS")
    for index, field in enumerate(fields):
        source.field(index, field.shape)
    if is_load:
        arguments = ", ".join(f"{field.name}=f{index}" for index, field in enumerate(fields))
        source.line(1, f"try: return cls({arguments})")
        source.line(1, "except Exception: return MISS")  # the shape calls it again, and says so
    else:
        items = ", ".join(f"{field.name!r}: f{index}" for index, field in enumerate(fields))
        source.line(1, f"return {{{items}}}")
    return source.function()
