"""Content codings: which of them a client takes (RFC 9110 section 12.5.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ITEM = re.compile(
    r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*"
    r"(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)


def acceptable(values: Sequence[str], available: Sequence[str]) -> list[str]:
    """Return those of the `available` codings that Accept-Encoding takes, the best first.

    Of equal ones the first available is better.  Without the field none: a client that says
    nothing may understand nothing.  An item that is none is passed over.
    """
    quality: dict[str, float] = {}
    for item in ",".join(values).split(","):
        found = _ITEM.fullmatch(item)
        if found is not None:
            name = found[1].lower()
            quality["gzip" if name == "x-gzip" else name] = float(found[2] or 1)
    other = quality.get("*", 0.0)
    wanted = [(quality.get(name, other), name) for name in available]
    return [name for weight, name in sorted(wanted, key=lambda each: -each[0]) if weight > 0]
