"""Sockets and addresses: the small functions of evutil that the rest of core needs."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Protocol

from .errors import ArgumentError, ArgumentTypeError, SocketError
from .resolver import SocketAddress


class Stream(Protocol):
    """What a buffer can be written to: the two sending calls of a socket."""

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


def family_of(address: SocketAddress) -> socket.AddressFamily:
    """Return the family of a socket address: a path, or a tuple with a numeric host.

    Raises ArgumentError for a host that is a name, as only a resolver looks names up, and for a
    port outside 0..65535.
    """
    if isinstance(address, (str, bytes)):
        return socket.AF_UNIX
    if not isinstance(address, tuple) or len(address) < 2:
        raise ArgumentError(f"an address is a path or (host, port): {address!r}")
    version = ip_version(address[0])
    if version is None:
        raise ArgumentError(f"not a numeric address: {address[0]!r}")
    check_port(address[1])
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def ip_version(host: str) -> int | None:
    """Return 4 or 6 for a numeric IP address (with or without a zone), else None."""
    if not isinstance(host, str):  # ipaddress takes integers for addresses, too
        return None
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def check_port(port: int, lowest: int = 0) -> int:
    """Return `port`.  Raises ArgumentError unless it is an int in `lowest`..65535."""
    if not isinstance(port, int) or not lowest <= port <= 0xFFFF:
        raise ArgumentError(f"a port is {lowest}..65535: {port!r}")
    return port


def set_tcp_keepalive(sock: socket.socket, idle_s: int) -> None:
    """Probe a silent TCP peer after `idle_s` seconds, three times (evutil_set_tcp_keepalive)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", idle_s),
        ("TCP_KEEPINTVL", max(idle_s // 3, 1)),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
