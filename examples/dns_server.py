"""A DNS server with a handful of names, on UDP and TCP.

Usage: dns_server.py [port]
"""

import argparse
import sys

from evsvc import DnsServer, EventBase
from evsvc.dns import (
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    EVDNS_FLAGS_AA,
    EVDNS_TYPE_A,
    EVDNS_TYPE_AAAA,
)

ADDRESSES = {
    "one.example.": (["192.0.2.1"], ["2001:db8::1"]),
    "many.example.": (["192.0.2.2", "192.0.2.3"], []),
}


def on_query(request, ttl):
    """Answer the one question from the table."""
    question = request.questions[0]
    request.set_flags(EVDNS_FLAGS_AA)
    known = ADDRESSES.get(question.name.lower().rstrip(".") + ".")
    if known is None:
        request.respond(DNS_ERR_NOTEXIST)
        return
    if question.type == EVDNS_TYPE_A:
        request.add_a_reply(question.name, known[0], ttl)
    elif question.type == EVDNS_TYPE_AAAA:
        request.add_aaaa_reply(question.name, known[1], ttl)
    request.respond(DNS_ERR_NONE)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8053)
port = parser.parse_args().port

with EventBase() as base, DnsServer(base, on_query, 300) as server:
    try:
        tcp = server.bind_tcp("127.0.0.1", port)
        server.bind_udp("127.0.0.1", tcp.port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"dns_server.py: {error}")
    print(f"dig @127.0.0.1 -p {tcp.port} one.example", flush=True)
    base.dispatch()
