"""The other end of a connection: a plain socket that a test drives step by step.

Base and socket share one thread, so every wait runs the base's loop, without letting time pass.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from evsvc.core import EVLOOP_NONBLOCK, EventBase
from tests.ports import held_port

MOST_PASSES = 20_000

# More than any chain of reactions takes that does not wait for time to pass.
QUIET_PASSES = 12


class Message(NamedTuple):
    """A request or response as it came: first line, fields in order, decoded body."""

    line: str
    fields: list[tuple[str, str]]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.line.split()[1])

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def field(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


class Peer:
    """One end of a connection.  `received` is what came and has not been taken yet."""

    def __init__(self, base: EventBase, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.base = base
        self.sock = sock
        self.received = bytearray()
        self.at_eof = False
        self.was_reset = False

    def turn(self) -> None:
        """Run one pass of the loop."""
        self.base.loop(EVLOOP_NONBLOCK)

    def settle(self) -> None:
        """Run the loop until all that can be done without time passing is done."""
        for _ in range(QUIET_PASSES):
            self.turn()

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(MOST_PASSES):
            if condition():
                return
            self.turn()
        raise AssertionError(f"it never came true; received: {bytes(self.received[:400])!r}")

    def send(self, data: bytes) -> None:
        """Send all of it, and have it read as far as the base does."""
        view = memoryview(data)

        def sent() -> bool:
            nonlocal view
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                return False
            return not view

        self.until(sent)
        self.settle()

    def send_bytewise(self, data: bytes) -> None:
        """Send each byte by itself, and let the base read it."""
        for index in range(len(data)):
            self.sock.send(data[index : index + 1])
            self.turn()
        self.settle()

    def take(self) -> None:
        """Receive what has come by now."""
        while not (self.at_eof or self.was_reset):
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                self.was_reset = True
                return
            if not data:
                self.at_eof = True
            self.received += data

    def is_open(self) -> bool:
        self.settle()
        self.take()
        return not (self.at_eof or self.was_reset)

    def receive_until(self, condition: Callable[[], object]) -> None:
        def true_now() -> object:
            self.take()
            if not condition() and not self.ended:
                select.select([self.sock], [], [], 0.001)
            return condition() or self.ended

        self.until(true_now)

    @property
    def ended(self) -> bool:
        return self.at_eof or self.was_reset

    def read_to_end(self) -> bytes:
        """Everything up to the end of the connection."""
        self.receive_until(lambda: self.ended)
        assert self.ended
        data = bytes(self.received)
        self.received.clear()
        return data

    def read_bytes(self, size: int) -> bytes:
        self.receive_until(lambda: len(self.received) >= size)
        data = bytes(self.received[:size])
        assert len(data) == size, f"the connection ended within {data!r}"
        del self.received[:size]
        return data

    def read_head(self) -> tuple[str, list[tuple[str, str]]]:
        self.receive_until(lambda: b"\r\n\r\n" in self.received)
        assert b"\r\n\r\n" in self.received, f"the connection ended within {self.received!r}"
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        self.received[:] = rest
        line, *lines = head.decode("latin-1").split("\r\n")
        fields = []
        for each in lines:
            name, _, value = each.partition(": ")
            fields.append((name, value))
        return line, fields

    def read_chunked(self) -> bytes:
        body = b""
        while True:
            self.receive_until(lambda: b"\r\n" in self.received)
            size_line, _, rest = bytes(self.received).partition(b"\r\n")
            self.received[:] = rest
            size = int(size_line, 16)
            piece = self.read_bytes(size + 2)
            assert piece.endswith(b"\r\n")
            if not size:
                return body
            body += piece[:-2]

    def read_message(self, *, has_body: bool = True, to_end: bool = False) -> Message:
        line, fields = self.read_head()
        lower = {name.lower(): value for name, value in fields}
        if not has_body:
            body = b""
        elif lower.get("transfer-encoding") == "chunked":
            body = self.read_chunked()
        elif "content-length" in lower:
            body = self.read_bytes(int(lower["content-length"]))
        else:
            body = self.read_to_end() if to_end else b""
        return Message(line, fields, body)

    def ask(self, data: bytes, *, has_body: bool = True) -> Message:
        """Send a request and read its response."""
        self.send(data)
        return self.read_message(has_body=has_body)

    def get(self, target: str = "/", *lines: str, version: str = "1.1") -> Message:
        return self.ask(request(target, *lines, version=version))

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        self.settle()

    def reset(self) -> None:
        """Leave so that the other side notices at once."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
        self.settle()

    def close(self) -> None:
        self.sock.close()


class Origin:
    """A server for the client's tests: listens, and gives out each connection as a `Peer`.

    Its port stays its own when it has stopped.
    """

    def __init__(self, base: EventBase, host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.base = base
        self.host = host
        self._held = ExitStack()
        self.port = self._held.enter_context(held_port(host))
        self.sock = socket.create_server((host, self.port), family=family, backlog=16)
        self.sock.setblocking(False)
        self.peers: list[Peer] = []

    def poll(self) -> Peer | None:
        """The next connection if there is one now."""
        try:
            sock, _ = self.sock.accept()
        except BlockingIOError:
            return None
        self.peers.append(Peer(self.base, sock))
        return self.peers[-1]

    def accept(self) -> Peer:
        for _ in range(MOST_PASSES):
            self.base.loop(EVLOOP_NONBLOCK)
            peer = self.poll()
            if peer is not None:
                return peer
        raise AssertionError("nobody connects")

    def stop(self) -> None:
        """Refuse further connections."""
        self.sock.close()

    def close(self) -> None:
        self.sock.close()
        self._held.close()
        for peer in self.peers:
            peer.close()


def request(
    target: str = "/",
    *lines: str,
    method: str = "GET",
    version: str = "1.1",
    body: bytes = b"",
) -> bytes:
    """A request with a Host, and a Content-Length where there is a body."""
    head = [f"{method} {target} HTTP/{version}", "Host: h", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "".join(f"{line}\r\n" for line in [*head, ""]).encode("latin-1") + body


def response(*lines: str, status: str = "200 OK", version: str = "1.1", body: bytes = b"") -> bytes:
    """A response with a Content-Length."""
    head = [f"HTTP/{version} {status}", f"Content-Length: {len(body)}", *lines, ""]
    return "".join(f"{line}\r\n" for line in head).encode("latin-1") + body
