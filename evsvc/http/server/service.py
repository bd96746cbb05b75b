"""What the connections of one server share: its settings, its callbacks' keeper, its carriers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...core import BEV_OPT_CLOSE_ON_FREE, BufferEvent
from ..wire.writer import DateLine
from .router import Router

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ...core import EventBase
    from ..options import ServerOptions

logger = logging.getLogger("evsvc.http")

Callback = tuple["Callable[[Any, Any], object]", Any]
"""A callback of the program's with its argument: called as `cb(what it is about, arg)`."""


class Service:
    """The settings of a server, as its connections see them; the server keeps them true.

    methods: the names of those that any callback takes.  date: the Date line of all replies.
    """

    __slots__ = ("base", "date", "methods", "options", "router")

    def __init__(self, base: EventBase, options: ServerOptions, methods: frozenset[str]) -> None:
        self.base = base
        self.options = options
        self.methods = methods
        self.router = Router()
        self.date = DateLine()

    def make_carrier(self, sock: socket.socket) -> BufferEvent:
        """Return what carries the bytes of a connection over `sock`, which it owns."""
        return BufferEvent(self.base, sock, BEV_OPT_CLOSE_ON_FREE)

    def run(self, callback: Callback, about: object) -> None:
        """Call the program; what it raises is logged and told, and ends no loop."""
        cb, arg = callback
        try:
            cb(about, arg)
        except Exception as exc:
            self.callback_failed(exc, about)

    def callback_failed(self, exc: Exception, about: object) -> None:
        """Log what a callback raised, with its traceback, and tell the base's exception handler.

        What that one raises is the program's own wish, and leaves the loop.
        """
        logger.error("a callback raised for %r", about, exc_info=exc)
        handler = self.base.exception_handler
        if handler is not None:
            handler(exc)
