"""The pages that the server writes by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..query import htmlescape
from ..wire.headers import Headers
from ..wire.status import reason_phrase
from ..wire.writer import reply_head

if TYPE_CHECKING:
    from ..wire.writer import DateLine


RETRY_AFTER_S = 1
"""When who was turned away because there was too much to do may come again."""


def error_page(code: int, reason: str | None) -> bytes:
    """Return the page of `send_error`: the phrase, and the reason where one is given."""
    phrase = reason_phrase(code)
    detail = f"\n<P>{htmlescape(reason)}</P>" if reason is not None and reason != phrase else ""
    return (
        f"<HTML><HEAD>\n<TITLE>{code} {phrase}</TITLE>\n</HEAD><BODY>\n"
        f"<H1>{phrase}</H1>{detail}\n</BODY></HTML>"
    ).encode()


def not_found_page(target: str) -> bytes:
    """Return the page for a path that nothing answers."""
    return (
        "<html><head>\n<title>404 Not Found</title>\n</head><body>\n<h1>Not Found</h1>"
        f"<p>The requested URL {htmlescape(target)} was not found on this server.</p>"
        "</body></html>\n"
    ).encode()


def final_page(code: int, date: DateLine, has_no_body: bool = False) -> bytes:
    """Return a whole reply for a request that could not be read: an error page, then close.

    has_no_body: the page is only announced, as HEAD asks (RFC 9110 9.3.2).
    """
    page = error_page(code, None)
    fields = Headers((("Retry-After", str(RETRY_AFTER_S)),)) if code == 503 else None
    head = reply_head(fields, code, None, date, len(page), "text/html", False, 1)[0]
    return head if has_no_body else head + page
