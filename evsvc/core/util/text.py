"""Small text functions that a locale cannot change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ..errors import ArgumentError

_SIGN: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?)").match
# With no digit behind the x, the number is the 0.
_HEX_PREFIX: Final = re.compile(r"0[xX](?=[0-9a-fA-F])").match
_DIGITS: Final[Mapping[int, re.Pattern[str]]] = MappingProxyType(
    {8: re.compile(r"[0-7]+"), 10: re.compile(r"[0-9]+"), 16: re.compile(r"[0-9a-fA-F]+")}
)
_MAX_DIGITS: Final = 22  # of 64 bits in base 8


def ascii_strcasecmp(one: str | bytes, other: str | bytes) -> int:
    """Return -1, 0 or 1 as `one` sorts before, with or behind `other`, ASCII case aside.

    Other letters are compared as they are; a text sorts before a longer one that begins with it.
    Source: evutil_ascii_strcasecmp.
    """
    first, second = _folded(one), _folded(other)
    return (first > second) - (first < second)


def ascii_strncasecmp(one: str | bytes, other: str | bytes, size: int) -> int:
    """Compare the first `size` characters as `ascii_strcasecmp` does.

    Raises ArgumentError for a negative size.  Source: evutil_ascii_strncasecmp.
    """
    if size < 0:
        raise ArgumentError(f"a size is 0 or more: {size!r}")
    return ascii_strcasecmp(one[:size], other[:size])


def _folded(text: str | bytes) -> bytes:
    # UTF-8 sorts as its characters do, and lower() of bytes knows ASCII alone.
    return (text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)).lower()


def rtrim_lws(text: str) -> str:
    """Return `text` without the spaces and tabs at its end (evutil_rtrim_lws_)."""
    return text.rstrip(" \t")


def strtoll(text: str, base: int = 10) -> tuple[int, int]:
    """Return the number that `text` begins with, and the position behind it (evutil_strtoll).

    Blanks before it are skipped, a sign may stand in front.  base: 8, 10 or 16; 0 goes by the
    prefix, 0x or 0.  Without a number the answer is (0, 0).  Raises ArgumentError for another
    base, and for a number that 64 bits do not hold.
    """
    if base not in (0, 8, 10, 16):
        raise ArgumentError(f"the base is 0, 8, 10 or 16: {base!r}")
    sign = _SIGN(text)
    assert sign is not None, "it matches nothing, too"
    at = sign.end()
    if base in (0, 16) and _HEX_PREFIX(text, at):
        base = 16
        at += len("0x")
    elif base == 0:
        base = 8 if text.startswith("0", at) else 10
    found = _DIGITS[base].match(text, at)
    if found is None:
        return 0, 0
    significant = found[0].lstrip("0") or "0"
    number = int(significant, base) if len(significant) <= _MAX_DIGITS else 2**64
    if sign[1] == "-":
        number = -number
    if not -(2**63) <= number < 2**63:
        raise ArgumentError(f"beyond 64 bits: {found[0][:80]!r}")
    return number, found.end()
