"""From a .rpc file's structures to dataclasses: as classes at once, or as readable Python.

An entry that C must set is a field without default; an optional one is None, and an array an empty
list, until they are set.  All are given by name.  A name that Python keeps for itself gets a `_`.
"""

from __future__ import annotations

import dataclasses
import keyword
from typing import Annotated, Any

from ..annotations import U32, U64, FixedLength, Tag
from .model import Document, Entry

_PLAIN = {"int": int, "int64": int, "string": str, "bytes": bytes}
_RANGES = {"int": U32, "int64": U64}


# What a generated module calls by these names.
_TAKEN = frozenset(
    [
        "Annotated",
        "FixedLength",
        "Tag",
        "U32",
        "U64",
        "bytes",
        "dataclass",
        "field",
        "int",
        "list",
        "str",
    ]
)


def python_name(name: str) -> str:
    """Return a name that Python takes, and that hides nothing of the module."""
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def make_classes(document: Document) -> dict[str, type]:
    """Return a dataclass for each structure, by the structure's name."""
    classes = {
        name: dataclasses.make_dataclass(
            python_name(name),
            [(python_name(entry.name), object, _default(entry)) for entry in struct.entries],
            kw_only=True,
        )
        for name, struct in document.structs.items()
    }
    for name, struct in document.structs.items():  # now that each can be named
        classes[name].__annotations__ = {
            python_name(entry.name): _annotation(entry, classes) for entry in struct.entries
        }
    return classes


def _default(entry: Entry) -> Any:
    if entry.label == "array":
        return dataclasses.field(default_factory=list)
    return dataclasses.field(default=None) if entry.label == "optional" else dataclasses.field()


def _annotation(entry: Entry, classes: dict[str, type]) -> Any:
    inner: Any = classes[entry.struct] if entry.type == "struct" else _PLAIN[entry.type]
    if entry.type in _RANGES:
        inner = Annotated[inner, _RANGES[entry.type]]
    elif entry.size is not None:
        inner = Annotated[inner, FixedLength(entry.size)]
    if entry.label == "array":
        inner = list[inner]
    elif entry.label == "optional":
        inner = inner | None
    return Annotated[inner, Tag(entry.tag)]


def python_source(document: Document, source: str) -> str:
    """Return a module with a dataclass for each structure; `source` names the file it is from."""
    bodies = []
    for struct in document.structs.values():
        lines = [
            f"    {python_name(entry.name)}: {_field_source(entry)}" for entry in struct.entries
        ]
        body = "\n".join(lines) or "    pass"
        bodies.append(f"@dataclass(kw_only=True)\nclass {python_name(struct.name)}:\n{body}\n")
    text = "\n\n".join(bodies)
    fields = "dataclass, field" if "field(" in text else "dataclass"
    names = [name for name in ("U32", "U64", "FixedLength", "Tag") if name in text]
    head = [f'"""The messages of {source}, made by `evsvc rpc gen`."""', ""]
    head += ["from __future__ import annotations", "", f"from dataclasses import {fields}"]
    if names:
        head += ["from typing import Annotated", "", f"from evsvc.rpc import {', '.join(names)}"]
    return "\n".join(head) + "\n\n\n" + text


def _field_source(entry: Entry) -> str:
    inner = python_name(entry.struct) if entry.type == "struct" else _PLAIN[entry.type].__name__
    word = {"int": "U32", "int64": "U64"}.get(entry.type, "")
    if entry.size is not None:
        word = f"FixedLength({entry.size})"
    if entry.label == "array":
        inner = f"list[Annotated[{inner}, {word}]]" if word else f"list[{inner}]"
        return f"Annotated[{inner}, Tag({entry.tag})] = field(default_factory=list)"
    words = ", ".join(filter(None, (word, f"Tag({entry.tag})")))
    if entry.label == "optional":
        return f"Annotated[{inner}, {words}] | None = None"
    return f"Annotated[{inner}, {words}]"
