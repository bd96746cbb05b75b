"""Calls that share one WebSocket, and end in any order: install `evsvc[ws]`.

websocket.serve(rpc_server)                                        # on the server

pool = RpcPool(base, timeout=5.0)
websocket.add_endpoint(pool, "ws://127.0.0.1:8080/.rpc/websocket")   # on the client

All else is as over HTTP.  Nothing else of evsvc imports this package, so that wsproto is wanted
only where it is used.
"""

from .client import add_endpoint
from .frames import SUBPROTOCOL
from .options import RpcWebSocketOptions
from .server import WEBSOCKET_PATH, serve

__all__ = ["SUBPROTOCOL", "WEBSOCKET_PATH", "RpcWebSocketOptions", "add_endpoint", "serve"]
