"""From a chain of chunks to descriptors: one send, a gathering write, sendfile().

Each looks at what one system call can take, and at no more of the chain.
"""

from __future__ import annotations

import os
import socket
from itertools import islice
from typing import TYPE_CHECKING, Any

from .segment import FilePiece

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..descriptors import Stream
    from .chain import Chain

MAX_READ_BYTES = 4096
MOST_MAX_READ_BYTES = 2**31 - 1

# What a read without `howmuch` asks for, within `max_read`: at first, and at the least.
FIRST_READ_BYTES = 16 * 1024
LEAST_READ_BYTES = 2 * 1024

# Up to this many bytes, joining small chunks for one send() costs less than gathering them with
# sendmsg(): 0.90 against 1.00 us for two chunks, and the gap grows with their number.
JOIN_BYTES = 64 * 1024
MAX_GATHER_CHUNKS = 128

_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")


def next_read_bytes(asked: int, got: int, most: int) -> int:
    """Return how much to ask for after a read that asked for and got so much, within `most`."""
    if got == min(asked, most) < most:
        return min(asked * 2, most)
    if got < min(asked, most) // 4:
        return max(min(asked, most) // 2, LEAST_READ_BYTES)
    return asked


def send_from(chain: Chain, stream: Stream, limit: int) -> int:
    """Send up to `limit` bytes, of those that there are, with one call; return how many went."""
    if chain.files:
        sent = _sendfile(chain, stream.fileno(), limit)
        if sent >= 0:
            return sent
    elif len(chain.chunks) > 1 and chain.length <= limit and chain.length <= JOIN_BYTES:
        return stream.send(_joined(chain))
    pieces = _gather(chain, limit)
    return stream.sendmsg(pieces) if _HAS_SENDMSG and len(pieces) > 1 else stream.send(pieces[0])


def write_from(chain: Chain, fd: int, limit: int) -> int:
    """Do as `send_from` does, with a descriptor."""
    if chain.files:
        sent = _sendfile(chain, fd, limit)
        if sent >= 0:
            return sent
    return os.writev(fd, _gather(chain, limit))


def _sendfile(chain: Chain, out_fd: int, limit: int) -> int:
    """Send from the file at the front; -1 when there is none or sendfile() cannot do it."""
    piece = chain.first_file()
    return -1 if piece is None else piece.sendfile(out_fd, chain.start, limit)


def _joined(chain: Chain) -> bytes | memoryview:
    chunks: Iterable[Any] = chain.chunks  # all bytes or references
    data = b"".join([chunk if type(chunk) is bytes else chunk.view for chunk in chunks])
    return memoryview(data)[chain.start :] if chain.start else data


def _gather(chain: Chain, limit: int) -> list[memoryview]:
    """Return what one gathering system call can take of the first `limit` bytes.

    A file is left to the next call: by sendfile(), or, where the bytes have to be read, a block of
    it at a time, since the kernel may not take more.
    """
    if chain.files:
        limit = min(limit, _before_next_file(chain))
    return list(islice(chain.views(0, limit), MAX_GATHER_CHUNKS))


def _before_next_file(chain: Chain) -> int:
    """Return how many bytes one call takes before a file, or a block of one at the front."""
    if isinstance(chain.chunks[0], FilePiece):
        return len(next(chain.views(0, -1)))
    size = -chain.start
    for chunk in islice(chain.chunks, MAX_GATHER_CHUNKS):
        if isinstance(chunk, FilePiece):
            break
        size += len(chunk)
    return size
