"""A DNS server that knows no advertisers, and asks another one about everybody else.

Usage: ad_blocker.py [--port PORT] [--nameserver IP[:PORT]] BLOCKLIST

BLOCKLIST has a name on each line; names below it are blocked, too.  SIGHUP has it read again.
"""

import argparse
import signal
import sys
from pathlib import Path

from evsvc import DnsServer, EventBase, Resolver
from evsvc.dns import DNS_ERR_NOTEXIST, DnsChain, DnsForwarder

BLOCKED = 15  # RFC 8914: an extended error that says why


def block(request, arg):
    """Say that there is no such name, and that it is we who say so."""
    request.add_extended_error(BLOCKED, "on the blocklist")
    request.respond(DNS_ERR_NOTEXIST, cache_s=60)


def read_names(file):
    """Return the names of the list, without empty lines and comments."""
    lines = (line.partition("#")[0].strip().lower() for line in file.read_text().splitlines())
    return {line for line in lines if line}


def update(chain, blocked, wanted):
    """Block what is on the list and nothing else."""
    for name in blocked - wanted:
        chain.remove(name)
    for name in wanted - blocked:
        chain.add(name, block)
    blocked.clear()
    blocked.update(wanted)


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8053)
parser.add_argument("--nameserver", help="whom to ask; without it, whom the system asks")
parser.add_argument("blocklist", type=Path)
args = parser.parse_args()

with EventBase() as base:
    resolver = Resolver(base, 0) if args.nameserver else Resolver(base)
    chain = DnsChain()
    blocked = set()
    try:
        if args.nameserver:
            resolver.nameserver_ip_add(args.nameserver)
        chain.add(".", DnsForwarder(resolver))
        update(chain, blocked, read_names(args.blocklist))
        server = DnsServer(base, chain)
        port = server.bind_udp("127.0.0.1", args.port).port
        server.bind_tcp("127.0.0.1", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"ad_blocker.py: {error}")

    def reload(signum, what, arg):
        """Read the list again, and forget what was answered by the old one."""
        update(chain, blocked, read_names(args.blocklist))
        print(f"{len(blocked)} names are blocked", flush=True)

    hang_up = base.signal(signal.SIGHUP, reload)
    hang_up.add()
    print(f"dig @127.0.0.1 -p {port} ads.example  ({len(blocked)} names are blocked)", flush=True)
    base.dispatch()
