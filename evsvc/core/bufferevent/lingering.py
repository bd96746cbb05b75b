"""How a descriptor is closed: what the kernel has taken of the output is not destroyed by it.

A TCP socket that is closed with bytes unread sends a reset instead of an end, and one that is
closed already answers what still arrives with a reset.  A reset throws away what the kernel has not
yet brought to the peer: the last words of whoever closes.  A Unix socket delivers at once, but
unread bytes make an error of the end that the peer sees.  So, without ever waiting in a call:

    * what has arrived unread is read and thrown away, CLOSE_DRAIN_BYTES at most;
    * where the kernel still has TCP output that the peer's kernel has not confirmed, the socket is
      shut down for writing and stays open behind the program's back: what arrives is thrown away,
      until all is confirmed, or the peer has ended, or for CLOSE_LINGER_S.  The loop goes on for
      it.

What is confirmed is in the peer's kernel, and survives there what becomes of the connection.  To
know that the peer itself has read it, takes an answer, or its end: see `finish`.  Nothing of this
is done when the end of the input has been seen, or reading has failed: then nothing can arrive.
Nor for a socket that another process may have, too, because there was a fork since we got it: what
is unread, and the end, are that one's.  Nor does a socket linger that was set to be reset
(SO_LINGER).
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ..flags import PERSIST, READ
from ..reactor.event import Event

if TYPE_CHECKING:
    from ..descriptors import DescriptorStream
    from ..reactor.base import EventBase

if sys.platform != "win32":
    import fcntl
    import termios

CLOSE_DRAIN_BYTES = 1 << 20
"""The most that has arrived unread and is read when a socket is closed."""

CLOSE_LINGER_S = 5.0
"""How long a closed socket may wait until the peer's kernel has confirmed what was sent."""

CLOSE_CHECK_S = 0.1
"""How often is looked whether it has."""

_READ_BYTES = 1 << 16
_TCP = (socket.AF_INET, socket.AF_INET6)


class _Forks:
    """How many forks there were in this process, and in those that it comes from."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        self.count += 1


_forks = _Forks()
if sys.platform != "win32":
    os.register_at_fork(after_in_parent=_forks.note, after_in_child=_forks.note)


def fork_count() -> int:
    """Return a number that each fork changes, for parent and child."""
    return _forks.count


def close_stream(base: EventBase, stream: socket.socket | DescriptorStream) -> None:
    """Close a descriptor whose input has not ended, so that what was sent arrives."""
    if stream.fileno() < 0:
        return  # the program has closed it already
    if isinstance(stream, socket.socket) and sys.platform != "win32":
        try:
            unconfirmed = _count(stream, termios.TIOCOUTQ)
            is_over = _count(stream, termios.FIONREAD) > 0 and _drain(stream)
            if unconfirmed and not is_over and _may_linger(base, stream):
                stream.shutdown(socket.SHUT_WR)
                Lingering(base, stream)
                return
        except OSError:  # it is gone already, or not connected, or no stream at all
            pass
    with suppress(OSError):
        stream.close()


def _count(sock: socket.socket, request: int) -> int:
    """Ask the kernel for a number of bytes."""
    return int.from_bytes(fcntl.ioctl(sock.fileno(), request, bytes(4)), sys.byteorder)


def _drain(sock: socket.socket) -> bool:
    """Throw away what has arrived; return True at the end of all that can."""
    left = CLOSE_DRAIN_BYTES
    while left > 0:
        try:
            data = sock.recv(min(left, _READ_BYTES), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not data:
            return True
        left -= len(data)
    return False


def _may_linger(base: EventBase, sock: socket.socket) -> bool:
    if base.reactor.closed or sock.family not in _TCP:
        return False
    resets, _ = struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))
    return not resets


class Lingering(Event):
    """A socket that the program has closed, until what was sent is confirmed.

    Or until the event base is closed, as no loop sees to it then.
    """

    __slots__ = ("_sock", "_until")

    def __init__(self, base: EventBase, sock: socket.socket) -> None:
        super().__init__(base, sock, READ | PERSIST, self._on_event)
        self._sock = sock
        self._until = base.reactor.monotonic() + CLOSE_LINGER_S
        self.add(CLOSE_CHECK_S)

    def close(self) -> None:
        """Close the socket."""
        super().close()
        self._sock.close()

    def let_go(self) -> None:
        """Be closed with the base."""
        super().let_go()
        self.close()

    def _on_event(self, fd: int, what: int, arg: object) -> None:
        try:
            is_over = bool(what & READ) and _drain(self._sock)
            goes_on = not is_over and _count(self._sock, termios.TIOCOUTQ) > 0
        except OSError:
            goes_on = False
        if not goes_on or self.base.reactor.monotonic() >= self._until:
            self.close()
