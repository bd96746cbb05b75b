"""What carries the bytes of a connection that was accepted: made by the program, TLS, or plain."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ....core import (
    BEV_OPT_CLOSE_ON_FREE,
    BUFFEREVENT_SSL_ACCEPTING,
    AbstractBufferEvent,
    ArgumentTypeError,
    BufferEvent,
    TlsBufferEvent,
)
from ....core.checks import require_callable
from .tls import TlsContexts, server_side

if TYPE_CHECKING:
    from ....core import EventBase

BevCallback = Callable[["EventBase", socket.socket, Any], "AbstractBufferEvent | None"]
"""Called as `cb(base, sock, arg)`: the bufferevent for a connection, or None for the usual one."""

Tls = ssl.SSLContext | TlsContexts
"""What a program says of TLS: one context, or several by name."""


class CarrierMaker:
    """How a listening socket, or a whole server, wants its connections carried.

    A callback of the program's comes first, then TLS.
    """

    __slots__ = ("_bevcb", "_context", "_is_plain")

    def __init__(self, tls: Tls | bool | None = None) -> None:
        """Take TLS from the start: None says nothing of it, False wants none.

        Raises as `set_tls`.
        """
        self._bevcb: tuple[BevCallback, Any] | None = None
        self.set_tls(tls)

    def set_tls(self, tls: Tls | bool | None) -> None:
        """Speak TLS, or not.  Raises ArgumentError for a context for clients, ArgumentTypeError
        for what is none."""
        if tls is True:
            raise ArgumentTypeError("TLS wants a context with a certificate, not True")
        self._is_plain = tls is False
        self._context = None if tls is None or tls is False else server_side(tls)

    def set_bevcb(self, cb: BevCallback | None, arg: object) -> None:
        """Ask the program.  Raises ArgumentTypeError for what cannot be called."""
        if cb is not None:
            require_callable(cb)
        self._bevcb = None if cb is None else (cb, arg)

    def make(
        self, base: EventBase, sock: socket.socket, handshake_s: float
    ) -> AbstractBufferEvent | None:
        """Return what is to own and carry `sock`; None leaves it to the next.

        Raises what the program's callback raises, and ArgumentTypeError for what it returns and
        is no bufferevent.
        """
        if self._bevcb is not None:
            cb, arg = self._bevcb
            made = cb(base, sock, arg)
            if made is not None:
                return _over(made, sock)
        if self._context is not None:
            made = TlsBufferEvent.socket_new(
                base,
                sock,
                self._context,
                BUFFEREVENT_SSL_ACCEPTING,
                BEV_OPT_CLOSE_ON_FREE,
                handshake_timeout_s=handshake_s,
            )
            made.allow_dirty_shutdown = True  # HTTP says itself where its messages end
            return made
        return plain(base, sock) if self._is_plain else None


def plain(base: EventBase, sock: socket.socket) -> BufferEvent:
    """Return what carries plain bytes over `sock`, which it owns."""
    return BufferEvent(base, sock, BEV_OPT_CLOSE_ON_FREE)


def _over(made: object, sock: socket.socket) -> AbstractBufferEvent:
    """Have the program's bufferevent use the socket, where it has none yet, as in libevent."""
    if not isinstance(made, AbstractBufferEvent):
        raise ArgumentTypeError(f"a bufferevent or None is wanted, not {made!r}")
    if isinstance(made, (BufferEvent, TlsBufferEvent)) and made.fd == -1:
        made.setfd(sock)
    return made
