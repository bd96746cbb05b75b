"""The options of EDNS (RFC 6891 6.1.2): taken out of a query, put into a reply.  Does no I/O.

A client sends a cookie or padding that differs each time, and asks the same as ever.  So the
options that say nothing of the question are taken out before it is looked at, and what answers
them is put in behind everything else: replies end with their OPT record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from .framing import HEADER_BYTES

COOKIE, KEEPALIVE, PADDING, EXTENDED_ERROR = 10, 11, 12, 15
"""RFC 7873, RFC 7828, RFC 7830 and RFC 8914."""

CLIENT_COOKIE_BYTES = 8
PADDED_BYTES = 468
"""Padded replies have a multiple of so many bytes (RFC 8467 4.1)."""

_OPTION = struct.Struct("!HH")
_OPT_HEAD = b"\0\0\x29"  # the root's name and the type
_OPT_BYTES = 11
_LENGTH_AT = 9  # within the record
_MAX_LABEL_BYTES = 63
_MIN_COOKIE_BYTES, _MAX_COOKIE_BYTES = 16, 40
_ASIDE = frozenset({COOKIE, KEEPALIVE, PADDING})

EdnsOption: TypeAlias = tuple[int, bytes]
"""The code of an option, and its data."""


def split_options(packet: bytes) -> tuple[bytes, tuple[EdnsOption, ...]] | None:
    """Return a query with an OPT record that is bare, and the options that were in it.

    None where that is not all: no options, others than cookie, keep-alive and padding, or a packet
    that has not the form of an ordinary query.  The question itself is not looked at.
    """
    size = len(packet)
    at = HEADER_BYTES
    while at < size and packet[at]:
        if packet[at] > _MAX_LABEL_BYTES:
            return None
        at += 1 + packet[at]
    opt = at + 5  # behind the root's label, type and class
    rest = opt + _OPT_BYTES
    if rest >= size or packet[opt : opt + 3] != _OPT_HEAD:
        return None
    if int.from_bytes(packet[opt + _LENGTH_AT : rest], "big") != size - rest:
        return None
    options = _read_options(packet, rest)
    if options is None or not all(_is_aside(*option) for option in options):
        return None
    return packet[: opt + _LENGTH_AT] + b"\0\0", tuple(options)


def _read_options(packet: bytes, at: int) -> list[EdnsOption] | None:
    found = []
    while at < len(packet):
        if at + _OPTION.size > len(packet):
            return None
        code, length = _OPTION.unpack_from(packet, at)
        at += _OPTION.size
        if at + length > len(packet):
            return None
        found.append((code, packet[at : at + length]))
        at += length
    return found


def _is_aside(code: int, data: bytes) -> bool:
    return code in _ASIDE and (code != COOKIE or is_cookie(data))


def is_cookie(data: bytes) -> bool:
    """Return True for the length of a client's cookie, or of both (RFC 7873 section 4)."""
    size = len(data)
    return size == CLIENT_COOKIE_BYTES or _MIN_COOKIE_BYTES <= size <= _MAX_COOKIE_BYTES


def option_of(options: Iterable[EdnsOption], code: int) -> bytes | None:
    """Return the data of the first option of a code, None when there is none."""
    for each, data in options:
        if each == code:
            return data
    return None


def options_bytes(options: Iterable[EdnsOption]) -> int:
    """Return how much longer options make a reply."""
    return sum(_OPTION.size + len(data) for _, data in options)


def add_options(reply: bytes, options: Sequence[EdnsOption], *, pads: bool, limit: int) -> bytes:
    """Return a reply with options in the bare OPT record at its end.

    pads: whether an option of padding is added, too.  A reply that would have more than `limit`
    bytes, or has no OPT record, comes back as it is.
    """
    if reply[-_OPT_BYTES : -_OPT_BYTES + 3] != _OPT_HEAD or reply[-2:] != b"\0\0":
        return reply
    data = b"".join(_OPTION.pack(code, len(each)) + each for code, each in options)
    size = len(reply) + len(data)
    if pads:
        size += _OPTION.size
        padding = min(-size % PADDED_BYTES, max(limit - size, 0))
        data += _OPTION.pack(PADDING, padding) + bytes(padding)
    if len(reply) + len(data) > limit:
        return reply
    return reply[:-2] + len(data).to_bytes(2, "big") + data
