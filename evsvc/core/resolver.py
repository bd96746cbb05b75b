"""What core needs of a name resolver, so that it need not know the dns package.

`BufferEvent.connect_hostname` takes any object with this `getaddrinfo`; `evsvc.dns.Resolver` is
one, and a test can pass a dozen lines around a dictionary.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .checks import whole_number

SocketAddress = Any
"""A socket address as Python's `socket` module has it: a tuple for IP, a path for Unix.

`util.endpoint_of` says which are taken, and what becomes of them.
"""


class AddrInfo(NamedTuple):
    """One address to connect to, in the order of `socket.getaddrinfo` (struct evutil_addrinfo)."""

    family: int
    type: int
    proto: int
    canonname: str
    sockaddr: SocketAddress


@dataclass(frozen=True, slots=True)
class AddrInfoHints:
    """What kind of address is wanted (the `hints` of getaddrinfo(3)).

    family: AF_UNSPEC, AF_INET or AF_INET6;  type: SOCK_* or 0;  proto: IPPROTO_* or 0;
    flags: AI_* bits (AI_PASSIVE, AI_CANONNAME, AI_NUMERICHOST, AI_NUMERICSERV, AI_ADDRCONFIG).
    Raises ArgumentTypeError for what is no whole number.
    """

    family: int = socket.AF_UNSPEC
    type: int = 0
    proto: int = 0
    flags: int = 0

    def __post_init__(self) -> None:
        whole_number(self.family, "a family")
        whole_number(self.type, "a type of sockets")
        whole_number(self.proto, "a protocol")
        whole_number(self.flags, "the flags of a look-up")


class EaiError(enum.IntEnum):
    """Result codes of name resolution (EVUTIL_EAI_*); zero is success."""

    EVUTIL_EAI_SUCCESS = 0
    # Not every system has these two; libevent's own numbers stand in.
    EVUTIL_EAI_ADDRFAMILY = getattr(socket, "EAI_ADDRFAMILY", -901)
    EVUTIL_EAI_NODATA = getattr(socket, "EAI_NODATA", -907)
    EVUTIL_EAI_AGAIN = socket.EAI_AGAIN
    EVUTIL_EAI_BADFLAGS = socket.EAI_BADFLAGS
    EVUTIL_EAI_FAIL = socket.EAI_FAIL
    EVUTIL_EAI_FAMILY = socket.EAI_FAMILY
    EVUTIL_EAI_MEMORY = socket.EAI_MEMORY
    EVUTIL_EAI_NONAME = socket.EAI_NONAME
    EVUTIL_EAI_SERVICE = socket.EAI_SERVICE
    EVUTIL_EAI_SOCKTYPE = socket.EAI_SOCKTYPE
    EVUTIL_EAI_SYSTEM = socket.EAI_SYSTEM
    EVUTIL_EAI_CANCEL = -90001


EVUTIL_EAI_ADDRFAMILY = EaiError.EVUTIL_EAI_ADDRFAMILY
EVUTIL_EAI_AGAIN = EaiError.EVUTIL_EAI_AGAIN
EVUTIL_EAI_BADFLAGS = EaiError.EVUTIL_EAI_BADFLAGS
EVUTIL_EAI_FAIL = EaiError.EVUTIL_EAI_FAIL
EVUTIL_EAI_FAMILY = EaiError.EVUTIL_EAI_FAMILY
EVUTIL_EAI_MEMORY = EaiError.EVUTIL_EAI_MEMORY
EVUTIL_EAI_NODATA = EaiError.EVUTIL_EAI_NODATA
EVUTIL_EAI_NONAME = EaiError.EVUTIL_EAI_NONAME
EVUTIL_EAI_SERVICE = EaiError.EVUTIL_EAI_SERVICE
EVUTIL_EAI_SOCKTYPE = EaiError.EVUTIL_EAI_SOCKTYPE
EVUTIL_EAI_SYSTEM = EaiError.EVUTIL_EAI_SYSTEM
EVUTIL_EAI_CANCEL = EaiError.EVUTIL_EAI_CANCEL

_TEXTS = {
    EVUTIL_EAI_CANCEL: "Request canceled",
    EVUTIL_EAI_ADDRFAMILY: "address family for nodename not supported",
    EVUTIL_EAI_AGAIN: "temporary failure in name resolution",
    EVUTIL_EAI_BADFLAGS: "invalid value for ai_flags",
    EVUTIL_EAI_FAIL: "non-recoverable failure in name resolution",
    EVUTIL_EAI_FAMILY: "ai_family not supported",
    EVUTIL_EAI_MEMORY: "memory allocation failure",
    EVUTIL_EAI_NODATA: "no address associated with nodename",
    EVUTIL_EAI_NONAME: "nodename nor servname provided, or not known",
    EVUTIL_EAI_SERVICE: "servname not supported for ai_socktype",
    EVUTIL_EAI_SOCKTYPE: "ai_socktype not supported",
    EVUTIL_EAI_SYSTEM: "system error",
    EaiError.EVUTIL_EAI_SUCCESS: "no error",
}


def gai_strerror(code: int) -> str:
    """Return the text of a resolution code (evutil_gai_strerror).

    Raises ArgumentTypeError for what is no whole number.
    """
    try:
        return _TEXTS[EaiError(whole_number(code, "a code"))]
    except ValueError:
        return f"unknown error {code}"


ResolveCallback = Callable[[int, list[AddrInfo], Any], object]
"""Called once as `cb(result, addresses, arg)`; `addresses` is empty unless `result` is 0."""


LateCallback = Callable[[list[AddrInfo], Any], object]
"""Called as `late(addresses, arg)`, once after a ResolveCallback that had addresses."""


class Cancellable(Protocol):
    """A lookup under way."""

    def cancel(self) -> None:
        """Give the lookup up; its callback gets EVUTIL_EAI_CANCEL from the loop."""


class Resolver(Protocol):
    """What `connect_hostname` needs of a resolver (evdns_getaddrinfo).

    Returns None when the callback was called before the return (a numeric host, a hosts-file or
    cache hit, a refused argument); otherwise a handle that can cancel the lookup.
    """

    def getaddrinfo(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        arg: object = None,
    ) -> Cancellable | None:
        """Look `host` and `port` up and answer `cb(result, addresses, arg)` once."""


class LateResolver(Resolver, Protocol):
    """A resolver that also tells of the addresses which come after its answer (RFC 8305)."""

    def getaddrinfo_late(
        self,
        host: str | None,
        port: int | str | None,
        hints: AddrInfoHints | None,
        cb: ResolveCallback,
        late: LateCallback,
        arg: object = None,
    ) -> Cancellable | None:
        """Look up as `getaddrinfo` does.  After a `cb` with addresses `late` is called once, with
        those that came later, or none, unless the lookup is cancelled before.
        """
