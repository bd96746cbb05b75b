"""Connect to a host by name without blocking the loop, send a request, print the answer.

Usage: connect_by_name.py host port [nameserver]
"""

import argparse
import socket
import sys

from evsvc import (
    EV_READ,
    BufferEvent,
    EventBase,
    Resolver,
)
from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_EVENT_EOF,
    BEV_OPT_CLOSE_ON_FREE,
    gai_strerror,
)


def on_read(bev, ctx):
    """Print what comes, as it comes."""
    sys.stdout.write(bev.read().decode("latin-1"))


def on_event(bev, what, host):
    """Ask once connected; stop at the end, or say what went wrong."""
    if what & BEV_EVENT_CONNECTED:
        bev.write(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        return
    if bev.dns_error:
        print(f"{host}: {gai_strerror(bev.dns_error)}", file=sys.stderr)
    elif not what & BEV_EVENT_EOF:
        print(f"{host}: {bev.error}", file=sys.stderr)
    bev.close()
    resolver.close()


parser = argparse.ArgumentParser()
parser.add_argument("host")
parser.add_argument("port", type=int)
parser.add_argument("nameserver", nargs="?")
arguments = parser.parse_args()

with (
    EventBase() as base,
    Resolver(base, 0) if arguments.nameserver else Resolver(base) as resolver,
    BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE) as bev,
):
    ticks = base.timer(lambda fd, what, arg: print("(the loop goes on meanwhile)", file=sys.stderr))
    ticks.add(0)
    bev.setcb(on_read, None, on_event, arguments.host)
    bev.enable(EV_READ)
    try:
        if arguments.nameserver:
            resolver.nameserver_ip_add(arguments.nameserver)
        bev.connect_hostname(resolver, socket.AF_UNSPEC, arguments.host, arguments.port)
    except ValueError as error:
        parser.error(str(error))
    base.dispatch()
