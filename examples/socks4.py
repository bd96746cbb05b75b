"""A SOCKS4 proxy: a request parsed from a buffer, then two bufferevents that feed each other.

Usage: socks4.py [port]        try: curl --socks4 127.0.0.1:port http://127.0.0.1:8080/
"""

import socket
import struct
import sys

from evsvc import (
    EV_READ,
    BufferEvent,
    ConnListener,
    EventBase,
)
from evsvc.core import (
    BEV_EVENT_CONNECTED,
    BEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_CLOSE_ON_FREE,
    LEV_OPT_REUSEABLE,
)

MOST_USER_BYTES = 255
HEAD = struct.Struct("!BBH4s")  # version, command, port, address; then the user, and a NUL
CONNECT, GRANTED, REJECTED = 1, 90, 91
READ_AHEAD_BYTES = 64 * 1024


def parse_request(buffer):
    """Take one request off the buffer: (address, user), or None while it is not complete.

    Raises ValueError for what is no SOCKS4 CONNECT.
    """
    if len(buffer) < HEAD.size:
        if len(buffer) and buffer.copyout(1) != b"\x04":
            raise ValueError("not SOCKS4")
        return None
    version, command, port, ip = HEAD.unpack(buffer.copyout(HEAD.size))
    if version != 4 or command != CONNECT:
        raise ValueError(f"version {version}, command {command}")
    end = buffer.search(b"\0", HEAD.size)
    if end < 0 and len(buffer) <= HEAD.size + MOST_USER_BYTES:
        return None
    if not HEAD.size <= end <= HEAD.size + MOST_USER_BYTES:
        raise ValueError("the user's name is too long")
    user = buffer.copyout(end - HEAD.size, HEAD.size)
    buffer.drain(end + 1)
    return (socket.inet_ntoa(ip), port), user.decode("latin-1")


def reply(bev, code):
    bev.write(struct.pack("!BBH4s", 0, code, 0, b"\0" * 4))


def close_when_sent(bev):
    """Close a bufferevent after the rest of its output."""
    if len(bev.output):
        bev.disable(EV_READ)
        bev.setcb(None, lambda bev, ctx: bev.close(), lambda bev, what, ctx: bev.close())
    else:
        bev.close()


def feed(bev, other):
    """Move what has come to the other side, and pause while that one has too much to send."""
    other.output.add_buffer(bev.input)
    if len(other.output) >= READ_AHEAD_BYTES:
        bev.disable(EV_READ)


def go_on(bev, other):
    """The output is sent: the other side may read again."""
    other.enable(EV_READ)


def on_side_ended(bev, what, other):
    bev.close()
    close_when_sent(other)


def on_request(client, ctx):
    """Parse, and connect to where the request says."""
    try:
        request = parse_request(client.input)
    except ValueError as error:
        print(f"refused: {error}", flush=True)
        reply(client, REJECTED)
        close_when_sent(client)
        return
    if request is not None:
        address, user = request
        print(f"{user or 'somebody'} wants {address[0]}:{address[1]}", flush=True)
        client.disable(EV_READ)
        server = BufferEvent(client.base, None, BEV_OPT_CLOSE_ON_FREE)
        server.setcb(feed, go_on, on_server_event, client)
        client.setcb(feed, go_on, on_side_ended, server)
        server.connect(address)


def on_server_event(server, what, client):
    if what & BEV_EVENT_CONNECTED:
        reply(client, GRANTED)
        server.output.add_buffer(client.input)
        server.setcb(feed, go_on, on_side_ended, client)
        server.enable(EV_READ)
        client.enable(EV_READ)
    else:
        reply(client, REJECTED)
        server.close()
        close_when_sent(client)


def on_accept(listener, sock, address, arg):
    client = BufferEvent(listener.base, sock, BEV_OPT_CLOSE_ON_FREE)
    client.setcb(on_request, None, lambda bev, what, ctx: bev.close())
    client.enable(EV_READ)


try:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 1080
    base = EventBase()
    listener = ConnListener.new_bind(
        base, on_accept, None, LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_FREE, -1, ("127.0.0.1", port)
    )
except (ValueError, OverflowError, OSError) as error:
    sys.exit(f"socks4.py: {error}")
print(f"listening on 127.0.0.1 port {listener.address[1]}", flush=True)
base.dispatch()
