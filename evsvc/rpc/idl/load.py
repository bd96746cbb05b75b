"""Definitions from a .rpc file at run time, without a generated module."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from .generator import make_classes
from .parser import parse


def loads(text: str) -> dict[str, type]:
    """Return a dataclass for each structure in the text of a .rpc file, by its name.

    Raises IdlError, which names the line, for what is no such file.
    """
    return make_classes(parse(text))


def load(path: str | PathLike[str]) -> dict[str, type]:
    """Do as `loads` with a file.  Raises OSError when it cannot be read."""
    return loads(Path(path).read_text("utf-8"))
