"""A body that the program gives piece by piece, as fast as the server takes it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from ...core import ArgumentError, ArgumentTypeError
from ...core.checks import whole_number
from ..errors import LocalProtocolError
from ..wire.writer import LAST_CHUNK, chunk

MAX_WAITING_BYTES = 64 * 1024
"""How much of a streamed body waits in the output before the program is asked for more."""

Producer = Callable[[Any, Any], "bytes | None"]
"""Called as `producer(request, arg)` for the next piece of a body: None is the end, b"" that there
is nothing now."""


class UploadState(enum.Enum):
    """How far a streamed body is."""

    FRESH = enum.auto()  # nothing was asked for
    FLOWING = enum.auto()
    ASLEEP = enum.auto()  # the program has nothing now, and says when it has
    DONE = enum.auto()


class Upload:
    """Asks the program for the pieces of one body, and frames them.

    length: how many bytes it will be, None where that is not known and it goes chunked.  is_awake:
    the program has said that it has more, and is to be asked.
    """

    __slots__ = ("_arg", "_left", "_producer", "is_awake", "length", "state")

    def __init__(self, producer: Producer, length: int | None, arg: object) -> None:
        if not callable(producer):
            raise ArgumentTypeError(f"the producer cannot be called: {producer!r}")
        if length is not None and whole_number(length, "a length") < 0:
            raise ArgumentError(f"a length is 0 or more: {length!r}")
        self._producer = producer
        self._arg = arg
        self._left = length
        self.length = length
        self.state = UploadState.FRESH
        self.is_awake = False

    def next_piece(self, request: object) -> bytes:
        """Return the next piece as it goes on the wire; b"" when there is none now, or no more.

        Raises what the producer raises, ArgumentTypeError for what is no bytes, LocalProtocolError
        for more or fewer than the length.
        """
        self.state = UploadState.FLOWING
        piece = self._producer(request, self._arg)
        if piece is None:
            return self._end()
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise ArgumentTypeError(f"a piece of a body is bytes or None: {piece!r}")
        data = bytes(piece)
        if not data:
            self.state = UploadState.ASLEEP
            return b""
        if self._left is None:
            return chunk(data)
        self._left -= len(data)
        if self._left < 0:
            raise LocalProtocolError(f"the body is longer than the {self.length} bytes announced")
        return data

    def _end(self) -> bytes:
        self.state = UploadState.DONE
        if self._left:
            raise LocalProtocolError(f"{self._left} of the body's {self.length} bytes are missing")
        return LAST_CHUNK if self.length is None else b""
