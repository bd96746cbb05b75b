"""Downloads one file in several parts at once, and shows how far it is.

Usage: parallel_download.py [--parts N] [--cafile FILE] URL FILE

The server is asked for the length first.  One that has no ranges is asked for all at once; a file
that changes between the parts is noticed by its ETag (If-Range), and given up.
"""

import argparse
import os
import sys

from evsvc import EventBase, Resolver
from evsvc.core.tls import client_context
from evsvc.http import HttpClient, HttpClientOptions, PoolOptions


class Download:
    """A file that grows at several places at once."""

    def __init__(self, base, client, url, path, parts):
        self.base, self.client, self.url, self.path, self.parts = base, client, url, path, parts
        self.fd = os.open(path + ".part", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self.size, self.received, self.left, self.error = None, 0, 0, None
        client.head(url, self.begin)

    def begin(self, response, arg):
        """The length is known: ask for the parts."""
        try:
            response.raise_for_error()
        except Exception as error:
            return self.end(error)
        self.url = response.url  # behind the redirects
        tag = response.headers.find("ETag")
        length = response.headers.find("Content-Length")
        if length is None or response.headers.find("Accept-Ranges") != "bytes" or tag is None:
            return self.ask(None, {})
        self.size = int(length)
        step = -(-self.size // self.parts)
        if step == self.size:
            return self.ask(None, {})
        for first in range(0, self.size, step):
            last = min(first + step, self.size) - 1
            self.ask(first, {"Range": f"bytes={first}-{last}", "If-Range": tag})

    def ask(self, first, fields):
        """Ask for one part; `first` is where it begins, None for all."""
        self.left += 1
        place = [first or 0]
        self.client.get(
            self.url,
            self.part_done,
            (place, 200 if first is None else 206),
            headers=fields,
            datacb=self.take,
        )

    def take(self, exchange, data, arg):
        """Write a piece where it belongs."""
        place, status = arg
        if exchange.response.status == status:
            os.pwrite(self.fd, data, place[0])
            place[0] += len(data)
            self.received += len(data)
            if sys.stderr.isatty():
                print(f"\r{self.received} of {self.size or '?'} bytes", end="", file=sys.stderr)

    def part_done(self, response, arg):
        """One part is there, or will never be."""
        self.left -= 1
        if response.error is not None or response.status != arg[1]:
            self.end(response.error or f"status {response.status}, {arg[1]} was wanted")
        elif not self.left:
            self.end(None)

    def end(self, error):
        """All is there, or nothing is kept."""
        self.error = error
        self.client.close()  # with what is still under way
        os.close(self.fd)
        if error is None:
            os.replace(self.path + ".part", self.path)
        else:
            os.unlink(self.path + ".part")
        self.base.loopbreak()


parser = argparse.ArgumentParser()
parser.add_argument("--parts", type=int, default=4)
parser.add_argument("--cafile")
parser.add_argument("url", metavar="URL")
parser.add_argument("file", metavar="FILE")
args = parser.parse_args()
trust = client_context(cafile=args.cafile) if args.cafile else None
# A part is what lies on the disk: packed, it would have another length.
options = HttpClientOptions(
    decode=False, pool=PoolOptions(max_connections_per_origin=max(args.parts, 1))
)

with (
    EventBase() as base,
    Resolver(base) as resolver,
    HttpClient(base, resolver, options, tls=trust) as client,
):
    download = Download(base, client, args.url, args.file, max(args.parts, 1))
    base.dispatch()
if download.error is not None:
    sys.exit(f"parallel_download.py: {download.error}")
print(f"{download.received} bytes in {args.file}")
