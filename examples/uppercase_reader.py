"""A TCP server that sends back what it reads in upper case, 128 bytes at a time.

Usage: uppercase_reader.py [port]
"""

import sys

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.core import BEV_EVENT_EOF, BEV_OPT_CLOSE_ON_FREE, LEV_OPT_CLOSE_ON_FREE


def on_read(bev, ctx):
    """Take the input piece by piece; what is written is sent after this callback."""
    while piece := bev.read(128):
        bev.write(piece.upper())


def on_event(bev, what, ctx):
    """Close when the client has, once the last piece is sent."""
    if what & BEV_EVENT_EOF and len(bev.output):
        bev.setcb(None, lambda bev, ctx: bev.close(), on_event)
    else:
        bev.close()


def on_accept(listener, sock, address, arg):
    """Give each connection a bufferevent of its own."""
    bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(on_read, None, on_event)
    bev.enable(EV_READ)


try:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9996
    base = EventBase()
    listener = ConnListener.new_bind(
        base, on_accept, None, LEV_OPT_CLOSE_ON_FREE, -1, ("127.0.0.1", port)
    )
except (ValueError, OSError) as error:
    sys.exit(f"uppercase_reader.py: {error}")
print(f"listening on port {listener.address[1]}", flush=True)
base.dispatch()
