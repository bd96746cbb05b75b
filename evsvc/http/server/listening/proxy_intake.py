"""Reads the header of the PROXY protocol off a socket, and not a byte of what is behind it.

So whatever comes then, TLS or what the program makes, finds the socket as if nothing had been.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from ....core import EV_PERSIST, EV_READ, Event
from ....core.bufferevent.timeouts import Deadline
from ...errors import RemoteProtocolError
from ...wire.proxy_protocol import MAX_V2_BYTES, ProxyHeader, ProxyHeaderReader

if TYPE_CHECKING:
    from ....core import EventBase

_LOOK_BYTES = 16 + MAX_V2_BYTES


class ProxyIntake:
    """A connection whose header is awaited.

    done: called once with the socket, which is the callee's then, the header or None, and why there
    is none; never after `close`, which closes the socket.
    """

    __slots__ = ("_deadline", "_done", "_event", "_reader", "_sock")

    def __init__(
        self,
        base: EventBase,
        sock: socket.socket,
        seconds: float,
        done: Callable[[ProxyIntake, socket.socket, ProxyHeader | None, str], object],
    ) -> None:
        self._sock = sock
        self._reader = ProxyHeaderReader()
        self._done = done
        self._event = Event(base, sock, EV_READ | EV_PERSIST, self._on_readable)
        self._event.add()
        self._deadline = Deadline(base, self._on_deadline)
        self._deadline.start(seconds)

    def close(self) -> None:
        """Wait no longer.  Safe to repeat."""
        self._let_go()
        self._sock.close()

    def _let_go(self) -> None:
        self._event.close()
        self._deadline.close()

    def _end(self, header: ProxyHeader | None, why: str = "") -> None:
        self._let_go()
        self._done(self, self._sock, header, why)

    def _on_deadline(self) -> None:
        self._end(None, "it did not come in time")

    def _on_readable(self, fd: int, what: int, arg: object) -> None:
        try:
            data = self._sock.recv(_LOOK_BYTES, socket.MSG_PEEK)
            size = self._reader.receive(data)
            if size:
                self._sock.recv(size)
        except BlockingIOError:
            return
        except (OSError, RemoteProtocolError) as exc:
            self._end(None, str(exc))
            return
        if not data:
            self._end(None, "the peer has ended")
        elif self._reader.header is not None:
            self._end(self._reader.header)
