"""Descriptors: the number of anything that has one, and streams, what core needs of a socket.

A pipe or a terminal that is no socket can do the same here.
"""

from __future__ import annotations

import os
import socket
from typing import Protocol

from .errors import ArgumentError, ArgumentTypeError, SocketError

_MAX_DESCRIPTOR = 2**31 - 1  # a C int


class HasFileno(Protocol):
    """Anything with a descriptor, such as a socket."""

    def fileno(self) -> int:
        """Return the descriptor, or -1 when it is closed."""


class Stream(Protocol):
    """What a buffer can be written to: the sending calls of a socket, and its descriptor."""

    def fileno(self) -> int:
        """Return the descriptor, for sendfile()."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what the kernel takes and return how much that was."""

    def sendmsg(self, buffers: list[memoryview], /) -> int:
        """Send from several places with one call."""


def fd_of(fd: int | HasFileno) -> int:
    """Return the descriptor number of an int or of an object with `fileno()`.

    Raises ArgumentError when the object is closed, ArgumentTypeError for anything else.
    """
    if isinstance(fd, bool) or not (isinstance(fd, int) or callable(getattr(fd, "fileno", None))):
        raise ArgumentTypeError(f"a descriptor is wanted, not {fd!r} ({type(fd).__name__})")
    if isinstance(fd, int):
        return int(fd)
    try:
        number = fd.fileno()
    except (OSError, ValueError) as exc:  # a file that is closed, or has no descriptor
        raise ArgumentError(f"the object has no descriptor: {fd!r}: {exc}") from exc
    if not isinstance(number, int):
        raise ArgumentTypeError(f"`fileno()` of {fd!r} gives no number: {number!r}")
    if number < 0:
        raise ArgumentError(f"the object is closed: {fd!r}")
    return number


class LentSocket(socket.socket):
    """A second object over the number of a program's socket: left alone, it does not close it."""

    __slots__ = ()

    def __del__(self) -> None:
        self.detach()


class DescriptorStream:
    """A descriptor that is no socket (a pipe, a terminal), with the calls of one that is."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    def fileno(self) -> int:
        """Return the descriptor, or -1 once closed."""
        return self._fd

    def recv(self, size: int, /) -> bytes:
        """Read once; b"" is the end of file."""
        return os.read(self._fd, size)

    def send(self, data: bytes | memoryview, /) -> int:
        """Write once."""
        return os.write(self._fd, data)

    def sendmsg(self, buffers: list[memoryview], /) -> int:
        """Write once from several places."""
        return os.writev(self._fd, buffers)

    def detach(self) -> int:
        """Let go of the descriptor, still open, and return it."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Close the descriptor.  Safe to repeat."""
        if self._fd >= 0:
            os.close(self.detach())


def stream_of(fd: int | socket.socket, *, lent: bool = False) -> socket.socket | DescriptorStream:
    """Return a non-blocking stream for a socket or a descriptor number.

    lent: a number stays open when the stream is forgotten, rather than closed.  Raises SocketError
    when it is not open, ArgumentError for a number that is no descriptor's, ArgumentTypeError for
    anything else.
    """
    try:
        return _opened(fd, LentSocket if lent else socket.socket)
    except OSError as exc:
        raise SocketError(exc.errno, f"cannot use {fd!r}: {exc.strerror}") from exc


def _opened(fd: int | socket.socket, kind: type[socket.socket]) -> socket.socket | DescriptorStream:
    if isinstance(fd, socket.socket):
        fd.setblocking(False)
        return fd
    if not isinstance(fd, int):
        raise ArgumentTypeError(f"a socket or a descriptor is wanted, not {type(fd).__name__}")
    if not 0 <= fd <= _MAX_DESCRIPTOR:
        raise ArgumentError(f"not a descriptor: {fd!r}")
    try:
        sock = kind(fileno=fd)
    except OSError:
        return DescriptorStream(fd)
    sock.setblocking(False)
    return sock
