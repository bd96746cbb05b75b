"""From a .rpc file's text to tokens; comments go, and lines for the C compiler come whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .model import IdlError

_TOKEN = re.compile(
    r"""
    (?P<space>[^\S\n]+)
  | (?P<newline>\n)
  | (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<open_comment>/\*)
  | (?P<number>0[xX][0-9a-fA-F]+\b|[0-9]+\b)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>[{}\[\]=;])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


class Token(NamedTuple):
    """A word, number or mark; `kind` is "word", "number", "mark", or "directive"."""

    kind: str
    text: str
    line: int


def tokens_of(text: str) -> Iterator[Token]:
    """Return the tokens in their order.  Raises IdlError for a character that begins none."""
    position, line, at_line_start = 0, 1, True
    while position < len(text):
        if at_line_start and text.startswith("#", position):
            end = text.find("\n", position)
            end = len(text) if end < 0 else end
            yield Token("directive", _COMMENT.sub("", text[position:end]).strip(), line)
            position = end
            continue
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup == "open_comment":
            what = "a comment without end" if found else f"unexpected {text[position]!r}"
            raise IdlError(line, what)
        kind, piece = found.lastgroup, found[0]
        if kind in ("number", "word", "mark"):
            yield Token(str(kind), piece, line)
        at_line_start = kind == "newline" or (at_line_start and kind in ("space", "comment"))
        line += piece.count("\n")
        position = found.end()
