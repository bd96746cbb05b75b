"""WsgiHandler: a WSGI application as a callback of an HttpServer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from ..core.checks import check_timeout, require_callable
from ..core.closing import Closing
from ..http.server.mounting import METHODS, mount
from .body_input import BodyInput
from .call import Application, Call
from .environ import make_environ
from .exchange import Exchange
from .file_wrapper import FileWrapper
from .options import WsgiOptions
from .pool import ThreadPool

if TYPE_CHECKING:
    from ..core import Event, EventBase
    from ..http import HttpServer, ServerRequest

logger = logging.getLogger("evsvc.wsgi")


class WsgiHandler(Closing):
    """Has a WSGI application (PEP 3333) answer the requests of an HttpServer, in threads.

    application: called as `application(environ, start_response)`, in several threads at once.
    Raises ArgumentTypeError for what cannot be called.
    """

    __slots__ = ("_application", "_base", "_deadline", "_options", "_pool", "_shutdown_cb")

    def __init__(
        self, base: EventBase, application: Application, options: WsgiOptions | None = None
    ) -> None:
        require_callable(application, "the application")
        self._base = base
        self._application = application
        self._options = options = options or WsgiOptions()
        self._pool = ThreadPool(base, options.threads, options.max_queued, "evsvc-wsgi")
        self._shutdown_cb: Callable[[WsgiHandler], object] | None = None
        self._deadline: Event | None = None

    @property
    def held(self) -> int:
        """How many requests the application works at, or wait for a thread."""
        return self._pool.held

    def mount(
        self, server: HttpServer, prefix: str = "/", *, methods: Iterable[str] = METHODS
    ) -> None:
        """Answer all requests for paths below `prefix`, and the prefix without its last "/".

        That is SCRIPT_NAME then.  Other callbacks for longer prefixes and for exact paths come
        first.  methods: those that the application takes; another is answered 405.  Raises
        ArgumentError for a prefix that does not begin and end with "/", or has a callback already.
        """
        mount(server, prefix, self, methods)

    def __call__(self, request: ServerRequest, arg: object = None) -> None:
        """Have the application answer a request: the callback of `HttpServer.set_gencb` and others.

        arg: SCRIPT_NAME, or None for none.  Give it `streams=True`, so that bodies come as the
        application reads them.  Answers 503 when too many requests wait already.
        """
        connection = request.connection
        if connection is None:
            return  # the client has gone
        if self._pool.is_full:
            self._refuse(request)
            return
        environ = make_environ(request, arg if isinstance(arg, str) else "")
        exchange = Exchange(request, connection, self._options)
        most = self._options.max_input_bytes
        body = BodyInput(request, most, exchange.post, exchange.leave)
        environ["wsgi.input"] = body
        environ["wsgi.file_wrapper"] = FileWrapper
        environ["wsgi.multiprocess"] = self._options.multiprocess
        body.when_ready(partial(self._begin, Call(self._application, environ, exchange), exchange))

    def _begin(self, call: Call, exchange: Exchange) -> None:
        """Give a thread a request of which enough has come."""
        if exchange.is_gone:
            return
        if self._pool.is_full:
            self._refuse(exchange.request)
        else:
            self._pool.submit(call.run)

    def _refuse(self, request: ServerRequest) -> None:
        logger.warning("%s is not taken, with %d requests in hand", request, self.held)
        request.send_error(503, None, ("Retry-After", str(self._options.retry_after_s)))

    def shutdown(
        self, cb: Callable[[WsgiHandler], object] | None = None, *, deadline_s: float = 30.0
    ) -> None:
        """Take no more requests, which are answered 503, and work at those that are here.

        `cb(handler)` is called from the loop when no thread is at work any more, or when
        `deadline_s` are over, as no thread can be ended from outside; see `held`.  It is called
        before the return when nothing is left to do.  A server's own `shutdown` waits for its
        replies: shut it down first.  Raises ArgumentError for a negative deadline,
        ArgumentTypeError for what is no number.
        """
        check_timeout(deadline_s)
        self._pool.close()
        self._shutdown_cb = cb
        if self.held and self._deadline is None:
            self._deadline = self._base.timer(self._on_deadline)
            self._deadline.add(deadline_s)
        self._pool.when_idle(self._on_idle)

    def close(self) -> None:
        """Take no more requests; the threads end when they have worked at those that are here.

        Safe to repeat.
        """
        self._pool.close()

    def join(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for each thread to end, after `close`; whether all have.

        It holds the loop up: for the end of a program.
        """
        return self._pool.join(timeout_s)

    def _on_deadline(self, fd: int, what: int, arg: object) -> None:
        logger.warning("the stop took too long: the application is still at %d requests", self.held)
        self._pool.when_idle(None)
        self._on_idle()

    def _on_idle(self) -> None:
        if self._deadline is not None:
            self._deadline.close()
            self._deadline = None
        if self._shutdown_cb is not None:
            cb, self._shutdown_cb = self._shutdown_cb, None
            cb(self)
