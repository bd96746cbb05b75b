"""`evsvc fetch` and `evsvc rpc call`: one request, its answer on standard output."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import sys

from .core import EVLOOP_ONCE, ArgumentError, EventBase
from .dns import EVDNS_BASE_INITIALIZE_NAMESERVERS, Resolver
from .http import (
    ClientOptions,
    HttpConnection,
    HttpRequest,
    HttpUri,
)
from .rpc import (
    JsonCodec,
    Rpc,
    RpcPool,
    RpcStatus,
)

DEFAULT_TIMEOUT_S = 10.0


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc fetch`."""
    parser.add_argument("url", metavar="URL", help="http://host[:port]/path")
    parser.add_argument("-i", "--include", action="store_true", help="print the header, too")
    _add_common_arguments(parser)
    parser.set_defaults(run=fetch)


def add_call_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc rpc call`."""
    parser.add_argument("url", metavar="URL", help="the server: http://host[:port]")
    parser.add_argument("rpc", metavar="MODULE:NAME", help="the definition, here or installed")
    parser.add_argument("request", metavar="JSON", help="the request as a JSON object")
    _add_common_arguments(parser)
    parser.set_defaults(run=call)


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nameserver", metavar="IP[:PORT]", help="look names up here, not as the system does"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="for connecting, and for the answer (default: %(default)s)",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"not a number of seconds: {text!r}")
    return seconds


def fetch(args: argparse.Namespace) -> int:
    """Get a URL and print the body; 1 when no response came."""
    uri = parse_url(args.url)
    target = (uri.path or "/") + ("" if uri.query is None else f"?{uri.query}")
    with EventBase() as base, make_resolver(base, args.nameserver) as resolver:
        connection = _connect(base, resolver, uri, args.timeout)
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


def call(args: argparse.Namespace) -> int:
    """Make one remote call and print the reply as JSON; 1 when it failed."""
    uri = parse_url(args.url)
    rpc = load_definition(args.rpc)
    message = JsonCodec().decode(rpc.request_shape, args.request.encode())
    outcome: list[tuple[RpcStatus, object]] = []
    with (
        EventBase() as base,
        make_resolver(base, args.nameserver) as resolver,
        _connect(base, resolver, uri, args.timeout) as connection,
        RpcPool(base, timeout=args.timeout) as pool,
    ):
        pool.add_connection(connection)
        pool.make_request(rpc, message, lambda *result: outcome.append((result[0], result[2])))
        while not outcome:
            base.loop(EVLOOP_ONCE)
    status, reply = outcome[0]
    if status.error:
        print(f"evsvc: {status.error.name}: {status.message}", file=sys.stderr)
        return 1
    print(json.dumps(dataclasses.asdict(reply)))  # type: ignore[call-overload]  # a dataclass
    return 0


def parse_url(text: str) -> HttpUri:
    """Parse an http URL.  Raises ArgumentError for another scheme or without a host."""
    uri = HttpUri.parse(text)
    if uri.scheme is None or uri.scheme.lower() != "http" or not uri.host:
        raise ArgumentError(f"not an http URL: {text!r}")
    return uri


def load_definition(text: str) -> Rpc[object, object]:
    """Import the definition that `module:name` names.  Raises ArgumentError when there is none.

    Modules of the current folder are seen, too, as `python -m evsvc` sees them.
    """
    module_name, _, name = text.partition(":")
    if "" not in sys.path and not sys.flags.safe_path:
        sys.path.insert(0, "")
    try:
        definition = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ArgumentError(f"no definition at {text!r}: {exc}") from exc
    if not isinstance(definition, Rpc):
        raise ArgumentError(f"{text!r} is no Rpc but {type(definition).__name__}")
    return definition


def make_resolver(base: EventBase, nameserver: str | None) -> Resolver:
    """Return a resolver that asks `nameserver` alone, or with None as the system is set up."""
    if nameserver is None:
        return Resolver(base, EVDNS_BASE_INITIALIZE_NAMESERVERS)
    resolver = Resolver(base, 0)
    try:
        resolver.nameserver_ip_add(nameserver)
    except BaseException:
        resolver.close()
        raise
    return resolver


def _connect(base: EventBase, resolver: Resolver, uri: HttpUri, timeout_s: float) -> HttpConnection:
    options = ClientOptions(connect_s=timeout_s, read_s=timeout_s, write_s=timeout_s)
    host = (uri.host or "").strip("[]")
    return HttpConnection(base, resolver, host, 80 if uri.port < 0 else uri.port, options)
