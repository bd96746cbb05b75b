"""Each slot of an EventRecord is written by its owners alone: the table in its docstring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsvc.core import Event
from evsvc.core.reactor.record import EventRecord

CORE = Path(__file__).resolve().parents[2] / "evsvc" / "core"


def owners_by_slot() -> dict[str, set[str]]:
    """Return the table: which files of the reactor write which slot."""
    rows = re.findall(r"^ *(\w+) {2,}(\w+(?:, \w+)*) {2,}\S", EventRecord.__doc__ or "", re.M)
    return {slot: set(owners.split(", ")) for slot, owners in rows if slot != "slot"}


OWNERS = owners_by_slot()


def writes(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str, int]]:
    """Yield each store to an attribute that is named as a slot is: whose, which, and in which line.

    `self.x` in another class than Event is that class's own; in Event's constructor, the first.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from writes(node, node.name)
        elif isinstance(node, ast.FunctionDef) and (inside, node.name) == ("Event", "__init__"):
            continue
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store | ast.Del)
            and node.attr in OWNERS
        ):
            whose = ast.unparse(node.value)
            if whose != "self" or inside == "Event":
                yield whose, node.attr, node.lineno
        else:
            yield from writes(node, inside)


def foreign_writes(name: str, source: str) -> list[str]:
    return [
        f"{name}.py:{line}: {whose}.{slot}"
        for whose, slot, line in writes(ast.parse(source))
        if name not in OWNERS[slot]
    ]


def test_the_table_has_every_slot_and_the_files_are_there() -> None:
    assert sorted(OWNERS) == sorted(EventRecord.__slots__)
    files = {owner for owners in OWNERS.values() for owner in owners}
    assert all((CORE / "reactor" / f"{owner}.py").exists() for owner in files)
    assert issubclass(Event, EventRecord)


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: path.stem)
def test_a_slot_is_written_by_its_owners_alone(path: Path) -> None:
    in_reactor = path.parent.name == "reactor"
    assert foreign_writes(path.stem if in_reactor else str(path), path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("name", "source", "found"),
    [
        ("active", "event.is_active = True", []),
        ("reactor", "event.is_active = True", ["reactor.py:1: event.is_active"]),
        ("reactor", "event.stale -= 1", ["reactor.py:1: event.stale"]),
        ("reactor", "a, event.rank = 1, 2", ["reactor.py:1: event.rank"]),
        ("base", "def f(e):\n  e.arg = 1", ["base.py:2: e.arg"]),
        ("active", "class ActiveQueues:\n  def f(self): self.stale = 0", []),
        ("event", "class Event:\n  def f(self): self.stale = 0", ["event.py:2: self.stale"]),
        ("event", "class Event:\n  def __init__(self): self.stale = 0", []),
    ],
)
def test_a_foreign_write_is_found(name: str, source: str, found: list[str]) -> None:
    assert foreign_writes(name, source) == found
