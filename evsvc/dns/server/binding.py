"""Sockets for a server's ports, so bound that 0.0.0.0 and :: stand side by side.

A socket of :: takes IPv4 packets, too, where it can, so it collides with one of 0.0.0.0 on the
same port.  Bound second, it leaves IPv4 to the other.  Bound first, it lets the other in: Linux
compares the reuse flags of both sockets while one is bound, and gives IPv4 packets to the closer
match; the flags are taken back at once, so that no stranger can join.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack

from ...core import SocketError
from ...core.resolver import SocketAddress

_EVERY_IPV4, _EVERY_IPV6 = "0.0.0.0", "::"


def bind_socket(
    kind: socket.SocketKind, address: SocketAddress, ours: Iterable[socket.socket]
) -> socket.socket:
    """Return a socket of a kind, bound to an address; `ours` are the server's others of the kind.

    Raises SocketError when the address is busy or not ours.
    """
    try:
        return _bind(kind, address)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE or address[1] == 0:
            raise _told(kind, address, exc) from exc
        busy = exc
    try:
        if address[0] == _EVERY_IPV6:
            return _bind(kind, address, only_ipv6=True)
        twin = _twin(address, ours)
        if twin is not None:
            return _bind_beside(kind, address, twin)
    except OSError as exc:
        raise _told(kind, address, exc) from exc
    raise _told(kind, address, busy) from busy


def _bind(
    kind: socket.SocketKind,
    address: SocketAddress,
    *,
    only_ipv6: bool = False,
    flags: Iterable[int] = (),
) -> socket.socket:
    family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    with ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, kind))
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address[0] == _EVERY_IPV6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        for flag in flags:
            sock.setsockopt(socket.SOL_SOCKET, flag, 1)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen()
        undo.pop_all()
    return sock


def _twin(address: SocketAddress, ours: Iterable[socket.socket]) -> socket.socket | None:
    """Return our socket that takes IPv4 beside its IPv6, where 0.0.0.0 is to be bound."""
    if address[0] != _EVERY_IPV4:
        return None
    for sock in ours:
        if sock.family == socket.AF_INET6 and sock.getsockname()[:2] == (_EVERY_IPV6, address[1]):
            return sock
    return None


def _bind_beside(
    kind: socket.SocketKind, address: SocketAddress, twin: socket.socket
) -> socket.socket:
    flag = socket.SO_REUSEADDR if kind == socket.SOCK_DGRAM else socket.SO_REUSEPORT
    twin.setsockopt(socket.SOL_SOCKET, flag, 1)
    try:
        sock = _bind(kind, address, flags=(flag,))
        sock.setsockopt(socket.SOL_SOCKET, flag, 0)
    finally:
        twin.setsockopt(socket.SOL_SOCKET, flag, 0)
    return sock


def _told(kind: socket.SocketKind, address: SocketAddress, exc: OSError) -> SocketError:
    title = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
    return SocketError(exc.errno, f"cannot bind {title} {address}: {exc.strerror}")
