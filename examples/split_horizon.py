"""A DNS server with two faces: hosts of the own network see other addresses than all the rest.

Usage: split_horizon.py [port]
"""

import argparse
import ipaddress
import sys

from evsvc import DnsServer, EventBase
from evsvc.dns import DnsZone

HEAD = """\
$ORIGIN example.com.
$TTL 300
@ IN SOA ns admin 1 7200 900 604800 60
@ IN NS ns
ns IN A 192.0.2.53
"""
INSIDE = DnsZone.from_text(HEAD + "www IN A 10.0.0.80\nintranet IN A 10.0.0.81\n")
OUTSIDE = DnsZone.from_text(HEAD + "www IN A 192.0.2.80\n")
OWN_NETWORKS = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "127.0.0.1/32", "::1/128")]


def on_query(request, arg):
    """Hand the request to the zone that is meant for its client."""
    client = ipaddress.ip_address(request.requesting_addr[0])
    request.never_keep()  # the next one who asks the same may be another
    zone = INSIDE if any(client in network for network in OWN_NETWORKS) else OUTSIDE
    zone(request)


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8053)
port = parser.parse_args().port

with EventBase() as base, DnsServer(base, on_query) as server:
    try:
        bound = server.bind_udp("0.0.0.0", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"split_horizon.py: {error}")
    print(f"dig @127.0.0.1 -p {bound.port} www.example.com", flush=True)
    base.dispatch()
