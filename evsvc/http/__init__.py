"""HTTP/1.1: server, client, and the tools around them.  Imports core only."""

from .client import HttpConnection
from .client_request import HttpRequest
from .headers import Headers
from .options import ClientOptions, ServerOptions
from .server import BoundSocket, HttpServer
from .server_connection import ServerConnection
from .server_request import ServerRequest

__all__ = [
    "BoundSocket",
    "ClientOptions",
    "Headers",
    "HttpConnection",
    "HttpRequest",
    "HttpServer",
    "ServerConnection",
    "ServerOptions",
    "ServerRequest",
]
