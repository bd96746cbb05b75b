"""EvBuffer: positions, which end with the next change, and everything that takes one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evsvc.core import (
    EVBUFFER_EOL_CRLF,
    EVBUFFER_PTR_ADD,
    EVBUFFER_PTR_SET,
    ArgumentError,
    EvBuffer,
    EvBufferPtr,
    StateError,
)

USES: dict[str, Callable[[EvBuffer, int], object]] = {
    "search": lambda buffer, at: buffer.search(b"x", at),
    "the end of a search": lambda buffer, at: buffer.search(b"x", 0, at),
    "search_eol": lambda buffer, at: buffer.search_eol(EVBUFFER_EOL_CRLF, at),
    "copyout": lambda buffer, at: buffer.copyout(1, at),
    "peek": lambda buffer, at: buffer.peek(1, at),
    "ptr_set": lambda buffer, at: buffer.ptr_set(1, EVBUFFER_PTR_ADD, at),  # type: ignore[arg-type]
}
CHANGES: dict[str, Callable[[EvBuffer], object]] = {
    "add": lambda buffer: buffer.add(b"x"),
    "add_printf": lambda buffer: buffer.add_printf("x"),
    "add_reference": lambda buffer: buffer.add_reference(b"x"),
    "prepend": lambda buffer: buffer.prepend(b"x"),
    "drain": lambda buffer: buffer.drain(1),
    "drain of a chunk": lambda buffer: buffer.drain(5),
    "remove": lambda buffer: buffer.remove(),
    "add_buffer": lambda buffer: buffer.add_buffer(EvBuffer(b"x")),
    "out of it": lambda buffer: EvBuffer().add_buffer(buffer),
    "a new one that looks the same": lambda buffer: buffer.add(buffer.remove()),
    "the first chunk again": lambda buffer: [buffer.prepend(buffer.remove(5))],
    "commit_space": lambda buffer: buffer.reserve_space(1) and buffer.commit_space(1),
    "close": lambda buffer: buffer.close(),
}


def filled() -> EvBuffer:
    buffer = EvBuffer(b"hello")
    buffer.add_reference(b" world\r\n")
    return buffer


def test_a_position_is_within_the_buffer_or_at_its_end() -> None:
    """On an empty buffer 0 is one, 1 is not; of 12000 bytes 13000 is not, and 12000 is."""
    buffer = EvBuffer()
    assert buffer.ptr_set(0, EVBUFFER_PTR_SET) == 0
    with pytest.raises(ArgumentError, match=r"1 is not in 0\.\.0"):
        buffer.ptr_set(1)
    for size in (5000, 4000, 3000):
        buffer.add(b"x" * size)
    with pytest.raises(ArgumentError, match="13000"):
        buffer.ptr_set(13_000)
    for wrong in (-1, -12_000):
        with pytest.raises(ArgumentError, match=str(wrong)):
            buffer.ptr_set(wrong)
    assert buffer.ptr_set(12_000) == 12_000


def test_a_position_moves_on_up_to_the_end_and_not_beyond() -> None:
    """By EVBUFFER_PTR_ADD; one that would pass the end is refused, and again after that."""
    buffer = EvBuffer(b"x" * 12_000)
    ptr = buffer.ptr_set(11_000)
    for _ in range(2):
        with pytest.raises(ArgumentError, match="12001"):
            buffer.ptr_set(1001, EVBUFFER_PTR_ADD, ptr)
    end = buffer.ptr_set(1000, EVBUFFER_PTR_ADD, ptr)
    assert end == 12_000
    assert buffer.ptr_set(-12_000, EVBUFFER_PTR_ADD, end) == 0
    with pytest.raises(ArgumentError, match="-1"):
        buffer.ptr_set(-12_001, EVBUFFER_PTR_ADD, end)


def test_a_position_cannot_be_set_otherwise() -> None:
    buffer = filled()
    with pytest.raises(ArgumentError, match="7"):
        buffer.ptr_set(0, 7)
    with pytest.raises(ArgumentError, match="needs a position"):
        buffer.ptr_set(0, EVBUFFER_PTR_ADD)
    with pytest.raises(ArgumentError, match="-1"):
        buffer.ptr_set(1, EVBUFFER_PTR_ADD, buffer.search(b"nowhere"))


def test_what_is_found_is_a_position_and_an_int() -> None:
    buffer = filled()
    at = buffer.search(b"wor")
    assert isinstance(at, EvBufferPtr)
    assert at == 6
    assert buffer.copyout(5, at) == b"world"
    assert buffer.search(b"o", at) == 7
    assert buffer.search(b"o", at + 2) == -1
    assert buffer.search(b"o", 0, at) == 4
    assert buffer.search_eol(EVBUFFER_EOL_CRLF, at) == (11, 2)
    assert [bytes(view) for view in buffer.peek(1, at)] == [b"world\r\n"]
    assert buffer.peek(1, buffer.ptr_set(len(buffer))) == []
    assert buffer.copyout(5, buffer.ptr_set(1, EVBUFFER_PTR_ADD, at)) == b"orld\r"


def test_looking_at_a_buffer_ends_no_position() -> None:
    buffer = filled()
    at = buffer.search(b"world")
    for _ in range(4):
        buffer.copyout(3)
        buffer.peek()
        buffer.search(b"x")
        buffer.search_eol()
        buffer.pullup(5)
        buffer.expand(100)
        buffer.reserve_space(100)
        buffer.drain(0)
        buffer.add(b"")
        assert buffer.copyout(5, at) == b"world"


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("position", [0, 3])
def test_a_position_ends_with_a_change(change: str, use: str, position: int) -> None:
    """Whatever the change and the use, though the contents may be the same as before."""
    buffer = filled()
    ptr = buffer.ptr_set(position)
    USES[use](buffer, ptr)
    CHANGES[change](buffer)
    with pytest.raises(StateError, match=f"position {position}"):
        USES[use](buffer, ptr)
    with pytest.raises(StateError):
        USES[use](buffer, ptr)


def test_a_position_of_an_empty_buffer_ends_too() -> None:
    buffer = EvBuffer()
    ptr = buffer.ptr_set(0)
    buffer.add(b"x")
    buffer.drain(1)
    with pytest.raises(StateError):
        buffer.search(b"x", ptr)


@pytest.mark.parametrize("use", USES)
def test_a_position_of_another_buffer_is_refused(use: str) -> None:
    ptr = filled().ptr_set(2)
    with pytest.raises(ArgumentError, match="another buffer"):
        USES[use](filled(), ptr)
