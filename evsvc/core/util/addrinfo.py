"""getaddrinfo(3) as far as it needs no query: numeric hosts, no host, and service names.

For names there is `evsvc.dns.Resolver.getaddrinfo`, which does not block either.
"""

from __future__ import annotations

import socket

from ..errors import ArgumentError, ArgumentTypeError, SocketError
from ..resolver import (
    EVUTIL_EAI_ADDRFAMILY,
    EVUTIL_EAI_FAMILY,
    EVUTIL_EAI_NONAME,
    EVUTIL_EAI_SERVICE,
    AddrInfo,
    AddrInfoHints,
    EaiError,
    SocketAddress,
    gai_strerror,
)
from .addresses import (
    MAX_PORT,
    check_port,
    inet_ntop,
    inet_pton_scope,
)

_STREAM = (socket.SOCK_STREAM, socket.IPPROTO_TCP)
_DATAGRAM = (socket.SOCK_DGRAM, socket.IPPROTO_UDP)

# Without a host: the addresses to listen at, and to connect to.
_ANY = (("0.0.0.0", 0), ("::", 0, 0, 0))
_LOOPBACK = (("127.0.0.1", 0), ("::1", 0, 0, 0))


class AddrInfoError(SocketError, socket.gaierror):
    """No address can be given; `errno` and `code` are an EVUTIL_EAI_* code."""

    code: EaiError


def getaddrinfo(
    host: str | None, service: int | str | None, hints: AddrInfoHints | None = None
) -> list[AddrInfo]:
    """Return the addresses of a numeric host and a service, without asking a nameserver.

    host: an address as text, IPv6 with a zone if need be; None is loopback, or with AI_PASSIVE
    any address, an entry for each family.  service: a port, its text, or a name of the services
    file; None is port 0.  With neither type nor protocol in the hints each address comes for
    streams and for datagrams; one is inferred from the other.

    Raises AddrInfoError: EVUTIL_EAI_NONAME for a host that is a name, for neither host nor
    service, and for a service that is a name with AI_NUMERICSERV; EVUTIL_EAI_ADDRFAMILY for an
    address of another family than the hints want; EVUTIL_EAI_FAMILY for hints with another family
    than AF_UNSPEC, AF_INET and AF_INET6; EVUTIL_EAI_SERVICE for an unknown service.  Raises
    ArgumentError for an int that is no port, ArgumentTypeError for a host that is no text, a
    service that is neither text nor int, and for other hints than AddrInfoHints.
    Source: evutil_getaddrinfo.
    """
    if host is not None and not isinstance(host, str):
        raise ArgumentTypeError(f"a host is text or None, not {host!r} ({type(host).__name__})")
    hints = AddrInfoHints() if hints is None else _checked(hints)
    if host is None and service is None:
        raise _failure(EVUTIL_EAI_NONAME, "neither host nor service")
    if hints.family not in (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6):
        raise _failure(EVUTIL_EAI_FAMILY, f"family {hints.family!r}")
    kinds = socket_kinds(hints)
    port = service_port(service, hints)
    if host is None:
        found: tuple[SocketAddress, ...] = _ANY if hints.flags & socket.AI_PASSIVE else _LOOPBACK
    else:
        found = (_parse_host(host),)
    wanted = [each for each in found if hints.family in (socket.AF_UNSPEC, _family_of(each))]
    if not wanted:
        raise _failure(EVUTIL_EAI_ADDRFAMILY, repr(host))
    return [
        AddrInfo(_family_of(address), kind, proto, "", (address[0], port, *address[2:]))
        for address in wanted
        for kind, proto in kinds
    ]


def _failure(code: EaiError, what: str) -> AddrInfoError:
    error = AddrInfoError(code, f"{what}: {gai_strerror(code)}")
    error.code = code
    return error


def _checked(hints: object) -> AddrInfoHints:
    if not isinstance(hints, AddrInfoHints):
        raise ArgumentTypeError(f"AddrInfoHints are wanted, not {type(hints).__name__}")
    return hints


def _family_of(address: SocketAddress) -> int:
    return socket.AF_INET if len(address) == 2 else socket.AF_INET6


def socket_kinds(hints: AddrInfoHints) -> list[tuple[int, int]]:
    """Return the (type, protocol) pairs that the hints want for each address.

    With neither given, stream and datagram; one is inferred from the other.  Raises
    ArgumentTypeError for what is no AddrInfoHints.
    """
    hints = _checked(hints)
    if hints.type == 0 and hints.proto == 0:
        return [_STREAM, _DATAGRAM]
    for kind in (_STREAM, _DATAGRAM):
        if hints.type in (0, kind[0]) and hints.proto in (0, kind[1]):
            return [kind]
    return [(hints.type, hints.proto)]


def service_port(service: int | str | None, hints: AddrInfoHints) -> int:
    """Return the port of a number or a service name, 0 for None.

    Raises ArgumentError for an int that is no port, AddrInfoError for a text that names none,
    ArgumentTypeError for anything else, and for what is no AddrInfoHints.
    """
    hints = _checked(hints)
    if service is None:
        return 0
    if isinstance(service, int):
        return check_port(service)
    if not isinstance(service, str):
        raise ArgumentTypeError(f"a service is text or a port, not {type(service).__name__}")
    if service.isascii() and service.isdigit() and len(service) <= 5 and int(service) <= MAX_PORT:
        return int(service)
    if hints.flags & socket.AI_NUMERICSERV:
        raise _failure(EVUTIL_EAI_NONAME, f"service {service!r}")
    for _, proto in socket_kinds(hints):
        try:
            return socket.getservbyname(service, "udp" if proto == _DATAGRAM[1] else "tcp")
        except (OSError, ValueError):  # ValueError: an embedded NUL
            continue
    raise _failure(EVUTIL_EAI_SERVICE, f"service {service!r}")


def _parse_host(host: str) -> SocketAddress:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        packed, scope_id = inet_pton_scope(family, host)
    except ArgumentError:
        raise _failure(EVUTIL_EAI_NONAME, repr(host)) from None
    text = inet_ntop(family, packed)
    return (text, 0) if family == socket.AF_INET else (text, 0, 0, scope_id)
