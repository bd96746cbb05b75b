"""Files in buffers: segments, who closes the descriptor, sendfile(), mmap() and reading."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from evsvc.core import (
    EVBUF_FS_CLOSE_ON_FREE,
    EVBUF_FS_DISABLE_LOCKING,
    EVBUF_FS_DISABLE_MMAP,
    EVBUF_FS_DISABLE_SENDFILE,
    EVBUFFER_EOL_LF,
    EVBUFFER_FLAG_DRAINS_TO_FD,
    ArgumentError,
    ArgumentTypeError,
    EvBuffer,
    FileSegment,
    SocketError,
    StateError,
)
from evsvc.core.buffer import transfer

Pair = tuple[socket.socket, socket.socket]
WAYS = {
    "default": 0,
    "sendfile": EVBUF_FS_DISABLE_MMAP,
    "mmap": EVBUF_FS_DISABLE_SENDFILE,
    "linear": EVBUF_FS_DISABLE_SENDFILE | EVBUF_FS_DISABLE_MMAP,
}
TEXT = b"".join(b"line %d\n" % number for number in range(40))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Return `opened(data)`: a descriptor of a new file; those still open are closed after."""
    files: list[IO[bytes]] = []

    def make(data: bytes) -> int:
        path = tmp_path / f"file{len(files)}"
        path.write_bytes(data)
        files.append(path.open("rb"))
        return os.dup(files[-1].fileno())

    made: list[int] = []

    def make_and_note(data: bytes) -> int:
        made.append(make(data))
        return made[-1]

    yield make_and_note
    for file in files:
        file.close()
    for fd in made:
        if is_open(fd):
            os.close(fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def send_all(buffer: EvBuffer, pair: Pair) -> bytes:
    """Write the buffer to one end as it takes it, and return what came out of the other."""
    received = bytearray()
    while buffer:
        try:
            buffer.drop(buffer.send(pair[0], len(buffer)))
        except BlockingIOError:
            received += pair[1].recv(1 << 20)
    pair[0].close()
    while data := pair[1].recv(1 << 20):
        received += data
    return bytes(received)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [100, 512 * 1024])
@pytest.mark.parametrize("part", ["whole", "offset", "view"])
@pytest.mark.parametrize("flags", [0, EVBUFFER_FLAG_DRAINS_TO_FD])
def test_the_receiver_gets_exactly_the_bytes(
    way: str, size: int, part: str, flags: int, opened: Callable[[bytes], int], pair: Pair
) -> None:
    """add_file and add_file_segment, whole, from an offset, and a view into a segment."""
    data = os.urandom(size)
    buffer = EvBuffer(b"<head>")
    buffer.set_flags(flags)
    offset = 0 if part == "whole" else 33
    with FileSegment(opened(data), offset, -1, WAYS[way] | EVBUF_FS_CLOSE_ON_FREE) as segment:
        assert len(segment) == size - offset
        if part == "view":
            buffer.add_file_segment(segment, 7, 50)
            expected = data[40:90]
        else:
            buffer.add_file_segment(segment)
            expected = data[offset:]
    buffer.add(b"<tail>")
    assert send_all(buffer, pair) == b"<head>" + expected + b"<tail>"


def test_a_file_that_is_added_is_closed_when_its_last_byte_has_left(
    opened: Callable[[bytes], int],
) -> None:
    buffer, other = EvBuffer(), EvBuffer()
    fd = opened(TEXT)
    buffer.add_file(fd, 5, 20)
    assert len(buffer) == 20
    assert buffer.remove_buffer(other, 19) == 19
    assert other.remove() == TEXT[5:24]
    assert is_open(fd)
    assert buffer.remove() == TEXT[24:25]
    assert not is_open(fd)


@pytest.mark.parametrize("end", ["close", "drain", "pullup", "nothing in it"])
def test_a_file_is_closed_however_it_leaves(end: str, opened: Callable[[bytes], int]) -> None:
    fd = opened(TEXT)
    buffer = EvBuffer(b"x")
    buffer.add_file(fd, 0, 0 if end == "nothing in it" else -1)
    if end == "close":
        buffer.close()
    elif end == "drain":
        buffer.drain(len(buffer))
    elif end == "pullup":
        assert buffer.pullup() == b"x" + TEXT
    assert not is_open(fd)


def test_a_file_object_can_be_given_and_is_closed_as_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(TEXT)
    buffer = EvBuffer()
    file = (tmp_path / "file").open("rb")
    buffer.add_file(file)
    assert buffer.readln(EVBUFFER_EOL_LF) == b"line 0"
    buffer.close()
    assert file.closed


@pytest.mark.parametrize(
    ("offset", "length"), [(-1, 5), (0, len(TEXT) + 1), (len(TEXT) + 1, -1), (3, -2), (9, 2**70)]
)
def test_a_range_outside_of_the_file_is_refused_and_the_descriptor_stays(
    offset: int, length: int, opened: Callable[[bytes], int]
) -> None:
    fd = opened(TEXT)
    buffer = EvBuffer()
    with pytest.raises(ArgumentError, match=str(offset)):
        buffer.add_file(fd, offset, length)
    assert is_open(fd)
    assert len(buffer) == 0


def test_a_frozen_buffer_takes_no_file_and_leaves_it_open(opened: Callable[[bytes], int]) -> None:
    fd = opened(TEXT)
    buffer = EvBuffer()
    buffer.freeze(at_front=False)
    with pytest.raises(StateError, match="frozen"):
        buffer.add_file(fd)
    with FileSegment(fd) as segment:
        with pytest.raises(StateError, match="frozen"):
            buffer.add_file_segment(segment)
        buffer.unfreeze(at_front=False)
        buffer.add_file_segment(segment)  # what was refused did not cost the owner its segment
    assert is_open(fd)
    assert bytes(buffer) == TEXT


@pytest.mark.parametrize("length", [0, 1, -1])
def test_a_closed_descriptor_is_refused(length: int) -> None:
    """No bytes of it, either; nothing leaks."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.close(fd)
    buffer = EvBuffer()
    with pytest.raises(SocketError) as caught:
        buffer.add_file(fd, 0, length)
    assert caught.value.errno == errno.EBADF
    assert buffer.peek() == []


def test_what_is_no_regular_file_is_refused() -> None:
    read_fd, write_fd = os.pipe()
    try:
        with pytest.raises(ArgumentError, match="no regular file"):
            FileSegment(read_fd)
        with pytest.raises(ArgumentTypeError):
            FileSegment("name")  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="0x10"):
            FileSegment(read_fd, flags=0x10)
    finally:
        os.close(read_fd)
        os.close(write_fd)


def test_the_cleanup_runs_once_after_the_last_buffer(opened: Callable[[bytes], int]) -> None:
    """Not while a buffer has a piece, though the owner is done with it; the last set is called.

    The descriptor is closed by then.
    """
    told: list[tuple[object, int, object, bool]] = []
    fd = opened(TEXT)

    def cleanup(segment: FileSegment, flags: int, arg: object) -> None:
        told.append((segment, flags, arg, is_open(fd)))

    one, other = EvBuffer(), EvBuffer()
    flags = EVBUF_FS_CLOSE_ON_FREE | EVBUF_FS_DISABLE_LOCKING
    segment = FileSegment(fd, flags=flags)
    segment.add_cleanup_cb(cleanup, "first")
    segment.add_cleanup_cb(cleanup, "arg")
    one.add_file_segment(segment, 0, 10)
    other.add_file_segment(segment, 5)
    one.add_buffer_reference(other)
    segment.close()
    segment.close()
    other.close()
    assert told == []
    assert bytes(one) == TEXT[:10] + TEXT[5:]
    one.close()
    assert told == [(segment, flags, "arg", False)]
    one.close()
    assert len(told) == 1


def test_without_close_on_free_the_descriptor_stays_open(opened: Callable[[bytes], int]) -> None:
    fd = opened(TEXT)
    with FileSegment(fd) as segment:
        buffer = EvBuffer()
        buffer.add_file_segment(segment)
    buffer.close()
    assert is_open(fd)


def test_a_closed_segment_is_of_no_more_use(opened: Callable[[bytes], int]) -> None:
    segment = FileSegment(opened(TEXT), flags=EVBUF_FS_CLOSE_ON_FREE)
    segment.close()
    with pytest.raises(StateError, match="closed"):
        EvBuffer().add_file_segment(segment)
    with pytest.raises(StateError, match="closed"):
        segment.add_cleanup_cb(print)


@pytest.mark.parametrize(("offset", "length"), [(0, 11), (11, -1), (5, 6), (-1, 1), (0, -2)])
def test_a_part_outside_of_the_segment_is_refused(
    offset: int, length: int, opened: Callable[[bytes], int]
) -> None:
    """And the owner still has the segment, unlike in libevent."""
    buffer = EvBuffer()
    with FileSegment(opened(TEXT), 0, 10, EVBUF_FS_CLOSE_ON_FREE) as segment:
        with pytest.raises(ArgumentError, match=str(offset)):
            buffer.add_file_segment(segment, offset, length)
        buffer.add_file_segment(segment, 10, 0)
        buffer.add_file_segment(segment, 9, 1)
    assert bytes(buffer) == TEXT[9:10]


@pytest.mark.parametrize("way", WAYS)
def test_the_bytes_of_a_file_can_be_looked_at_like_others(
    way: str, opened: Callable[[bytes], int]
) -> None:
    """Whatever the way: searched, peeked at, copied, pulled up, read by lines, moved in parts."""
    buffer, other = EvBuffer(b"head\n"), EvBuffer()
    fd = opened(b"x" * 4096 + TEXT)
    with FileSegment(fd, 4096, -1, WAYS[way] | EVBUF_FS_CLOSE_ON_FREE) as segment:
        buffer.add_file_segment(segment)
    whole = b"head\n" + TEXT
    assert bytes(buffer) == whole
    assert buffer.search(b"line 20") == whole.index(b"line 20")
    assert buffer.copyout(9, 3) == whole[3:12]
    assert b"".join(buffer.peek()) == whole
    assert buffer.readln() == b"head"
    assert buffer.readln() == b"line 0"
    buffer.remove_buffer(other, 7)
    other.prepend_buffer(buffer)
    assert other.remove() == TEXT[14:] + b"line 1\n"
    assert not is_open(fd)


def test_what_drains_to_a_descriptor_cannot_be_looked_at(
    opened: Callable[[bytes], int], pair: Pair
) -> None:
    """EVBUFFER_FLAG_DRAINS_TO_FD: copyout, pullup and search refuse the bytes of the file."""
    buffer = EvBuffer(b"head")
    buffer.set_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
    buffer.add_file(opened(TEXT))
    buffer.add(b"tail")
    for act in (
        bytes,
        EvBuffer.pullup,
        EvBuffer.peek,
        EvBuffer.readln,
        EvBuffer.search_eol,
        EvBuffer.remove,
        lambda buffer: buffer.copyout(5),
        lambda buffer: buffer.copyout(1, 4 + len(TEXT) - 1),
        lambda buffer: buffer.search(b"line"),
    ):
        with pytest.raises(StateError, match="descriptor"):
            act(buffer)
    assert buffer.copyout(4) == b"head"
    assert buffer.copyout(9, 4 + len(TEXT)) == b"tail"
    assert buffer.remove(2) == b"he"
    buffer.clear_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
    assert bytes(buffer) == b"ad" + TEXT + b"tail"
    buffer.set_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
    assert send_all(buffer, pair) == b"ad" + TEXT + b"tail"


def test_files_that_sendfile_does_not_take_can_always_be_looked_at(
    opened: Callable[[bytes], int],
) -> None:
    buffer = EvBuffer()
    buffer.set_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
    flags = EVBUF_FS_DISABLE_SENDFILE | EVBUF_FS_CLOSE_ON_FREE
    with FileSegment(opened(TEXT), flags=flags) as segment:
        buffer.add_file_segment(segment)
    assert bytes(buffer) == TEXT


def test_other_flags_are_refused() -> None:
    buffer = EvBuffer()
    for change in (buffer.set_flags, buffer.clear_flags):
        with pytest.raises(ArgumentError, match="0x2"):
            change(2)


@pytest.mark.parametrize("way", ["default", "mmap"])
def test_without_sendmsg_a_file_is_sent_all_the_same(
    way: str, opened: Callable[[bytes], int], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_HAS_SENDMSG", False)
    buffer = EvBuffer(b"head")
    with FileSegment(opened(TEXT), flags=WAYS[way] | EVBUF_FS_CLOSE_ON_FREE) as segment:
        assert segment.flags == WAYS[way] | EVBUF_FS_CLOSE_ON_FREE
        buffer.add_file_segment(segment)
    buffer.add(b"tail")
    assert send_all(buffer, pair) == b"head" + TEXT + b"tail"


def test_sendfile_moves_the_bytes_past_us(
    opened: Callable[[bytes], int], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not read, not even where the file stands between other bytes."""

    def refuse(*args: object) -> bytes:
        raise AssertionError("the bytes were loaded")

    monkeypatch.setattr(os, "pread", refuse)
    buffer = EvBuffer(b"head")
    buffer.add_file(opened(TEXT), 5)
    buffer.add(b"between")
    other = EvBuffer()
    other.add_file(opened(TEXT), 0, 9)
    buffer.add_buffer(other)
    buffer.add(b"tail")
    assert send_all(buffer, pair) == b"head" + TEXT[5:] + b"between" + TEXT[:9] + b"tail"


@pytest.mark.parametrize("howmuch", [0, 1, 5, 6, 60, 10_000])
def test_a_write_of_so_many_bytes_takes_no_more_of_a_file(
    howmuch: int, opened: Callable[[bytes], int], tmp_path: Path
) -> None:
    """One call takes what is before the file, or from the file; libevent sends all of it."""
    buffer = EvBuffer(b"head|")
    buffer.add_file(opened(TEXT))
    with (tmp_path / "out").open("w+b") as out:
        written = 0
        while written < howmuch and buffer:
            written += buffer.write(out, howmuch - written)
        assert written == min(howmuch, 5 + len(TEXT))
        assert (tmp_path / "out").read_bytes() == (b"head|" + TEXT)[:howmuch]
    assert bytes(buffer) == (b"head|" + TEXT)[howmuch:]


def test_where_sendfile_cannot_write_the_bytes_are_written(
    opened: Callable[[bytes], int], tmp_path: Path
) -> None:
    """Linux refuses it for a file that is open for appending."""
    buffer = EvBuffer()
    buffer.set_flags(EVBUFFER_FLAG_DRAINS_TO_FD)
    buffer.add_file(opened(TEXT))
    with (tmp_path / "out").open("ab", buffering=0) as out:
        assert buffer.write(out) == len(TEXT)
    assert (tmp_path / "out").read_bytes() == TEXT
    assert len(buffer) == 0


def test_a_file_that_became_shorter_is_an_error_and_no_endless_loop(
    tmp_path: Path, pair: Pair
) -> None:
    path = tmp_path / "file"
    path.write_bytes(TEXT)
    buffer = EvBuffer()
    buffer.add_file(path.open("rb"))
    os.truncate(path, 0)
    with pytest.raises(SocketError, match="shorter"):
        buffer.write(pair[0])
    with pytest.raises(SocketError) as caught:
        buffer.copyout()
    assert caught.value.errno == errno.EIO
    assert len(buffer) == len(TEXT)
    buffer.close()


def test_after_the_files_sending_is_as_it_was(opened: Callable[[bytes], int], pair: Pair) -> None:
    """A piece of a file that has gone does not slow down what comes after it."""
    buffer = EvBuffer()
    buffer.add_file(opened(TEXT))
    buffer.add(b"tail")
    for size in (len(TEXT), 4):
        assert buffer.send(pair[0], len(buffer)) == size
        buffer.drop(size)
    buffer.add(b"more")
    assert buffer.send(pair[0], len(buffer)) == 4
    assert buffer.files == 0
    assert pair[1].recv(9999) == TEXT + b"tailmore"


def test_a_full_socket_keeps_the_rest_of_the_file(
    opened: Callable[[bytes], int], pair: Pair
) -> None:
    data = os.urandom(1 << 20)
    buffer = EvBuffer()
    buffer.add_file(opened(data))
    sent = buffer.write(pair[0])
    assert 0 < sent < len(data)
    assert len(buffer) == len(data) - sent
    with pytest.raises(BlockingIOError):
        buffer.write(pair[0])
    assert send_all(buffer, pair) == data
