"""EvBuffer and descriptors: how much is read and written at once, and a large file."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from evsvc.core import ArgumentError, ArgumentTypeError, EvBuffer
from evsvc.core.buffer.transfer import (
    FIRST_READ_BYTES,
    LEAST_READ_BYTES,
    MAX_READ_BYTES,
    MOST_MAX_READ_BYTES,
)
from tests.core.flat_memory import Discarding, reads_memory, resident_bytes

SocketPair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Return a non-blocking pipe of 1 MiB."""
    read_fd, write_fd = os.pipe()
    for fd in (read_fd, write_fd):
        os.set_blocking(fd, False)
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


@pytest.fixture
def zeros() -> Iterator[int]:
    """Return a descriptor that never ends."""
    fd = os.open("/dev/zero", os.O_RDONLY)
    yield fd
    os.close(fd)


def test_one_read_brings_no_more_than_max_read(zeros: int) -> None:
    buffer = EvBuffer()
    assert buffer.max_read == MAX_READ_BYTES == 4096
    assert buffer.read(zeros) == 4096
    assert buffer.read(zeros, 5000) == 4096
    assert buffer.read(zeros, 10) == 10
    assert buffer.read(zeros, 0) == 0
    buffer.max_read = 6000
    assert buffer.read(zeros) == 6000
    assert buffer.read(zeros, 5999) == 5999
    assert buffer.read(zeros, 6001) == 6000


def test_max_read_has_limits() -> None:
    buffer = EvBuffer()
    for size in (1, MOST_MAX_READ_BYTES):
        buffer.max_read = size
        assert buffer.max_read == size
    for size in (0, -1, MOST_MAX_READ_BYTES + 1):
        with pytest.raises(ArgumentError, match=str(size)):
            buffer.max_read = size


def test_reading_grows_after_full_reads_up_to_max_read(zeros: int) -> None:
    buffer = EvBuffer()
    buffer.max_read = 5 * FIRST_READ_BYTES
    got = [buffer.read(zeros) // FIRST_READ_BYTES for _ in range(5)]
    assert got == [1, 2, 4, 5, 5]


def test_reading_shrinks_after_small_reads_and_grows_again(zeros: int, pair: SocketPair) -> None:
    """Down to a least size; a `howmuch` of the program's is neither cut nor counted."""
    buffer = EvBuffer()
    buffer.max_read = 8 * FIRST_READ_BYTES
    pair[0].send(b"x" * (FIRST_READ_BYTES // 4))
    assert buffer.read(pair[1]) == FIRST_READ_BYTES // 4  # not small yet
    assert buffer.read(zeros) == FIRST_READ_BYTES
    for _ in range(20):
        pair[0].send(b"x")
        assert buffer.read(pair[1]) == 1
    assert buffer.read(zeros, 5 * FIRST_READ_BYTES) == 5 * FIRST_READ_BYTES
    assert buffer.read(zeros) == LEAST_READ_BYTES
    assert buffer.read(zeros) == 2 * LEAST_READ_BYTES


def test_a_read_that_fails_brings_nothing(pair: SocketPair) -> None:
    buffer = EvBuffer(b"x")
    with pytest.raises(BlockingIOError):
        buffer.read(pair[0])
    with pytest.raises(ArgumentTypeError):
        buffer.read("name")  # type: ignore[arg-type]
    pair[1].close()
    assert buffer.read(pair[0]) == 0
    with pytest.raises(BrokenPipeError):
        buffer.write(pair[0])
    pair[0].close()
    for act in (buffer.read, buffer.write):
        with pytest.raises(ArgumentError, match="closed"):
            act(pair[0])
    assert bytes(buffer) == b"x"


def test_one_write_takes_what_the_kernel_takes(pipe: tuple[int, int]) -> None:
    """And drains just that; the callback is told once."""
    buffer = EvBuffer()
    for _ in range(100):
        buffer.add(b"x" * 4096)
    told: list[int] = []
    buffer.add_cb(lambda buf, info, arg: told.append(info.n_deleted))
    sent = buffer.write(pipe[1])
    assert 0 < sent < 409_600
    assert told == [sent]
    with pytest.raises(BlockingIOError):
        buffer.write(pipe[1])
    assert len(buffer) == 409_600 - sent


@pytest.mark.no_cover
@reads_memory
def test_a_file_of_128_mib_goes_through_a_socket_in_flat_memory(tmp_path: Path) -> None:
    """By sendfile(): less than 20 MiB more are resident at any time than before."""
    file = (tmp_path / "sparse").open("w+b")
    file.truncate(size := 128 << 20)
    receiver = Discarding()
    receiver.start()
    buffer = EvBuffer(b"head")
    buffer.add_file(file)
    before = most = resident_bytes()
    with socket.create_connection(receiver.address) as sock:
        while buffer:
            buffer.write(sock, 16 << 20)
            most = max(most, resident_bytes())
    receiver.join()
    assert receiver.received_bytes == size + 4
    assert most - before < 20 << 20
    assert file.closed
