"""The drill: nodes come, end and are killed under load, and a table says what it cost the clients.

Usage: drill.py [--at-once N] [--settle-s SECONDS]

Starts the directory, unbound, HAProxy and three nodes on the loopback interface, and asks in four
ways: pages through HAProxy, and calls straight to the nodes by their SRV name, each with and
without retries.  Without retries nothing may fail but what was in flight when a node was killed;
with retries nothing at all.  The exit code is 1 when it was otherwise.
"""

import argparse
import logging
import os
import pathlib
import select
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

from contract import Job, RepeatableWork, Work

from evsvc import EV_TIMEOUT, EVLOOP_ONCE, EventBase, Resolver, RpcPool
from evsvc.http import ClientOptions, HttpClient, HttpClientOptions
from evsvc.rpc import NameOptions, RetryPolicy

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE_S = 20.0
SETTLE_S = 3.0
"""How long each step is watched: longer than a lease, a TTL and two checks take."""

QUIET_S = 1.0
POLL_S = 0.3
PORT_TRIES = 10


class Program:
    """A process of the drill; ended with it."""

    def __init__(self, *command, pass_fds=()):
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `close`
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log,
            text=True, pass_fds=pass_fds,
        )  # fmt: skip

    def first_line(self):
        """Wait until it says where it serves."""
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            sys.exit(f"drill: {self.process.args} did not start:\n{self.said()}")
        return line.split()

    def said(self):
        """What it has written to its log."""
        self.log.seek(0)
        return self.log.read()

    def kill(self):
        """End it without a word; when this returns, its sockets are closed."""
        self.process.kill()
        self.process.wait()

    def close(self):
        """Have it end, in order if it can."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process.stdout.close()
        self.log.close()


def python(script, *arguments):
    """Start one of the programs of this folder."""
    return Program(sys.executable, str(HERE / script), *arguments)


class Outcome:
    """What became of the requests of one kind in one step."""

    def __init__(self):
        self.asked = self.failed = self.failed_later = 0


class Load:
    """Asks in one way, so many at once, until it is stopped.

    ask: called with the load and a number; it calls `done` with what has answered, or an error.
    """

    def __init__(self, title, ask, at_once):
        self.title = title
        self.ask = ask
        self.at_once = at_once
        self.step = 0  # counts what has happened to the nodes
        self.number = 0
        self.begun = {}  # by number: the step in which it began
        self.running = False
        self.outcomes = {}
        self.answered_by = set()
        self.in_flight = 0  # when the step began
        self.errors = []

    def start(self):
        self.running = True
        for _ in range(self.at_once):
            self.next()

    def enter(self, step):
        """Count for another step from here on."""
        self.step = step
        self.in_flight = len(self.begun)
        self.outcomes[step] = Outcome()
        self.answered_by = set()

    def next(self):
        self.number += 1
        self.begun[self.number] = self.step
        self.ask(self, self.number)

    def done(self, number, node, error):
        """One has been answered by a node, or has failed."""
        outcome = self.outcomes[self.step]
        outcome.asked += 1
        begun = self.begun.pop(number)
        if error is None:
            self.answered_by.add(node)
        else:
            outcome.failed += 1
            outcome.failed_later += begun == self.step
            self.errors.append(f"{self.title} {number}: {error}")
        if self.running:
            self.next()


def pages(client, url):
    """Return how a page is asked for."""

    def ask(load, number):
        client.get(url, answered, (load, number))

    def answered(response, arg):
        load, number = arg
        error = response.error or (None if response.ok else f"status {response.status}")
        load.done(number, None if error else response.text().split()[0], error)

    return ask


def calls(pool, rpc):
    """Return how a call is made."""

    def ask(load, number):
        pool.make_request(rpc, Job(number), answered, load)

    def answered(status, request, reply, load):
        error = f"{status.error.name}: {status.message}" if status.error else None
        load.done(request.number, None if error else reply.node, error)

    return ask


class Drill:
    """All processes, and the loads, on one base."""

    def __init__(self, stack, at_once, settle_s):
        self.stack = stack
        self.settle_s = settle_s
        self.base = stack.enter_context(EventBase())
        self.nodes = {}
        self.leaving = None  # a node that was told to end, and is waited for
        self.rows = []
        self.directory = self.run(python("directory.py", "--dns-port", "0", "--rpc-port", "0"))
        _, dns_port, _, self.rpc_port = self.directory.first_line()
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        resolver_port = self.start_unbound(folder, dns_port)
        fronts = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        for name in ("a", "b", "c"):
            self.add(name)
        self.start_haproxy(folder, resolver_port, *fronts)
        resolver = stack.enter_context(Resolver(self.base, 0))
        resolver.nameserver_ip_add(f"127.0.0.1:{resolver_port}")
        self.loads = [Load(title, ask, at_once) for title, ask in self.ways(resolver, fronts)]

    def ways(self, resolver, fronts):
        """Yield the four ways to ask."""
        # HAProxy is never gone: what the client would ask again by itself is to be seen here.
        options = HttpClientOptions(connection=ClientOptions(retry=False))
        client = self.stack.enter_context(HttpClient(self.base, options=options))
        titles = ("pages", "pages, retried")
        for title, front in zip(titles, fronts, strict=True):
            yield title, pages(client, f"http://127.0.0.1:{front.getsockname()[1]}/")
        # A drill has more failures a second than a day has.
        policy = RetryPolicy(max_attempts=5, budget=1.0)
        for title, rpc in (("calls", Work), ("calls, retried", RepeatableWork)):
            pool = self.stack.enter_context(RpcPool(self.base, timeout=10.0, retry=policy))
            follow = NameOptions(min_refresh_s=0.5)
            pool.follow_srv("_work._tcp.svc.test", resolver, resolver=resolver, follow=follow)
            yield title, calls(pool, rpc)

    def run(self, program):
        self.stack.callback(program.close)
        return program

    def start_unbound(self, folder, dns_port):
        """Start it on a port that is free, and return that."""
        path = shutil.which("unbound", path=os.environ.get("PATH", "") + ":/usr/sbin")
        for _ in range(PORT_TRIES):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            config = fill_in("unbound.conf", folder, UNBOUND_PORT=port, DIRECTORY_PORT=dns_port)
            unbound = self.run(Program(path or "unbound", "-d", "-p", "-c", str(config)))
            if self.answers(port, unbound):
                return port
        sys.exit(f"drill: unbound found no port:\n{unbound.said()}")

    def answers(self, port, unbound):
        """Wait until unbound answers, or has ended because the port was taken."""
        with Resolver(self.base, 0) as resolver:
            resolver.nameserver_ip_add(f"127.0.0.1:{port}")
            answers = []
            while unbound.process.poll() is None:
                resolver.query("svc.test", "SOA", lambda answer, arg: answers.append(answer))
                while not answers:
                    self.base.loop(EVLOOP_ONCE)
                if answers.pop().records:
                    return True
        return False

    def start_haproxy(self, folder, resolver_port, plain, retrying):
        """Start it on two sockets that are bound already."""
        config = fill_in(
            "haproxy.cfg", folder, UNBOUND_PORT=resolver_port,
            PLAIN_BIND=f"fd@{plain.fileno()}", RETRYING_BIND=f"fd@{retrying.fileno()}",
        )  # fmt: skip
        inherited = (plain.fileno(), retrying.fileno())
        path = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
        self.haproxy = self.run(
            Program(path or "haproxy", "-db", "-f", str(config), pass_fds=inherited)
        )

    def add(self, name):
        """Start a node."""
        where = f"127.0.0.1:{self.rpc_port}"
        node = self.run(python("node.py", name, "--directory", where, "--proxy-protocol"))
        node.first_line()
        self.nodes[name] = node

    def wait(self, seconds):
        """Let the load go on for so long."""
        self.base.once(-1, EV_TIMEOUT, lambda fd, what, arg: self.base.loopbreak(), None, seconds)
        self.base.dispatch()

    def wait_until_all_ask(self, nodes):
        """Let the load go on until these nodes have answered in each way, and no others."""
        end = time.monotonic() + PATIENCE_S
        while True:
            for load in self.loads:
                load.answered_by = set()
            self.wait(POLL_S)
            if all(load.answered_by == nodes for load in self.loads):
                return
            if time.monotonic() > end:
                found = {load.title: sorted(load.answered_by) for load in self.loads}
                sys.exit(f"drill: {sorted(nodes)} do not answer: {found}\n{self.haproxy.said()}")

    def run_step(self, title, act, *, may_fail=False):
        """Do something to the nodes, and go on until it is known everywhere."""
        act()
        for load in self.loads:
            load.enter(title)
        self.wait(self.settle_s)
        self.wait_until_all_ask(set(self.nodes))
        while self.leaving is not None and self.leaving.process.poll() is None:
            self.wait(POLL_S)
        self.rows.append((title, may_fail, {load.title: load.in_flight for load in self.loads}))

    def kill(self, name):
        self.nodes.pop(name).kill()

    def end(self, name):
        self.leaving = self.nodes.pop(name)
        self.leaving.process.terminate()

    def run_all(self):
        """Do the drill; return whether all was as it is to be."""
        for load in self.loads:
            load.enter("before")
            load.start()
        self.wait_until_all_ask(set(self.nodes))
        for load in self.loads:
            load.errors.clear()  # while all was starting
        self.run_step("nothing happens", lambda: None)
        self.run_step("a node is added", lambda: self.add("d"))
        self.run_step("a node ends (SIGTERM)", lambda: self.end("a"))
        self.run_step("a node is killed (SIGKILL)", lambda: self.kill("b"), may_fail=True)
        self.run_step("another takes its place", lambda: self.add("e"))
        self.run_step("the directory is killed", self.directory.kill)
        for load in self.loads:
            load.running = False
        self.wait(QUIET_S)
        return self.report()

    def report(self):
        """Print the table; return whether nothing failed but what may."""
        good = True
        titles = [load.title for load in self.loads]
        print("failed of asked (in flight when a node was killed)")
        print(f"{'':28}" + "".join(f"{title:>22}" for title in titles))
        for title, may_fail, in_flight in self.rows:
            cells = []
            for load in self.loads:
                outcome = load.outcomes[title]
                may = in_flight[load.title] if may_fail and "retried" not in load.title else 0
                good &= not outcome.failed_later and outcome.failed <= may
                among = f" ({may})" if may_fail else ""
                cells.append(f"{outcome.failed} of {outcome.asked}{among}")
            print(f"{title:28}" + "".join(f"{cell:>22}" for cell in cells))
        for load in self.loads:
            for error in load.errors:
                print(error, file=sys.stderr)
        print("as it is to be" if good else "NOT as it is to be")
        return good


def fill_in(name, folder, **numbers):
    """Write a configuration of this folder with its numbers; return where."""
    text = string.Template((HERE / name).read_text()).substitute(numbers)
    path = folder / name
    path.write_text(text)
    return path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--at-once", type=int, default=4, help="requests of each kind (%(default)s)"
    )
    parser.add_argument(
        "--settle-s", type=float, default=SETTLE_S, help="at least, for each step (%(default)s)"
    )
    args = parser.parse_args()
    logging.getLogger("evsvc").setLevel(logging.ERROR)  # it is all about what goes wrong
    with ExitStack() as stack:
        return 0 if Drill(stack, args.at_once, args.settle_s).run_all() else 1


if __name__ == "__main__":
    sys.exit(main())
