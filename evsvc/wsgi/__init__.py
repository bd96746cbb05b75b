"""WSGI applications (PEP 3333), such as Flask's and Django's, on an HttpServer."""

from ..http.errors import ClientGone
from .handler import WsgiHandler
from .options import WsgiOptions

__all__ = ["ClientGone", "WsgiHandler", "WsgiOptions"]
