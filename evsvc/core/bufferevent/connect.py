"""Connecting by name: look the host up, then try its addresses in turn until one answers."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..resolver import AddrInfo, AddrInfoHints, EaiError, gai_strerror
from ..util import check_port, ip_version
from .abstract import SUSPENDED_LOOKUP

if TYPE_CHECKING:
    from ..resolver import Cancellable, Resolver
    from .sock import BufferEvent

_FAMILIES = (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)


class HostnameConnect:
    """One `connect_hostname` under way.

    Raises ArgumentError for a family that is no IP family, a port outside 1..65535, or an empty
    host.
    """

    __slots__ = (
        "_addresses",
        "_bev",
        "_done",
        "_error",
        "_family",
        "_host",
        "_lookup",
        "_port",
    )

    def __init__(self, bev: BufferEvent, family: int, host: str, port: int) -> None:
        if family not in _FAMILIES:
            raise ArgumentError(f"the family is AF_UNSPEC, AF_INET or AF_INET6: {family!r}")
        if not host:
            raise ArgumentError(f"a host name is wanted: {host!r}")
        self._bev = bev
        self._family = family
        self._host = host
        self._port = check_port(port, lowest=1)
        self._addresses: list[AddrInfo] = []
        self._lookup: Cancellable | None = None
        self._error: OSError | None = None  # why the last address had no socket
        self._done = False

    def start(self, resolver: Resolver | None) -> None:
        """Ask the resolver.  Raises ArgumentError when a name meets no resolver."""
        hints = AddrInfoHints(self._family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if resolver is not None:
            lookup = resolver.getaddrinfo(self._host, self._port, hints, self._resolved)
            if not self._done:
                self._lookup = lookup
            return
        version = ip_version(self._host)
        if version is None:
            raise ArgumentError(f"a resolver is wanted to look up {self._host!r}")
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        if self._family not in (family, socket.AF_UNSPEC):
            self._resolved(EaiError.EVUTIL_EAI_ADDRFAMILY, [], None)
            return
        sockaddr = (self._host, self._port)
        self._resolved(0, [AddrInfo(family, socket.SOCK_STREAM, 0, "", sockaddr)], None)

    def try_next(self) -> bool:
        """Start connecting to the next address that has a socket; False when none is left."""
        while self._addresses:
            address = self._addresses.pop(0)
            try:
                self._bev._connect_to(address.family, address.sockaddr)
            except OSError as exc:  # such as a family that this host does not have
                self._error = exc.with_traceback(None)
            else:
                return True
        return False

    def cancel(self) -> None:
        """Give up."""
        self._done = True
        self._addresses.clear()
        if self._lookup is not None:
            lookup, self._lookup = self._lookup, None
            lookup.cancel()

    def _resolved(self, result: int, addresses: list[AddrInfo], arg: object) -> None:
        if self._done:
            return
        self._done = True
        self._lookup = None
        self._addresses = list(addresses)
        self._bev._read_suspended &= ~SUSPENDED_LOOKUP
        if result == 0 and self.try_next():
            return
        if self._error is not None:
            self._bev._lookup_failed(self._error)
            return
        code = result or EaiError.EVUTIL_EAI_NODATA
        error = socket.gaierror(code, f"{self._host}: {gai_strerror(code)}")
        self._bev._lookup_failed(error, int(code))


def has_no_peer(stream: object) -> bool:
    """Tell whether a stream that the program gave us is a socket that it wants connected."""
    if not isinstance(stream, socket.socket):
        return False
    try:
        stream.getpeername()
    except OSError as exc:
        return exc.errno == errno.ENOTCONN
    return False
