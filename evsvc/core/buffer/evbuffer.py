"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

Bytes enter at the end and leave at the front.  `bytes` objects are taken as they are, whole chunks
move between buffers, and a partly read first chunk is an offset: nothing is copied until someone
asks for contiguous bytes.

What a buffer can do is built up in layers: `chain` (the chunks), `contents` (looking), `observed`
(changing and telling), `transfer` (descriptors), `bytequeue` (all operations), and here its life
and its lock.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..closing import Closing
from ..errors import ArgumentTypeError, StateError
from ..thread import new_lock
from .bytequeue import ByteQueue
from .chain import NO_CHUNKS
from .transfer import FIRST_READ_BYTES, MAX_READ_BYTES

if TYPE_CHECKING:
    from ..thread import Lock
    from .chunks import Bytes

P = ParamSpec("P")
R = TypeVar("R")

_OF_A_LOCK = ("acquire", "release", "__enter__", "__exit__")


class EvBuffer(ByteQueue, Closing):
    """A byte queue (struct evbuffer), with `len()`, `bytes()` and truth as Python has them."""

    __slots__ = ()

    def __init__(self, data: Bytes = b"") -> None:
        # Of all layers: a call of each one's own would double the time, to 0.63 us.
        self._chunks = NO_CHUNKS
        self._start = self._length = self._flags = 0
        self._has_files = self._frozen_start = self._frozen_end = False
        self._callbacks = self._on_add = self._on_drain = None
        self._max_read = MAX_READ_BYTES
        self._read_bytes = FIRST_READ_BYTES
        self._lock = self._space = None
        if type(data) is not bytes or data:  # what is nothing, of another type, is refused, too
            self.add(data)

    def enable_locking(self, lock: Lock | None = None) -> None:
        """Have every method hold a lock: `lock`, which must be recursive, or a new one.

        Callbacks run with it held.  Call this before another thread has the buffer or anyone
        keeps one of its methods.  Raises StateError when it is enabled already, and for a subclass
        of the program's, whose methods would be lost; ArgumentTypeError for what is no lock.
        Source: evbuffer_enable_locking.
        """
        if self._lock is not None:
            raise StateError("the buffer has a lock already")
        if type(self) is not EvBuffer:
            raise StateError(f"only an EvBuffer itself can have a lock, no {type(self).__name__}")
        if lock is not None and not all(hasattr(lock, name) for name in _OF_A_LOCK):
            raise ArgumentTypeError(f"a lock is wanted, not {lock!r}")
        self._lock = new_lock() if lock is None else lock
        self.__class__ = LockedEvBuffer

    def close(self) -> None:
        """Drop the contents and the callbacks; references are released (evbuffer_free)."""
        self._forget_callbacks()
        self._space = None
        self._drop(self._length)


def _holding(
    method: Callable[Concatenate[EvBuffer, P], R],
) -> Callable[Concatenate[EvBuffer, P], R]:
    """Return the method with the buffer's lock held."""

    @functools.wraps(method)
    def holding(self: EvBuffer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        assert self._lock is not None
        with self._lock:
            return method(self, *args, **kwargs)

    return holding


class LockedEvBuffer(EvBuffer):
    """What `enable_locking` makes of an EvBuffer: the same, with the lock held in every method.

    A class of its own, because a buffer without a lock, as nearly all are, then pays nothing.
    What is not listed here is one step, or made of these.  The inner methods are what bufferevents
    call, and what buffers call of each other.
    """

    __slots__ = ()

    add = _holding(EvBuffer.add)
    add_iovec = _holding(EvBuffer.add_iovec)
    add_printf = _holding(EvBuffer.add_printf)
    add_reference_with_offset = _holding(EvBuffer.add_reference_with_offset)
    add_file = _holding(EvBuffer.add_file)
    add_file_segment = _holding(EvBuffer.add_file_segment)
    prepend = _holding(EvBuffer.prepend)
    remove = _holding(EvBuffer.remove)
    drain = _holding(EvBuffer.drain)
    readln = _holding(EvBuffer.readln)
    pullup = _holding(EvBuffer.pullup)
    expand = _holding(EvBuffer.expand)
    reserve_space = _holding(EvBuffer.reserve_space)
    commit_space = _holding(EvBuffer.commit_space)
    set_flags = _holding(EvBuffer.set_flags)
    clear_flags = _holding(EvBuffer.clear_flags)
    copyout = _holding(EvBuffer.copyout)
    peek = _holding(EvBuffer.peek)
    search = _holding(EvBuffer.search)
    search_eol = _holding(EvBuffer.search_eol)
    ptr_set = _holding(EvBuffer.ptr_set)
    read = _holding(EvBuffer.read)
    write = _holding(EvBuffer.write)
    add_cb = _holding(EvBuffer.add_cb)
    remove_cb_entry = _holding(EvBuffer.remove_cb_entry)
    remove_cb = _holding(EvBuffer.remove_cb)
    cb_set_flags = _holding(EvBuffer.cb_set_flags)
    cb_clear_flags = _holding(EvBuffer.cb_clear_flags)
    defer_callbacks = _holding(EvBuffer.defer_callbacks)
    freeze = _holding(EvBuffer.freeze)
    unfreeze = _holding(EvBuffer.unfreeze)
    close = _holding(EvBuffer.close)
    _append = _holding(EvBuffer._append)
    _drop = _holding(EvBuffer._drop)
    _give_to = _holding(EvBuffer._give_to)
    _shared_chunks = _holding(EvBuffer._shared_chunks)

    @property
    def contiguous_space(self) -> int:
        """How many bytes the first chunk holds (evbuffer_get_contiguous_space)."""
        with _both(self, self):
            return super().contiguous_space

    def _share(self, source: ByteQueue) -> None:
        with _both(self, source):
            super()._share(source)

    def _move_from(self, source: ByteQueue, size: int, *, at_front: bool = False) -> int:
        with _both(self, source):
            return super()._move_from(source, size, at_front=at_front)


@contextmanager
def _both(one: ByteQueue, other: ByteQueue) -> Iterator[None]:
    """Hold the locks of two buffers, always in the same order: two threads cannot block."""
    first, second = sorted((one, other), key=id)
    first.lock()
    try:
        second.lock()
        try:
            yield
        finally:
            second.unlock()
    finally:
        first.unlock()
