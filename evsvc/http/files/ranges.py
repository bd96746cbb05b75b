"""Ranges of bytes that a client asks for (RFC 9110 section 14)."""

from __future__ import annotations

import re

MAX_RANGES = 16
"""A request for more is answered with the whole: so many pieces are no download, but an attack."""

_SPEC = re.compile(r"[ \t]*(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))[ \t]*")


class NotSatisfiable(Exception):
    """None of the ranges is in what there is: 416."""


def parse_ranges(value: str | None, size: int) -> list[tuple[int, int]] | None:
    """Return the ranges that a Range field asks for, as first and last-plus-one.

    None where the whole is to be sent: without the field, for another unit, for what is no list of
    ranges, for more than MAX_RANGES, and where they are the whole.  Those that overlap or touch are
    one, and stand where the first of them did.  Raises NotSatisfiable.
    """
    if value is None:
        return None
    unit, equals, text = value.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return None
    ranges: list[tuple[int, int]] = []
    specs = [spec for spec in text.split(",") if spec.strip()]
    if not specs or len(specs) > MAX_RANGES:
        return None
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if found is None:
            return None
        first, last, suffix = found.groups()
        if suffix is not None:
            begin, end = max(size - int(suffix), 0), size
        else:
            begin, end = int(first), size if not last else min(int(last) + 1, size)
            if last and int(last) < begin:
                return None
        if begin < end:
            ranges.append((begin, end))
    if not ranges:
        raise NotSatisfiable
    ranges = _merged(ranges)
    return None if ranges == [(0, size)] else ranges


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in ranges:
        for index, (other_begin, other_end) in enumerate(merged):
            if begin <= other_end and other_begin <= end:
                del merged[index]
                merged.insert(index, (min(begin, other_begin), max(end, other_end)))
                merged = _merged(merged)
                break
        else:
            merged.append((begin, end))
    return merged
