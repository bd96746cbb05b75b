"""A memcached over HTTP: one connection to it, on which the requests of all clients are pipelined.

Usage: memc.py [--patience seconds] [memcached's host:port] [port]

    GET, PUT, DELETE /memc/KEY

The text protocol has no numbers: replies come in the order of the commands.  So one that is late,
or makes no sense, ends the connection, as nobody could say any more which reply is whose; all who
wait get 502 or 504, and the next request connects anew, after a pause that grows.
"""

import argparse
import collections
import re
import socket
import sys

from evsvc import EV_READ, BufferEvent, EventBase, HttpServer, Resolver
from evsvc.core import BEV_EVENT_CONNECTED, BEV_EVENT_TIMEOUT, BEV_OPT_CLOSE_ON_FREE
from evsvc.http import ServerOptions
from evsvc.http.wire.limits import ReaderLimits

MOST_BYTES = 1024 * 1024  # memcached's own limit of a value
MOST_WAITING = 1000  # commands at once
PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0

is_key = re.compile(r"[!-~]{1,250}").fullmatch
match_value = re.compile(rb"VALUE \S+ \d+ (\d+)").fullmatch


class Memcached:
    """A client.  `send(command, cb)` calls `cb(line, value)` with the reply, or an HTTP status."""

    def __init__(self, base, resolver, host, port, patience_s):
        self.base = base
        self.resolver = resolver
        self.address = host, port
        self.patience_s = patience_s
        self.bev = None
        self.waiting = collections.deque()
        self.missing = None  # how much of a value, and its line end, must come first
        self.value = None
        self.pause_s = PAUSE_S
        self.rests_until = 0.0

    def send(self, command, cb):
        """Send a command; 503 comes at once when there are too many, or no connection."""
        if len(self.waiting) == MOST_WAITING or not self.connect():
            cb(503, None)
            return
        if not self.waiting:
            self.bev.set_timeouts(self.patience_s, self.patience_s)
        self.waiting.append(cb)
        self.bev.write(command)

    def connect(self):
        if self.bev is None:
            if self.base.now < self.rests_until:
                return False
            self.bev = BufferEvent(self.base, None, BEV_OPT_CLOSE_ON_FREE)
            self.bev.setcb(self.on_read, None, self.on_event)
            self.bev.setwatermark(EV_READ, 0, 2 * MOST_BYTES)
            self.bev.enable(EV_READ)
            self.bev.connect_hostname(self.resolver, socket.AF_UNSPEC, *self.address)
        return True

    def on_event(self, bev, what, ctx):
        """It is there, or has ended."""
        if what & BEV_EVENT_CONNECTED:
            self.pause_s = PAUSE_S
        else:
            self.fail(504 if what & BEV_EVENT_TIMEOUT else 502)

    def fail(self, status):
        """Give the connection up, and tell all who wait."""
        self.bev.close()
        self.bev = self.missing = self.value = None
        self.rests_until = self.base.now + self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        waiting, self.waiting = self.waiting, collections.deque()
        for cb in waiting:
            cb(status, None)

    def on_read(self, bev, ctx):
        """Take replies as long as there are whole ones; a value comes before its END."""
        while self.bev is bev:
            if self.missing is not None:
                if len(bev.input) < self.missing:
                    return
                self.value = bev.input.remove(self.missing)[:-2]
                self.missing = None
                continue
            line = bev.input.readln()
            if line is None:
                return
            found = match_value(line)
            if found and self.value is None and int(found[1]) <= MOST_BYTES:
                self.missing = int(found[1]) + 2
            elif found or not self.waiting:
                self.fail(502)
            else:
                value, self.value = self.value, None
                cb = self.waiting.popleft()
                if not self.waiting:
                    bev.set_timeouts(None, None)  # silence is no fault now
                cb(line, value)


def serve(request, memcached):
    """Make a command of a request, and a reply of its reply."""
    key = request.path.removeprefix("/memc/")
    if not is_key(key):
        request.send_error(404)
        return
    if request.method == "PUT":
        data = bytes(request.input_buffer)
        command = f"set {key} 0 0 {len(data)}\r\n".encode() + data + b"\r\n"
    else:
        command = f"{'delete' if request.method == 'DELETE' else 'get'} {key}\r\n".encode()
    memcached.send(command, lambda line, value: answer(request, line, value))


def answer(request, line, value):
    """`line` is what memcached said, or an HTTP status where it said nothing."""
    if isinstance(line, int):
        request.send_error(line)
    elif value is not None:
        request.output_headers.add("Content-Type", "application/octet-stream")
        request.send_reply(200, None, value)
    elif line in (b"STORED", b"DELETED"):
        request.send_reply(204)
    elif line in (b"END", b"NOT_FOUND"):
        request.send_error(404)
    else:
        request.send_error(502)  # ERROR, SERVER_ERROR out of memory...


parser = argparse.ArgumentParser()
parser.add_argument("--patience", type=float, default=2.0)
parser.add_argument("memcached", nargs="?", default="127.0.0.1:11211")
parser.add_argument("port", type=int, nargs="?", default=8080)
args = parser.parse_args()
host, _, number = args.memcached.rpartition(":")
if not number.isdecimal():
    parser.error(f"not an address with a port: {args.memcached!r}")

options = ServerOptions(limits=ReaderLimits(max_body_bytes=MOST_BYTES))
with EventBase() as base, Resolver(base) as resolver, HttpServer(base, options) as server:
    memcached = Memcached(base, resolver, host, int(number), args.patience)
    server.set_prefix_cb("/memc/", serve, memcached, methods=("GET", "PUT", "DELETE"))
    try:
        bound = server.bind_socket("127.0.0.1", args.port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"memc.py: {error}")
    print(f"http://127.0.0.1:{bound.port}/memc/", flush=True)
    base.dispatch()
