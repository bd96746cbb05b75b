"""A line in the log `evsvc.http.access` for each request that was answered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .request import ServerRequest

logger = logging.getLogger("evsvc.http.access")

# A quote would end the quoted request line, for whoever reads the log (as Apache escapes them).
_ESCAPES = str.maketrans({'"': '\\"', "\\": "\\\\"})


def is_on() -> bool:
    """Return True when somebody reads the log."""
    return logger.isEnabledFor(logging.INFO)


def write(address: str, request: ServerRequest) -> None:
    """Log who asked what, the status, and how many bytes of body the reply has."""
    target = request.uri.translate(_ESCAPES)
    line = f"{request.method} {target} HTTP/1.{request.minor}"
    code, size = request.response_code, request.bytes_sent
    logger.info('%s "%s" %d %d', address or "-", line, code, size)
