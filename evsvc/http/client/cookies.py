"""Cookies, by the standard library's jar (RFC 6265): what a request takes along, and what stays.

How many are kept, and for whom, is the jar's policy; `http.cookiejar.CookieJar()` keeps those that
the server of a URL may set for itself.
"""

from __future__ import annotations

import http.cookiejar
import urllib.request
from email.message import Message
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..wire.headers import Headers
    from .target import Target

MAX_COOKIES = 3000
"""How many a jar holds after a response at the most; the oldest go first (RFC 6265 6.1)."""


def add_cookies(jar: http.cookiejar.CookieJar, target: Target, fields: Headers) -> None:
    """Add the cookies for a URL to a request, behind one that the program has set."""
    request = urllib.request.Request(target.url)
    jar.add_cookie_header(request)
    value = request.get_header("Cookie")
    if value is not None and "Cookie" not in fields:
        fields.add("Cookie", value)


def keep_cookies(jar: http.cookiejar.CookieJar, target: Target, headers: Headers) -> None:
    """Keep the cookies that a response sets."""
    values = headers.get_all("Set-Cookie")
    if not values:
        return
    message = Message()
    for value in values:
        message["Set-Cookie"] = value
    response = cast("Any", _Response(message))
    jar.extract_cookies(response, urllib.request.Request(target.url))
    surplus = len(jar) - MAX_COOKIES
    for cookie in list(jar)[: max(surplus, 0)]:
        jar.clear(cookie.domain, cookie.path, cookie.name)


class _Response:
    """What a jar asks of a response."""

    def __init__(self, message: Message) -> None:
        self._message = message

    def info(self) -> Message:
        return self._message
