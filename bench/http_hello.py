"""The hello server of bench/evhttp_hello.c on evsvc, with every default limit and time-out on.

Usage: http_hello.py [port].  Binds 127.0.0.1 on the port (0 or none: any free one), prints the
port it got on one line, and serves until it is killed.
"""

from __future__ import annotations

import sys

from evsvc import EventBase, HttpServer
from evsvc.http import HttpRequest

BODY = b"Thanks for the request!"


def hello(request: HttpRequest, arg: object) -> None:
    """Answer any request with the one small page."""
    request.output_headers.add("Content-Type", "text/plain")
    request.send_reply(200, "OK", BODY)


def main() -> None:
    """Serve on the port of the command line until killed."""
    with EventBase() as base:
        server = HttpServer(base)
        server.set_gencb(hello, None)
        bound = server.bind_socket("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0)
        print(bound.port, flush=True)
        base.dispatch()


if __name__ == "__main__":
    main()
