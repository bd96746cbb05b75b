"""Streams: what a bufferevent and a buffer need of a socket, and a pipe that can do the same."""

from __future__ import annotations

import os
import socket
from typing import Protocol

from ..errors import ArgumentError, ArgumentTypeError, SocketError


class Stream(Protocol):
    """What a buffer can be written to: the sending calls of a socket, and its descriptor."""

    def fileno(self) -> int:
        """Return the descriptor, for sendfile()."""

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what the kernel takes and return how much that was."""

    def sendmsg(self, buffers: list[memoryview], /) -> int:
        """Send from several places with one call."""


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


def stream_of(fd: int | socket.socket) -> socket.socket | DescriptorStream:
    """Return a non-blocking stream for a socket or a descriptor number.

    Raises SocketError when it is not open, ArgumentTypeError for anything else.
    """
    try:
        return _opened(fd)
    except OSError as exc:
        raise SocketError(exc.errno, f"cannot use {fd!r}: {exc.strerror}") from exc


def _opened(fd: int | socket.socket) -> socket.socket | DescriptorStream:
    if isinstance(fd, socket.socket):
        fd.setblocking(False)
        return fd
    if not isinstance(fd, int):
        raise ArgumentTypeError(f"a socket or a descriptor is wanted, not {type(fd).__name__}")
    if fd < 0:
        raise ArgumentError(f"not a descriptor: {fd!r}")
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        return DescriptorStream(fd)
    sock.setblocking(False)
    return sock
