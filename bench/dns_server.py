"""The DNS server that bench/dns_server_bench.py measures: one address for every A query.

Usage: dns_server.py [callback|kept|zone].  Binds UDP 127.0.0.1 on a free port, prints the port on
one line, and serves until it is killed.  callback: a callback answers each query; kept: its
replies are kept; zone: a zone answers each query, and nothing is kept.
"""

import sys

from evsvc import DnsServer, EventBase
from evsvc.dns import EVDNS_TYPE_A, DnsServerRequest, DnsZone, ZoneOptions

KEPT_S = 3600
NAMES = 1000

kind = sys.argv[1] if len(sys.argv) > 1 else "callback"
cache_s = KEPT_S if kind == "kept" else 0


def answer(request: DnsServerRequest, arg: object) -> None:
    """Answer an A query with one address, any other with nothing."""
    name, rdtype, _ = request.questions[0]
    if rdtype == EVDNS_TYPE_A:
        request.add_a_reply(name, ["10.0.0.1"], 60)
    request.respond(0, cache_s=cache_s)


def make_zone() -> DnsZone:
    """Return a zone of all names that are asked for."""
    head = "$ORIGIN example.com.\n@ 60 IN SOA ns admin 1 7200 900 604800 60\n@ 60 IN NS ns\n"
    hosts = "".join(f"host{n} 60 IN A 10.0.0.1\n" for n in range(NAMES))
    return DnsZone.from_text(head + hosts, options=ZoneOptions(keep_s=0))


base = EventBase()
server = DnsServer(base, make_zone() if kind == "zone" else answer)
print(server.bind_udp("127.0.0.1", 0).port, flush=True)
base.dispatch()
