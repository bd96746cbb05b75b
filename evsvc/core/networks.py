"""Networks of IP addresses, and whether an address is in one of them.  Does no I/O."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from .errors import ArgumentError


class Networks:
    """Networks from texts such as "192.0.2.0/24", "2001:db8::/32" or "::1".

    Raises ArgumentError for what is no network.
    """

    __slots__ = ("_networks",)

    def __init__(self, texts: Iterable[str]) -> None:
        try:
            self._networks = [ip_network(text) for text in texts]
        except ValueError as exc:
            raise ArgumentError(f"not a network: {exc}") from exc

    def __contains__(self, host: str) -> bool:
        """Tell whether an address is in one of them, read as by `parse_ip`; what is none is not."""
        address = parse_ip(host)
        return address is not None and any(address in network for network in self._networks)


def parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address without its zone, an IPv4 one out of its IPv6 mapping; None for none."""
    if "%" in text:
        text = text.partition("%")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found
