"""Conditional requests (RFC 9110 section 13): whether a client has what it asks for already."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..wire.headers import Headers

_ETAG = re.compile(r'\s*(?:,\s*)*((?:W/)?"[!#-~\x80-\xff]*")\s*')


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "|".join(_MONTHS)
_DAY = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
_FULL_DAY = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# IMF-fixdate, then the two obsolete forms: RFC 850's, and that of C's asctime().
_DATE = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"(?:{_DAY}), (?P<day>\d\d) (?P<month>{_MONTH}) (?P<year>\d{{4}}) {_TIME} GMT",
        rf"(?:{_FULL_DAY}), (?P<day>\d\d)-(?P<month>{_MONTH})-(?P<year>\d\d) {_TIME} GMT",
        rf"(?:{_DAY}) (?P<month>{_MONTH}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
# A two-digit year is no more ahead than this, or one of the past.
_YEARS_AHEAD = 50


def parse_http_date(text: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970, in any of its three forms; None for what is none.

    Source: RFC 9110 section 5.6.7.
    """
    if text is None:
        return None
    found = next((match for form in _DATE if (match := form.fullmatch(text))), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        this_year = time.gmtime().tm_year
        year += this_year - this_year % 100
        if year > this_year + _YEARS_AHEAD:
            year -= 100
        elif year <= this_year + _YEARS_AHEAD - 100:
            year += 100
    try:
        return datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            59 if found["second"] == "60" else int(found["second"]),
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
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
    if "if-match" in headers.names:
        tags = entity_tags(headers.get_all("if-match"))
        if tags is not None and etag not in tags:
            return 412
    else:
        unmodified_since = parse_http_date(headers.find("if-unmodified-since"))
        if unmodified_since is not None and modified > unmodified_since:
            return 412
    if "if-none-match" in headers.names:
        tags = entity_tags(headers.get_all("if-none-match"))
        if tags is None or etag in (tag.removeprefix("W/") for tag in tags):
            return 304 if method in ("GET", "HEAD") else 412
    elif method in ("GET", "HEAD"):
        modified_since = parse_http_date(headers.find("if-modified-since"))
        if modified_since is not None and modified <= modified_since:
            return 304
    return 200


def range_holds(headers: Headers, etag: str, modified: float) -> bool:
    """Return True when `If-Range` lets a range be sent (RFC 9110 section 13.1.5).

    A date tells one state of a file from another only when it is a second old: in the same second
    the file may have been written twice (section 8.8.2.2).
    """
    condition = headers.find("if-range")
    if condition is None:
        return True
    if condition.startswith(('"', "W/")):
        return condition == etag  # a weak one never fits
    date = parse_http_date(condition)
    return date is not None and date == float(int(modified)) and time.time() >= date + 1.0
