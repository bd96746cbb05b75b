"""EvBuffer with a lock: no code of the program runs while it is held."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evsvc.core import (
    EVBUF_FS_CLOSE_ON_FREE,
    EVLOOP_NONBLOCK,
    ArgumentTypeError,
    ChangeInfo,
    EvBuffer,
    EventBase,
    FileSegment,
    StateError,
)
from evsvc.core.thread import CallbackLock
from tests.core.test_buffer_locking import CountingLock, locked


class Boom(Exception):
    """What a callback of these tests raises."""


class Witness:
    """A buffer with a lock, and how deep that was held each time the program's code ran."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "file"
        self.path.write_bytes(b"of a file")
        self.buffer, self.lock = locked(b"abcdef")
        self.depths: list[int] = []

    def note(self, *args: object) -> None:
        self.depths.append(self.lock.depth)

    def __str__(self) -> str:
        self.note()
        return "text"

    def pieces(self) -> Iterator[bytes]:
        self.note()
        yield b"piece"

    def fileno(self) -> int:
        self.note()
        return os.open(self.path, os.O_RDWR)

    def close(self) -> None:
        self.note()

    def add_and_drain(self, base: EventBase) -> None:
        self.buffer.add_cb(self.note)
        self.buffer.add(b"x")
        self.buffer.drain(1)

    def deferred(self, base: EventBase) -> None:
        self.buffer.add_cb(self.note)
        self.buffer.defer_callbacks(base)
        self.buffer.add(b"x")
        base.loop(EVLOOP_NONBLOCK)

    def cleanup(self, base: EventBase) -> None:
        self.buffer.add_reference(b"x", self.note)
        self.buffer.drain(99)

    def cleanup_at_once(self, base: EventBase) -> None:
        self.buffer.add_reference(b"", self.note)

    def cleanup_of_shared(self, base: EventBase) -> None:
        self.buffer.add_reference(b"x", self.note)
        other = EvBuffer()
        other.add_buffer_reference(self.buffer)
        other.close()
        self.buffer.close()

    def cleanup_by_pullup(self, base: EventBase) -> None:
        self.buffer.add_reference(b"x", self.note)
        self.buffer.pullup()

    def segment(self, base: EventBase) -> None:
        with FileSegment(os.open(self.path, os.O_RDONLY), flags=EVBUF_FS_CLOSE_ON_FREE) as segment:
            segment.add_cleanup_cb(self.note)
            self.buffer.add_file_segment(segment)
        self.buffer.close()

    def file_object(self, base: EventBase) -> None:
        self.buffer.add_file(self)
        self.buffer.close()

    def moved(self, base: EventBase) -> None:
        other = EvBuffer()
        other.add_cb(self.note)
        self.buffer.add_cb(self.note)
        other.add_buffer(self.buffer)
        self.buffer.prepend_buffer(other)
        self.buffer.remove_buffer(other, 2)

    def shared(self, base: EventBase) -> None:
        other = EvBuffer()
        other.add_cb(self.note)
        other.add_buffer_reference(self.buffer)

    def formatted(self, base: EventBase) -> None:
        self.buffer.add_printf("%s", self)

    def iterated(self, base: EventBase) -> None:
        assert self.buffer.add_iovec(self.pieces()) == 5

    def read(self, base: EventBase) -> None:
        self.buffer.read(self)

    def write(self, base: EventBase) -> None:
        self.buffer.write(self)

    def committed(self, base: EventBase) -> None:
        self.buffer.add_cb(self.note)
        self.buffer.reserve_space(5)
        self.buffer.commit_space(2)

    def line(self, base: EventBase) -> None:
        self.buffer.add_cb(self.note)
        self.buffer.add(b"\n")
        assert self.buffer.readln() == b"abcdef"

    def closed(self, base: EventBase) -> None:
        self.buffer.add_reference(b"x", self.note)
        with self.buffer:
            pass


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, member in vars(Witness).items()
        if "base" in getattr(member, "__annotations__", {})
    ],
)
def test_the_programs_code_runs_without_the_lock(
    name: str, tmp_path: Path, base: EventBase
) -> None:
    witness = Witness(tmp_path)
    getattr(witness, name)(base)
    assert witness.depths
    assert set(witness.depths) == {0}
    assert witness.lock.taken > 0
    witness.buffer.close()


def in_two_threads(*functions: Callable[[], object]) -> None:
    """Call each in a thread of its own; fails when they do not come to an end."""
    threads = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("kind", ["callback", "cleanup"])
def test_callbacks_that_touch_the_other_buffer_do_not_block_each_other(kind: str) -> None:
    """Each runs, in its thread, until the other runs, too; then each changes the other's buffer."""
    both_run = threading.Barrier(2, timeout=20)
    buffers = EvBuffer(), EvBuffer()

    def touch(other: EvBuffer) -> None:
        both_run.wait()
        other.prepend(b"touched")

    def change(buffer: EvBuffer, other: EvBuffer) -> None:
        if kind == "callback":
            buffer.add_cb(lambda buf, info, arg: info.n_added == 1 and touch(other))
            buffer.add(b"x")
        else:
            buffer.add_reference(b"x", lambda *told: touch(other))
            buffer.drain(1)

    for buffer in buffers:
        buffer.enable_locking()
    in_two_threads(lambda: change(*buffers), lambda: change(*buffers[::-1]))
    assert [bytes(buffer)[:7] for buffer in buffers] == [b"touched"] * 2


def test_a_loop_that_tells_and_a_thread_that_changes_do_not_block_each_other(
    base: EventBase,
) -> None:
    """A deferred callback waits for a thread that is changing the same buffer."""
    changed, told = threading.Event(), threading.Event()
    buffer = EvBuffer()
    buffer.enable_locking()
    buffer.defer_callbacks(base)

    def tell(buf: EvBuffer, info: ChangeInfo, arg: object) -> None:
        if not told.is_set():
            told.set()
            assert changed.wait(20)

    def change() -> None:
        assert told.wait(20)
        buffer.add(b"from elsewhere")
        changed.set()

    buffer.add_cb(tell)
    buffer.add(b"x")
    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    base.loop(EVLOOP_NONBLOCK)
    thread.join(30)
    assert changed.is_set()
    buffer.close()


class NotingLock(CountingLock):
    """A recursive lock that notes its name when it is taken."""

    def __init__(self, name: str, taken: list[str]) -> None:
        super().__init__()
        self.name = name
        self.order = taken

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.order.append(self.name)
        return super().acquire(blocking, timeout)


@pytest.mark.parametrize("wrapped", [False, True], ids=["the program's", "ours"])
def test_two_locks_are_taken_in_one_order_whichever_buffers_have_them(wrapped: bool) -> None:
    """Many buffers share two locks, as the two of each bufferevent do."""
    taken: list[str] = []
    locks = [NotingLock("one", taken), NotingLock("other", taken)]
    ours = [CallbackLock(lock) for lock in locks]
    buffers = [EvBuffer(b"abc") for _ in range(8)]
    for index, buffer in enumerate(buffers):
        buffer.enable_locking(ours[index % 2] if wrapped else locks[index % 2])
    orders = set()
    for one in buffers:
        for other in buffers:
            for act in (one.add_buffer, one.prepend_buffer, one.add_buffer_reference):
                taken.clear()
                if one is not other or act != one.add_buffer_reference:
                    act(other)
                    orders.add(tuple(dict.fromkeys(taken)))
                other.add(b"x")
    assert len([order for order in orders if len(order) == 2]) == 1


def test_a_lock_is_not_wrapped_twice() -> None:
    """Who holds it holds both buffers, and their callbacks wait for that."""
    told: list[str] = []
    lock = CallbackLock()
    one, other = EvBuffer(), EvBuffer()
    for buffer, name in ((one, "one"), (other, "other")):
        buffer.enable_locking(lock)
        buffer.add_cb(lambda buf, info, arg: told.append(arg), name)
    with lock:
        other.add(b"x")
        one.add(b"x")
        assert told == []
    assert told == ["other", "one"]


def test_callbacks_are_called_in_order_as_without_a_lock() -> None:
    def log_of(buffer: EvBuffer) -> list[tuple[str, ChangeInfo, int]]:
        log: list[tuple[str, ChangeInfo, int]] = []

        def note(buf: EvBuffer, info: ChangeInfo, name: str) -> None:
            log.append((name, info, len(buf)))
            if name == "newer" and info.n_added == 3:
                buf.drain(1)

        buffer.add_cb(note, "older")
        buffer.add_cb(note, "newer")
        buffer.add(b"abc")
        buffer.add_iovec([b"d", b"ef"])
        buffer.remove(2)
        return log

    plain, with_lock = EvBuffer(), EvBuffer()
    with_lock.enable_locking()
    expected = log_of(plain)
    # The two pieces of add_iovec are told when both are in.
    assert [entry[:2] for entry in log_of(with_lock)] == [entry[:2] for entry in expected]


def test_what_a_callback_raises_comes_out_of_the_change_when_all_have_been_told() -> None:
    told: list[str] = []
    buffer, lock = locked()

    def boom(buf: EvBuffer, info: ChangeInfo, name: str) -> None:
        raise Boom(name)

    buffer.add_reference(b"x", lambda *args: boom(buffer, ChangeInfo(0, 0, 0), "cleanup"))
    buffer.add_cb(lambda *args: told.append("oldest"))
    buffer.add_cb(boom, "older")
    with pytest.raises(Boom, match="cleanup") as raised:
        buffer.drain(1)
    assert "older" in raised.value.__notes__[0]
    assert told == ["oldest"]
    assert lock.depth == 0
    with pytest.raises(Boom, match="older"):
        buffer.add(b"y")
    assert told == ["oldest"] * 2
    assert bytes(buffer) == b"y"


def test_a_callback_may_close_the_buffer() -> None:
    told: list[str] = []
    buffer, lock = locked(b"abc")
    buffer.add_reference(b"def", lambda *args: told.append("cleanup"))
    buffer.add_cb(lambda *args: told.append("older"))
    buffer.add_cb(lambda buf, info, arg: buf.close())
    buffer.add(b"x")
    assert told == ["cleanup"]
    assert (len(buffer), lock.depth) == (0, 0)
    buffer.close()


def test_while_the_program_holds_the_lock_what_it_causes_waits() -> None:
    """In order, until the last unlock; also of another buffer, which has no lock."""
    told: list[object] = []
    buffer, other = EvBuffer(), EvBuffer()
    buffer.enable_locking()
    buffer.add_cb(lambda buf, info, arg: told.append(info))
    other.add_cb(lambda buf, info, arg: told.append("other"))
    buffer.lock()
    buffer.lock()
    buffer.add_reference(b"ab", lambda *args: told.append("cleanup"))
    other.add(b"x")
    buffer.drain(2)
    buffer.unlock()
    assert told == []
    buffer.unlock()
    assert told == [ChangeInfo(0, 2, 0), "other", "cleanup", ChangeInfo(2, 0, 2)]


def test_a_callback_that_was_removed_while_it_waited_is_not_called() -> None:
    told: list[object] = []
    buffer = EvBuffer()
    buffer.enable_locking()
    entry = buffer.add_cb(lambda buf, info, arg: told.append(info))
    buffer.lock()
    buffer.add(b"x")
    buffer.remove_cb_entry(entry)
    buffer.add_cb(lambda buf, info, arg: told.append("added after the change"))
    buffer.unlock()
    assert told == []


def test_what_waits_raises_out_of_unlock_and_is_not_taken_for_its_failure() -> None:
    buffer = EvBuffer()
    buffer.enable_locking()

    def fail(buf: EvBuffer, info: ChangeInfo, arg: object) -> None:
        raise RuntimeError("of the callback")

    buffer.add_cb(fail)
    buffer.lock()
    buffer.add(b"x")
    with pytest.raises(RuntimeError, match="of the callback") as raised:
        buffer.unlock()
    assert not isinstance(raised.value, StateError)
    with pytest.raises(StateError, match="not locked"):
        buffer.unlock()


def test_what_is_wrong_is_refused_before_the_lock(tmp_path: Path) -> None:
    buffer, lock = locked()
    lock.taken = 0
    for act in (
        lambda: buffer.add_iovec([b"x", "y"]),  # type: ignore[list-item]
        lambda: buffer.add_printf("%d", "x"),
        lambda: buffer.read("x"),  # type: ignore[arg-type]
        lambda: buffer.write(None),  # type: ignore[arg-type]
    ):
        with pytest.raises(ArgumentTypeError):
            act()
    assert lock.taken == 0
    assert len(buffer) == 0
