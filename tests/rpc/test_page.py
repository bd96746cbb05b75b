"""docs/rpc.md names what there is; its definitions are run."""

from __future__ import annotations

import re
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest

import evsvc.rpc

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rpc.md").read_text("utf-8")
DEFINITIONS = re.findall(r"^\| `(Rpc\(.*?\))` \|", PAGE, re.MULTILINE)
NAMES = sorted(set(re.findall(r"`([A-Z]\w+(?:\.\w+)?)\b", PAGE)) - {"Rpc-Timeout"})


@pytest.mark.parametrize("text", DEFINITIONS)
def test_a_definition_is_one(text: str) -> None:
    known: dict[str, Any] = dict(vars(evsvc.rpc))
    for name in re.findall(r'"\w+", (\w+), (\w+)', text)[0]:
        known.setdefault(name, make_dataclass(name, [("text", str, "")]))
    assert isinstance(eval(text, known), evsvc.rpc.Rpc)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there(name: str) -> None:
    if name in ("POST", "Annotated", "Rpc"):
        return
    found: Any = evsvc.rpc
    for part in name.split("."):
        found = getattr(found, part)


def test_the_page_has_all_kinds() -> None:
    assert len(DEFINITIONS) == len(evsvc.rpc.RpcKind) + 1
