"""`evsvc dns serve ZONEFILE`: an authoritative name server, over UDP and TCP, from master files."""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ..core import ArgumentError, EventBase, SocketError
from ..dns import (
    DnsChain,
    DnsForwarder,
    DnsServer,
    DnsServerOptions,
    DnsZone,
    Resolver,
    ZoneOptions,
)

DEFAULT_HOST = "127.0.0.1"
FREE_PORT_TRIES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc dns serve`."""
    parser.add_argument("files", metavar="ZONEFILE", nargs="+", help="a master file (RFC 1035)")
    parser.add_argument(
        "--origin", metavar="NAME", help="the zone's name, where the one file has no $ORIGIN"
    )
    parser.add_argument(
        "--host",
        action="append",
        metavar="IP",
        help=f"address to bind; may be repeated (default: {DEFAULT_HOST})",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8053,
        metavar="PORT",
        help="UDP and TCP; 0 for any free one (default: %(default)s)",
    )
    parser.add_argument(
        "--transfer-to",
        metavar="NETWORK",
        action="append",
        default=[],
        help="who may fetch whole zones; may be repeated (default: nobody)",
    )
    parser.add_argument(
        "--forward",
        metavar="IP[:PORT]",
        help="ask that name server about all other names, for clients of local networks",
    )
    parser.add_argument("--log-queries", action="store_true", help="print a line for each query")
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; SIGHUP, and a change of a file, has it read again."""
    if args.origin is not None and len(args.files) > 1:
        raise ArgumentError(f"--origin {args.origin} goes with one file")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = ZoneOptions(transfers_to=tuple(args.transfer_to))
    zones = [DnsZone.from_file(file, args.origin, options=options) for file in args.files]
    chain = DnsChain()
    for zone in zones:
        chain.add(zone.origin, zone)
    with EventBase() as base, Resolver(base, 0) as resolver, _signals(base, zones):
        if args.forward is not None:
            resolver.nameserver_ip_add(args.forward)
            chain.add(".", DnsForwarder(resolver))
        server_options = DnsServerOptions(log_queries=args.log_queries)
        with DnsServer(base, chain, options=server_options) as server:
            for host in args.host or [DEFAULT_HOST]:
                _listen(server, host, args.port)
            for zone in zones:
                zone.follow(base)
                print(f"serving {zone.origin}, serial {zone.serial}", flush=True)
            base.dispatch()
        for zone in zones:
            zone.close()
    return 0


@contextmanager
def _signals(base: EventBase, zones: list[DnsZone]) -> Iterator[None]:
    """Have SIGHUP read the zones again, and SIGINT and SIGTERM end the loop."""

    def reload(signum: int, what: int, arg: object) -> None:
        for zone in zones:
            zone.reload_aside(base)

    def stop(signum: int, what: int, arg: object) -> None:
        base.loopbreak()

    events = [base.signal(signal.SIGHUP, reload)]
    events += [base.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)]
    for event in events:
        event.add()
    try:
        yield
    finally:
        for event in events:
            event.close()


def _listen(server: DnsServer, host: str, port: int) -> None:
    """Bind one port for UDP and TCP.  A free one is free for TCP first, so it may take a few tries.

    Raises SocketError for a busy one.
    """
    for left in reversed(range(1 if port else FREE_PORT_TRIES)):
        tcp = server.bind_tcp(host, port)
        try:
            server.bind_udp(host, tcp.port)
            break
        except SocketError:
            tcp.close()
            if not left:
                raise
    where = f"[{host}]" if ":" in host else host
    print(f"listening on {where}:{tcp.port}, UDP and TCP", flush=True)
