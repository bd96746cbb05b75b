"""How much of an application runs at once, and how much waits: the limits of an AsgiHandler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.checks import check_timeout, whole_number
from ..core.errors import ArgumentError

if TYPE_CHECKING:
    from ..http.websocket import WebSocketOptions

_LEAST = {
    "max_calls": 1,
    "retry_after_s": 0,
    "max_input_bytes": 1,
    "max_output_bytes": 1,
    "max_messages": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AsgiOptions:
    """Limits for one application.  Raises ArgumentError for a number that is out of range.

    max_calls:         requests and WebSockets that the application is at; one more is answered 503.
    retry_after_s:     when who was answered so may come again.
    max_input_bytes:   of a body, or of messages, that the application has not received yet; with
                       more the client is held back.  One read, or message, may come on top of it.
    max_output_bytes:  of a reply, or of messages, that the client has not taken yet; with more
                       `send` waits.
    max_messages:      of a WebSocket that the application has not received yet; with so many the
                       client is held back.
    startup_s:         how long the application may take to start, and to stop, by the lifespan.
    requires_lifespan: whether an application that raises in its lifespan has failed to start; else
                       it is taken for one that knows no lifespan, as the specification has it.
    websocket:         the limits of WebSockets; None is the defaults.
    """

    max_calls: int = 10_000
    retry_after_s: int = 1
    max_input_bytes: int = 64 * 1024
    max_output_bytes: int = 256 * 1024
    max_messages: int = 32
    startup_s: float = 60.0
    requires_lifespan: bool = False
    websocket: WebSocketOptions | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            if whole_number(getattr(self, name), name) < least:
                raise ArgumentError(f"{name} must be {least} or more: {getattr(self, name)!r}")
        check_timeout(self.startup_s)
