"""Connect to a host by name without blocking the loop, send a request, print the answer.

Usage: connect_by_name.py host port [nameserver]
"""

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


host, port = sys.argv[1], int(sys.argv[2])
base = EventBase()
if len(sys.argv) > 3:
    resolver = Resolver(base, 0)
    resolver.nameserver_ip_add(sys.argv[3])
else:
    resolver = Resolver(base)

ticks = base.timer(lambda fd, what, arg: print("(the loop goes on meanwhile)", file=sys.stderr))
ticks.add(0)

bev = BufferEvent(base, None, BEV_OPT_CLOSE_ON_FREE)
bev.setcb(on_read, None, on_event, host)
bev.enable(EV_READ)
bev.connect_hostname(resolver, socket.AF_UNSPEC, host, port)
base.dispatch()
