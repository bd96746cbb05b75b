"""The scope of a connection: what an application is told of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..http import uridecode
from ..http.wire.grammar import split_authority
from .messages import ASGI, Scope

if TYPE_CHECKING:
    from ..http import Client, ServerRequest

_DEFAULT_PORT = {"http": 80, "https": 443}


def http_scope(request: ServerRequest, root_path: str, state: dict[str, Any]) -> Scope:
    """Return the scope of a request; `state` is the lifespan's, of which it has a copy.

    `path` has `root_path` at its beginning.
    """
    client = request.client
    headers = request.input_headers
    path = request.encoded_path
    return {
        "type": "http",
        "asgi": ASGI.copy(),
        "http_version": f"1.{request.minor}",
        "method": request.method,
        "scheme": client.scheme,
        "path": uridecode(path).decode(errors="replace") if "%" in path else path,
        "raw_path": path.encode("latin-1"),
        "query_string": (request.query or "").encode("latin-1"),
        "root_path": root_path,
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, (_, value) in zip(headers.names, headers.pairs, strict=True)
        ],
        "client": (client.address, client.port) if client.address else None,
        "server": _server_of(request, client),
        "state": state.copy(),
        "extensions": {"http.response.pathsend": {}},
    }


def websocket_scope(request: ServerRequest, root_path: str, state: dict[str, Any]) -> Scope:
    """Return the scope of a WebSocket that a request asks for; see `http_scope`."""
    scope = http_scope(request, root_path, state)
    del scope["method"]
    names = ",".join(request.input_headers.get_all("Sec-WebSocket-Protocol")).split(",")
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["subprotocols"] = [name.strip(" \t") for name in names if name.strip(" \t")]
    scope["extensions"] = {"websocket.http.response": {}}
    return scope


def asks_for_websocket(request: ServerRequest) -> bool:
    """Whether a request asks for a WebSocket (RFC 6455 section 4.1)."""
    headers = request.input_headers
    return "upgrade" in headers.names and "websocket" in headers.tokens("upgrade")


def _server_of(request: ServerRequest, client: Client) -> tuple[str, int | None]:
    """Return where the server listens, a Unix socket's path without port; or else what the client
    addressed."""
    connection = request.connection
    bound = None if connection is None else connection.bound_socket
    if bound is not None:
        return bound.address, bound.port or None
    host, port = split_authority(client.host or "") or ("", None)
    return host or "localhost", int(port) if port else _DEFAULT_PORT.get(client.scheme, 80)
