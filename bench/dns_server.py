"""The DNS server that bench/dns_server_bench.py measures: one address for every A query.

Usage: dns_server.py [CACHE_S].  Binds UDP 127.0.0.1 on a free port, prints the port on one line,
and serves until it is killed.  With CACHE_S replies are kept for so many seconds.
"""

import sys

from evsvc import DnsServer, EventBase
from evsvc.dns import EVDNS_TYPE_A, DnsServerRequest

cache_s = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0


def answer(request: DnsServerRequest, arg: object) -> None:
    """Answer an A query with one address, any other with nothing."""
    name, rdtype, _ = request.questions[0]
    if rdtype == EVDNS_TYPE_A:
        request.add_a_reply(name, ["10.0.0.1"], 60)
    request.respond(0, cache_s=cache_s)


base = EventBase()
server = DnsServer(base, answer)
print(server.bind_udp("127.0.0.1", 0).port, flush=True)
base.dispatch()
