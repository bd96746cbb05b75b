"""A node: serves pages and calls, and has the directory name it for as long as it does.

Usage: node.py NAME --directory HOST:PORT [--host IP] [--proxy-protocol]

`/` is the page, and `/health` what a load balancer asks.  On SIGTERM the node has itself named no
more, and goes on serving until nobody can know it by an old answer; then it stops.
"""

import argparse
import logging
import signal

from contract import Announcement, Departure, Directory, RepeatableWork, Result, Work

from evsvc import EV_PERSIST, EV_TIMEOUT, Event, EventBase, HttpServer, RpcPool, RpcServer

LEASE_S = 1.5
ANNOUNCE_S = 0.5
DRAIN_S = 3.0
"""The records' TTL, once more for the resolver's cache, and the time that HAProxy asks in."""

STOP_S = 10.0
WORK_S = 0.02
"""How long an answer takes, so that there is always something in flight to be lost."""

log = logging.getLogger("node")


class Node:
    """The servers of one node, and its word to the directory."""

    def __init__(self, base, name, host, directory, uses_proxy_protocol):
        self.base = base
        self.name = name
        self.draining = False
        self.pages = HttpServer(base)
        self.pages.set_gencb(self.answer)
        self.pages.set_cb("/health", self.tell_health)
        self.calls = HttpServer(base)
        rpc = RpcServer(self.calls)
        rpc.register_rpc(Work, self.work)
        rpc.register_rpc(RepeatableWork, self.work)
        web = self.pages.bind_socket(host, 0, proxy_protocol=uses_proxy_protocol)
        work = self.calls.bind_socket(host, 0)
        self.announcement = Announcement(
            name, {"web": (host, web.port), "work": (host, work.port)}, LEASE_S
        )
        self.pool = RpcPool(base, timeout=ANNOUNCE_S)
        self.pool.add_endpoint(*directory)
        self.directory = Directory(self.pool)
        self.clock = Event(base, -1, EV_PERSIST, self.announce)
        self.clock.add(ANNOUNCE_S)
        self.announce()
        print(f"web {web.port} work {work.port}", flush=True)

    def announce(self, fd=-1, what=EV_TIMEOUT, arg=None):
        """Have the directory name this node, and go on doing so."""
        self.directory.announce(self.announcement, self.told)

    def told(self, status, request, reply, arg):
        """The directory has heard, or there will be another time."""
        if status.error:
            log.warning("%s: the directory does not answer: %s", self.name, status.message)

    def answer(self, request, arg):
        """The page, a little later."""
        self.base.once(-1, EV_TIMEOUT, self.send_page, request, WORK_S)

    def send_page(self, fd, what, request):
        request.output_headers.add("Content-Type", "text/plain")
        request.send_reply(200, None, f"{self.name} to {request.remote_host}\n".encode())

    def tell_health(self, request, arg):
        """Whether more should come."""
        request.send_reply(503 if self.draining else 200)

    def work(self, call, arg):
        """Do the job, a little later."""
        self.base.once(-1, EV_TIMEOUT, self.finish, call, WORK_S)

    def finish(self, fd, what, call):
        call.done(Result(call.request.number, self.name))

    def leave(self, signum, what, arg):
        """Be named no more, and stop when that is known everywhere."""
        if self.draining:
            return
        self.draining = True
        self.clock.close()
        self.directory.withdraw(Departure(self.name), self.told)
        self.base.once(-1, EV_TIMEOUT, self.stop, None, DRAIN_S)

    def stop(self, fd, what, arg):
        """Take nothing new, answer what is here, then end."""
        self.pool.close()
        for server in (self.pages, self.calls):
            server.shutdown(self.stopped, deadline_s=STOP_S)

    def stopped(self, server):
        if not self.pages.connection_count + self.calls.connection_count:
            self.base.loopexit()


def host_and_port(text):
    """Take an address apart, for argparse."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main():
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--directory", type=host_and_port, required=True, metavar="HOST:PORT")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--proxy-protocol", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    with EventBase() as base:
        node = Node(base, args.name, args.host, args.directory, args.proxy_protocol)
        terminate = base.signal(signal.SIGTERM, node.leave)
        terminate.add()
        base.dispatch()


if __name__ == "__main__":
    main()
