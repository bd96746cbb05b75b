"""Where whole applications stand on a server: all paths below a prefix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...core.errors import ArgumentError
from ..wire.status import EVHTTP_REQ_CONNECT, Method, method_names

if TYPE_CHECKING:
    from .router import RequestCallback
    from .server import HttpServer

METHODS = method_names(sum(Method) & ~EVHTTP_REQ_CONNECT)
"""What an application may answer, if it is not told otherwise: CONNECT has no path."""


def mount(
    server: HttpServer, prefix: str, callback: RequestCallback, methods: Iterable[str]
) -> None:
    """Have a callback answer all below `prefix`, and the prefix without its last "/".

    It streams (see `ServerRequest.streams_body`), but for bodies that have come with their heads.
    Its argument is the prefix without that "/".  Raises ArgumentError for a prefix that does not
    begin and end with "/", or has a callback already; then nothing has changed.
    """
    methods = frozenset(methods)
    root = prefix.removesuffix("/")
    router = server.service.router
    router.add_prefix(prefix, callback, root, methods, True, takes_whole=True)
    if root:
        try:
            router.add(root, callback, root, methods, True, takes_whole=True)
        except ArgumentError:
            router.remove_prefix(prefix)
            raise
