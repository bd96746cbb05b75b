"""Where a URL leads: the server, and what it is asked for."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urljoin

from ...core import ArgumentError, ArgumentTypeError
from ..query import encode_uri
from ..uri import HttpUri
from .authorization import BasicAuth, basic_of_userinfo
from .dialer import HTTP_PORT, HTTPS_PORT
from .request import host_field

_PORTS = {"http": HTTP_PORT, "https": HTTPS_PORT}

# What may stand in a URL as it is (RFC 3986 2); "%" before two hexadecimal digits.
_PLAIN = re.compile(r"(?:[!#$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]|%[0-9A-Fa-f]{2})*")


class Origin(NamedTuple):
    """A server: scheme, host in lower case and without brackets, port (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken to in TLS."""
        return self.scheme == "https"

    def __str__(self) -> str:
        return f"{self.scheme}://{host_field(self.host, self.port, _PORTS[self.scheme])}"


class Target(NamedTuple):
    """A URL taken apart.

    path: as it is asked for, with the query.  auth: what stands before the host, or None: it is
    taken out of the URL, so that no log and no other server sees it.  fragment: or None.
    """

    origin: Origin
    path: str
    auth: BasicAuth | None = None
    fragment: str | None = None

    @property
    def url(self) -> str:
        """The URL, without the fragment."""
        return f"{self.origin}{self.path}"


def parse_target(url: str) -> Target:
    """Take an http or https URL apart; what it cannot hold is percent-encoded as UTF-8.

    Raises ArgumentTypeError for what is no text, ArgumentError for another scheme, a host that is
    none, or one beyond ASCII: its A-label ("xn--...") is wanted.
    """
    if not isinstance(url, str):
        raise ArgumentTypeError(f"a URL is a text: {url!r}")
    uri = HttpUri.parse(url if _PLAIN.fullmatch(url) else _encoded(url))
    scheme = (uri.scheme or "").lower()
    if scheme not in _PORTS or not uri.host:
        raise ArgumentError(f"not an http or https URL: {url!r}")
    port = _PORTS[scheme] if uri.port < 0 else uri.port
    if not port:
        raise ArgumentError(f"not a port: {url!r}")
    path = uri.path or "/"
    if uri.query is not None:
        path = f"{path}?{uri.query}"
    origin = Origin(scheme, uri.host.strip("[]").lower(), port)
    return Target(origin, path, basic_of_userinfo(uri.userinfo), uri.fragment)


def resolve(base: Target, reference: str) -> Target:
    """Return where a reference in a response leads (RFC 3986 5); raises as `parse_target`."""
    target = parse_target(urljoin(base.url, reference))
    if target.fragment:
        return target
    return Target(target.origin, target.path, target.auth, base.fragment)


def _encoded(url: str) -> str:
    """Encode what a URL cannot hold; a "%" that stands for nothing, too.  The host stays: it is
    judged as it is."""
    head, mark, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not authority.isascii():
        raise ArgumentError(f"the host is beyond ASCII; its A-label is wanted: {url!r}")
    encoded = "".join(
        piece if _PLAIN.fullmatch(piece) else encode_uri(piece)
        for piece in re.split(r"(%[0-9A-Fa-f]{2}|[!#$&'()*+,./:;=?@\[\]])", path)
    )
    return f"{head}{mark}{authority}{slash}{encoded}"
