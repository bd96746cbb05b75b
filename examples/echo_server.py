"""A TCP server that answers each line with "You said: ...", on bufferevents.

Usage: echo_server.py [port]
"""

import argparse
import sys

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.core import (
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    EV_WRITE,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
)


def on_read(bev, ctx):
    """Answer every complete line; what is left of one waits for the rest."""
    while (line := bev.input.readln()) is not None:
        bev.write(b"You said: " + line + b"\n")


def on_event(bev, what, ctx):
    """Close when the client has, once the last answer is sent."""
    if what & BEV_EVENT_EOF and len(bev.output):
        bev.setcb(None, lambda bev, ctx: bev.close(), on_event)
    else:
        bev.close()


def on_accept(listener, sock, address, arg):
    """Give each connection a bufferevent of its own."""
    bev = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    bev.setcb(on_read, None, on_event)
    bev.enable(EV_READ | EV_WRITE)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=9995)
address = "127.0.0.1", parser.parse_args().port

with EventBase() as base:
    try:
        listener = ConnListener.new_bind(
            base, on_accept, None, LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE, -1, address
        )
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"echo_server.py: {error}")
    print(f"listening on port {listener.address[1]}", flush=True)
    base.dispatch()
