"""What the commands share that connect to a server: its URL, names, time."""

from __future__ import annotations

import argparse

from ..core import ArgumentError, EventBase
from ..dns import EVDNS_BASE_INITIALIZE_NAMESERVERS, Resolver
from ..http import ClientOptions, HttpConnection, HttpUri

DEFAULT_TIMEOUT_S = 10.0

_PORTS = {"http": 80, "https": 443}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `--nameserver` and `--timeout`."""
    parser.add_argument(
        "--nameserver", metavar="IP[:PORT]", help="look names up here, not as the system does"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="for connecting, and for the answer (default: %(default)s)",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(f"not a number of seconds: {text!r}")
    return seconds


def parse_url(text: str) -> HttpUri:
    """Parse an http or https URL.  Raises ArgumentError for another scheme or without a host."""
    uri = HttpUri.parse(text)
    if uri.scheme is None or uri.scheme.lower() not in _PORTS or not uri.host:
        raise ArgumentError(f"not an http or https URL: {text!r}")
    return uri


def make_resolver(base: EventBase, nameserver: str | None) -> Resolver:
    """Return a resolver that asks `nameserver` alone, or with None as the system is set up."""
    if nameserver is None:
        return Resolver(base, EVDNS_BASE_INITIALIZE_NAMESERVERS)
    resolver = Resolver(base, 0)
    try:
        resolver.nameserver_ip_add(nameserver)
    except BaseException:
        resolver.close()
        raise
    return resolver


def connect(base: EventBase, resolver: Resolver, uri: HttpUri, timeout_s: float) -> HttpConnection:
    """Return a connection to a URL's server, with verified TLS for https."""
    options = ClientOptions(connect_s=timeout_s, read_s=timeout_s, write_s=timeout_s)
    host = (uri.host or "").strip("[]")
    scheme = (uri.scheme or "http").lower()
    port = _PORTS[scheme] if uri.port < 0 else uri.port
    return HttpConnection(base, resolver, host, port, options, tls=scheme == "https")
