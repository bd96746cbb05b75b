"""Percent-encoding, query strings and HTML escaping: libevent's small text tools.

Decoding gives bytes, since a client may encode any byte; `parse_query_str` makes text of them.
"""

import re
from enum import IntFlag
from typing import Final
from urllib.parse import quote_from_bytes

from ..core.errors import ArgumentError
from .wire.headers import KeyValues


class QueryFlag(IntFlag):
    """How `parse_query_str` treats what RFC 3986 leaves open.

    NONCONFORMANT: a key without `=` has the value ""; empty segments and keys are skipped.
    LAST_VAL:      of equal keys only the last is kept.
    """

    EVHTTP_URI_QUERY_NONCONFORMANT = 1
    EVHTTP_URI_QUERY_LAST_VAL = 2


EVHTTP_URI_QUERY_NONCONFORMANT = QueryFlag.EVHTTP_URI_QUERY_NONCONFORMANT
EVHTTP_URI_QUERY_LAST_VAL = QueryFlag.EVHTTP_URI_QUERY_LAST_VAL

_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_HTML: Final = str.maketrans({"<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#039;", "&": "&amp;"})


def encode_uri(text: str | bytes) -> str:
    """Percent-encode everything but `A-Za-z0-9-._~`; text goes as UTF-8 (`evhttp_encode_uri`)."""
    return uriencode(text)


def uriencode(data: str | bytes, space_as_plus: bool = False) -> str:
    """As `encode_uri`; with `space_as_plus` a space becomes `+` (`evhttp_uriencode`)."""
    encoded = quote_from_bytes(data.encode() if isinstance(data, str) else data, safe="")
    return encoded.replace("%20", "+") if space_as_plus else encoded


def uridecode(text: str | bytes, plus_as_space: bool = False) -> bytes:
    """Decode `%HH`, and `+` to a space when asked (`evhttp_uridecode`).

    A `%` that two hexadecimal digits do not follow is copied as it stands; NUL may come out.
    """
    data = text.encode() if isinstance(text, str) else text
    if plus_as_space:
        data = data.replace(b"+", b" ")
    if b"%" not in data:
        return data
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), data)


def parse_query_str(text: str, flags: int = 0) -> KeyValues:
    """Split a query string into keys and decoded values (`evhttp_parse_query_str_flags`).

    Both are percent- and plus-decoded and read as UTF-8, with U+FFFD for what is not; libevent
    leaves keys as they are.  Keys compare without case.  Either may hold any character, CR and LF
    too, so it must not go into a header unseen.

    Raises ArgumentError for an empty segment or key, or a key without `=`, unless `flags` has
    EVHTTP_URI_QUERY_NONCONFORMANT.  One `&` at the very end is no empty segment.
    """
    pairs = KeyValues()
    if not text:
        return pairs
    for segment in text.removesuffix("&").split("&"):
        key, equals, value = segment.partition("=")
        if not key or not equals:
            if not flags & EVHTTP_URI_QUERY_NONCONFORMANT:
                raise ArgumentError(f"not a key=value segment of a query: {segment!r}")
            if not key:
                continue
        key = _decoded(key)
        if flags & EVHTTP_URI_QUERY_LAST_VAL:
            pairs.remove(key)
        pairs.add(key, _decoded(value))
    return pairs


def _decoded(text: str) -> str:
    if "%" not in text and "+" not in text:
        return text
    return uridecode(text, plus_as_space=True).decode(errors="replace")


def htmlescape(text: str) -> str:
    """Replace `< > " ' &` by entities, the apostrophe by `&#039;` (`evhttp_htmlescape`)."""
    return text.translate(_HTML)
