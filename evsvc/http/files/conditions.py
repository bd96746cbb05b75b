"""Conditional requests (RFC 9110 section 13): whether a client has what it asks for already."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..wire.headers import Headers

_ETAG = re.compile(r'\s*(?:,\s*)*((?:W/)?"[!#-~\x80-\xff]*")\s*')


def parse_http_date(text: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970, in any of its three forms; None for what is none.

    Source: RFC 9110 section 5.6.7.
    """
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def entity_tags(values: list[str]) -> list[str] | None:
    """Return the entity tags of a list; None where it is `*`, an empty one where it is bad."""
    text = ",".join(values)
    if text.strip() == "*":
        return None
    tags: list[str] = []
    at = 0
    while at < len(text):
        found = _ETAG.match(text, at)
        if found is None:
            return []
        tags.append(found[1])
        at = found.end()
        if at < len(text) and text[at] != ",":
            return []
        at += 1
    return tags


def evaluate(headers: Headers, method: str, etag: str, modified: float) -> int:
    """Return the status that a request with these conditions gets: 200, 304 or 412.

    etag: the present one, strong; modified: seconds since 1970.  In the order of RFC 9110
    section 13.2.2.
    """
    modified = float(int(modified))  # a date has no fraction
    if "if-match" in headers.keys:
        tags = entity_tags(headers.get_all("if-match"))
        if tags is not None and etag not in tags:
            return 412
    else:
        unmodified_since = parse_http_date(headers.find("if-unmodified-since"))
        if unmodified_since is not None and modified > unmodified_since:
            return 412
    if "if-none-match" in headers.keys:
        tags = entity_tags(headers.get_all("if-none-match"))
        if tags is None or etag in (tag.removeprefix("W/") for tag in tags):
            return 304 if method in ("GET", "HEAD") else 412
    elif method in ("GET", "HEAD"):
        modified_since = parse_http_date(headers.find("if-modified-since"))
        if modified_since is not None and modified <= modified_since:
            return 304
    return 200


def range_holds(headers: Headers, etag: str, modified: float) -> bool:
    """Return True when `If-Range` lets a range be sent (RFC 9110 section 13.1.5)."""
    condition = headers.find("if-range")
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        return condition == etag  # a weak one never fits
    date = parse_http_date(condition)
    return date is not None and date == float(int(modified))
