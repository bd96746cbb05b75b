"""What an EvBuffer is made of: chunks, each plain bytes or memory that something else owns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from ..checks import require_callable, whole_number
from ..errors import ArgumentError, ArgumentTypeError
from ..thread import call_unlocked

Bytes = bytes | bytearray | memoryview
CleanupCallback = Callable[[Any, int, Any], object]
"""Called as `cleanup(data, length, arg)`."""


class Foreign(Protocol):
    """A chunk of memory that is not plain `bytes`: a reference, or a piece of a file."""

    def __len__(self) -> int: ...

    def spans(self, first: int, last: int) -> Iterator[Span]:
        """Yield the bytes from `first` to before `last`, a bounded part at a time.

        Raises OSError when they have to be read and cannot be.
        """

    def cut(self, size: int) -> None:
        """Forget the first `size` bytes."""

    def part(self, first: int, last: int) -> Chunk:
        """Return the bytes from `first` to before `last` as a chunk that needs this one no more."""

    def shared(self, first: int) -> Foreign:
        """Return another chunk over the same memory, from `first` on."""

    def release(self) -> None:
        """Be done with it, once; the last of those that share it runs the program's cleanup."""


Chunk = bytes | Foreign

Span = tuple[bytes | memoryview, int, int]
"""A piece of a chunk: the chunk's bytes, and where in them the piece begins and ends."""


class Cleanup:
    """What happens once, when all chunks over some memory have gone."""

    __slots__ = ("_arg", "_callback", "_data", "_lock", "_size", "_uses")

    def __init__(self, callback: CleanupCallback, data: object, size: int, arg: object) -> None:
        self._callback: CleanupCallback | None = callback
        self._data = data
        self._size = size
        self._arg = arg
        self._uses = 1
        self._lock: threading.Lock | None = None  # from the first sharing on

    def share(self) -> None:
        """Count one more chunk; they may end up in buffers of two threads."""
        if self._lock is None:
            self._lock = threading.Lock()
        with self._lock:
            self._uses += 1

    def release(self) -> None:
        """Count one chunk less, and call the program after the last."""
        if self._lock is not None:
            with self._lock:
                self._uses -= 1
                if self._uses:
                    return
        callback, self._callback = self._callback, None
        data, self._data = self._data, None
        if callback is not None:
            call_unlocked(callback, data, self._size, self._arg)


class Reference:
    """A chunk over someone's memory, which is not copied and never changed through it."""

    __slots__ = ("_cleanup", "view")

    def __init__(self, view: memoryview, cleanup: Cleanup | None = None) -> None:
        self.view = view
        self._cleanup = cleanup

    def __len__(self) -> int:
        return len(self.view)

    def spans(self, first: int, last: int) -> Iterator[Span]:
        """Yield the bytes from `first` to before `last`, as they lie."""
        yield self.view, first, last

    def cut(self, size: int) -> None:
        """Forget the first `size` bytes."""
        self.view = self.view[size:]

    def part(self, first: int, last: int) -> bytes:
        """Return a copy: the cleanup is not to wait for what went elsewhere."""
        return bytes(self.view[first:last])

    def shared(self, first: int) -> Reference:
        """Return another reference to the same memory; the cleanup waits for both."""
        if self._cleanup is not None:
            self._cleanup.share()
        return Reference(self.view[first:], self._cleanup)

    def release(self) -> None:
        """Let the memory go."""
        self.view = memoryview(b"")
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None:
            cleanup.release()


def reference_to(
    data: Bytes, offset: int, length: int, callback: CleanupCallback | None, arg: object
) -> Reference:
    """Return a chunk over `length` bytes (-1: the rest) of `data` from `offset`.

    The cleanup is told `data` itself, and the bytes up to the end of what is referenced.  Raises
    ArgumentError for a range outside of `data`, ArgumentTypeError for what is no such memory, or
    a cleanup that cannot be called.
    """
    if callback is not None:
        require_callable(callback)
    view = view_of_memory(data)
    first, last = checked_range(offset, length, len(view))
    cleanup = None if callback is None else Cleanup(callback, data, last, arg)
    return Reference(view[first:last], cleanup)


def checked_range(offset: int, length: int, size: int) -> tuple[int, int]:
    """Return where `length` bytes (-1: the rest) from `offset` begin and end.

    Raises ArgumentError when they are not all among the `size` bytes that there are,
    ArgumentTypeError for what is no whole number.
    """
    whole_number(offset, "an offset")
    whole_number(length, "a length")
    end = size if length == -1 else offset + length
    if offset < 0 or length < -1 or not offset <= end <= size:
        raise ArgumentError(f"{length!r} bytes from {offset!r} are not within {size}")
    return offset, end


def release(chunks: Iterable[Chunk]) -> None:
    """Be done with `chunks`: the cleanup of each that has one runs, whatever another raises.

    A cleanup is the program's and may change the buffer; call this when the buffer is whole.
    """
    rest = iter(chunks)
    for chunk in rest:
        if not isinstance(chunk, bytes):
            try:
                chunk.release()
            except BaseException:
                release(rest)
                raise


def frozen_copy(data: Bytes) -> bytes:
    """Return `data` as bytes that nobody else can change.

    Raises ArgumentTypeError for anything but bytes, bytearray or memoryview, ArgumentError for a
    memoryview that is released.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise ArgumentTypeError(f"bytes are wanted, not {type(data).__name__}")
    try:
        return bytes(data)
    except ValueError as exc:
        raise ArgumentError(f"the memory cannot be read: {exc}") from exc


def view_of_memory(data: Bytes) -> memoryview:
    """Return a read-only view of `data` by bytes.

    Raises ArgumentTypeError when it has none, ArgumentError for a memoryview that is released.
    """
    try:
        return memoryview(data).cast("B").toreadonly()
    except TypeError as exc:
        raise ArgumentTypeError(f"not contiguous memory: {type(data).__name__}") from exc
    except ValueError as exc:
        raise ArgumentError(f"the memory cannot be read: {exc}") from exc
