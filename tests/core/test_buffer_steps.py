"""EvBuffer: what is done with many pieces costs by their number, not by its square.

Steps are counted, in instructions of the interpreter, and not timed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from evsvc.core import (
    EVBUFFER_EOL_ANY,
    EVBUFFER_EOL_CRLF,
    EVBUFFER_EOL_CRLF_STRICT,
    EVBUFFER_EOL_LF,
    EVBUFFER_EOL_NUL,
    EVBUFFER_FLAG_DRAINS_TO_FD,
    EVBUFFER_PTR_ADD,
    EvBuffer,
)
from evsvc.core.buffer.chain import COPIED_REST_BYTES
from evsvc.core.buffer.chunks import Reference
from evsvc.core.buffer.transfer import MAX_GATHER_CHUNKS

PIECE = b"forty bytes, which is a piece of a line "


def steps_of(function: Callable[[], object]) -> int:
    """Return how many instructions of Python the call takes."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def pieces(number: int, data: bytes = PIECE) -> EvBuffer:
    """Return a buffer of so many chunks, every third a reference."""
    buffer = EvBuffer()
    for index in range(number):
        if index % 3:
            buffer.add(data)
        else:
            buffer.add_reference(data)
    return buffer


def emptied(buffer: EvBuffer, take: Callable[[EvBuffer], object]) -> None:
    while buffer:
        take(buffer)


class TakesAll:
    """A stream that takes whatever it is offered."""

    def fileno(self) -> int:
        return 1

    def send(self, data: bytes | memoryview, /) -> int:
        return len(data)

    def sendmsg(self, buffers: list[memoryview], /) -> int:
        return sum(map(len, buffers))


class TakesLittle(TakesAll):
    """A stream that takes a piece at a time."""

    def send(self, data: bytes | memoryview, /) -> int:
        return min(len(data), 40)

    def sendmsg(self, buffers: list[memoryview], /) -> int:
        return 40


def move(buffer: EvBuffer, size: int) -> None:
    target = EvBuffer(b"x")
    while buffer:
        buffer.remove_buffer(target, size)


def search_while_it_grows(number: int, look: Callable[[EvBuffer], object]) -> None:
    buffer = EvBuffer()
    for _ in range(number):
        buffer.add(PIECE)
        look(buffer)


def commit_and_look(number: int) -> None:
    buffer = EvBuffer()
    buffer.expand(40 * number)
    for _ in range(number):
        (area,) = buffer.reserve_space(40)
        area[:40] = PIECE
        buffer.commit_space(40)
        assert buffer.readln() is None


def far_in(number: int, look: Callable[[EvBuffer, int], object]) -> None:
    buffer = pieces(number)
    for at in range(0, len(buffer), 40):
        look(buffer, at)


def by_positions(number: int) -> None:
    buffer = pieces(number)
    at = buffer.search(b"which")
    found = 0
    while at >= 0:
        found += 1
        at = buffer.search(b"which", buffer.ptr_set(1, EVBUFFER_PTR_ADD, at))
    assert found == number


def found_again(number: int) -> None:
    """A needle far in, searched from the start each time that more has come."""
    buffer = pieces(number)
    buffer.add(b"needle")
    for _ in range(number):
        buffer.add(PIECE)
        assert buffer.search(b"needle") == 40 * number


def many_lines(number: int, eol: int, end: bytes) -> None:
    buffer = EvBuffer()
    for _ in range(number):
        for part in (b"a ", b"line", end):
            buffer.add(part)
    for _ in range(number):
        assert buffer.readln(eol) == b"a line"
    assert buffer.readln(eol) is None


def unread(number: int) -> None:
    buffer = pieces(number)
    for _ in range(number):
        buffer.prepend(buffer.remove(1))
        buffer.drain(1)


def to_and_fro(number: int) -> None:
    one, other = pieces(number), EvBuffer(b"x")
    for _ in range(number):
        one.remove_buffer(other, 41)
        other.remove_buffer(one, 20)


def drains_to_fd(number: int) -> None:
    """What is before a file may be looked at, though the file may not."""
    buffer = pieces(number)
    buffer.set_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
    buffer.add_file(os.open(os.path.realpath(__file__), os.O_RDONLY))
    for at in range(0, 40 * number, 40):
        assert buffer.copyout(5, at) == b"forty"
        assert buffer.search(b"forty", at) == at
        assert len(buffer.peek(40, at)) == 1
    for _ in range(number):
        buffer.remove(40)
    buffer.close()


def sent_with_a_file(number: int, stream: TakesAll) -> None:
    """As far as the file: sendfile() is the kernel's."""
    buffer = pieces(number)
    buffer.add_file(os.open(os.path.realpath(__file__), os.O_RDONLY))
    size = len(buffer) - 40 * number
    while len(buffer) > size:
        buffer.drop(buffer.send(stream, len(buffer)))
    buffer.close()


PROGRAMS: dict[str, Callable[[int], object]] = {
    "drain": lambda n: emptied(pieces(n), lambda buffer: buffer.drain(13)),
    "remove": lambda n: emptied(pieces(n), lambda buffer: buffer.remove(13)),
    "remove of one large chunk": lambda n: emptied(
        pieces(1, PIECE * n), lambda buffer: buffer.remove(40)
    ),
    "pullup and drain": lambda n: emptied(
        pieces(n), lambda buffer: (buffer.pullup(min(len(buffer), 50)), buffer.drain(45))
    ),
    "remove_buffer": lambda n: move(pieces(n), 13),
    "to and fro": to_and_fro,
    "unread": unread,
    "prepend": lambda n: [pieces(0).prepend(PIECE) for _ in range(n)],
    "add_printf": lambda n: search_while_it_grows(n, lambda buffer: buffer.add_printf("%d", n)),
    "commit_space": commit_and_look,
    "copyout far in": lambda n: far_in(n, lambda buffer, at: buffer.copyout(4, at)),
    "peek far in": lambda n: far_in(n, lambda buffer, at: buffer.peek(4, at)),
    "search far in": lambda n: far_in(n, lambda buffer, at: buffer.search(b"forty", at)),
    "search_eol far in": lambda n: far_in(
        n, lambda buffer, at: buffer.search(b"\n", at, min(at + 90, len(buffer)))
    ),
    "one match after the other": by_positions,
    "the same match while it grows": found_again,
    "search while it grows": lambda n: search_while_it_grows(n, lambda b: b.search(b"needle")),
    "readln, LF": lambda n: many_lines(n, EVBUFFER_EOL_LF, b"\n"),
    "readln, CRLF": lambda n: many_lines(n, EVBUFFER_EOL_CRLF, b"\r\n"),
    "readln, strict": lambda n: many_lines(n, EVBUFFER_EOL_CRLF_STRICT, b"\r\n"),
    "readln, NUL": lambda n: many_lines(n, EVBUFFER_EOL_NUL, b"\0"),
    "readln, any": lambda n: many_lines(n, EVBUFFER_EOL_ANY, b"\n"),
    "readln while it grows": lambda n: search_while_it_grows(n, lambda b: b.readln()),
    "readln, any, while it grows": lambda n: search_while_it_grows(
        n, lambda b: b.readln(EVBUFFER_EOL_ANY)
    ),
    "readln, strict, while it grows": lambda n: search_while_it_grows(
        n, lambda b: b.readln(EVBUFFER_EOL_CRLF_STRICT)
    ),
    "before a file": drains_to_fd,
    "send": lambda n: emptied(
        pieces(n), lambda buffer: buffer.drop(buffer.send(TakesAll(), len(buffer)))
    ),
    "send with a file": lambda n: sent_with_a_file(n, TakesAll()),
    "send of large pieces": lambda n: emptied(
        pieces(n, PIECE * 1000), lambda b: b.drop(b.send(TakesAll(), min(len(b), 1 << 18)))
    ),
    "views": lambda n: emptied(
        pieces(n), lambda buffer: (list(buffer.views(0, 70)), buffer.drop(min(70, len(buffer))))
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_four_times_the_pieces_take_four_times_the_steps(name: str) -> None:
    program = PROGRAMS[name]
    program(2)
    few, many = (steps_of(lambda number=number: program(number)) for number in (150, 600))  # type: ignore[misc]
    assert few > 0
    assert many < 4.6 * few


class Touched(Reference):
    """A reference that counts how often anybody asks how long it is."""

    touched = 0

    def __len__(self) -> int:
        Touched.touched += 1
        return super().__len__()


@pytest.fixture
def touched() -> type[Touched]:
    Touched.touched = 0
    return Touched


@pytest.mark.parametrize("stream", [TakesAll(), TakesLittle()], ids=["all", "little"])
def test_a_send_touches_no_more_chunks_than_it_can_take(
    stream: TakesAll, tmp_path: Path, touched: type[Touched]
) -> None:
    """Though there are many, and a file behind them."""
    buffer = EvBuffer()
    for _ in range(5000):
        buffer.put(Touched(memoryview(PIECE)))
    (tmp_path / "file").write_bytes(PIECE)
    buffer.add_file((tmp_path / "file").open("rb"))
    for _ in range(10):
        touched.touched = 0
        buffer.drop(buffer.send(stream, len(buffer)))
        assert touched.touched <= 4 * MAX_GATHER_CHUNKS
    buffer.close()


@pytest.mark.parametrize("extra", [0, 1])
def test_a_long_rest_of_a_chunk_is_not_copied_when_something_is_put_before_it(extra: int) -> None:
    data = bytes(index % 251 for index in range(1 + COPIED_REST_BYTES + extra))
    buffer = EvBuffer(data)
    for _ in range(3):
        first = buffer.remove(1)
        buffer.prepend(first)
    assert bytes(buffer) == data
    buffer.drain(1)
    buffer.prepend(b"x")
    assert isinstance(buffer.chunks[1], bytes) == (extra == 0)
    assert bytes(buffer) == b"x" + data[1:]
