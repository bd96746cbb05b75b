"""WebSocket sessions (RFC 6455), framed by wsproto: install `evsvc[ws]`.

Nothing else of evsvc imports this package, so that wsproto is wanted only where it is used.
"""

from .handshake import accept
from .session import (
    WS_BINARY_FRAME,
    WS_TEXT_FRAME,
    FrameType,
    WebSocketOptions,
    WsConnection,
)

__all__ = [
    "WS_BINARY_FRAME",
    "WS_TEXT_FRAME",
    "FrameType",
    "WebSocketOptions",
    "WsConnection",
    "accept",
]
