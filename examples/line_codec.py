"""A TCP server on lines: a filter below it deals with their ends, and with lines cut in pieces.

Usage: line_codec.py [port]

The filter passes on whole lines only, each ending in LF, whether CRLF or LF came; what is written
with LF is sent with CRLF.  The program above it answers each line with the same one reversed.
"""

import sys

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.core import (
    BEV_ERROR,
    BEV_EVENT_EOF,
    BEV_EVENT_ERROR,
    BEV_EVENT_READING,
    BEV_NEED_MORE,
    BEV_OK,
    BEV_OPT_CLOSE_ON_FREE,
    BEV_TRIG_DEFER_CALLBACKS,
    LEV_OPT_CLOSE_ON_FREE,
    FilterBufferEvent,
)

MOST_LINE_BYTES = 1000


def decode(source, destination, limit, mode, below):
    """Pass one line on.  A filter's error is told to nobody, so that of a line that is too long is
    told as an error of the bufferevent below."""
    line = source.readln()
    if line is not None and len(line) <= MOST_LINE_BYTES:
        destination.add(line + b"\n")
        return BEV_OK
    if line is None and len(source) <= MOST_LINE_BYTES:
        return BEV_NEED_MORE
    source.drain(len(source))
    below.disable(EV_READ)
    below.trigger_event(BEV_EVENT_READING | BEV_EVENT_ERROR, BEV_TRIG_DEFER_CALLBACKS)
    return BEV_ERROR


def encode(source, destination, limit, mode, below):
    """Send every LF as CRLF."""
    destination.add(source.remove().replace(b"\n", b"\r\n"))
    return BEV_OK


def on_read(bev, ctx):
    """Answer each line; there are only whole ones."""
    for line in bev.read().splitlines():
        bev.write(line[::-1] + b"\n")


def on_event(bev, what, ctx):
    """Close when the client has, or has sent too long a line, once the last answer is sent."""
    if what & BEV_EVENT_ERROR:
        bev.write(b"error: more than %d bytes without a line end\n" % MOST_LINE_BYTES)
    if what & (BEV_EVENT_EOF | BEV_EVENT_ERROR) and len(bev.underlying.output):
        bev.setcb(None, lambda bev, ctx: bev.close(), lambda bev, what, ctx: bev.close())
    else:
        bev.close()


def on_accept(listener, sock, address, arg):
    """Put the filter, with the socket's bufferevent as its context, on top of that."""
    below = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    bev = FilterBufferEvent(below, decode, encode, BEV_OPT_CLOSE_ON_FREE, None, below)
    bev.setcb(on_read, None, on_event)
    bev.enable(EV_READ)


try:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9998
    base = EventBase()
    listener = ConnListener.new_bind(
        base, on_accept, None, LEV_OPT_CLOSE_ON_FREE, -1, ("127.0.0.1", port)
    )
except (ValueError, OSError) as error:
    sys.exit(f"line_codec.py: {error}")
print(f"listening on port {listener.address[1]}", flush=True)
base.dispatch()
