"""The servers of bench/evhttp_server.c on evsvc, with every default limit and time-out on.

Usage: http_server.py [hello|look|echo|routes|file FILE|tls CERTIFICATE].  Binds 127.0.0.1 on any
free port, prints it on one line, and serves until it is killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from evsvc import EventBase, HttpServer
from evsvc.core.tls import server_context
from evsvc.http import ServerRequest

BODY = b"Thanks for the request!"
ROUTES = 1000


def hello(request: ServerRequest, arg: object) -> None:
    """Answer any request with the one small page."""
    request.output_headers.add("Content-Type", "text/plain")
    request.send_reply(200, "OK", BODY)


def look(request: ServerRequest, arg: object) -> None:
    """Answer as `hello` does, to who has sent the two fields that it looks at."""
    headers = request.input_headers
    if headers.find("User-Agent") is None or headers.find("Accept-Language") is None:
        request.send_error(400)
    else:
        hello(request, arg)


def echo(request: ServerRequest, arg: object) -> None:
    """Answer with the body of the request."""
    request.output_headers.add("Content-Type", "text/plain")
    request.send_reply(200, "OK", request.take_body())


def main(kind: str = "hello", file: str = "") -> None:
    """Serve until killed."""
    with EventBase() as base:
        server = HttpServer(base)
        if kind == "routes":
            for number in range(ROUTES):
                server.set_cb(f"/route/{number}", hello)
        elif kind == "file":
            server.serve_directory("/", Path(file).parent)
        else:
            server.set_gencb({"look": look, "echo": echo}.get(kind, hello))
        tls = server_context(file) if kind == "tls" else None
        bound = server.bind_socket("127.0.0.1", 0, tls=tls)
        print(bound.port, flush=True)
        base.dispatch()


if __name__ == "__main__":
    main(*sys.argv[1:])
