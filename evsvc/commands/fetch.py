"""`evsvc fetch URL`: one request, its answer on standard output."""

from __future__ import annotations

import argparse
import sys

from ..core import EVLOOP_ONCE, EventBase
from ..http import HttpRequest
from . import connecting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc fetch`."""
    parser.add_argument("url", metavar="URL", help="http[s]://host[:port]/path")
    parser.add_argument("-i", "--include", action="store_true", help="print the header, too")
    connecting.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Get a URL and print the body; 1 when no response came."""
    uri = connecting.parse_url(args.url)
    target = (uri.path or "/") + ("" if uri.query is None else f"?{uri.query}")
    with EventBase() as base, connecting.make_resolver(base, args.nameserver) as resolver:
        connection = connecting.connect(base, resolver, uri, args.timeout)
        request = HttpRequest(lambda request, arg: connection.close())
        request.set_chunked_cb(_print_piece)
        if args.include:
            request.set_header_cb(_print_header)
        connection.make_request(request, "GET", target)
        while request.connection is not None:
            base.loop(EVLOOP_ONCE)
    if request.error is not None:
        raise request.error
    return 0


def _print_header(request: HttpRequest, arg: object) -> None:
    print(f"HTTP/1.{request.minor} {request.response_code} {request.response_code_line}")
    for name, value in request.input_headers:
        print(f"{name}: {value}")
    print(flush=True)


def _print_piece(request: HttpRequest, arg: object) -> None:
    sys.stdout.buffer.write(bytes(request.input_buffer))
    sys.stdout.buffer.flush()
