"""EvBuffer with a lock: what holds it, several buffers at once, and threads."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, TracebackType

import pytest

from evsvc.core import (
    ArgumentTypeError,
    EvBuffer,
    EventBase,
    FileSegment,
    StateError,
)
from evsvc.core.buffer import evbuffer
from evsvc.core.buffer.chain import Chain
from evsvc.core.buffer.evbuffer import LockedEvBuffer


class CountingLock:
    """A recursive lock that knows how often it was taken, and how deep it is held."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.taken = 0
        self.depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        got = self._lock.acquire(blocking, timeout)
        self.taken += got
        self.depth += got
        return got

    def release(self) -> None:
        self._lock.release()
        self.depth -= 1

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def locked(data: bytes = b"") -> tuple[EvBuffer, CountingLock]:
    buffer = EvBuffer(data)
    lock = CountingLock()
    buffer.enable_locking(lock)
    return buffer, lock


CALLS: dict[str, Callable[[EvBuffer, int], object]] = {
    "add": lambda buffer, fd: buffer.add(b"x"),
    "add_iovec": lambda buffer, fd: buffer.add_iovec([b"x"]),
    "add_printf": lambda buffer, fd: buffer.add_printf("x"),
    "add_reference": lambda buffer, fd: buffer.add_reference(b"x"),
    "add_reference_with_offset": lambda buffer, fd: buffer.add_reference_with_offset(b"xy", 1),
    "add_buffer": lambda buffer, fd: buffer.add_buffer(EvBuffer(b"x")),
    "add_buffer_reference": lambda buffer, fd: buffer.add_buffer_reference(EvBuffer(b"x")),
    "add_file": lambda buffer, fd: buffer.add_file(os.dup(fd)),
    "add_file_segment": lambda buffer, fd: buffer.add_file_segment(FileSegment(fd)),
    "prepend": lambda buffer, fd: buffer.prepend(b"x"),
    "prepend_buffer": lambda buffer, fd: buffer.prepend_buffer(EvBuffer(b"x")),
    "remove": lambda buffer, fd: buffer.remove(1),
    "remove_buffer": lambda buffer, fd: buffer.remove_buffer(EvBuffer(), 1),
    "drain": lambda buffer, fd: buffer.drain(1),
    "readln": lambda buffer, fd: buffer.readln(),
    "pullup": lambda buffer, fd: buffer.pullup(),
    "expand": lambda buffer, fd: buffer.expand(1),
    "reserve_space": lambda buffer, fd: buffer.reserve_space(1),
    "commit_space": lambda buffer, fd: buffer.commit_space(),
    "set_flags": lambda buffer, fd: buffer.set_flags(1),
    "clear_flags": lambda buffer, fd: buffer.clear_flags(1),
    "copyout": lambda buffer, fd: buffer.copyout(),
    "peek": lambda buffer, fd: buffer.peek(),
    "search": lambda buffer, fd: buffer.search(b"x"),
    "search_eol": lambda buffer, fd: buffer.search_eol(),
    "ptr_set": lambda buffer, fd: buffer.ptr_set(0),
    "contiguous_space": lambda buffer, fd: buffer.contiguous_space,
    "read": lambda buffer, fd: buffer.read(fd),
    "write": lambda buffer, fd: buffer.write(fd),
    "add_cb": lambda buffer, fd: buffer.add_cb(noted),
    "remove_cb": lambda buffer, fd: buffer.remove_cb(noted, "here"),
    "remove_cb_entry": lambda buffer, fd: buffer.remove_cb_entry(buffer.add_cb(noted)),
    "cb_set_flags": lambda buffer, fd: buffer.cb_set_flags(buffer.add_cb(noted), 1),
    "cb_clear_flags": lambda buffer, fd: buffer.cb_clear_flags(buffer.add_cb(noted), 1),
    "freeze": lambda buffer, fd: buffer.freeze(at_front=True),
    "unfreeze": lambda buffer, fd: buffer.unfreeze(at_front=True),
    "close": lambda buffer, fd: buffer.close(),
}
NEEDS_A_BASE = {"defer_callbacks"}
# One step each, or what the lock is handled with.
WITHOUT_LOCK = {"enable_locking", "lock", "max_read", "unlock"}
# What a buffer's owner uses, who has the lock already or takes it by `put`, `drop` and `take_from`.
FOR_THE_OWNER = {
    "drop",
    "frozen_end",
    "frozen_start",
    "length",
    "on_add",
    "on_drain",
    "put",
    "send",
    "take_from",
    "views",
}


def noted(*args: object) -> None:
    """Stand in for a callback."""


def test_every_public_name_is_tried() -> None:
    names = {name for name, _ in inspect.getmembers(EvBuffer) if not name.startswith("_")}
    of_the_chain = {name for name in vars(Chain) if not name.startswith("_")}
    assert names == set(CALLS) | NEEDS_A_BASE | WITHOUT_LOCK | FOR_THE_OWNER | of_the_chain


def test_every_method_is_wrapped_or_listed_as_one_that_need_not_be() -> None:
    public = {
        name
        for name, member in vars(EvBuffer).items()
        if not name.startswith("_") and isinstance(member, FunctionType | property)
    }
    wrapped = set(vars(LockedEvBuffer))
    assert public >= evbuffer.WITHOUT_LOCK
    assert public - wrapped == evbuffer.WITHOUT_LOCK
    assert wrapped >= evbuffer.INNER_WITH_LOCK


@pytest.mark.parametrize("name", CALLS)
def test_every_method_holds_the_lock_and_gives_it_back(name: str, tmp_path: Path) -> None:
    buffer, lock = locked(b"line\nx")
    buffer.add_cb(noted, "here")
    lock.taken = 0
    with (tmp_path / "file").open("w+b") as file:
        CALLS[name](buffer, file.fileno())
        assert lock.taken > 0
        assert lock.depth == 0
        buffer.close()


def test_a_method_that_raises_gives_the_lock_back() -> None:
    buffer, lock = locked(b"x")
    buffer.freeze(at_front=True)
    with pytest.raises(StateError):
        buffer.drain(1)
    with pytest.raises(StateError):
        EvBuffer().add_buffer(buffer)
    assert lock.depth == 0


def test_a_locked_buffer_does_what_another_does() -> None:
    buffer = EvBuffer(b"line 1\nline 2")
    buffer.enable_locking()
    assert isinstance(buffer, EvBuffer)
    buffer.add(data=b"\n")
    assert buffer.readln() == b"line 1"
    assert bytes(buffer) == b"line 2\n"
    assert buffer.copyout(4, start=2) == b"ne 2"
    assert len(buffer) == 7
    assert EvBuffer.add.__doc__ == LockedEvBuffer.add.__doc__


def test_locking_is_enabled_once() -> None:
    buffer, _ = locked()
    with pytest.raises(StateError, match="already"):
        buffer.enable_locking()


class Counted(EvBuffer):
    """A program's own kind of buffer, with an attribute more and a method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, data: bytes | bytearray | memoryview) -> None:
        self.added += 1
        super().add(data)


class Renamed(EvBuffer):
    """One of the same layout, which would take another class without a word."""

    __slots__ = ()


@pytest.mark.parametrize("kind", [Counted, Renamed])
def test_a_subclass_is_refused_a_lock_and_stays_as_it_is(kind: type[EvBuffer]) -> None:
    buffer = kind()
    with pytest.raises(StateError, match=kind.__name__):
        buffer.enable_locking()
    assert type(buffer) is kind
    assert buffer._lock is None
    buffer.add(b"abc")
    assert bytes(buffer) == b"abc"


@pytest.mark.parametrize("wrong", ["x", 5, object()])
def test_what_is_no_lock_is_refused_and_nothing_set(wrong: object) -> None:
    buffer = EvBuffer()
    with pytest.raises(ArgumentTypeError, match="lock"):
        buffer.enable_locking(wrong)  # type: ignore[arg-type]
    assert type(buffer) is EvBuffer
    buffer.enable_locking()
    buffer.add(b"x")


def test_without_locking_there_is_nothing_to_hold() -> None:
    buffer = EvBuffer()
    buffer.unlock()
    buffer.lock()
    buffer.add(b"x")
    buffer.unlock()
    buffer.unlock()
    assert bytes(buffer) == b"x"


def test_the_lock_can_be_held_over_several_calls() -> None:
    """Recursively; another thread waits meanwhile."""
    buffer = EvBuffer()
    buffer.enable_locking()
    adding = threading.Event()
    other = threading.Thread(target=lambda: (adding.set(), buffer.add(b"other")))
    buffer.lock()
    buffer.lock()
    other.start()
    adding.wait(30)
    for _ in range(100):
        buffer.add(b".")
    buffer.unlock()
    assert bytes(buffer) == b"." * 100
    buffer.unlock()
    other.join(30)
    assert bytes(buffer) == b"." * 100 + b"other"


def test_only_who_holds_the_lock_can_let_go() -> None:
    buffer = EvBuffer()
    buffer.enable_locking()
    with pytest.raises(StateError, match="not locked"):
        buffer.unlock()


def test_callbacks_run_without_the_lock_deferred_ones_too(base: EventBase) -> None:
    depths: list[int] = []
    buffer, lock = locked()
    entry = buffer.add_cb(lambda buf, info, arg: depths.append(lock.depth))
    buffer.add(b"x")
    lock.taken = 0
    buffer.defer_callbacks(base)
    assert lock.taken > 0
    buffer.add(b"x")
    base.dispatch()
    assert depths == [0, 0]
    assert lock.depth == 0
    buffer.remove_cb_entry(entry)
    buffer.close()


def test_a_thread_may_close_a_buffer_whose_callbacks_are_about_to_run(base: EventBase) -> None:
    """The loop waits for the lock, and finds that there is nobody left to tell."""
    told: list[object] = []
    closed = threading.Event()
    closing = threading.Event()
    loop_thread = threading.get_ident()

    class Lock(CountingLock):
        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            if threading.get_ident() == loop_thread and closing.is_set():
                about_to_wait.set()
            return super().acquire(blocking, timeout)

    def close_it() -> None:
        buffer.lock()
        closing.set()
        about_to_wait.wait(30)
        buffer.close()
        buffer.unlock()
        closed.set()

    about_to_wait = threading.Event()
    buffer = EvBuffer()
    buffer.enable_locking(Lock())
    buffer.defer_callbacks(base)
    buffer.add_cb(lambda *args: told.append(args))
    buffer.add(b"x")
    other = threading.Thread(target=close_it)
    other.start()
    closing.wait(30)
    base.dispatch()
    other.join(30)
    assert closed.is_set()
    assert told == []


MOVES: dict[str, Callable[[EvBuffer, EvBuffer], object]] = {
    "add_buffer": lambda one, other: one.add_buffer(other),
    "prepend_buffer": lambda one, other: one.prepend_buffer(other),
    "remove_buffer": lambda one, other: other.remove_buffer(one, 2),
    "add_buffer_reference": lambda one, other: one.add_buffer_reference(other),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("lock_target", [True, False])
def test_a_move_holds_the_locks_that_there_are(move: str, lock_target: bool) -> None:
    source, source_lock = locked(b"abc")
    target = EvBuffer()
    if lock_target:
        target_lock = CountingLock()
        target.enable_locking(target_lock)
    source_lock.taken = 0
    MOVES[move](target, source)
    assert source_lock.taken > 0
    assert source_lock.depth == 0
    if lock_target:
        assert target_lock.taken > 0
        assert target_lock.depth == 0
    assert bytes(target) == b"abc"[: len(target)]
    assert len(target) >= 2


def test_threads_that_move_both_ways_neither_block_nor_lose_a_byte() -> None:
    one, other = EvBuffer(bytes(1000)), EvBuffer(bytes(1000))
    one.enable_locking()
    other.enable_locking()
    sums: list[int] = []

    def shuffle(source: EvBuffer, target: EvBuffer) -> None:
        moved = 0
        for number in range(2000):
            moved += source.remove_buffer(target, number % 50)
        sums.append(moved)

    threads = [threading.Thread(target=shuffle, args=args) for args in [(one, other), (other, one)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(sums) == 2
    assert len(one) + len(other) == 2000
    assert bytes(one) + bytes(other) == bytes(2000)


def test_threads_can_add_and_take_at_once() -> None:
    """All that went in comes out, each thread's lines in their order."""
    buffer = EvBuffer()
    buffer.enable_locking()

    def fill(name: int) -> None:
        for number in range(1000):
            buffer.add_printf("%d %d\n", name, number)

    threads = [threading.Thread(target=fill, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    lines: list[list[int]] = [[], [], []]
    while any(thread.is_alive() for thread in threads) or buffer:
        line = buffer.readln()
        if line is not None:
            name, number = map(int, line.split())
            lines[name].append(number)
    for thread in threads:
        thread.join(60)
    assert lines == [list(range(1000))] * 3


@pytest.mark.parametrize("order", [1, -1])
def test_shared_memory_is_cleaned_up_once_by_the_last_of_many_threads(order: int) -> None:
    done: list[int] = []
    source = EvBuffer()
    source.enable_locking()
    source.add_reference(b"shared", lambda data, size, arg: done.append(size))
    takers = [EvBuffer() for _ in range(8)]
    for taker in takers:
        taker.add_buffer_reference(source)
    threads = [threading.Thread(target=buffer.close) for buffer in [source, *takers][::order]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == [6]
