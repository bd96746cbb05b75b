"""Gate: who may look.

Without a token it is whoever is on this machine, and asks for it as such: a page of another site in
a browser here (by a name that it has let point here) does not, nor what a proxy passes on.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from ..core import ArgumentError
from ..core.networks import Networks
from ..http import EVHTTP_URI_QUERY_NONCONFORMANT
from ..http.wire.grammar import split_authority

if TYPE_CHECKING:
    from ..http import ServerRequest

COOKIE = "evsvc_inspector"
TOKEN_FIELD = "token"

_PROXY_FIELDS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Gate:
    """Lets requests in by the network that they come from, and by the token, where there is one.

    Raises ArgumentError for what is no network, and for others than this machine without a token.
    """

    __slots__ = ("_networks", "_token")

    def __init__(self, networks: Sequence[str], token: str | None) -> None:
        self._networks = Networks(networks)
        if token is not None and not token:
            raise ArgumentError("a token is not empty")
        if token is None and any(ip_network(each) not in _LOOPBACK for each in networks):
            raise ArgumentError(f"a token is wanted for others than this machine: {networks!r}")
        self._token = None if token is None else token.encode()

    def lets_in(self, request: ServerRequest) -> bool:
        """Whether this request may be answered."""
        if not self._comes_from_inside(request):
            return False
        if self._token is None:
            return _is_plainly_local(request)
        return self._is_token(_cookie(request)) or self._is_token(_bearer(request))

    def brings_token(self, request: ServerRequest) -> bool:
        """Whether the token stands in the query, as a person gives it, for a cookie to be set."""
        if self._token is None or not self._comes_from_inside(request):
            return False
        return self._is_token(request.parse_query(EVHTTP_URI_QUERY_NONCONFORMANT).find(TOKEN_FIELD))

    def cookie(self, path: str) -> str:
        """Return the value of Set-Cookie by which a browser brings the token from now on."""
        assert self._token is not None
        return f"{COOKIE}={self._token.hex()}; Path={path}; HttpOnly; SameSite=Strict"

    def _is_token(self, text: str | None) -> bool:
        return (
            text is not None
            and self._token is not None
            and hmac.compare_digest(text.encode(errors="replace"), self._token)
        )

    def _comes_from_inside(self, request: ServerRequest) -> bool:
        host = request.client.address
        # On a Unix socket, which has no address, whoever may open the file may look.
        return not host or host in self._networks


def _is_plainly_local(request: ServerRequest) -> bool:
    if any(name in request.input_headers for name in _PROXY_FIELDS):
        return False
    if request.host is None:
        return True
    authority = split_authority(request.host)
    if authority is None:
        return False
    host = authority[0].strip("[]")
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _bearer(request: ServerRequest) -> str | None:
    scheme, _, token = (request.input_headers.find("Authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _cookie(request: ServerRequest) -> str | None:
    try:
        morsel = SimpleCookie(request.input_headers.find("Cookie") or "").get(COOKIE)
        return None if morsel is None else bytes.fromhex(morsel.value).decode()
    except (CookieError, ValueError):
        return None
