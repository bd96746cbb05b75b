"""The messages of ASGI 3: their types, and what of them is judged for itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from wsgiref.util import is_hop_by_hop

from ..core.errors import ArgumentError, ArgumentTypeError
from ..http import Headers

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[object]]
"""An ASGI 3 application: called as `await application(scope, receive, send)`."""

ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
"""2.4 is the version in which sending to a client that has gone raises an OSError."""


def judge_status(status: object) -> int:
    """Return the status of a response.

    Raises ArgumentTypeError for what is no whole number, ArgumentError for one outside 200..599.
    """
    if not isinstance(status, int) or isinstance(status, bool):
        raise ArgumentTypeError(f"a status is a whole number: {status!r}")
    if not 200 <= status <= 599:
        raise ArgumentError(f"the status of a response is 200..599: {status!r}")
    return int(status)


def judge_headers(fields: object) -> Headers:
    """Return the fields of a response.

    Those of the connection (RFC 9110 section 7.6.1) are the server's, and left out, as frameworks
    pass on what they got from elsewhere; but `Connection: close` stands.  Raises ArgumentTypeError
    for what are no pairs of bytes, ArgumentError for a field that may not be sent.
    """
    headers = Headers()
    try:
        pairs = [(bytes_of(name), bytes_of(value)) for name, value in fields]  # type: ignore[attr-defined]  # anything that yields pairs
    except ValueError as exc:
        raise ArgumentTypeError(f"a field is a pair: {fields!r}") from exc
    except TypeError as exc:
        raise ArgumentTypeError(f"fields are pairs of bytes: {fields!r}") from exc
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if not is_hop_by_hop(name) or _says_close(name, value):
            headers.add(name, value)
    return headers


def _says_close(name: str, value: str) -> bool:
    return name.lower() == "connection" and value.strip().lower() == "close"


def bytes_of(value: object) -> bytes:
    """Return bytes.  Raises ArgumentTypeError for anything else, a str above all."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise ArgumentTypeError(f"bytes are wanted, not {type(value).__name__}: {value!r:.60}")
