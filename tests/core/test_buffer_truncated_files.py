"""Files that have become shorter, and large ones whose bytes are looked at: in bounded memory."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from evsvc.core import (
    BEV_EVENT_ERROR,
    BEV_EVENT_WRITING,
    BEV_OPT_CLOSE_ON_FREE,
    EV_READ,
    EVBUF_FS_CLOSE_ON_FREE,
    EVBUF_FS_DISABLE_MMAP,
    EVBUF_FS_DISABLE_SENDFILE,
    BevEvent,
    BufferEvent,
    EvBuffer,
    EventBase,
    FileSegment,
    SocketError,
)
from evsvc.core.buffer import segment as segments
from evsvc.core.buffer.segment import BLOCK_BYTES
from tests.core.tls_ends import open_ends_over_sockets

Pair = tuple[socket.socket, socket.socket]
SIZE = 3 * BLOCK_BYTES + 100
FLAGS = {
    "default": 0,
    "no mmap": EVBUF_FS_DISABLE_MMAP,
    "no sendfile": EVBUF_FS_DISABLE_SENDFILE,
    "neither": EVBUF_FS_DISABLE_SENDFILE | EVBUF_FS_DISABLE_MMAP,
}


class Reads:
    """What os.pread() was asked for, which it does."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, fd: int, size: int, offset: int) -> bytes:
        self.sizes.append(size)
        return PREAD(fd, size, offset)


PREAD = os.pread


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Return what is read from files in this test."""
    reads = Reads()
    monkeypatch.setattr(segments.os, "pread", reads)
    return reads


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(index % 251 for index in range(SIZE)))
    return path


def with_file(path: Path, flags: int = 0) -> EvBuffer:
    buffer = EvBuffer()
    fd = os.open(path, os.O_RDONLY)
    with FileSegment(fd, flags=flags | EVBUF_FS_CLOSE_ON_FREE) as segment:
        buffer.add_file_segment(segment)
    return buffer


LOOKS: dict[str, Callable[[EvBuffer], object]] = {
    "bytes": bytes,
    "copyout": lambda buffer: buffer.copyout(SIZE),
    "copyout far in": lambda buffer: buffer.copyout(1, SIZE - 1),
    "peek": lambda buffer: buffer.peek(),
    "peek far in": lambda buffer: buffer.peek(1, SIZE - 1),
    "pullup": lambda buffer: buffer.pullup(),
    "remove": lambda buffer: buffer.remove(),
    "search": lambda buffer: buffer.search(b"not in it"),
    "search_eol": lambda buffer: buffer.search_eol(4),
    "readln": lambda buffer: buffer.readln(4),
    "views": lambda buffer: list(buffer.views(0, SIZE)),
}


@pytest.mark.parametrize("flags", ["default", "neither"])
@pytest.mark.parametrize("left", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, SIZE - 1])
@pytest.mark.parametrize("look", LOOKS)
def test_looking_at_what_is_gone_is_an_error_of_the_call(
    look: str, left: int, flags: str, path: Path
) -> None:
    path.write_bytes(b"x" * SIZE)  # no NUL for `search_eol` to find
    buffer = with_file(path, FLAGS[flags])
    os.truncate(path, left)
    for _ in range(2):
        with pytest.raises(SocketError, match="shorter") as raised:
            LOOKS[look](buffer)
        assert raised.value.errno == errno.EIO
        assert len(buffer) == SIZE
    assert buffer.copyout(left) == b"x" * left
    buffer.close()


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("left", [0, 1, BLOCK_BYTES + 1, SIZE - 1])
@pytest.mark.parametrize("act", ["write", "send"])
def test_sending_what_is_gone_is_an_error_and_no_endless_loop(
    act: str, left: int, flags: str, path: Path, pair: Pair
) -> None:
    """All that is there goes before."""
    buffer = with_file(path, FLAGS[flags])
    os.truncate(path, left)
    sent = 0

    def send_some() -> int:
        if act == "write":
            return buffer.write(pair[0])
        count = buffer.send(pair[0], len(buffer))
        buffer.drop(count)
        return count

    while sent < left:
        sent += send_some()
        pair[1].recv(1 << 20)
    with pytest.raises(OSError, match="shorter") as raised:
        send_some()
    assert raised.value.errno == errno.EIO
    assert sent == left
    assert len(buffer) == SIZE - left
    buffer.close()


def test_a_file_that_is_cut_while_it_is_looked_at_block_by_block(path: Path) -> None:
    buffer = with_file(path)
    views = buffer.views(0, SIZE)
    assert len(next(views)) == BLOCK_BYTES
    os.truncate(path, BLOCK_BYTES)
    with pytest.raises(SocketError, match="shorter"):
        next(views)
    buffer.close()


@pytest.mark.parametrize("size", [BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_block_is_the_most_that_is_read_at_once(size: int, path: Path, reads: Reads) -> None:
    buffer = with_file(path)
    assert b"".join(buffer.views(0, size)) == path.read_bytes()[:size]
    assert reads.sizes == [BLOCK_BYTES] * (1 if size == BLOCK_BYTES else 2)
    buffer.close()


def test_lines_of_a_file_are_read_in_blocks_and_not_one_by_one(
    tmp_path: Path, reads: Reads
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a line\r\n" * 20_000)
    buffer = with_file(path)
    for _ in range(20_000):
        assert buffer.readln() == b"a line"
    assert len(buffer) == 0
    assert sum(reads.sizes) < 2 * len(path.read_bytes())


def test_what_sendfile_cannot_do_is_read_and_sent_a_block_at_a_time(
    path: Path, pair: Pair, reads: Reads
) -> None:
    """No more than the kernel may take is read for a call, and none of it twice."""
    buffer = with_file(path, EVBUF_FS_DISABLE_SENDFILE)
    received = b""
    while buffer:
        sent = buffer.write(pair[0])
        assert 0 < sent <= BLOCK_BYTES
        while len(received) < SIZE - len(buffer):
            received += pair[1].recv(1 << 20)
    assert received == path.read_bytes()
    assert sum(reads.sizes) == SIZE


def test_a_file_is_not_read_before_someone_looks(path: Path, reads: Reads) -> None:
    """Nor when it is shared, moved, split, or dropped."""
    buffer, other = with_file(path, EVBUF_FS_DISABLE_SENDFILE), EvBuffer()
    other.add_buffer_reference(buffer)
    buffer.remove_buffer(other, 1000)
    other.prepend_buffer(buffer)
    other.prepend(b"x")
    other.drain(5000)
    assert len(other) == 2 * SIZE - 4999
    other.close()
    assert reads.sizes == []


def test_a_block_that_was_read_is_not_read_again(path: Path, reads: Reads) -> None:
    """Parsing a head of a few fields costs one read."""
    buffer = with_file(path)
    data = path.read_bytes()
    for at in range(0, 400, 4):
        assert buffer.copyout(4, at) == data[at : at + 4]
    for at in range(0, 400, 4):
        assert buffer.remove(4) == data[at : at + 4]
    assert reads.sizes == [BLOCK_BYTES]
    buffer.close()


@pytest.fixture
def told() -> list[BevEvent]:
    """Return a list for the events of a bufferevent."""
    return []


def test_a_connection_whose_file_is_cut_fails_and_the_others_go_on(
    base: EventBase, pairs: Callable[[], Pair], path: Path, told: list[BevEvent]
) -> None:
    """By sendfile(), after what was there."""
    cut, fine = pairs(), pairs()
    whole = path.with_name("whole")
    whole.write_bytes(b"all of it")
    with (
        BufferEvent(base, cut[0], BEV_OPT_CLOSE_ON_FREE) as failing,
        BufferEvent(base, fine[0], BEV_OPT_CLOSE_ON_FREE) as other,
    ):
        failing.setcb(None, None, lambda bev, what, ctx: (told.append(what), base.loopexit()))
        failing.output.add_file(path.open("rb"))
        other.output.add_file(whole.open("rb"))
        os.truncate(path, 10)
        base.dispatch()
        assert told == [BEV_EVENT_ERROR | BEV_EVENT_WRITING]
        assert isinstance(failing.error, OSError)
        assert failing.error.errno == errno.EIO
    assert fine[1].recv(100) == b"all of it"
    assert len(cut[1].recv(100)) == 10


def test_a_tls_connection_whose_file_is_cut_fails(
    base: EventBase, path: Path, told: list[BevEvent]
) -> None:
    """What was encrypted before may have gone; the rest is an error of writing."""
    client, server = open_ends_over_sockets(base, 0)
    with client, server:
        client.enable(EV_READ)
        server.setcb(None, None, lambda bev, what, ctx: (told.append(what), base.loopexit()))
        server.output.add_file(path.open("rb"))
        os.truncate(path, 10)
        base.dispatch()
        assert told == [BEV_EVENT_ERROR | BEV_EVENT_WRITING]
        assert isinstance(server.error, OSError)
        assert server.error.errno == errno.EIO
