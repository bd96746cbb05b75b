"""The hosts file: names with fixed addresses.  Source: hosts(5), evdns_base_load_hosts."""

from __future__ import annotations

import socket

from ...core import ArgumentError
from ...core.resolver import SocketAddress
from ...core.util import endpoint_of, ip_version

LOCALHOST_LINES = "127.0.0.1 localhost\n::1 localhost\n"


class HostsTable:
    """Host names, matched without regard to case, and their addresses in the order of the file.

    limit_entries: most (name, address) pairs kept; what comes after is left out.
    """

    __slots__ = ("_addresses", "_canonical_names", "_count", "_limit_entries")

    def __init__(self, limit_entries: int) -> None:
        self._addresses: dict[str, list[SocketAddress]] = {}
        self._canonical_names: dict[str, str] = {}
        self._count = 0
        self._limit_entries = limit_entries

    def __len__(self) -> int:
        """The number of (name, address) pairs."""
        return self._count

    def add_text(self, text: str) -> bool:
        """Add the entries of a hosts file to those that are there.

        `#` starts a comment anywhere; lines that make no sense are skipped.  Returns False when
        the limit left entries out.
        """
        for line in text.splitlines():
            address_text, *names = line.partition("#")[0].split() or [""]
            if not names or ip_version(address_text) is None:
                continue
            try:
                address = endpoint_of((address_text, 0)).sockaddr
            except ArgumentError:  # a zone that does not exist
                continue
            for name in names:
                if not self._add(name, address, names[0]):
                    return False
        return True

    def _add(self, name: str, address: SocketAddress, canonical_name: str) -> bool:
        key = _key_of(name)
        known = self._addresses.get(key, [])
        if address in known:
            return True
        if self._count >= self._limit_entries:
            return False
        self._addresses[key] = [*known, address]
        self._canonical_names.setdefault(key, canonical_name)
        self._count += 1
        return True

    def lookup(self, name: str) -> list[SocketAddress]:
        """Return the addresses of `name`, port 0, IPv4 before IPv6; empty when it is unknown."""
        found = self._addresses.get(_key_of(name), [])
        return sorted(found, key=lambda address: len(address) != 2)

    def canonical_name(self, name: str) -> str:
        """Return the first name of the line that has `name`, or the name where none has it."""
        return self._canonical_names.get(_key_of(name), name)

    def clear(self) -> None:
        """Forget all entries (evdns_base_clear_host_addresses)."""
        self._addresses.clear()
        self._canonical_names.clear()
        self._count = 0


def _key_of(name: str) -> str:
    """One trailing dot makes a name absolute and means nothing here."""
    return name.removesuffix(".").lower()


def is_family_wanted(address: SocketAddress, family: int) -> bool:
    """Tell whether an address is of `family`; AF_UNSPEC wants both."""
    if family == socket.AF_UNSPEC:
        return True
    return (len(address) == 2) == (family == socket.AF_INET)
