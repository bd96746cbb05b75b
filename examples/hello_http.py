"""A live HTTP endpoint in a few lines: a general callback and a path callback.

Usage: hello_http.py [port]
"""

import argparse
import sys

from evsvc import EventBase, HttpServer
from evsvc.http import EVHTTP_URI_QUERY_NONCONFORMANT


def hello(request, arg):
    """Answer whatever has no callback of its own."""
    request.output_headers.add("Content-Type", "text/plain")
    request.send_reply(200, "OK", b"Thanks for the request!\n")


def greet(request, greeting):
    """Answer /greet?name=somebody; `greeting` is the argument given to set_cb."""
    query = request.parse_query(EVHTTP_URI_QUERY_NONCONFORMANT)
    name = query.find("name") or "nobody"
    request.output_headers.add("Content-Type", "text/plain; charset=utf-8")
    request.send_reply(200, None, f"{greeting}, {name}!\n".encode())


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8080)
port = parser.parse_args().port

with EventBase() as base, HttpServer(base) as server:
    server.set_gencb(hello, None)
    server.set_cb("/greet", greet, "Good morning", methods=("GET",))
    try:
        bound = server.bind_socket("127.0.0.1", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"hello_http.py: {error}")
    print(f"http://127.0.0.1:{bound.port}/", flush=True)
    base.dispatch()
