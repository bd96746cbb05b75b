"""What a failed call looks like on the wire: HTTP 503, as libevent's, and a JSON object that says
more to whoever reads it: `{"code": ..., "message": ..., "details": ...}`."""

from __future__ import annotations

import json
from typing import NamedTuple

from ..core.errors import ArgumentTypeError
from .errors import RpcErrorCode, one_line

CONTENT_TYPE = "application/json"


class Failure(NamedTuple):
    """What a peer says of a failure."""

    text: str
    code: RpcErrorCode
    details: object


def encode_failure(text: str, code: RpcErrorCode, details: object = None) -> bytes:
    """Return the body.  Raises ArgumentTypeError when `details` are no plain JSON data."""
    plain: dict[str, object] = {"code": code.value, "message": text}
    if details is not None:
        plain["details"] = details
    try:
        return json.dumps(plain, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as exc:
        raise ArgumentTypeError(f"details are plain JSON data: {exc}: {details!r}") from None


# What a proxy answers that has no server to ask (RFC 9110 15.6.3 to 15.6.5).
_NOBODY_THERE = frozenset((502, 503, 504))


def decode_failure(status: int, content_type: str | None, body: bytes) -> Failure:
    """Return what a peer says: an RPC server in JSON, another in plain text; a page of HTML is no
    explanation.  What is no RPC server and answers 502 to 504 is UNAVAILABLE."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type == CONTENT_TYPE:
        try:
            plain = json.loads(body)
        except (ValueError, RecursionError):
            plain = None
        if isinstance(plain, dict) and isinstance(plain.get("message"), str):
            code = RpcErrorCode.__members__.get(str(plain.get("code")), RpcErrorCode.UNKNOWN)
            return Failure(one_line(plain["message"]), code, plain.get("details"))
    text = one_line(body.decode(errors="replace")) if media_type == "text/plain" else ""
    code = RpcErrorCode.UNAVAILABLE if status in _NOBODY_THERE else RpcErrorCode.UNKNOWN
    return Failure(text, code, None)
