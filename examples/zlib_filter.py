"""Send a file through a compressing filter, and get it back through a decompressing one.

Usage: zlib_filter.py [file]

Two filtering bufferevents, each over one end of a socket pair.  The program writes and reads plain
bytes; what crosses the socket is compressed.
"""

import socket
import sys
import zlib

from evsvc import (
    EV_READ,
    EV_WRITE,
    BufferEvent,
    EventBase,
)
from evsvc.core import (
    BEV_ERROR,
    BEV_FINISHED,
    BEV_NEED_MORE,
    BEV_OK,
    BEV_OPT_CLOSE_ON_FREE,
    FilterBufferEvent,
)


def compress(source, destination, limit, mode, compressor):
    """Compress what is written.  Only the flush with BEV_FINISHED brings the trailer out."""
    packed = compressor.compress(source.remove())
    if mode == BEV_FINISHED:
        packed += compressor.flush()
    destination.add(packed)
    return BEV_OK  # it has taken all, though it may have given nothing yet


def decompress(source, destination, limit, mode, decompressor):
    """Decompress what comes.  Some input makes no output yet; damaged input never will."""
    try:
        plain = decompressor.decompress(source.remove())
    except zlib.error as error:
        print(f"zlib_filter.py: {error}", file=sys.stderr)
        return BEV_ERROR
    destination.add(plain)
    return BEV_OK if plain else BEV_NEED_MORE


def on_written(bev, arg):
    """All of the file has been sent.  First flush the trailer, and then close."""
    if bev.flush(EV_WRITE, BEV_FINISHED):
        bev.setcb(None, lambda bev, arg: bev.close(), on_event)


def on_read(bev, received):
    """Collect the plain bytes."""
    received.extend(bev.read())


def on_event(bev, what, arg):
    """Close at the end of file; there is nothing else to wait for, so the loop ends."""
    bev.close()


path = sys.argv[1] if len(sys.argv) > 1 else __file__
try:
    with open(path, "rb") as file:
        plain = file.read()
except OSError as error:
    sys.exit(f"zlib_filter.py: {path}: {error.strerror}")

received = bytearray()
crossed = []
with EventBase() as base:
    left, right = (BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE) for sock in socket.socketpair())
    right.input.add_cb(lambda buffer, info, arg: crossed.append(info.n_added))
    sender = FilterBufferEvent(
        left, None, compress, BEV_OPT_CLOSE_ON_FREE, None, zlib.compressobj(9)
    )
    sender.setcb(None, on_written, on_event)
    receiver = FilterBufferEvent(
        right, decompress, None, BEV_OPT_CLOSE_ON_FREE, None, zlib.decompressobj()
    )
    receiver.setcb(on_read, None, on_event, received)
    receiver.enable(EV_READ)
    sender.write(plain)
    if not plain:
        on_written(sender, None)
    base.dispatch()
print(f"{len(plain)} bytes went as {sum(crossed)}")
print("they are the same" if received == plain else "they are NOT the same")
