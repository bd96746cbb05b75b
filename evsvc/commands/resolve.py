"""`evsvc resolve NAME [TYPE...]`: what nameservers say, as dig prints it or as JSON."""

from __future__ import annotations

import argparse
import ipaddress
import json
import ssl
import sys

from ..core import ArgumentError, EventBase
from ..core.tls import client_context
from ..core.util import ip_version
from ..dns import (
    DNS_ERR_NODATA,
    DNS_ERR_NONE,
    DNS_ERR_NOTEXIST,
    DNS_QUERY_NO_SEARCH,
    DNS_QUERY_USEVC,
    EVDNS_BASE_INITIALIZE_NAMESERVERS,
    Answer,
    Record,
    Resolver,
    ResolverOptions,
    err_to_string,
    record_to_text,
    type_to_text,
)
from ..doh import add_doh_nameserver
from . import connecting

EXIT_FAILED = 1
EXIT_ABSENT = 3
_SHORT_ATTEMPTS = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc resolve`."""
    parser.epilog = (
        "exit codes: 0 some records were found, 1 no nameserver gave an answer, 2 bad usage, "
        "3 the name does not exist or has no such records"
    )
    parser.add_argument("name", metavar="NAME", help="a name, or an IP address for its names")
    parser.add_argument(
        "types", metavar="TYPE", nargs="*", help="types of records (default: A and AAAA)"
    )
    connecting.add_arguments(parser)
    parser.add_argument("--search", action="store_true", help="try the system's search list")
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.add_argument("--short", action="store_true", help="print the data of records alone")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--tcp", action="store_true", help="ask over TCP")
    way.add_argument(
        "--tls", metavar="HOST", help="ask --nameserver over TLS; its certificate is for HOST"
    )
    way.add_argument(
        "--https",
        metavar="URL",
        help="ask over HTTPS; --nameserver, or the system, looks the URL's host up",
    )
    parser.add_argument("--address", metavar="IP", help="where the host of --https is")
    parser.add_argument("--cafile", metavar="FILE", help="whom to trust, in place of the system's")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look records up and print them; see the epilog for the exit codes."""
    name, types = args.name, args.types
    if ip_version(name) is not None:
        name, types = ipaddress.ip_address(name).reverse_pointer, types or ["PTR"]
    types = types or ["A", "AAAA"]
    flags = (0 if args.search else DNS_QUERY_NO_SEARCH) | (DNS_QUERY_USEVC if args.tcp else 0)
    answers: dict[int, Answer] = {}
    with EventBase() as base:
        helper, resolver = _make_resolvers(base, args)
        with helper, resolver:

            def take(answer: Answer, index: int) -> None:
                answers[index] = answer
                if len(answers) == len(types):
                    base.loopbreak()

            for index, rdtype in enumerate(types):
                resolver.query(name, rdtype, take, index, flags=flags, timeout_s=args.timeout)
            base.dispatch()
    found = [(rdtype, answers[index]) for index, rdtype in enumerate(types)]
    if args.json:
        print(json.dumps([_as_dict(name, rdtype, answer) for rdtype, answer in found], indent=2))
    else:
        _print_text(name, found, short=args.short)
    results = {answer.result for _, answer in found}
    if DNS_ERR_NONE in results:
        return 0
    return EXIT_ABSENT if results <= {DNS_ERR_NODATA, DNS_ERR_NOTEXIST} else EXIT_FAILED


def _make_resolvers(base: EventBase, args: argparse.Namespace) -> tuple[Resolver, Resolver]:
    """Return who looks up the host of a URL, and who is asked; they may be the same."""
    if args.https is None and args.tls is None:
        if args.cafile or args.address:
            raise ArgumentError("--cafile goes with --tls or --https, --address with --https")
        resolver = connecting.make_resolver(base, args.nameserver)
        return resolver, resolver
    options = ResolverOptions(attempts=_SHORT_ATTEMPTS, timeout_s=args.timeout)
    tls: bool | ssl.SSLContext = True
    if args.cafile:
        tls = client_context(cafile=args.cafile)
    resolver = Resolver(base, 0, options=options)
    if args.tls is not None:
        if args.nameserver is None or args.address:
            raise ArgumentError("--tls wants a --nameserver, and no --address")
        resolver.nameserver_ip_add(args.nameserver, tls=tls, server_hostname=args.tls)
        return resolver, resolver
    if args.nameserver is not None:
        helper = connecting.make_resolver(base, args.nameserver)
    else:
        helper = Resolver(base, EVDNS_BASE_INITIALIZE_NAMESERVERS)
    add_doh_nameserver(resolver, args.https, address=args.address, names=helper, tls=tls)
    return helper, resolver


def _print_text(name: str, found: list[tuple[str, Answer]], *, short: bool) -> None:
    printed = set()
    for rdtype, answer in found:
        for record in answer.records:
            text = record_to_text(record)
            line = text if short else f"{_line_head(record)}\t{text}"
            if line not in printed:
                printed.add(line)
                print(line)
        if answer.result != DNS_ERR_NONE:
            print(
                f"evsvc: {name} {rdtype.upper()}: {err_to_string(answer.result)}", file=sys.stderr
            )


def _line_head(record: Record) -> str:
    owner = record.name if record.name.endswith(".") else f"{record.name}."
    return f"{owner}\t{record.ttl_s}\tIN\t{type_to_text(record.type)}"


def _as_dict(name: str, rdtype: str, answer: Answer) -> dict[str, object]:
    return {
        "name": name,
        "type": rdtype.upper(),
        "result": answer.result.name.removeprefix("DNS_ERR_"),
        "canonical_name": answer.name if answer.is_alias else None,
        "ttl": answer.ttl_s,
        "records": [
            {
                "name": record.name,
                "type": type_to_text(record.type),
                "ttl": record.ttl_s,
                "data": record_to_text(record),
            }
            for record in answer.records
        ],
    }
