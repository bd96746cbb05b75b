"""What an EvBuffer's chain is made of: bytes, or memory that someone else owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import ArgumentTypeError


class Reference:
    """A chunk of foreign memory, with a cleanup to call when its last byte has gone."""

    __slots__ = ("_arg", "_cleanup", "_data", "_size", "view")

    def __init__(
        self,
        data: bytes | bytearray | memoryview,
        cleanup: Callable[[Any, int, Any], object] | None,
        arg: object,
    ) -> None:
        self._data: Any = data
        self.view = _as_view(data)
        self._size = len(self.view)
        self._cleanup = cleanup
        self._arg = arg

    def __len__(self) -> int:
        return len(self.view)

    def cut(self, size: int) -> None:
        """Forget the first `size` bytes."""
        self.view = self.view[size:]

    def release(self) -> None:
        """Let the memory go and call the cleanup, with the original data and full length."""
        self.view = memoryview(b"")
        data, self._data = self._data, None
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None:
            cleanup(data, self._size, self._arg)


Chunk = bytes | Reference


def bytes_of(chunk: Chunk) -> bytes | memoryview:
    """Return the chunk as something that slices and sends."""
    return chunk.view if isinstance(chunk, Reference) else chunk


def join_and_release(chunks: list[Chunk]) -> bytes:
    """Return the bytes of `chunks` in one piece; references among them are done with."""
    joined = b"".join([bytes_of(chunk) for chunk in chunks])
    for chunk in chunks:
        if isinstance(chunk, Reference):
            chunk.release()
    return joined


def view_of(chunk: Chunk) -> memoryview:
    """Return the chunk as a view."""
    return chunk.view if isinstance(chunk, Reference) else memoryview(chunk)


def frozen_copy(data: bytes | bytearray | memoryview) -> bytes:
    """Return `data` as bytes that nobody else can change.

    Raises ArgumentTypeError for anything but bytes, bytearray or memoryview.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise ArgumentTypeError(f"bytes are wanted, not {type(data).__name__}")


def _as_view(data: bytes | bytearray | memoryview) -> memoryview:
    try:
        return memoryview(data).cast("B")
    except TypeError as exc:
        raise ArgumentTypeError(f"not contiguous memory: {type(data).__name__}") from exc
