"""Connecting by name: look the host up, then race its addresses (Happy Eyeballs, RFC 8305)."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..resolver import (
    AddrInfo,
    AddrInfoHints,
    EaiError,
    gai_strerror,
)
from ..util import check_port, ip_version
from .race import ConnectOptions, Race

if TYPE_CHECKING:
    from ..resolver import Cancellable, Resolver
    from .sock import BufferEvent

_FAMILIES = (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)


class HostnameConnect:
    """One `connect_hostname` under way.

    `bev._looked_up()` is called when there are addresses to try, and `bev._connect_ended(sock,
    error, dns_error, defer)` once; `defer` says that it is called from inside `start`.  `sock`,
    where given, is the one to be connected.  Raises ArgumentError for a family that is no IP
    family, a port outside 1..65535, or an empty host.
    """

    __slots__ = (
        "_bev",
        "_family",
        "_host",
        "_lookup",
        "_options",
        "_over",
        "_port",
        "_race",
        "_sock",
        "_starting",
        "_timer",
    )

    def __init__(
        self,
        bev: BufferEvent,
        family: int,
        host: str,
        port: int,
        options: ConnectOptions,
        sock: socket.socket | None,
    ) -> None:
        if family not in _FAMILIES:
            raise ArgumentError(f"the family is AF_UNSPEC, AF_INET or AF_INET6: {family!r}")
        if not host:
            raise ArgumentError(f"a host name is wanted: {host!r}")
        self._bev = bev
        self._family = family
        self._host = host
        self._port = check_port(port, lowest=1)
        self._options = options
        self._sock = sock
        self._lookup: Cancellable | None = None
        self._race: Race | None = None
        self._over = False
        self._starting = True
        self._timer = bev._new_event(-1, 0, self._on_timeout)

    @property
    def state(self) -> str:
        """What it is at, in a word."""
        return "resolving" if self._race is None else "connecting"

    def start(self, resolver: Resolver | None) -> None:
        """Ask the resolver.  Raises ArgumentError when a name meets no resolver."""
        self._ask(resolver)
        self._starting = False

    def _ask(self, resolver: Resolver | None) -> None:
        if self._options.total_s is not None:
            self._timer.add(self._options.total_s)
        hints = AddrInfoHints(self._family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if resolver is not None:
            lookup = resolver.getaddrinfo(
                self._host, self._port, hints, self._bev._guarded(self._on_answer)
            )
            if self._race is None and not self._over:
                self._lookup = lookup
            return
        version = ip_version(self._host)
        if version is None:
            raise ArgumentError(f"a resolver is wanted to look up {self._host!r}")
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        if self._family not in (family, socket.AF_UNSPEC):
            self._on_answer(EaiError.EVUTIL_EAI_ADDRFAMILY, [], None)
            return
        sockaddr = (self._host, self._port)
        self._on_answer(0, [AddrInfo(family, socket.SOCK_STREAM, 0, "", sockaddr)], None)

    def cancel(self) -> None:
        """Give up: the look-up, or the sockets on their way."""
        self._over = True
        self._timer.close()
        lookup, self._lookup = self._lookup, None
        if lookup is not None:
            lookup.cancel()
        race, self._race = self._race, None
        if race is not None:
            race.cancel()

    def _on_answer(self, result: int, addresses: list[AddrInfo], arg: object) -> None:
        if self._over or self._race is not None:
            return
        self._lookup = None
        if result == 0 and addresses:
            new_event = self._bev._new_event
            self._race = Race(new_event, addresses, self._options, self._on_raced, self._sock)
            self._bev._looked_up()
            self._race.start()
            return
        code = result or EaiError.EVUTIL_EAI_NODATA
        error = socket.gaierror(code, f"{self._host}: {gai_strerror(code)}")
        self._finish(None, error, int(code))

    def _on_raced(self, sock: socket.socket | None, error: OSError | None) -> None:
        self._finish(sock, error, 0)

    def _on_timeout(self, fd: int, what: int, arg: object) -> None:
        self._finish(None, TimeoutError(errno.ETIMEDOUT, f"{self._host}: no connection in time"), 0)

    def _finish(self, sock: socket.socket | None, error: OSError | None, dns_error: int) -> None:
        self.cancel()
        self._bev._connect_ended(sock, error, dns_error, self._starting)


def has_no_peer(stream: object) -> bool:
    """Tell whether a stream that the program gave us is a socket that it wants connected."""
    if not isinstance(stream, socket.socket):
        return False
    try:
        stream.getpeername()
    except OSError as exc:
        return exc.errno == errno.ENOTCONN
    return False
