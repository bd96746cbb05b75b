"""A look into the socket of an idle connection, before it is used again."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable


def look_into(sock: socket.socket | None, *, is_secure: bool) -> Callable[[float], object]:
    """Return what looks into an idle socket: called with 0, it tells of an end, or of bytes.

    Over TLS bytes say nothing: they may be a session ticket (RFC 8446 4.6.1).
    """
    if sock is None:
        return sees_nothing
    poll = select.poll()
    ends = getattr(select, "POLLRDHUP", 0)
    poll.register(sock, ends if is_secure else ends | select.POLLIN)
    return poll.poll


def sees_nothing(timeout: float) -> bool:
    """Stand in for a look into a socket that is not there."""
    return False
