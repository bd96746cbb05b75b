"""The pieces of RFC 9110, 9112 and 3986 syntax that several readers judge by.

Everything here is a pure function of bytes or text.  The fragments are written so that a pattern
built of them never gives back a byte once taken: each repeats one class of characters
possessively and is followed by a character outside of that class.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = rb"[\t -~\x80-\xff]"

_TOKEN: Final = re.compile(rb"%b++" % TOKEN).fullmatch
_FIELD_LINES: Final = re.compile(rb"(?:%b++:%b*+\r\n)*" % (TOKEN, VALUE)).fullmatch
_FIELD_LINE: Final = re.compile(rb"%b++:%b*+" % (TOKEN, VALUE)).fullmatch

_NAME: Final = r"[A-Za-z0-9\-._~!$&'()*+,;=]"  # unreserved and sub-delims of RFC 3986
_REG_NAME: Final = re.compile(rf"{_NAME}*+(?:%[0-9A-Fa-f]{{2}}{_NAME}*+)*").fullmatch
_IP_FUTURE: Final = re.compile(rf"[vV][0-9A-Fa-f]++\.(?:{_NAME}|:)+").fullmatch
_IP_LITERAL_MAX_CHARACTERS: Final = 63
_PORT: Final = re.compile(r"[0-9]{0,5}").fullmatch
_MAX_PORT: Final = 65535

# Nineteen digits hold every 64-bit length; more is an attack on somebody's integer.
_LENGTH: Final = re.compile(r"[0-9]{1,19}").fullmatch


def any_case(*names: str) -> bytes:
    """A pattern for one of the names in any case, as classes, which `re` tests faster than (?i)."""
    patterns = (
        "".join(f"[{c.upper()}{c}]" if c.isalpha() else re.escape(c) for c in name.lower())
        for name in names
    )
    return "|".join(patterns).encode()


def is_token(text: str) -> bool:
    """Whether a text is a token (RFC 9110 5.6.2), such as the name of a method or a field."""
    return _TOKEN(text.encode("latin-1", "replace")) is not None


def are_field_lines(block: bytes) -> bool:
    """Whether a block is well-formed field lines and nothing else (RFC 9112 5, no obs-fold)."""
    return _FIELD_LINES(block) is not None


def first_bad_line(block: bytes) -> bytes:
    """The first line of a block that is no field line: for the message of the refusal."""
    return next((line for line in block.split(b"\r\n")[:-1] if _FIELD_LINE(line) is None), b"")


def is_ip_literal(text: str) -> bool:
    """Whether the text between brackets is an IPv6 or IPvFuture address (RFC 3986 3.2.2)."""
    if _IP_FUTURE(text) is not None:
        return True
    if len(text) > _IP_LITERAL_MAX_CHARACTERS or "%" in text:
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_uri_host(text: str) -> bool:
    """Whether a text is a `host` of RFC 3986 3.2.2; a reg-name may be empty."""
    if text.startswith("["):
        return text.endswith("]") and is_ip_literal(text[1:-1])
    return _REG_NAME(text) is not None


def split_authority(text: str) -> tuple[str, str | None] | None:
    """Split `uri-host [":" port]` into host and port digits; None when it is not one.

    The port may be empty (RFC 3986 3.2.3) and is at most 65535.  Userinfo is not legal here
    (RFC 9110 4.2.4).
    """
    port: str | None = None
    host = text
    colon = text.rfind(":")
    if colon > text.rfind("]"):
        host, port = text[:colon], text[colon + 1 :]
        if _PORT(port) is None or (port and int(port) > _MAX_PORT):
            return None
    return (host, port) if is_uri_host(host) else None


def parse_length(text: str) -> int | None:
    """The number in a Content-Length of plain ASCII digits, or None (RFC 9110 8.6)."""
    return int(text) if _LENGTH(text) is not None and text.isascii() else None


def list_members(values: Iterable[str]) -> list[str]:
    """All members of a comma-separated list over several lines, lower-case, empty ones kept."""
    return [member.strip(" \t").lower() for value in values for member in value.split(",")]
