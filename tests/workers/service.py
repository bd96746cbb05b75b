"""A supervisor with its workers in processes of their own, as a test drives and watches them."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 30

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}

PROGRAM = """
import logging, os, signal, socket, sys
from evsvc import EV_READ, DnsServer, Event, EventBase, HttpServer
from evsvc.core import EV_TIMEOUT, LEV_OPT_CLOSE_ON_FREE, ConnListener
from evsvc.dns import DNS_ERR_NONE, EVDNS_TYPE_TXT
from evsvc.http import ServerOptions
from evsvc.workers import Supervisor, WorkerOptions, systemd_sockets

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)

def tell_pid(request, arg):
    request.send_reply(200, None, b"%d" % os.getpid())

def serve_http(worker, answer=tell_pid):
    server = HttpServer(worker.base)
    server.set_access_log(None)
    server.set_gencb(answer)
    for sock in (*worker.tcp, *worker.unix, *worker.sockets):
        server.accept_socket(sock)
    worker.add_server(server)
    return server

def serve_dns(worker, cb):
    server = DnsServer(worker.base, cb)
    for sock in worker.udp:
        server.add_server_port(sock)
    for sock in worker.tcp:
        listener = ConnListener(worker.base, None, None, LEV_OPT_CLOSE_ON_FREE, 0, sock)
        server.add_server_port_with_listener(listener)
    worker.add_server(server)
    return server

"""


class Watched:
    """A command that serves, in a process of its own, whose log is read.

    It is there when it has printed a line, which is `first`.
    """

    def __init__(self, command: list[str], **popen: Any) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline()
        if not self.first:
            pytest.fail(f"it did not start: {self.process.communicate(timeout=PATIENCE_S)[1]}")
        self.logged: list[str] = []
        self._told: Counter[str] = Counter()  # how often a pattern was found

    def log_until(self, pattern: str) -> re.Match[str]:
        """Wait for a line with the pattern, behind the last that this was called for, and return
        what was found."""
        told = self._told[pattern]
        self._told[pattern] += 1
        assert self.process.stderr is not None
        while True:
            found = [match for line in self.logged if (match := re.search(pattern, line))]
            if len(found) > told:
                return found[told]
            line = self.process.stderr.readline()
            if not line:
                pytest.fail(f"it never said {pattern!r}: {''.join(self.logged)}")
            self.logged.append(line)

    def ready(self, count: int) -> list[int]:
        """Wait until so many workers have said that they are ready; return their processes."""
        return [int(self.log_until(r"process (\d+)\) is ready")[1]) for _ in range(count)]

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Send a signal, and do as `wait`."""
        self.send(signum)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        """Wait until it has ended, with all workers, which have its pipes.

        Return the exit code, the log, and what it has printed since its first line.
        """
        printed, rest = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, "".join(self.logged) + rest, printed

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        # Workers end when their supervisor has gone; theirs are the pipes, too.
        self.process.communicate(timeout=PATIENCE_S)


class Service(Watched):
    """The program with a `setup` of the test's, which starts at once.

    binds: arguments of Supervisor, as text.  ports: those of TCP, then those of UDP.
    """

    def __init__(
        self,
        setup: str = "setup = serve_http",
        *,
        workers: int = 2,
        binds: str = "tcp=[('127.0.0.1', 0)]",
        options: str = "",
        command: list[str] | None = None,
        **popen: Any,
    ) -> None:
        end = (
            f"supervisor = Supervisor(setup, {workers}, {binds},"
            f" options=WorkerOptions({options}))\n"
            "found = supervisor.sockets\n"
            "print(*(sock.getsockname()[1] for sock in (*found.tcp, *found.udp)), flush=True)\n"
            "with supervisor:\n    code = supervisor.run()\n"
            "raise SystemExit(code)\n"
        )
        environment = {**ENVIRONMENT, **popen.pop("env", {})}
        started = [*(command or [sys.executable]), "-c", PROGRAM + setup + "\n" + end]
        super().__init__(started, stdin=subprocess.PIPE, env=environment, **popen)
        self.ports = [int(number) for number in self.first.split()]

    def release(self) -> None:
        """Write a byte to what the workers have as standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()

    def connect(self, timeout: float = PATIENCE_S) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=timeout)

    def get(self, path: str = "/") -> bytes:
        connection = self.connect()
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


class Load:
    """Clients that ask again and again until the end of the block.

    asking: makes what each has for itself, and gives a function that asks once, and raises when
    that fails.  answers, failures: what came of it.
    """

    def __init__(
        self, asking: Callable[[], AbstractContextManager[Callable[[], Any]]], clients: int = 4
    ) -> None:
        self.answers: list[Any] = []
        self.failures: list[BaseException] = []
        self._enough = threading.Event()
        self._news = threading.Condition()
        self._begun = threading.Barrier(clients + 1)
        self._threads = [threading.Thread(target=self._run, args=[asking]) for _ in range(clients)]
        for thread in self._threads:
            thread.start()
        self._begun.wait(PATIENCE_S)

    def _run(self, asking: Callable[[], AbstractContextManager[Callable[[], Any]]]) -> None:
        with asking() as ask:
            self._ask_once(ask)
            self._begun.wait(PATIENCE_S)
            while not self._enough.is_set():
                self._ask_once(ask)

    def _ask_once(self, ask: Callable[[], Any]) -> None:
        try:
            self.answers.append(ask())
        except Exception as exc:
            self.failures.append(exc)
        with self._news:
            self._news.notify_all()

    def wait_until(self, condition: Callable[[], object]) -> None:
        """Have them go on until it is true, or one has failed."""
        with self._news:
            assert self._news.wait_for(lambda: self.failures or condition(), PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Have them all ask once more at the most, and wait for that."""
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
