"""What an application says of its response: judged where it says it."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from wsgiref.util import is_hop_by_hop

from ..core.errors import ArgumentError, ArgumentTypeError
from ..http import Headers
from ..http.wire.grammar import parse_length
from ..http.wire.writer import status_line

_STATUS: Final = re.compile(r"([2-5][0-9]{2})(?: (.*))?", re.DOTALL | re.ASCII).fullmatch


class Head(NamedTuple):
    """Status and fields of a response.  length: its Content-Length, or None without one."""

    code: int
    reason: str | None
    headers: Headers
    length: int | None


def judge_head(status: object, fields: object) -> Head:
    """Return what was given to `start_response` (PEP 3333).

    Raises ArgumentTypeError for what is not a str and a list of pairs of two, ArgumentError for
    what is no status of 200..599, no field that may be sent (RFC 9110 section 5), one that is the
    server's (RFC 9110 section 7.6.1), or not one Content-Length.
    """
    if not isinstance(status, str):
        raise ArgumentTypeError(f"a status is a str: {status!r}")
    found = _STATUS(status)
    if found is None:
        raise ArgumentError(f"not the status of a response, such as '200 OK': {status!r}")
    code, reason = int(found[1]), found[2]
    if reason is not None:
        status_line(code, reason)
    if not isinstance(fields, list):
        raise ArgumentTypeError(f"the fields are a list: {fields!r}")
    headers = Headers()
    length = None
    for field in fields:
        if not isinstance(field, tuple) or len(field) != 2:
            raise ArgumentTypeError(f"a field is a tuple of two: {field!r}")
        name, value = field
        headers.add(name, value)
        if is_hop_by_hop(name):
            raise ArgumentError(f"the connection's own fields are the server's: {field!r}")
        if headers.names[-1] == "content-length":
            if length is not None:
                raise ArgumentError(f"there is one Content-Length: {field!r}")
            length = parse_length(headers.pairs[-1][1])
            if length is None:
                raise ArgumentError(f"not a length: {field!r}")
    return Head(code, reason, headers, length)
