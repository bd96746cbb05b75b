"""WebSocket sessions (RFC 6455), framed by wsproto: install `evsvc[ws]`.

Nothing else of evsvc imports this package, so that wsproto is wanted only where it is used.
"""

try:
    from .client import HandshakeFailed, Opening, connect
    from .handshake import accept, is_from
    from .session import (
        WS_BINARY_FRAME,
        WS_CR_DATA_TOO_BIG,
        WS_CR_NONE,
        WS_CR_NORMAL,
        WS_CR_PROTO_ERR,
        WS_TEXT_FRAME,
        CloseCode,
        FrameType,
        WebSocketOptions,
        WsConnection,
    )
except ModuleNotFoundError as exc:
    if (exc.name or "").partition(".")[0] != "wsproto":
        raise
    raise ModuleNotFoundError(
        "WebSockets need wsproto, of the extra `ws`: `python -m pip install 'CHECKOUT[ws]'`, with "
        "the path of the checkout, installs both",
        name=exc.name,
    ) from exc

__all__ = [
    "WS_BINARY_FRAME",
    "WS_CR_DATA_TOO_BIG",
    "WS_CR_NONE",
    "WS_CR_NORMAL",
    "WS_CR_PROTO_ERR",
    "WS_TEXT_FRAME",
    "CloseCode",
    "FrameType",
    "HandshakeFailed",
    "Opening",
    "WebSocketOptions",
    "WsConnection",
    "accept",
    "connect",
    "is_from",
]
