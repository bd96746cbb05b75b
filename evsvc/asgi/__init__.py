"""ASGI applications, such as FastAPI's and Django's, on an HttpServer whose base runs asyncio."""

from ..http.errors import ClientGone
from .errors import LifespanFailed
from .handler import AsgiHandler
from .options import AsgiOptions

__all__ = ["AsgiHandler", "AsgiOptions", "ClientGone", "LifespanFailed"]
