"""Gets a URL through a proxy that is asked with CONNECT: libevent's sample/http-connect.c.

Usage: http_connect.py PROXY:PORT http[s]://HOST[:PORT][/PATH]
"""

import argparse
import sys

from evsvc import EventBase, HttpConnection, HttpRequest, Resolver
from evsvc.http import ConnectProxy, HttpUri


def take(request, arg):
    """Write a piece of the page."""
    sys.stdout.write(bytes(request.input_buffer).decode(errors="replace"))


def done(request, made):
    """Tell how it went, and end."""
    made[0].connection.close()
    if request is None or made[0].error is not None:
        sys.exit(f"http_connect.py: {made[0].error}")
    print(f"\n{request.response_code} {request.response_code_line}", file=sys.stderr)


parser = argparse.ArgumentParser()
parser.add_argument("proxy")
parser.add_argument("url")
args = parser.parse_args()
host, _, port = args.proxy.rpartition(":")
url = HttpUri.parse(args.url)
is_secure = url.scheme == "https"

with EventBase() as base, Resolver(base) as resolver:
    try:
        proxy = ConnectProxy(address=host, port=int(port))
        server_port = url.port if url.port > 0 else 443 if is_secure else 80
        connection = HttpConnection(
            base, resolver, url.host or "", server_port, tls=is_secure, proxy=proxy
        )
    except ValueError as error:
        parser.error(str(error))
    made = []
    made.append(HttpRequest(done, made))
    made[0].set_chunked_cb(take)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    connection.make_request(made[0], "GET", target)
    base.dispatch()
