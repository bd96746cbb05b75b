"""EvBuffer: arguments of a wrong type are refused at the call, and nothing has changed then."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evsvc.core import (
    EVBUFFER_PTR_ADD,
    ArgumentError,
    ArgumentTypeError,
    ChangeInfo,
    EvBuffer,
    FileSegment,
)

TEXT = b"some text\n"
# Each takes a size, an offset, a position or flags.
SIZES: dict[str, Callable[[EvBuffer, Any], object]] = {
    "drain": lambda buffer, size: buffer.drain(size),
    "remove": lambda buffer, size: buffer.remove(size),
    "remove_buffer": lambda buffer, size: buffer.remove_buffer(EvBuffer(), size),
    "pullup": lambda buffer, size: buffer.pullup(size),
    "copyout": lambda buffer, size: buffer.copyout(size),
    "copyout, start": lambda buffer, start: buffer.copyout(1, start),
    "peek": lambda buffer, size: buffer.peek(size),
    "peek, start": lambda buffer, start: buffer.peek(1, start),
    "search, start": lambda buffer, start: buffer.search(b"x", start),
    "search_eol, start": lambda buffer, start: buffer.search_eol(start=start),
    "ptr_set": lambda buffer, position: buffer.ptr_set(position),
    "ptr_set, add": lambda buffer, by: buffer.ptr_set(by, EVBUFFER_PTR_ADD, buffer.ptr_set(1)),
    "expand": lambda buffer, size: buffer.expand(size),
    "reserve_space": lambda buffer, size: buffer.reserve_space(size),
    "reserve_space, areas": lambda buffer, areas: buffer.reserve_space(1, areas),
    "commit_space": lambda buffer, size: buffer.commit_space(size),
    "commit_space, second": lambda buffer, size: buffer.commit_space(1, size),
    "max_read": lambda buffer, size: setattr(buffer, "max_read", size),
    "read": lambda buffer, size: buffer.read(-1, size),
    "write": lambda buffer, size: buffer.write(-1, size),
    "add_reference": lambda buffer, at: buffer.add_reference_with_offset(TEXT, at),
    "add_reference, length": lambda buffer, at: buffer.add_reference_with_offset(TEXT, 0, at),
    "set_flags": lambda buffer, flags: buffer.set_flags(flags),
    "clear_flags": lambda buffer, flags: buffer.clear_flags(flags),
    "cb_set_flags": lambda buffer, flags: buffer.cb_set_flags(buffer.add_cb(ignore), flags),
}
Told = list[ChangeInfo]


def ignore(*args: object) -> None:
    """Stand in for a callback."""


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def buffer(told: Told) -> EvBuffer:
    """Return a buffer of two chunks that notes its changes, with space reserved."""
    buffer = EvBuffer(TEXT)
    buffer.add(TEXT)
    buffer.reserve_space(10)
    buffer.add_cb(lambda buffer, info, arg: told.append(info))
    return buffer


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """Return a descriptor of a file with TEXT in it."""
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    with path.open("rb") as file:
        yield file.fileno()


@pytest.mark.parametrize("wrong", [1.5, 1.0, math.nan, "x", None], ids=repr)
@pytest.mark.parametrize("name", SIZES)
def test_a_size_is_a_whole_number(name: str, wrong: object, buffer: EvBuffer, told: Told) -> None:
    with pytest.raises(ArgumentTypeError, match="whole number") as raised:
        SIZES[name](buffer, wrong)
    assert repr(wrong) in str(raised.value)
    assert bytes(buffer) == TEXT + TEXT
    assert len(buffer) == 2 * len(TEXT)
    assert told == []


def test_an_empty_buffer_refuses_what_is_no_size_too() -> None:
    buffer = EvBuffer()
    wrongs: list[Any] = [None, 1.5]
    for wrong in wrongs:
        for take in (buffer.drain, buffer.remove, buffer.copyout, buffer.pullup):
            with pytest.raises(ArgumentTypeError):
                take(wrong)


def test_a_position_may_be_a_size(buffer: EvBuffer, told: Told) -> None:
    """It is an int, and what is told of it is a plain one."""
    assert buffer.remove(buffer.search(b" ")) == b"some"
    buffer.drain(buffer.ptr_set(len(buffer)))
    assert len(buffer) == 0
    assert type(told[-1].n_deleted) is int


@pytest.mark.parametrize("wrong", [1.5, "x", None], ids=repr)
def test_the_range_of_a_file_is_of_whole_numbers(wrong: Any, fd: int) -> None:
    buffer = EvBuffer()
    with FileSegment(fd) as segment:
        calls: list[Callable[[], object]] = [
            lambda: FileSegment(fd, wrong),
            lambda: FileSegment(fd, 0, wrong),
            lambda: FileSegment(fd, flags=wrong),
            lambda: buffer.add_file(fd, wrong),
            lambda: buffer.add_file_segment(segment, wrong),
            lambda: buffer.add_file_segment(segment, 0, wrong),
        ]
        for call in calls:
            with pytest.raises(ArgumentTypeError, match="whole number"):
                call()
    assert len(buffer) == 0


@pytest.mark.parametrize("wrong", [5, "x"])
def test_a_callback_can_be_called(wrong: Any, fd: int) -> None:
    buffer = EvBuffer()
    with FileSegment(fd) as segment:
        calls: list[Callable[[], object]] = [
            lambda: buffer.add_cb(wrong),
            lambda: buffer.add_reference(TEXT, wrong),
            lambda: buffer.add_reference_with_offset(TEXT, 1, 2, wrong),
            lambda: segment.add_cleanup_cb(wrong),
        ]
        for call in calls:
            with pytest.raises(ArgumentTypeError, match=repr(wrong)):
                call()
    buffer.add(b"x")
    assert bytes(buffer) == b"x"


def test_no_callback_is_none() -> None:
    buffer = EvBuffer()
    with pytest.raises(ArgumentTypeError, match="None"):
        buffer.add_cb(None)  # type: ignore[arg-type]
    buffer.add(b"x")
    buffer.add_reference(b"y", None)
    assert bytes(buffer) == b"xy"


@pytest.mark.parametrize("locking", [False, True])
@pytest.mark.parametrize("wrong", [None, b"bytes", [], 5], ids=repr)
def test_a_wrong_type_is_refused_at_the_call(
    wrong: Any, locking: bool, buffer: EvBuffer, told: Told
) -> None:
    if locking:
        buffer.enable_locking()
    calls: list[Callable[[], object]] = [
        lambda: buffer.add_buffer(wrong),
        lambda: buffer.prepend_buffer(wrong),
        lambda: buffer.remove_buffer(wrong, 1),
        lambda: buffer.add_buffer_reference(wrong),
        lambda: buffer.add_file_segment(wrong),
        lambda: buffer.defer_callbacks(wrong),
    ]
    for call in calls:
        with pytest.raises(ArgumentTypeError):
            call()
    assert bytes(buffer) == TEXT + TEXT
    assert told == []


@pytest.mark.parametrize("wrong", [None, "str", [], 0, ""], ids=repr)
def test_bytes_are_bytes(wrong: Any, buffer: EvBuffer) -> None:
    calls: list[Callable[[], object]] = [
        lambda: buffer.search(wrong),
        lambda: buffer.add_iovec(wrong if wrong in (None, 0) else [wrong]),
        lambda: EvBuffer(wrong),
    ]
    for call in calls:
        with pytest.raises(ArgumentTypeError):
            call()
    assert bytes(buffer) == TEXT + TEXT


def test_released_memory_is_refused() -> None:
    buffer = EvBuffer()
    released = memoryview(b"abc")
    released.release()
    takers: list[Callable[[memoryview], object]] = [
        buffer.add,
        buffer.prepend,
        buffer.add_reference,
        buffer.search,
        EvBuffer,
    ]
    for take in takers:
        with pytest.raises(ArgumentError, match="released"):
            take(released)
    assert len(buffer) == 0


@pytest.mark.parametrize("wrong", [None, "x", 1.5, []], ids=repr)
def test_what_names_a_way_or_a_callback_is_one(wrong: Any, buffer: EvBuffer, told: Told) -> None:
    calls: list[Callable[[], object]] = [
        lambda: buffer.search_eol(wrong),
        lambda: buffer.readln(wrong),
        lambda: buffer.ptr_set(0, wrong),
        lambda: buffer.ptr_set(0, EVBUFFER_PTR_ADD, wrong or "x"),
        lambda: buffer.remove_cb(wrong),
        lambda: buffer.remove_cb_entry(wrong),
        lambda: buffer.cb_set_flags(wrong, 1),
        lambda: buffer.cb_clear_flags(wrong, 1),
        lambda: buffer.add_printf([wrong]),  # type: ignore[arg-type]
        lambda: buffer.add_file(wrong),
    ]
    for call in calls:
        with pytest.raises(ArgumentTypeError):
            call()
    assert bytes(buffer) == TEXT + TEXT
    assert told == []


@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b"")], ids=repr)
def test_a_buffer_can_begin_with_nothing_of_any_kind(
    empty: bytes | bytearray | memoryview,
) -> None:
    assert bytes(EvBuffer(empty)) == b""


def test_a_needle_may_be_any_memory() -> None:
    buffer = EvBuffer(b"..t\0t\0xt")
    assert buffer.search(bytearray(b"xt")) == 6
    wide = memoryview(b"t\0e\0x\0t\0").cast("H")
    assert buffer.search(wide[::3]) == 2


@pytest.mark.parametrize(
    ("fmt", "args"), [("%c", (-1,)), ("%*d", (10**30, 1)), (b"%c", (256,))], ids=repr
)
def test_numbers_that_no_format_takes_are_refused(
    fmt: str | bytes, args: tuple[int, ...], buffer: EvBuffer
) -> None:
    with pytest.raises(ArgumentError):
        buffer.add_printf(fmt, *args)
    assert bytes(buffer) == TEXT + TEXT
