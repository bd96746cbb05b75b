"""`evsvc rpc call URL METHOD JSON`: one remote call, its reply as JSON on standard output."""

from __future__ import annotations

import argparse
import importlib
import json
import sys

from ..core import EVLOOP_ONCE, ArgumentError, EventBase
from ..http import HttpRequest
from ..http.wire.status import HTTP_NOTFOUND
from ..rpc import JsonCodec, Rpc, RpcKind, RpcPool, RpcStatus
from ..rpc.definition import PATH_PREFIX
from ..rpc.failures import decode_failure
from . import connecting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc rpc call`."""
    parser.add_argument("url", metavar="URL", help="the server: http[s]://host[:port]")
    parser.add_argument(
        "rpc",
        metavar="METHOD",
        help="MODULE:NAME of a definition, here or installed; or the method's name alone, which "
        "needs none, where the server reads JSON",
    )
    parser.add_argument("request", metavar="JSON", help="the request as a JSON object")
    connecting.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make one remote call and print the reply as JSON; 1 when it failed."""
    return _call_defined(args) if ":" in args.rpc else _call_by_name(args)


def _call_defined(args: argparse.Namespace) -> int:
    uri = connecting.parse_url(args.url)
    rpc = load_definition(args.rpc)
    codec = JsonCodec()
    is_stream = rpc.kind is RpcKind.SERVER_STREAM
    if rpc.kind.is_stream and not is_stream:
        raise ArgumentError(f"{args.rpc} is a {rpc.kind.value}, which wants more than one request")

    def show(reply: object) -> None:
        text = json.dumps(json.loads(codec.encode(rpc.reply_shape, reply)), ensure_ascii=False)
        print(text, flush=is_stream)

    message = codec.decode(rpc.request_shape, args.request.encode())
    outcome: list[tuple[RpcStatus, object]] = []
    with (
        EventBase() as base,
        connecting.make_resolver(base, args.nameserver) as resolver,
        connecting.connect(base, resolver, uri, args.timeout) as connection,
        RpcPool(base, timeout=args.timeout) as pool,
    ):
        pool.add_connection(connection)
        if is_stream:
            pool.open_stream(
                rpc,
                lambda *result: outcome.append((result[0], result[2])),
                request=message,
                on_message=lambda stream, reply, arg: show(reply),
            )
        else:
            pool.make_request(rpc, message, lambda *result: outcome.append((result[0], result[2])))
        while not outcome:
            base.loop(EVLOOP_ONCE)
    status, reply = outcome[0]
    if status.error:
        print(f"evsvc: {status.error.name}: {status.message}", file=sys.stderr)
        return 1
    if not is_stream:
        show(reply)
    return 0


def _call_by_name(args: argparse.Namespace) -> int:
    """Post the JSON as it is: the server knows the types, and says what is wrong with it."""
    uri = connecting.parse_url(args.url)
    try:
        json.loads(args.request)
    except ValueError as exc:
        raise ArgumentError(f"not JSON: {args.request!r}: {exc}") from None
    request = HttpRequest()
    request.output_headers.add("Content-Type", JsonCodec.content_type)
    request.output_buffer.add(args.request.encode())
    with (
        EventBase() as base,
        connecting.make_resolver(base, args.nameserver) as resolver,
        connecting.connect(base, resolver, uri, args.timeout) as connection,
    ):
        connection.make_request(request, "POST", PATH_PREFIX + args.rpc)
        while request.connection is not None:
            base.loop(EVLOOP_ONCE)
    if request.error is not None:
        raise request.error
    body = bytes(request.input_buffer)
    if request.response_code != 200:
        content_type = request.input_headers.find("Content-Type")
        failure = decode_failure(request.response_code, content_type, body)
        text = failure.text or request.response_code_line
        if request.response_code == HTTP_NOTFOUND and not failure.text:
            text = f"the server has no RPC {args.rpc} ({text})"
        print(f"evsvc: {failure.code}: {text}", file=sys.stderr)
        if failure.details is not None:
            print(json.dumps(failure.details), file=sys.stderr)
        return 1
    print(body.decode(errors="replace"))
    return 0


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
