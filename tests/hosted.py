"""A hosted application whose loop has a thread of its own, for clients that block."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from evsvc.core import EventBase
from evsvc.http import HttpServer

PATIENCE_S = 60

Result = TypeVar("Result")


class Answer(NamedTuple):
    """A response: the fields by their names in lower case, the last of each."""

    status: int
    reason: str
    fields: dict[str, str]
    body: bytes


class Hosted:
    """A server on port 0 of the loopback; `run` runs its loop, and `ask_to_stop` ends that.

    faults: what callbacks have raised, and the test has not taken.
    """

    def __init__(self, base: EventBase, server: HttpServer, run: Callable[[], object]) -> None:
        self.base = base
        self.server = server
        self.faults: list[BaseException] = []
        base.exception_handler = self.faults.append
        self.port = server.bind_socket("127.0.0.1", 0).port
        self._sockets: list[socket.socket] = []
        self.thread = threading.Thread(target=run)
        self.thread.start()

    def ask_to_stop(self) -> None:
        """Have the loop end; called in it."""
        raise NotImplementedError

    def in_loop(self, fn: Callable[..., Result], *args: Any) -> Result:
        """Call `fn` in the loop, and return what it returns."""
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.base.post(lambda: results.put(fn(*args)))
        return results.get(timeout=PATIENCE_S)

    def ask(
        self,
        path: str = "/",
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Make one request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            chunked = isinstance(body, Iterable) and not isinstance(body, (bytes, str))
            connection.request(method, path, body, headers or {}, encode_chunked=chunked)
            response = connection.getresponse()
            shown = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.reason, shown, response.read())
        finally:
            connection.close()

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """A client's socket.  receive_bytes: how little the kernel may hold for it."""
        sock = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", self.port))
        self._sockets.append(sock)
        return sock

    def exchange(self, data: bytes) -> bytes:
        """Send bytes over a connection of their own, and return all that comes back."""
        sock = self.connect()
        sock.sendall(data)
        return read_to_end(sock)

    def take_faults(self, count: int = 1) -> list[BaseException]:
        """Return what the callbacks have raised, when it is so many, and forget it."""
        assert len(self.in_loop(lambda: self.faults)) == count, self.faults
        taken = self.faults[:]
        self.faults.clear()
        return taken

    def stop(self) -> None:
        """Stop, and wait for the end of the loop."""
        self.base.post(self.ask_to_stop)
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self.thread.is_alive():
            self.stop()
        self.base.close()


HostedKind = TypeVar("HostedKind", bound=Hosted)


def served(kind: Callable[..., HostedKind]) -> Iterator[Callable[..., HostedKind]]:
    """Yield `serve(application, **how)`, which makes a `kind`; close all, and show their faults.

    What failed unseen fails the test.
    """
    made: list[HostedKind] = []

    def start(application: Any, **how: Any) -> HostedKind:
        made.append(kind(application, **how))
        return made[-1]

    yield start
    for each in made:
        each.close()
    assert [each.faults for each in made] == [[] for _ in made]


def send_until_full(hosted: Hosted, sock: socket.socket, data: bytes) -> int:
    """Send `data` again and again until nobody takes more of it; return how much was taken."""
    sock.setblocking(False)
    sent = idle = 0
    while idle < 50:  # through many passes of the loop, which might read
        try:
            sent += sock.send(data)
            idle = 0
        except BlockingIOError:
            idle += 1
            hosted.in_loop(lambda: None)
    sock.settimeout(PATIENCE_S)
    return sent


def read_to_end(sock: socket.socket) -> bytes:
    """Return all that comes up to the end of the connection."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received
