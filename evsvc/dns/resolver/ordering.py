"""In which order addresses are tried (RFC 6724 section 6), and the targets of SRV (RFC 2782).

What an address of ours would be the source of a connection is asked of the routing table, by a UDP
socket that is connected and sends nothing.  Rules 3, 4 and 7 need what no portable call tells, and
are left out; rule 9, the longest common prefix, counts for IPv6 alone, lest it undo the order in
which a nameserver spreads the load.
"""

from __future__ import annotations

import ipaddress
import random
import socket
from collections.abc import Callable, Iterable, Sequence

from ...core.resolver import SocketAddress
from ..wire.records import Record, Srv

_Address = ipaddress.IPv6Address
SourceOf = Callable[[SocketAddress], str | None]

# RFC 6724 section 2.1: prefix, precedence, label; the longest prefix counts.
POLICY: tuple[tuple[ipaddress.IPv6Network, int, int], ...] = (
    (ipaddress.IPv6Network("::1/128"), 50, 0),
    (ipaddress.IPv6Network("::ffff:0:0/96"), 35, 4),
    (ipaddress.IPv6Network("::/96"), 1, 3),
    (ipaddress.IPv6Network("2001::/32"), 5, 5),
    (ipaddress.IPv6Network("2002::/16"), 30, 2),
    (ipaddress.IPv6Network("3ffe::/16"), 1, 12),
    (ipaddress.IPv6Network("fec0::/10"), 1, 11),
    (ipaddress.IPv6Network("fc00::/7"), 3, 13),
    (ipaddress.IPv6Network("::/0"), 40, 1),
)
_MAPPED = 0xFFFF << 32
_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 0x2, 0x5, 0xE
_MAX_PREFIX_BITS = 64  # beyond are the bits of the host
_PORT = 9  # discard; nothing is sent


def route_source(address: SocketAddress) -> str | None:
    """Return the address from which `address` would be reached, None where there is no way."""
    family = socket.AF_INET if len(address) == 2 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((address[0], address[1] or _PORT, *address[2:]))
            return str(sock.getsockname()[0])
    except OSError:
        return None


def sort_addresses(
    addresses: Sequence[SocketAddress], source_of: SourceOf = route_source
) -> list[SocketAddress]:
    """Return the addresses, the best first; what the rules say nothing of stays in order."""
    if len(addresses) < 2:
        return list(addresses)
    return sorted(addresses, key=lambda address: _rank(address, source_of(address)))


def _rank(address: SocketAddress, source: str | None) -> tuple[int, ...]:
    """Return what is compared; less is better.  One item for each rule, in their order."""
    target = _widened(address[0])
    precedence, label = _policy(target)
    scope = _scope(target)
    if source is None:
        return 1, 1, 1, -precedence, scope, 0
    own = _widened(source)
    bits = 0
    if len(address) == 4:
        bits = min(_MAX_PREFIX_BITS, 128 - (int(target) ^ int(own)).bit_length())
    return (
        0,
        _scope(own) != scope,
        _policy(own)[1] != label,
        -precedence,
        scope,
        -bits,
    )


def _widened(text: str) -> _Address:
    """Return an address as IPv6, an IPv4 one as mapped, without its zone."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return address if isinstance(address, _Address) else _Address(_MAPPED | int(address))


def _policy(address: _Address) -> tuple[int, int]:
    for network, precedence, label in POLICY:
        if address in network:
            return precedence, label
    raise AssertionError(address)  # the last one has all


def _scope(address: _Address) -> int:
    """Return the scope of an address (RFC 6724 section 3.1)."""
    mapped = address.ipv4_mapped
    if mapped is not None:
        return _LINK_LOCAL if mapped.is_loopback or mapped.is_link_local else _GLOBAL
    if address.is_multicast:
        return int(address) >> 112 & 0xF
    if address.is_loopback or address.is_link_local:
        return _LINK_LOCAL
    return _SITE_LOCAL if address.is_site_local else _GLOBAL


def order_services(
    records: Iterable[Record], choose: Callable[[int, int], int] = random.randint
) -> list[Srv]:
    """Return the targets of SRV records in the order in which a client tries them (RFC 2782).

    The lowest priority comes first; among equals chance decides, by weight.  Records of other types
    are left out, and a target "." says that the service is not offered: the list is empty then.
    choose: `choose(low, high)` gives a number, both ends included.
    """
    services = [record.data for record in records if isinstance(record.data, Srv)]
    left = sorted((each for each in services if each.target != "."), key=lambda srv: srv.priority)
    ordered: list[Srv] = []
    while left:
        # Those of weight 0 first, so that they have a small chance, too.
        equals = [each for each in left if each.priority == left[0].priority]
        equals.sort(key=lambda srv: srv.weight)
        point = choose(0, sum(each.weight for each in equals))
        for each in equals:
            point -= each.weight
            if point <= 0:
                break
        ordered.append(each)
        left.remove(each)
    return ordered
