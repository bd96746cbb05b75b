"""Clients that speak TLS, step by step, over a socket that the base serves in the same thread."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from evsvc.core import EVLOOP_NONBLOCK, EventBase
from tests.core.tls_ends import HOST
from tests.http.peers import MOST_PASSES, Peer

T = TypeVar("T")


class TlsSocket:
    """A client's end as a socket is: no call blocks, and an end is an end."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        server_hostname: str | None = HOST,
    ) -> None:
        sock.setblocking(False)
        # A second small record must not wait for the kernel to acknowledge the first.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ssl = context.wrap_socket(
            sock, do_handshake_on_connect=False, server_hostname=server_hostname
        )

    def shake_hands(self, base: EventBase) -> None:
        """Finish the handshake.  Raises what it ends with."""
        for _ in range(MOST_PASSES):
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                base.loop(EVLOOP_NONBLOCK)
                select.select([self.ssl], [], [], 0.001)
            else:
                return
        raise AssertionError("the handshake does not end")

    def send(self, data: bytes) -> int:
        return self._try(lambda: self.ssl.send(data))

    def recv(self, size: int) -> bytes:
        try:
            return self._try(lambda: self.ssl.recv(size))
        except ssl.SSLZeroReturnError:
            return b""  # of a server that ends, too, behind our own end

    def _try(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def say_goodbye(self, base: EventBase) -> None:
        """Exchange the close_notify of both sides, and have the server's end."""
        for _ in range(MOST_PASSES):
            try:
                self.ssl.unwrap()
            except ssl.SSLWantReadError:
                base.loop(EVLOOP_NONBLOCK)
            else:
                return
        raise AssertionError("the server does not say goodbye")

    def fileno(self) -> int:
        return self.ssl.fileno()

    def setblocking(self, blocking: bool) -> None:
        self.ssl.setblocking(blocking)

    def shutdown(self, how: int) -> None:
        """End our side alone, as TLS does: by a close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.ssl.unwrap()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        self.ssl.setsockopt(level, option, value)

    def close(self) -> None:
        self.ssl.close()


def tls_peer(
    base: EventBase,
    port: int,
    context: ssl.SSLContext,
    server_hostname: str | None = HOST,
) -> Peer:
    """A client that has shaken hands; `peer.sock.ssl` tells what was agreed on."""
    sock = TlsSocket(socket.create_connection(("127.0.0.1", port)), context, server_hostname)
    try:
        sock.shake_hands(base)
    except BaseException:
        sock.close()
        raise
    return Peer(base, sock)  # type: ignore[arg-type]
