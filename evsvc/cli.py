"""The command `evsvc`: a demonstration, servers, and small clients."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import demo
from .commands import dns_serve, fetch, resolve, rpc_call, rpc_describe, rpc_gen, serve
from .core import Error
from .version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 1 after a failure, 2 for bad usage."""
    args = make_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (Error, OSError) as exc:
        print(f"evsvc: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="evsvc", description="Network services on one event base, in the manner of libevent."
    )
    parser.add_argument("--version", action="version", version=f"evsvc {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    demo.add_arguments(
        commands.add_parser("demo", help="run HTTP, DNS and RPC services in one process")
    )
    serve.add_arguments(
        commands.add_parser("serve", help="serve a folder or an application, in worker processes")
    )
    fetch.add_arguments(commands.add_parser("fetch", help="get a URL, and print or save the body"))
    resolve.add_arguments(commands.add_parser("resolve", help="ask nameservers for records"))
    dns = commands.add_parser("dns", help="serve DNS").add_subparsers(
        required=True, metavar="ACTION"
    )
    dns_serve.add_arguments(dns.add_parser("serve", help="serve zones from master files"))
    rpc = commands.add_parser("rpc", help="make remote calls").add_subparsers(
        required=True, metavar="ACTION"
    )
    rpc_call.add_arguments(rpc.add_parser("call", help="make one call"))
    rpc_describe.add_arguments(rpc.add_parser("describe", help="print what a server offers"))
    rpc_gen.add_arguments(rpc.add_parser("gen", help="make Python of a .rpc file"))
    return parser
