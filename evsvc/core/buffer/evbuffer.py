"""EvBuffer: a queue of bytes, kept as the chunks in which they came.

Bytes enter at the end and leave at the front.  `bytes` objects are taken as they are, whole chunks
move between buffers, and a partly read first chunk is an offset: nothing is copied until someone
asks for contiguous bytes.

What a buffer can do is built up in layers: `chain` (the chunks), `contents` (looking), `observed`
(changing and telling), `transfer` (descriptors), `bytequeue` (all operations), and here its life
and its lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..closing import Closing
from ..errors import ArgumentTypeError, StateError
from ..thread import holding_lock, new_lock
from .bytequeue import ByteQueue
from .chain import NO_CHUNKS
from .transfer import FIRST_READ_BYTES, MAX_READ_BYTES

if TYPE_CHECKING:
    from ..thread import Lock
    from .chunks import Bytes


_OF_A_LOCK = ("acquire", "release", "__enter__", "__exit__")


class EvBuffer(ByteQueue, Closing):
    """A byte queue (struct evbuffer), with `len()`, `bytes()` and truth as Python has them."""

    __slots__ = ()

    def __init__(self, data: Bytes = b"") -> None:
        # Of all layers: a call of each one's own would double the time, to 0.63 us.
        self._chunks = NO_CHUNKS
        self._start = self.length = self._flags = 0
        self._has_files = self.frozen_start = self.frozen_end = False
        self._callbacks = self.on_add = self.on_drain = None
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
        self.drop(self.length)


class LockedEvBuffer(EvBuffer):
    """What `enable_locking` makes of an EvBuffer: the same, with the lock held in every method.

    A class of its own, because a buffer without a lock, as nearly all are, then pays nothing.
    What is not listed here is one step, or made of these.  The inner methods are what bufferevents
    call, and what buffers call of each other.
    """

    __slots__ = ()

    add = holding_lock(EvBuffer.add)
    add_iovec = holding_lock(EvBuffer.add_iovec)
    add_printf = holding_lock(EvBuffer.add_printf)
    add_reference_with_offset = holding_lock(EvBuffer.add_reference_with_offset)
    add_file = holding_lock(EvBuffer.add_file)
    add_file_segment = holding_lock(EvBuffer.add_file_segment)
    prepend = holding_lock(EvBuffer.prepend)
    remove = holding_lock(EvBuffer.remove)
    drain = holding_lock(EvBuffer.drain)
    readln = holding_lock(EvBuffer.readln)
    pullup = holding_lock(EvBuffer.pullup)
    expand = holding_lock(EvBuffer.expand)
    reserve_space = holding_lock(EvBuffer.reserve_space)
    commit_space = holding_lock(EvBuffer.commit_space)
    set_flags = holding_lock(EvBuffer.set_flags)
    clear_flags = holding_lock(EvBuffer.clear_flags)
    copyout = holding_lock(EvBuffer.copyout)
    peek = holding_lock(EvBuffer.peek)
    search = holding_lock(EvBuffer.search)
    search_eol = holding_lock(EvBuffer.search_eol)
    ptr_set = holding_lock(EvBuffer.ptr_set)
    read = holding_lock(EvBuffer.read)
    write = holding_lock(EvBuffer.write)
    add_cb = holding_lock(EvBuffer.add_cb)
    remove_cb_entry = holding_lock(EvBuffer.remove_cb_entry)
    remove_cb = holding_lock(EvBuffer.remove_cb)
    cb_set_flags = holding_lock(EvBuffer.cb_set_flags)
    cb_clear_flags = holding_lock(EvBuffer.cb_clear_flags)
    defer_callbacks = holding_lock(EvBuffer.defer_callbacks)
    freeze = holding_lock(EvBuffer.freeze)
    unfreeze = holding_lock(EvBuffer.unfreeze)
    close = holding_lock(EvBuffer.close)
    put = holding_lock(EvBuffer.put)
    drop = holding_lock(EvBuffer.drop)
    _give_to = holding_lock(EvBuffer._give_to)
    _shared_chunks = holding_lock(EvBuffer._shared_chunks)

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
