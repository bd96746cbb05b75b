"""AsgiHandler: an ASGI application as a callback of an HttpServer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..core.checks import check_timeout, require_callable
from ..http.server.mounting import METHODS, mount
from .http_exchange import HttpExchange
from .lifespan import Lifespan
from .messages import Application, Scope
from .options import AsgiOptions
from .scope import asks_for_websocket, http_scope, websocket_scope

try:
    from . import websocket
except ModuleNotFoundError as exc:  # without the extra `ws` a request for a WebSocket is any other
    if (exc.name or "").partition(".")[0] != "wsproto":
        raise
    websocket = None  # type: ignore[assignment]  # there is no other way to say so

if TYPE_CHECKING:
    from ..http import HttpServer, ServerRequest
    from .websocket import WebSocketExchange

logger = logging.getLogger("evsvc.asgi")

CANCEL_S = 5.0
"""How long a call that is cancelled at the end of `shutdown` may take to end."""


class AsgiHandler:
    """Has an ASGI 3 application answer the requests of an HttpServer, in asyncio's tasks.

    application: called as `await application(scope, receive, send)`.  loop: what runs in the thread
    of the server's base, such as an `evsvc.aio.EventLoop` that waits in it.  Raises
    ArgumentTypeError for what cannot be called.
    """

    __slots__ = ("_application", "_is_closing", "_lifespan", "_loop", "_options", "_tasks")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        application: Application,
        options: AsgiOptions | None = None,
    ) -> None:
        require_callable(application, "the application")
        self._loop = loop
        self._application = application
        self._options = options = options or AsgiOptions()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lifespan = Lifespan(application, options.startup_s, options.requires_lifespan)
        self._is_closing = False

    @property
    def held(self) -> int:
        """How many requests and WebSockets the application is at."""
        return len(self._tasks)

    @property
    def state(self) -> dict[str, Any]:
        """What the application has put into its lifespan's state."""
        return self._lifespan.state

    def mount(
        self, server: HttpServer, prefix: str = "/", *, methods: Iterable[str] = METHODS
    ) -> None:
        """Answer all requests for paths below `prefix`, and the prefix without its last "/".

        That is `root_path` then.  Other callbacks for longer prefixes and for exact paths come
        first.  methods: those that the application takes; another is answered 405.  Raises
        ArgumentError for a prefix that does not begin and end with "/", or has a callback already.
        """
        mount(server, prefix, self, methods)

    async def startup(self) -> None:
        """Have the application start, before the server listens; requests get 503 meanwhile.

        One that knows no lifespan has nothing to do then, nor has one that is not asked.  Raises
        LifespanFailed when it says that it cannot start, or says nothing within `startup_s`.
        """
        await self._lifespan.startup()

    async def shutdown(self, *, deadline_s: float = 30.0) -> None:
        """Take no more requests, which are answered 503, wait for those in hand, and have the
        application stop.

        What is not over after `deadline_s` is cancelled.  A server's own `shutdown` tells its
        WebSockets that it goes away: shut it down first.  Raises ArgumentError for a negative
        deadline, ArgumentTypeError for what is no number.
        """
        check_timeout(deadline_s)
        self._is_closing = True
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=deadline_s)
        if self._tasks:
            logger.warning("the stop took too long: %d calls are cancelled", len(self._tasks))
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks), timeout=CANCEL_S)
        await self._lifespan.shutdown()

    def __call__(self, request: ServerRequest, arg: object = None) -> None:
        """Have the application answer a request: the callback of `HttpServer.set_gencb` and others.

        arg: `root_path`, or None for none.  Give it `streams=True`, so that bodies come as the
        application receives them.  Answers 503 when it is at too many requests already.
        """
        connection = request.connection
        if connection is None:
            return  # the client has gone
        options = self._options
        if self._is_closing or len(self._tasks) >= options.max_calls or self._lifespan.is_starting:
            logger.warning("%s is not taken, with %d requests in hand", request, self.held)
            request.send_error(503, None, ("Retry-After", str(options.retry_after_s)))
            return
        root_path = arg if isinstance(arg, str) else ""
        exchange: HttpExchange | WebSocketExchange
        if websocket is not None and asks_for_websocket(request):
            scope = websocket_scope(request, root_path, self.state)
            exchange = websocket.WebSocketExchange(request, connection, options)
        else:
            scope = http_scope(request, root_path, self.state)
            exchange = HttpExchange(request, connection, options)
        task = self._loop.create_task(self._run(scope, exchange))
        self._tasks.add(task)  # until `_run` has ended

    async def _run(self, scope: Scope, exchange: HttpExchange | WebSocketExchange) -> None:
        try:
            await self._application(scope, exchange.receive, exchange.send)
        except Exception as exc:
            exchange.finish(exc)
        except BaseException as exc:  # it is cancelled, or the program is to end
            exchange.finish(exc)
            raise
        else:
            exchange.finish(None)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
