"""The sockets that a base watches, and what went over each, as the kernel counts it.

So nothing has to be counted on the way of the bytes, and every protocol is there.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..core.util import format_sockaddr_port

# struct tcp_info of Linux: tcpi_bytes_acked and tcpi_bytes_received, which 4.1 and later have.
_TCP_INFO_BYTES = 256
_COUNTERS = struct.Struct("=QQ")
_COUNTERS_AT = 120


class SocketFigures(NamedTuple):
    """One socket.

    kind: "listening", "tcp", "udp", "unix" or "other".  local, peer: as text; "" for none.
    sent_bytes, received_bytes: since it was connected, the former as far as the peer has
    acknowledged them; None where the kernel does not say.
    """

    fd: int
    kind: str
    local: str
    peer: str
    sent_bytes: int | None
    received_bytes: int | None


def look_at(fds: Iterable[int]) -> list[SocketFigures]:
    """Return what is known of those descriptors that are sockets."""
    found = []
    for fd in fds:
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # no socket, or closed just now
        with sock:
            found.append(_figures(fd, sock))
    return found


def _figures(fd: int, sock: socket.socket) -> SocketFigures:
    peer = _address(sock, sock.getpeername)
    sent = received = None
    if sock.family == socket.AF_UNIX:
        kind = "unix"
    elif sock.family not in (socket.AF_INET, socket.AF_INET6):
        kind = "other"
    elif sock.type == socket.SOCK_DGRAM:
        kind = "udp"
    else:
        kind = "tcp"
        sent, received = _counters(sock)
    if sock.type == socket.SOCK_STREAM and _is_listening(sock):
        kind, sent, received = "listening", None, None
    return SocketFigures(fd, kind, _address(sock, sock.getsockname), peer, sent, received)


def _is_listening(sock: socket.socket) -> bool:
    try:
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _counters(sock: socket.socket) -> tuple[int | None, int | None]:
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return None, None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, option, _TCP_INFO_BYTES)
    except OSError:
        return None, None
    if len(info) < _COUNTERS_AT + _COUNTERS.size:
        return None, None
    sent, received = _COUNTERS.unpack_from(info, _COUNTERS_AT)
    return sent, received


def _address(sock: socket.socket, get: Callable[[], Any]) -> str:
    try:
        address = get()
    except OSError:
        return ""
    if not address:
        return ""  # a Unix socket without a path
    if sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return format_sockaddr_port(address)
    return str(address)
