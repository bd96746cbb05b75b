"""Proxies: which one a URL goes through, from the environment or by the program's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self
from urllib.request import getproxies_environment

from ...core import ArgumentError
from .authorization import BasicAuth
from .target import Origin, parse_target


class Proxy(NamedTuple):
    """An HTTP proxy: where it is, and who we are there."""

    origin: Origin
    auth: BasicAuth | None

    def fields(self) -> tuple[tuple[str, str], ...]:
        """Return what it wants to see."""
        if self.auth is None:
            return ()
        return (("Proxy-Authorization", self.auth.field_value()),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """The proxies for http and for https; None goes straight.

    http, https: the proxy's URL, with user and password where it wants them.  no_proxy: hosts that
    are asked straight, with commas between; a name means all names below it, "*" all.

    Raises ArgumentError for what is no http or https URL.
    """

    http: str | None = None
    https: str | None = None
    no_proxy: str = ""

    def __post_init__(self) -> None:
        for url in (self.http, self.https):
            if url is not None:
                parse_proxy(url)

    @classmethod
    def from_environment(cls) -> Self:
        """Return what http_proxy, https_proxy, all_proxy and no_proxy say, in either case.

        Raises ArgumentError where one says what is no URL.
        """
        found: Mapping[str, str] = getproxies_environment()
        every = found.get("all")
        return cls(
            http=found.get("http", every) or None,
            https=found.get("https", every) or None,
            no_proxy=found.get("no", ""),
        )

    def find(self, origin: Origin) -> Proxy | None:
        """Return the proxy for a server, or None."""
        url = self.https if origin.is_secure else self.http
        if url is None:
            return None
        if any(_fits(each.strip().lower(), origin) for each in self.no_proxy.split(",")):
            return None
        return parse_proxy(url)


def _fits(pattern: str, origin: Origin) -> bool:
    """Tell whether an entry of no_proxy means a server: a name, those below it, or "*"; with a
    port or without."""
    if pattern == "*":
        return True
    host, colon, port = pattern.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        if int(port) != origin.port:
            return False
        pattern = host
    pattern = pattern.strip("[]").lstrip(".")
    return bool(pattern) and (origin.host == pattern or origin.host.endswith(f".{pattern}"))


def parse_proxy(url: str) -> Proxy:
    """Return the proxy that a URL names; a bare `host:port` is http.

    Raises ArgumentError for another scheme, such as socks5.
    """
    target = parse_target(url if "://" in url else f"http://{url}")
    if target.path != "/":
        raise ArgumentError(f"a proxy's URL has no path: {url!r}")
    return Proxy(target.origin, target.auth)
