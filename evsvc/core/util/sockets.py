"""Sockets: their options, a connected pair, and their errors.

Every function raises SocketError, with the system's errno, where the system refuses, and
ArgumentTypeError for what is no socket, or no number where one is wanted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..checks import whole_number
from ..errors import ArgumentError, ArgumentTypeError, SocketError

if TYPE_CHECKING:
    from ..descriptors import HasFileno

KEEPALIVE_PROBES = 3

# FreeBSD's SO_REUSEPORT does not share connections out; SO_REUSEPORT_LB, which Python does not
# name, does.
_REUSEPORT_LB = 0x00010000
# Missing where the kind of a socket carries no flags.
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)
_CLOEXEC = getattr(socket, "SOCK_CLOEXEC", 0)

_MAX_INT = 2**31 - 1  # setsockopt(2) takes an int
_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise SocketError(exc.errno, f"cannot {what}: {exc.strerror or exc}") from exc
    except OverflowError as exc:
        raise ArgumentError(f"cannot {what}: {exc}") from exc


def _descriptor(sock: int | HasFileno) -> int:
    """Return the number, which is -1 for a closed object: the system refuses it then."""
    if isinstance(sock, int):
        return sock
    if not hasattr(sock, "fileno"):
        raise ArgumentTypeError(f"a socket or a descriptor is wanted, not {type(sock).__name__}")
    try:
        return sock.fileno()
    except ValueError as exc:  # a file object that is closed, or is over no descriptor
        raise ArgumentError(f"no descriptor: {sock!r}: {exc}") from exc


def _require_socket(sock: object) -> None:
    if not isinstance(sock, socket.socket):
        raise ArgumentTypeError(f"a socket is wanted, not {type(sock).__name__}")


def make_socket_nonblocking(sock: int | HasFileno) -> None:
    """Set O_NONBLOCK and leave the other flags alone (evutil_make_socket_nonblocking).

    A `socket.socket` learns of it, so that its methods no longer wait either.
    """
    with _refusals("make the socket non-blocking"):
        if isinstance(sock, socket.socket):
            sock.setblocking(False)
        else:
            os.set_blocking(_descriptor(sock), False)


def make_socket_closeonexec(sock: int | HasFileno) -> None:
    """Have the descriptor closed in programs that are started (evutil_make_socket_closeonexec).

    What Python opens is so from the start (PEP 446).
    """
    with _refusals("make the socket close-on-exec"):
        os.set_inheritable(_descriptor(sock), False)


def make_listen_socket_reuseable(sock: socket.socket) -> None:
    """Let the address be bound while old connections linger there: SO_REUSEADDR.

    Nothing on Windows, where it would let two programs share a port.
    Source: evutil_make_listen_socket_reuseable.
    """
    _require_socket(sock)
    if os.name != "posix":
        return
    with _refusals("make the address reuseable"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def make_listen_socket_reuseable_port(sock: socket.socket) -> None:
    """Let several sockets listen on one port, and the kernel share the connections out.

    Raises SocketError (EOPNOTSUPP) where the system cannot share them out: a plain SO_REUSEPORT,
    as BSD has it, will not do.  Source: evutil_make_listen_socket_reuseable_port.
    """
    _require_socket(sock)
    if sys.platform.startswith("linux"):
        option = socket.SO_REUSEPORT
    elif sys.platform.startswith("freebsd"):
        option = _REUSEPORT_LB
    else:
        raise SocketError(errno.EOPNOTSUPP, f"{sys.platform} cannot balance the load of one port")
    with _refusals("make the port reuseable"):
        sock.setsockopt(socket.SOL_SOCKET, option, 1)


def make_listen_socket_ipv6only(sock: socket.socket) -> None:
    """Keep IPv4 off an IPv6 socket (evutil_make_listen_socket_ipv6only)."""
    _require_socket(sock)
    with _refusals("keep IPv4 off the socket"):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def make_listen_socket_not_ipv6only(sock: socket.socket) -> None:
    """Have an IPv6 socket take IPv4, too (evutil_make_listen_socket_not_ipv6only)."""
    _require_socket(sock)
    with _refusals("have the socket take IPv4"):
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def make_tcp_listen_socket_deferred(sock: socket.socket) -> None:
    """Accept a connection only when it has sent something: TCP_DEFER_ACCEPT, or nothing.

    Source: evutil_make_tcp_listen_socket_deferred.
    """
    _require_socket(sock)
    if not hasattr(socket, "TCP_DEFER_ACCEPT"):
        return
    with _refusals("defer accepting"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)


def set_tcp_keepalive(sock: socket.socket, on: bool, timeout: int) -> None:
    """Probe a peer that was silent for `timeout` seconds, three times, or stop doing so.

    The probes are a third of the time apart, at least a second.  With a `timeout` that is not
    positive nothing changes, whatever `on` is.  Source: evutil_set_tcp_keepalive.
    """
    _require_socket(sock)
    if whole_number(timeout, "a time of keep-alive") <= 0:
        return
    if timeout > _MAX_INT:
        raise ArgumentError(f"a time of keep-alive is {_MAX_INT} seconds at most: {timeout!r}")
    with _refusals("set keep-alive"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, bool(on))
        if not on:
            return
        for name, value in (
            ("TCP_KEEPIDLE", timeout),
            ("TCP_KEEPALIVE", timeout),  # macOS's name for the same
            ("TCP_KEEPINTVL", max(timeout // 3, 1)),
            ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def set_tcp_nodelay(sock: socket.socket, on: bool = True) -> None:
    """Have small pieces sent at once, rather than gathered until the last is acknowledged.

    TCP_NODELAY; nothing for a socket that is not of TCP.  What a listening socket accepts has the
    option as well.
    """
    _require_socket(sock)
    if _is_tcp(sock):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, bool(on))
        except OSError as exc:  # not with _refusals(): that costs as much as all the rest
            raise SocketError(
                exc.errno, f"cannot switch Nagle's algorithm: {exc.strerror}"
            ) from exc


def _is_tcp(sock: socket.socket) -> bool:
    return (
        sock.family in _LOOPBACK
        and sock.type == socket.SOCK_STREAM
        and sock.proto in (0, socket.IPPROTO_TCP)
    )


def socketpair(
    family: int, kind: int = socket.SOCK_STREAM, protocol: int = 0
) -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets (evutil_socketpair).

    family: AF_UNIX where the system has it, or AF_INET or AF_INET6, for which two TCP sockets
    are connected over loopback.  kind: with SOCK_NONBLOCK they do not block; both are always
    close-on-exec.  Raises ArgumentError for an IP pair of another type than SOCK_STREAM.
    """
    for number in (family, kind, protocol):
        whole_number(number, "a family, type or protocol")
    if family in _LOOPBACK:
        if kind & ~(_NONBLOCK | _CLOEXEC) != socket.SOCK_STREAM:
            raise ArgumentError(f"an IP pair is of SOCK_STREAM: {kind!r}")
        pair = _loopback_pair(family, protocol)
        for sock in pair:
            sock.setblocking(not kind & _NONBLOCK)
        return pair
    with _refusals("make a socket pair"):
        return socket.socketpair(family, kind, protocol)


def _loopback_pair(family: int, protocol: int) -> tuple[socket.socket, socket.socket]:
    with contextlib.ExitStack() as on_failure, _refusals("make a socket pair over loopback"):
        with socket.socket(family, socket.SOCK_STREAM, protocol) as listener:
            listener.bind((_LOOPBACK[socket.AddressFamily(family)], 0))
            listener.listen(1)
            client = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol))
            client.connect(listener.getsockname())
            accepted = on_failure.enter_context(listener.accept()[0])
            if accepted.getpeername() != client.getsockname():
                # Anyone on this host could have come first.
                raise ConnectionAbortedError(errno.ECONNABORTED, "a stranger connected")
        on_failure.pop_all()
        return client, accepted


def closesocket(sock: int | socket.socket) -> None:
    """Close a socket or a descriptor (evutil_closesocket, EVUTIL_CLOSESOCKET)."""
    with _refusals("close the socket"):
        if isinstance(sock, socket.socket):
            sock.close()
        else:
            socket.close(whole_number(sock, "a descriptor"))


def socket_geterror(sock: socket.socket) -> int:
    """Return the errno that waits on a socket, and clear it; 0 is none.

    What a call on it failed with is in the exception's `errno`.  Source: evutil_socket_geterror.
    """
    _require_socket(sock)
    with _refusals("ask for the socket's error"):
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def socket_error_to_string(code: int) -> str:
    """Return the system's text for an errno (evutil_socket_error_to_string)."""
    with _refusals("tell an error's text"):
        return os.strerror(whole_number(code, "an errno"))
