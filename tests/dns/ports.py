"""A DNS server at one port number for UDP and TCP."""

from __future__ import annotations

from typing import Any

from evsvc.dns import DnsServer
from tests.ports import bind_both


def bind_udp_and_tcp(server: DnsServer, host: str = "127.0.0.1") -> tuple[Any, Any]:
    """Bind both to a number that is free for both; return the TCP port and the UDP port."""
    return bind_both(lambda: server.bind_tcp(host, 0), lambda tcp: server.bind_udp(host, tcp.port))
