"""What comes of a stream: bytes in, messages out, none while the program pauses.  No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from .frames import FrameReader

if TYPE_CHECKING:
    from .codecs.protocol import Codec
    from .shapes import MessageShape

Message = TypeVar("Message")


class Incoming(Generic[Message]):
    """The messages of one direction.

    paused: the program takes none now.  reader: has what has come and is not taken.
    """

    __slots__ = ("_codec", "_shape", "paused", "reader")

    def __init__(self, codec: Codec, shape: MessageShape[Message], max_bytes: int) -> None:
        self._codec = codec
        self._shape = shape
        self.reader = FrameReader(max_bytes)
        self.paused = False

    def next_message(self) -> Message | None:
        """Return the next message, or None.  Raises PayloadError for bytes that are none."""
        if self.paused:
            return None
        payload = self.reader.next_payload()
        return None if payload is None else self._codec.decode(self._shape, payload)
