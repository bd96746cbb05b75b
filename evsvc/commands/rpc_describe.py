"""`evsvc rpc describe URL`: what a server offers, as it says itself."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..core import EVLOOP_ONCE, EventBase
from ..http import HttpRequest
from ..rpc import RpcError
from ..rpc.server.server import DESCRIPTION_PATH
from . import connecting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `evsvc rpc describe`."""
    parser.add_argument("url", metavar="URL", help="the server: http[s]://host[:port][/path]")
    parser.add_argument("--json", action="store_true", help="print it as the server sent it")
    connecting.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the methods and their messages; 1 when the server tells none."""
    uri = connecting.parse_url(args.url)
    path = uri.path if uri.path.strip("/") else DESCRIPTION_PATH
    request = HttpRequest()
    with (
        EventBase() as base,
        connecting.make_resolver(base, args.nameserver) as resolver,
        connecting.connect(base, resolver, uri, args.timeout) as connection,
    ):
        connection.make_request(request, "GET", path)
        while request.connection is not None:
            base.loop(EVLOOP_ONCE)
    if request.error is not None:
        raise request.error
    text = bytes(request.input_buffer).decode(errors="replace")
    if request.response_code != 200:
        text = f"{args.url}: no description at {path}: {request.response_code}"
        raise RpcError(f"{text}; a server has one by RpcServer.serve_description")
    if args.json:
        print(text, end="")
        return 0
    try:
        lines = list(_lines(json.loads(text)))
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise RpcError(f"{args.url}: {path} is no description of RPCs: {exc!r}") from None
    print("\n".join(lines))
    return 0


def _lines(description: dict[str, Any]) -> list[str]:
    """Return a description for people."""
    lines = []
    for name, method in description["methods"].items():
        kind = method.get("kind", "unary")  # servers of before streams do not say
        note = "  (idempotent)" if method["idempotent"] else ""
        note += "" if kind == "unary" else f"  ({kind})"
        lines.append(f"{name}({method['request']}) -> {method['reply']}{note}")
    for name, message in description["messages"].items():
        lines += ["", name]
        for field in message:
            note = "" if field["required"] else "  (optional)"
            lines.append(f"    {field['name']}: {field['type']}{note}")
    return lines
