"""The server of bench/dns_server.py on other libraries for Python.

Usage: dns_peers.py twisted|dnslib.  Binds UDP 127.0.0.1 on a free port, prints the port on one
line, and serves until it is killed.  Each answers as its own documentation shows it: Twisted Names
by a resolver behind its server factory, dnslib by a resolver behind its server, without logging.
"""

from __future__ import annotations

import sys
from typing import Any

ADDRESS = "10.0.0.1"
TTL_S = 60


def twisted() -> None:
    """Serve by Twisted Names."""
    from twisted.internet import defer, reactor
    from twisted.names import dns, server

    class OneAddress:
        """Answers an A query with one address, any other with nothing."""

        def query(self, query: Any, timeout: Any = None) -> Any:
            answers = []
            if query.type == dns.A:
                payload = dns.Record_A(ADDRESS, TTL_S)
                answers.append(dns.RRHeader(query.name.name, dns.A, dns.IN, TTL_S, payload))
            return defer.succeed((answers, [], []))

    factory = server.DNSServerFactory(clients=[OneAddress()])
    port = reactor.listenUDP(0, dns.DNSDatagramProtocol(factory), interface="127.0.0.1")
    print(port.getHost().port, flush=True)
    reactor.run()


def dnslib() -> None:
    """Serve by dnslib."""
    from dnslib import QTYPE, RR, A
    from dnslib.server import BaseResolver, DNSLogger, DNSServer

    class OneAddress(BaseResolver):  # type: ignore[misc]
        """Answers an A query with one address, any other with nothing."""

        def resolve(self, request: Any, handler: Any) -> Any:
            reply = request.reply()
            if request.q.qtype == QTYPE.A:
                reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=TTL_S, rdata=A(ADDRESS)))
            return reply

    logger = DNSLogger("-request,-reply,-truncated,-error,-recv,-send,-data")
    server = DNSServer(OneAddress(), port=0, address="127.0.0.1", logger=logger)
    print(server.server.server_address[1], flush=True)
    server.start()


SERVERS = {"twisted": twisted, "dnslib": dnslib}

if __name__ == "__main__":
    SERVERS[sys.argv[1]]()
