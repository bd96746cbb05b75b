"""A server with a WSGI application whose loop has a thread of its own, for clients that block."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar
from wsgiref.validate import validator

from evsvc.core import EVLOOP_NO_EXIT_ON_EMPTY, EventBase
from evsvc.http import HttpServer, ServerOptions
from evsvc.wsgi import WsgiHandler, WsgiOptions

PATIENCE_S = 60

Result = TypeVar("Result")


class Answer(NamedTuple):
    """A response: the fields by their names in lower case, the last of each."""

    status: int
    reason: str
    fields: dict[str, str]
    body: bytes


class Gateway:
    """An application on a server on port 0 of the loopback.

    is_validated: whether wsgiref looks at both sides of every call.  how: options of WsgiOptions
    and ServerOptions alike.

    faults: what callbacks have raised, and the test has not taken.
    """

    def __init__(
        self, application: Any, *, prefix: str = "/", is_validated: bool = True, **how: Any
    ) -> None:
        names = {field.name for field in fields(WsgiOptions)}
        options = WsgiOptions(**{name: how.pop(name) for name in names & set(how)})
        self.base = EventBase()
        self.faults: list[BaseException] = []
        self.base.exception_handler = self.faults.append
        self.server = HttpServer(self.base, ServerOptions(**how))
        shown = validator(application) if is_validated else application
        self.handler = WsgiHandler(self.base, shown, options)
        self.handler.mount(self.server, prefix)
        self.port = self.server.bind_socket("127.0.0.1", 0).port
        self._sockets: list[socket.socket] = []
        loop = self.base.loop
        self._thread = threading.Thread(target=loop, args=(EVLOOP_NO_EXIT_ON_EMPTY,))
        self._thread.start()

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
        """Stop gracefully, and have the loop end."""

        def stop() -> None:
            self.server.close()
            self.handler.shutdown(lambda handler: self.base.loopexit(), deadline_s=PATIENCE_S)

        self.base.post(stop)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self._thread.is_alive():
            self.stop()
        assert self.handler.join(PATIENCE_S)
        self.base.close()


def read_to_end(sock: socket.socket) -> bytes:
    """Return all that comes up to the end of the connection."""
    received = b""
    while piece := sock.recv(65536):
        received += piece
    return received
