"""How large a payload may be, in bytes, items and levels; the same going out and coming in."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.checks import check_limits
from ..core.errors import ArgumentError
from .errors import PayloadError

DEEPEST_ALLOWED = 256
"""The most that `max_depth` may be: each level costs stack frames while a message is checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadLimits:
    """Limits of one codec.  All are inclusive.

    Raises ArgumentError when one is out of range, ArgumentTypeError for what is no number.

    max_payload_bytes: most bytes of one request or reply.
    max_depth:         most levels of messages, lists and maps inside each other; the request or
                       reply itself is the first.  At most 256.
    max_items:         most items of one list, tuple or map.
    """

    max_payload_bytes: int = 1024 * 1024
    max_depth: int = 64
    max_items: int = 65_536

    def __post_init__(self) -> None:
        check_limits(self)
        if not 1 <= self.max_depth <= DEEPEST_ALLOWED:
            raise ArgumentError(
                f"max_depth must be from 1 to {DEEPEST_ALLOWED}: {self.max_depth!r}"
            )

    def check_size(self, payload: bytes) -> None:
        """Raise PayloadError when a payload has too many bytes."""
        if len(payload) > self.max_payload_bytes:
            raise PayloadError(
                f"{len(payload)} payload bytes are more than the limit of {self.max_payload_bytes}"
            )
