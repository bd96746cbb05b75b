"""What the connections of one server share: its settings, its callbacks' keeper."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from sys import maxsize
from typing import TYPE_CHECKING, Any

from ...core import EvBuffer
from ..exchange import AbstractRequest
from ..wire.status import method_names
from ..wire.writer import DateLine
from .observing.access_log import AccessLog, AccessLogOptions
from .observing.observers import Watch
from .pages import error_page
from .router import Router
from .vhosts import HostTable

if TYPE_CHECKING:
    from ...core import EventBase
    from ..options import ServerOptions
    from ..wire.request_head import Head
    from .compression import Compression
    from .forwarded import TrustedProxies
    from .observing.observers import FinishedExchange, Observer, SessionExchange, SessionObserver
    from .request import ServerRequest
    from .router import Route

logger = logging.getLogger("evsvc.http")

REFUSED = -1
"""What a new-request callback returns to have the connection closed, and an error callback to have
the server's own page sent."""

ErrorCallback = Callable[["ServerRequest", EvBuffer, int, "str | None", Any], object]
"""Called as `cb(request, page, code, reason, arg)`."""

Callback = tuple["Callable[[Any, Any], object]", Any]
"""A callback of the program's with its argument: called as `cb(what it is about, arg)`."""


class Service:
    """The settings of a server, as its connections see them; the server keeps them true.

    bodies_bytes: what the bodies that are gathered take together; connections keep it.
    methods: the names of those that any callback takes.  date: the Date line of all replies.
    hosts: the virtual hosts.  find_route: returns the route for a request, or None, of the virtual
    host that it names; without any the router is asked at once.  newreq_cb, error_cb: the
    program's, or None.  observers: called when an exchange is over.  session_observers: called when
    one is that a session has carried.  access_log: one more, which counts only while somebody reads
    the log; None for none.  proxies: whose word on their clients is taken, or None.  compression:
    of replies, or None.  max_whole_bytes: how long a body that has come with its head may be,
    wherever it goes.
    """

    __slots__ = (
        "access_log",
        "base",
        "bodies_bytes",
        "compression",
        "date",
        "error_cb",
        "find_route",
        "hosts",
        "max_whole_bytes",
        "methods",
        "newreq_cb",
        "observers",
        "options",
        "proxies",
        "router",
        "session_observers",
        "stream_limits",
    )

    def __init__(self, base: EventBase, options: ServerOptions) -> None:
        self.base = base
        self.bodies_bytes = 0
        self.router = Router()
        self.hosts = HostTable(self.router)
        self.find_route: Callable[[ServerRequest], Route | None] = self.router.find
        self.date = DateLine()
        self.newreq_cb: Callback | None = None
        self.error_cb: tuple[ErrorCallback, Any] | None = None
        self.observers: list[Observer] = []
        self.session_observers: list[SessionObserver] = []
        self.proxies: TrustedProxies | None = None
        self.compression: Compression | None = None
        self.access_log: AccessLog | None = AccessLog(AccessLogOptions())
        self.set_options(options)

    def set_options(self, options: ServerOptions) -> None:
        """Have other limits and time-outs for connections to come."""
        self.options = options
        self.methods = method_names(options.allowed_methods)
        hint = f"Connection: keep-alive\r\nKeep-Alive: timeout={int(options.idle_s)}\r\n"
        self.date.keep_alive = hint if options.announces_keep_alive else ""
        self.stream_limits = replace(options.limits, max_body_bytes=options.max_stream_bytes)
        bounds = (options.limits.max_body_bytes, options.max_stream_bytes)
        self.max_whole_bytes = min((most for most in bounds if most is not None), default=maxsize)

    def add_host(self, pattern: str, hosts: HostTable) -> None:
        """Have a virtual host; raises as `HostTable.add`."""
        self.hosts.add(pattern, hosts)
        self.find_route = self.hosts.find_route

    def remove_host(self, hosts: HostTable) -> None:
        """Have it no longer; raises as `HostTable.remove`."""
        self.hosts.remove(hosts)
        if self.hosts.is_trivial:
            self.find_route = self.router.find

    def streams_body(self, head: Head) -> bool:
        """Whether the body behind a head goes to a route that streams."""
        _, target, _, _, _, _, host, _ = head
        request = AbstractRequest()
        request.uri = target
        router = self.router if self.hosts.is_trivial else self.hosts.find(host)
        route = router.find(request)
        return route is not None and route.streams

    def admits(self, request: ServerRequest) -> bool:
        """Whether the program's new-request callback lets a request be read."""
        assert self.newreq_cb is not None
        cb, arg = self.newreq_cb
        try:
            return cb(request, arg) != REFUSED
        except Exception as exc:
            self.callback_failed(exc, request)
            return False

    def error_page(self, request: ServerRequest, code: int, reason: str | None) -> bytes:
        """Return the page for an error: the program's, where its callback makes one."""
        if self.error_cb is not None:
            cb, arg = self.error_cb
            page = EvBuffer()
            try:
                verdict = cb(request, page, code, reason, arg)
            except Exception as exc:
                self.callback_failed(exc, request)
                verdict = REFUSED
            if not (isinstance(verdict, int) and verdict < 0):
                return page.remove()
        return error_page(code, reason)

    def watch(self, peer: tuple[str, int]) -> Watch | None:
        """Return what measures the exchanges of a connection; None while nobody observes."""
        log = self.access_log
        if self.observers or (log is not None and log.is_on):
            return Watch(self.base, self.tell_observers, peer)
        return None

    def tell_observers(self, exchange: FinishedExchange) -> None:
        """Tell all observers of an exchange that is over."""
        for observer in (*self.observers, self.access_log):
            if observer is not None:
                try:
                    observer(exchange)
                except Exception as exc:
                    self.callback_failed(exc, exchange)

    def tell_session_observers(self, exchange: SessionExchange) -> None:
        """Tell them of an exchange that is over."""
        for observer in tuple(self.session_observers):
            try:
                observer(exchange)
            except Exception as exc:
                self.callback_failed(exc, exchange)

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
