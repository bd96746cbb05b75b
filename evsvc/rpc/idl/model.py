"""What a .rpc file says: structures, their entries, and the lines that are for the C compiler."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import RpcError


class IdlError(RpcError, ValueError):
    """A .rpc file that is none.  line: where, from 1; reason: what is wrong there."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(line, reason)
        self.line = line
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a structure.

    label:  "optional", "array", or "".
    type:   int, int64, string, bytes, or struct.
    struct: the structure's name, where the type is one.
    size:   how many bytes, for bytes of fixed length.
    tag:    its number on the wire.
    """

    name: str
    label: str
    type: str
    struct: str
    size: int | None
    tag: int
    line: int


@dataclass(slots=True)
class Struct:
    """A structure: a name, and entries in their order."""

    name: str
    line: int
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class Document:
    """A whole file.  directives: its lines for the C compiler, with their numbers."""

    structs: dict[str, Struct] = field(default_factory=dict)
    directives: list[tuple[int, str]] = field(default_factory=list)
