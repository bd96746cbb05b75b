"""Two HTTP servers of one program, found by DNS: a registry tells of those that are well.

Usage: service_registry.py [port]

`GET /ill` has a server say of itself that it is not well, and `GET /well` that it is again; DNS
answers by it from the next query on.
"""

import argparse
import sys

from evsvc import DnsServer, EventBase, HttpServer
from evsvc.dns import DnsRegistry

registry = DnsRegistry("svc.test")


def serve_http(base, name):
    """Start an HTTP server on any free port, and tell the registry of it."""

    def answer(request, arg):
        request.output_headers.add("Content-Type", "text/plain")
        request.send_reply(200, None, f"I am {name}.\n".encode())

    def set_health(request, healthy):
        endpoint.healthy = healthy
        answer(request, None)

    server = HttpServer(base)
    server.set_gencb(answer)
    server.set_cb("/ill", set_health, False)
    server.set_cb("/well", set_health, True)
    bound = server.bind_socket("127.0.0.1", 0)
    endpoint = registry.register("web", (bound.address, bound.port), name=name)
    print(f"{name}: http://127.0.0.1:{bound.port}/", flush=True)
    return server


parser = argparse.ArgumentParser()
parser.add_argument("port", type=int, nargs="?", default=8053)
port = parser.parse_args().port

with EventBase() as base, DnsServer(base, registry) as dns_server:
    try:
        bound = dns_server.bind_udp("127.0.0.1", port)
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f"service_registry.py: {error}")
    with serve_http(base, "first"), serve_http(base, "second"):
        print(f"dig @127.0.0.1 -p {bound.port} _web._tcp.svc.test SRV", flush=True)
        base.dispatch()
