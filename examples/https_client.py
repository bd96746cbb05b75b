"""Gets pages by URL, and says what came of each: redirects, https, names, packed bodies.

Usage: https_client.py [--cafile FILE] URL...
"""

import argparse

from evsvc import EventBase, Resolver
from evsvc.core.tls import client_context
from evsvc.http import HttpClient, HttpClientOptions, Proxies


def done(response, url):
    """Say what came of one request; `response.error` is why there is no answer."""
    if response.error is not None:
        print(f"{url}: {type(response.error).__name__}: {response.error}", flush=True)
        return
    way = "".join(f" <- {each.status} {each.url}" for each in reversed(response.history))
    kind = response.headers.find("Content-Type")
    size = len(response.body)
    print(f"{response.url}: {response.status}, {size} bytes of {kind}{way}", flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--cafile", help="whom to trust, in place of whom the system trusts")
parser.add_argument("urls", metavar="URL", nargs="+")
args = parser.parse_args()
trust = client_context(cafile=args.cafile) if args.cafile else None
options = HttpClientOptions(timeout_s=30.0)


def count(response, url):
    """End when all is done."""
    done(response, url)
    left.remove(url)
    if not left:
        base.loopbreak()


with (
    EventBase() as base,
    Resolver(base) as resolver,
    HttpClient(base, resolver, options, tls=trust, proxies=Proxies.from_environment()) as client,
):
    left = list(args.urls)
    for each in args.urls:
        try:
            client.get(each, count, each)
        except ValueError as error:
            parser.error(str(error))
    base.dispatch()
