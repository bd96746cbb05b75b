"""The contract between the calls and the way that messages become bytes."""

from __future__ import annotations

from typing import Protocol, TypeVar

from ..errors import PayloadError
from ..shapes import MessageShape

Message = TypeVar("Message")


class Codec(Protocol):
    """Turns messages into payloads and back; knows the shape of each.  Keeps no state per call.

    content_type: the media type of its payloads, in lower case and without parameters.
    """

    @property
    def content_type(self) -> str:
        """The media type of its payloads."""

    def check(self, shape: MessageShape[Message]) -> None:
        """Raise DefinitionError when messages of this shape hold what it does not carry."""

    def encode(self, shape: MessageShape[Message], message: Message) -> bytes:
        """Return the payload.  Raises PayloadError when a value is ill-typed or a limit passed."""

    def decode(
        self,
        shape: MessageShape[Message],
        payload: bytes,
        unknown: dict[str, object] | None = None,
    ) -> Message:
        """Return the message.  Raises PayloadError, and nothing else, whatever the bytes are.

        unknown: gets the fields that the shape does not have, where they are not refused.
        """


def unique_keys(pairs: list[tuple[object, object]]) -> dict[object, object]:
    """Build a map.  Raises PayloadError for a repeated key: it would let two readers see two
    messages in the same bytes."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise PayloadError("a map holds the same key twice")
    return mapping
