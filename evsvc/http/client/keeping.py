"""How long a connection is kept while it is at rest, and the look at it before it is used again."""

from __future__ import annotations

import re
import select
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

from ...core import AbstractBufferEvent, BufferEvent, TlsBufferEvent
from ..wire.headers import Headers

if TYPE_CHECKING:
    import socket

    from ..wire.response_head import ResponseHead

_hinted_idle_s: Final = re.compile(r"(?i)(?:^|[,;\s])timeout\s*=\s*([0-9]{1,6})\b").search


class Keeping:
    """What is known of one connection's keeping.

    idle_s: how long the server, and the options, let it be at rest; inf is for ever.
    last_head: the one that was noted last; one that is the same says the same.
    look: looks into the idle socket: called with 0, it tells of an end, or of bytes.
    """

    __slots__ = ("_most_s", "idle_s", "last_head", "look")

    def __init__(self, bev: AbstractBufferEvent | None = None, most_s: float | None = None) -> None:
        """bev: what carries the bytes.  most_s: what the options allow; None is for ever."""
        self._most_s = self.idle_s = inf if most_s is None else most_s
        self.last_head: ResponseHead | None = None
        self.look: Callable[[float], object] = _sees_nothing
        if isinstance(bev, (BufferEvent, TlsBufferEvent)) and bev.socket is not None:
            self.look = _look_into(bev.socket, is_secure=isinstance(bev, TlsBufferEvent))

    def note(self, head: ResponseHead) -> None:
        """Heed how long the server says that it keeps the connection (RFC 2068 19.7.1.1)."""
        self.last_head = head
        idle_s = self._most_s
        if b"eep-" in head.block:
            hint = Headers.from_block(head.block).find("Keep-Alive")
            found = None if hint is None else _hinted_idle_s(hint)
            if found is not None:
                # Its time began before ours, by the way of the response and of a request.
                idle_s = min(idle_s, int(found[1]) * 0.9)
        self.idle_s = idle_s


def _look_into(sock: socket.socket, *, is_secure: bool) -> Callable[[float], object]:
    """Over TLS bytes say nothing: they may be a session ticket (RFC 8446 4.6.1)."""
    poll = select.poll()
    ends = getattr(select, "POLLRDHUP", 0)
    poll.register(sock, ends if is_secure else ends | select.POLLIN)
    return poll.poll


def _sees_nothing(timeout: float) -> bool:
    """Stand in for a look into a socket that is not there."""
    return False
