"""IP addresses as text and as the tuples of the `socket` module.  Asks no name service.

Only the strict forms of inet_pton(3) count: "1.2.3" and "010.0.0.1" are not addresses.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

from .errors import DnsArgumentError

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
"""`(host, port)` for IPv4; `(host, port, flowinfo, scope_id)` for IPv6."""

DNS_PORT = 53
MAX_PORT = 65535


def parse_ip(text: str) -> tuple[int, str, int] | None:
    """Return `(family, canonical text, scope id)`, or None when `text` is no IP address.

    An IPv6 zone may be an interface name or its number; one that does not exist makes it None.
    """
    host, _, zone = text.partition("%")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if ip.version == 4:
        return None if "%" in text else (socket.AF_INET, str(ip), 0)
    if "%" not in text:
        return socket.AF_INET6, str(ip), 0
    scope_id = _parse_zone(zone)
    return None if scope_id is None else (socket.AF_INET6, str(ip), scope_id)


def _parse_zone(zone: str) -> int | None:
    if zone.isascii() and zone.isdigit():
        number = int(zone) if len(zone) <= 10 else 2**32
        return number if number < 2**32 else None
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError):  # ValueError: an embedded NUL
        return None


def make_sockaddr(family: int, host: str, port: int, scope_id: int = 0) -> SocketAddress:
    """Return the socket address of a canonical host text."""
    return (host, port) if family == socket.AF_INET else (host, port, 0, scope_id)


def parse_address(text: str, default_port: int = DNS_PORT) -> SocketAddress:
    """Return the socket address of "ip", "ip:port", "[ip6]" or "[ip6]:port".

    A missing port, or port 0, gives `default_port`.  Raises DnsArgumentError when `text` is none
    of these.  Source: evutil_parse_sockaddr_port.
    """
    host, port_text = _split_port(text)
    found = parse_ip(host)
    if found is None or (text.startswith("[") and found[0] != socket.AF_INET6):
        raise DnsArgumentError(f"not an IP address with an optional port: {text!r}")
    port = 0 if port_text is None else parse_port(port_text)
    if port is None:
        raise DnsArgumentError(f"not an address with a port: {text!r}")
    family, canonical, scope_id = found
    return make_sockaddr(family, canonical, port or default_port, scope_id)


def _split_port(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            return "", None
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None


def parse_port(text: str) -> int | None:
    """Return the port that a decimal number names, None when it names none."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        return None
    port = int(text)
    return port if port <= MAX_PORT else None


def check_port(port: int) -> None:
    """Raise DnsArgumentError unless `port` is in 0..65535."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= MAX_PORT:
        raise DnsArgumentError(f"a port is a number from 0 to {MAX_PORT}: {port!r}")


def normalize_sockaddr(address: SocketAddress) -> SocketAddress:
    """Return `address` with canonical text and, for IPv6, all four fields.

    Raises DnsArgumentError unless it is an IP socket address with a port from 1 to 65535.
    """
    try:
        host, port = address[0], address[1]
        found = parse_ip(host)
    except (TypeError, IndexError, AttributeError):
        raise DnsArgumentError(f"not a socket address: {address!r}") from None
    if found is None:
        raise DnsArgumentError(f"not a socket address with a numeric host: {address!r}")
    check_port(port)
    if port == 0:
        raise DnsArgumentError(f"a nameserver needs a port: {address!r}")
    family, canonical, scope_id = found
    if len(address) == 4:
        scope_id = scope_id or address[3]
    return make_sockaddr(family, canonical, port, scope_id)


def family_of(address: SocketAddress) -> int:
    """Return AF_INET or AF_INET6, from the shape of a normalized address."""
    return socket.AF_INET if len(address) == 2 else socket.AF_INET6


def is_loopback(address: SocketAddress) -> bool:
    """Tell whether the address is of the machine itself."""
    return ipaddress.ip_address(address[0]).is_loopback


def same_endpoint(one: SocketAddress, other: SocketAddress) -> bool:
    """Tell whether two socket addresses name the same host, port and (if both say) IPv6 scope."""
    if one[:2] != other[:2] or len(one) != len(other):
        return False
    if len(one) == 2 or len(other) == 2:
        return True
    return one[3] == other[3] or 0 in (one[3], other[3])


def to_text(address: SocketAddress) -> str:
    """Return "ip:port" or "[ip6]:port", for log records."""
    return f"{address[0]}:{address[1]}" if len(address) == 2 else f"[{address[0]}]:{address[1]}"
