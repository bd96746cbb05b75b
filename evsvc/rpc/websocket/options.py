"""RpcWebSocketOptions: what calls may take of the WebSocket that they share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...core.errors import ArgumentError
from ...http.websocket import WebSocketOptions
from .flow import FIRST_CREDIT
from .frames import HEAD_LENGTH_BYTES, MAX_BODY_BYTES, MAX_CREDIT, MAX_HEAD_BYTES, START_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcWebSocketOptions:
    """Limits of one side.  Raises ArgumentError when a number is out of range.

    max_calls:         at once on one WebSocket.  A client has the others wait; a server answers one
                       more RESOURCE_EXHAUSTED.
    call_window_bytes: how much of one call may have come that the program has not taken; the peer
                       sends no more.  At least 64 KiB.  What a peer can have you keep of streams
                       is so much for each of `max_calls`.
    max_head_bytes:    method or status, and metadata, of one call that comes; more ends the
                       WebSocket.  At most 65,535.
    max_unsent_bytes:  while so much waits in the WebSocket, no more of any body is put there: calls
                       wait their turn.  At most a quarter of what the WebSocket may hold.
    websocket:         its limits and pings; how long a message is at the most follows from here.

    How long a body may be is HTTP's limit, and how long a message, the codec's.
    """

    max_calls: int = 128
    call_window_bytes: int = 256 * 1024
    max_head_bytes: int = 16 * 1024
    max_unsent_bytes: int = 256 * 1024
    websocket: WebSocketOptions = field(default_factory=WebSocketOptions)

    def __post_init__(self) -> None:
        ranges = {
            "max_calls": (1, None),
            "call_window_bytes": (FIRST_CREDIT, MAX_CREDIT),
            "max_head_bytes": (1, MAX_HEAD_BYTES),
            "max_unsent_bytes": (1, self.websocket.max_output_bytes // 4),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if value < least or (most is not None and value > most):
                bounds = f"at least {least}" if most is None else f"from {least} to {most}"
                raise ArgumentError(f"{name} must be {bounds}: {value!r}")

    @property
    def max_frame_bytes(self) -> int:
        """The longest frame that the peer may send."""
        return START_BYTES + HEAD_LENGTH_BYTES + self.max_head_bytes + MAX_BODY_BYTES

    def websocket_options(self) -> WebSocketOptions:
        """Return the options of the WebSocket itself."""
        return replace(self.websocket, max_message_bytes=self.max_frame_bytes)
