"""A live HTTP endpoint in a few lines: a general callback and a path callback.

Usage: hello_http.py [port]
"""

import sys

from evsvc import EventBase, HttpServer


def hello(request, arg):
    """Answer whatever has no callback of its own."""
    request.output_headers.add("Content-Type", "text/plain")
    request.send_reply(200, "OK", b"Thanks for the request!\n")


def greet(request, greeting):
    """Answer /greet?name=somebody; `greeting` is the argument given to set_cb."""
    name = request.parse_query().find("name") or "nobody"
    request.output_headers.add("Content-Type", "text/plain; charset=utf-8")
    request.send_reply(200, None, f"{greeting}, {name}!\n".encode())


base = EventBase()
server = HttpServer(base)
server.set_gencb(hello, None)
server.set_cb("/greet", greet, "Good morning", methods=("GET",))
bound = server.bind_socket("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080)
print(f"http://127.0.0.1:{bound.port}/", flush=True)
base.dispatch()
