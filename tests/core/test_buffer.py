"""EvBuffer: references, callbacks, freezing, searching, lines, and where chunks meet."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from evsvc.core import (
    EVBUFFER_EOL_ANY,
    EVBUFFER_EOL_CRLF,
    EVBUFFER_EOL_CRLF_STRICT,
    EVBUFFER_EOL_LF,
    EVBUFFER_EOL_NUL,
    ArgumentError,
    ArgumentTypeError,
    ChangeInfo,
    EvBuffer,
    StateError,
)
from evsvc.core.buffer.transfer import MAX_GATHER_CHUNKS

Pair = tuple[socket.socket, socket.socket]


class Boom(Exception):
    """What a callback of these tests raises."""


def boom(*args: object) -> None:
    raise Boom


def chunked(*chunks: bytes) -> EvBuffer:
    """Return a buffer of exactly these chunks, every second one a reference."""
    buffer = EvBuffer()
    for index, chunk in enumerate(chunks):
        if index % 2:
            buffer.add_reference(bytearray(chunk))
        else:
            buffer.add(chunk)
    return buffer


def test_callbacks_log_every_change() -> None:
    """add_printf 36, drain 10, prepend 5, add_reference 7: 0->36, 36->26, 26->31, 31->38."""
    log: list[tuple[int, int]] = []
    gaps: list[tuple[int, int]] = []

    def note(buffer: EvBuffer, info: ChangeInfo, to: list[tuple[int, int]]) -> None:
        new_size = info.orig_size + info.n_added - info.n_deleted
        assert new_size == len(buffer)
        to.append((info.orig_size, new_size))

    buffer = EvBuffer()
    buffer.add_cb(note, log)
    entry = buffer.add_cb(note, gaps)
    buffer.add_printf("%s", "x" * 36)
    entry.enabled = False
    buffer.drain(10)
    buffer.prepend(b"y" * 5)
    entry.enabled = True
    buffer.add_reference(b"z" * 7)
    buffer.drain(38)
    buffer.add(b"X")
    assert log == [(0, 36), (36, 26), (26, 31), (31, 38), (38, 0), (0, 1)]
    assert gaps == [(0, 36), (31, 38), (38, 0), (0, 1)]


def test_a_large_prepend_is_one_change() -> None:
    """8096 bytes before 3: one callback."""
    infos: list[ChangeInfo] = []
    buffer = EvBuffer(b"abc")
    buffer.add_cb(lambda buf, info, arg: infos.append(info))
    buffer.prepend(b"x" * 8096)
    assert infos == [ChangeInfo(3, 8096, 0)]


def test_nothing_is_told_where_nothing_changes() -> None:
    buffer = chunked(b"abc", b"def")
    buffer.add_cb(boom)
    buffer.pullup(-1)
    buffer.add(b"")
    buffer.prepend(b"")
    buffer.drain(0)
    buffer.add_buffer(EvBuffer())
    buffer.add_buffer(buffer)
    buffer.remove_buffer(EvBuffer(), 0)
    assert bytes(buffer) == b"abcdef"


def test_closing_tells_nobody_and_runs_the_cleanups() -> None:
    done: list[int] = []
    with EvBuffer(b"abc") as buffer:
        buffer.add_reference(b"defg", lambda data, size, arg: done.append(size))
        buffer.add_cb(boom)
        buffer.freeze(at_front=True)
    assert done == [4]
    assert len(buffer) == 0


def test_callbacks_run_newest_first_and_can_be_removed() -> None:
    ran: list[str] = []

    def note(buffer: EvBuffer, info: ChangeInfo, name: str) -> None:
        ran.append(name)

    buffer = EvBuffer()
    old = buffer.add_cb(note, "old")
    buffer.add_cb(note, "new")
    buffer.add(b"1")
    assert ran == ["new", "old"]
    buffer.remove_cb(note, "new")
    buffer.remove_cb_entry(old)
    buffer.add(b"2")
    assert len(ran) == 2
    with pytest.raises(ArgumentError):
        buffer.remove_cb(note, "new")
    with pytest.raises(ArgumentError):
        buffer.remove_cb_entry(old)


def test_a_callback_may_change_the_buffer_and_remove_another() -> None:
    ran: list[str] = []
    buffer = EvBuffer()
    other = buffer.add_cb(lambda *_: ran.append("other"))

    def first(buf: EvBuffer, info: ChangeInfo, arg: object) -> None:
        ran.append("first")
        if len(ran) == 1:
            buf.remove_cb_entry(other)
            buf.add(b"more")

    buffer.add_cb(first)
    buffer.add(b"x")
    assert ran == ["first", "first"]
    assert bytes(buffer) == b"xmore"


@pytest.mark.parametrize("leave", ["drain", "move", "close", "pullup"])
def test_a_reference_is_cleaned_up_once_by_its_last_byte(leave: str) -> None:
    """Not by the byte before, nor by a move to another buffer."""
    done: list[tuple[object, int, object]] = []
    memory = bytearray(b"0123456789")
    buffer = EvBuffer(b"front")
    buffer.add_reference(memory, lambda data, size, arg: done.append((data, size, arg)), "arg")
    buffer.drain(5 + 9)
    assert done == []
    other = EvBuffer(b"before")
    other.add_buffer(buffer)
    other.add(b"after")
    assert done == []
    if leave == "drain":
        other.drain(7)
    elif leave == "move":
        assert other.remove(7) == b"before9"
    elif leave == "pullup":
        view = other.pullup(8)
        assert view is not None
        assert bytes(view) == b"before9a"
    else:
        other.close()
    assert len(done) == 1
    assert done[0][0] is memory
    assert done[0][1:] == (10, "arg")
    other.close()
    assert len(done) == 1


def test_an_empty_reference_is_cleaned_up_at_once_and_leaves_no_chunk() -> None:
    done: list[int] = []
    buffer = EvBuffer(b"ab")
    buffer.add_reference(b"", lambda data, size, arg: done.append(size))
    assert done == [0]
    buffer.prepend(b"0")
    assert bytes(buffer) == b"0ab"
    assert len(buffer.peek()) == 2


def test_a_refused_reference_is_not_cleaned_up() -> None:
    buffer = EvBuffer()
    buffer.freeze(at_front=False)
    with pytest.raises(StateError):
        buffer.add_reference(b"x", boom)


@pytest.mark.parametrize("drained", [3, 6, 8])
def test_a_cleanup_finds_the_buffer_whole_and_may_add(drained: int) -> None:
    buffer = EvBuffer()
    seen: list[bytes] = []

    def refill(data: object, size: int, arg: object) -> None:
        seen.append(bytes(buffer))
        buffer.add(b"+")

    buffer.add_reference(bytearray(b"abc"), refill)
    buffer.add_reference(bytearray(b"def"), refill)
    buffer.add(b"gh")
    buffer.drain(drained)
    left = b"abcdefgh"[drained:]
    assert seen[0] == left
    assert bytes(buffer) == left + b"+" * len(seen)


def test_every_cleanup_runs_though_one_raises_and_the_change_is_told() -> None:
    ran: list[str] = []
    buffer = EvBuffer()
    buffer.add_reference(b"abc", boom)
    buffer.add_reference(b"def", lambda *_: ran.append("second"))
    buffer.add_cb(lambda buf, info, arg: ran.append(f"-{info.n_deleted}"))
    with pytest.raises(Boom):
        buffer.drain(6)
    assert ran == ["second", "-6"]
    assert len(buffer) == 0


def test_a_source_callback_that_raises_does_not_lose_what_moves() -> None:
    told: list[int] = []
    source, target = EvBuffer(b"precious"), EvBuffer()
    source.add_cb(boom)
    target.add_cb(lambda buf, info, arg: told.append(info.n_added))
    with pytest.raises(Boom):
        target.add_buffer(source)
    assert bytes(target) == b"precious"
    assert len(source) == 0
    assert told == [8]


@pytest.mark.parametrize("empty_at", range(3))
@pytest.mark.parametrize("size", [1, 3, 4, 6, 7])
def test_empty_pieces_between_do_not_break_partial_moves(empty_at: int, size: int) -> None:
    """Empty references first, between or last, in source and target, then a move of some bytes."""
    source, target = EvBuffer(), EvBuffer()
    for buffer, parts in ((source, [b"abc", b"def"]), (target, [b"12", b"34"])):
        pieces = [*parts]
        pieces.insert(empty_at, b"")
        for piece in pieces:
            buffer.add_reference(bytearray(piece))
    moved = source.remove_buffer(target, size)
    assert moved == min(size, 6)
    assert bytes(target) == b"1234" + b"abcdef"[:size]
    assert bytes(source) == b"abcdef"[size:]
    target.prepend_buffer(source)
    target.prepend(b"<")
    assert bytes(target.pullup() or b"") == b"<" + b"abcdef"[size:] + b"1234" + b"abcdef"[:size]


def test_moving_pieces_out_of_a_large_chunk_copies_only_the_pieces() -> None:
    source, target = EvBuffer(bytes(100_000)), EvBuffer()
    large = source.chunks[0]
    for _ in range(10):
        source.remove_buffer(target, 10)
    assert source.chunks[0] is large
    assert len(target) == 100
    assert len(source) == 99_900


def test_pullup_over_a_chunk_that_is_partly_needed() -> None:
    buffer = chunked(b"abc", b"defgh", b"ijk")
    buffer.drain(1)
    view = buffer.pullup(5)
    assert view is not None
    assert bytes(view) == b"bcdef"
    assert bytes(buffer) == b"bcdefghijk"
    assert buffer.contiguous_space == 5
    assert buffer.pullup(11) is None
    assert buffer.pullup(0) is None
    assert EvBuffer().pullup() is None
    whole = buffer.pullup()
    assert whole is not None
    assert bytes(whole) == b"bcdefghijk"


def test_search_and_its_range() -> None:
    """The reference's own text: positions, ranges, and searches from the end."""
    buffer = chunked(b"hello|", b"foo", b"cat|", b"attack")
    buffer_text = b"hello|foocat|attack"
    assert bytes(buffer) == buffer_text
    assert buffer.search(b"attack") == 13
    assert buffer.search(b"attacker") == -1
    assert buffer.search(b"oc") == 8
    assert buffer.search(b"cat", 9) == 9
    assert buffer.search(b"cat", 10) == -1
    assert buffer.search(b"foocat", 0, 12) == 6
    assert buffer.search(b"foocat", 0, 11) == -1
    assert buffer.search(b"foocat", 6, 99) == 6
    assert buffer.search(b"k", len(buffer)) == -1
    assert buffer.search(b"", 4) == 4
    for start in (-1, 20):
        with pytest.raises(ArgumentError, match=str(start)):
            buffer.search(b"h", start)


def test_search_sees_a_match_over_many_tiny_chunks() -> None:
    text = b"aaabaaabaab!"
    for size in (1, 2, 3):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        buffer = chunked(*pieces)
        for needle in (b"aab", b"abaab", b"baab!", text, b"!", b"aaaa"):
            assert buffer.search(needle) == text.find(needle)
            assert buffer.search(needle, 3) == text.find(needle, 3)


def test_search_reads_any_memory() -> None:
    """With characters that mean something in patterns."""
    buffer = EvBuffer()
    buffer.add_reference(memoryview(bytearray(b"x.*+?[y]\\z"))[1:])
    assert buffer.search(b"*+?[") == 1
    assert buffer.search(b"\\z") == 7
    assert buffer.search(b"x") == -1


def test_peek_counts_the_chunks_that_are_needed() -> None:
    buffer = EvBuffer()
    for size in range(16):
        buffer.add(bytes([size]) * (size + 5))
    assert len(buffer.peek()) == 16
    assert [len(view) for view in buffer.peek(11)] == [5, 6]
    assert [len(view) for view in buffer.peek(12)] == [5, 6, 7]
    assert len(buffer.peek(9999)) == 16
    assert [len(view) for view in buffer.peek(1, 7)] == [4]
    assert [len(view) for view in buffer.peek(1, 5)] == [6]
    assert buffer.peek(1, len(buffer)) == []
    buffer.drain(3)
    assert len(buffer.peek(2)) == 1
    assert len(buffer.peek(3)) == 2
    with pytest.raises(ArgumentError, match="-1"):
        buffer.peek(1, -1)


@pytest.mark.parametrize(
    ("eol", "text", "lines", "rest"),
    [
        (EVBUFFER_EOL_ANY, b"a\r\n\n\r\n\n\rb\0b\nc", [b"a", b"b\0b"], b"c"),
        (EVBUFFER_EOL_CRLF, b"a\r\nb\nc\rd\r\n\n", [b"a", b"b", b"c\rd", b""], b""),
        (EVBUFFER_EOL_CRLF_STRICT, b"a\nb\r\nc\rd\n\r", [b"a\nb"], b"c\rd\n\r"),
        (EVBUFFER_EOL_LF, b"a\r\n\nb", [b"a\r", b""], b"b"),
        (EVBUFFER_EOL_NUL, b"a\n\0\0b", [b"a\n", b""], b"b"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 99])
def test_lines_of_each_style(
    eol: int, text: bytes, lines: list[bytes], rest: bytes, size: int
) -> None:
    buffer = chunked(*[text[i : i + size] for i in range(0, len(text), size)])
    got = []
    while (line := buffer.readln(eol)) is not None:
        got.append(line)
    assert got == lines
    assert bytes(buffer) == rest


def test_a_lone_cr_is_no_line_end_until_lf_comes() -> None:
    buffer = EvBuffer(b"line\r")
    assert buffer.readln(EVBUFFER_EOL_CRLF) is None
    assert buffer.readln(EVBUFFER_EOL_CRLF_STRICT) is None
    buffer.add(b"\nnext")
    assert buffer.search_eol(EVBUFFER_EOL_CRLF_STRICT) == (4, 2)
    assert buffer.search_eol(EVBUFFER_EOL_CRLF, 5) == (5, 1)  # does not step back over start
    assert buffer.readln(EVBUFFER_EOL_CRLF) == b"line"
    assert buffer.search_eol(EVBUFFER_EOL_LF) == (-1, 0)


@pytest.mark.parametrize("eol", [-1, 5])
def test_an_unknown_line_style_is_refused(eol: int) -> None:
    with pytest.raises(ArgumentError, match=str(eol)):
        EvBuffer(b"x").readln(eol)


def test_copyout_is_cut_to_what_there_is() -> None:
    text = bytes(range(206))
    buffer = chunked(text[:10], text[10:100], text[100:])
    assert buffer.copyout(230) == text
    for size in (65, 90, 160, 999):
        assert buffer.copyout(size, 15) == text[15 : 15 + size]
    assert len(buffer) == 206
    for one in (EvBuffer(b"abc"), buffer):
        with pytest.raises(ArgumentError, match="-2"):
            one.copyout(1, -2)
        assert one.copyout(1, 999) == b""


ADDERS: list[tuple[str, Callable[[EvBuffer], Any]]] = [
    ("add", lambda buffer: buffer.add(b"x")),
    ("add nothing", lambda buffer: buffer.add(b"")),
    ("add_iovec", lambda buffer: buffer.add_iovec([b"x"])),
    ("add_printf", lambda buffer: buffer.add_printf("x")),
    ("add_reference", lambda buffer: buffer.add_reference(b"x")),
    ("add_reference_with_offset", lambda buffer: buffer.add_reference_with_offset(b"xy", 1)),
    ("add_buffer", lambda buffer: buffer.add_buffer(EvBuffer(b"x"))),
    ("add_buffer_reference", lambda buffer: buffer.add_buffer_reference(EvBuffer(b"x"))),
    ("add_file", lambda buffer: buffer.add_file(0)),
    ("reserve_space", lambda buffer: buffer.reserve_space(1)),
    ("commit_space", lambda buffer: buffer.commit_space()),
    ("read", lambda buffer: buffer.read(0, 1)),
]
TAKERS: list[tuple[str, Callable[[EvBuffer], Any]]] = [
    ("remove", lambda buffer: buffer.remove(1)),
    ("remove all", lambda buffer: buffer.remove()),
    ("drain", lambda buffer: buffer.drain(1)),
    ("prepend", lambda buffer: buffer.prepend(b"x")),
    ("readln", lambda buffer: buffer.readln(EVBUFFER_EOL_LF)),
    ("remove_buffer", lambda buffer: buffer.remove_buffer(EvBuffer(), 1)),
    ("prepend_buffer", lambda buffer: buffer.prepend_buffer(EvBuffer(b"x"))),
    ("out of another", lambda buffer: EvBuffer().prepend_buffer(buffer)),
    ("write", lambda buffer: buffer.write(0, 1)),
]


@pytest.mark.parametrize(
    ("at_front", "act"),
    [(False, act) for _, act in ADDERS] + [(True, act) for _, act in TAKERS],
    ids=[name for name, _ in ADDERS + TAKERS],
)
def test_a_frozen_side_refuses_and_nothing_changes(
    at_front: bool, act: Callable[[EvBuffer], Any]
) -> None:
    buffer = EvBuffer(b"line\nrest")
    buffer.freeze(at_front)
    with pytest.raises(StateError, match="frozen"):
        act(buffer)
    assert bytes(buffer) == b"line\nrest"
    buffer.unfreeze(at_front)
    buffer.prepend(b"<")
    buffer.add(b">")
    assert buffer.remove() == b"<line\nrest>"


def test_a_frozen_empty_buffer_allows_what_does_nothing() -> None:
    buffer = EvBuffer()
    buffer.freeze(at_front=True)
    buffer.freeze(at_front=False)
    assert buffer.remove() == b""
    buffer.drain(5)
    buffer.add_buffer(EvBuffer())
    buffer.prepend(b"")
    assert buffer.remove_buffer(EvBuffer(), 5) == 0


def test_only_bytes_can_be_added() -> None:
    buffer = EvBuffer()
    for add in (buffer.add, buffer.prepend, buffer.add_reference):
        for wrong in ("text", 5, None, [1]):
            with pytest.raises(ArgumentTypeError):
                add(wrong)  # type: ignore[operator]
    with pytest.raises(ArgumentError, match="-1"):
        buffer.drain(-1)
    assert len(buffer) == 0


def test_memory_that_is_added_is_copied_and_counted_in_bytes() -> None:
    memory = bytearray(b"abcd")
    buffer = EvBuffer()
    buffer.add(memory)
    memory[0] = 0
    wide = memoryview(b"12345678").cast("I")
    buffer.add(wide)
    buffer.prepend(wide)
    buffer.add_reference(wide)
    assert len(buffer) == 28
    assert bytes(buffer) == b"12345678abcd1234567812345678"


def test_read_and_write_move_bytes_through_descriptors(pair: Pair) -> None:
    buffer = chunked(b"abc", b"def", b"ghi")
    out = pair[0].fileno()
    assert buffer.write(out, 4) == 4
    assert buffer.write(out) == 5
    assert buffer.write(out) == 0
    target = EvBuffer()
    assert target.read(pair[1].fileno(), 4) == 4
    target.max_read = 3
    assert target.read(pair[1].fileno()) == 3
    assert target.read(pair[1].fileno(), 99) == 2
    assert bytes(target) == b"abcdefghi"
    with pytest.raises(BlockingIOError):
        target.read(pair[1].fileno())
    pair[0].close()
    assert target.read(pair[1].fileno()) == 0


@pytest.mark.parametrize("extra", [0, 1])
def test_one_write_gathers_so_many_chunks(extra: int) -> None:
    read_fd, write_fd = os.pipe()
    buffer = chunked(*[b"x"] * (MAX_GATHER_CHUNKS + extra))
    assert buffer.write(write_fd) == MAX_GATHER_CHUNKS
    assert len(buffer) == extra
    os.close(read_fd)
    os.close(write_fd)


def test_bytes_are_neither_copied_in_nor_out() -> None:
    data = b"x" * 1000
    buffer = EvBuffer()
    buffer.add(data)
    other = EvBuffer()
    other.add_buffer(buffer)
    assert other.copyout() is data
    assert other.remove() is data


def test_it_has_pythons_protocols() -> None:
    buffer = EvBuffer(b"ab")
    assert buffer
    assert len(buffer) == 2
    assert bytes(buffer) == b"ab"
    assert repr(buffer) == "<EvBuffer 2 bytes in 1 chunks>"
    assert not EvBuffer()
