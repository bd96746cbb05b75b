"""The contract between the calls and the way that messages become bytes."""

from __future__ import annotations

from typing import Protocol, TypeVar

from ..shapes import MessageShape

Message = TypeVar("Message")


class Codec(Protocol):
    """Turns messages into payloads and back; knows the shape of each.  Keeps no state per call.

    `RpcServer` and `RpcPool` use one for all their calls; both sides must use the same kind.
    """

    def encode(self, shape: MessageShape[Message], message: Message) -> bytes:
        """Return the payload.  Raises PayloadError when a value is ill-typed or a limit passed."""

    def decode(self, shape: MessageShape[Message], payload: bytes) -> Message:
        """Return the message.  Raises PayloadError, and nothing else, whatever the bytes are."""
