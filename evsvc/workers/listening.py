"""The sockets that workers serve: made and held by their supervisor.

SO_REUSEPORT lets several sockets be bound to one port, and the kernel chooses one of them for each
connection, or for each pair of addresses of datagrams.  What has been queued for a socket is lost
when the last descriptor of it is closed, however many others of the group there are.  So each slot
has its socket for as long as the supervisor lives: a worker inherits it, and what comes while the
slot is empty waits for the next one.  The number of sockets never changes either, which would move
clients from one to another.

The option also lets any other program of the same user join, which would quietly take a share of
the clients.  So the first socket of a group is bound without it, which fails where somebody has the
port, and gets it afterwards: Linux looks at it when the others are bound, and when they listen.

Where the system shares nothing out so (all but Linux and FreeBSD), and for Unix sockets and those
that somebody has handed over, all workers have one socket, and whoever comes first accepts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

from ..core import ArgumentError, ArgumentTypeError, ConnListener, SocketError
from ..core.closing import Closing
from ..core.listener import KEEPALIVE_IDLE_S
from ..core.util import (
    endpoint_of,
    make_listen_socket_reuseable,
    make_listen_socket_reuseable_port,
    set_tcp_keepalive,
)

if TYPE_CHECKING:
    from ..core import EventBase

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Binds:
    """What workers serve.

    tcp, udp: numeric hosts with their ports, where port 0 takes a free one.  unix: paths of Unix
    sockets.  sockets: that are bound already, such as systemd's.
    """

    tcp: Sequence[Address] = ()
    udp: Sequence[Address] = ()
    unix: Sequence[str | PathLike[str]] = ()
    sockets: Sequence[socket.socket] = ()


@dataclass(slots=True)
class SlotSockets:
    """The sockets of one slot: a list for each kind, in the order of the binds."""

    tcp: list[socket.socket] = field(default_factory=list)
    udp: list[socket.socket] = field(default_factory=list)
    unix: list[socket.socket] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    def all(self) -> list[socket.socket]:
        """Return all of them."""
        return [*self.tcp, *self.udp, *self.unix, *self.sockets]


class Listening(Closing):
    """The sockets of all slots.

    backlog: of those that listen.  unix_mode: the permissions of Unix sockets' files, or None.

    Raises SocketError, with the address, when it is busy or not ours; as `endpoint_of` does for
    what is no address; ArgumentTypeError for what is no socket.  Then it leaves nothing open, but
    for `binds.sockets`, which are the caller's until it has succeeded.
    """

    __slots__ = ("_closing", "_slots")

    def __init__(
        self, base: EventBase, slots: int, binds: Binds, backlog: int, unix_mode: int | None
    ) -> None:
        for sock in binds.sockets:
            if not isinstance(sock, socket.socket):
                raise ArgumentTypeError(f"a socket is wanted, not {sock!r}")
        self._slots = [SlotSockets() for _ in range(slots)]
        with ExitStack() as undo:
            for address in binds.tcp:
                group = _bind_group(socket.SOCK_STREAM, address, slots, undo)
                for sock in dict.fromkeys(group):
                    _listen(sock, backlog)
                self._share_out(lambda slot: slot.tcp, group)
            for address in binds.udp:
                group = _bind_group(socket.SOCK_DGRAM, address, slots, undo)
                self._share_out(lambda slot: slot.udp, group)
            for path in binds.unix:
                name = os.fsencode(path)
                listener = ConnListener.new_bind(base, None, None, 0, backlog, name, mode=unix_mode)
                undo.callback(listener.close)
                self._share_out(lambda slot: slot.unix, [listener.socket] * slots)
            for sock in binds.sockets:
                self._share_out(lambda slot: slot.sockets, [sock] * slots)
            self._closing = undo.pop_all()
        for sock in binds.sockets:
            self._closing.callback(sock.close)

    def _share_out(
        self,
        kind: Callable[[SlotSockets], list[socket.socket]],
        sockets: list[socket.socket],
    ) -> None:
        for slot, sock in zip(self._slots, sockets, strict=True):
            kind(slot).append(sock)

    def slot(self, number: int) -> SlotSockets:
        """Return the sockets of a slot."""
        return self._slots[number]

    def keep_only(self, number: int) -> SlotSockets:
        """In a worker, close the copies of the other slots' sockets, and return its own."""
        kept = self._slots[number]
        own = set(kept.all())
        for slot in self._slots:
            for sock in slot.all():
                if sock not in own:
                    sock.close()
        return kept

    def close(self) -> None:
        """Close all of them, and remove the files of Unix sockets.  Safe to repeat."""
        self._closing.close()


def can_share_out() -> bool:
    """Whether the system shares connections out among the sockets of one port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            make_listen_socket_reuseable_port(probe)
        except SocketError:
            return False
    return True


def _bind_group(
    kind: socket.SocketKind, address: Address, slots: int, undo: ExitStack
) -> list[socket.socket]:
    """Return a bound socket for each slot: one of a group each, or the same for all."""
    endpoint = endpoint_of(address)
    if endpoint.family not in (socket.AF_INET, socket.AF_INET6):
        raise ArgumentError(f"an address is (host, port): {address!r}")
    group: list[socket.socket] = []
    where = endpoint.sockaddr
    count = slots if slots > 1 and can_share_out() else 1
    try:
        while len(group) < count:
            sock = undo.enter_context(socket.socket(endpoint.family, kind))
            sock.setblocking(False)
            if kind == socket.SOCK_STREAM:
                make_listen_socket_reuseable(sock)
            if group:
                make_listen_socket_reuseable_port(sock)
            sock.bind(where)
            if not group and count > 1:
                make_listen_socket_reuseable_port(sock)
            group.append(sock)
            where = group[0].getsockname()  # the first has chosen, where the port was 0
    except OSError as exc:
        title = "TCP" if kind == socket.SOCK_STREAM else "UDP"
        text = f"cannot bind {title} {endpoint.text}: {exc.strerror or exc}"
        raise SocketError(exc.errno, text) from exc
    return group if count == slots else group * slots


def _listen(sock: socket.socket, backlog: int) -> None:
    set_tcp_keepalive(sock, True, KEEPALIVE_IDLE_S)
    sock.listen(backlog)
