"""Which clients may do a thing: a list of networks.  Does no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from ..errors import DnsArgumentError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Networks:
    """Networks of IP addresses, from texts such as "192.0.2.0/24", "2001:db8::/32" or "::1".

    Raises DnsArgumentError for what is no network.
    """

    __slots__ = ("_networks",)

    def __init__(self, texts: Iterable[str]) -> None:
        if isinstance(texts, str):
            raise DnsArgumentError(f"a list of networks is wanted: {texts!r}")
        try:
            self._networks = [ipaddress.ip_network(text) for text in texts]
        except ValueError as exc:
            raise DnsArgumentError(f"not a network: {exc}") from None

    def __contains__(self, host: str) -> bool:
        """Tell whether an address is in one of them; an IPv4 one may be written as IPv6."""
        address: Address = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
