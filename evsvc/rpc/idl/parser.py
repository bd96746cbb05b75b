"""From a .rpc file's text to its structures: libevent's interface language.

    struct NAME {
        [optional | array] int | int64 | string | bytes | struct[NAME]  NAME [ [LENGTH] ]  = TAG;
    }

`int` has 32 bits and `int64` 64, neither a sign.  A length, of bytes alone, is a number or the name
of a `#define`.  Structures may be named before they are defined.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..annotations import MAX_TAG
from .lexer import Token, tokens_of
from .model import Document, Entry, IdlError, Struct

_TYPES = frozenset(("int", "int64", "string", "bytes", "struct"))
_LABELS = frozenset(("optional", "array"))


def parse(text: str) -> Document:
    """Return what a file says.  Raises IdlError, which names the line, for what is none."""
    return _Parser(text).document()


class _Parser:
    """Reads one file from its first token to its last."""

    __slots__ = ("_constants", "_document", "_last_line", "_tokens")

    def __init__(self, text: str) -> None:
        self._tokens: Iterator[Token] = tokens_of(text)
        self._document = Document()
        self._constants: dict[str, int] = {}
        self._last_line = 1

    def document(self) -> Document:
        for token in self._tokens:
            if token.kind == "directive":
                self._directive(token)
            elif token.text == "struct":
                self._struct(token.line)
            else:
                raise IdlError(token.line, f"{token.text!r} stands outside of a struct")
        for struct in self._document.structs.values():
            for entry in struct.entries:
                if entry.type == "struct" and entry.struct not in self._document.structs:
                    raise IdlError(entry.line, f"there is no struct {entry.struct!r}")
        return self._document

    def _directive(self, token: Token) -> None:
        self._document.directives.append((token.line, token.text))
        words = token.text.lstrip("#").split()
        if len(words) == 3 and words[0] == "define":
            with contextlib.suppress(ValueError):  # it is C's, and may be no number
                self._constants[words[1]] = int(words[2], 0)

    def _struct(self, line: int) -> None:
        name = self._word("a struct's name")
        known = self._document.structs.get(name)
        if known is not None:
            raise IdlError(line, f"struct {name!r} is defined in line {known.line} already")
        self._mark("{")
        struct = self._document.structs[name] = Struct(name, line)
        while (token := self._next(f"the end of struct {name!r}")).text != "}":
            if token.kind == "directive":
                raise IdlError(token.line, f"{token.text!r} stands inside a struct")
            self._add(struct, self._entry(token))

    def _add(self, struct: Struct, entry: Entry) -> None:
        for other in struct.entries:
            if other.tag == entry.tag:
                raise IdlError(entry.line, f"the tag {entry.tag} is that of {other.name!r} already")
            if other.name == entry.name:
                raise IdlError(entry.line, f"there is an entry {entry.name!r} already")
        struct.entries.append(entry)

    def _entry(self, token: Token) -> Entry:
        label = ""
        if token.text in _LABELS:
            label = token.text
            token = self._next("a type")
            if token.text in _LABELS:
                raise IdlError(token.line, f"an entry is optional or an array: {token.text!r}")
        type_ = token.text
        if type_ not in _TYPES:
            raise IdlError(token.line, f"unknown type {type_!r}")
        if label == "array" and type_ == "bytes":
            raise IdlError(token.line, "there is no array of bytes")
        struct = ""
        if type_ == "struct":
            self._mark("[")
            struct = self._word("a struct's name")
            self._mark("]")
        name = self._word("an entry's name")
        size, sign = None, self._next("'='")
        if sign.text == "[":
            size = self._length(type_, sign.line)
            sign = self._next("'='")
        if sign.text != "=":
            raise IdlError(sign.line, f"expected '=' and a tag behind {name!r}, got {sign.text!r}")
        tag = self._number("a tag")
        if tag > MAX_TAG:
            raise IdlError(self._last_line, f"a tag has at most 32 bits: {tag}")
        self._mark(";")
        return Entry(
            name=name,
            label=label,
            type=type_,
            struct=struct,
            size=size,
            tag=tag,
            line=sign.line,
        )

    def _length(self, type_: str, line: int) -> int:
        if type_ != "bytes":
            raise IdlError(line, f"only bytes have a length, not {type_}")
        token = self._next("a length")
        if token.kind == "word":
            if token.text not in self._constants:
                raise IdlError(token.line, f"there is no #define {token.text!r} with a number")
            size = self._constants[token.text]
        elif token.kind == "number":
            size = int(token.text, 0) if token.text.lower().startswith("0x") else int(token.text)
        else:
            raise IdlError(token.line, f"expected a length, got {token.text!r}")
        if size < 0:
            raise IdlError(token.line, f"a length is not negative: {size}")
        self._mark("]")
        return size

    def _next(self, wanted: str) -> Token:
        token = next(self._tokens, None)
        if token is None:
            raise IdlError(self._last_line, f"the file ends before {wanted}")
        self._last_line = token.line
        return token

    def _word(self, wanted: str) -> str:
        token = self._next(wanted)
        if token.kind != "word":
            raise IdlError(token.line, f"expected {wanted}, got {token.text!r}")
        return token.text

    def _number(self, wanted: str) -> int:
        token = self._next(wanted)
        if token.kind != "number":
            raise IdlError(token.line, f"expected {wanted}, got {token.text!r}")
        return int(token.text, 16) if token.text.lower().startswith("0x") else int(token.text)

    def _mark(self, mark: str) -> None:
        token = self._next(f"{mark!r}")
        if token.text != mark:
            raise IdlError(token.line, f"expected {mark!r}, got {token.text!r}")
