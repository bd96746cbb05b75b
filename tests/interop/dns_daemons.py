"""Name servers and resolvers that others wrote, and our own server in a thread beside them."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import dns.message
import dns.query
import dns.rdatatype
import pytest

from evsvc.core import EVLOOP_NO_EXIT_ON_EMPTY, EventBase
from evsvc.dns import DnsServer, DnsServerOptions
from tests.dns.ports import bind_udp_and_tcp
from tests.ports import ATTEMPTS, bind_both

PATIENCE_S = 30.0
SHORT_S = 0.2
BUSY = ("in use", "address already")

Result = TypeVar("Result")


class LoopThread:
    """An event base that loops in a thread of its own; `call` has things done there."""

    def __init__(self) -> None:
        self.base = EventBase()
        self._thread = threading.Thread(
            target=self.base.loop, args=(EVLOOP_NO_EXIT_ON_EMPTY,), daemon=True
        )
        self._thread.start()

    def call(self, fn: Callable[..., Result], *args: Any) -> Result:
        done = threading.Event()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.extend((fn(*args), None))
            except BaseException as exc:
                outcome.extend((None, exc))
            done.set()

        self.base.post(run)
        assert done.wait(PATIENCE_S)
        value, error = outcome
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        self.base.post(self.base.loopbreak)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.base.close()


class ServedHandler:
    """A DnsServer of ours with one handler, on one port number for UDP and TCP."""

    def __init__(
        self, handler: Callable[..., object], options: DnsServerOptions | None = None
    ) -> None:
        self.loop = LoopThread()
        self.server, self.port = self.loop.call(self._start, handler, options)

    def _start(self, handler: Any, options: Any) -> tuple[DnsServer, int]:
        server = DnsServer(self.loop.base, handler, options=options)
        tcp, _ = bind_udp_and_tcp(server)
        return server, tcp.port

    def call(self, fn: Callable[..., Result], *args: Any) -> Result:
        """Do something in the loop's thread."""
        return self.loop.call(fn, *args)

    def close(self) -> None:
        self.loop.call(self.server.close)
        self.loop.close()


class Daemon:
    """A program that serves; `says` is what it has written so far."""

    def __init__(self, command: list[str], **options: Any) -> None:
        self.says: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.says.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def has_said(self, text: str) -> bool:
        return any(text in line for line in self.says)

    def wait_until_said(self, text: str) -> bool:
        """Return whether it has said so before its end."""
        with self._news:
            self._news.wait_for(lambda: self.has_said(text) or self._ended, PATIENCE_S)
        return self.has_said(text)

    @property
    def output(self) -> str:
        return "".join(self.says)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reader.join(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def number_for_udp_and_tcp() -> int:
    """Return a number that is free for both now; who is given it must be ready to be refused."""
    tcp, udp = bind_both(lambda: _bound(1, 0), lambda tcp: _bound(2, tcp.getsockname()[1]))
    number: int = tcp.getsockname()[1]
    tcp.close()
    udp.close()
    return number


def _bound(kind: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    try:
        sock.bind(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock


def start_daemon(make_command: Callable[[int], list[str]], ready: str) -> tuple[Daemon, int]:
    """Start a program that takes a port as a number alone; again where it is taken meanwhile."""
    for _ in range(ATTEMPTS):
        port = number_for_udp_and_tcp()
        daemon = Daemon(make_command(port))
        if daemon.wait_until_said(ready):
            return daemon, port
        daemon.close()
        if not any(text in daemon.output.lower() for text in BUSY):
            pytest.fail(f"it did not start:\n{daemon.output}")
    pytest.fail(f"{ATTEMPTS} ports in a row were in use by others")


def ask(port: int, name: str, rdtype: str = "A", *, tcp: bool = False) -> dns.message.Message:
    """Ask a name server of this machine, until it answers."""
    query = dns.message.make_query(name, rdtype)
    if tcp:
        return dns.query.tcp(query, "127.0.0.1", PATIENCE_S, port)
    for _ in range(int(PATIENCE_S / SHORT_S)):
        try:
            return dns.query.udp(query, "127.0.0.1", SHORT_S, port)
        except (dns.exception.Timeout, OSError):
            continue
    pytest.fail(f"no answer to {name} {rdtype}")


def texts(reply: dns.message.Message) -> list[str]:
    """Return the data of a reply's answers."""
    return [str(rdata) for rrset in reply.answer for rdata in rrset]
