"""Looks names up, and addresses in reverse, all at once (libevent's dns-example).

Usage: dns_lookup.py [--nameserver IP[:PORT]] name|address ...
"""

import argparse

from evsvc import EventBase, Resolver
from evsvc.core.util import ip_version
from evsvc.dns import DNS_ERR_NONE, err_to_string


def found(result, kind, count, ttl_s, data, name):
    """Print what came of one look-up."""
    print(f"{name}: {', '.join(data) if result == DNS_ERR_NONE else err_to_string(result)}")
    waiting.discard(name)
    if not waiting:
        base.loopbreak()


parser = argparse.ArgumentParser()
parser.add_argument("--nameserver", metavar="IP[:PORT]", help="ask this one, not the system's")
parser.add_argument("name", nargs="+")
arguments = parser.parse_args()
waiting = set(arguments.name)

with EventBase() as base, Resolver(base, 0 if arguments.nameserver else 1) as resolver:
    try:
        if arguments.nameserver:
            resolver.nameserver_ip_add(arguments.nameserver)
        for name in sorted(waiting):
            if ip_version(name) == 4:
                resolver.resolve_reverse(name, 0, found, name)
            elif ip_version(name) == 6:
                resolver.resolve_reverse_ipv6(name, 0, found, name)
            else:
                resolver.resolve_ipv4(name, 0, found, name)
    except ValueError as error:
        parser.error(str(error))
    base.dispatch()
