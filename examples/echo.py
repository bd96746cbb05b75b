"""The echo server of libevent's tutorial: what comes in moves to the output, uncopied.

Usage: echo.py [port]
"""

import sys

from evsvc import (
    EV_READ,
    EV_WRITE,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.core import (
    BEV_EVENT_ERROR,
    BEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
)


def on_read(bev, ctx):
    """Move all of the input to the output."""
    bev.output.add_buffer(bev.input)


def on_event(bev, what, ctx):
    """Close when the client has gone; the rest of the output is sent before that."""
    if what & BEV_EVENT_ERROR:
        print(f"connection: {bev.error}", file=sys.stderr)
    if len(bev.output) and not what & BEV_EVENT_ERROR:
        bev.setcb(None, lambda bev, ctx: bev.close(), on_event)
    else:
        bev.close()


def on_accept(listener, sock, address, arg):
    """Give each connection a bufferevent of its own."""
    bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(on_read, None, on_event)
    bev.enable(EV_READ | EV_WRITE)


def on_accept_error(listener, error, arg):
    """Stop serving: something is wrong with the listening socket, or the process."""
    print(f"accepting failed, shutting down: {error}", file=sys.stderr)
    listener.base.loopexit()


try:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9876
    base = EventBase()
    listener = ConnListener.new_bind(
        base, on_accept, None, LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE, -1, ("127.0.0.1", port)
    )
except (ValueError, OverflowError, OSError) as error:
    sys.exit(f"echo.py: {error}")
listener.set_error_cb(on_accept_error)
print(f"listening on 127.0.0.1 port {listener.address[1]}", flush=True)
base.dispatch()
