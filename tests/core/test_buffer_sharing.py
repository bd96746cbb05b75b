"""EvBuffer: several pieces at once, formatted text, foreign memory, and memory in two buffers."""

from __future__ import annotations

import sys

import pytest

from evsvc.core import (
    ArgumentError,
    ArgumentTypeError,
    ChangeInfo,
    EvBuffer,
    StateError,
)
from evsvc.core.buffer.evbuffer import PACK_BYTES

Done = list[tuple[object, int, object]]


@pytest.fixture
def done() -> Done:
    """Return a list for what cleanups are told; add with `cleanup=note(done)`."""
    return []


def reference(buffer: EvBuffer, data: bytes, done: Done) -> None:
    buffer.add_reference(data, lambda *told: done.append(told), "arg")


def test_pieces_are_added_one_by_one() -> None:
    """Each is a change of its own; an empty one is none."""
    infos: list[ChangeInfo] = []
    buffer = EvBuffer()
    buffer.add_cb(lambda buf, info, arg: infos.append(info))
    assert buffer.add_iovec([b"abc", bytearray(b""), memoryview(b"de")]) == 5
    assert bytes(buffer) == b"abcde"
    assert infos == [ChangeInfo(0, 3, 0), ChangeInfo(3, 2, 0)]
    assert buffer.add_iovec([]) == 0


def test_pieces_of_which_one_is_wrong_are_not_added() -> None:
    buffer = EvBuffer()
    with pytest.raises(ArgumentTypeError):
        buffer.add_iovec([b"abc", "text"])  # type: ignore[list-item]
    assert len(buffer) == 0


def test_a_callback_that_freezes_cuts_the_count_short() -> None:
    buffer = EvBuffer()
    buffer.add_cb(lambda buf, info, arg: buf.freeze(at_front=False))
    assert buffer.add_iovec([b"abc", b"def"]) == 3
    assert bytes(buffer) == b"abc"
    with pytest.raises(StateError, match="frozen"):
        buffer.add_iovec([b"def"])


def test_formatted_text_is_added_as_one_change() -> None:
    """Text as UTF-8; the length in bytes is returned."""
    infos: list[ChangeInfo] = []
    buffer = EvBuffer(b"> ")
    buffer.add_cb(lambda buf, info, arg: infos.append(info))
    assert (
        buffer.add_printf("%s is %05.1f%%, %r", "größe", 7, "x") == len("größe is 007.0%, 'x'") + 2
    )
    assert buffer.add_printf(b" %b %d", b"raw", 3) == 6
    assert buffer.add_printf("") == 0
    assert bytes(buffer).decode() == "> größe is 007.0%, 'x' raw 3"
    assert infos == [ChangeInfo(2, 22, 0), ChangeInfo(24, 6, 0)]


@pytest.mark.parametrize(
    ("fmt", "args", "error"),
    [
        ("%d", ("x",), ArgumentTypeError),
        ("%d", (), ArgumentTypeError),
        ("x", (1,), ArgumentTypeError),
        ("%y", (1,), ArgumentError),
        (b"%b", ("x",), ArgumentTypeError),
        ("%s", ("\ud800",), ArgumentError),
        (5, ("x",), ArgumentTypeError),
    ],
)
def test_arguments_that_do_not_fit_their_format_are_refused(
    fmt: str | bytes, args: tuple[object, ...], error: type[Exception]
) -> None:
    buffer = EvBuffer()
    with pytest.raises(error):
        buffer.add_printf(fmt, *args)
    assert len(buffer) == 0


def test_many_small_formatted_pieces_waste_little_memory() -> None:
    """100,000 of them: less than 12.5 % beside the text."""
    buffer = EvBuffer()
    for number in range(100_000):
        buffer.add_printf("piece %d;", number)
    assert bytes(buffer) == b"".join(b"piece %d;" % number for number in range(100_000))
    held = sys.getsizeof(buffer.chunks) + sum(map(sys.getsizeof, buffer.chunks))
    assert held < len(buffer) * 1.125


@pytest.mark.parametrize("extra", [0, 1])
def test_text_joins_the_chunk_before_it_up_to_a_size(extra: int) -> None:
    buffer = EvBuffer(b"x" * (PACK_BYTES - 4))
    shared = EvBuffer()
    shared.add_buffer_reference(buffer)
    buffer.add_printf("%s", "y" * (4 + extra))
    assert len(buffer.peek()) == 1 + extra
    assert len(buffer) == PACK_BYTES + extra
    assert len(shared) == PACK_BYTES - 4


def test_a_reference_may_begin_and_end_within_its_memory(done: Done) -> None:
    """The cleanup gets the memory itself, and offset and length together."""
    memory = bytearray(b"0123456789")
    buffer = EvBuffer()
    buffer.add_reference_with_offset(memory, 3, 4, lambda *told: done.append(told), "arg")
    buffer.add_reference_with_offset(memory, 8)
    assert bytes(buffer) == b"345689"
    buffer.drain(3)
    assert done == []
    buffer.drain(1)
    assert done[0][0] is memory
    assert done == [(memory, 7, "arg")]


@pytest.mark.parametrize(("offset", "length"), [(-1, 2), (0, 11), (5, 6), (11, -1), (3, -2)])
def test_a_reference_outside_of_its_memory_is_refused(offset: int, length: int, done: Done) -> None:
    buffer = EvBuffer()
    with pytest.raises(ArgumentError, match=str(offset)):
        buffer.add_reference_with_offset(
            b"0123456789", offset, length, lambda *told: done.append(told)
        )
    assert (len(buffer), done) == (0, [])


def test_a_reference_of_no_bytes_is_legal_and_done_at_once(done: Done) -> None:
    buffer = EvBuffer()
    buffer.add_reference_with_offset(b"0123", 4, 0, lambda *told: done.append(told))
    assert done == [(b"0123", 4, None)]
    assert buffer.peek() == []


def test_a_shared_buffer_keeps_its_data_and_tells_nobody() -> None:
    """Only the taker's callback is called; the source's start may even be frozen."""
    told: list[str] = []
    source, taker = EvBuffer(b"abc"), EvBuffer(b"<")
    source.add_cb(lambda *_: told.append("source"))
    taker.add_cb(lambda buf, info, arg: told.append(f"taker +{info.n_added}"))
    source.freeze(at_front=True)
    source.freeze(at_front=False)
    taker.add_buffer_reference(source)
    assert told == ["taker +3"]
    assert (bytes(source), bytes(taker)) == (b"abc", b"<abc")


def test_each_side_of_shared_memory_lives_by_itself(done: Done) -> None:
    """Both can be read, added to, prepended to and drained; closing one leaves the other."""
    source, taker = EvBuffer(b"plain "), EvBuffer()
    reference(source, b"reference ", done)
    source.drain(2)
    taker.add_buffer_reference(source)
    source.add(b"more")
    source.prepend(b"x")
    source.pullup()
    taker.prepend(b"y")
    taker.add(b"else")
    assert bytes(source) == b"xain reference more"
    assert bytes(taker) == b"yain reference else"
    taker.drain(6)
    assert bytes(source) == b"xain reference more"
    source.close()
    assert done == []
    assert bytes(taker) == b"eference else"
    taker.drain(9)
    assert done == [(b"reference ", 10, "arg")]


@pytest.mark.parametrize("source_first", [True, False])
def test_the_cleanup_of_shared_memory_waits_for_all(source_first: bool, done: Done) -> None:
    source, taker, third = EvBuffer(), EvBuffer(), EvBuffer()
    reference(source, b"abc", done)
    taker.add_buffer_reference(source)
    third.add_buffer_reference(taker)
    buffers = [source, taker, third]
    if not source_first:
        buffers.reverse()
    for buffer in buffers:
        assert done == []
        assert buffer.remove() == b"abc"
    assert done == [(b"abc", 3, "arg")]


def test_a_buffer_shares_nothing_with_itself_or_from_nothing() -> None:
    """An empty source succeeds, even where the end is frozen; the buffer itself is refused."""
    buffer = EvBuffer()
    buffer.freeze(at_front=False)
    buffer.add_buffer_reference(EvBuffer())
    buffer.add_buffer_reference(buffer)
    buffer.unfreeze(at_front=False)
    buffer.add(b"x")
    with pytest.raises(ArgumentError, match="itself"):
        buffer.add_buffer_reference(buffer)
    assert bytes(buffer) == b"x"
