"""The server: a path of an `HttpServer` whose requests are queries of a `DnsServer`."""

from __future__ import annotations

import binascii
import re
import string
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from functools import partial

from ..core import ArgumentError
from ..dns import DnsServer
from ..dns.wire.framing import HEADER_BYTES
from ..dns.wire.lifetime import lifetime_of
from ..dns.wire.replies import QR
from ..http import HttpServer, ServerRequest

CONTENT_TYPE = "application/dns-message"
MAX_QUERY_BYTES = 65535
_BASE64URL = re.compile("[A-Za-z0-9_-]+")
UNIX_CLIENT = ("127.0.0.1", 0)
"""The address of clients of a Unix socket, which have none: they are on this machine."""

HIDDEN_CLIENT = ("0.0.0.0", 0)
"""The address of clients that a trusted proxy hides: they are in no network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DohOptions:
    """How `mount_doh` answers.  Raises ArgumentError for a value out of range.

    query_bytes: longest query read; a longer one is answered 413.
    max_age_s:   longest time for which HTTP caches may keep a reply, whatever its TTLs say.
    """

    query_bytes: int = 4096
    max_age_s: int = 86400

    def __post_init__(self) -> None:
        if not HEADER_BYTES <= self.query_bytes <= MAX_QUERY_BYTES:
            raise ArgumentError(
                f"query_bytes is from {HEADER_BYTES} to {MAX_QUERY_BYTES}: {self.query_bytes!r}"
            )
        if self.max_age_s < 0:
            raise ArgumentError(f"max_age_s must not be negative: {self.max_age_s!r}")


def mount_doh(
    http_server: HttpServer,
    dns_server: DnsServer,
    path: str = "/dns-query",
    *,
    options: DohOptions | None = None,
) -> None:
    """Answer DNS queries over HTTP at a path, by GET and POST, as `dns_server` does elsewhere.

    The DNS server needs no port of its own.  The reply says for how long HTTP caches may keep it.
    What is no query is answered 400, 413 or 415, and a query that the program drops 503.  The way
    is only as private as the HTTP server's: give that one TLS, or put it behind a proxy that has
    it.  Clients of a proxy are known by their own addresses when the HTTP server trusts it
    (`set_trusted_proxies`); else they all have the proxy's, which may be that of a neighbour.

    `http_server.del_cb(path)` ends it.  Raises ArgumentError for a path that is taken, or none.
    Source: RFC 8484.
    """
    handler = partial(_answer, dns_server, options or DohOptions())
    http_server.set_cb(path, handler, methods=("GET", "POST"))


def _answer(
    dns_server: DnsServer, options: DohOptions, request: ServerRequest, arg: object
) -> None:
    if request.method == "POST":
        content_type = request.input_headers.find("Content-Type") or ""
        if content_type.partition(";")[0].strip().lower() != CONTENT_TYPE:
            request.send_error(415, None, ("Accept-Post", CONTENT_TYPE))
            return
        query: bytes | None = bytes(request.input_buffer)
    else:
        query = _query_of_target(request)
    if query is None or len(query) < HEADER_BYTES or query[2] & QR >> 8:
        request.send_error(400)
    elif len(query) > options.query_bytes:
        request.send_error(413)
    else:
        done = partial(_reply, request, options)
        dns_server.handle_message(query, _address_of(request), done)


def _address_of(request: ServerRequest) -> tuple[str, int]:
    """Return the client's address, as far as proxies that are trusted tell it."""
    host, port, *_ = request.client
    if not host:
        return UNIX_CLIENT
    return (host, port) if host[0] in string.hexdigits + ":" else HIDDEN_CLIENT


def _query_of_target(request: ServerRequest) -> bytes | None:
    """Return the query of a GET, in base64url without padding; None where there is none."""
    value = request.parse_query().find("dns")
    if value is None or not _BASE64URL.fullmatch(value):  # Python's decoder skips other letters
        return None
    try:
        return urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        return None


def _reply(request: ServerRequest, options: DohOptions, reply: bytes | None) -> None:
    """Send a reply, or say that there is none."""
    if reply is None:
        request.send_error(503)
        return
    max_age_s = min(lifetime_of(reply), options.max_age_s)
    request.output_headers.add("Content-Type", CONTENT_TYPE)
    request.output_headers.add("Cache-Control", f"max-age={max_age_s}")
    request.send_reply(200, None, reply)
