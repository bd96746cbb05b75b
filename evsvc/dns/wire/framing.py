"""DNS over a byte stream: each message after its length in two bytes (RFC 1035 4.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core import EvBuffer

LENGTH_BYTES = 2
HEADER_BYTES = 12  # of every message


def add_length(message: bytes) -> bytes:
    """Return the message with its length in front; it has at most 65535 bytes."""
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def take_message(buffer: EvBuffer) -> bytes | None:
    """Take the first message out of a stream's input; None while it is not complete.

    A length of zero gives an empty message.
    """
    if len(buffer) < LENGTH_BYTES:
        return None
    length = int.from_bytes(buffer.copyout(LENGTH_BYTES), "big")
    if len(buffer) < LENGTH_BYTES + length:
        return None
    buffer.drain(LENGTH_BYTES)
    return buffer.remove(length) if length else b""
