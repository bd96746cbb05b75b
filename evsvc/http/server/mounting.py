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

    It streams, and its argument is the prefix without that "/".  Raises ArgumentError for a prefix
    that does not begin and end with "/", or has a callback already; then nothing has changed.
    """
    methods = frozenset(methods)
    root = prefix.removesuffix("/")
    server.set_prefix_cb(prefix, callback, root, methods=methods, streams=True)
    if root:
        try:
            server.set_cb(root, callback, root, methods=methods, streams=True)
        except ArgumentError:
            server.del_prefix_cb(prefix)
            raise
