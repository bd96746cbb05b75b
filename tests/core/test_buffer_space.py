"""EvBuffer: room that the program fills itself: expand, reserve_space, commit_space."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable

import pytest

from evsvc.core import (
    ArgumentError,
    ChangeInfo,
    EvBuffer,
    StateError,
)
from evsvc.core.buffer.space import MIN_BLOCK_BYTES


def fill(area: memoryview, data: bytes) -> int:
    area[: len(data)] = data
    return len(data)


def test_what_is_committed_is_appended_and_goes_on_in_the_same_chunk() -> None:
    """1024 asked: one area; 512 used; the next 32 continue behind them."""
    buffer = EvBuffer()
    (area,) = buffer.reserve_space(1024)
    assert len(area) >= 1024
    assert len(buffer) == 0
    buffer.commit_space(fill(area, b"a" * 512))
    (area,) = buffer.reserve_space(32)
    buffer.commit_space(fill(area, b"b" * 32))
    assert bytes(buffer) == b"a" * 512 + b"b" * 32
    assert buffer.contiguous_space == 544
    assert len(buffer.peek()) == 1


@pytest.mark.parametrize("second", [0, 64])
def test_more_than_is_left_comes_in_two_areas(second: int) -> None:
    """The rest and 64 more: both areas; only the first may be committed, or both."""
    buffer = EvBuffer()
    (area,) = buffer.reserve_space(1024)
    buffer.commit_space(fill(area, b"a"))
    rest = len(area) - 1
    first, more = buffer.reserve_space(rest + 64, 2)
    assert len(first) == rest
    assert len(more) >= 64
    fill(first, b"b" * rest)
    fill(more, b"c" * 64)
    buffer.commit_space(*([rest, second] if second else [rest]))
    assert bytes(buffer) == b"a" + b"b" * rest + b"c" * second
    (area,) = buffer.reserve_space(8)
    buffer.commit_space(fill(area, b"dd"))
    assert bytes(buffer) == b"a" + b"b" * rest + b"c" * second + b"dd"


def test_of_two_areas_neither_has_to_be_filled() -> None:
    buffer = EvBuffer()
    (area,) = buffer.reserve_space(1)
    buffer.commit_space(len(area) - 10)
    buffer.drain(len(buffer))
    first, second = buffer.reserve_space(100, 2)
    buffer.commit_space(fill(first, b"front"), fill(second, b"back"))
    assert bytes(buffer) == b"frontback"


def test_one_area_is_large_enough_by_itself() -> None:
    buffer = EvBuffer()
    buffer.reserve_space(10)
    buffer.commit_space(5)
    (area,) = buffer.reserve_space(10 * MIN_BLOCK_BYTES)
    assert len(area) >= 10 * MIN_BLOCK_BYTES


@pytest.mark.parametrize("areas", [1, 2, 5])
def test_reserved_twice_it_is_the_same_memory(areas: int) -> None:
    buffer = EvBuffer()
    buffer.reserve_space(100)
    buffer.commit_space(1)
    size = MIN_BLOCK_BYTES if areas > 1 else 50
    old = buffer.reserve_space(size, areas)
    new = buffer.reserve_space(size, areas)
    assert len(old) == len(new) == min(areas, 2)
    for one, other in zip(old, new, strict=True):
        fill(one, b"seen")
        assert one.obj is other.obj
        assert other[:4] == b"seen"


def test_a_commit_is_one_change() -> None:
    infos: list[ChangeInfo] = []
    buffer = EvBuffer(b"abc")
    buffer.reserve_space(1)
    buffer.commit_space(MIN_BLOCK_BYTES - 1)
    buffer.add_cb(lambda buf, info, arg: infos.append(info))
    buffer.reserve_space(100, 2)
    assert infos == []
    buffer.commit_space(1, 2)
    assert infos == [ChangeInfo(MIN_BLOCK_BYTES + 2, 3, 0)]


def test_committing_nothing_changes_nothing() -> None:
    """No area at all succeeds, too, and the reservation stays."""
    buffer = EvBuffer()
    buffer.commit_space()
    (area,) = buffer.reserve_space(10)
    buffer.commit_space()
    buffer.commit_space(0)
    assert len(buffer) == 0
    buffer.commit_space(fill(area, b"x"))
    assert bytes(buffer) == b"x"


def test_a_commit_that_does_not_fit_is_refused_whole() -> None:
    buffer = EvBuffer()
    (area,) = buffer.reserve_space(10)
    fill(area, b"xy")
    for sizes in ((len(area) + 1,), (-1,), (1, 1), (0, 0)):
        with pytest.raises(ArgumentError):
            buffer.commit_space(*sizes)
        assert len(buffer) == 0
    buffer.commit_space(2)
    assert bytes(buffer) == b"xy"


CHANGES: list[Callable[[EvBuffer], object]] = [
    lambda buffer: buffer.add(b"x"),
    lambda buffer: buffer.drain(1),
    lambda buffer: buffer.prepend(b"x"),
    lambda buffer: buffer.commit_space(1),
    lambda buffer: buffer.add_buffer(EvBuffer(b"x")),
    lambda buffer: buffer.close(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_other_change_ends_the_reservation(change: Callable[[EvBuffer], object]) -> None:
    buffer = EvBuffer(b"ab")
    buffer.reserve_space(10)
    change(buffer)
    before = bytes(buffer)
    with pytest.raises(StateError, match="reserved"):
        buffer.commit_space(1)
    assert bytes(buffer) == before


def test_nothing_is_committed_that_was_not_reserved() -> None:
    with pytest.raises(StateError, match="reserved"):
        EvBuffer().commit_space(1)


@pytest.mark.parametrize("size", [2**62, 2**80])
def test_there_is_no_room_for_everything(size: int) -> None:
    """A size that overflows fails without damage."""
    buffer = EvBuffer(b"ab")
    with pytest.raises(ArgumentError, match=str(size)):
        buffer.expand(size)
    with pytest.raises(ArgumentError, match=str(size)):
        buffer.reserve_space(size)
    assert bytes(buffer) == b"ab"
    (area,) = buffer.reserve_space(1)
    buffer.commit_space(fill(area, b"c"))
    assert bytes(buffer) == b"abc"


def test_bad_sizes_are_refused() -> None:
    buffer = EvBuffer()
    with pytest.raises(ArgumentError, match="-1"):
        buffer.expand(-1)
    with pytest.raises(ArgumentError, match="-1"):
        buffer.reserve_space(-1)
    with pytest.raises(ArgumentError, match="0 areas"):
        buffer.reserve_space(1, 0)


def test_expand_makes_room_in_one_area_and_changes_nothing() -> None:
    """Not blocked by freezing, and no size is fine."""
    buffer = EvBuffer(b"ab")
    buffer.freeze(at_front=False)
    buffer.expand(0)
    buffer.expand(100_000)
    assert bytes(buffer) == b"ab"
    buffer.unfreeze(at_front=False)
    areas = buffer.reserve_space(100_000, 2)
    assert [len(area) for area in areas] == [100_000]
    buffer.commit_space(1)
    assert len(buffer.reserve_space(90_000, 1)[0]) == 99_999


def test_what_is_committed_can_move_be_shared_and_stays_as_it_is() -> None:
    buffer, other, shared = EvBuffer(), EvBuffer(), EvBuffer()
    (area,) = buffer.reserve_space(10)
    buffer.commit_space(fill(area, b"abcdef"))
    shared.add_buffer_reference(buffer)
    buffer.remove_buffer(other, 2)
    (area,) = buffer.reserve_space(10)
    buffer.commit_space(fill(area, b"ghi"))
    buffer.prepend(b"<")
    assert (bytes(buffer), bytes(other), bytes(shared)) == (b"<cdefghi", b"ab", b"abcdef")
    view = buffer.peek()[-1]
    assert view.readonly
    other.add_buffer(buffer)
    (area,) = buffer.reserve_space(10)
    buffer.commit_space(fill(area, b"XY"))
    assert (bytes(buffer), bytes(other)) == (b"XY", b"ab<cdefghi")


def test_a_socket_reads_right_into_the_buffer(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].send(b"straight in")
    buffer = EvBuffer()
    (area,) = buffer.reserve_space(100)
    buffer.commit_space(pair[1].recv_into(area))
    assert bytes(buffer) == b"straight in"


@pytest.mark.parametrize("committed", [0, 3])
def test_a_buffer_that_has_reserved_space_is_no_cycle(committed: int) -> None:
    """A thousand of them leave nothing, though nobody collects cycles."""

    def buffers() -> int:
        return sum(type(thing) is EvBuffer for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = buffers()
        for _ in range(1000):
            buffer = EvBuffer()
            (area,) = buffer.reserve_space(10)
            buffer.commit_space(committed)
            del buffer, area
        assert buffers() == before
    finally:
        gc.enable()


def test_space_can_be_committed_once() -> None:
    buffer = EvBuffer()
    (area,) = buffer.reserve_space(10)
    buffer.commit_space(fill(area, b"abc"))
    with pytest.raises(StateError, match="no space is reserved"):
        buffer.commit_space(1)
    assert bytes(buffer) == b"abc"


@pytest.mark.parametrize("content", [b"", b"old"])
@pytest.mark.parametrize("change", ["there and back", "filled and emptied"])
def test_what_left_and_came_back_is_a_change_too(content: bytes, change: str) -> None:
    """A reservation and a position end, though the buffer holds again what it held."""
    with EvBuffer(content) as buffer, EvBuffer() as other:
        (area,) = buffer.reserve_space(1)
        position = buffer.ptr_set(0)
        if change == "filled and emptied":
            buffer.add(b"x")
            buffer.add_buffer(other)
            other.add_buffer(buffer)
            other.remove_buffer(buffer, len(content))
        elif content:
            other.add_buffer(buffer)
            buffer.add_buffer(other)
        else:
            other.add(b"x")
            buffer.add_buffer(other)
            other.add_buffer(buffer)
        assert bytes(buffer) == content
        area[:1] = b"y"
        with pytest.raises(StateError, match="has changed"):
            buffer.commit_space(1)
        with pytest.raises(StateError):
            buffer.copyout(1, position)
        assert bytes(buffer) == content
